"""What datasets of one's own have in common: files of the user's, split by share."""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from aezoo.data.transforms import from_numpy
from aezoo.errors import DataError


def existing(path: str) -> Path:
    """A file that is there.

    Raises:
        DataError: it is not.
    """
    found = Path(path).expanduser()
    if not found.is_file():
        start = "" if found.is_absolute() else f"; relative paths start at {Path.cwd()}"
        raise DataError(f"there is no file {path}{start}")
    return found


def read_arrays(path: Path, keys: tuple[str | None, ...] = ()) -> dict[str, Tensor]:
    """The arrays of a `.npy`, `.npz` or `.safetensors` file by name; a `.npy` has one, called `array`.

    Nothing is unpickled. Of several in an `.npz`, those that `keys` leaves out are empty.

    Raises:
        DataError: another kind of file, a damaged one, or one that holds pickled objects.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            return safetensors.torch.load_file(path)
        if path.suffix.lower() in (".npy", ".npz"):
            # NumPy would leave a damaged archive open.
            with path.open("rb") as file:
                return _numpy_arrays(np.load(file, allow_pickle=False), path.suffix.lower(), keys)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (
        OSError, ValueError, KeyError, EOFError, BadZipFile, ZlibError, safetensors.SafetensorError
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read: {reason}") from error
    raise DataError(f"{path}: expected .npy, .npz or .safetensors, found {path.suffix or 'no suffix'!r}")


def _numpy_arrays(loaded: Any, suffix: str, keys: tuple[str | None, ...]) -> dict[str, Tensor]:
    if isinstance(loaded, np.ndarray) != (suffix == ".npy"):
        raise ValueError("it holds what the other of .npy and .npz should")
    if suffix == ".npy":
        return {"array": from_numpy(loaded)}
    names: list[str] = loaded.files
    wanted = names if len(names) == 1 else [name for name in names if name in keys]
    return {name: from_numpy(loaded[name]) if name in wanted else torch.empty(0) for name in names}


def named_array(arrays: dict[str, Tensor], key: str | None, path: Path, field: str = "key") -> Tensor:
    """One array of a file, which must be named where there are several.

    Raises:
        DataError: no such array, or several and no name.
    """
    if key is None and len(arrays) == 1:
        return next(iter(arrays.values()))
    names = ", ".join(sorted(arrays)) or "none"
    if key is None:
        raise DataError(f"{path} holds {len(arrays)} arrays ({names}); say which with `{field}`")
    if key not in arrays:
        raise DataError(f"{path} has no array {key!r} ({field}); it holds {names}")
    return arrays[key]


def refuse_nonfinite(x: Tensor, path: Path) -> None:
    """Refuses NaN and infinite values.

    Raises:
        DataError: naming the first place.
    """
    if x.is_floating_point() and not torch.isfinite(x).all():
        where = tuple(int(i) for i in (~torch.isfinite(x)).nonzero()[0])
        raise DataError(f"{path}: the value at index {where} is not finite")
