"""Copies of a network on the meta device that hold given tensors: much faster than building it again."""

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from aezoo.specs.base import Spec

M = TypeVar("M", bound=nn.Module)
OWN = ("torch", "aezoo")
"""Packages whose modules keep nothing in their attributes that refers to themselves."""
ATOMS = frozenset({int, float, str, bytes, bool, type(None)})
CONTAINERS = frozenset({OrderedDict, dict, set, list})
SHARED = (*ATOMS, type, tuple, Spec)
"""Types of attributes that cannot change."""
TENSORS = ("_parameters", "_buffers", "_modules")
"""Attributes that hold tensors and modules."""


def is_copyable(module: nn.Module) -> bool:
    """Whether `copy_with` copies a module and all that it contains.

    Modules of other packages may hold functions or objects that refer to themselves; they are built again.
    """
    modules = list(module.modules())
    paths = sum(len(m._modules) for m in modules) + 1  # pyright: ignore[reportPrivateUsage]
    return paths == len(modules) and all(type(m).__module__.partition(".")[0] in OWN for m in modules)


def copy_with(module: M, tensors: Mapping[str, Tensor], prefix: str = "") -> M:
    """A copy of a module whose parameters and buffers are given tensors.

    Args:
        module: on the meta device, with `is_copyable`.
        tensors: every parameter and buffer, by its name in the whole network. They are not copied.
        prefix: path of the module with a dot at its end; empty for the whole network.
    """
    found = vars(module).copy()
    for name, value in vars(module).items():
        cls = cast(Any, type(value))
        if cls in CONTAINERS and not value:
            found[name] = cls()
        elif cls not in ATOMS and name not in TENSORS:
            found[name] = _copied(value)
    found["_parameters"] = {
        name: None if p is None else nn.Parameter(tensors[prefix + name], p.requires_grad)
        for name, p in cast(dict[str, nn.Parameter | None], vars(module)["_parameters"]).items()
    }
    found["_buffers"] = {
        name: None if b is None else tensors[prefix + name]
        for name, b in cast(dict[str, Tensor | None], vars(module)["_buffers"]).items()
    }
    found["_modules"] = {
        name: None if child is None else copy_with(child, tensors, f"{prefix}{name}.")
        for name, child in cast(dict[str, nn.Module | None], vars(module)["_modules"]).items()
    }
    new = object.__new__(type(module))
    vars(new).update(found)
    return new


def _copied(value: Any) -> Any:
    if _is_shared(value):
        return value
    if type(value) in CONTAINERS:
        items = value.values() if hasattr(value, "values") else value
        if all(map(_is_shared, items)):
            return type(value)(value)
    return copy.deepcopy(value)


def _is_shared(value: object) -> bool:
    return type(value) in ATOMS or isinstance(value, SHARED)
