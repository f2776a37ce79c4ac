"""Sparse activations and encoders: BatchTopK, JumpReLU, gated linear, and the bias before the encoder."""

import math
from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

import aezoo
from aezoo_sae import exported

Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Positive = Annotated[float, Field(gt=0, le=1e6)]


def largest(x: Tensor, n: int) -> Tensor:
    """The indices of the `n` largest values of a vector, in any order."""
    stride = x.numel() // 2**17
    if stride > 1 and (m := 2 * n // stride) > 0:
        # Most values are smaller than the 2n-th largest, which a sample estimates. Comparing with it is much
        # faster than selecting among all.
        bound = x[::stride].topk(min(m, 2**17)).values[-1]
        candidates = (x >= bound).nonzero().flatten()
        if len(candidates) >= n:
            return candidates[x[candidates].topk(n, sorted=False).indices]
    return x.topk(n, sorted=False).indices


class BatchTopK(nn.Module):
    """Keeps the largest positive values of a training batch, `k` per sample on average.

    In evaluation, values above a threshold are kept instead, so that rows do not depend on one another. The
    threshold is a running mean of the smallest value that each training batch kept.
    """

    mixes_rows = True
    threshold: Tensor
    batches: Tensor

    def __init__(self, k: int, decay: float) -> None:
        super().__init__()
        self.k, self.decay = k, decay
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, h: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """(batch, *shape) -> (batch, *shape), non-negative."""
        positive = F.relu(h)
        if not self.training:
            return torch.where(positive > self.threshold, positive, 0.0)
        flat = positive.flatten()
        most = min(self.k * len(h), flat.numel())
        values, kept = flat.topk(most, sorted=False)
        self._track(values[values > 0])
        return torch.zeros_like(flat).scatter(0, kept, values).view_as(h)

    @torch.no_grad()
    def _track(self, used: Tensor) -> None:
        """Updates the threshold by the values that a training batch keeps."""
        smallest = used.min() if used.numel() else self.threshold
        # The mean of all batches at first, so that the initial 0 has no weight.
        self.batches += 1
        share = torch.maximum(1 / self.batches, torch.full_like(self.batches, 1 - self.decay))
        self.threshold += share * (smallest.to(self.threshold) - self.threshold)

    def pattern(self, h: Float[Tensor, "batch features"]) -> aezoo.SparsePattern:
        """The entries that are kept, for aezoo's sparse kernels."""
        if not self.training:
            return aezoo.SparsePattern.of_mask(F.relu(h) > self.threshold)
        flat = h.flatten()
        kept = largest(flat, min(self.k * len(h), flat.numel()))
        kept = kept[flat[kept] > 0]
        self._track(flat[kept])
        return aezoo.SparsePattern.of_flat(kept, len(h), h.shape[1])

    def sparsity(self) -> aezoo.Mean:
        """Mean(k)."""
        return aezoo.Mean(float(self.k))

    def to_python(self) -> aezoo.PythonLayer:
        """Its source in an exported Python file."""
        return aezoo.PythonLayer("BatchTopK()", (exported.BATCH_TOPK,))


class BatchTopKSpec(aezoo.LayerSpec):
    """BatchTopK: the largest latents of a batch, `k` per sample on average; above a threshold in evaluation.

    (batch, *shape) -> (batch, *shape), non-negative. Bussmann et al., arXiv:2412.06410.
    """

    kind: Literal["sae.batch_topk"] = "sae.batch_topk"
    limits_information = True
    k: Count
    """Mean number of active latents per sample."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Decay of the running threshold, per training batch."""

    examples = ({"k": 3}, {"k": 8, "decay": 0.9})
    example_shape = (32,)

    @override
    def output_bounds(self, given: tuple[float, float]) -> tuple[float, float]:
        return 0.0, max(given[1], 0.0)

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        features = math.prod(in_shape)
        if self.k > features:
            raise aezoo.LayerError("k", f"{self.k} is more than the {features} features")
        return BatchTopK(self.k, self.decay)


class _Step(torch.autograd.Function):
    """Step function; the threshold's gradient is estimated with a rectangular kernel."""

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
    """JumpReLU; the threshold's gradient is estimated with a rectangular kernel."""

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
    """Step function with a surrogate gradient for the threshold (arXiv:2407.14435, equations 11 and 12).

    Args:
        h: (batch, *shape).
        threshold: (*shape).
        bandwidth: width of the rectangular kernel of the gradient estimate, in units of `h`.

    Returns:
        1 where `h` is above the threshold, otherwise 0; (batch, *shape).
    """
    return cast(Tensor, cast(Any, _Step).apply(h, threshold, bandwidth))


class JumpReLU(nn.Module):
    """Keeps values above a learned threshold; emits the values before the activation and the thresholds."""

    emits = ("sae.pre_acts", "sae.threshold")

    def __init__(self, shape: tuple[int, ...], threshold: float, bandwidth: float) -> None:
        super().__init__()
        self.bandwidth = bandwidth
        self.log_threshold = nn.Parameter(torch.full(shape, math.log(threshold)))

    def forward(
        self, h: Float[Tensor, "batch *shape"], aux: dict[str, Tensor]
    ) -> Float[Tensor, "batch *shape"]:
        """(batch, *shape) -> (batch, *shape), non-negative; writes what it emits to `aux`."""
        threshold = self.log_threshold.exp()
        # Read by the loss sae.l0.
        aux["sae.pre_acts"], aux["sae.threshold"] = h, threshold.expand_as(h)
        return cast(Tensor, cast(Any, _Jump).apply(h, threshold, self.bandwidth))

    def used_entries(self, aux: dict[str, Tensor]) -> Tensor:
        """The latents that are active, or whose gradient the threshold's estimate reads, (batch, *shape)."""
        return aux["sae.pre_acts"] > aux["sae.threshold"] - self.bandwidth / 2

    def to_python(self) -> aezoo.PythonLayer:
        """Its source in an exported Python file."""
        shape = tuple(self.log_threshold.shape)
        return aezoo.PythonLayer(f"JumpReLU({shape})", (exported.JUMP_RELU,))


class JumpReLUSpec(aezoo.LayerSpec):
    """JumpReLU: a learned threshold for each latent; use it with the penalty `sae.l0`.

    (batch, *shape) -> (batch, *shape), non-negative. Rajamanoharan et al., arXiv:2407.14435, section 4.
    """

    kind: Literal["sae.jumprelu"] = "sae.jumprelu"
    limits_information = True
    surrogate_gradient = True
    threshold: Positive = 0.1
    """Initial threshold of every latent, in units of the latents."""
    bandwidth: Positive = 0.1
    """Width of the kernel that estimates the gradient of the thresholds, in units of the latents."""

    examples = ({}, {"threshold": 0.5, "bandwidth": 2.0})
    example_shape = (32,)

    @override
    def output_bounds(self, given: tuple[float, float]) -> tuple[float, float]:
        return 0.0, max(given[1], 0.0)

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        return JumpReLU(in_shape, self.threshold, self.bandwidth)


class GatedLinear(nn.Module):
    """A gate selects the active latents; the same weights, rescaled, give their values."""

    emits = ("sae.gate",)

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=False)
        self.gate_bias = nn.Parameter(torch.zeros(out_features))
        self.magnitude_bias = nn.Parameter(torch.zeros(out_features))
        self.log_scale = nn.Parameter(torch.zeros(out_features))

    def forward(self, h: Float[Tensor, "batch in_features"], aux: dict[str, Tensor]
                ) -> Float[Tensor, "batch out_features"]:  # fmt: skip
        """(batch, in_features) -> (batch, out_features), non-negative; writes what it emits to `aux`."""
        shared = self.linear(h)
        gate = shared + self.gate_bias
        aux["sae.gate"] = gate
        magnitude = F.relu(self.log_scale.exp() * shared + self.magnitude_bias)
        # The step function has no gradient; the gate is trained by the loss sae.gated.
        return (gate > 0).to(h.dtype) * magnitude

    def to_python(self) -> aezoo.PythonLayer:
        """Its source in an exported Python file."""
        sizes = f"{self.linear.in_features}, {self.linear.out_features}"
        return aezoo.PythonLayer(f"GatedLinear({sizes})", (exported.GATED_LINEAR,))


class GatedLinearSpec(aezoo.LayerSpec):
    """Gated encoder; its gate is trained by the loss `sae.gated`.

    (batch, in_features) -> (batch, out_features), non-negative. Rajamanoharan et al., arXiv:2404.16014,
    section 3.2.
    """

    kind: Literal["sae.gated_linear"] = "sae.gated_linear"
    limits_information = True
    out_features: Count
    """Number of latents."""

    examples = ({"out_features": 12},)

    @override
    def output_bounds(self, given: tuple[float, float]) -> tuple[float, float]:
        return 0.0, math.inf

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        if len(in_shape) != 1:
            raise aezoo.LayerError("kind", f"sae.gated_linear takes a vector, not the shape {in_shape}")
        return GatedLinear(in_shape[0], self.out_features)


class PreBias(nn.Module):
    """Subtracts a learned bias."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, h: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """(batch, *shape) -> (batch, *shape)."""
        return h - self.bias

    def to_python(self) -> aezoo.PythonLayer:
        """Its source in an exported Python file."""
        return aezoo.PythonLayer(f"PreBias({tuple(self.bias.shape)})", (exported.PRE_BIAS,))


class PreBiasSpec(aezoo.LayerSpec):
    """Subtracts a learned bias from the encoder's input; `sae.geometric_median` initializes it.

    (batch, *shape) -> (batch, *shape). Bricken et al., Towards Monosemanticity (2023).
    """

    kind: Literal["sae.pre_bias"] = "sae.pre_bias"

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        return PreBias(in_shape)
