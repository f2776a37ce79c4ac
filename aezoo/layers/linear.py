"""Fully connected layers, with what usually follows one: normalisation, activation, dropout."""

from collections import OrderedDict
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from aezoo.errors import LayerError
from aezoo.families import Count
from aezoo.layers import activations as activations  # registers the kinds
from aezoo.specs import ActivationSpec, LayerSpec


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


class LinearSpec(WeightedSpec):
    """An affine map of a vector, PyTorch's `nn.Linear` with its default initialisation."""

    kind: Literal["linear"] = "linear"
    out_features: Count

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, in_features) -> (batch, out_features)."""
        if len(in_shape) != 1:
            raise LayerError("kind", f"linear takes a vector (put `flatten` before it), not the {in_shape}")
        norms = {"batch_norm": nn.BatchNorm1d, "layer_norm": nn.LayerNorm}
        norm = norms[self.norm](self.out_features) if self.norm else None
        return self.followed("linear", nn.Linear(in_shape[0], self.out_features, bias=self.bias), norm)
