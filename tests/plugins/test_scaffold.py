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
        f"{package}/__init__.py", f"{package}/py.typed", f"tests/test_{package.removeprefix('aezoo_')}.py",
    }  # fmt: skip
    for path in made.rglob("*.*"):
        assert "{" not in path.name
        if path.suffix in (".py", ".toml", ".yml"):
            text = path.read_text()
            assert "{name}" not in text
            assert "{{" not in text


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
        words[0] = str(self.home / "bin" / words[0])
        done = subprocess.run(
            words, cwd=self.folder, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("env"), tmp_path_factory.mktemp("work"))


@pytest.mark.slow
def test_every_line_of_the_tutorial_runs(environment: Environment, repository: Path) -> None:
    text = (repository / "docs" / "tutorial-plugin.md").read_text("utf-8")
    cells = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(cells) == 4
    # The cells share one process, as in a notebook.
    (environment.folder / "notebook.py").write_text("\n".join(cells))
    printed = environment.run("python notebook.py")
    assert "checks passed" in printed
    assert "thresholded: 1 x 28 x 28 -> 64 latents" in printed
    (environment.folder / "threshold.py").write_text(cells[0])
    spec = aezoo.get_spec("fc-64").replace({"name": "thresholded", "recipe.stages": [{"kind": "fit", "epochs": 1}],
                                            "recipe.refit": False, "recipe.dataset": {"kind": "photo_patches", "size": 28,
                                            "channels": 1, "count": 200}})  # fmt: skip
    document = json.loads(json.dumps(spec.model_dump(mode="json")))
    document["encoder"].append({"kind": "threshold", "at": 0.5})
    (environment.folder / "thresholded.yaml").write_text(json.dumps(document))
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) == 8
    printed = {command: environment.run(command) for command in commands}
    assert "soft.soft_threshold" in printed["aezoo plugins"]
    assert "failed" not in printed["aezoo check-plugin aezoo-soft"]
    assert list((environment.folder / "aezoo-soft" / "dist").glob("aezoo_soft-0.1.0-*.whl"))
    config = json.loads((environment.folder / "thresholded" / "config.json").read_text())
    assert config["unpackaged"] == ["layer:threshold"]
