"""The local file from which an interrupted training is resumed."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, cast

import torch

from aezoo.errors import TrainingError
from aezoo.files import write_atomically

FORMAT = 3
"""Bump on incompatible changes."""


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
        damaged = "cannot be resumed from: it is damaged"
        try:
            # PyTorch writes checksums but does not compare them.
            with zipfile.ZipFile(self.path) as archive:
                if (name := archive.testzip()) is not None:
                    raise zipfile.BadZipFile(name)
            # `weights_only` refuses a pickle that holds more than tensors and plain values.
            state = cast(dict[str, Any], torch.load(self.path, map_location="cpu", weights_only=True))
            identity: dict[str, str] = dict(state["identity"])
        except pickle.UnpicklingError as error:
            raise self._error(f"{damaged}, or holds more than tensors and plain values") from error
        except Exception as error:  # PyTorch raises many types for a damaged file
            raise self._error(damaged) from error
        for name, expected in self.identity.items():
            if (found := identity.get(name)) != expected:
                raise self._error(f"belongs to another training: {name} is {found} there, {expected} here")
        return state

    def _error(self, reason: str) -> TrainingError:
        return TrainingError(f"{self.path} {reason}; delete it to start over")

    def write(self, state: dict[str, Any]) -> None:
        """Replaces the file atomically."""
        buffer = io.BytesIO()
        torch.save({"identity": self.identity, **state}, buffer)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, buffer.getvalue())

    def remove(self) -> None:
        """Deletes the file, and temporary files of a process that was killed while writing it."""
        self.path.unlink(missing_ok=True)
        for left in self.path.parent.glob(f".{self.path.name}-*"):
            left.unlink(missing_ok=True)
