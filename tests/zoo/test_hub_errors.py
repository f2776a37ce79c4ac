"""Requests to the Hub that fail: each has its own code, and leaves what the cache holds."""

import errno
import os
import socket
import time
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

import aezoo
from aezoo.zoo.schema import CONFIG, METRICS, TRAINING, WEIGHTS
from tests.hub_server import HubServer
from tests.parts import in_parts
from tests.zoo.hub_files import NOWHERE, REPO, Files, Rejection, assert_is, in_cache, lines

OTHER = "hub:ann/other@main"

# -- what the Hub refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize("logged_in", [False, True])
def test_a_missing_repository(
    hub: HubServer, rejects: Rejection, logged_in: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if logged_in:
        monkeypatch.setenv("HF_TOKEN", hub.token)
    words = ("ann/nothing@v1 does not exist, or is private", "hf auth login", "HF_TOKEN")
    rejects("hub:ann/nothing@v1", "no-repository", *words, cause=RepositoryNotFoundError)


def test_a_private_repository_needs_a_token(
    hub: HubServer, rejects: Rejection, others: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("ann/secret", others, private=True)
    address = "hub:ann/secret@main"
    rejects(address, "no-repository", "or is private", "HF_TOKEN", cause=RepositoryNotFoundError)
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    rejects(address, "unauthorized", "ann/secret@main", "expired", "HF_TOKEN", cause=HfHubHTTPError)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert_is(aezoo.load(address), others)


def test_a_gated_repository_names_its_conditions(
    hub: HubServer, rejects: Rejection, others: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("ann/gated", others, gated=True)
    address, words = "hub:ann/gated@main", ("ann/gated@main is gated", "accept its conditions", "HF_TOKEN")
    rejects(address, "gated", *words, cause=GatedRepoError)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    rejects(address, "gated", *words, cause=GatedRepoError)
    hub.repositories["ann/gated"].granted = True
    assert_is(aezoo.load(address), others)


@pytest.mark.parametrize("revision", ["v9", "a" * 40])
def test_a_missing_revision(rejects: Rejection, revision: str) -> None:
    words = f"{REPO}@{revision} does not exist: no such branch, tag or commit"
    rejects(f"hub:{REPO}@{revision}", "no-revision", words, cause=RevisionNotFoundError)


@pytest.mark.parametrize("pin", [False, True])
def test_a_repository_without_a_config(hub: HubServer, rejects: Rejection, pin: bool) -> None:
    commit = hub.add("bob/words", {"README.md": b"# Words\n"})
    where = f"bob/words@{commit if pin else 'main'}"
    words = f"{where} is not an aezoo variant: no config.json"
    rejects(f"hub:{where}", "not-a-variant", words, cause=Exception)


def test_a_repository_without_weights(hub: HubServer, rejects: Rejection, others: Files) -> None:
    commit = hub.add(REPO, {**others, WEIGHTS: None})
    words = f"{REPO}@{commit} has no {WEIGHTS}"
    rejects(f"hub:{REPO}@main", "missing-file", words, cause=EntryNotFoundError)


# -- offline ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", ["main", "commit"])
def test_offline_what_is_not_cached_is_refused_without_a_request(
    hub: HubServer,
    rejects: Rejection,
    others: Files,
    revision: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    revision = hub.add("ann/other", others) if revision == "commit" else revision
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = len(hub.requests)
    words = f"ann/other@{revision}: {CONFIG} is not in the cache {tmp_path / 'hf' / 'hub'}"
    rejects(f"hub:ann/other@{revision}", "not-cached", words, "HF_HUB_OFFLINE")
    assert lines(hub, asked) == []


def test_offline_a_file_that_is_not_cached_is_named(
    hub: HubServer, rejects: Rejection, others: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add(REPO, others)
    hub.fault("status", match=f"GET .*{WEIGHTS}", status=500)
    rejects(f"hub:{REPO}@{commit}", "server-error")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rejects(f"hub:{REPO}@{commit}", "not-cached", f"{REPO}@{commit}: {WEIGHTS} is not in the cache")


# -- connections --------------------------------------------------------------------------------------


def test_a_hub_that_does_not_answer_is_refused_at_once(
    hub: HubServer, rejects: Rejection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    start = time.monotonic()
    words = ("ann/other@main", f"{NOWHERE} cannot be reached", "refused")
    rejects(OTHER, "unreachable", *words, cause=Exception)
    assert time.monotonic() - start < 5


def test_an_unknown_host(hub: HubServer, rejects: Rejection, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    words = ("http://hub.invalid cannot be reached", "Name or service not known")
    rejects(OTHER, "unreachable", *words, cause=Exception)


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES, errno.ENETUNREACH])
def test_a_forbidden_connection_is_not_taken_for_a_full_disk(
    hub: HubServer, rejects: Rejection, connections: None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a sandbox or behind a firewall."""

    def forbidden(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(socket, "create_connection", forbidden)
    words = (f"{hub.url} cannot be reached", os.strerror(code))
    rejects(OTHER, "unreachable", *words, cause=Exception)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_an_unreachable_proxy_is_named_without_its_password(
    hub: HubServer, rejects: Rejection, connections: None, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in ("NO_PROXY", "no_proxy", "http_proxy", "all_proxy"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(variable, "http://ann:secret@127.0.0.1:9")
    words = f"{hub.url} cannot be reached through the proxy 127.0.0.1:9"
    error = rejects(OTHER, "unreachable", words, cause=Exception)
    assert "secret" not in str(error)
    assert lines(hub, match="other") == []


def test_an_answer_that_is_not_the_hubs(hub: HubServer, rejects: Rejection, others: Files) -> None:
    """Such as the login page of a hotel's network."""
    hub.add("ann/other", others)
    hub.fault("no-commit-header")
    words = f"{hub.url} does not answer as the Hub does: no commit in its answer; see HF_ENDPOINT"
    rejects(OTHER, "server-error", words)
    assert lines(hub, match="GET .*other") == []


def test_an_answer_from_another_commit(
    hub: HubServer, rejects: Rejection, files: Files, others: Files
) -> None:
    asked, given = hub.add("ann/other", files), hub.add("ann/other", others)
    commits = hub.repositories["ann/other"].commits
    commits[asked] = commits[given]
    words = f"ann/other@{asked} was requested, the Hub answered with commit {given}"
    rejects(f"hub:ann/other@{asked}", "failed", words)
    assert lines(hub, match="GET .*other") == []


# -- retries ------------------------------------------------------------------------------------------

REQUESTS = [
    f"HEAD .*{CONFIG}",
    f"GET .*{CONFIG}",
    f"HEAD .*{WEIGHTS}",
    f"GET .*{WEIGHTS}",
    f"HEAD .*{TRAINING}",
]
FAILURES = {429: ("rate-limit", "too many requests"), 503: ("server-error", "answered with status 503")}
# What is cached under the branch's name is not requested again at the commit.
STEPS = [*((match, "main") for match in REQUESTS), *((match, "commit") for match in REQUESTS[:2])]


@pytest.mark.usefixtures("naps")
@pytest.mark.parametrize("status", sorted(FAILURES))
@pytest.mark.parametrize(("match", "revision"), in_parts(STEPS, 2))
def test_a_request_that_fails_is_repeated(
    hub: HubServer, rejects: Rejection, others: Files, match: str, revision: str, status: int
) -> None:
    commit = hub.add("ann/other", others)
    address = f"hub:ann/other@{commit if revision == 'commit' else revision}"
    fault = hub.fault("status", match=match, status=status)
    code, words = FAILURES[status]
    rejects(address, code, "ann/other@", match.rpartition("*")[2], words, cause=HfHubHTTPError)
    assert fault.fired > 1
    hub.faults.clear()
    fault = hub.fault("status", match=match, status=status, times=1)
    assert_is(aezoo.load(address), others)
    assert fault.fired == 1


@pytest.mark.usefixtures("naps")
def test_two_failures_of_every_request_are_overcome(hub: HubServer, others: Files) -> None:
    commit = hub.add(REPO, others)
    faults = [hub.fault("status", match=match, times=2) for match in REQUESTS]
    assert_is(aezoo.load(f"hub:{REPO}@{commit}"), others)
    assert [fault.fired for fault in faults] == [2] * len(REQUESTS)


# -- interrupted downloads ----------------------------------------------------------------------------


@pytest.mark.usefixtures("naps")
@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, METRICS])
@pytest.mark.parametrize("kind", ["truncate", "drop", "short"])
def test_an_interrupted_download_leaves_nothing_in_the_cache(
    hub: HubServer, rejects: Rejection, others: Files, kind: Any, name: str, tmp_path: Path
) -> None:
    commit = hub.add(REPO, others)
    address = f"hub:{REPO}@{commit}"
    hub.fault(kind, match=f"GET .*{name}")
    words = f"{REPO}@{commit}: {name}: the transfer was interrupted; try again"
    rejects(address, "interrupted", words, cause=Exception)
    assert not in_cache(tmp_path, commit, name).exists()
    assert not list((tmp_path / "hf").rglob("*.incomplete"))
    hub.faults.clear()
    if kind != "short":
        hub.fault(kind, match=f"GET .*{name}", times=1)
    assert_is(aezoo.load(address), others)
    assert all(fault.fired == 1 for fault in hub.faults)


@pytest.mark.usefixtures("naps")
def test_a_stalled_download(
    hub: HubServer, rejects: Rejection, others: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.05)
    address = f"hub:{REPO}@{hub.add(REPO, others)}"
    hub.fault("delay", match=f"GET .*{WEIGHTS}", delay=0.5)
    words = (f"{WEIGHTS}: {hub.url} cannot be reached", "timed out")
    rejects(address, "unreachable", *words, cause=Exception)
    hub.faults.clear()
    hub.fault("delay", match=f"GET .*{WEIGHTS}", delay=0.5, times=1)
    assert_is(aezoo.load(address), others)


def test_ctrl_c_is_not_a_hub_error(hub: HubServer, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"hub:{REPO}@{hub.add(REPO, files)}"
    with monkeypatch.context() as stopped:

        def stop(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        stopped.setattr(huggingface_hub, "hf_hub_download", stop)
        with pytest.raises(KeyboardInterrupt):
            aezoo.load(address)
    assert_is(aezoo.load(address), files)
