"""Contract checks for authors of plugins: whether a component keeps what aezoo relies on.

    from aezoo.testing import check_layer

    def test_my_layer():
        check_layer(MyLayerSpec(k=4), in_shape=(16,))

Each check raises `ContractError`, whose text says for each failure what was expected, what was found and
where to
read. A component that cannot keep something says so, with its reason, in `exempt`; the report prints it.
"""

from aezoo.testing import specs
from aezoo.testing.callbacks import ExaminedCallback, check_callback
from aezoo.testing.datasets import ExaminedDataset, check_dataset
from aezoo.testing.layers import ExaminedLayer, check_layer
from aezoo.testing.losses import ExaminedLoss, check_loss
from aezoo.testing.noises import ExaminedNoise, check_noise
from aezoo.testing.plugins import CHECKS, check_plugin, reports_of
from aezoo.testing.report import ContractError, Finding, Report
from aezoo.testing.variants import ExaminedVariant, check_variant

EXAMINATIONS: dict[str, dict[str, str]] = {
    "every spec": specs.CHECKS,
    "layers": ExaminedLayer.CHECKS,
    "losses": ExaminedLoss.CHECKS,
    "noises": ExaminedNoise.CHECKS,
    "datasets": ExaminedDataset.CHECKS,
    "callbacks": ExaminedCallback.CHECKS,
    "variants": ExaminedVariant.CHECKS,
    "plugins": CHECKS,
}
"""What is checked of each family: check -> what the contract asks for."""

__all__ = [
    "EXAMINATIONS",
    "ContractError",
    "Finding",
    "Report",
    "check_callback",
    "check_dataset",
    "check_layer",
    "check_loss",
    "check_noise",
    "check_plugin",
    "check_variant",
    "reports_of",
]
