"""Layers that break what sparsity() promises."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

import aezoo
from aezoo.errors import LayerError
from aezoo.model.sequential import Exact, Mean
from aezoo.specs.base import Count
from tests.testing.planting import ModuleSpec, good, plant_layer

By = Literal["value", "magnitude"]

# -- exactly k latents --------------------------------------------------------------------------------


class Keep(nn.Module):
    def __init__(self, k: int, by: By) -> None:
        super().__init__()
        self.k = k
        self.by: By = by

    def keep(self, h: Tensor, k: int, by: By) -> Tensor:
        rows = h.flatten(1)
        ranked = rows.abs() if by == "magnitude" else rows
        where = ranked.topk(min(k, rows.shape[1]), dim=1).indices
        return torch.zeros_like(rows).scatter(1, where, rows.gather(1, where)).view_as(h)

    def forward(self, h: Tensor) -> Tensor:
        return self.keep(h, self.k, self.by)

    def sparsity(self) -> Exact:
        return Exact(self.k, by=self.by)


@good()
@good(by="magnitude")
class KeepSpec(ModuleSpec):
    kind: Literal["faulty.keep"] = "faulty.keep"
    module = Keep
    k: Count = 3
    by: By = "value"

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        if self.k > math.prod(in_shape):
            raise LayerError("k", f"{self.k} is more than the {math.prod(in_shape)} features")
        return self.module(self.k, self.by)


class Named(Keep):
    """Names the entries that it keeps."""

    def pattern(self, h: Tensor) -> aezoo.SparsePattern:
        ranked = h.abs() if self.by == "magnitude" else h
        return aezoo.SparsePattern.of_rows(ranked.topk(self.k, dim=1).indices, h.shape[1])


@good()
@good(by="magnitude")
class NamedSpec(KeepSpec):
    kind: Literal["faulty.named"] = "faulty.named"  # pyright: ignore[reportIncompatibleVariableOverride]
    module = Named


@plant_layer(NamedSpec, "wrong-pattern", "sparse-pattern")
class WrongPattern(Named):
    def pattern(self, h: Tensor) -> aezoo.SparsePattern:
        return aezoo.SparsePattern.of_rows(h.abs().topk(self.k, dim=1).indices, h.shape[1])


@plant_layer(KeepSpec, "dense-in-eval", "sparsity")
class DenseInEval(Keep):
    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h) if self.training else h.clone()


@plant_layer(KeepSpec, "dense-in-training", "sparsity")
class DenseInTraining(Keep):
    def forward(self, h: Tensor) -> Tensor:
        return h.clone() if self.training else super().forward(h)


@plant_layer(KeepSpec, "one-too-many", "sparsity")
class OneTooMany(Keep):
    def forward(self, h: Tensor) -> Tensor:
        return self.keep(h, self.k + 1, self.by)


@plant_layer(KeepSpec, "one-too-few", "sparsity")
class OneTooFew(Keep):
    def forward(self, h: Tensor) -> Tensor:
        return self.keep(h, self.k - 1, self.by)


@plant_layer(KeepSpec, "magnitude-for-value", "sparsity")
class MagnitudeForValue(Keep):
    def forward(self, h: Tensor) -> Tensor:
        return self.keep(h, self.k, "magnitude")


@plant_layer(KeepSpec, "value-for-magnitude", "sparsity", by="magnitude")
class ValueForMagnitude(Keep):
    def forward(self, h: Tensor) -> Tensor:
        return self.keep(h, self.k, "value")


@plant_layer(KeepSpec, "scaled-latents", "sparsity")
class ScaledLatents(Keep):
    def forward(self, h: Tensor) -> Tensor:
        return 1.01 * super().forward(h)


# -- k latents on average -----------------------------------------------------------------------------


class Few(nn.Module):
    """Keeps the k * batch largest values of a batch in training, and those above a running threshold in evaluation."""

    threshold: Tensor
    factor = {True: 1.0, False: 1.0}

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        self.register_buffer("threshold", torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        least = self.threshold * self.factor[False]
        if self.training:
            kept = min(h.numel(), round(self.k * len(h) * self.factor[True]))
            least = h.detach().flatten().topk(kept).values[-1]
            self.threshold.lerp_(least.to(self.threshold), 0.1)
        return torch.where(h >= least, h, 0.0)

    def sparsity(self) -> Mean:
        return Mean(float(self.k))


@good()
class FewSpec(ModuleSpec):
    kind: Literal["faulty.few"] = "faulty.few"
    module = Few
    k: Count = 2

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        if self.k > math.prod(in_shape):
            raise LayerError("k", f"{self.k} is more than the {math.prod(in_shape)} features")
        return self.module(self.k)


@plant_layer(FewSpec, "wrong-mean", "sparsity")
class WrongMean(Few):
    factor = {True: 2.0, False: 1.0}


@plant_layer(FewSpec, "wrong-mean in evaluation", "sparsity")
class WrongMeanInEval(Few):
    factor = {True: 1.0, False: 0.0}
