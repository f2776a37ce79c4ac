"""Figures of samples, latents, dictionaries, trainings and networks, drawn with Matplotlib.

Each function takes tensors, an autoencoder or a spec, and returns a Matplotlib figure that a notebook
shows. `with theme("dark"):` draws on a dark background. `png` renders a figure; the same figure always gives
the same bytes.
"""

from aezoo.plots.atoms import dictionary
from aezoo.plots.codes import activation_histogram, l0_histogram, latents
from aezoo.plots.data import bars, images, lines, points
from aezoo.plots.evaluation import class_errors, non_dominated, pareto, roc
from aezoo.plots.network import layers
from aezoo.plots.reconstruction import comparison, reconstructions, samples
from aezoo.plots.rendering import png, render
from aezoo.plots.space import embedding, manifold, walk
from aezoo.plots.style import theme
from aezoo.plots.training import history

__all__ = [
    "activation_histogram",
    "bars",
    "class_errors",
    "comparison",
    "dictionary",
    "embedding",
    "history",
    "images",
    "l0_histogram",
    "latents",
    "layers",
    "lines",
    "manifold",
    "non_dominated",
    "pareto",
    "png",
    "points",
    "reconstructions",
    "render",
    "roc",
    "samples",
    "theme",
    "walk",
]
