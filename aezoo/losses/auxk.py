"""Penalties on latents and weights. Rows are averaged, latents summed unless the source says otherwise."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aezoo.model.autoencoder import Autoencoder, Output, StepContext
from aezoo.model.layers.sparsity import Lifetime
from aezoo.model.sequential import LayerSequence
from aezoo.specs.base import Count, NonNegativeFloat
from aezoo.specs.components import LossSpec


class AuxK(nn.Module):
    """Lets dead latents reconstruct what the others left over; counts how long each has been silent."""

    def __init__(self, spec: "AuxKSpec") -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("idle", torch.zeros(0))

    idle: Tensor

    def forward(self, output: Output, batch: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        """A scalar, at least 0; 0 while no latent is dead."""
        fired = (output.latents.detach().flatten(1) != 0).any(0)
        if self.idle.numel() == 0:
            self.idle = torch.zeros(fired.shape, device=fired.device)
        if self.training:
            self.idle = torch.where(fired, 0.0, self.idle + len(output.latents))
        dead = self.idle >= self.spec.dead_after
        if not dead.any():
            return output.x_hat.new_zeros(())
        pre_acts = before_last(ae.encoder, batch.input).flatten(1)
        ranked = pre_acts.masked_fill(~dead, -math.inf)
        k = min(self.spec.k, int(dead.count_nonzero()))
        kept = ranked.topk(k, dim=1, sorted=False).indices
        revived = torch.zeros_like(pre_acts).scatter(1, kept, pre_acts.gather(1, kept))
        # What the decoder makes of nothing is no part of what the dead latents add.
        silence = ae.decode(torch.zeros_like(output.latents[:1]))
        added = ae.decode(revived.view_as(output.latents)) - silence
        left_over = (batch.target - output.x_hat).detach()
        return (added - left_over).square().mean()


class AuxKSpec(LossSpec):
    """Squared error of the dead latents' reconstruction of what the others left over, mean over elements.

    Gao et al., arXiv:2406.04093, appendix A.2. For encoders that end in `topk`.
    """

    kind: Literal["auxk"] = "auxk"
    weight: NonNegativeFloat = 1 / 32
    """Factor of the term in the objective."""
    k: Count = 32
    """Dead latents that each sample may use."""
    dead_after: Count = 50_000
    """Training samples without a use after which a latent counts as dead."""

    def incompatibility(self, ae: Autoencoder) -> str | None:
        """An encoder that does not end in `topk`, or a decoder that needs more than latents."""
        if ae.spec.encoder[-1].kind_name != "topk":
            return "auxk revives latents that topk leaves out; end the encoder in topk"
        if ae.decoder.needs:
            return "auxk decodes latents alone, but this decoder needs more"
        # It runs both sides a second time, once on a single row: running statistics would be of no data.
        return row_mixing(ae.encoder, "auxk") or row_mixing(ae.decoder, "auxk")

    def build(self) -> Callable[[Output, StepContext, Autoencoder], Tensor]:
        """Makes the module, which counts."""
        return AuxK(self)


def row_mixing(stack: LayerSequence, kind: str) -> str | None:
    for module in stack.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | Lifetime):
            what = type(module).__name__
            return f"{kind} needs rows that do not depend on one another, which {what} makes them do"
    return None


def before_last(stack: LayerSequence, x: Tensor) -> Tensor:
    """What a stack's last layer is given."""
    layers: list[nn.Module] = list(stack)
    return LayerSequence(layers[:-1])(x, {})
