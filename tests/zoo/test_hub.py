"""Loading from the Hub: what is asked for, whatever goes wrong on the way, and never anything else."""

import contextlib
import errno
import json
import math
import os
import pickle
import re
import resource
import select
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
import pytest
import safetensors.torch
import torch
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

import aezoo
from aezoo.errors import DiagnosticWarning, HubError, UnknownVariantError
from aezoo.zoo.index import INDEX, _index, scan_variants, write_index
from aezoo.zoo.load import folder_of
from tests.examples import small_spec
from tests.hub_server import HubServer, Reply, Request, git_blob, sha256
from tests.raising import raises

REPO = "ann/small"
CERTIFICATES = Path(__file__).parents[1] / "certificates"
"""Valid until 2100; what the authority signed with is not kept."""
CONFIG, WEIGHTS, METRICS, TRAINING = "config.json", "model.safetensors", "metrics.json", "training.json"
READ = {CONFIG, WEIGHTS, METRICS, TRAINING}
"""The files that loading reads."""

METRIC = {
    "reason": None, "source": "computed", "dataset": "noise", "split": "test", "n": 7,
    "definition": "mean squared error",
}  # fmt: skip

Files = Mapping[str, bytes]


def made(folder: Path, seed: int) -> Files:
    """A variant's files; another seed gives others, every one of those that loading reads."""
    ae = aezoo.build(small_spec(), seed=seed)
    ae.metrics = {"mse": METRIC | {"value": seed / 4}}
    ae.training_record = {"seed": seed}
    aezoo.save(ae, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return made(tmp_path_factory.mktemp("one") / "small", seed=1)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Another version of the same variant."""
    return made(tmp_path_factory.mktemp("two") / "small", seed=2)


def assert_is(ae: aezoo.Autoencoder, files: Files) -> None:
    """Whether this is the network of these files, bit for bit, and nothing of it from others."""
    published = safetensors.torch.load(files[WEIGHTS])
    state = ae.state_dict()
    assert state.keys() == published.keys()
    for name, tensor in published.items():
        assert torch.equal(state[name], tensor), name
    assert ae.metrics == json.loads(files.get(METRICS, b"{}"))
    assert ae.training_record == json.loads(files.get(TRAINING, b"{}"))
    assert ae.source.hashes == {name: sha256(files[name]) for name in READ & files.keys()}
    assert ae.source.sha256 == sha256(files[WEIGHTS])


def lines(hub: HubServer, start: int = 0) -> list[str]:
    """The requests so far."""
    return [f"{request.method} {request.path}" for request in hub.requests[start:]]


def in_cache(tmp_path: Path, commit: str, name: str, repository: str = REPO) -> Path:
    """Where the client keeps a file."""
    folder = f"models--{repository.replace('/', '--')}"
    return tmp_path / "hf" / "hub" / folder / "snapshots" / commit / name


def once(monkeypatch: pytest.MonkeyPatch, hub: HubServer, match: str, do: Callable[[], object]) -> list[str]:
    """Does something once, as soon as the answer to such a request is made; returns what set it off."""
    answer, done = hub.answer, []

    def answering(request: Request) -> Reply | None:
        reply, line = answer(request), f"{request.method} {request.path}"
        if not done and re.search(match, line):
            done.append(line)
            do()
        return reply

    monkeypatch.setattr(hub, "answer", answering)
    return done


# -- by address ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", ["v1.0", "try/1", "main", "commit"])
def test_a_tag_a_branch_or_a_commit_names_what_is_loaded(
    hub: HubServer, files: Files, others: Files, revision: str, tmp_path: Path
) -> None:
    commit = hub.add(REPO, files, tag="v1.0", branch="main")
    hub.repositories[REPO].branches["try/1"] = commit
    if revision != "main":
        hub.add(REPO, others)
    ae = aezoo.load(f"hub:{REPO}@{commit if revision == 'commit' else revision}")
    assert_is(ae, files)
    folder = in_cache(tmp_path, commit, "")
    assert ae.source == aezoo.Source(
        "hub", str(folder), sha256(files[WEIGHTS]), index_verified=False, repository=REPO, commit=commit
    )
    assert not ae.training


def test_without_a_revision_the_newest_is_loaded_with_advice_to_pin_it(hub: HubServer, files: Files) -> None:
    commit = hub.add(REPO, files)
    with pytest.warns(DiagnosticWarning) as caught:
        ae = aezoo.load(f"hub:{REPO}")
    assert_is(ae, files)
    (warning,) = caught
    assert isinstance(warning.message, DiagnosticWarning)
    assert warning.message.code == "unpinned"
    assert f"hub:{REPO}@{commit}" in str(warning.message)
    assert_is(aezoo.load(f"hub:{REPO}@{commit}"), files)


@pytest.mark.parametrize("revision", ["v1.0", "main"])
def test_what_moved_is_loaded_as_it_is_now(
    hub: HubServer, files: Files, others: Files, revision: str
) -> None:
    before = hub.add(REPO, files, tag="v1.0")
    assert_is(aezoo.load(f"hub:{REPO}@{revision}"), files)
    after = hub.add(REPO, others, tag="v1.0")
    ae = aezoo.load(f"hub:{REPO}@{revision}")
    assert_is(ae, others)
    assert ae.source.commit == after
    assert_is(aezoo.load(f"hub:{REPO}@{before}"), files)


@pytest.mark.parametrize("moment", [r"HEAD .*config", r"GET .*config", r"HEAD .*model", r"HEAD .*metrics"])
def test_all_files_are_of_one_commit_also_when_the_branch_moves_meanwhile(
    hub: HubServer, files: Files, others: Files, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = {hub.add(REPO, files): files}
    done = once(monkeypatch, hub, moment, lambda: commits.update({hub.add(REPO, others): others}))
    ae = aezoo.load(f"hub:{REPO}@main")
    assert done
    assert_is(ae, commits[str(ae.source.commit)])
    assert_is(aezoo.load(f"hub:{REPO}@main"), others)


def test_a_new_commit_that_the_hub_named_is_never_taken_for_the_old_one(
    hub: HubServer, files: Files, others: Files
) -> None:
    """The client falls back on what a branch last meant, without a word, when its own request fails."""
    hub.add(REPO, files)
    aezoo.load(f"hub:{REPO}@main")
    hub.add(REPO, others)
    hub.fault("status", match="HEAD .*main/config", after=1, times=1)
    assert_is(aezoo.load(f"hub:{REPO}@main"), others)


def test_what_is_cached_at_a_commit_is_loaded_without_a_request(hub: HubServer, files: Files) -> None:
    address = f"hub:{REPO}@{hub.add(REPO, files)}"
    aezoo.load(address)
    asked = len(hub.requests)
    assert asked
    assert_is(aezoo.load(address), files)
    assert lines(hub, asked) == []


@pytest.mark.parametrize("absent", [(METRICS,), (TRAINING,), (METRICS, TRAINING)])
def test_records_may_be_absent_and_are_asked_for_once(
    hub: HubServer, files: Files, absent: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {name: raw for name, raw in files.items() if name not in absent}
    address = f"hub:{REPO}@{hub.add(REPO, kept)}"
    assert_is(aezoo.load(address), kept)
    asked = len(hub.requests)
    assert_is(aezoo.load(address), kept)
    assert lines(hub, asked) == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert_is(aezoo.load(address), kept)


def test_offline_a_tag_means_what_it_last_meant(
    hub: HubServer, files: Files, others: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, files, tag="v1.0")
    aezoo.load(f"hub:{REPO}@v1.0")
    hub.add(REPO, others, tag="v1.0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = len(hub.requests)
    assert_is(aezoo.load(f"hub:{REPO}@v1.0"), files)
    assert lines(hub, asked) == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert_is(aezoo.load(f"hub:{REPO}@v1.0"), others)


@pytest.mark.parametrize("how", ["500", "429", "drop", "gone"])
def test_a_hub_that_fails_leaves_a_tag_what_it_last_meant_and_says_so(
    hub: HubServer, files: Files, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add(REPO, files, tag="v1.0")
    aezoo.load(f"hub:{REPO}@v1.0")
    if how == "gone":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    elif how == "drop":
        hub.fault("drop")
    else:
        hub.fault("status", status=int(how))
    with pytest.warns(DiagnosticWarning, match="hub-unreachable") as caught:
        ae = aezoo.load(f"hub:{REPO}@v1.0")
    assert_is(ae, files)
    (text,) = [str(warning.message) for warning in caught]
    assert f"{REPO}@v1.0 is taken to be {commit}" in text


@pytest.mark.parametrize(
    "address",
    [
        "hub:",
        "hub:ann",
        "hub:ann/",
        "hub:/small",
        "hub:ann/small@",
        "hub:ann/small@v 1",
        "hub:ann/small@v1@v2",
        "hub:ann/small/more",
        "hub: ann/small",
        "hub:ann/small\n",
        "hub:../small",
        "hub:ann/..",
        "hub:ann/a..b",
        "hub:ann/a--b",
        "hub:ann/small.git",
        "hub:ann/smäll",
        "hub:ann/" + 97 * "a",
        "hub:ann/small@../../../elsewhere",
        "hub:ann/small@/elsewhere",
        "hub:https://huggingface.co/ann/small",
    ],
)
def test_what_is_no_address_is_refused_without_a_request(hub: HubServer, address: str) -> None:
    with pytest.raises(UnknownVariantError) as caught:
        aezoo.load(address)
    assert caught.type is UnknownVariantError
    assert str(caught.value).startswith(f"{address!r}: ")
    # The second line is the client's.
    assert re.search("expected hub:OWNER/NAME or hub:|[Cc]annot|must use", str(caught.value))
    assert hub.requests == []


def test_a_repositorys_bare_name_is_refused_with_what_would_work(hub: HubServer, files: Files) -> None:
    hub.add(REPO, files)
    with pytest.raises(UnknownVariantError) as caught:
        aezoo.load(REPO)
    assert f"'hub:{REPO}' for a repository on the Hub, './{REPO}' for a folder" in str(caught.value)
    assert hub.requests == []


# -- by name ------------------------------------------------------------------------------------------


class Zoo:
    """A zoo of one variant whose folder is absent, and which its index says to be on the Hub."""

    def __init__(self, root: Path, commit: str, folder: Path) -> None:
        self.root, self.commit, self.folder = root, commit, folder
        """`folder` is the variant's, outside of the zoo."""

    def edit(self, change: Callable[[Any], object]) -> None:
        """Changes what the index says of the variant."""
        path = self.root / INDEX
        index = json.loads(path.read_text())
        change(index["variants"]["small"])
        path.write_text(json.dumps(index))
        forget()


def forget() -> None:
    _index.cache_clear()
    scan_variants.cache_clear()


@pytest.fixture
def pinned(hub: HubServer, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Zoo]:
    root = tmp_path / "zoo"
    (root / "small").mkdir(parents=True)
    for name, raw in files.items():
        (root / "small" / name).write_bytes(raw)
    write_index(root)
    commit = hub.add(REPO, {path.name: path.read_bytes() for path in (root / "small").iterdir()})
    (tmp_path / "elsewhere").mkdir()
    shutil.move(root / "small", tmp_path / "elsewhere" / "small")
    pinned = Zoo(root, commit, tmp_path / "elsewhere" / "small")
    pinned.edit(lambda entry: entry.update(repository=REPO, commit=commit))
    monkeypatch.setattr("aezoo.zoo.index.zoo_root", lambda: root)
    yield pinned
    forget()


def test_a_name_is_fetched_from_where_the_index_says_once_and_vouched_for(
    hub: HubServer, pinned: Zoo, files: Files, tmp_path: Path
) -> None:
    ae = aezoo.load("small")
    assert_is(ae, files)
    folder = in_cache(tmp_path, pinned.commit, "")
    assert ae.source == aezoo.Source(
        "zoo", str(folder), sha256(files[WEIGHTS]), index_verified=True, repository=REPO, commit=pinned.commit
    )
    assert folder_of("small") == folder
    asked = len(hub.requests)
    assert_is(aezoo.load("small"), files)
    assert lines(hub, asked) == []


def test_a_name_means_the_pinned_commit_whatever_the_owner_does_next(
    hub: HubServer, pinned: Zoo, files: Files, others: Files
) -> None:
    hub.add(REPO, others)
    assert_is(aezoo.load("small"), files)


def test_an_address_at_the_commit_that_an_index_names_is_vouched_for(
    hub: HubServer, pinned: Zoo, files: Files, others: Files
) -> None:
    hub.repositories[REPO].tags["v1.0"] = pinned.commit
    for revision in (pinned.commit, "v1.0", "main"):
        source = aezoo.load(f"hub:{REPO}@{revision}").source
        assert (source.kind, source.index_verified) == ("hub", True)
    moved = hub.add(REPO, others)
    assert not aezoo.load(f"hub:{REPO}@{moved}").source.index_verified
    same = hub.add("bob/small", files)
    assert not aezoo.load(f"hub:bob/small@{same}").source.index_verified


def test_get_spec_fetches_the_config_alone(hub: HubServer, pinned: Zoo, files: Files) -> None:
    assert aezoo.get_spec("small") == small_spec().resolved()
    assert {line.rpartition("/")[2] for line in lines(hub)} == {CONFIG}


def test_what_is_not_published_yet_is_said_without_a_request(hub: HubServer, pinned: Zoo) -> None:
    pinned.edit(lambda entry: entry.update(commit=None))
    for call in (aezoo.load, aezoo.get_spec):
        with raises("missing-file", match="small is not part of this installation, and not on the Hub"):
            call("small")
    assert hub.requests == []


def test_an_unknown_name_suggests_the_nearest_without_a_request(hub: HubServer, pinned: Zoo) -> None:
    with pytest.raises(UnknownVariantError, match=r"no variant 'smal' \(did you mean 'small'\?\)"):
        aezoo.load("smal")
    assert hub.requests == []


def test_a_pulled_copy_comes_before_the_hub(
    hub: HubServer, pinned: Zoo, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEZOO_ZOO", str(pinned.folder.parent))
    ae = aezoo.load("small")
    assert_is(ae, files)
    assert (ae.source.kind, ae.source.index_verified, ae.source.path) == ("zoo", True, str(pinned.folder))
    assert (ae.source.repository, ae.source.commit) == (None, None)
    assert hub.requests == []


def test_a_folder_without_the_variant_leaves_it_to_the_hub(
    hub: HubServer, pinned: Zoo, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEZOO_ZOO", str(tmp_path / "nothing"))
    assert_is(aezoo.load("small"), files)
    assert hub.requests


@pytest.mark.parametrize("name", sorted(READ))
def test_a_pulled_copy_with_other_bytes_is_refused(
    hub: HubServer, pinned: Zoo, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pinned.folder / name
    raw = path.read_bytes()
    path.write_bytes(raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:])
    monkeypatch.setenv("AEZOO_ZOO", str(pinned.folder.parent))
    with raises("hash-mismatch") as caught:
        aezoo.load("small")
    assert caught.value.code == "hash-mismatch"
    for word in (str(path), f"expected {sha256(raw)}", "these are not the published bytes"):
        assert word in str(caught.value)
    assert hub.requests == []


@pytest.mark.parametrize("by", ["name", "address"])
@pytest.mark.parametrize("name", sorted(READ))
def test_a_repository_with_other_bytes_than_the_index_says_is_refused(
    hub: HubServer, pinned: Zoo, files: Files, name: str, by: str, tmp_path: Path
) -> None:
    pinned.edit(lambda entry: entry["files"][name].update(sha256="0" * 64))
    with raises("hash-mismatch") as caught:
        aezoo.load("small" if by == "name" else f"hub:{REPO}@main")
    assert caught.value.code == "hash-mismatch"
    # The config says what the weights are, so that these are not even asked for.
    place = in_cache(tmp_path, pinned.commit, CONFIG if name == WEIGHTS else name)
    for word in (str(place), "0" * 64, sha256(files[name])):
        assert word in str(caught.value)
    assert name != WEIGHTS or WEIGHTS not in "".join(lines(hub))


def test_a_name_that_cannot_be_fetched_says_where_from(
    hub: HubServer, pinned: Zoo, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = f"{REPO}@{pinned.commit}: {CONFIG}"
    with monkeypatch.context() as offline:
        offline.setenv("HF_HUB_OFFLINE", "1")
        with raises("not-cached", match=where):
            aezoo.load("small")
    with monkeypatch.context() as gone:
        gone.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        with raises("unreachable", match=where):
            aezoo.load("small")
    assert_is(aezoo.load("small"), files)


@pytest.mark.parametrize("name", sorted(READ))
def test_another_size_than_the_index_says_is_refused_before_the_content_is_fetched(
    hub: HubServer, pinned: Zoo, files: Files, name: str
) -> None:
    pinned.edit(lambda entry: entry["files"][name].update(bytes=12_345))
    with raises("size-mismatch") as caught:
        aezoo.load("small")
    assert caught.value.code == "size-mismatch"
    said = f"{REPO}@{pinned.commit}: {name} has {len(files[name]):,} bytes there, expected 12,345"
    assert said in str(caught.value)
    assert not [line for line in lines(hub) if re.search(rf"GET .*{name}", line)]


# -- what goes wrong ----------------------------------------------------------------------------------


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client and aezoo would have waited; nobody does."""
    naps: list[float] = []
    monkeypatch.setattr("time.sleep", naps.append)
    return naps


Refused = Callable[..., BaseException]


@pytest.fixture
def refused(hub: HubServer, files: Files) -> Refused:
    """Checks what an address is refused with, and that what was in the cache before still loads from there."""
    good = f"hub:{REPO}@{hub.add(REPO, files)}"
    aezoo.load(good)

    def refused(
        address: str, code: str, *words: str, cause: type[BaseException] | None = None
    ) -> BaseException:
        with raises(code) as caught:
            aezoo.load(address)
        for word in words:
            assert word in str(caught.value)
        assert cause is None or isinstance(caught.value.__cause__, cause)
        asked = len(hub.requests)
        assert_is(aezoo.load(good), files)
        assert lines(hub, asked) == []
        return caught.value

    return refused


@pytest.mark.parametrize("logged_in", [False, True])
def test_no_such_repository(
    hub: HubServer, refused: Refused, logged_in: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if logged_in:
        monkeypatch.setenv("HF_TOKEN", hub.token)
    words = ("ann/nothing@v1 is no repository, or a private one", "hf auth login", "HF_TOKEN")
    refused("hub:ann/nothing@v1", "no-repository", *words, cause=RepositoryNotFoundError)


def test_a_private_repository_takes_a_token(
    hub: HubServer, refused: Refused, others: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("ann/secret", others, private=True)
    address = "hub:ann/secret@main"
    refused(address, "no-repository", "or a private one", "HF_TOKEN", cause=RepositoryNotFoundError)
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    refused(address, "unauthorized", "ann/secret@main", "expired", "HF_TOKEN", cause=HfHubHTTPError)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert_is(aezoo.load(address), others)


def test_a_gated_repository_asks_for_its_conditions(
    hub: HubServer, refused: Refused, others: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("ann/gated", others, gated=True)
    address, words = "hub:ann/gated@main", ("ann/gated@main is gated", "accept its conditions", "HF_TOKEN")
    refused(address, "gated", *words, cause=GatedRepoError)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    refused(address, "gated", *words, cause=GatedRepoError)
    hub.repositories["ann/gated"].granted = True
    assert_is(aezoo.load(address), others)


@pytest.mark.parametrize("revision", ["v9", "a" * 40])
def test_no_such_revision(refused: Refused, revision: str) -> None:
    words = (f"{REPO}@{revision}", "no such branch, tag or commit")
    refused(f"hub:{REPO}@{revision}", "no-revision", *words, cause=RevisionNotFoundError)


@pytest.mark.parametrize("pin", [False, True])
def test_a_repository_without_a_config_is_no_variant(hub: HubServer, refused: Refused, pin: bool) -> None:
    commit = hub.add("bob/words", {"README.md": b"# Words\n"})
    where = f"bob/words@{commit if pin else 'main'}"
    words = (f"{where} is no aezoo variant", "has no config.json")
    error = refused(f"hub:{where}", "not-a-variant", *words)
    assert error.__cause__ is not None


def test_a_repository_without_weights(hub: HubServer, refused: Refused, others: Files) -> None:
    commit = hub.add(REPO, {**others, WEIGHTS: None})
    words = (f"{REPO}@{commit} has no {WEIGHTS}",)
    refused(f"hub:{REPO}@main", "missing-file", *words, cause=EntryNotFoundError)


@pytest.mark.parametrize("revision", ["main", "commit"])
def test_offline_what_is_not_cached_is_said_without_a_request(
    hub: HubServer,
    refused: Refused,
    others: Files,
    revision: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    revision = hub.add("ann/other", others) if revision == "commit" else revision
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = len(hub.requests)
    words = (
        f"ann/other@{revision}: {CONFIG} is not in the cache {tmp_path / 'hf' / 'hub'}",
        "HF_HUB_OFFLINE",
    )
    refused(f"hub:ann/other@{revision}", "not-cached", *words)
    assert lines(hub, asked) == []


def test_offline_a_file_that_is_not_cached_is_named(
    hub: HubServer, refused: Refused, others: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add(REPO, others)
    hub.fault("status", match=f"GET .*{WEIGHTS}", status=500)
    refused(f"hub:{REPO}@{commit}", "server-error")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(f"hub:{REPO}@{commit}", "not-cached", f"{REPO}@{commit}: {WEIGHTS} is not in the cache")


# -- the way there


def fresh_connections() -> None:
    """Makes the client look at proxies and certificates again, which it does once."""
    huggingface_hub.close_session()


@pytest.fixture
def connections() -> Iterator[None]:
    """Connections of this test alone."""
    fresh_connections()
    yield
    fresh_connections()


def test_a_hub_that_is_not_there_is_said_at_once(
    hub: HubServer, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    words = ("ann/other@main", "http://127.0.0.1:9 cannot be reached", "refused")
    error = refused("hub:ann/other@main", "unreachable", *words)
    assert error.__cause__ is not None
    assert time.monotonic() - start < 5


def test_a_host_that_nobody_knows(hub: HubServer, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    words = ("http://hub.invalid cannot be reached", "Name or service not known")
    error = refused("hub:ann/other@main", "unreachable", *words)
    assert error.__cause__ is not None


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES, errno.ENETUNREACH])
def test_a_connection_that_the_system_forbids_is_not_taken_for_the_disk(
    hub: HubServer, refused: Refused, connections: None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a sandbox or a firewall does."""

    def forbidden(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(socket, "create_connection", forbidden)
    words = (f"{hub.url} cannot be reached", os.strerror(code))
    error = refused("hub:ann/other@main", "unreachable", *words)
    assert error.__cause__ is not None


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_a_proxy_that_is_not_there_is_named(
    hub: HubServer, refused: Refused, connections: None, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in ("NO_PROXY", "no_proxy", "http_proxy", "all_proxy"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(variable, "http://ann:secret@127.0.0.1:9")
    words = (f"{hub.url} cannot be reached", "proxy", "127.0.0.1:9")
    error = refused("hub:ann/other@main", "unreachable", *words)
    assert error.__cause__ is not None
    assert "secret" not in str(error)
    assert not [line for line in lines(hub) if "other" in line]


def test_what_answers_but_is_no_hub(hub: HubServer, refused: Refused, others: Files) -> None:
    """Such as the login page of a hotel's network."""
    hub.add("ann/other", others)
    hub.fault("no-commit-header")
    words = (f"{hub.url} does not answer as the Hub does", "names no commit", "HF_ENDPOINT")
    refused("hub:ann/other@main", "server-error", *words)
    assert not [line for line in lines(hub) if re.search("GET .*other", line)]


def test_an_answer_from_another_commit_is_refused(
    hub: HubServer, refused: Refused, files: Files, others: Files
) -> None:
    asked, given = hub.add("ann/other", files), hub.add("ann/other", others)
    commits = hub.repositories["ann/other"].commits
    commits[asked] = commits[given]
    words = (f"ann/other@{asked} was asked for", f"answered with commit {given}")
    refused(f"hub:ann/other@{asked}", "failed", *words)
    assert not [line for line in lines(hub) if re.search("GET .*other", line)]


REQUESTS = [
    f"HEAD .*{CONFIG}",
    f"GET .*{CONFIG}",
    f"HEAD .*{WEIGHTS}",
    f"GET .*{WEIGHTS}",
    f"HEAD .*{TRAINING}",
]
"""Of the Hub, except that large files are got from the CDN."""
FAILURES = {429: ("rate-limit", "takes no more requests"), 503: ("server-error", "answered with status 503")}
# What is cached by the branch's name is not asked for again at the commit.
STEPS = [*((match, "main") for match in REQUESTS), *((match, "commit") for match in REQUESTS[:2])]


@pytest.mark.parametrize("status", sorted(FAILURES))
@pytest.mark.parametrize(("match", "revision"), STEPS)
def test_a_hub_that_cannot_just_now_is_asked_again(
    hub: HubServer,
    refused: Refused,
    others: Files,
    naps: list[float],
    match: str,
    revision: str,
    status: int,
) -> None:
    commit = hub.add("ann/other", others)
    address = f"hub:ann/other@{commit if revision == 'commit' else revision}"
    fault = hub.fault("status", match=match, status=status)
    error, words = FAILURES[status]
    refused(address, error, "ann/other@", match.rpartition("*")[2], words, cause=HfHubHTTPError)
    assert fault.fired > 1
    hub.faults.clear()
    fault = hub.fault("status", match=match, status=status, times=1)
    assert_is(aezoo.load(address), others)
    assert fault.fired == 1


def test_a_hub_that_cannot_twice_at_every_step_is_outlived(
    hub: HubServer, others: Files, naps: list[float]
) -> None:
    commit = hub.add(REPO, others)
    faults = [hub.fault("status", match=match, times=2) for match in REQUESTS]
    assert_is(aezoo.load(f"hub:{REPO}@{commit}"), others)
    assert [fault.fired for fault in faults] == [2] * len(REQUESTS)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, METRICS])
@pytest.mark.parametrize("kind", ["truncate", "drop", "short"])
def test_a_download_that_ends_early_leaves_nothing_that_is_used(
    hub: HubServer,
    refused: Refused,
    others: Files,
    naps: list[float],
    kind: Any,
    name: str,
    tmp_path: Path,
) -> None:
    commit = hub.add(REPO, others)
    address = f"hub:{REPO}@{commit}"
    hub.fault(kind, match=f"GET .*{name}")
    words = (f"{REPO}@{commit}: {name}", "ended before all of it was through", "try again")
    error = refused(address, "interrupted", *words)
    assert error.__cause__ is not None
    assert not in_cache(tmp_path, commit, name).exists()
    assert not list((tmp_path / "hf").rglob("*.incomplete"))
    hub.faults.clear()
    assert_is(aezoo.load(address), others)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, METRICS])
@pytest.mark.parametrize("kind", ["truncate", "drop"])
def test_a_download_that_ends_early_once_is_taken_up_again(
    hub: HubServer, others: Files, naps: list[float], kind: Any, name: str
) -> None:
    commit = hub.add(REPO, others)
    fault = hub.fault(kind, match=f"GET .*{name}", times=1)
    assert_is(aezoo.load(f"hub:{REPO}@{commit}"), others)
    assert fault.fired == 1


def test_a_download_that_comes_to_a_halt(
    hub: HubServer, refused: Refused, others: Files, naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.05)
    address = f"hub:{REPO}@{hub.add(REPO, others)}"
    hub.fault("delay", match=f"GET .*{WEIGHTS}", delay=0.5)
    error = refused(address, "unreachable", f"{WEIGHTS}: {hub.url} cannot be reached", "timed out")
    assert error.__cause__ is not None
    hub.faults.clear()
    hub.fault("delay", match=f"GET .*{WEIGHTS}", delay=0.5, times=1)
    assert_is(aezoo.load(address), others)


@pytest.mark.parametrize("name", [CONFIG, METRICS])
def test_a_short_file_that_says_it_is_whole_is_noticed_by_its_id(
    hub: HubServer, refused: Refused, others: Files, name: str
) -> None:
    commit = hub.add(REPO, others)
    hub.fault("short", match=name)
    half = others[name][: len(others[name]) // 2]
    words = (name, f"has the id {git_blob(half)}, expected {git_blob(others[name])}")
    refused(f"hub:{REPO}@{commit}", "hash-mismatch", *words)
    hub.faults.clear()
    assert_is(aezoo.load(f"hub:{REPO}@{commit}"), others)


# -- other bytes


def damaged(raw: bytes) -> bytes:
    """As the fault `corrupt` does."""
    middle = len(raw) // 2
    return raw[:middle] + bytes([raw[middle] ^ 0xFF]) + raw[middle + 1 :]


def identity(name: str, raw: bytes) -> str:
    return sha256(raw) if name == WEIGHTS else git_blob(raw)


WAYS = [(CONFIG, False), *((name, True) for name in sorted(READ))]
"""A file, and whether it is asked for by its commit, as all but a branch's config are."""


@pytest.mark.parametrize(("name", "pin"), WAYS)
def test_what_came_damaged_is_fetched_once_more(hub: HubServer, others: Files, name: str, pin: bool) -> None:
    commit = hub.add(REPO, others)
    fault = hub.fault("corrupt", match=f"GET .*{name}", times=1)
    assert_is(aezoo.load(f"hub:{REPO}@{commit if pin else 'main'}"), others)
    assert fault.fired == 1
    assert len([line for line in lines(hub) if re.search(f"GET .*{name}", line)]) >= 2
    asked = len(hub.requests)
    assert_is(aezoo.load(f"hub:{REPO}@{commit}"), others)
    assert lines(hub, asked) == []


@pytest.mark.parametrize(("name", "pin"), WAYS)
def test_what_keeps_coming_damaged_is_refused(
    hub: HubServer, refused: Refused, others: Files, name: str, pin: bool, tmp_path: Path
) -> None:
    commit = hub.add(REPO, others)
    address, raw = f"hub:{REPO}@{commit if pin else 'main'}", others[name]
    hub.fault("corrupt", match=f"GET .*{name}")
    place = in_cache(tmp_path, commit, name)
    refused(
        address, "hash-mismatch", str(place), identity(name, damaged(raw)), f"expected {identity(name, raw)}"
    )
    hub.faults.clear()
    assert_is(aezoo.load(address), others)


def spoil(path: Path, raw: bytes) -> None:
    """Puts other bytes where a file of the cache lies, behind its link."""
    path.resolve().write_bytes(raw)


@pytest.mark.parametrize("how", ["damaged", "empty", "gone"])
@pytest.mark.parametrize("name", sorted(READ))
def test_what_lies_damaged_in_the_cache_is_fetched_anew(
    hub: HubServer, files: Files, name: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add(REPO, files)
    address, path, raw = f"hub:{REPO}@{commit}", in_cache(tmp_path, commit, name), files[name]
    aezoo.load(address)
    if how == "gone":
        path.resolve().unlink()
    else:
        spoil(path, damaged(raw) if how == "damaged" else b"")
    asked = len(hub.requests)
    assert_is(aezoo.load(address), files)
    assert {line.rpartition("/")[2] for line in lines(hub, asked)} == {name}
    assert path.read_bytes() == raw


@pytest.mark.parametrize("how", ["offline", "gone"])
@pytest.mark.parametrize("name", sorted(READ))
def test_what_lies_damaged_in_the_cache_is_refused_where_it_cannot_be_fetched(
    hub: HubServer,
    refused: Refused,
    others: Files,
    name: str,
    how: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commit = hub.add(REPO, others)
    address, path, raw = f"hub:{REPO}@{commit}", in_cache(tmp_path, commit, name), others[name]
    aezoo.load(address)
    spoil(path, damaged(raw))
    if how == "offline":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    else:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    refused(
        address, "hash-mismatch", str(path), identity(name, damaged(raw)), f"expected {identity(name, raw)}"
    )


@pytest.mark.parametrize("name", sorted(READ))
def test_a_cache_without_links_heals_too(
    hub: HubServer,
    pinned: Zoo,
    files: Files,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on Windows: a file's id is then known to the index alone."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_SYMLINKS", True)
    aezoo.load("small")
    path = in_cache(tmp_path, pinned.commit, name)
    assert not path.is_symlink()
    path.write_bytes(damaged(files[name]))
    assert_is(aezoo.load("small"), files)
    assert path.read_bytes() == files[name]


# -- other things


def with_config(files: Files, change: Callable[[Any], object]) -> Files:
    """With an edited config."""
    config = json.loads(files[CONFIG])
    change(config)
    return {**files, CONFIG: json.dumps(config).encode()}


def with_weights(files: Files, raw: bytes) -> Files:
    """With other weights, which the config names."""
    record = {"file": WEIGHTS, "sha256": sha256(raw), "bytes": len(raw)}
    return {**with_config(files, lambda config: config.update(weights=record)), WEIGHTS: raw}


def with_tensors(files: Files, change: Callable[[dict[str, torch.Tensor]], object]) -> Files:
    """With other tensors, in a file that is a good one by itself."""
    tensors = safetensors.torch.load(files[WEIGHTS])
    length = int.from_bytes(files[WEIGHTS][:8], "little")
    metadata = json.loads(files[WEIGHTS][8 : 8 + length])["__metadata__"]
    change(tensors)
    return with_weights(files, safetensors.torch.save(tensors, metadata=metadata))


PICKLE = pickle.dumps({"weights": [0.0] * 100}, protocol=4)
BIAS = "encoder.1.linear.bias"
TRANSFORMERS = b'{"model_type": "bert", "hidden_size": 768, "architectures": ["BertModel"]}'
PLUGIN = {"name": "sae", "distribution": "aezoo-sae", "version": "3.1"}


@pytest.mark.parametrize(
    ("change", "error", "name", "words"),
    [
        (
            lambda files: files | {CONFIG: TRANSFORMERS},
            "not-a-variant",
            CONFIG,
            "is none that aezoo wrote: it has no schema_version, spec_sha256 and spec",
        ),
        (lambda files: files | {CONFIG: b"[]"}, "invalid-config", CONFIG, "expected an object, found list"),
        (lambda files: files | {CONFIG: b"<html>"}, "invalid-config", CONFIG, "is not JSON"),
        (lambda files: files | {CONFIG: b""}, "invalid-config", CONFIG, "is not JSON"),
        (
            lambda files: with_config(files, lambda config: config.update(schema_version=99)),
            "schema-version",
            CONFIG,
            "has schema version 99, this aezoo reads up to 1; upgrade aezoo",
        ),
        (
            lambda files: with_config(files, lambda config: config.update(plugins=[PLUGIN])),
            "missing-plugin",
            CONFIG,
            "needs the plugin 'sae'; install aezoo-sae==3.1",
        ),
        (
            lambda files: with_weights(files, PICKLE),
            "not-safetensors",
            WEIGHTS,
            "is a pickle, not safetensors; it was not opened",
        ),
        (
            lambda files: with_tensors(files, lambda tensors: tensors.update(more=torch.zeros(1))),
            "tensor-mismatch",
            WEIGHTS,
            "tensor 'more' is none that the spec asks for",
        ),
        (
            lambda files: with_tensors(files, lambda tensors: tensors.pop(BIAS)),
            "tensor-mismatch",
            WEIGHTS,
            f"tensor '{BIAS}' is missing",
        ),
        (
            lambda files: with_tensors(files, lambda tensors: tensors[BIAS].fill_(math.nan)),
            "not-finite",
            WEIGHTS,
            f"{BIAS} has 8 values that are NaN or infinite",
        ),
        (lambda files: files | {METRICS: b"[]"}, "invalid-config", METRICS, "expected an object, found list"),
        (lambda files: files | {TRAINING: b"{"}, "invalid-config", TRAINING, "is not JSON"),
    ],
    ids=[
        "transformers", "list", "html", "empty", "newer", "plugin", "pickle", "more", "less", "nan", "metrics",
        "training",
    ],
)  # fmt: skip
def test_a_repository_of_something_else(
    hub: HubServer,
    refused: Refused,
    others: Files,
    change: Callable[[Files], Files],
    error: str,
    name: str,
    words: str,
    tmp_path: Path,
) -> None:
    commit = hub.add(REPO, change(others))
    refused(f"hub:{REPO}@main", error, str(in_cache(tmp_path, commit, name)), words)
    assert len([line for line in lines(hub) if commit in line and "GET" in line]) <= 2


def test_a_pickle_where_the_config_names_weights_is_not_opened(
    hub: HubServer, refused: Refused, others: Files
) -> None:
    """Of the right size, so that only its content tells."""
    filled = PICKLE + bytes(len(others[WEIGHTS]) - len(PICKLE))
    commit = hub.add(REPO, {**others, WEIGHTS: filled})
    refused(f"hub:{REPO}@{commit}", "not-safetensors", WEIGHTS, "is a pickle, not safetensors")


# -- too much


@pytest.mark.parametrize(
    ("name", "pin"), [(CONFIG, False), (CONFIG, True), (METRICS, True), (TRAINING, True)]
)
def test_a_small_file_that_is_announced_as_huge_is_not_fetched(
    hub: HubServer, refused: Refused, others: Files, name: str, pin: bool
) -> None:
    commit = hub.add(REPO, others)
    where = f"{REPO}@{commit if pin else 'main'}"
    hub.fault("longer", match=f"HEAD .*{name}", size=10_000_000_000)
    asked = len(hub.requests)
    refused(
        f"hub:{where}", "invalid-config", where, f"{name} has 10,000,000,000 bytes, more than the 4,000,000"
    )
    assert not [line for line in lines(hub, asked) if re.search(f"GET .*{name}", line)]


@pytest.mark.parametrize("size", [10_000_000_000, 7])
def test_weights_that_are_announced_in_another_size_than_the_config_says_are_not_fetched(
    hub: HubServer, refused: Refused, others: Files, size: int
) -> None:
    commit = hub.add(REPO, others)
    hub.fault("longer", match=f"HEAD .*{WEIGHTS}", size=size)
    words = (f"{REPO}@{commit}", WEIGHTS, f"{size:,} bytes", f"expected {len(others[WEIGHTS]):,}")
    asked = len(hub.requests)
    refused(f"hub:{REPO}@{commit}", "size-mismatch", *words)
    assert not [line for line in lines(hub, asked) if re.search(f"GET .*{WEIGHTS}", line)]


def test_weights_larger_than_the_spec_asks_for_are_not_asked_for(
    hub: HubServer, refused: Refused, others: Files
) -> None:
    large = with_config(others, lambda config: config["weights"].update(bytes=10_000_000_000))
    commit = hub.add(REPO, large)
    words = (CONFIG, "weights.bytes: 10,000,000,000 is recorded, the spec asks for at most")
    refused(f"hub:{REPO}@{commit}", "invalid-config", *words)
    assert not [line for line in lines(hub) if commit in line and WEIGHTS in line]


def test_max_parameters_holds_before_the_weights_are_fetched(hub: HubServer, others: Files) -> None:
    commit = hub.add(REPO, others)
    with raises("invalid-config", match="parameters"):
        aezoo.load(f"hub:{REPO}@{commit}", max_parameters=100)
    assert not [line for line in lines(hub) if WEIGHTS in line]


# -- the disk -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["file/hub", 300 * "x", "/proc/nothing"])
def test_a_cache_that_cannot_be_made(
    hub: HubServer, files: Files, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add(REPO, files)
    (tmp_path / "file").write_bytes(b"mine")
    cache = tmp_path / place
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    with raises("cache") as caught:
        aezoo.load(f"hub:{REPO}@{commit}")
    assert caught.value.code == "cache"
    for word in (f"{REPO}@{commit}: {CONFIG}", f"{cache} cannot be written", "HF_HOME"):
        assert word in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    assert (tmp_path / "file").read_bytes() == b"mine"
    monkeypatch.delenv("HF_HUB_CACHE")
    assert_is(aezoo.load(f"hub:{REPO}@{commit}"), files)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_cache_that_may_only_be_read_gives_what_it_has(
    hub: HubServer,
    refused: Refused,
    files: Files,
    others: Files,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever runs the tests may be allowed to write anywhere, so that the system's answer is made up."""
    hub.repositories[REPO].tags["v1"] = hub.repositories[REPO].branches["main"]
    aezoo.load(f"hub:{REPO}@v1")

    def forbidden(path: Any, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(os, "makedirs", forbidden)
    assert_is(aezoo.load(f"hub:{REPO}@v1"), files)
    commit = hub.add(REPO, others)
    words = (f"{REPO}@{commit}: {CONFIG}", "cannot be written", os.strerror(code), "HF_HOME")
    refused(f"hub:{REPO}@{commit}", "cache", *words, cause=OSError)


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Within, no file of this process grows beyond a size, which fails as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_full_disk(hub: HubServer, refused: Refused, others: Files, name: str, tmp_path: Path) -> None:
    others = {CONFIG: others[CONFIG], WEIGHTS: others[WEIGHTS]}
    assert len(others[CONFIG]) < len(others[WEIGHTS])
    commit = hub.add("ann/other", others)
    with full_disk(len(others[name]) - 1):
        words = (f"ann/other@{commit}: {name}", f"the disk under {tmp_path / 'hf' / 'hub'} is full")
        refused(f"hub:ann/other@{commit}", "cache", *words, cause=OSError)
    assert not in_cache(tmp_path, commit, name, "ann/other").exists()
    assert not list((tmp_path / "hf").rglob("*.incomplete"))
    assert_is(aezoo.load(f"hub:ann/other@{commit}"), others)


# -- the environment ----------------------------------------------------------------------------------


def test_the_endpoint_is_looked_at_on_every_call(
    hub: HubServer, files: Files, others: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, files)
    assert_is(aezoo.load(f"hub:{REPO}@main"), files)
    with HubServer() as mirror:
        mirror.add(REPO, others)
        monkeypatch.setenv("HF_ENDPOINT", f"{mirror.url}/")
        asked = len(hub.requests)
        assert_is(aezoo.load(f"hub:{REPO}@main"), others)
    assert lines(hub, asked) == []


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HF_HOME": "{0}/other"}, "other/hub"),
        ({"HF_HOME": "{0}/other", "HF_HUB_CACHE": "{0}/cache"}, "cache"),
        ({"HOME": "{0}", "HF_HOME": "~/other"}, "other/hub"),
        ({"PLACE": "{0}", "HF_HUB_CACHE": "$PLACE/cache"}, "cache"),
    ],
)
def test_the_cache_is_where_the_environment_says_on_every_call(
    hub: HubServer,
    files: Files,
    variables: dict[str, str],
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = f"hub:{REPO}@{hub.add(REPO, files)}"
    aezoo.load(address)
    before = sorted((tmp_path / "hf").rglob("*"))
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value.format(tmp_path))
    monkeypatch.chdir(tmp_path)
    ae = aezoo.load(address)
    assert_is(ae, files)
    assert Path(str(ae.source.path)).is_relative_to(tmp_path / place)
    assert (tmp_path / place / "models--ann--small").is_dir()
    assert sorted((tmp_path / "hf").rglob("*")) == before


@pytest.mark.parametrize(
    ("value", "offline"), [("1", True), ("on", True), ("TRUE", True), ("0", False), ("", False)]
)
def test_offline_is_what_the_client_takes_for_it(
    hub: HubServer, files: Files, value: str, offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, files)
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    if offline:
        with raises("not-cached"):
            aezoo.load(f"hub:{REPO}@main")
    else:
        assert_is(aezoo.load(f"hub:{REPO}@main"), files)
    assert bool(hub.requests) != offline


def test_the_token_goes_to_the_hub_and_nowhere_else(
    hub: HubServer, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, files, private=True)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    # What came damaged is fetched anew, which must not send it either.
    hub.fault("corrupt", match=f"GET .*{WEIGHTS}", times=1)
    assert_is(aezoo.load(f"hub:{REPO}@main"), files)
    by_port = {port: [r for r in hub.requests if r.port == port] for port in ("hub", "cdn")}
    assert len(by_port["cdn"]) == 2
    assert all(r.headers["authorization"] == f"Bearer {hub.token}" for r in by_port["hub"])
    assert not [r for r in by_port["cdn"] if hub.token in f"{r.headers} {r.path}"]


# -- certificates


class Encrypted(socketserver.ThreadingTCPServer):
    """The Hub by HTTPS, with a certificate that only our own authority signed."""

    daemon_threads = True

    def __init__(self, hub: HubServer) -> None:
        address = urlsplit(hub.url)
        self.target = (str(address.hostname), int(address.port or 0))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(CERTIFICATES / "server.pem")
        super().__init__(("127.0.0.1", 0), Forwarding)
        self.url = f"https://127.0.0.1:{self.server_address[1]}"


class Forwarding(socketserver.BaseRequestHandler):
    """Hands bytes to and fro, until one side ends it."""

    server: Encrypted

    def handle(self) -> None:
        # A client that does not trust the certificate hangs up.
        with (
            contextlib.suppress(OSError),
            self.server.context.wrap_socket(self.request, server_side=True) as client,
            socket.create_connection(self.server.target) as hub,
        ):
            while True:
                ready = [client] if client.pending() else select.select([client, hub], [], [])[0]
                for side in ready:
                    if not (data := side.recv(65536)):
                        return
                    (hub if side is client else client).sendall(data)


@pytest.fixture
def encrypted(hub: HubServer, connections: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Encrypted]:
    with Encrypted(hub) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
        fresh_connections()
        server.shutdown()
        thread.join()


def test_a_certificate_that_nobody_vouches_for_is_said_to_be_that(
    hub: HubServer, files: Files, encrypted: Encrypted
) -> None:
    hub.add(REPO, files)
    with raises("unreachable") as caught:
        aezoo.load(f"hub:{REPO}@main")
    assert caught.value.code == "unreachable"
    for word in (f"{encrypted.url} cannot be reached", "certificate", "SSL_CERT_FILE"):
        assert word in str(caught.value)
    assert caught.value.__cause__ is not None
    assert hub.requests == []


def test_an_authority_of_ones_own_is_named_by_the_environment(
    hub: HubServer, files: Files, encrypted: Encrypted, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):  # the latter for older clients
        monkeypatch.setenv(variable, str(CERTIFICATES / "authority.pem"))
    hub.add(REPO, files)
    assert_is(aezoo.load(f"hub:{REPO}@main"), files)


def test_certificates_that_are_not_there_are_said_to_be_that(
    hub: HubServer, files: Files, encrypted: Encrypted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, files)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nothing.pem"))
    with pytest.raises(HubError, match="SSL_CERT_FILE") as caught:
        aezoo.load(f"hub:{REPO}@main")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


# -- processes ----------------------------------------------------------------------------------------

WORKER = """
import os, sys
import aezoo
print("ready", flush=True)
for line in sys.stdin:
    os.environ["HF_HOME"], address = line.split()
    try:
        print(aezoo.load(address).source.sha256, flush=True)
    except BaseException as error:
        print(repr(error), flush=True)
"""


@contextlib.contextmanager
def worker() -> Iterator[subprocess.Popen[str]]:
    """A process that loads what it is told to, into the cache that it is told."""
    command = [sys.executable, "-W", "error", "-c", WORKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def tell(process: subprocess.Popen[str], home: Path, address: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{home} {address}\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.slow
def test_two_processes_load_into_one_empty_cache_at_once(
    hub: HubServer, files: Files, tmp_path: Path
) -> None:
    commit = hub.add(REPO, files)
    # So that each is in the midst of it when the other comes.
    hub.fault("delay", delay=0.02)
    with worker() as one, worker() as two:
        for round in range(8):
            address = f"hub:{REPO}@{'main' if round % 2 else commit}"
            for process in (one, two):
                tell(process, tmp_path / str(round), address)
            assert [answer(one), answer(two)] == 2 * [sha256(files[WEIGHTS])]
            assert not list((tmp_path / str(round)).rglob("*.incomplete"))


@pytest.mark.slow
def test_a_process_that_is_killed_in_a_download_leaves_a_cache_that_works(
    hub: HubServer, files: Files, tmp_path: Path
) -> None:
    address = f"hub:{REPO}@{hub.add(REPO, files)}"
    delay = hub.fault("delay", match=f"GET .*{WEIGHTS}", delay=60)
    with worker() as process:
        tell(process, tmp_path / "hf", address)
        while not delay.fired:
            time.sleep(0.01)
        process.kill()
    assert list((tmp_path / "hf").rglob("*.incomplete"))
    hub.faults.clear()
    start = time.monotonic()
    assert_is(aezoo.load(address), files)
    assert time.monotonic() - start < 5


def test_ctrl_c_is_no_error_of_the_hub(hub: HubServer, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"hub:{REPO}@{hub.add(REPO, files)}"
    with monkeypatch.context() as stopped:

        def stop(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        stopped.setattr(huggingface_hub, "hf_hub_download", stop)
        with pytest.raises(KeyboardInterrupt):
            aezoo.load(address)
    assert_is(aezoo.load(address), files)
