"""Data as batches, from whatever a person hands over.

What fits in memory stays as it came (bytes, mostly) in one tensor, and is sliced and scaled a batch at a
time. That is several times faster than passing every sample through transforms and a loader.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from aezoo.data.transforms import Scaler, check_values, scale_bytes, with_batch_axis
from aezoo.errors import DataError
from aezoo.specs.tensor import TensorSpec
from aezoo.specs.variant import AutoencoderSpec

if TYPE_CHECKING:
    pass


BLOCK = 4096
"""Samples that a pass over all of them reads at once."""


class Batch(NamedTuple):
    """Some samples: inputs and targets scaled to their ranges, labels or None."""

    input: Tensor
    target: Tensor
    labels: Tensor | None

    def to(self, device: torch.device) -> "Batch":
        """The same rows on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        return Batch(self.input.to(device), self.target.to(device), labels)


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
            return self.select(torch.arange(len(self))[index])
        return self._each(lambda t: t[index])

    def select(self, index: Tensor) -> "Samples":
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

    def concat(self, other: "Samples") -> "Samples":
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

    def validated_for(self, spec: AutoencoderSpec) -> "Samples":
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

    def rows(self, index: slice | Tensor, spec: AutoencoderSpec) -> Batch:
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
        return Batch(x, target, None if self.labels is None else self.labels[where])

    def batches(self, spec: AutoencoderSpec, size: int) -> Iterator[Batch]:
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
        for rows in self.batches(spec, BLOCK):
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
