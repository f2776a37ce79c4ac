"""The evidence lower bound of variational autoencoders and its two parts, in nats.

The posterior and the prior are those that the encoder's last layer declares by its methods:

- `kl_divergence(aux)` returns the KL divergence of each sample's latents from the prior, (batch,),
- `sample_posterior(aux, generator)` draws latents,
- `sample_prior(n, generator)` draws from the prior.

A layer that draws latents without `kl_divergence` has metrics that are null.
"""

import math
from typing import Any

import torch.nn.functional as F
from torch import Generator, Tensor, nn
from typing_extensions import override

from aezoo.data.samples import Batch
from aezoo.evaluation.metric import EVAL_SEED, MeanMetric, NotMeasured, double, recipe_of
from aezoo.losses.reconstruction import BceSpec, MseSpec
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.layers.sampling import GaussianSample
from aezoo.model.output import Output
from aezoo.model.sequential import Aux, declared

LIKELIHOOD = (
    "Bernoulli where the data term is bce; where it is mse, the normal distribution whose squared error the "
    "recipe weighs (variance 1/2 for an unweighted sum)"
)


class KlMetric(MeanMetric):
    """KL divergence of the latents from the prior (Kingma and Welling, arXiv:1312.6114, appendix B)."""

    kind = "kl"
    definition = (
        "KL divergence of the latents' distributions from the prior, summed over latents, mean over samples, "
        "nats"
    )
    gaussian_definition = (
        "KL divergence of the latents' normal distributions from a standard one, summed over latents, mean "
        "over samples, nats"
    )
    uses = ("kl_divergence",)

    def __init__(self, ae: Autoencoder) -> None:
        super().__init__(ae)
        self.layer: Any = self.layer_of(ae)
        if type(self.layer) is GaussianSample:
            self.definition = self.gaussian_definition
        self.reason = next((reason for name in self.uses if (reason := _undeclared(self.layer, name))), None)

    @staticmethod
    def layer_of(ae: Autoencoder) -> nn.Module | None:
        """The layer of the encoder whose distributions are measured."""
        return next((module for module in ae.encoder.modules() if _is_variational(module)), None)

    @classmethod
    @override
    def applies(cls, ae: Autoencoder) -> bool:
        return cls.layer_of(ae) is not None

    @override
    def update(self, output: Output, batch: Batch) -> None:
        if self.reason is None:
            super().update(output, batch)

    @override
    def compute(self) -> float:
        if self.reason is not None:
            raise NotMeasured(self.reason)
        return super().compute()

    @override
    def values(self, output: Output, batch: Batch) -> Tensor:
        aux: Aux = {name: double(t) if t.is_floating_point() else t for name, t in output.aux.items()}
        return self.layer.kl_divergence(aux)


class LogLikelihoodMetric(KlMetric):
    """Log likelihood of the target, given latents drawn for it, in nats."""

    kind = "log_likelihood"
    definition = (
        f"log likelihood of the target at one draw of the latents, mean over samples, nats; {LIKELIHOOD}"
    )
    better = "higher"
    gaussian_definition = definition
    uses = ("sample_posterior",)

    def __init__(self, ae: Autoencoder) -> None:
        super().__init__(ae)
        self.generator = Generator().manual_seed(EVAL_SEED)

    @staticmethod
    @override
    def layer_of(ae: Autoencoder) -> nn.Module | None:
        # Layers after the one that draws latents would have to be applied to the draws.
        last = ae.encoder[len(ae.encoder) - 1]
        return last if _is_variational(last) else None

    @classmethod
    @override
    def applies(cls, ae: Autoencoder) -> bool:
        return super().applies(ae) and _likelihood_loss(ae) is not None

    @override
    def values(self, output: Output, batch: Batch) -> Tensor:
        loss = _likelihood_loss(self.ae)
        assert loss is not None
        x_hat = self.ae.decode(self.layer.sample_posterior(output.aux, self.generator), output.aux)
        return log_likelihood(double(x_hat), double(batch.target), loss)


class ElboMetric(LogLikelihoodMetric):
    """Evidence lower bound, in nats (Kingma and Welling, arXiv:1312.6114, equation 3)."""

    kind = "elbo"
    definition = (
        "log likelihood of the target at one draw of the latents minus the KL divergence (whose beta is 1 "
        f"here), mean over samples, nats; {LIKELIHOOD}"
    )
    gaussian_definition = definition
    uses = ("sample_posterior", "kl_divergence")

    @override
    def values(self, output: Output, batch: Batch) -> Tensor:
        return super().values(output, batch) - KlMetric.values(self, output, batch)


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
    """The reconstruction loss, if it implies a likelihood."""
    recipe = recipe_of(ae)
    loss = None if recipe is None else recipe.reconstruction
    # A subclass may compute something else.
    exact = type(loss) in (BceSpec, MseSpec)
    return loss if exact and isinstance(loss, BceSpec | MseSpec) and loss.weight > 0 else None


def _is_variational(layer: nn.Module) -> bool:
    """Whether a layer draws latents from a distribution, whether or not it declares which."""
    if hasattr(layer, "kl_divergence"):
        return True
    return hasattr(layer, "sample_prior") and {"mean", "log_var"} <= set(declared(layer)[0])


def _undeclared(layer: nn.Module, name: str) -> str | None:
    """Why a method does not describe the distributions of a layer; None if it does."""
    classes = type(layer).__mro__

    def depth(attribute: str) -> int:
        return next((i for i, cls in enumerate(classes) if attribute in vars(cls)), len(classes))

    cls = type(layer).__name__
    if depth(name) == len(classes):
        return f"{cls} declares no {name}"
    # A subclass with another posterior or prior must not inherit what belongs to the old ones.
    changed = next((attr for attr in ("forward", "sample_prior") if depth(attr) < depth(name)), None)
    return None if changed is None else f"{cls} has a {changed} of its own, but inherits {name}"
