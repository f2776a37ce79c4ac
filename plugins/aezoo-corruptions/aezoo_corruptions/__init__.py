"""Image corruptions as noises for aezoo, for images in [0, 1].

After Hendrycks and Dietterich (arXiv:1903.12261) and, for digits, Mu and Gilmer (arXiv:1906.02337).
"""

import aezoo
from aezoo_corruptions.metrics import METRICS
from aezoo_corruptions.noises import (
    AffineSpec,
    BlurSpec,
    BrightnessSpec,
    ImpulseSpec,
    MixtureSpec,
    OcclusionSpec,
    ShotSpec,
    StripesSpec,
)

AEZOO_PLUGIN_API = 1

__all__ = [
    "AEZOO_PLUGIN_API",
    "AffineSpec",
    "BlurSpec",
    "BrightnessSpec",
    "ImpulseSpec",
    "MixtureSpec",
    "OcclusionSpec",
    "ShotSpec",
    "StripesSpec",
]


@aezoo.hookimpl
def register_noises(register):
    """Registers the noises."""
    for spec in (
        ShotSpec, ImpulseSpec, BlurSpec, OcclusionSpec, BrightnessSpec, AffineSpec, StripesSpec, MixtureSpec,
    ):  # fmt: skip
        register(spec)


@aezoo.hookimpl
def register_metrics(register):
    """Registers the metrics."""
    for spec in METRICS:
        register(spec)
