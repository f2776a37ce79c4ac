"""Pictures of what an autoencoder does. Matplotlib is imported when one is drawn."""

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aezoo.autoencoder import Autoencoder, evaluating

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2933"


def reconstructions(ae: Autoencoder, x: Tensor, *, columns: int = 12) -> "Figure":
    """Input, latents and reconstruction of some samples, one column each.

    Images are drawn as images, series as lines, and vectors and latents as a near-square map of their
    values, feature maps side by side: blue below zero, red above, white at zero, on one scale for all
    columns.

    Args:
        ae: left in the mode in which it was given.
        x: (batch, *input shape), on any device; the first `columns` are drawn.
        columns: at most so many.

    Returns:
        A Matplotlib figure; `fig.savefig(path)` writes it.
    """
    # Without pyplot: no window, no global state, no backend to choose.
    from matplotlib.figure import Figure

    x = x[:columns]
    weight = next(iter(ae.parameters()), x)
    with evaluating(ae), torch.no_grad():
        out = ae(x.to(weight.device, weight.dtype))
    columns = len(x)
    figure = Figure(figsize=(0.8 * columns + 1.1, 3.1), dpi=120, facecolor="white")
    axes = figure.subplots(3, columns, squeeze=False)
    spread = float(out.latents.abs().max()) or 1.0
    for column in range(columns):
        _draw(axes[0][column], x[column], ae.spec.input.range)
        _draw_map(axes[1][column], out.latents[column], spread)
        _draw(axes[2][column], out.x_hat[column], ae.spec.output.range)
    for row, title in enumerate(("input", "latents", "reconstruction")):
        axes[row][0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9, color=INK)
    name: str = getattr(ae.spec, "name", "autoencoder")
    shape = " x ".join(map(str, ae.latent_shape))
    figure.suptitle(f"{name}: {shape} latents", fontsize=11, color=INK, y=0.98)
    figure.subplots_adjust(left=1.05 / (0.8 * columns + 1.1), right=0.99, top=0.88, bottom=0.03, hspace=0.08)
    return figure


def png(figure: "Figure") -> bytes:
    """The figure as PNG; the same figure always gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw(axes: "Axes", x: Tensor, value_range: tuple[float, float] | None) -> None:
    values = x.detach().cpu().float()
    if values.ndim == 3 and values.shape[0] in (1, 3):
        low, high = value_range or (float(values.min()), float(values.max()))
        # Leaky activations reach a little below the range; a picture cannot.
        pixels: NDArray[Any] = ((values - low) / ((high - low) or 1.0)).clamp(0, 1).movedim(0, -1).numpy()
        axes.imshow(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=1)
        _bare(axes)
    elif values.ndim == 2:
        axes.plot(values.T.numpy(), linewidth=0.8)
        _bare(axes)
    else:
        _draw_map(axes, values, float(values.abs().max()) or 1.0)


def _draw_map(axes: "Axes", x: Tensor, spread: float) -> None:
    values = x.detach().cpu().float().numpy()
    # Feature maps keep their shape, side by side; single values are maps of one by one.
    maps = values if values.ndim == 3 else values.reshape(-1, 1, 1)
    gap = 1 if maps[0].size > 1 else 0
    count, height, width = maps.shape[0], maps.shape[1] + gap, maps.shape[2] + gap
    across = math.ceil(math.sqrt(count * height / width))
    grid = np.full((math.ceil(count / across) * height, across * width), np.nan, dtype=np.float32)
    for index, one in enumerate(maps):
        top, left = index // across * height, index % across * width
        grid[top : top + maps.shape[1], left : left + maps.shape[2]] = one
    axes.imshow(
        grid[: len(grid) - gap, : grid.shape[1] - gap],
        cmap="RdBu_r", vmin=-spread, vmax=spread, interpolation="nearest",
    )  # fmt: skip
    _bare(axes)


def _bare(axes: "Axes") -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#c5ccd3")
        spine.set_linewidth(0.6)
