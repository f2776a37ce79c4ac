"""Progress of a training on standard error: a bar on a terminal, lines elsewhere."""

import math
import os
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aezoo.terminal import print_error

SECONDS = 30.0
"""Least time between two lines, so that a log of a short training is short."""


class EpochBar:
    """Context manager that shows epochs on standard error.

    Where standard error is no terminal, as in a log or a notebook, it prints one line for the first and the
    last epoch of a stage, and for an epoch that ends `SECONDS` or more after the last line.

    Args:
        enabled: whether to show anything.
        title: shown before the stage.
    """

    def __init__(self, enabled: bool, title: str) -> None:
        console = Console(stderr=True)
        terminal = console.file.isatty() and os.environ.get("TERM") != "dumb"
        self._title = title
        self._lines = enabled and not terminal
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            disable=not (enabled and terminal),
        )
        self._task: Any = None
        self._stage: object = None
        self._printed = -math.inf
        self._pending = ""

    def __enter__(self) -> "EpochBar":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._print_pending()

    def show(self, record: dict[str, Any], epochs: int, samples: int) -> None:
        """Shows the record of an epoch: loss terms, learning rate, samples per second.

        Args:
            record: of the epoch.
            epochs: of the stage.
            samples: trained on in the epoch.
        """
        stage = record["stage"], record.get("pair")
        pair = f", pair {record['pair']}" if "pair" in record else ""
        title = f"{self._title}, stage {stage[0]}{pair}"
        values: dict[str, float] = record.get("validation") or record["train"]
        # With one term, the sum is redundant.
        names = [name for name in values if name != "loss" or len(values) > 2]
        text = "  ".join(f"{name} {values[name]:.5f}" for name in names)
        speed = f"{samples / max(record['seconds'], 1e-3):,.0f}/s"
        losses = f"{text}  lr {record['lr']:.1e}  {speed}"
        if self._stage != stage:
            self._print_pending()
            self._stage = stage
            self._task = self._bar.add_task(title, total=epochs, losses="")
            self._printed = -math.inf
        self._bar.update(self._task, completed=record["epoch"], losses=losses)
        self._pending = f"{title}: epoch {record['epoch']} of {epochs}: {losses}"
        if time.monotonic() - self._printed >= SECONDS:
            self._print_pending()

    def _print_pending(self) -> None:
        if self._lines and self._pending:
            print_error(self._pending)
            self._printed = time.monotonic()
        self._pending = ""


class ItemProgress:
    """Context manager that shows how many items are done, on standard error.

    Args:
        enabled: whether to show anything.
        title: what is done, such as `encode`.
        total: number of items; None if it is not known.
    """

    def __init__(self, enabled: bool, title: str, total: int | None) -> None:
        console = Console(stderr=True)
        terminal = console.file.isatty() and os.environ.get("TERM") != "dumb"
        self._title, self._total, self._done = title, total, 0
        self._lines = enabled and not terminal
        self._printed = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not (enabled and terminal),
        )
        self._task = self._bar.add_task(title, total=total)

    def __enter__(self) -> "ItemProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, items: int) -> None:
        """Adds finished items."""
        self._done += items
        self._bar.advance(self._task, items)
        if self._lines and time.monotonic() - self._printed >= SECONDS:
            of = "" if self._total is None else f" of {self._total:,}"
            print_error(f"{self._title}: {self._done:,}{of}")
            self._printed = time.monotonic()
