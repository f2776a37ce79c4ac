"""Layers that keep few latents: `topk` few for each sample, `lifetime` each latent for few samples.

k-sparse autoencoders: Makhzani and Frey, arXiv:1312.5663. Lifetime sparsity, called winner-take-all:
Makhzani and Frey, arXiv:1409.2752, section 2.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aezoo.errors import LayerError
from aezoo.model.sequential import Exact
from aezoo.specs.base import Count, Share
from aezoo.specs.components import Bounds, LayerSpec, include_zero


class TopK(nn.Module):
    """Keeps the `k` largest values of each sample, wherever they lie, and sets the others to zero.

    The same in training and in evaluation. Gradients, of any order, reach kept values only.
    """

    def __init__(self, k: int, by: Literal["value", "magnitude"] = "value") -> None:
        super().__init__()
        self.k = k
        self.by: Literal["value", "magnitude"] = by

    def forward(self, h: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """(batch, *shape) -> (batch, *shape), at most `k` non-zeros in each row."""
        pre_acts = h.flatten(1)
        ranked = pre_acts.abs() if self.by == "magnitude" else pre_acts
        kept = ranked.topk(self.k, dim=1, sorted=False).indices
        sparse = torch.zeros_like(pre_acts).scatter(1, kept, pre_acts.gather(1, kept))
        return sparse.view_as(h)

    def sparsity(self) -> Exact:
        """`k` latents in every row."""
        return Exact(self.k, by=self.by)

    def extra_repr(self) -> str:
        """Shown by `print`."""
        return f"k={self.k}, by={self.by!r}"


class TopKSpec(LayerSpec):
    """Keeps the k largest latents of each sample (k-sparse, arXiv:1312.5663, section 2.1)."""

    kind: Literal["topk"] = "topk"
    limits_information = True
    k: Count
    """Latents kept."""
    by: Literal["value", "magnitude"] = "value"
    """Largest by signed value, as in the source, or by absolute value."""

    def output_bounds(self, given: Bounds) -> Bounds:
        """Bounds of its output."""
        return include_zero(given)

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, *in_shape) -> (batch, *in_shape)."""
        features = math.prod(in_shape)
        if self.k > features:
            raise LayerError("k", f"{self.k} is more than the {features} features")
        return TopK(self.k, self.by)


class Lifetime(nn.Module):
    """In training, keeps each latent for the share of the batch's samples in which it is largest.

    In evaluation it changes nothing, so that rows are independent of one another.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, h: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """(batch, *shape) -> (batch, *shape); at least one sample keeps each latent."""
        if not self.training:
            return h
        samples = max(1, round(self.rate * h.shape[0]))
        kept = h.topk(samples, dim=0, sorted=False).indices
        return torch.zeros_like(h).scatter(0, kept, h.gather(0, kept))

    def extra_repr(self) -> str:
        """Shown by `print`."""
        return f"rate={self.rate}"


class LifetimeSpec(LayerSpec):
    """Keeps each latent for few samples of a batch (winner-take-all, arXiv:1409.2752, section 2)."""

    kind: Literal["lifetime"] = "lifetime"
    limits_information = True
    rate: Share
    """Share of the batch's samples that keep a latent; a short last batch keeps the same share."""

    def output_bounds(self, given: Bounds) -> Bounds:
        """Bounds of its output."""
        return include_zero(given)

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, *in_shape) -> (batch, *in_shape)."""
        return Lifetime(self.rate)
