"""Datasets that torchvision knows, found under `AEZOO_DATA` or downloaded."""

import importlib
import inspect
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from pydantic import field_validator
from torch import Tensor

from aezoo.data.inputs import stack_items
from aezoo.data.samples import Samples
from aezoo.data.transforms import from_numpy
from aezoo.errors import DataError
from aezoo.specs.base import Count, NonNegativeInt
from aezoo.specs.components import DatasetSpec, Split
from aezoo.specs.messages import validation_error

HOLDOUT = 10_000
"""Training images of MNIST and Fashion-MNIST, the last ones, that make up their validation split."""


def data_root() -> Path:
    """Where datasets lie: `AEZOO_DATA`, or aezoo's folder in the user's cache."""
    named = os.environ.get("AEZOO_DATA")
    if named:
        return Path(named)
    return cache_root() / "data"


def cache_root() -> Path:
    """Aezoo's folder in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aezoo"


def torchvision_datasets() -> Any:
    """The module `torchvision.datasets`.

    PyPI's torchvision is built for CUDA. Beside a CPU build of torch, importing it fails because the
    operator `nms`, which it registers a fake kernel for, does not exist. Datasets need no such operator,
    so declaring it is enough; this is done only after an import has failed for that reason.
    """
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared_operators.append(library)
    return importlib.import_module("torchvision.datasets")


_declared_operators: list[torch.library.Library] = []
"""Kept alive: an operator goes with the library object that declared it."""


def _torchvision(name: str, train: bool, root: Path, shown: Path | None = None) -> Samples:
    """A split of a torchvision dataset, found under a folder or downloaded to it.

    Args:
        name: of its class.
        train: whether it is the training split.
        root: the folder.
        shown: what the folder will be called, for errors.
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
        raise DataError(f"torchvision's {name} has no training and test split to choose")
    try:
        try:
            found = cls(str(root), download=False, **arguments)
        except RuntimeError:
            root.mkdir(parents=True, exist_ok=True)
            found = cls(str(root), download=True, **arguments)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{name} is not under {shown or root} and could not be downloaded ({reason}); set AEZOO_DATA "
            f"to a folder that holds it in torchvision's layout"
        ) from error
    return _from_torchvision(found)


def _from_torchvision(found: Any) -> Samples:
    pixels = getattr(found, "data", None)
    labels = getattr(found, "targets", getattr(found, "labels", None))
    if not isinstance(pixels, Tensor | np.ndarray) or labels is None:
        return stack_items(found)
    inputs = pixels if isinstance(pixels, Tensor) else from_numpy(cast(Any, pixels))
    if inputs.ndim == 3:
        inputs = inputs[:, None]
    elif inputs.shape[-1] in (1, 3) and inputs.shape[1] not in (1, 3):
        inputs = inputs.permute(0, 3, 1, 2).contiguous()
    return Samples(inputs, None, torch.as_tensor(labels))


class TorchvisionSplits(DatasetSpec):
    """Training, validation and test splits of a torchvision dataset."""

    classes: tuple[NonNegativeInt, ...] | None = None
    """Labels to keep, in every split; None for all. One alone makes data for one-class detection."""

    @field_validator("classes")
    @classmethod
    def _are_some(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (not value or len(set(value)) < len(value)):
            raise validation_error("expected at least one label, each once")
        return value

    def _name(self) -> str:
        raise TypeError(f"{type(self).__qualname__} names no dataset")

    def _holdout(self) -> int:
        return HOLDOUT

    def fetch(self, root: Path) -> None:
        """Puts the dataset under a folder: from where it is on this machine, else by a download.

        Raises:
            DataError: neither could be done.
        """
        name = self._name()
        here, there = data_root() / name, root / name
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as folder:
                stage = root if there.exists() else Path(folder)
                if stage != root and here.is_dir():
                    shutil.copytree(here, stage / name)
                for train in (True, False):
                    _torchvision(name, train, stage, shown=root)
                if stage != root:
                    (stage / name).rename(there)
        except OSError as error:
            raise DataError(
                f"{name} could not be put under {root}: {' '.join(str(error).split())}"
            ) from error

    def load(self, split: Split) -> Samples:
        """One split, uint8."""
        samples = _torchvision(self._name(), split != "test", data_root())
        if split != "test":
            held = self._holdout()
            if held >= len(samples):
                raise DataError(f"{held} held-out samples leave none of {len(samples)} to train on")
            cut = len(samples) - held
            samples = samples[:cut] if split == "train" else samples[cut:]
        return samples if self.classes is None else _of_classes(samples, self.classes)


def _of_classes(samples: Samples, classes: tuple[int, ...]) -> Samples:
    if samples.labels is None:
        raise DataError("classes: the dataset has no labels")
    there = sorted(set(cast(list[int], samples.labels.tolist())))
    if absent := [label for label in classes if label not in there]:
        raise DataError(
            f"classes: no sample has label {absent[0]}; {', '.join(map(str, there[:20]))} are there"
        )
    # Taken out for good: an index would keep the whole dataset in memory.
    return samples[torch.isin(samples.labels, torch.tensor(classes)).nonzero()[:, 0]]


class MnistSpec(TorchvisionSplits):
    """MNIST handwritten digits, 28 x 28 gray; the last 10,000 training images are the validation split.

    LeCun, Bottou, Bengio and Haffner, Proc. IEEE 86 (1998).
    """

    kind: Literal["mnist"] = "mnist"
    hub_id = "ylecun/mnist"

    def _name(self) -> str:
        return "MNIST"


class FashionMnistSpec(TorchvisionSplits):
    """Fashion-MNIST clothing, 28 x 28 gray; the last 10,000 training images are the validation split.

    Xiao, Rasul and Vollgraf, arXiv:1708.07747.
    """

    kind: Literal["fashion_mnist"] = "fashion_mnist"
    hub_id = "zalando-datasets/fashion_mnist"

    def _name(self) -> str:
        return "FashionMNIST"


class TorchvisionSpec(TorchvisionSplits):
    """Any torchvision dataset with a training and a test split whose images have one size."""

    kind: Literal["torchvision"] = "torchvision"
    name: str
    """The class's name in `torchvision.datasets`, such as CIFAR10."""
    holdout: Count = HOLDOUT
    """Last training samples that make up the validation split."""

    def _name(self) -> str:
        return self.name

    def _holdout(self) -> int:
        return self.holdout
