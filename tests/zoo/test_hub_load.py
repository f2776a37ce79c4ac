"""Loading from the Hub: by address and by name, from the cache, offline."""

import re
from pathlib import Path
from typing import Any

import pytest

import aezoo
from aezoo.errors import DiagnosticWarning, UnknownVariantError
from aezoo.zoo.load import folder_of
from aezoo.zoo.schema import CONFIG, METRICS, TRAINING, WEIGHTS
from tests.hub_server import HubServer, sha256
from tests.raising import raises
from tests.zoo.folders import flip, network
from tests.zoo.hub_files import NOWHERE, READ, REPO, Files, PinnedZoo, assert_is, in_cache, lines, once

# -- by address ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", ["v1.0", "try/1", "main", "commit"])
def test_a_tag_a_branch_or_a_commit_is_loaded(
    hub: HubServer, files: Files, others: Files, revision: str, tmp_path: Path
) -> None:
    commit = hub.add(REPO, files, tag="v1.0", branch="main")
    hub.repositories[REPO].branches["try/1"] = commit
    if revision != "main":
        hub.add(REPO, others)
    ae = aezoo.load(f"hub:{REPO}@{commit if revision == 'commit' else revision}")
    assert_is(ae, files)
    folder = str(in_cache(tmp_path, commit))
    digest = sha256(files[WEIGHTS])
    assert ae.source == aezoo.Source("hub", folder, digest, False, repository=REPO, commit=commit)
    assert not ae.training


def test_without_a_revision_the_newest_is_loaded_with_advice_to_pin_it(hub: HubServer, files: Files) -> None:
    commit = hub.add(REPO, files)
    with pytest.warns(DiagnosticWarning, match=f"^unpinned: .*hub:{REPO}@{commit}") as caught:
        ae = aezoo.load(f"hub:{REPO}")
    assert len(caught) == 1
    assert_is(ae, files)


@pytest.mark.parametrize("revision", ["v1.0", "main"])
def test_a_moved_revision_is_followed(hub: HubServer, files: Files, others: Files, revision: str) -> None:
    before = hub.add(REPO, files, tag="v1.0")
    assert_is(aezoo.load(f"hub:{REPO}@{revision}"), files)
    after = hub.add(REPO, others, tag="v1.0")
    ae = aezoo.load(f"hub:{REPO}@{revision}")
    assert_is(ae, others)
    assert ae.source.commit == after
    assert_is(aezoo.load(f"hub:{REPO}@{before}"), files)


@pytest.mark.parametrize("moment", [r"HEAD .*config", r"GET .*config", r"HEAD .*model", r"HEAD .*metrics"])
def test_all_files_are_of_one_commit_even_if_the_branch_moves_meanwhile(
    hub: HubServer, files: Files, others: Files, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = {hub.add(REPO, files): files}
    done = once(monkeypatch, hub, moment, lambda: commits.update({hub.add(REPO, others): others}))
    ae = aezoo.load(f"hub:{REPO}@main")
    assert done
    assert_is(ae, commits[str(ae.source.commit)])
    assert_is(aezoo.load(f"hub:{REPO}@main"), others)


def test_the_cached_commit_is_not_taken_for_a_new_one(hub: HubServer, files: Files, others: Files) -> None:
    """The client silently uses a branch's cached commit when its own request fails."""
    hub.add(REPO, files)
    aezoo.load(f"hub:{REPO}@main")
    hub.add(REPO, others)
    hub.fault("status", match="HEAD .*main/config", after=1, times=1)
    assert_is(aezoo.load(f"hub:{REPO}@main"), others)


@pytest.mark.parametrize("absent", [(), (METRICS,), (TRAINING,), (METRICS, TRAINING)])
def test_a_cached_commit_takes_no_request(
    hub: HubServer, files: Files, absent: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do records that the commit does not have."""
    kept = {name: raw for name, raw in files.items() if name not in absent}
    address = f"hub:{REPO}@{hub.add(REPO, kept)}"
    assert_is(aezoo.load(address), kept)
    asked = len(hub.requests)
    assert asked
    assert_is(aezoo.load(address), kept)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert_is(aezoo.load(address), kept)
    assert lines(hub, asked) == []


def test_offline_a_tag_resolves_to_the_cached_commit(
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
def test_if_the_hub_fails_a_tag_resolves_to_the_cached_commit_with_a_warning(
    hub: HubServer, files: Files, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add(REPO, files, tag="v1.0")
    aezoo.load(f"hub:{REPO}@v1.0")
    if how == "gone":
        monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    elif how == "drop":
        hub.fault("drop")
    else:
        hub.fault("status", status=int(how))
    with pytest.warns(DiagnosticWarning, match="hub-unreachable") as caught:
        ae = aezoo.load(f"hub:{REPO}@v1.0")
    assert_is(ae, files)
    (text,) = [str(warning.message) for warning in caught]
    assert f"{REPO}@v1.0 resolves to {commit}, as it did last" in text


@pytest.mark.parametrize(
    "address",
    [
        "hub:", "hub:ann", "hub:ann/", "hub:/small", "hub:ann/small@", "hub:ann/small@v 1",
        "hub:ann/small@v1@v2", "hub:ann/small/more", "hub: ann/small", "hub:ann/small\n", "hub:../small",
        "hub:ann/..", "hub:ann/a..b", "hub:ann/a--b", "hub:ann/small.git", "hub:ann/smäll",
        "hub:ann/" + 97 * "a", "hub:ann/small@../../../elsewhere", "hub:ann/small@/elsewhere",
        "hub:https://huggingface.co/ann/small",
    ],
)  # fmt: skip
def test_an_invalid_address_is_refused_without_a_request(hub: HubServer, address: str) -> None:
    with pytest.raises(UnknownVariantError) as caught:
        aezoo.load(address)
    assert str(caught.value).startswith(f"{address!r}: ")
    # The second alternative is the client's.
    assert re.search("expected hub:OWNER/NAME or hub:|[Cc]annot|must use", str(caught.value))
    assert hub.requests == []


# -- by name ------------------------------------------------------------------------------------------


def test_a_name_is_downloaded_once_and_verified_by_the_index(
    hub: HubServer, pinned: PinnedZoo, files: Files, others: Files, tmp_path: Path
) -> None:
    hub.add(REPO, others)  # The commit is pinned.
    ae = aezoo.load("small")
    assert_is(ae, files)
    folder, digest = in_cache(tmp_path, pinned.commit), sha256(files[WEIGHTS])
    assert ae.source == aezoo.Source("zoo", str(folder), digest, True, repository=REPO, commit=pinned.commit)
    assert folder_of("small") == folder
    asked = len(hub.requests)
    assert_is(aezoo.load("small"), files)
    assert lines(hub, asked) == []


def test_an_address_at_a_pinned_commit_is_verified_by_the_index(
    hub: HubServer, pinned: PinnedZoo, files: Files, others: Files
) -> None:
    hub.repositories[REPO].tags["v1.0"] = pinned.commit
    for revision in (pinned.commit, "v1.0", "main"):
        source = aezoo.load(f"hub:{REPO}@{revision}").source
        assert (source.kind, source.index_verified) == ("hub", True)
    moved = hub.add(REPO, others)
    assert not aezoo.load(f"hub:{REPO}@{moved}").source.index_verified
    same = hub.add("bob/small", files)
    assert not aezoo.load(f"hub:bob/small@{same}").source.index_verified


def test_get_spec_downloads_the_config_only(hub: HubServer, pinned: PinnedZoo) -> None:
    assert aezoo.get_spec("small") == network().spec.resolved()
    assert {line.rpartition("/")[2] for line in lines(hub)} == {CONFIG}


def test_an_unpublished_variant_is_refused_without_a_request(hub: HubServer, pinned: PinnedZoo) -> None:
    pinned.edit(lambda entry: entry.update(commit=None))
    for call in (aezoo.load, aezoo.get_spec):
        with raises("missing-file", match="small is not part of this installation, and not on the Hub"):
            call("small")
    with pytest.raises(UnknownVariantError, match=r"no variant 'smal' \(did you mean 'small'\?\)"):
        aezoo.load("smal")
    assert hub.requests == []


def test_a_pulled_copy_comes_before_the_hub(
    hub: HubServer, pinned: PinnedZoo, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEZOO_ZOO", str(pinned.folder.parent))
    ae = aezoo.load("small")
    assert_is(ae, files)
    assert ae.source == aezoo.Source("zoo", str(pinned.folder), sha256(files[WEIGHTS]), True)
    assert hub.requests == []
    monkeypatch.setenv("AEZOO_ZOO", str(pinned.folder / "nothing"))
    assert_is(aezoo.load("small"), files)
    assert hub.requests


@pytest.mark.parametrize("name", READ)
def test_a_pulled_copy_with_other_bytes_is_refused(
    hub: HubServer, pinned: PinnedZoo, files: Files, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(pinned.folder / name)
    monkeypatch.setenv("AEZOO_ZOO", str(pinned.folder.parent))
    with raises("hash-mismatch") as caught:
        aezoo.load("small")
    for word in (str(pinned.folder / name), f"expected {sha256(files[name])}", "not the published bytes"):
        assert word in str(caught.value)
    assert hub.requests == []


@pytest.mark.parametrize("by", ["name", "address"])
@pytest.mark.parametrize("name", READ)
def test_a_repository_with_other_bytes_than_the_index_pins_is_refused(
    hub: HubServer, pinned: PinnedZoo, files: Files, name: str, by: str, tmp_path: Path
) -> None:
    pinned.edit(lambda entry: entry["files"][name].update(sha256="0" * 64))
    with raises("hash-mismatch") as caught:
        aezoo.load("small" if by == "name" else f"hub:{REPO}@main")
    # The config records the hash of the weights, so that these are not even requested.
    place = in_cache(tmp_path, pinned.commit, CONFIG if name == WEIGHTS else name)
    for word in (str(place), "0" * 64, sha256(files[name])):
        assert word in str(caught.value)
    assert name != WEIGHTS or lines(hub, match=WEIGHTS) == []


@pytest.mark.parametrize("name", READ)
def test_another_size_than_the_index_lists_is_refused_before_the_download(
    hub: HubServer, pinned: PinnedZoo, files: Files, name: str
) -> None:
    pinned.edit(lambda entry: entry["files"][name].update(bytes=12_345))
    words = f"{name} has {len(files[name]):,} bytes on the Hub, expected 12,345"
    with raises("size-mismatch", match=f"{REPO}@{pinned.commit}: {words}"):
        aezoo.load("small")
    assert lines(hub, match=f"GET .*{name}") == []


def test_a_name_that_cannot_be_downloaded_names_its_address(
    pinned: PinnedZoo, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = f"{REPO}@{pinned.commit}: {CONFIG}"
    cases: list[tuple[str, str, Any]] = [
        ("HF_HUB_OFFLINE", "1", "not-cached"),
        ("HF_ENDPOINT", NOWHERE, "unreachable"),
    ]
    for variable, value, code in cases:
        with monkeypatch.context() as environment, raises(code, match=where):
            environment.setenv(variable, value)
            aezoo.load("small")
    assert_is(aezoo.load("small"), files)
