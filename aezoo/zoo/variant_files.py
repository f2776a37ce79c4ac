"""The files of one variant: read from a folder, or downloaded by a subclass."""

import errno
import hashlib
import json
import os
import stat
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar, cast

from aezoo.errors import CheckpointError
from aezoo.files import read_limited
from aezoo.jsonio import strict_json
from aezoo.zoo.schema import ALL_FILES, MAX_JSON_BYTES, MAX_TEXT_BYTES, METRICS, SIGNATURE, WEIGHTS

T = TypeVar("T")
METRIC_TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "value": ("a number", (int, float)),
    "n": ("a whole number", (int,)),
    **dict.fromkeys(("reason", "source", "dataset", "split", "definition"), ("text", (str,))),
}
"""The types of the entries of a metric, in words and as classes."""
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

    def check_regular(self) -> None:
        """Refuse a folder in which a variant's file is a link, a pipe, a device or a folder.

        A link would show and publish another file of this machine. Links of the Hub's cache, from
        `snapshots/COMMIT/` to `blobs/`, are followed, and those of weights, whose bytes are verified.

        Raises:
            CheckpointError: the message names the file.
        """
        for name in (*ALL_FILES, SIGNATURE):
            try:
                mode = os.lstat(f"{self.folder}/{name}").st_mode
            except OSError:
                continue
            path = self.folder / name
            if stat.S_ISREG(mode):
                continue
            if stat.S_ISLNK(mode) and (name == WEIGHTS or self._is_cache_link(path)):
                continue
            kind = "a symbolic link" if stat.S_ISLNK(mode) else "not a file"
            raise CheckpointError("missing-file", f"{path} is {kind}; a regular file is expected")

    def _is_cache_link(self, path: Path) -> bool:
        snapshots = self.folder.resolve().parent
        target = path.resolve()
        return snapshots.name == "snapshots" and target.parent == snapshots.parent / "blobs"

    def check_bytes(self, path: Path, raw: bytes) -> None:
        """Compare a file's bytes with the pinned hash, if any, and record their hash."""
        self.hashes[path.name] = check_hash(path, raw, self.pinned_hashes.get(path.name))

    def read_record(self, name: str) -> dict[str, Any]:
        """The content of `metrics.json` or `training.json`; empty if the variant has no such file.

        Raises:
            CheckpointError: as for `read`, or the file is not what `save` writes.
        """
        return self.check_record(name)()

    def check_record(self, name: str) -> Callable[[], dict[str, Any]]:
        """A function that returns what `read_record` does; the file is read and checked now.

        Raises:
            CheckpointError: as for `read_record`.
        """
        if not self.has(name):
            return dict[str, Any]
        raw = self.read(name)
        _check_record(raw, self.folder / name)
        return partial(json.loads, raw)


@lru_cache(maxsize=256)
def _check_record(raw: bytes, path: Path) -> None:
    """Checks the content of `metrics.json` or `training.json`, once for the same bytes."""
    record = strict_json(raw, path)
    problem = _metrics_problem(record) if path.name == METRICS else _training_problem(record)
    if problem is not None:
        raise CheckpointError("invalid-config", f"{path}: {problem}")


def _metrics_problem(record: Mapping[str, object]) -> str | None:
    """What is wrong with the content of `metrics.json`, if anything."""
    for name, entry in record.items():
        if not isinstance(entry, dict):
            return f"{name}: expected an object, found {type(entry).__name__}"
        for key, value in cast(dict[str, object], entry).items():
            what, types = METRIC_TYPES.get(key, ("", (object,)))
            if value is not None and (isinstance(value, bool) or not isinstance(value, types)):
                return f"{name}: {key}: expected {what} or null, found {type(value).__name__}"
    return None


def _training_problem(record: Mapping[str, object]) -> str | None:
    """What is wrong with the entries of `training.json` that a card shows, if anything."""
    for key in ("data", "versions"):
        if not isinstance(value := record.get(key, {}), dict):
            return f"{key}: expected an object, found {type(value).__name__}"
    data, versions = record.get("data", {}), record.get("versions", {})
    for split in ("train", "validation"):
        entry = cast(dict[str, object], data).get(split, {})
        if not isinstance(entry, dict) or not isinstance(cast(dict[str, object], entry).get("n", 0), int):
            return f"data: {split}: expected an object with a whole number n"
    if not all(isinstance(value, str) for value in cast(dict[str, object], versions).values()):
        return "versions: expected a text for each package"
    return None


def check_path(path: Path, code: str) -> Path:
    """Returns a path that the file system can be asked for, with `~` replaced.

    Raises:
        CheckpointError: with the given code: it holds a null byte, an unknown user, or too long a name.
    """
    try:
        path = path.expanduser()
        os.lstat(path)
    except (ValueError, RuntimeError) as error:  # RuntimeError: there is no such user
        raise CheckpointError(code, f"{str(path)[:400]!r} cannot be used: {error}") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            text = f"{str(path)[:200]}... cannot be used: {error.strerror}"
            raise CheckpointError(code, text) from error
    return path


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
        CheckpointError: the file is missing, not UTF-8, or larger than `MAX_TEXT_BYTES`.
    """
    raw = read_file(path, MAX_TEXT_BYTES + 1)
    if len(raw) > MAX_TEXT_BYTES:
        raise CheckpointError("invalid-config", f"{path} is larger than {MAX_TEXT_BYTES:,} bytes")
    try:
        return raw.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
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
