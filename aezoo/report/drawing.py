"""Samples as snippets of HTML: images as parts of one picture, everything else as inline SVG."""

import base64
import html
import io
import math
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aezoo.data.transforms import Scaler
from aezoo.specs.tensor import TensorSpec
from aezoo.text import printable

LARGEST_SIDE = 64
"""Pixels to which larger images are reduced."""
MAX_BARS = 16
"""Values of a sample up to which they are drawn as bars; longer vectors are lines."""
NAMED_BARS = 40
"""Columns up to which each bar is named."""
WIDTH, HEIGHT = 120, 48
"""Size of the drawing of a series or of values, in CSS pixels."""


@dataclass
class Sprite:
    """Many images of one size in one PNG, so that a page holds each image once.

    Attributes:
        name: of the CSS class.
        side: height and width of an image in pixels.
    """

    name: str
    side: tuple[int, int]
    images: list[NDArray[np.uint8]] = field(default_factory=list[NDArray[np.uint8]])

    def add(self, image: NDArray[np.uint8], label: str) -> str:
        """Adds an image, (height, width) or (height, width, 3), and returns the snippet that shows it."""
        self.images.append(image)
        return self.show(len(self.images) - 1, label)

    def show(self, number: int, label: str) -> str:
        """The snippet that shows the image with this number."""
        down, across = divmod(number, COLUMNS)
        return (
            f'<i class="im {self.name}" role="img" aria-label="{escape(label)}" '
            f'style="--x:{across};--y:{down}"></i>'
        )

    def css(self) -> str:
        """The rule that defines the picture; empty without images."""
        if not self.images:
            return ""
        height, width = self.side
        rows = math.ceil(len(self.images) / COLUMNS)
        colour = any(image.ndim == 3 for image in self.images)
        sheet = np.zeros((rows * height, COLUMNS * width, 3), np.uint8)
        for number, image in enumerate(self.images):
            top, left = number // COLUMNS * height, number % COLUMNS * width
            sheet[top : top + height, left : left + width] = image if image.ndim == 3 else image[:, :, None]
        data = base64.b64encode(_png(sheet if colour else sheet[:, :, 0])).decode()
        zoom = max(1, round(56 / max(self.side)))
        return (
            f".{self.name}{{width:{width * zoom}px;height:{height * zoom}px;"
            f"--w:{width * zoom}px;--h:{height * zoom}px;"
            f"background-size:{COLUMNS * width * zoom}px {rows * height * zoom}px;"
            f'background-image:url("data:image/png;base64,{data}")}}'
        )


COLUMNS = 32
"""Images in a row of a sprite."""


class Drawing:
    """Draws samples of one shape.

    Args:
        spec: shape and range of a sample.
        name: part of the CSS class of its pictures.
        limits: smallest and largest value, where the spec states no range.
        columns: names of the values of a table.
        scaler: of standardized data: bars have the heights of standardized values, and state original ones.
    """

    def __init__(
        self,
        name: str,
        spec: TensorSpec,
        limits: tuple[float, float],
        columns: tuple[str, ...] = (),
        scaler: Scaler | None = None,
    ) -> None:
        self.scaler = scaler if scaler is not None and tuple(scaler.scale.shape) == spec.shape else None
        self.spec, self.limits = spec, spec.range or limits
        self.columns = columns if len(columns) == math.prod(spec.shape) else ()
        shape = spec.shape
        self.is_image = len(shape) == 3
        side = _reduced(shape[1:]) if self.is_image else (0, 0)
        self.samples = Sprite(f"s{name}", side)
        self.signed = Sprite(f"d{name}", side)

    def sample(self, x: Tensor, label: str) -> str:
        """A sample on the scale of all samples."""
        low, high = self.limits
        if self.is_image:
            unit = ((x.float() - low) / ((high - low) or 1)).nan_to_num().clamp(0, 1)
            return self.samples.add(_pixels(unit, self.samples.side), label)
        return self._plot(x, low, high, label, x if self.scaler is None else self.scaler.inverse(x))

    def difference(self, x: Tensor, label: str) -> str:
        """Signed values on a scale of their own: blue is negative, red is positive."""
        x = x.float().nan_to_num()
        spread = float(x.abs().max()) or 1.0
        if self.is_image:
            flat = (x.mean(0) if x.shape[0] != 1 else x[0]) / spread
            side = self.signed.side
            rgb = torch.stack([1 + flat.clamp(max=0), 1 - flat.abs(), 1 - flat.clamp(min=0)])  # white at zero
            return self.signed.add(_pixels(rgb.clamp(0, 1), side), label)
        return self._plot(x, -spread, spread, label, x if self.scaler is None else x * self.scaler.scale)

    def _plot(self, x: Tensor, low: float, high: float, label: str, original: Tensor) -> str:
        values = x.double().nan_to_num().numpy()
        rows = values.reshape(1, -1) if values.ndim == 1 else values.reshape(values.shape[0], -1)
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        if rows.size <= MAX_BARS or self.columns:
            stated = cast(list[float], original.double().flatten().tolist())
            return self._bars(rows.reshape(-1), min(low, 0.0), max(high, 0.0), label, stated)
        scale = HEIGHT / ((high - low) or 1.0)
        lines = ""
        for row in rows[:6]:
            at = np.linspace(0, WIDTH, len(row))
            step = max(1, len(row) // WIDTH)
            points = " ".join(
                f"{x_:.4g},{HEIGHT - (y - low) * scale:.4g}"
                for x_, y in zip(at[::step], row[::step], strict=True)
            )
            lines += f'<polyline points="{points}"/>'
        return _svg(lines, label)

    def _bars(
        self, values: NDArray[np.float64], low: float, high: float, label: str, stated: list[float]
    ) -> str:
        scale = HEIGHT / ((high - low) or 1.0)
        width = WIDTH / len(values)
        zero = HEIGHT + low * scale
        shapes = ""
        for number, value in enumerate(values):
            top, size = min(zero, zero - value * scale), max(abs(value) * scale, 0.5)
            name = self.columns[number] if self.columns else f"value {number}"
            shapes += (
                f'<rect x="{number * width:.4g}" y="{top:.4g}" width="{0.8 * width:.4g}" height="{size:.4g}">'
                f"<title>{escape(name)}: {stated[number]:.4g}</title></rect>"
            )
        return _svg(f'{shapes}<line x1="0" x2="{WIDTH}" y1="{zero:.4g}" y2="{zero:.4g}"/>', label)

    def legend(self) -> str:
        """The names of the bars, in order; empty for other samples."""
        if not self.columns:
            return ""
        names = [escape(name) for name in self.columns[:NAMED_BARS]]
        more = f" and {len(self.columns) - NAMED_BARS} more" if len(self.columns) > NAMED_BARS else ""
        return f"<p>Bars, from left to right: {', '.join(names)}{more}.</p>"

    def css(self) -> str:
        """The rules of its pictures."""
        return self.samples.css() + self.signed.css()


def escape(text: object, limit: int = 200) -> str:
    """Text as HTML, cut to `limit` characters, without any that are invisible or change its direction."""
    return html.escape(printable(text, limit))


def _svg(inner: str, label: str) -> str:
    return (
        f'<svg class="im" role="img" aria-label="{escape(label)}" viewBox="0 -2 {WIDTH} {HEIGHT + 4}" '
        f'width="{WIDTH}" height="{HEIGHT + 4}">{inner}</svg>'
    )


def _reduced(side: tuple[int, ...]) -> tuple[int, int]:
    factor = max(1.0, max(side) / LARGEST_SIDE)
    return max(1, round(side[0] / factor)), max(1, round(side[1] / factor))


def _pixels(x: Tensor, side: tuple[int, int]) -> NDArray[np.uint8]:
    """An image, (channels, height, width) in [0, 1], as bytes, gray or RGB."""
    if x.shape[0] not in (1, 3):
        x = x.mean(0, keepdim=True)
    if tuple(x.shape[1:]) != side:
        x = torch.nn.functional.interpolate(x[None], side, mode="area")[0]
    values: NDArray[np.uint8] = (x * 255).round().to(torch.uint8).numpy()
    return values[0] if values.shape[0] == 1 else np.ascontiguousarray(np.moveaxis(values, 0, -1))


def _png(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
