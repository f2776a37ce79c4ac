"""Encoders' last layers, and the bias before the first."""

import math
from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

import aezoo

Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Positive = Annotated[float, Field(gt=0, le=1e6)]


class BatchTopK(nn.Module):
    """Keeps the largest positive values of a batch, `k` a sample on average; by a threshold in evaluation.

    The threshold is a running mean of the smallest value that was kept, so that rows do not depend on one
    another once training is over.
    """

    threshold: Tensor
    batches: Tensor

    def __init__(self, k: int, decay: float) -> None:
        super().__init__()
        self.k, self.decay = k, decay
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, h: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """(batch, *shape) -> (batch, *shape), at least 0."""
        positive = F.relu(h)
        if not self.training:
            return torch.where(positive > self.threshold, positive, 0.0)
        flat = positive.flatten()
        most = min(self.k * len(h), flat.numel())
        values, kept = flat.topk(most, sorted=False)
        with torch.no_grad():
            used = values[values > 0]
            smallest = used.min() if used.numel() else self.threshold
            # A plain mean at first, so that the start is soon forgotten.
            self.batches += 1
            share = torch.maximum(1 / self.batches, torch.full_like(self.batches, 1 - self.decay))
            self.threshold += share * (smallest.to(self.threshold) - self.threshold)
        return torch.zeros_like(flat).scatter(0, kept, values).view_as(h)

    def sparsity(self) -> aezoo.Mean:
        """`k` latents on average."""
        return aezoo.Mean(float(self.k))


class BatchTopKSpec(aezoo.LayerSpec):
    """The largest latents of a batch, k for each sample on average (Bussmann et al., arXiv:2412.06410)."""

    kind: Literal["sae.batch_topk"] = "sae.batch_topk"
    limits_information = True
    k: Count
    """Latents kept, mean over samples."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Share of the running threshold that each batch keeps."""

    examples = ({"k": 3}, {"k": 8, "decay": 0.9})
    example_shape = (32,)

    def output_bounds(self, given: tuple[float, float]) -> tuple[float, float]:
        """Bounds of its output."""
        return 0.0, max(given[1], 0.0)

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, *in_shape) -> (batch, *in_shape)."""
        features = math.prod(in_shape)
        if self.k > features:
            raise aezoo.LayerError("k", f"{self.k} is more than the {features} features")
        return BatchTopK(self.k, self.decay)


class _Step(torch.autograd.Function):
    """1 where h is above the threshold; its gradient is that of a ramp as wide as `bandwidth`."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:  # pyright: ignore
        ctx.save_for_backward(h, threshold)
        ctx.bandwidth = bandwidth
        return (h > threshold).to(h.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        h, threshold = ctx.saved_tensors
        near = ((h - threshold).abs() < ctx.bandwidth / 2).to(h.dtype) / ctx.bandwidth
        return None, (-near * gradients[0]).sum(0), None


class _Jump(torch.autograd.Function):
    """h where it is above the threshold, else 0; the threshold's gradient is the source's kernel estimate."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:  # pyright: ignore
        ctx.save_for_backward(h, threshold)
        ctx.bandwidth = bandwidth
        return h * (h > threshold)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        h, threshold = ctx.saved_tensors
        near = ((h - threshold).abs() < ctx.bandwidth / 2).to(h.dtype) / ctx.bandwidth
        return (h > threshold) * gradients[0], (-threshold * near * gradients[0]).sum(0), None


def step(h: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """Which values are above their threshold, 1 or 0, with a surrogate gradient for the threshold.

    Args:
        h: (batch, *shape).
        threshold: (*shape).
        bandwidth: width of the ramp that stands for the step in the gradient, in units of h.
    """
    return cast(Tensor, cast(Any, _Step).apply(h, threshold, bandwidth))


class JumpReLU(nn.Module):
    """Passes values on that are above a threshold of their own, and learns the thresholds."""

    emits = ("sae.pre_acts", "sae.threshold")

    def __init__(self, shape: tuple[int, ...], threshold: float, bandwidth: float) -> None:
        super().__init__()
        self.bandwidth = bandwidth
        self.log_threshold = nn.Parameter(torch.full(shape, math.log(threshold)))

    def forward(
        self, h: Float[Tensor, "batch *shape"], aux: dict[str, Tensor]
    ) -> Float[Tensor, "batch *shape"]:
        """(batch, *shape) -> (batch, *shape), at least 0."""
        threshold = self.log_threshold.exp()
        # For the penalty, which needs both.
        aux["sae.pre_acts"], aux["sae.threshold"] = h, threshold.expand_as(h)
        return cast(Tensor, cast(Any, _Jump).apply(h, threshold, self.bandwidth))


class JumpReLUSpec(aezoo.LayerSpec):
    """A learnt threshold for each latent (Rajamanoharan et al., arXiv:2407.14435, section 4)."""

    kind: Literal["sae.jumprelu"] = "sae.jumprelu"
    limits_information = True
    surrogate_gradient = True
    threshold: Positive = 0.1
    """At which each latent begins, in units of the latents."""
    bandwidth: Positive = 0.1
    """Width of the kernel that the threshold's gradient is estimated by, in the same units."""

    examples = ({}, {"threshold": 0.5, "bandwidth": 2.0})
    example_shape = (32,)

    def output_bounds(self, given: tuple[float, float]) -> tuple[float, float]:
        """Bounds of its output."""
        return 0.0, max(given[1], 0.0)

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, *in_shape) -> (batch, *in_shape)."""
        return JumpReLU(in_shape, self.threshold, self.bandwidth)


class GatedLinear(nn.Module):
    """One map decides which latents are active, the same map, rescaled, how much."""

    emits = ("sae.gate",)

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=False)
        self.gate_bias = nn.Parameter(torch.zeros(out_features))
        self.magnitude_bias = nn.Parameter(torch.zeros(out_features))
        self.log_scale = nn.Parameter(torch.zeros(out_features))

    def forward(self, h: Float[Tensor, "batch in_features"], aux: dict[str, Tensor]
                ) -> Float[Tensor, "batch out_features"]:  # fmt: skip
        """(batch, in_features) -> (batch, out_features), at least 0."""
        shared = self.linear(h)
        gate = shared + self.gate_bias
        aux["sae.gate"] = gate
        magnitude = F.relu(self.log_scale.exp() * shared + self.magnitude_bias)
        # The step has no gradient of its own: the gate learns by the loss `sae.gated`.
        return (gate > 0).to(h.dtype) * magnitude


class GatedLinearSpec(aezoo.LayerSpec):
    """A linear encoder whose latents are gated (Rajamanoharan et al., arXiv:2404.16014, section 3.2).

    Its gate learns by the loss `sae.gated`.
    """

    kind: Literal["sae.gated_linear"] = "sae.gated_linear"
    limits_information = True
    out_features: Count

    examples = ({"out_features": 12},)
    exempt = {"gradient-reaches": "the gate's bias learns by the loss sae.gated alone"}

    def output_bounds(self, given: tuple[float, float]) -> tuple[float, float]:
        """Bounds of its output."""
        return 0.0, math.inf

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, in_features) -> (batch, out_features)."""
        if len(in_shape) != 1:
            raise aezoo.LayerError("kind", f"sae.gated_linear takes a vector, not the {in_shape}")
        return GatedLinear(in_shape[0], self.out_features)


class PreBias(nn.Module):
    """Takes a learnt bias off its input."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, h: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """(batch, *shape) -> (batch, *shape)."""
        return h - self.bias


class PreBiasSpec(aezoo.LayerSpec):
    """A bias taken off the input before the encoder (Bricken et al., 2023); see `sae.geometric_median`."""

    kind: Literal["sae.pre_bias"] = "sae.pre_bias"

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, *in_shape) -> (batch, *in_shape)."""
        return PreBias(in_shape)
