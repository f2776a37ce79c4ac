"""The plugin template: it installs and passes its own tests; and the commands of the tutorial run."""

import json
import os
import re
import shlex
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml

import aezoo
from aezoo.errors import RegistryError
from aezoo.plugins.scaffold import new_plugin


@pytest.mark.parametrize(
    ("name", "folder", "package"),
    [
        ("soft", "aezoo-soft", "aezoo_soft"),
        ("aezoo-soft", "aezoo-soft", "aezoo_soft"),
        ("two-words", "aezoo-two-words", "aezoo_two_words"),
        ("two_words", "aezoo-two-words", "aezoo_two_words"),
    ],
)
def test_a_name_gives_a_folder_and_a_package(tmp_path: Path, name: str, folder: str, package: str) -> None:
    made = new_plugin(name, tmp_path)
    assert made == tmp_path / folder
    assert {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()} == {
        "pyproject.toml", "README.md", ".gitignore", ".github/workflows/tests.yml",
        f"{package}/__init__.py", f"{package}/py.typed",
        f"tests/test_plugin_{package.removeprefix('aezoo_')}.py", "tests/test_soft_threshold.py",
    }  # fmt: skip
    for path in made.rglob("*.*"):
        assert "{" not in path.name
        if path.suffix in (".py", ".toml", ".yml"):
            text = path.read_text()
            assert "{name}" not in text
            assert "{{" not in text.replace("${{ vars", "")


@pytest.mark.parametrize("name", ["", "Upper", "1st", "a b", "aezoo", "../up", "ä", "x" * 41])
def test_an_invalid_name_is_rejected(tmp_path: Path, name: str) -> None:
    with pytest.raises(RegistryError, match="is not a plugin name"):
        new_plugin(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "aezoo-soft").mkdir()
    with pytest.raises(RegistryError, match="already exists"):
        new_plugin("soft", tmp_path)
    assert not list((tmp_path / "aezoo-soft").iterdir())


class Environment:
    """A virtual environment that sees the libraries of this one, and a working folder."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home, self.folder = home, folder
        venv.create(home, with_pip=True)
        site = next(home.glob("lib/python*/site-packages"))
        checkout = str(Path(aezoo.__file__).parent.parent)
        libraries = [p for p in sys.path if p.endswith("site-packages")]
        (site / "libraries.pth").write_text("\n".join([checkout, *libraries]) + "\n")
        # The scripts of an editable install.
        for module in ("aezoo", "pytest"):
            script = home / "bin" / module
            run = f"import runpy\nrunpy.run_module({module!r}, run_name='__main__')\n"
            script.write_text(f"#!{home}/bin/python\n{run}")
            script.chmod(0o755)

    def run(self, command: str) -> str:
        """The output of a command, which must succeed."""
        words = shlex.split(command)
        if words[:2] == ["pip", "install"]:
            words = ["python", "-m", *words[:2], "--no-deps", "--no-build-isolation", "--quiet", *words[2:]]
        if words[:3] == ["python", "-m", "build"]:
            words.append("--no-isolation")
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("AEZOO_PLUGINS", "PYTHON"))}
        variables["PATH"] = f"{self.home}/bin{os.pathsep}{variables['PATH']}"
        if words[0] != "rm":
            words[0] = str(self.home / "bin" / words[0])
        done = subprocess.run(
            words, cwd=self.folder, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("env"), tmp_path_factory.mktemp("work"))


BLOCK = re.compile(r"```(python|sh)\n(.*?)```", flags=re.DOTALL)
FILE = re.compile(r"# (\S+\.py)\n")


def execute(environment: Environment, page: str) -> dict[str, str]:
    """Executes the blocks of a page in order; returns the output of each command, and of the cells as `cells`.

    Commands are run one by one. A cell whose first line is the comment of a path is written to that file. The
    others share one process, as in a notebook, which is run again before the next commands.
    """
    printed: dict[str, str] = {}
    cells: list[str] = []
    ran = 0
    for language, text in BLOCK.findall(page):
        named = FILE.match(text)
        if named:
            (environment.folder / named[1]).write_text(text)
        elif language == "python":
            cells.append(text)
        if language == "python":
            continue
        if len(cells) > ran:
            # The page asks for this file before its first command.
            (environment.folder / "threshold.py").write_text(cells[0])
            (environment.folder / "notebook.py").write_text("\n".join(cells))
            printed["cells"] = environment.run("python notebook.py")
            ran = len(cells)
        printed |= {line: environment.run(line) for line in text.splitlines()}
    assert ran == len(cells)
    return printed


@pytest.mark.slow
def test_the_tutorial_runs_from_top_to_bottom(environment: Environment, repository: Path) -> None:
    page = (repository / "docs" / "tutorial-plugin.md").read_text("utf-8")
    assert "Save the first cell of this page as `threshold.py`" in page
    assert not list(environment.folder.iterdir())
    printed = execute(environment, page)
    assert printed["cells"].count("checks passed\n") == 2
    assert "exempt from gradient-reaches" in printed["cells"]
    assert "thresholded: 1 x 28 x 28 -> 64 latents" in printed["cells"]
    assert "soft.soft_threshold" in printed["aezoo plugins"]
    assert "layer soft.threshold on (8,)" in printed["aezoo check-plugin aezoo-soft"]
    assert "failed" not in printed["aezoo check-plugin aezoo-soft"]
    assert "passed" in printed["pytest aezoo-soft"]
    assert list((environment.folder / "aezoo-soft" / "dist").glob("aezoo_soft-0.1.0-*.whl"))
    config = json.loads((environment.folder / "thresholded" / "config.json").read_text())
    assert config["unpackaged"] == ["layer:threshold"]


def test_the_workflow_installs_aezoo_before_the_plugin(tmp_path: Path) -> None:
    workflow = yaml.safe_load((new_plugin("soft", tmp_path) / ".github/workflows/tests.yml").read_text())
    commands = [step["run"] for step in workflow["jobs"]["tests"]["steps"] if "run" in step]
    assert commands[0] == "pip install \"${{ vars.AEZOO || 'aezoo' }}\""
    assert commands[1] == "pip install --editable '.[dev]'"
