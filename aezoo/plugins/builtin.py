"""The built-in kinds: where they are defined, and how they are found."""

import importlib
import pkgutil
from typing import Any

from aezoo.plugins.hookspecs import Register

BUILTINS = (
    "aezoo.model.layers",
    "aezoo.losses",
    "aezoo.data.noises",
    "aezoo.data.datasets",
    "aezoo.evaluation.metrics",
    "aezoo.training.callbacks",
    "aezoo.training.trackers",
)
"""Modules and packages that register built-in kinds by the hooks of a plugin."""


def register_defined(name: str, family: str, register: Register) -> None:
    """Registers the kinds of a family that a module, or the modules of a package, define; sorted by kind.

    Args:
        name: the module or package, such as `aezoo.losses`.
        family: family of the kinds; classes of other families and classes without a kind are left out.
        register: the argument of the hook.
    """
    module = importlib.import_module(name)
    inner = pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}.")
    modules = [module, *(importlib.import_module(found.name) for found in inner)]
    defined: list[type[Any]] = [
        cls
        for module in modules
        for cls in vars(module).values()
        if isinstance(cls, type)
        and cls.__module__ == module.__name__
        and getattr(cls, "family", None) == family
        and getattr(cls, "kind_name", None) is not None
    ]
    for cls in sorted(defined, key=lambda cls: cls.kind_name):
        register(cls)
