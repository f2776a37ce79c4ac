"""The built-in layers, each spec beside what it builds. They enter by the plugins' own door."""

from aezoo.model.layers.conv import (
    AvgPoolSpec,
    ConvSpec,
    ConvTransposeSpec,
    MaxPoolSpec,
    MaxUnpoolSpec,
    UpsampleSpec,
)
from aezoo.model.layers.linear import LinearSpec, UnitNormLinearSpec
from aezoo.model.layers.normalization import BatchNormSpec, DropoutSpec, LayerNormSpec
from aezoo.model.layers.reshape import FlattenSpec, UnflattenSpec
from aezoo.model.layers.residual import ResidualSpec
from aezoo.model.layers.sampling import GaussianSample, GaussianSampleSpec
from aezoo.model.layers.sparsity import Lifetime, LifetimeSpec, TopK, TopKSpec
from aezoo.plugins.hookspecs import Register, hookimpl

__all__ = [
    "AvgPoolSpec",
    "BatchNormSpec",
    "ConvSpec",
    "ConvTransposeSpec",
    "DropoutSpec",
    "FlattenSpec",
    "GaussianSample",
    "GaussianSampleSpec",
    "LayerNormSpec",
    "Lifetime",
    "LifetimeSpec",
    "LinearSpec",
    "MaxPoolSpec",
    "MaxUnpoolSpec",
    "ResidualSpec",
    "TopK",
    "TopKSpec",
    "UnflattenSpec",
    "UnitNormLinearSpec",
    "UpsampleSpec",
]


@hookimpl
def register_layers(register: Register) -> None:
    """Registers every built-in layer."""
    for spec in (
        LinearSpec,
        ConvSpec,
        ConvTransposeSpec,
        MaxPoolSpec,
        AvgPoolSpec,
        UpsampleSpec,
        FlattenSpec,
        UnflattenSpec,
        ResidualSpec,
        TopKSpec,
        LifetimeSpec,
        MaxUnpoolSpec,
        UnitNormLinearSpec,
        GaussianSampleSpec,
        DropoutSpec,
        BatchNormSpec,
        LayerNormSpec,
    ):
        register(spec)
