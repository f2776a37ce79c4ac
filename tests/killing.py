"""Stops a function at any of its calls of the file system, as a killed process or as Ctrl-C."""

import io
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest

import aezoo.files

CALLS = [
    (os, "open"), (os, "mkdir"), (os, "rename"), (os, "replace"), (os, "unlink"), (os, "rmdir"), (os, "fsync"),
    (io, "open"), (aezoo.files, "exchange"),
]  # fmt: skip
"""Calls that change the file system or open a file."""


class Killed(BaseException):
    """Ends a process without any clean-up: every later call raises it again."""


@contextmanager
def stopped_at(number: int, *, killed: bool) -> Generator[list[str]]:
    """Context manager that stops the block at call `number`, from 0, and yields the calls so far.

    Args:
        number: the call that is not made.
        killed: whether all later calls fail too, as after SIGKILL; else Ctrl-C, once.
    """
    made: list[str] = []

    def stopping(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **options: Any) -> Any:
            if made and made[-1] == "killed":
                raise Killed
            if len(made) == number:
                made.append("killed" if killed else "Ctrl-C")
                raise Killed if killed else KeyboardInterrupt
            made.append(name)
            return call(*args, **options)

        return wrapper

    with pytest.MonkeyPatch.context() as patched:
        for module, name in CALLS:
            patched.setattr(module, name, stopping(name, getattr(module, name)))
        yield made
