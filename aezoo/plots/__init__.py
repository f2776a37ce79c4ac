"""Figures of samples, latents, dictionaries, trainings and networks, drawn with Matplotlib.

Each function takes tensors, an autoencoder or a spec, and returns a Matplotlib figure that a notebook
shows. `with theme("dark"):` draws on a dark background. `png` renders a figure; the same figure always gives
the same bytes.
"""

from aezoo.plots.atoms import dictionary as dictionary
from aezoo.plots.codes import activation_histogram as activation_histogram
from aezoo.plots.codes import l0_histogram as l0_histogram
from aezoo.plots.codes import latents as latents
from aezoo.plots.data import bars as bars
from aezoo.plots.data import images as images
from aezoo.plots.data import lines as lines
from aezoo.plots.data import points as points
from aezoo.plots.evaluation import class_errors as class_errors
from aezoo.plots.evaluation import non_dominated as non_dominated
from aezoo.plots.evaluation import pareto as pareto
from aezoo.plots.evaluation import roc as roc
from aezoo.plots.network import layers as layers
from aezoo.plots.reconstruction import comparison as comparison
from aezoo.plots.reconstruction import reconstructions as reconstructions
from aezoo.plots.reconstruction import samples as samples
from aezoo.plots.space import embedding as embedding
from aezoo.plots.space import manifold as manifold
from aezoo.plots.space import walk as walk
from aezoo.plots.style import png as png
from aezoo.plots.style import render as render
from aezoo.plots.style import theme as theme
from aezoo.plots.training import history as history
