"""Penalties on latents and weights: averaged over rows, and summed over latents unless the source averages.

L1: Olshausen and Field, Nature 381, 1996. KL sparsity: Ng, CS294A lecture notes, 2011. Variational KL: Kingma
and Welling, arXiv:1312.6114. Contractive: Rifai et al., ICML 2011.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from typing_extensions import override

from aezoo.errors import DataError
from aezoo.losses.reconstruction import at_least_float32
from aezoo.model.autoencoder import Autoencoder, get_layer
from aezoo.model.layers.activations import ELEMENTWISE
from aezoo.model.layers.linear import is_hooked, plain_steps
from aezoo.model.output import Output, StepContext
from aezoo.model.sequential import LayerSequence
from aezoo.model.sparse_path import sparse_kernels
from aezoo.specs.base import NonNegativeFloat
from aezoo.specs.components import LossSpec, output_bounds

SMALLEST = 1e-7
"""Smallest distance of a mean activation from 0 and 1, where its logarithm is infinite."""
LATENTS_AT_ONCE = 64
"""Rows of the Jacobian that the general contractive penalty computes together."""


class L1LatentsSpec(LossSpec):
    """Absolute values of the latents, summed over latents; at least 0 (Nature 381, 1996)."""

    kind: Literal["l1_latents"] = "l1_latents"
    examples = ({"weight": 1e-3, "warmup_epochs": 5.0},)

    @override
    def __call__(self, output: Output, context: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        return at_least_float32(output.latents).flatten(1).abs().sum(1).mean()


class KlSparsitySpec(LossSpec):
    """KL divergence of a Bernoulli variable with mean `rho` from each latent's mean activation, in nats.

    rho log(rho / m) + (1 - rho) log((1 - rho) / (1 - m)), where m is the latent's mean over the batch,
    averaged over latents; at least 0. Ng, CS294A lecture notes, 2011, section 3.
    """

    kind: Literal["kl_sparsity"] = "kl_sparsity"
    examples = ({"rho": 0.05, "weight": 0.1},)
    rho: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Mean activation that latents should have."""
    outside: Literal["refuse", "clamp"] = "refuse"
    """What to do with latents outside [0, 1]."""

    @override
    def incompatibility(self, ae: Autoencoder) -> str | None:
        low, high = output_bounds(ae.spec.encoder)
        if self.outside == "clamp" or (low >= 0 and high <= 1):
            return None
        return (
            f"kl_sparsity needs latents in [0, 1], the encoder gives {low:g} to {high:g}; end it in a "
            "sigmoid, or declare `outside: clamp`"
        )

    @override
    def __call__(self, output: Output, context: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        """The term.

        Raises:
            DataError: a latent outside [0, 1].
        """
        latents = at_least_float32(output.latents).flatten(1)
        if self.outside == "refuse":
            low, high = (float(value) for value in latents.detach().aminmax())
            if low < 0 or high > 1:
                raise DataError(f"kl_sparsity needs latents in [0, 1], found {low:g} to {high:g}")
        active = latents.clamp(0, 1).mean(0).clamp(SMALLEST, 1 - SMALLEST)
        rho = self.rho
        divergence = rho * (rho / active).log() + (1 - rho) * ((1 - rho) / (1 - active)).log()
        return divergence.mean()


class VaeKlSpec(LossSpec):
    """KL divergence of each latent's normal distribution from the standard normal, in nats.

    (mean^2 + var - 1 - log var) / 2, summed over latents; at least 0. Kingma and Welling, arXiv:1312.6114,
    appendix B. `weight` is the beta of Higgins et al. (ICLR 2017) if the reconstruction term is summed over
    elements.
    """

    kind: Literal["vae_kl"] = "vae_kl"
    examples = ({"weight": 4.0},)
    free_bits: NonNegativeFloat = 0.0
    """KL below this threshold (nats per latent, mean over the batch) is not penalized (Kingma et al.,
    arXiv:1606.04934, appendix C.8)."""

    @override
    def incompatibility(self, ae: Autoencoder) -> str | None:
        if {"mean", "log_var"} <= set(ae.encoder.emits):
            return None
        return "vae_kl needs an encoder that emits 'mean' and 'log_var'; end it in gaussian_sample"

    @override
    def __call__(self, output: Output, context: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        mean, log_var = (at_least_float32(output.aux[name]).flatten(1) for name in ("mean", "log_var"))
        each = 0.5 * (mean.square() + log_var.exp() - 1 - log_var)
        return each.mean(0).clamp(min=self.free_bits).sum()


class ContractiveSpec(LossSpec):
    """Squared Frobenius norm of the encoder's Jacobian at the input, computed exactly; at least 0.

    Rifai et al., ICML 2011, section 2. The norm of a single linear layer has a closed form. For any other
    encoder the term is expensive: one backward pass per latent.
    """

    kind: Literal["contractive"] = "contractive"
    examples = ({"weight": 2e-4},)

    @override
    def incompatibility(self, ae: Autoencoder) -> str | None:
        return batch_dependence(ae.encoder, "contractive")

    @override
    def __call__(self, output: Output, context: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        with torch.enable_grad():
            norm = one_layer_norm(ae, context.input)
            norm = jacobian_norm(ae, context.input) if norm is None else norm
        return norm if torch.is_grad_enabled() else norm.detach()


def one_layer_norm(ae: Autoencoder, x: Tensor) -> Tensor | None:
    """The mean squared norm in closed form.

    None unless the encoder is one `nn.Linear`, possibly followed by an activation that acts on each value
    alone, and nothing but flattens precede it. This is decided by what the modules are, not by their names.
    """
    if type(ae.encoder) is not LayerSequence or is_hooked(ae.encoder):
        return None
    *others, last = ae.encoder
    linear, *activations = plain_steps(last).values() or (last,)
    if type(linear) is not nn.Linear or is_hooked(linear) or linear.in_features != x[0].numel():
        return None
    if not all(map(_is_flatten, others)) or len(activations) > 1:
        return None
    weight = at_least_float32(linear.weight)
    if not activations:
        return weight.square().sum()
    if type(activations[0]) not in ELEMENTWISE:
        return None
    pre_acts = linear(x.flatten(1))
    pre_acts = pre_acts if pre_acts.requires_grad else pre_acts.requires_grad_()
    slope = at_least_float32(_gradient(activations[0](pre_acts).sum(), pre_acts))
    return (slope.square() @ weight.square().sum(1)).mean()


def _is_flatten(layer: nn.Module) -> bool:
    if type(layer) is not nn.Flatten or is_hooked(layer):
        return False
    return (layer.start_dim, layer.end_dim) == (1, -1)


def jacobian_norm(ae: Autoencoder, x: Tensor) -> Tensor:
    """The mean squared norm for any encoder whose rows do not depend on one another."""
    x = x.detach().requires_grad_()
    # Gradients of many latents at once are computed by vmap, which the sparse kernels lack.
    with keep_buffers(ae.encoder), sparse_kernels(False):
        latents = ae.encode(x).flatten(1)
    total = at_least_float32(latents.new_zeros(()))
    for start in range(0, latents.shape[1], LATENTS_AT_ONCE):
        chunk = latents[:, start : start + LATENTS_AT_ONCE]
        # Row i of the identity, repeated for every sample, selects the gradients of latent i.
        vectors = torch.eye(chunk.shape[1]).to(chunk)[:, None].expand(-1, len(x), -1)
        total = total + at_least_float32(_gradient(chunk, x, vectors)).square().sum()
    return total / len(x)


@contextmanager
def keep_buffers(module: nn.Module) -> Generator[None]:
    """Context manager that restores the buffers that change inside it.

    A loss that runs layers once more must not count a batch twice in a running statistic.
    """
    before = [
        (owner, name, buffer, buffer._version, buffer.clone())
        for owner in module.modules()
        for name, buffer in owner.named_buffers(recurse=False)
    ]
    yield
    for owner, name, buffer, version, values in before:
        if getattr(owner, name) is not buffer or buffer._version != version:
            setattr(owner, name, values)


def _gradient(of: Tensor, at: Tensor, vectors: Tensor | None = None) -> Tensor:
    """A differentiable gradient, or one for each of `vectors`."""
    found: Any = torch.autograd.grad(
        of, at, vectors, create_graph=True, is_grads_batched=vectors is not None, materialize_grads=True
    )
    return found[0]


def batch_dependence(layers: LayerSequence, kind: str) -> str | None:
    """Why a loss that needs independent rows does not fit some layers; None if it does."""
    for module in layers.modules():
        if isinstance(module, _BatchNorm) or getattr(module, "mixes_rows", False):
            what = type(module).__name__
            return f"{kind} needs rows that do not depend on one another, but {what} makes them dependent"
    return None


class WeightDecaySpec(LossSpec):
    """Squared weights of chosen layers, summed; at least 0. Biases and normalizations are left out."""

    kind: Literal["weight_decay"] = "weight_decay"
    examples = ({"on": ["decoder"], "weight": 1e-4},)
    on: Annotated[tuple[Annotated[str, Field(max_length=200)], ...], Field(max_length=1000)] = (
        "encoder",
        "decoder",
    )
    """Paths of layers, such as `decoder.0`, or the whole `encoder` or `decoder`."""

    @override
    def incompatibility(self, ae: Autoencoder) -> str | None:
        for path in self.on:
            if not _weights(ae, path):
                return f"weight_decay finds no weights at {path!r}"
        return None

    @override
    def __call__(self, output: Output, context: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        # A weight counts once, even if several paths include it.
        weights = {weight: None for path in self.on for weight in _weights(ae, path)}
        total = at_least_float32(output.x_hat.new_zeros(()))
        for weight in weights:
            total = total + at_least_float32(weight).square().sum()
        return total


def _weights(ae: Autoencoder, path: str) -> list[Tensor]:
    found = get_layer(ae, path)
    return [] if found is None else [p for p in found.parameters() if p.ndim > 1]
