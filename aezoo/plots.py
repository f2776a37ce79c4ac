"""Figures of reconstructions, dictionaries and latent spaces, drawn with Matplotlib."""

import io
import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aezoo.errors import NotSupportedError
from aezoo.evaluation.metrics.latents import decoder_atoms
from aezoo.model.autoencoder import Autoencoder, eval_mode

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2933"


def reconstructions(ae: Autoencoder, x: Tensor, *, columns: int = 12) -> "Figure":
    """Draws the input, the latents and the reconstruction of some samples, one column for each.

    Images are drawn as images and series as lines. Vectors and latents are drawn as a near-square map of
    their values, feature maps side by side: blue is negative, white is zero, red is positive. All latents
    share one scale.

    Args:
        ae: its mode is restored afterwards.
        x: (batch, *input shape), on any device.
        columns: number of samples drawn, the first ones.

    Returns:
        A Matplotlib figure; `figure.savefig(path)` writes it.
    """
    # Without pyplot, there is no window, no global state and no backend to choose. Importing it takes long.
    from matplotlib.figure import Figure

    x = x[:columns]
    weight = next(iter(ae.parameters()), x)
    with eval_mode(ae), torch.no_grad():
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
    shape = " x ".join(map(str, ae.latent_shape))
    figure.suptitle(f"{_name(ae)}: {shape} latents", fontsize=11, color=INK, y=0.98)
    figure.subplots_adjust(left=1.05 / (0.8 * columns + 1.1), right=0.99, top=0.88, bottom=0.03, hspace=0.08)
    return figure


def images(
    x: Tensor, *, columns: int = 12, value_range: tuple[float, float] | None = (0.0, 1.0), title: str = ""
) -> "Figure":
    """Draws a grid of images.

    Args:
        x: (batch, 1 or 3, height, width), on any device.
        columns: images in a row.
        value_range: values drawn as black and as white; None takes each image's minimum and maximum.
        title: title of the figure.

    Returns:
        A Matplotlib figure.
    """
    figure, grid = _grid(len(x), columns, title)
    for axes, image in zip(grid, x, strict=True):
        _draw(axes, image, value_range)
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
    atoms = decoder_atoms(ae)
    if atoms is None or atoms.ndim != 4 or atoms.shape[1] != 1:
        raise NotSupportedError(
            "only decoders of one linear layer that give gray images have a dictionary to draw"
        )
    atoms = atoms[:most].cpu().float()
    figure, grid = _grid(len(atoms), columns, f"{_name(ae)}: atoms of the dictionary")
    for axes, atom in zip(grid, atoms, strict=True):
        spread = float(atom.abs().max()) or 1.0
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
    """
    with eval_mode(ae):
        latents = ae.encode(x.to(next(ae.parameters())))
        start, end = latents[0::2], latents[1::2]
        share = torch.linspace(0, 1, steps).to(latents).view(-1, *[1] * (latents.ndim - 1))
        made = torch.cat([ae.decode(a + share * (b - a)) for a, b in zip(start, end, strict=True)])
    return images(made, columns=steps, value_range=ae.spec.output.range, title=f"{_name(ae)}: walks")


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
    at = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(side) + 0.5) / side)
    down, across = torch.meshgrid(-at, at, indexing="ij")
    with eval_mode(ae):
        latents = torch.stack([across.flatten(), down.flatten()], 1)
        made = ae.decode(latents.to(next(ae.parameters())))
    return images(made, columns=side, value_range=ae.spec.output.range, title=f"{_name(ae)}: its plane")


def embedding(latents: Tensor, labels: Tensor, *, title: str = "") -> "Figure":
    """Draws samples as points in the plane of two latents, colored by label.

    More than two latents are projected on their two largest principal components.

    Args:
        latents: (batch, latents), at least two latents.
        labels: (batch,), integers for classes or floating point for a continuous scale.
        title: title of the figure.

    Returns:
        A Matplotlib figure.
    """
    from matplotlib.figure import Figure

    points = latents.detach().cpu().float().flatten(1)
    if points.shape[1] > 2:
        points = points - points.mean(0)
        points = points @ cast(Tensor, torch.linalg.svd(points, full_matrices=False)[2])[:2].T
    figure = Figure(figsize=(6, 5), dpi=120, facecolor="white")
    axes = figure.subplots()
    classes = not labels.is_floating_point()
    drawn = axes.scatter(
        *points.T.numpy(), c=labels.cpu().numpy(), s=5, linewidths=0, cmap="tab10" if classes else "viridis"
    )
    if classes:
        axes.legend(*drawn.legend_elements(num=cast(Any, None)), fontsize=8, frameon=False, loc="center left",
                    bbox_to_anchor=(1, 0.5))  # fmt: skip
    else:
        figure.colorbar(drawn)
    _bare(axes)
    axes.set_title(title, fontsize=11, color=INK)
    figure.tight_layout()
    return figure


def png(figure: "Figure") -> bytes:
    """Renders a figure as PNG; the same figure always gives the same bytes."""
    buffer = io.BytesIO()
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


def _draw(axes: "Axes", x: Tensor, value_range: tuple[float, float] | None) -> None:
    values = x.detach().cpu().float()
    if values.ndim == 3 and values.shape[0] in (1, 3):
        low, high = value_range or (float(values.min()), float(values.max()))
        # Values may lie slightly outside the range, as after a leaky activation.
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
    # Feature maps keep their shape and stand side by side; a vector is a set of maps of 1 x 1.
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
