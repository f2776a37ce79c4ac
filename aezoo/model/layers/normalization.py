"""Normalisation and dropout as layers of their own, for places where no weights stand before them."""

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from aezoo.errors import LayerError
from aezoo.model.layers.conv import BATCH_NORM
from aezoo.specs.components import Bounds, LayerSpec, after_dropout


class DropoutSpec(LayerSpec):
    """Sets a share of the values to zero in training, and scales the others up (JMLR 15, 2014)."""

    kind: Literal["dropout"] = "dropout"
    limits_information = True
    p: Annotated[float, Field(gt=0, lt=1)]
    """Share of the values set to zero."""

    def output_bounds(self, given: Bounds) -> Bounds:
        """Bounds of its output."""
        return after_dropout(given, self.p)

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, *in_shape) -> (batch, *in_shape)."""
        return nn.Dropout(self.p)


class BatchNormSpec(LayerSpec):
    """Normalisation over the batch, for each feature or channel (Ioffe and Szegedy, arXiv:1502.03167)."""

    kind: Literal["batch_norm"] = "batch_norm"

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, *in_shape) -> (batch, *in_shape)."""
        axes = max(1, len(in_shape) - 1)
        if axes not in BATCH_NORM:
            raise LayerError(
                "kind", f"batch_norm takes features, or channels and 1 to 3 axes, not the {in_shape}"
            )
        return BATCH_NORM[axes](in_shape[0])


class LayerNormSpec(LayerSpec):
    """Normalisation over all values of each sample (Ba, Kiros and Hinton, arXiv:1607.06450).

    With an affine map for each feature of a vector, or for each channel.
    """

    kind: Literal["layer_norm"] = "layer_norm"

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        """(batch, *in_shape) -> (batch, *in_shape)."""
        return nn.LayerNorm(in_shape[0]) if len(in_shape) == 1 else nn.GroupNorm(1, in_shape[0])
