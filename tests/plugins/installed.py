"""Sources of plugins, and a folder into which they are installed as distributions."""

import importlib
import warnings
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from textwrap import dedent
from typing import Any

import aezoo
from aezoo.plugins.builtin import BUILTINS
from aezoo.plugins.hookspecs import HOOKS
from aezoo.plugins.registry import GROUP, Registry

OPEN: tuple[Any, ...] = (
    aezoo.LayerSpec,
    aezoo.LossSpec,
    aezoo.NoiseSpec,
    aezoo.DatasetSpec,
    aezoo.CallbackSpec,
    aezoo.Metric,
)
"""The open families, in the order of their hooks."""

HEADER = """
from typing import Literal
import aezoo
AEZOO_PLUGIN_API = 1
"""


def kind_class(kind: str, base: str = "LayerSpec", name: str = "Mine") -> str:
    """The source of a class with a kind."""
    definition = 'definition = "A number."' if base.startswith("Metric") else ""
    return dedent(f"""
        class {name}(aezoo.{base}):
            kind: Literal[{kind!r}] = {kind!r}
            {definition}
            def build(self, *_):
                from torch import nn
                return nn.Identity()
    """)


def hook(family: str, *names: str) -> str:
    """The source of the hook that registers the classes of these names."""
    body = "".join(f"    register({name})\n" for name in names) or "    ...\n"
    return f"\n@aezoo.hookimpl\ndef {HOOKS[family]}(register):\n{body}"


def good(kind: str) -> str:
    """The source of a plugin that registers one layer."""
    return HEADER + kind_class(kind) + hook("layer", "Mine")


class Site:
    """A folder on `sys.path` into which distributions are installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: set[str] = set()
        self.names: set[str] = set()

    def install(self, name: str, source: str, distribution: str | None = None) -> str:
        """Installs a distribution of one module as pip does; returns the module's name."""
        distribution = distribution or f"aezoo-{name}"
        module = distribution.replace("-", "_").replace(".", "_")
        (self.folder / f"{module}.py").write_text(source)
        info = self.folder / f"{module}-1.2.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2.3\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {module}\n")
        importlib.invalidate_caches()
        self.modules.add(module)
        self.names.add(name)
        return module

    def find(self) -> list[EntryPoint]:
        """The entry points installed here, without those of the environment."""
        return [point for point in entry_points(group=GROUP) if point.name in self.names]

    def registry(self, builtins: Iterable[str] = BUILTINS) -> Registry:
        """A registry of the built-in kinds and the plugins installed here."""
        return Registry(builtins, self.find)


def messages(load: Callable[[], object]) -> list[str]:
    """The plugin warnings of a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load()
    assert all(warning.category is aezoo.PluginWarning for warning in caught)
    return [str(warning.message) for warning in caught]
