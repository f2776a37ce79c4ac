"""The file from which an interrupted training is resumed. It is local, and never part of a variant's folder."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, cast

import torch

from aezoo.errors import TrainingError
from aezoo.files import write_atomically

FORMAT = 2
"""Bump on incompatible changes."""


class ResumeFile:
    """The state of a training after its last finished epoch.

    Args:
        path: the file; need not exist.
        identity: what must be the same for the weights to come out the same, by name.
    """

    def __init__(self, path: Path, identity: dict[str, str]) -> None:
        self.path = path
        self.identity = {"format": str(FORMAT), **identity}

    def read(self) -> dict[str, Any] | None:
        """Returns the state last written; None if the file does not exist.

        Raises:
            TrainingError: the file is damaged, or belongs to another training.
        """
        if not self.path.exists():
            return None
        try:
            # Tensors and plain values only: a pickle that holds anything else is not opened.
            # PyTorch itself does not compare the checksums that it writes.
            with zipfile.ZipFile(self.path) as archive:
                if archive.testzip() is not None:
                    raise self._refusal("it is damaged")
            state = cast(dict[str, Any], torch.load(self.path, map_location="cpu", weights_only=True))
            identity: dict[str, str] = dict(state["identity"])
        except TrainingError:
            raise
        except pickle.UnpicklingError as error:
            raise self._refusal("it is damaged, or holds more than tensors and plain values") from error
        except Exception as error:  # PyTorch raises many types for a damaged file
            raise self._refusal("it is damaged") from error
        for name, wanted in self.identity.items():
            if (found := identity.get(name)) != wanted:
                raise TrainingError(
                    f"{self.path} belongs to another training: {name} is {found} there, {wanted} here; delete it "
                    "to start over"
                )
        return state

    def _refusal(self, reason: str) -> TrainingError:
        return TrainingError(f"{self.path} cannot be resumed from: {reason}; delete it to start over")

    def write(self, state: dict[str, Any]) -> None:
        """Replaces the file atomically."""
        buffer = io.BytesIO()
        torch.save({"identity": self.identity, **state}, buffer)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, buffer.getvalue())

    def remove(self) -> None:
        """Deletes the file, and temporary files of a process that was killed while it wrote."""
        self.path.unlink(missing_ok=True)
        for left in self.path.parent.glob(f".{self.path.name}-*"):
            left.unlink(missing_ok=True)
