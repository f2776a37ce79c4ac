"""Sparse autoencoders of the interpretability literature, for dictionaries wider than their input.

BatchTopK, JumpReLU and gated encoders, the Matryoshka loss, and initializations that keep latents alive.
"""

import aezoo
from aezoo_sae.callbacks import GeometricMedianSpec, TransposedStartSpec
from aezoo_sae.layers import BatchTopKSpec, GatedLinearSpec, JumpReLUSpec, PreBiasSpec
from aezoo_sae.losses import GatedLossSpec, L0Spec, MatryoshkaSpec

AEZOO_PLUGIN_API = 1

__all__ = [
    "AEZOO_PLUGIN_API",
    "BatchTopKSpec",
    "GatedLinearSpec",
    "GatedLossSpec",
    "GeometricMedianSpec",
    "JumpReLUSpec",
    "L0Spec",
    "MatryoshkaSpec",
    "PreBiasSpec",
    "TransposedStartSpec",
]


@aezoo.hookimpl
def register_layers(register):
    """Registers the layers."""
    for spec in (BatchTopKSpec, JumpReLUSpec, GatedLinearSpec, PreBiasSpec):
        register(spec)


@aezoo.hookimpl
def register_losses(register):
    """Registers the losses."""
    for spec in (L0Spec, GatedLossSpec, MatryoshkaSpec):
        register(spec)


@aezoo.hookimpl
def register_callbacks(register):
    """Registers the callbacks."""
    for spec in (GeometricMedianSpec, TransposedStartSpec):
        register(spec)
