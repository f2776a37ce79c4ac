"""The folder of a variant as a whole: where it may be written, and writing it completely or not at all."""

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from aezoo.errors import CheckpointError
from aezoo.files import check_writable, read_limited, replace_folder, sweep, write_atomically, write_durably
from aezoo.zoo.schema import ALL_FILES, CONFIG, MARKER, SIGNATURE, TRAINING, WEIGHTS
from aezoo.zoo.variant_files import VariantFiles


def write_folder(
    target: Path,
    contents: Mapping[str, bytes],
    kept: Iterable[str] = (),
    complete: Callable[[Path], object] | None = None,
) -> Path:
    """Write a folder, complete or not at all, replacing an older one.

    Args:
        target: created with its parents.
        contents: file -> bytes.
        kept: files of the old folder that are copied into the new one.
        complete: as for `save_completed`.

    Returns:
        The folder.

    Raises:
        CheckpointError: the folder cannot be written; its old content is still there.
    """

    def fill(new: Path) -> None:
        for name, data in contents.items():
            write_durably(new / name, data)
        for name in kept:
            shutil.copy2(target / name, new / name)
        if complete is not None:
            complete(new)

    try:
        replace_folder(target, fill)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise _write_error(target, error) from error
    return target


def write_file(path: Path, data: bytes) -> None:
    """Replace a file in one step; its folder is created if it is missing.

    Raises:
        CheckpointError: the file cannot be written; its old content is still there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise _write_error(path, error) from error


def check_space(path: Path, size: int) -> None:
    """Check that a file of `size` bytes could be written at `path`, whose folder is created.

    Raises:
        CheckpointError: it could not: the disk is full or read-only, or the path cannot be used.
    """
    try:
        check_writable(path, size)
    except (OSError, ValueError) as error:
        raise _write_error(path, error) from error


def _write_error(path: Path, error: OSError | ValueError) -> CheckpointError:
    reason = error.strerror if isinstance(error, OSError) else None
    return CheckpointError("write-failed", f"{shorten(path)} could not be written: {reason or error}")


def shorten(path: Path, limit: int = 400) -> str:
    """A path as text, without its middle if it is long."""
    text = str(path)
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"


def check_target(folder: Path, *, overwrite: bool) -> list[str]:
    """Check that `save` could write a folder, before hours are spent on its content.

    What a killed process left of writing the folder is deleted; a folder that it was replacing is restored.

    Returns:
        The names of the files in the folder.

    Raises:
        CheckpointError: the path is a file, the current folder, a mount point, cannot be read, or is a folder
            with weights or foreign files.
    """
    try:
        return _check_target(folder, overwrite=overwrite)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = error.strerror if isinstance(error, OSError) else None
        raise CheckpointError("target", f"{shorten(folder)} cannot be used: {reason or error}") from error


def _check_target(folder: Path, *, overwrite: bool) -> list[str]:
    sweep(Path(os.path.realpath(folder)))
    present = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    foreign = next((name for name in present if name not in (*ALL_FILES, SIGNATURE)), None)
    if folder.exists() and not folder.is_dir():
        problem = "is a file, a folder is expected"
    elif folder.resolve() == Path.cwd():
        problem = "is the current folder, which cannot be replaced; run this from another folder"
    elif os.path.ismount(folder):
        problem = "is a mount point, which cannot be replaced; use a folder inside it"
    elif foreign is not None:
        problem = f"holds {foreign!r}, which is not part of a variant; use another folder"
    elif (CONFIG in present or WEIGHTS in present) and not overwrite:
        problem = "already holds a trained variant; pass overwrite=True (--overwrite)"
    else:
        return present
    raise CheckpointError("target", f"{folder} {problem}")


def is_unfinished(folder: Path) -> bool:
    """Whether a folder holds the result of an interrupted training."""
    return "unfinished" in VariantFiles(folder).read_record(TRAINING)


def is_user_written(card: Path) -> bool:
    """Whether a model card exists that aezoo did not write; such a card is never replaced."""
    return card.is_file() and MARKER not in read_limited(card, sys.maxsize).decode("utf-8", errors="replace")
