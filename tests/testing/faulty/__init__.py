"""The faults of faults.yaml, planted by family: importing this package fills `tests.testing.planting.PLANTED`."""

from tests.testing.faulty import (
    callbacks,
    datasets,
    layers,
    losses,
    noises,
    plugins,
    sparsity,
    specs,
    uses,
    variants,
)

__all__ = [
    "callbacks",
    "datasets",
    "layers",
    "losses",
    "noises",
    "plugins",
    "sparsity",
    "specs",
    "uses",
    "variants",
]
