"""The wheel holds the zoo, and works where there is no checkout."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import aezoo

WHEEL_LIMIT = 2_000_000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    checkout = str(Path(__file__).parent.parent)
    done = subprocess.run([*command, checkout], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_every_variant_that_is_small_or_not_on_the_hub(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {"py.typed", "__init__.pyi", "digits.safetensors", "_zoo/index.json"}
    assert {f"aezoo/{name}" for name in package} <= names
    for name in aezoo.list_variants():
        entry = aezoo.get_entry(name)
        small = sum(file["bytes"] for file in entry["files"].values()) <= WHEEL_LIMIT
        wanted = small or entry["commit"] is None
        assert {f"aezoo/_zoo/{name}/{file}" in names for file in entry["files"]} == {wanted}, name
    assert not [name for name in names if name.startswith(("tests/", "docs/", "zoo/"))]


def test_the_wheel_runs_the_demo_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    """In an environment that has this one's dependencies, but not its aezoo."""
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
