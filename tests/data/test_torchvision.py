import importlib
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

import aezoo
from aezoo.data.datasets import torchvision
from aezoo.data.datasets.files import data_root
from aezoo.data.datasets.torchvision import HOLDOUT, TorchvisionSpec, torchvision_datasets
from aezoo.data.samples import Samples
from aezoo.specs.components import Split
from tests.data.generated import byte_tensor
from tests.data.raising import data_error
from tests.data.splits import SPLITS, labels_of
from tests.examples import small_spec


def dataset_of(**data: Any) -> aezoo.DatasetSpec:
    return aezoo.DatasetSpec.model_validate(data)


# -- MNIST and Fashion-MNIST on disk ------------------------------------------------------------------

FILES = {"train": "train-{}-ubyte", "test": "t10k-{}-ubyte"}


def read_idx(name: str, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of the files, after headers of 16 and 8 bytes."""
    raw = data_root() / name / "raw"
    images = (raw / FILES[split].format("images-idx3")).read_bytes()
    labels = (raw / FILES[split].format("labels-idx1")).read_bytes()
    pixels = torch.frombuffer(bytearray(images), dtype=torch.uint8, offset=16).view(-1, 1, 28, 28)
    return pixels, torch.frombuffer(bytearray(labels), dtype=torch.uint8, offset=8).long()


@pytest.mark.data
@pytest.mark.parametrize(("kind", "name"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_splits_equal_the_files(kind: str, name: str) -> None:
    dataset = dataset_of(kind=kind)
    assert dataset == aezoo.DatasetSpec.model_validate_json(dataset.model_dump_json())
    same = TorchvisionSpec(name=name)
    images, labels = read_idx(name, "train")
    test_images, test_labels = read_idx(name, "test")
    expected = {
        "train": Samples(images[:50_000], None, labels[:50_000]),
        "validation": Samples(images[50_000:], None, labels[50_000:]),
        "test": Samples(test_images, None, test_labels),
    }
    assert [len(samples) for samples in expected.values()] == [50_000, HOLDOUT, 10_000]
    for split in SPLITS:
        assert dataset.has(split)
        found = dataset.load(split)
        assert found.inputs.dtype == torch.uint8
        assert found.sha256() == same.load(split).sha256() == expected[split].sha256(), split


# -- downloads ----------------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An empty data folder, and downloads that fail; returns the requested addresses."""
    requested: list[str] = []

    def download(url: str, *args: object, **options: object) -> None:
        requested.append(url)
        raise URLError("no network here")

    monkeypatch.setenv("AEZOO_DATA", "data")
    monkeypatch.setattr(torchvision_datasets().mnist, "download_and_extract_archive", download)
    return requested


NAMED = [{"kind": "mnist"}, {"kind": "fashion_mnist"}, {"kind": "torchvision", "name": "KMNIST"}]
named = pytest.mark.parametrize("data", NAMED, ids=lambda data: data["kind"])


@named
@pytest.mark.usefixtures("no_network")
def test_failed_download_names_the_folder(data: dict[str, str]) -> None:
    name = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "torchvision": "KMNIST"}[data["kind"]]
    with data_error(
        "no network here",
        f"{name} is not under data and could not be downloaded (",
        "; set AEZOO_DATA to a folder that contains it in torchvision's layout",
    ):
        dataset_of(**data).load("train")


def test_data_folder_that_cannot_be_created_is_named(no_network: list[str]) -> None:
    Path("data").write_text("a file")
    with data_error("; set AEZOO_DATA", "MNIST is not under data and could not be downloaded"):
        dataset_of(kind="mnist").load("train")
    assert no_network == []


def idx(array: torch.Tensor) -> bytes:
    """The file format of MNIST: dtype and number of axes, sizes, bytes."""
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.numpy().tobytes()


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A missing data folder and downloads of 12 training and 4 test images; returns the requested files."""
    requested: list[str] = []

    def download(url: str, download_root: str, filename: str, md5: str) -> None:
        requested.append(filename)
        n = 12 if filename.startswith("train") else 4
        content = byte_tensor(n, 28, 28) if "images" in filename else torch.arange(n, dtype=torch.uint8)
        (Path(download_root) / filename.removesuffix(".gz")).write_bytes(idx(content))

    monkeypatch.setenv("AEZOO_DATA", "not/there/yet")
    monkeypatch.setattr(torchvision_datasets().mnist, "download_and_extract_archive", download)
    return requested


def test_missing_dataset_is_downloaded_once(downloads: list[str]) -> None:
    dataset = TorchvisionSpec(name="MNIST", holdout=5)
    train = dataset.load("train")
    assert len(downloads) == 4
    assert torch.equal(train.inputs[:, 0], byte_tensor(12, 28, 28)[:7])
    assert labels_of(train).tolist() == [*range(7)]
    validation = dataset.load("validation")
    assert torch.equal(validation.inputs[:, 0], byte_tensor(12, 28, 28)[7:])
    assert len(dataset.load("test")) == 4
    assert len(downloads) == 4


@pytest.mark.usefixtures("downloads")
@pytest.mark.parametrize("holdout", [12, 13])
def test_holdout_must_leave_training_samples(holdout: int) -> None:
    dataset = TorchvisionSpec(name="MNIST", holdout=holdout)
    for split in SPLITS[:2]:
        with data_error("", f"{holdout} validation samples leave none of 12 for training"):
            dataset.load(split)
    assert len(dataset.load("test")) == 4


@pytest.mark.parametrize("name", ["MINST", "mnist", "__name__", ""])
def test_unknown_dataset_is_rejected_before_any_download(name: str, no_network: list[str]) -> None:
    with data_error("", f"torchvision has no dataset '{name}'"):
        TorchvisionSpec(name=name).load("train")
    assert no_network == []
    assert not Path("data").exists()


# -- interfaces of other torchvision datasets ---------------------------------------------------------


class ChannelsLast:
    """As CIFAR10: an array with channels last, and a list of labels."""

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        assert not download
        self.data = np.stack([np.full((4, 5, 3), (i, 10, 20), np.uint8) for i in range(6 if train else 2)])
        self.targets = [*range(len(self.data))]


class SplitArgument:
    """As SVHN: an argument `split`, channels first, and `labels`."""

    def __init__(self, root: str, split: str = "train", download: bool = False) -> None:
        assert not download
        self.data = np.moveaxis(ChannelsLast(root, split == "train").data, -1, 1)
        self.labels = np.arange(len(self.data))


class Items:
    """As datasets of image files: items only."""

    def __init__(self, root: str, split: str = "train", download: bool = False) -> None:
        assert not download
        self.pixels = ChannelsLast(root, split == "train").data

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.pixels[index]), index


class NoSplits:
    """As FakeData: no argument for the split."""

    def __init__(self, root: str, download: bool = False) -> None:
        raise AssertionError("nothing is read")


class ThreeClasses:
    """Different images of classes 0, 1, 2 in turn."""

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        self.data = byte_tensor(24 if train else 9, 4, 4, seed=int(train))
        self.targets = self.classes(torch.arange(len(self.data)))

    def classes(self, number: torch.Tensor) -> torch.Tensor:
        return number % 3


class NoZeroInValidation(ThreeClasses):
    def classes(self, number: torch.Tensor) -> torch.Tensor:
        return torch.where(number < 18, number % 3, 1)


class ManyClasses(ThreeClasses):
    def classes(self, number: torch.Tensor) -> torch.Tensor:
        return number


class Unlabelled(Items):
    def __getitem__(self, index: int) -> Any:
        return Image.fromarray(self.pixels[index])


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., TorchvisionSpec]:
    """Replaces torchvision's datasets by the classes above; returns a spec of one of them."""
    classes = (
        ChannelsLast, SplitArgument, Items, NoSplits, ThreeClasses, NoZeroInValidation, ManyClasses, Unlabelled
    )  # fmt: skip
    module = SimpleNamespace(**{cls.__name__: cls for cls in classes})
    monkeypatch.setattr(torchvision, "torchvision_datasets", lambda: module)

    def spec(cls: type[Any] = ThreeClasses, holdout: int = 6, **options: Any) -> TorchvisionSpec:
        data = {"kind": "torchvision", "name": cls.__name__, "holdout": holdout, **options}
        return TorchvisionSpec.model_validate(data)

    return spec


@pytest.mark.parametrize("cls", [ChannelsLast, SplitArgument, Items])
def test_every_interface_gives_the_same_samples(fake: Any, cls: type[Any]) -> None:
    train, validation, test = (fake(cls, holdout=2).load(split) for split in SPLITS)
    assert train.inputs.shape == (4, 3, 4, 5)
    assert train.inputs.dtype == torch.uint8
    assert train.inputs.is_contiguous()
    assert train.inputs[3, :, 2, 2].tolist() == [3, 10, 20]
    assert [part.labels.tolist() for part in (train, validation, test)] == [[0, 1, 2, 3], [4, 5], [0, 1]]


def test_dataset_without_splits_is_rejected(fake: Any) -> None:
    with data_error("", "torchvision's NoSplits has no training and test split"):
        fake(NoSplits).load("test")


# -- classes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("classes", [(1,), (0, 2), (2, 0), (0, 1, 2)])
def test_classes_select_samples_in_order(fake: Any, classes: tuple[int, ...], split: Split) -> None:
    everything, chosen = fake().load(split), fake(classes=classes).load(split)
    rows = [row for row, label in enumerate(everything.labels.tolist()) if label in classes]
    assert len(chosen) == len(rows) == len(everything) * len(classes) // 3
    assert torch.equal(chosen.inputs, everything.inputs[rows])
    assert torch.equal(chosen.labels, everything.labels[rows])
    # An index would keep the whole dataset in memory.
    assert chosen.index is None


@pytest.mark.parametrize(
    ("cls", "classes", "split", "missing", "found"),
    [
        (ThreeClasses, [7], "train", 7, "0, 1, 2"),
        (ThreeClasses, [1, 9, 8], "test", 9, "0, 1, 2"),
        (NoZeroInValidation, [0], "validation", 0, "1"),
        # At most 20 labels are listed.
        (ManyClasses, [30], "train", 30, ", ".join(map(str, range(20)))),
    ],
)
def test_missing_class_is_rejected(
    fake: Any, cls: type[Any], classes: list[int], split: Split, missing: int, found: str
) -> None:
    message = f"classes: no sample has label {missing}; found labels {found}"
    with data_error("", message, message):
        fake(cls, holdout=1 if cls is ManyClasses else 6, classes=classes).load(split)


def test_classes_need_labels(fake: Any) -> None:
    assert len(fake(Unlabelled).load("test")) == 2
    with data_error("", "classes: the dataset has no labels"):
        fake(Unlabelled, classes=[1]).load("test")


SPEC = small_spec()


@named
@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        ([], "classes: expected at least one label and no duplicates"),
        ([3, 3], "classes: expected at least one label and no duplicates"),
        ([1, 2, 1], "classes: expected at least one label and no duplicates"),
        ([3, -1], "classes.1: expected greater than or equal to 0, found -1"),
        ([1.5], "classes.0: expected an integer, found 1.5"),
        (["3"], "classes.0: expected an integer, found '3'"),
        ([True], "classes.0: expected an integer, found True"),
        (3, "classes: expected a list, found 3"),
    ],
)
def test_invalid_classes_are_rejected(data: dict[str, Any], classes: object, problem: str) -> None:
    with pytest.raises(aezoo.SpecError) as error:
        SPEC.replace({"recipe.dataset": data | {"classes": classes}})
    assert str(error.value) == f"recipe.dataset.{problem}"


@named
@pytest.mark.parametrize("classes", [None, (3,), (8, 0)])
def test_classes_survive_json_and_yaml(data: dict[str, Any], classes: tuple[int, ...] | None) -> None:
    spec = SPEC.replace({"recipe.dataset": data | {"classes": classes}})
    assert cast(Any, spec.recipe.dataset).classes == classes
    assert (spec == SPEC.replace({"recipe.dataset": data})) == (classes is None)
    assert aezoo.VariantSpec.model_validate_json(spec.model_dump_json()) == spec
    Path("spec.yaml").write_text(aezoo.to_yaml(spec))
    assert aezoo.read_spec("spec.yaml") == spec
    assert ("classes" in Path("spec.yaml").read_text()) == (classes is not None)


# -- torchvision with a CPU build of torch ------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("order", ["aezoo first", "torchvision first"])
def test_torchvision_can_be_imported_in_any_order(order: str) -> None:
    directly = """
try:
    import torchvision.datasets
except RuntimeError as error:
    assert "torchvision::nms" in str(error)
"""
    through_aezoo = """
from aezoo.data.datasets.torchvision import torchvision_datasets
found = torchvision_datasets()
assert found is torchvision_datasets()
assert found.MNIST.__name__ == "MNIST"
import torchvision.datasets, torchvision.transforms
assert torchvision.datasets is found
"""
    script = through_aezoo if order == "aezoo first" else directly + through_aezoo
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_operators_are_not_declared_if_the_import_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace()

    def import_module(name: str) -> SimpleNamespace:
        return module

    monkeypatch.setattr(importlib, "import_module", import_module)
    monkeypatch.setattr(torch.library, "Library", None)  # declaring an operator would call it
    assert torchvision_datasets() is module


def test_other_import_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError(f"{name} is broken")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(RuntimeError, match=r"^torchvision\.datasets is broken$"):
        torchvision_datasets()
