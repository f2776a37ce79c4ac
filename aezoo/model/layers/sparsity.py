"""Sparse latents: `topk` keeps few latents per sample, `lifetime` few samples per latent.

k-sparse autoencoders: Makhzani and Frey, arXiv:1312.5663. Lifetime sparsity (winner-take-all): Makhzani and
Frey, arXiv:1409.2752, section 2.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from aezoo.errors import LayerError
from aezoo.model.sequential import Exact
from aezoo.model.sparse import SparsePattern
from aezoo.specs.base import Count, Share
from aezoo.specs.components import Bounds, LayerSpec, include_zero


class TopK(nn.Module):
    """Keeps the `k` largest values of each sample, over all axes, and sets the others to zero.

    (batch, *shape) -> (batch, *shape), in training as in evaluation. Gradients reach the kept values only.
    """

    def __init__(self, k: int, by: Literal["value", "magnitude"] = "value") -> None:
        super().__init__()
        self.k = k
        self.by: Literal["value", "magnitude"] = by

    @override
    def forward(self, h: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        pre_acts = h.flatten(1)
        ranked = pre_acts.abs() if self.by == "magnitude" else pre_acts
        kept = ranked.topk(self.k, dim=1, sorted=False).indices
        return torch.zeros_like(pre_acts).scatter(1, kept, pre_acts.gather(1, kept)).view_as(h)

    def pattern(self, h: Float[Tensor, "batch features"]) -> SparsePattern:
        """The entries that are kept, for the sparse kernels."""
        ranked = h.abs() if self.by == "magnitude" else h
        return SparsePattern.of_rows(ranked.topk(self.k, dim=1, sorted=False).indices, h.shape[1])

    def sparsity(self) -> Exact:
        """`k` latents per row."""
        return Exact(self.k, by=self.by)

    @override
    def extra_repr(self) -> str:
        return f"k={self.k}, by={self.by!r}"


class TopKSpec(LayerSpec):
    """Keeps the k largest latents of each sample (k-sparse, arXiv:1312.5663, section 2.1)."""

    kind: Literal["topk"] = "topk"
    examples = ({"k": 4},)
    limits_information = True
    k: Count
    """Number of latents kept."""
    by: Literal["value", "magnitude"] = "value"
    """Largest by signed value, as in the paper, or by absolute value."""

    @override
    def output_bounds(self, given: Bounds) -> Bounds:
        return include_zero(given)

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        features = math.prod(in_shape)
        if self.k > features:
            raise LayerError("k", f"{self.k} is more than the {features} features")
        return TopK(self.k, self.by)


class Lifetime(nn.Module):
    """In training, keeps each latent for the share `rate` of the batch's samples, those where it is largest.

    (batch, *shape) -> (batch, *shape). Each latent is kept for at least one sample. In evaluation the layer
    is the identity, so that rows do not depend on one another.
    """

    mixes_rows = True

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    @override
    def forward(self, h: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        if not self.training:
            return h
        samples = max(1, round(self.rate * h.shape[0]))
        kept = h.topk(samples, dim=0, sorted=False).indices
        return torch.zeros_like(h).scatter(0, kept, h.gather(0, kept))

    @override
    def extra_repr(self) -> str:
        return f"rate={self.rate}"


class LifetimeSpec(LayerSpec):
    """Keeps each latent for few samples of a batch (winner-take-all, arXiv:1409.2752, section 2)."""

    kind: Literal["lifetime"] = "lifetime"
    examples = ({"rate": 0.25},)
    limits_information = True
    rate: Share
    """Share of the batch's samples for which a latent is kept, rounded to whole samples."""

    @override
    def output_bounds(self, given: Bounds) -> Bounds:
        return include_zero(given)

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        return Lifetime(self.rate)
