"""What a person holds - a picture, an array, bytes - becomes the batch that a variant expects."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from aezoo.errors import DataError
from aezoo.specs.tensor import TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image


MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Channels of an image -> Pillow's mode."""


def scale_bytes(
    x: UInt8[Tensor, "..."], value_range: tuple[float, float], out: torch.dtype = torch.float32
) -> Float[Tensor, "..."]:
    """Bytes 0 to 255 as floats, 0 at the lower end of `value_range` and 255 at the upper."""
    scaled = x.to(out).div_(255.0)
    if value_range == (0.0, 1.0):
        return scaled
    # Exact at both ends, where multiplying and adding may leave the range by a last bit.
    low, high = torch.tensor(value_range, dtype=out, device=x.device)
    return torch.lerp(low, high, scaled)


@dataclass(frozen=True)
class Scaler:
    """Brings values to mean 0 and standard deviation 1, as they were in the training split.

    Attributes:
        shift: the means, float32, of the sample's shape.
        scale: the standard deviations, 1 where a value never varied; likewise.
    """

    shift: Tensor
    scale: Tensor

    @classmethod
    def fit(cls, x: Float[Tensor, "n *shape"]) -> "Scaler":
        """The scaler of a training split, (n, *shape)."""
        values = x.double()
        shift, scale = values.mean(0), values.std(0, correction=0)
        # What never varies carries nothing, and dividing by 0 would make it NaN.
        scale = torch.where(scale > 1e-12 * shift.abs().clamp(min=1e-30), scale, 1.0)
        return cls(shift.float(), scale.float())

    def __call__(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Values in their own units, scaled."""
        return (x - self.shift.to(x)) / self.scale.to(x)

    def inverse(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Scaled values, back in their own units."""
        return x * self.scale.to(x) + self.shift.to(x)


class Transforms:
    """Turns images, arrays and uint8 tensors into the input of a variant; always a batch.

    - A PIL image of any mode becomes gray or RGB as the variant has one or three channels, and is
      resized (bilinear, antialiased) where its size differs.
    - A uint8 array or tensor is scaled from 0..255 to the variant's range.
    - A floating-point one is taken as it is; its values must lie in the range.
    - Arrays may lack the batch axis, and the channel axis where there is one channel. NumPy images may
      have their channels last. A list gives one sample for each entry.
    - Where the training data were scaled by what was fitted to them, numbers of any kind are taken in their
      own units and scaled alike. For a table's variant, a data frame or a mapping of columns will do; its
      columns are found by name.
    """

    def __init__(
        self,
        spec: TensorSpec,
        scaler: Scaler | None = None,
        columns: tuple[str, ...] = (),
        fit: Literal["stretch", "crop", "exact"] = "stretch",
    ) -> None:
        self.spec = spec
        self.fit: Literal["stretch", "crop", "exact"] = fit
        self.scaler = scaler
        self.columns = columns

    def __repr__(self) -> str:
        low_high = "any value" if self.spec.range is None else f"values in {list(self.spec.range)}"
        return f"Transforms(-> float32 (batch, {', '.join(map(str, self.spec.shape))}), {low_high})"

    def __call__(self, data: object) -> Float[Tensor, "batch *shape"]:
        """The batch, float32, (batch, *shape).

        Args:
            data: a PIL image, an array, a tensor, or a list of them.

        Raises:
            DataError: data of another kind, shape, dtype or range, in one line.
        """
        if isinstance(data, list | tuple):
            items = cast(Sequence[object], data)
            if not items:
                raise DataError("an empty list holds no sample")
            return torch.cat([self(item) for item in items])
        if self.columns:
            data = _columns(data, self.columns)
        x = self._tensor(data).contiguous()
        if x.numel() == 0:
            raise DataError("no values at all")
        if self.scaler is not None:
            x = x.to(torch.float32 if x.device.type == "mps" else torch.float64)
            check_values(x, self.spec.model_copy(update={"range": None}))
            return self.scaler(x).float()
        if self.columns:
            # A table's numbers were taken as they are, bytes too.
            x = x.to(torch.float32)
        if x.dtype == torch.uint8:
            if self.spec.range is None:
                raise DataError("bytes need a declared `input.range` to be scaled to; give floats instead")
            return scale_bytes(x, self.spec.range)
        if not x.is_floating_point():
            raise DataError(f"expected uint8 or floating point, found {x.dtype}")
        x = x.to(torch.float32)
        check_values(x, self.spec)
        return x

    def inverse(self, x_hat: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """A reconstruction in the units of the data; the same as given where nothing was fitted to them.

        Args:
            x_hat: (batch, *shape), what the decoder gave.
        """
        return x_hat if self.scaler is None else self.scaler.inverse(x_hat)

    def _tensor(self, data: object) -> Tensor:
        shape = self.spec.shape
        if is_image(data):
            from PIL import ImageOps

            # Cameras write which way is up beside the pixels.
            image = ImageOps.exif_transpose(cast("Image", data))
            return torch.from_numpy(pixels(image, shape, self.fit))[None]
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
    image: "Image", shape: tuple[int, ...], fit: Literal["stretch", "crop", "exact"] = "stretch"
) -> UInt8[np.ndarray, "channels height width"]:
    """An image as bytes of a shape, gray or RGB as it has one or three channels.

    Args:
        image: of any mode with a fixed white; 16 bits become 8.
        shape: (channels, height, width).
        fit: how another size becomes this one, bilinear and antialiased: `stretch` scales each axis by
            itself, `crop` scales both alike and cuts the middle out, `exact` refuses it.

    Raises:
        DataError: a mode without a fixed white, a shape that no image has, or another size.
    """
    if len(shape) != 3 or shape[0] not in MODES:
        raise DataError(f"this variant expects shape {list(shape)}, which no image has")
    if image.mode in ("I", "F"):
        raise DataError(f"a PIL image of mode {image.mode} has no fixed white; give an array instead")
    if image.mode.startswith("I;16"):
        from PIL import Image

        # Pillow would cut everything above 255 off.
        image = Image.fromarray((np.array(image) >> 8).astype(np.uint8))
    height, width = shape[1:]
    image = image.convert(MODES[shape[0]])
    if image.size != (width, height):
        if fit == "exact":
            found = f"{image.size[0]} x {image.size[1]}"
            raise DataError(f"it is {found} (width x height), {width} x {height} is expected")
        box = _middle(image.size, (width, height)) if fit == "crop" else None
        image = image.resize((width, height), resample=2, box=box)  # 2 is Pillow's BILINEAR
    values = np.array(image, dtype=np.uint8)
    return values[None] if shape[0] == 1 else np.ascontiguousarray(np.moveaxis(values, -1, 0))


def _middle(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest box of the wanted proportions in the middle of an image."""
    scale = min(size[0] / wanted[0], size[1] / wanted[1])
    width, height = wanted[0] * scale, wanted[1] * scale
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height


def _columns(data: object, names: tuple[str, ...]) -> object:
    """The named columns of a table, side by side; anything else as it is."""
    known: object = getattr(data, "column_names", getattr(data, "columns", None))
    if known is None and isinstance(data, Mapping):
        known = cast(Mapping[str, object], data).keys()
    if known is None:
        return cast(object, data)
    have = [str(name) for name in cast(Iterable[object], known)]
    missing = [name for name in names if name not in have]
    if missing:
        raise DataError(f"the table has no column {missing[0]!r}; expected are {', '.join(names)}")
    table = cast(Mapping[str, Any], data)
    try:
        columns = [np.asarray(table[name], dtype=np.float64) for name in names]
    except (TypeError, ValueError) as error:
        raise DataError(f"the table holds something other than numbers: {error}") from error
    if len({column.shape for column in columns}) > 1:
        sizes = ", ".join(f"{name} {len(column)}" for name, column in zip(names, columns, strict=True))
        raise DataError(f"the columns differ in length: {sizes}")
    return np.stack(columns, axis=-1)


def from_numpy(array: NDArray[Any]) -> Tensor:
    """A tensor of an array's own numbers, without negative strides, foreign byte order or a ban on writing.

    Raises:
        DataError: no numbers, or numbers of a kind that PyTorch does not have.
    """
    try:
        return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
    except TypeError as error:
        raise DataError(f"expected numbers that PyTorch has, found an array of {array.dtype}") from error


def with_batch_axis(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Adds the batch axis, and the channel axis of one channel, where they are missing.

    Raises:
        DataError: the sizes do not fit.
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


def check_values(x: Float[Tensor, "..."], spec: TensorSpec) -> None:
    """Refuses NaN, infinities and values outside the declared range.

    Raises:
        DataError: naming the offending value.
    """
    if x.numel() == 0:
        raise DataError("no values at all")
    low, high = (float(v) for v in torch.aminmax(x.detach()))
    if not (np.isfinite(low) and np.isfinite(high)):
        where = tuple(int(i) for i in (~torch.isfinite(x)).nonzero()[0])
        raise DataError(f"the value at index {where} is not finite")
    if spec.range is None:
        return
    lowest, highest = (float(np.float32(v)) for v in spec.range)  # as `x` holds them
    if low < lowest or high > highest:
        raise DataError(
            f"expected values in {list(spec.range)}, found {low:g} to {high:g}; "
            "bytes (uint8) are scaled by themselves"
        )


def is_image(data: object) -> bool:
    """Whether something is a PIL image."""
    # Pillow need not be imported to know that something is no image of it.
    return any(cls.__module__ == "PIL.Image" and cls.__name__ == "Image" for cls in type(data).__mro__)
