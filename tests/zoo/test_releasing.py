"""docs/releasing.md: its commands, run in order against a Hub on the local machine."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import aezoo
from aezoo.zoo.index import core_variants
from tests.hub_server import HubServer
from tests.oldest import ROOT
from tests.zoo.conftest import Run

PAGE = ROOT / "docs" / "releasing.md"


def commands(program: str) -> list[list[str]]:
    """The commands of the page that start a program, as words."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    # Variables may be set before the program's name.
    return [line for line in lines if next(word for word in line if "=" not in word) == program]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.filterwarnings(
    "ignore:Use 'content=:DeprecationWarning", "ignore::aezoo.errors.DiagnosticWarning"
)
def test_the_zoo_is_published_as_the_page_says(
    ann: HubServer, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in commands("openssl"):
        subprocess.run(command, check=True, capture_output=True)
    names = core_variants()
    assert len(names) == 2
    pushes = [
        [word.replace("ORG", "ann") for word in line[1:]] for line in commands("aezoo") if "push" in line
    ]
    assert len(pushes) == 3
    for words in pushes:
        # In the test's zoo, and no variant of a plugin.
        words = [names[0] if word == "vq" else word for word in words]
        code, _, err = run(*words)
        assert code == 0, err
        assert bool(ann.repositories) == ("--dry-run" not in words)
    assert set(ann.repositories) == {f"ann/{name}" for name in names}
    for repository in ann.repositories.values():
        assert set(repository.tags) == {"v0.1.0"}
    (pull,) = [line for line in commands("aezoo") if "pull" in line]
    variables = dict(word.split("=") for word in pull if re.fullmatch(r"[A-Z_]+=.*", word))
    assert set(variables) == {"AEZOO_PUBLIC_KEY", "HF_HUB_CACHE"}
    for name, value in variables.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    words = [word.replace("ORG", "ann").replace("fc-64", names[0]) for word in pull[len(variables) + 1 :]]
    code, out, err = run(*words)
    assert code == 0, err
    assert f"{names[0]}: verified" in out
    assert (tmp_path / "pulled" / names[0] / "model.sig").is_file()
    assert aezoo.load(tmp_path / "pulled" / names[0], public_key="aezoo.pub.pem") is not None


def test_everything_that_the_page_names_exists() -> None:
    text = PAGE.read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {line[1] for line in commands("make")}
    assert named
    assert named <= targets
    for path in re.findall(r"`((?:[\w-]+/)*[\w-]+\.(?:md|toml|json|py))`", text):
        assert (ROOT / path).is_file(), path
    assert (ROOT / "tests/capsule/make.py").is_file()
