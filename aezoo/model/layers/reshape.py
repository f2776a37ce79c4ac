"""Layers that change how values are laid out, or lead around others."""

import math
from typing import Literal

from torch import nn

from aezoo.errors import LayerError
from aezoo.specs.components import Bounds, LayerSpec
from aezoo.specs.tensor import Shape


class FlattenSpec(LayerSpec):
    """Each sample becomes a vector."""

    kind: Literal["flatten"] = "flatten"

    def output_bounds(self, given: Bounds) -> Bounds:
        """Bounds of its output."""
        return given

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, *in_shape) -> (batch, product of in_shape)."""
        return nn.Flatten()


class UnflattenSpec(LayerSpec):
    """Each vector becomes an array of the given shape."""

    kind: Literal["unflatten"] = "unflatten"
    shape: Shape
    """Shape of the output without the batch axis."""

    def output_bounds(self, given: Bounds) -> Bounds:
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
