"""What the Hub's client may send and receive while aezoo uses it.

The client sends the token to any address that a server names for the check after an upload, follows headers
into paths of its cache, and reads answers without limits on size and time. The hooks of its HTTP session see
every request and every answer, also those that the client makes by itself.
"""

import importlib
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from aezoo.errors import HubError
from aezoo.text import printable
from aezoo.zoo.schema import MAX_JSON_BYTES

_http: Any = importlib.import_module("huggingface_hub.utils._http")
COMMIT = re.compile(r"[0-9a-f]{40}")
ETAG = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,127}")
HEADERS = {"X-Repo-Commit": ("commit", COMMIT), "ETag": ("ETag", ETAG), "X-Linked-Etag": ("ETag", ETAG)}
"""Headers that become parts of paths in the client's cache, what they hold, and what they may be."""
SLACK = 65_536
"""Bytes of a body beyond the expected ones, such as the text of an error."""
PATIENCE = 60.0
"""Seconds after which a body must have come at `MIN_RATE` on average."""
MIN_RATE = 1024
"""Bytes per second."""


@dataclass(frozen=True)
class _Guard:
    """What is allowed while one `with` block runs."""

    endpoint: str
    where: str
    limit: int
    thread: int


_active: list[_Guard] = []


@contextmanager
def guarded_session(endpoint: str, where: str, limit: int = MAX_JSON_BYTES) -> Generator[None]:
    """Guard the client's session within a `with` block.

    - No request carries a token to another host than the endpoint's.
    - Headers that the client uses in paths are what the Hub would send.
    - The body of an answer to this thread has at most `limit` bytes and some slack, and comes at 1 KiB per
      second or faster on average, after the first minute.

    Args:
        endpoint: the URL of the Hub.
        where: the repository or file, for messages.
        limit: of a body, in bytes.

    Raises:
        HubError: within the block, for the request or answer that is refused.
    """
    factory = _http._GLOBAL_CLIENT_FACTORY
    if not isinstance(factory, _HookedFactory):
        # The client replaces its session after an error of the connection. `set_client_factory` would close
        # the session that other threads use.
        _http._GLOBAL_CLIENT_FACTORY = _HookedFactory(factory)
    _add_hooks(_http.get_session())
    guard = _Guard(endpoint, where, limit, threading.get_ident())
    _active.append(guard)
    try:
        yield
    finally:
        _active.remove(guard)


class _HookedFactory:
    """Makes sessions with hooks, from another factory."""

    def __init__(self, factory: Callable[[], Any]) -> None:
        self._factory = factory

    def __call__(self) -> Any:
        return _add_hooks(self._factory())


def _add_hooks(session: Any) -> Any:
    hooks = session.event_hooks
    if _check_request not in hooks["request"]:
        session.event_hooks = {
            "request": [*hooks["request"], _check_request],
            "response": [*hooks["response"], _check_response],
        }
    return session


def _own_guard() -> _Guard | None:
    """The innermost guard of this thread: other threads may belong to other users of the client."""
    return next((guard for guard in reversed(_active) if guard.thread == threading.get_ident()), None)


def _check_request(request: Any) -> None:
    if _own_guard() is not None:
        # A compressed body has no limit that could be checked before it is unpacked.
        request.headers["accept-encoding"] = "identity"
    # The client uploads in threads of its own, so every guard counts.
    guards = list(_active)
    if not guards or "authorization" not in request.headers:
        return
    homes = [type(request.url)(guard.endpoint) for guard in guards]
    if not any(_same_host(request.url, home) for home in homes):
        guard, host = guards[-1], printable(request.url.host, 100)
        text = f"{guard.where}: {guard.endpoint} asks to send your token to {host}; it was not sent"
        raise HubError("failed", text)


def _same_host(a: Any, b: Any) -> bool:
    return bool((a.scheme, a.host, a.port) == (b.scheme, b.host, b.port))


def _check_response(response: Any) -> None:
    guard = _own_guard()
    if guard is None:
        return
    for header, (what, pattern) in HEADERS.items():
        value = response.headers.get(header)
        # Only the answers to HEAD name files of the cache.
        asked = header == "X-Repo-Commit" or response.request.method == "HEAD"
        if asked and value is not None and not pattern.fullmatch(_unquoted(value)):
            text = f"the server names the {what} {printable(value, 100)!r}, which the Hub never does"
            raise HubError("failed", f"{guard.where}: {text}; see HF_ENDPOINT")
    encoding = response.headers.get("content-encoding", "identity")
    if response.is_success and encoding != "identity":
        text = f"the server compresses its answer ({printable(encoding, 40)}), which was not requested"
        raise HubError("failed", f"{guard.where}: {text}")
    response.stream = _limited(response.stream, guard.where, guard.limit)


def _unquoted(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def _limited(stream: Any, where: str, limit: int) -> Any:
    """A stream of bytes that ends with a `HubError` if it is too long or too slow."""
    # The client's HTTP library, and so the class that streams must have, differs between its versions.
    base = next(cls for cls in type(stream).__mro__ if cls.__name__ == "SyncByteStream")

    def read() -> Iterator[bytes]:
        begin, size = time.monotonic(), 0
        for part in stream:
            size += len(part)
            if size > limit + SLACK:
                text = f"the server sends more than the {limit:,} bytes that were expected"
                raise HubError("failed", f"{where}: {text}; the download was ended")
            seconds = time.monotonic() - begin
            if seconds > PATIENCE and size < seconds * MIN_RATE:
                text = f"the server sent {size:,} bytes in {seconds:.0f} seconds; the download was ended"
                raise HubError("interrupted", f"{where}: {text}")
            yield part

    def iterate(_: object) -> Iterator[bytes]:
        return read()

    def close(_: object) -> None:
        stream.close()

    return type("LimitedStream", (base,), {"__iter__": iterate, "close": close})()
