"""Figures of latents: a batch of them, and how many are active."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from aezoo.plots.arguments import checked_classes, checked_labels, checked_latents, classes_of
from aezoo.plots.panels import MARGIN, TITLE, signed_note
from aezoo.plots.style import (
    SMALL,
    WIDTH,
    class_style,
    current,
    frame,
    log_ticks,
    new_figure,
    number,
    place,
    shortened,
    signed_colours,
    styled,
)

if TYPE_CHECKING:
    from aezoo.plots.figure import Figure

CLASSES = 20
"""Most classes by which samples are sorted."""


@styled
def latents(latents: Tensor, labels: Tensor | None = None, *, title: str = "latents") -> "Figure":
    """Draws a batch of latents as a heat map: a row for each sample, a column for each latent.

    Blue is negative, red is positive. With labels, samples are sorted by class, and a strip at the left names
    the classes.

    Args:
        latents: (batch, *latent shape), on any device; a batch of about 512 shows patterns.
        labels: (batch,), whole numbers.
        title: title of the figure.

    Returns:
        A Matplotlib figure.

    Raises:
        DataError: no samples, values that are not finite, or another number of labels.
    """
    x = checked_latents(latents)
    classes = None if labels is None else checked_classes(checked_labels(labels, len(x)))
    known = [] if classes is None else classes_of(classes)
    if len(known) > CLASSES:
        classes = None
    order = torch.arange(len(x)) if classes is None else torch.argsort(classes, stable=True)
    # The largest values of heavy tails would leave the rest without colour.
    largest = float(x.abs().flatten().quantile(0.999)) if x.numel() < 2**24 else float(x.abs().max())
    largest = largest or float(x.abs().max()) or 1.0
    left, right, bottom = 0.62, MARGIN, 0.45
    strip = 0.0 if classes is None else 0.2
    height = min(3.2, max(0.6, 0.25 * len(x)))
    head = TITLE + 0.24
    figure = new_figure(head + height + bottom, title=title)
    width = WIDTH - left - right - strip
    axes = place(figure, left + strip, head, width, height)
    picture = signed_colours(x[order].numpy(), largest)
    # Averaging keeps single active latents visible when there are more of them than pixels.
    axes.imshow(
        picture, aspect="auto", interpolation="nearest" if x.shape[1] < 500 else "antialiased",
        extent=(0, x.shape[1], len(x), 0),
    )  # fmt: skip
    axes.set_title(signed_note(x.clamp(-largest, largest)), loc="left", fontsize=SMALL, color=current().muted)
    axes.set_xlabel("latent" if latents.ndim == 2 else "latent, over channels and positions")
    frame(axes)
    axes.locator_params(integer=True)
    if classes is None:
        axes.set_ylabel("sample")
        return figure
    axes.set_yticks([])
    beside: Any = place(figure, left, head, strip - 0.05, height)
    ordered = classes[order]
    ticks: list[float] = []
    for index, one in enumerate(known):
        where = (ordered == one).nonzero()
        start, stop = int(where.min()), int(where.max()) + 1
        beside.axhspan(start, stop, color=class_style(index)[0], linewidth=0)
        ticks.append((start + stop) / 2)
    beside.set_ylim(len(x), 0)
    frame(beside, bare=True)
    beside.set_yticks(ticks, [str(int(one)) for one in known], fontsize=SMALL)
    beside.set_ylabel("samples by class")
    return figure


@styled
def l0_histogram(latents: Tensor, *, title: str = "active latents") -> "Figure":
    """Draws how many latents of a sample are not exactly zero, as a histogram over samples.

    Args:
        latents: (batch, *latent shape), on any device.
        title: title of the figure.

    Returns:
        A Matplotlib figure.

    Raises:
        DataError: no samples, or values that are not finite.
    """
    x = checked_latents(latents)
    active = (x != 0).sum(1).numpy()
    low, high = int(active.min()), int(active.max())
    step = max(1, round((high - low) / 40))
    edges = np.arange(low - 0.5, high + step + 0.5, step)
    counts, edges = np.histogram(active, edges)
    figure, axes = _axes(title)
    axes.bar(edges[:-1], 100 * counts / len(x), width=0.92 * step, align="edge", color=current().accent)
    mean = float(active.mean())
    axes.axvline(mean, color=current().second, linewidth=1.2)
    axes.set_title(f"mean {number(mean)} of {x.shape[1]:,}", loc="right", color=current().second)
    axes.set_xlabel("latents of a sample that are not zero (L0)")
    axes.set_ylabel("% of samples")
    axes.set_xlim(*_around(low, high))
    axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


@styled
def activation_histogram(latents: Tensor, *, title: str = "values of active latents") -> "Figure":
    """Draws a histogram of the values of latents that are not exactly zero, with logarithmic counts.

    Args:
        latents: (batch, *latent shape), on any device.
        title: title of the figure.

    Returns:
        A Matplotlib figure. It states the share of the values that are zero.

    Raises:
        DataError: no samples, or values that are not finite.
    """
    from matplotlib.ticker import MaxNLocator

    x = checked_latents(latents).flatten()
    active = x[x != 0].numpy()
    figure, axes = _axes(title)
    if len(active):
        low, high = float(active.min()), float(active.max())
        if high - low <= 1e-9 * max(abs(low), abs(high)):
            low, high = low - 0.5 * abs(low), high + 0.5 * abs(high)
        # As shares of the range, which may be too large or too small for NumPy's edges.
        counts, edges = np.histogram((active / 2 - low / 2) / (high / 2 - low / 2), bins=60, range=(0, 1))
        at = low + edges * (high - low) if np.isfinite(high - low) else edges
        axes.bar(at[:-1], counts, width=np.diff(at), align="edge", color=current().accent)
        axes.set_yscale("log")
        log_ticks(axes.yaxis)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if not np.isfinite(high - low):
            axes.set_xticks([0, 1], [number(low), number(high)])
        frame(axes)
    share = 100 * (1 - len(active) / len(x))
    axes.set_title(f"{number(share)} % are zero", loc="right", color=current().second)
    axes.set_xlabel("value of a latent")
    axes.set_ylabel("count")
    return figure


def _around(low: int, high: int) -> tuple[float, float]:
    margin = max(1.0, 0.04 * (high - low))
    return low - margin, high + margin


def _axes(title: str) -> tuple[Any, Any]:
    figure = new_figure(2.7, title=shortened(title, 60))
    axes: Any = place(figure, 0.85, TITLE + 0.25, WIDTH - 1.1, 1.65)
    axes.grid(axis="y")
    frame(axes)
    return figure, axes
