"""Repositories on the Hub, and what of them is in the client's cache, for the tests of loading from there."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import torch

import aezoo
from aezoo.zoo.index import INDEX, forget_index
from aezoo.zoo.schema import CONFIG, METRICS, TRAINING, WEIGHTS
from tests.hub_server import HubServer, Reply, Request, git_blob, sha256
from tests.raising import raises

REPO = "ann/small"
READ = sorted([CONFIG, WEIGHTS, METRICS, TRAINING])
"""The files that loading reads."""
NOWHERE = "http://127.0.0.1:9"
"""A port on which nothing listens."""
Files = dict[str, bytes]


def assert_is(ae: aezoo.Autoencoder, files: Files) -> None:
    """The network has the weights and records of these files, bit for bit."""
    published = safetensors.torch.load(files[WEIGHTS])
    state = ae.state_dict()
    assert state.keys() == published.keys()
    for name, tensor in published.items():
        assert torch.equal(state[name], tensor), name
    assert ae.metrics == json.loads(files.get(METRICS, b"{}"))
    assert ae.training_record == json.loads(files.get(TRAINING, b"{}"))
    assert ae.source.hashes == {name: sha256(files[name]) for name in READ if name in files}
    assert ae.source.sha256 == sha256(files[WEIGHTS])


def lines(hub: HubServer, start: int = 0, match: str = "") -> list[str]:
    """The requests so far that match."""
    found = (f"{request.method} {request.path}" for request in hub.requests[start:])
    return [line for line in found if re.search(match, line)]


def in_cache(tmp_path: Path, commit: str, name: str = "", repository: str = REPO) -> Path:
    """Where the client keeps a file."""
    folder = f"models--{repository.replace('/', '--')}"
    return tmp_path / "hf" / "hub" / folder / "snapshots" / commit / name


def once(monkeypatch: pytest.MonkeyPatch, hub: HubServer, match: str, do: Callable[[], object]) -> list[str]:
    """Do something when a matching request has been answered for the first time; the list holds the request."""
    answer, done = hub.answer, []

    def answering(request: Request) -> Reply | None:
        reply, line = answer(request), f"{request.method} {request.path}"
        if not done and re.search(match, line):
            done.append(line)
            do()
        return reply

    monkeypatch.setattr(hub, "answer", answering)
    return done


def damaged(raw: bytes) -> bytes:
    """What the fault `corrupt` makes of a body."""
    middle = len(raw) // 2
    return raw[:middle] + bytes([raw[middle] ^ 0xFF]) + raw[middle + 1 :]


def identity(name: str, raw: bytes) -> str:
    """The id of a file on the Hub."""
    return sha256(raw) if name == WEIGHTS else git_blob(raw)


def fresh_connections() -> None:
    """Make the client read proxies and certificates again, which it does once."""
    huggingface_hub.close_session()


@dataclass
class PinnedZoo:
    """A zoo whose index pins a commit of a variant, while the variant's folder is elsewhere."""

    root: Path
    commit: str
    folder: Path

    def edit(self, change: Callable[[Any], object]) -> None:
        """Change the variant's entry in the index."""
        index = json.loads((self.root / INDEX).read_text())
        change(index["variants"]["small"])
        (self.root / INDEX).write_text(json.dumps(index))
        forget_index()


class Rejection:
    """Checks that an address is refused, and that a variant in the cache still loads without a request."""

    def __init__(self, hub: HubServer, files: Files) -> None:
        self.hub, self.files = hub, files
        self.good = f"hub:{REPO}@{hub.add(REPO, files)}"
        aezoo.load(self.good)

    def __call__(
        self, address: str, code: str, *words: str, cause: type[BaseException] | None = None
    ) -> BaseException:
        with raises(code) as caught:
            aezoo.load(address)
        for word in words:
            assert word in str(caught.value)
        assert "\n" not in str(caught.value)
        assert cause is None or isinstance(caught.value.__cause__, cause)
        asked = len(self.hub.requests)
        assert_is(aezoo.load(self.good), self.files)
        assert lines(self.hub, asked) == []
        return caught.value


def on_hub(hub: HubServer, repository: str = REPO, revision: str = "main") -> dict[str, bytes]:
    """The files of a repository, except the one that the Hub itself adds."""
    return {name: raw for name, raw in hub.files(repository, revision).items() if name != ".gitattributes"}


def asked(hub: HubServer, method: str) -> list[str]:
    """The paths of all requests with this method."""
    return [request.path for request in hub.requests if request.method == method]


def commits(hub: HubServer, repository: str = REPO) -> list[str]:
    """The commits of the main branch, the first one first."""
    found, oid = [], hub.repositories[repository].branches["main"]
    while oid is not None:
        found.append(oid)
        oid = hub.repositories[repository].commits[oid].parent
    return found[::-1]


def sent(hub: HubServer) -> dict[str, list[str]]:
    """The files in the last commit that was requested, by what is done to them."""
    body = next(r.body for r in reversed(hub.requests) if "/commit/" in r.path and r.method == "POST")
    header, *changes = [json.loads(line) for line in body.splitlines()]
    assert header["value"]["parentCommit"] in hub.repositories[REPO].commits
    found: dict[str, list[str]] = {}
    for line in changes:
        found.setdefault(line["key"], []).append(line["value"]["path"])
    return found
