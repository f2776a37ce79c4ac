"""Fixtures of the zoo's tests: folders, a zoo of two variants, a user who is logged in, the command line."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import aezoo
from aezoo import cli
from aezoo.zoo.index import forget_index
from aezoo.zoo.schema import PREVIEW
from aezoo.zoo.write_index import write_index
from tests.hub_server import HubServer
from tests.zoo.folders import PICTURE, contents, network
from tests.zoo.hub_files import REPO, Files, PinnedZoo, Rejection, fresh_connections

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ae() -> aezoo.Autoencoder:
    return network()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder, the same with a picture, and a zoo of two variants; to be copied, not to be changed."""
    made = tmp_path_factory.mktemp("made")
    aezoo.save(network(), made / "plain" / "small")
    aezoo.save(network(), made / "small", files={PREVIEW: PICTURE})
    shutil.copytree(made / "small", made / "zoo" / "small")
    aezoo.save(network(seed=5, name="other"), made / "zoo" / "other")
    write_index(made / "zoo", license="mit")
    return made


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A variant's folder."""
    return shutil.copytree(made / "plain" / "small", tmp_path / "small")


@pytest.fixture
def pushable(made: Path, tmp_path: Path) -> Path:
    """A variant's folder with a picture, which no index lists."""
    return shutil.copytree(made / "small", tmp_path / "small")


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A zoo of two variants, `small` and `other`, in place of aezoo's own."""
    root = shutil.copytree(made / "zoo", tmp_path / "zoo")
    monkeypatch.setattr("aezoo.zoo.index.zoo_root", lambda: root)
    forget_index()
    yield root
    forget_index()


@pytest.fixture
def ann(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """The Hub, with its user logged in."""
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return hub


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client and aezoo would have waited before retries."""
    naps: list[float] = []
    monkeypatch.setattr("time.sleep", naps.append)
    return naps


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process; returns exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["aezoo", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "160")
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        printed = capsys.readouterr()
        return int(exit_.value.code or 0), printed.out, printed.err

    return call


# -- the Hub ------------------------------------------------------------------------------------------


@pytest.fixture
def files(made: Path) -> Files:
    """A variant's files."""
    return contents(made / "plain" / "small")


@pytest.fixture(scope="session")
def others(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of another version of the same variant."""
    return contents(aezoo.save(network(seed=2), tmp_path_factory.mktemp("two") / "small"))


@pytest.fixture
def rejects(hub: HubServer, files: Files) -> Rejection:
    return Rejection(hub, files)


@pytest.fixture
def pinned(hub: HubServer, root: Path, tmp_path: Path) -> PinnedZoo:
    """The zoo, whose variant `small` is on the Hub, and not here any more."""
    commit = hub.add(REPO, contents(root / "small"))
    (tmp_path / "elsewhere").mkdir()
    pinned = PinnedZoo(root, commit, (root / "small").rename(tmp_path / "elsewhere" / "small"))
    pinned.edit(lambda entry: entry.update(repository=REPO, commit=commit))
    return pinned


@pytest.fixture
def connections() -> Iterator[None]:
    """New connections, from here to the end of the test."""
    fresh_connections()
    yield
    fresh_connections()
