"""The contract checks as a pytest plugin: `pytest --aezoo-plugin aezoo-mine`.

It is not part of the package `aezoo`, because pytest would then import `aezoo` before import hooks such as
jaxtyping's are installed. pytest imports this module in every environment that has aezoo, and stops if that
fails. Therefore it needs nothing but pytest and the standard library until the option is used.
"""

from collections.abc import Iterator
from typing import Any, cast

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--aezoo-plugin`."""
    parser.getgroup("aezoo").addoption(
        "--aezoo-plugin",
        action="append",
        default=[],
        metavar="NAME",
        help="run the contract checks of an installed aezoo plugin, one test for each component",
    )


def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Adds a test for each component of the named plugins.

    Raises:
        pytest.UsageError: no such plugin, or one that `AEZOO_PLUGINS` excludes.
    """
    for name in cast(list[str], config.getoption("--aezoo-plugin")):
        from aezoo.errors import RegistryError

        collector = _Plugin.from_parent(session, name=f"aezoo-plugin-{name}", distribution=name)
        try:
            items += collector.collect()
        except RegistryError as error:
            raise pytest.UsageError(f"--aezoo-plugin {name}: {error}") from error


class _Plugin(pytest.Collector):
    """The components of one plugin."""

    def __init__(self, *, distribution: str, **options: Any) -> None:
        super().__init__(**options)
        self.distribution = distribution

    def collect(self) -> Iterator["_Component"]:
        from aezoo.testing import reports_of

        for report in reports_of(self.distribution):
            yield _Component.from_parent(self, name=report.subject, report=report)


class _Component(pytest.Item):
    """One component, which was checked during collection."""

    def __init__(self, *, report: Any, **options: Any) -> None:
        super().__init__(**options)
        self.report = report

    def runtest(self) -> None:
        self.report.raise_on_failure()

    def repr_failure(self, excinfo: Any, style: Any = None) -> str:
        return str(excinfo.value)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        return self.path, None, self.name
