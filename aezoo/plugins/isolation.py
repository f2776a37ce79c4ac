"""Running the code of a plugin without lasting effects on the process.

A plugin may bring kinds; it must not change what the rest of the program computes. The settings of the
process that numbers depend on, and those whose change surprises the user, are restored after its code.
"""

import builtins
import contextlib
import decimal
import gc
import locale
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_DRAWS = 2000
"""Random numbers that Python's global state may have advanced by without counting as seeded."""


@dataclass(frozen=True)
class Setting:
    """A setting of the process.

    Attributes:
        name: in words, for the warning.
        read: returns its value; values are compared with `!=`.
        write: sets a value that `read` returned; returns False if the change is not worth a warning.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


@contextlib.contextmanager
def preserved_settings() -> Generator[list[str]]:
    """Restores the settings of the process at the end of the context.

    Yields:
        A list that contains, after the context, the names of the settings that had changed.
    """
    changed: list[str] = []
    before = [(setting, setting.read()) for setting in _settings()]
    try:
        yield changed
    finally:
        for setting, value in before:
            with contextlib.suppress(Exception):  # the others are restored all the same
                if setting.read() != value and setting.write(value) is not False:
                    changed.append(setting.name)


@contextlib.contextmanager
def stdout_to_stderr() -> Generator[None]:
    """Sends what is written to standard output to standard error, also by other programs and C code.

    Standard output may be a document that another program reads, such as the JSON Schema of `aezoo schema`.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    with contextlib.redirect_stdout(sys.stderr):
        try:
            saved = os.dup(1)
        except OSError:
            yield
            return
        try:
            with contextlib.suppress(OSError):
                os.dup2(2, 1)
            yield
        finally:
            # What was written to the original stream is still in its buffer.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                (sys.__stdout__ or sys.stderr).flush()
            os.dup2(saved, 1)
            os.close(saved)


def _settings() -> Iterator[Setting]:
    yield from _PYTHON
    if threading.current_thread() is threading.main_thread():
        yield Setting("signal handlers", _signals, _set_signals)
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        yield from _numpy_settings(numpy)
    if torch is not None:
        yield from _torch_settings(torch)
    specs = sys.modules.get("aezoo.specs.base")
    if closed := getattr(specs, "CLOSED", None):
        yield Setting("the closed families of aezoo", lambda: _Closed.of(closed), lambda v: v.restore(closed))


def _attribute(owner: Any, name: str, label: str) -> Setting:
    # Compared by identity: streams, functions and filters define no equality.
    return Setting(label, lambda: _Same(getattr(owner, name)), lambda v: setattr(owner, name, v.value))


@dataclass(frozen=True, eq=False)
class _Same:
    """A value that equals another one if they are the same object."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    __hash__ = None  # pyright: ignore[reportAssignmentType]


@dataclass(frozen=True, eq=False)
class _Closed:
    """The kinds of the closed families. Those that aezoo adds when a module is imported are no change."""

    kinds: dict[tuple[str, str], Any]

    @classmethod
    def of(cls, closed: dict[str, dict[str, Any]]) -> "_Closed":
        return cls({(family, kind): c for family, kinds in closed.items() for kind, c in kinds.items()})

    def __eq__(self, other: object) -> bool:
        # `other` is the state before.
        return isinstance(other, _Closed) and self._without_new(other) == other.kinds

    def _without_new(self, other: "_Closed") -> dict[tuple[str, str], Any]:
        return {
            key: c
            for key, c in self.kinds.items()
            if key in other.kinds or not c.__module__.startswith("aezoo.")
        }

    def restore(self, closed: dict[str, dict[str, Any]]) -> None:
        kept = _Closed.of(closed)
        new = {key: c for key, c in kept.kinds.items() if c.__module__.startswith("aezoo.")}
        closed.clear()
        for (family, kind), c in (new | self.kinds).items():
            closed.setdefault(family, {})[kind] = c

    __hash__ = None  # pyright: ignore[reportAssignmentType]


# -- Python -------------------------------------------------------------------------------------------


def _cwd() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:
        return None


def _set_cwd(path: str | None) -> None:
    if path is not None:
        with contextlib.suppress(OSError):
            os.chdir(path)


def _environment() -> dict[str, str]:
    # PyTorch and scikit-learn set these when a part of them is first used.
    return {n: value for n, value in os.environ.items() if not n.startswith(("TORCHINDUCTOR_", "KMP_"))}


def _set_environment(variables: dict[str, str]) -> None:
    for name in _environment().keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)
    if hasattr(time, "tzset"):
        time.tzset()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _set_python_random(state: Any) -> bool:
    """Restores Python's random state; returns whether it had been seeded and not only drawn from.

    Runtime type checkers draw from it, so that a few draws are no fault of a plugin.
    """
    after, replay = random.getstate(), random.Random()  # noqa: S311 - no cryptography
    random.setstate(state)
    replay.setstate(state)
    for _ in range(MAX_DRAWS):
        replay.getrandbits(32)
        if replay.getstate() == after:
            return False
    return True


def _set_filters(filters: list[Any]) -> bool:
    """Restores the warning filters; returns whether a new one applied to everybody's warnings.

    Libraries that a plugin imports add filters for warnings of their own: a message, a module or a class.
    """
    added = [f for f in warnings.filters if f not in filters]
    lost = [f for f in filters if f not in warnings.filters]
    warnings.filters[:] = filters  # pyright: ignore[reportIndexIssue]
    getattr(warnings, "_filters_mutated", lambda: None)()
    return bool(lost) or any(map(_is_general, added)) or not added


def _is_general(warning_filter: Any) -> bool:
    _, message, category, module, _ = warning_filter
    ours = category.__module__ in ("builtins", "aezoo.errors")
    return ours and _matches_all(message) and _matches_all(module)


def _matches_all(pattern: Any) -> bool:
    return pattern is None or getattr(pattern, "pattern", pattern) in ("", ".*")


def _signals() -> dict[signal.Signals, Any]:
    return {number: signal.getsignal(number) for number in signal.valid_signals() if number in _CATCHABLE}


def _set_signals(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        # A handler that was not installed from Python is None and cannot be installed again.
        if handler is not None and signal.getsignal(number) != handler:
            signal.signal(number, handler)


def _root_logger() -> tuple[int, int, list[Any]]:
    return logging.root.level, logging.root.manager.disable, list(logging.root.handlers)


def _set_root_logger(value: tuple[int, int, list[Any]]) -> None:
    logging.root.setLevel(value[0])
    logging.disable(value[1])
    logging.root.handlers[:] = value[2]


def _set_builtins(value: dict[str, Any]) -> None:
    names = builtins.__dict__
    for name in names.keys() - value.keys() - {"_"}:
        del names[name]
    names.update(value)


def _builtins() -> dict[str, Any]:
    # The interactive interpreter assigns `_`.
    return {name: value for name, value in vars(builtins).items() if name != "_"}


_CATCHABLE = frozenset(signal.Signals) - {
    getattr(signal, name) for name in ("SIGKILL", "SIGSTOP") if hasattr(signal, name)
}
_PYTHON = (
    Setting("Python's random state", random.getstate, _set_python_random),
    Setting("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting("the thread switch interval", sys.getswitchinterval, sys.setswitchinterval),
    Setting("the warning filters", lambda: list(warnings.filters), _set_filters),
    Setting("the environment variables", _environment, _set_environment),
    Setting("the current folder", _cwd, _set_cwd),
    Setting("the file mode mask", _umask, os.umask),
    Setting(
        "the locale",
        lambda: locale.setlocale(locale.LC_ALL),
        lambda value: locale.setlocale(locale.LC_ALL, value),
    ),
    Setting("the root logger", _root_logger, _set_root_logger),
    Setting("garbage collection", lambda: (gc.isenabled(), gc.get_threshold()),
            lambda value: (gc.enable() if value[0] else gc.disable(), gc.set_threshold(*value[1]))),
    Setting("the default socket timeout", socket.getdefaulttimeout, socket.setdefaulttimeout),
    Setting("the decimal context", lambda: decimal.getcontext().prec,
            lambda value: setattr(decimal.getcontext(), "prec", value)),
    Setting("Python's built-in functions", _builtins, _set_builtins),
    Setting("the command-line arguments", lambda: list(sys.argv), lambda value: setattr(sys, "argv", value)),
    Setting("tracing", sys.gettrace, sys.settrace),
    Setting("profiling", sys.getprofile, sys.setprofile),
    _attribute(warnings, "showwarning", "how warnings are shown"),
    _attribute(warnings, "formatwarning", "how warnings are formatted"),
    _attribute(sys, "stdin", "standard input"),
    _attribute(sys, "stdout", "standard output"),
    _attribute(sys, "stderr", "standard error"),
    _attribute(sys, "excepthook", "how exceptions are shown"),
    _attribute(sys, "displayhook", "how values are shown"),
    _attribute(threading, "excepthook", "how exceptions of threads are shown"),
)  # fmt: skip


# -- NumPy and PyTorch --------------------------------------------------------------------------------


def _numpy_settings(numpy: Any) -> Iterator[Setting]:
    def read() -> Any:
        name, key, *rest = numpy.random.get_state()
        return name, key.tobytes(), *rest

    def write(value: Any) -> None:
        name, key, *rest = value
        numpy.random.set_state((name, numpy.frombuffer(key, numpy.uint32), *rest))

    yield Setting("NumPy's random state", read, write)
    yield Setting("NumPy's handling of errors", numpy.geterr, lambda value: numpy.seterr(**value))
    yield Setting(
        "NumPy's print options",
        lambda: {k: v for k, v in numpy.get_printoptions().items() if k != "override_repr"},
        lambda value: numpy.set_printoptions(**value),
    )


def _torch_settings(torch: Any) -> Iterator[Setting]:
    def set_device(device: Any) -> None:
        # Without a default device of its own, the context that is active counts.
        torch.set_default_device(None)
        if torch.get_default_device() != device:
            torch.set_default_device(device)

    def bits(state: Any) -> bytes:
        return state.cpu().numpy().tobytes()

    def state(value: bytes) -> Any:
        return torch.frombuffer(bytearray(value), dtype=torch.uint8)

    yield Setting("PyTorch's default device", torch.get_default_device, set_device)
    yield Setting("PyTorch's default dtype", torch.get_default_dtype, torch.set_default_dtype)
    yield Setting("PyTorch's grad mode", torch.is_grad_enabled, torch.set_grad_enabled)
    yield Setting(
        "PyTorch's random state", lambda: bits(torch.default_generator.get_state()),
        lambda value: torch.default_generator.set_state(state(value)),
    )  # fmt: skip
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        yield Setting(
            "PyTorch's random state on GPUs", lambda: [bits(s) for s in torch.cuda.get_rng_state_all()],
            lambda values: torch.cuda.set_rng_state_all([state(value) for value in values]),
        )  # fmt: skip
    yield Setting("PyTorch's number of threads", torch.get_num_threads, torch.set_num_threads)
    yield Setting(
        "PyTorch's deterministic algorithms",
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
    )  # fmt: skip
    yield Setting(
        "PyTorch's precision of matrix products",
        lambda: _matmul_precision(torch), lambda value: _set_matmul_precision(torch, value),
    )  # fmt: skip
    yield Setting("PyTorch's anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly)
    for device in ("cpu", "cuda"):
        yield Setting(
            f"autocast on {device}",
            lambda device=device: (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)),
            lambda value, device=device: (
                torch.set_autocast_enabled(device, value[0]), torch.set_autocast_dtype(device, value[1])
            ),
        )  # fmt: skip
    for name in ("enabled", "benchmark", "deterministic"):
        yield _attribute(torch.backends.cudnn, name, f"cuDNN's setting {name!r}")
    hooks = torch.nn.modules.module
    for name in ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks"):
        table: dict[Any, Any] = getattr(hooks, name)
        yield Setting(
            "hooks of all modules",
            lambda table=table: dict(table),
            lambda value, table=table: (table.clear(), table.update(value)),
        )


def _matmul_precision(torch: Any) -> str | tuple[str]:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # set by PyTorch's newer setting, which does not mix with this one
        return (torch.backends.cuda.matmul.fp32_precision,)


def _set_matmul_precision(torch: Any, value: str | tuple[str]) -> None:
    if isinstance(value, str):
        torch.set_float32_matmul_precision(value)
    else:
        torch.backends.cuda.matmul.fp32_precision = value[0]
