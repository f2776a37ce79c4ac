"""Draws docs/overview.png, the picture at the top of README.md: `python docs/overview.py`.

The digits are the first ten of MNIST's test set, and the samples the first ten that are drawn with seed 0.
"""

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import aezoo
from aezoo import plots

PICTURE = Path(__file__).resolve().parent / "overview.png"


@torch.no_grad()
def rows() -> list[tuple[str, str, Tensor]]:
    """The rows of the picture: variant, label, and ten images or ten square maps of latents."""
    generator = torch.Generator().manual_seed(0)

    sparse, denoiser, vae = (aezoo.load(name) for name in ("sparse-topk16", "denoise-gaussian", "vae-16"))
    x = sparse.transforms()(aezoo.sample_digits().inputs[:10])
    latents = sparse.encode(x)
    (noise,) = aezoo.get_spec("denoise-gaussian").recipe.noises
    noisy = noise(x, generator)
    return [
        ("sparse-topk16", "input", x),
        ("", "16 of 64 latents", latents.view(-1, 1, 8, 8) / latents.max()),
        ("", "reconstruction", sparse.decode(latents)),
        ("denoise-gaussian", "noisy input", noisy),
        ("", "reconstruction", denoiser(noisy).x_hat),
        ("vae-16", "samples", vae.sample(10, generator)),
    ]


def draw() -> Figure:
    """The picture."""
    drawn = rows()
    heights: list[float] = []
    for variant, _, _ in drawn:
        # A thin empty row in front of each variant but the first sets it apart.
        heights += [0.12, 1.0] if variant and heights else [1.0]
    figure = Figure(figsize=(9.4, 4.2), dpi=150, facecolor="white")
    grid = figure.add_gridspec(
        len(heights), 10, height_ratios=heights, left=0.285, right=0.995, top=0.99, bottom=0.01, hspace=0.06,
        wspace=0.06,
    )  # fmt: skip
    lines = [line for line, height in enumerate(heights) if height == 1.0]
    for line, (variant, label, images) in zip(lines, drawn, strict=True):
        for column, image in enumerate(images):
            axes = figure.add_subplot(grid[line, column])
            _show(axes, image[0], "latents" in label)
            if column == 0:
                axes.annotate(label, (-0.12, 0.5), xycoords="axes fraction", ha="right", va="center",
                              fontsize=10, color=plots.INK)  # fmt: skip
                axes.annotate(variant, (-3.75, 0.5), xycoords="axes fraction", ha="left", va="center",
                              fontsize=10, color=plots.INK, family="monospace", weight="bold")  # fmt: skip
    return figure


def _show(axes: Axes, values: Tensor, signed: bool) -> None:
    if signed:
        axes.imshow(values.numpy(), cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    else:
        axes.imshow(values.clamp(0, 1).numpy(), cmap="gray", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#c5ccd3")
        spine.set_linewidth(0.6)


if __name__ == "__main__":
    PICTURE.write_bytes(plots.png(draw()))
    print(PICTURE)
