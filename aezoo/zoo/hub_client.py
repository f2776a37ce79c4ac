"""The Hub's client, huggingface_hub: its environment, retries, and errors in one line.

The client reads most environment variables when it is imported. `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE` and
`HF_HUB_OFFLINE` are read here on every call.
"""

import errno
import os
import ssl
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

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

from aezoo.errors import AezooError, CheckpointError, HubError, UnknownVariantError
from aezoo.zoo.hub_session import guarded_session
from aezoo.zoo.schema import MAX_JSON_BYTES

WAITS = (0.5, 2.0)
"""Seconds before the first and the second retry."""
TRANSIENT = frozenset({"server-error", "rate-limit", "interrupted"})
"""Codes of errors after which a request is retried."""
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
BY_CLASS: tuple[tuple[type[Exception], str, str], ...] = (
    (GatedRepoError, "gated", f"is gated: accept its conditions on its page, then {LOG_IN}"),
    (RepositoryNotFoundError, "no-repository", f"does not exist, or is private; {LOG_IN}"),
    (RevisionNotFoundError, "no-revision", "does not exist: no such branch, tag or commit"),
)
"""The client's exceptions, the code of the error, and its message."""
UNAUTHORIZED = f"the token is missing, expired, or not permitted to do this; {LOG_IN}"
BY_STATUS = {
    401: ("unauthorized", UNAUTHORIZED),
    403: ("unauthorized", UNAUTHORIZED),
    412: ("failed", "somebody else has committed meanwhile; nothing was changed, try again"),
    429: ("rate-limit", "too many requests; wait, or log in"),
}
# By name, since each major version of the client uses another HTTP library.
INTERRUPTED = frozenset(
    {"RemoteProtocolError", "ReadError", "WriteError", "IncompleteRead", "ChunkedEncodingError"}
)
UNREACHABLE = frozenset({"TransportError", "ConnectionError", "RequestException", "TimeoutError"})
T = TypeVar("T")


def offline() -> bool:
    """Whether `HF_HUB_OFFLINE` forbids requests."""
    value = os.environ.get("HF_HUB_OFFLINE", "").upper()
    return value in ("1", "ON", "YES", "TRUE") or bool(constants.HF_HUB_OFFLINE)


def endpoint() -> str:
    """The URL of the Hub."""
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def cache_folder() -> Path:
    """The folder in which the client caches repositories."""
    cache, home = os.environ.get("HF_HUB_CACHE"), os.environ.get("HF_HOME")
    found = cache or (home and f"{home}/hub") or constants.HF_HUB_CACHE
    return Path(os.path.expandvars(found)).expanduser()


def with_retries(call: Callable[[], T], codes: frozenset[str] = TRANSIENT) -> T:
    """The result of a call, which is repeated up to twice after a `HubError` with one of these codes."""
    for wait in WAITS:
        try:
            return call()
        except HubError as error:
            if error.code not in codes:
                raise
            time.sleep(wait)
    return call()


@contextmanager
def hub_requests(
    repository: str,
    revision: str | None = None,
    name: str | None = None,
    *,
    limit: int = MAX_JSON_BYTES,
) -> Generator[None]:
    """Guard the client's requests (see `guarded_session`), and translate its exceptions.

    Args:
        repository: to name in messages.
        revision: to name in messages, if given.
        name: of the requested file, if any.
        limit: bytes that the body of an answer may have.
    """
    where = repository if revision is None else f"{repository}@{revision}"
    with (
        translated_errors(repository, revision, name),
        guarded_session(endpoint(), where if name is None else f"{where}: {name}", limit),
    ):
        yield


@contextmanager
def translated_errors(
    repository: str, revision: str | None = None, name: str | None = None
) -> Generator[None]:
    """Turn the client's exceptions into aezoo's, which keep them as their cause.

    Args:
        repository: to name in messages.
        revision: to name in messages, if given.
        name: of the requested file, if any.
    """
    try:
        yield
    except (AezooError, KeyboardInterrupt):
        raise
    except Exception as error:
        where = repository if revision is None else f"{repository}@{revision}"
        raise _to_hub_error(error, where, name) from error


def one_line(error: BaseException) -> str:
    """An exception's message without line breaks; its class if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def _to_hub_error(error: Exception, where: str, name: str | None) -> AezooError:
    what = where if name is None else f"{where}: {name}"
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, AezooError):
            # Raised by a hook of the session, and wrapped by the client.
            return link
        if found := _from_client(link, where, what, name) or _from_disk(link, what):
            return found
    cause = chain[-1]
    kinds = {cls.__name__ for link in chain for cls in type(link).__mro__}
    if "Consistency check" in str(cause) or kinds & INTERRUPTED:
        return HubError("interrupted", f"{what}: the transfer was interrupted; try again")
    if kinds & UNREACHABLE:
        text = f"{what}: {endpoint()} cannot be reached{_proxy_hint()}: {one_line(cause)}"
        if any(isinstance(link, ssl.SSLCertVerificationError) for link in chain):
            text += "; if you use your own certificate authority, name it with SSL_CERT_FILE"
        return HubError("unreachable", text)
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if (place := os.environ.get(variable)) and not Path(place).exists():
            return HubError("failed", f"{what}: {variable} names {place}, which does not exist")
    return HubError("failed", f"{what}: {type(error).__name__}: {one_line(error)}")


def _from_client(link: BaseException, where: str, what: str, name: str | None) -> AezooError | None:
    """The error for one of the client's exceptions or for an HTTP status."""
    for cls, code, text in BY_CLASS:
        if isinstance(link, cls):
            return HubError(code, f"{where} {text}")
    if isinstance(link, HFValidationError):
        return UnknownVariantError(f"{where} is not the name of a repository: {one_line(link)}")
    if isinstance(link, OfflineModeIsEnabled):
        text = f"{what} is not in the cache {cache_folder()}, and HF_HUB_OFFLINE is set"
        return HubError("not-cached", text)
    if isinstance(link, EntryNotFoundError) and not isinstance(link, LocalEntryNotFoundError):
        return CheckpointError("missing-file", f"{where} has no {name or 'such file'}")
    status = getattr(getattr(link, "response", None), "status_code", None) or 0
    status = 401 if isinstance(link, LocalTokenNotFoundError) else status
    if status in BY_STATUS or status >= 500:
        server_error = ("server-error", f"the Hub answered with status {status}; try again later")
        code, text = BY_STATUS.get(status, server_error)
        return HubError(code, f"{what}: {text}")
    return HubError("failed", f"{what}: {one_line(link)}") if isinstance(link, HfHubHTTPError) else None


def _from_disk(link: BaseException, what: str) -> HubError | None:
    if not isinstance(link, OSError):
        return None
    if link.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        text = f"{what}: the disk under {cache_folder()} is full ({os.strerror(link.errno)})"
        return HubError("cache", text)
    # Errors of sockets and certificates are OSErrors as well, but name no file.
    if link.filename is not None:
        return HubError("cache", f"{what}: {cache_folder()} cannot be written ({link.strerror}); see HF_HOME")
    return None


def _proxy_hint() -> str:
    """The proxy in use, if any, without the password in its address."""
    url = urlsplit(endpoint())
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(url.hostname or ""):
        return ""
    return f" through the proxy {proxy.rpartition('@')[2].rpartition('//')[2]}"


def _chain(error: BaseException | None) -> Generator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
