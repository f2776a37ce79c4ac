"""Input preprocessing: images, arrays and uint8 tensors to model input."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from aezoo.errors import DataError
from aezoo.specs.tensor import TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

ResizeMode = Literal["crop", "stretch", "exact"]
"""How an image of another size is resized, bilinear with antialiasing: `crop` scales it to cover the size
and cuts out the center, `stretch` scales height and width independently, `exact` raises `DataError`."""

PIL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Number of channels -> Pillow's mode."""


def scale_bytes(
    x: UInt8[Tensor, "..."], value_range: tuple[float, float], out: torch.dtype = torch.float32
) -> Float[Tensor, "..."]:
    """Scales bytes linearly: 0 becomes the lower end of `value_range` and 255 the upper end, both exactly."""
    scaled = x.to(out).div_(255.0)
    if value_range == (0.0, 1.0):
        return scaled
    # Multiplying and adding could leave the range by one unit in the last place; lerp is exact at both ends.
    low, high = torch.tensor(value_range, dtype=out, device=x.device)
    return torch.lerp(low, high, scaled)


@dataclass(frozen=True)
class Scaler:
    """Standardizes values: subtracts the mean and divides by the standard deviation of the training split.

    Attributes:
        shift: mean of each value, float32, of one sample's shape.
        scale: standard deviation of each value, float32, of one sample's shape; 1 for constant values.
    """

    shift: Tensor
    scale: Tensor

    @classmethod
    def fit(cls, x: Float[Tensor, "n *shape"]) -> "Scaler":
        """Computes mean and population standard deviation over `n` samples, in double precision."""
        values = x.double()
        shift, scale = values.mean(0), values.std(0, correction=0)
        # Dividing a constant value by its deviation, 0 or rounding noise, would give NaN or noise.
        scale = torch.where(scale > 1e-12 * shift.abs().clamp(min=1e-30), scale, 1.0)
        return cls(shift.float(), scale.float())

    def __call__(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Standardizes values given in their original units."""
        return (x - self.shift.to(x)) / self.scale.to(x)

    def inverse(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Converts standardized values back to their original units."""
        return x * self.scale.to(x) + self.shift.to(x)


@dataclass(eq=False, repr=False)
class Transforms:
    """Converts images, arrays and tensors to a batch of model input; `ae.transforms()` returns one.

    - A PIL image of any mode is converted to gray (one channel), RGB (three) or RGBA (four), and resized
      if its size differs.
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
    """

    spec: TensorSpec
    scaler: Scaler | None = None
    columns: tuple[str, ...] = ()
    resize_mode: ResizeMode = "stretch"

    def __repr__(self) -> str:
        values = "any value" if self.spec.range is None else f"values in {list(self.spec.range)}"
        return f"Transforms(-> float32 (batch, {', '.join(map(str, self.spec.shape))}), {values})"

    def __call__(self, data: object) -> Float[Tensor, "batch *shape"]:
        """Returns the batch, float32, (batch, *shape).

        Args:
            data: a PIL image, an array, a tensor, columns of a table, or a list or tuple of these.

        Raises:
            DataError: unsupported data, wrong shape or dtype, NaN or infinite values, or values outside
                the range.
        """
        if isinstance(data, list | tuple):
            items = cast(Sequence[object], data)
            if not items:
                raise DataError("expected at least one sample, found an empty list")
            return torch.cat([self(item) for item in items])
        if self.columns:
            data = _select_columns(data, self.columns)
        x = self._to_tensor(data).contiguous()
        if x.numel() == 0:
            raise DataError("expected at least one value, found an empty array")
        if self.scaler is not None:
            x = x.to(torch.float32 if x.device.type == "mps" else torch.float64)
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
        if is_image(data):
            return torch.from_numpy(pixels(cast("PILImage", data), shape, self.resize_mode))[None]
        if isinstance(data, np.ndarray):
            x = from_numpy(cast(Any, data))
            channels_last = (*shape[1:], shape[0])
            if len(shape) == 3 and tuple(x.shape[-3:]) == channels_last != shape:
                x = x.movedim(-1, -3)
            return with_batch_axis(x, shape)
        if not isinstance(data, Tensor):
            raise DataError(f"expected a PIL image, a NumPy array or a tensor, found {type(data).__name__}")
        return with_batch_axis(data, shape)


def pixels(
    image: "PILImage", shape: tuple[int, ...], resize_mode: ResizeMode
) -> UInt8[np.ndarray, "channels height width"]:
    """Converts an image to a uint8 array: gray, RGB or RGBA for 1, 3 or 4 channels.

    The orientation stored in EXIF is applied.

    Args:
        image: of any mode except `I` and `F`; of 16-bit values the upper 8 bits are kept.
        shape: (channels, height, width) of the array.
        resize_mode: how an image of another size is resized.

    Raises:
        DataError: mode `I` or `F`, whose white level is undefined; a shape that is not an image's; or,
            with `exact`, an image of another size.
    """
    from PIL import Image, ImageOps

    if len(shape) != 3 or shape[0] not in PIL_MODES:
        raise DataError(f"found an image, but this variant expects shape {list(shape)}")
    if image.mode in ("I", "F"):
        raise DataError(f"the white level of a PIL image of mode {image.mode} is undefined; pass an array")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255.
        image = Image.fromarray((np.array(image) >> 8).astype(np.uint8))
    height, width = shape[1:]
    image = image.convert(PIL_MODES[shape[0]])
    if image.size != (width, height):
        if resize_mode == "exact":
            found = f"{image.size[0]} x {image.size[1]}"
            raise DataError(f"expected an image of {width} x {height} (width x height), found {found}")
        box = _center_box(image.size, (width, height)) if resize_mode == "crop" else None
        image = image.resize((width, height), resample=2, box=box)  # 2 is Pillow's BILINEAR
    values = np.array(image, dtype=np.uint8)
    return values[None] if shape[0] == 1 else np.ascontiguousarray(np.moveaxis(values, -1, 0))


def _center_box(size: tuple[int, int], target: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest centered box of an image with the aspect ratio of `target`: left, top, right, bottom."""
    scale = min(size[0] / target[0], size[1] / target[1])
    width, height = target[0] * scale, target[1] * scale
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height


def _select_columns(data: object, names: tuple[str, ...]) -> object:
    """Stacks the named columns of a table as (rows, columns); returns anything else unchanged."""
    known: object = getattr(data, "column_names", getattr(data, "columns", None))
    if known is None and isinstance(data, Mapping):
        known = cast(Mapping[str, object], data).keys()
    if known is None:
        return cast(object, data)
    present = {str(name) for name in cast(Iterable[object], known)}
    missing = [name for name in names if name not in present]
    if missing:
        raise DataError(f"the table has no column {missing[0]!r}; expected columns: {', '.join(names)}")
    table = cast(Mapping[str, Any], data)
    try:
        columns = [np.asarray(table[name], dtype=np.float64) for name in names]
    except (TypeError, ValueError) as error:
        raise DataError(f"the table contains values that are not numbers: {error}") from error
    if len({column.shape for column in columns}) > 1:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in zip(names, columns, strict=True))
        raise DataError(f"the columns differ in length: {lengths}")
    return np.stack(columns, axis=-1)


def from_numpy(array: NDArray[Any]) -> Tensor:
    """Converts an array to a tensor; copies if its strides, byte order or read-only flag require it.

    Raises:
        DataError: a dtype that PyTorch does not support.
    """
    try:
        return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
    except TypeError as error:
        raise DataError(f"expected a dtype that PyTorch supports, found an array of {array.dtype}") from error


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
        raise DataError(
            f"expected values in {list(spec.range)}, found {low:g} to {high:g}; "
            "pass bytes as uint8 to have them scaled"
        )


def is_image(data: object) -> bool:
    """Whether `data` is a PIL image, found by the names of its classes so that Pillow is not imported."""
    return any(cls.__module__ == "PIL.Image" and cls.__name__ == "Image" for cls in type(data).__mro__)
