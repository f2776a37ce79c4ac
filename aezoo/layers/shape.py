"""Layers that change how values are laid out, or lead around others."""

import math
from typing import Literal

from torch import Tensor, nn

from aezoo.errors import LayerError
from aezoo.specs import UNBOUNDED, ActivationSpec, Bounds, Layers, LayerSpec, Shape
from aezoo.stack import Aux, Stack


class FlattenSpec(LayerSpec):
    """Each sample becomes a vector."""

    kind: Literal["flatten"] = "flatten"

    def reach(self, given: Bounds) -> Bounds:
        """Bounds of its output."""
        return given

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, *in_shape) -> (batch, product of in_shape)."""
        return nn.Flatten()


class UnflattenSpec(LayerSpec):
    """Each vector becomes an array of the given shape."""

    kind: Literal["unflatten"] = "unflatten"
    shape: Shape

    def reach(self, given: Bounds) -> Bounds:
        """Bounds of its output."""
        return given

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, features) -> (batch, *shape)."""
        if len(in_shape) != 1:
            raise LayerError("kind", f"unflatten takes a vector, not the {in_shape}")
        if math.prod(self.shape) != in_shape[0]:
            raise LayerError(
                "shape", f"{list(self.shape)} holds {math.prod(self.shape)} values, not the {in_shape[0]}"
            )
        return nn.Unflatten(1, self.shape)


class Residual(nn.Module):
    """h + inner(h)."""

    def __init__(self, inner: Stack, activation: nn.Module | None) -> None:
        super().__init__()
        self.inner = inner
        self.activation = activation
        self.emits = inner.emits
        self.needs = inner.needs

    def forward(self, h: Tensor, aux: Aux | None = None) -> Tensor:
        """(batch, *shape) -> (batch, *shape)."""
        h = h + self.inner(h, {} if aux is None else aux)
        return h if self.activation is None else self.activation(h)


class ResidualSpec(LayerSpec):
    """Nested layers that keep the shape, and a way around them (He et al., arXiv:1512.03385, 3.1)."""

    kind: Literal["residual"] = "residual"
    layers: Layers
    activation: ActivationSpec | None = None
    """Applied to the sum."""

    def reach(self, given: Bounds) -> Bounds:
        """Bounds of its output."""
        return UNBOUNDED if self.activation is None else self.activation.reach()

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, *in_shape) -> (batch, *in_shape)."""
        inner = Stack.build(self.layers, in_shape, "layers")
        if inner.out_shape != in_shape:
            raise LayerError("layers", f"they make {inner.out_shape} of it, not the {in_shape}")
        activation = None if self.activation is None else self.activation.build()
        return Residual(inner, activation)
