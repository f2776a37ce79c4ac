"""Contract checks of an installed plugin: the plugin itself, each of its kinds and each of its variants."""

import contextlib
from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points
from typing import Any

from aezoo.errors import AezooError, RegistryError
from aezoo.evaluation.metric import Metric
from aezoo.plugins.registry import GROUP, PluginInfo, registry, same_name
from aezoo.specs.components import CallbackSpec, DatasetSpec, LayerSpec, LossSpec, NoiseSpec
from aezoo.specs.variant import AutoencoderSpec
from aezoo.testing.callbacks import check_callback
from aezoo.testing.contract import CheckList, ContractError, Report
from aezoo.testing.datasets import check_dataset
from aezoo.testing.layers import check_layer
from aezoo.testing.losses import check_loss
from aezoo.testing.metrics import check_metric
from aezoo.testing.noises import check_noise
from aezoo.testing.variants import check_variant
from aezoo.zoo.index import variants_of
from aezoo.zoo.load import load

PLUGIN_CHECKS: CheckList[PluginInfo] = CheckList()
EXAMPLE_CHECKS: CheckList[Callable[[], None]] = CheckList()


def reports_of(distribution: str) -> list[Report]:
    """Checks an installed plugin: itself, each kind by its `examples`, and each variant.

    Args:
        distribution: an installed distribution with an entry point of group `aezoo`, such as `aezoo-sae`, or
            the entry point's name.

    Returns:
        One report for each component, failed ones included.

    Raises:
        RegistryError: no such plugin, or one that `AEZOO_PLUGINS` excludes.
    """
    plugins = [plugin for plugin in registry.list_plugins() if plugin.name != "aezoo"]
    named = [p for p in plugins if p.name == distribution or same_name(p.distribution or "", distribution)]
    if not named:
        raise _not_loaded(distribution, plugins)
    reports: list[Report] = []
    for plugin in named:
        reports.append(PLUGIN_CHECKS.run(plugin, Report(f"plugin {plugin}")))
        if plugin.error is None:
            networks = _networks_of(plugin.name)
            for family, kind in plugin.kinds:
                cls = registry.get(family, kind)
                if issubclass(cls, Metric):
                    reports.append(_report(f"{family} {kind}", partial(check_metric, cls, networks=networks)))
                    continue
                found = [_report(f"{family} {kind}", partial(_check, cls, data)) for data in cls.examples]
                reports += _without_unneeded(found)
            variants = variants_of(plugin.name)
            reports += [_report(f"variant {name}", partial(check_variant, name)) for name in variants]
    return reports


def _networks_of(plugin: str) -> list[AutoencoderSpec]:
    """The specs of a plugin's variants, without those that cannot be loaded."""
    found: list[AutoencoderSpec] = []
    for name in variants_of(plugin):
        # The check of the variant reports the error.
        with contextlib.suppress(AezooError):
            found.append(load(name).spec)
    return found


def _not_loaded(distribution: str, plugins: list[PluginInfo]) -> RegistryError:
    # One malformed distribution makes this raise for all.
    with contextlib.suppress(Exception):
        for point in entry_points(group=GROUP):
            owner = point.dist.metadata["Name"] if point.dist else ""
            if point.name == distribution or same_name(owner, distribution):
                text = f"AEZOO_PLUGINS excludes the plugin {point.name!r}, so it cannot be checked"
                return RegistryError(text)
    installed = ", ".join(sorted(map(str, plugins))) or "none"
    return RegistryError(f"no installed plugin is called {distribution!r}; installed are: {installed}")


def _without_unneeded(reports: list[Report]) -> list[Report]:
    """The reports of a kind's examples; an exemption that one of them needs is not reported by the others."""
    for report in reports:
        needed = {c for other in reports for c in other.exempt if c not in other.unneeded}
        if report.unneeded and needed.issuperset(report.unneeded):
            report.failures = [f for f in report.failures if f.check != "exemptions"]
    return reports


def check_plugin(distribution: str) -> list[Report]:
    """Checks everything that an installed plugin registers.

    Args:
        distribution: as for `reports_of`.

    Returns:
        One report for each component.

    Raises:
        ContractError: a check failed; its report holds the failures of all components.
        RegistryError: no such plugin, or one that `AEZOO_PLUGINS` excludes.
    """
    reports = reports_of(distribution)
    whole = Report(f"plugin {distribution}")
    for report in reports:
        whole.passed_checks += report.passed_checks
        whole.failures += report.failures
        whole.exempt |= report.exempt
    whole.raise_on_failure()
    return reports


@PLUGIN_CHECKS.add("loads", "a plugin that loads", required=True)
def loads(plugin: PluginInfo) -> str | None:
    """A plugin that raises, misspells a hook or breaks the naming rules is left out as a whole.

    Failure: `RegistryError: layer 'same' must be called 'faulty.same' in this plugin`
    Fix: correct the error in the message; `aezoo plugins` shows it, too.
    """
    return plugin.error


@PLUGIN_CHECKS.add("kinds", "at least one registered kind")
def kinds(plugin: PluginInfo) -> str | None:
    """A plugin without kinds usually has a hook that never calls `register`.

    Failure: `none`
    Fix: call `register(cls)` for each class in a hook that is marked with `@aezoo.hookimpl`.
    """
    return None if plugin.kinds else "none"


@EXAMPLE_CHECKS.add("example", "examples that are valid specs")
def example(check: Callable[[], None]) -> str | None:
    """Each kind is checked by the specs in the `examples` of its class.

    Failure: `ValidationError: 1 validation error for ScaleSpec factor: Field required`
    Fix: list in `examples` the fields of at least one spec. A kind whose fields all have defaults needs none.
    """
    check()
    return None


def _check(cls: type[Any], data: dict[str, Any]) -> Report:
    spec: object = cls.model_validate({"kind": cls.kind_name, **data})
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


def _report(subject: str, check: Callable[[], Report]) -> Report:
    """The report of a check, also if it failed; of `EXAMPLE_CHECKS` if it could not even start."""
    reports: list[Report] = []

    def run() -> None:
        try:
            reports.append(check())
        except ContractError as error:
            reports.append(error.report)

    failed = EXAMPLE_CHECKS.run(run, Report(subject))
    return reports[0] if reports else failed
