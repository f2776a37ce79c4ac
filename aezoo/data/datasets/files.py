"""Folders of datasets and caches, and readers of array files."""

import os
from pathlib import Path
from typing import Any, cast
from zipfile import ZipInfo

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from aezoo.data.containers import from_numpy, plain_tensor
from aezoo.errors import DataError

LARGE, MAX_EXPANSION = 2**30, 100
"""Arrays of more bytes than this must not be compressed more than a hundredfold: a few kilobytes could
announce any size."""


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


def expanded(path: str) -> Path:
    """Returns a path with `~` expanded.

    Raises:
        DataError: the system knows no such home, or takes no such path.
    """
    try:
        found = Path(path).expanduser()
        found.exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else one_line(error)
        raise DataError(f"{path if len(path) <= 80 else path[:80] + '...'} is no path: {reason}") from error
    return found


def existing_file(path: str) -> Path:
    """Returns the path of an existing file, `~` expanded.

    Raises:
        DataError: there is no such file.
    """
    found = expanded(path)
    if not found.is_file():
        start = "" if found.is_absolute() else f"; relative paths start at {Path.cwd()}"
        raise DataError(f"there is no file {path}{start}")
    return found


def read_arrays(path: Path, keys: tuple[str | None, ...] = ()) -> dict[str, Tensor]:
    """Reads the arrays of a `.npy`, `.npz` or `.safetensors` file by name; nothing is unpickled.

    The array of a `.npy` is called `array`. If an `.npz` has several arrays, those not in `keys` are empty.

    Raises:
        DataError: another or a damaged file, pickled objects, a dtype that PyTorch does not support, or more
            data than memory.
    """
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz", ".safetensors"):
        raise DataError(f"{path}: expected .npy, .npz or .safetensors, found {path.suffix or 'no suffix'!r}")
    try:
        check_memory(path.stat().st_size)
        if suffix == ".safetensors":
            loaded = safetensors.torch.load_file(path)
            return {
                name: plain_tensor(x) if name in keys or len(loaded) == 1 else x for name, x in loaded.items()
            }
        # Opened here, because NumPy leaves a damaged archive open.
        with path.open("rb") as file:
            return _numpy_arrays(np.load(file, allow_pickle=False), suffix, keys)
    # Damaged files raise exceptions of zipfile, of each codec, of NumPy's parser of headers, of safetensors.
    except Exception as error:
        reason = one_line(error)
        if isinstance(error, MemoryError):
            reason = "it announces more data than fit into memory"
        elif isinstance(error, KeyError) and suffix == ".safetensors":
            reason = f"PyTorch has no dtype {reason}"
        raise DataError(f"{path} cannot be read: {reason}") from error


def check_memory(size: int) -> None:
    """Checks that data of a file fit into the machine's memory.

    Raises:
        MemoryError: they are larger.
    """
    if hasattr(os, "sysconf") and size > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        raise MemoryError


def _numpy_arrays(loaded: Any, suffix: str, keys: tuple[str | None, ...]) -> dict[str, Tensor]:
    if isinstance(loaded, np.ndarray) != (suffix == ".npy"):
        raise ValueError(f"the content is not that of a {suffix} file")
    if suffix == ".npy":
        return {"array": from_numpy(loaded)}
    names: list[str] = loaded.files
    wanted = names if len(names) == 1 else [name for name in names if name in keys]
    return {name: _member(loaded, name) if name in wanted else torch.empty(0) for name in names}


def _member(archive: Any, name: str) -> Tensor:
    """Reads an array of an archive, unless it is compressed so much that it may be an attack."""
    members: dict[str, ZipInfo] = {info.filename: info for info in archive.zip.infolist()}
    info = members.get(f"{name}.npy") or members[name]
    if info.file_size > LARGE and info.file_size > MAX_EXPANSION * info.compress_size:
        sizes = f"from {info.compress_size:,} to {info.file_size:,} bytes"
        raise ValueError(f"{name} expands {sizes}; save it without compression")
    check_memory(info.file_size)
    array: object = archive[name]
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is not an array")
    return from_numpy(cast(Any, array))


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
