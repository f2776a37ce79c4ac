"""Datasets of torchvision, read from `AEZOO_DATA` or downloaded."""

import importlib
import inspect
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from pydantic import field_validator
from torch import Tensor
from typing_extensions import override

from aezoo.data.containers import from_numpy
from aezoo.data.datasets.files import data_root, one_line
from aezoo.data.inputs import stack_items
from aezoo.data.samples import Samples
from aezoo.errors import DataError
from aezoo.specs.base import Count, NonNegativeInt
from aezoo.specs.components import DatasetSpec, Split
from aezoo.specs.messages import validation_error

HOLDOUT = 10_000
"""Size of the validation split of MNIST and Fashion-MNIST: their last training images."""


def torchvision_datasets() -> Any:
    """Imports `torchvision.datasets`, also next to a CPU build of torch.

    PyPI's torchvision is built for CUDA. With a CPU build of torch its import fails, because it registers a
    fake kernel for the operator `nms`, which is not defined there. Datasets do not use the operator, so it is
    declared without an implementation, and only after the import failed for this reason.
    """
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)
    return importlib.import_module("torchvision.datasets")


_libraries: list[torch.library.Library] = []
"""Keeps declared operators alive, which are removed with their library object."""


def _read_torchvision(name: str, train: bool, root: Path, shown_root: Path) -> Samples:
    """Reads the training or test split of a dataset from `root`, downloading it if it is missing.

    Errors name `shown_root` as the folder.
    """
    datasets = torchvision_datasets()
    if not inspect.isclass(getattr(datasets, name, None)):
        raise DataError(f"torchvision has no dataset {name!r}")
    cls: Any = getattr(datasets, name)
    accepted = inspect.signature(cls).parameters
    if "train" in accepted:
        arguments: dict[str, Any] = {"train": train}
    elif "split" in accepted:
        arguments = {"split": "train" if train else "test"}
    else:
        raise DataError(f"torchvision's {name} has no training and test split")
    try:
        try:
            dataset = cls(str(root), download=False, **arguments)
        except RuntimeError:
            root.mkdir(parents=True, exist_ok=True)
            dataset = cls(str(root), download=True, **arguments)
    except Exception as error:
        raise DataError(
            f"{name} is not under {shown_root} and could not be downloaded ({one_line(error)}); set "
            "AEZOO_DATA to a folder that contains it in torchvision's layout"
        ) from error
    return _as_samples(dataset)


def _as_samples(dataset: Any) -> Samples:
    """Takes the images of a torchvision dataset as one array if it has one, otherwise item by item."""
    images = getattr(dataset, "data", None)
    labels = getattr(dataset, "targets", getattr(dataset, "labels", None))
    if not isinstance(images, Tensor | np.ndarray) or labels is None:
        return stack_items(dataset)
    inputs = images if isinstance(images, Tensor) else from_numpy(cast(Any, images))
    if inputs.ndim == 3:
        inputs = inputs[:, None]
    elif inputs.shape[-1] in (1, 3) and inputs.shape[1] not in (1, 3):
        inputs = inputs.permute(0, 3, 1, 2).contiguous()
    if not isinstance(labels, Tensor):
        labels = torch.as_tensor(labels, device=inputs.device)
    return Samples(inputs, None, labels)


class TorchvisionSplits(DatasetSpec):
    """Base class of torchvision datasets; the validation split is the last training samples.

    Attributes:
        dataset_name: name of the class in `torchvision.datasets`.
    """

    dataset_name: ClassVar[str]
    classes: tuple[NonNegativeInt, ...] | None = None
    """Labels to keep, in every split; None for all. A single label gives data for one-class detection."""

    @field_validator("classes")
    @classmethod
    def _check_classes(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (not value or len(set(value)) < len(value)):
            raise validation_error("expected at least one label and no duplicates")
        return value

    def _source(self) -> tuple[str, int]:
        """Name of the class in `torchvision.datasets`, and size of the validation split."""
        return self.dataset_name, HOLDOUT

    def fetch(self, root: Path) -> None:
        """Puts the dataset under a folder: copies it from `AEZOO_DATA`, or downloads it.

        Raises:
            DataError: the folder cannot be written, or the download failed.
        """
        name, _ = self._source()
        source, target = data_root() / name, root / name
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as folder:
                stage = root if target.exists() else Path(folder)
                if stage != root and source.is_dir():
                    shutil.copytree(source, stage / name)
                for train in (True, False):
                    _read_torchvision(name, train, stage, shown_root=root)
                if stage != root:
                    (stage / name).rename(target)
        except OSError as error:
            raise DataError(f"{name} could not be put under {root}: {one_line(error)}") from error

    @override
    def load(self, split: Split) -> Samples:
        name, holdout = self._source()
        samples = _read_torchvision(name, split != "test", data_root(), data_root())
        if split != "test":
            cut = len(samples) - holdout
            if cut <= 0:
                raise DataError(f"{holdout} validation samples leave none of {len(samples)} for training")
            samples = samples[:cut] if split == "train" else samples[cut:]
        return samples if self.classes is None else _of_classes(samples, self.classes)


def _of_classes(samples: Samples, classes: tuple[int, ...]) -> Samples:
    if samples.labels is None:
        raise DataError("classes: the dataset has no labels")
    found = sorted(set(cast(list[int], samples.labels.tolist())))
    if missing := [label for label in classes if label not in found]:
        raise DataError(
            f"classes: no sample has label {missing[0]}; found labels {', '.join(map(str, found[:20]))}"
        )
    # Not `select`, which would keep the whole dataset in memory.
    return samples[torch.isin(samples.labels, torch.tensor(classes)).nonzero()[:, 0]]


class MnistSpec(TorchvisionSplits):
    """MNIST: 70,000 handwritten digits.

    LeCun, Bottou, Bengio and Haffner, Proc. IEEE 86 (1998).

    Inputs are uint8, (n, 1, 28, 28); labels are 0 to 9. The splits have 50,000, 10,000 (the last training
    images) and 10,000 images.
    """

    kind: Literal["mnist"] = "mnist"
    examples = ({"classes": [3]},)
    hub_id = "ylecun/mnist"
    dataset_name = "MNIST"


class FashionMnistSpec(TorchvisionSplits):
    """Fashion-MNIST: 70,000 images of clothing.

    Xiao, Rasul and Vollgraf, arXiv:1708.07747.

    Inputs are uint8, (n, 1, 28, 28); labels are 0 to 9. The splits have 50,000, 10,000 (the last training
    images) and 10,000 images.
    """

    kind: Literal["fashion_mnist"] = "fashion_mnist"
    hub_id = "zalando-datasets/fashion_mnist"
    dataset_name = "FashionMNIST"


class TorchvisionSpec(TorchvisionSplits):
    """Any torchvision dataset with a training and a test split and images of one size.

    Inputs have torchvision's dtype, usually uint8, (n, channels, height, width); labels are torchvision's.
    """

    kind: Literal["torchvision"] = "torchvision"
    examples = ({"name": "CIFAR10"},)
    name: str
    """Name of the class in `torchvision.datasets`, such as CIFAR10."""
    holdout: Count = HOLDOUT
    """Size of the validation split: the last training samples."""

    @override
    def _source(self) -> tuple[str, int]:
        return self.name, self.holdout
