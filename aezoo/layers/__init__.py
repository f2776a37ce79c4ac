"""The built-in layers, each spec beside what it builds. They enter by the plugins' own door."""

from aezoo.hookspecs import Register, hookimpl
from aezoo.layers.conv import (
    AvgPoolSpec,
    ConvSpec,
    ConvTransposeSpec,
    MaxPoolSpec,
    MaxUnpoolSpec,
    UpsampleSpec,
)
from aezoo.layers.linear import LinearSpec, UnitNormLinearSpec
from aezoo.layers.sampling import GaussianSample, GaussianSampleSpec
from aezoo.layers.shape import FlattenSpec, ResidualSpec, UnflattenSpec
from aezoo.layers.sparsity import Lifetime, LifetimeSpec, TopK, TopKSpec
from aezoo.layers.steps import BatchNormSpec, DropoutSpec, LayerNormSpec

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
