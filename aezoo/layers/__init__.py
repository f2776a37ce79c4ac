"""The built-in layers, each spec beside what it builds. They enter by the plugins' own door."""

from aezoo.hookspecs import Register, hookimpl
from aezoo.layers.conv import AvgPoolSpec, ConvSpec, ConvTransposeSpec, MaxPoolSpec, UpsampleSpec
from aezoo.layers.linear import LinearSpec
from aezoo.layers.shape import FlattenSpec, ResidualSpec, UnflattenSpec
from aezoo.layers.sparsity import Lifetime, LifetimeSpec, TopK, TopKSpec

__all__ = [
    "AvgPoolSpec",
    "ConvSpec",
    "ConvTransposeSpec",
    "FlattenSpec",
    "Lifetime",
    "LifetimeSpec",
    "LinearSpec",
    "MaxPoolSpec",
    "ResidualSpec",
    "TopK",
    "TopKSpec",
    "UnflattenSpec",
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
    ):
        register(spec)
