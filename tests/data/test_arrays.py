"""`ArraySpec`, and the readers of array files in aezoo/data/datasets/files.py."""

import io
import json
import os
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import aezoo
from aezoo.data.datasets import files
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


# -- files that announce more than they have, or than there is room for --------------------------------


def npy_header(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def archive(path: str, compression: int = zipfile.ZIP_STORED, content: bytes | None = None) -> bytearray:
    """An `.npz` with one array `x`; returns its bytes."""
    array = io.BytesIO()
    np.save(array, numbers(200, 3))
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("x.npy", array.getvalue() if content is None else content)
    return bytearray(Path(path).read_bytes())


def patched(path: str, offset: int, value: int, compression: int = zipfile.ZIP_STORED) -> None:
    """An archive with one byte of the header of its member changed, in both places where it is."""
    data = archive(path, compression)
    data[offset] = value
    data[data.rindex(b"PK\x01\x02") + offset + 2] = value
    Path(path).write_bytes(data)


def sparse_file(path: str) -> None:
    """A file of 4 TB that takes no space on the disk."""
    Path(path).write_bytes(npy_header((2**39,)))
    os.truncate(path, 2**42)


HOSTILE: dict[str, tuple[str, Callable[[str], object]]] = {
    "4 TB announced": ("x.npy", lambda p: Path(p).write_bytes(npy_header((2**39,)) + bytes(80))),
    "4 TB announced in an archive": ("x.npz", lambda p: archive(p, content=npy_header((2**39,)) + bytes(80))),
    "4 TB, sparse": ("x.npy", sparse_file),
    "shape beyond 64 bits": ("x.npy", lambda p: Path(p).write_bytes(npy_header((2**40, 2**40)) + bytes(80))),
    "negative shape": ("x.npy", lambda p: Path(p).write_bytes(npy_header((-1, 3)) + bytes(80))),
    "no dtype": ("x.npy", lambda p: Path(p).write_bytes(npy_header((3,), "spam") + bytes(80))),
    "header of brackets": ("x.npy", lambda p: Path(p).write_bytes(b"\x93NUMPY\x01\x00\x88\x13" + b"(" * 5000)),
    "encrypted": ("x.npz", lambda p: patched(p, 6, 1)),
    "unknown compression": ("x.npz", lambda p: patched(p, 8, 97)),
    "Deflate64": ("x.npz", lambda p: patched(p, 8, 9)),
    "LZMA that is not": ("x.npz", lambda p: patched(p, 8, 14)),
    "bzip2 that is not": ("x.npz", lambda p: patched(p, 8, 12)),
    "no array": ("x.npz", lambda p: archive(p, content=b"hello")),
    "float8": ("x.safetensors", lambda p: Path(p).write_bytes(safetensors_of("F8_E4M3"))),
    "float8 scale": ("x.safetensors", lambda p: Path(p).write_bytes(safetensors_of("F8_E8M0"))),
    "float4": ("x.safetensors", lambda p: Path(p).write_bytes(safetensors_of("F4"))),
    "no such dtype": ("x.safetensors", lambda p: Path(p).write_bytes(safetensors_of("SPAM"))),
    "complex": ("x.npy", lambda p: np.save(p, numbers(20, 3) * 1j)),
    "dates": ("x.npy", lambda p: np.save(p, np.zeros(20, "M8[s]"))),
    "structured": ("x.npy", lambda p: np.save(p, np.zeros(20, [("a", "f4")]))),
}  # fmt: skip


def safetensors_of(dtype: str) -> bytes:
    header = json.dumps({"x": {"dtype": dtype, "shape": [20, 2], "data_offsets": [0, 40]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(40)


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_file_is_named_in_one_line(kind: str) -> None:
    path, write = HOSTILE[kind]
    write(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with data_error("", start=f"{path} cannot be read: "):
        ArraySpec(path=path).read()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


def test_archive_that_expands_a_thousandfold_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGE", 2**20)
    path = array_file("x.npz", x=np.zeros((2**18, 1)))
    with data_error("x expands from ", end="to 2,097,280 bytes; save it without compression"):
        ArraySpec(path=path).read()
    for harmless in (np.zeros((2**16, 1)), np.random.default_rng(0).random((2**18, 1))):
        assert len(ArraySpec(path=array_file("x.npz", x=harmless)).read()) == len(harmless)


def test_integers_that_double_precision_cannot_hold_are_rejected() -> None:
    x = 2**53 + 1 + np.arange(60).reshape(20, 3)
    with data_error("x.npy has integers that float64 cannot hold, such as 9007199254740993"):
        ArraySpec(path=array_file("x.npy", x=x), scale="standard").load("train")
    train_quietly(tiny_variant((3,)), ArraySpec(path=array_file("x.npy", x=x - 100), scale="standard"))


def test_changed_array_is_scaled_as_in_training() -> None:
    x = numbers(60, 3).astype(np.float64)
    dataset = ArraySpec(path=array_file("x.npy", x=x), scale="standard", test=0.3)
    ae = saved_and_loaded(train_quietly(tiny_variant((3,), dataset=dataset)))
    assert evaluate_variant(ae)["mse"]["value"] == ae.metrics["mse"]["value"]
    array_file("x.npy", x=1000 * x + 7)
    with pytest.warns(aezoo.DiagnosticWarning, match="^other-data"):
        value = evaluate_variant(ae)["mse"]["value"]
    raw = inputs_of(dataset.model_copy(update={"scale": "none"}).load("test"))
    assert value == pytest.approx(float(-ae.score_samples(ae.transforms()(raw)).mean()), rel=1e-5)


def test_samples_in_their_own_units_are_scaled_by_the_network() -> None:
    x = torch.from_numpy(numbers(60, 3))
    ae = train_quietly(tiny_variant((3,)), ArraySpec(path=array_file("x.npy", x=x.numpy()), scale="standard"))
    expected = float(-ae.score_samples(ae.transforms()(x)).mean())
    assert ae.scaler is not None
    for samples in (x, x.numpy(), aezoo.Samples(x), aezoo.Samples(ae.scaler(x), scaler=ae.scaler)):
        found = aezoo.evaluate(ae, samples, dataset="ours", split="test")["mse"]["value"]
        assert found == pytest.approx(expected, rel=1e-5)
