"""Pieces of figures: samples as small pictures, points, bars and lines."""

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aezoo.plots.style import (
    DPI,
    SMALL,
    TEXT,
    WIDTH,
    current,
    frame,
    limits,
    new_figure,
    number,
    place,
    shortened,
    signed_colours,
    spread,
    with_margin,
)

Kind = Literal["images", "maps", "points", "bars", "lines"]
Tiles = NDArray[np.uint8]
MAX_BARS = 16
"""Number of values of a sample up to which they are drawn as bars."""
MARGIN = 0.08
"""Inches around a figure."""
TITLE = 0.3
"""Inches that a title takes."""
LARGEST_TILE = 0.95
"""Inches that a small picture is wide at most."""
TILE_PIXELS = 24
"""Pixels to which smaller pictures are enlarged, so that the gaps between them stay narrow."""


def kind_of(shape: Sequence[int]) -> Kind:
    """How samples of a shape are drawn.

    Gray and RGB images are images, series are lines, two or three values are a point, up to 16 values are
    bars. All others are maps: of vectors, of images of other channels, and of volumes.
    """
    if len(shape) == 3 and shape[0] in (1, 3):
        return "images"
    if len(shape) == 2:
        return "lines"
    if len(shape) == 1 and shape[0] in (2, 3):
        return "points"
    return "bars" if len(shape) == 1 and shape[0] <= MAX_BARS else "maps"


# -- small pictures -----------------------------------------------------------------------------------


def as_tiles(x: Tensor, value_range: tuple[float, float] | None, scale: tuple[float, float]) -> Tiles:
    """Samples of any shape as small pictures, RGBA, (n, height, width, 4).

    Args:
        x: (n, *shape).
        value_range: values that are black and white in images.
        scale: the same without `value_range`; its largest magnitude is that of maps.
    """
    if kind_of(x.shape[1:]) != "images":
        return as_maps(x, max(map(abs, scale)) or 1.0)
    low, high = value_range or scale
    # Values may lie slightly outside the range, as after a leaky activation.
    unit = ((x.double() - low) / ((high - low) or 1.0)).clamp(0, 1).movedim(1, -1).numpy()
    nan = np.isnan(unit).any(-1, keepdims=True)
    pixels = np.rint(255 * np.nan_to_num(unit)).astype(np.uint8)
    pixels = pixels.repeat(3, -1) if pixels.shape[-1] == 1 else pixels
    return np.concatenate([pixels, np.where(nan, 0, 255).astype(np.uint8)], -1)


def as_maps(x: Tensor, largest: float) -> Tiles:
    """Samples as maps of signed values, RGBA, (n, height, width, 4).

    Feature maps keep their shape and stand side by side; a vector is a set of maps of 1 x 1. The arrangement
    is close to a square.
    """
    values = x.double().numpy()
    if values.ndim <= 2:
        values = values.reshape(len(values), -1, 1, 1)
    elif values.ndim == 3:
        values = values[:, None]
    else:
        values = values.reshape(len(values), -1, *values.shape[-2:])
    n, count, height, width = values.shape
    gap = 1 if height * width > 1 else 0
    across = math.ceil(math.sqrt(count * (height + gap) / (width + gap)))
    down = math.ceil(count / across)
    grid = np.full((n, down * (height + gap), across * (width + gap)), np.nan)
    for index in range(count):
        top, left = index // across * (height + gap), index % across * (width + gap)
        grid[:, top : top + height, left : left + width] = values[:, index]
    return signed_colours(grid[:, : grid.shape[1] - gap, : grid.shape[2] - gap], largest)


def draw_row(axes: Any, tiles: Tiles, columns: int, width: float, *, framed: bool = False) -> None:
    """Draws small pictures side by side.

    Args:
        axes: of the width and height of the row.
        tiles: (n, height, width, 4), n at most `columns`.
        columns: pictures for which there is room.
        width: of the axes in inches.
        framed: whether each picture has a frame, as maps need, whose zeros look like the background.
    """
    from matplotlib.patches import Rectangle

    height = tiles.shape[1] / tiles.shape[2]
    for column, tile in enumerate(tiles):
        extent = (column + GAP / 2, column + 1 - GAP / 2, height * (1 - GAP), 0.0)
        axes.imshow(tile, extent=extent, aspect="auto", interpolation=_interpolation(tile, width / columns))
        if framed:
            size = (1 - GAP, height * (1 - GAP))
            axes.add_patch(
                Rectangle(
                    (extent[0], 0), *size, fill=False, linewidth=0.5, edgecolor=current().muted, clip_on=False
                )
            )
    axes.set_xlim(0, columns)
    axes.set_ylim(height * (1 - GAP), 0)
    axes.set_axis_off()


GAP = 0.08
"""Space between small pictures, as a share of their width."""


def row_height(tiles: Tiles, width: float, columns: int) -> float:
    """Height in inches of a row of pictures of which `columns` have a width."""
    return width / columns * tiles.shape[1] / tiles.shape[2] * (1 - GAP)


def _interpolation(tile: NDArray[Any], inches: float) -> str:
    """Pixels with hard edges; a picture with more of them than fit is averaged."""
    return "antialiased" if tile.shape[1] > 0.8 * inches * DPI else "nearest"


def mosaic(tiles: Tiles, columns: int) -> Tiles:
    """Small pictures in rows as one picture, (height, width, 4); the gaps between them are transparent."""
    factor = max(1, math.ceil(TILE_PIXELS / max(tiles.shape[1:3])))
    tiles = tiles.repeat(factor, 1).repeat(factor, 2)
    n, height, width, _ = tiles.shape
    gap = max(1, round(GAP * max(height, width)))
    rows = math.ceil(n / columns)
    whole = np.zeros((rows * (height + gap), columns * (width + gap), 4), np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        whole[top : top + height, left : left + width] = tile
    return whole[: len(whole) - gap, : whole.shape[1] - gap]


def draw_grid(
    tiles: Tiles, columns: int, title: str, *, tick: float = 0.0, bottom: float = 0.0
) -> tuple[Any, Any]:
    """A figure of small pictures in rows.

    Args:
        tiles: (n, height, width, 4); the last row may be shorter.
        columns: pictures in a row.
        title: of the figure.
        tick: inches that are left free at the left.
        bottom: inches that are left free below.

    Returns:
        The figure and its axes.
    """
    columns = min(columns, max(len(tiles), 1))
    whole = mosaic(tiles, columns)
    tile = min(LARGEST_TILE, (WIDTH - 2 * MARGIN - tick) / columns)
    width = tile * columns
    height = width * whole.shape[0] / whole.shape[1]
    head = TITLE if title else MARGIN
    figure = new_figure(head + height + MARGIN + bottom, title=title)
    axes = place(figure, MARGIN + tick, head, width, height)
    axes.imshow(whole, aspect="auto", interpolation=_interpolation(tiles[0], tile))
    axes.set_axis_off()
    return figure, axes


# -- points -------------------------------------------------------------------------------------------


def draw_points(
    figure: Any, at: tuple[float, float, float, float], x: Tensor, colours: Any, bounds: Tensor, title: str,
    names: Sequence[str] = (), **options: Any,
) -> Any:  # fmt: skip
    """Draws samples of one, two or three values as points.

    Args:
        figure: the figure.
        at: left, top, width and height in inches.
        x: (n, 1 to 3).
        colours: of the points, as Matplotlib takes them.
        bounds: smallest and largest value on each axis, (2, 1 to 3).
        title: of the axes.
        names: of the axes.
        options: for Matplotlib's `scatter`.
    """
    values = x.double().numpy()
    values = np.where(np.isfinite(values), values, np.nan)
    if values.shape[1] == 1:
        values = np.concatenate([values, np.zeros_like(values)], 1)
        bounds = torch.cat([bounds, torch.tensor([[-1.0], [1.0]], dtype=torch.float64)], 1)
    deep = values.shape[1] == 3
    axes: Any = place(figure, *at, projection="3d" if deep else None)
    axes.scatter(*values.T, c=colours, s=point_size(len(values)), linewidths=0, **options)
    low, high = bounds.numpy()
    for index, axis in enumerate("xyz"[: values.shape[1]]):
        getattr(axes, f"set_{axis}lim")(*with_margin(float(low[index]), float(high[index])))
        if index < len(names):
            label = getattr(axes, f"set_{axis}label")
            label(shortened(names[index], 22), fontsize=SMALL, labelpad=-12 if deep else 2)
    if deep:
        style_3d(axes)
    else:
        frame(axes, bare=True)
    axes.set_title(title, loc="left")
    return axes


def style_3d(axes: Any) -> None:
    """Empty walls and no numbers: those of three axes are too close to each other to read."""
    t = current()
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0, 0, 0, 0))
        axis.line.set_color(t.line)
        axis.set_ticklabels([])
        axis._axinfo["grid"].update(color=t.line, linewidth=0.4)
        axis._axinfo["tick"].update(inward_factor=0.0, outward_factor=0.0)
    axes.view_init(elev=12, azim=-75)
    axes.set_box_aspect(None, zoom=1.2)


def point_size(n: int) -> float:
    """Area of a marker for n points, in square points."""
    return float(np.clip(5000 / n, 3.0, 30.0))


def bounds_of(*tensors: Tensor) -> Tensor:
    """The smallest and the largest finite value on each axis, (2, axes)."""
    x = torch.cat([t.double() for t in tensors])
    found = [limits(x[:, axis]) for axis in range(x.shape[1])]
    return torch.tensor(found, dtype=torch.float64).T


def cube(bounds: Tensor) -> Tensor:
    """One range for all axes, so that shapes keep their proportions."""
    centre, half = bounds.mean(0), (bounds[1] - bounds[0]).max() / 2
    return torch.stack([centre - half, centre + half])


# -- bars and lines -----------------------------------------------------------------------------------


class Series:
    """What is drawn of each sample: its values, and how.

    Args:
        name: in the legend.
        values: (n, *shape).
        role: `given` for what is compared, `made` for what a network gives, `noisy` for a corrupted input.
    """

    def __init__(self, name: str, values: Tensor, role: Literal["given", "made", "noisy"]) -> None:
        self.name, self.values, self.role = name, values, role

    @property
    def colour(self) -> str:
        """Its colour in the current theme."""
        t = current()
        return {"given": t.muted, "made": t.accent, "noisy": t.line}[self.role]


def draw_bars(axes: Any, series: Sequence[Series], index: int, scale: tuple[float, float]) -> None:
    """Draws the values of a sample as horizontal bars, and those of others as markers on them."""
    low, high = min(scale[0], 0.0), max(scale[1], 0.0)
    for place_, one in enumerate(series):
        values = one.values[index].double().nan_to_num(math.nan, high, low).numpy()
        at = np.arange(len(values))
        if place_ == 0:
            axes.barh(at, np.nan_to_num(values), height=0.72, color=one.colour, alpha=0.55)
        else:
            marker = "D" if one.role == "made" else "|"
            axes.plot(values, at, marker, color=one.colour, markersize=4.5, markeredgewidth=1.2)
    axes.axvline(0, color=current().muted, linewidth=0.6)
    axes.set_xlim(*with_margin(low, high))
    axes.set_ylim(series[0].values.shape[1] - 0.4, -0.6)
    frame(axes, bare=True)


def draw_lines(axes: Any, series: Sequence[Series], index: int, scale: tuple[float, float]) -> None:
    """Draws the channels of a sample, (channels, length), as lines."""
    for one in series:
        values = one.values[index].double().nan_to_num(math.nan, scale[1], scale[0]).numpy()
        wide = {"given": 2.4, "noisy": 1.0, "made": 1.1}[one.role]
        # A line of one value is invisible.
        marker = "o" if values.shape[1] == 1 else ""
        axes.plot(values.T, color=one.colour, linewidth=wide, marker=marker, markersize=3)
    axes.set_ylim(*with_margin(*scale))
    axes.set_xlim(*with_margin(0.0, float(series[0].values.shape[2] - 1)))
    frame(axes, bare=True)


def draw_panels(
    series: Sequence[Series], kind: Literal["bars", "lines"], title: str, names: Sequence[str],
    columns: int, strips: Tensor | None = None,
) -> Any:  # fmt: skip
    """A figure with a panel for each sample.

    Args:
        series: what is drawn in each panel.
        kind: bars, for (n, values), or lines, for (n, channels, length).
        title: of the figure.
        names: of the values of a sample.
        columns: panels in a row.
        strips: latents, (n, latents), drawn below each panel.
    """
    count = len(series[0].values)
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    scale = limits(*(one.values for one in series))
    bars = kind == "bars"
    values = series[0].values.shape[1]
    shown = [shortened(name, 18) for name in names] if len(names) == values else []
    ends = [number(value) for value in scale]
    left = MARGIN + 0.08 + 0.085 * max([5, *map(len, shown if bars else ends)])
    head = (TITLE if title else MARGIN) + 0.22
    height = 0.19 * values + 0.1 if bars else 0.85
    strip = 0.0 if strips is None else 0.17
    gap = 0.3 if bars else 0.12
    figure = new_figure(head + rows * (height + strip + gap) + MARGIN, title=title)
    width = min((WIDTH - left - MARGIN - 0.1 * (columns - 1)) / columns, 2.2 if bars else 5.0)
    largest = 1.0 if strips is None else spread(strips)
    for index in range(count):
        row, column = divmod(index, columns)
        across, top = left + column * (width + 0.1), head + row * (height + strip + gap)
        axes = place(figure, across, top, width, height)
        (draw_bars if bars else draw_lines)(axes, series, index, scale)
        if column == 0:
            _label_first(axes, kind, shown, values, scale)
        last = index + columns >= count
        if bars and column == 0 and (last or row == rows - 1):
            low, high = min(scale[0], 0.0), max(scale[1], 0.0)
            axes.set_xticks([low, high], [number(low), number(high)])
        if strips is not None:
            below = place(figure, across, top + height + 0.03 + (0.17 if bars and last else 0), width, 0.1)
            below.imshow(
                signed_colours(strips[index].double().numpy()[None], largest), aspect="auto",
                interpolation="nearest",
            )  # fmt: skip
            frame(below, bare=True)
            if column == 0:
                below.set_ylabel(
                    "latents", rotation=0, ha="right", va="center", fontsize=SMALL - 1, labelpad=3
                )
    _legend(figure, series, kind, head)
    return figure


def _label_first(axes: Any, kind: str, shown: list[str], values: int, scale: tuple[float, float]) -> None:
    """Names the values of bars, or the ends of the scale of lines."""
    if kind == "bars":
        labels = shown or [str(index) for index in range(values)]
        axes.set_yticks(range(values), labels)
        return
    low, high = scale
    axes.set_yticks([low, high] if high > low else [low], [number(low), number(high)][: 1 + (high > low)])


def _legend(figure: Any, series: Sequence[Series], kind: str, head: float) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    for index, one in enumerate(series):
        if kind == "bars" and index == 0:
            handles.append(Patch(color=one.colour, alpha=0.55, label=one.name))
        else:
            marker = "" if kind == "lines" else "D" if one.role == "made" else "|"
            style = "-" if kind == "lines" else ""
            handles.append(
                Line2D(
                    [], [], color=one.colour, marker=marker, linestyle=style, markersize=4.5, label=one.name
                )
            )
    if len(handles) < 2:
        return
    at = (MARGIN / WIDTH, 1 - (head - 0.24) / float(figure.get_size_inches()[1]))
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=at, ncols=4, borderaxespad=0, borderpad=0.1
    )


def caption(axes: Any, text: str) -> None:
    """A line above an axes, at its left."""
    axes.set_title(text, loc="left", fontsize=TEXT)


def signed_note(x: Tensor) -> str:
    """What the colours of a map say, such as `-3 blue, 3 red`."""
    low, high = limits(x)
    largest = spread(x)
    if low >= 0:
        return f"0 to {number(largest)}"
    return f"\N{MINUS SIGN}{number(largest)} blue, {number(largest)} red" if high > low or low else "0"


def as_list(x: Tensor) -> list[Any]:
    """The values of a vector."""
    return cast(list[Any], x.tolist())
