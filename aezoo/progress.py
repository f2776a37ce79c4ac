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

    def show(self, record: dict[str, Any], epochs: int, samples: int) -> None:
        """Takes in an epoch's record: losses by term, learning rate, samples a second."""
        stage = record["stage"], record.get("pair")
        if self._stage != stage:
            self._stage = stage
            pair = f", pair {record['pair']}" if "pair" in record else ""
            self._task = self._bar.add_task(f"{self._title}, stage {stage[0]}{pair}", total=epochs, losses="")
        values: dict[str, float] = record.get("validation") or record["train"]
        # With one term, the sum says nothing more.
        names = [name for name in values if name != "loss" or len(values) > 2]
        text = "  ".join(f"{name} {values[name]:.5f}" for name in names)
        speed = f"{samples / max(record['seconds'], 1e-3):,.0f}/s"
        self._bar.update(
            self._task, completed=record["epoch"], losses=f"{text}  lr {record['lr']:.1e}  {speed}"
        )
