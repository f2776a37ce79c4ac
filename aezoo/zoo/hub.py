"""Variants on the Hugging Face Hub, downloaded through its client's cache.

The client checks the length of a download only, and serves from its cache whatever it has. Every file is
verified here or by whoever reads it, and downloaded again if it is not the expected one.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import huggingface_hub
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from typing_extensions import override

from aezoo.errors import CheckpointError, HubError, UnknownVariantError, warn_diagnostic
from aezoo.zoo.hub_client import (
    TRANSIENT,
    cache_folder,
    endpoint,
    hub_requests,
    offline,
    one_line,
    translated_errors,
    with_retries,
)
from aezoo.zoo.hub_session import COMMIT
from aezoo.zoo.schema import CONFIG, MAX_JSON_BYTES, WEIGHTS
from aezoo.zoo.variant_files import VariantFiles

# Repository and revision become parts of paths in the client's cache.
ADDRESS = re.compile(r"(hub:)?(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>\w[\w./+-]{0,199}))?", re.ASCII)
UNANSWERED = TRANSIENT | {"not-cached", "unreachable"}
"""Codes of errors after which a revision resolves to the commit in the cache."""


class Address(NamedTuple):
    """An address on the Hub.

    Attributes:
        repository: `owner/name`.
        revision: a branch, tag or commit; None if none is given.
    """

    repository: str
    revision: str | None


def read_address(text: str) -> Address:
    """Parse `hub:OWNER/NAME@REVISION`; prefix and revision are optional.

    Raises:
        UnknownVariantError: the text is not an address.
    """
    found = ADDRESS.fullmatch(text)
    if found is None or ".." in text:
        where = "where REVISION is a tag, a branch or a commit"
        raise UnknownVariantError(f"{text!r}: expected hub:OWNER/NAME or hub:OWNER/NAME@REVISION, {where}")
    try:
        validate_repo_id(found["repository"])
    except HFValidationError as error:
        raise UnknownVariantError(f"{text!r}: {one_line(error)}") from error
    return Address(found["repository"], found["revision"])


class Repository(VariantFiles):
    """The files of a repository at one commit, downloaded on demand.

    Args:
        repository: `owner/name`.
        commit: 40 hexadecimal digits.
        sizes: file -> bytes in the index; another size is refused before the download.
        pinned_hashes: as for `VariantFiles`.
        kind: as for `VariantFiles`.
    """

    def __init__(
        self,
        repository: str,
        commit: str,
        sizes: Mapping[str, int] | None = None,
        pinned_hashes: Mapping[str, str] | None = None,
        kind: str = "hub",
    ) -> None:
        self._cache = cache_folder()
        folder = self._cache / f"models--{repository.replace('/', '--')}" / "snapshots" / commit
        super().__init__(folder, pinned_hashes, kind)
        self.repository, self.commit = self._at = (repository, commit)
        self._sizes = dict(sizes or {})

    @override
    def has(self, name: str) -> bool:
        known = _from_cache(*self._at, name, self._cache)
        if name in self.pinned_hashes or known is not None:
            return name in self.pinned_hashes or isinstance(known, str)
        try:
            self.path(name)
        except CheckpointError as error:
            if error.code != "missing-file":
                raise
            return False
        return True

    @override
    def path(self, name: str, size: int | None = None) -> Path:
        if size is not None:
            self._sizes.setdefault(name, size)
        known = _from_cache(*self._at, name, self._cache)
        return Path(known) if isinstance(known, str) else self._fetch(name)

    @override
    def refetch(self, name: str) -> bool:
        try:
            self._fetch(name, force=True)
        except (HubError, OSError):
            return False
        return True

    @override
    def check_bytes(self, path: Path, raw: bytes) -> None:
        super().check_bytes(path, raw)
        # The cache names content by the Hub's id: git's for small files, the sha256 for large ones. The id is
        # lost on systems without symbolic links.
        expected = path.resolve().name
        found = hashlib.sha256(raw).hexdigest() if len(expected) == 64 else git_id(raw)
        if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", expected) and found != expected:
            raise CheckpointError("hash-mismatch", f"{path} has the id {found}, expected {expected}")

    def _fetch(self, name: str, *, force: bool = False) -> Path:
        repository, wanted = self._at
        where, expected = f"{repository}@{wanted}", self._sizes.get(name)
        try:
            size, commit = _file_metadata(repository, wanted, name)
        except CheckpointError as error:
            if error.code != "missing-file":
                raise
            # The client records in its cache that this commit does not have the file.
            return download(repository, wanted, name, self._cache, size=0)
        if commit != wanted:
            raise HubError("failed", f"{where} was requested, the Hub answered with commit {commit}")
        if expected is None and name != WEIGHTS:
            _check_announced_size(where, name, size)
        elif expected is not None and size not in (None, expected):
            text = f"{where}: {name} has {size:,} bytes on the Hub, expected {expected:,}"
            raise CheckpointError("size-mismatch", text)
        known = self.folder / name
        if force and known.is_file() and not known.is_symlink():
            # On systems without symbolic links, the client keeps a file that exists.
            known.unlink()
        size = expected if size is None else size
        return download(repository, wanted, name, self._cache, size=size, force=force)


def resolve(repository: str, revision: str) -> str:
    """The commit that a revision names now; a commit is returned as it is, without a request.

    If the Hub does not answer, the commit in the cache is returned, with a warning unless offline.

    Raises:
        HubError: the revision does not exist, or cannot be resolved.
        CheckpointError: the repository holds no `config.json`.
    """
    if COMMIT.fullmatch(revision):
        return revision
    cache = cache_folder()
    try:
        size, commit = _file_metadata(repository, revision, CONFIG)
        _check_announced_size(f"{repository}@{revision}", CONFIG, size)
        # Under the revision's name, so that the client records the commit.
        download(repository, revision, CONFIG, cache, size=size)
        return commit
    except HubError as error:
        known = _from_cache(repository, revision, CONFIG, cache) if error.code in UNANSWERED else None
        if not isinstance(known, str):
            raise
        commit = Path(known).parent.name
        if error.code != "not-cached":
            text = f"{error}; {repository}@{revision} resolves to {commit}, as it did last"
            warn_diagnostic("hub-unreachable", text)
        return commit


def download(
    repository: str,
    revision: str,
    name: str,
    cache: Path,
    *,
    size: int | None,
    force: bool = False,
) -> Path:
    """Download a file into a cache, unless it is there.

    Args:
        repository: `owner/name`.
        revision: a branch, tag or commit.
        name: of the file.
        cache: the client's cache folder.
        size: the file's bytes; None allows those of a JSON file.
        force: whether to download a file that is there.

    Raises:
        HubError, CheckpointError: the download failed; the cache is as it was.
    """

    def get() -> Path:
        limit = MAX_JSON_BYTES if size is None else size
        with hub_requests(repository, revision, name, limit=limit):
            return Path(
                huggingface_hub.hf_hub_download(
                    repository,
                    name,
                    revision=revision,
                    cache_dir=cache,
                    force_download=force,
                    endpoint=endpoint(),
                )
            )

    # The client itself retries after rate limits and interrupted transfers.
    return with_retries(get, frozenset({"server-error"}))


def git_id(raw: bytes) -> str:
    """The id that git, and so the Hub, gives a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(raw) + raw, usedforsecurity=False).hexdigest()


def _file_metadata(repository: str, revision: str, name: str) -> tuple[int | None, str]:
    """A file's size, if the Hub announces it, and the commit that holds it."""
    where = f"{repository}@{revision}"
    if offline():
        text = f"{where}: {name} is not in the cache {cache_folder()}, and HF_HUB_OFFLINE is set"
        raise HubError("not-cached", f"{text}; load it once with a network, or see `aezoo pull`")
    url = huggingface_hub.hf_hub_url(repository, name, revision=revision, endpoint=endpoint())

    def ask() -> tuple[int | None, str | None]:
        with hub_requests(repository, revision, name):
            metadata = huggingface_hub.get_hf_file_metadata(url)
            return metadata.size, metadata.commit_hash

    try:
        size, commit = with_retries(ask)
    except CheckpointError as error:
        if error.code == "missing-file" and name == CONFIG:
            raise CheckpointError("not-a-variant", f"{where} is not an aezoo variant: no {CONFIG}") from error
        raise
    if commit is None:
        text = f"{endpoint()} does not answer as the Hub does: no commit in its answer; see HF_ENDPOINT"
        raise HubError("server-error", text)
    return size, commit


def _from_cache(repository: str, revision: str, name: str, cache: Path) -> object:
    """The path of a cached file; None if it is unknown, another object if it is known not to exist."""
    with translated_errors(repository, revision, name):
        return huggingface_hub.try_to_load_from_cache(repository, name, cache_dir=cache, revision=revision)


def _check_announced_size(where: str, name: str, size: int | None) -> None:
    if size is not None and size > MAX_JSON_BYTES:
        text = f"{where}: {name} has {size:,} bytes, more than the {MAX_JSON_BYTES:,} allowed"
        raise CheckpointError("invalid-config", text)
