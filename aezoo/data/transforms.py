"""Input preprocessing: images, arrays and uint8 tensors to model input."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from aezoo.data.containers import advice, from_numpy, is_table, plain_tensor, table_values
from aezoo.data.pixels import ResizeMode, image_errors, is_image, open_image, pixels
from aezoo.errors import DataError
from aezoo.specs.tensor import TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

ROUNDING = 5e-7
"""Shift of scaled values, in standard deviations, above which statistics are kept as float64."""

MAX_NESTING = 8
"""Depth of lists of lists that `Transforms` accepts."""


def scale_bytes(
    x: UInt8[Tensor, "..."], value_range: tuple[float, float], out: torch.dtype = torch.float32
) -> Float[Tensor, "..."]:
    """Scales bytes linearly: 0 becomes the lower end of `value_range` and 255 the upper end, both exactly."""
    # By a number, a GPU would multiply by its inverse, which gives other last bits than a division.
    white = 255.0 if x.device.type == "cpu" else torch.full((), 255.0, dtype=out, device=x.device)
    return scale_unit(x.to(out).div_(white), value_range)


def scale_unit(x: Float[Tensor, "..."], value_range: tuple[float, float]) -> Float[Tensor, "..."]:
    """Scales linearly: 0 becomes the lower end of `value_range` and 1 the upper end, both exactly."""
    if value_range == (0.0, 1.0):
        return x
    # Multiplying and adding could leave the range by one unit in the last place; lerp is exact at both ends.
    low, high = torch.tensor(value_range, dtype=x.dtype, device=x.device)
    return torch.lerp(low, high, x)


@dataclass(frozen=True)
class Scaler:
    """Standardizes values: subtracts the mean and divides by the standard deviation of the training split.

    Everything is computed in double precision.

    Attributes:
        shift: mean of each value, of one sample's shape.
        scale: standard deviation of each value, of one sample's shape; 1 for constant values. Both are
            float32, or float64 if rounding them to float32 would shift scaled values noticeably.
    """

    shift: Tensor
    scale: Tensor

    @classmethod
    def fit(cls, x: Shaped[Tensor, "n *shape"]) -> "Scaler":
        """Computes mean and population standard deviation over `n` samples, in double precision.

        Raises:
            DataError: values so large that the deviation is not finite.
        """
        values = x.double()
        shift = values.mean(0)
        # The second term is what rounding took off the sum of large values.
        shift, scale = shift + (values - shift).mean(0), values.std(0, correction=0)
        if not torch.isfinite(scale).all():
            raise DataError(f"values up to {float(values.abs().max()):g} are too large to be standardized")
        # Dividing a constant value by its deviation, 0 or rounding noise, would give NaN or noise.
        scale = torch.where(scale > 1e-12 * shift.abs().clamp(min=1e-30), scale, 1.0)
        error = torch.maximum((shift - shift.float()).abs(), (scale - scale.float()).abs()) / scale
        return cls(shift, scale) if bool((error > ROUNDING).any()) else cls(shift.float(), scale.float())

    def __call__(self, x: Shaped[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Standardizes values given in their original units; keeps a floating-point dtype."""
        values = _double(x)
        scaled = (values - self.shift.to(values.device)) / self.scale.to(values.device)
        return scaled.to(x.device, x.dtype if x.is_floating_point() else torch.float32)

    def inverse(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Converts standardized values back to their original units; returns float64 if `shift` is."""
        values = _double(x)
        values = values * self.scale.to(values.device) + self.shift.to(values.device)
        dtype = torch.promote_types(x.dtype, self.shift.dtype)
        return values.to(dtype) if dtype == torch.float64 else values.to(x.device, dtype)

    def equals(self, other: "Scaler | None") -> bool:
        """Whether another scaler gives the same values."""
        if other is None or self.shift.shape != other.shift.shape:
            return False
        both = ((self.shift, other.shift), (self.scale, other.scale))
        return all(torch.equal(_double(a).cpu(), _double(b).cpu()) for a, b in both)


def _double(x: Tensor) -> Tensor:
    """Converts to double precision, which Apple's GPUs do not have."""
    return (x.cpu() if x.device.type == "mps" else x).double()


@dataclass(eq=False, repr=False)
class Transforms:
    """Converts images, arrays and tensors to a batch of model input; `ae.transforms()` returns one.

    - A PIL image of any mode is converted to gray (one channel), RGB (three) or RGBA (four), and resized
      if its size differs. One that would lose something is refused: further frames, transparency, lower
      bits.
    - A path, as text or `Path`, is the image in that file.
    - A uint8 array or tensor is scaled from 0..255 to the range of the input.
    - A floating-point array or tensor is not scaled; its values must lie in the range of the input.
    - The batch axis may be missing, and so may the channel axis of a single channel. NumPy images may
      have the channels last. A list or tuple is a batch of its entries.
    - If the training data were standardized (`scale: standard`), numbers of any dtype are taken in their
      original units and standardized in the same way.
    - If the training data were a table, a data frame or a mapping of columns is accepted as well; its
      columns are selected by name.

    Attributes:
        spec: shape and range of the input.
        scaler: scaler of the training data, if they were standardized.
        columns: names of the input values, if the training data were a table.
        resize_mode: how images of another size are resized.
        white: value of white in images of more than 8 bits that do not state it; None for the largest value
            of 16 bits.
    """

    spec: TensorSpec
    scaler: Scaler | None = None
    columns: tuple[str, ...] = ()
    resize_mode: ResizeMode = "stretch"
    white: float | None = None

    def __repr__(self) -> str:
        values = "any value" if self.spec.range is None else f"values in {list(self.spec.range)}"
        return f"Transforms(-> float32 (batch, {', '.join(map(str, self.spec.shape))}), {values})"

    def __call__(self, data: object) -> Float[Tensor, "batch *shape"]:
        """Returns the batch, float32, (batch, *shape).

        Args:
            data: a PIL image or its path, an array, a tensor, columns of a table, or a list of these.

        Raises:
            DataError: unsupported data, wrong shape or dtype, NaN or infinite values, or values outside
                the range.
        """
        return self._batch(data, MAX_NESTING)

    def _batch(self, data: object, nesting: int) -> Float[Tensor, "batch *shape"]:
        if isinstance(data, list | tuple):
            items = cast(Sequence[object], data)
            if not items:
                raise DataError("expected at least one sample, found an empty list")
            if nesting == 0:
                raise DataError(f"expected samples, found lists nested more than {MAX_NESTING} deep")
            return torch.cat([self._batch(item, nesting - 1) for item in items])
        if self.columns and is_table(data):
            exact = torch.float32 if self.scaler is None else torch.float64
            data = table_values(data, self.columns, exact)[0]
        x = self._to_tensor(data).contiguous()
        if x.numel() == 0:
            raise DataError("expected at least one value, found an empty array")
        if self.scaler is not None:
            x = _double(x)
            check_finite(x)
            return self.scaler(x).float()
        if self.columns:
            # Tables are never scaled as bytes, not even columns of uint8.
            x = x.to(torch.float32)
        if x.dtype == torch.uint8:
            if self.spec.range is None:
                raise DataError("uint8 data need `input.range` in the spec; pass floating point instead")
            return scale_bytes(x, self.spec.range)
        if not x.is_floating_point():
            raise DataError(f"expected uint8 or floating point, found {x.dtype}")
        x = x.to(torch.float32)
        check_values(x, self.spec)
        return x

    def inverse(self, x_hat: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Converts a reconstruction to the original units of the data.

        Returns `x_hat` itself if the training data were not standardized.
        """
        return x_hat if self.scaler is None else self.scaler.inverse(x_hat)

    def _to_tensor(self, data: object) -> Tensor:
        shape = self.spec.shape
        if isinstance(data, Tensor):  # first, because it is the fastest to recognize
            return with_batch_axis(plain_tensor(data), shape)
        if isinstance(data, str | os.PathLike):
            path = Path(cast("str | os.PathLike[str]", data))
            if not path.is_file():
                raise DataError(f"there is no file {path}; relative paths start at {Path.cwd()}")
            with image_errors(str(path)):
                image = open_image(path)
            with image:
                return self._to_tensor(image)
        if is_image(data):
            image = cast("PILImage", data)
            with image_errors(getattr(image, "filename", "")):
                values = pixels(image, shape, self.resize_mode, self.white)
                x = torch.from_numpy(values)[None]
                if x.dtype == torch.uint8:
                    return x
                if self.spec.range is None or self.scaler is not None:
                    raise DataError(
                        "an image of more than 8 bits needs `input.range` in the spec; pass an array"
                    )
                return scale_unit(x, self.spec.range)
        if isinstance(data, np.ndarray):
            x = from_numpy(cast(Any, data))
            channels_last = (*shape[1:], shape[0])
            if len(shape) == 3 and tuple(x.shape[-3:]) == channels_last != shape:
                x = x.movedim(-1, -3)
            return with_batch_axis(x, shape)
        found = f"{type(data).__name__}{advice(data)}"
        raise DataError(f"expected a PIL image, a path, a NumPy array or a tensor, found {found}")


def with_batch_axis(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Adds the batch axis if it is missing, and the channel axis if it is missing and has size 1.

    Args:
        x: one sample or a batch.
        shape: shape of one sample.

    Raises:
        DataError: `x` has another shape.
    """
    found = tuple(x.shape)
    if found == shape:
        return x[None]
    if found[1:] == shape:
        return x
    if len(shape) == 3 and shape[0] == 1:
        if found == shape[1:]:
            return x[None, None]
        if found[1:] == shape[1:]:
            return x[:, None]
    raise DataError(f"expected samples of shape {list(shape)}, found {list(found)}")


def check_finite(x: Tensor, path: Path | None = None) -> None:
    """Checks that a floating-point tensor, read from a file if `path` is given, has no NaN or infinite value.

    Raises:
        DataError: with the index of the first such value.
    """
    if x.is_floating_point() and not (finite := torch.isfinite(x)).all():
        index = tuple(int(i) for i in (~finite).nonzero()[0])
        raise DataError(f"{f'{path}: ' if path else ''}the value at index {index} is not finite")


def check_values(x: Float[Tensor, "..."], spec: TensorSpec) -> None:
    """Checks that all values are finite and lie in the range of the spec.

    Raises:
        DataError: NaN or infinite values, values outside the range, or no values.
    """
    if x.numel() == 0:
        raise DataError("expected at least one value, found an empty array")
    # One pass without a mask as large as `x`; NaN propagates to both results.
    low, high = (float(v) for v in torch.aminmax(x.detach()))
    if not (math.isfinite(low) and math.isfinite(high)):
        check_finite(x)
    if spec.range is None:
        return
    lowest, highest = (float(np.float32(v)) for v in spec.range)  # rounded as `x` is
    if low < lowest or high > highest:
        # More digits where six would show the end of the range, such as 1 for 1.0000001.
        digits = ".10g" if f"{max(low, lowest):g} {min(high, highest):g}" == f"{low:g} {high:g}" else "g"
        raise DataError(
            f"expected values in {list(spec.range)}, found {low:{digits}} to {high:{digits}}; "
            "pass bytes as uint8 to have them scaled"
        )
