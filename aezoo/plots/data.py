"""Figures of samples: images, points, bars and lines."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from aezoo.data.containers import plain_tensor
from aezoo.data.transforms import scale_bytes
from aezoo.errors import DataError
from aezoo.plots.arguments import check_count, checked, checked_labels, classes_of
from aezoo.plots.panels import (
    MARGIN,
    TITLE,
    Series,
    as_list,
    as_tiles,
    bounds_of,
    cube,
    draw_grid,
    draw_panels,
    draw_points,
    kind_of,
)
from aezoo.plots.style import TEXT, WIDTH, class_style, current, limits, new_figure, styled

if TYPE_CHECKING:
    from aezoo.plots.figure import Figure

COLUMNS = {"images": 12, "maps": 12, "bars": 4, "lines": 3}
"""Samples in a row of a figure, by how they are drawn."""


@styled
def images(
    x: Tensor, *, columns: int = 12, value_range: tuple[float, float] | None = (0.0, 1.0), title: str = ""
) -> "Figure":
    """Draws a grid of images.

    Args:
        x: (batch, channels, height, width), on any device; one channel is gray, three are RGB, others are
            drawn side by side as maps of signed values. uint8 is scaled from 0..255 to `value_range`.
        columns: images in a row.
        value_range: values drawn as black and as white; None takes the smallest and the largest of all
            images.
        title: title of the figure.

    Returns:
        A Matplotlib figure.

    Raises:
        DataError: no images, or another shape or dtype.
    """
    if getattr(x, "dtype", None) is torch.uint8:
        value_range = value_range or (0.0, 255.0)
        x = scale_bytes(plain_tensor(x), value_range)
    x = checked(x, "images")
    if x.ndim != 4:
        raise DataError(f"expected images of shape (batch, channels, height, width), found {list(x.shape)}")
    check_count(columns, "columns")
    return draw_grid(as_tiles(x, value_range, limits(x)), columns, title)[0]


@styled
def points(
    x: Tensor,
    x_hat: Tensor | None = None,
    *,
    labels: Tensor | None = None,
    names: Sequence[str] = (),
    title: str = "",
) -> "Figure":
    """Draws samples of two or three values as points, beside their reconstructions.

    Without labels, colours go by the first value of `x`, so that a point and its reconstruction have the same
    colour. All panels have the same axes, and the same scale in all directions.

    Args:
        x: (batch, 2) or (batch, 3), floating point.
        x_hat: of the shape of `x`.
        labels: (batch,), whole numbers for classes or a number for a continuous scale.
        names: of the values.
        title: title of the figure.

    Returns:
        A Matplotlib figure.

    Raises:
        DataError: no samples, another shape or dtype, or another number of labels.
    """
    x = checked(x, "x")
    if x.ndim != 2 or x.shape[1] not in (2, 3):
        raise DataError(f"expected points of shape (batch, 2) or (batch, 3), found {list(x.shape)}")
    panels = {"input": x} if x_hat is not None else {"": x}
    if x_hat is not None:
        panels["reconstruction"] = _same_shape(checked(x_hat, "x_hat"), x)
    known = None if labels is None else checked_labels(labels, len(x))
    figure = point_panels(panels, point_colours(x, known), names, title, shared=tuple(panels))
    if known is not None and not known.is_floating_point() and len(classes_of(known)) <= MOST_NAMED:
        _name_classes(figure, classes_of(known), beside=len(panels) == 1)
    return figure


MOST_NAMED = 10
"""Most classes of which `points` names the colours."""


def _name_classes(figure: Any, known: list[Any], *, beside: bool) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=class_style(i)[0], marker="o", linestyle="", markersize=5, label=str(one))
        for i, one in enumerate(known)
    ]
    place = {"loc": "center right"} if beside else {"loc": "upper right", "ncols": len(known)}
    figure.legend(handles=handles, handletextpad=0.1, columnspacing=0.6, **place)


def point_colours(x: Tensor, labels: Tensor | None) -> Any:
    """Colours of points: of their classes, of a number, or of their first value."""
    if labels is not None and not labels.is_floating_point():
        numbers = as_list(cast(Tensor, torch.unique(labels, return_inverse=True)[1]))
        return [class_style(number)[0] for number in numbers]
    values = x[:, 0].double() if labels is None else labels.double()
    return values.nan_to_num().numpy()


def point_panels(
    panels: dict[str, Tensor], colours: Any, names: Sequence[str], title: str, shared: Sequence[str]
) -> "Figure":
    """A figure with a panel of points for each tensor, (n, 1 to 3).

    Args:
        panels: title of a panel -> points.
        colours: of the points.
        names: of the axes of panels in `shared`.
        title: of the figure.
        shared: panels that have the same axes.
    """
    head = TITLE if title else MARGIN
    top = head + (0.22 if any(panels) else 0)
    width = min(3.4, (WIDTH - MARGIN) / len(panels) - MARGIN)
    label = 0.2 if names else 0.0
    figure = new_figure(top + width + label + MARGIN, title=title)
    options = {} if isinstance(colours, list) else {"cmap": "viridis"}
    common = cube(bounds_of(*(panels[name] for name in shared)))
    for index, (name, x) in enumerate(panels.items()):
        bounds = common if name in shared else cube(bounds_of(x))
        across = MARGIN + label + index * (width + MARGIN)
        at = (across, top, width - label, width - label)
        draw_points(figure, at, x, colours, bounds, name, names if name in shared else (), **options)
    return figure


@styled
def bars(
    x: Tensor,
    x_hat: Tensor | None = None,
    *,
    names: Sequence[str] = (),
    columns: int = 4,
    title: str = "",
) -> "Figure":
    """Draws samples of a few values as bars, a panel for each, and their reconstructions as markers.

    All panels have the same scale.

    Args:
        x: (batch, values), at most 64 values, floating point.
        x_hat: of the shape of `x`.
        names: of the values; otherwise they have numbers.
        columns: panels in a row.
        title: title of the figure.

    Returns:
        A Matplotlib figure.

    Raises:
        DataError: no samples, or another shape or dtype.
    """
    x = checked(x, "x")
    if x.ndim != 2 or x.shape[1] > MOST_BARS:
        raise DataError(f"expected rows of shape (batch, 1 to {MOST_BARS}), found {list(x.shape)}")
    check_count(columns, "columns")
    return draw_panels(_series(x, x_hat), "bars", title, names, columns)


@styled
def lines(x: Tensor, x_hat: Tensor | None = None, *, columns: int = 2, title: str = "") -> "Figure":
    """Draws series as lines, a panel for each sample, with their reconstructions on them.

    All panels have the same scale. The channels of a sample are drawn in one panel.

    Args:
        x: (batch, channels, length) or (batch, length), floating point.
        x_hat: of the shape of `x`.
        columns: panels in a row.
        title: title of the figure.

    Returns:
        A Matplotlib figure.

    Raises:
        DataError: no samples, or another shape or dtype.
    """
    x = checked(x, "x")
    if x.ndim not in (2, 3):
        raise DataError(f"expected series of shape (batch, channels, length), found {list(x.shape)}")
    check_count(columns, "columns")
    series = _series(x, x_hat)
    for one in series:
        one.values = one.values if x.ndim == 3 else one.values[:, None]
    return draw_panels(series, "lines", title, (), columns)


MOST_BARS = 64
"""Largest number of values of a sample that `bars` draws."""


def _series(x: Tensor, x_hat: Tensor | None) -> list[Series]:
    found = [Series("input", x, "given")]
    if x_hat is not None:
        found.append(Series("reconstruction", _same_shape(checked(x_hat, "x_hat"), x), "made"))
    return found


def _same_shape(x_hat: Tensor, x: Tensor) -> Tensor:
    if x_hat.shape != x.shape:
        raise DataError(f"x_hat: expected the shape of x, {list(x.shape)}, found {list(x_hat.shape)}")
    return x_hat


def batch_figure(
    x: Tensor,
    value_range: tuple[float, float] | None,
    title: str,
    columns: int | None = None,
    names: Sequence[str] = (),
) -> "Figure":
    """A figure of samples of any shape, on one scale.

    Args:
        x: (batch, *shape), on the CPU.
        value_range: of images.
        title: of the figure.
        columns: samples in a row; by default as many as can be read.
        names: of the values of a sample.
    """
    kind = kind_of(x.shape[1:])
    if kind == "points":
        return point_panels({"": x}, point_colours(x, None), names, title, ("",))
    if kind in ("bars", "lines"):
        series = [Series("output", x, "made")]
        return draw_panels(series, kind, title, names, min(columns or COLUMNS[kind], 6))
    return draw_grid(as_tiles(x, value_range, limits(x)), columns or COLUMNS[kind], title)[0]


def note_below(figure: Any, text: str) -> None:
    """A line at the bottom of a figure."""
    height = float(figure.get_size_inches()[1])
    figure.text(MARGIN / WIDTH, 0.05 / height, text, fontsize=TEXT, color=current().muted, va="bottom")
