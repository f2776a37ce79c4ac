"""Losses for sparse autoencoders: L0 penalty, gated encoders, Matryoshka reconstruction."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

import aezoo
from aezoo_sae.layers import step


class L0Spec(aezoo.LossSpec):
    """Penalty `(L0 / target - 1)^2` for `sae.jumprelu`, where L0 is the batch mean of active latents.

    Only the thresholds get a gradient. Lieberum et al., arXiv:2408.05147, section 3.2, second form, after the
    L0 penalty of arXiv:2407.14435.
    """

    kind: Literal["sae.l0"] = "sae.l0"
    target: Annotated[float, Field(gt=0)]
    """Mean number of active latents per sample to aim for."""
    bandwidth: Annotated[float, Field(gt=0, le=1e6)] = 0.1
    """Width of the kernel that estimates the gradient of the thresholds, in units of the latents."""

    examples = ({"target": 3.0},)
    example_encoder = ({"kind": "linear", "out_features": 12}, {"kind": "sae.jumprelu"})

    @override
    def incompatibility(self, ae: aezoo.Autoencoder) -> str | None:
        if {"sae.pre_acts", "sae.threshold"} <= set(ae.encoder.emits):
            return None
        return "sae.l0 needs thresholds; end the encoder in sae.jumprelu"

    @override
    def __call__(
        self, output: aezoo.Output, context: aezoo.StepContext, ae: aezoo.Autoencoder
    ) -> Float[Tensor, ""]:
        pre_acts, threshold = output.aux["sae.pre_acts"].flatten(1), output.aux["sae.threshold"][0].flatten()
        active = step(pre_acts.detach(), threshold, self.bandwidth).sum(1).mean()
        return (active / self.target - 1).square()


class GatedLossSpec(aezoo.LossSpec):
    """Trains the gate of `sae.gated_linear`: an L1 penalty and an auxiliary reconstruction error.

    The penalty is the batch mean of the sum of the gate's positive part. The error is the mean squared error
    of the reconstruction from that part, through a decoder without gradients. Rajamanoharan et al.,
    arXiv:2404.16014, equation 8.
    """

    kind: Literal["sae.gated"] = "sae.gated"
    sparsity: Annotated[float, Field(ge=0)]
    """Coefficient of the L1 penalty."""

    examples = ({"sparsity": 0.01},)
    example_encoder = ({"kind": "sae.gated_linear", "out_features": 12},)

    @override
    def incompatibility(self, ae: aezoo.Autoencoder) -> str | None:
        if "sae.gate" not in ae.encoder.emits:
            return "sae.gated needs a gate; end the encoder in sae.gated_linear"
        return "sae.gated decodes without aux, which this decoder needs" if ae.decoder.needs else None

    @override
    def __call__(
        self, output: aezoo.Output, context: aezoo.StepContext, ae: aezoo.Autoencoder
    ) -> Float[Tensor, ""]:
        gate = F.relu(output.aux["sae.gate"])
        frozen = {name: p.detach() for name, p in ae.decoder.named_parameters()}
        x_hat: Tensor = torch.func.functional_call(ae.decoder, frozen, (gate, {}))
        return self.sparsity * gate.flatten(1).sum(1).mean() + (x_hat - context.target).square().mean()


class MatryoshkaSpec(aezoo.LossSpec):
    """Matryoshka reconstruction: mean squared error from nested prefixes of the latents, mean over prefixes.

    The first latents learn to reconstruct without the later ones. Bussmann et al., arXiv:2503.17547,
    section 3.
    """

    kind: Literal["sae.matryoshka"] = "sae.matryoshka"
    role = "reconstruction"
    prefixes: Annotated[tuple[Annotated[int, Field(ge=1, le=2**31 - 1)], ...], Field(max_length=100)]
    """Numbers of first latents to reconstruct from, ascending; the reconstruction from all is added."""

    examples = ({"prefixes": [2, 4]},)

    @override
    def incompatibility(self, ae: aezoo.Autoencoder) -> str | None:
        if len(ae.latent_shape) != 1:
            return f"sae.matryoshka needs latents that are a vector, not {ae.latent_shape}"
        found = list(self.prefixes)
        if found != sorted(set(found)) or max(found, default=0) >= ae.num_latents:
            return f"prefixes must ascend to fewer than the {ae.num_latents:,} latents, found {found}"
        return "sae.matryoshka decodes without aux, which this decoder needs" if ae.decoder.needs else None

    @override
    def __call__(
        self, output: aezoo.Output, context: aezoo.StepContext, ae: aezoo.Autoencoder
    ) -> Float[Tensor, ""]:
        total = (output.x_hat - context.target).square().mean()
        index = torch.arange(ae.num_latents, device=output.x_hat.device)
        for prefix in self.prefixes:
            if output.code is None:
                x_hat = ae.decode(torch.where(index < prefix, output.latents, 0.0))
            else:
                x_hat = ae.decode_sparse(output.code.prefix(prefix))
            total = total + (x_hat - context.target).square().mean()
        return total / (len(self.prefixes) + 1)
