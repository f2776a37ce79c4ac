"""Atomic writes, and reads of regular files up to a size limit."""

import errno
import os
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """Open a temporary file for writing that replaces `path` when the block ends without an error.

    The old file stays as it is until the new one is on the disk.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            _sync(file)
        temporary.chmod(0o644)
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


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
