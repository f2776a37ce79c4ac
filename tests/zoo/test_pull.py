"""Pulling variants and datasets for a machine without a network: complete and verified, or not at all."""

import gc
import gzip
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import aezoo
from aezoo.data.datasets.torchvision import MnistSpec, torchvision_datasets
from aezoo.errors import CheckpointError, DataError, HubError, RegistryError
from aezoo.zoo.pull import pull_dataset
from aezoo.zoo.schema import CARD, FILES, PREVIEW
from aezoo.zoo.write_index import write_published
from tests.hub_server import HubServer, Kind
from tests.parts import in_parts
from tests.raising import raises
from tests.zoo.conftest import Run
from tests.zoo.folders import all_contents, architecture, contents, flip, network, no_space, same
from tests.zoo.hub_files import REPO, commits, on_hub

Zoo = dict[str, dict[str, bytes]]


@pytest.fixture
def published(hub: HubServer, root: Path) -> Zoo:
    """The zoo on the Hub, with nothing left here but its index; the content of its folders."""
    files = all_contents(root)
    for name, inside in files.items():
        commit = hub.add(f"ann/{name}", inside, tag="v1.0")
        write_published(root, name, f"ann/{name}", commit)
        shutil.rmtree(root / name)
    return files


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "stick" / "zoo"


def go_offline(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Go to another machine, without network and with an empty cache."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "another"))
    hub.requests.clear()


# -- variants -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["argument", "environment", "argument before environment"])
def test_a_pulled_variant_is_found_by_name_without_a_network(
    hub: HubServer, published: Zoo, to: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    if "environment" in by:
        monkeypatch.setenv("AEZOO_ZOO", str(tmp_path / "elsewhere" if "argument" in by else to))
    assert aezoo.pull("small", to if "argument" in by else None) == to / "small"
    assert contents(to / "small") == published["small"]
    assert not (tmp_path / "elsewhere").exists()
    monkeypatch.setenv("AEZOO_ZOO", str(to))
    go_offline(hub, monkeypatch, tmp_path)
    ae = aezoo.load("small")
    assert (ae.source.kind, ae.source.index_verified) == ("zoo", True)
    assert Path(str(ae.source.path)) == to / "small"
    assert same(ae, network())
    assert hub.requests == []
    with raises("not-cached", match="HF_HUB_OFFLINE is set"):
        aezoo.load("other")
    # The index here verifies what was pulled.
    aezoo.save(network(2), to / "small", overwrite=True)
    with raises("hash-mismatch", match="not the published bytes"):
        aezoo.load("small")


def test_command_pull_by_pattern(published: Zoo, to: Path, run: Run) -> None:
    code, out, err = run("pull", "s*", "oth?r", "--to", to)
    assert (code, err) == (0, "")
    assert all_contents(to) == published
    assert out.splitlines() == [
        f"{to / name}: verified; set AEZOO_ZOO={to} to load it by name" for name in ("small", "other")
    ]
    code, out, err = run("pull", "*", "--to", to, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == [str(to / "other"), str(to / "small")]


@pytest.mark.filterwarnings("always::aezoo.errors.DiagnosticWarning")
@pytest.mark.parametrize("revision", ["", "@v1.0", "@main", "@commit"])
def test_command_pull_by_address(
    hub: HubServer,
    published: Zoo,
    to: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
    revision: str,
) -> None:
    address = f"hub:{REPO}{revision.replace('commit', commits(hub)[-1])}"
    code, out, err = run("pull", address, "--to", to)
    assert code == 0
    assert ("unpinned" in err) if revision == "" else err == ""
    assert out == f"{to / 'small'}: verified; load it with aezoo.load({str(to / 'small')!r})\n"
    go_offline(hub, monkeypatch, tmp_path)
    assert contents(to / "small") == published["small"]
    assert same(aezoo.load(to / "small"), network())
    assert hub.requests == []


def test_only_the_files_of_a_variant_are_pulled(hub: HubServer, folder: Path, to: Path) -> None:
    # From a repository with another name than its variant, and without picture and card.
    files = contents(folder)
    hub.add("bob/net", {**files, "LICENSE": b"MIT", "pytorch_model.bin": b"cos\nsystem\n"}, tag="v3")
    assert aezoo.pull("hub:bob/net@v3", to) == to / "small"
    assert contents(to / "small") == files


def test_a_local_variant_is_copied_without_a_request(hub: HubServer, root: Path, to: Path) -> None:
    aezoo.pull("small", to)
    assert contents(to / "small") == contents(root / "small")
    assert hub.requests == []


def test_pulling_again_leaves_the_folder_as_it_is(published: Zoo, to: Path) -> None:
    folder = aezoo.pull("small", to)
    (folder / "notes.txt").write_text("mine")
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert aezoo.pull("small", to) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == times


@pytest.mark.parametrize("what", ["other weights", "own card", "less", "empty", "file"])
def test_another_folder_in_the_way_is_refused_and_kept(published: Zoo, to: Path, what: str) -> None:
    target = to / "small"
    match what:
        case "other weights":
            aezoo.save(network(2), target)
        case "own card":
            (aezoo.pull("small", to) / CARD).write_text("Mine.")
        case "less":
            (aezoo.pull("small", to) / PREVIEW).unlink()
        case "empty":
            target.mkdir(parents=True)
        case _:
            to.mkdir(parents=True)
            target.write_text("a file")
    before = target.read_bytes() if target.is_file() else contents(target)
    words = f"^{target} exists and holds something else; remove it, or pull into another folder$"
    with raises("target", match=words):
        aezoo.pull("small", to)
    assert (target.read_bytes() if target.is_file() else contents(target)) == before
    assert [path.name for path in to.iterdir()] == ["small"]


@pytest.mark.parametrize("name", in_parts(FILES, 2))
@pytest.mark.parametrize("source", ["small", f"hub:{REPO}@v1.0", "hub:bob/small@v1.0"])
def test_damaged_downloads_leave_nothing_behind(
    hub: HubServer, published: Zoo, to: Path, source: str, name: str
) -> None:
    # An index knows the first by name and the second by its commit; no index knows the third.
    hub.add("bob/small", {**published["small"], "LICENSE": b"MIT"}, tag="v1.0")
    hub.fault("corrupt", match=f"GET .*/{name}$")
    with raises("hash-mismatch", match=rf"{name} has .*, expected "):
        aezoo.pull(source, to)
    assert not to.exists() or list(to.iterdir()) == []
    hub.faults.clear()
    assert contents(aezoo.pull(source, to)) == published["small"]


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_in_the_cache_is_downloaded_again(
    hub: HubServer, published: Zoo, to: Path, tmp_path: Path, name: str
) -> None:
    aezoo.pull("small", to)
    cached = next((tmp_path / "hf").rglob(f"snapshots/*/{name}"))
    flip(cached.resolve())
    hub.requests.clear()
    assert contents(aezoo.pull("small", tmp_path / "second")) == published["small"]
    assert {request.path.rpartition("/")[2] for request in hub.requests} == {name}


@pytest.mark.slow
@pytest.mark.usefixtures("naps")
@pytest.mark.parametrize(
    ("fault", "codes"),
    [({"kind": "drop"}, ("unreachable", "interrupted")), ({"kind": "status"}, ("server-error",))],
)
def test_a_pull_that_fails_at_any_step_leaves_nothing_behind(
    hub: HubServer,
    published: Zoo,
    to: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, Any],
    codes: tuple[str, ...],
) -> None:
    aezoo.pull("small", tmp_path / "first")
    steps = [f"{request.method} {request.path}" for request in hub.requests]
    assert len(steps) >= 14
    # The last request follows the answer that there is no signature: the client notes that in its cache.
    assert steps[-1] == steps[-2]
    assert steps[-1].endswith("/model.sig")
    for number, step in enumerate(steps[:-1]):
        monkeypatch.setenv("HF_HOME", str(tmp_path / f"hf{number}"))
        armed = hub.fault(**fault, after=number)
        with pytest.raises(HubError) as caught:
            aezoo.pull("small", to)
        assert caught.value.code in codes, f"{step}: {caught.value!r}"
        assert caught.value.__cause__ is not None
        assert not to.exists() or list(to.iterdir()) == [], step
        hub.faults.remove(armed)
    # The cache of the last attempt is usable.
    assert contents(aezoo.pull("small", to)) == published["small"]


def test_a_repository_without_a_variant_is_refused(hub: HubServer, to: Path, tmp_path: Path) -> None:
    hub.add("bob/words", {CARD: b"A text."})
    hub.add("bob/bare", contents(architecture(tmp_path / "bare")))
    with raises("not-a-variant", match="bob/words@main is not an aezoo variant: no config"):
        aezoo.pull("hub:bob/words@main", to)
    with raises("not-a-variant", match="hub:bob/bare@main holds an architecture without name and recipe"):
        aezoo.pull("hub:bob/bare@main", to)
    assert not to.exists()


def test_a_full_disk_leaves_nothing_behind(root: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aezoo.files._sync", no_space)
    with raises("write-failed", match="small could not be written: No space left on device") as caught:
        aezoo.pull("small", to)
    assert isinstance(caught.value.__cause__, OSError)
    assert list(to.iterdir()) == []


def test_a_target_that_is_a_file_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="file/small could not be written"):
        aezoo.pull("small", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_the_demo_shows_the_whole_round(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(repository / "tests" / "demo_hub.py")],
        capture_output=True, text=True, check=False, timeout=300,
        env={name: value for name, value in os.environ.items() if not name.startswith("HF_")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("every file was downloaded and compared", "verified; load it with", "0 requests"):
        assert words in done.stdout


# -- datasets -----------------------------------------------------------------------------------------


@pytest.mark.data
def test_a_local_dataset_is_copied(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    ours = MnistSpec().load("test").sha256()
    stick = tmp_path / "stick"
    words = f"mnist is under {stick}; set AEZOO_DATA={stick} to use it\n"
    assert run("pull", "--dataset", "mnist", "--to", stick) == (0, words, "")
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


# Torchvision does not close the responses of requests that failed.
unclosed = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture
def mirror(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A mirror with four digits of each split, and a machine without any dataset."""
    mnist, files = torchvision_datasets().MNIST, {}
    for name, _ in mnist.resources:
        array = torch.arange(4 * 784, dtype=torch.uint8).view(4, 28, 28)
        files[name] = gzip.compress(idx(array if "images" in name else array[:, 0, 0].contiguous()))
    digests = [(name, hashlib.md5(raw).hexdigest()) for name, raw in files.items()]
    hub.add("ann/mirror", files)
    monkeypatch.setattr(mnist, "mirrors", [f"{hub.url}/ann/mirror/resolve/main/"])
    monkeypatch.setattr(mnist, "resources", digests)
    monkeypatch.setenv("AEZOO_DATA", str(tmp_path / "empty"))
    yield hub
    # While the warnings of these tests are ignored.
    gc.collect()


def assert_whole(place: Path, mirror: HubServer) -> None:
    """Every file under a folder is one of the mirror's, compressed or not."""
    files = on_hub(mirror, "ann/mirror")
    known = {**files, **{name.removesuffix(".gz"): gzip.decompress(raw) for name, raw in files.items()}}
    found = {path.name: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert found.items() <= known.items()


@unclosed
def test_a_missing_dataset_is_downloaded(mirror: HubServer, tmp_path: Path) -> None:
    assert pull_dataset("mnist", tmp_path / "stick") == tmp_path / "stick"
    assert not (tmp_path / "empty").exists()
    assert pull_dataset("mnist") == tmp_path / "empty"
    for place in (tmp_path / "stick", tmp_path / "empty"):
        assert [path.name for path in place.iterdir()] == ["MNIST"]
        assert_whole(place, mirror)
    assert len(MnistSpec().load("test")) == 4


@unclosed
@pytest.mark.parametrize("file", [0, 3])
@pytest.mark.parametrize("fault", ["drop", "status", "truncate", "corrupt"])
def test_a_failed_download_leaves_no_partial_file(
    mirror: HubServer, tmp_path: Path, fault: Kind, file: int
) -> None:
    stick = tmp_path / "stick"
    name = torchvision_datasets().MNIST.resources[file][0]
    mirror.fault(fault, match=f"GET .*{name}")
    words = f"^MNIST is not under {stick} and could not be downloaded"
    with pytest.raises(DataError, match=words) as caught:
        pull_dataset("mnist", stick)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None
    assert_whole(stick, mirror)
    mirror.faults.clear()
    pull_dataset("mnist", stick)
    assert [path.name for path in stick.iterdir()] == ["MNIST"]
    assert_whole(stick, mirror)


@unclosed
def test_a_failed_copy_leaves_no_partial_file(
    mirror: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull_dataset("mnist")

    def copytree(source: Path, target: Path) -> None:
        target.mkdir()
        (target / "half").write_bytes(b"half")
        raise shutil.Error([(str(source), str(target), "[Errno 28] No space left on device")])

    with monkeypatch.context() as disk:
        disk.setattr(shutil, "copytree", copytree)
        with pytest.raises(DataError, match=r"stick.*No space left on device") as caught:
            pull_dataset("mnist", tmp_path / "stick")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    assert list((tmp_path / "stick").iterdir()) == []
    assert_whole(tmp_path / "empty", mirror)
    assert len(MnistSpec().load("test")) == 4


@pytest.mark.parametrize(
    "kind", ["torchvision", "images", "array", "table", "windows", "swiss_roll", "photo_patches"]
)
def test_a_dataset_that_cannot_be_pulled_is_refused(
    hub: HubServer, kind: str, tmp_path: Path, run: Run
) -> None:
    words = f"the dataset {kind} cannot be pulled; mnist and fashion_mnist can\n"
    assert run("pull", "--dataset", kind, "--to", tmp_path / "stick") == (1, "", words)
    with pytest.raises(RegistryError, match=r"'minst'.*'mnist'") as caught:
        pull_dataset("minst", tmp_path / "stick")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "stick").exists()
