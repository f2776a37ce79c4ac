"""Progress bar of a training, shown on a terminal only."""

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class EpochBar:
    """Context manager that shows epochs on standard error if that is a terminal.

    Args:
        enabled: whether to show anything.
        title: shown before the stage.
    """

    def __init__(self, enabled: bool, title: str) -> None:
        console = Console(stderr=True)
        self._title = title
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (enabled and console.file.isatty()),
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
        """Shows the record of an epoch: loss terms, learning rate, samples per second.

        Args:
            record: of the epoch.
            epochs: of the stage.
            samples: trained on in the epoch.
        """
        stage = record["stage"], record.get("pair")
        if self._stage != stage:
            self._stage = stage
            pair = f", pair {record['pair']}" if "pair" in record else ""
            self._task = self._bar.add_task(f"{self._title}, stage {stage[0]}{pair}", total=epochs, losses="")
        values: dict[str, float] = record.get("validation") or record["train"]
        # With one term, the sum is redundant.
        names = [name for name in values if name != "loss" or len(values) > 2]
        text = "  ".join(f"{name} {values[name]:.5f}" for name in names)
        speed = f"{samples / max(record['seconds'], 1e-3):,.0f}/s"
        self._bar.update(
            self._task, completed=record["epoch"], losses=f"{text}  lr {record['lr']:.1e}  {speed}"
        )
