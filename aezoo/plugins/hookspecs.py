"""What a plugin may contribute: one hook for each family of kinds.

A plugin is a module named by an entry point of group `aezoo`. It states the contract that it was written
for and implements any of the hooks below:

    import aezoo

    AEZOO_PLUGIN_API = 1

    @aezoo.hookimpl
    def register_layers(register):
        register(MyLayerSpec)

Every hook is handed `register`, to be called once for each class. A kind carries the entry point's name,
a dot and its own name (`sae.batch_topk`), so that a kind which aezoo gains later cannot break a plugin.
aezoo's own kinds are bare, and enter through these same hooks. Hooks may gain arguments; they never lose
one, and an implementation may leave out those that it does not need.
"""

from collections.abc import Callable
from typing import Any

import pluggy

PLUGIN_API = 1
"""The contract of this aezoo; a plugin says with `AEZOO_PLUGIN_API` which one it was written for."""

PROJECT = "aezoo"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Register = Callable[[type[Any]], None]


@hookspec
def register_layers(register: Register) -> None:
    """Layers: subclasses of `aezoo.LayerSpec`, each of which builds its `nn.Module`."""


@hookspec
def register_losses(register: Register) -> None:
    """Reconstruction terms and penalties: subclasses of `aezoo.LossSpec`."""


@hookspec
def register_noises(register: Register) -> None:
    """Corruptions of the input: subclasses of `aezoo.NoiseSpec`."""


@hookspec
def register_datasets(register: Register) -> None:
    """Named datasets: subclasses of `aezoo.DatasetSpec`."""


@hookspec
def register_callbacks(register: Register) -> None:
    """What happens around training steps and epochs: subclasses of `aezoo.CallbackSpec`."""


@hookspec
def register_metrics(register: Register) -> None:
    """Numbers measured on a dataset: subclasses of `aezoo.Metric`."""


HOOKS = {
    "layer": "register_layers",
    "loss": "register_losses",
    "noise": "register_noises",
    "dataset": "register_datasets",
    "callback": "register_callbacks",
    "metric": "register_metrics",
}
"""Family of kinds -> the hook that fills it."""
