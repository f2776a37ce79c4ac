"""The evidence lower bound of variational autoencoders and its two parts, in nats."""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from typing_extensions import override

from aezoo.data.samples import Batch
from aezoo.evaluation.metric import EVAL_SEED, MeanMetric, double, recipe_of
from aezoo.losses.reconstruction import BceSpec, MseSpec
from aezoo.model.autoencoder import Autoencoder, Output
from aezoo.model.sequential import declared

LIKELIHOOD = (
    "Bernoulli where the data term is bce; where it is mse, the normal distribution whose squared error the "
    "recipe weighs (variance 1/2 for an unweighted sum)"
)


class KlMetric(MeanMetric):
    """KL divergence of the latents from the prior (Kingma and Welling, arXiv:1312.6114, appendix B)."""

    kind = "kl"
    definition = (
        "KL divergence of the latents' normal distributions from a standard one, summed over latents, mean "
        "over samples, nats"
    )

    @classmethod
    @override
    def applies(cls, ae: Autoencoder) -> bool:
        return {"mean", "log_var"} <= set(ae.encoder.emits)

    @override
    def values(self, output: Output, batch: Batch) -> Tensor:
        return kl_divergence(output)


class LogLikelihoodMetric(MeanMetric):
    """Log likelihood of the target, given latents drawn for it, in nats."""

    kind = "log_likelihood"
    definition = (
        f"log likelihood of the target at one draw of the latents, mean over samples, nats; {LIKELIHOOD}"
    )
    better = "higher"

    def __init__(self, ae: Autoencoder) -> None:
        super().__init__(ae)
        self.generator = Generator().manual_seed(EVAL_SEED)

    @classmethod
    @override
    def applies(cls, ae: Autoencoder) -> bool:
        return _likelihood_loss(ae) is not None

    @override
    def values(self, output: Output, batch: Batch) -> Tensor:
        loss = _likelihood_loss(self.ae)
        assert loss is not None
        mean, log_var = output.aux["mean"], output.aux["log_var"]
        noise = torch.randn(mean.shape, generator=self.generator).to(mean)
        x_hat = self.ae.decode(mean + (0.5 * log_var).exp() * noise, output.aux)
        return log_likelihood(double(x_hat), double(batch.target), loss)


class ElboMetric(LogLikelihoodMetric):
    """Evidence lower bound, in nats (Kingma and Welling, arXiv:1312.6114, equation 3)."""

    kind = "elbo"
    definition = (
        "log likelihood of the target at one draw of the latents minus the KL divergence (whose beta is 1 "
        f"here), mean over samples, nats; {LIKELIHOOD}"
    )

    @override
    def values(self, output: Output, batch: Batch) -> Tensor:
        return super().values(output, batch) - kl_divergence(output)


def kl_divergence(output: Output) -> Tensor:
    """KL divergence of each sample's latents from a standard normal distribution, in nats, (batch,)."""
    mean, log_var = (double(output.aux[name]).flatten(1) for name in ("mean", "log_var"))
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1)


def log_likelihood(x_hat: Tensor, target: Tensor, loss: BceSpec | MseSpec) -> Tensor:
    """Log likelihood of each sample's target in nats, (batch,), under the distribution that a loss implies.

    Args:
        x_hat: (batch, *target shape).
        target: (batch, *target shape).
        loss: `bce`: each element is a Bernoulli variable with mean x_hat; NaN for a sample with an x_hat or
            target outside [0, 1]. `mse`: each element is normal with mean x_hat and the variance for which
            the weighted squared error is the negative log likelihood, up to a constant.
    """
    x_hat, target = x_hat.flatten(1), target.flatten(1)
    if isinstance(loss, BceSpec):
        # For values outside [0, 1], NaN included, PyTorch raises an error, and on a GPU ends the process.
        inside = ((x_hat >= 0) & (x_hat <= 1) & (target >= 0) & (target <= 1)).all(1)
        x_hat, target = (values.nan_to_num(0).clamp(0, 1) for values in (x_hat, target))
        each = -F.binary_cross_entropy(x_hat, target, reduction="none").sum(1)
        return each.where(inside, math.nan)
    elements = x_hat.shape[1]
    precision = 2 * loss.weight / (1 if loss.reduction == "sum" else elements)
    squared = (x_hat - target).square().sum(1)
    return -0.5 * precision * squared - 0.5 * elements * math.log(2 * math.pi / precision)


def _likelihood_loss(ae: Autoencoder) -> BceSpec | MseSpec | None:
    """The reconstruction loss, if it implies a likelihood and the last encoder layer draws the latents."""
    last = ae.encoder[len(ae.encoder) - 1]
    if not {"mean", "log_var"} <= set(declared(last)[0]) or getattr(last, "sample_prior", None) is None:
        return None
    recipe = recipe_of(ae)
    loss = None if recipe is None else recipe.reconstruction
    return loss if isinstance(loss, BceSpec | MseSpec) and loss.weight > 0 else None
