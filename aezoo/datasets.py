"""Data as batches: named datasets, and whatever a person hands to `train`.

What fits in memory stays as it came (bytes, mostly) in one tensor, and is sliced and scaled a batch at a
time. That is several times faster than passing every sample through transforms and a loader.
"""

import hashlib
import importlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import IterableDataset

from aezoo.errors import DataError
from aezoo.families import Count
from aezoo.hookspecs import Register, hookimpl
from aezoo.specs import AutoencoderSpec, DatasetSpec, Split, TensorSpec
from aezoo.transforms import check_values, from_numpy, is_image, scale_bytes, with_batch_axis

if TYPE_CHECKING:
    from PIL.Image import Image

HOLDOUT = 10_000
"""Training images of MNIST and Fashion-MNIST, the last ones, that make up their validation split."""


class Rows(NamedTuple):
    """Some samples: inputs and targets scaled to their ranges, labels or None."""

    input: Tensor
    target: Tensor
    labels: Tensor | None


@dataclass(frozen=True)
class Samples:
    """A split of a dataset in memory, as it came.

    Attributes:
        inputs: (n, *shape), uint8 or floating point.
        targets: (n, *shape), or None where the input is its own target.
        labels: (n,), whole numbers, or None.
    """

    inputs: Tensor
    targets: Tensor | None = None
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        if self.inputs.ndim == 0:
            raise DataError("a single number holds no samples")
        for name, tensor in (("targets", self.targets), ("labels", self.labels)):
            if tensor is not None and len(tensor) != len(self.inputs):
                raise DataError(f"{len(self.inputs)} inputs but {len(tensor)} {name}")

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: slice | Tensor) -> "Samples":
        return self._each(lambda t: t[index])

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Samples":
        targets = None if self.targets is None else change(self.targets)
        return Samples(change(self.inputs), targets, None if self.labels is None else change(self.labels))

    def _tensors(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        return self.inputs, self.targets, self.labels

    def joined(self, other: "Samples") -> "Samples":
        """These samples and then the others.

        Raises:
            DataError: one has targets or labels and the other has none.
        """
        for name in ("targets", "labels"):
            if (getattr(self, name) is None) != (getattr(other, name) is None):
                raise DataError(f"only one of the two has {name}")
        pairs = zip(self._tensors(), other._tensors(), strict=True)
        inputs, targets, labels = (None if a is None or b is None else torch.cat([a, b]) for a, b in pairs)
        assert inputs is not None
        return Samples(inputs, targets, labels)

    def fitted_to(self, spec: AutoencoderSpec) -> "Samples":
        """The same samples, proven to be what a spec expects, with missing channel axes added.

        Raises:
            DataError: no samples, another shape or dtype, or values outside the declared range.
        """
        if len(self) == 0:
            raise DataError("there are no samples")
        if self.targets is None and spec.output.shape != spec.input.shape:
            raise DataError(
                f"the spec's target has shape {list(spec.output.shape)}, but the data bring inputs alone"
            )
        inputs = _fitted(self.inputs, spec.input, "input")
        if self.targets is None and spec.output != spec.input:
            _fitted(self.inputs, spec.output, "target")
        targets = None if self.targets is None else _fitted(self.targets, spec.output, "target")
        return Samples(inputs, targets, self.labels)

    def to(self, device: torch.device) -> "Samples":
        """The same samples on a device."""
        return self._each(lambda t: t.to(device))

    def rows(self, index: slice | Tensor, spec: AutoencoderSpec) -> Rows:
        """Some samples as a network and a loss see them.

        Args:
            index: which ones, on the samples' device.
            spec: whose ranges bytes are scaled to.
        """
        x = _scaled(self.inputs[index], spec.input)
        if self.targets is None and spec.output.range == spec.input.range:
            target = x
        else:
            target = _scaled((self.inputs if self.targets is None else self.targets)[index], spec.output)
        return Rows(x, target, None if self.labels is None else self.labels[index])

    def in_order(self, spec: AutoencoderSpec, size: int) -> Iterator[Rows]:
        """All samples, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.rows(slice(start, start + size), spec)

    def sha256(self) -> str:
        """A hash of all values, shapes and dtypes."""
        digest = hashlib.sha256()
        for tensor in self._tensors():
            if tensor is None:
                digest.update(b"none")
                continue
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().cpu().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def target_mean(self, spec: AutoencoderSpec) -> Tensor:
        """The mean target, summed in double precision, as float32 of the target's shape."""
        total = torch.zeros(spec.output.shape, dtype=torch.float64)
        for rows in self.in_order(spec, 4096):
            total += rows.target.double().sum(0).cpu()
        return (total / len(self)).float()


def _fitted(x: Tensor, spec: TensorSpec, what: str) -> Tensor:
    if x.dtype == torch.uint8:
        if spec.range is None:
            raise DataError(f"bytes need a declared range for the {what} to be scaled to")
    elif x.is_floating_point():
        x = x.float()
        check_values(x, spec)
    else:
        raise DataError(f"expected uint8 or floating point as {what}, found {x.dtype}")
    # A single sample would pass for a batch of channels.
    if tuple(x.shape) == spec.shape:
        raise DataError(f"expected a batch of {list(spec.shape)}, found a single one")
    return with_batch_axis(x, spec.shape)


def _scaled(x: Tensor, spec: TensorSpec) -> Tensor:
    return scale_bytes(x, spec.range) if x.dtype == torch.uint8 and spec.range else x


# -- what a person hands to train ---------------------------------------------------------------------


@runtime_checkable
class MapDataset(Protocol):
    """PyTorch's map-style dataset."""

    def __len__(self) -> int:
        """How many items."""
        ...

    def __getitem__(self, index: int) -> Any:
        """One item: a sample, (sample, label) or (input, target)."""
        ...


@dataclass
class Data:
    """The splits that a training uses.

    Attributes:
        name: as it stands in records.
        train: what the weights are fitted to.
        validation: what everything is chosen by.
        held_out: how the validation split came about, in words.
    """

    name: str
    train: Samples
    validation: Samples
    held_out: str
    _dataset: DatasetSpec | None = None
    _spec: AutoencoderSpec | None = None

    @property
    def has_test(self) -> bool:
        """Whether there is a test split."""
        return self._dataset is not None and self._dataset.has("test")

    @cached_property
    def test(self) -> Samples:
        """The test split, read when first asked for: once, after everything was chosen."""
        if self._dataset is None or self._spec is None:
            raise DataError(f"{self.name} has no test split")
        return self._dataset.load("test").fitted_to(self._spec)


def gather(data: object, spec: AutoencoderSpec, seed: int) -> Data:
    """Whatever was given, as splits that fit the spec.

    Args:
        data: a `DatasetSpec`, a `Samples`, a tensor or an array (n, *shape), a pair of them (input,
            target), or a map-style dataset whose items are samples, (sample, label) or (input, target).
        spec: what the data must fit.
        seed: of the tenth that is held out for validation, unless the dataset has a split of its own.

    Raises:
        DataError: data of another kind, or that do not fit.
    """
    if isinstance(data, DatasetSpec):
        train, validation = (data.load(split).fitted_to(spec) for split in ("train", "validation"))
        name = str(data.declared_kind)
        return Data(name, train, validation, "the dataset's own split", data, spec)
    samples = as_samples(data).fitted_to(spec)
    if len(samples) < 2:
        raise DataError(f"{len(samples)} sample is too few to hold one out for validation")
    order = torch.randperm(len(samples), generator=Generator().manual_seed(seed))
    held = max(1, len(samples) // 10)
    return Data(
        type(data).__name__, samples[order[held:]], samples[order[:held]],
        f"{held} of {len(samples)} samples, drawn with seed {seed}",
    )  # fmt: skip


def as_samples(data: object) -> Samples:
    """A tensor, an array, a pair of them or a map-style dataset as `Samples`.

    Raises:
        DataError: anything else, or items of different shapes.
    """
    what = type(data).__name__
    if isinstance(data, Samples):
        return data
    if isinstance(data, Tensor):
        return Samples(data)
    if isinstance(data, np.ndarray):
        return Samples(from_numpy(cast(Any, data)))
    if isinstance(data, tuple):
        pair = cast(tuple[object, ...], data)
        if len(pair) == 2 and all(isinstance(part, Tensor | np.ndarray) for part in pair):
            return Samples(*(as_samples(part).inputs for part in pair))
    # Keys are no indices, and a stream that knows its length is still no map.
    elif isinstance(data, MapDataset) and not isinstance(data, Mapping | str | type | IterableDataset):
        return _collected(data)
    raise DataError(
        "expected a tensor, an array, an (input, target) pair of them, a map-style dataset or a dataset "
        f"spec, found {what}"
    )


def _collected(data: MapDataset) -> Samples:
    if len(data) == 0:
        raise DataError("there are no samples")
    columns: list[list[Tensor]] = [[], []]
    for index in range(len(data)):
        item: object = data[index]
        parts = list(cast(Sequence[object], item)) if isinstance(item, tuple | list) else [item]
        if not 1 <= len(parts) <= 2:
            raise DataError(
                f"item {index} has {len(parts)} parts; a sample, or a sample and one more, is expected"
            )
        for column, part in zip(columns, parts, strict=False):
            column.append(_as_tensor(part, index))
    try:
        inputs = torch.stack(columns[0])
        second = torch.stack(columns[1]) if columns[1] else None
    except (RuntimeError, ValueError) as error:
        raise DataError(f"the items differ in shape: {str(error).splitlines()[0]}") from error
    if second is None or second.ndim > 1:
        return Samples(inputs, second)
    return Samples(inputs, None, second)


def _as_tensor(part: object, index: int) -> Tensor:
    if isinstance(part, Tensor):
        return part
    if isinstance(part, int | float | np.generic):
        return torch.tensor(part)
    if is_image(part) and (mode := cast("Image", part).mode) not in ("L", "RGB", "RGBA"):
        raise DataError(f"item {index} is a PIL image of mode {mode}; convert it to L or RGB")
    try:
        array = np.array(cast(Any, part))
        return from_numpy(np.moveaxis(array, -1, 0) if is_image(part) and array.ndim == 3 else array)
    except (TypeError, ValueError) as error:
        raise DataError(f"item {index} is a {type(part).__name__}, not a sample") from error


# -- named datasets -----------------------------------------------------------------------------------


def data_root() -> Path:
    """Where datasets lie: `AEZOO_DATA`, or aezoo's folder in the user's cache."""
    named = os.environ.get("AEZOO_DATA")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aezoo" / "data"


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


def _torchvision(name: str, train: bool) -> Samples:
    """A split of a torchvision dataset, found under `data_root()` or downloaded to it."""
    root = data_root()
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
            f"{name} is not under {root} and could not be downloaded ({reason}); set AEZOO_DATA to a "
            f"folder that holds it in torchvision's layout"
        ) from error
    return _from_torchvision(found)


def _from_torchvision(found: Any) -> Samples:
    pixels = getattr(found, "data", None)
    labels = getattr(found, "targets", getattr(found, "labels", None))
    if not isinstance(pixels, Tensor | np.ndarray) or labels is None:
        return _collected(found)
    inputs = pixels if isinstance(pixels, Tensor) else from_numpy(cast(Any, pixels))
    if inputs.ndim == 3:
        inputs = inputs[:, None]
    elif inputs.shape[-1] in (1, 3) and inputs.shape[1] not in (1, 3):
        inputs = inputs.permute(0, 3, 1, 2).contiguous()
    return Samples(inputs, None, torch.as_tensor(labels))


class _TorchvisionSplits(DatasetSpec):
    """Training, validation and test splits of a torchvision dataset."""

    def _name(self) -> str:
        raise TypeError(f"{type(self).__qualname__} names no dataset")

    def _holdout(self) -> int:
        return HOLDOUT

    def load(self, split: Split) -> Samples:
        """One split, uint8."""
        samples = _torchvision(self._name(), train=split != "test")
        if split == "test":
            return samples
        held = self._holdout()
        if held >= len(samples):
            raise DataError(f"{held} held-out samples leave none of {len(samples)} to train on")
        return samples[: len(samples) - held] if split == "train" else samples[len(samples) - held :]


class MnistSpec(_TorchvisionSplits):
    """MNIST handwritten digits, 28 x 28 gray; the last 10,000 training images are the validation split.

    LeCun, Bottou, Bengio and Haffner, Proc. IEEE 86 (1998).
    """

    kind: Literal["mnist"] = "mnist"

    def _name(self) -> str:
        return "MNIST"


class FashionMnistSpec(_TorchvisionSplits):
    """Fashion-MNIST clothing, 28 x 28 gray; the last 10,000 training images are the validation split.

    Xiao, Rasul and Vollgraf, arXiv:1708.07747.
    """

    kind: Literal["fashion_mnist"] = "fashion_mnist"

    def _name(self) -> str:
        return "FashionMNIST"


class TorchvisionSpec(_TorchvisionSplits):
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


@hookimpl
def register_datasets(register: Register) -> None:
    """Registers every built-in dataset."""
    for spec in (MnistSpec, FashionMnistSpec, TorchvisionSpec):
        register(spec)
