"""Residual blocks: He et al., arXiv:1512.03385, section 3.1."""

from typing import Literal

from torch import Tensor, nn
from typing_extensions import override

from aezoo.errors import LayerError
from aezoo.model.sequential import Aux, LayerSequence
from aezoo.specs.components import UNBOUNDED, ActivationSpec, Bounds, Layers, LayerSpec


class Residual(nn.Module):
    """h + inner(h), followed by an optional activation: (batch, *shape) -> (batch, *shape)."""

    def __init__(self, inner: LayerSequence, activation: nn.Module | None) -> None:
        super().__init__()
        self.inner = inner
        self.activation = activation
        self.emits = inner.emits
        self.needs = inner.needs

    @override
    def forward(self, h: Tensor, aux: Aux | None = None) -> Tensor:
        h = h + self.inner(h, aux)
        return h if self.activation is None else self.activation(h)


class ResidualSpec(LayerSpec):
    """Layers that keep the shape, with a connection that adds their input (arXiv:1512.03385, 3.1)."""

    kind: Literal["residual"] = "residual"
    examples = ({"layers": [{"kind": "linear", "out_features": 8, "activation": "relu"}]},)
    layers: Layers
    """Layers whose output has the shape of their input."""
    activation: ActivationSpec | None = None
    """Applied to the sum."""

    @override
    def output_bounds(self, given: Bounds) -> Bounds:
        return UNBOUNDED if self.activation is None else self.activation.output_bounds()

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        inner = LayerSequence.build(self.layers, in_shape, "layers")
        if inner.out_shape != in_shape:
            raise LayerError("layers", f"they give {inner.out_shape}, not the {in_shape}")
        return Residual(inner, None if self.activation is None else self.activation.build())
