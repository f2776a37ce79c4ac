"""`ArraySpec`, and the readers of array files in aezoo/data/datasets/files.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from aezoo.data.datasets.arrays import ArraySpec
from aezoo.data.datasets.files import data_root
from aezoo.evaluation.evaluate import evaluate_variant
from tests.data.generated import array_file, numbers, pixels
from tests.data.networks import saved_and_loaded, tiny_variant, train_quietly
from tests.data.raising import data_error
from tests.data.splits import inputs_of, labels_of

SUFFIXES = [".npy", ".npz", ".safetensors"]
several_arrays = pytest.mark.parametrize("suffix", [".npz", ".safetensors"])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_formats_and_dtypes(suffix: str, dtype: Any) -> None:
    x = pixels(20, 2, 3).astype(dtype)
    samples = ArraySpec(path=array_file(f"x{suffix}", x=x)).read()
    assert np.array_equal(samples.inputs, x)
    assert samples.inputs.numpy().dtype == dtype
    assert (samples.targets, samples.labels) == (None, None)


def test_byte_order_and_memory_order_do_not_matter() -> None:
    x = numbers(20, 3)
    np.save("x.npy", np.asfortranarray(x.astype(">f4")))
    assert np.array_equal(ArraySpec(path="x.npy").read().inputs, x)


@several_arrays
def test_inputs_targets_and_labels_are_selected_by_name(suffix: str) -> None:
    gray, colour, labels = pixels(20, 1, 4, 4), pixels(20, 3, 4, 4), np.arange(20)
    path = array_file(f"data{suffix}", a=gray, b=colour, c=labels)
    samples = ArraySpec(path=path, key="a", target="b", labels="c").load("train")
    rows = labels_of(samples)
    assert samples.targets is not None
    assert np.array_equal(samples.targets[samples.index], colour[rows])
    assert np.array_equal(inputs_of(samples), gray[rows])


def test_targets_of_another_shape_are_trained_on() -> None:
    path = array_file("data.npz", gray=pixels(30, 1, 4, 4), colour=pixels(30, 3, 4, 4))
    dataset = ArraySpec(path=path, key="gray", target="colour")
    spec = tiny_variant((1, 4, 4), (0.0, 1.0), target=(3, 4, 4), dataset=dataset)
    ae = saved_and_loaded(train_quietly(spec))
    assert ae(ae.transforms()(pixels(2, 1, 4, 4))).x_hat.shape == (2, 3, 4, 4)
    recorded = ae.metrics["mse.validation"]["value"]
    assert evaluate_variant(ae, "validation")["mse"]["value"] == pytest.approx(recorded, rel=1e-6)


@several_arrays
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "contains 3 arrays (x, y, z); select one with `key`"),
        ({"key": "X"}, "has no array 'X' (key); it contains x, y, z"),
        ({"key": "x", "target": "t"}, "has no array 't' (target); it contains x, y, z"),
        ({"key": "x", "labels": "l"}, "has no array 'l' (labels); it contains x, y, z"),
        ({"key": "x", "labels": "z"}, "20 inputs but 19 labels"),
        ({"key": "x", "target": "z"}, "20 inputs but 19 targets"),
    ],
)
def test_missing_and_mismatched_arrays_are_named(suffix: str, options: dict[str, Any], words: str) -> None:
    path = array_file(f"data{suffix}", x=numbers(20, 3), y=numbers(20), z=numbers(19))
    with data_error(words, start=path):
        ArraySpec(path=path, **options).load("train")


def test_other_arrays_of_an_archive_may_have_any_dtype() -> None:
    np.savez("data.npz", x=numbers(20, 3), names=np.array(["a", "b"]), notes=np.array([{}, None]))
    assert len(ArraySpec(path="data.npz", key="x").read()) == 20


class Trap:
    """Records when it is unpickled."""

    sprung: ClassVar[list[int]] = []

    def __reduce__(self) -> Any:
        return Trap.sprung.append, (1,)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_pickled_objects_are_rejected_without_unpickling(suffix: str) -> None:
    path = array_file(f"x{suffix}", x=np.array([Trap()] * 9, dtype=object))
    Trap.sprung.clear()
    with data_error("cannot be read: Object arrays cannot be loaded when allow_pickle=False"):
        ArraySpec(path=path).load("train")
    assert Trap.sprung == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("key", ["x", "y"])
def test_value_that_is_not_finite_is_named(value: float, key: str) -> None:
    arrays = {"x": numbers(20, 3), "y": numbers(20, 3)}
    arrays[key][7, 2] = value
    path = array_file("data.npz", **arrays)
    with data_error("", f"{path}: the value at index (7, 2) is not finite"):
        ArraySpec(path=path, key="x", target="y").load("train")


def test_integers_other_than_bytes_need_scaling() -> None:
    path = array_file("x.npy", x=np.arange(60).reshape(20, 3))
    with data_error("expected uint8 or floating point as input, found torch.int64"):
        train_quietly(tiny_variant((3,)), ArraySpec(path=path))
    train_quietly(tiny_variant((3,)), ArraySpec(path=path, scale="standard"))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64])
def test_array_is_standardized_by_its_training_split(dtype: Any) -> None:
    x = (10 * numbers(50, 2, 3) + 100).clip(0, 255).astype(dtype)
    path = array_file("data.npz", x=x, rows=np.arange(50))
    dataset = ArraySpec(path=path, key="x", labels="rows", scale="standard", validation=0.3)
    train, validation = dataset.load("train"), dataset.load("validation")
    seen = x[labels_of(train)].astype(np.float64)
    assert train.scaler is not None
    np.testing.assert_allclose(train.scaler.shift, seen.mean(0), rtol=1e-6)
    np.testing.assert_allclose(train.scaler.scale, seen.std(0), rtol=1e-6)
    expected = (x[labels_of(validation)] - seen.mean(0)) / seen.std(0)
    np.testing.assert_allclose(inputs_of(validation), expected, rtol=1e-4, atol=1e-5)


def test_standardizing_with_separate_targets_is_rejected() -> None:
    path = array_file("data.npz", x=numbers(20, 3), y=numbers(20, 3))
    with data_error("`scale: standard` does not scale targets"):
        ArraySpec(path=path, key="x", target="y", scale="standard").load("train")


CORRUPTIONS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "truncated in the middle": lambda data: data[: len(data) // 2],
    "truncated at the end": lambda data: data[:-9],
    "another format": lambda data: b"a,b\n1,2\n",
}


@pytest.mark.parametrize("how", CORRUPTIONS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_corrupt_file_is_named(suffix: str, how: str) -> None:
    path = array_file(f"x{suffix}", x=numbers(200, 3))
    Path(path).write_bytes(CORRUPTIONS[how](Path(path).read_bytes()))
    with data_error("", start=f"{path} cannot be read: "):
        ArraySpec(path=path).load("train")


@pytest.mark.parametrize("position", [100, 1000], ids=["invalid stream", "wrong checksum"])
def test_flipped_bits_of_an_archive_are_detected(position: int) -> None:
    path = array_file("x.npz", x=numbers(200, 3))
    data = bytearray(Path(path).read_bytes())
    data[position] ^= 0xFF
    Path(path).write_bytes(data)
    with data_error("x.npz cannot be read: "):
        ArraySpec(path=path).load("train")


@pytest.mark.parametrize(("actual", "named"), [(".npz", ".npy"), (".npy", ".npz"), (".npy", ".safetensors")])
def test_file_with_the_wrong_suffix_is_rejected(actual: str, named: str) -> None:
    Path(array_file(f"x{actual}", x=numbers(20, 3))).rename(f"y{named}")
    with data_error("", start=f"y{named} cannot be read: "):
        ArraySpec(path=f"y{named}").load("train")


@pytest.mark.parametrize(("name", "found"), [("x.mat", "'.mat'"), ("x", "'no suffix'")])
def test_unknown_format_is_rejected(name: str, found: str) -> None:
    Path(name).touch()
    with data_error("", end=f"expected .npy, .npz or .safetensors, found {found}"):
        ArraySpec(path=name).load("train")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array(3.0), "expected an axis that counts the samples, found a single number"),
        (np.array(["a", "b"]), "expected a dtype that PyTorch supports, found an array of <U1"),
        (np.zeros((0, 3)), "0 samples are too few"),
    ],
)
def test_array_without_samples_is_rejected(values: NDArray[Any], words: str) -> None:
    with data_error(words):
        ArraySpec(path=array_file("x.npy", x=values)).load("train")


def test_data_root_is_aezoo_data_or_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    monkeypatch.setenv("AEZOO_DATA", "/named")
    assert data_root() == Path("/named")
    for unset in ("", None):
        monkeypatch.delenv("AEZOO_DATA") if unset is None else monkeypatch.setenv("AEZOO_DATA", unset)
        assert data_root() == Path("/cache/aezoo/data")
    for unset in ("", None):
        monkeypatch.delenv("XDG_CACHE_HOME") if unset is None else monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert data_root() == Path("/home/ann/.cache/aezoo/data")
