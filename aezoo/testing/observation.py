"""What a component must leave as it is: modules, tensors and settings; and another day on the clock."""

import contextlib
import datetime
import io
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn
from typing_extensions import override

from aezoo.plugins.isolation import preserved_settings
from aezoo.testing.determinism import equal

DAYS_AWAY = datetime.timedelta(days=200, hours=13, minutes=17)
"""Another hour, day of the week and month, in every time zone."""
PRINTED = "standard output, by printing,"
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class ModuleSnapshot:
    """A module at one time: its structure, modes and tensors.

    Args:
        module: the module, which is compared with this snapshot later.
        values: whether the values of parameters and buffers must be unchanged, too.
    """

    def __init__(self, module: nn.Module, *, values: bool) -> None:
        self.module = module
        self.modules = _modules_of(module)
        self.modes = {name: part.training for name, part in self.modules.items()}
        self.hooks: dict[str, list[Any]] = self._hooks()
        self.parameters = dict(module.named_parameters())
        self.settings = self._settings()
        self.values = {n: t.detach().clone() for n, t in module.state_dict().items()} if values else {}
        self.gradients = {name: p.grad for name, p in self.parameters.items()}

    def _hooks(self) -> dict[str, list[Any]]:
        parts = _modules_of(self.module)
        return {
            n: [k for hooks in HOOKS for k in cast(dict[int, Any], getattr(part, hooks))]
            for n, part in parts.items()
        }

    def _settings(self) -> dict[str, Any]:
        return {n: (p.requires_grad, p.dtype, p.shape) for n, p in self.module.named_parameters()}

    def change(self) -> str | None:
        """The first difference between now and then, in words; None if there is none."""
        modules = _modules_of(self.module)
        if modules.keys() != self.modules.keys() or any(modules[n] is not m for n, m in self.modules.items()):
            return "other modules"
        parameters = dict(self.module.named_parameters())
        for name, before in self.parameters.items():
            if parameters.get(name) is not before:
                return f"another parameter object at {name}"
        if parameters.keys() != self.parameters.keys():
            return "other parameters"
        for name, training in self.modes.items():
            if modules[name].training != training:
                return f"{name or 'the module'} switched to {'evaluation' if training else 'training'} mode"
        for name, settings in self._settings().items():
            if settings != self.settings[name]:
                return f"another requires_grad, dtype or shape of {name}"
        if self._hooks() != self.hooks:
            return "other hooks on a module"
        state = self.module.state_dict()
        for name, before in self.values.items():
            if name not in state or not equal(before, state[name]):
                return f"{name} changed"
        if self.values and any(p.grad is not self.gradients[n] for n, p in parameters.items()):
            return "gradients at parameters"
        return None


def _modules_of(module: nn.Module) -> dict[str, nn.Module]:
    return dict(cast(Iterator[tuple[str, nn.Module]], module.named_modules()))


def rows_differ(a: Mapping[str, Tensor], b: Mapping[str, Tensor], tolerance: float = 1e-4) -> str | None:
    """The first name whose tensors differ; None if all are close. NaN equals NaN."""
    for name, tensor in a.items():
        other = b.get(name)
        if other is None or other.shape != tensor.shape or other.dtype != tensor.dtype:
            return name
        x, y = tensor.detach().double(), other.detach().double()
        # Single precision: sums of many terms in another order.
        if not bool(((x - y).abs() <= tolerance * (1 + x.abs())).logical_or(x.isnan() & y.isnan()).all()):
            return name
    return None


class _Tee(io.TextIOBase):
    """Passes text on to another stream, and notes whether there was any."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.used = False

    @override
    def write(self, text: str, /) -> int:
        self.used = True
        return int(self.stream.write(text))

    @override
    def flush(self) -> None:
        self.stream.flush()


@contextmanager
def observed_settings() -> Generator[list[str]]:
    """Restores the settings of the process, and notes whether anything is printed.

    Yields:
        A list that contains, after the context, the names of what had changed.
    """
    tee = _Tee(sys.stdout)
    # In this order, so that the stream itself counts as unchanged.
    with preserved_settings() as changed, contextlib.redirect_stdout(cast(Any, tee)):
        yield changed
    if tee.used:
        changed.append(PRINTED)


@contextmanager
def another_day(component: type[Any]) -> Generator[None]:
    """Moves the clocks of `time` and `datetime` inside the context, as the package of a class sees them.

    Names that the package has imported, such as `from time import time`, are moved too.
    """
    seconds = DAYS_AWAY.total_seconds()
    moved = _moved_clocks(seconds)
    package = component.__module__.partition(".")[0]
    # aezoo itself records when a training ran.
    modules: list[Any] = [time, datetime]
    if package != "aezoo":
        modules += [m for n, m in list(sys.modules.items()) if n.partition(".")[0] == package]
    undo: list[tuple[Any, str, Any]] = []
    try:
        for module in modules:
            for name, value in list(cast(dict[str, Any], vars(module)).items()):
                for original, replacement in moved:
                    if value is original:
                        undo.append((module, name, value))
                        setattr(module, name, replacement)
        yield
    finally:
        for module, name, value in undo:
            setattr(module, name, value)


def _moved_clocks(seconds: float) -> list[tuple[Any, Any]]:
    now, now_ns, local, utc, text = time.time, time.time_ns, time.localtime, time.gmtime, time.strftime
    real, day = datetime.datetime, datetime.date

    class _Meta(type(real)):
        @override
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real)

    class Moved(real, metaclass=_Meta):
        @classmethod
        @override
        def now(cls, tz: Any = None) -> Any:
            return real.now(tz) + DAYS_AWAY

        @classmethod
        @override
        def utcnow(cls) -> Any:
            return real.fromtimestamp(now() + seconds, datetime.UTC).replace(tzinfo=None)

        @classmethod
        @override
        def today(cls) -> Any:
            return real.now() + DAYS_AWAY

    class _DayMeta(type(day)):
        @override
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, day)

    class MovedDay(day, metaclass=_DayMeta):
        @classmethod
        @override
        def today(cls) -> Any:
            return (real.now() + DAYS_AWAY).date()

    def at(clock: Any) -> Any:
        def moved(value: float | None = None) -> Any:
            return clock(now() + seconds if value is None else value)

        return moved

    def as_text(form: str, value: Any = None) -> str:
        return text(form, local(now() + seconds) if value is None else value)

    return [
        (now, lambda: now() + seconds),
        (now_ns, lambda: now_ns() + int(seconds * 1e9)),
        (local, at(local)),
        (utc, at(utc)),
        (text, as_text),
        (real, Moved),
        (day, MovedDay),
    ]
