"""Pushing variants that an index lists, and pushes that are interrupted at any step."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aezoo
from aezoo.errors import HubError
from aezoo.zoo.index import INDEX, forget_index
from aezoo.zoo.save import record_metrics
from aezoo.zoo.schema import CARD, CONFIG, METRICS, PREVIEW, WEIGHTS
from aezoo.zoo.write_index import write_index
from tests.hub_server import HubServer, Kind
from tests.raising import raises
from tests.zoo.conftest import Run
from tests.zoo.folders import PICTURE, all_contents, contents, metric, network, no_space, same
from tests.zoo.hub_files import REPO, asked, commits, on_hub

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def index_of(root: Path) -> dict[str, Any]:
    return json.loads((root / INDEX).read_text())


def retrain(folder: Path) -> None:
    """Other weights, and other metrics."""
    aezoo.save(network(seed=2), folder, overwrite=True, files={PREVIEW: PICTURE})


def measure(folder: Path) -> None:
    record_metrics(folder, {"mse": metric(0.5)})


@pytest.mark.parametrize("by_name", [True, False])
def test_a_push_records_its_commit_in_the_index_and_nothing_else(
    ann: HubServer, root: Path, by_name: bool
) -> None:
    before, local = index_of(root), all_contents(root)
    published = aezoo.push("small" if by_name else root / "small")
    assert aezoo.get_entry("small")["commit"] == published.commit
    before["variants"]["small"] |= {"repository": REPO, "commit": published.commit}
    assert index_of(root) == before
    assert list(index_of(root)["variants"]) == list(before["variants"])
    assert all_contents(root) == local
    assert on_hub(ann) == local["small"]
    assert sorted(path.name for path in root.iterdir()) == [INDEX, "other", "small"]


def test_the_index_that_ships_records_commits_of_the_hub_only(
    ann: HubServer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = index_of(root)
    monkeypatch.setattr("aezoo.zoo.push.zoo_root", lambda: root)
    with pytest.warns(aezoo.DiagnosticWarning, match=f"endpoint: .*the commit at {ann.url} is not recorded"):
        published = aezoo.push("small")
    assert on_hub(ann)
    assert index_of(root) == before
    monkeypatch.setattr("aezoo.zoo.push.HUB_ENDPOINT", ann.url)
    assert aezoo.push("small").commit == published.commit
    assert index_of(root)["variants"]["small"]["commit"] == published.commit


def test_a_pushed_variant_loads_by_name_without_its_folder(ann: HubServer, root: Path) -> None:
    ours = aezoo.load("small")
    published = aezoo.push("small")
    shutil.rmtree(root / "small")
    ae = aezoo.load("small")
    assert same(ae, ours)
    assert (ae.source.kind, ae.source.index_verified) == ("zoo", True)
    assert (ae.source.repository, ae.source.commit) == (REPO, published.commit)
    # The name means the published commit, whatever is committed later.
    ann.add(REPO, {WEIGHTS: b"theirs", CONFIG: b"{}"})
    assert same(aezoo.load("small"), ours)


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG])
def test_a_released_name_keeps_its_bytes(ann: HubServer, root: Path, file: str) -> None:
    published = aezoo.push("small", tag="v1.0")
    before = on_hub(ann)
    if file == WEIGHTS:
        retrain(root / "small")
    else:
        config = json.loads((root / "small" / CONFIG).read_text())
        (root / "small" / CONFIG).write_text(json.dumps(config))
    write_index(root)
    index, local = (root / INDEX).read_bytes(), all_contents(root)
    ann.requests.clear()
    names = f"{CONFIG} and {WEIGHTS}" if file == WEIGHTS else CONFIG
    words = f"^{names} of {REPO} would change, but a released name keeps its bytes; publish better"
    with raises("immutable", match=words):
        aezoo.push("small", tag="v1.1")
    assert (asked(ann, "PUT"), asked(ann, "POST")) == ([], ["/api/repos/create"])
    assert on_hub(ann) == before
    assert ann.repositories[REPO].tags == {"v1.0": published.commit}
    assert (root / INDEX).read_bytes() == index
    assert all_contents(root) == local


def test_metrics_and_card_of_a_released_name_may_change(ann: HubServer, root: Path) -> None:
    first = aezoo.push("small")
    measure(root / "small")
    write_index(root)
    second = aezoo.push("small")
    assert second.changed == (METRICS, CARD)
    assert second.commit != first.commit
    assert aezoo.get_entry("small")["commit"] == second.commit
    shutil.rmtree(root / "small")
    assert aezoo.load("small").metrics["mse"]["value"] == 0.5
    assert aezoo.load(f"hub:{REPO}@{first.commit}").metrics["mse"]["value"] == 0.25


def test_weights_that_are_not_released_may_change(ann: HubServer, root: Path) -> None:
    # As after a push that was interrupted before the index recorded it.
    ann.add(REPO, contents(root / "small"))
    retrain(root / "small")
    write_index(root)
    aezoo.push("small")
    assert on_hub(ann) == contents(root / "small")


@pytest.mark.parametrize(
    ("change", "name", "file"),
    [
        (lambda root: (root / "small" / CARD).write_text("Mine."), "small", CARD),
        (lambda root: measure(root / "small"), "small", METRICS),
        (lambda root: retrain(root / "small"), "small", CONFIG),
        (lambda root: (root / "small" / PREVIEW).unlink(), "small", PREVIEW),
        (lambda root: (root / "other" / PREVIEW).write_bytes(PICTURE), "other", PREVIEW),
    ],
    ids=["card", "metrics", "weights", "without preview", "with preview"],
)
def test_a_folder_that_differs_from_its_index_is_refused(
    ann: HubServer, root: Path, change: Callable[[Path], object], name: str, file: str
) -> None:
    change(root)
    index, local = (root / INDEX).read_bytes(), all_contents(root)
    with raises("hash-mismatch") as caught:
        aezoo.push(name, org="ann")
    words = f"{root / name / file} is not the one that {root / INDEX} lists; see `aezoo index`"
    assert str(caught.value) == words
    assert ann.requests == []
    assert (root / INDEX).read_bytes() == index
    assert all_contents(root) == local


@pytest.mark.parametrize("text", ["{", "[]", '{"variants": []}', '{"schema_version": 1}'])
def test_an_invalid_index_does_not_unprotect_a_released_name(ann: HubServer, root: Path, text: str) -> None:
    published = aezoo.push("small")
    retrain(root / "small")
    (root / INDEX).write_text(text)
    with pytest.raises(aezoo.CheckpointError, match=r"^.*zoo/index\.json") as caught:
        aezoo.push(root / "small", org="ann")
    assert "\n" not in str(caught.value)
    assert commits(ann)[-1] == published.commit
    assert (root / INDEX).read_text() == text


def test_an_index_keeps_the_repository_that_it_names(ann: HubServer, root: Path, run: Run) -> None:
    aezoo.push("small")
    ann.orgs.append("lab")
    index = (root / INDEX).read_bytes()
    assert aezoo.push("small", org="lab").repository == "lab/small"
    assert on_hub(ann, "lab/small") == on_hub(ann) == contents(root / "small")
    assert (root / INDEX).read_bytes() == index
    ann.requests.clear()
    code, out, err = run("push", "small", "--dry-run")
    assert (code, err) == (0, "")
    assert out.startswith(f"{REPO} would hold\n")
    assert ann.requests == []
    assert aezoo.push("small").repository == REPO
    # By default it goes to the owner in the index, without asking who you are.
    assert not any("whoami" in path for path in asked(ann, "GET"))
    assert (root / INDEX).read_bytes() == index


def test_an_index_that_cannot_be_written_stays_as_it_was(
    ann: HubServer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = (root / INDEX).read_bytes()
    with monkeypatch.context() as disk:
        disk.setattr("aezoo.files._sync", no_space)
        with raises("write-failed", match=r"index\.json could not be written: No space left") as caught:
            aezoo.push("small")
    assert caught.value.__cause__ is not None
    assert isinstance(caught.value.__cause__.__cause__, OSError)
    assert (root / INDEX).read_bytes() == index
    assert aezoo.push("small").changed == ()
    assert aezoo.get_entry("small")["commit"] == commits(ann)[-1]


@pytest.mark.parametrize("name", [WEIGHTS, METRICS])
def test_a_commit_with_other_bytes_is_not_recorded(ann: HubServer, root: Path, name: str) -> None:
    index = (root / INDEX).read_bytes()
    ann.fault("corrupt", match=f"GET .*/{name}$")
    with raises("hash-mismatch", match=f"{name} came back with sha256"):
        aezoo.push("small", tag="v1.0")
    assert (root / INDEX).read_bytes() == index
    assert ann.repositories[REPO].tags == {}


# -- push --all ---------------------------------------------------------------------------------------


def test_push_all_pushes_every_variant_of_the_zoo(ann: HubServer, root: Path, run: Run) -> None:
    ann.orgs.append("lab")
    code, out, err = run("push", "--all", "--org", "lab", "--tag", "v1.0")
    assert (code, err) == (0, "")
    assert set(ann.repositories) == {"lab/other", "lab/small"}
    assert [line.split()[0] for line in out.splitlines()] == [
        f"{ann.url}/lab/{n}" for n in ("other", "small")
    ]
    for name, entry in index_of(root)["variants"].items():
        assert on_hub(ann, f"lab/{name}") == contents(root / name)
        assert (entry["repository"], entry["commit"]) == (f"lab/{name}", commits(ann, f"lab/{name}")[-1])
        assert ann.repositories[f"lab/{name}"].tags == {"v1.0": entry["commit"]}
    done = json.loads(run("push", "--all", "--json")[1])
    assert [(one["repository"], one["changed"]) for one in done] == [("lab/other", []), ("lab/small", [])]


def test_push_all_that_fails_keeps_what_was_done(ann: HubServer, root: Path, run: Run) -> None:
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
    other, small = out.splitlines()
    assert code == 0
    assert "ann/other at" in other
    assert "nothing changed" in other
    assert "7 files changed" in small


@pytest.mark.parametrize("which", ["small", "--all"])
def test_a_dry_run_in_json(hub: HubServer, root: Path, run: Run, which: str) -> None:
    code, out, err = run("push", which, "--org", "lab", "--dry-run", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == [
        {"repository": f"lab/{name}", "files": {file: len(raw) for file, raw in inside.items()}}
        for name, inside in sorted(all_contents(root).items())
        if which in (name, "--all")
    ]
    assert hub.requests == []


# -- interrupted pushes -------------------------------------------------------------------------------


class Push:
    """A push of better weights over a first version, which can be repeated from the start."""

    def __init__(self, hub: HubServer, root: Path) -> None:
        self.hub, self.root = hub, root
        # The index does not know the first version as released.
        self.old = contents(root / "small")
        self.first, self.ours = hub.add(REPO, self.old, tag="v1.0"), aezoo.load("small")
        retrain(root / "small")
        write_index(root)
        self.new = contents(root / "small")
        self.index = (root / INDEX).read_bytes()
        self.repositories = copy.deepcopy(hub.repositories)
        hub.requests.clear()
        self.run()
        self.steps = [f"{request.method} {request.path}" for request in hub.requests]
        self.restart()

    def run(self) -> str:
        return aezoo.push("small", tag="v2.0").commit

    def restart(self) -> None:
        """Restores the state before the push."""
        self.hub.repositories = copy.deepcopy(self.repositories)
        self.hub.faults.clear()
        (self.root / INDEX).write_bytes(self.index)
        forget_index()

    def is_recorded(self) -> bool:
        return (self.root / INDEX).read_bytes() != self.index

    def assert_whole(self, step: str) -> None:
        """The repository holds the first version or the second, and no tag is wrong."""
        tags = self.hub.repositories[REPO].tags
        assert on_hub(self.hub) in (self.old, self.new), step
        assert on_hub(self.hub, revision="v1.0") == self.old, step
        assert tags["v1.0"] == self.first, step
        assert "v2.0" not in tags or on_hub(self.hub, revision="v2.0") == self.new, step
        assert contents(self.root / "small") == self.new, step
        # The index is written last.
        assert not self.is_recorded() or "v2.0" in tags, step

    def assert_completes(self, step: str) -> None:
        """Running it again completes it, without a second commit of what was done already."""
        commit = self.run()
        assert commits(self.hub)[-2:] == [self.first, commit], step
        assert on_hub(self.hub) == self.new, step
        assert self.hub.repositories[REPO].tags == {"v1.0": self.first, "v2.0": commit}, step
        assert aezoo.get_entry("small")["commit"] == commit, step


ENDS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "drop": ({"kind": "drop"}, ("unreachable", "interrupted")),
    "500": ({"kind": "status", "status": 500}, ("server-error",)),
    "429": ({"kind": "status", "status": 429}, ("rate-limit",)),
    "lost": ({"kind": "lost"}, ("unreachable", "interrupted")),
}


@pytest.mark.slow
@pytest.mark.usefixtures("naps")
@pytest.mark.parametrize(("fault", "codes"), ENDS.values(), ids=ENDS)
def test_a_push_that_fails_at_any_step_leaves_the_old_version_and_can_be_completed(
    ann: HubServer, root: Path, fault: dict[str, Any], codes: tuple[str, ...]
) -> None:
    push = Push(ann, root)
    assert len(push.steps) >= 24
    for number, step in enumerate(push.steps):
        push.restart()
        push.hub.fault(**fault, after=number)
        with pytest.raises(HubError) as caught:
            push.run()
        assert caught.value.code in codes, f"{step}: {caught.value!r}"
        assert str(caught.value).startswith((REPO, "your account")), step
        assert "\n" not in str(caught.value)
        assert caught.value.__cause__ is not None
        push.assert_whole(step)
        assert not push.is_recorded(), step
        push.hub.faults.clear()
        push.assert_completes(step)
    assert same(aezoo.load(f"hub:{REPO}@v1.0"), push.ours)


@pytest.mark.slow
@pytest.mark.usefixtures("naps")
@pytest.mark.parametrize("fault", ["drop", "lost"])
def test_a_single_failure_is_overcome_or_leaves_a_version_whole(
    ann: HubServer, root: Path, fault: Kind
) -> None:
    push = Push(ann, root)
    for number, step in enumerate(push.steps):
        push.restart()
        push.hub.fault(fault, after=number, times=1)
        try:
            push.run()
        except HubError:
            assert not push.is_recorded(), step
        push.assert_whole(step)
        push.assert_completes(step)
