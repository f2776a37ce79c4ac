"""What the documents say is what happens."""

import importlib
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import aezoo
from aezoo import cli, errors
from aezoo.plugins.hookspecs import HOOKS
from aezoo.plugins.builtin import BUILTINS
from aezoo.plugins.registry import registry
from aezoo.specs.yaml import Document
from aezoo.testing import EXAMINATIONS
from tests.hub_server import HubServer

DOCS = sorted(
    [*Path(__file__).parent.parent.glob("*.md"), *Path(__file__).parent.parent.glob("docs/**/*.md")]
)


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), flags=re.DOTALL)


@pytest.fixture
def readme(repository: Path) -> Path:
    return repository / "README.md"


def test_the_readmes_table_is_of_the_index(readme: Path) -> None:
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", readme.read_text(), flags=re.MULTILINE))
    assert rows
    for name, row in rows.items():
        entry = aezoo.get_entry(name)
        numbers = [f"{entry['metrics'][metric]:.4g}" for metric in ("mse", "fvu", "l0", "dead_latents")]
        assert row == " | ".join([entry["summary"], *numbers]), name


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own
def test_the_readmes_spec_is_checked_trained_published_and_loaded_as_it_says(
    readme: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    hub: HubServer,
) -> None:
    (text,) = blocks(readme, "yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.user = "you"
    Path("my-sparse.yaml").write_text(text)
    train, push = [block for block in blocks(readme, "sh") if "my-sparse" in block]
    for line in [*train.splitlines(), *push.splitlines()]:
        program, *arguments = shlex.split(line, comments=True)
        assert program == "aezoo"
        if arguments[0] == "train":
            arguments += ["--set", "recipe.stages.0.epochs=1"]
        monkeypatch.setattr(sys, "argv", ["aezoo", *arguments])
        with pytest.raises(SystemExit) as done:
            cli.main()
        assert not done.value.code, capsys.readouterr().err
    assert aezoo.load("./my-sparse").sparsity() == aezoo.Exact(8)
    assert aezoo.load("./my-sparse-4").sparsity() == aezoo.Exact(4)
    (load,) = [block for block in blocks(readme, "python") if "hub:" in block]
    names: dict[str, Any] = {"aezoo": aezoo}
    exec(load, names)
    assert names["ae"].source.sha256 == aezoo.load("./my-sparse").source.sha256


@pytest.mark.parametrize("change", [("k: 8", "k: 80"), ("epochs:", "epoch:")])
def test_the_readmes_errors_are_the_real_ones(readme: Path, tmp_path: Path, change: tuple[str, str]) -> None:
    (text,) = blocks(readme, "yaml")
    path = tmp_path / "my-sparse.yaml"
    path.write_text(text.replace(*change))
    with pytest.raises(aezoo.SpecError) as error:
        aezoo.validate(path)
    shown = [
        line.rstrip("…")
        for line in re.findall(r"^my-sparse\.yaml:.*$", readme.read_text(), flags=re.MULTILINE)
    ]
    found = str(error.value).replace(str(path), "my-sparse.yaml")
    assert any(line.startswith(said) for said in shown for line in found.splitlines()), found


def test_the_readmes_python_runs(readme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks as they stand, on a few digits and for one epoch."""
    load, folder, own = [block for block in blocks(readme, "python") if "hub:" not in block]
    digits = aezoo.sample_digits().inputs[:, None]
    names: dict[str, Any] = {"image": digits[0, 0].numpy(), "images": digits, "aezoo": aezoo}
    exec(load, names)
    assert names["x_hat"].shape == (1, 1, 28, 28)
    monkeypatch.chdir(tmp_path)
    short = {"recipe.stages": [{"kind": "fit", "epochs": 1}], "recipe.refit": False}
    get_spec = aezoo.get_spec
    monkeypatch.setattr(aezoo, "get_spec", lambda name: get_spec(name).replace(short))
    exec(own, names)
    assert aezoo.load("./my-variant").sparsity() == aezoo.Exact(8)
    aezoo.save(names["ae"], "my-sparse")
    exec(folder, names)


@pytest.mark.usefixtures("fresh_registry")
def test_the_layer_of_ones_own_works_as_written(repository: Path) -> None:
    layer, plugin = blocks(repository / "docs" / "extending.md", "python")
    names: dict[str, Any] = {"__name__": "a_notebook"}
    exec(layer, names)
    assert "scale" in registry.names("layer")
    shape = [1, 6, 6]
    spec = aezoo.AutoencoderSpec.model_validate(
        {
            "input": {"shape": shape},
            "encoder": ["flatten", "scale"],
            "decoder": [{"kind": "unflatten", "shape": shape}],
        }
    )
    assert aezoo.build(spec)(torch.ones(2, *shape)).latents.shape == (2, 36)
    assert "AEZOO_PLUGIN_API = 1" in plugin
    assert aezoo.PLUGIN_API == 1


@pytest.mark.parametrize("name", ["zoo.md", "claims.md", "metrics.md", "plugin_zoo.md", "plugins.md"])
def test_what_is_written_from_the_folders_is_current(
    name: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(repository / "docs"))
    generate = importlib.import_module("generate")
    monkeypatch.delitem(sys.modules, "generate")
    assert generate.PAGES[name]() == (repository / "docs" / name).read_text("utf-8"), "run docs/generate.py"


def test_every_hook_is_documented_and_exercised(repository: Path) -> None:
    text = (repository / "docs" / "plugins.md").read_text("utf-8")
    for family, hook in HOOKS.items():
        assert f"## `{hook}`" in text
        assert any(hasattr(importlib.import_module(name), hook) for name in BUILTINS), hook
        assert registry.names(family)


def test_every_finding_points_to_a_heading(repository: Path) -> None:
    text = (repository / "docs" / "plugins.md").read_text("utf-8")
    for checks in EXAMINATIONS.values():
        for name in checks:
            assert f"### {name}\n" in text


PAGES = sorted(path for path in Path(__file__).parent.parent.glob("docs/pages/*.py") if path.stem != "run")


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize("script", PAGES, ids=lambda p: p.stem)
def test_a_page_runs_and_its_markdown_is_of_the_same_cells(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(script.parent))
    page = importlib.import_module("run")
    monkeypatch.delitem(sys.modules, "run")
    made = page.run(script, tmp_path)
    kept = script.with_suffix(".md").read_text("utf-8")

    def without_output(text: str) -> str:
        # What was printed differs in the last digits from one machine to the next.
        return re.sub(r"```text\n.*?```\n*", "", text, flags=re.DOTALL)

    assert without_output(made) == without_output(kept), "run docs/pages/run.py again"
    pictures = set(re.findall(r"!\[\]\((.+)\)", kept))
    assert pictures == {path.name for path in tmp_path.glob("*.png")}
    assert all((script.parent / name).stat().st_size > 10_000 for name in pictures)


def test_every_kind_is_documented(repository: Path) -> None:
    text = (repository / "docs" / "specs.md").read_text()
    for family in ("layer", "loss", "noise", "dataset"):
        for kind in registry.names(family):
            assert re.search(rf"\b{kind}\b", text), f"{family} {kind}"
    for cls in (aezoo.ActivationSpec,):
        assert all(f"`{kind}`" in text for kind in cls.kinds())


@pytest.mark.parametrize(("base", "page"), [("CheckpointError", "folders.md"), ("HubError", "hub.md")])
def test_every_error_of_a_load_is_documented(repository: Path, base: str, page: str) -> None:
    text = (repository / "docs" / page).read_text()
    classes: list[type[Exception]] = getattr(errors, base).__subclasses__()
    for cls in classes:
        assert {f"`{name.__name__}`" for name in (cls, *cls.__subclasses__())} <= set(
            re.findall(r"`\w+`", text)
        )


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_recipe_in_the_docs_is_valid(repository: Path) -> None:
    (text,) = blocks(repository / "docs" / "specs.md", "yaml")
    data = Document(text, "specs.md").data
    aezoo.RecipeSpec.model_validate(data["recipe"])  # type: ignore[index]


def test_every_package_and_module_is_in_the_architecture(repository: Path) -> None:
    text = (repository / "docs" / "architecture.md").read_text()
    for path in [*(repository / "aezoo").glob("*.py"), *(repository / "aezoo").glob("*/*.py")]:
        name = path.parent.name if path.stem == "__init__" else path.stem
        in_testing = path.parent.name == "testing" or path.stem.startswith("__")
        assert in_testing or f"`{name}`" in text, path
