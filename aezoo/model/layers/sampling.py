"""Stochastic latents: the reparameterized Gaussian of variational autoencoders.

Kingma and Welling, arXiv:1312.6114, section 2.4; Rezende, Mohamed and Wierstra, arXiv:1401.4082.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from typing_extensions import override

from aezoo.errors import LayerError
from aezoo.model.sequential import Aux
from aezoo.specs.components import LayerSpec


class GaussianSample(nn.Module):
    """Draws from a normal distribution in training; returns its mean in evaluation.

    (batch, 2 c, *sizes), means before log variances -> (batch, c, *sizes). Emits `mean` and `log_var`, of the
    output's shape.
    """

    emits = ("mean", "log_var")

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    @override
    def forward(self, h: Float[Tensor, "batch *params"], aux: Aux) -> Float[Tensor, "batch *latents"]:
        # Slices and not chunks: PyTorch refuses to change a chunk in place, such as one latent of a sample.
        half = h.shape[1] // 2
        mean, log_var = h[:, :half], h[:, half:]
        aux["mean"], aux["log_var"] = mean, log_var
        return mean + torch.exp(0.5 * log_var) * torch.randn_like(mean) if self.training else mean

    def sample_posterior(self, aux: Aux, generator: Generator) -> Float[Tensor, "batch *latents"]:
        """Draws latents for the samples that `aux` was emitted for: (batch, c, *sizes)."""
        mean, log_var = aux["mean"], aux["log_var"]
        noise = torch.randn(mean.shape, generator=generator, device=generator.device)
        return mean + (0.5 * log_var).exp() * noise.to(mean)

    def kl_divergence(self, aux: Aux) -> Float[Tensor, "batch"]:
        """KL divergence of each sample's latents from the prior, in nats.

        Kingma and Welling, arXiv:1312.6114, appendix B.
        """
        mean, log_var = aux["mean"].flatten(1), aux["log_var"].flatten(1)
        return 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1)

    def sample_prior(self, n: int, generator: Generator | None) -> Float[Tensor, "n *latents"]:
        """Draws `n` samples from the prior, a standard normal, on the generator's device: (n, c, *sizes)."""
        device = None if generator is None else generator.device
        return torch.randn((n, *self.shape), generator=generator, device=device)


class GaussianSampleSpec(LayerSpec):
    """A normal distribution per latent, sampled by reparameterization (arXiv:1312.6114, section 2.4).

    (batch, 2 c, *sizes) -> (batch, c, *sizes): the layer before gives all means, then all log variances.
    """

    kind: Literal["gaussian_sample"] = "gaussian_sample"
    limits_information = True

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        if in_shape[0] % 2:
            raise LayerError("kind", f"gaussian_sample takes means and log variances, not the odd {in_shape}")
        return GaussianSample((in_shape[0] // 2, *in_shape[1:]))
