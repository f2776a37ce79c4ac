"""A stand-in for the Hugging Face Hub on loopback, with faults on demand, for the real client to talk to.

In a test: `with HubServer() as hub: hub.add("ann/net", {"a.txt": b"a"}); hf_hub_download(..., endpoint=hub.url)`.
As a program, `python tests/hub_server.py` prints its address and serves until it is stopped.

It keeps everything in memory and never offers Xet; where hf_xet is installed, HF_HUB_DISABLE_XET=1 must be
set before huggingface_hub is imported, since that client uploads by Xet without being asked to.
"""

import argparse
import base64
import contextlib
import datetime
import functools
import hashlib
import json
import re
import signal
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self, get_args
from urllib.parse import parse_qs, quote, unquote, urlsplit

Port = Literal["hub", "cdn"]
Kind = Literal[
    "drop",  # the connection is closed, nothing is done and nothing is answered
    "lost",  # what was asked for is done, and then the connection is closed without an answer
    "delay",  # everything happens `delay` seconds later
    "status",  # nothing is done, and `status` is answered, with `retry_after` where that is given
    "truncate",  # the whole length is announced, half of the body is sent, and the connection is closed
    "short",  # half of the body is sent, and announced, as if that were all
    "longer",  # `size` is announced, or one more than twice the real size; the body is the real one
    "corrupt",  # one byte of the body is another one; the length and all headers stay
    "no-commit-header",  # the answer lacks X-Repo-Commit
    "garbage-json",  # the body is no JSON, whatever its Content-Type says
]

LARGE = 1_000_000
"""Files of more bytes than this are kept apart from git, as are all safetensors."""
GIT_ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


@dataclass
class Request:
    """One request as it came in; its status is 0 as long as, or for ever when, it has no answer."""

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
        """The value of an argument behind the question mark, empty without one."""
        return parse_qs(urlsplit(self.path).query).get(name, [""])[0]


@dataclass(frozen=True)
class Reply:
    """What is answered to a request."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    announced: int | None = None
    """The Content-Length, where it is not the body's length."""
    sent: int | None = None
    """How many bytes of the body are sent before the connection is closed, where that is not all of them."""


@dataclass
class Fault:
    """Something that goes wrong with the requests it matches."""

    kind: Kind
    match: str = ""
    """A regular expression to be found in "METHOD /path?query", percent-decoded."""
    port: Port | None = None
    times: int | None = None
    """How often it happens before it heals; None: always."""
    after: int = 0
    """How many matching requests are spared first."""
    status: int = 503
    delay: float = 0.0
    retry_after: int | None = None
    size: int | None = None
    seen: int = 0
    """How many matching requests came so far."""

    @property
    def fired(self) -> int:
        """How often it happened so far."""
        happened = max(0, self.seen - self.after)
        return happened if self.times is None else min(happened, self.times)

    def strikes(self, request: Request) -> bool:
        """Counts a request, and says whether the fault happens to it."""
        line = f"{request.method} {unquote(request.path)}"
        if self.port not in (None, request.port) or not re.search(self.match, line):
            return False
        before = self.fired
        self.seen += 1
        return self.fired > before

    def spoil(self, reply: Reply) -> Reply:
        """The answer with the fault in it."""
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
            case "corrupt" if body:
                flipped = bytearray(body)
                flipped[len(body) // 2] ^= 0xFF
                return replace(reply, body=bytes(flipped))
            case "no-commit-header":
                headers.pop("X-Repo-Commit", None)
                return replace(reply, headers=headers)
            case "garbage-json":
                return replace(reply, body=b"<html>This is no JSON.")
            case _:
                return reply


class RefusalError(Exception):
    """A request that is answered with an error; `code` is what the client tells errors apart by."""

    def __init__(self, status: int, code: str, message: str, **content: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.content = status, code, content

    def reply(self) -> Reply:
        """The error as an answer."""
        headers = {"X-Error-Message": str(self)}
        if self.code:
            headers["X-Error-Code"] = self.code
        if commit := self.content.pop("commit", None):
            headers["X-Repo-Commit"] = commit
        return replace(in_json({"error": str(self), **self.content}, headers), status=self.status)


def in_json(content: Any, headers: Mapping[str, str] | None = None) -> Reply:
    """An answer in JSON."""
    return Reply(
        body=json.dumps(content).encode(), headers={"Content-Type": "application/json", **(headers or {})}
    )


def is_large(path: str, size: int) -> bool:
    """Whether a file is kept apart from git; empty ones never are, as the client sees to."""
    return size > LARGE or (size > 0 and path.endswith(".safetensors"))


def git_blob(content: bytes) -> str:
    """The id that git gives a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    """The id that Git LFS gives a file of this content."""
    return hashlib.sha256(content).hexdigest()


def pointer(content: bytes) -> bytes:
    """The small file that git keeps in a large one's place."""
    version = "https://git-lfs.github.com/spec/v1"
    return f"version {version}\noid sha256:{sha256(content)}\nsize {len(content)}\n".encode()


def front_matter(card: str) -> dict[str, str | list[str]]:
    """The words and the lists of words at the top level of a README's YAML; what is nested is left out."""
    found: dict[str, str | list[str]] = {}
    lines = card.splitlines()
    if not lines or lines[0] != "---" or "---" not in lines[1:]:
        return found
    key = ""
    for line in lines[1 : lines.index("---", 1)]:
        if item := re.fullmatch(r"\s*- ([^:{}\[\]]+)", line):
            entries = found.get(key) or []
            found[key] = [*entries, item[1].strip("\"' ")] if isinstance(entries, list) else entries
        elif entry := re.fullmatch(r"([\w-]+):\s*(.*)", line):
            key = entry[1]
            found[key] = entry[2].strip("\"' ")
    return found


def part_of(content: bytes, asked: str | None) -> Reply:
    """A file, or the range of it that was asked for."""
    headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    range = re.fullmatch(r"bytes=(\d*)-(\d*)", asked or "")
    if not range or not (range[1] or range[2]):
        return Reply(body=content, headers=headers)
    size = len(content)
    first = int(range[1]) if range[1] else max(0, size - int(range[2]))
    last = min(int(range[2]), size - 1) if range[1] and range[2] else size - 1
    if first > last:
        return Reply(status=416, headers={"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return Reply(status=206, body=content[first : last + 1], headers=headers)


@dataclass(frozen=True)
class Commit:
    """A state of a repository, which never changes."""

    oid: str
    parent: str | None
    message: str
    description: str
    files: Mapping[str, bytes]
    date: str


@dataclass
class Repository:
    """A model's repository."""

    id: str
    private: bool = False
    gated: bool = False
    granted: bool = False
    """Whether the server's user may read the files though they are gated."""
    commits: dict[str, Commit] = field(default_factory=dict[str, Commit])
    branches: dict[str, str] = field(default_factory=dict[str, str])
    tags: dict[str, str] = field(default_factory=dict[str, str])
    objects: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """Large files by their SHA-256, those of no commit yet included."""

    def commit(
        self, branch: str, changes: Mapping[str, bytes | None], message: str, description: str = ""
    ) -> Commit:
        """Puts a commit on a branch; a file changed to None is deleted."""
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
        self.commits[oid] = Commit(oid, parent, message, description, kept, date)
        self.branches[branch] = oid
        return self.commits[oid]

    def at(self, revision: str = "main") -> Commit:
        """The commit that a branch, a tag or a commit's id means."""
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.commits[oid]

    def listing(self, commit: Commit) -> list[dict[str, Any]]:
        """The files and folders of a commit, as the tree is listed."""
        files = [
            {"type": "file", "path": path, "size": len(content), **self.ids(path, content)}
            for path, content in commit.files.items()
        ]
        folders = sorted({path[: cut.start()] for path in commit.files for cut in re.finditer("/", path)})
        return files + [{"type": "directory", "path": f, "oid": git_blob(f.encode())} for f in folders]

    @staticmethod
    def ids(path: str, content: bytes) -> dict[str, Any]:
        """The ids of a file's content, as the tree lists them."""
        if not is_large(path, len(content)):
            return {"oid": git_blob(content)}
        stub = pointer(content)
        lfs = {"oid": sha256(content), "size": len(content), "pointerSize": len(stub)}
        return {"oid": git_blob(stub), "lfs": lfs}


Answerer = Callable[..., Reply]
ROUTES: list[tuple[Port, str, re.Pattern[str], Answerer]] = []
"""What answers a request: to which port, method and path it goes."""


def route(method: str, path: str, port: Port = "hub") -> Callable[[Answerer], Answerer]:
    """Makes a method of the server answer a kind of request; {repo} is OWNER/NAME, other names one part."""
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path.replace("{repo}", "(?P<repo>[^/]+/[^/]+)"))

    def register(method_of_server: Answerer) -> Answerer:
        ROUTES.append((port, method, re.compile(pattern), method_of_server))
        return method_of_server

    return register


class HubServer:
    """The Hub, on two ports of 127.0.0.1: one for the API and small files, one (the CDN) for large files."""

    def __init__(self, *, user: str = "ann", token: str = "hf_stand_in", port: int = 0) -> None:
        self.user, self.token = user, token
        self.orgs: list[str] = []
        """The other namespaces that the user may write to."""
        self.role = "write"
        """What the token is good for; with "read", all writing is forbidden."""
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.validated: list[str] = []
        """Every README that was sent to be validated."""
        self.faults: list[Fault] = []
        self.errors: list[BaseException] = []
        """What went wrong in the server itself."""
        self.url = self.cdn_url = ""
        """Where the two ports are, as long as they are."""
        self._port = port
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._listeners: list[_Listener] = []

    def __enter__(self) -> Self:
        self._listeners = [_Listener(self, "hub", self._port), _Listener(self, "cdn", 0)]
        self.url, self.cdn_url = (listener.url for listener in self._listeners)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        for listener in self._listeners:
            listener.stop()

    # -- For tests

    def add(
        self,
        repo_id: str,
        files: Mapping[str, bytes | None],
        *,
        tag: str | None = None,
        branch: str = "main",
        private: bool = False,
        gated: bool = False,
    ) -> str:
        """Commits files (None deletes one), after making the repository where there is none; returns the id."""
        with self._lock:
            if repo_id not in self.repositories:
                self._create(Repository(repo_id, private, gated))
            repository = self.repositories[repo_id]
            commit = repository.commit(branch, files, "Add files")
            if tag is not None:
                repository.tags[tag] = commit.oid
            return commit.oid

    def files(self, repo_id: str, revision: str = "main") -> Mapping[str, bytes]:
        """The files of a repository at a revision."""
        with self._lock:
            return self.repositories[repo_id].at(revision).files

    def fault(
        self,
        kind: Kind,
        *,
        match: str = "",
        port: Port | None = None,
        times: int | None = None,
        after: int = 0,
        status: int = 503,
        delay: float = 0.0,
        retry_after: int | None = None,
        size: int | None = None,
    ) -> Fault:
        """Arms a fault, which lasts until it happened `times` times or is taken out of `faults`."""
        if kind not in get_args(Kind):
            raise ValueError(f"{kind!r} is none of {', '.join(get_args(Kind))}")
        fault = Fault(kind, match, port, times, after, status, delay, retry_after, size)
        with self._lock:
            self.faults.append(fault)
        return fault

    # -- Answering

    def answer(self, request: Request) -> Reply | None:
        """What is sent back to a request; None: nothing at all."""
        with self._lock:
            self.requests.append(request)
            faults = {fault.kind: fault for fault in self.faults if fault.strikes(request)}
        if "delay" in faults:
            self._closing.wait(faults["delay"].delay)
        if "drop" in faults:
            return None
        reply = self._failure(faults["status"]) if "status" in faults else self._carry_out(request)
        if "lost" in faults:
            return None
        for fault in faults.values():
            reply = fault.spoil(reply)
        request.status = reply.status
        return reply

    def _failure(self, fault: Fault) -> Reply:
        reply = RefusalError(fault.status, "", "This failure was asked for.").reply()
        if fault.retry_after is not None:
            reply.headers["Retry-After"] = str(fault.retry_after)
        return reply

    def _carry_out(self, request: Request) -> Reply:
        path = urlsplit(request.path).path
        method = "GET" if request.method == "HEAD" else request.method
        try:
            for port, its_method, pattern, answerer in ROUTES:
                found = pattern.fullmatch(path)
                if found and (port, its_method) == (request.port, method):
                    # Only now, for a revision may hold an encoded slash.
                    parts = {name: unquote(part) for name, part in found.groupdict().items()}
                    with self._lock:
                        return answerer(self, request, **parts)
            raise RefusalError(404, "", f"No such address: {request.method} {path}")
        except RefusalError as refusal:
            return refusal.reply()
        except Exception as error:
            self.errors.append(error)
            return RefusalError(500, "", repr(error)).reply()

    # -- Who may do what

    def _signed_in(self, request: Request) -> bool:
        given = request.headers.get("authorization")
        if given is not None and given != f"Bearer {self.token}":
            raise RefusalError(401, "", "Invalid credentials in Authorization header")
        return given is not None

    def _readable(self, request: Request, repo: str) -> Repository:
        signed_in = self._signed_in(request)
        repository = self.repositories.get(repo)
        if repository is None or (repository.private and not signed_in):
            # To a stranger, a private repository looks like none.
            if signed_in:
                raise RefusalError(404, "RepoNotFound", "Repository not found")
            raise RefusalError(401, "RepoNotFound", "Invalid username or password.")
        return repository

    def _may_write(self, request: Request, owner: str) -> None:
        if not self._signed_in(request):
            raise RefusalError(401, "", "Invalid username or password.")
        if self.role != "write" or owner not in (self.user, *self.orgs):
            raise RefusalError(403, "", f"You don't have the rights to write under the namespace {owner!r}")

    def _writable(self, request: Request, repo: str) -> Repository:
        repository = self._readable(request, repo)
        self._may_write(request, repo.split("/")[0])
        return repository

    # -- Repositories

    def _create(self, repository: Repository) -> None:
        self.repositories[repository.id] = repository
        repository.commit("main", {".gitattributes": GIT_ATTRIBUTES}, "initial commit")

    @route("GET", "/api/whoami-v2")
    def _whoami(self, request: Request) -> Reply:
        if not self._signed_in(request):
            raise RefusalError(401, "", "Invalid username or password.")
        return in_json(
            {
                "type": "user",
                "name": self.user,
                "fullname": self.user,
                "orgs": [{"type": "org", "name": org, "roleInOrg": "write"} for org in self.orgs],
                "auth": {"type": "access_token", "accessToken": {"displayName": "token", "role": self.role}},
            }
        )

    def _named(self, request: Request) -> str:
        return f"{request.json.get('organization') or self.user}/{request.json['name']}"

    @route("POST", "/api/repos/create")
    def _create_repo(self, request: Request) -> Reply:
        asked, repo = request.json, self._named(request)
        self._may_write(request, repo.split("/")[0])
        if asked.get("type", "model") != "model":
            raise RefusalError(400, "", "This Hub has models only")
        url = f"{self.url}/{repo}"
        if repo in self.repositories:
            raise RefusalError(409, "", "You already created this model repo", url=url)
        # Clients before 1.0 say `private` where later ones say `visibility`.
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        self._create(Repository(repo, private))
        return in_json({"url": url, "name": repo, "id": repo})

    @route("DELETE", "/api/repos/delete")
    def _delete_repo(self, request: Request) -> Reply:
        del self.repositories[self._writable(request, self._named(request)).id]
        return Reply()

    @route("GET", "/api/models/{repo}")
    @route("GET", "/api/models/{repo}/revision/{revision}")
    def _info(self, request: Request, repo: str, revision: str = "main") -> Reply:
        repository = self._readable(request, repo)
        commit = repository.at(revision)
        card = front_matter(commit.files.get("README.md", b"").decode(errors="replace"))
        tags = [tag for key in ("library_name", "tags") for tag in _words(card.get(key))]
        about = {key: card[key] for key in ("library_name", "pipeline_tag") if card.get(key)}
        blobs = request.query("blobs").lower() == "true"
        return in_json(
            {
                "id": repo,
                "modelId": repo,
                "author": repo.split("/")[0],
                "sha": commit.oid,
                "lastModified": commit.date,
                "private": repository.private,
                "gated": "manual" if repository.gated else False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": tags,
                "siblings": [self._sibling(path, content, blobs) for path, content in commit.files.items()],
                **about,
            }
        )

    def _sibling(self, path: str, content: bytes, blobs: bool) -> dict[str, Any]:
        if not blobs:
            return {"rfilename": path}
        ids = Repository.ids(path, content)
        sibling = {"rfilename": path, "size": len(content), "blobId": ids["oid"]}
        if lfs := ids.get("lfs"):
            sibling["lfs"] = {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": lfs["pointerSize"]}
        return sibling

    @route("GET", "/api/models/{repo}/tree/{revision}")
    @route("GET", "/api/models/{repo}/tree/{revision}/{folder}")
    def _tree(self, request: Request, repo: str, revision: str, folder: str = "") -> Reply:
        repository = self._readable(request, repo)
        deep = request.query("recursive").lower() == "true"
        start = f"{folder}/" if folder else ""
        return in_json(
            [
                entry
                for entry in repository.listing(repository.at(revision))
                if entry["path"].startswith(start) and (deep or "/" not in entry["path"][len(start) :])
            ]
        )

    @route("POST", "/api/models/{repo}/paths-info/{revision}")
    def _paths_info(self, request: Request, repo: str, revision: str) -> Reply:
        repository = self._readable(request, repo)
        paths = parse_qs(request.body.decode()).get("paths", [])
        return in_json([e for e in repository.listing(repository.at(revision)) if e["path"] in paths])

    @route("GET", "/api/models/{repo}/refs")
    def _refs(self, request: Request, repo: str) -> Reply:
        repository = self._readable(request, repo)

        def listed(refs: dict[str, str], where: str) -> list[dict[str, str]]:
            return [{"name": n, "ref": f"refs/{where}/{n}", "targetCommit": oid} for n, oid in refs.items()]

        return in_json(
            {
                "branches": listed(repository.branches, "heads"),
                "tags": listed(repository.tags, "tags"),
                "converts": [],
                "pullRequests": [],
            }
        )

    @route("POST", "/api/models/{repo}/tag/{revision}")
    def _tag(self, request: Request, repo: str, revision: str) -> Reply:
        repository = self._writable(request, repo)
        tag = request.json["tag"]
        commit = repository.at(revision)
        if tag in repository.tags:
            raise RefusalError(409, "", f"Tag reference exists already: refs/tags/{tag}")
        repository.tags[tag] = commit.oid
        return Reply()

    @route("DELETE", "/api/models/{repo}/tag/{tag}")
    def _untag(self, request: Request, repo: str, tag: str) -> Reply:
        repository = self._writable(request, repo)
        if repository.tags.pop(tag, None) is None:
            raise RefusalError(404, "RevisionNotFound", f"Tag not found: {tag}")
        return Reply()

    # -- Writing files

    @route("POST", "/api/validate-yaml")
    def _validate_yaml(self, request: Request) -> Reply:
        self.validated.append(request.json["content"])
        return in_json({"errors": [], "warnings": []})

    @route("POST", "/api/models/{repo}/preupload/{revision}")
    def _preupload(self, request: Request, repo: str, revision: str) -> Reply:
        present = self._writable(request, repo).at(revision).files
        files: list[dict[str, Any]] = []
        for asked in request.json["files"]:
            path, content = asked["path"], present.get(asked["path"])
            large = is_large(path, asked["size"])
            # The client compares this with its own file's id, and sends none that is equal.
            oid = None if content is None else sha256(content) if large else git_blob(content)
            mode = "lfs" if large else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return in_json({"files": files})

    @route("POST", "/{repo}.git/info/lfs/objects/batch")
    def _lfs_batch(self, request: Request, repo: str) -> Reply:
        repository = self._writable(request, repo)
        objects: list[dict[str, Any]] = []
        for asked in request.json["objects"]:
            listed: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"], "authenticated": True}
            if asked["oid"] not in repository.objects:
                listed["actions"] = {
                    "upload": {"href": f"{self.cdn_url}/upload/{repo}/{asked['oid']}"},
                    "verify": {"href": f"{self.url}/{repo}.git/info/lfs/objects/verify"},
                }
            objects.append(listed)
        return in_json({"transfer": "basic", "objects": objects})

    @route("PUT", "/upload/{repo}/{oid}", port="cdn")
    def _upload(self, request: Request, repo: str, oid: str) -> Reply:
        _refuse_credentials(request)
        if sha256(request.body) != oid:
            raise RefusalError(400, "", "The content has another SHA-256 than it should")
        self._stored(repo)[oid] = request.body
        return Reply()

    @route("POST", "/{repo}.git/info/lfs/objects/verify")
    def _lfs_verify(self, request: Request, repo: str) -> Reply:
        content = self._writable(request, repo).objects.get(request.json["oid"])
        if content is None or len(content) != request.json["size"]:
            raise RefusalError(404, "", "There is no such object of this size")
        return in_json({})

    @route("POST", "/api/models/{repo}/commit/{branch}")
    def _commit(self, request: Request, repo: str, branch: str) -> Reply:
        repository = self._writable(request, repo)
        if branch not in repository.branches:
            raise RefusalError(404, "RevisionNotFound", f"No such branch: {branch}")
        if request.query("create_pr"):
            raise RefusalError(400, "", "This Hub has no pull requests")
        head = repository.at(branch)
        lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        if not head.oid.startswith(header.get("parentCommit") or ""):
            raise RefusalError(412, "", "A commit has happened since. Please refresh and try again.")
        changes: dict[str, bytes | None] = {}
        for line in lines:
            changes |= self._changes(line["key"], line["value"], head.files, repository.objects)
        commit = repository.commit(branch, changes, header["summary"], header.get("description", ""))
        return in_json(
            {
                "success": True,
                "commitUrl": f"{self.url}/{repo}/commit/{commit.oid}",
                "commitOid": commit.oid,
                "hookOutput": "",
                "pullRequestUrl": None,
            }
        )

    def _changes(
        self, key: str, value: dict[str, str], present: Mapping[str, bytes], stored: Mapping[str, bytes]
    ) -> Mapping[str, bytes | None]:
        if key == "header":
            return {}
        path = value["path"]
        if key == "file":
            return {path: base64.b64decode(value["content"])}
        if key == "lfsFile":
            if value["oid"] not in stored:
                raise RefusalError(400, "", f"The LFS object of {path} was not uploaded")
            return {path: stored[value["oid"]]}
        folder = path.rstrip("/") + "/"
        gone = [p for p in present if (p.startswith(folder) if key == "deletedFolder" else p == path)]
        if not gone:
            raise RefusalError(404, "EntryNotFound", f"A file with this name doesn't exist: {path}")
        return dict.fromkeys(gone)

    # -- Reading files

    @route("GET", "/{repo}/resolve/{revision}/(?P<path>.+)")
    def _resolve(self, request: Request, repo: str, revision: str, path: str) -> Reply:
        repository = self._readable(request, repo)
        if repository.gated and not (self._signed_in(request) and repository.granted):
            status = 403 if self._signed_in(request) else 401
            raise RefusalError(
                status, "GatedRepo", f"Access to model {repo} is restricted and you are not granted it"
            )
        commit = repository.at(revision)
        if path not in commit.files:
            # The commit lets the client remember that this file is not there.
            raise RefusalError(404, "EntryNotFound", "Entry not found", commit=commit.oid)
        content = commit.files[path]
        headers = {"X-Repo-Commit": commit.oid}
        if is_large(path, len(content)):
            oid = sha256(content)
            headers["Location"] = f"{self.cdn_url}/file/{repo}/{oid}/{quote(path)}"
            headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
            return Reply(status=302, headers=headers)
        reply = part_of(content, request.headers.get("range"))
        return replace(reply, headers=reply.headers | headers | {"ETag": f'"{git_blob(content)}"'})

    @route("GET", "/file/{repo}/{oid}/(?P<path>.+)", port="cdn")
    def _large_file(self, request: Request, repo: str, oid: str, path: str) -> Reply:
        _refuse_credentials(request)
        content = self._stored(repo).get(oid)
        if content is None:
            raise RefusalError(404, "", f"No such object: {path}")
        reply = part_of(content, request.headers.get("range"))
        return replace(reply, headers=reply.headers | {"ETag": f'"{oid}"'})

    def _stored(self, repo: str) -> dict[str, bytes]:
        if repo not in self.repositories:
            raise RefusalError(404, "", f"No such repository: {repo}")
        return self.repositories[repo].objects


def _words(entry: str | list[str] | None) -> list[str]:
    return entry if isinstance(entry, list) else [entry] if entry else []


def _refuse_credentials(request: Request) -> None:
    # As stores with signed addresses do; a client that sends its token there gives it away.
    if "authorization" in request.headers:
        raise RefusalError(400, "", "Only one way of authorization is allowed, and the address is one")


class _Listener(ThreadingHTTPServer):
    """One port, whose connections and threads are all gone when it was stopped."""

    request_queue_size = 64

    def __init__(self, hub: HubServer, kind: Port, port: int) -> None:
        self.hub = hub
        self.kind: Port = kind
        self._connections: set[socket.socket] = set()
        self._workers: set[threading.Thread] = set()
        super().__init__(("127.0.0.1", port), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        # Looks often whether it is to stop, which is how long stopping takes.
        serve = functools.partial(self.serve_forever, poll_interval=0.02)
        self._thread = threading.Thread(target=serve, daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        """Binds without asking for the host's name, which may take a while."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])

    def stop(self) -> None:
        """Ends every connection, also those that a client keeps for later."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for worker in list(self._workers):
            worker.join()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers a connection's requests in a thread of its own."""
        self._connections.add(request)
        worker = threading.Thread(target=self._work, args=(request, client_address), daemon=True)
        self._workers.add(worker)
        worker.start()

    def _work(self, request: Any, client_address: Any) -> None:
        try:
            self.process_request_thread(request, client_address)
        finally:
            self._connections.discard(request)
            self._workers.discard(threading.current_thread())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keeps what went wrong, except that a client hung up."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):
            self.hub.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    """Reads requests and writes answers."""

    server: _Listener  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    # Headers and body are written apart; else the body would wait for the headers' acknowledgement.
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, self.server.kind, headers, self._body())
        reply = self.server.hub.answer(request)
        if reply is None:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        length = len(reply.body) if reply.announced is None else reply.announced
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(reply.body[: reply.sent])
        if reply.sent is not None:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)


def main() -> None:
    """Prints the address and serves until the program is stopped."""
    parser = argparse.ArgumentParser(description="A stand-in for the Hugging Face Hub on this machine.")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--user", default="ann", help="who the token belongs to")
    parser.add_argument("--token", default="hf_stand_in", help="the one token that may write")
    options = parser.parse_args()
    # As when Ctrl-C is pressed, so that `kill` too lets the ports be closed; and Ctrl-C itself, which a shell has
    # its background processes ignore.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with (
        contextlib.suppress(KeyboardInterrupt),
        HubServer(user=options.user, token=options.token, port=options.port) as hub,
    ):
        print(hub.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
