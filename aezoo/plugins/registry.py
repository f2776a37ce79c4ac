"""The registry: every kind of every open family, and the plugin that registered it.

Plugins are loaded once, on the first look-up, never at import: the built-in kinds first, then the entry
points of group `aezoo`, sorted by name. A plugin is registered completely or not at all. A plugin that fails
is reported in one warning, and everything else keeps working.
"""

import difflib
import importlib.util
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import distributions, version
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pluggy

from aezoo.errors import PluginWarning, RegistryError
from aezoo.plugins import hookspecs
from aezoo.plugins.builtin import BUILTINS
from aezoo.plugins.isolation import preserved_settings, stdout_to_stderr
from aezoo.text import printable

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint
else:
    # Once a program imports the backport importlib_metadata, as MLflow does, they are classes of its own.
    Distribution = EntryPoint = Any

GROUP = "aezoo"
ENTRY_POINT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
KIND = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
SESSION = "register()"
"""Name of the `PluginInfo` of kinds registered with `aezoo.register` in this process."""

K = TypeVar("K")


@dataclass(frozen=True)
class PluginInfo:
    """A source of kinds.

    Attributes:
        name: entry-point name; `aezoo` for the built-in kinds, `register()` for those of this process.
        distribution: installed distribution of the entry point; None for this process.
        version: version of the distribution.
        api: plugin contract that the module states (`AEZOO_PLUGIN_API`); None if it could not be read.
        kinds: registered kinds as (family, kind), in order of registration.
        error: why the plugin was left out; None if it was loaded.
    """

    name: str
    distribution: str | None
    version: str | None
    api: int | None
    kinds: tuple[tuple[str, str], ...] = ()
    error: str | None = None

    def __str__(self) -> str:
        if self.distribution is None:
            return self.name
        return f"{self.name} ({self.distribution} {self.version})"


@dataclass(frozen=True)
class Registration:
    """A class registered for a kind, and the name of the plugin that registered it."""

    cls: type[Any]
    plugin: str


def suggestion(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the nearest known word; empty if no word is similar."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def unknown_kind(family: str, kind: str, known: tuple[str, ...]) -> RegistryError:
    """Returns the error for a kind that is not registered."""
    text = f"unknown {family} {kind!r}{suggestion(kind, known)}; known are {', '.join(known)}"
    return RegistryError(text)


class Registry:
    """Every kind of every open family.

    Args:
        builtins: modules with hooks that register built-in kinds.
        find: returns the entry points to load; called once. By default those of group `aezoo`.
    """

    def __init__(
        self,
        builtins: Iterable[str] = BUILTINS,
        find: Callable[[], Iterable[EntryPoint]] | None = None,
    ) -> None:
        self._builtins = tuple(builtins)
        self._find = find
        self._lock = threading.RLock()
        self._loading = False
        self._loaded = False
        self._claims: dict[tuple[str, str], list[Registration]] = {}
        self._plugins: list[PluginInfo] = []
        self._warnings: list[str] = []
        self._generation = 0

    # -- looking up -------------------------------------------------------------------------------

    def get(self, family: str, kind: str) -> type[Any]:
        """Returns the class of a kind.

        Raises:
            RegistryError: the kind is unknown, or several plugins claim it.
        """
        self.load()
        claims = self._claims.get((family, kind), [])
        if not claims:
            raise unknown_kind(family, kind, self.names(family))
        if len(claims) > 1:
            who = " and ".join(claim.plugin for claim in claims)
            raise RegistryError(
                f"{family} {kind!r} is claimed by {who}; leave one of them out with AEZOO_PLUGINS"
            )
        return claims[0].cls

    def names(self, family: str) -> tuple[str, ...]:
        """Kinds of a family that exactly one plugin claims, sorted."""
        self.load()
        return tuple(sorted(k for (f, k), claims in self._claims.items() if f == family and len(claims) == 1))

    def plugin_of(self, family: str, kind: str) -> PluginInfo:
        """Returns the plugin that registered a kind.

        Raises:
            RegistryError: the kind is unknown, or several plugins claim it.
        """
        self.get(family, kind)
        return next(plugin for plugin in self.list_plugins() if (family, kind) in plugin.kinds)

    def list_plugins(self) -> tuple[PluginInfo, ...]:
        """All plugins, including those that were left out: `aezoo`, the entry points, this process."""
        self.load()
        kinds = tuple(key for key, claims in self._claims.items() if any(c.plugin == SESSION for c in claims))
        session = (PluginInfo(SESSION, None, None, hookspecs.PLUGIN_API, kinds),) if kinds else ()
        return (*self._plugins, *session)

    @property
    def generation(self) -> int:
        """A number that changes whenever kinds are registered or taken back, for caches of specs."""
        self.load()
        return self._generation

    # -- registering ------------------------------------------------------------------------------

    def register(self, cls: type[Any]) -> None:
        """Registers one class for this process; see `aezoo.register`.

        Raises:
            RegistryError: not a class of an open family, no kind, or a kind of aezoo or of a plugin.
        """
        self.load()
        if self._loading:
            # Called by the module of a plugin, which may still be refused.
            raise RegistryError(
                "a plugin registers its kinds by hooks; remove aezoo.register from its module"
            )
        family, kind = family_and_kind(cls)
        others = [c.plugin for c in self._claims.get((family, kind), []) if c.plugin != SESSION]
        if others:
            raise RegistryError(f"{family} {kind!r} is already registered by {others[0]}")
        self._claims[family, kind] = [Registration(cls, SESSION)]
        self._generation += 1

    def run_file(self, path: Path) -> tuple[tuple[str, str], ...]:
        """Runs a Python file and registers its kinds; see `aezoo.load_plugin_file`."""
        self.load()
        before = dict(self._claims)
        name = f"aezoo_file_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise RegistryError(f"{path}: expected a Python file")
        module = importlib.util.module_from_spec(spec)
        # pydantic and pickle look up the module of a class here.
        sys.modules[name] = module
        try:
            with stdout_to_stderr(), preserved_settings() as changed:
                spec.loader.exec_module(module)
                if any(hasattr(module, hook) for hook in hookspecs.HOOKS.values()):
                    for cls in _collect(module):
                        self.register(cls)
        except (Exception, SystemExit) as error:
            self._claims = before
            self._generation += 1
            sys.modules.pop(name, None)
            raise RegistryError(f"{_location(path, error)}: {_reason(error)}") from error
        if changed:
            warnings.warn(f"{path} changed {', '.join(changed)}; restored", PluginWarning, stacklevel=3)
        registered = tuple(key for key, claims in self._claims.items() if claims != before.get(key))
        if not registered:
            del sys.modules[name]
            raise RegistryError(f"{path} registers nothing; decorate each class with @aezoo.register")
        return registered

    # -- loading ----------------------------------------------------------------------------------

    def load(self) -> None:
        """Loads the built-in kinds and the plugins, if that has not been done."""
        if self._loaded:
            return
        with self._lock:
            # A plugin that looks a kind up while it is imported calls this again from the thread that holds
            # the lock: the built-in kinds are there, and loading must not start over.
            if self._loaded or self._loading:
                return
            self._loading = True
            # An earlier load may have been interrupted.
            self._claims.clear()
            self._plugins.clear()
            self._warnings.clear()
            try:
                self._load_builtins()
                self._load_plugins()
                self._loaded = True
                self._generation += 1
            finally:
                self._loading = False
        # Last, because a filter may turn the first warning into an exception.
        for message in self._warnings:
            warnings.warn(message, PluginWarning, stacklevel=2)

    def _load_builtins(self) -> None:
        classes = [cls for name in self._builtins for cls in _collect(import_module(name))]
        self._add(PluginInfo("aezoo", "aezoo", version("aezoo"), hookspecs.PLUGIN_API), classes)

    def _load_plugins(self) -> None:
        if self._find is None:
            points, problems = installed_entry_points(GROUP)
            self._warnings += problems
        else:
            points = list(self._find())
        installed = {point.name for point in points}
        for name in _enabled_names() or ():
            if name not in installed:
                near = suggestion(name, installed)
                self._warnings.append(f"AEZOO_PLUGINS names {name!r}, which is not installed{near}")
        for name, same in groupby(enabled_entry_points(points), key=lambda point: point.name):
            self._load_plugin(name, list(same))

    def _load_plugin(self, name: str, points: list[EntryPoint]) -> None:
        distribution: str | None = None
        its_version: str | None = None
        api: int | None = None
        changed: list[str] = []
        try:
            distribution, its_version = _distribution(points[0])
            _check_name(name, points)
            with stdout_to_stderr(), preserved_settings() as changed:
                module = points[0].load()
                api = _stated_api(module)
                _check_api(api)
                classes = _collect(module)
                for family, kind in map(family_and_kind, classes):
                    _check_kind(family, kind, name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # including SystemExit at import
            failed = PluginInfo(name, distribution, its_version, api, error=_reason(error))
            self._plugins.append(failed)
            self._warnings.append(f"plugin {failed} was left out: {failed.error}")
        else:
            self._add(PluginInfo(name, distribution, its_version, api), classes)
        if changed:
            plugin = self._plugins[-1]
            self._warnings.append(
                f"plugin {plugin} changed {', '.join(changed)} when it was imported; restored"
            )

    def _add(self, plugin: PluginInfo, classes: list[type[Any]]) -> None:
        kinds = [family_and_kind(cls) for cls in classes]
        for key, cls in zip(kinds, classes, strict=True):
            self._claims.setdefault(key, []).append(Registration(cls, plugin.name))
        self._plugins.append(replace(plugin, kinds=tuple(kinds)))


def family_and_kind(cls: object) -> tuple[str, str]:
    """The family and the kind of a class to register.

    Raises:
        RegistryError: not a class of an open family, or a class without a `kind`.
    """
    if not isinstance(cls, type):
        raise RegistryError(f"register takes a class, found {cls!r}")
    family: object = getattr(cls, "family", None)
    if family not in hookspecs.HOOKS:
        known = ", ".join(hookspecs.HOOKS)
        raise RegistryError(f"{cls.__qualname__} does not belong to an open family ({known})")
    kind: object = getattr(cls, "kind_name", None)
    if not isinstance(kind, str):
        raise RegistryError(f'{cls.__qualname__} has no kind; give it `kind: Literal["name"] = "name"`')
    return str(family), kind


def _collect(module: ModuleType) -> list[type[Any]]:
    """Calls every hook that one module implements, and returns the classes that it registers.

    Each module has a pluggy manager of its own: a hook that raises cannot stop another plugin, and a module
    that pluggy rejects halfway is dropped with its manager. pluggy accepts a misspelt hook until
    `check_pending`.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module)
    manager.check_pending()
    if not manager.get_hookcallers(module):
        raise RegistryError(f"module {module.__name__} has no hook; decorate each with @aezoo.hookimpl")
    found: dict[tuple[str, str], type[Any]] = {}
    for family, hook in hookspecs.HOOKS.items():

        def register(cls: type[Any], family: str = family, hook: str = hook) -> None:
            its_family, kind = family_and_kind(cls)
            if its_family != family:
                raise RegistryError(f"{hook} was given {cls.__qualname__}, which is a {its_family}")
            if (family, kind) in found:
                raise RegistryError(f"{hook} was given {family} {kind!r} twice")
            found[family, kind] = cls

        getattr(manager.hook, hook)(register=register)
    return list(found.values())


def _distribution(point: EntryPoint) -> tuple[str | None, str | None]:
    """Name and version of an entry point's distribution.

    Raises:
        RegistryError: its metadata cannot be read.
    """
    if point.dist is None:
        return None, None
    try:
        # Not text if the metadata are missing or lack the line.
        name, its_version = (_text(cast(Any, point.dist.metadata).get(key)) for key in ("Name", "Version"))
    except Exception as error:  # metadata of another encoding, a missing file
        raise RegistryError(f"the metadata of its distribution cannot be read: {_reason(error)}") from error
    return name, its_version


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"expected a name and a version, found {value!r}")
    return value


def distribution_of(point: EntryPoint) -> str:
    """Name and version of an entry point's distribution, as text."""
    try:
        name, its_version = _distribution(point)
    except RegistryError:
        return "a distribution with unreadable metadata"
    return "no distribution" if name is None else f"{name} {its_version}"


def installed_entry_points(group: str) -> tuple[list[EntryPoint], list[str]]:
    """The entry points of a group, of all installed distributions.

    `importlib.metadata.entry_points` raises for all if those of one distribution are malformed.

    Args:
        group: such as `aezoo`.

    Returns:
        The entry points, and a message for each distribution whose entry points cannot be read. Both are
        empty if `AEZOO_PLUGINS` is: nothing is read then.
    """
    found: list[EntryPoint] = []
    problems: list[str] = []
    seen: set[str] = set()
    for distribution in () if _enabled_names() == [] else distributions():
        folder = _folder_name(distribution)
        # As for an import, the first of several on the path counts.
        key = re.sub(r"[-_.]+", "-", folder.partition("-")[0]).lower()
        if key in seen:
            continue
        seen.add(key)
        try:
            _check_regular_files(distribution)
            found += [point for point in distribution.entry_points if point.group == group]
        except Exception as error:
            problems.append(
                f"the entry points of {folder} cannot be read and were left out: {_reason(error)}"
            )
    return found, problems


def _check_regular_files(distribution: Distribution) -> None:
    """Checks that the metadata are files: reading a pipe would wait for ever.

    Raises:
        RegistryError: something else is in the place of one.
    """
    path: object = getattr(distribution, "_path", None)
    if not isinstance(path, Path):
        return
    for name in ("METADATA", "entry_points.txt"):
        if (path / name).exists() and not (path / name).is_file():
            raise RegistryError(f"{name} is not a file")


def _folder_name(distribution: Distribution) -> str:
    """The name of a distribution's metadata folder, such as `aezoo_sae-0.1.0.dist-info`."""
    # Its metadata may be unreadable. The path is not public, but of every distribution that lies in a folder.
    path = getattr(distribution, "_path", None)
    return str(getattr(path, "name", None) or id(distribution))


def same_name(a: str, b: str) -> bool:
    """Whether two names are the same distribution: case, dots and hyphens do not matter (PEP 503)."""
    return re.sub(r"[-_.]+", "-", a).lower() == re.sub(r"[-_.]+", "-", b).lower()


def _enabled_names() -> list[str] | None:
    """The names in `AEZOO_PLUGINS`, separated by commas; None if the variable is not set."""
    names = os.environ.get("AEZOO_PLUGINS")
    return None if names is None else [name.strip() for name in names.split(",") if name.strip()]


def enabled_entry_points(points: Iterable[EntryPoint]) -> list[EntryPoint]:
    """The entry points that `AEZOO_PLUGINS` enables, by default all, sorted by name."""
    names = _enabled_names()
    return sorted((p for p in points if names is None or p.name in names), key=lambda point: point.name)


def _check_name(name: str, points: list[EntryPoint]) -> None:
    if not ENTRY_POINT.fullmatch(name):
        expected = "letters, digits, underscores, hyphens and dots"
        raise RegistryError(f"the entry-point name has other characters than {expected}")
    owners = sorted({str(_distribution(point)[0]) for point in points})
    if len(owners) > 1:
        raise RegistryError(f"entry point {name!r} is claimed by {' and '.join(owners)}; uninstall one")
    if name == "aezoo":
        raise RegistryError("the entry-point name 'aezoo' is reserved for the library")


def _check_kind(family: str, kind: str, plugin: str) -> None:
    if not kind.startswith(f"{plugin}."):
        raise RegistryError(f"{family} {kind!r} must be called '{plugin}.{kind}' in this plugin")
    if not KIND.fullmatch(kind):
        raise RegistryError(
            f"{family} {kind!r}: expected letters, digits, underscores and hyphens after dots"
        )


def _stated_api(module: ModuleType) -> int:
    api: object = getattr(module, "AEZOO_PLUGIN_API", None)
    if not isinstance(api, int):
        name = module.__name__
        raise RegistryError(
            f"module {name} states no contract; add AEZOO_PLUGIN_API = {hookspecs.PLUGIN_API}"
        )
    return api


def _check_api(api: int) -> None:
    if api > hookspecs.PLUGIN_API:
        has = f"this aezoo {version('aezoo')} has {hookspecs.PLUGIN_API}"
        raise RegistryError(f"needs plugin contract {api}, {has}; upgrade aezoo")


def _reason(error: BaseException) -> str:
    """The type and the message of an exception, in one line."""
    try:
        message = " ".join(str(error).split())
    except Exception:
        message = "the exception has no message"
    return printable(f"{type(error).__name__}: {message}", 500)


def _location(path: Path, error: BaseException) -> str:
    """The file and, if the error was raised in it, the line."""
    if isinstance(error, SyntaxError):
        return f"{path}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    return f"{path}:{lines[-1]}" if lines else str(path)


registry = Registry()
"""The registry of this process."""


def register(cls: type[K]) -> type[K]:
    """Registers a kind for this process: `aezoo.register(MyLoss)`.

    Returns the class, so that it can be used as a decorator. Registering a kind again replaces its class, as
    when a notebook cell is run again.

    Args:
        cls: a class with a `kind`, of a family for which there is a hook (`LayerSpec`, `LossSpec`, ...).

    Raises:
        RegistryError: not such a class, no kind, or a kind of aezoo or of a plugin.
    """
    registry.register(cls)
    return cls


def load_plugin_file(path: str | os.PathLike[str]) -> tuple[tuple[str, str], ...]:
    """Runs a Python file and registers its kinds for this process.

    The file decorates its classes with `@aezoo.register` or implements the hooks of a plugin. A folder saved
    with such a kind records that no distribution provides it.

    Args:
        path: the Python file; its code is executed.

    Returns:
        The registered kinds as (family, kind).

    Raises:
        RegistryError: the file is missing, raises an exception (the message names the line) or registers
            nothing.
    """
    return registry.run_file(Path(path))


def list_plugins() -> tuple[PluginInfo, ...]:
    """All plugins, including those that were left out: `aezoo`, the entry points, this process."""
    return registry.list_plugins()
