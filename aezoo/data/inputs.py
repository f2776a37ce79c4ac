"""User data to samples: tensors, arrays, map-style datasets and dataset specs become splits for training."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from aezoo.data.containers import advice, from_numpy, is_table, plain_tensor, table_values
from aezoo.data.datasets.splits import hash_splits, load_splits
from aezoo.data.pixels import (
    PIL_MODES,
    check_image,
    image_errors,
    is_deep,
    is_image,
    stored_pixels,
    white_level,
)
from aezoo.data.samples import Samples
from aezoo.errors import AezooError, DataError, warn_diagnostic
from aezoo.specs.components import DatasetSpec
from aezoo.specs.variant import AutoencoderSpec

if TYPE_CHECKING:
    from PIL.Image import Image


VALIDATION_SHARE = 0.1
"""Share of data without splits of their own that is held out."""
READ_TWICE = 32
"""Items of a map-style dataset that are read a second time, to find random ones."""


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
            (sample, label), (input, target) or (input, target, label); or `Splits`, which are kept.
        spec: shapes and ranges of input and target.
        seed: seed for drawing about a tenth of the samples, at least one, for validation. A sample stays in
            its split when others are added.

    Raises:
        DataError: unsupported data, data that do not match the spec, or fewer than two samples.
    """
    if isinstance(data, Splits):
        train, validation = (split.validated_for(spec) for split in (data.train, data.validation))
        return replace(data, train=train, validation=validation)
    if isinstance(data, DatasetSpec):
        loaded = load_splits(data, ("train", "validation"))
        train, validation = (split.validated_for(spec) for split in loaded)
        return Splits(str(data.kind_name), train, validation, data.validation_note(), data, spec)
    samples = as_samples(data).validated_for(spec)
    n = len(samples)
    if n < 2:
        raise DataError(f"{n} sample is too few to hold one out for validation")
    x = samples.inputs if samples.index is None else samples.inputs[samples.index]
    rows = hash_splits(x, VALIDATION_SHARE, 0.0, seed)
    train, validation = samples[rows["train"]], samples[rows["validation"]]
    note = f"{len(validation)} of {n} samples, by a hash of each with seed {seed}"
    return Splits(type(data).__name__, train, validation, note)


def as_samples(data: object) -> Samples:
    """Converts a tensor, an array, a data frame, a tuple of arrays or a map-style dataset to `Samples`.

    Each column of a data frame is one value of the samples; its names are kept, its row index is not used.
    The second part of a tuple is the target, or the labels if it is one number per sample.

    Raises:
        DataError: unsupported data, or items of different shapes.
    """
    found = type(data).__name__
    if isinstance(data, Samples):
        return data
    if isinstance(data, Tensor | np.ndarray):
        return Samples(_tensor(cast(Any, data)))
    if isinstance(data, tuple):
        parts = cast(tuple[object, ...], data)
        if len(parts) == 2 and all(isinstance(part, Tensor | np.ndarray) for part in parts):
            return _input_and_second(*(_tensor(cast(Any, part)) for part in parts))
    elif is_frame(data):
        values, columns = table_values(data, exact=torch.float32)
        return Samples(torch.from_numpy(values), columns=columns)
    # A mapping is not indexed by number, and a sized IterableDataset is not indexed at all.
    elif (
        isinstance(data, MapDataset)
        and not isinstance(data, Mapping | str | bytes | type | IterableDataset)
        and not advice(data)
    ):
        return stack_items(data)
    raise DataError(
        "expected a tensor, an array, an (input, target) tuple of these, a map-style dataset, a data frame "
        f"or a dataset spec, found {found}{advice(cast(object, data))}"
    )


def is_frame(data: object) -> bool:
    """Whether data is a data frame, computed or lazy: two axes, and columns by name."""
    if isinstance(data, Mapping | Dataset):
        return False
    shape: tuple[int, ...] = getattr(data, "shape", ())
    return (is_table(data) and len(shape) == 2) or hasattr(data, "collect_schema")


def _tensor(data: "Tensor | NDArray[Any]") -> Tensor:
    return from_numpy(data) if isinstance(data, np.ndarray) else plain_tensor(data)


def _input_and_second(inputs: Tensor, second: Tensor) -> Samples:
    if inputs.ndim > 0 and second.ndim > 0 and len(inputs) != len(second):
        text = f"{len(inputs)} inputs but {len(second)} targets; a tuple is (input, target)"
        if inputs.shape[1:] == second.shape[1:]:
            text += ", not (training, validation), for which a dataset spec is needed"
        raise DataError(text)
    return Samples(inputs, None, second) if second.ndim == 1 else Samples(inputs, second)


def stack_items(data: MapDataset) -> Samples:
    """Reads and stacks every item of a map-style dataset.

    The second part of an item is its label if it is a number, otherwise its target. A few items are read
    twice; if they differ, a warning says that the items are random.

    Raises:
        DataError: no items, an item that cannot be read, or items that differ in shape, dtype or parts.
    """
    n = len(data)
    if n == 0:
        raise DataError("there are no samples")
    columns: list[list[Tensor]] = [[], [], []]
    for index in range(n):
        parts = read_item(data, index)
        for column, part in zip(columns, parts, strict=False):
            if part is not None or column is columns[0]:
                column.append(_as_tensor(part, index))
    for what, column in zip(("target or label", "label"), columns[1:], strict=True):
        if column and len(column) != n:
            raise DataError(f"expected a {what} in every item or in none, found {len(column)} of {n}")
    inputs, second, third = (_stacked(column) if column else None for column in columns)
    assert inputs is not None
    warn_random_items(data, [inputs] if second is None else [inputs, second])
    if second is None or third is not None or second.ndim > 1:
        return Samples(inputs, second, third)
    return Samples(inputs, None, second)


def read_item(data: MapDataset, index: int) -> list[object]:
    """The parts of an item: sample, target or label, label.

    Raises:
        DataError: the item cannot be read or has other parts.
    """
    try:
        item: object = data[index]
    except AezooError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise DataError(f"item {index} cannot be read: {type(error).__name__}: {reason}") from error
    parts = list(cast(Sequence[object], item)) if isinstance(item, tuple | list) else [item]
    if not 1 <= len(parts) <= 3:
        raise DataError(
            "expected a sample, (sample, label), (input, target) or (input, target, label) as item "
            f"{index}, found {len(parts)} parts"
        )
    return parts


def warn_random_items(data: MapDataset, read: Sequence[Tensor]) -> None:
    """Warns if the input or the target of an item that is read again differs from what was read before.

    Args:
        data: the dataset.
        read: the inputs, (n, *shape), and the targets or labels, if there are any.
    """
    n = len(read[0])
    for index in sorted({round(i * (n - 1) / (READ_TWICE - 1)) for i in range(READ_TWICE)}):
        again = [_as_tensor(part, index) for part in read_item(data, index)[: len(read)] if part is not None]
        for first, second in zip(read, again, strict=False):
            if second.shape != first.shape[1:] or not torch.equal(second.to(first), first[index]):
                warn_diagnostic(
                    "random-items",
                    f"item {index} differs when it is read twice. Every item is read once, so that a random "
                    "transform is drawn only once, for the validation split as well. Remove it; for noise "
                    "that is drawn again in every epoch, use `recipe.noises`",
                )
                return


def _stacked(parts: list[Tensor]) -> Tensor:
    first = parts[0]
    for index, part in enumerate(parts):
        if part.dtype != first.dtype and not (part.is_floating_point() and first.is_floating_point()):
            raise DataError(
                f"the items differ in dtype: {first.dtype} in item 0, {part.dtype} in item {index}"
            )
    try:
        return torch.stack(parts)
    except (RuntimeError, ValueError) as error:
        raise DataError(f"the items differ in shape: {str(error).splitlines()[0]}") from error


def _as_tensor(part: object, index: int) -> Tensor:
    if isinstance(part, Tensor):
        return plain_tensor(part)
    if is_image(part):
        image = cast("Image", part)
        with image_errors(f"item {index}"):
            check_image(image)
        if image.mode not in PIL_MODES.values():
            raise DataError(f"item {index} is a PIL image of mode {image.mode}; {_image_advice(image)}")
        with image_errors(f"item {index}"):
            return from_numpy(stored_pixels(image))
    try:
        # A masked array keeps its mask.
        array = np.array(cast(Any, part), subok=isinstance(part, np.ma.MaskedArray))
        return from_numpy(array)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        reason = str(error) if isinstance(part, np.ndarray) else f"found {type(part).__name__}{advice(part)}"
        if isinstance(part, str):
            reason += "; a label is a number"
        raise DataError(f"expected an image or numbers in item {index}, {reason}") from error


def _image_advice(image: "Image") -> str:
    if not is_deep(image):
        return "convert it to L or RGB"
    try:
        white = white_level(image).value
    except DataError:
        return "its white level is undefined, so pass an array scaled to the input's range"
    return (
        "convert would clip it at 255, so pass an array scaled to the input's range: "
        f"numpy.array(image) / {white:g} for 0 to 1"
    )
