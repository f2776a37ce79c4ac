"""Contract checks of an installed plugin as a whole."""

from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points
from typing import Any

from aezoo.errors import RegistryError
from aezoo.evaluation.metric import Metric
from aezoo.plugins.registry import GROUP, PluginInfo, registry, same_name
from aezoo.specs.components import CallbackSpec, DatasetSpec, LayerSpec, LossSpec, NoiseSpec
from aezoo.testing.callbacks import check_callback
from aezoo.testing.datasets import check_dataset
from aezoo.testing.layers import check_layer
from aezoo.testing.losses import check_loss
from aezoo.testing.noises import check_noise
from aezoo.testing.report import GUIDE, Checks, ContractError, Finding, Report
from aezoo.testing.specs import CHECKS as SPEC_CHECKS
from aezoo.testing.variants import check_variant
from aezoo.zoo.index import variants_of

CHECKS: dict[str, str] = {
    "loads": "a plugin that loads",
    "brings": "at least one kind",
    "example": "examples that are valid specs",
}


def reports_of(distribution: str) -> list[Report]:
    """A report of the plugin itself, of every kind that it brings, by its examples, and of every variant.

    Args:
        distribution: an installed distribution with an entry point of group `aezoo`, such as `aezoo-sae`; or
        the
            entry point's name.

    Raises:
        RegistryError: no such plugin, or one that `AEZOO_PLUGINS` leaves out.
    """
    points = [
        point for point in entry_points(group=GROUP)
        if point.name == distribution or (point.dist and same_name(point.dist.metadata["Name"], distribution))
    ]  # fmt: skip
    if not points:
        installed = ", ".join(sorted(str(c) for c in registry.list_plugins() if c.name != "aezoo")) or "none"
        raise RegistryError(f"no installed plugin is called {distribution!r}; there are: {installed}")
    found: list[Report] = []
    for point in points:
        contributor = next((c for c in registry.list_plugins() if c.name == point.name), None)
        if contributor is None:
            raise RegistryError(
                f"AEZOO_PLUGINS leaves the plugin {point.name!r} out, so it cannot be checked"
            )
        found.append(_plugin(contributor))
        if contributor.error is None:
            for family, kind in contributor.kinds:
                found += reports_of_kind(registry.get(family, kind))
            found += [_caught(partial(check_variant, name)) for name in variants_of(point.name)]
    return found


def check_plugin(distribution: str) -> list[Report]:
    """Checks everything that an installed plugin brings.

    Args:
        distribution: as for `reports_of`.

    Returns:
        One report for each component.

    Raises:
        ContractError: something is not kept; its report holds every finding.
        RegistryError: no such plugin.
    """
    reports = reports_of(distribution)
    whole = Report(f"plugin {distribution}")
    for report in reports:
        whole.passed += report.passed
        whole.findings += report.findings
        whole.exempt |= report.exempt
    whole.settled()
    return reports


def _plugin(contributor: PluginInfo) -> Report:
    found = {
        "loads": contributor.error,
        "brings": None if contributor.kinds or contributor.error else "none",
    }
    checks = Checks(f"plugin {contributor}", {})
    for name in found:
        checks.run(name, CHECKS[name], partial(found.get, name))
    return checks.report


def reports_of_kind(cls: type[Any]) -> list[Report]:
    """A report for each example of a kind; a class whose fields all have defaults needs none."""
    if issubclass(cls, Metric):
        return [_metric(cls)]
    return [_caught(partial(_checked, cls, {"kind": cls.kind_name, **data})) for data in cls.examples]


def _checked(cls: type[Any], data: dict[str, Any]) -> Report:
    spec: object = cls.model_validate(data)
    if isinstance(spec, LayerSpec):
        return check_layer(spec, spec.example_shape)
    if isinstance(spec, LossSpec):
        return check_loss(spec)
    if isinstance(spec, NoiseSpec):
        return check_noise(spec)
    if isinstance(spec, DatasetSpec):
        return check_dataset(spec)
    assert isinstance(spec, CallbackSpec)
    return check_callback(spec)


def _metric(cls: type[Metric]) -> Report:
    checks = Checks(f"metric {cls.kind}", {})
    check = "spec-docstring"
    checks.run(check, SPEC_CHECKS[check], lambda: None if cls.__doc__ else "none")
    return checks.report


def _caught(check: Callable[[], Report]) -> Report:
    """The report, also of what failed; an example that is no valid spec makes one of its own."""
    try:
        return check()
    except ContractError as error:
        return error.report
    except Exception as error:
        report = Report("an example")
        found = f"{type(error).__name__}: {' '.join(str(error).split())}"
        report.findings.append(Finding("example", CHECKS["example"], found, f"{GUIDE}#example"))
        return report
