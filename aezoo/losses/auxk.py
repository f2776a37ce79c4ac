"""Auxiliary top-k loss: Gao et al., arXiv:2406.04093, appendix A.2."""

import math
from collections.abc import Callable
from typing import Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from aezoo.losses.penalties import batch_dependence, keep_buffers
from aezoo.losses.reconstruction import at_least_float32
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.layers.linear import plain_steps
from aezoo.model.output import Output, StepContext
from aezoo.model.sequential import LayerSequence
from aezoo.model.sparse import SparseCode, SparsePattern
from aezoo.model.sparse_path import SparseEncoder, find_encoder
from aezoo.specs.base import Count, NonNegativeFloat
from aezoo.specs.components import LossSpec


class AuxK(nn.Module):
    """Auxiliary top-k loss: dead latents reconstruct the residual.

    Attributes:
        idle: training samples since each latent was last non-zero, (num_latents,); empty before the first.
    """

    idle: Tensor

    def __init__(self, spec: "AuxKSpec") -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("idle", torch.zeros(0))

    @override
    def forward(self, output: Output, context: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        """The mean squared error; 0 if no latent is dead. Samples are counted in training only."""
        code = output.code
        fired = (output.latents.detach().flatten(1) != 0).any(0) if code is None else code.used_latents()
        if self.idle.numel() == 0:
            self.idle = torch.zeros(fired.shape, device=fired.device)
        if self.training:
            self.idle = torch.where(fired, 0.0, self.idle + len(output.x_hat))
        dead = self.idle >= self.spec.dead_after
        if not dead.any():
            return at_least_float32(output.x_hat.new_zeros(()))
        encoder = None if code is None else find_encoder(ae.encoder, context.input)
        if encoder is None:
            x_hat = self._decode_dead(context.input, dead, output.latents.shape, ae)
        else:
            x_hat = self._decode_dead_sparse(context.input, dead, encoder, ae)
        # The decoder's output for latents of zero is not part of what the dead latents add.
        added = x_hat - ae.decode(x_hat.new_zeros((1, *ae.latent_shape)))
        residual = (context.target - output.x_hat).detach()
        return at_least_float32(added - residual).square().mean()

    def _decode_dead(self, x: Tensor, dead: Tensor, shape: torch.Size, ae: Autoencoder) -> Tensor:
        """The reconstruction from each sample's largest dead latents."""
        with keep_buffers(ae.encoder):
            pre_acts = without_relu(ae.encoder)(x).flatten(1)
        ranked = pre_acts.masked_fill(~dead, -math.inf)
        kept = ranked.topk(self._kept(dead), dim=1, sorted=False).indices
        latents = torch.zeros_like(pre_acts).scatter(1, kept, pre_acts.gather(1, kept))
        return ae.decode(latents.view(shape))

    def _decode_dead_sparse(self, x: Tensor, dead: Tensor, encoder: SparseEncoder, ae: Autoencoder) -> Tensor:
        """The same, without computing latents that are not dead."""
        with keep_buffers(ae.encoder):
            x = encoder.inputs(x, {})
        numbers, linear = dead.nonzero().flatten(), encoder.linear
        bias = cast(Tensor | None, linear.bias)
        pre_acts = F.linear(x, linear.weight[numbers], None if bias is None else bias[numbers])
        if encoder.activation is not None and type(encoder.activation) is not nn.ReLU:
            pre_acts = encoder.activation(pre_acts)
        kept = pre_acts.topk(self._kept(dead), dim=1, sorted=False).indices.sort(1).values
        pattern = SparsePattern.of_rows(numbers[kept], len(dead))
        return ae.decode_sparse(SparseCode(pre_acts.gather(1, kept).flatten(), pattern))

    def _kept(self, dead: Tensor) -> int:
        return min(self.spec.k, int(dead.count_nonzero()))


def without_relu(encoder: LayerSequence) -> LayerSequence:
    """The layers before the last, without a ReLU at their end: dead latents have no gradient behind it."""
    *others, before, _ = encoder
    steps = plain_steps(before)
    if not any(type(step) is nn.ReLU for step in steps.values()):
        return LayerSequence([*others, before])
    return LayerSequence([*others, *(step for step in steps.values() if type(step) is not nn.ReLU)])


class AuxKSpec(LossSpec):
    """Auxiliary top-k loss: dead latents reconstruct the residual (arXiv:2406.04093, appendix A.2).

    The `k` largest dead latents of each sample are decoded; the term is the squared error of the result to
    target - x_hat, averaged over elements. For encoders that end in `topk`; a ReLU before it is left out
    here, since dead latents have no gradient behind it.
    """

    kind: Literal["auxk"] = "auxk"
    examples = ({"k": 64, "weight": 0.03125},)
    weight: NonNegativeFloat = 1 / 32
    """Factor of the term in the objective."""
    k: Count = 32
    """Number of dead latents used per sample."""
    dead_after: Count = 50_000
    """Training samples without a non-zero value after which a latent counts as dead."""

    @override
    def incompatibility(self, ae: Autoencoder) -> str | None:
        if ae.spec.encoder[-1].kind_name != "topk" or len(ae.encoder) < 2:
            return "auxk revives latents that topk leaves out; end the encoder in topk"
        if ae.decoder.needs:
            return "auxk decodes latents alone, but this decoder needs more"
        # Both sides run again, the decoder on a single row as well, which would change running statistics.
        return batch_dependence(ae.encoder, "auxk") or batch_dependence(ae.decoder, "auxk")

    @override
    def build(self) -> Callable[[Output, StepContext, Autoencoder], Tensor]:
        return AuxK(self)
