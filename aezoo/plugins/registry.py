"""Finds plugins, and knows every kind and who brought it.

Built-ins enter first, through the same hooks as everyone else, then the entry points of group `aezoo`
sorted by name: once, on the first look-up, never at import. What a plugin brings is taken as a whole or
not at all, and a plugin that fails is named once in a warning while everything else goes on working.
"""

import difflib
import importlib
import importlib.util
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pluggy

from aezoo.errors import PluginWarning, RegistryError
from aezoo.plugins import hookspecs

GROUP = "aezoo"
K = TypeVar("K")
BUILTINS = (
    "aezoo.model.layers",
    "aezoo.losses.reconstruction",
    "aezoo.losses.penalties",
    "aezoo.data.noises",
    "aezoo.data.datasets",
    "aezoo.evaluation.metrics",
    "aezoo.training.callbacks",
)
SESSION = "register()"
"""Stands in a `PluginInfo`'s place of a name for what `aezoo.register` took in this process."""


@dataclass(frozen=True)
class PluginInfo:
    """One source of kinds.

    Attributes:
        name: entry-point name; `aezoo` for the built-ins, `register()` for this process's own.
        distribution: the installed distribution it came with, None for this process's own.
        version: that distribution's version.
        api: the contract it states (`AEZOO_PLUGIN_API`), None where it could not be read.
        kinds: what it brought, as (family, kind) in the order of registration.
        error: why it was refused; None when it works.
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
    """A class that stands for a kind, and who brought it."""

    cls: type[Any]
    contributor: str


def suggestion(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the nearest known word, or nothing where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


class Registry:
    """Every kind of every family.

    Args:
        builtins: modules with hooks whose kinds are bare.
        find: gives the entry points to load; asked once.
    """

    def __init__(
        self,
        builtins: Iterable[str] = BUILTINS,
        find: Callable[[], Iterable[EntryPoint]] = lambda: entry_points(group=GROUP),
    ) -> None:
        self._builtins = tuple(builtins)
        self._find = find
        self._lock = threading.RLock()
        self._loading = False
        self._loaded = False
        self._claims: dict[tuple[str, str], list[Registration]] = {}
        self._contributors: list[PluginInfo] = []
        self._warnings: list[str] = []

    # -- looking up -------------------------------------------------------------------------------

    def get(self, family: str, kind: str) -> type[Any]:
        """The class of a kind.

        Raises:
            RegistryError: nobody has it, or more than one claims it.
        """
        self.load()
        claims = self._claims.get((family, kind), [])
        if not claims:
            known = self.names(family)
            raise RegistryError(
                f"unknown {family} {kind!r}{suggestion(kind, known)}; known are {', '.join(known)}"
            )
        if len(claims) > 1:
            who = " and ".join(claim.contributor for claim in claims)
            raise RegistryError(f"{family} {kind!r} is claimed by {who}; AEZOO_PLUGINS can leave one out")
        return claims[0].cls

    def names(self, family: str) -> tuple[str, ...]:
        """Every usable kind of a family, sorted."""
        self.load()
        return tuple(sorted(k for (f, k), claims in self._claims.items() if f == family and len(claims) == 1))

    def contributor(self, family: str, kind: str) -> PluginInfo:
        """Who brought a kind."""
        self.get(family, kind)
        return next(c for c in self.list_plugins() if (family, kind) in c.kinds)

    def list_plugins(self) -> tuple[PluginInfo, ...]:
        """Everyone who brought kinds or tried to, aezoo first."""
        self.load()
        own = tuple(
            key for key, claims in self._claims.items() if any(c.contributor == SESSION for c in claims)
        )
        local = (PluginInfo(SESSION, None, None, hookspecs.PLUGIN_API, own),) if own else ()
        return (*self._contributors, *local)

    # -- registering ------------------------------------------------------------------------------

    def register(self, cls: type[Any]) -> None:
        """Takes in one class for this process; see `register` below.

        Raises:
            RegistryError: no such family, no kind, or a kind that aezoo or a plugin has.
        """
        self.load()
        family, kind = family_and_kind(cls)
        others = [c for c in self._claims.get((family, kind), []) if c.contributor != SESSION]
        if others:
            raise RegistryError(f"{family} {kind!r} is already taken by {others[0].contributor}")
        self._claims[family, kind] = [Registration(cls, SESSION)]

    def run_file(self, path: Path) -> tuple[tuple[str, str], ...]:
        """Runs a Python file and takes in what it registers; see `load_plugin_file` below."""
        self.load()
        before = {key: list(claims) for key, claims in self._claims.items()}
        name = f"aezoo_file_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise RegistryError(f"{path}: expected a Python file")
        module = importlib.util.module_from_spec(spec)
        # Classes look their module up here, when pydantic resolves annotations or one is pickled.
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
            if any(hasattr(module, hook) for hook in hookspecs.HOOKS.values()):
                for cls in _collect(module):
                    self.register(cls)
        except Exception as error:
            # As a whole or not at all.
            self._claims = before
            del sys.modules[name]
            raise RegistryError(f"{_place(path, error)}: {type(error).__name__}: {_flat(error)}") from error
        brought = tuple(
            key
            for key, claims in self._claims.items()
            if claims[0].contributor == SESSION and claims != before.get(key)
        )
        if not brought:
            del sys.modules[name]
            raise RegistryError(f"{path} registers nothing; mark each class with @aezoo.register")
        return brought

    # -- loading ----------------------------------------------------------------------------------

    def load(self) -> None:
        """Takes in built-ins and plugins; the first call works, later ones return at once."""
        if self._loaded:
            return
        with self._lock:
            # A plugin that looks something up while it is imported comes here again, in the thread that
            # holds the lock: it must find the built-ins rather than start over.
            if self._loaded or self._loading:
                return
            self._loading = True
            # An interrupted load left these half filled.
            self._claims.clear()
            self._contributors.clear()
            self._warnings.clear()
            try:
                self._load_builtins()
                for name, points in self._wanted():
                    self._load_plugin(name, points)
                self._loaded = True
            finally:
                self._loading = False
        # At the end: where warnings are errors, the first would leave the rest unloaded.
        for message in self._warnings:
            warnings.warn(message, PluginWarning, stacklevel=2)

    def _load_builtins(self) -> None:
        kinds: list[tuple[str, str]] = []
        for name in self._builtins:
            module = importlib.import_module(name)
            for cls in _collect(module):
                key = family_and_kind(cls)
                self._claims.setdefault(key, []).append(Registration(cls, "aezoo"))
                kinds.append(key)
        self._contributors.append(
            PluginInfo("aezoo", "aezoo", version("aezoo"), hookspecs.PLUGIN_API, tuple(kinds))
        )

    def _wanted(self) -> list[tuple[str, list[EntryPoint]]]:
        """Entry points by name, as `AEZOO_PLUGINS` narrows them."""
        by_name: dict[str, list[EntryPoint]] = {}
        for point in self._find():
            by_name.setdefault(point.name, []).append(point)
        narrowed = os.environ.get("AEZOO_PLUGINS")
        if narrowed is None:
            return sorted(by_name.items())
        wanted = [name.strip() for name in narrowed.split(",") if name.strip()]
        for name in wanted:
            if name not in by_name:
                near = suggestion(name, by_name)
                self._warnings.append(f"AEZOO_PLUGINS names {name!r}, which is not installed{near}")
        return sorted((name, points) for name, points in by_name.items() if name in wanted)

    def _load_plugin(self, name: str, points: list[EntryPoint]) -> None:
        first = points[0]
        distribution, its_version = _distribution(first)
        api: int | None = None
        try:
            _one_owner(name, points)
            module = first.load()
            api = _stated_api(module)
            _check_api(api)
            claims = [(family_and_kind(cls), Registration(cls, name)) for cls in _collect(module)]
            for (family, kind), _ in claims:
                if not kind.startswith(f"{name}."):
                    raise RegistryError(f"{family} {kind!r} must be called '{name}.{kind}' in this plugin")
        except BaseException as error:  # even SystemExit at import must not take aezoo down
            if isinstance(error, KeyboardInterrupt):
                raise
            # On one line, which pluggy's own errors are not.
            reason = f"{type(error).__name__}: {_flat(error)}"
            refused = PluginInfo(name, distribution, its_version, api, (), reason)
            self._contributors.append(refused)
            self._warnings.append(f"plugin {refused} was left out: {reason}")
            return
        for key, claim in claims:
            self._claims.setdefault(key, []).append(claim)
        kinds = tuple(key for key, _ in claims)
        self._contributors.append(PluginInfo(name, distribution, its_version, api, kinds))


def family_and_kind(cls: object) -> tuple[str, str]:
    """The family and the kind of a class that is about to be registered.

    Raises:
        RegistryError: not a class of an open family, or one without a `kind`.
    """
    if not isinstance(cls, type):
        raise RegistryError(f"register takes a class, found {cls!r}")
    family: object = getattr(cls, "family", None)
    if family not in hookspecs.HOOKS:
        known = ", ".join(hookspecs.HOOKS)
        raise RegistryError(f"{cls.__qualname__} belongs to no open family ({known})")
    kind: object = getattr(cls, "kind_name", None)
    if not isinstance(kind, str):
        raise RegistryError(f'{cls.__qualname__} has no kind; give it `kind: Literal["name"] = "name"`')
    return str(family), kind


def _collect(module: ModuleType) -> list[type[Any]]:
    """Calls every hook that one module implements and returns what it registered.

    A manager of its own for each plugin: a hook that raises cannot stop another plugin's, and a
    module that pluggy took in only half (it raises on a wrong argument after registering) is dropped
    with its manager. A misspelt hook is silent in pluggy until `check_pending`.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module)
    manager.check_pending()
    if not manager.get_hookcallers(module):
        raise RegistryError(f"module {module.__name__} has no hook; mark each with @aezoo.hookimpl")
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
    if point.dist is None:
        return None, None
    return point.dist.metadata["Name"], point.dist.version


def distribution_of(point: EntryPoint) -> str:
    """The distribution and version that an entry point came with, in words."""
    name, its_version = _distribution(point)
    return "no distribution" if name is None else f"{name} {its_version}"


def same_name(a: str, b: str) -> bool:
    """Whether two names are of one distribution, whatever their case, dots, hyphens (PEP 503)."""
    return re.sub(r"[-_.]+", "-", a).lower() == re.sub(r"[-_.]+", "-", b).lower()


def enabled_entry_points(points: Iterable[EntryPoint]) -> list[EntryPoint]:
    """Entry points sorted by name, as `AEZOO_PLUGINS` (a comma list; empty for none) narrows them."""
    narrowed = os.environ.get("AEZOO_PLUGINS")
    wanted = None if narrowed is None else {name.strip() for name in narrowed.split(",")}
    return sorted((p for p in points if wanted is None or p.name in wanted), key=lambda p: p.name)


def _one_owner(name: str, points: list[EntryPoint]) -> None:
    owners = sorted({str(_distribution(point)[0]) for point in points})
    if len(owners) > 1:
        raise RegistryError(f"entry point {name!r} is claimed by {' and '.join(owners)}; uninstall one")
    if name == "aezoo":
        raise RegistryError("the entry-point name 'aezoo' is the library's own")


def _stated_api(module: ModuleType) -> int:
    api: object = getattr(module, "AEZOO_PLUGIN_API", None)
    if not isinstance(api, int):
        raise RegistryError(
            f"module {module.__name__} states no contract; add AEZOO_PLUGIN_API = {hookspecs.PLUGIN_API}"
        )
    return api


def _check_api(api: int) -> None:
    if api > hookspecs.PLUGIN_API:
        raise RegistryError(
            f"needs plugin contract {api}, this aezoo {version('aezoo')} has {hookspecs.PLUGIN_API}; "
            "a newer aezoo is needed"
        )


registry = Registry()
"""The registry of this process."""


def register(cls: type[K]) -> type[K]:
    """Makes a kind of one's own usable in this process at once: `aezoo.register(MyLoss)`.

    Returns the class, so that it also serves as a decorator. Registering again under the same kind
    replaces the earlier class, as running a notebook's cell again should.

    Args:
        cls: a subclass of `LayerSpec`, `LossSpec`, `NoiseSpec`, `DatasetSpec`, `CallbackSpec` or
            `Metric` with a `kind` of its own.

    Raises:
        RegistryError: another class, no kind, or a kind that aezoo or a plugin has.
    """
    registry.register(cls)
    return cls


def load_plugin_file(path: str | os.PathLike[str]) -> tuple[tuple[str, str], ...]:
    """Runs a Python file of one's own and takes in the kinds that it registers, for this process.

    The file marks its classes with `@aezoo.register`, or has the hooks of a plugin. A folder saved with
    such a kind says so, since no distribution brings it.

    Args:
        path: of the file; its code runs.

    Returns:
        What it registered, as (family, kind).

    Raises:
        RegistryError: no such file, one that fails (with the line), or one that registers nothing.
    """
    return registry.run_file(Path(path))


def _flat(error: BaseException) -> str:
    return " ".join(str(error).split())


def _place(path: Path, error: Exception) -> str:
    """The file, with the line in it that was running, where one was."""
    if isinstance(error, SyntaxError):
        return f"{path}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    return f"{path}:{lines[-1]}" if lines else str(path)


def list_plugins() -> tuple[PluginInfo, ...]:
    """Everyone who brought kinds or tried to, aezoo first."""
    return registry.list_plugins()
