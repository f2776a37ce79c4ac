"""Contract checks for plugin authors: does a component keep what aezoo relies on?

    from aezoo.testing import check_layer

    def test_my_layer():
        check_layer(MyLayerSpec(k=4), in_shape=(16,))

These functions raise `ContractError` if a check fails. The message says for each failure what was expected,
what was found and which section of docs/plugins.md explains it. A class that cannot pass a check says so in
`exempt`, with a reason that is shown in the report.
"""

from typing import Any

from aezoo.testing.callbacks import CALLBACK_CHECKS, check_callback
from aezoo.testing.contract import CheckList, ContractCheck, ContractError, Failure, Report
from aezoo.testing.datasets import DATASET_CHECKS, check_dataset
from aezoo.testing.layers import LAYER_CHECKS, check_layer
from aezoo.testing.losses import LOSS_CHECKS, check_loss
from aezoo.testing.metrics import METRIC_CHECKS, check_metric
from aezoo.testing.noises import NOISE_CHECKS, check_noise
from aezoo.testing.plugins import EXAMPLE_CHECKS, PLUGIN_CHECKS, check_plugin, reports_of
from aezoo.testing.specs import EXEMPTION_CHECKS, SETTING_CHECKS, SPEC_CHECKS
from aezoo.testing.variants import VARIANT_CHECKS, check_variant

ALL_CHECKS: dict[str, list[ContractCheck[Any]]] = {
    "every spec": [*SPEC_CHECKS, *SETTING_CHECKS, *EXEMPTION_CHECKS],
    "layers": [*LAYER_CHECKS],
    "losses": [*LOSS_CHECKS],
    "noises": [*NOISE_CHECKS],
    "datasets": [*DATASET_CHECKS],
    "callbacks": [*CALLBACK_CHECKS],
    "metrics": [*METRIC_CHECKS],
    "variants": [*VARIANT_CHECKS],
    "plugins": [*PLUGIN_CHECKS, *EXAMPLE_CHECKS],
}
"""Family -> its checks, in the order in which they run."""

__all__ = [
    "ALL_CHECKS",
    "CheckList",
    "ContractCheck",
    "ContractError",
    "Failure",
    "Report",
    "check_callback",
    "check_dataset",
    "check_layer",
    "check_loss",
    "check_metric",
    "check_noise",
    "check_plugin",
    "check_variant",
    "reports_of",
]
