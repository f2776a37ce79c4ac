"""What a plugin can register: one hook for each open family of kinds.

A plugin is a module named by an entry point of group `aezoo`. It states the plugin contract for which it was
written, and implements any of the hooks below:

    import aezoo

    AEZOO_PLUGIN_API = 1

    @aezoo.hookimpl
    def register_layers(register):
        register(MyLayerSpec)

A hook calls its argument `register` once for each class. Kinds of a plugin begin with the name of its entry
point and a dot (`sae.batch_topk`), so that they cannot clash with kinds that aezoo adds later. aezoo's own
kinds have no prefix and are registered by the same hooks. Later versions may add arguments to a hook but
never remove one; an implementation may omit arguments that it does not use.
"""

from collections.abc import Callable
from typing import Any

import pluggy

PLUGIN_API = 1
"""Version of the plugin contract. A plugin states the version that it needs as `AEZOO_PLUGIN_API`."""

PROJECT = "aezoo"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Register = Callable[[type[Any]], None]


@hookspec
def register_layers(register: Register) -> None:
    """Layers: subclasses of `aezoo.LayerSpec`, whose `build` returns an `nn.Module`."""


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
    """Code that runs during training: subclasses of `aezoo.CallbackSpec`."""


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
"""Open family -> name of its hook."""
