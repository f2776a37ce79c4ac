"""Penalties on latents and weights. Rows are averaged, latents summed unless the source says otherwise."""

from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from aezoo.errors import DataError
from aezoo.losses.auxk import row_mixing
from aezoo.model.autoencoder import Autoencoder, Output, StepContext, get_layer
from aezoo.specs.base import NonNegativeFloat
from aezoo.specs.components import LossSpec, output_bounds

SMALLEST = 1e-7
"""Mean activations are kept this far from 0 and 1, where their logarithms have no value."""
LATENTS_AT_ONCE = 64
"""Rows of the Jacobian that the general contractive penalty computes together."""


class L1LatentsSpec(LossSpec):
    """Absolute values of the latents, summed (Olshausen and Field, Nature 381, 1996)."""

    kind: Literal["l1_latents"] = "l1_latents"

    def __call__(self, output: Output, batch: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        """A scalar, at least 0."""
        return output.latents.flatten(1).abs().sum(1).mean()


class KlSparsitySpec(LossSpec):
    """KL divergence of each latent's mean activation from `rho`, mean over latents, in nats.

    Ng, Sparse autoencoder, CS294A lecture notes (2011), section 3. The mean is over the batch.
    """

    kind: Literal["kl_sparsity"] = "kl_sparsity"
    rho: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of the time that a latent should be active."""
    outside: Literal["refuse", "clamp"] = "refuse"
    """What becomes of latents outside [0, 1]."""

    def incompatibility(self, ae: Autoencoder) -> str | None:
        """Latents that may leave [0, 1], where those are refused."""
        low, high = output_bounds(ae.spec.encoder)
        if self.outside == "clamp" or (low >= 0 and high <= 1):
            return None
        return (
            f"kl_sparsity needs latents in [0, 1], the encoder gives {low:g} to {high:g}; end it in a "
            "sigmoid, or declare `outside: clamp`"
        )

    def __call__(self, output: Output, batch: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        """A scalar, at least 0.

        Raises:
            DataError: a latent outside [0, 1].
        """
        latents = output.latents.flatten(1)
        if self.outside == "refuse":
            low, high = (float(value) for value in latents.detach().aminmax())
            if low < 0 or high > 1:
                raise DataError(f"kl_sparsity needs latents in [0, 1], found {low:g} to {high:g}")
        active = latents.clamp(0, 1).mean(0).clamp(SMALLEST, 1 - SMALLEST)
        rho = self.rho
        divergence = rho * (rho / active).log() + (1 - rho) * ((1 - rho) / (1 - active)).log()
        return divergence.mean()


class VaeKlSpec(LossSpec):
    """KL divergence of the latents' normal distributions from a standard one, summed, in nats.

    Kingma and Welling, arXiv:1312.6114, appendix B. `weight` is the beta of Higgins et al. (ICLR 2017),
    which means something only beside a data term that is summed over a sample's elements.
    """

    kind: Literal["vae_kl"] = "vae_kl"
    free_bits: NonNegativeFloat = 0.0
    """Nats that each latent has for free: below it, its batch mean is not pressed further down
    (Kingma et al., arXiv:1606.04934, appendix C.8)."""

    def incompatibility(self, ae: Autoencoder) -> str | None:
        """An encoder without a layer that emits means and log variances."""
        if {"mean", "log_var"} <= set(ae.encoder.emits):
            return None
        return "vae_kl needs an encoder that emits 'mean' and 'log_var'; end it in gaussian_sample"

    def __call__(self, output: Output, batch: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        """A scalar, at least 0."""
        mean, log_var = output.aux["mean"].flatten(1), output.aux["log_var"].flatten(1)
        each = 0.5 * (mean.square() + log_var.exp() - 1 - log_var)
        return each.mean(0).clamp(min=self.free_bits).sum()


class ContractiveSpec(LossSpec):
    """Squared Frobenius norm of the encoder's Jacobian at the input, exactly.

    Rifai et al., ICML 2011, section 2. One linear layer has a closed form; for any other encoder each
    latent's gradient is computed, which takes as many backward passes as there are latents.
    """

    kind: Literal["contractive"] = "contractive"

    def incompatibility(self, ae: Autoencoder) -> str | None:
        """An encoder in which a row's latents depend on other rows."""
        return row_mixing(ae.encoder, "contractive")

    def __call__(self, output: Output, batch: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        """A scalar, at least 0."""
        with torch.enable_grad():
            norm = one_layer_norm(ae, batch.input)
            norm = jacobian_norm(ae, batch.input) if norm is None else norm
        return norm if torch.is_grad_enabled() else norm.detach()


def one_layer_norm(ae: Autoencoder, x: Tensor) -> Tensor | None:
    """The mean squared norm in closed form; None for an encoder that is more than one linear layer."""
    layers = list(ae.encoder)
    flattening = [layer for layer in layers[:-1] if not isinstance(layer, nn.Flatten)]
    steps = dict(layers[-1].named_children())
    linear = steps.get("linear")
    if flattening or set(steps) - {"linear", "activation"} or type(linear) is not nn.Linear:
        return None
    pre_acts = linear(x.flatten(1))
    if "activation" not in steps:
        return linear.weight.square().sum()
    pre_acts = pre_acts if pre_acts.requires_grad else pre_acts.requires_grad_()
    slope = _gradient(steps["activation"](pre_acts).sum(), pre_acts)
    return (slope.square() @ linear.weight.square().sum(1)).mean()


def jacobian_norm(ae: Autoencoder, x: Tensor) -> Tensor:
    """The mean squared norm for any encoder whose rows do not depend on one another."""
    x = x.detach().requires_grad_()
    latents = ae.encode(x).flatten(1)
    total = latents.new_zeros(())
    for start in range(0, latents.shape[1], LATENTS_AT_ONCE):
        some = latents[:, start : start + LATENTS_AT_ONCE]
        # One vector for each latent: ones down its column pick its gradient for every row at once.
        picks = torch.eye(some.shape[1]).to(some)[:, None].expand(-1, len(x), -1)
        rows = _gradient(some, x, picks)
        total = total + rows.square().sum()
    return total / len(x)


def _gradient(of: Tensor, at: Tensor, along: Tensor | None = None) -> Tensor:
    """A gradient that can be differentiated again, or one for each vector of `along`."""
    found: Any = torch.autograd.grad(
        of, at, along, create_graph=True, is_grads_batched=along is not None, materialize_grads=True
    )
    return found[0]


class WeightDecaySpec(LossSpec):
    """Squared weights of chosen layers, summed; biases and normalisations are left alone."""

    kind: Literal["weight_decay"] = "weight_decay"
    on: Annotated[tuple[Annotated[str, Field(max_length=200)], ...], Field(max_length=1000)] = (
        "encoder",
        "decoder",
    )
    """Layers by path, such as `decoder.0`, or a whole side."""

    def incompatibility(self, ae: Autoencoder) -> str | None:
        """A path that is not there, or that has no weights."""
        for path in self.on:
            if not list(_weights(ae, path)):
                return f"weight_decay has nothing to do on {path!r}"
        return None

    def __call__(self, output: Output, batch: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        """A scalar, at least 0."""
        # Once each, where a layer is named beside its side.
        weights = {weight: None for path in self.on for weight in _weights(ae, path)}
        total = output.x_hat.new_zeros(())
        for weight in weights:
            total = total + weight.square().sum()
        return total


def _weights(ae: Autoencoder, path: str) -> list[Tensor]:
    found = get_layer(ae, path)
    return [] if found is None else [p for p in found.parameters() if p.ndim > 1]
