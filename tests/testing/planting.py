"""Registers correct components, and copies of them with one fault each, for test_faults.py."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeVar, cast

from torch import nn

import aezoo
from aezoo.specs.base import RegisteredSpec
from aezoo.testing import (
    Report,
    check_callback,
    check_dataset,
    check_layer,
    check_loss,
    check_metric,
    check_noise,
)

S = TypeVar("S", bound=RegisteredSpec)
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Planted:
    """A component with one fault.

    Attributes:
        check: checks the component; raises ContractError if it finds the fault.
        found_by: the check that must fail.
        also: checks that may fail, too, because of the same fault. Any other failure is a false alarm.
        raises: whether the check fails by an exception of the component.
    """

    check: Callable[[], object]
    found_by: str
    also: tuple[str, ...] = ()
    raises: bool = False


GOOD: list[RegisteredSpec] = []
PLANTED: dict[str, Planted] = {}
"""Family and fault, as in faults.yaml -> the component. Words after the name tell several ways of planting one fault
apart."""


def check(spec: Any) -> Report:
    """The contract check of the component's family."""
    if isinstance(spec, aezoo.LayerSpec):
        return check_layer(spec, spec.example_shape)
    checks: dict[str, Callable[[Any], Report]] = {
        "loss": check_loss, "noise": check_noise, "dataset": check_dataset, "callback": check_callback,
    }  # fmt: skip
    return checks[spec.family](spec)


def good(**fields: Any) -> Callable[[type[S]], type[S]]:
    """Decorates the spec of a component without faults."""

    def register(cls: type[S]) -> type[S]:
        cls.__doc__ = cls.__doc__ or "A correct component."
        GOOD.append(cls(**fields))
        return cls

    return register


def plant(
    fault: str, found_by: str, *, also: tuple[str, ...] = (), raises: bool = False, **fields: Any
) -> Callable[[type[S]], type[S]]:
    """Decorates the spec of a component with a fault; see `Planted`."""

    def register(cls: type[S]) -> type[S]:
        cls.__doc__ = cls.__doc__ or fault
        assert fault not in PLANTED
        PLANTED[fault] = Planted(partial(check, cls(**fields)), found_by, also, raises)
        return cls

    return register


def plant_metric(
    fault: str, found_by: str, **options: Any
) -> Callable[[type[aezoo.Metric]], type[aezoo.Metric]]:
    """Decorates a metric with a fault."""

    def register(cls: type[aezoo.Metric]) -> type[aezoo.Metric]:
        cls.__doc__, cls.kind = fault, f"faulty.{fault}"
        PLANTED[f"metric/{fault}"] = Planted(partial(check_metric, cls), found_by, **options)
        return cls

    return register


class ModuleSpec(aezoo.LayerSpec):
    """A layer whose spec names the class of its module."""

    module: ClassVar[Any]

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        return self.module(in_shape)


def plant_layer(
    base: type[ModuleSpec], fault: str, found_by: str, **options: Any
) -> Callable[[type[M]], type[M]]:
    """Decorates a module with a fault; its spec, a subclass of `base`, is added to the module's file for pickle."""

    def register(module: type[M]) -> type[M]:
        name, file = f"{module.__name__}Spec", sys.modules[module.__module__]
        assert not hasattr(file, name)
        body = {"__module__": module.__module__, "__qualname__": name, "module": module}
        setattr(file, name, cast(Any, type(base))(name, (base,), body))
        plant(f"layer/{fault}", found_by, **options)(getattr(file, name))
        return module

    return register
