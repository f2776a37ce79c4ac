"""Requests, replies, and faults that change them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

Port = Literal["hub", "cdn"]
Kind = Literal[
    "drop",  # the connection is closed; nothing is done and nothing is answered
    "lost",  # the request is carried out, then the connection is closed without an answer
    "delay",  # everything happens `delay` seconds later
    "status",  # nothing is done; the answer is `status`, with `retry_after` if given
    "truncate",  # the full length is announced, half of the body is sent, and the connection is closed
    "short",  # half of the body is announced and sent
    "longer",  # `size` is announced, by default one more than twice the real size; the body is the real one
    "endless",  # the body, without an announced length, is repeated without end
    "slow",  # the body comes a byte at a time, `delay` seconds apart
    "corrupt",  # one byte of the body is changed; length and headers stay
    "no-commit-header",  # the answer lacks X-Repo-Commit
    "headers",  # `headers` replace those of the answer
    "body",  # `body` replaces that of the answer
    "garbage-json",  # the body is not JSON, whatever its Content-Type says
]


@dataclass
class Request:
    """A request as it came in; its status is 0 until it is answered."""

    method: str
    path: str
    """With the query, percent-encoded as it was sent."""
    port: Port
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """With names in lower case."""
    body: bytes = field(default=b"", repr=False)
    status: int = 0

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body or b"null")

    def query(self, name: str) -> str:
        """The value of a query argument, empty if it is missing."""
        return parse_qs(urlsplit(self.path).query).get(name, [""])[0]


@dataclass(frozen=True)
class Reply:
    """The answer to a request."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    announced: int | None = None
    """The Content-Length; by default the body's length."""
    sent: int | None = None
    """Bytes of the body that are sent before the connection is closed; by default all."""
    endless: bool = False
    """Whether the body is repeated without end."""
    pause: float = 0.0
    """Seconds between single bytes of the body; 0 sends it at once."""


@dataclass
class Fault:
    """Something that goes wrong with the requests it matches."""

    kind: Kind
    match: str = ""
    """A regular expression to find in "METHOD /path?query", percent-decoded."""
    port: Port | None = None
    times: int | None = None
    """How often the fault happens before it heals; None: always."""
    after: int = 0
    """How many matching requests are spared first."""
    status: int = 503
    delay: float = 0.0
    retry_after: int | None = None
    size: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    seen: int = 0
    """How many requests have matched so far."""

    @property
    def fired(self) -> int:
        """How often the fault has happened so far."""
        happened = max(0, self.seen - self.after)
        return happened if self.times is None else min(happened, self.times)

    def strikes(self, request: Request) -> bool:
        """Count a request; return whether the fault happens to it."""
        line = f"{request.method} {unquote(request.path)}"
        if self.port not in (None, request.port) or not re.search(self.match, line):
            return False
        before = self.fired
        self.seen += 1
        return self.fired > before

    def spoil(self, reply: Reply) -> Reply:
        """The reply with the fault in it."""
        headers, body = dict(reply.headers), reply.body
        # A redirection has no body of its own; the file's size is in this header.
        linked = headers.get("X-Linked-Size")
        size = len(body) if linked is None else int(linked)
        match self.kind:
            case "truncate":
                return replace(reply, sent=len(body) // 2)
            case "short" if linked is None:
                return replace(reply, body=body[: size // 2])
            case "short":
                return replace(reply, headers=headers | {"X-Linked-Size": str(size // 2)})
            case "longer":
                announced = 2 * size + 1 if self.size is None else self.size
                if linked is None:
                    return replace(reply, announced=announced, sent=size)
                return replace(reply, headers=headers | {"X-Linked-Size": str(announced)})
            case "endless":
                return replace(reply, body=body or b"?", endless=True)
            case "slow":
                return replace(reply, pause=self.delay)
            case "body":
                return replace(reply, body=self.body)
            case "corrupt" if body:
                flipped = bytearray(body)
                flipped[len(body) // 2] ^= 0xFF
                return replace(reply, body=bytes(flipped))
            case "no-commit-header":
                headers.pop("X-Repo-Commit", None)
                return replace(reply, headers=headers)
            case "headers":
                return replace(reply, headers=headers | dict(self.headers))
            case "garbage-json":
                return replace(reply, body=b"<html>This is not JSON.")
            case _:
                return reply


class RefusalError(Exception):
    """A request that is answered with an error; `code` is what the client tells errors apart by."""

    def __init__(self, status: int, code: str, message: str, **content: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.content = status, code, content

    def reply(self) -> Reply:
        """The error as a reply."""
        headers = {"X-Error-Message": str(self)}
        if self.code:
            headers["X-Error-Code"] = self.code
        if commit := self.content.pop("commit", None):
            headers["X-Repo-Commit"] = commit
        return replace(json_reply({"error": str(self), **self.content}, headers), status=self.status)


def json_reply(content: Any, headers: Mapping[str, str] | None = None) -> Reply:
    """A reply in JSON."""
    headers = {"Content-Type": "application/json", **(headers or {})}
    return Reply(body=json.dumps(content).encode(), headers=headers)
