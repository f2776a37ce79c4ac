"""Layers that change the shape of samples and no values."""

import math
from typing import Literal

from torch import nn
from typing_extensions import override

from aezoo.errors import LayerError
from aezoo.specs.components import Bounds, LayerSpec
from aezoo.specs.tensor import Shape


class FlattenSpec(LayerSpec):
    """Reshapes each sample to a vector: (batch, *in_shape) -> (batch, product of in_shape)."""

    kind: Literal["flatten"] = "flatten"

    @override
    def output_bounds(self, given: Bounds) -> Bounds:
        return given

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        return nn.Flatten()


class UnflattenSpec(LayerSpec):
    """Reshapes each vector to the given shape: (batch, features) -> (batch, *shape)."""

    kind: Literal["unflatten"] = "unflatten"
    examples = ({"shape": [2, 2, 2]},)
    shape: Shape
    """Shape of the output without the batch axis."""

    @override
    def output_bounds(self, given: Bounds) -> Bounds:
        return given

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        if len(in_shape) != 1:
            raise LayerError("kind", f"unflatten takes a vector, not the {in_shape}")
        if math.prod(self.shape) != in_shape[0]:
            text = f"{list(self.shape)} holds {math.prod(self.shape)} values, not the {in_shape[0]}"
            raise LayerError("shape", text)
        return nn.Unflatten(1, self.shape)
