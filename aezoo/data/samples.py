"""In-memory datasets: inputs, targets and labels as tensors, read in scaled batches.

The tensors keep the dtype they came in, usually uint8, and are sliced and scaled one batch at a time. This is
several times faster than a data loader that transforms every sample.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from aezoo.data.containers import plain_tensor
from aezoo.data.transforms import Scaler, check_values, scale_bytes, scale_unit, with_batch_axis
from aezoo.errors import DataError, warn_diagnostic
from aezoo.specs.tensor import TensorSpec
from aezoo.specs.variant import AutoencoderSpec

LARGEST_ROUNDING = 1e-3
"""Rounding error, in standard deviations of a value, above which a conversion to float32 is reported."""
BLOCK = 4096
"""Batch size of passes over a whole split whose sums depend on it."""
CACHED = 2**21
"""Bytes of a split that other passes, such as hashing, read at once."""


class Batch(NamedTuple):
    """A batch of samples.

    Attributes:
        input: float32, (batch, *input shape), scaled to the range of the input.
        target: float32, (batch, *target shape), scaled to the range of the target.
        labels: (batch,), or None.
    """

    input: Tensor
    target: Tensor
    labels: Tensor | None

    def to(self, device: torch.device) -> "Batch":
        """Moves the tensors to a device."""
        labels = None if self.labels is None else self.labels.to(device)
        return Batch(self.input.to(device), self.target.to(device), labels)


@dataclass(frozen=True)
class Samples:
    """One split of a dataset, before scaling to the ranges of a spec.

    Attributes:
        inputs: (n, *input shape), uint8 or floating point.
        targets: (n, *target shape), uint8 or floating point; None if the input is the target.
        labels: (n,), or None.
        index: int64, the rows of the tensors that make up the split, in order; None for all rows.
        mapped: whether the tensors are memory-mapped from a file; they are then never copied as a whole.
        scaler: the scaler that was applied to the inputs, fitted to the training split, or None.
        columns: names of the input values, if they come from a table.
        channels: names of the channels of a time series, if it comes from a table.
        unit_scale: whether floating-point inputs are brightness from 0, black, to 1, white, which is scaled
            to the range of the input as bytes are.
    """

    inputs: Tensor
    targets: Tensor | None = None
    labels: Tensor | None = None
    index: Tensor | None = None
    mapped: bool = False
    scaler: Scaler | None = None
    columns: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    unit_scale: bool = False

    def __post_init__(self) -> None:
        for name, tensor in zip(("inputs", "targets", "labels"), self._tensors(), strict=True):
            if tensor is not None:
                object.__setattr__(self, name, plain_tensor(tensor, name))
        if self.inputs.ndim == 0:
            raise DataError("expected an axis that counts the samples, found a single number")
        for name, tensor in (("targets", self.targets), ("labels", self.labels)):
            if tensor is not None and len(tensor) != len(self.inputs):
                raise DataError(f"{len(self.inputs)} inputs but {len(tensor)} {name}")

    def __len__(self) -> int:
        return len(self.inputs if self.index is None else self.index)

    def __getitem__(self, index: slice | Tensor) -> "Samples":
        if self.mapped or self.index is not None:
            return self.select(torch.arange(len(self))[index])
        return self._map(lambda t: t[index])

    def select(self, index: Tensor) -> "Samples":
        """Selects samples by number without copying the tensors."""
        return replace(self, index=index if self.index is None else self.index[index])

    def concat(self, other: "Samples") -> "Samples":
        """Appends the samples of `other`; does not copy if both are selections from the same tensors.

        Raises:
            DataError: only one of the two has targets, labels, or inputs on a unit scale.
        """
        if self.unit_scale != other.unit_scale:
            raise DataError("only one of the two has inputs on a unit scale")
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
        first, second = self._materialize(), other._materialize()
        rest = iter([t for t in second._tensors() if t is not None])
        return replace(first._map(lambda t: torch.cat([t, next(rest)])), mapped=False)

    def validated_for(self, spec: AutoencoderSpec) -> "Samples":
        """Checks shapes, dtypes and values against a spec and adds missing channel axes.

        Raises:
            DataError: no samples, no targets where the spec needs them, another shape or dtype, NaN or
                infinite values, or values outside the declared range.
        """
        if len(self) == 0:
            raise DataError("there are no samples")
        if self.targets is None and spec.output.shape != spec.input.shape:
            raise DataError(f"expected targets of shape {list(spec.output.shape)}, found inputs only")
        try:
            inputs = _validated(self.inputs, spec.input, "input", self.unit_scale)
        except DataError as error:
            if self.scaler is None or spec.input.range is None:
                raise
            raise DataError(
                f"`scale: standard` gives unbounded values, remove `input.range`: {error}"
            ) from error
        targets = self.targets
        if targets is not None:
            targets = _validated(targets, spec.output, "target")
        elif spec.output != spec.input:
            _validated(self.inputs, spec.output, "target", self.unit_scale)
        return replace(self, inputs=inputs, targets=targets)

    def scaled_for(self, scaler: Scaler | None, columns: tuple[str, ...] = ()) -> "Samples":
        """The samples as a network takes them that was trained with `scaler` and `columns`.

        Samples without a scaler are in the units of the data and are standardized by `scaler`. Columns are
        put in the network's order, by name.

        Raises:
            DataError: they were standardized in another way, or have other columns.
        """
        samples = self.ordered_by(columns)
        if samples.scaler is None and scaler is not None:
            samples = samples._materialize()
            return replace(samples, inputs=scaler(samples.inputs).float(), scaler=scaler)
        if samples.scaler is not None and not samples.scaler.equals(scaler):
            raise DataError(
                "the samples were scaled by statistics of their own, not by those of the network's training "
                "data; pass the dataset's spec, or samples in their original units (`scale: none`)"
            )
        return samples

    def ordered_by(self, columns: tuple[str, ...]) -> "Samples":
        """The samples with their columns in another order; unchanged if either has no names.

        Raises:
            DataError: a column is missing, or there is another one.
        """
        if not columns or not self.columns or columns == self.columns:
            return self
        check_columns(columns, self.columns)
        order = torch.tensor([self.columns.index(name) for name in columns])
        samples = replace(self, inputs=self.inputs[:, order], columns=columns)
        if self.scaler is None:
            return samples
        return replace(samples, scaler=Scaler(self.scaler.shift[order], self.scaler.scale[order]))

    def to(self, device: torch.device) -> "Samples":
        """Moves the samples to a device; mapped ones stay on the CPU and are moved batch by batch."""
        if self.mapped:
            return self
        if self.inputs.device == device:
            # A selection from tensors on a GPU may have been made by numbers on the CPU.
            return self if self.index is None else replace(self, index=self.index.to(device))
        return self._materialize()._map(lambda t: t.to(device))

    def batch(self, index: slice | Tensor, spec: AutoencoderSpec) -> Batch:
        """Reads a batch and scales bytes and images to the ranges of the spec.

        Args:
            index: numbers of the samples, on the device of `inputs`.
            spec: the spec that the samples were validated for.
        """
        rows = index if self.index is None else self.index[index]
        x = _scaled(_rows(self.inputs, rows), spec.input, self.unit_scale)
        if self.targets is not None:
            target = _scaled(_rows(self.targets, rows), spec.output)
        elif spec.output.range == spec.input.range:
            target = x
        else:
            target = _scaled(_rows(self.inputs, rows), spec.output, self.unit_scale)
        return Batch(x, target, None if self.labels is None else _rows(self.labels, rows))

    def batches(self, spec: AutoencoderSpec, size: int) -> Iterator[Batch]:
        """Reads all samples in order, `size` at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size), spec)

    def sha256(self) -> str:
        """Hashes dtypes, shapes and values of all tensors, in the order of the split."""
        digest = hashlib.sha256()
        for tensor in self._tensors():
            if tensor is None:
                digest.update(b"none")
                continue
            digest.update(f"{tensor.dtype} {(len(self), *tensor.shape[1:])}".encode())
            size = _rows_in_cache(tensor)
            for start in range(0, len(self), size):
                block = slice(start, start + size)
                rows = tensor[block if self.index is None else self.index[block]]
                digest.update(cast(Any, rows.contiguous().cpu().view(torch.uint8).numpy()))
        return digest.hexdigest()

    def target_mean(self, spec: AutoencoderSpec) -> Tensor:
        """Mean of the scaled targets, float32, (*target shape), summed in double precision."""
        total = torch.zeros(spec.output.shape, dtype=torch.float64, device="cpu")
        targets = self.inputs if self.targets is None else self.targets
        # Scaled to this range, bytes are multiples of 2^-31, and their sums are exact in whatever parts.
        exact = targets.dtype == torch.uint8 and spec.output.range == (0.0, 1.0) and len(self) < 2**20
        for batch in self.batches(spec, _rows_in_cache(targets) if exact else BLOCK):
            total += batch.target.double().sum(0).cpu()
        return (total / len(self)).float()

    def _tensors(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        return self.inputs, self.targets, self.labels

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Samples":
        """Applies a function to every tensor, in the order of `_tensors`."""
        inputs, targets, labels = (None if t is None else change(t) for t in self._tensors())
        assert inputs is not None
        return replace(self, inputs=inputs, targets=targets, labels=labels)

    def _materialize(self) -> "Samples":
        """Copies the selected rows, so that the tensors contain nothing else."""
        index = self.index
        return self if index is None else replace(self._map(lambda t: t[index]), index=None)


def _rows_in_cache(x: Tensor) -> int:
    """Number of rows of a tensor, (n, *shape), that a pass takes at once to stay in the cache."""
    return max(1, CACHED // max(1, x[:1].numel() * x.element_size()))


def _validated(x: Tensor, spec: TensorSpec, what: str, unit_scale: bool = False) -> Tensor:
    if x.dtype == torch.uint8 or unit_scale:
        if spec.range is None:
            kind = "uint8" if x.dtype == torch.uint8 else "image"
            raise DataError(f"{kind} {what}s need `{what}.range` in the spec")
    elif x.is_floating_point():
        x = to_float32(x)
        check_values(x, spec)
    else:
        raise DataError(f"expected uint8 or floating point as {what}, found {x.dtype}")
    # One sample of shape (channels, ...) would otherwise pass for a batch of single-channel samples.
    if tuple(x.shape) == spec.shape:
        raise DataError(f"expected a batch of samples of shape {list(spec.shape)}, found a single sample")
    return with_batch_axis(x, spec.shape)


def check_columns(expected: tuple[str, ...], found: tuple[str, ...]) -> None:
    """Checks that data have the columns that a network was trained on, and no others.

    Raises:
        DataError: they do not.
    """
    for name in expected:
        if name not in found:
            raise DataError(f"the data have no column {name!r}; the network needs {', '.join(expected)}")
    for name in found:
        if name not in expected:
            raise DataError(
                f"the data have a column {name!r}, which the network was not trained on; name the columns to "
                f"use: {', '.join(expected)}"
            )


def to_float32(x: Tensor) -> Tensor:
    """Converts floating point, (n, *shape), to float32; warns if that merges values that differ.

    Raises:
        DataError: a finite value that float32 cannot hold.
    """
    rounded = x.float()
    if x.dtype != torch.float64 or x.numel() == 0:
        return rounded
    if (lost := torch.isinf(rounded) & torch.isfinite(x)).any():
        index = tuple(int(i) for i in lost.nonzero()[0])
        raise DataError(
            f"the value at index {index}, {float(x[index]):g}, is more than float32 holds; scale the data"
        )
    parts = cast(tuple[Tensor, ...], x.split(BLOCK))
    error = torch.stack([(part - part.float()).abs().amax(0) for part in parts]).amax(0)
    spread, size = x.std(0, correction=0), x.abs().amax(0)
    # Noise in the last digits of a constant is not lost information.
    if (merged := (error > LARGEST_ROUNDING * spread) & (spread > 1e-12 * size)).any():
        index = tuple(int(i) for i in merged.nonzero()[0])
        warn_diagnostic(
            "float32-rounding",
            f"inputs are rounded to float32, which changes value {list(index)} of a sample by up to "
            f"{float(error[index]):.2g} where its standard deviation is {float(spread[index]):.2g}; "
            "subtract an offset, or use `scale: standard` of a dataset of files",
        )
    return rounded


def _rows(x: Tensor, index: slice | Tensor) -> Tensor:
    """Rows of a tensor, selected by a slice, by numbers or by a mask."""
    # Copying whole rows is several times faster than indexing, which computes the place of every value.
    if isinstance(index, Tensor) and index.dtype == torch.int64 and index.ndim == 1:
        return x.index_select(0, index)
    return x[index]


def _scaled(x: Tensor, spec: TensorSpec, unit_scale: bool = False) -> Tensor:
    if spec.range is None:
        return x
    if x.dtype == torch.uint8:
        return scale_bytes(x, spec.range)
    return scale_unit(x, spec.range) if unit_scale else x
