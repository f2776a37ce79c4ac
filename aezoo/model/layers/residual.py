"""Layers that change how values are laid out, or lead around others."""

from typing import Literal

from torch import Tensor, nn

from aezoo.errors import LayerError
from aezoo.model.sequential import Aux, LayerSequence
from aezoo.specs.components import UNBOUNDED, ActivationSpec, Bounds, Layers, LayerSpec


class Residual(nn.Module):
    """h + inner(h)."""

    def __init__(self, inner: LayerSequence, activation: nn.Module | None) -> None:
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
    """Layers whose output has the shape of their input."""
    activation: ActivationSpec | None = None
    """Applied to the sum."""

    def output_bounds(self, given: Bounds) -> Bounds:
        """Bounds of its output."""
        return UNBOUNDED if self.activation is None else self.activation.output_bounds()

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, *in_shape) -> (batch, *in_shape)."""
        inner = LayerSequence.build(self.layers, in_shape, "layers")
        if inner.out_shape != in_shape:
            raise LayerError("layers", f"they make {inner.out_shape} of it, not the {in_shape}")
        activation = None if self.activation is None else self.activation.build()
        return Residual(inner, activation)
