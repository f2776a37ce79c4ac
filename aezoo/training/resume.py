"""The file from which a training goes on after it was cut off. It is local, and never part of a folder."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, cast

import torch

from aezoo.errors import TrainingError
from aezoo.files import write_atomically

FORMAT = 1
"""Grows when an older file can no longer be gone on with."""


class ResumeFile:
    """Where a training left off.

    Args:
        path: the file; need not be there.
        identity: what must be the same for the weights to come out the same, by name.
    """

    def __init__(self, path: Path, identity: dict[str, str]) -> None:
        self.path = path
        self.identity = {"format": str(FORMAT), **identity}

    def read(self) -> dict[str, Any] | None:
        """What was last written; None where nothing was.

        Raises:
            TrainingError: the file is damaged, or another training's.
        """
        if not self.path.exists():
            return None
        try:
            # Tensors and plain values alone: a pickle that holds anything else is not opened.
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
        except Exception as error:  # whatever a damaged file leads PyTorch to
            raise self._refusal("it is damaged") from error
        for name, wanted in self.identity.items():
            if (found := identity.get(name)) != wanted:
                raise TrainingError(
                    f"{self.path} is of another training: {name} is {found} there, {wanted} here; delete it "
                    "to begin anew"
                )
        return state

    def _refusal(self, reason: str) -> TrainingError:
        return TrainingError(f"{self.path} cannot be gone on with: {reason}; delete it to begin anew")

    def write(self, state: dict[str, Any]) -> None:
        """Replaces the file in one step."""
        buffer = io.BytesIO()
        torch.save({"identity": self.identity, **state}, buffer)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, buffer.getvalue())

    def remove(self) -> None:
        """After the training came to its end."""
        self.path.unlink(missing_ok=True)
        # What a process left behind that was killed while it wrote.
        for left in self.path.parent.glob(f".{self.path.name}-*"):
            left.unlink(missing_ok=True)
