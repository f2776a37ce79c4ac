"""Networks to draw, and what is drawn in a figure."""

import io
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

import aezoo
from aezoo import plots

SHAPES: list[tuple[int, ...]] = [
    (1,), (2,), (3,), (9,), (40,), (1, 50), (2, 9), (1, 1, 1), (1, 6, 6), (2, 6, 6), (3, 6, 6), (5, 1, 6), (2, 3, 4, 5),
]  # fmt: skip
"""One value, points, a table, a vector, series, images of one, two, three and five channels, a volume."""


def slow_except(cases: Iterable[Any], *quick: Any) -> list[Any]:
    """Parameters of a test, of which all but a few run with the slow tests."""
    return [case if case in quick else pytest.param(case, marks=pytest.mark.slow) for case in cases]


def identity(
    shape: tuple[int, ...],
    factor: float = 1.0,
    value_range: tuple[float, float] | None = None,
    columns: tuple[str, ...] = (),
) -> aezoo.Autoencoder:
    """A network that multiplies its input by a factor; its latents are the values of the input."""
    n = math.prod(shape)
    ae = aezoo.build(aezoo.VariantSpec.model_validate({
        "name": "identity", "summary": "Multiplies by a factor.",
        "input": {"shape": shape, "range": value_range},
        "encoder": ["flatten", {"kind": "linear", "out_features": n}],
        "decoder": [{"kind": "linear", "out_features": n}, {"kind": "unflatten", "shape": shape}],
        "recipe": {"reconstruction": "mse", "batch_size": 2, "stages": [{"kind": "fit", "epochs": 1}]},
    }))  # fmt: skip
    first, last = (module for module in ae.modules() if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        for layer, scale in ((first, 1.0), (last, factor)):
            layer.weight.copy_(scale * torch.eye(n))
            layer.bias.zero_()
    ae.columns = columns
    return ae


def random(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def digits(n: int) -> torch.Tensor:
    return aezoo.load("fc-64").transforms()(aezoo.sample_digits().inputs[:n])


def pictures(figure: Figure, axes: int = 0) -> list[NDArray[np.float64]]:
    """The small pictures in an axes, RGBA from 0 to 1."""
    return [np.asarray(image.get_array()).astype(float) / 255 for image in figure.axes[axes].images]


def captions(figure: Figure) -> list[str]:
    """The captions of the axes, from the top."""
    return [axes.get_title(loc="left") for axes in figure.axes]


def drawn_texts(figure: Figure) -> list[Text]:
    """Every text that a figure shows."""
    found: list[Any] = list(figure.texts)
    for legend in (*figure.legends, *(axes.get_legend() for axes in figure.axes)):
        found += [] if legend is None else legend.get_texts()
    for axes in figure.axes:
        found += [axes.title, axes._left_title, axes._right_title, *axes.texts]
        for axis in axes._axis_map.values() if axes.axison else ():
            found += [axis.label, axis.offsetText]
            found += [label for tick in axis._update_ticks() for label in (tick.label1, tick.label2)]
    return [text for text in found if text is not None and text.get_visible() and text.get_text().strip()]


def texts(figure: Figure) -> str:
    """What a figure says."""
    return "\n".join(text.get_text() for text in drawn_texts(figure))


def rendered(figure: Any) -> Image.Image:
    return Image.open(io.BytesIO(plots.png(figure))).convert("RGB")


def cut(figure: Figure) -> list[str]:
    """Texts that are not entirely inside a figure, and captions and names of axes that overlap one another."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in drawn_texts(figure)]
    width, height = figure.bbox.width, figure.bbox.height
    found = [
        f"{text!r} is cut"
        for text, box in boxes
        if box.x0 < -2 or box.y0 < -2 or box.x1 > width + 2 or box.y1 > height + 2
    ]
    for index, (text, box) in enumerate(boxes):
        for other, other_box in boxes[:index]:
            across = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
            up = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
            if across > 2 and up > 4:
                found.append(f"{text!r} overlaps {other!r}")
    return found
