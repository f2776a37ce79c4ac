"""Discrete latents for aezoo: vector quantization and finite scalar quantization.

The latents are the quantized vectors, in floating point; the integer codes are in `aux["vq.codes"]`.
"""

import aezoo
from aezoo_vq.layers import FsqSpec, QuantizeSpec
from aezoo_vq.losses import CommitmentSpec
from aezoo_vq.metrics import CodebookUseMetric, PerplexityMetric

AEZOO_PLUGIN_API = 1

__all__ = [
    "AEZOO_PLUGIN_API",
    "CodebookUseMetric",
    "CommitmentSpec",
    "FsqSpec",
    "PerplexityMetric",
    "QuantizeSpec",
]


@aezoo.hookimpl
def register_layers(register):
    """Registers the layers."""
    for spec in (QuantizeSpec, FsqSpec):
        register(spec)


@aezoo.hookimpl
def register_losses(register):
    """Registers the losses."""
    register(CommitmentSpec)


@aezoo.hookimpl
def register_metrics(register):
    """Registers the metrics."""
    for spec in (CodebookUseMetric, PerplexityMetric):
        register(spec)
