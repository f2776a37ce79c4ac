"""The files of one variant: read from a folder, or downloaded by a subclass."""

import hashlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from aezoo.errors import CheckpointError
from aezoo.files import read_limited
from aezoo.jsonio import strict_json
from aezoo.zoo.schema import MAX_JSON_BYTES, METRICS

T = TypeVar("T")
WRONG_BYTES = frozenset({"hash-mismatch", "size-mismatch", "not-safetensors"})
"""Codes of errors after which a file is downloaded again."""


class VariantFiles:
    """A variant's files in a folder. A subclass may download them.

    Args:
        folder: that holds them.
        pinned_hashes: file -> sha256 that an index names; every read is checked against it.
        kind: recorded as `Source.kind`: `folder`, `zoo` or `hub`.

    Attributes:
        repository: `owner/name` on the Hub; None for a local folder.
        commit: of the repository.
        hashes: file -> sha256 of the files that were read so far.
    """

    repository: str | None = None
    commit: str | None = None

    def __init__(
        self, folder: Path, pinned_hashes: Mapping[str, str] | None = None, kind: str = "folder"
    ) -> None:
        self.folder = folder
        self.pinned_hashes = dict(pinned_hashes or {})
        self.kind = kind
        self.hashes: dict[str, str] = {}

    def has(self, name: str) -> bool:
        """Whether the variant has this file; True for every pinned file."""
        return name in self.pinned_hashes or (self.folder / name).exists()

    def path(self, name: str, size: int | None = None) -> Path:
        """The local path of a file, after a download if necessary.

        Args:
            name: of the file.
            size: expected size in bytes, if known; another size is refused before a download.
        """
        return self.folder / name

    def refetch(self, name: str) -> bool:
        """Download a file again. False if that is not possible."""
        return False

    def read_with_refetch(self, name: str, read: Callable[[Path], T], size: int | None = None) -> T:
        """Apply `read` to a file's path; if the bytes are wrong, once more after a new download."""
        try:
            return read(self.path(name, size))
        except CheckpointError as error:
            if error.code not in WRONG_BYTES or not self.refetch(name):
                raise
            return read(self.path(name, size))

    def read(self, name: str) -> bytes:
        """The bytes of any file but the weights, verified.

        Raises:
            CheckpointError: the file is missing, not the expected one, or JSON beyond the size limit.
            HubError: the file could not be downloaded.
        """

        def read(path: Path) -> bytes:
            raw = read_file(path, MAX_JSON_BYTES + 1 if path.suffix == ".json" else sys.maxsize)
            if path.suffix == ".json" and len(raw) > MAX_JSON_BYTES:
                raise CheckpointError("invalid-config", f"{path} is larger than {MAX_JSON_BYTES:,} bytes")
            self.check_bytes(path, raw)
            return raw

        return self.read_with_refetch(name, read)

    def check_bytes(self, path: Path, raw: bytes) -> None:
        """Compare a file's bytes with the pinned hash, if any, and record their hash."""
        self.hashes[path.name] = check_hash(path, raw, self.pinned_hashes.get(path.name))

    def read_record(self, name: str) -> dict[str, Any]:
        """The content of `metrics.json` or `training.json`; empty if the variant has no such file.

        Raises:
            CheckpointError: as for `read`, or the file is not what `save` writes.
        """
        if not self.has(name):
            return {}
        path = self.folder / name
        record = strict_json(self.read(name), path)
        for key, entry in record.items():
            if name == METRICS and not isinstance(entry, dict):
                text = f"{path}: {key}: expected an object, found {type(entry).__name__}"
                raise CheckpointError("invalid-config", text)
        return record


def read_file(path: Path, limit: int) -> bytes:
    """At most `limit` bytes of a regular file.

    Raises:
        CheckpointError: the file is missing or cannot be read.
    """
    try:
        return read_limited(path, limit)
    except FileNotFoundError as error:
        raise CheckpointError("missing-file", f"{path} is missing") from error
    except OSError as error:
        raise CheckpointError("missing-file", f"{path} cannot be read: {error.strerror}") from error


def read_text(path: Path) -> str:
    """The content of a text file.

    Raises:
        CheckpointError: the file is not UTF-8.
    """
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        text = f"{path} is not UTF-8: {error.reason} at byte {error.start}"
        raise CheckpointError("invalid-config", text) from error


def check_hash(path: Path, raw: bytes, sha256: str | None) -> str:
    """The sha256 of a file's bytes, which must be the expected one, if any.

    Raises:
        CheckpointError: the hashes differ; the message names both.
    """
    found = hashlib.sha256(raw).hexdigest()
    if sha256 not in (None, found):
        text = f"{path} has sha256 {found}, expected {sha256}; these are not the published bytes"
        raise CheckpointError("hash-mismatch", text)
    return found
