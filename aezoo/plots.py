"""Figures of reconstructions, dictionaries and latent spaces, drawn with Matplotlib."""

import io
import math
import warnings
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aezoo.data.containers import plain_tensor
from aezoo.data.transforms import check_finite, scale_bytes
from aezoo.errors import DataError, NotSupportedError
from aezoo.evaluation.metrics.latents import decoder_atoms
from aezoo.model.autoencoder import Autoencoder, eval_mode
from aezoo.text import printable, type_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, BAR = "#1f2933", "#3d6fa5"
MAX_BARS = 16
"""Number of values of a sample up to which they are drawn as bars."""


def reconstructions(
    ae: Autoencoder, x: Tensor, *, target: Tensor | None = None, columns: int = 12
) -> "Figure":
    """Draws the input, the latents and the reconstruction of some samples, one column for each.

    Images are drawn as images, series as lines, up to 16 values as bars with the names of the columns, and
    longer vectors as a near-square map of their values. Maps, also those of latents and of images that are
    neither gray nor RGB: blue is negative, white is zero, red is positive; channels stand side by side.

    Everything is drawn on one scale: the range of the spec, or without one the smallest and the largest value
    of all samples, their targets and their reconstructions. Latents have a scale of their own.

    Samples of two values are points: all of `x` are drawn, in one panel each for the inputs, the latents and
    the reconstructions, coloured by the first value of the input.

    Args:
        ae: its mode is restored afterwards.
        x: (batch, *input shape), floating point, on any device; `ae.transforms()` gives it.
        target: (batch, *target shape); a row of its own if it is not the input, as for a noisy input.
        columns: number of samples drawn, the first ones.

    Returns:
        A Matplotlib figure; `figure.savefig(path)` writes it.

    Raises:
        DataError: no samples, another shape than the network's, not floating point, or as many targets.
    """
    x = _checked(x, "x")
    target = None if target is None else _checked(target, "target").detach().cpu()
    if target is not None and tuple(target.shape) != (len(x), *ae.spec.output.shape):
        raise DataError(
            f"expected targets of shape {[len(x), *ae.spec.output.shape]}, found {list(target.shape)}"
        )
    _check_count(columns, "columns")
    points = ae.spec.input.shape == ae.spec.output.shape == (2,)
    x = x if points else x[:columns]
    weight = next(iter(ae.parameters()), x)
    with eval_mode(ae), torch.no_grad():
        out = ae(x.to(weight.device, weight.dtype))
    rows = {"input": x.detach().cpu()}
    if target is not None and not _equal(target[: len(x)], rows["input"]):
        rows["target"] = target[: len(x)]
    rows |= {"latents": out.latents.detach().cpu(), "reconstruction": out.x_hat.detach().cpu()}
    return _draw_points(ae, rows) if points else _draw_rows(ae, rows)


def _draw_rows(ae: Autoencoder, rows: dict[str, Tensor]) -> "Figure":
    """A figure with a row for each tensor and a column for each sample."""
    # Without pyplot, there is no window, no global state and no backend to choose. Importing it takes long.
    from matplotlib.figure import Figure

    columns = len(rows["input"])
    values = [x for name, x in rows.items() if name != "latents"]
    bars = [x for x in values if _is_bars(x)]
    has_scale = [name for name, x in rows.items() if name != "latents" and (_is_bars(x) or x.ndim == 3)]
    width = max([0.8, *(0.13 * x.shape[1] for x in bars)])
    left = 1.35 if has_scale else 1.05
    height = 3.1 + 1.0 * (len(rows) - 3) + (0.5 if bars else 0)
    figure = Figure(figsize=(width * columns + left + 0.05, height), dpi=120, facecolor="white")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    spread = _spread(rows["latents"])
    limits = _limits(*values)
    for axes_of_row, (name, x) in zip(grid, rows.items(), strict=True):
        spec = ae.spec.input if name == "input" else ae.spec.output
        for axes, one in zip(axes_of_row, x, strict=True):
            if name == "latents":
                _draw_map(axes, one, spread)
            else:
                _draw(axes, one, spec.range, limits)
        first = axes_of_row[0]
        first.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9, color=INK)
        if name in has_scale:
            _show_scale(first, _with_zero(limits) if _is_bars(x) else limits)
        if name == "reconstruction" and _is_bars(x) and len(ae.columns) == x.shape[1]:
            for axes in axes_of_row:
                _name_bars(axes, ae.columns)
    shape = " x ".join(map(str, ae.latent_shape))
    figure.suptitle(f"{_name(ae)}: {shape} latents", fontsize=11, color=INK, y=0.98)
    figure.subplots_adjust(
        left=left / (width * columns + left + 0.05),
        right=0.99,
        top=1 - 0.372 / height,
        bottom=(0.55 if bars else 0.093) / height,
        hspace=0.08,
    )
    return figure


def _draw_points(ae: Autoencoder, rows: dict[str, Tensor]) -> "Figure":
    """A figure with a panel for each tensor, in which samples are points."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.0 * len(rows), 3.3), dpi=120, facecolor="white")
    limits = _limits(*(x for name, x in rows.items() if name != "latents"))
    colour = rows["input"][:, 0].double().numpy()
    for axes, (name, x) in zip(figure.subplots(1, len(rows), squeeze=False)[0], rows.items(), strict=True):
        flat = x.double().flatten(1).numpy()
        if flat.shape[1] <= 2:
            down = flat[:, 1] if flat.shape[1] == 2 else np.zeros(len(flat))
            low, high = limits if name != "latents" else _limits(x)
            axes.scatter(flat[:, 0], down, c=colour, s=5, linewidths=0, cmap="viridis")
            for set_limits in (axes.set_xlim, axes.set_ylim):
                set_limits(*_with_margin(low, high))
            axes.set_aspect("equal")
            _bare(axes)
            _show_scale(axes, (low, high))
        else:
            spread = _spread(x)
            axes.imshow(
                flat, cmap="RdBu_r", vmin=-spread, vmax=spread, aspect="auto", interpolation="nearest"
            )
            _bare(axes)
        axes.set_title(name, fontsize=9, color=INK)
    shape = " x ".join(map(str, ae.latent_shape))
    figure.suptitle(f"{_name(ae)}: {shape} latents", fontsize=11, color=INK, y=0.98)
    figure.tight_layout()
    return figure


def images(
    x: Tensor, *, columns: int = 12, value_range: tuple[float, float] | None = (0.0, 1.0), title: str = ""
) -> "Figure":
    """Draws a grid of images.

    Args:
        x: (batch, channels, height, width), on any device; one channel is gray, three are RGB, others are
            drawn side by side. uint8 is scaled from 0..255 to `value_range`.
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
    x = _checked(x, "images")
    if x.ndim != 4:
        raise DataError(f"expected images of shape (batch, channels, height, width), found {list(x.shape)}")
    return _draw_grid(x, columns, value_range, title)


def _draw_grid(x: Tensor, columns: int, value_range: tuple[float, float] | None, title: str) -> "Figure":
    """A grid of samples of any shape on one scale."""
    _check_count(columns, "columns")
    x = x.detach().cpu()
    figure, grid = _grid(len(x), columns, title)
    limits = _limits(x)
    for axes, one in zip(grid, x, strict=True):
        _draw(axes, one, value_range, limits)
    return figure


def dictionary(ae: Autoencoder, *, columns: int = 16, most: int = 128) -> "Figure":
    """Draws the atoms of a decoder of one linear layer: the weights from each latent to the output.

    Blue is negative, red is positive. Each atom has its own scale.

    Args:
        ae: its decoder has one linear layer, and its target is a gray image.
        columns: atoms in a row.
        most: maximum number of atoms drawn, the first ones.

    Returns:
        A Matplotlib figure.

    Raises:
        NotSupportedError: the decoder has other layers with weights, or the target is not a gray image.
    """
    _check_count(columns, "columns")
    _check_count(most, "most")
    atoms = decoder_atoms(ae)
    if atoms is None or atoms.ndim != 4 or atoms.shape[1] != 1:
        raise NotSupportedError(
            "only decoders of one linear layer that give gray images have a dictionary to draw"
        )
    atoms = atoms[:most].cpu().float()
    figure, grid = _grid(len(atoms), columns, f"{_name(ae)}: atoms of the dictionary")
    for axes, atom in zip(grid, atoms, strict=True):
        spread = _spread(atom)
        axes.imshow(atom[0].numpy(), cmap="RdBu_r", vmin=-spread, vmax=spread)
        axes.axis("off")
    return figure


@torch.no_grad()
def walk(ae: Autoencoder, x: Tensor, *, steps: int = 12) -> "Figure":
    """Draws decoded latents along straight lines between the latents of pairs of samples.

    Args:
        ae: its mode is restored afterwards; its decoder must need only the latents.
        x: (2 n, *input shape); samples 2 i and 2 i + 1 are the ends of row i.
        steps: images in a row, both ends included.

    Returns:
        A Matplotlib figure.

    Raises:
        DataError: no samples, an odd number of them, or another shape or dtype than the network's.
        NotSupportedError: the decoder needs more than the latents.
    """
    x = _checked(x, "x")
    if len(x) % 2:
        raise DataError(f"expected pairs of samples, found {len(x)}, which is odd")
    _check_count(steps, "steps")
    with eval_mode(ae):
        latents = ae.encode(x.to(next(ae.parameters())))
        start, end = latents[0::2], latents[1::2]
        share = torch.linspace(0, 1, steps).to(latents).view(-1, *[1] * (latents.ndim - 1))
        made = torch.cat([ae.decode(a + share * (b - a)) for a, b in zip(start, end, strict=True)])
    return _draw_grid(made, steps, ae.spec.output.range, f"{_name(ae)}: walks")


@torch.no_grad()
def manifold(ae: Autoencoder, *, side: int = 20) -> "Figure":
    """Draws the decoded plane of two latents, at the quantiles of a standard normal prior.

    Kingma and Welling, arXiv:1312.6114, appendix A.

    Args:
        ae: has two latents; its mode is restored afterwards.
        side: images along each axis.

    Returns:
        A Matplotlib figure.

    Raises:
        NotSupportedError: it has another number of latents.
    """
    if ae.latent_shape != (2,):
        raise NotSupportedError(f"a manifold needs two latents, found latents of shape {ae.latent_shape}")
    _check_count(side, "side")
    at = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(side) + 0.5) / side)
    down, across = torch.meshgrid(-at, at, indexing="ij")
    with eval_mode(ae):
        latents = torch.stack([across.flatten(), down.flatten()], 1)
        made = ae.decode(latents.to(next(ae.parameters())))
    return _draw_grid(made, side, ae.spec.output.range, f"{_name(ae)}: its plane")


def embedding(latents: Tensor, labels: Tensor, *, title: str = "") -> "Figure":
    """Draws samples as points in the plane of two latents, colored by label.

    More than two latents are projected on their two largest principal components.

    Args:
        latents: (batch, latents), at least two latents.
        labels: (batch,), integers for up to 20 classes, otherwise for a continuous scale.
        title: title of the figure.

    Returns:
        A Matplotlib figure.

    Raises:
        DataError: no samples, fewer than two latents, values that are not finite, or another number of
            labels.
    """
    from matplotlib.figure import Figure

    latents, labels = _checked(latents, "latents"), plain_tensor(labels, "labels").detach()
    if latents.ndim < 2 or latents[0].numel() < 2:
        raise DataError(f"expected latents of shape (batch, 2 or more), found {list(latents.shape)}")
    if tuple(labels.shape) != (len(latents),):
        raise DataError(
            f"expected {len(latents)} labels, one for each sample, found shape {list(labels.shape)}"
        )
    check_finite(latents)
    points = latents.detach().cpu().double().flatten(1)
    if points.shape[1] > 2:
        points = points - points.mean(0)
        components = cast(Tensor, torch.linalg.svd(points, full_matrices=False)[2])[:2]
        # A single sample has one component.
        points = torch.nn.functional.pad(points @ components.T, (0, 2 - len(components)))
    figure = Figure(figsize=(6, 5), dpi=120, facecolor="white")
    axes = figure.subplots()
    colours = labels.cpu().double().numpy() if labels.is_floating_point() else labels.cpu().int().numpy()
    number = len(np.unique(colours))
    classes = not labels.is_floating_point() and number <= 20
    cmap = "viridis" if not classes else "tab10" if number <= 10 else "tab20"
    drawn = axes.scatter(*points.T.numpy(), c=colours, s=5, linewidths=0, cmap=cmap)
    if classes:
        axes.legend(*drawn.legend_elements(num=cast(Any, None)), fontsize=8, frameon=False, loc="center left",
                    bbox_to_anchor=(1, 0.5))  # fmt: skip
    else:
        figure.colorbar(drawn)
    _bare(axes)
    axes.set_title(title, fontsize=11, color=INK)
    figure.tight_layout()
    return figure


def comparison(
    rows: dict[str, Tensor],
    *,
    value_range: tuple[float, float] | None = None,
    columns: tuple[str, ...] = (),
    notes: dict[str, str] | None = None,
) -> "Figure":
    """Draws the same samples as several networks return them, a row for each, on one scale.

    Args:
        rows: name of the row -> (samples, *shape), floating point, all of one shape.
        value_range: values drawn as black and as white; None takes the smallest and the largest of all.
        columns: names of the values of a sample, for bars.
        notes: name of a row -> a short text below it.

    Returns:
        A Matplotlib figure.
    """
    from matplotlib.figure import Figure

    count = len(next(iter(rows.values())))
    bars = _is_bars(next(iter(rows.values())))
    limits = _limits(*rows.values())
    width = max(0.8, 0.13 * next(iter(rows.values())).shape[1] if bars else 0.0)
    longest = max(len(text) for name in rows for text in (name, (notes or {}).get(name, "")))
    left, bottom, height = 0.35 + 0.075 * longest, 0.55 if bars and columns else 0.05, 0.8 * len(rows)
    size = (width * count + left + 0.05, height + bottom + 0.05)
    figure = Figure(figsize=size, dpi=120, facecolor="white")
    grid = figure.subplots(len(rows), count, squeeze=False)
    for axes_of_row, (name, x) in zip(grid, rows.items(), strict=True):
        for axes, one in zip(axes_of_row, x, strict=True):
            _draw(axes, one, value_range, limits)
        note = (notes or {}).get(name)
        label = axes_of_row[0].set_ylabel(
            printable(name) + (f"\n{note}" if note else ""),
            rotation=0, ha="right", va="center", fontsize=8, color=INK, labelpad=6,
        )  # fmt: skip
        label.set_parse_math(False)
    if bars and len(columns) == next(iter(rows.values())).shape[1]:
        for axes in grid[-1]:
            _name_bars(axes, columns)
    figure.subplots_adjust(
        left=left / size[0], right=1 - 0.05 / size[0], top=1 - 0.05 / size[1], bottom=bottom / size[1],
        hspace=0.08, wspace=0.08,
    )  # fmt: skip
    return figure


def pareto(names: list[str], errors: list[float], costs: dict[str, list[float]]) -> "Figure":
    """Draws errors against several costs, on logarithmic axes; a line connects what nothing else dominates.

    A point is dominated if another has no larger error and no larger cost, and one of them is smaller.

    Args:
        names: of the points, numbered in the legend.
        errors: error of each point.
        costs: name of a cost -> cost of each point.

    Returns:
        A Matplotlib figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

    figure = Figure(figsize=(11, 7 + 0.08 * len(names)), dpi=120, facecolor="white")
    panels = list(figure.subplots(2, math.ceil(len(costs) / 2), squeeze=False).flat)
    for axes, (cost, values) in zip(panels, costs.items(), strict=False):
        front = sorted(non_dominated(list(zip(values, errors, strict=True))))
        axes.plot(*zip(*front, strict=True), color="#c5ccd3", linewidth=1.2, zorder=1)
        for number, (x, y) in enumerate(zip(values, errors, strict=True), 1):
            best = (x, y) in front
            axes.scatter(x, y, s=90, color=BAR if best else "white", edgecolors=BAR, zorder=2)
            colour = "white" if best else INK
            axes.annotate(str(number), (x, y), ha="center", va="center", fontsize=6, color=colour, zorder=3)
        for axis, numbers, set_scale in (
            (axes.xaxis, values, axes.set_xscale),
            (axes.yaxis, errors, axes.set_yscale),
        ):
            if all(value > 0 for value in numbers):
                set_scale("log")
                for set_formatter in (axis.set_major_formatter, axis.set_minor_formatter):
                    set_formatter(LogFormatter(minor_thresholds=(1.5, 0.6)))
        axes.set_xlabel(cost, fontsize=9, color=INK)
        axes.set_ylabel("mean squared error", fontsize=9, color=INK)
        axes.tick_params(labelsize=7, which="both")
        axes.margins(0.12)
    for unused in panels[len(costs) :]:
        unused.axis("off")
    figure.tight_layout()
    lines = math.ceil(len(names) / 4)
    figure.subplots_adjust(bottom=0.1 + 0.03 * lines)
    for number, name in enumerate(names):
        at = (0.06 + 0.235 * (number % 4), 0.03 * (lines - number // 4) - 0.015)
        text = figure.text(*at, f"{number + 1}  {printable(name, 34)}", fontsize=8, color=INK)
        text.set_parse_math(False)
    return figure


def non_dominated(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points of which no other is at most as large in both values and smaller in one."""
    return [
        point
        for point in points
        if not any(a <= point[0] and b <= point[1] and (a, b) != point for a, b in points)
    ]


def png(figure: "Figure") -> bytes:
    """Renders a figure as PNG; the same figure always gives the same bytes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Names of columns may have characters that the font lacks; boxes are drawn in their place.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _grid(count: int, columns: int, title: str) -> tuple["Figure", list["Axes"]]:
    """A figure with this many axes in rows; the last row may be shorter."""
    from matplotlib.figure import Figure

    rows = math.ceil(count / columns)
    head = 0.35 if title else 0.05
    height = 0.55 * rows + head
    figure = Figure(figsize=(0.55 * columns + 0.1, height), dpi=120, facecolor="white")
    axes: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    figure.suptitle(title, fontsize=10, color=INK, y=1 - 0.08 / height, va="top")
    figure.subplots_adjust(
        left=0.005, right=0.995, bottom=0.02 / rows, top=1 - head / height, hspace=0.06, wspace=0.06
    )
    for unused in axes[count:]:
        unused.axis("off")
    return figure, axes[:count]


def _name(ae: Autoencoder) -> str:
    return getattr(ae.spec, "name", "autoencoder")


def _checked(x: object, what: str) -> Tensor:
    """Checks that there is a batch of floating-point samples."""
    if not isinstance(x, Tensor):
        raise DataError(
            f"{what}: expected a tensor, found {type_name(x)}; ae.transforms() converts other data"
        )
    x = plain_tensor(x, what)
    if not x.is_floating_point():
        raise DataError(f"{what}: expected floating point, found {x.dtype}; ae.transforms() converts it")
    if x.ndim == 0 or x.numel() == 0:
        raise DataError(f"{what}: expected at least one sample, found shape {list(x.shape)}")
    return x


def _check_count(value: object, name: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}: expected a whole number of at least 1, found {value!r}")


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=0, atol=0, equal_nan=True)


def _is_bars(x: Tensor) -> bool:
    """Whether samples, (batch, *shape), are drawn as bars: a few values."""
    return x.ndim == 2 and x.shape[1] <= MAX_BARS


def _limits(*tensors: Tensor) -> tuple[float, float]:
    """The smallest and the largest finite value; 0 and 1 if there is none."""
    finite = [x[torch.isfinite(x)].double() for x in tensors]
    values = torch.cat([x for x in finite if x.numel()] or [torch.tensor([0.0, 1.0], dtype=torch.float64)])
    return float(values.min()), float(values.max())


def _spread(x: Tensor) -> float:
    """The largest finite absolute value; 1 if there is none, or all are 0."""
    return max(map(abs, _limits(x))) or 1.0


def _with_margin(low: float, high: float) -> tuple[float, float]:
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _with_zero(limits: tuple[float, float]) -> tuple[float, float]:
    return min(limits[0], 0.0), max(limits[1], 0.0)


def _draw(
    axes: "Axes", x: Tensor, value_range: tuple[float, float] | None, limits: tuple[float, float]
) -> None:
    """Draws one sample; `limits` is the scale of what has no range, or is no image."""
    if x.ndim == 3 and x.shape[0] in (1, 3):
        low, high = value_range or limits
        # Values may lie slightly outside the range, as after a leaky activation.
        values = x.float() if value_range else x.double()
        pixels: NDArray[Any] = ((values - low) / ((high - low) or 1.0)).clamp(0, 1).movedim(0, -1).numpy()
        if pixels.shape[-1] == 3 and np.isnan(pixels).any():
            pixels = np.concatenate([np.nan_to_num(pixels), ~np.isnan(pixels).any(-1, keepdims=True)], -1)
        axes.imshow(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=1)
    elif x.ndim == 2:
        axes.plot(x.double().T.numpy(), linewidth=0.8)
        axes.set_ylim(*_with_margin(*limits))
    elif _is_bars(x[None]):
        values = x.double().numpy()
        axes.bar(np.arange(len(values)), np.nan_to_num(values, posinf=limits[1], neginf=limits[0]), color=BAR)
        axes.plot(values, ".", color=BAR, markersize=2)
        axes.hlines(0, -0.5, len(values) - 0.5, color=INK, linewidth=0.4)
        axes.set_ylim(*_with_margin(*_with_zero(limits)))
    else:
        _draw_map(axes, x, max(map(abs, limits)) or 1.0)
        return
    _bare(axes)


def _draw_map(axes: "Axes", x: Tensor, spread: float) -> None:
    # float32 draws the bytes of published previews, but overflows near its ends.
    values = (x.float() if 1e-30 < spread < 1e30 else x.double()).numpy()
    # Feature maps keep their shape and stand side by side; a vector is a set of maps of 1 x 1.
    maps = values if values.ndim == 3 else values.reshape(-1, 1, 1)
    gap = 1 if maps[0].size > 1 else 0
    count, height, width = maps.shape[0], maps.shape[1] + gap, maps.shape[2] + gap
    across = math.ceil(math.sqrt(count * height / width))
    grid = np.full((math.ceil(count / across) * height, across * width), np.nan, values.dtype)
    for index, one in enumerate(maps):
        top, left = index // across * height, index % across * width
        grid[top : top + maps.shape[1], left : left + maps.shape[2]] = one
    axes.imshow(
        grid[: len(grid) - gap, : grid.shape[1] - gap],
        cmap="RdBu_r", vmin=-spread, vmax=spread, interpolation="nearest",
    )  # fmt: skip
    _bare(axes)


def _show_scale(axes: "Axes", limits: tuple[float, float]) -> None:
    """Shows two values on the vertical axis."""
    axes.set_yticks(limits, [f"{value:.2g}" for value in limits])
    axes.tick_params(axis="y", labelsize=5, length=2, width=0.6, pad=1, color=INK)


def _name_bars(axes: "Axes", names: tuple[str, ...]) -> None:
    shown = [
        name if len(name) <= 12 else f"{name[:11]}\N{HORIZONTAL ELLIPSIS}" for name in map(printable, names)
    ]
    axes.set_xticks(range(len(names)), shown, rotation=90)
    axes.tick_params(axis="x", labelsize=5, length=0, pad=1)
    for label in axes.get_xticklabels():
        label.set_parse_math(False)


def _bare(axes: "Axes") -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#c5ccd3")
        spine.set_linewidth(0.6)
