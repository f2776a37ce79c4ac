"""The local file from which an interrupted training is resumed."""

import hashlib
import io
import pickle
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from aezoo.errors import AezooError, TrainingError
from aezoo.files import sweep
from aezoo.zoo.folders import write_file

FORMAT = 4
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
        if not self.path.is_file():
            raise self._error("cannot be resumed from: it is not a file")
        damaged = "cannot be resumed from: it is damaged"
        try:
            # PyTorch writes checksums but does not compare them.
            with zipfile.ZipFile(self.path) as archive:
                if (name := archive.testzip()) is not None:
                    raise zipfile.BadZipFile(name)
            # `weights_only` refuses a pickle that holds more than tensors and plain values.
            state = cast(dict[str, Any], torch.load(self.path, map_location="cpu", weights_only=True))
            identity: dict[str, str] = dict(state.pop("identity"))
            changed = state.pop("sha256", None) != _digest(state)
        except pickle.UnpicklingError as error:
            raise self._error(f"{damaged}, or holds more than tensors and plain values") from error
        except Exception as error:  # PyTorch raises many types for a damaged file
            raise self._error(damaged) from error
        for name, expected in self.identity.items():
            if (found := identity.get(name)) != expected:
                raise self._error(f"belongs to another training: {name} is {found} there, {expected} here")
        if changed:
            raise self._error(f"{damaged}: its entries are not those that were written")
        return state

    def _error(self, reason: str) -> TrainingError:
        return TrainingError(f"{self.path} {reason}; delete it to start over")

    def write(self, state: dict[str, Any]) -> None:
        """Replaces the file atomically.

        Raises:
            CheckpointError: it cannot be written; the old one is still there.
        """
        buffer = io.BytesIO()
        torch.save({"identity": self.identity, "sha256": _digest(state), **state}, buffer)
        write_file(self.path, buffer.getvalue())

    def remove(self) -> None:
        """Deletes the file, and temporary files of a process that was killed while writing it."""
        self.path.unlink(missing_ok=True)
        sweep(self.path)

    @contextmanager
    def reading(self) -> Generator[None]:
        """Context manager for restoring a state of this file.

        Raises:
            TrainingError: a part of it does not fit, such as the state of a callback that was edited since.
        """
        try:
            yield
        except AezooError:
            raise
        except Exception as error:
            raise self._error(f"cannot be resumed from: {type(error).__name__}: {error}") from error


def _digest(state: object) -> str:
    """A sha256 of nested lists and dictionaries of tensors and plain values, with their types."""
    digest = hashlib.sha256()

    def add(value: object) -> None:
        if isinstance(value, Tensor):
            tensor = value.detach().cpu().contiguous()
            digest.update(f"tensor {tensor.dtype} {list(tensor.shape)} ".encode())
            digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
            return
        name = type(value).__name__
        if isinstance(value, dict):
            value = list(cast(dict[object, object], value).items())
        if isinstance(value, list | tuple):
            parts = cast(list[object], value)
            digest.update(f"{name} {len(parts)} ".encode())
            for part in parts:
                add(part)
        else:
            digest.update(f"{name} {value!r} ".encode())

    add(state)
    return digest.hexdigest()
