"""Pushing a folder: one repository, what changed in one commit, compared with what comes back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aezoo
from aezoo.errors import AezooError, HubError, NotSupportedError, UnknownVariantError
from aezoo.zoo.model_card import card
from aezoo.zoo.push import Published, plan_push
from aezoo.zoo.save import record_metrics
from aezoo.zoo.schema import CARD, CONFIG, FILES, METRICS, PREVIEW, SPEC, TRAINING, WEIGHTS
from tests.hub_server import GIT_ATTRIBUTES, HubServer, Reply, Request, sha256
from tests.raising import raises
from tests.zoo.conftest import Run
from tests.zoo.folders import PICTURE, architecture, contents, flip, metric, network, no_space, same
from tests.zoo.hub_files import REPO, asked, commits, damaged, on_hub, sent

# The client's upload of large files is deprecated by the HTTP library that it uses.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.mark.parametrize("private", [False, True])
def test_a_push_creates_a_repository_that_holds_the_folder(
    ann: HubServer, pushable: Path, private: bool
) -> None:
    before = contents(pushable)
    published = aezoo.push(pushable, private=private, tag="v1.0")
    assert set(ann.repositories) == {REPO}
    repository = ann.repositories[REPO]
    assert repository.private is private
    assert {**on_hub(ann), ".gitattributes": GIT_ATTRIBUTES} == ann.files(REPO)
    assert set(on_hub(ann)) == set(FILES)
    del before[CARD]  # which names the folder
    assert {name: on_hub(ann)[name] for name in before} == before
    _, last = commits(ann)
    assert repository.tags == {"v1.0": last}
    assert published == Published(REPO, last, f"{ann.url}/{REPO}", FILES)
    # The folder's card is then the one that was uploaded.
    assert contents(pushable) == on_hub(ann)
    assert f'aezoo.load("hub:{REPO}")' in (pushable / CARD).read_text()
    # A private repository stays private.
    aezoo.push(pushable, private=False)
    assert repository.private is private


def test_a_pushed_variant_loads_by_its_address(ann: HubServer, pushable: Path) -> None:
    published = aezoo.push(pushable, tag="v1.0")
    ours = aezoo.load(pushable)
    for revision in (published.commit, "v1.0", "main"):
        ae = aezoo.load(f"hub:{REPO}@{revision}")
        assert same(ae, ours)
        assert (ae.source.repository, ae.source.commit) == (REPO, published.commit)
        assert ae.metrics == ours.metrics


@pytest.mark.parametrize("text", [b"# Mine\n", b"---\nlicense: mit\n---\r\nMine\r\n", b""])
def test_a_users_own_card_is_uploaded_as_it_is(ann: HubServer, pushable: Path, text: bytes) -> None:
    (pushable / CARD).write_bytes(text)
    aezoo.push(pushable, license="mit")
    assert (pushable / CARD).read_bytes() == on_hub(ann)[CARD] == text


def test_a_license_is_kept_by_the_next_push(ann: HubServer, pushable: Path) -> None:
    aezoo.push(pushable, license="cc-by-4.0")
    record_metrics(pushable, {"mse": metric(0.5)})
    aezoo.push(pushable)
    assert b"\nlicense: cc-by-4.0\n" in on_hub(ann)[CARD]
    aezoo.push(pushable, license="mit")
    assert b"\nlicense: mit\n" in on_hub(ann)[CARD]


def test_a_second_push_makes_no_commit_but_compares_again(ann: HubServer, pushable: Path, run: Run) -> None:
    first = aezoo.push(pushable)
    ann.requests.clear()
    words = f"{first.url} at {first.commit}: nothing changed; every file was downloaded and compared\n"
    assert run("push", pushable) == (0, words, "")
    assert commits(ann)[-1] == first.commit
    assert (asked(ann, "PUT"), asked(ann, "POST")) == ([], ["/api/repos/create"])
    assert aezoo.push(pushable).changed == ()
    ann.fault("corrupt", match="GET .*metrics.json")
    with raises("hash-mismatch", match=r"metrics\.json came back with sha256"):
        aezoo.push(pushable)


def test_only_what_changed_is_uploaded(ann: HubServer, pushable: Path) -> None:
    aezoo.push(pushable)
    ann.requests.clear()
    record_metrics(pushable, {"mse": metric(0.75)})
    assert aezoo.push(pushable).changed == (METRICS, CARD)
    assert asked(ann, "PUT") == []
    assert sent(ann) == {"file": [METRICS, CARD]}
    assert on_hub(ann) == contents(pushable)
    ann.requests.clear()
    aezoo.save(network(seed=2), pushable, overwrite=True, files={PREVIEW: PICTURE})
    aezoo.push(pushable)
    assert len(asked(ann, "PUT")) == 1
    assert sent(ann) == {"lfsFile": [WEIGHTS], "file": [CONFIG, METRICS, TRAINING, CARD]}
    assert on_hub(ann) == contents(pushable)
    assert len(commits(ann)) == 4


def test_a_deleted_file_is_removed_and_foreign_files_stay(ann: HubServer, pushable: Path) -> None:
    theirs = {"LICENSE": b"MIT", "onnx/model.onnx": b"theirs", "notes.bin": bytes(1_500_000)}
    ann.add(REPO, {**theirs, CARD: b"An old text."})
    aezoo.push(pushable)
    assert on_hub(ann) == {**theirs, **contents(pushable)}
    (pushable / PREVIEW).unlink()
    # The card shows the picture.
    assert aezoo.push(pushable).changed == (CARD, PREVIEW)
    assert sent(ann) == {"file": [CARD], "deletedFile": [PREVIEW]}
    assert on_hub(ann) == {**theirs, **contents(pushable)}


def test_the_repository_has_the_name_of_the_spec(ann: HubServer, pushable: Path) -> None:
    ann.orgs.append("lab")
    published = aezoo.push(pushable.rename(pushable.with_name("elsewhere")), org="lab")
    assert (published.repository, published.url) == ("lab/small", f"{ann.url}/lab/small")
    assert set(ann.repositories) == {"lab/small"}
    assert b'aezoo.load("hub:lab/small")' in on_hub(ann, "lab/small")[CARD]


# -- refusals -----------------------------------------------------------------------------------------


def untrained(folder: Path) -> Path:
    for name in set(FILES) - {SPEC}:
        (folder / name).unlink(missing_ok=True)
    return folder


def written(name: str, raw: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(raw)
        return folder

    return write


def tampered(folder: Path) -> Path:
    flip(folder / WEIGHTS)
    return folder


REFUSED: dict[str, tuple[Callable[[Path], Any], str | type[AezooError], str]] = {
    "untrained": (untrained, "missing-file", r"small/config\.json is missing"),
    "broken": (written(CONFIG, b"{"), "invalid-config", r"small/config\.json"),
    "tampered": (tampered, "hash-mismatch", r"small/model\.safetensors .*sha256"),
    "unfinished": (
        written(TRAINING, b'{"unfinished": "Ctrl-C"}'), "unfinished",
        "small holds an interrupted training; finish it with --resume",
    ),
    "architecture": (
        lambda folder: architecture(folder.with_name("bare")), "not-a-variant",
        "bare holds an architecture without name and recipe; a variant is expected",
    ),
    # The Hub accepts UTF-8 only.
    "latin-1": (
        written(CARD, "# Größe".encode("latin-1")), "invalid-config", r"small/README\.md is not UTF-8",
    ),
    "no folder": (lambda folder: folder / "nowhere", "missing-file", "nowhere"),
    "address": (
        lambda _: f"hub:{REPO}", NotSupportedError,
        "'hub:ann/small' is on the Hub already; push takes a variant's name or a folder",
    ),
    "unknown": (lambda _: "fc-46", UnknownVariantError, r"no variant 'fc-46' \(did you mean 'fc-64'\?\)"),
    "path": (lambda _: "zoo/fc-64", UnknownVariantError, r"write .*'\./zoo/fc-64' for a folder"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "kind", "words"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("org", ["ann", None])
def test_what_is_not_a_finished_variant_is_refused_without_a_request(
    ann: HubServer,
    pushable: Path,
    org: str | None,
    spoil: Callable[[Path], Any],
    kind: str | type[AezooError],
    words: str,
) -> None:
    name = spoil(pushable)
    before = contents(pushable)
    with raises(kind, words) if isinstance(kind, str) else pytest.raises(kind, match=words) as caught:
        aezoo.push(name, org=org)
    assert "\n" not in str(caught.value)
    assert ann.requests == []
    assert contents(pushable) == before


LOG_IN = (
    "the token is missing, expired, or not permitted to do this; log in with `hf auth login`, or set HF_TOKEN"
)


@pytest.mark.parametrize("token", [None, "hf_of_last_year"])
def test_without_a_valid_token_a_push_is_refused(
    hub: HubServer, pushable: Path, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    for org, where in ((None, "your account"), ("ann", REPO)):
        with raises("unauthorized") as caught:
            aezoo.push(pushable, org=org)
        assert str(caught.value) == f"{where}: {LOG_IN}"
        assert caught.value.__cause__ is not None
    assert hub.repositories == {}


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize(("role", "org"), [("read", "ann"), ("write", "bob")])
def test_a_token_without_write_access_is_refused(
    ann: HubServer, pushable: Path, role: str, org: str, exists: bool
) -> None:
    repository = f"{org}/small"
    if exists:
        ann.add(repository, {CARD: b"theirs"})
    ann.role = role
    local = contents(pushable)
    with raises("unauthorized") as caught:
        aezoo.push(pushable, org=org)
    assert str(caught.value) == f"{repository}: {LOG_IN}"
    assert caught.value.__cause__ is not None
    assert {name: on_hub(ann, name) for name in ann.repositories} == (
        {repository: {CARD: b"theirs"}} if exists else {}
    )
    assert contents(pushable) == local


def test_a_tag_never_moves(ann: HubServer, pushable: Path) -> None:
    first = aezoo.push(pushable, tag="v1.0")
    assert aezoo.push(pushable, tag="v1.0").commit == first.commit
    record_metrics(pushable, {"mse": metric(0.5)})
    ann.requests.clear()
    local = contents(pushable)
    words = f"^the tag v1.0 of {REPO} names commit {first.commit} and does not move; choose another tag$"
    with raises("immutable", match=words):
        aezoo.push(pushable, tag="v1.0")
    assert (asked(ann, "PUT"), asked(ann, "POST")) == ([], ["/api/repos/create"])
    assert commits(ann)[-1] == first.commit
    assert contents(pushable) == local
    second = aezoo.push(pushable)
    # A tag for a commit that exists, as after a push that was interrupted before its tag.
    assert aezoo.push(pushable, tag="v1.1").changed == ()
    assert ann.repositories[REPO].tags == {"v1.0": first.commit, "v1.1": second.commit}
    # Nothing would change, but the older tag is of another commit.
    with raises("immutable", match=words):
        aezoo.push(pushable, tag="v1.0")


def test_a_commit_by_somebody_else_meanwhile_is_not_lost(
    ann: HubServer, pushable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aezoo.push(pushable)
    record_metrics(pushable, {"mse": metric(0.5)})
    local, answer = contents(pushable), ann.answer
    theirs: list[str] = []

    def overtaken(request: Request) -> Reply | None:
        if "/commit/" in request.path and not theirs:
            theirs.append(ann.add(REPO, {CARD: b"their words", "LICENSE": b"MIT"}))
        return answer(request)

    monkeypatch.setattr(ann, "answer", overtaken)
    with pytest.raises(HubError, match=f"^{REPO}: somebody else has committed meanwhile") as caught:
        aezoo.push(pushable, tag="v2")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None
    assert commits(ann)[-1] == theirs[0]
    assert on_hub(ann)[CARD] == b"their words"
    assert ann.repositories[REPO].tags == {}
    assert contents(pushable) == local
    aezoo.push(pushable, tag="v2")
    assert on_hub(ann) == {**contents(pushable), "LICENSE": b"MIT"}


@pytest.mark.parametrize("name", FILES)
def test_other_bytes_that_come_back_are_refused(ann: HubServer, pushable: Path, name: str) -> None:
    local = contents(pushable)
    ann.fault("corrupt", match=f"GET .*/{name}$")
    with raises("hash-mismatch") as caught:
        aezoo.push(pushable, tag="v1.0")
    commit, raw = commits(ann)[-1], on_hub(ann)[name]
    words = f"{name} came back with sha256 {sha256(damaged(raw))}, expected {sha256(raw)}"
    assert str(caught.value) == f"{REPO}@{commit}: {words}"
    assert ann.repositories[REPO].tags == {}
    assert contents(pushable) == local
    ann.faults.clear()
    assert aezoo.push(pushable, tag="v1.0").commit == commit
    assert ann.repositories[REPO].tags == {"v1.0": commit}


def test_a_card_that_cannot_be_written_stays_as_it_was(
    ann: HubServer, pushable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = contents(pushable)
    with monkeypatch.context() as disk:
        disk.setattr("aezoo.files._sync", no_space)
        words = rf"{REPO} is at .*, but .*README\.md could not be written: No space left .*; push again"
        with raises("write-failed", match=words) as caught:
            aezoo.push(pushable)
    assert caught.value.__cause__ is not None
    assert isinstance(caught.value.__cause__.__cause__, OSError)
    assert contents(pushable) == local
    assert aezoo.push(pushable).changed == ()
    assert contents(pushable) == on_hub(ann)


# -- the plan and the command line --------------------------------------------------------------------


def test_the_plan_is_what_a_push_uploads(ann: HubServer, pushable: Path) -> None:
    local = contents(pushable)
    plan = aezoo.plan_push(pushable, org="ann", license="mit")
    assert ann.requests == []
    assert contents(pushable) == local
    assert (plan.folder, plan.repository, plan.index, plan.released) == (pushable, REPO, None, None)
    text = card(pushable, address=f"hub:{REPO}", license="mit")
    assert plan.contents == local | {CARD: text.encode()}
    aezoo.push(pushable, license="mit")
    assert on_hub(ann) == plan.contents


def test_command_push(ann: HubServer, pushable: Path, run: Run) -> None:
    code, out, err = run("push", pushable, "--tag", "v1.0", "--license", "mit", "--private")
    assert (code, err) == (0, "")
    commit = commits(ann)[-1]
    assert out == f"{ann.url}/{REPO} at {commit}: 7 files changed; every file was downloaded and compared\n"
    assert ann.repositories[REPO].tags == {"v1.0": commit}
    assert ann.repositories[REPO].private
    assert b"\nlicense: mit\n" in on_hub(ann)[CARD]
    (pushable / PREVIEW).unlink()
    done = json.loads(run("push", pushable, "--json")[1])
    about = {"repository": REPO, "commit": commits(ann)[-1], "url": f"{ann.url}/{REPO}"}
    assert done == [about | {"changed": [CARD, PREVIEW]}]


def test_a_dry_run_shows_files_sizes_and_card_without_a_request(
    hub: HubServer, pushable: Path, run: Run
) -> None:
    local = contents(pushable)
    code, out, err = run("push", pushable, "--org", "lab", "--license", "mit", "--dry-run")
    assert (code, err) == (0, "")
    assert out.startswith("lab/small would hold\n")
    rows = dict(line.split() for line in out.splitlines()[2:9])
    text = out[out.index("---\n") :]
    assert rows == {name: f"{len(raw):,}" for name, raw in (local | {CARD: text.encode()}).items()}
    assert text == card(pushable, address="hub:lab/small", license="mit")
    assert contents(pushable) == local
    assert hub.requests == []


def test_a_dry_run_asks_for_the_user_name_only(ann: HubServer, pushable: Path, run: Run) -> None:
    code, out, err = run("push", pushable, "--dry-run")
    assert (code, err) == (0, "")
    assert [request.path for request in ann.requests] == ["/api/whoami-v2"]
    aezoo.push(pushable)
    assert out.endswith("\n" + on_hub(ann)[CARD].decode())


def test_a_dry_run_works_without_a_login(hub: HubServer, pushable: Path, run: Run) -> None:
    code, out, err = run("push", pushable, "--dry-run")
    assert code == 0
    assert out.startswith("you/small would hold\n")
    assert 'aezoo.load("hub:you/small")' in out
    assert err.count("\n") == 1
    assert "hf auth login" in err
    assert run("push", pushable)[0] == 1
    assert hub.repositories == {}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["push"], 2, "name one variant or folder, or give --all"),
        (["push", "fc-64", "--all"], 2, "name one variant or folder, or give --all"),
        (["push", "fc-64"], 1, f"your account: {LOG_IN}"),
        (["push", "fc-64", "--org", "lab"], 1, f"lab/fc-64: {LOG_IN}"),
        (["push", "fc-64", "--org", "no such/org"], 1, "expected hub:OWNER/NAME"),
        (["push", "fc-46"], 1, "no variant 'fc-46' (did you mean 'fc-64'?)"),
        (["push", "./nowhere"], 1, "nowhere/config.json is missing"),
        (["push", "hub:ann/small"], 1, "is on the Hub already"),
        (["pull"], 2, "name a variant, or a dataset with --dataset"),
        (["pull", "fc-64", "--dataset", "mnist"], 2, "pull variants and datasets separately"),
        (["pull", "fc-64"], 1, "no target folder: pass one (--to DIR), or set AEZOO_ZOO"),
        (["pull", "fc-46", "--to", "there"], 1, "no variant 'fc-46' (did you mean 'fc-64'?)"),
        (["pull", "fc-46*", "--to", "there"], 1, "no variant matches 'fc-46*'"),
        (["pull", "hub:nobody", "--to", "there"], 1, "expected hub:OWNER/NAME"),
        (["pull", "hub:ann/none@main", "--to", "there"], 1, "ann/none@main does not exist, or is private"),
        (["pull", "--dataset", "minst", "--to", "there"], 1, "'mnist'"),
        (["card", "fc-46"], 1, "no variant 'fc-46' (did you mean 'fc-64'?)"),
        (["card", "./nowhere"], 1, "nowhere/config.json is missing"),
    ],
)
def test_commands_are_refused_in_one_line(
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
    assert (found, out) == (code, ""), err
    # A usage error has a frame and line breaks.
    assert words in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
    assert code == 2 or err.count("\n") == 1
    assert list(Path().iterdir()) == []
    assert hub.repositories == {}


@pytest.mark.parametrize(
    "tag",
    ["../x", "refs/heads/main", "-f", "", "v" * 5000, "v1\nv2", "v1.", "a..b", "v1.lock", ".v", "é", "a b"],
)
def test_a_tag_that_no_address_spells_is_refused_before_the_upload(
    ann: HubServer, pushable: Path, tag: str
) -> None:
    with raises("failed", "cannot be a tag"):
        aezoo.push(pushable, tag=tag)
    assert not ann.requests


def test_a_private_push_to_a_public_repository_is_refused(ann: HubServer, pushable: Path) -> None:
    before = aezoo.push(pushable).commit
    with raises("failed", "is public, but private was requested"):
        aezoo.push(pushable, private=True)
    assert commits(ann)[-1] == before


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"recipe.seed": 7}, "is not the spec that the weights were trained by"),
        ({"encoder.1.activation": "tanh"}, "is not the spec that the weights were trained by"),
        ({"name": "other", "summary": "Another text."}, None),
    ],
)
def test_a_spec_yaml_of_another_training_is_not_pushed(
    pushable: Path, change: dict[str, Any], match: str | None
) -> None:
    spec = aezoo.read_spec(pushable / "spec.yaml").replace(change)
    (pushable / "spec.yaml").write_text(aezoo.to_yaml(spec))
    if match is None:
        assert plan_push(pushable, org="ann").contents["spec.yaml"]
        return
    with raises("invalid-config", match):
        plan_push(pushable, org="ann")


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "in-parts"])
def test_the_token_is_sent_to_no_other_host(ann: HubServer, pushable: Path, parts: bool) -> None:
    """The server names another host for the check after an upload."""
    oid, size = sha256((pushable / WEIGHTS).read_bytes()), (pushable / WEIGHTS).stat().st_size
    upload: dict[str, Any] = {"href": f"{ann.cdn_url}/upload/{REPO}/{oid}"}
    if parts:
        upload = {"href": f"{ann.cdn_url}/complete", "header": {"chunk_size": size, "1": upload["href"]}}
    actions = {"upload": upload, "verify": {"href": f"{ann.cdn_url}/verify"}}
    objects = [{"oid": oid, "size": size, "authenticated": True, "actions": actions}]
    body = json.dumps({"transfer": "basic", "objects": objects}).encode()
    ann.fault("body", match="info/lfs/objects/batch", body=body)
    with pytest.raises(HubError) as caught:
        aezoo.push(pushable)
    # The parts carry no token; the check afterwards would.
    assert parts or "asks to send your token to 127.0.0.1; it was not sent" in str(caught.value)
    elsewhere = [request for request in ann.requests if request.port == "cdn"]
    assert elsewhere
    assert not any("authorization" in request.headers for request in elsewhere)
    assert on_hub(ann) == {}
