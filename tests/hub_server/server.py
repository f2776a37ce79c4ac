"""The Hub's API as far as aezoo uses it: repositories, commits, tags, and files."""

import base64
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Self, get_args
from urllib.parse import quote, unquote, urlsplit

import yaml

from .faults import Fault, Kind, Port, RefusalError, Reply, Request, json_reply
from .listener import Listener
from .repository import GIT_ATTRIBUTES, Repository, file_ids, git_blob, is_large, sha256

Answerer = Callable[..., Reply]
ROUTES: list[tuple[Port, str, re.Pattern[str], Answerer]] = []
"""Port, method and path of a request, and the method that answers it."""


def route(method: str, path: str, port: Port = "hub") -> Callable[[Answerer], Answerer]:
    """Registers the method that answers a request; {repo} is OWNER/NAME, other names one part of the path."""
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path.replace("{repo}", "(?P<repo>[^/]+/[^/]+)"))

    def register(method_of_server: Answerer) -> Answerer:
        ROUTES.append((port, method, re.compile(pattern), method_of_server))
        return method_of_server

    return register


class HubServer:
    """The Hub, on two ports of 127.0.0.1: one for the API and small files, one (the CDN) for large files."""

    def __init__(self) -> None:
        self.user, self.token = "ann", "hf_stand_in"
        self.orgs: list[str] = []
        """The other namespaces that the user may write to."""
        self.role = "write"
        """The token's permission; with "read", all writing is forbidden."""
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.errors: list[BaseException] = []
        """Errors of the server itself."""
        self.url = self.cdn_url = ""
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._listeners: list[Listener] = []

    def __enter__(self) -> Self:
        # Looked up on every request, since tests replace `answer`.
        self._listeners = [
            Listener("hub", lambda request: self.answer(request), self.errors),
            Listener("cdn", lambda request: self.answer(request), self.errors),
        ]
        self.url, self.cdn_url = (listener.url for listener in self._listeners)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        for listener in self._listeners:
            listener.stop()

    # -- for tests

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
        """Commit files (None deletes one), after creating the repository if necessary; return the commit."""
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

    def fault(self, kind: Kind, **options: Any) -> Fault:
        """Arm a fault, which lasts until it happened `times` times or is taken out of `faults`.

        Args:
            kind: of fault.
            options: the other fields of `Fault`.
        """
        if kind not in get_args(Kind):
            raise ValueError(f"{kind!r} is not one of {', '.join(get_args(Kind))}")
        fault = Fault(kind, **options)
        with self._lock:
            self.faults.append(fault)
        return fault

    # -- answering

    def answer(self, request: Request) -> Reply | None:
        """The reply to a request; None closes the connection."""
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
                    # Decoded after matching, since a revision may hold an encoded slash.
                    parts = {name: unquote(part) for name, part in found.groupdict().items()}
                    with self._lock:
                        return answerer(self, request, **parts)
            raise RefusalError(404, "", f"No such address: {request.method} {path}")
        except RefusalError as refusal:
            return refusal.reply()
        except Exception as error:
            self.errors.append(error)
            return RefusalError(500, "", repr(error)).reply()

    # -- permissions

    def _signed_in(self, request: Request) -> bool:
        given = request.headers.get("authorization")
        if given is not None and given != f"Bearer {self.token}":
            raise RefusalError(401, "", "Invalid credentials in Authorization header")
        return given is not None

    def _readable(self, request: Request, repo: str) -> Repository:
        signed_in = self._signed_in(request)
        repository = self.repositories.get(repo)
        if repository is None or (repository.private and not signed_in):
            # To others, a private repository does not exist.
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

    # -- repositories

    def _create(self, repository: Repository) -> None:
        self.repositories[repository.id] = repository
        repository.commit("main", {".gitattributes": GIT_ATTRIBUTES}, "initial commit")

    @route("GET", "/api/whoami-v2")
    def _whoami(self, request: Request) -> Reply:
        if not self._signed_in(request):
            raise RefusalError(401, "", "Invalid username or password.")
        orgs = [{"type": "org", "name": org, "roleInOrg": "write"} for org in self.orgs]
        token = {"type": "access_token", "accessToken": {"displayName": "token", "role": self.role}}
        about = {"type": "user", "name": self.user, "fullname": self.user, "orgs": orgs, "auth": token}
        return json_reply(about)

    @route("POST", "/api/repos/create")
    def _create_repo(self, request: Request) -> Reply:
        asked = request.json
        owner = asked.get("organization") or self.user
        repo = f"{owner}/{asked['name']}"
        self._may_write(request, owner)
        if asked.get("type", "model") != "model":
            raise RefusalError(400, "", "This Hub has models only")
        url = f"{self.url}/{repo}"
        if repo in self.repositories:
            raise RefusalError(409, "", "You already created this model repo", url=url)
        # Clients before 1.0 say `private` where later ones say `visibility`.
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        self._create(Repository(repo, private))
        return json_reply({"url": url, "name": repo, "id": repo})

    @route("GET", "/api/models/{repo}")
    @route("GET", "/api/models/{repo}/revision/{revision}")
    def _info(self, request: Request, repo: str, revision: str = "main") -> Reply:
        repository = self._readable(request, repo)
        commit = repository.at(revision)
        blobs = request.query("blobs").lower() == "true"
        files = [
            {"rfilename": path, **(file_ids(path, content) if blobs else {})}
            for path, content in commit.files.items()
        ]
        about = {
            "id": repo, "modelId": repo, "author": repo.split("/")[0], "sha": commit.oid,
            "lastModified": commit.date, "private": repository.private, "disabled": False,
            "gated": "manual" if repository.gated else False, "downloads": 0, "likes": 0, "tags": [],
            "siblings": files,
        }  # fmt: skip
        return json_reply(about)

    @route("GET", "/api/models/{repo}/refs")
    def _refs(self, request: Request, repo: str) -> Reply:
        repository = self._readable(request, repo)

        def listed(refs: dict[str, str], where: str) -> list[dict[str, str]]:
            return [{"name": n, "ref": f"refs/{where}/{n}", "targetCommit": oid} for n, oid in refs.items()]

        branches, tags = listed(repository.branches, "heads"), listed(repository.tags, "tags")
        return json_reply({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})

    @route("POST", "/api/models/{repo}/tag/{revision}")
    def _tag(self, request: Request, repo: str, revision: str) -> Reply:
        repository = self._writable(request, repo)
        tag = request.json["tag"]
        commit = repository.at(revision)
        if tag in repository.tags:
            raise RefusalError(409, "", f"Tag reference exists already: refs/tags/{tag}")
        repository.tags[tag] = commit.oid
        return Reply()

    # -- writing files

    @route("POST", "/api/validate-yaml")
    def _validate_yaml(self, request: Request) -> Reply:
        # As the Hub does, which refuses a card whose metadata are not YAML.
        text = request.json["content"]
        if found := re.match(r"---\r?\n(.*?)\n---", text, re.DOTALL):
            yaml.safe_load(found[1])
        return json_reply({"errors": [], "warnings": []})

    @route("POST", "/api/models/{repo}/preupload/{revision}")
    def _preupload(self, request: Request, repo: str, revision: str) -> Reply:
        present = self._writable(request, repo).at(revision).files
        files: list[dict[str, Any]] = []
        for asked in request.json["files"]:
            path, content = asked["path"], present.get(asked["path"])
            large = is_large(path, asked["size"])
            # The client compares this with its own file's id, and does not send a file with the same id.
            oid = None if content is None else sha256(content) if large else git_blob(content)
            mode = "lfs" if large else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return json_reply({"files": files})

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
        return json_reply({"transfer": "basic", "objects": objects})

    @route("PUT", "/upload/{repo}/{oid}", port="cdn")
    def _upload(self, request: Request, repo: str, oid: str) -> Reply:
        _refuse_credentials(request)
        if sha256(request.body) != oid:
            raise RefusalError(400, "", "The content has another SHA-256 than its id")
        self._stored(repo)[oid] = request.body
        return Reply()

    @route("POST", "/{repo}.git/info/lfs/objects/verify")
    def _lfs_verify(self, request: Request, repo: str) -> Reply:
        content = self._writable(request, repo).objects.get(request.json["oid"])
        if content is None or len(content) != request.json["size"]:
            raise RefusalError(404, "", "There is no such object of this size")
        return json_reply({})

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
            if line["key"] != "header":
                path = line["value"]["path"]
                changes[path] = self._change(line["key"], line["value"], head.files, repository.objects)
        commit = repository.commit(branch, changes, header["summary"])
        url = f"{self.url}/{repo}/commit/{commit.oid}"
        about = {"success": True, "commitUrl": url, "commitOid": commit.oid, "hookOutput": ""}
        return json_reply({**about, "pullRequestUrl": None})

    def _change(
        self, key: str, value: dict[str, str], present: Mapping[str, bytes], stored: Mapping[str, bytes]
    ) -> bytes | None:
        path = value["path"]
        if key == "file":
            return base64.b64decode(value["content"])
        if key == "lfsFile":
            if value["oid"] not in stored:
                raise RefusalError(400, "", f"The LFS object of {path} was not uploaded")
            return stored[value["oid"]]
        if path not in present:
            raise RefusalError(404, "EntryNotFound", f"A file with this name doesn't exist: {path}")
        return None

    # -- reading files

    @route("GET", "/{repo}/resolve/{revision}/(?P<path>.+)")
    def _resolve(self, request: Request, repo: str, revision: str, path: str) -> Reply:
        repository = self._readable(request, repo)
        if repository.gated and not (self._signed_in(request) and repository.granted):
            status = 403 if self._signed_in(request) else 401
            text = f"Access to model {repo} is restricted and you are not granted it"
            raise RefusalError(status, "GatedRepo", text)
        commit = repository.at(revision)
        if path not in commit.files:
            # The commit lets the client remember that this file does not exist.
            raise RefusalError(404, "EntryNotFound", "Entry not found", commit=commit.oid)
        content = commit.files[path]
        headers = {"X-Repo-Commit": commit.oid}
        if is_large(path, len(content)):
            oid = sha256(content)
            headers["Location"] = f"{self.cdn_url}/file/{repo}/{oid}/{quote(path)}"
            headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
            return Reply(status=302, headers=headers)
        reply = _part(content, request.headers.get("range"))
        return replace(reply, headers=reply.headers | headers | {"ETag": f'"{git_blob(content)}"'})

    @route("GET", "/file/{repo}/{oid}/(?P<path>.+)", port="cdn")
    def _large_file(self, request: Request, repo: str, oid: str, path: str) -> Reply:
        _refuse_credentials(request)
        content = self._stored(repo).get(oid)
        if content is None:
            raise RefusalError(404, "", f"No such object: {path}")
        reply = _part(content, request.headers.get("range"))
        return replace(reply, headers=reply.headers | {"ETag": f'"{oid}"'})

    def _stored(self, repo: str) -> dict[str, bytes]:
        if repo not in self.repositories:
            raise RefusalError(404, "", f"No such repository: {repo}")
        return self.repositories[repo].objects


def _part(content: bytes, asked: str | None) -> Reply:
    """A file, or the range that a client resumes from."""
    headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    found = re.fullmatch(r"bytes=(\d+)-", asked or "")
    if not found:
        return Reply(body=content, headers=headers)
    first, size = int(found[1]), len(content)
    if first >= size:
        return Reply(status=416, headers={"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {first}-{size - 1}/{size}"
    return Reply(status=206, body=content[first:], headers=headers)


def _refuse_credentials(request: Request) -> None:
    # As stores with signed addresses do; a client that sends its token there gives it away.
    if "authorization" in request.headers:
        raise RefusalError(400, "", "Only one way of authorization is allowed, and the address is one")
