"""Variants on their way to the Hub and from it: whole or not at all, and never other bytes than were sent."""

import contextlib
import copy
import errno
import gc
import gzip
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import aezoo
from aezoo import cli, files
from aezoo.data.datasets.torchvision import MnistSpec
from aezoo.data.datasets.torchvision import torchvision_datasets
from aezoo.errors import (
    AezooError,
    CheckpointError,
    DataError,
    HubError,
    NotSupportedError,
    RegistryError,
    UnknownVariantError,
)
from aezoo.zoo.hub import Published
from aezoo.zoo.index import _index, scan_variants, write_index, write_published
from aezoo.zoo.model_card import card
from aezoo.zoo.push_pull import pull, pull_dataset, push
from aezoo.zoo.save import record_metrics
from aezoo.zoo.schema import CARD, CONFIG, FILES, METRICS, PREVIEW, SPEC, TRAINING, WEIGHTS
from tests.examples import small_spec
from tests.hub_server import GIT_ATTRIBUTES, HubServer, Kind, Reply, Request
from tests.raising import raises

# The client's own way of uploading large files is deprecated by the library it does it with.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "ann/small"
PICTURE = b"\x89PNG, as far as anyone here looks"
Run = Callable[..., tuple[int, str, str]]


def network(seed: int = 1, **changes: Any) -> aezoo.Autoencoder:
    ae = aezoo.build(small_spec(**changes), seed=seed)
    ae.metrics = {"mse": metric(0.25)}
    ae.training_record = {"seed": seed}
    return ae


def metric(value: float) -> dict[str, Any]:
    return {
        "value": value, "reason": None, "source": "computed", "dataset": "noise", "split": "test", "n": 7,
        "definition": "mean squared error",
    }  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder by itself, and a zoo of two variants; to be copied, not to be changed."""
    made = tmp_path_factory.mktemp("made")
    aezoo.save(network(), made / "small", files={PREVIEW: PICTURE})
    shutil.copytree(made / "small", made / "zoo" / "small")
    aezoo.save(network(seed=5, name="other"), made / "zoo" / "other")
    write_index(made / "zoo", license="mit")
    return made


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "small", tmp_path / "small")


@pytest.fixture
def ann(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """The Hub, with its user logged in."""
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return hub


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process; gives exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["aezoo", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "160")
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        printed = capsys.readouterr()
        return int(exit_.value.code or 0), printed.out, printed.err

    return call


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def there(hub: HubServer, repository: str = REPO, revision: str = "main") -> dict[str, bytes]:
    """What a repository holds beside what the Hub puts there itself."""
    return {name: raw for name, raw in hub.files(repository, revision).items() if name != ".gitattributes"}


def asked(hub: HubServer, method: str) -> list[str]:
    return [request.path for request in hub.requests if request.method == method]


def commits(hub: HubServer, repository: str = REPO) -> list[str]:
    """The commits of a branch, the first one first."""
    held = hub.repositories[repository]
    found, oid = [], held.branches["main"]
    while oid is not None:
        found.append(oid)
        oid = held.commits[oid].parent
    return found[::-1]


def committed(hub: HubServer) -> list[dict[str, Any]]:
    """The lines of the last commit that was asked for."""
    body = next(r.body for r in reversed(hub.requests) if "/commit/" in r.path and r.method == "POST")
    return [json.loads(line) for line in body.splitlines()]


def sent(hub: HubServer) -> dict[str, list[str]]:
    """What the last commit that was asked for does to which files."""
    found: dict[str, list[str]] = {}
    for line in committed(hub)[1:]:
        found.setdefault(line["key"], []).append(line["value"]["path"])
    return found


def same(ae: aezoo.Autoencoder, other: aezoo.Autoencoder) -> bool:
    ours, theirs = ae.state_dict(), other.state_dict()
    return (
        ae.spec == other.spec
        and ours.keys() == theirs.keys()
        and all(torch.equal(ours[name], theirs[name]) for name in ours)
    )


def sha256(raw: bytes | bytearray) -> str:
    return hashlib.sha256(raw).hexdigest()


# -- a folder by itself -------------------------------------------------------------------------------


@pytest.mark.parametrize("private", [False, True])
def test_a_push_makes_a_repository_that_holds_the_folder_in_one_commit(
    ann: HubServer, folder: Path, private: bool
) -> None:
    before = contents(folder)
    published = push(folder, private=private, tag="v1.0")
    assert set(ann.repositories) == {REPO}
    repository = ann.repositories[REPO]
    assert repository.private is private
    assert {**there(ann), ".gitattributes": GIT_ATTRIBUTES} == ann.files(REPO)
    assert set(there(ann)) == set(FILES) == {*before, CARD}
    assert {name: there(ann)[name] for name in before} == before
    first, last = commits(ann)
    assert committed(ann)[0]["value"]["parentCommit"] == first
    assert repository.tags == {"v1.0": last}
    assert published == type(published)(REPO, last, f"{ann.url}/{REPO}", FILES)


def test_what_was_pushed_loads_by_its_address(ann: HubServer, folder: Path) -> None:
    published = push(folder, tag="v1.0")
    ours = aezoo.load(folder)
    for revision in (published.commit, "v1.0", "main"):
        ae = aezoo.load(f"hub:{REPO}@{revision}")
        assert same(ae, ours)
        assert (ae.source.repository, ae.source.commit) == (REPO, published.commit)
        assert ae.metrics == ours.metrics


def test_the_folders_card_is_then_the_one_that_was_uploaded(ann: HubServer, folder: Path) -> None:
    push(folder)
    assert (folder / CARD).read_bytes() == there(ann)[CARD]
    assert f'aezoo.load("hub:{REPO}")' in (folder / CARD).read_text()


@pytest.mark.parametrize("text", [b"# Mine\n", b"---\nlicense: mit\n---\r\nMine\r\n", b""])
def test_an_owners_own_text_is_uploaded_as_it_is_and_left_alone(
    ann: HubServer, folder: Path, text: bytes
) -> None:
    (folder / CARD).write_bytes(text)
    push(folder, license="mit")
    assert (folder / CARD).read_bytes() == there(ann)[CARD] == text


def test_a_license_is_kept_by_the_next_push(ann: HubServer, folder: Path) -> None:
    push(folder, license="cc-by-4.0")
    record_metrics(folder, {"mse": metric(0.5)})
    push(folder)
    assert b"\nlicense: cc-by-4.0\n" in there(ann)[CARD]
    push(folder, license="mit")
    assert b"\nlicense: mit\n" in there(ann)[CARD]


def test_a_second_push_makes_no_commit_and_says_so(ann: HubServer, folder: Path, run: Run) -> None:
    first = push(folder)
    ann.requests.clear()
    code, out, err = run("push", folder)
    assert (code, err) == (0, "")
    assert out == f"{first.url} at {first.commit}: all of it was there; every file came back as it is here\n"
    assert commits(ann)[-1] == first.commit
    assert asked(ann, "PUT") == []
    assert asked(ann, "POST") == ["/api/repos/create"]
    assert push(folder).changed == ()


def test_a_push_that_changes_nothing_still_sees_what_comes_back(ann: HubServer, folder: Path) -> None:
    push(folder)
    ann.fault("corrupt", match="GET .*metrics.json")
    with raises("hash-mismatch", match=r"metrics\.json came back with sha256"):
        push(folder)


def test_only_what_changed_is_uploaded(ann: HubServer, folder: Path) -> None:
    push(folder)
    ann.requests.clear()
    record_metrics(folder, {"mse": metric(0.5)})
    assert push(folder).changed == (METRICS, CARD)
    assert asked(ann, "PUT") == []
    assert sent(ann) == {"file": [METRICS, CARD]}
    assert there(ann) == contents(folder)
    ann.requests.clear()
    aezoo.save(network(seed=2), folder, overwrite=True, files={PREVIEW: PICTURE})
    push(folder)
    assert len(asked(ann, "PUT")) == 1
    # What a training record says is in the card, which is written anew.
    assert sent(ann) == {"lfsFile": [WEIGHTS], "file": [CONFIG, METRICS, TRAINING, CARD]}
    assert there(ann) == contents(folder)
    assert len(commits(ann)) == 4


def test_a_file_that_vanished_here_is_removed_there(ann: HubServer, folder: Path) -> None:
    push(folder)
    (folder / PREVIEW).unlink()
    # The card showed it.
    assert push(folder).changed == (CARD, PREVIEW)
    assert sent(ann) == {"file": [CARD], "deletedFile": [PREVIEW]}
    assert there(ann) == contents(folder)
    assert PREVIEW not in there(ann)


def test_foreign_files_in_the_repository_stay(ann: HubServer, folder: Path) -> None:
    theirs = {"LICENSE": b"MIT", "onnx/model.onnx": b"theirs", "notes.bin": bytes(1_500_000)}
    ann.add(REPO, {**theirs, CARD: b"An old text."})
    push(folder)
    assert there(ann) == {**theirs, **contents(folder)}
    (folder / PREVIEW).unlink()
    push(folder)
    assert there(ann) == {**theirs, **contents(folder)}


def test_an_organisation_that_you_belong_to(ann: HubServer, folder: Path) -> None:
    ann.orgs.append("lab")
    published = push(folder, org="lab")
    assert (published.repository, published.url) == ("lab/small", f"{ann.url}/lab/small")
    assert set(ann.repositories) == {"lab/small"}
    assert b'aezoo.load("hub:lab/small")' in there(ann, "lab/small")[CARD]


def test_a_repository_has_the_specs_name_whatever_the_folders(ann: HubServer, folder: Path) -> None:
    push(folder.rename(folder.with_name("elsewhere")))
    assert set(ann.repositories) == {REPO}


def test_a_public_repository_does_not_become_private(ann: HubServer, folder: Path) -> None:
    push(folder)
    push(folder, private=True)
    assert not ann.repositories[REPO].private


# -- refusals -----------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    """Another bit, somewhere in the middle, and the same length."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def untrained(folder: Path) -> Path:
    for name in set(FILES) - {SPEC}:
        (folder / name).unlink(missing_ok=True)
    return folder


def broken(folder: Path) -> Path:
    (folder / CONFIG).write_text("{")
    return folder


def tampered(folder: Path) -> Path:
    flip(folder / WEIGHTS)
    return folder


def cut_off(folder: Path) -> Path:
    (folder / TRAINING).write_text('{"unfinished": "Ctrl-C"}')
    return folder


def own_text_in_latin_1(folder: Path) -> Path:
    # The Hub takes no other text than UTF-8 there.
    (folder / CARD).write_bytes("# Größe".encode("latin-1"))
    return folder


def architecture(folder: Path) -> Path:
    spec = small_spec().model_dump(mode="json")
    for key in ("name", "summary", "references", "recipe"):
        spec.pop(key)
    ae = aezoo.build(aezoo.AutoencoderSpec.model_validate(spec))
    return aezoo.save(ae, folder.with_name("architecture"))


REFUSED: dict[str, tuple[Callable[[Path], Any], str | type[AezooError], str]] = {
    "untrained": (untrained, "missing-file", r"small/config\.json is missing"),
    "broken": (broken, "invalid-config", r"small/config\.json"),
    "tampered": (tampered, "hash-mismatch", r"small/model\.safetensors .*sha256"),
    "cut off": (cut_off, "unfinished", "small holds a training that was cut off; finish it with --resume"),
    "architecture": (
        architecture, "not-a-variant", "architecture without a name and a recipe; push a variant",
    ),
    "own text": (own_text_in_latin_1, "invalid-config", r"small/README\.md .*UTF-8"),
    "no folder": (lambda folder: folder / "nowhere", "missing-file", r"nowhere"),
    "address": (
        lambda _: f"hub:{REPO}", NotSupportedError,
        "'hub:ann/small' is on the Hub already; push takes a variant's name or a folder",
    ),
    "unknown": (lambda _: "fc-46", UnknownVariantError, r"no variant 'fc-46' \(did you mean 'fc-64'\?\)"),
    "path": (lambda _: "zoo/fc-64", UnknownVariantError, r"write .*'\./zoo/fc-64' for a folder"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "kind", "words"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("org", ["ann", None])
def test_what_is_no_finished_variant_is_refused_before_any_request(
    ann: HubServer,
    folder: Path,
    org: str | None,
    spoil: Callable[[Path], Any],
    kind: str | type[AezooError],
    words: str,
) -> None:
    name = spoil(folder)
    before = contents(folder)
    with raises(kind, words) if isinstance(kind, str) else pytest.raises(kind, match=words) as refused:
        push(name, org=org)
    assert "\n" not in str(refused.value)
    assert ann.requests == []
    assert contents(folder) == before


LOG_IN = "the token is missing, expired, or may not do this; log in with `hf auth login`, or set HF_TOKEN"


def test_without_a_token_it_is_said_how_to_log_in(hub: HubServer, folder: Path) -> None:
    for org, where in ((None, "your account"), ("ann", REPO)):
        with raises("unauthorized") as refused:
            push(folder, org=org)
        assert str(refused.value) == f"{where}: {LOG_IN}"
        assert refused.value.__cause__ is not None
    assert hub.repositories == {}


def test_an_expired_token(hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_last_year")
    with raises("unauthorized", match=f"^your account: {LOG_IN}"):
        push(folder)
    assert hub.repositories == {}


@pytest.mark.parametrize("there_already", [False, True])
@pytest.mark.parametrize(("role", "org"), [("read", "ann"), ("write", "bob")])
def test_a_token_that_may_not_write_there(
    ann: HubServer, folder: Path, role: str, org: str, there_already: bool
) -> None:
    repository, before = f"{org}/small", {}
    if there_already:
        ann.add(repository, {CARD: b"theirs"})
        before = there(ann, repository)
    ann.role = role
    own = contents(folder)
    with raises("unauthorized") as refused:
        push(folder, org=org)
    assert str(refused.value) == f"{repository}: {LOG_IN}"
    assert refused.value.__cause__ is not None
    assert ({} if repository not in ann.repositories else there(ann, repository)) == before
    assert set(ann.repositories) == ({repository} if there_already else set())
    assert contents(folder) == own


def test_a_tag_never_moves(ann: HubServer, folder: Path) -> None:
    first = push(folder, tag="v1.0")
    record_metrics(folder, {"mse": metric(0.5)})
    ann.requests.clear()
    own = contents(folder)
    with raises("immutable") as refused:
        push(folder, tag="v1.0")
    assert str(refused.value) == (
        f"the tag v1.0 of {REPO} is of commit {first.commit} and stays there; take another"
    )
    assert asked(ann, "PUT") == []
    assert [path for path in asked(ann, "POST") if path != "/api/repos/create"] == []
    assert commits(ann)[-1] == first.commit
    assert contents(folder) == own
    second = push(folder, tag="v1.1")
    assert ann.repositories[REPO].tags == {"v1.0": first.commit, "v1.1": second.commit}
    # Nothing would change, and still the older tag is of another commit.
    with raises("immutable", match=r"the tag v1\.0 of ann/small is of commit"):
        push(folder, tag="v1.0")


def test_a_tag_that_is_there_already_on_the_same_commit_is_fine(ann: HubServer, folder: Path) -> None:
    first = push(folder, tag="v1.0")
    assert push(folder, tag="v1.0").commit == first.commit
    assert ann.repositories[REPO].tags == {"v1.0": first.commit}
    # As where an earlier run died before the tag was made.
    push(folder, tag="v1.1")
    assert ann.repositories[REPO].tags == {"v1.0": first.commit, "v1.1": first.commit}


def test_what_somebody_else_commits_in_between_is_not_lost(
    ann: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(folder)
    record_metrics(folder, {"mse": metric(0.5)})
    own, answer = contents(folder), ann.answer
    theirs: list[str] = []

    def overtaken(request: Request) -> Reply | None:
        if "/commit/" in request.path and not theirs:
            theirs.append(ann.add(REPO, {CARD: b"their words", "LICENSE": b"MIT"}))
        return answer(request)

    monkeypatch.setattr(ann, "answer", overtaken)
    with pytest.raises(HubError, match=f"^{REPO}: .*commit has happened since") as refused:
        push(folder, tag="v2")
    assert "\n" not in str(refused.value)
    assert refused.value.__cause__ is not None
    assert commits(ann)[-1] == theirs[0]
    assert there(ann)[CARD] == b"their words"
    assert ann.repositories[REPO].tags == {}
    assert contents(folder) == own
    push(folder, tag="v2")
    assert there(ann) == {**contents(folder), "LICENSE": b"MIT"}


@pytest.mark.parametrize("name", FILES)
def test_other_bytes_that_come_back_than_were_sent(ann: HubServer, folder: Path, name: str) -> None:
    own = contents(folder)
    # Whichever way it is fetched: a small file, or a large one from where those lie.
    ann.fault("corrupt", match=f"GET .*/{name}$")
    with raises("hash-mismatch") as refused:
        push(folder, tag="v1.0")
    commit = commits(ann)[-1]
    wrong = bytearray(there(ann)[name])
    wrong[len(wrong) // 2] ^= 0xFF
    assert str(refused.value) == (
        f"{REPO}@{commit}: {name} came back with sha256 {sha256(wrong)}, sent was {sha256(there(ann)[name])}"
    )
    assert ann.repositories[REPO].tags == {}
    assert contents(folder) == own
    ann.faults.clear()
    assert push(folder, tag="v1.0").commit == commit
    assert ann.repositories[REPO].tags == {"v1.0": commit}


# -- an index that lists it ---------------------------------------------------------------------------


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A zoo of two variants, in the place of aezoo's own."""
    root = shutil.copytree(made / "zoo", tmp_path / "zoo")
    monkeypatch.setattr("aezoo.zoo.index.zoo_root", lambda: root)
    forget()
    yield root
    forget()


def forget() -> None:
    _index.cache_clear()
    scan_variants.cache_clear()


def index_of(root: Path) -> dict[str, Any]:
    return json.loads((root / "index.json").read_text())


def contents_of(root: Path) -> dict[str, dict[str, bytes]]:
    """Every folder of a zoo."""
    return {path.name: contents(path) for path in root.iterdir() if path.is_dir()}


def retrain(root: Path, seed: int = 2) -> None:
    """Other weights, with an index that lists them."""
    aezoo.save(network(seed), root / "small", overwrite=True, files={PREVIEW: PICTURE})
    write_index(root)


def measure_again(root: Path, value: float = 0.5) -> None:
    """Another number, with a card and an index that name it."""
    record_metrics(root / "small", {"mse": metric(value)})
    write_index(root)


@pytest.mark.parametrize("by_name", [True, False])
def test_a_push_writes_where_it_is_into_the_index_and_nothing_else(
    ann: HubServer, root: Path, by_name: bool
) -> None:
    before, own = index_of(root), contents_of(root)
    published = push("small" if by_name else root / "small")
    assert aezoo.get_entry("small")["commit"] == published.commit
    before["variants"]["small"] |= {"repository": REPO, "commit": published.commit}
    assert index_of(root) == before
    assert list(index_of(root)["variants"]) == list(before["variants"])
    assert contents_of(root) == own
    assert there(ann) == own["small"]
    assert sorted(path.name for path in root.iterdir()) == ["index.json", "other", "small"]


def test_what_was_pushed_loads_by_name_where_the_folder_is_not(ann: HubServer, root: Path) -> None:
    ours = aezoo.load("small")
    published = push("small")
    shutil.rmtree(root / "small")
    ae = aezoo.load("small")
    assert same(ae, ours)
    assert (ae.source.kind, ae.source.index_verified) == ("zoo", True)
    assert (ae.source.repository, ae.source.commit) == (REPO, published.commit)
    # By name it is the published commit, whatever became of the repository.
    ann.add(REPO, {WEIGHTS: b"theirs", CONFIG: b"{}"})
    assert same(aezoo.load("small"), ours)


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG])
def test_a_released_name_keeps_its_bytes(ann: HubServer, root: Path, file: str) -> None:
    published = push("small", tag="v1.0")
    before = there(ann)
    if file == WEIGHTS:
        retrain(root)
    else:
        config = json.loads((root / "small" / CONFIG).read_text())
        (root / "small" / CONFIG).write_text(json.dumps(config))
        write_index(root)
    index, own = (root / "index.json").read_bytes(), contents_of(root)
    ann.requests.clear()
    with raises("immutable") as refused:
        push("small", tag="v1.1")
    names = f"{CONFIG} and {WEIGHTS}" if file == WEIGHTS else CONFIG
    assert str(refused.value) == (
        f"{names} of {REPO} would change, and a released name keeps its bytes; "
        "publish better weights under a new name"
    )
    assert asked(ann, "PUT") == []
    assert asked(ann, "POST") == ["/api/repos/create"]
    assert there(ann) == before
    assert ann.repositories[REPO].tags == {"v1.0": published.commit}
    assert (root / "index.json").read_bytes() == index
    assert contents_of(root) == own


def test_a_released_name_may_be_measured_and_described_anew(ann: HubServer, root: Path) -> None:
    first = push("small")
    measure_again(root)
    second = push("small")
    assert second.changed == (METRICS, CARD)
    assert second.commit != first.commit
    assert aezoo.get_entry("small")["commit"] == second.commit
    shutil.rmtree(root / "small")
    assert aezoo.load("small").metrics["mse"]["value"] == 0.5
    # Who pinned the first commit still has it.
    assert aezoo.load(f"hub:{REPO}@{first.commit}").metrics["mse"]["value"] == 0.25


def test_weights_that_are_not_released_yet_may_change(ann: HubServer, root: Path) -> None:
    # As where an earlier push died before the index was told.
    ann.add(REPO, contents(root / "small"))
    retrain(root)
    push("small")
    assert there(ann) == contents(root / "small")


def change_card(folder: Path) -> None:
    (folder / CARD).write_text("Mine.")


def change_metrics(folder: Path) -> None:
    record_metrics(folder, {"mse": metric(0.5)})


def change_weights(folder: Path) -> None:
    aezoo.save(network(2), folder, overwrite=True, files={PREVIEW: PICTURE})


def lose_preview(folder: Path) -> None:
    (folder / PREVIEW).unlink()


def gain_preview(folder: Path) -> None:
    (folder.parent / "other" / PREVIEW).write_bytes(PICTURE)


@pytest.mark.parametrize(
    ("change", "name", "file"),
    [
        (change_card, "small", CARD),
        (change_metrics, "small", METRICS),
        (change_weights, "small", CONFIG),
        (lose_preview, "small", PREVIEW),
        (gain_preview, "other", PREVIEW),
    ],
)
def test_a_folder_that_is_not_the_one_that_its_index_lists(
    ann: HubServer, root: Path, change: Callable[[Path], None], name: str, file: str
) -> None:
    change(root / "small")
    index, own = (root / "index.json").read_bytes(), contents_of(root)
    with raises("hash-mismatch") as refused:
        push(name, org="ann")
    assert str(refused.value) == (
        f"{root / name / file} is not the one that {root / 'index.json'} lists; see `aezoo index`"
    )
    assert ann.requests == []
    assert (root / "index.json").read_bytes() == index
    assert contents_of(root) == own


@pytest.mark.parametrize("text", ["{", "[]", '{"variants": []}', '{"schema_version": 1}'])
def test_an_index_that_cannot_be_read_does_not_let_a_released_name_go(
    ann: HubServer, root: Path, text: str
) -> None:
    published = push("small")
    change_weights(root / "small")
    (root / "index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"zoo/index\.json cannot be read") as refused:
        push(root / "small", org="ann")
    assert "\n" not in str(refused.value)
    assert commits(ann)[-1] == published.commit
    assert (root / "index.json").read_text() == text


def test_an_index_keeps_the_repository_that_it_names(ann: HubServer, root: Path) -> None:
    push("small")
    ann.orgs.append("lab")
    index = (root / "index.json").read_bytes()
    published = push("small", org="lab")
    assert published.repository == "lab/small"
    assert there(ann, "lab/small") == there(ann) == contents(root / "small")
    assert (root / "index.json").read_bytes() == index
    # Without a word about whose, it goes where it was before, without asking who you are.
    ann.requests.clear()
    assert push("small").repository == REPO
    assert not any("whoami" in path for path in asked(ann, "GET"))


def full(file: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_an_index_that_cannot_be_written_stays_as_it_was(
    ann: HubServer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = (root / "index.json").read_bytes()
    with monkeypatch.context() as disk:
        disk.setattr(files, "_settle", full)
        with pytest.raises(
            CheckpointError, match=r"index\.json could not be written: No space left"
        ) as refused:
            push("small")
    assert isinstance(refused.value.__cause__, OSError)
    assert (root / "index.json").read_bytes() == index
    assert push("small").changed == ()
    assert aezoo.get_entry("small")["commit"] == commits(ann)[-1]


def test_a_card_that_cannot_be_written_stays_as_it_was(
    ann: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = contents(folder)
    with monkeypatch.context() as disk:
        disk.setattr(files, "_settle", full)
        with pytest.raises(
            CheckpointError, match=r"README\.md could not be written: No space left"
        ) as refused:
            push(folder)
    assert isinstance(refused.value.__cause__, OSError)
    assert contents(folder) == own
    assert push(folder).changed == ()
    assert contents(folder) == there(ann)


# -- dying half-way -----------------------------------------------------------------------------------


class Push:
    """A push of better weights over a first version, which can be begun again as often as one likes."""

    def __init__(self, hub: HubServer, root: Path) -> None:
        self.hub, self.root = hub, root
        # The repository holds a first version which the index does not know as released.
        self.old = contents(root / "small")
        ann_made = hub.add(REPO, self.old, tag="v1.0")
        self.first, self.ours = ann_made, aezoo.load("small")
        retrain(root)
        self.new = contents(root / "small")
        self.index = (root / "index.json").read_bytes()
        self.repositories = copy.deepcopy(hub.repositories)
        self.run()
        self.steps = [f"{request.method} {request.path}" for request in hub.requests]
        self.refetch()

    def run(self) -> Published:
        return push("small", tag="v2.0")

    def refetch(self) -> None:
        """Everything is as it was before the push."""
        self.hub.repositories = copy.deepcopy(self.repositories)
        self.hub.faults.clear()
        (self.root / "index.json").write_bytes(self.index)
        forget()

    def is_whole(self) -> bool:
        """Whether there is the first version or the second one, and the first one's tag is where it was."""
        tags = self.hub.repositories[REPO].tags
        return (
            there(self.hub) in (self.old, self.new)
            and there(self.hub, revision="v1.0") == self.old
            and tags["v1.0"] == self.first
            and (tags.get("v2.0") is None or there(self.hub, revision="v2.0") == self.new)
            and contents(self.root / "small") == self.new
        )


@pytest.fixture
def begun(ann: HubServer, root: Path, monkeypatch: pytest.MonkeyPatch) -> Push:
    # The client waits for seconds before it tries again.
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return Push(ann, root)


ENDS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "drop": ({"kind": "drop"}, ("unreachable", "interrupted")),
    "500": ({"kind": "status", "status": 500}, ("server-error",)),
    "429": ({"kind": "status", "status": 429}, ("rate-limit",)),
    "lost": ({"kind": "lost"}, ("unreachable", "interrupted")),
}


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "codes"), ENDS.values(), ids=ENDS)
def test_a_push_that_dies_at_any_step_leaves_what_was_there_and_completes_when_run_again(
    begun: Push, fault: dict[str, Any], codes: tuple[str, ...]
) -> None:
    assert len(begun.steps) >= 24
    for step, request in enumerate(begun.steps):
        begun.again()
        begun.hub.fault(**fault, after=step)
        with pytest.raises(HubError) as died:
            begun.run()
        assert died.value.code in codes, f"{request}: {died.value!r}"
        assert str(died.value).startswith((REPO, "your account")), request
        assert "\n" not in str(died.value)
        assert died.value.__cause__ is not None
        assert begun.is_whole(), request
        assert (begun.root / "index.json").read_bytes() == begun.index, request
        begun.hub.faults.clear()
        published = begun.run()
        assert there(begun.hub) == begun.new, request
        # What was done and not heard of is not done again.
        assert commits(begun.hub)[-2:] == [begun.first, published.commit], request
        assert begun.hub.repositories[REPO].tags == {"v1.0": begun.first, "v2.0": published.commit}
        assert aezoo.get_entry("small")["commit"] == published.commit
    assert same(aezoo.load(f"hub:{REPO}@v1.0"), begun.ours)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["drop", "lost"])
def test_what_goes_wrong_once_leaves_a_push_whole_or_is_overcome(begun: Push, fault: Kind) -> None:
    for step, request in enumerate(begun.steps):
        begun.again()
        begun.hub.fault(fault, after=step, times=1)
        with contextlib.suppress(HubError):
            begun.run()
        assert begun.is_whole(), request
        told = (begun.root / "index.json").read_bytes() != begun.index
        # The index is told last of all.
        assert not told or "v2.0" in begun.hub.repositories[REPO].tags, request
        published = begun.run()
        assert commits(begun.hub)[-2:] == [begun.first, published.commit], request
        assert there(begun.hub) == begun.new
        assert begun.hub.repositories[REPO].tags == {"v1.0": begun.first, "v2.0": published.commit}


@pytest.mark.parametrize("name", [WEIGHTS, METRICS])
def test_corrupt_bytes_come_into_no_index(ann: HubServer, root: Path, name: str) -> None:
    index = (root / "index.json").read_bytes()
    ann.fault("corrupt", match=f"GET .*/{name}$")
    with raises("hash-mismatch", match=f"{name} came back with sha256"):
        push("small", tag="v1.0")
    assert (root / "index.json").read_bytes() == index
    assert ann.repositories[REPO].tags == {}


# -- the command line ---------------------------------------------------------------------------------


def test_push_prints_the_address_and_the_commit(ann: HubServer, folder: Path, run: Run) -> None:
    code, out, err = run("push", folder, "--tag", "v1.0", "--license", "mit", "--private")
    assert (code, err) == (0, "")
    commit = commits(ann)[-1]
    assert out == f"{ann.url}/{REPO} at {commit}: 7 files changed; every file came back as it is here\n"
    assert ann.repositories[REPO].tags == {"v1.0": commit}
    assert ann.repositories[REPO].private
    assert b"\nlicense: mit\n" in there(ann)[CARD]


def test_push_in_json(ann: HubServer, folder: Path, run: Run) -> None:
    code, out, err = run("push", folder, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == [{
        "repository": REPO, "commit": commits(ann)[-1], "url": f"{ann.url}/{REPO}", "changed": list(FILES),
    }]  # fmt: skip


def test_push_all_pushes_every_variant_of_the_zoo(ann: HubServer, root: Path, run: Run) -> None:
    ann.orgs.append("lab")
    code, out, err = run("push", "--all", "--org", "lab", "--tag", "v1.0")
    assert (code, err) == (0, "")
    assert set(ann.repositories) == {"lab/other", "lab/small"}
    assert [line.split()[0] for line in out.splitlines()] == [
        f"{ann.url}/lab/{n}" for n in ("other", "small")
    ]
    for name, entry in index_of(root)["variants"].items():
        assert there(ann, f"lab/{name}") == contents(root / name)
        assert (entry["repository"], entry["commit"]) == (f"lab/{name}", commits(ann, f"lab/{name}")[-1])
        assert ann.repositories[f"lab/{name}"].tags == {"v1.0": entry["commit"]}
    done = json.loads(run("push", "--all", "--json")[1])
    assert [(one["repository"], one["changed"]) for one in done] == [("lab/other", []), ("lab/small", [])]


def test_push_all_that_is_cut_off_keeps_what_was_done(ann: HubServer, root: Path, run: Run) -> None:
    ann.fault("status", match="small.*/commit/", status=400)
    code, out, err = run("push", "--all")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith(f"{REPO}: ")
    assert out.startswith(f"{ann.url}/ann/other at ")
    entries = index_of(root)["variants"]
    assert entries["other"]["commit"] == commits(ann, "ann/other")[-1]
    assert entries["small"]["commit"] is None
    ann.faults.clear()
    code, out, _ = run("push", "--all")
    assert code == 0
    assert "ann/other at" in out.splitlines()[0]
    assert "all of it was there" in out.splitlines()[0]
    assert "7 files changed" in out.splitlines()[1]


def test_a_dry_run_shows_files_sizes_and_card_without_a_request(
    hub: HubServer, folder: Path, run: Run
) -> None:
    own = contents(folder)
    code, out, err = run("push", folder, "--org", "lab", "--license", "mit", "--dry-run")
    assert (code, err) == (0, "")
    assert out.startswith("lab/small would hold\n")
    rows = dict(line.split() for line in out.splitlines()[2:9])
    text = out[out.index("---\n") :]
    assert rows == {name: f"{len(raw):,}" for name, raw in (own | {CARD: text.encode()}).items()}
    assert text == card(folder, address="hub:lab/small", license="mit")
    assert contents(folder) == own
    assert hub.requests == []


def test_a_dry_run_is_what_a_push_then_does(ann: HubServer, folder: Path, run: Run) -> None:
    code, out, err = run("push", folder, "--dry-run")
    assert (code, err) == (0, "")
    # Your name is all that had to be asked for.
    assert [request.path for request in ann.requests] == ["/api/whoami-v2"]
    push(folder)
    assert out.endswith("\n" + there(ann)[CARD].decode())


def test_a_dry_run_needs_nobody_to_be_logged_in(hub: HubServer, folder: Path, run: Run) -> None:
    code, out, err = run("push", folder, "--dry-run")
    assert code == 0
    assert out.startswith("you/small would hold\n")
    assert 'aezoo.load("hub:you/small")' in out
    assert err.count("\n") == 1
    assert "hf auth login" in err
    # The push itself does not make a name up.
    assert run("push", folder)[0] == 1
    assert hub.repositories == {}


def test_a_dry_run_of_what_was_published_before_asks_nothing(ann: HubServer, root: Path, run: Run) -> None:
    push("small")
    ann.requests.clear()
    index = (root / "index.json").read_bytes()
    code, out, err = run("push", "small", "--dry-run")
    assert (code, err) == (0, "")
    assert out.startswith(f"{REPO} would hold\n")
    assert ann.requests == []
    assert (root / "index.json").read_bytes() == index


@pytest.mark.parametrize("which", ["small", "--all"])
def test_a_dry_run_in_json(hub: HubServer, root: Path, run: Run, which: str) -> None:
    code, out, err = run("push", which, "--org", "lab", "--dry-run", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == [
        {"repository": f"lab/{name}", "files": {file: len(raw) for file, raw in inside.items()}}
        for name, inside in sorted(contents_of(root).items())
        if which in (name, "--all")
    ]
    assert hub.requests == []


def words_of(err: str) -> str:
    """What is said, without the frame and the line breaks of a usage error."""
    return " ".join(err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["push"], 2, "name one variant or folder, or give --all"),
        (["push", "fc-64", "--all"], 2, "name one variant or folder, or give --all"),
        (["push", "fc-64"], 1, f"your account: {LOG_IN}"),
        (["push", "fc-64", "--org", "lab"], 1, f"lab/fc-64: {LOG_IN}"),
        (["push", "fc-64", "--org", "no such/org"], 1, "expected hub:OWNER/NAME"),
        (["push", "fc-46"], 1, "no variant 'fc-46' (did you mean 'fc-64'?)"),
        (["push", "./nowhere"], 1, "nowhere is no folder"),
        (["push", "hub:ann/small"], 1, "is on the Hub already"),
        (["pull"], 2, "name a variant, or a dataset with --dataset"),
        (["pull", "fc-64", "--dataset", "mnist"], 2, "pull variants and datasets one after the other"),
        (["pull", "fc-64"], 1, "where to is not said: give a folder (--to DIR), or set AEZOO_ZOO"),
        (["pull", "fc-46", "--to", "there"], 1, "no variant 'fc-46' (did you mean 'fc-64'?)"),
        (["pull", "fc-46*", "--to", "there"], 1, "no variant fits 'fc-46*'"),
        (["pull", "hub:nobody", "--to", "there"], 1, "expected hub:OWNER/NAME"),
        (["pull", "hub:ann/none@main", "--to", "there"], 1, "ann/none@main is no repository"),
        (["pull", "--dataset", "minst", "--to", "there"], 1, "'mnist'"),
    ],
)
def test_refusals_are_one_clear_line(
    hub: HubServer,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    found, out, err = run(*arguments)
    assert found == code, err
    assert words in words_of(err)
    assert "Traceback" not in err
    assert out == ""
    if code == 1:
        assert err.count("\n") == 1
    assert list(Path().iterdir()) == []
    assert hub.repositories == {}


# -- pulling ------------------------------------------------------------------------------------------


@pytest.fixture
def published(hub: HubServer, root: Path) -> dict[str, dict[str, bytes]]:
    """The zoo, published, with nothing left here but its index; gives what its folders held."""
    held = contents_of(root)
    for name, inside in held.items():
        commit = hub.add(f"ann/{name}", inside, tag="v1.0")
        write_published(root, name, f"ann/{name}", commit)
        shutil.rmtree(root / name)
    return held


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "stick" / "zoo"


@pytest.mark.parametrize("by", ["argument", "environment", "argument before environment"])
def test_what_was_pulled_by_name_is_found_without_a_network(
    hub: HubServer,
    published: dict[str, dict[str, bytes]],
    to: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    by: str,
) -> None:
    if "environment" in by:
        monkeypatch.setenv("AEZOO_ZOO", str(tmp_path / "elsewhere" if "argument" in by else to))
    assert pull("small", to if "argument" in by else None) == to / "small"
    assert contents(to / "small") == published["small"]
    assert not (tmp_path / "elsewhere").exists()
    monkeypatch.setenv("AEZOO_ZOO", str(to))
    offline(hub, monkeypatch, tmp_path)
    ae = aezoo.load("small")
    assert (ae.source.kind, ae.source.index_verified) == ("zoo", True)
    assert Path(str(ae.source.path)) == to / "small"
    assert same(ae, network())
    assert hub.requests == []
    with raises("not-cached", match="HF_HUB_OFFLINE is set"):
        aezoo.load("other")


def offline(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another machine: no network, and an empty cache."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "another"))
    hub.requests.clear()


def test_a_folder_that_was_pulled_is_held_against_the_index(
    published: dict[str, dict[str, bytes]], to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aezoo.save(network(2), pull("small", to), overwrite=True)
    monkeypatch.setenv("AEZOO_ZOO", str(to))
    with raises("hash-mismatch", match="not the published bytes"):
        aezoo.load("small")


def test_pull_by_pattern(published: dict[str, dict[str, bytes]], to: Path, run: Run) -> None:
    code, out, err = run("pull", "s*", "oth?r", "--to", to)
    assert (code, err) == (0, "")
    assert contents_of(to) == published
    assert out.splitlines() == [
        f"{to / name}: verified; it is found there with AEZOO_ZOO={to}" for name in ("small", "other")
    ]
    code, out, err = run("pull", "*", "--to", to, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == [str(to / "other"), str(to / "small")]


@pytest.mark.filterwarnings("always::aezoo.errors.DiagnosticWarning")
@pytest.mark.parametrize("revision", ["", "@v1.0", "@main", "@commit"])
def test_pull_by_address(
    hub: HubServer,
    published: dict[str, dict[str, bytes]],
    to: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
    revision: str,
) -> None:
    address = f"hub:{REPO}{revision.replace('commit', commits(hub)[-1])}"
    code, out, err = run("pull", address, "--to", to)
    assert code == 0
    assert err.startswith("advice: unpinned") if revision == "" else err == ""
    assert out == f"{to / 'small'}: verified; load it with aezoo.load({str(to / 'small')!r})\n"
    offline(hub, monkeypatch, tmp_path)
    assert contents(to / "small") == published["small"]
    assert same(aezoo.load(to / "small"), network())
    assert hub.requests == []


def test_a_repository_of_anyone_is_pulled_without_what_else_it_holds(
    hub: HubServer, folder: Path, to: Path
) -> None:
    # With another name than its variant, and without a picture and a card.
    (folder / PREVIEW).unlink()
    held = contents(folder)
    hub.add("bob/net", {**held, "LICENSE": b"MIT", "pytorch_model.bin": b"cos\nsystem\n"}, tag="v3")
    assert pull("hub:bob/net@v3", to) == to / "small"
    assert contents(to / "small") == held


def test_what_is_on_this_disk_is_copied_without_a_request(hub: HubServer, root: Path, to: Path) -> None:
    pull("small", to)
    assert contents(to / "small") == contents(root / "small")
    assert hub.requests == []


def test_pulling_twice_leaves_the_folder_as_it_is(published: dict[str, dict[str, bytes]], to: Path) -> None:
    folder = pull("small", to)
    (folder / "notes.txt").write_text("mine")
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert pull("small", to) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == times


@pytest.mark.parametrize("what", ["other weights", "own text", "less", "empty", "file"])
def test_another_folder_in_its_place_is_refused_and_left_alone(
    published: dict[str, dict[str, bytes]], to: Path, what: str
) -> None:
    target = to / "small"
    match what:
        case "other weights":
            aezoo.save(network(2), target)
        case "own text":
            (pull("small", to) / CARD).write_text("Mine.")
        case "less":
            (pull("small", to) / PREVIEW).unlink()
        case "empty":
            target.mkdir(parents=True)
        case _:
            to.mkdir(parents=True)
            target.write_text("a file")
    before = target.read_bytes() if target.is_file() else contents(target)
    with pytest.raises(CheckpointError) as refused:
        pull("small", to)
    assert str(refused.value) == (
        f"{target} is there and holds something else; remove it, or pull to another folder"
    )
    assert (target.read_bytes() if target.is_file() else contents(target)) == before
    assert [path.name for path in to.iterdir()] == ["small"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("source", ["small", f"hub:{REPO}@v1.0", "hub:bob/small@v1.0"])
def test_corrupt_bytes_leave_nothing_behind(
    hub: HubServer, published: dict[str, dict[str, bytes]], to: Path, source: str, name: str
) -> None:
    # One that an index vouches for by its name, one by its commit, and one that none knows.
    hub.add("bob/small", {**published["small"], "LICENSE": b"MIT"}, tag="v1.0")
    hub.fault("corrupt", match=f"GET .*/{name}$")
    with pytest.raises(CheckpointError) as refused:
        pull(source, to)
    assert refused.value.code in ("hash-mismatch", "invalid-config"), refused.value
    assert name in str(refused.value)
    assert "expected" in str(refused.value)
    assert not to.exists() or list(to.iterdir()) == []
    hub.faults.clear()
    assert contents(pull(source, to)) == published["small"]


@pytest.mark.parametrize("name", FILES)
def test_a_cached_file_that_was_spoilt_is_fetched_again(
    hub: HubServer, published: dict[str, dict[str, bytes]], to: Path, tmp_path: Path, name: str
) -> None:
    pull("small", to)
    cached = next((tmp_path / "hf").rglob(f"snapshots/*/{name}"))
    flip(cached.resolve())
    hub.requests.clear()
    assert contents(pull("small", tmp_path / "second")) == published["small"]
    assert {request.path.rpartition("/")[2] for request in hub.requests} == {name}


@pytest.mark.parametrize(
    ("fault", "codes"),
    [({"kind": "drop"}, ("unreachable", "interrupted")), ({"kind": "status"}, ("server-error",))],
)
@pytest.mark.slow
def test_a_pull_that_dies_at_any_step_leaves_nothing_behind(
    hub: HubServer,
    published: dict[str, dict[str, bytes]],
    to: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, Any],
    codes: tuple[str, ...],
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    pull("small", tmp_path / "first")
    steps = [f"{request.method} {request.path}" for request in hub.requests]
    assert len(steps) >= 14
    for step, request in enumerate(steps):
        monkeypatch.setenv("HF_HOME", str(tmp_path / f"hf{step}"))
        armed = hub.fault(**fault, after=step)
        with pytest.raises(HubError) as died:
            pull("small", to)
        assert died.value.code in codes, f"{request}: {died.value!r}"
        assert died.value.__cause__ is not None
        assert not to.exists() or list(to.iterdir()) == [], request
        hub.faults.remove(armed)
    # What the last attempt left in the cache is good.
    assert contents(pull("small", to)) == published["small"]


def test_a_repository_that_holds_no_variant(hub: HubServer, to: Path, folder: Path) -> None:
    hub.add("bob/words", {"README.md": b"A text."})
    hub.add("bob/bare", contents(architecture(folder)))
    with pytest.raises(aezoo.CheckpointError, match="bob/words@main is no aezoo variant: it has no config"):
        pull("hub:bob/words@main", to)
    with pytest.raises(CheckpointError, match="hub:bob/bare@main is an architecture without a name"):
        pull("hub:bob/bare@main", to)
    assert not to.exists()


def test_a_full_disk_leaves_nothing_behind(root: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_settle", full)
    with pytest.raises(
        CheckpointError, match="small could not be written: No space left on device"
    ) as refused:
        pull("small", to)
    assert isinstance(refused.value.__cause__, OSError)
    assert list(to.iterdir()) == []


def test_a_place_that_is_a_file(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="file/small could not be written"):
        pull("small", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


# -- datasets -----------------------------------------------------------------------------------------


@pytest.mark.data
def test_a_dataset_on_this_disk_is_put_where_it_loads(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    ours = MnistSpec().load("test").sha256()
    stick = tmp_path / "stick"
    code, out, err = run("pull", "--dataset", "mnist", "--to", stick)
    assert (code, err) == (0, "")
    assert out == f"mnist is under {stick}; it is found there with AEZOO_DATA={stick}\n"
    assert [path.name for path in stick.iterdir()] == ["MNIST"]
    monkeypatch.setenv("AEZOO_DATA", str(stick))
    assert MnistSpec().load("test").sha256() == ours
    times = {path: path.stat().st_mtime_ns for path in stick.rglob("*")}
    assert json.loads(run("pull", "--dataset", "mnist", "--json")[1]) == [str(stick)]
    assert {path: path.stat().st_mtime_ns for path in stick.rglob("*")} == times
    assert hub.requests == []


def idx(array: torch.Tensor) -> bytes:
    """The file format of MNIST: kind and number of axes, sizes, bytes."""
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.numpy().tobytes()


# Torchvision leaves the answers open in which it was told that something went wrong.
careless = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture
def mirror(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A mirror with four digits of each split, and a machine without any dataset."""
    mnist, held = torchvision_datasets().MNIST, {}
    for name, _ in mnist.resources:
        array = torch.arange(4 * 784, dtype=torch.uint8).view(4, 28, 28)
        held[name] = gzip.compress(idx(array if "images" in name else array[:, 0, 0].contiguous()))
    digests = [(name, hashlib.md5(raw).hexdigest()) for name, raw in held.items()]
    hub.add("ann/mirror", held)
    monkeypatch.setattr(mnist, "mirrors", [f"{hub.url}/ann/mirror/resolve/main/"])
    monkeypatch.setattr(mnist, "resources", digests)
    monkeypatch.setenv("AEZOO_DATA", str(tmp_path / "empty"))
    yield hub
    # While it is still known whose carelessness it was.
    gc.collect()


def whole(place: Path, mirror: HubServer) -> bool:
    """Whether every file under a folder is one of the mirror's, packed or unpacked."""
    held = there(mirror, "ann/mirror")
    known = {**held, **{name.removesuffix(".gz"): gzip.decompress(raw) for name, raw in held.items()}}
    found = {path.name: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    return found.items() <= known.items()


@careless
def test_a_dataset_that_is_not_here_is_downloaded(mirror: HubServer, tmp_path: Path) -> None:
    assert pull_dataset("mnist", tmp_path / "stick") == tmp_path / "stick"
    assert not (tmp_path / "empty").exists()
    assert pull_dataset("mnist") == tmp_path / "empty"
    for place in (tmp_path / "stick", tmp_path / "empty"):
        assert [path.name for path in place.iterdir()] == ["MNIST"]
        assert whole(place, mirror)
    assert len(MnistSpec().load("test")) == 4


@careless
@pytest.mark.parametrize("file", [0, 3])
@pytest.mark.parametrize("fault", ["drop", "status", "truncate", "corrupt"])
def test_a_download_that_fails_leaves_nothing_half_written(
    mirror: HubServer, tmp_path: Path, fault: Kind, file: int
) -> None:
    stick = tmp_path / "stick"
    name = torchvision_datasets().MNIST.resources[file][0]
    mirror.fault(fault, match=f"GET .*{name}")
    with pytest.raises(
        DataError, match=f"^MNIST is not under {stick} and could not be downloaded"
    ) as refused:
        pull_dataset("mnist", stick)
    assert "\n" not in str(refused.value)
    assert refused.value.__cause__ is not None
    assert whole(stick, mirror)
    mirror.faults.clear()
    pull_dataset("mnist", stick)
    assert [path.name for path in stick.iterdir()] == ["MNIST"]
    assert whole(stick, mirror)


@careless
def test_a_copy_that_fails_leaves_nothing_half_written(
    mirror: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull_dataset("mnist")

    def copytree(source: Path, target: Path) -> None:
        target.mkdir()
        (target / "half").write_bytes(b"half")
        raise shutil.Error([(str(source), str(target), "[Errno 28] No space left on device")])

    with monkeypatch.context() as disk:
        disk.setattr(shutil, "copytree", copytree)
        with pytest.raises(DataError, match=r"stick.*No space left on device") as refused:
            pull_dataset("mnist", tmp_path / "stick")
    assert "\n" not in str(refused.value)
    assert isinstance(refused.value.__cause__, OSError)
    assert list((tmp_path / "stick").iterdir()) == []
    assert whole(tmp_path / "empty", mirror)
    assert len(MnistSpec().load("test")) == 4


@pytest.mark.parametrize(
    "kind", ["torchvision", "images", "array", "table", "windows", "swiss_roll", "photo_patches"]
)
def test_a_dataset_that_is_not_downloaded_under_its_kind(
    hub: HubServer, kind: str, tmp_path: Path, run: Run
) -> None:
    code, out, err = run("pull", "--dataset", kind, "--to", tmp_path / "stick")
    assert (code, out) == (1, "")
    assert err == (f"{kind} is no dataset that is downloaded under this name; mnist and fashion_mnist are\n")
    assert not (tmp_path / "stick").exists()


def test_an_unknown_dataset(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"'minst'.*'mnist'") as refused:
        pull_dataset("minst", tmp_path / "stick")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "stick").exists()


@pytest.mark.slow
def test_the_demo_shows_the_whole_round(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(repository / "tests" / "demo_hub.py")],
        capture_output=True, text=True, check=False, timeout=300,
        env={name: value for name, value in os.environ.items() if not name.startswith("HF_")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("every file came back as it is here", "verified; load it with", "0 requests"):
        assert words in done.stdout
