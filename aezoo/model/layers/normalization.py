"""Normalization and dropout.

Batch normalization: Ioffe and Szegedy, arXiv:1502.03167. Layer normalization: Ba, Kiros and Hinton,
arXiv:1607.06450. Dropout: Srivastava et al., JMLR 15, 2014.
"""

from typing import Annotated, Literal

from pydantic import Field
from torch import nn
from typing_extensions import override

from aezoo.errors import LayerError
from aezoo.specs.components import Bounds, LayerSpec, after_dropout

BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def normalization(kind: Literal["batch_norm", "layer_norm"], channels: int, axes: int) -> nn.Module:
    """The module that normalizes (batch, channels, *sizes), where `axes` is the number of sizes."""
    if kind == "batch_norm":
        return BATCH_NORM[max(axes, 1)](channels)
    # A group norm with one group has one scale and shift per channel; a layer norm, one per value.
    return nn.GroupNorm(1, channels) if axes else nn.LayerNorm(channels)


class DropoutSpec(LayerSpec):
    """Sets values to zero at random in training and scales up the others (JMLR 15, 2014)."""

    kind: Literal["dropout"] = "dropout"
    examples = ({"p": 0.1},)
    limits_information = True
    p: Annotated[float, Field(gt=0, lt=1)]
    """Probability that a value is set to zero."""

    @override
    def output_bounds(self, given: Bounds) -> Bounds:
        return after_dropout(given, self.p)

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        return nn.Dropout(self.p)


class BatchNormSpec(LayerSpec):
    """Normalization over the batch, for each feature or channel (arXiv:1502.03167)."""

    kind: Literal["batch_norm"] = "batch_norm"

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        channels, *sizes = in_shape
        if len(sizes) > 3:
            text = f"batch_norm takes features, or channels and 1 to 3 axes, not the {in_shape}"
            raise LayerError("kind", text)
        return normalization("batch_norm", channels, len(sizes))


class LayerNormSpec(LayerSpec):
    """Normalization over all values of each sample (arXiv:1607.06450).

    Scale and shift are learned for each feature of a vector, or for each channel.
    """

    kind: Literal["layer_norm"] = "layer_norm"

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        return normalization("layer_norm", in_shape[0], len(in_shape) - 1)
