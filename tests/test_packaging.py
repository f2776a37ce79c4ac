"""The sdists and the wheels of aezoo and its plugins are complete, and work where there is no checkout."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import typer.main

import aezoo
import aezoo.cli
from tests.oldest import ROOT, constraints, lowest_versions

WHEEL_LIMIT = 2_000_000
PROJECTS = {"aezoo": ROOT} | {path.name: path for path in sorted(ROOT.glob("plugins/*"))}
EXTRAS = "distributed,metrics,onnx,sklearn,table,tensorboard"
"""Those of clients of services, and Ray, are left out: their lowest versions do not fit together."""
COMMANDS = sorted(typer.main.get_command(aezoo.cli.app).commands)  # pyright: ignore[reportAttributeAccessIssue]


def call(*command: str | Path, cwd: Path, code: int = 0, **variables: str) -> str:
    """Standard output of a program, which must exit with `code`."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AEZOO", "PYTHON", "PYTEST"))}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def build(project: Path, folder: Path, *options: str, python: str | Path = sys.executable) -> Path:
    """Builds a project, and returns its wheel. Without options, the wheel is built from the sdist."""
    call(python, "-m", "build", "--no-isolation", "--outdir", folder, *options, project, cwd=folder.parent)
    return next(folder.glob("*.whl"))


def checksums(wheel: Path) -> dict[str, int]:
    with zipfile.ZipFile(wheel) as archive:
        return {file.filename: file.CRC for file in archive.infolist()}


def unpacked(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel of each project, built from its sdist, which lies next to it."""
    folder = tmp_path_factory.mktemp("wheels")
    return {name: build(project, folder / name) for name, project in PROJECTS.items()}


def test_oldest_versions_are_the_lower_bounds(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    text = '[build-system]\nrequires = ["b>=2"]\n[project]\ndependencies = ["a[x]>=1.0,<3", "aezoo-vq"]\n{}'
    extras = '[project.optional-dependencies]\ne = ["A>=1.5", "C.c==4; os_name == \'posix\'", "aezoo[f]"]\n'
    project.write_text(text.format(extras))
    assert {k: str(v) for k, v in lowest_versions(project).items()} == {"a": "1.5", "b": "2", "c-c": "4"}
    project.write_text(text.format('[project.optional-dependencies]\ne = ["d<4"]\n'))
    with pytest.raises(ValueError, match="d<4: expected one lower bound"):
        lowest_versions(project)
    assert "\ntorch==" in constraints()


def test_pytest_plugin_needs_nothing_but_pytest(tmp_path: Path) -> None:
    """Every pytest of an environment with aezoo imports it."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules); import pytest, aezoo_pytest"
    )
    names = "print({m.partition('.')[0] for m in set(sys.modules) - before} & {'aezoo', 'torch', 'typing_extensions'})"
    assert call(sys.executable, "-c", f"{code}; {names}", ROOT, cwd=tmp_path) == "set()\n"
    (tmp_path / "test_nothing.py").write_text("def test_nothing(): pass\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--aezoo-plugin", "none"], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.startswith("ERROR: --aezoo-plugin none: no installed plugin is called 'none'")


@pytest.mark.slow
@pytest.mark.parametrize("name", PROJECTS)
def test_wheel_from_the_sdist_is_the_wheel_from_the_checkout(
    wheels: dict[str, Path], name: str, tmp_path: Path
) -> None:
    assert checksums(wheels[name]) == checksums(build(PROJECTS[name], tmp_path / "wheel", "--wheel"))


@pytest.mark.slow
@pytest.mark.parametrize("name", PROJECTS)
def test_sdist_holds_every_tracked_file(wheels: dict[str, Path], name: str) -> None:
    tracked = call("git", "ls-files", "-z", cwd=PROJECTS[name]).split("\0")[:-1]
    elsewhere = ("plugins/", ".ci/")
    missing = {file for file in tracked if not file.startswith(elsewhere)} - unpacked(
        next(wheels[name].parent.glob("*.tar.gz"))
    )
    assert not missing


@pytest.mark.slow
@pytest.mark.parametrize("name", PROJECTS)
def test_wheel_is_typed_and_has_its_license(wheels: dict[str, Path], name: str) -> None:
    names = set(checksums(wheels[name]))
    package = name.replace("-", "_")
    assert {f"{package}/py.typed", f"{package}-0.1.0.dist-info/licenses/LICENSE"} <= names
    assert {file.partition("/")[0] for file in names} == (
        {package, f"{package}-0.1.0.dist-info"} | ({"aezoo_pytest.py"} if name == "aezoo" else set())
    )


@pytest.mark.slow
def test_the_wheel_holds_every_variant_that_is_small_or_not_on_the_hub(wheels: dict[str, Path]) -> None:
    names = set(checksums(wheels["aezoo"]))
    assert {f"aezoo/{name}" for name in ("__init__.pyi", "digits.safetensors", "_zoo/index.json")} <= names
    for name in aezoo.list_variants():
        entry = aezoo.get_entry(name)
        small = sum(file["bytes"] for file in entry["files"].values()) <= WHEEL_LIMIT
        wanted = small or entry["commit"] is None
        assert {f"aezoo/_zoo/{name}/{file}" in names for file in entry["files"]} == {wanted}, name


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PROJECTS)[1:])
def test_the_wheel_of_a_plugin_holds_its_variants(wheels: dict[str, Path], name: str) -> None:
    zoo = f"{name.replace('-', '_')}/zoo"
    index = json.loads((PROJECTS[name] / zoo / "index.json").read_text("utf-8"))["variants"]
    assert index
    files = {f"{zoo}/{variant}/{file}" for variant, entry in index.items() for file in entry["files"]}
    assert files <= set(checksums(wheels[name]))


@pytest.fixture(scope="module", params=["oldest", "newest"])
def environment(
    request: pytest.FixtureRequest, wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A new environment with the wheels, at the lowest versions that they allow or at the newest.

    torch is at the version of `constraints.txt` in place of the newest. AEZOO_PYTHON names another Python for
    the newest versions.
    """
    home = tmp_path_factory.mktemp(request.param)
    python = os.environ.get("AEZOO_PYTHON", sys.executable) if request.param == "newest" else sys.executable
    call(python, "-m", "venv", home, cwd=home.parent)
    versions = home / "constraints.txt"
    newest = (ROOT / "constraints.txt").read_text("utf-8")
    versions.write_text(constraints() if request.param == "oldest" else newest)
    core, *plugins = wheels.values()
    call(
        home / "bin" / "python", "-m", "pip", "install", "--no-cache-dir", "--constraint", versions,
        f"{core}[{EXTRAS}]", *plugins, "build", "hatchling", "pytest", cwd=home,
    )  # fmt: skip
    return home


@pytest.fixture
def run(environment: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs a module in the environment, in an empty folder, with warnings as errors, and returns its output."""
    offline = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}

    def run(*arguments: str, code: int = 0) -> str:
        python = environment / "bin" / "python"
        return call(python, "-W", "error", *arguments, cwd=tmp_path, code=code, **offline)

    return run


@pytest.mark.slow
def test_installed_entry_points_resolve(run: Callable[..., str]) -> None:
    code = (
        "from importlib.metadata import distributions\n"
        "ours = [d for d in distributions() if d.metadata['Name'].startswith('aezoo')]\n"
        "found = [p for d in ours for p in d.entry_points]\n"
        "print(len(found), len([p.load() for p in found]))"
    )
    # The command, the plugin of pytest, and for each plugin its kinds and its variants.
    assert run("-c", code) == f"{2 + 2 * 3} {2 + 2 * 3}\n"


@pytest.mark.slow
def test_installed_distributions_fit_together(environment: Path, tmp_path: Path) -> None:
    # Without warnings as errors, which pip itself does not stand.
    python = environment / "bin" / "python"
    assert call(python, "-m", "pip", "check", cwd=tmp_path) == "No broken requirements found.\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_installed_help(run: Callable[..., str], command: str) -> None:
    assert f"Usage: aezoo {command}".rstrip() in run("-m", "aezoo", *command.split(), "--help")


@pytest.mark.slow
def test_installed_demo(run: Callable[..., str], environment: Path, tmp_path: Path) -> None:
    assert json.loads(run("-m", "aezoo", "demo", "--json"))["metrics"]["l0"]["value"] == 16
    assert (tmp_path / "aezoo-demo.png").read_bytes().startswith(b"\x89PNG")
    where = Path(run("-c", "import aezoo; print(aezoo.__file__)").strip())
    assert where.is_relative_to(environment)


@pytest.mark.slow
def test_installed_list(run: Callable[..., str]) -> None:
    listed = set(json.loads(run("-m", "aezoo", "list", "--json")))
    indexes = [ROOT / "zoo" / "index.json", *ROOT.glob("plugins/*/*/zoo/index.json")]
    assert listed == {name for path in indexes for name in json.loads(path.read_text("utf-8"))["variants"]}


@pytest.mark.slow
def test_installed_train_and_evaluate(run: Callable[..., str]) -> None:
    small = ("--set", "name=mine", "--set", "recipe.stages.0.epochs=1", "--set", "recipe.dataset.count=500")
    trained = json.loads(run("-m", "aezoo", "train", "swissroll-2", *small, "--out", "mine", "--json"))
    measured = json.loads(run("-m", "aezoo", "evaluate", "./mine", "--json"))
    assert measured["mse"]["value"] == pytest.approx(trained["metrics"]["mse"]["value"], rel=1e-5)


@pytest.mark.slow
def test_installed_evaluate_recomputes_published_metrics(run: Callable[..., str]) -> None:
    measured = json.loads(run("-m", "aezoo", "evaluate", "swissroll-2", "--json"))
    published = aezoo.get_entry("swissroll-2")["metrics"]["mse"]
    assert measured["mse"]["value"] == pytest.approx(published, rel=1e-3)


@pytest.mark.slow
def test_installed_check_plugin(run: Callable[..., str]) -> None:
    assert "layer vq.fsq on (3, 4, 4): " in run("-m", "aezoo", "check-plugin", "aezoo-vq")


@pytest.mark.slow
def test_installed_pytest_plugin(run: Callable[..., str], tmp_path: Path) -> None:
    assert run("-m", "pytest", "--version")
    assert "no tests ran" in run("-m", "pytest", code=pytest.ExitCode.NO_TESTS_COLLECTED)
    assert "--aezoo-plugin" in run("-m", "pytest", "--help")


@pytest.mark.slow
def test_installed_hatchling_builds_the_same_wheel(
    environment: Path, wheels: dict[str, Path], tmp_path: Path
) -> None:
    python = environment / "bin" / "python"
    built = checksums(build(ROOT, tmp_path / "wheel", "--wheel", python=python))
    assert built.keys() == checksums(wheels["aezoo"]).keys()
