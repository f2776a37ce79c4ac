"""Data as batches, from whatever a person hands over.

What fits in memory stays as it came (bytes, mostly) in one tensor, and is sliced and scaled a batch at a
time. That is several times faster than passing every sample through transforms and a loader.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import IterableDataset

from aezoo.data.transforms import from_numpy, is_image
from aezoo.errors import DataError
from aezoo.specs.components import DatasetSpec
from aezoo.specs.variant import AutoencoderSpec

if TYPE_CHECKING:
    from PIL.Image import Image
from aezoo.data.samples import Samples


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
class Splits:
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
        return self._dataset.load("test").validated_for(self._spec)


def prepare_splits(data: object, spec: AutoencoderSpec, seed: int) -> Splits:
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
        train, validation = (data.load(split).validated_for(spec) for split in ("train", "validation"))
        name = str(data.kind_name)
        return Splits(name, train, validation, data.validation_note(), data, spec)
    samples = as_samples(data).validated_for(spec)
    if len(samples) < 2:
        raise DataError(f"{len(samples)} sample is too few to hold one out for validation")
    order = torch.randperm(len(samples), generator=Generator().manual_seed(seed))
    held = max(1, len(samples) // 10)
    return Splits(
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
        return stack_items(data)
    raise DataError(
        "expected a tensor, an array, an (input, target) pair of them, a map-style dataset or a dataset "
        f"spec, found {what}"
    )


def stack_items(data: MapDataset) -> Samples:
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
