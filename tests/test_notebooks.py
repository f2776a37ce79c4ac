"""Notebooks of the pages that are scripts: valid, and run as they are in an empty folder."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("start", "howto", "comparisons")
SCRIPTS = [path for folder in FOLDERS for path in sorted((ROOT / "docs" / folder).glob("*.py"))]
MODULES = {
    "sklearn": ("sklearn", "scipy"),
    "table": ("pyarrow",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "ray": ("ray", "pyarrow"),
    "metrics": ("torchmetrics",),
    "distributed": ("accelerate",),
}
"""Extra -> modules that it installs and aezoo alone does not."""
BLOCK = """
from importlib.machinery import PathFinder


def block(names, find_spec=PathFinder.find_spec):
    def without(name, *rest):
        return None if name.partition(".")[0] in names else find_spec(name, *rest)

    PathFinder.find_spec = staticmethod(without)


block({names!r})
"""
"""A cell after which modules cannot be imported, as if they were not installed."""


def notebook(script: Path) -> dict[str, Any]:
    """The notebook of a script."""
    spec = importlib.util.spec_from_file_location("run_pages", ROOT / "docs" / "run_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return json.loads(module.notebook(script))


def extras(script: Path) -> set[str]:
    """The extras that a page asks its readers to install."""
    found = re.search(
        r"^# Install: `pip install (?:aezoo|'aezoo\[([\w,]+)\]')`", script.read_text("utf-8"), re.MULTILINE
    )
    return set(found[1].split(",")) if found and found[1] else set()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_notebook_is_valid(script: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    made = notebook(script)
    nbformat.validate(made)
    title, install, *_ = made["cells"]
    assert title["source"][0].startswith("# ")
    assert title["cell_type"] == "markdown"
    assert re.fullmatch(r"# %pip install (aezoo|'aezoo\[[\w,]+\]')", install["source"][-1])
    if script.parent.name != "comparisons":
        assert "Install: `pip install" in script.read_text("utf-8")
    for cell in made["cells"]:
        if cell["cell_type"] == "markdown":
            assert not re.search(r"\]\((?!https?:)", "".join(cell["source"])), "a link without a target"


def needs_mnist(script: Path) -> bool:
    """Whether a page measures on MNIST itself, which it downloads where it is missing."""
    return 'model_validate("mnist")' in script.read_text("utf-8")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the client
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(path, id=path.stem, marks=pytest.mark.data if needs_mnist(path) else ())
        for path in SCRIPTS
    ],
)
def test_notebook_runs_as_it_is(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.chdir(tmp_path)
    for name, value in {
        **({} if needs_mnist(script) else {"AEZOO_DATA": str(tmp_path / "data")}),
        "HF_HUB_OFFLINE": "1",
        "JUPYTER_PLATFORM_DIRS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    made = nbformat.reads(json.dumps(notebook(script)), 4)
    given = {name for extra in extras(script) for name in MODULES.get(extra, ())}
    missing = {name for names in MODULES.values() for name in names} - given
    made.cells.insert(0, nbformat.v4.new_code_cell(BLOCK.format(names=missing)))
    nbclient.NotebookClient(made, timeout=300, kernel_name="python3").execute()
    outputs = [output for cell in made.cells for output in cell.get("outputs", ())]
    shown = sum("image/png" in output.get("data", {}) for output in outputs)
    page = script.with_suffix(".md").read_text("utf-8")
    assert shown == len(re.findall(r"!\[\]\(.+\)", page))
    assert any(output.output_type == "stream" for output in outputs) == ("```text" in page)


def test_every_how_to_is_in_the_index() -> None:
    index = (ROOT / "docs" / "howto" / "index.md").read_text("utf-8")
    assert set(re.findall(r"\((\w+)\.md\)", index)) == {
        script.stem for script in SCRIPTS if script.parent.name == "howto"
    }


def test_pictures_belong_to_one_page() -> None:
    for folder in FOLDERS:
        shown = [
            name
            for script in SCRIPTS
            if script.parent.name == folder
            for name in re.findall(r"!\[\]\((.+)\)", script.with_suffix(".md").read_text("utf-8"))
        ]
        kept = {path.name for path in (ROOT / "docs" / folder).glob("*.png")}
        assert len(set(shown)) == len(shown)
        assert kept == set(shown)
