"""User data to samples: tensors, arrays, map-style datasets and dataset specs become splits for training."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import IterableDataset

from aezoo.data.samples import Samples
from aezoo.data.transforms import from_numpy, is_image
from aezoo.errors import DataError
from aezoo.specs.components import DatasetSpec
from aezoo.specs.variant import AutoencoderSpec

if TYPE_CHECKING:
    from PIL.Image import Image


@runtime_checkable
class MapDataset(Protocol):
    """Protocol of PyTorch's map-style datasets."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class LabelledItem(NamedTuple):
    """An item of an `InputTargetDataset` with a label."""

    input: Any
    target: Any
    label: Any


class UnlabelledItem(NamedTuple):
    """An item of an `InputTargetDataset` without a label; a data loader could not collate a None."""

    input: Any
    target: Any

    @property
    def label(self) -> None:
        """Always None."""


@dataclass(eq=False, repr=False)
class InputTargetDataset:
    """A map-style dataset of (input, target) or (input, target, label), returned by `aezoo.pairs`."""

    dataset: MapDataset
    input_transform: Callable[[Any], Any] | None = None
    target_transform: Callable[[Any], Any] | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> LabelledItem | UnlabelledItem:
        item: object = self.dataset[index]
        sample, label = item, None
        if isinstance(item, tuple | list):
            parts = cast(Sequence[object], item)
            if len(parts) not in (1, 2):
                raise DataError(f"expected (sample, label) as item {index}, found {len(parts)} parts")
            sample, label = (*parts, None)[:2]
        # Copies, because a transform may work in place.
        made, target = (
            copy.deepcopy(sample) if transform is None else transform(copy.deepcopy(sample))
            for transform in (self.input_transform, self.target_transform)
        )
        target = copy.deepcopy(target) if _may_share_memory(made, target) else target
        return UnlabelledItem(made, target) if label is None else LabelledItem(made, target, label)


def _may_share_memory(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.may_share_memory(cast(Any, a), cast(Any, b))
    # A tensor may be a view of an array.
    return a is b or (isinstance(a, Tensor | np.ndarray) and isinstance(b, Tensor | np.ndarray))


def pairs(
    dataset: MapDataset,
    input_transform: Callable[[Any], Any] | None = None,
    target_transform: Callable[[Any], Any] | None = None,
) -> InputTargetDataset:
    """Makes (input, target) pairs from any dataset; labels are kept.

        gray_to_colour = aezoo.pairs(dataset, input_transform=Grayscale())

    `aezoo.train(spec, data=...)` and `DataLoader` accept the result. Training runs the transforms once per
    item; a corruption to be drawn again in every epoch belongs in `recipe.noises`.

    Args:
        dataset: map-style; items are samples or (sample, label).
        input_transform: computes the input from a copy of the sample; by default the copy itself.
        target_transform: computes the target from another copy of the sample; by default the copy itself.

    Returns:
        A map-style dataset whose items have the attributes `input`, `target` and `label` (None without
        labels). Input and target never share memory.
    """
    return InputTargetDataset(dataset, input_transform, target_transform)


@dataclass
class Splits:
    """The splits of a training run, validated for its spec.

    Attributes:
        name: name of the dataset in records.
        train: training split.
        validation: validation split, used for early stopping and every other choice.
        validation_note: how the validation split was chosen, in words.
    """

    name: str
    train: Samples
    validation: Samples
    validation_note: str
    _dataset: DatasetSpec | None = None
    _spec: AutoencoderSpec | None = None

    @property
    def has_test(self) -> bool:
        """Whether there is a test split."""
        return self._dataset is not None and self._dataset.has("test")

    @cached_property
    def test(self) -> Samples:
        """The test split, read on first access.

        Raises:
            DataError: there is no test split, or it does not match the spec.
        """
        if self._dataset is None or self._spec is None:
            raise DataError(f"{self.name} has no test split")
        return self._dataset.load("test").validated_for(self._spec)


def prepare_splits(data: object, spec: AutoencoderSpec, seed: int) -> Splits:
    """Loads or draws training and validation splits and checks them against a spec.

    Args:
        data: a `DatasetSpec`, which has its own validation split; or a `Samples`, a tensor or an array
            (n, *shape), a tuple (input, target) of these, or a map-style dataset whose items are samples,
            (sample, label), (input, target) or (input, target, label).
        spec: shapes and ranges of input and target.
        seed: seed for drawing a tenth of the samples, at least one, for validation.

    Raises:
        DataError: unsupported data, data that do not match the spec, or fewer than two samples.
    """
    if isinstance(data, DatasetSpec):
        train, validation = (data.load(split).validated_for(spec) for split in ("train", "validation"))
        return Splits(str(data.kind_name), train, validation, data.validation_note(), data, spec)
    samples = as_samples(data).validated_for(spec)
    n, n_validation = len(samples), max(1, len(samples) // 10)
    if n < 2:
        raise DataError(f"{n} sample is too few to hold one out for validation")
    order = torch.randperm(n, generator=Generator().manual_seed(seed))
    train, validation = samples[order[n_validation:]], samples[order[:n_validation]]
    note = f"{n_validation} of {n} samples, drawn with seed {seed}"
    return Splits(type(data).__name__, train, validation, note)


def as_samples(data: object) -> Samples:
    """Converts a tensor, an array, a tuple (input, target) of these, or a map-style dataset to `Samples`.

    Raises:
        DataError: unsupported data, or items of different shapes.
    """
    found = type(data).__name__
    if isinstance(data, Samples):
        return data
    if isinstance(data, Tensor):
        return Samples(data)
    if isinstance(data, np.ndarray):
        return Samples(from_numpy(cast(Any, data)))
    if isinstance(data, tuple):
        parts = cast(tuple[object, ...], data)
        if len(parts) == 2 and all(isinstance(part, Tensor | np.ndarray) for part in parts):
            inputs, targets = (as_samples(part).inputs for part in parts)
            return Samples(inputs, targets)
    # A mapping is not indexed by number, and a sized IterableDataset is not indexed at all.
    elif isinstance(data, MapDataset) and not isinstance(data, Mapping | str | type | IterableDataset):
        return stack_items(data)
    raise DataError(
        "expected a tensor, an array, an (input, target) tuple of these, a map-style dataset or a dataset "
        f"spec, found {found}"
    )


def stack_items(data: MapDataset) -> Samples:
    """Reads and stacks every item of a map-style dataset.

    The second part of an item is its label if it is a number, otherwise its target.

    Raises:
        DataError: no items, or items that differ in shape or in their parts.
    """
    if len(data) == 0:
        raise DataError("there are no samples")
    columns: list[list[Tensor]] = [[], [], []]
    for index in range(len(data)):
        item: object = data[index]
        parts = list(cast(Sequence[object], item)) if isinstance(item, tuple | list) else [item]
        if not 1 <= len(parts) <= 3:
            raise DataError(
                "expected a sample, (sample, label), (input, target) or (input, target, label) as item "
                f"{index}, found {len(parts)} parts"
            )
        for column, part in zip(columns, parts, strict=False):
            if part is not None or column is columns[0]:
                column.append(_as_tensor(part, index))
    for what, column in zip(("target or label", "label"), columns[1:], strict=True):
        if column and len(column) != len(data):
            raise DataError(f"expected a {what} in every item or in none, found {len(column)} of {len(data)}")
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
        found = type(part).__name__
        raise DataError(f"expected an image or numbers in item {index}, found {found}") from error
