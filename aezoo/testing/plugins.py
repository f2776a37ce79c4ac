"""Contract checks of an installed plugin: the plugin itself, each of its kinds and each of its variants."""

from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points
from typing import Any

from aezoo.errors import RegistryError
from aezoo.plugins.registry import GROUP, PluginInfo, registry, same_name
from aezoo.specs.components import CallbackSpec, DatasetSpec, LayerSpec, LossSpec, NoiseSpec
from aezoo.testing.callbacks import check_callback
from aezoo.testing.contract import CheckList, ContractError, Report
from aezoo.testing.datasets import check_dataset
from aezoo.testing.layers import check_layer
from aezoo.testing.losses import check_loss
from aezoo.testing.noises import check_noise
from aezoo.testing.variants import check_variant
from aezoo.zoo.index import variants_of

METRIC_CHECKS: CheckList[type[Metric]] = CheckList()
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
    points = [
        point for point in entry_points(group=GROUP)
        if point.name == distribution or (point.dist and same_name(point.dist.metadata["Name"], distribution))
    ]  # fmt: skip
    plugins = {plugin.name: plugin for plugin in registry.list_plugins()}
    if not points:
        installed = ", ".join(sorted(str(p) for p in plugins.values() if p.name != "aezoo")) or "none"
        raise RegistryError(f"no installed plugin is called {distribution!r}; installed are: {installed}")
    reports: list[Report] = []
    for point in points:
        plugin = plugins.get(point.name)
        if plugin is None:
            raise RegistryError(f"AEZOO_PLUGINS excludes the plugin {point.name!r}, so it cannot be checked")
        reports.append(PLUGIN_CHECKS.run(plugin, Report(f"plugin {plugin}")))
        if plugin.error is None:
            for family, kind in plugin.kinds:
                cls = registry.get(family, kind)
                if issubclass(cls, Metric):
                    reports.append(METRIC_CHECKS.run(cls, Report(f"{family} {kind}")))
                    continue
                reports += [_report(f"{family} {kind}", partial(_check, cls, data)) for data in cls.examples]
            variants = variants_of(point.name)
            reports += [_report(f"variant {name}", partial(check_variant, name)) for name in variants]
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


@METRIC_CHECKS.add("metric-docstring", "a docstring")
def metric_docstring(metric: type[Metric]) -> str | None:
    """The docstring says what the number means and where it comes from.

    Failure: `no docstring`
    Fix: say on the first line of the class what is measured, and cite its source.
    """
    return None if metric.__doc__ else "no docstring"


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
