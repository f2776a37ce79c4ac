"""README.md and docs/: their code runs, their links and names exist, generated pages are current."""

import importlib
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import aezoo
from aezoo import errors
from aezoo.plugins.hookspecs import HOOKS
from aezoo.plugins.registry import registry
from aezoo.specs.base import RegisteredSpec, field_docs
from aezoo.specs.schema import FAMILIES
from aezoo.specs.yaml import Document
from aezoo.testing import ALL_CHECKS
from tests.hub_server import HubServer
from tests.markdown import Session, blocks

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
MARKDOWN = sorted(
    [
        *ROOT.glob("*.md"),
        # Not what a build of the site leaves.
        *(path for path in DOCS.glob("**/*.md") if not {"node_modules", "_build", "gallery"} & {*path.parts}),
    ]
)
SCRIPTS = [
    path for folder in ("start", "howto", "comparisons") for path in sorted((DOCS / folder).glob("*.py"))
]
AUTOENCODERS = sorted((DOCS / "autoencoders").glob("*.md"))
OF_PLUGINS = [path for path in AUTOENCODERS if "It needs the plugin" in path.read_text("utf-8")]
OF_THE_ZOO = [path for path in AUTOENCODERS if path not in OF_PLUGINS]


def import_script(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Imports a script of docs/ together with the modules next to it, until the end of the test."""
    monkeypatch.syspath_prepend(str(path.parent))
    for module in path.parent.glob("*.py"):
        # Recorded before the import, so that the end of the test removes what the import adds.
        monkeypatch.setitem(sys.modules, module.stem, ModuleType(module.stem))
        del sys.modules[module.stem]
    return importlib.import_module(path.stem)


# -- README.md ----------------------------------------------------------------------------------------

ONE_EPOCH = ("recipe.stages.0.epochs=1", "recipe.stages.1.epochs=1")


def test_readme_table_matches_the_index() -> None:
    rows = dict(
        re.findall(r"^\| `([^`]+)` \| (.+ \| [\d.]+ \| \d+) \|$", README.read_text(), flags=re.MULTILINE)
    )
    assert len(rows) >= 8
    for name, row in rows.items():
        entry = aezoo.get_entry(name)
        numbers = [f"{entry['metrics'][metric]:.4g}" for metric in ("mse", "fvu", "l0", "dead_latents")]
        assert row == " | ".join([entry["summary"], *numbers]), name


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # raised inside the client
@pytest.mark.usefixtures("fresh_registry")
def test_readme_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], hub: HubServer
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.user = "you"
    session = Session(tmp_path, monkeypatch, ONE_EPOCH)
    for block in blocks(README):
        if block.not_run is None and block.language != "text":
            session.execute(block)
    names = session.names
    assert names["x_hat"].shape == names["x"].shape == (8, 1, 28, 28)
    assert names["latents"].shape == (8, 64)
    assert int((names["latents"] != 0).sum(1).max()) <= 16
    assert torch.equal(names["out"].x_hat, names["x_hat"])
    assert aezoo.load("./my-sparse").sparsity() == aezoo.Exact(16)
    assert aezoo.load("./my-sparse-8").sparsity() == aezoo.Exact(8)
    assert aezoo.load("./my-variant").num_latents == 32
    assert names["ae"].source.kind == "hub"
    assert names["ae"].source.sha256 == aezoo.load("./my-sparse").source.sha256
    stated, printed = (
        re.findall(r"^(?:MSE per pixel|FVU|L0|dead latents) +\S+$", text, flags=re.MULTILINE)
        for text in (README.read_text(), capsys.readouterr().out)
    )
    assert len(stated) == 4
    assert stated == printed


@pytest.mark.data
@pytest.mark.slow
def test_readme_training_reaches_the_stated_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(tmp_path, monkeypatch)
    (spec,) = blocks(README, "yaml")
    session.execute(spec)
    ae = aezoo.train(aezoo.read_spec("my-sparse.yaml"), progress=False)
    (stated,) = re.findall(r"it reaches an MSE of ([\d.]+)", README.read_text())
    # The last digits depend on the processor and the version of PyTorch.
    assert ae.metrics["mse"]["value"] == pytest.approx(float(stated), rel=0.02)
    assert ae.metrics["dead_latents"]["value"] == 0


@pytest.mark.parametrize("change", [("k: 16", "k: 80"), ("epochs:", "epoch:")])
def test_readme_errors_are_the_real_ones(tmp_path: Path, change: tuple[str, str]) -> None:
    (block,) = blocks(README, "yaml")
    path = tmp_path / "my-sparse.yaml"
    path.write_text(block.text.replace(*change))
    with pytest.raises(aezoo.SpecError) as error:
        aezoo.validate(path)
    stated = [
        line.rstrip("…")
        for line in re.findall(r"^my-sparse\.yaml:.*$", README.read_text(), flags=re.MULTILINE)
    ]
    found = str(error.value).replace(str(path), "my-sparse.yaml")
    assert any(line.startswith(said) for said in stated for line in found.splitlines()), found


def test_readme_source_tree_lists_every_package() -> None:
    (tree,) = [block.text for block in blocks(README, "text") if block.text.startswith("aezoo/")]
    inside, _, outside = tree.partition("\nzoo/")
    listed = set(re.findall(r"^  (\w+)/", inside, flags=re.MULTILINE))
    assert listed == {path.parent.name for path in ROOT.glob("aezoo/*/__init__.py")}
    for name in re.findall(r"^(\S+/)", f"zoo/{outside}", flags=re.MULTILINE):
        assert (ROOT / name).is_dir(), name


@pytest.mark.parametrize("path", [README, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name)
def test_commands_that_are_not_run_exist(path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for block in blocks(path, "sh"):
        for program, *arguments in block.commands:
            if program == "make":
                assert arguments[0] in targets
            elif program == "pip":
                extras = re.findall(r"\[([\w,]+)\]", arguments[-1])
                assert {extra for group in extras for extra in group.split(",")} <= set(
                    project["optional-dependencies"]
                )
            else:
                assert program == "aezoo"


# -- code in docs/ ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(path, marks=[pytest.mark.data] if '"mnist"' in path.read_text() else [])
        for path in SCRIPTS
    ],
    ids=lambda path: path.stem,
)
def test_page_that_is_a_script_runs_and_its_markdown_is_current(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = import_script(DOCS / "run_pages.py", monkeypatch).run(script, tmp_path)
    kept = script.with_suffix(".md").read_text("utf-8")

    def without_output(text: str) -> str:
        # The last digits of what is printed differ between machines.
        return re.sub(r"```text\n.*?```\n*", "", text, flags=re.DOTALL)

    assert without_output(made) == without_output(kept), "run docs/run_pages.py"
    pictures = set(re.findall(r"!\[\]\((.+)\)", kept))
    assert pictures == {path.name for path in tmp_path.glob("*.png")}
    assert all((script.parent / name).stat().st_size > 10_000 for name in pictures)


def test_picture_of_the_readme_can_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    script = import_script(DOCS / "overview.py", monkeypatch)
    assert len(script.draw().axes) == 6
    assert f"](docs/{script.PICTURE.name})" in README.read_text()


@pytest.mark.usefixtures("fresh_registry")
def test_layer_of_the_extending_page_works_as_written() -> None:
    layer, *_ = blocks(DOCS / "extending.md", "python")
    exec(layer.text, {"__name__": "a_notebook"})
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
    assert f"AEZOO_PLUGIN_API = {aezoo.PLUGIN_API}" in (DOCS / "extending.md").read_text()


# -- docs/autoencoders ---------------------------------------------------------------------------------


@pytest.mark.parametrize("page", OF_THE_ZOO, ids=lambda page: page.stem)
def test_code_of_a_page_about_an_autoencoder_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(tmp_path, monkeypatch)
    for block in blocks(page, "python"):
        session.execute(block)
    assert page.stem == "index" or session.names["ae"].spec.name in page.read_text("utf-8")


@pytest.mark.slow
def test_code_of_pages_about_variants_of_plugins_runs() -> None:
    for page in OF_PLUGINS:
        (plugin,) = set(re.findall(r"It needs the plugin \[([\w-]+)\]", page.read_text("utf-8")))
        if not any(found.name == plugin for found in metadata.distributions()):
            pytest.skip(f"{plugin} is not installed")
    code = "\n".join(block.text for page in OF_PLUGINS for block in blocks(page, "python"))
    environment = {name: value for name, value in os.environ.items() if name != "AEZOO_PLUGINS"}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment)


@pytest.mark.parametrize("page", OF_THE_ZOO, ids=lambda page: page.stem)
def test_changes_that_a_page_suggests_are_valid_and_measured(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = import_script(DOCS / "experiments" / "trials.py", monkeypatch)
    text = page.read_text("utf-8")
    shown = set(re.findall(r"^```\{aezoo-trials\} (\S+)$", text, flags=re.MULTILINE))
    suggested: dict[str, list[tuple[str, ...]]] = {}
    for block in blocks(page, "sh"):
        for _, command, name, *words in block.commands:
            assert command == "train"
            changes = tuple(after for word, after in pairwise(words) if word == "--set")
            if changes:
                suggested.setdefault(name, []).append(changes)
                aezoo.build(trials.changed(name, trials.TRIALS[name], changes))
    assert shown == set(suggested)
    for name, changes in suggested.items():
        assert set(changes) <= set(trials.TRIALS[name].changes), name


def test_every_trial_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = import_script(DOCS / "experiments" / "trials.py", monkeypatch)
    found = json.loads(trials.RESULTS.read_text("utf-8"))
    expected = {
        name: [list(trial.epochs), ["", *(trials.key(changes) for changes in trial.changes)]]
        for name, trial in trials.TRIALS.items()
    }
    assert {name: [entry["epochs"], list(entry["runs"])] for name, entry in found.items()} == expected


def test_tables_of_the_pages_name_variants_and_metrics_that_exist() -> None:
    roots = ("zoo", "docs/experiments", "plugins/*/*/zoo", "plugins/*/experiments")
    folders = {path.parent.name: path for root in roots for path in ROOT.glob(f"{root}/*/metrics.json")}
    for page in AUTOENCODERS:
        found = re.findall(
            r"^```\{aezoo-metrics\} (.+)\n:metrics: (.+)$", page.read_text(), flags=re.MULTILINE
        )
        assert found or page.stem == "index", page.stem
        for names, metrics in found:
            measured = {key for name in names.split() for key in json.loads(folders[name].read_text())}
            assert set(metrics.split()) <= measured, page.stem


def test_every_variant_is_on_a_page() -> None:
    text = "".join(page.read_text("utf-8") for page in AUTOENCODERS)
    for path in [*ROOT.glob("zoo/*/spec.yaml"), *ROOT.glob("plugins/*/*/zoo/*/spec.yaml")]:
        assert re.search(rf"^```\{{aezoo-metrics\}} .*\b{re.escape(path.parent.name)}\b", text, re.MULTILINE)


# -- pages and the code they describe -----------------------------------------------------------------


PAGES = [
    "zoo.md", "claims.md", "metrics.md", "plugin_zoo.md", "plugins.md", "specs.md", "reference/spec.md",
    "reference/cli.md",
]  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_generated_page_is_current(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = import_script(DOCS / "generate.py", monkeypatch)
    assert generate.PAGES[name]() == (DOCS / name).read_text("utf-8"), "run docs/generate.py"


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.family)
def test_every_field_is_described_and_every_kind_has_a_valid_example(family: type[RegisteredSpec]) -> None:
    for kind in family.kinds():
        cls = family.of_kind(kind)
        assert set(cls.model_fields) - set(field_docs(cls)) <= {"kind"}, kind
        examples = [cls.model_validate({"kind": kind, **example}) for example in cls.examples]
        assert examples
        for example in examples:
            assert cls.model_validate(example.model_dump(mode="json")) == example


def test_examples_in_the_spec_reference_are_valid() -> None:
    families = {family.family: family for family in FAMILIES}
    title = re.compile(r"^## (.+)$|^### `(.+)`$|^```yaml\n(.+)\n```$", re.MULTILINE)
    titles = {"Learning-rate schedules": "schedule", "Losses": "loss"}
    family, seen = "", set[str]()
    for heading, _, example in title.findall((DOCS / "reference" / "spec.md").read_text("utf-8")):
        family = titles.get(heading, heading.lower().removesuffix("s")) if heading else family
        if example:
            spec: Any = families[family].model_validate(Document(f"spec: {example}", "spec.md").data["spec"])
            seen.add(f"{family} {spec.kind_name}")
    built_in = {f"{f.family} {kind}" for f in FAMILIES for kind in f.kinds() if "." not in kind}
    assert seen == built_in


def test_examples_of_commands_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = import_script(DOCS / "cli_reference.py", monkeypatch)
    commands = reference.commands()
    assert set(commands) == set(reference.EXAMPLES)
    for name, examples in reference.EXAMPLES.items():
        for example in examples:
            program, command, *arguments = shlex.split(example)
            assert (program, command) == ("aezoo", name)
            commands[name].make_context(name, arguments)


def test_every_hook_is_documented_and_has_built_in_kinds() -> None:
    text = (DOCS / "plugins.md").read_text("utf-8")
    for family, hook in HOOKS.items():
        assert f"## `{hook}`" in text
        assert registry.names(family)


def test_every_contract_check_has_a_heading() -> None:
    text = (DOCS / "plugins.md").read_text("utf-8")
    for checks in ALL_CHECKS.values():
        for check in checks:
            assert f"### {check.name}\n" in text


def test_every_kind_is_documented() -> None:
    text = (DOCS / "specs.md").read_text()
    for family in ("layer", "loss", "noise", "dataset"):
        for kind in registry.names(family):
            assert re.search(rf"\b{kind}\b", text), f"{family} {kind}"
    assert all(f"`{kind}`" in text for kind in aezoo.ActivationSpec.kinds())


@pytest.mark.parametrize(("error", "page"), [("CheckpointError", "folders.md"), ("HubError", "hub.md")])
def test_every_error_code_is_documented(error: str, page: str) -> None:
    codes = re.findall(r"^- `([a-z-]+)`:", inspect.getdoc(getattr(errors, error)) or "", flags=re.MULTILINE)
    assert len(codes) > 5
    assert set(codes) <= set(re.findall(r"`([a-z-]+)`", (DOCS / page).read_text()))


def test_every_extra_is_in_the_installation() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (DOCS / "start" / "install.md").read_text("utf-8")
    listed = set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE))
    assert set(project["optional-dependencies"]) - {"dev", "docs"} <= listed


def test_every_package_and_module_is_in_the_architecture() -> None:
    text = (DOCS / "architecture.md").read_text()
    for path in [*ROOT.glob("aezoo/*.py"), *ROOT.glob("aezoo/*/*.py")]:
        name = path.parent.name if path.stem == "__init__" else path.stem
        in_testing = path.parent.name == "testing" or path.stem.startswith("__")
        assert in_testing or f"`{name}`" in text, path


def test_places_named_in_the_architecture_exist() -> None:
    table = (DOCS / "architecture.md").read_text().partition("**Where to find**")[2].partition("**Order")[0]
    places = re.findall(r"`([\w/]+\.py)`", table)
    assert len(places) > 5
    assert [place for place in places if not (ROOT / "aezoo" / place).is_file()] == []


def test_the_page_of_benchmarks_is_that_of_the_last_results(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ROOT / "tests" / "benchmarks"
    for path in (folder / "rows", folder):
        monkeypatch.syspath_prepend(path)
    bench = import_script(folder / "bench.py", monkeypatch)
    results = json.loads((folder / "results" / "cpu.json").read_text("utf-8"))
    assert (DOCS / "benchmarks.md").read_text("utf-8") == bench.page(results), "run make bench"
    assert set(results["runs"]) <= set(bench.functions())
