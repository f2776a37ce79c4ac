"""Atomic writes of files and folders, and reads of regular files up to a size limit.

What is not complete yet lies next to its target as `.NAME.tmp-XXXXXXXX`, locked by the process that writes
it. The next writer of the same target deletes what a killed process left there.
"""

import ctypes
import errno
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

AT_FDCWD = -100
RENAME_EXCHANGE = 2
"""Flag of Linux's `renameat2`; `RENAME_SWAP` of macOS' `renamex_np` has the same value."""
CHUNK = 2**20


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """Open a temporary file for writing that replaces `path` when the block ends without an error.

    The old file stays as it is until the new one is on the disk. Permissions follow the umask.
    """
    sweep(path)
    temporary = _temporary(path)
    try:
        with temporary.open("xb") as file, _locked(temporary):
            yield file
            _sync(file)
            file.close()  # Windows renames no open file
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file in one step: `path` always holds either the old content or all of the new."""
    with replacing(path) as file:
        file.write(data)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(data)
        _sync(file)


def replace_folder(target: Path, fill: Callable[[Path], object]) -> None:
    """Write a complete new folder next to `target`, then put it there in one step.

    If the process is killed, `target` is the old folder or the new one. Where the system cannot exchange two
    folders, it may be missing until the next call of `replace_folder` or `sweep`, which restores the old one.

    Args:
        target: created with its parents. A link to a folder is kept; the folder that it names is replaced.
        fill: called with an empty folder, into which it writes the content.

    Raises:
        OSError: the folder cannot be written; the old one is still there.
    """
    target = Path(os.path.realpath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target)
    staging = _temporary(target)
    try:
        staging.mkdir()
        with _locked(staging):
            new, old = staging / "new", staging / "old"
            new.mkdir()
            fill(new)
            if not target.exists():
                new.rename(target)
            elif not exchange(new, target):
                target.rename(old)
                new.rename(target)
    finally:
        _clear(staging, target)


def exchange(a: Path, b: Path) -> bool:
    """Exchange two folders in one step. False if the system or the file system cannot do that."""
    names = os.fsencode(a), os.fsencode(b)
    try:
        libc: Any = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return libc.renamex_np(*names, RENAME_EXCHANGE) == 0
        return libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0
    except (AttributeError, OSError, TypeError):  # no such function; Windows has no such library
        return False


def sweep(target: Path) -> None:
    """Delete what killed processes left of writing `target`; restore it if one was killed while replacing it.

    What a live process is writing stays.
    """
    target = Path(os.path.realpath(target))
    prefix = f".{target.name}.tmp-"
    with suppress(OSError, ValueError):  # ValueError: a null byte in the path
        for left in [path for path in target.parent.iterdir() if path.name.startswith(prefix)]:
            if _is_stale(left):
                _clear(left, target)


def check_writable(path: Path, size: int = 1) -> None:
    """Check that `size` bytes can be written next to `path`, and at names of the length that is needed.

    Raises:
        OSError: they cannot be; nothing is left behind except created parents.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    temporary = _temporary(path)
    try:
        with temporary.open("xb") as file, _locked(temporary):
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, max(size, 1))
            else:
                for start in range(0, size, CHUNK):
                    file.write(bytes(min(CHUNK, size - start)))
            _sync(file)
    finally:
        temporary.unlink(missing_ok=True)


def read_limited(path: Path, limit: int) -> bytes:
    """Read at most `limit` bytes of a regular file; symbolic links are followed.

    Raises:
        OSError: the file cannot be opened, or is a pipe or a device, whose reader might wait forever.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with os.fdopen(handle, "rb") as file:
        # `read` reserves memory for what it is asked for, however small the file is.
        return file.read(min(limit, status.st_size))


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{secrets.token_hex(4)}")


def _clear(left: Path, target: Path) -> None:
    """Delete a temporary file or folder, but put an old folder back if nothing took its place."""
    if not left.is_dir():
        left.unlink(missing_ok=True)
        return
    old = left / "old"
    if old.exists():
        # A folder that is deleted in part must not be put back later.
        old.rename(left / "deleted" if target.exists() else target)
    shutil.rmtree(left, ignore_errors=True)


def _is_stale(left: Path) -> bool:
    """Whether no process holds the lock of a temporary file or folder; False if that cannot be known."""
    if fcntl is None:
        # An old folder is out of its place only for a moment, unless the process was killed then.
        return (left / "old").exists()
    try:
        handle = os.open(left, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Context manager that holds the lock of a temporary file or folder, which keeps it from `sweep`."""
    if fcntl is None:
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks, on which nothing is swept either
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
