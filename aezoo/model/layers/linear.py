"""Fully connected layers, with what usually follows one: normalisation, activation, dropout."""

from collections import OrderedDict
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from aezoo.errors import LayerError
from aezoo.model.layers import activations as activations  # registers the kinds
from aezoo.specs.base import Count
from aezoo.specs.components import UNBOUNDED, ActivationSpec, Bounds, LayerSpec, after_dropout


class WeightedSpec(LayerSpec):
    """What linear and convolutional layers have in common: the steps after the weights, in this order."""

    bias: bool = True
    """Whether the weights come with a bias."""
    norm: Literal["batch_norm", "layer_norm"] | None = None
    """Normalisation after the weights: over the batch for each feature or channel (arXiv:1502.03167),
    or over all features of each sample (arXiv:1607.06450)."""
    activation: ActivationSpec | None = None
    """A name, or a mapping with the function's arguments."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the outputs set to zero in training."""

    def output_bounds(self, given: Bounds) -> Bounds:
        """Bounds of its output."""
        bounds = UNBOUNDED if self.activation is None else self.activation.output_bounds()
        return after_dropout(bounds, self.dropout)

    def followed(
        self, name: str, weights: nn.Module, norm: nn.Module | None, pad: nn.Module | None = None
    ) -> nn.Sequential:
        """The weights as `name`, and whatever was asked for behind them."""
        steps: OrderedDict[str, nn.Module] = OrderedDict()
        if pad is not None:
            steps["pad"] = pad
        steps[name] = weights
        if norm is not None:
            steps["norm"] = norm
        if self.activation is not None:
            steps["activation"] = self.activation.build()
        if self.dropout:
            steps["dropout"] = nn.Dropout(self.dropout)
        return nn.Sequential(steps)


class UnitNormLinear(nn.Linear):
    """A linear layer whose atoms, the weights of one input feature each, have length 1.

    The atoms are normalised as they are used, so that the gradient has no part along an atom;
    `after_step` brings the weights themselves back to length 1.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__(in_features, out_features, bias)
        self.after_step()

    def forward(self, input: Float[Tensor, "batch in_features"]) -> Float[Tensor, "batch out_features"]:
        """(batch, in_features) -> (batch, out_features)."""
        return F.linear(input, F.normalize(self.weight, dim=0), self.bias)

    @torch.no_grad()
    def after_step(self) -> None:
        """Restores the atoms' length."""
        self.weight.copy_(F.normalize(self.weight, dim=0))


class UnitNormLinearSpec(WeightedSpec):
    """A dictionary: each input feature weighs an atom of length 1 (Bricken et al., 2023, appendix).

    The usual decoder of a sparse autoencoder, in which latents cannot shrink by growing atoms.
    """

    kind: Literal["unit_norm_linear"] = "unit_norm_linear"
    out_features: Count

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, in_features) -> (batch, out_features)."""
        if len(in_shape) != 1:
            raise LayerError("kind", f"unit_norm_linear takes a vector, not the {in_shape}")
        linear = UnitNormLinear(in_shape[0], self.out_features, self.bias)
        return self.followed("linear", linear, _vector_norm(self.norm, self.out_features))


def _vector_norm(name: str | None, features: int) -> nn.Module | None:
    if name is None:
        return None
    return nn.BatchNorm1d(features) if name == "batch_norm" else nn.LayerNorm(features)


class LinearSpec(WeightedSpec):
    """An affine map of a vector, PyTorch's `nn.Linear` with its default initialisation."""

    kind: Literal["linear"] = "linear"
    out_features: Count

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, in_features) -> (batch, out_features)."""
        if len(in_shape) != 1:
            raise LayerError("kind", f"linear takes a vector (put `flatten` before it), not the {in_shape}")
        linear = nn.Linear(in_shape[0], self.out_features, bias=self.bias)
        return self.followed("linear", linear, _vector_norm(self.norm, self.out_features))
