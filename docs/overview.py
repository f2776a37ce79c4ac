"""Draws docs/overview.png, the picture at the top of README.md: `python docs/overview.py`.

The digits are the first ten of MNIST's test set, and the samples the first ten that are drawn with seed 0.
"""

from pathlib import Path

import torch
from torch import Tensor

import aezoo
from aezoo import plots
from aezoo.plots.figure import Figure
from aezoo.plots.panels import Tiles, as_maps, as_tiles, draw_row, row_height
from aezoo.plots.style import WIDTH, new_figure, place, spread, styled

PICTURE = Path(__file__).resolve().parent / "overview.png"
COLUMNS = 10
MARGIN, CAPTION = 0.08, 0.22
"""Inches."""


@torch.no_grad()
def rows() -> dict[str, dict[str, Tensor]]:
    """The rows of the picture: variant -> caption -> ten images, or latents of ten digits."""
    generator = torch.Generator().manual_seed(0)

    sparse, denoiser, vae = (aezoo.load(name) for name in ("sparse-topk16", "denoise-gaussian", "vae-16"))
    x = sparse.transforms()(aezoo.sample_digits().inputs[:COLUMNS])
    latents = sparse.encode(x)
    (noise,) = aezoo.get_spec("denoise-gaussian").recipe.noises
    noisy = noise(x, generator)
    return {
        "sparse-topk16": {
            "input": x,
            f"{int((latents != 0).sum(1).max())} of {latents.shape[1]} latents": latents,
            "reconstruction": sparse.decode(latents),
        },
        "denoise-gaussian": {"noisy input": noisy, "reconstruction": denoiser(noisy).x_hat},
        "vae-16": {"samples": vae.sample(COLUMNS, generator)},
    }


@styled
def draw() -> Figure:
    """The picture."""
    drawn = [
        (variant if first == 0 else "", caption, tiles_of(x))
        for variant, parts in rows().items()
        for first, (caption, x) in enumerate(parts.items())
    ]
    width = WIDTH - 2 * MARGIN
    heights = [row_height(tiles, width, COLUMNS) for _, _, tiles in drawn]
    figure = new_figure(sum(heights) + len(drawn) * (CAPTION + MARGIN) + MARGIN)
    top = 0.0
    for (variant, caption, tiles), height in zip(drawn, heights, strict=True):
        axes = place(figure, MARGIN, top + CAPTION, width, height)
        draw_row(axes, tiles, COLUMNS, width, framed="latents" in caption)
        axes.set_title(variant, loc="left", weight="bold", family="monospace")
        axes.set_title(caption, loc="right")
        top += CAPTION + height + MARGIN
    return figure


def tiles_of(x: Tensor) -> Tiles:
    """Images in their range, latents as maps."""
    return as_tiles(x, (0.0, 1.0), (0.0, 1.0)) if x.ndim == 4 else as_maps(x, spread(x))


if __name__ == "__main__":
    PICTURE.write_bytes(plots.png(draw()))
    print(PICTURE)
