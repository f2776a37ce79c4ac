"""Folders of datasets and caches, and readers of array files."""

import os
from pathlib import Path
from typing import Any
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from aezoo.data.containers import from_numpy
from aezoo.errors import DataError


def cache_root() -> Path:
    """Aezoo's folder in the user's cache: `$XDG_CACHE_HOME/aezoo`, by default `~/.cache/aezoo`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aezoo"


def data_root() -> Path:
    """The folder of downloaded datasets: `$AEZOO_DATA`, by default `data` in `cache_root()`."""
    named = os.environ.get("AEZOO_DATA")
    return Path(named) if named else cache_root() / "data"


def one_line(error: BaseException) -> str:
    """The message of an exception in one line, or the name of its class if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


def existing_file(path: str) -> Path:
    """Returns the path of an existing file, `~` expanded.

    Raises:
        DataError: there is no such file.
    """
    found = Path(path).expanduser()
    if not found.is_file():
        start = "" if found.is_absolute() else f"; relative paths start at {Path.cwd()}"
        raise DataError(f"there is no file {path}{start}")
    return found


def read_arrays(path: Path, keys: tuple[str | None, ...] = ()) -> dict[str, Tensor]:
    """Reads the arrays of a `.npy`, `.npz` or `.safetensors` file by name; nothing is unpickled.

    The array of a `.npy` is called `array`. If an `.npz` has several arrays, those not in `keys` are empty.

    Raises:
        DataError: another or a damaged file, pickled objects, or a dtype that PyTorch does not support.
    """
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz", ".safetensors"):
        raise DataError(f"{path}: expected .npy, .npz or .safetensors, found {path.suffix or 'no suffix'!r}")
    try:
        if suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        # Opened here, because NumPy leaves a damaged archive open.
        with path.open("rb") as file:
            return _numpy_arrays(np.load(file, allow_pickle=False), suffix, keys)
    except (
        OSError, ValueError, KeyError, EOFError, BadZipFile, ZlibError, safetensors.SafetensorError
    ) as error:  # fmt: skip
        raise DataError(f"{path} cannot be read: {one_line(error)}") from error


def _numpy_arrays(loaded: Any, suffix: str, keys: tuple[str | None, ...]) -> dict[str, Tensor]:
    if isinstance(loaded, np.ndarray) != (suffix == ".npy"):
        raise ValueError(f"the content is not that of a {suffix} file")
    if suffix == ".npy":
        return {"array": from_numpy(loaded)}
    names: list[str] = loaded.files
    wanted = names if len(names) == 1 else [name for name in names if name in keys]
    return {name: from_numpy(loaded[name]) if name in wanted else torch.empty(0) for name in names}


def named_array(arrays: dict[str, Tensor], key: str | None, path: Path, field: str = "key") -> Tensor:
    """Selects the array named `key`, or the only one; `path` and the spec's `field` are for errors.

    Raises:
        DataError: no such array, or several and no `key`.
    """
    if key is None and len(arrays) == 1:
        return next(iter(arrays.values()))
    names = ", ".join(sorted(arrays)) or "none"
    if key is None:
        raise DataError(f"{path} contains {len(arrays)} arrays ({names}); select one with `{field}`")
    if key not in arrays:
        raise DataError(f"{path} has no array {key!r} ({field}); it contains {names}")
    return arrays[key]
