"""The progress bar of long work: on a terminal, and nowhere else."""

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class EpochBar:
    """Shows epochs on standard error while it is open; silent where that is no terminal."""

    def __init__(self, wanted: bool, title: str) -> None:
        console = Console(stderr=True)
        self._title = title
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (wanted and console.file.isatty()),
        )
        self._task: Any = None
        self._stage: object = None

    def __enter__(self) -> "EpochBar":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, record: dict[str, Any], epochs: int) -> None:
        """Takes in an epoch's record."""
        if self._stage != record["stage"]:
            self._stage = record["stage"]
            self._task = self._bar.add_task(f"{self._title}, stage {self._stage}", total=epochs, losses="")
        parts = [("train", record["train"]), ("validation", record.get("validation"))]
        text = "  ".join(f"{name} {part['loss']:.5f}" for name, part in parts if part)
        self._bar.update(self._task, completed=record["epoch"], losses=f"{text}  lr {record['lr']:.1e}")
