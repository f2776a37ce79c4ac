"""What a stranger gets: a wheel with the zoo in it, installed where there is no checkout."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import aezoo
from aezoo.zoo.index import zoo_root

WHEEL_LIMIT = 2_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkout = Path(__file__).parent.parent
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(checkout),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_a_checkout_uses_its_own_zoo(repository: Path) -> None:
    assert zoo_root() == repository / "zoo"


@pytest.mark.slow
def test_the_wheel_carries_every_variant_that_is_small_or_not_on_the_hub(
    wheel: Path, repository: Path
) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "aezoo/py.typed",
        "aezoo/__init__.pyi",
        "aezoo/digits.safetensors",
        "aezoo/_zoo/index.json",
    } <= names
    for name in aezoo.list_variants():
        entry = aezoo.get_entry(name)
        small = sum(file["bytes"] for file in entry["files"].values()) <= WHEEL_LIMIT
        wanted = small or entry["commit"] is None
        assert {f"aezoo/_zoo/{name}/{file}" in names for file in entry["files"]} == {wanted}, name
    assert not [name for name in names if name.startswith(("tests/", "docs/", "zoo/"))]


@pytest.mark.slow
def test_the_wheel_runs_the_demo_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    """Into an environment of its own that sees this one's dependencies, but not its aezoo."""
    home = tmp_path / "env"
    venv.create(home, with_pip=False)
    site = next(home.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    here = Path(aezoo.__file__).parent.parent
    libraries = [p for p in sys.path if p.endswith("site-packages") and Path(p) != here]
    # `addsitedir` would follow the editable install's own .pth file; plain lines do not.
    (site / "libraries.pth").write_text("\n".join(libraries) + "\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AEZOO", "PYTHON"))}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "AEZOO_PLUGINS": ""}
    code = "import aezoo, aezoo.cli; print(aezoo.__file__); aezoo.cli.main()"
    done = subprocess.run(
        [str(home / "bin" / "python"), "-W", "error", "-c", code, "demo", "--json"],
        cwd=elsewhere, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    where, _, report = done.stdout.partition("\n")
    assert Path(where).parent.parent == site
    found = json.loads(report)
    assert found["metrics"]["l0"]["value"] == 16
    assert (elsewhere / "aezoo-demo.png").read_bytes().startswith(b"\x89PNG")
