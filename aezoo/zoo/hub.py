"""Variants on the Hugging Face Hub: fetched through its client's own cache, and published.

The client decides where the Hub is, what is cached where, and whose token is used; `HF_ENDPOINT`, `HF_HOME`,
`HF_HUB_CACHE` and `HF_HUB_OFFLINE` are looked at anew on every call, which it does only when it is imported.
What it delivers is not believed: it takes content of the right length for the right content, and serves it
from its cache from then on.
"""

import errno
import hashlib
import os
import re
import ssl
import tempfile
import time
import urllib.request
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from aezoo.errors import AezooError, CheckpointError, HubError, UnknownVariantError, warn_diagnostic
from aezoo.zoo.schema import CONFIG, FILES, MAX_CONFIG_BYTES, WEIGHTS
from aezoo.zoo.verify import VariantFiles

COMMIT = re.compile(r"[0-9a-f]{40}")
# Both become parts of paths in the client's cache.
ADDRESS = re.compile(r"(hub:)?(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>\w[\w./+-]{0,199}))?", re.ASCII)
WAITS = (0.5, 2.0)
"""Seconds before the Hub is asked again that said that it could not just now."""
TRANSIENT = frozenset({"server-error", "rate-limit", "interrupted"})
"""Codes of errors after which a request is retried."""
UNANSWERED = TRANSIENT | {"not-cached", "unreachable"}
"""Codes of errors after which the revision that the cache remembers is used."""
T = TypeVar("T")


class Address(NamedTuple):
    """Where a variant is on the Hub.

    Attributes:
        repository: `owner/name`.
        revision: a branch, tag or commit; None where none was named.
    """

    repository: str
    revision: str | None


def read_address(text: str) -> Address:
    """The address that `hub:owner/name@revision` spells.

    Raises:
        UnknownVariantError: it spells none.
    """
    found = ADDRESS.fullmatch(text)
    if found is None or ".." in text:
        where = "where REVISION is a tag, a branch or a commit"
        raise UnknownVariantError(f"{text!r}: expected hub:OWNER/NAME or hub:OWNER/NAME@REVISION, {where}")
    try:
        validate_repo_id(found["repository"])
    except HFValidationError as error:
        raise UnknownVariantError(f"{text!r}: {_line(error)}") from error
    return Address(found["repository"], found["revision"])


# -- fetching -----------------------------------------------------------------------------------------


class Repository(VariantFiles):
    """A variant's files at one commit of a repository, fetched when they are asked for.

    Args:
        repository: `owner/name`.
        commit: 40 hexadecimal digits.
        sizes: file -> bytes, where an index knows.
    """

    def __init__(self, repository: str, commit: str, sizes: Mapping[str, int] | None = None) -> None:
        self.sizes = dict(sizes or {})
        self.cache = cache_folder()
        folder = f"models--{repository.replace('/', '--')}"
        super().__init__(self.cache / folder / "snapshots" / commit, repository, commit)
        self.at = (repository, commit)

    def has(self, name: str) -> bool:
        """Whether the commit holds such a file; the Hub is asked once."""
        known = self._known(name)
        if known is not None:
            return isinstance(known, str)
        try:
            self.path(name)
        except CheckpointError as error:
            if error.code != "missing-file":
                raise
            return False
        return True

    def path(self, name: str, size: int | None = None) -> Path:
        """Where a file lies in the cache, fetched where it is not there.

        Small files are held against the id by which the Hub knows them; the weights' hash is the reader's
        to check, over the very bytes that it parses.
        """
        if size is not None:
            # Also for when it is fetched anew.
            self.sizes.setdefault(name, size)
        known = self._known(name)
        found = Path(known) if isinstance(known, str) else self._fetch(name)
        if name != WEIGHTS and _problem(found) and self.refetch(name):
            found = self.folder / name
        if name != WEIGHTS and (problem := _problem(found)):
            raise CheckpointError("hash-mismatch", problem)
        return found

    def refetch(self, name: str) -> bool:
        """Fetches a file anew, whatever the cache holds; False where that cannot be done."""
        known, aside = self.folder / name, self.folder / f"{name}.before"
        try:
            if known.is_file() and not known.is_symlink():
                # Where the system has no links, the client leaves the file that is there.
                known.replace(aside)
            self._fetch(name, force=True)
        except (HubError, OSError):
            return False
        finally:
            if aside.exists() and known.exists():
                aside.unlink()
            elif aside.exists():
                aside.replace(known)
        return True

    def _known(self, name: str) -> object:
        """Where the cache has a file; None where nobody asked yet, something else where there is none."""
        repository, commit = self.at
        with explained(repository, commit, name):
            return huggingface_hub.try_to_load_from_cache(
                repository, name, cache_dir=self.cache, revision=commit
            )

    def _fetch(self, name: str, *, force: bool = False) -> Path:
        repository, wanted = self.at
        expected = self.sizes.get(name)
        where = f"{repository}@{wanted}"
        try:
            found, commit = _asked(repository, wanted, name)
        except CheckpointError as error:
            if error.code != "missing-file":
                raise
            if name == CONFIG:
                raise CheckpointError(
                    "not-a-variant", f"{where} is no aezoo variant: it has no {CONFIG}"
                ) from error
            # The client finds out, too, and remembers.
            return _download(repository, wanted, name, self.cache)
        if commit != wanted:
            raise HubError("failed", f"{where} was asked for, the Hub answered with commit {commit}")
        if expected is not None and found is not None and found != expected:
            raise CheckpointError(
                "size-mismatch", f"{where}: {name} has {found:,} bytes there, expected {expected:,}"
            )
        if expected is None and name != WEIGHTS:
            _refuse_large(where, name, found)
        return _download(repository, wanted, name, self.cache, force=force)


def resolve(repository: str, revision: str) -> str:
    """The commit that a revision means now; a commit means itself, without a request.

    Where the Hub does not answer, the revision means what it last did here, if that is in the cache.

    Raises:
        HubError: one subclass for each thing that can go wrong.
        NotAVariantError: the repository holds no `config.json`.
    """
    if COMMIT.fullmatch(revision):
        return revision
    try:
        size, commit = _asked(repository, revision, CONFIG)
        _refuse_large(f"{repository}@{revision}", CONFIG, size)
        # By the revision's name, so that the client remembers what it means.
        _download(repository, revision, CONFIG, cache_folder())
        return commit
    except CheckpointError as error:
        if error.code != "missing-file":
            raise
        raise CheckpointError(
            "not-a-variant", f"{repository}@{revision} is no aezoo variant: it has no {CONFIG}"
        ) from error
    except HubError as error:
        if error.code not in UNANSWERED:
            raise
        with explained(repository, revision, CONFIG):
            known = huggingface_hub.try_to_load_from_cache(
                repository, CONFIG, cache_dir=cache_folder(), revision=revision
            )
        if not isinstance(known, str):
            raise
        commit = Path(known).parent.name
        if error.code != "not-cached":
            warn_diagnostic(
                "hub-unreachable", f"{error}; {repository}@{revision} is taken to be {commit}, as it last was"
            )
        return commit


def offline() -> bool:
    """Whether no request may be made, by `HF_HUB_OFFLINE`."""
    asked = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    return asked or bool(constants.HF_HUB_OFFLINE)


def endpoint() -> str:
    """Where the Hub is."""
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def cache_folder() -> Path:
    """Where the client caches repositories."""
    named, home = os.environ.get("HF_HUB_CACHE"), os.environ.get("HF_HOME")
    found = named or (home and f"{home}/hub") or constants.HF_HUB_CACHE
    return Path(os.path.expandvars(found)).expanduser()


def _asked(repository: str, revision: str, name: str) -> tuple[int | None, str]:
    """A file's size, where the Hub says it, and the commit that holds it."""
    if offline():
        raise HubError(
            "not-cached",
            f"{repository}@{revision}: {name} is not in the cache {cache_folder()}, and HF_HUB_OFFLINE is "
            f"set; "
            "load it once with a network, or see `aezoo pull`",
        )
    url = huggingface_hub.hf_hub_url(repository, name, revision=revision, endpoint=endpoint())

    def ask() -> tuple[int | None, str | None]:
        with explained(repository, revision, name):
            about = huggingface_hub.get_hf_file_metadata(url)
            return about.size, about.commit_hash

    size, commit = _patiently(ask)
    if commit is None:
        raise HubError(
            "server-error",
            f"{endpoint()} does not answer as the Hub does: it names no commit; see HF_ENDPOINT",
        )
    return size, commit


def _download(repository: str, revision: str, name: str, cache: Path, *, force: bool = False) -> Path:
    def get() -> Path:
        with explained(repository, revision, name):
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

    return _patiently(get, retried_by_client=("rate-limit", "interrupted"))


def _patiently(call: Callable[[], T], *, retried_by_client: tuple[str, ...] = ()) -> T:
    """What a call gives, which is tried again while the Hub cannot just now.

    Args:
        call: may raise a `HubError`.
        retried_by_client: codes of errors after which the client has already retried.
    """
    for wait in WAITS:
        try:
            return call()
        except HubError as error:
            if error.code not in TRANSIENT or error.code in retried_by_client:
                raise
            time.sleep(wait)
    return call()


def _refuse_large(where: str, name: str, size: int | None) -> None:
    if size is not None and size > MAX_CONFIG_BYTES:
        raise CheckpointError(
            "invalid-config",
            f"{where}: {name} has {size:,} bytes, more than the {MAX_CONFIG_BYTES:,} allowed",
        )


def _problem(path: Path) -> str | None:
    """In what a cached file differs from the id that the Hub gave it; None where it does not.

    The cache names content by that id: git's of a small file, the sha256 of a large one. Where the system
    has no links the name is lost, and there is nothing to compare with.
    """
    name = path.resolve().name
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", name):
        return None
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise HubError("cache", f"{path} cannot be read: {error.strerror}") from error
    found = git_id(raw) if len(name) == 40 else hashlib.sha256(raw).hexdigest()
    return None if found == name else f"{path} has the id {found}, expected {name}"


def git_id(raw: bytes) -> str:
    """The id by which git, and so the Hub, knows content."""
    return hashlib.sha1(b"blob %d\0" % len(raw) + raw, usedforsecurity=False).hexdigest()


# -- what went wrong ----------------------------------------------------------------------------------


@contextmanager
def explained(repository: str, revision: str | None = None, name: str | None = None) -> Generator[None]:
    """Within, whatever the client raises becomes one of aezoo's errors, which keeps it as its cause."""
    try:
        yield
    except (AezooError, KeyboardInterrupt):
        raise
    except Exception as error:
        where = repository if revision is None else f"{repository}@{revision}"
        raise _translated(error, where, name) from error


def _translated(error: Exception, where: str, name: str | None) -> AezooError:
    chain = list(_chain(error))
    what = where if name is None else f"{where}: {name}"
    for link in chain:
        status = getattr(getattr(link, "response", None), "status_code", None)
        code = getattr(link, "errno", None)
        if isinstance(link, GatedRepoError):
            text = "is gated: accept its conditions on its page, then log in (`hf auth login`, or HF_TOKEN)"
            return HubError("gated", f"{where} {text}")
        if isinstance(link, RepositoryNotFoundError):
            text = "is no repository, or a private one that the token, if there is one, may not read"
            return HubError("no-repository", f"{where} {text}; log in with `hf auth login`, or set HF_TOKEN")
        if isinstance(link, RevisionNotFoundError):
            return HubError("no-revision", f"{where}: there is no such branch, tag or commit")
        if isinstance(link, HFValidationError):
            return UnknownVariantError(f"{where} is no repository's name: {_line(link)}")
        if isinstance(link, LocalTokenNotFoundError) or status in (401, 403):
            text = "the token is missing, expired, or may not do this"
            return HubError("unauthorized", f"{what}: {text}; log in with `hf auth login`, or set HF_TOKEN")
        if isinstance(link, EntryNotFoundError) and not isinstance(link, LocalEntryNotFoundError):
            return CheckpointError("missing-file", f"{where} has no {name or 'such file'}")
        if isinstance(link, OfflineModeIsEnabled):
            return HubError(
                "not-cached", f"{what} is not in the cache {cache_folder()}, and HF_HUB_OFFLINE is set"
            )
        if status == 429:
            return HubError("rate-limit", f"{what}: the Hub takes no more requests for now; wait, or log in")
        if isinstance(status, int) and status >= 500:
            return HubError("server-error", f"{what}: the Hub answered with status {status}; try again later")
        if status == 412:
            return HubError(
                "failed",
                f"{what}: a commit has happened since it was looked at; nothing was changed, do it again",
            )
        if isinstance(link, HfHubHTTPError):
            return HubError("failed", f"{what}: {_line(link)}")
        if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return HubError("cache", f"{what}: the disk under {cache_folder()} is full ({os.strerror(code)})")
        # Networks and certificates have such errors too, which are of no file; a certificate's number is 1,
        # as if something were not permitted.
        if isinstance(link, OSError) and link.filename is not None:
            return HubError(
                "cache", f"{what}: {cache_folder()} cannot be written ({link.strerror}); see HF_HOME"
            )
    kinds = {cls.__name__ for link in chain for cls in type(link).__mro__}
    if "Consistency check" in str(chain[-1]) or kinds & CUT_SHORT:
        return HubError("interrupted", f"{what}: the transfer ended before all of it was through; try again")
    vain = any(isinstance(link, ssl.SSLCertVerificationError) for link in chain)
    hint = "; where the authority is one of your own, name it with SSL_CERT_FILE" if vain else ""
    if kinds & UNREACHABLE:
        return HubError(
            "unreachable", f"{what}: {endpoint()} cannot be reached{_way()}: {_line(chain[-1])}{hint}"
        )
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if (place := os.environ.get(variable)) and not Path(place).exists():
            return HubError("failed", f"{what}: {variable} names {place}, which is not there")
    return HubError("failed", f"{what}: {type(error).__name__}: {_line(error)}")


def _way() -> str:
    """Through which proxy, if any, without a password in its address."""
    url = urlsplit(endpoint())
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(url.hostname or ""):
        return ""
    return f" through the proxy {proxy.rpartition('@')[2].rpartition('//')[2]}"


# By name: which package they are of depends on the client's version.
CUT_SHORT = frozenset(
    {"RemoteProtocolError", "ReadError", "WriteError", "IncompleteRead", "ChunkedEncodingError"}
)
UNREACHABLE = frozenset({"TransportError", "ConnectionError", "RequestException", "TimeoutError"})


def _chain(error: BaseException | None) -> Generator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


# -- publishing ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Published:
    """What became of a publication.

    Attributes:
        repository: `owner/name`.
        commit: that holds it.
        url: of its page.
        changed: files that were uploaded or removed; none where all of it was there already.
    """

    repository: str
    commit: str
    url: str
    changed: tuple[str, ...]


def user() -> str:
    """The name of the user whose token this is.

    Raises:
        RefusedError: there is none.
    """
    with explained("your account"):
        return str(cast(dict[str, Any], _api().whoami())["name"])


def publish(
    repository: str,
    contents: Mapping[str, bytes],
    *,
    private: bool = False,
    tag: str | None = None,
    released: str | None = None,
) -> Published:
    """Makes a repository hold these files, in one commit, and compares all of it with what comes back.

    What is there already is not uploaded again; dying half-way leaves the last version as it was.

    Args:
        repository: `owner/name`; made where there is none.
        contents: file -> bytes.
        private: whether a repository that is made is visible to its owner alone.
        tag: for the commit; one that is there never moves.
        released: the commit whose config and weights these must be, where the name means them already.

    Raises:
        PublishedError: a tag would move, or released bytes would change.
        HashError: other bytes came back than were sent; the tag was not made.
        HubError: one subclass for each thing that can go wrong.
    """
    api = _api()
    with explained(repository):
        api.create_repo(repository, private=private, exist_ok=True)
        before = api.model_info(repository, files_metadata=True)
        tags = {ref.name: ref.target_commit for ref in api.list_repo_refs(repository).tags}
    there = {file.rfilename: file for file in before.siblings or []}
    sent = [name for name, raw in contents.items() if not _is(there.get(name), raw)]
    gone = [name for name in there if name in FILES and name not in contents]
    if released is not None:
        _refuse_other(repository, released, contents)
    commit = str(before.sha)
    if tag in tags and (sent or gone or tags[tag] != commit):
        raise HubError(
            "immutable",
            f"the tag {tag} of {repository} is of commit {tags[tag]} and stays there; take another",
        )
    if sent or gone:
        operations = [
            *(huggingface_hub.CommitOperationAdd(name, contents[name]) for name in sent),
            *(huggingface_hub.CommitOperationDelete(name) for name in gone),
        ]
        with explained(repository):
            made = api.create_commit(
                repository,
                operations,
                commit_message=f"aezoo: {', '.join([*sent, *gone])}",
                parent_commit=commit,
            )
        commit = str(made.oid)
    _compare(repository, commit, contents)
    if tag is not None and tag not in tags:
        with explained(repository, tag):
            api.create_tag(repository, tag=tag, revision=commit)
    return Published(repository, commit, f"{endpoint()}/{repository}", (*sent, *gone))


def _refuse_other(repository: str, released: str, contents: Mapping[str, bytes]) -> None:
    """Refuses another config or other weights than a commit holds."""
    try:
        with explained(repository, released):
            found = _api().model_info(repository, revision=released, files_metadata=True)
    except HubError as error:
        if error.code != "no-revision":
            raise
        return  # Nothing is left that they could differ from.
    held = {file.rfilename: file for file in found.siblings or []}
    other = [name for name in (CONFIG, WEIGHTS) if name in held and not _is(held[name], contents[name])]
    if other:
        text = f"{' and '.join(other)} of {repository} would change, and a released name keeps its bytes"
        raise HubError("immutable", f"{text}; publish better weights under a new name")


def _api() -> huggingface_hub.HfApi:
    return huggingface_hub.HfApi(endpoint=endpoint(), library_name="aezoo")


def _is(there: Any, raw: bytes) -> bool:
    """Whether a file of a repository is these bytes, by what the Hub says of it."""
    if there is None:
        return False
    if there.lfs is not None:
        return bool(there.lfs.sha256 == hashlib.sha256(raw).hexdigest())
    return bool(there.blob_id == git_id(raw))


def _compare(repository: str, commit: str, contents: Mapping[str, bytes]) -> None:
    """Refuses other bytes than these, fetched into a cache that holds nothing."""
    with tempfile.TemporaryDirectory(prefix="aezoo-") as folder:
        for name, raw in contents.items():
            found = _download(repository, commit, name, Path(folder)).read_bytes()
            if found != raw:
                digests = [hashlib.sha256(data).hexdigest() for data in (found, raw)]
                raise CheckpointError(
                    "hash-mismatch",
                    f"{repository}@{commit}: {name} came back with sha256 {digests[0]}, sent was {digests[1]}",
                )
