"""Data of one's own: folders of images, arrays, tables, series and toys, and pairs made of any dataset."""

import errno
import io
import math
import os
import shutil
import sys
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

import aezoo
from aezoo.data.datasets import images
from aezoo.data.datasets.arrays import ArraySpec, WindowsSpec
from aezoo.data.datasets.images import ImagesSpec
from aezoo.data.datasets.synthetic import PhotoPatchesSpec, SwissRollSpec
from aezoo.data.datasets.tables import TableSpec
from aezoo.data.samples import Samples
from aezoo.data.transforms import Scaler, Transforms
from aezoo.errors import DataError, MissingExtraError
from aezoo.evaluation.evaluate import evaluate_variant
from aezoo.specs.components import Split
from aezoo.specs.tensor import TensorSpec
from tests.raising import raises

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where decoded images go; nothing is kept from test to test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(images, "_recent", {})
    return tmp_path / "cache" / "aezoo" / "decoded"


def numbers(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(3, 5, shape).astype(np.float32)


def pixels(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def picture(height: int, width: int, seed: int = 0, mode: str = "RGB") -> Image.Image:
    return Image.fromarray(pixels(height, width, 3, seed=seed)).convert(mode)


def folder_of(path: Path, n: int, height: int = 6, width: int = 8, labelled: bool = False) -> Path:
    """Images that can be told apart, each in a subfolder of its own where they are to be labelled."""
    for index in range(n):
        place = path / f"{index:03}" / "it.png" if labelled else path / f"{index:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        picture(height, width, seed=index).save(place)
    return path


def parquet(path: Path, **columns: Any) -> Path:
    pa.parquet.write_table(pa.table(columns), path)
    return path


def csv(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def variant(
    shape: tuple[int, ...], range: tuple[float, float] | None = None, **recipe: Any
) -> aezoo.VariantSpec:
    """Two latents for whatever comes in."""
    given = {
        "reconstruction": "mse",
        "batch_size": 16,
        "stages": [{"kind": "fit", "epochs": 1}],
        "threads": 1,
    }
    return aezoo.VariantSpec.model_validate({
        "name": "own",
        "summary": "A network for data of one's own.",
        "input": {"shape": shape, "range": range},
        "encoder": [{"kind": "flatten"}, {"kind": "linear", "out_features": 2}],
        "decoder": [
            {"kind": "linear", "out_features": math.prod(shape)},
            {"kind": "unflatten", "shape": shape},
        ],
        "recipe": given | recipe,
    })  # fmt: skip


def labels_of(samples: Samples) -> torch.Tensor:
    """The labels of a split in its order."""
    assert samples.labels is not None
    return samples.labels if samples.index is None else samples.labels[samples.index]


def inputs_of(samples: Samples) -> torch.Tensor:
    """The inputs of a split in its order, as they came."""
    return samples.inputs if samples.index is None else samples.inputs[samples.index]


# -- every dataset, from the spec to new data ---------------------------------------------------------


@dataclass
class Case:
    """A dataset, what it gives, and how its samples look where a person has them."""

    dataset: aezoo.DatasetSpec
    shape: tuple[int, ...]
    range: tuple[float, float] | None
    raw: Callable[[Samples], object]


def images_case(tmp_path: Path) -> Case:
    folder = folder_of(tmp_path / "photos", 20, labelled=True)
    dataset = ImagesSpec(path=str(folder), size=(6, 8))
    return Case(
        dataset, (3, 6, 8), (0.0, 1.0),
        lambda some: [Image.open(folder / f"{int(i):03}" / "it.png") for i in labels_of(some)],
    )  # fmt: skip


def array_case(tmp_path: Path) -> Case:
    x = numbers(30, 2, 3)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(30))
    dataset = ArraySpec(path=str(tmp_path / "data.npz"), key="x", labels="y", scale="standard", test=0.2)
    return Case(dataset, (2, 3), None, lambda some: x[labels_of(some).numpy()])


def table_case(tmp_path: Path) -> Case:
    a, b, c = numbers(3, 30).astype(np.float64)
    path = parquet(tmp_path / "data.parquet", a=a, row=np.arange(30), b=b, c=c)
    dataset = TableSpec(path=str(path), label="row", test=0.2)
    return Case(
        dataset, (3,), None,
        lambda some: pa.table({"c": c, "b": b, "a": a}).take(labels_of(some).numpy()),
    )  # fmt: skip


def windows_case(tmp_path: Path) -> Case:
    series = numbers(60, 2)
    np.save(tmp_path / "series.npy", series)
    dataset = WindowsSpec(path=str(tmp_path / "series.npy"), length=5, stride=2, validation=0.2, test=0.2)

    def raw(some: Samples) -> object:
        # The training split begins where the time does.
        return [series[2 * i : 2 * i + 5].T for i in range(len(some))]

    return Case(dataset, (2, 5), None, raw)


def photo_patches_case(tmp_path: Path) -> Case:
    return Case(
        PhotoPatchesSpec(size=6, count=40), (3, 6, 6), (0.0, 1.0), lambda some: inputs_of(some).numpy()
    )


def swiss_roll_case(tmp_path: Path) -> Case:
    from sklearn.datasets import make_swiss_roll

    points, angle = make_swiss_roll(50, random_state=3)
    dataset = SwissRollSpec(count=50, seed=3)

    def raw(some: Samples) -> object:
        return points[[int(np.abs(angle - float(label)).argmin()) for label in labels_of(some)]]

    return Case(dataset, (3,), None, raw)


CASES = {
    "images": images_case,
    "array": array_case,
    "table": table_case,
    "windows": windows_case,
    "photo_patches": photo_patches_case,
    "swiss_roll": swiss_roll_case,
}
every_dataset = pytest.mark.parametrize("name", CASES)


@every_dataset
def test_a_dataset_in_the_recipe_is_trained_on_saved_loaded_and_measured_again(
    name: str, tmp_path: Path
) -> None:
    case = CASES[name](tmp_path)
    spec = variant(case.shape, case.range, dataset=case.dataset.model_dump(mode="json"))
    ae = aezoo.train(spec, progress=False)
    again = aezoo.load(aezoo.save(ae, tmp_path / "trained"))
    assert again.spec.recipe.dataset == case.dataset  # pyright: ignore[reportAttributeAccessIssue]
    measured = evaluate_variant(again, "validation")
    assert set(measured) >= {"mse", "fvu", "l0"}
    for metric, entry in measured.items():
        recorded = ae.metrics[f"{metric}.validation"]
        assert entry["value"] == pytest.approx(recorded["value"], rel=1e-6), metric
        assert (entry["dataset"], entry["n"]) == (name, recorded["n"])
    tested = [metric for metric in measured if metric in ae.metrics]
    assert bool(tested) == case.dataset.has("test")


@every_dataset
def test_a_dataset_may_be_given_in_place_of_the_recipes(name: str, tmp_path: Path) -> None:
    case = CASES[name](tmp_path)
    ae = aezoo.train(variant(case.shape, case.range), data=case.dataset, progress=False)
    assert ae.metrics["mse.validation"]["dataset"] == name
    assert ae.training_record["data"]["held_out"] == case.dataset.validation_note()
    assert ae.training_record["data"]["train"]["n"] == len(case.dataset.load("train"))


@every_dataset
def test_new_data_become_the_numbers_that_were_trained_on(name: str, tmp_path: Path) -> None:
    case = CASES[name](tmp_path)
    spec = variant(case.shape, case.range)
    ae = aezoo.load(aezoo.save(aezoo.train(spec, data=case.dataset, progress=False), tmp_path / "trained"))
    some = case.dataset.load("train")[:7]
    seen = some.validated_for(spec).rows(slice(None), spec).input
    new = ae.transforms()(case.raw(some))
    torch.testing.assert_close(new, seen, rtol=0, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(ae(new).x_hat, ae(seen).x_hat)


@every_dataset
def test_a_split_is_the_same_whenever_it_is_loaded(name: str, tmp_path: Path) -> None:
    dataset = CASES[name](tmp_path).dataset
    for split in ("train", "validation"):
        assert dataset.load(split).sha256() == dataset.load(split).sha256()
    assert dataset.load("train").sha256() != dataset.load("validation").sha256()


@every_dataset
def test_a_refit_takes_training_and_validation_data(name: str, tmp_path: Path) -> None:
    case = CASES[name](tmp_path)
    ae = aezoo.train(variant(case.shape, case.range, refit=True), data=case.dataset, progress=False)
    assert ae.metrics["mse.validation"]["source"] == "protocol"
    scaler = case.dataset.load("train").scaler
    # What the inputs are scaled by stays the training split's, since that is what they were chosen with.
    assert (ae.scaler is None) == (scaler is None)
    if ae.scaler is not None and scaler is not None:
        assert torch.equal(ae.scaler.shift, scaler.shift)


# -- splits -------------------------------------------------------------------------------------------


def counted(tmp_path: Path, n: int, **options: Any) -> ArraySpec:
    """Samples that are their own number."""
    np.save(tmp_path / "counted.npy", np.arange(n, dtype=np.float32)[:, None])
    return ArraySpec(path=str(tmp_path / "counted.npy"), **options)


def rows_of(dataset: aezoo.DatasetSpec, split: Split) -> list[int]:
    return [int(value) for value in inputs_of(dataset.load(split)).flatten()]


@pytest.mark.parametrize(
    ("n", "options", "sizes"),
    [
        (50, {}, (45, 5, None)),
        (50, {"validation": 0.3, "test": 0.2}, (25, 15, 10)),
        (4, {}, (3, 1, None)),
        (5, {"test": 0.01}, (3, 1, 1)),
    ],
)
def test_splits_are_disjoint_and_hold_every_sample(
    n: int, options: dict[str, float], sizes: tuple[int | None, ...], tmp_path: Path
) -> None:
    dataset = counted(tmp_path, n, **options)
    assert tuple(dataset.has(split) for split in SPLITS) == tuple(size is not None for size in sizes)
    parts = [rows_of(dataset, split) for split in SPLITS if dataset.has(split)]
    assert [len(part) for part in parts] == [size for size in sizes if size is not None]
    assert sorted(row for part in parts for row in part) == list(range(n))


def test_the_seed_says_which_samples_are_held_out(tmp_path: Path) -> None:
    held = [rows_of(counted(tmp_path, 50, seed=seed), "validation") for seed in (0, 0, 1)]
    assert held[0] == held[1] != held[2]
    assert held[0] != [45, 46, 47, 48, 49]


@pytest.mark.parametrize(
    ("n", "options", "words"),
    [
        (1, {}, "1 samples are too few: 1 for validation and 0 for the test leave none to train on"),
        (0, {}, "0 samples are too few"),
        (2, {"test": 0.1}, "2 samples are too few: 1 for validation and 1 for the test"),
        (9, {"validation": 0.6, "test": 0.4}, "9 samples are too few: 5 for validation and 4 for the test"),
    ],
)
def test_too_few_samples_for_the_splits_are_refused(
    n: int, options: dict[str, float], words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as error:
        counted(tmp_path, n, **options).load("train")
    assert words in str(error.value)


@pytest.mark.parametrize(
    "dataset",
    [
        ImagesSpec(path="x", size=(2, 2)),
        ArraySpec(path="x"),
        TableSpec(path="x"),
        WindowsSpec(path="x", length=2),
        SwissRollSpec(test=0.0),
    ],
    ids=lambda dataset: dataset.kind_name,
)
def test_a_test_split_must_be_asked_for(dataset: aezoo.DatasetSpec) -> None:
    assert not dataset.has("test")
    with pytest.raises(
        DataError, match=f"^{dataset.kind_name} has no test split; give it a share with `test`"
    ):
        dataset.load("test")


@pytest.mark.parametrize("field", ["validation", "test"])
@pytest.mark.parametrize("kind", ["array", "windows"])
@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5])
def test_a_share_lies_between_none_and_all(kind: str, field: str, share: float) -> None:
    data = {"kind": kind, "path": "x", field: share} | ({"length": 2} if kind == "windows" else {})
    with pytest.raises(ValueError, match=field):
        aezoo.DatasetSpec.model_validate(data)


# -- windows of a series ------------------------------------------------------------------------------


def steps(tmp_path: Path, n: int, **options: Any) -> WindowsSpec:
    """Windows whose values are the steps themselves."""
    np.save(tmp_path / "steps.npy", np.arange(n, dtype=np.float32))
    return WindowsSpec(path=str(tmp_path / "steps.npy"), **{"scale": "none", **options})


@pytest.mark.parametrize("stride", [1, 2, 7])
@pytest.mark.parametrize("length", [1, 4])
def test_windows_are_slices_of_their_splits_time(stride: int, length: int, tmp_path: Path) -> None:
    dataset = steps(tmp_path, 100, length=length, stride=stride, validation=0.2, test=0.1)
    for split, start, end in (("train", 0, 70), ("validation", 70, 90), ("test", 90, 100)):
        expected = [list(range(i, i + length)) for i in range(start, end - length + 1, stride)]
        windows = dataset.load(cast(Split, split))
        assert len(windows) == len(expected)
        assert inputs_of(windows)[:, 0].tolist() == expected


def test_a_window_has_its_channels_first(tmp_path: Path) -> None:
    series = numbers(30, 3)
    np.save(tmp_path / "series.npy", series)
    windows = WindowsSpec(path=str(tmp_path / "series.npy"), length=4, scale="none").load("train")
    assert inputs_of(windows).shape == (24, 3, 4)
    assert np.array_equal(inputs_of(windows)[5], series[5:9].T)


def test_the_windows_of_a_long_series_take_no_more_memory_than_it(tmp_path: Path) -> None:
    windows = steps(tmp_path, 5000, length=500).load("train")
    assert windows.inputs.untyped_storage().nbytes() <= 5000 * 4


def test_windows_are_scaled_by_the_time_of_training_alone(tmp_path: Path) -> None:
    series = numbers(100, 2)
    series[90:] += 1000
    np.save(tmp_path / "series.npy", series)
    dataset = WindowsSpec(path=str(tmp_path / "series.npy"), length=3)
    scaler = dataset.load("train").scaler
    assert scaler is not None
    assert scaler.shift.shape == (2, 3)
    np.testing.assert_allclose(scaler.shift[:, 0], series[:90].mean(0, np.float64), rtol=1e-5)
    np.testing.assert_allclose(scaler.scale[:, 2], series[:90].std(0, dtype=np.float64), rtol=1e-5)
    assert inputs_of(dataset.load("validation")).min() > 100


@pytest.mark.parametrize(
    ("options", "split", "words"),
    [
        ({"length": 91}, "train", "the train split has 90 of 100 steps, which hold no window of 91"),
        (
            {"length": 11},
            "validation",
            "the validation split has 10 of 100 steps, which hold no window of 11",
        ),
        ({"length": 6, "test": 0.05}, "test", "the test split has 5 of 100 steps"),
    ],
)
def test_a_window_longer_than_its_split_is_refused(
    options: dict[str, Any], split: Split, words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as error:
        steps(tmp_path, 100, **options).load(split)
    assert words in str(error.value)
    assert "steps.npy" in str(error.value)


def test_windows_of_a_tables_columns_are_those_of_the_array(tmp_path: Path) -> None:
    a, b = numbers(2, 40)
    np.save(tmp_path / "array.npy", np.stack([b, a], 1))
    table = parquet(tmp_path / "table.parquet", a=a, time=np.arange(40), b=b)
    options: dict[str, Any] = {"length": 3, "stride": 2}
    of_table = WindowsSpec(path=str(table), columns=("b", "a"), **options).load("train")
    of_array = WindowsSpec(path=str(tmp_path / "array.npy"), **options).load("train")
    assert of_table.sha256() == of_array.sha256()


@pytest.mark.parametrize(
    ("array", "options", "words"),
    [
        (np.zeros((5, 2, 2), np.float32), {}, "expected (time,) or (time, channels), found (5, 2, 2)"),
        (np.array([0.0, 1.0, np.nan, 2.0]), {}, "the value at index (2,) is not finite"),
        (np.zeros(20), {"columns": ("a",)}, "has no columns; leave `columns` out"),
        (np.zeros(1), {}, "1 samples are too few"),
    ],
)  # fmt: skip
def test_what_is_no_series_is_refused(
    array: np.ndarray[Any, Any], options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "series.npy", array)
    with pytest.raises(DataError) as error:
        WindowsSpec(path=str(tmp_path / "series.npy"), length=1, **options).load("train")
    assert words in str(error.value)


# -- toys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_patches_lie_in_their_splits_strip_of_a_photograph(channels: Literal[1, 3]) -> None:
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    modes = {1: "L", 3: "RGB"}
    arrays = [np.atleast_3d(np.asarray(photo.convert(modes[channels]))) for photo in photos]
    size = 8
    for split, start, end in (("train", 0, 512), ("validation", 512, 576), ("test", 576, 640)):
        patches = PhotoPatchesSpec(size=size, channels=channels, count=20).load(cast(Split, split))
        for patch, label in zip(patches.inputs.numpy(), labels_of(patches), strict=True):
            strip = arrays[int(label)][:, start:end].transpose(2, 0, 1)
            windows = np.lib.stride_tricks.sliding_window_view(strip, (size, size), (1, 2))
            # The upper left pixel narrows the places down, so that only few patches are compared whole.
            places = np.argwhere((windows[:, :, :, 0, 0] == patch[:, None, None, 0, 0]).all(0))
            assert any(np.array_equal(windows[:, top, left], patch) for top, left in places)


@pytest.mark.parametrize("size", [2, 64])
def test_patches_have_the_size_and_number_asked_for(size: int) -> None:
    dataset = PhotoPatchesSpec(size=size, count=30)
    assert dataset.load("train").inputs.shape == (30, 3, size, size)
    assert dataset.load("train").inputs.dtype == torch.uint8
    for split in ("validation", "test"):
        assert dataset.load(split).inputs.shape == (3, 3, size, size)
    assert PhotoPatchesSpec(size=size, count=1).load("test").inputs.shape == (1, 3, size, size)


def test_patches_come_from_both_photographs_by_seed() -> None:
    first, again, other = (PhotoPatchesSpec(size=8, count=100, seed=seed).load("train") for seed in (0, 0, 1))
    assert first.sha256() == again.sha256() != other.sha256()
    assert set(labels_of(first).tolist()) == {0, 1}


def test_more_training_patches_do_not_move_the_others() -> None:
    # A tenth of both is the same number.
    few, many = (PhotoPatchesSpec(size=8, count=count).load("validation") for count in (100, 109))
    assert few.sha256() == many.sha256()


def test_the_swiss_roll_is_scaled_by_its_training_points() -> None:
    dataset = SwissRollSpec(count=200, validation=0.25)
    train = dataset.load("train")
    assert len(train) == 130
    x = inputs_of(train).double()
    torch.testing.assert_close(x.mean(0), torch.zeros(3).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(3).double(), atol=1e-5, rtol=0)
    assert inputs_of(dataset.load("validation")).mean(0).abs().max() > 1e-3


def test_the_swiss_roll_is_labelled_by_the_angle_at_which_a_point_lies() -> None:
    roll = SwissRollSpec(count=100, scale="none").load("train")
    x, angle = inputs_of(roll), labels_of(roll)
    torch.testing.assert_close(x[:, 0], angle * angle.cos(), atol=1e-4, rtol=0)
    torch.testing.assert_close(x[:, 2], angle * angle.sin(), atol=1e-4, rtol=0)
    assert roll.scaler is None
    noisy = SwissRollSpec(count=100, scale="none", noise=0.5).load("train")
    assert not torch.allclose(inputs_of(noisy)[:, 0], labels_of(noisy) * labels_of(noisy).cos(), atol=0.1)


@pytest.mark.parametrize("dataset", [PhotoPatchesSpec(count=10), SwissRollSpec(count=10)])
def test_toys_say_what_to_install(dataset: aezoo.DatasetSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(
        MissingExtraError, match=r"^this needs scikit-learn; .*pip install 'aezoo\[sklearn\]'"
    ):
        dataset.load("train")


# -- a folder of images: what is read -----------------------------------------------------------------


def read(path: Path, size: tuple[int, int] = (6, 8), **options: Any) -> Samples:
    """Every image of a folder, in sorted order."""
    return ImagesSpec(path=str(path), size=size, **options).read()


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.copy()


def channels_first(image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)


@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "a.jpeg", "a.bmp", "a.gif", "a.webp", "a.tiff", "a.tif", "A.PNG"]
)
def test_images_of_any_format_are_read(name: str, tmp_path: Path) -> None:
    picture(6, 8).save(tmp_path / name)
    assert np.array_equal(read(tmp_path).inputs[0], channels_first(opened(tmp_path / name).convert("RGB")))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_mode_become_gray_or_colour(mode: str, channels: Literal[1, 3], tmp_path: Path) -> None:
    path = tmp_path / ("a.tiff" if mode in ("CMYK", "YCbCr") else "a.png")
    picture(6, 8).convert("RGBA" if mode == "LA" else "RGB").convert(mode).save(path)
    image = opened(path)
    assert image.mode == mode
    expected = channels_first(image.convert("L" if channels == 1 else "RGB"))
    assert np.array_equal(read(tmp_path, channels=channels).inputs[0], expected)


def test_of_sixteen_bits_the_upper_eight_are_taken(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (6, 8), dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert opened(tmp_path / "a.png").mode == "I;16"
    assert np.array_equal(read(tmp_path, channels=1).inputs[0, 0], (values >> 8).astype(np.uint8))


def test_an_image_without_a_fixed_white_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((6, 8), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match=r"a\.tiff: a PIL image of mode F has no fixed white"):
        read(tmp_path)


TURNS = {1: 0, 3: 2, 6: 3, 8: 1}
"""EXIF's orientation -> quarter turns to the left that put the image upright."""


@pytest.mark.parametrize("orientation", TURNS)
def test_images_stand_as_the_camera_was_held(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture(8, 8).save(tmp_path / "a.png", exif=exif)
    upright = np.rot90(np.asarray(picture(8, 8)), TURNS[orientation]).transpose(2, 0, 1)
    assert np.array_equal(read(tmp_path, (8, 8)).inputs[0], upright)


def test_subfolders_are_searched_and_the_first_one_is_the_label(tmp_path: Path) -> None:
    for index, name in enumerate(["dog/1.png", "cat/young/1.png", "cat/2.png", "emu/0.png"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(6, 8, seed=index).save(tmp_path / name)
    samples = read(tmp_path)
    assert labels_of(samples).tolist() == [0, 0, 1, 2]
    assert np.array_equal(samples.inputs[2], channels_first(picture(6, 8, seed=0)))


@pytest.mark.parametrize("beside", [None, "dog"])
def test_images_that_lie_in_no_subfolder_have_no_labels(beside: str | None, tmp_path: Path) -> None:
    folder_of(tmp_path, 3)
    if beside is not None:
        folder_of(tmp_path / beside, 2)
    assert read(tmp_path).labels is None


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "labels.csv",
        "Thumbs.db",
        "paper.pdf",
        "no_suffix",
        ".hidden.png",
        "._000.png",
        ".cache/a.png",
    ],
)
def test_what_is_no_image_or_is_hidden_is_left_alone(name: str, tmp_path: Path) -> None:
    folder_of(tmp_path, 2)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"not an image")
    assert len(read(tmp_path)) == 2


def test_a_hidden_folder_above_the_images_does_not_hide_them(tmp_path: Path) -> None:
    assert len(read(folder_of(tmp_path / ".photos", 2))) == 2


def test_a_folder_whose_name_looks_like_an_image_is_searched(tmp_path: Path) -> None:
    assert len(read(folder_of(tmp_path / "all.png", 2).parent)) == 2


# -- a folder of images: sizes ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(6, 8), (16, 8), (5, 20), (3, 3)])
@pytest.mark.parametrize("original", [(12, 16), (9, 30), (31, 7), (3, 3)])
def test_stretch_scales_each_side_by_itself(
    original: tuple[int, int], size: tuple[int, int], tmp_path: Path
) -> None:
    picture(*original).save(tmp_path / "a.png")
    expected = picture(*original).resize(size[::-1], Image.Resampling.BILINEAR)
    assert np.array_equal(read(tmp_path, size, fit="stretch").inputs[0], channels_first(expected))


@pytest.mark.parametrize(
    ("original", "size", "box"),
    [
        ((12, 16), (6, 8), (0, 0, 16, 12)),
        ((12, 20), (6, 8), (2, 0, 18, 12)),
        ((20, 16), (6, 8), (0, 4, 16, 16)),
        ((4, 10), (8, 8), (3, 0, 7, 4)),
        ((6, 8), (6, 8), (0, 0, 8, 6)),
    ],
)
def test_crop_takes_the_largest_middle_of_the_right_proportions(
    original: tuple[int, int], size: tuple[int, int], box: tuple[int, int, int, int], tmp_path: Path
) -> None:
    picture(*original).save(tmp_path / "a.png")
    cut = picture(*original).resize(size[::-1], Image.Resampling.BILINEAR, box=box)
    assert np.array_equal(read(tmp_path, size).inputs[0], channels_first(cut))


def test_crop_of_the_size_itself_is_the_middle_untouched(tmp_path: Path) -> None:
    picture(6, 20).save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path).inputs[0], channels_first(picture(6, 20).crop((6, 0, 14, 6))))


def test_exact_takes_images_as_they_are(tmp_path: Path) -> None:
    picture(6, 8).save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path, fit="exact").inputs[0], channels_first(picture(6, 8)))


@pytest.mark.parametrize("skip_corrupt", [False, True])
def test_exact_names_the_image_of_another_size(skip_corrupt: bool, tmp_path: Path) -> None:
    folder_of(tmp_path, 5)
    picture(8, 6).save(tmp_path / "003.png")
    with pytest.raises(DataError) as error:
        read(tmp_path, fit="exact", skip_corrupt=skip_corrupt)
    assert str(error.value) == f"{tmp_path / '003.png'}: it is 6 x 8 (width x height), 8 x 6 is expected"


@pytest.mark.parametrize("fit", ["crop", "stretch"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_new_image_is_brought_to_the_size_as_the_trained_ones_were(
    fit: Literal["crop", "stretch"], orientation: int, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "photos").mkdir()
    for index in range(4):
        picture(12, 20, seed=index).save(tmp_path / "photos" / f"{index}.png", exif=exif)
    dataset = ImagesSpec(path=str(tmp_path / "photos"), size=(6, 6), fit=fit)
    spec = variant((3, 6, 6), (0.0, 1.0), dataset=dataset.model_dump(mode="json"))
    ae = aezoo.load(aezoo.save(aezoo.train(spec, progress=False), tmp_path / "trained"))
    with Image.open(tmp_path / "photos" / "2.png") as image:
        new = ae.transforms()(image)
    assert torch.equal(new[0], dataset.read().inputs[2] / 255)


# -- a folder of images: faults -----------------------------------------------------------------------


def test_a_folder_that_is_not_there_says_where_relative_paths_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as error:
        read(Path("photos"))
    assert str(error.value) == f"there is no folder photos; relative paths start at {tmp_path}"


@pytest.mark.parametrize("files", [[], ["notes.txt", ".hidden.png"]])
def test_a_folder_without_images_is_refused(files: list[str], tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"holds no images, such as \.png or \.jpg$"):
        read(tmp_path)


def test_one_image_is_too_few(tmp_path: Path) -> None:
    folder_of(tmp_path, 1)
    with pytest.raises(DataError, match="1 samples are too few: 1 for validation"):
        ImagesSpec(path=str(tmp_path), size=(6, 8)).load("train")


CORRUPT: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) * 2 // 3],
    "empty": lambda data: b"",
    "no image": lambda data: b"<html>404</html>",
    "damaged": lambda data: data[:60] + bytes(20) + data[80:],
}


def damage(path: Path, how: str) -> None:
    path.write_bytes(CORRUPT[how](path.read_bytes()))


@pytest.mark.parametrize("how", CORRUPT)
def test_a_file_that_cannot_be_decoded_is_named_in_one_line(how: str, tmp_path: Path) -> None:
    damage(folder_of(tmp_path, 5) / "003.png", how)
    with pytest.raises(DataError) as error:
        read(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / '003.png'} cannot be decoded: ")
    assert str(error.value).endswith("; `skip_corrupt: true` leaves such files out")
    assert "\n" not in str(error.value)


def thousand(path: Path) -> Path:
    """A thousand images, of which one was cut short."""
    data = io.BytesIO()
    picture(4, 4).save(data, "png")
    for index in range(1000):
        (path / f"{index:03}.png").write_bytes(data.getvalue())
    damage(path / "617.png", "truncated")
    return path


@pytest.mark.parametrize("workers", [1, 3])
def test_one_corrupt_file_among_a_thousand_is_named(workers: int, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"617\.png cannot be decoded"):
        read(thousand(tmp_path), (4, 4), workers=workers)


def test_one_corrupt_file_among_a_thousand_may_be_left_out(tmp_path: Path) -> None:
    with pytest.warns(
        aezoo.DiagnosticWarning, match=r"^corrupt-images: 1 of 1000 images are left out, .*617\.png first"
    ):
        samples = read(thousand(tmp_path), (4, 4), skip_corrupt=True)
    assert len(samples) == 999
    assert torch.equal(inputs_of(samples), samples.inputs[:1].expand(999, -1, -1, -1))


@pytest.mark.parametrize("memory", ["in memory", "mapped"])
def test_what_is_left_out_moves_no_label(memory: str, tmp_path: Path) -> None:
    n, size = (6, (6, 8)) if memory == "in memory" else (100, (64, 64))
    folder = folder_of(tmp_path / "photos", n, labelled=True)
    everything = read(folder, size).inputs
    damage(folder / "002" / "it.png", "truncated")
    for _ in range(2):
        with pytest.warns(aezoo.DiagnosticWarning, match=f"^corrupt-images: 1 of {n} images"):
            samples = read(folder, size, skip_corrupt=True, memory_mib=1)
        assert samples.mapped == (memory == "mapped")
        left = [i for i in range(n) if i != 2]
        assert labels_of(samples).tolist() == left
        assert torch.equal(inputs_of(samples), everything[left])


@pytest.mark.parametrize("skip_corrupt", [False, True])
def test_a_folder_of_nothing_but_corrupt_images_is_refused(skip_corrupt: bool, tmp_path: Path) -> None:
    folder_of(tmp_path, 3)
    for index in range(3):
        damage(tmp_path / f"{index:03}.png", "empty")
    words = "none of the 3 images in .* can be decoded" if skip_corrupt else r"000\.png cannot be decoded"
    with pytest.raises(DataError, match=words):
        read(tmp_path, skip_corrupt=skip_corrupt)


def test_an_image_too_large_to_be_meant_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path, 2)
    picture(30, 40).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(DataError, match=r"bomb\.png cannot be decoded: .*1200 pixels.*decompression bomb"):
        read(tmp_path)


def test_threads_do_not_change_what_is_decoded(tmp_path: Path) -> None:
    # More than wait in the queue.
    folder_of(tmp_path, images.AHEAD + 20, 20, 30)
    one = read(tmp_path, workers=1)
    images._recent.clear()
    assert read(tmp_path, workers=4).sha256() == one.sha256()
    assert len({bytes(image.numpy()) for image in one.inputs}) == images.AHEAD + 20


# -- a folder of images: memory -----------------------------------------------------------------------


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Images that take more than 1 MiB at 64 x 64 pixels."""
    return folder_of(tmp_path / "photos", 100, labelled=True)


def large(folder: Path, **options: Any) -> ImagesSpec:
    return ImagesSpec(path=str(folder), **{"size": (64, 64), "memory_mib": 1, **options})


def refuse_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(self: ImagesSpec, file: Path) -> None:
        raise AssertionError(f"{file} is decoded again")

    monkeypatch.setattr(ImagesSpec, "_decode", decode)


@pytest.mark.parametrize("n", [85, 86])
def test_images_are_mapped_beyond_the_memory_given_to_them(n: int, tmp_path: Path, cache: Path) -> None:
    # 85 of them take 1,044,480 bytes; a MiB has 1,048,576.
    samples = large(folder_of(tmp_path / "photos", n)).read()
    assert samples.mapped == cache.exists() == (n == 86)


def test_mapped_images_are_those_in_memory(many: Path) -> None:
    for split in ("train", "validation"):
        mapped, kept = (large(many, memory_mib=size).load(cast(Split, split)) for size in (1, 2))
        assert (mapped.mapped, kept.mapped) == (True, False)
        assert mapped.sha256() == kept.sha256()
        assert torch.equal(labels_of(mapped), labels_of(kept))


@pytest.mark.parametrize("memory_mib", [1, 2])
def test_the_splits_share_what_was_decoded(memory_mib: int, many: Path) -> None:
    dataset = large(many, memory_mib=memory_mib, test=0.2)
    parts = [dataset.load(split) for split in SPLITS]
    assert len({part.inputs.data_ptr() for part in parts}) == 1
    assert sorted(int(i) for part in parts for i in labels_of(part)) == list(range(100))


@pytest.mark.parametrize("memory_mib", [1, 2])
def test_joined_splits_share_what_was_decoded(memory_mib: int, many: Path) -> None:
    dataset = large(many, memory_mib=memory_mib)
    train, validation = dataset.load("train"), dataset.load("validation")
    joined = train.concat(validation)
    assert joined.inputs.data_ptr() == train.inputs.data_ptr()
    assert joined.mapped == train.mapped == (memory_mib == 1)
    assert labels_of(joined).tolist() == labels_of(train).tolist() + labels_of(validation).tolist()


def test_images_that_are_no_longer_used_are_forgotten(many: Path) -> None:
    dataset = large(many, memory_mib=2)
    kept = weakref.ref(dataset.load("train").inputs)
    assert kept() is None


def test_mapped_images_train_and_are_measured_as_those_in_memory(many: Path) -> None:
    metrics = [
        aezoo.train(
            variant((3, 64, 64), (0.0, 1.0), refit=True), data=large(many, memory_mib=size), progress=False
        ).metrics
        for size in (1, 2)
    ]
    assert metrics[0]["mse.validation"] == metrics[1]["mse.validation"]


def test_decoded_images_are_used_again(many: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = large(many).read().sha256()
    before = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    refuse_decoding(monkeypatch)
    assert large(many).read().sha256() == first
    assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir()} == before


def change_an_image(folder: Path) -> None:
    path = folder / "007" / "it.png"
    picture(6, 8, seed=1000).save(path)
    os.utime(path, ns=(0, 0))


CHANGES: dict[str, Callable[[Path], Any]] = {
    "another image": change_an_image,
    "an image more": lambda folder: picture(6, 8, seed=1000).save(folder / "007" / "another.png"),
    "an image less": lambda folder: (folder / "007" / "it.png").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("memory_mib", [1, 2])
def test_images_are_decoded_anew_when_the_folder_changes(change: str, memory_mib: int, many: Path) -> None:
    before = large(many, memory_mib=memory_mib).read()
    CHANGES[change](many)
    after = large(many, memory_mib=memory_mib).read()
    assert after.sha256() != before.sha256()
    images._recent.clear()
    assert after.sha256() == large(many, memory_mib=1000).read().sha256()


@pytest.mark.parametrize("option", [{"fit": "stretch"}, {"channels": 1}, {"size": (64, 65)}])
@pytest.mark.parametrize(("n", "mapped"), [(4, False), (300, True)])
def test_images_are_decoded_anew_when_they_are_wanted_otherwise(
    option: dict[str, Any], n: int, mapped: bool, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "photos", n)
    first = large(folder).read()
    assert first.mapped == mapped
    assert large(folder, **option).read().sha256() != first.sha256()


def test_a_decoded_file_that_was_cut_short_is_made_again(many: Path, cache: Path) -> None:
    whole = large(many).read().sha256()
    images._recent.clear()
    (decoded,) = cache.glob("*.u8")
    decoded.write_bytes(decoded.read_bytes()[:-1])
    assert large(many).read().sha256() == whole


class SmallDisk(io.FileIO):
    """A file on a disk with room for half a MiB."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 2**19:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_a_disk_that_fills_up_is_one_line_and_leaves_nothing(
    many: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fdopen", SmallDisk)
    with pytest.raises(DataError) as error:
        large(many).read()
    monkeypatch.undo()
    assert f"could not be written: {os.strerror(errno.ENOSPC)}; the decoded images take " in str(error.value)
    assert str(error.value).endswith("XDG_CACHE_HOME names another place")
    assert "\n" not in str(error.value)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_made_is_named(many: Path, cache: Path) -> None:
    cache.parent.parent.write_bytes(b"")
    with pytest.raises(DataError, match=r"\.u8 could not be written: .*XDG_CACHE_HOME names another place"):
        large(many).read()


@pytest.mark.parametrize("memory_mib", [1, 2])
def test_an_interrupted_decoding_leaves_nothing(
    memory_mib: int, many: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = large(many, memory_mib=1000).read().sha256()
    images._recent.clear()
    decode = ImagesSpec._decode

    def until_interrupted(self: ImagesSpec, file: Path) -> Any:
        if file.parent.name == "090":
            raise KeyboardInterrupt
        return decode(self, file)

    with monkeypatch.context() as patch:
        patch.setattr(ImagesSpec, "_decode", until_interrupted)
        with pytest.raises(KeyboardInterrupt):
            large(many, memory_mib=memory_mib).read()
    assert not cache.exists() or list(cache.iterdir()) == []
    assert large(many, memory_mib=memory_mib).read().sha256() == whole


def test_a_corrupt_image_leaves_no_decoded_file(many: Path, cache: Path) -> None:
    damage(many / "090" / "it.png", "truncated")
    with pytest.raises(DataError, match="cannot be decoded"):
        large(many).read()
    assert list(cache.iterdir()) == []


# -- arrays -------------------------------------------------------------------------------------------


def stored(path: Path, **arrays: np.ndarray[Any, Any]) -> Path:
    """Arrays in a file of the kind that its suffix says."""
    if path.suffix == ".npy":
        np.save(path, *arrays.values())
    elif path.suffix == ".npz":
        np.savez_compressed(path, **cast(Any, arrays))
    else:
        safetensors.torch.save_file({k: torch.from_numpy(v) for k, v in arrays.items()}, path)
    return path


def array(path: Path, **options: Any) -> ArraySpec:
    return ArraySpec(path=str(path), **options)


SUFFIXES = [".npy", ".npz", ".safetensors"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_an_array_is_read_from_every_kind_of_file(suffix: str, dtype: type, tmp_path: Path) -> None:
    x = pixels(20, 2, 3).astype(dtype)
    samples = array(stored(tmp_path / f"x{suffix}", x=x)).read()
    assert np.array_equal(samples.inputs, x)
    assert samples.inputs.numpy().dtype == dtype
    assert (samples.targets, samples.labels) == (None, None)


def test_an_array_in_another_byte_or_memory_order_is_read_too(tmp_path: Path) -> None:
    x = numbers(20, 3)
    np.save(tmp_path / "x.npy", np.asfortranarray(x.astype(">f4")))
    assert np.array_equal(array(tmp_path / "x.npy").read().inputs, x)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_inputs_targets_and_labels_are_found_by_name(suffix: str, tmp_path: Path) -> None:
    gray, colour, labels = pixels(20, 1, 4, 4), pixels(20, 3, 4, 4), np.arange(20)
    path = stored(tmp_path / f"data{suffix}", a=gray, b=colour, c=labels)
    samples = array(path, key="a", target="b", labels="c").load("train")
    rows = labels_of(samples)
    assert samples.targets is not None
    assert np.array_equal(samples.targets[samples.index], colour[rows])
    assert np.array_equal(inputs_of(samples), gray[rows])


def test_targets_of_another_shape_are_trained_for(tmp_path: Path) -> None:
    path = stored(tmp_path / "data.npz", gray=pixels(30, 1, 4, 4), colour=pixels(30, 3, 4, 4))
    spec = variant((1, 4, 4), (0.0, 1.0), dataset=array(path, key="gray", target="colour")).replace({
        "target": {"shape": [3, 4, 4], "range": [0, 1]},
        "decoder": [{"kind": "linear", "out_features": 48}, {"kind": "unflatten", "shape": [3, 4, 4]}],
    })  # fmt: skip
    ae = aezoo.load(aezoo.save(aezoo.train(spec, progress=False), tmp_path / "trained"))
    assert ae(ae.transforms()(pixels(2, 1, 4, 4))).x_hat.shape == (2, 3, 4, 4)
    assert evaluate_variant(ae, "validation")["mse"]["value"] == pytest.approx(
        ae.metrics["mse.validation"]["value"], rel=1e-6
    )


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "holds 3 arrays (x, y, z); say which with `key`"),
        ({"key": "X"}, "has no array 'X' (key); it holds x, y, z"),
        ({"key": "x", "target": "t"}, "has no array 't' (target); it holds x, y, z"),
        ({"key": "x", "labels": "l"}, "has no array 'l' (labels); it holds x, y, z"),
        ({"key": "x", "labels": "z"}, "20 inputs but 19 labels"),
        ({"key": "x", "target": "z"}, "20 inputs but 19 targets"),
    ],
)
def test_an_array_that_is_not_there_or_does_not_fit_is_named(
    suffix: str, options: dict[str, str], words: str, tmp_path: Path
) -> None:
    path = stored(tmp_path / f"data{suffix}", x=numbers(20, 3), y=numbers(20), z=numbers(19))
    with pytest.raises(DataError) as error:
        array(path, **options).load("train")
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)


def test_arrays_beside_the_chosen_ones_may_hold_anything(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=numbers(20, 3), names=np.array(["a", "b"]), notes=np.array([{}, None]))
    assert len(array(tmp_path / "data.npz", key="x").read()) == 20


class Trap:
    """Tells on being unpickled."""

    sprung: ClassVar[list[int]] = []

    def __reduce__(self) -> Any:
        return Trap.sprung.append, (1,)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_pickled_objects_are_refused_and_never_run(suffix: str, tmp_path: Path) -> None:
    path = stored(tmp_path / f"x{suffix}", x=np.array([Trap()] * 9, dtype=object))
    Trap.sprung.clear()
    with pytest.raises(
        DataError, match="cannot be read: Object arrays cannot be loaded when allow_pickle=False"
    ):
        array(path).load("train")
    assert Trap.sprung == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("key", ["x", "y"])
def test_a_value_that_is_not_finite_is_named_with_its_place_and_file(
    value: float, key: str, tmp_path: Path
) -> None:
    arrays = {"x": numbers(20, 3), "y": numbers(20, 3)}
    arrays[key][7, 2] = value
    path = stored(tmp_path / "data.npz", **arrays)
    with pytest.raises(DataError) as error:
        array(path, key="x", target="y").load("train")
    assert str(error.value) == f"{path}: the value at index (7, 2) is not finite"


def test_whole_numbers_other_than_bytes_need_scaling(tmp_path: Path) -> None:
    path = stored(tmp_path / "x.npy", x=np.arange(60).reshape(20, 3))
    with pytest.raises(DataError, match=r"expected uint8 or floating point as input, found torch\.int64"):
        aezoo.train(variant((3,)), data=array(path), progress=False)
    aezoo.train(variant((3,)), data=array(path, scale="standard"), progress=False)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64])
def test_an_array_is_scaled_by_its_training_split(dtype: type, tmp_path: Path) -> None:
    x = (10 * numbers(50, 2, 3) + 100).clip(0, 255).astype(dtype)
    path = stored(tmp_path / "data.npz", x=x, rows=np.arange(50))
    dataset = array(path, key="x", labels="rows", scale="standard", validation=0.3)
    train, validation = dataset.load("train"), dataset.load("validation")
    seen = x[labels_of(train)].astype(np.float64)
    assert train.scaler is not None
    np.testing.assert_allclose(train.scaler.shift, seen.mean(0), rtol=1e-6)
    np.testing.assert_allclose(train.scaler.scale, seen.std(0), rtol=1e-6)
    expected = (x[labels_of(validation)] - seen.mean(0)) / seen.std(0)
    np.testing.assert_allclose(inputs_of(validation), expected, rtol=1e-4, atol=1e-5)


def test_scaling_leaves_targets_of_their_own_alone_by_refusing_them(tmp_path: Path) -> None:
    path = stored(tmp_path / "data.npz", x=numbers(20, 3), y=numbers(20, 3))
    with pytest.raises(DataError, match="targets of their own must come scaled"):
        array(path, key="x", target="y", scale="standard").load("train")


@pytest.mark.parametrize("kind", ["array", "table", "windows"])
def test_a_file_that_is_not_there_says_where_relative_paths_start(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"length": 2} if kind == "windows" else {}
    dataset = aezoo.DatasetSpec.model_validate({"kind": kind, "path": "here/x.npy", **options})
    with pytest.raises(DataError) as error:
        dataset.load("train")
    assert str(error.value) == f"there is no file here/x.npy; relative paths start at {tmp_path}"
    dataset = aezoo.DatasetSpec.model_validate({"kind": kind, "path": str(tmp_path / "x.npy"), **options})
    with pytest.raises(DataError, match=r"^there is no file /.*x\.npy$"):
        dataset.load("train")


FILE_FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut in the middle": lambda data: data[: len(data) // 2],
    "cut at the end": lambda data: data[:-9],
    "another kind": lambda data: b"a,b\n1,2\n",
}


@pytest.mark.parametrize("fault", FILE_FAULTS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_damaged_file_is_named_in_one_line(suffix: str, fault: str, tmp_path: Path) -> None:
    path = stored(tmp_path / f"x{suffix}", x=numbers(200, 3))
    path.write_bytes(FILE_FAULTS[fault](path.read_bytes()))
    with pytest.raises(DataError) as error:
        array(path).load("train")
    assert str(error.value).startswith(f"{path} cannot be read: ")
    assert "\n" not in str(error.value)


def test_damaged_bytes_within_an_archive_are_noticed(tmp_path: Path) -> None:
    path = stored(tmp_path / "x.npz", x=numbers(200, 3))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"x\.npz cannot be read: "):
        array(path).load("train")


@pytest.mark.parametrize(("found", "named"), [(".npz", ".npy"), (".npy", ".npz"), (".npy", ".safetensors")])
def test_a_file_with_anothers_suffix_is_named_in_one_line(found: str, named: str, tmp_path: Path) -> None:
    stored(tmp_path / f"x{found}", x=numbers(20, 3)).rename(tmp_path / f"y{named}")
    with pytest.raises(DataError) as error:
        array(tmp_path / f"y{named}").load("train")
    assert str(error.value).startswith(f"{tmp_path / f'y{named}'} cannot be read: ")


@pytest.mark.parametrize(("name", "found"), [("x.mat", "'.mat'"), ("x", "'no suffix'")])
def test_a_file_of_an_unknown_kind_is_refused(name: str, found: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=rf"expected \.npy, \.npz or \.safetensors, found {found}$"):
        array(tmp_path / name).load("train")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array(3.0), "a single number holds no samples"),
        (np.array(["a", "b"]), "expected numbers that PyTorch has, found an array of <U1"),
        (np.zeros((0, 3)), "0 samples are too few"),
    ],
)
def test_an_array_that_holds_no_samples_is_refused(
    values: np.ndarray[Any, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as error:
        array(stored(tmp_path / "x.npy", x=values)).load("train")
    assert words in str(error.value)


# -- tables -------------------------------------------------------------------------------------------


def table(path: Path, **options: Any) -> TableSpec:
    return TableSpec(path=str(path), **options)


def plants(tmp_path: Path, suffix: str = ".csv") -> Path:
    """A table with whole numbers, decimals, truth values and words."""
    columns = {
        "width": [round(float(value), 3) for value in numbers(20)],
        "leaves": list(range(20)),
        "alive": [i % 3 == 0 for i in range(20)],
        "name": ["oak" if i % 2 else "elm" for i in range(20)],
    }
    path = parquet(tmp_path / "plants.parquet", **columns)
    if suffix == ".csv":
        pa.csv.write_csv(pa.parquet.read_table(path), tmp_path / "plants.csv")
    return tmp_path / f"plants{suffix}"


def test_csv_and_parquet_give_the_same(tmp_path: Path) -> None:
    samples = [table(plants(tmp_path, suffix), label="name").load("train") for suffix in (".csv", ".parquet")]
    assert samples[0].columns == samples[1].columns == ("width", "leaves", "alive")
    assert samples[0].sha256() == samples[1].sha256()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_are_taken_in_the_order_asked_for(suffix: str, tmp_path: Path) -> None:
    samples = table(plants(tmp_path, suffix), columns=("leaves", "alive"), scale="none").read()
    assert samples.columns == ("leaves", "alive")
    assert samples.inputs[:, 0].tolist() == list(range(20))
    assert samples.inputs[:, 1].tolist() == [float(i % 3 == 0) for i in range(20)]
    assert samples.labels is None


@pytest.mark.parametrize(
    ("label", "values"),
    [
        ("name", [i % 2 for i in range(20)]),
        ("leaves", list(range(20))),
        ("alive", [int(i % 3 == 0) for i in range(20)]),
    ],
)
def test_a_label_is_kept_aside_and_words_become_numbers(
    label: str, values: list[int], tmp_path: Path
) -> None:
    samples = table(plants(tmp_path), columns=("width",), label=label).read()
    assert samples.columns == ("width",)
    assert labels_of(samples).tolist() == values


def test_a_column_may_be_both_input_and_label(tmp_path: Path) -> None:
    samples = table(plants(tmp_path), columns=("leaves", "width"), label="leaves", scale="none").read()
    assert torch.equal(samples.inputs[:, 0].long(), labels_of(samples))


def test_words_of_a_column_with_a_dictionary_are_labels_too(tmp_path: Path) -> None:
    # As pandas stores categories.
    names = pa.array(["oak", "elm", "oak", "ash"] * 5).dictionary_encode()
    path = parquet(tmp_path / "t.parquet", a=numbers(20), name=names)
    assert labels_of(table(path, label="name").read()).tolist() == [2, 1, 2, 0] * 5


def test_a_table_is_scaled_by_its_training_rows(tmp_path: Path) -> None:
    values = numbers(40, 2).astype(np.float64)
    path = parquet(tmp_path / "t.parquet", a=values[:, 0], b=1e6 * values[:, 1], row=np.arange(40))
    dataset = table(path, label="row", validation=0.3)
    train, validation = dataset.load("train"), dataset.load("validation")
    torch.testing.assert_close(inputs_of(train).mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(inputs_of(train).std(0, correction=0), torch.ones(2), atol=1e-5, rtol=0)
    seen = values[labels_of(train)]
    expected = (values[labels_of(validation)] - seen.mean(0)) / seen.std(0)
    np.testing.assert_allclose(inputs_of(validation), expected, rtol=1e-3, atol=1e-4)


def test_small_differences_of_large_numbers_are_kept(tmp_path: Path) -> None:
    # Seconds since 1970, which single precision counts in steps of 128.
    seconds = 1_700_000_000 + np.arange(100)
    dataset = table(
        parquet(tmp_path / "t.parquet", a=numbers(100), seconds=seconds, row=seconds), label="row"
    )
    samples = dataset.load("train")
    seen = labels_of(samples).double()
    expected = (seen - seen.mean()) / seen.std(correction=0)
    scaled = inputs_of(samples)[:, 1].double()
    # Where zero lies is known as well as single precision can tell the mean.
    differences = scaled - expected
    assert differences.max() - differences.min() < 1e-4
    new = Transforms(TensorSpec(shape=(2,)), samples.scaler, samples.columns)(
        {"a": np.zeros(90), "seconds": seen.numpy()}
    )
    torch.testing.assert_close(new[:, 1].double(), scaled, rtol=0, atol=1e-6)


HEADER = "a,b,name\n"
ROWS = "".join(f"{i},{i / 2},oak\n" for i in range(9))


TABLE_FAULTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "text": (HEADER + ROWS, {}, "column 'name' holds text, not numbers; name the numeric ones in `columns`"),
    "order of letters": (HEADER + ROWS, {"columns": ("a", "B")}, "has no column 'B'; it has a, b, name"),
    "near name": (HEADER + ROWS, {"columns": ("a", "nome")}, "has no column 'nome' (did you mean 'name'?)"),
    "unknown label beside columns": (HEADER + ROWS, {"columns": ("a",), "label": "nam"}, "has no column 'nam' (did you mean 'name'?)"),
    # The mistake is the name of the label, not the text that it leaves among the columns.
    "unknown label": (HEADER + ROWS, {"label": "nam"}, "has no column 'nam' (did you mean 'name'?)"),
    "missing": (HEADER + ROWS + ",3,oak\n", {"label": "name"}, "column 'a' has 1 missing values, the first in row 10; fill"),
    "missing twice": (HEADER + ROWS + "1,NA,oak\n1,,elm\n", {"label": "name"}, "column 'b' has 2 missing values, the first in row 10"),
    "nothing": ("a,b\n1,\n1,\n1,\n", {}, "column 'b' has 3 missing values, the first in row 1"),
    "infinite": ("a,b\n1,2\n1,inf\n2,3\n", {}, "column 'b' has 1 values that are not finite, the first in row 2"),
    "beyond single precision": ("a,b\n1,2\n1,1e60\n2,3\n", {}, "column 'b' has 1 values that are not finite, the first in row 2"),
    "twice": ("a,b,a\n1,2,3\n4,5,6\n", {}, "has two columns called 'a'"),
    "no rows": (HEADER, {}, "has no rows"),
    "ragged": ("a,b\n1,2\n3\n", {}, "cannot be read: "),
    "empty": ("", {}, "cannot be read: "),
    "label alone": ("name\n1\n2\n", {"label": "name"}, "has no columns to train on"),
    "dates": ("a,when\n1,2020-01-01\n2,2020-01-02\n", {}, "column 'when' holds date32[day], not numbers"),
    "one row": ("a\n1\n", {}, "1 samples are too few"),
}  # fmt: skip


@pytest.mark.parametrize("fault", TABLE_FAULTS)
def test_a_table_that_cannot_be_used_is_refused_in_one_line(fault: str, tmp_path: Path) -> None:
    text, options, words = TABLE_FAULTS[fault]
    with pytest.raises(DataError) as error:
        table(csv(tmp_path / "data.csv", text), **options).load("train")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("a,größe\n1,2\n3,4\n5,6\n".encode("latin-1"), "cannot be read: "),
        ("a,name\n1,Bär\n3,Kuh\n5,Reh\n".encode("latin-1"), "column 'name' holds binary, not numbers"),
        ("a,b\n1,2\n3,4\n".encode("utf-16"), "cannot be read: "),
    ],
    ids=["names in latin-1", "text in latin-1", "utf-16"],
)
def test_a_table_in_another_encoding_is_refused_in_one_line(raw: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(raw)
    with pytest.raises(DataError) as error:
        table(tmp_path / "data.csv").load("train")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_spreadsheets_mark_before_the_first_name_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes("a,b\n1,2\n3,5\n4,6\n".encode("utf-8-sig"))
    assert table(tmp_path / "data.csv").load("train").columns == ("a", "b")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("data.parquet", b"a,b\n1,2\n", "cannot be read: "),
        ("data.parquet", b"", "cannot be read: "),
        ("data.xlsx", b"", "expected .csv or .parquet, found '.xlsx'"),
    ],
)
def test_a_file_that_is_no_table_is_named(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        table(tmp_path / name).load("train")
    assert str(error.value).startswith(str(tmp_path / name))
    assert words in str(error.value)


def test_tables_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = csv(tmp_path / "data.csv", "a\n1\n2\n3\n")
    for dataset in (table(path), WindowsSpec(path=str(path), length=1)):
        with pytest.raises(MissingExtraError, match=r"^this needs pyarrow; .*pip install 'aezoo\[table\]'"):
            dataset.load("train")


# -- values that never vary ---------------------------------------------------------------------------


def constant(tmp_path: Path) -> TableSpec:
    return table(
        parquet(tmp_path / "t.parquet", a=numbers(30), still=np.full(30, 0.1), b=numbers(30, seed=1))
    )


def test_a_column_that_never_varies_is_named_and_stays_finite(tmp_path: Path) -> None:
    with pytest.warns(
        aezoo.DiagnosticWarning, match=r"^constant-input: column 'still': the same in every training sample"
    ) as caught:
        samples = constant(tmp_path).load("train")
    assert cast(aezoo.DiagnosticWarning, caught[0].message).code == "constant-input"
    assert inputs_of(samples)[:, 1].tolist() == pytest.approx([0.0] * 27, abs=1e-6)
    assert torch.isfinite(inputs_of(samples)).all()


def test_a_column_that_varies_in_the_held_out_rows_alone_stays_finite(tmp_path: Path) -> None:
    numbered = table(parquet(tmp_path / "t.parquet", a=numbers(30), row=np.arange(30)), label="row")
    b = np.zeros(30)
    b[int(labels_of(numbered.load("validation"))[0])] = 7
    dataset = table(parquet(tmp_path / "t.parquet", a=numbers(30), b=b))
    with pytest.warns(aezoo.DiagnosticWarning, match=r"^constant-input: column 'b'"):
        held = dataset.load("validation")
    assert inputs_of(held)[0, 1] == 7


def test_of_many_values_that_never_vary_five_are_named(tmp_path: Path) -> None:
    x = np.zeros((20, 3, 3), np.float32)
    x[:, 1, 1] = numbers(20)
    with pytest.warns(
        aezoo.DiagnosticWarning,
        match=r"^constant-input: value 0, value 1, value 2, value 3, value 5 and 3 more: ",
    ):
        array(stored(tmp_path / "x.npy", x=x), scale="standard").load("train")


def test_a_channel_that_never_varies_is_named_too(tmp_path: Path) -> None:
    series = np.stack([numbers(40), np.ones(40)], 1)
    dataset = WindowsSpec(path=str(stored(tmp_path / "x.npy", x=series)), length=4)
    with pytest.warns(aezoo.DiagnosticWarning, match=r"^constant-input: .*1: the same"):
        samples = dataset.load("train")
    assert torch.isfinite(inputs_of(samples)).all()


@pytest.mark.parametrize("silenced", ["constant-input", "dead-latents, constant-input"])
def test_advice_can_be_silenced_by_the_environment(
    silenced: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEZOO_SILENCE", silenced)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        constant(tmp_path).load("train")


def test_silencing_one_piece_of_advice_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEZOO_SILENCE", "corrupt-images,constant")
    with pytest.warns(aezoo.DiagnosticWarning, match="^constant-input"):
        constant(tmp_path).load("train")


def test_advice_can_be_silenced_by_a_filter(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="constant-input")
        constant(tmp_path).load("train")


# -- what the inputs were scaled by -------------------------------------------------------------------


class Frame:
    """A data frame as far as it is looked at: names of columns, and a column by name."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self._columns = columns
        self.columns = list(columns)

    def __getitem__(self, name: str) -> Any:
        return self._columns[name]


@dataclass
class Trained:
    """A network trained on a table, loaded from its folder."""

    ae: aezoo.Autoencoder
    folder: Path
    samples: Samples
    columns: dict[str, np.ndarray[Any, Any]]

    @property
    def raw(self) -> np.ndarray[Any, Any]:
        return np.stack([self.columns[name] for name in "abc"], 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    tmp_path = tmp_path_factory.mktemp("table")
    a, b, c = numbers(3, 40).astype(np.float64)
    columns = {"a": a, "b": 1000 + 100 * b, "c": np.round(c)}
    dataset = table(parquet(tmp_path / "t.parquet", **columns, row=np.arange(40)), label="row")
    ae = aezoo.train(variant((3,), dataset=dataset.model_dump(mode="json")), progress=False)
    folder = aezoo.save(ae, tmp_path / "trained")
    samples = dataset.load("train")
    rows = labels_of(samples).numpy()
    return Trained(aezoo.load(folder), folder, samples, {k: v[rows] for k, v in columns.items()})


def test_the_scaler_is_part_of_the_hashed_weights(trained: Trained, tmp_path: Path) -> None:
    scaler = trained.samples.scaler
    assert scaler is not None
    assert trained.ae.scaler is not None
    assert torch.equal(trained.ae.scaler.shift, scaler.shift)
    assert torch.equal(trained.ae.scaler.scale, scaler.scale)
    weights = safetensors.torch.load_file(trained.folder / "model.safetensors")
    assert torch.equal(weights["input_shift"], scaler.shift)
    assert torch.equal(weights["input_scale"], scaler.scale)
    changed = shutil.copytree(trained.folder, tmp_path / "changed") / "model.safetensors"
    raw = changed.read_bytes()
    place = raw.index(scaler.shift.numpy().tobytes())
    changed.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
    with raises("hash-mismatch"):
        aezoo.load(changed.parent)


def test_the_columns_are_saved_with_the_network(trained: Trained) -> None:
    assert trained.ae.columns == ("a", "b", "c")
    assert '"columns": ["a", "b", "c"]' in (trained.folder / "config.json").read_text("utf-8")


def test_a_network_that_was_not_scaled_has_no_scaler_and_saves_none(tmp_path: Path) -> None:
    ae = aezoo.train(variant((3,), (0.0, 1.0)), data=pixels(20, 3), progress=False)
    again = aezoo.load(aezoo.save(ae, tmp_path / "trained"))
    assert (again.scaler, again.columns) == (None, ())
    weights = safetensors.torch.load_file(tmp_path / "trained" / "model.safetensors")
    assert not {"input_shift", "input_scale"} & set(weights)


TABLES: dict[str, Callable[[Trained], object]] = {
    "array": lambda t: t.raw,
    "array of whole numbers": lambda t: t.raw.round().astype(np.int64),
    "tensor": lambda t: torch.from_numpy(t.raw),
    "mapping": lambda t: dict(reversed(t.columns.items())),
    "mapping of lists": lambda t: {k: v.tolist() for k, v in t.columns.items()},
    "mapping of tensors": lambda t: {k: torch.from_numpy(v) for k, v in t.columns.items()},
    "mapping with more columns": lambda t: {"name": ["oak"] * len(t.raw), **t.columns},
    "data frame": lambda t: Frame(dict(reversed(t.columns.items()))),
    "table of pyarrow": lambda t: pa.table(dict(reversed(t.columns.items()))),
    "rows": lambda t: [{k: v[i] for k, v in t.columns.items()} for i in range(len(t.raw))],
}


@pytest.mark.parametrize("kind", TABLES)
def test_rows_of_any_kind_of_table_are_scaled_as_in_training(kind: str, trained: Trained) -> None:
    x = trained.ae.transforms()(TABLES[kind](trained))
    assert x.dtype == torch.float32
    raw = trained.raw.round() if "whole" in kind else trained.raw
    assert trained.ae.scaler is not None
    expected = trained.ae.scaler(torch.from_numpy(raw).float())
    torch.testing.assert_close(x, expected)
    if "whole" not in kind:
        torch.testing.assert_close(x, inputs_of(trained.samples), rtol=0, atol=1e-6)


def test_one_row_is_a_batch_of_one(trained: Trained) -> None:
    row = {name: float(values[3]) for name, values in trained.columns.items()}
    torch.testing.assert_close(trained.ae.transforms()(row), inputs_of(trained.samples)[3:4])


def test_a_reconstruction_goes_back_to_its_own_units(trained: Trained) -> None:
    transforms = trained.ae.transforms()
    back = transforms.inverse(transforms(trained.raw))
    torch.testing.assert_close(back, torch.from_numpy(trained.raw).float(), rtol=1e-5, atol=1e-4)


def test_where_nothing_was_fitted_the_inverse_changes_nothing() -> None:
    ae = aezoo.build(variant((3,), (0.0, 1.0)))
    x = torch.rand(2, 3)
    assert ae.transforms().inverse(x) is x


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: {k: v for k, v in c.items() if k != "b"}, "the table has no column 'b'; expected are a, b, c"),
        (lambda c: {**c, "b": ["x"] * len(c["a"])}, "the table holds something other than numbers: "),
        (lambda c: {**c, "b": np.where(c["a"] == c["a"][4], np.nan, c["b"])}, "value at index (4, 1) is not finite"),
        (lambda c: {**c, "b": c["b"][:-1]}, "the columns differ in length"),
        (lambda c: {k: v[:0] for k, v in c.items()}, "no values at all"),
    ],
    ids=["missing", "text", "not finite", "shorter", "no rows"],
)  # fmt: skip
@pytest.mark.parametrize("kind", [dict, Frame])
def test_a_table_that_lacks_something_is_refused(
    kind: Callable[[Any], object],
    change: Callable[[dict[str, Any]], dict[str, Any]],
    words: str,
    trained: Trained,
) -> None:
    with pytest.raises(DataError) as error:
        trained.ae.transforms()(kind(change(trained.columns)))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_columns_by_name_are_for_tables_alone(tmp_path: Path) -> None:
    ae = aezoo.build(variant((3,)))
    with pytest.raises(DataError, match="expected a PIL image, a NumPy array or a tensor, found dict"):
        ae.transforms()({"a": [1.0], "b": [2.0], "c": [3.0]})


def test_a_table_that_was_not_scaled_takes_whole_numbers_too(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", a=np.arange(20), b=np.arange(20) % 3)
    ae = aezoo.train(variant((2,)), data=table(path, scale="none"), progress=False)
    rows = np.array([[1, 2], [3, 0]])
    expected = ae.transforms()({"a": rows[:, 0], "b": rows[:, 1]})
    assert expected.tolist() == rows.tolist()
    assert torch.equal(ae.transforms()(rows), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_leave_the_units_exact(dtype: torch.dtype, trained: Trained) -> None:
    half = aezoo.load(trained.folder, dtype=dtype)
    assert torch.equal(half.transforms()(trained.raw), trained.ae.transforms()(trained.raw))


def test_a_scaler_brings_values_to_zero_and_one_and_back() -> None:
    x = torch.from_numpy(numbers(100, 2, 3))
    scaler = Scaler.fit(x)
    scaled = scaler(x)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std(0, correction=0), torch.ones(2, 3))
    torch.testing.assert_close(scaler.inverse(scaled), x)


@pytest.mark.parametrize("value", [0.0, 0.1, -3e20, 1e-30])
def test_a_scaler_takes_values_that_never_vary_to_zero(value: float) -> None:
    x = torch.full((1000, 1), value)
    assert Scaler.fit(x)(x).eq(0).all()


def test_a_scaler_tells_small_values_from_none() -> None:
    x = torch.tensor([[1e-12], [3e-12]])
    torch.testing.assert_close(Scaler.fit(x)(x), torch.tensor([[-1.0], [1.0]]))


# -- pairs --------------------------------------------------------------------------------------------


def share_memory(a: object, b: object) -> bool:
    if isinstance(a, Image.Image):
        return a is b
    return np.may_share_memory(*(np.asarray(part) for part in (a, b)))


def identity(x: Any) -> Any:
    return x


SAMPLES: dict[str, Callable[[], Any]] = {
    "tensor": lambda: torch.rand(3, 4, 4),
    "array": lambda: numbers(3, 4, 4),
    "image": lambda: picture(4, 4),
}


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("transforms", [{}, {"input_transform": identity}, {"target_transform": identity},
                                        {"input_transform": identity, "target_transform": identity}])  # fmt: skip
def test_input_and_target_never_share_memory(kind: str, transforms: dict[str, Any]) -> None:
    sample = SAMPLES[kind]()
    item = aezoo.pairs([(sample, 5)], **transforms)[0]
    made, target = item.input, item.target
    assert np.array_equal(np.asarray(made), np.asarray(sample))
    assert np.array_equal(np.asarray(target), np.asarray(sample))
    assert item.label == 5
    for one, other in ((made, target), (made, sample), (target, sample)):
        assert not share_memory(one, other)


OF_ONE: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "the same": lambda x: (x, x),
    "overlapping": lambda x: (x[:2], x[1:]),
    "an array's tensor": lambda x: (torch.from_numpy(np.asarray(x)), np.asarray(x)),
}


@pytest.mark.parametrize("what", OF_ONE)
@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_transforms_that_return_the_same_memory_are_taken_apart(kind: str, what: str) -> None:
    fixed = SAMPLES[kind]()
    first, second = OF_ONE[what](fixed)
    made, target = aezoo.pairs([fixed], lambda _: first, lambda _: second)[0][:2]
    assert np.array_equal(np.asarray(made), np.asarray(first))
    assert np.array_equal(np.asarray(target), np.asarray(second))
    assert not share_memory(made, target)


def zeroed(x: Any) -> Any:
    if isinstance(x, Image.Image):
        x.paste(0, (0, 0, *x.size))
    else:
        x[...] = 0
    return x


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("which", ["input_transform", "target_transform"])
def test_a_transform_in_place_reaches_neither_the_dataset_nor_the_other_part(kind: str, which: str) -> None:
    sample = SAMPLES[kind]()
    before = np.asarray(sample).copy()
    pairs = aezoo.pairs([(sample, 0)], **cast(Any, {which: zeroed}))
    for _ in range(2):
        parts = [np.asarray(part) for part in pairs[0][:2]]
        changed, untouched = parts if which == "input_transform" else parts[::-1]
        assert not changed.any()
        assert np.array_equal(untouched, before)
    assert np.array_equal(np.asarray(sample), before)


@pytest.mark.parametrize(
    ("dataset", "labels"),
    [
        (TensorDataset(torch.rand(3, 2), torch.arange(3)), [0, 1, 2]),
        ([(torch.rand(2), i) for i in range(3)], [0, 1, 2]),
        ([[torch.rand(2), i] for i in range(3)], [0, 1, 2]),
        ([torch.rand(2) for _ in range(3)], [None] * 3),
        (torch.rand(3, 2), [None] * 3),
        (TensorDataset(torch.rand(3, 2)), [None] * 3),
    ],
    ids=["TensorDataset", "tuples", "lists", "samples alone", "tensor", "TensorDataset of samples alone"],
)
def test_labels_are_kept_aside(dataset: Any, labels: list[int | None]) -> None:
    pairs = aezoo.pairs(dataset, lambda x: x + 1)
    assert len(pairs) == 3
    items = [pairs[i] for i in range(3)]
    assert [None if item.label is None else int(item.label) for item in items] == labels
    for item in items:
        assert item.target.shape == (2,)
        assert torch.equal(item.input, item.target + 1)


@pytest.mark.parametrize("n", [0, 3, 4])
def test_items_with_too_many_parts_are_refused(n: int) -> None:
    with pytest.raises(DataError, match=rf"^item 1 has {n} parts; \(sample, label\) is expected"):
        aezoo.pairs([(torch.rand(2), 0), (torch.rand(2),) * n])[1]


def test_a_loader_stacks_pairs() -> None:
    x = torch.rand(5, 2)
    loader = DataLoader(aezoo.pairs(TensorDataset(x, torch.arange(5)), lambda v: 2 * v), batch_size=3)  # pyright: ignore[reportArgumentType]
    batches = list(loader)
    assert [len(batch.input) for batch in batches] == [3, 2]
    assert torch.equal(batches[0].input, 2 * x[:3])
    assert torch.equal(batches[1].target, x[3:])
    assert batches[0].label.tolist() == [0, 1, 2]


def test_a_loader_stacks_pairs_without_labels() -> None:
    x = torch.rand(5, 2)
    loader = DataLoader(aezoo.pairs(x, lambda v: 2 * v), batch_size=3)  # pyright: ignore[reportArgumentType]
    batches = list(loader)
    assert torch.equal(batches[0].input, 2 * x[:3])
    assert torch.equal(batches[1].target, x[3:])


class WatchSpec(aezoo.LossSpec):
    """Notes which row came with which label."""

    kind: Literal["watch"] = "watch"
    seen: ClassVar[dict[float, int]] = {}

    def __call__(self, output: aezoo.Output, batch: aezoo.StepContext, ae: aezoo.Autoencoder) -> torch.Tensor:
        assert batch.labels is not None
        for row, label in zip(batch.target.flatten(1)[:, 0], batch.labels, strict=True):
            WatchSpec.seen[round(float(row), 4)] = int(label)
        return output.x_hat.sum() * 0


@pytest.mark.parametrize("joined", [False, True])
def test_labels_reach_a_loss_beside_their_row(joined: bool, fresh_registry: None) -> None:
    aezoo.register(WatchSpec)
    WatchSpec.seen.clear()
    x = torch.linspace(0, 1, 40).view(40, 1).expand(40, 3)
    data = aezoo.pairs(TensorDataset(x, torch.arange(40)), torch.zeros_like)
    aezoo.train(
        variant((3,), (0.0, 1.0), penalties=[{"kind": "watch"}], refit=joined), data=data, progress=False
    )
    assert WatchSpec.seen == {round(float(value), 4): i for i, value in enumerate(x[:, 0])}


class Photos:
    """Colour pictures with a label, as torchvision's datasets have them."""

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        if index >= 30:
            raise IndexError(index)
        return picture(4, 4, seed=index), index % 3


def test_pairs_train_a_denoiser() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(60, 3, generator=generator)
    data = aezoo.pairs(clean, lambda x: (x + 0.1 * torch.randn(3, generator=generator)).clip(0, 1))
    ae = aezoo.train(variant((3,), (0.0, 1.0)), data=data, progress=False)
    assert ae.target_mean is not None
    # The target is the clean sample, so its mean is the clean samples'.
    held = ae.metrics["mse.validation"]["n"]
    assert (held, ae.training_record["data"]["train"]["n"]) == (6, 54)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ae.target_mean, clean[order[6:]].mean(0))


def test_pairs_train_from_gray_to_colour() -> None:
    spec = variant((1, 4, 4), (0.0, 1.0)).replace({
        "target": {"shape": [3, 4, 4], "range": [0, 1]},
        "decoder": [{"kind": "linear", "out_features": 48}, {"kind": "unflatten", "shape": [3, 4, 4]}],
    })  # fmt: skip
    data = aezoo.pairs(Photos(), lambda image: image.convert("L"))
    ae = aezoo.train(spec, data=data, progress=False)
    assert ae(ae.transforms()(picture(4, 4))).x_hat.shape == (1, 3, 4, 4)
    assert ae.training_record["data"]["name"] == "Pairs"


# -- data that are given as they are ------------------------------------------------------------------


def with_one(value: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    x = np.full((20, 3), 0.5, np.float32)
    x[7, 2] = value
    return x


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, r"the value at index \(7, 2\) is not finite"),
        (-np.inf, r"the value at index \(7, 2\) is not finite"),
        (
            1.5,
            r"expected values in \[0\.0, 1\.0\], found 0\.5 to 1\.5; bytes \(uint8\) are scaled by themselves",
        ),
    ],
)
@pytest.mark.parametrize("given", ["array", "pairs", "file"])
def test_values_that_a_network_cannot_be_trained_on_are_named(
    given: str, value: float, words: str, tmp_path: Path
) -> None:
    x = with_one(value)
    data = {
        "array": lambda: x,
        "pairs": lambda: aezoo.pairs(cast(Any, x)),
        "file": lambda: array(stored(tmp_path / "x.npy", x=x)),
    }[given]()
    with pytest.raises(DataError, match=words):
        aezoo.train(variant((3,), (0.0, 1.0)), data=data, progress=False)


def test_scaled_data_must_not_have_a_range(tmp_path: Path) -> None:
    dataset = array(stored(tmp_path / "x.npy", x=numbers(30, 3)), scale="standard")
    with pytest.raises(DataError, match=r"scale: standard.*range"):
        aezoo.train(variant((3,), (0.0, 1.0)), data=dataset, progress=False)


def test_fewer_rows_than_a_batch_are_one_batch() -> None:
    steps: list[int] = []

    class Count(aezoo.Callback):
        def after_step(self, state: aezoo.TrainingState) -> None:
            assert state.batch is not None
            steps.append(len(state.batch.input))

    ae = aezoo.train(
        variant((3,), (0.0, 1.0), batch_size=1000),
        data=np.random.default_rng(0).random((5, 3)),
        callbacks=[Count()],
        progress=False,
    )
    assert steps == [4]
    assert ae.metrics["mse.validation"]["n"] == 1
