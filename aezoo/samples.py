"""Data as batches, from whatever a person hands over.

What fits in memory stays as it came (bytes, mostly) in one tensor, and is sliced and scaled a batch at a
time. That is several times faster than passing every sample through transforms and a loader.
"""

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import IterableDataset

from aezoo.errors import DataError
from aezoo.specs import AutoencoderSpec, DatasetSpec, TensorSpec
from aezoo.transforms import Scaler, check_values, from_numpy, is_image, scale_bytes, with_batch_axis

if TYPE_CHECKING:
    from PIL.Image import Image


BLOCK = 4096
"""Samples that a pass over all of them reads at once."""


class Rows(NamedTuple):
    """Some samples: inputs and targets scaled to their ranges, labels or None."""

    input: Tensor
    target: Tensor
    labels: Tensor | None

    def to(self, device: torch.device) -> "Rows":
        """The same rows on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        return Rows(self.input.to(device), self.target.to(device), labels)


@dataclass(frozen=True)
class Samples:
    """A split of a dataset, as it came.

    Attributes:
        inputs: (n, *shape), uint8 or floating point.
        targets: (n, *shape), or None where the input is its own target.
        labels: (n,), or None.
        index: which rows of these tensors make up the split, in this order; None for all of them.
        mapped: whether the tensors lie in a file; they are then read a batch at a time and never copied
            as a whole.
        scaler: what the inputs were scaled by, where that was fitted to the training split.
        columns: names of the values of an input, where they come from a table.
    """

    inputs: Tensor
    targets: Tensor | None = None
    labels: Tensor | None = None
    index: Tensor | None = None
    mapped: bool = False
    scaler: Scaler | None = None
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.inputs.ndim == 0:
            raise DataError("a single number holds no samples")
        for name, tensor in (("targets", self.targets), ("labels", self.labels)):
            if tensor is not None and len(tensor) != len(self.inputs):
                raise DataError(f"{len(self.inputs)} inputs but {len(tensor)} {name}")

    def __len__(self) -> int:
        return len(self.inputs if self.index is None else self.index)

    def __getitem__(self, index: slice | Tensor) -> "Samples":
        if self.mapped or self.index is not None:
            return self.only(torch.arange(len(self))[index])
        return self._each(lambda t: t[index])

    def only(self, index: Tensor) -> "Samples":
        """Some of these samples, sharing the tensors."""
        return replace(self, index=index if self.index is None else self.index[index])

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Samples":
        inputs, targets, labels = (None if t is None else change(t) for t in self._tensors())
        assert inputs is not None
        return replace(self, inputs=inputs, targets=targets, labels=labels)

    def _tensors(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        return self.inputs, self.targets, self.labels

    def _taken(self) -> "Samples":
        """The same samples with tensors that hold them and no others."""
        if self.index is None:
            return self
        index = self.index
        return replace(self._each(lambda t: t[index]), index=None)

    def joined(self, other: "Samples") -> "Samples":
        """These samples and then the others.

        Raises:
            DataError: one has targets or labels and the other has none.
        """
        for name in ("targets", "labels"):
            if (getattr(self, name) is None) != (getattr(other, name) is None):
                raise DataError(f"only one of the two has {name}")
        if (
            self.index is not None
            and other.index is not None
            and self.inputs.data_ptr() == other.inputs.data_ptr()
            and self.inputs.shape == other.inputs.shape
        ):
            return replace(self, index=torch.cat([self.index, other.index]))
        first, second = self._taken(), other._taken()
        rest = iter([t for t in second._tensors() if t is not None])
        return replace(first._each(lambda t: torch.cat([t, next(rest)])), mapped=False)

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
        try:
            inputs = _fitted(self.inputs, spec.input, "input")
        except DataError as error:
            if self.scaler is None or spec.input.range is None:
                raise
            raise DataError(f"scale: standard leaves no bounds, leave `input.range` out: {error}") from error
        if self.targets is None and spec.output != spec.input:
            _fitted(self.inputs, spec.output, "target")
        targets = None if self.targets is None else _fitted(self.targets, spec.output, "target")
        return replace(self, inputs=inputs, targets=targets)

    def to(self, device: torch.device) -> "Samples":
        """The same samples on a device; mapped ones stay where they are, to follow batch by batch."""
        if self.mapped or self.inputs.device == device:
            return self
        return self._taken()._each(lambda t: t.to(device))

    def rows(self, index: slice | Tensor, spec: AutoencoderSpec) -> Rows:
        """Some samples as a network and a loss see them.

        Args:
            index: which ones, on the device of `inputs`.
            spec: whose ranges bytes are scaled to.
        """
        where = index if self.index is None else self.index[index]
        x = _scaled(self.inputs[where], spec.input)
        if self.targets is None and spec.output.range == spec.input.range:
            target = x
        else:
            target = _scaled((self.inputs if self.targets is None else self.targets)[where], spec.output)
        return Rows(x, target, None if self.labels is None else self.labels[where])

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
            digest.update(f"{tensor.dtype} {(len(self), *tensor.shape[1:])}".encode())
            for start in range(0, len(self), BLOCK):
                block = slice(start, start + BLOCK)
                rows = tensor[block if self.index is None else self.index[block]]
                digest.update(rows.contiguous().cpu().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def target_mean(self, spec: AutoencoderSpec) -> Tensor:
        """The mean target, summed in double precision, as float32 of the target's shape."""
        total = torch.zeros(spec.output.shape, dtype=torch.float64)
        for rows in self.in_order(spec, BLOCK):
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


# -- pairs --------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """An item of `Pairs`: what goes in, what should come out, and the label that was set aside."""

    input: Any
    target: Any
    label: Any


class UnlabelledPair(NamedTuple):
    """The same of a dataset without labels; a loader could not stack None."""

    input: Any
    target: Any

    @property
    def label(self) -> None:
        """None."""


class Pairs:
    """A map-style dataset of (input, target, label), made by `pairs`."""

    def __init__(
        self,
        dataset: "MapDataset",
        input_transform: Callable[[Any], Any] | None,
        target_transform: Callable[[Any], Any] | None,
    ) -> None:
        self.dataset = dataset
        self.input_transform = input_transform
        self.target_transform = target_transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Pair | UnlabelledPair:
        item: object = self.dataset[index]
        sample, label = item, None
        if isinstance(item, tuple | list):
            parts = cast(Sequence[object], item)
            if len(parts) not in (1, 2):
                raise DataError(f"item {index} has {len(parts)} parts; (sample, label) is expected")
            sample, label = (*parts, None)[:2]
        # A transform that writes in place must reach neither the dataset nor the other transform's sample.
        made = _made(copy.deepcopy(sample), self.input_transform)
        target = _made(copy.deepcopy(sample), self.target_transform)
        target = copy.deepcopy(target) if _overlap(made, target) else target
        return UnlabelledPair(made, target) if label is None else Pair(made, target, label)


def _made(sample: object, transform: Callable[[Any], Any] | None) -> object:
    return sample if transform is None else transform(sample)


def _overlap(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.may_share_memory(cast(Any, a), cast(Any, b))
    # A tensor may be a view of an array; a copy too many is cheap.
    return a is b or (isinstance(a, Tensor | np.ndarray) and isinstance(b, Tensor | np.ndarray))


def pairs(
    dataset: "MapDataset",
    input_transform: Callable[[Any], Any] | None = None,
    target_transform: Callable[[Any], Any] | None = None,
) -> Pairs:
    """Makes (input, target) pairs for an autoencoder of any supervised dataset, labels kept aside.

        gray_to_colour = aezoo.pairs(dataset, input_transform=Grayscale())

    `aezoo.train(spec, data=...)` takes the result; so does a `DataLoader`. Training runs the transforms
    once for each item: a corruption that should be drawn anew in every epoch belongs in `recipe.noises`.

    Args:
        dataset: map-style; items are samples or (sample, label).
        input_transform: applied to a copy of the sample, to give the input.
        target_transform: applied to another copy, to give the target.

    Returns:
        A map-style dataset of `(input, target, label)`; input and target never share memory. The label
        is None where the dataset has none.
    """
    return Pairs(dataset, input_transform, target_transform)


# -- what a person hands to train ---------------------------------------------------------------------


@runtime_checkable
class MapDataset(Protocol):
    """PyTorch's map-style dataset."""

    def __len__(self) -> int:
        """How many items."""
        ...

    def __getitem__(self, index: int) -> Any:
        """One item: a sample, (sample, label), (input, target) or (input, target, label)."""
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
            target), or a map-style dataset whose items are samples, (sample, label), (input, target) or
            (input, target, label).
        spec: what the data must fit.
        seed: of the tenth that is held out for validation, unless the dataset has a split of its own.

    Raises:
        DataError: data of another kind, or that do not fit.
    """
    if isinstance(data, DatasetSpec):
        train, validation = (data.load(split).fitted_to(spec) for split in ("train", "validation"))
        name = str(data.declared_kind)
        return Data(name, train, validation, data.held_out(), data, spec)
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
            inputs, targets = (as_samples(part).inputs for part in pair)
            return Samples(inputs, targets)
    # Keys are no indices, and a stream that knows its length is still no map.
    elif isinstance(data, MapDataset) and not isinstance(data, Mapping | str | type | IterableDataset):
        return collected(data)
    raise DataError(
        "expected a tensor, an array, an (input, target) pair of them, a map-style dataset or a dataset "
        f"spec, found {what}"
    )


def collected(data: MapDataset) -> Samples:
    """Every item of a map-style dataset, stacked.

    Raises:
        DataError: no items, or items that differ in shape or in what they hold.
    """
    if len(data) == 0:
        raise DataError("there are no samples")
    columns: list[list[Tensor]] = [[], [], []]
    for index in range(len(data)):
        item: object = data[index]
        parts = list(cast(Sequence[object], item)) if isinstance(item, tuple | list) else [item]
        if not 1 <= len(parts) <= 3:
            raise DataError(
                f"item {index} has {len(parts)} parts; a sample, (sample, label), (input, target) or "
                "(input, target, label) is expected"
            )
        for column, part in zip(columns, parts, strict=False):
            if part is not None or column is columns[0]:
                column.append(_as_tensor(part, index))
    for what, column in zip(("target or label", "label"), columns[1:], strict=True):
        if column and len(column) != len(data):
            raise DataError(f"{len(column)} of {len(data)} items have a {what}; all or none are expected")
    try:
        inputs, second, third = (torch.stack(column) if column else None for column in columns)
    except (RuntimeError, ValueError) as error:
        raise DataError(f"the items differ in shape: {str(error).splitlines()[0]}") from error
    assert inputs is not None
    if second is None or third is not None or second.ndim > 1:
        return Samples(inputs, second, third)
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
