"""The bound that variational autoencoders are trained by, and its two parts, in nats."""

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from aezoo.data.samples import Batch
from aezoo.evaluation.evaluate import EVAL_SEED, Meter, double
from aezoo.losses.reconstruction import BceSpec, MseSpec
from aezoo.model.autoencoder import Autoencoder, Output
from aezoo.model.sequential import declared
from aezoo.specs.components import LossSpec, MetricSpec
from aezoo.specs.variant import VariantSpec

LIKELIHOOD = (
    "Bernoulli where the data term is bce; where it is mse, the normal distribution whose squared error the "
    "recipe weighs (variance 1/2 for an unweighted sum)"
)


def kl_divergence(output: Output) -> Tensor:
    """KL divergence of each row's latents from a standard normal distribution, in nats, (batch,)."""
    mean, log_var = (double(output.aux[name]).flatten(1) for name in ("mean", "log_var"))
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1)


class _Kl(Meter):
    def __init__(self) -> None:
        self.total, self.rows = 0.0, 0

    def update(self, output: Output, rows: Batch) -> None:
        self.total += float(kl_divergence(output).sum())
        self.rows += len(rows.input)

    def value(self) -> float:
        return self.total / self.rows


class _LogLikelihood(Meter):
    """The expected log likelihood by one draw of the latents, less the KL divergence where asked for."""

    def __init__(self, ae: Autoencoder, loss: LossSpec, less_kl: bool) -> None:
        self.ae, self.loss, self.less_kl = ae, loss, less_kl
        self.generator = Generator().manual_seed(EVAL_SEED)
        self.total, self.rows = 0.0, 0

    def update(self, output: Output, rows: Batch) -> None:
        mean, log_var = output.aux["mean"], output.aux["log_var"]
        noise = torch.randn(mean.shape, generator=self.generator).to(mean)
        x_hat = self.ae.decode(mean + (0.5 * log_var).exp() * noise, output.aux)
        each = log_likelihood(double(x_hat), double(rows.target), self.loss)
        if self.less_kl:
            each = each - kl_divergence(output)
        self.total += float(each.sum())
        self.rows += len(rows.input)

    def value(self) -> float:
        return self.total / self.rows


def log_likelihood(x_hat: Tensor, target: Tensor, loss: LossSpec) -> Tensor:
    """Log likelihood of each row's target in nats, (batch,), under what a data term stands for.

    Args:
        x_hat: (batch, *target shape).
        target: likewise.
        loss: `bce`: each element is a Bernoulli variable. `mse`: each is normal about x_hat, with the
        variance
            for which the weighted squared error is the negative log likelihood, but for a constant.
    """
    x_hat, target = x_hat.flatten(1), target.flatten(1)
    if isinstance(loss, BceSpec):
        # PyTorch raises (on a GPU: dies) for values outside [0, 1], NaN included; there is no likelihood.
        inside = ((x_hat >= 0) & (x_hat <= 1) & (target >= 0) & (target <= 1)).all(1)
        x_hat, target = (values.nan_to_num(0).clamp(0, 1) for values in (x_hat, target))
        each = -F.binary_cross_entropy(x_hat, target, reduction="none").sum(1)
        return each.where(inside, math.nan)
    assert isinstance(loss, MseSpec)
    elements = x_hat.shape[1]
    precision = 2 * loss.weight / (1 if loss.reduction == "sum" else elements)
    squared = (x_hat - target).square().sum(1)
    return -0.5 * precision * squared - 0.5 * elements * math.log(2 * math.pi / precision)


def _is_variational(ae: Autoencoder) -> bool:
    return {"mean", "log_var"} <= set(ae.encoder.emits)


def _likelihood(ae: Autoencoder) -> LossSpec | None:
    """The data term, where it stands for a likelihood and the latents are what the last layer draws."""
    last = ae.encoder[len(ae.encoder) - 1]
    if not {"mean", "log_var"} <= set(declared(last)[0]) or getattr(last, "sample_prior", None) is None:
        return None
    loss = ae.spec.recipe.reconstruction if isinstance(ae.spec, VariantSpec) else None
    return loss if isinstance(loss, BceSpec | MseSpec) and loss.weight > 0 else None


class KlMetric(MetricSpec):
    """KL divergence of the latents from the prior (Kingma and Welling, arXiv:1312.6114, appendix B)."""

    kind: Literal["kl"] = "kl"
    definition = (
        "KL divergence of the latents' normal distributions from a standard one, summed over latents, mean "
        "over samples, nats"
    )

    def applies(self, ae: Autoencoder) -> bool:
        """To encoders that emit means and log variances."""
        return _is_variational(ae)

    def build(self, ae: Autoencoder) -> Meter:
        """Makes the meter."""
        return _Kl()


class _OfLikelihood(MetricSpec):
    better = "higher"
    less_kl: ClassVar[bool] = False

    def applies(self, ae: Autoencoder) -> bool:
        """To variational autoencoders with a data term that stands for a likelihood."""
        return _likelihood(ae) is not None

    def build(self, ae: Autoencoder) -> Meter:
        """Makes the meter."""
        loss = _likelihood(ae)
        assert loss is not None
        return _LogLikelihood(ae, loss, self.less_kl)


class LogLikelihoodMetric(_OfLikelihood):
    """Log likelihood of the target, given latents drawn for it, in nats."""

    kind: Literal["log_likelihood"] = "log_likelihood"
    definition = (
        f"log likelihood of the target at one draw of the latents, mean over samples, nats; {LIKELIHOOD}"
    )


class ElboMetric(_OfLikelihood):
    """Evidence lower bound, in nats (Kingma and Welling, arXiv:1312.6114, equation 3)."""

    kind: Literal["elbo"] = "elbo"
    definition = (
        "log likelihood of the target at one draw of the latents minus the KL divergence (whose beta is 1 "
        f"here), mean over samples, nats; {LIKELIHOOD}"
    )
    less_kl = True
