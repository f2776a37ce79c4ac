"""Code blocks of the documentation: each one runs, is checked, or says above it why it does not run."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
import typer

import aezoo
from aezoo import cli
from aezoo.specs.yaml import Document
from tests.markdown import Block, Session, blocks

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
WRITTEN = [
    path
    for path in DOCS.glob("**/*.md")
    # Pages of variants are generated when the site is built; pages that are scripts are run by test_docs.py.
    if not {"node_modules", "_build", "gallery"} & {*path.parts} and not path.with_suffix(".py").exists()
]
PAGES = sorted([*ROOT.glob("*.md"), *WRITTEN, *ROOT.glob("plugins/*/README.md")])
RUN_ELSEWHERE = {
    "README.md": "tests/test_docs.py",
    "docs/tutorial-plugin.md": "tests/plugins/test_scaffold.py",
    "docs/releasing.md": "tests/zoo/test_releasing.py",
    "docs/reference/spec.md": "tests/test_docs.py",
}
PLUGIN_VARIANTS = {path.parent.name for path in ROOT.glob("plugins/*/*/zoo/*/spec.yaml")}
NEEDS_DATA = ("docs/inference.md",)
SHELL_TOO = ("docs/air_gapped.md", "docs/start/install.md")
"""Pages whose commands are run between their Python blocks."""
LANGUAGES = {"python", "sh", "yaml", "toml", "json", "text", ""}


def name_of(path: Path) -> str:
    """The path of a page from the top of the repository."""
    return path.relative_to(ROOT).as_posix()


def needs_plugins(path: Path) -> bool:
    """Whether a page runs with the plugins of this repository, which the other tests leave out."""
    named = set(re.findall(r'"([\w.-]+)"', "".join(block.text for block in blocks(path, "python"))))
    return path.parent.parent.name == "plugins" or bool(named & PLUGIN_VARIANTS)


def with_blocks(*languages: str) -> list[Any]:
    """The pages that have a block of these languages which is to be run, except those that other tests run."""
    return [
        pytest.param(path, id=name_of(path), marks=[pytest.mark.data] if name_of(path) in NEEDS_DATA else [])
        for path in PAGES
        if name_of(path) not in RUN_ELSEWHERE
        and any(block.language in languages and block.not_run is None for block in blocks(path))
    ]


def test_pages_that_other_tests_run() -> None:
    for page, test in RUN_ELSEWHERE.items():
        assert (ROOT / page).is_file()
        assert Path(page).name in (ROOT / test).read_text("utf-8") or Path(page).stem in page


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_block_has_a_language(path: Path) -> None:
    for block in blocks(path):
        directive = re.fullmatch(r"\{[\w-]+\}", block.language)
        assert directive or block.language in LANGUAGES, block.text[:100]
    marks = re.findall(r"^<!-- not run: .+ -->$", path.read_text("utf-8"), flags=re.MULTILINE)
    assert len(marks) == sum(block.not_run is not None for block in blocks(path)), "a comment without a block"


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize("path", with_blocks("python"))
def test_python_blocks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if needs_plugins(path):
        return  # the next test
    session = Session(tmp_path, monkeypatch)
    with mock.patch.dict(os.environ):
        for block in blocks(path):
            is_file = block.language == "yaml" and re.match(r"# \S+\.yaml\n", block.text)
            is_shell = block.language == "sh" and name_of(path) in SHELL_TOO
            if block.not_run is None and (block.language == "python" or is_file or is_shell):
                session.execute(block)


@pytest.mark.slow
def test_python_blocks_run_that_need_the_plugins(tmp_path: Path) -> None:
    cells = {
        name_of(path): [block.text for block in blocks(path, "python") if block.not_run is None]
        for path in PAGES
        if needs_plugins(path)
    }
    assert len(cells) >= 10
    (tmp_path / "run.py").write_text(
        f"pages = {cells!r}\n"
        "for page, cells in pages.items():\n"
        "    print(page)\n"
        "    names = {}\n"
        "    for cell in cells:\n"
        "        exec(compile(cell, page, 'exec'), names)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "AEZOO_PLUGINS"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "run.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", with_blocks("yaml"))
def test_yaml_blocks_are_valid(path: Path) -> None:
    for block in blocks(path, "yaml"):
        data: Any = Document(block.text, path.name).data
        spec = aezoo.get_spec("sparse-topk16").model_dump(mode="json")
        recipe = {key: data.pop(key) for key in list(data) if key in aezoo.RecipeSpec.model_fields}
        recipe |= data.pop("recipe", {})
        aezoo.VariantSpec.model_validate({**spec, **data, "recipe": {**spec["recipe"], **recipe}})


@pytest.mark.parametrize("path", with_blocks("toml"))
def test_toml_blocks_are_valid(path: Path) -> None:
    for block in blocks(path, "toml"):
        assert tomllib.loads(block.text)


def check_command(words: list[str]) -> None:
    """Checks that a command and its arguments exist; that a program is one of those that a page may show."""
    while re.match(r"[A-Z_]+=", words[0]):  # variables before the program
        words = words[1:]
    program, *arguments = words
    if program == "aezoo":
        command, *rest = arguments
        known: dict[str, Any] = cast(Any, typer.main.get_command(cli.app)).commands
        rest = rest[: rest.index(">")] if ">" in rest else rest
        known[command].make_context(command, rest)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert set(arguments) <= set(targets)
    elif program == "pip":
        action, *rest = arguments
        assert action == "install"
        for word in rest:
            if not word.startswith("-"):
                assert word == "." or (ROOT / word / "pyproject.toml").is_file(), word
    else:
        pytest.fail(f"{program} is not run: put a comment <!-- not run: REASON --> above the block")


SHELL = [
    pytest.param(block, id=f"{name_of(path)}-{number}")
    for path in PAGES
    if name_of(path) not in RUN_ELSEWHERE or path.name == "README.md"
    for number, block in enumerate(blocks(path, "sh"))
    if block.not_run is None
]


@pytest.mark.parametrize("block", SHELL)
def test_commands_exist_with_their_arguments(block: Block) -> None:
    for words in block.commands:
        check_command(words)
