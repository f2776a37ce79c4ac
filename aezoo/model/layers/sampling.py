"""Layers that draw: the reparameterised Gaussian of variational autoencoders.

Kingma and Welling, arXiv:1312.6114, section 2.4; Rezende, Mohamed and Wierstra, arXiv:1401.4082.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from aezoo.errors import LayerError
from aezoo.model.sequential import Aux
from aezoo.specs.components import LayerSpec


class GaussianSample(nn.Module):
    """Takes means and log variances, draws in training and gives the mean in evaluation."""

    emits = ("mean", "log_var")

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, h: Float[Tensor, "batch *params"], aux: Aux) -> Float[Tensor, "batch *latents"]:
        """(batch, 2 c, *sizes) -> (batch, c, *sizes): the first half are means, the second log variances."""
        mean, log_var = h.chunk(2, dim=1)
        aux["mean"], aux["log_var"] = mean, log_var
        return mean + torch.exp(0.5 * log_var) * torch.randn_like(mean) if self.training else mean

    def sample_prior(self, n: int, generator: Generator | None) -> Float[Tensor, "n *latents"]:
        """Draws from the prior, a standard normal, where the generator lives; (n, c, *sizes)."""
        device = None if generator is None else generator.device
        return torch.randn((n, *self.shape), generator=generator, device=device)


class GaussianSampleSpec(LayerSpec):
    """A normal distribution for each latent, drawn from by reparameterisation (arXiv:1312.6114, 2.4).

    The layer before gives two numbers for each latent: all means, then all log variances.
    """

    kind: Literal["gaussian_sample"] = "gaussian_sample"
    limits_information = True

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, 2 c, *sizes) -> (batch, c, *sizes)."""
        if in_shape[0] % 2:
            raise LayerError("kind", f"gaussian_sample takes means and log variances, not the odd {in_shape}")
        return GaussianSample((in_shape[0] // 2, *in_shape[1:]))
