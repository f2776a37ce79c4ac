"""Fully connected layers, each with optional normalization, activation and dropout.

Decoder columns of unit norm: Bricken et al., Towards Monosemanticity, 2023, appendix.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from aezoo.errors import LayerError
from aezoo.model.layers import activations as activations  # registers the kinds
from aezoo.model.layers.normalization import normalization
from aezoo.specs.base import Count
from aezoo.specs.components import UNBOUNDED, ActivationSpec, Bounds, LayerSpec, after_dropout


class WeightedSpec(LayerSpec):
    """Common fields of linear and convolutional layers: what follows the weights, in this order."""

    bias: bool = True
    """Whether to add a learned bias."""
    norm: Literal["batch_norm", "layer_norm"] | None = None
    """Normalization after the weights: over the batch for each feature or channel (arXiv:1502.03167),
    or over all features of each sample (arXiv:1607.06450)."""
    activation: ActivationSpec | None = None
    """A name, or a mapping with the function's arguments."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that an output is set to zero in training."""

    @override
    def output_bounds(self, given: Bounds) -> Bounds:
        bounds = UNBOUNDED if self.activation is None else self.activation.output_bounds()
        return after_dropout(bounds, self.dropout)

    def with_steps(
        self, name: str, weights: nn.Module, channels: int, axes: int = 0, pad: nn.Module | None = None
    ) -> nn.Sequential:
        """Padding, the weights as `name`, normalization, activation and dropout; those that are set.

        The weights give (batch, channels, *sizes) with `axes` sizes.
        """
        steps = {
            "pad": pad,
            name: weights,
            "norm": normalization(self.norm, channels, axes) if self.norm else None,
            "activation": self.activation.build() if self.activation else None,
            "dropout": nn.Dropout(self.dropout) if self.dropout else None,
        }
        sequence = nn.Sequential()
        for step, module in steps.items():
            if module is not None:
                sequence.add_module(step, module)
        return sequence


def plain_steps(layer: nn.Module) -> dict[str, nn.Module]:
    """The steps of a layer that runs them in order and does nothing else, by name.

    Returns:
        Empty for any other module: one of another class, even a subclass of `nn.Sequential`, or one whose
        output a hook, a parametrization or another `forward` may change.
    """
    if type(layer) is not nn.Sequential or any(map(is_hooked, layer.modules())):
        return {}
    return dict(layer.named_children())


def is_hooked(module: nn.Module) -> bool:
    """Whether hooks, or a `forward` of the instance, may change what a module computes."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return "forward" in vars(module) or any(getattr(module, name) for name in hooks)


class LinearSpec(WeightedSpec):
    """PyTorch's `nn.Linear`: (batch, in_features) -> (batch, out_features)."""

    kind: Literal["linear"] = "linear"
    examples = ({"out_features": 32, "activation": "relu"},)
    out_features: Count
    """Number of output features."""

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        if len(in_shape) != 1:
            raise LayerError("kind", f"linear takes a vector (put `flatten` before it), not the {in_shape}")
        linear = nn.Linear(in_shape[0], self.out_features, bias=self.bias)
        return self.with_steps("linear", linear, self.out_features)


class UnitNormLinear(nn.Linear):
    """A linear layer whose weight columns, one per input feature, have length 1.

    The columns are normalized in `forward`, so that their gradient is orthogonal to them. `after_step`
    normalizes the stored weights.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__(in_features, out_features, bias)
        self.after_step()

    @override
    def forward(self, input: Float[Tensor, "batch in_features"]) -> Float[Tensor, "batch out_features"]:
        return F.linear(input, F.normalize(self.weight, dim=0), self.bias)

    @torch.no_grad()
    def after_step(self) -> None:
        """Scales every column to length 1."""
        self.weight.copy_(F.normalize(self.weight, dim=0))


class UnitNormLinearSpec(WeightedSpec):
    """A linear layer whose weight columns, one per input feature, have length 1 (Bricken et al., 2023).

    (batch, in_features) -> (batch, out_features). The usual decoder of a sparse autoencoder: latents cannot
    shrink while the decoder's weights grow.
    """

    kind: Literal["unit_norm_linear"] = "unit_norm_linear"
    examples = ({"out_features": 16},)
    out_features: Count
    """Number of output features."""

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        if len(in_shape) != 1:
            raise LayerError("kind", f"unit_norm_linear takes a vector, not the {in_shape}")
        linear = UnitNormLinear(in_shape[0], self.out_features, self.bias)
        return self.with_steps("linear", linear, self.out_features)
