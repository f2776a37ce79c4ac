"""What a person holds - a picture, an array, bytes - becomes the batch that a variant expects."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from aezoo.errors import DataError
from aezoo.specs import TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image


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


class Transforms:
    """Turns images, arrays and uint8 tensors into the input of a variant; always a batch.

    - A PIL image of any mode becomes gray or RGB as the variant has one or three channels, and is
      resized (bilinear, antialiased) where its size differs.
    - A uint8 array or tensor is scaled from 0..255 to the variant's range.
    - A floating-point one is taken as it is; its values must lie in the range.
    - Arrays may lack the batch axis, and the channel axis where there is one channel. NumPy images may
      have their channels last. A list gives one sample for each entry.
    """

    def __init__(self, spec: TensorSpec) -> None:
        self.spec = spec

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
        x = self._tensor(data).contiguous()
        if x.numel() == 0:
            raise DataError("no values at all")
        if x.dtype == torch.uint8:
            if self.spec.range is None:
                raise DataError("bytes need a declared `input.range` to be scaled to; give floats instead")
            return scale_bytes(x, self.spec.range)
        if not x.is_floating_point():
            raise DataError(f"expected uint8 or floating point, found {x.dtype}")
        x = x.to(torch.float32)
        check_values(x, self.spec)
        return x

    def _tensor(self, data: object) -> Tensor:
        shape = self.spec.shape
        if is_image(data):
            return torch.from_numpy(self._pixels(cast("Image", data)))[None]
        if isinstance(data, np.ndarray):
            x = from_numpy(cast(Any, data))
            channels_last = (*shape[1:], shape[0])
            if len(shape) == 3 and tuple(x.shape[-3:]) == channels_last != shape:
                x = x.movedim(-1, -3)
            return with_batch_axis(x, shape)
        if not isinstance(data, Tensor):
            raise DataError(f"expected a PIL image, a NumPy array or a tensor, found {type(data).__name__}")
        return with_batch_axis(data, shape)

    def _pixels(self, image: "Image") -> NDArray[np.uint8]:
        shape = self.spec.shape
        modes = {1: "L", 3: "RGB", 4: "RGBA"}
        if len(shape) != 3 or shape[0] not in modes:
            raise DataError(f"this variant expects shape {list(shape)}, which no image has")
        if image.mode in ("I", "F"):
            raise DataError(f"a PIL image of mode {image.mode} has no fixed white; give an array instead")
        if image.mode.startswith("I;16"):
            from PIL import Image

            # Pillow would cut everything above 255 off.
            image = Image.fromarray((np.array(image) >> 8).astype(np.uint8))
        height, width = shape[1:]
        image = image.convert(modes[shape[0]])
        if image.size != (width, height):
            image = image.resize((width, height), resample=2)  # Pillow's BILINEAR, antialiased
        pixels = np.array(image, dtype=np.uint8)
        return pixels[None] if shape[0] == 1 else np.ascontiguousarray(np.moveaxis(pixels, -1, 0))


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
