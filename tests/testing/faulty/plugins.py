"""Plugins with faults, checked as if they were installed."""

import importlib
import sys
import tempfile
import warnings
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from aezoo.errors import PluginWarning
from aezoo.plugins.registry import GROUP, Registry
from aezoo.testing import Report, check_plugin
from tests.testing.planting import PLANTED, Planted

PLUGIN = '''
from typing import Literal
import aezoo
from torch import nn
AEZOO_PLUGIN_API = 1

class SameSpec(aezoo.LayerSpec):
    """Changes nothing."""
    kind: Literal["faulty.same"] = "faulty.same"

    def build(self, in_shape):
        return nn.Identity()

@aezoo.hookimpl
def register_layers(register):
    register(SameSpec)
'''

# Fault -> text, its replacement, and words that the failure must contain.
FAULTS: dict[str, tuple[str, str, str]] = {
    "bare-kind": ('"faulty.same"', '"same"', "layer 'same' must be called 'faulty.same'"),
    "no-contract": ("AEZOO_PLUGIN_API = 1", "", "states no contract; add AEZOO_PLUGIN_API = 1"),
    "newer-contract": ("AEZOO_PLUGIN_API = 1", "AEZOO_PLUGIN_API = 2", "needs plugin contract 2"),
    "misspelled-hook": ("register_layers", "register_leyers", "unknown hook 'register_leyers'"),
    "raises-at-import": ("AEZOO_PLUGIN_API = 1", "1 / 0", "ZeroDivisionError: division by zero"),
}


def check_source(source: str, name: str = "faulty", enabled: str = "faulty") -> list[Report]:
    """Checks a plugin by its source, as if it were installed.

    Args:
        source: of the plugin's module.
        name: of the plugin to check.
        enabled: value of AEZOO_PLUGINS.
    """
    point = EntryPoint("faulty", "aezoo_faulty_plugin", GROUP)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        (Path(folder) / f"{point.value}.py").write_text(source)
        patch.syspath_prepend(folder)
        patch.setenv("AEZOO_PLUGINS", enabled)
        patch.setattr(sys, "dont_write_bytecode", True)
        importlib.invalidate_caches()
        registry = Registry(find=lambda: [point])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PluginWarning)
                registry.load()
            for module in ("aezoo.testing.plugins", "aezoo.testing.specs", "aezoo.specs.base"):
                patch.setattr(f"{module}.registry", registry)
            patch.setattr("aezoo.testing.plugins.entry_points", lambda group: [point])
            return check_plugin(name)
        finally:
            sys.modules.pop(point.value, None)


for _fault, (_old, _new, _) in FAULTS.items():
    _check = partial(check_source, PLUGIN.replace(_old, _new))
    PLANTED[f"plugin/{_fault}"] = Planted(_check, "loads", raises=True)
