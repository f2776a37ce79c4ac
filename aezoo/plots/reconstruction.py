"""Figures of what networks give: reconstructions, samples, and several networks side by side."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aezoo.errors import DataError
from aezoo.model.autoencoder import Autoencoder, eval_mode
from aezoo.model.summary import format_shape
from aezoo.plots.arguments import check_count, checked
from aezoo.plots.data import batch_figure, point_colours, point_panels
from aezoo.plots.panels import (
    MARGIN,
    TITLE,
    Series,
    as_maps,
    as_tiles,
    caption,
    draw_bars,
    draw_lines,
    draw_panels,
    draw_row,
    kind_of,
    row_height,
    signed_note,
)
from aezoo.plots.style import (
    SMALL,
    WIDTH,
    limits,
    new_figure,
    place,
    shortened,
    spread,
    styled,
)

if TYPE_CHECKING:
    from aezoo.plots.figure import Figure

SHOWN = {"images": 12, "maps": 12, "bars": 4, "lines": 6}
"""Samples drawn by default, by how they are drawn."""


@styled
def reconstructions(
    ae: Autoencoder,
    x: Tensor,
    *,
    target: Tensor | None = None,
    noisy: Tensor | None = None,
    columns: int | None = None,
) -> "Figure":
    """Draws the input, the latents and the reconstruction of some samples.

    Images, and vectors as near-square maps of their values, have a row for the inputs, one for the latents
    and one for the reconstructions. Series are lines, and up to 16 values bars with the names of the columns:
    each sample has a panel, with the reconstruction on the input and the latents below. Samples of two or
    three values are points: all of `x` are drawn, coloured by the first value of the input.

    Everything is drawn on one scale: the range of the spec, or without one the smallest and the largest value
    of all samples, their targets and their reconstructions. Latents have a scale of their own. In maps, also
    those of latents and of images that are neither gray nor RGB, blue is negative and red is positive.

    Args:
        ae: its mode is restored afterwards.
        x: (batch, *input shape), floating point, on any device; `ae.transforms()` gives it.
        target: (batch, *target shape); drawn if it is not the input.
        noisy: `x` with noise, of its shape; it is then what the network gets.
        columns: number of samples drawn, the first ones; by default 12 images, 6 series or 4 sets of bars.

    Returns:
        A Matplotlib figure; `figure.savefig(path)` writes it.

    Raises:
        DataError: no samples, another shape than the network's, not floating point, or as many targets.
    """
    x = checked(x, "x")
    target = None if target is None else checked(target, "target")
    noisy = None if noisy is None else checked(noisy, "noisy")
    if target is not None and tuple(target.shape) != (len(x), *ae.spec.output.shape):
        raise DataError(
            f"expected targets of shape {[len(x), *ae.spec.output.shape]}, found {list(target.shape)}"
        )
    if noisy is not None and noisy.shape != x.shape:
        raise DataError(f"noisy: expected the shape of x, {list(x.shape)}, found {list(noisy.shape)}")
    if columns is not None:
        check_count(columns, "columns")
    kind = kind_of(ae.spec.input.shape)
    if ae.spec.output.shape != ae.spec.input.shape and kind != "images":
        kind = "maps"
    shown = len(x) if kind == "points" else columns or SHOWN[kind]
    rows = {"input": x[:shown]}
    if noisy is not None and not _equal(noisy[:shown], rows["input"]):
        rows["with noise"] = noisy[:shown]
    if target is not None and not _equal(target[:shown], rows["input"]):
        rows["target"] = target[:shown]
    given = x if noisy is None else noisy
    weight = next(ae.parameters(), x)
    with eval_mode(ae), torch.no_grad():
        out = ae(given[:shown].to(weight.device, weight.dtype))
    latents, rows["reconstruction"] = out.latents.detach().cpu(), out.x_hat.detach().cpu()
    title = f"{name_of(ae)}: {format_shape(ae.latent_shape)} {'latent' if ae.num_latents == 1 else 'latents'}"
    if kind == "points":
        return _points(ae, rows, latents, title)
    if kind == "bars" or kind == "lines":
        roles = {"input": "given", "with noise": "noisy", "target": "given", "reconstruction": "made"}
        if "target" in rows:
            roles["input"] = "noisy"
        series = [Series(name, values, roles[name]) for name, values in rows.items()]  # pyright: ignore[reportArgumentType]
        return draw_panels(series, kind, title, ae.columns, 4 if kind == "bars" else 2, latents.flatten(1))
    return _rows(ae, rows, latents, title, columns or SHOWN[kind])


def _rows(ae: Autoencoder, rows: dict[str, Tensor], latents: Tensor, title: str, columns: int) -> "Figure":
    """A figure with a row of small pictures for each tensor."""
    scale = limits(*rows.values())
    inputs = ("input", "with noise")
    drawn = {
        name: as_tiles(x, (ae.spec.input if name in inputs else ae.spec.output).range, scale)
        for name, x in rows.items()
    }
    made = drawn.pop("reconstruction")
    words = f"latents: {signed_note(latents)}"
    whole = drawn | {words: as_maps(latents, spread(latents)), "reconstruction": made}
    # At most 20 pictures in the width, and few pictures are not enlarged beyond an inch.
    columns = max(6, min(columns, len(latents)))
    width = WIDTH - 2 * MARGIN
    heights = {name: max(0.1, row_height(tiles, width, columns)) for name, tiles in whole.items()}
    line = 0.2
    figure = new_figure(TITLE + sum(heights.values()) + (line + 0.05) * len(whole) + MARGIN, title=title)
    top = TITLE + line
    for name, tiles in whole.items():
        axes = place(figure, MARGIN, top, width, heights[name])
        framed = name == words or kind_of(rows[name].shape[1:]) != "images"
        draw_row(axes, tiles, columns, width, framed=framed)
        caption(axes, name)
        top += heights[name] + line + 0.05
    return figure


def _points(ae: Autoencoder, rows: dict[str, Tensor], latents: Tensor, title: str) -> "Figure":
    flat = latents.double().flatten(1)
    panels = {name: x for name, x in rows.items() if name != "reconstruction"}
    if flat.shape[1] <= 3:
        panels["latents"] = flat
    else:
        title = f"{title}, not drawn"
    panels["reconstruction"] = rows["reconstruction"]
    shared = tuple(name for name in panels if name != "latents")
    return point_panels(panels, point_colours(rows["input"], None), ae.columns, title, shared)


@torch.no_grad()
@styled
def samples(
    ae: Autoencoder, n: int = 48, *, columns: int | None = None, seed: int = 0, title: str = ""
) -> "Figure":
    """Draws samples from the prior of a variational autoencoder.

    Args:
        ae: its mode is restored afterwards.
        n: number of samples.
        columns: samples in a row; by default as many as can be read.
        seed: the same seed gives the same samples.
        title: title of the figure; by default the name of the network.

    Returns:
        A Matplotlib figure.

    Raises:
        NotSupportedError: the autoencoder has no prior.
    """
    check_count(n, "n")
    if columns is not None:
        check_count(columns, "columns")
    with eval_mode(ae):
        made = ae.sample(n, seed=seed).cpu()
    return batch_figure(made, ae.spec.output.range, title or f"{name_of(ae)}: samples", columns, ae.columns)


@styled
def comparison(
    rows: dict[str, Tensor],
    *,
    value_range: tuple[float, float] | None = None,
    columns: Sequence[str] = (),
    notes: dict[str, str] | None = None,
) -> "Figure":
    """Draws the same samples as several networks return them, a row for each, on one scale.

    Args:
        rows: name of the row -> (samples, *shape), floating point, all of one shape.
        value_range: values drawn as black and as white; None takes the smallest and the largest of all.
        columns: names of the values of a sample, for bars.
        notes: name of a row -> a short text beside its name.

    Returns:
        A Matplotlib figure.

    Raises:
        DataError: no rows, no samples, or tensors of different shapes.
    """
    checked_rows = {name: checked(x, name) for name, x in rows.items()}
    if not checked_rows:
        raise DataError("rows: expected at least one, found none")
    first = next(iter(checked_rows.values()))
    for name, x in checked_rows.items():
        if x.shape != first.shape:
            raise DataError(
                f"rows: expected shape {list(first.shape)} as in the first, found {name}: {list(x.shape)}"
            )
    kind = kind_of(first.shape[1:])
    kind = "bars" if kind == "points" else kind
    scale = limits(*checked_rows.values())
    count = len(first)
    shown = min(count, {"images": count, "maps": count, "bars": 4, "lines": 4}[kind])
    width = WIDTH - 2 * MARGIN
    names = [shortened(name, 12) for name in columns] if len(columns) == first.shape[1] else []
    left = 0.08 * max(map(len, names)) if names and kind == "bars" else 0.0
    line = 0.22
    heights: dict[str, float] = {}
    for name, x in checked_rows.items():
        tiles = as_tiles(x[:1], value_range, scale) if kind in ("images", "maps") else None
        bars = 0.13 * first.shape[1] + 0.08
        heights[name] = (
            bars if kind == "bars" else 0.6 if tiles is None else row_height(tiles, width, max(6, shown))
        )
    figure = new_figure(sum(heights.values()) + (line + 0.05) * len(rows) + 2 * MARGIN)
    top = MARGIN + line
    for name, x in checked_rows.items():
        panel = (width - left) / shown - 0.08
        if kind in ("images", "maps"):
            first_axes = place(figure, MARGIN, top, width, heights[name])
            tiles = as_tiles(x, value_range, scale)
            draw_row(first_axes, tiles, max(6, shown), width, framed=kind == "maps")
        else:
            first_axes = place(figure, MARGIN + left, top, panel, heights[name])
        for index in range(shown) if kind in ("bars", "lines") else ():
            place_ = MARGIN + left + index * (panel + 0.08)
            axes = place(figure, place_, top, panel, heights[name]) if index else first_axes
            (draw_bars if kind == "bars" else draw_lines)(axes, [Series(name, x, "made")], index, scale)
        if names and kind == "bars":
            first_axes.set_yticks(range(len(names)), names, fontsize=SMALL - 1)
        note = (notes or {}).get(name)
        caption(first_axes, shortened(name + (f": {note}" if note else ""), 70))
        top += heights[name] + line + 0.05
    return figure


def name_of(ae: Autoencoder) -> str:
    """The name of a variant."""
    return str(getattr(ae.spec, "name", "autoencoder"))


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=0, atol=0, equal_nan=True)
