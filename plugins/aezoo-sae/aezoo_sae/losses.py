"""Penalties and data terms that go with the layers."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

import aezoo
from aezoo_sae.layers import step


class L0Spec(aezoo.LossSpec):
    """How far the number of active latents lies from a target, for `sae.jumprelu`.

    (L0 / target - 1)^2 of the mean number over the batch: the second form in Lieberum et al.,
    arXiv:2408.05147, section 3.2, after the L0 penalty of arXiv:2407.14435. Its gradient reaches the
    thresholds alone.
    """

    kind: Literal["sae.l0"] = "sae.l0"
    target: Annotated[float, Field(gt=0)]
    """Active latents, mean over samples."""
    bandwidth: Annotated[float, Field(gt=0, le=1e6)] = 0.1
    """Width of the kernel that the thresholds' gradient is estimated by, in units of the latents."""

    examples = ({"target": 3.0},)
    example_encoder = ({"kind": "linear", "out_features": 12}, {"kind": "sae.jumprelu"})

    def incompatibility(self, ae: aezoo.Autoencoder) -> str | None:
        """An encoder without thresholds."""
        if {"sae.pre_acts", "sae.threshold"} <= set(ae.encoder.emits):
            return None
        return "sae.l0 counts what passes thresholds; end the encoder in sae.jumprelu"

    def __call__(
        self, output: aezoo.Output, batch: aezoo.StepContext, ae: aezoo.Autoencoder
    ) -> Float[Tensor, ""]:
        """A scalar, at least 0."""
        pre_acts, threshold = output.aux["sae.pre_acts"].flatten(1), output.aux["sae.threshold"][0].flatten()
        active = step(pre_acts.detach(), threshold, self.bandwidth).sum(1).mean()
        return (active / self.target - 1).square()


class GatedLossSpec(aezoo.LossSpec):
    """What the gate of `sae.gated_linear` learns by (arXiv:2404.16014, equation 8).

    The sum of the gate's positive part, and the squared error of a reconstruction from it alone, through a
    decoder that does not learn by it.
    """

    kind: Literal["sae.gated"] = "sae.gated"
    sparsity: Annotated[float, Field(ge=0)]
    """Factor of the sum of the gate's positive part."""

    examples = ({"sparsity": 0.01},)
    example_encoder = ({"kind": "sae.gated_linear", "out_features": 12},)

    def incompatibility(self, ae: aezoo.Autoencoder) -> str | None:
        """An encoder without a gate, or a decoder that needs more than latents."""
        if "sae.gate" not in ae.encoder.emits:
            return "sae.gated teaches a gate; end the encoder in sae.gated_linear"
        return "sae.gated decodes latents alone, but this decoder needs more" if ae.decoder.needs else None

    def __call__(
        self, output: aezoo.Output, batch: aezoo.StepContext, ae: aezoo.Autoencoder
    ) -> Float[Tensor, ""]:
        """A scalar, at least 0."""
        gate = F.relu(output.aux["sae.gate"])
        frozen = {name: p.detach() for name, p in ae.decoder.named_parameters()}
        x_hat: Tensor = torch.func.functional_call(ae.decoder, frozen, (gate, {}))
        return self.sparsity * gate.flatten(1).sum(1).mean() + (x_hat - batch.target).square().mean()


class MatryoshkaSpec(aezoo.LossSpec):
    """Squared error of the reconstructions from nested prefixes of the dictionary, mean over prefixes.

    Bussmann et al., arXiv:2503.17547, section 3: early latents learn to do without the later ones.
    """

    kind: Literal["sae.matryoshka"] = "sae.matryoshka"
    role = "reconstruction"
    prefixes: Annotated[tuple[Annotated[int, Field(ge=1, le=2**31 - 1)], ...], Field(max_length=100)]
    """How many of the first latents each reconstruction uses, ascending; all latents are one more."""

    examples = ({"prefixes": [2, 4]},)

    def incompatibility(self, ae: aezoo.Autoencoder) -> str | None:
        """Prefixes that do not ascend to fewer than all latents, or latents that are no vector."""
        if len(ae.latent_shape) != 1:
            return f"sae.matryoshka needs latents that are a vector, not {ae.latent_shape}"
        if (
            list(self.prefixes) != sorted(set(self.prefixes))
            or max(self.prefixes, default=0) >= ae.num_latents
        ):
            return f"prefixes must ascend to fewer than the {ae.num_latents:,} latents, found {list(self.prefixes)}"
        return (
            "sae.matryoshka decodes latents alone, but this decoder needs more" if ae.decoder.needs else None
        )

    def __call__(
        self, output: aezoo.Output, batch: aezoo.StepContext, ae: aezoo.Autoencoder
    ) -> Float[Tensor, ""]:
        """A scalar, at least 0."""
        total = (output.x_hat - batch.target).square().mean()
        place = torch.arange(output.latents.shape[1], device=output.latents.device)
        for prefix in self.prefixes:
            x_hat = ae.decode(torch.where(place < prefix, output.latents, 0.0))
            total = total + (x_hat - batch.target).square().mean()
        return total / (len(self.prefixes) + 1)
