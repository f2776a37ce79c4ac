"""A model's repository: commits, branches, tags, and the ids that the Hub gives files."""

import datetime
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .faults import RefusalError

LARGE = 1_000_000
"""Larger files are kept apart from git, as are all safetensors."""
GIT_ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


def is_large(path: str, size: int) -> bool:
    """Whether a file is kept apart from git; empty ones never are, as the client sees to."""
    return size > LARGE or (size > 0 and path.endswith(".safetensors"))


def git_blob(content: bytes) -> str:
    """The id that git gives a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes | bytearray) -> str:
    """The id that Git LFS gives a file with this content."""
    return hashlib.sha256(content).hexdigest()


def file_ids(path: str, content: bytes) -> dict[str, Any]:
    """The ids and sizes of a file, as `model_info` lists them."""
    if not is_large(path, len(content)):
        return {"size": len(content), "blobId": git_blob(content)}
    version = "https://git-lfs.github.com/spec/v1"
    pointer = f"version {version}\noid sha256:{sha256(content)}\nsize {len(content)}\n".encode()
    lfs = {"sha256": sha256(content), "size": len(content), "pointerSize": len(pointer)}
    return {"size": len(content), "blobId": git_blob(pointer), "lfs": lfs}


@dataclass(frozen=True)
class Commit:
    """An immutable state of a repository."""

    oid: str
    parent: str | None
    message: str
    files: Mapping[str, bytes]
    date: str


@dataclass
class Repository:
    """A model's repository."""

    id: str
    private: bool = False
    gated: bool = False
    granted: bool = False
    """Whether the server's user may read the files although they are gated."""
    commits: dict[str, Commit] = field(default_factory=dict[str, Commit])
    branches: dict[str, str] = field(default_factory=dict[str, str])
    tags: dict[str, str] = field(default_factory=dict[str, str])
    objects: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """Large files by their SHA-256, including those that no commit holds yet."""

    def commit(self, branch: str, changes: Mapping[str, bytes | None], message: str) -> Commit:
        """Put a commit on a branch; a file changed to None is deleted."""
        parent = self.branches.get(branch)
        files = {**(self.commits[parent].files if parent else {}), **changes}
        kept = {path: content for path, content in sorted(files.items()) if content is not None}
        for path, content in kept.items():
            if is_large(path, len(content)):
                self.objects[sha256(content)] = content
        # The count tells commits with equal contents on equal parents apart.
        text = [self.id, len(self.commits), parent, message, {p: git_blob(c) for p, c in kept.items()}]
        oid = hashlib.sha1(json.dumps(text).encode()).hexdigest()
        date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        self.commits[oid] = Commit(oid, parent, message, kept, date)
        self.branches[branch] = oid
        return self.commits[oid]

    def at(self, revision: str = "main") -> Commit:
        """The commit that a branch, a tag or a commit's id names."""
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.commits[oid]
