"""PIL images to arrays: formats, orientation, white levels of more than 8 bits, conversion and resizing.

An image is read as Pillow reads it, or refused if that would lose something: further frames, transparency,
extra channels, lower bits, signs.
"""

import math
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from aezoo.errors import DataError, warn_diagnostic

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

ResizeMode = Literal["crop", "stretch", "exact"]
"""How an image of another size is resized, bilinear with antialiasing: `crop` scales it to cover the size
and cuts out the center, `stretch` scales height and width independently, `exact` raises `DataError`."""

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP")
"""Pillow's names of the formats that are read. Others may start a program, as EPS does, or hold no image."""
PIL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Number of channels -> Pillow's mode."""
PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
"""Modes whose colours are multiplied by their opacity -> the mode whose are not."""
WHITE_16 = 65535
"""White of 16 bits."""
ORIENTATION, BITS_PER_SAMPLE, PHOTOMETRIC, EXTRA_SAMPLES, SAMPLE_FORMAT = 0x0112, 258, 262, 338, 339
DESCRIPTION, SAMPLES_PER_PIXEL, DEPTH = 270, 277, 32997
"""Tags of EXIF and TIFF."""
TURNED = range(2, 9)
"""Orientations of an image that is mirrored or turned."""


class White(NamedTuple):
    """The value of white in an image of more than 8 bits.

    Attributes:
        value: the value of white.
        stated: whether the file or the caller says so; otherwise it is the largest value of 16 bits.
    """

    value: float
    stated: bool


def open_image(path: Path) -> "PILImage":
    """Opens an image file of one of `FORMATS`, whatever its suffix; the pixels are not decoded yet.

    Raises:
        DataError: it has another format.
        Exception: Pillow cannot read the file.
    """
    from PIL import Image, UnidentifiedImageError

    Image.init()
    try:
        return Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError as error:
        raise ValueError(f"Pillow finds no image in one of the formats {', '.join(FORMATS)}") from error


@contextmanager
def image_errors(where: str) -> Generator[None]:
    """Turns every error of reading an image into a `DataError` that begins with `where`, if it is not empty.

    Pillow raises many types of exceptions for files that are damaged.
    """
    where = f"{where}: " if where else ""
    try:
        yield
    except DataError as error:
        raise DataError(f"{where}{error}") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{where}the image cannot be decoded: {reason}") from error


def is_image(data: object) -> bool:
    """Whether `data` is a PIL image, found by the names of its classes so that Pillow is not imported."""
    return any(cls.__module__ == "PIL.Image" and cls.__name__ == "Image" for cls in type(data).__mro__)


def pixels(
    image: "PILImage", shape: tuple[int, ...], resize_mode: ResizeMode, white: float | None = None
) -> NDArray[Any]:
    """Converts an image to an array: gray, RGB or RGBA for 1, 3 or 4 channels.

    The orientation stored in EXIF is applied.

    Args:
        image: of any mode; not changed, but loaded.
        shape: (channels, height, width) of the array.
        resize_mode: how an image of another size is resized.
        white: value of white in an image of more than 8 bits that does not state it.

    Returns:
        (channels, height, width): float32 from 0 to 1, which is white, for images of more than 8 bits,
        otherwise uint8.

    Raises:
        DataError: something would be lost (see `check_image`); transparency and fewer than 4 channels; mode
            `I` or `F` and no white level; values below 0 or above it; a mode that Pillow cannot convert; a
            shape that is not an image's; or, with `exact`, an image of another size.
    """
    if len(shape) != 3 or shape[0] not in PIL_MODES:
        raise DataError(f"found an image, but this variant expects shape {list(shape)}")
    upright = read_upright(image, white)
    if upright.mode == "F":
        # Rounding may leave the range.
        gray = np.asarray(_resized(upright, shape, resize_mode)).clip(0, 1)[None]
        if shape[0] == 4:
            return np.concatenate([gray.repeat(3, 0), np.ones_like(gray)])
        return gray.repeat(shape[0], 0)
    mode = PIL_MODES[shape[0]]
    if shape[0] < 4 and is_transparent(upright):
        raise DataError(
            f"the image has transparent pixels, which {shape[0]} channel{'s' * (shape[0] > 1)} cannot hold; "
            "paste it on a background, or use 4 channels"
        )
    try:
        upright = upright if upright.mode == mode else upright.convert(mode)
    except ValueError as error:
        raise DataError(
            f"a PIL image of mode {image.mode} cannot be converted to {mode}; pass an array"
        ) from error
    values = np.array(_resized(upright, shape, resize_mode), dtype=np.uint8)
    return values[None] if shape[0] == 1 else np.ascontiguousarray(np.moveaxis(values, -1, 0))


def stored_pixels(image: "PILImage") -> NDArray[np.uint8]:
    """Converts a gray, RGB or RGBA image of 8 bits to an array without changing its size or its channels.

    The orientation stored in EXIF is applied.

    Returns:
        (height, width) or (channels, height, width).

    Raises:
        DataError: as for `pixels`.
    """
    upright = read_upright(image)
    if upright.mode != "RGBA" and is_transparent(upright):
        raise DataError("the image has transparent pixels; convert it to RGBA, or paste it on a background")
    values = np.array(upright)
    return np.ascontiguousarray(np.moveaxis(values, -1, 0)) if values.ndim == 3 else values


def read_upright(image: "PILImage", white: float | None = None) -> "PILImage":
    """Checks and decodes an image and applies the orientation that is stored in EXIF.

    Returns:
        Of more than 8 bits, mode `F` with values from 0 to 1; otherwise of the image's own mode. The image
        itself where there is nothing to change.

    Raises:
        DataError: as for `pixels`.
    """
    from PIL import ImageOps

    check_image(image)
    if not is_deep(image):
        image.load()
        # Where there is nothing to turn, Pillow would copy the image.
        turned = image.getexif().get(ORIENTATION, 1) in TURNED
        upright = ImageOps.exif_transpose(image) if turned else image
        return upright.convert(PREMULTIPLIED[upright.mode]) if upright.mode in PREMULTIPLIED else upright
    made = _from_deep(image, white)
    if orientation := image.getexif().get(ORIENTATION):
        made.getexif()[ORIENTATION] = orientation
    return ImageOps.exif_transpose(made)


def check_image(image: "PILImage") -> None:
    """Checks, before its pixels are decoded, that an image is not too large and that nothing would be lost.

    Raises:
        DataError: another format than `FORMATS`, more pixels than `PIL.Image.MAX_IMAGE_PIXELS`, several
            frames, or values that Pillow changes or leaves out.
    """
    from PIL import Image

    limit, size = Image.MAX_IMAGE_PIXELS, image.size
    if 0 in size:
        raise DataError(f"the image has no pixels: {size[0]} x {size[1]}")
    if limit is not None and math.prod(size) > limit:
        raise DataError(
            f"{size[0]} x {size[1]} pixels are more than {limit:,}, the limit PIL.Image.MAX_IMAGE_PIXELS"
        )
    # The second picture of an MPO, which is how phones write JPEG, is a thumbnail, a depth or a gain map.
    if image.format not in (None, "MPO", *FORMATS):
        raise DataError(f"the format {image.format} is not read; convert the image to PNG")
    frames = 1 if image.format == "MPO" else max(getattr(image, "n_frames", 1), _planes(image))
    if frames > 1:
        raise DataError(
            f"the image has {frames} frames or pages, of which one would be read; "
            "save each as a file of its own, or pass a copy of one (image.copy())"
        )
    if reason := _lost_by_pillow(image):
        raise DataError(reason)


def _planes(image: "PILImage") -> int:
    """The number of planes in the only page of a TIFF file, as ImageJ and tifffile write stacks."""
    description = str(getattr(image, "tag_v2", {}).get(DESCRIPTION, ""))
    planes = max(_tiff_tag(image, DEPTH), default=1)
    if found := re.search(r"^images=(\d+)$", description, re.MULTILINE):
        planes = max(planes, int(found[1]))
    if found := re.match(r'\{"shape": \[([\d, ]+)\]', description):
        values = math.prod(image.size) * max(_tiff_tag(image, SAMPLES_PER_PIXEL), default=1)
        planes = max(planes, math.prod(int(size) for size in found[1].split(",")) // values)
    return planes


def _lost_by_pillow(image: "PILImage") -> str | None:
    """What Pillow leaves out or changes when it decodes the image."""
    bits = max(_tiff_tag(image, BITS_PER_SAMPLE), default=8)
    # The tile says how the values are stored; it is empty once the image is loaded.
    stored = " ".join(str(tile[3]) for tile in cast("list[Any]", getattr(image, "tile", ())))
    if not is_deep(image):
        if 2 in _tiff_tag(image, SAMPLE_FORMAT):
            return "the values are signed, which Pillow reads as unsigned; pass an array"
        if bits > 8 or ";16" in stored:
            return (
                "the channels have 16 bits, of which Pillow reads 8; convert the image to 8 bits, or pass an "
                "array"
            )
    elif 0 in _tiff_tag(image, PHOTOMETRIC):
        return "white is stored as 0, which Pillow ignores for more than 8 bits; pass an array"
    if 0 in _tiff_tag(image, EXTRA_SAMPLES):
        return "the image has extra channels, which Pillow leaves out; pass an array"
    return None


def _tiff_tag(image: "PILImage", tag: int) -> tuple[int, ...]:
    """The values of a tag of a TIFF file; none if the image is not one, or does not have the tag."""
    value = getattr(image, "tag_v2", {}).get(tag, ())
    return cast("tuple[int, ...]", value) if isinstance(value, tuple) else (value,)


def is_deep(image: "PILImage") -> bool:
    """Whether the values of an image have more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def white_level(image: "PILImage", white: float | None = None) -> White:
    """The value of white in an image of more than 8 bits.

    Raises:
        DataError: neither the file nor the caller states it, and the mode has more than 16 bits.
    """
    if image.format in ("PPM", "JPEG2000") and image.mode != "F":
        return White(WHITE_16, True)  # Pillow scales to 16 bits by what these files state.
    if image.mode.startswith("I;16"):
        bits = max(_tiff_tag(image, BITS_PER_SAMPLE), default=16)
        if bits < 16:
            return White(2**bits - 1, True)
    if white is not None:
        return White(white, True)
    if image.mode.startswith("I;16") or image.format == "PNG":  # older versions of Pillow read PNG as `I`
        return White(WHITE_16, False)
    raise DataError(
        f"the white level of a PIL image of mode {image.mode} is undefined; pass an array, or set `white` of "
        "the dataset"
    )


def unused_bits(image: "PILImage", white: float | None = None) -> float | None:
    """The largest value of an image of more than 8 bits whose white level nobody states; otherwise None."""
    if not is_deep(image) or white_level(image, white).stated:
        return None
    return float(np.asarray(image).max())


def warn_unused_bits(highest: float) -> None:
    """Warns if the largest of all 16-bit values, `highest`, suggests that they have fewer bits."""
    if 0 < highest <= WHITE_16 // 2:
        bits = max(8, int(highest).bit_length())
        warn_diagnostic(
            "unused-bits",
            f"no 16-bit value is above {highest:g}, so that all are dark. If they have {bits} bits, set "
            f"`white: {2**bits - 1}`",
        )


def _from_deep(image: "PILImage", white: float | None) -> "PILImage":
    """An image of mode `F` with values from 0 to 1, which is white."""
    from PIL import Image

    level = white_level(image, white).value
    if "transparency" in image.info:
        raise DataError("the image has transparent pixels and more than 8 bits; pass an array")
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= level):  # also NaN
        raise DataError(f"expected values from 0 to {level:g}, which is white, found {low:g} to {high:g}")
    return Image.fromarray((values / level).astype(np.float32))


def is_transparent(image: "PILImage") -> bool:
    """Whether a pixel of an image of up to 8 bits is transparent, if only partly."""
    palette = cast("Any", image.palette)
    if not (
        image.getbands()[-1] == "A"
        or "transparency" in image.info
        or (palette is not None and str(palette.mode).endswith("A"))
    ):
        return False
    alpha = image.convert("RGBA").getchannel("A")
    return cast("tuple[int, int]", alpha.getextrema())[0] < 255


def _resized(image: "PILImage", shape: tuple[int, ...], resize_mode: ResizeMode) -> "PILImage":
    height, width = shape[1:]
    if image.size == (width, height):
        return image
    if resize_mode == "exact":
        found = f"{image.size[0]} x {image.size[1]}"
        raise DataError(f"expected an image of {width} x {height} (width x height), found {found}")
    box = _center_box(image.size, (width, height)) if resize_mode == "crop" else None
    return image.resize((width, height), resample=2, box=box)  # 2 is Pillow's BILINEAR


def _center_box(size: tuple[int, int], target: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest centered box of an image with the aspect ratio of `target`: left, top, right, bottom."""
    scale = min(size[0] / target[0], size[1] / target[1])
    width, height = target[0] * scale, target[1] * scale
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height
