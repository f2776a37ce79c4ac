"""check_plugin: every kind of a plugin by its examples, and the plugin itself."""

import pytest

import aezoo
from aezoo.testing import ContractError
from tests.testing.faulty.plugins import PLUGIN, check_source


def test_correct_plugin_passes() -> None:
    plugin, layer = check_source(PLUGIN)
    assert (plugin.subject, plugin.passed_checks, plugin.failures) == (
        "plugin faulty",
        ["loads", "kinds"],
        [],
    )
    assert layer.subject == "layer faulty.same on (8,)"
    assert layer.failures == []
    assert "sparsity" in layer.passed_checks


def test_invalid_example_is_reported() -> None:
    source = PLUGIN.replace("    def build", '    examples = ({"repeat": 0},)\n\n    def build')
    with pytest.raises(ContractError) as caught:
        check_source(source)
    (failure,) = caught.value.report.failures
    assert failure.check == "example"
    assert failure.found.startswith("ValidationError: 1 validation error for SameSpec repeat")


@pytest.mark.parametrize(
    ("name", "enabled", "message"),
    [
        ("faulty", "", "AEZOO_PLUGINS excludes the plugin 'faulty'"),
        ("nowhere", "faulty", "no installed plugin is called 'nowhere'; installed are: faulty"),
    ],
)
def test_plugin_that_is_not_loaded_is_an_error(name: str, enabled: str, message: str) -> None:
    with pytest.raises(aezoo.RegistryError, match=f"^{message}"):
        check_source(PLUGIN, name, enabled)
