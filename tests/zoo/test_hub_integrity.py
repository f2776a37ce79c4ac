"""Other bytes from the Hub or its cache than the published ones, and repositories of something else."""

import json
import math
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import torch

import aezoo
from aezoo.zoo.hub_client import hub_requests
from aezoo.zoo.schema import CONFIG, METRICS, TRAINING, WEIGHTS
from tests.hub_server import HubServer, git_blob, sha256
from tests.raising import raises
from tests.zoo.folders import BIAS
from tests.zoo.hub_files import (
    NOWHERE,
    READ,
    REPO,
    Files,
    PinnedZoo,
    Rejection,
    assert_is,
    damaged,
    identity,
    in_cache,
    lines,
)

# -- damaged bytes ------------------------------------------------------------------------------------

WAYS = [(CONFIG, False), *((name, True) for name in READ)]
"""A file, and whether it is requested by its commit, as all but a branch's config are."""


@pytest.mark.parametrize(("name", "pin"), WAYS)
def test_a_damaged_download_is_repeated_once(
    hub: HubServer, rejects: Rejection, others: Files, name: str, pin: bool, tmp_path: Path
) -> None:
    commit = hub.add(REPO, others)
    address, raw = f"hub:{REPO}@{commit if pin else 'main'}", others[name]
    hub.fault("corrupt", match=f"GET .*{name}")
    place, wrong = str(in_cache(tmp_path, commit, name)), identity(name, damaged(raw))
    rejects(address, "hash-mismatch", place, wrong, f"expected {identity(name, raw)}")
    hub.faults.clear()
    assert_is(aezoo.load(address), others)


@pytest.mark.parametrize(("name", "pin"), WAYS)
def test_a_download_that_is_damaged_once_is_loaded(
    hub: HubServer, others: Files, name: str, pin: bool
) -> None:
    commit = hub.add(REPO, others)
    fault = hub.fault("corrupt", match=f"GET .*{name}", times=1)
    assert_is(aezoo.load(f"hub:{REPO}@{commit if pin else 'main'}"), others)
    assert fault.fired == 1
    assert len(lines(hub, match=f"GET .*{name}")) >= 2
    asked = len(hub.requests)
    assert_is(aezoo.load(f"hub:{REPO}@{commit}"), others)
    assert lines(hub, asked) == []


@pytest.mark.parametrize("name", [CONFIG, METRICS])
def test_a_short_file_that_is_announced_as_whole_is_found_by_its_id(
    hub: HubServer, rejects: Rejection, others: Files, name: str
) -> None:
    commit = hub.add(REPO, others)
    hub.fault("short", match=name)
    half = others[name][: len(others[name]) // 2]
    words = (name, f"has the id {git_blob(half)}, expected {git_blob(others[name])}")
    rejects(f"hub:{REPO}@{commit}", "hash-mismatch", *words)
    hub.faults.clear()
    assert_is(aezoo.load(f"hub:{REPO}@{commit}"), others)


def spoil(path: Path, raw: bytes) -> None:
    """Write other bytes to a file in the cache, behind its link."""
    path.resolve().write_bytes(raw)


@pytest.mark.parametrize("how", ["damaged", "empty", "gone"])
@pytest.mark.parametrize("name", READ)
def test_a_damaged_file_in_the_cache_is_downloaded_again(
    hub: HubServer, files: Files, name: str, how: str, tmp_path: Path
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


@pytest.mark.parametrize(("variable", "value"), [("HF_HUB_OFFLINE", "1"), ("HF_ENDPOINT", NOWHERE)])
@pytest.mark.parametrize("name", READ)
def test_a_damaged_file_in_the_cache_is_refused_if_it_cannot_be_downloaded(
    hub: HubServer,
    rejects: Rejection,
    others: Files,
    name: str,
    variable: str,
    value: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commit = hub.add(REPO, others)
    address, path, raw = f"hub:{REPO}@{commit}", in_cache(tmp_path, commit, name), others[name]
    aezoo.load(address)
    spoil(path, damaged(raw))
    monkeypatch.setenv(variable, value)
    for _ in range(2):
        wrong = identity(name, damaged(raw))
        rejects(address, "hash-mismatch", str(path), wrong, f"expected {identity(name, raw)}")


@pytest.mark.parametrize("name", READ)
def test_a_cache_without_links_is_repaired_too(
    hub: HubServer,
    pinned: PinnedZoo,
    files: Files,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on Windows: only the index knows a file's hash."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_SYMLINKS", True)
    aezoo.load("small")
    path = in_cache(tmp_path, pinned.commit, name)
    assert not path.is_symlink()
    path.write_bytes(damaged(files[name]))
    with monkeypatch.context() as gone, raises("hash-mismatch"):
        gone.setenv("HF_ENDPOINT", NOWHERE)
        aezoo.load("small")
    assert_is(aezoo.load("small"), files)
    assert path.read_bytes() == files[name]


# -- repositories of something else -------------------------------------------------------------------


def with_config(**values: Any) -> Callable[[Files], Files]:
    return lambda files: files | {CONFIG: json.dumps(json.loads(files[CONFIG]) | values).encode()}


def with_weights(files: Files, raw: bytes) -> Files:
    """Other weights, which the config names."""
    record = {"file": WEIGHTS, "sha256": sha256(raw), "bytes": len(raw)}
    return with_config(weights=record)(files) | {WEIGHTS: raw}


def with_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Files], Files]:
    """Other tensors, in a valid file."""

    def changed(files: Files) -> Files:
        raw = files[WEIGHTS]
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        tensors = safetensors.torch.load(raw)
        change(tensors)
        return with_weights(files, safetensors.torch.save(tensors, metadata=header["__metadata__"]))

    return changed


PICKLE = pickle.dumps({"weights": [0.0] * 100}, protocol=4)
TRANSFORMERS = b'{"model_type": "bert", "hidden_size": 768, "architectures": ["BertModel"]}'
PLUGIN = {"name": "sae", "distribution": "aezoo-sae", "version": "3.1"}
FOREIGN: dict[str, tuple[Callable[[Any], Files], str, str, str]] = {
    "transformers": (
        lambda files: files | {CONFIG: TRANSFORMERS}, "not-a-variant", CONFIG,
        "was not written by aezoo: it has no schema_version, spec_sha256 and spec",
    ),
    "list": (lambda files: files | {CONFIG: b"[]"}, "invalid-config", CONFIG, "found list"),
    "html": (lambda files: files | {CONFIG: b"<html>"}, "invalid-config", CONFIG, "is not valid JSON"),
    "empty": (lambda files: files | {CONFIG: b""}, "invalid-config", CONFIG, "is not valid JSON"),
    "newer": (with_config(schema_version=99), "schema-version", CONFIG, "has schema version 99"),
    "plugin": (with_config(plugins=[PLUGIN]), "missing-plugin", CONFIG, "install aezoo-sae==3.1"),
    "pickle": (lambda files: with_weights(files, PICKLE), "not-safetensors", WEIGHTS, "is a pickle"),
    # Of the recorded size, so that only its content tells.
    "padded pickle": (
        lambda files: files | {WEIGHTS: PICKLE + bytes(len(files[WEIGHTS]) - len(PICKLE))},
        "not-safetensors", WEIGHTS, "is a pickle, not safetensors; it was not opened",
    ),
    "more": (
        with_tensors(lambda tensors: tensors.update(more=torch.zeros(1))), "tensor-mismatch", WEIGHTS,
        "tensor 'more' is not in the spec",
    ),
    "less": (
        with_tensors(lambda tensors: tensors.pop(BIAS)), "tensor-mismatch", WEIGHTS,
        f"tensor '{BIAS}' is missing",
    ),
    "nan": (
        with_tensors(lambda tensors: tensors[BIAS].fill_(math.nan)), "not-finite", WEIGHTS,
        f"{BIAS} has 5 values that are NaN or infinite",
    ),
    "metrics": (lambda files: files | {METRICS: b"[]"}, "invalid-config", METRICS, "found list"),
    "training": (lambda files: files | {TRAINING: b"{"}, "invalid-config", TRAINING, "is not valid JSON"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "code", "name", "words"), FOREIGN.values(), ids=FOREIGN)
def test_a_repository_of_something_else(
    hub: HubServer,
    rejects: Rejection,
    others: Files,
    change: Callable[[Any], Files],
    code: str,
    name: str,
    words: str,
    tmp_path: Path,
) -> None:
    commit = hub.add(REPO, change(dict(others)))
    rejects(f"hub:{REPO}@main", code, str(in_cache(tmp_path, commit, name)), words)
    assert len(lines(hub, match=f"GET .*{commit}")) <= 2


# -- announced sizes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pin"), [(CONFIG, False), (CONFIG, True), (METRICS, True), (TRAINING, True)]
)
def test_a_small_file_that_is_announced_as_huge_is_not_downloaded(
    hub: HubServer, rejects: Rejection, others: Files, name: str, pin: bool
) -> None:
    commit = hub.add(REPO, others)
    where = f"{REPO}@{commit if pin else 'main'}"
    hub.fault("longer", match=f"HEAD .*{name}", size=10_000_000_000)
    asked = len(hub.requests)
    words = f"{name} has 10,000,000,000 bytes, more than the 4,000,000 allowed"
    rejects(f"hub:{where}", "invalid-config", where, words)
    assert lines(hub, asked, f"GET .*{name}") == []


@pytest.mark.parametrize("size", [10_000_000_000, 7])
def test_weights_that_are_announced_in_another_size_are_not_downloaded(
    hub: HubServer, rejects: Rejection, others: Files, size: int
) -> None:
    commit = hub.add(REPO, others)
    hub.fault("longer", match=f"HEAD .*{WEIGHTS}", size=size)
    words = f"{WEIGHTS} has {size:,} bytes on the Hub, expected {len(others[WEIGHTS]):,}"
    asked = len(hub.requests)
    rejects(f"hub:{REPO}@{commit}", "size-mismatch", f"{REPO}@{commit}", words)
    assert lines(hub, asked, f"GET .*{WEIGHTS}") == []


def test_weights_beyond_the_spec_or_the_limit_are_not_requested(
    hub: HubServer, rejects: Rejection, others: Files
) -> None:
    record = json.loads(others[CONFIG])["weights"] | {"bytes": 10_000_000_000}
    commit = hub.add(REPO, with_config(weights=record)(others))
    words = "weights.bytes: 10,000,000,000 is recorded, the spec needs at most"
    rejects(f"hub:{REPO}@{commit}", "invalid-config", CONFIG, words)
    commit = hub.add(REPO, others)
    with raises("invalid-config", match="parameters"):
        aezoo.load(f"hub:{REPO}@{commit}", max_parameters=100)
    assert lines(hub, match=f"{commit}/{WEIGHTS}") == []


# -- headers that are parts of paths ------------------------------------------------------------------

PATHS = ["../../../../outside", "/tmp/outside", "a/b", "..", "x" * 200, "a b", "%2e%2e"]


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("value", PATHS)
@pytest.mark.parametrize(
    "headers",
    [("ETag",), ("X-Linked-Etag",), ("ETag", "X-Linked-Etag"), ("X-Repo-Commit",)],
    ids=lambda headers: "+".join(headers),
)
def test_an_etag_or_a_commit_that_is_a_path_is_refused(
    hub: HubServer, others: Files, tmp_path: Path, name: str, value: str, headers: tuple[str, ...]
) -> None:
    commit = hub.add(REPO, others)
    hub.fault("headers", match=f"(GET|HEAD) .*{name}", headers=dict.fromkeys(headers, f'"{value}"'))
    with pytest.raises(aezoo.AezooError) as caught:
        aezoo.load(f"hub:{REPO}@{commit}")
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} <= {"hf"}
    assert {path.name for path in (tmp_path / "hf").rglob("*")}.isdisjoint({"outside", "outside.lock"})
    assert not Path("/tmp/outside").exists()


@pytest.mark.parametrize("header", ["ETag", "X-Repo-Commit"])
def test_a_path_in_the_answer_to_the_clients_own_request_is_refused(
    hub: HubServer, rejects: Rejection, others: Files, header: str, tmp_path: Path
) -> None:
    """The server answers aezoo's request as it should, and the client's second one with a path."""
    commit = hub.add(REPO, others)
    before = sorted(tmp_path.rglob("*"))
    hub.fault("headers", match=f"HEAD .*{CONFIG}", after=1, headers={header: "../../../../stolen"})
    rejects(f"hub:{REPO}@{commit}", "failed", CONFIG, "../../../../stolen", "which the Hub never does")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", READ)
def test_a_body_without_end_is_ended(hub: HubServer, rejects: Rejection, others: Files, name: str) -> None:
    commit = hub.add(REPO, others)
    hub.fault("endless", match=f"GET .*{name}")
    words = (name, "the server sends more than the", "the download was ended")
    rejects(f"hub:{REPO}@{commit}", "failed", *words)


@pytest.mark.parametrize("name", READ)
def test_a_body_that_comes_a_byte_at_a_time_is_ended(
    hub: HubServer, rejects: Rejection, others: Files, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aezoo.zoo.hub_session.PATIENCE", 0.05)
    commit = hub.add(REPO, others)
    hub.fault("slow", match=f"GET .*{name}", delay=0.02)
    rejects(f"hub:{REPO}@{commit}", "interrupted", name, "bytes in 0 seconds; the download was ended")


def test_a_compressed_answer_is_refused(hub: HubServer, rejects: Rejection, others: Files) -> None:
    commit = hub.add(REPO, others)
    hub.fault("headers", match=f"GET .*{CONFIG}", headers={"Content-Encoding": "gzip"})
    rejects(f"hub:{REPO}@{commit}", "failed", CONFIG, "compresses its answer (gzip)")
    assert hub.requests[-1].headers["accept-encoding"] == "identity"


def test_the_hooks_leave_other_users_of_the_client_alone(hub: HubServer, others: Files) -> None:
    """Outside aezoo's calls, and in other threads during them, the client's session is as it was."""
    hub.add(REPO, others)
    aezoo.load(f"hub:{REPO}")
    session = huggingface_hub.utils.get_session()
    url = f"{hub.url}/{REPO}/resolve/main/{CONFIG}"
    hub.fault("headers", match=CONFIG, headers={"ETag": '"../x"'})
    assert session.head(url).headers["ETag"] == '"../x"'
    with hub_requests(REPO):
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(session.head(url).headers["ETag"]))
        thread.start()
        thread.join()
        assert found == ['"../x"']
        with raises("failed"):
            session.head(url)
        # As the client does after an error of the connection.
        huggingface_hub.close_session()
        with raises("failed"):
            huggingface_hub.utils.get_session().head(url)
    hub.faults.clear()
    aezoo.load(f"hub:{REPO}")
    session = huggingface_hub.utils.get_session()
    ours = [hook for hooks in session.event_hooks.values() for hook in hooks if "aezoo" in hook.__module__]
    assert len(ours) == 2
