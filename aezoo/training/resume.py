"""The local file from which an interrupted training is resumed."""

import io
import pickle
import zipfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NotRequired, cast

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from aezoo.errors import AezooError, TrainingError
from aezoo.files import sweep
from aezoo.zoo.folders import write_file

FORMAT = 3
"""Bump on incompatible changes."""


class RunState(TypedDict):
    """State of a unit of a stage, as `StageRunner.state_dict` returns it."""

    unit: NonNegativeInt
    epoch: NonNegativeInt
    ended: bool
    step: NonNegativeInt
    epochs_before: NonNegativeInt
    tensors: list[Any]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    early_stopping: dict[str, Any]
    lrs: list[float]
    random: list[Any]
    selected: dict[str, list[Any]]
    history: list[dict[str, Any]]
    callbacks: list[Any]


class ResumeState(TypedDict):
    """Contents of a resume file; the last three entries belong to a refit."""

    identity: dict[str, str]
    round: Literal["choose", "refit"]
    seconds: NonNegativeFloat
    run: RunState
    selected: NotRequired[dict[str, list[Any]]]
    validation_metrics: NotRequired[str]
    first: NotRequired[list[Any]]


class ResumeFile:
    """The state of a training after its last finished epoch.

    Args:
        path: the file; need not exist.
        identity: what a resumed training must have in common with the interrupted one, by name.
    """

    def __init__(self, path: Path, identity: dict[str, str]) -> None:
        self.path = path
        self.identity = {"format": str(FORMAT), **identity}

    def read(self) -> dict[str, Any] | None:
        """Returns the state last written, or None if the file does not exist.

        Raises:
            TrainingError: the file is damaged, or belongs to another training.
        """
        if not self.path.exists():
            return None
        if not self.path.is_file():
            raise self._error("cannot be resumed from: it is not a file")
        damaged = "cannot be resumed from: it is damaged"
        state: object = None
        try:
            # PyTorch writes checksums but does not compare them.
            with zipfile.ZipFile(self.path) as archive:
                if (name := archive.testzip()) is not None:
                    raise zipfile.BadZipFile(name)
            # `weights_only` refuses a pickle that holds more than tensors and plain values.
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            found = TypeAdapter(ResumeState).validate_python(state, strict=True)
        except pickle.UnpicklingError as error:
            raise self._error(f"{damaged}, or holds more than tensors and plain values") from error
        except ValidationError as error:
            # Files of other versions have other entries, and must be called that.
            identity = cast(dict[str, object], state).get("identity") if isinstance(state, dict) else None
            self._compare(cast(dict[str, object], identity) if isinstance(identity, dict) else {})
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise self._error(f"{damaged}: {where}: {first['msg']}") from error
        except Exception as error:  # PyTorch raises many types for a damaged file
            raise self._error(damaged) from error
        self._compare(found["identity"])
        return cast(dict[str, Any], found)

    def _compare(self, identity: Mapping[str, object]) -> None:
        for name, expected in self.identity.items():
            if (found := identity.get(name)) != expected:
                raise self._error(f"belongs to another training: {name} is {found} there, {expected} here")

    def _error(self, reason: str) -> TrainingError:
        return TrainingError(f"{self.path} {reason}; delete it to start over")

    def write(self, state: dict[str, Any]) -> None:
        """Replaces the file atomically.

        Raises:
            CheckpointError: it cannot be written; the old one is still there.
        """
        buffer = io.BytesIO()
        torch.save({"identity": self.identity, **state}, buffer)
        write_file(self.path, buffer.getvalue())

    def remove(self) -> None:
        """Deletes the file, and temporary files of a process that was killed while writing it."""
        self.path.unlink(missing_ok=True)
        sweep(self.path)

    @contextmanager
    def reading(self) -> Generator[None]:
        """Context manager for restoring a state of this file, whose entries may be missing or of any type.

        Raises:
            TrainingError: an entry does not fit the training.
        """
        try:
            yield
        except AezooError:
            raise
        except Exception as error:
            raise self._error(f"cannot be resumed from: {type(error).__name__}: {error}") from error
