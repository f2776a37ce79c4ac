"""The house: imports that go one way, public names, and what looking things up does not import."""

import ast
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest

import aezoo
from aezoo import registry
from aezoo.zoo import Entry

PACKAGE = Path(aezoo.__file__).parent

# A room may import from those above its line; two on one line know nothing of each other.
ORDER: list[set[str]] = [
    {"errors", "files", "hookspecs"},
    {"scaffold"},
    {"registry"},
    {"families"},
    {"specs"},
    {"documents", "transforms", "stack"},
    {"autoencoder", "samples"},
    {"advice", "layers", "losses", "noises", "datasets"},
    {"penalties"},
    {"builder", "crew", "descent", "evaluation", "weights", "progress", "resuming", "tying"},
    {"metrics", "parts"},
    {"fitting", "protocols", "trainable"},
    {"checkpoint", "plots"},
    {"card", "hub"},
    {"callbacks", "zoo"},
    {"training"},
    {"demonstration", "publishing", "testing"},
    {"cli"},
    {"__main__"},
    # The front door serves names from every room, and no room goes through it.
    {"__init__"},
]
STEP = {room: step for step, rooms in enumerate(ORDER) for room in rooms}

FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"torch", "torchvision", "numpy", "matplotlib", "safetensors", "PIL", "huggingface_hub"}


def dotted(path: Path) -> str:
    """The module that a file under the package holds, as it is imported."""
    parts = ("aezoo", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path) for path in FILES}


def room_of(module: str) -> str:
    """The room that a module of aezoo lies in: all of `layers` is one."""
    _, _, inner = module.partition(".")
    return inner.partition(".")[0] or "__init__"


def is_own(module: str) -> bool:
    """Whether a module is aezoo's."""
    return module.partition(".")[0] == "aezoo"


def at_import(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """What runs when a module is imported: neither the bodies of functions nor what type checkers read."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield node
        for_checkers = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        yield from at_import(node.orelse if for_checkers else ast.iter_child_nodes(node))


def imported(source: str) -> set[str]:
    """The modules of aezoo that a source imports while it is imported itself."""
    found: set[str] = set()
    for node in at_import([ast.parse(source)]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if is_own(alias.name)}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "rooms are imported by their full name"
            if is_own(str(node.module)):
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= {name if name in MODULES else str(node.module) for name in names}
    return found


def test_every_room_has_one_place_in_the_order() -> None:
    assert sorted(room for rooms in ORDER for room in rooms) == sorted({room_of(m) for m in MODULES})


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_imports_go_one_way(path: Path) -> None:
    here = room_of(dotted(path))
    wrong = {
        module
        for module in imported(path.read_text("utf-8"))
        if room_of(module) != here and STEP[room_of(module)] >= STEP[here]
    }
    assert wrong == set(), f"{dotted(path)} may not import these when it is imported"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import aezoo.zoo", {"aezoo.zoo"}),
        ("from aezoo import LayerSpec, zoo", {"aezoo.zoo", "aezoo"}),
        ("from aezoo.layers.conv import ConvSpec", {"aezoo.layers.conv"}),
        ("try:\n    import aezoo.zoo\nexcept ImportError:\n    import aezoo.cli", {"aezoo.zoo", "aezoo.cli"}),
        ("class Room:\n    if True:\n        import aezoo.zoo", {"aezoo.zoo"}),
        ("if TYPE_CHECKING:\n    import aezoo.zoo\nelse:\n    import aezoo.cli", {"aezoo.cli"}),
        ("def late():\n    import aezoo.zoo", set()),
        ("import torch, aezoology\nfrom typing import Any", set()),
    ],
)
def test_the_imports_that_count_are_those_that_run_at_import(source: str, found: set[str]) -> None:
    assert imported(source) == found


def test_built_ins_named_as_text_are_modules() -> None:
    assert set(registry.BUILTINS) <= MODULES


def test_rooms_say_what_they_are_for() -> None:
    vague = ("util", "helper", "manager", "common", "misc")
    assert [module for module in MODULES if any(word in module for word in vague)] == []


# -- what is not imported -----------------------------------------------------------------------------


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A zoo of one variant, as its index knows it."""
    entry = Entry(
        summary="One.", references=["arXiv:1312.5663"], dataset="mnist", input=[1, 28, 28], latents=[64],
        parameters=9, layers=[{"path": "encoder.0", "kind": "flatten", "output": [784], "parameters": 0}],
        metrics={"mse": 0.01, "fvu": None}, files={"config.json": {"sha256": "0" * 64, "bytes": 1}},
        repository=None, commit=None,
    )  # fmt: skip
    (tmp_path / "index.json").write_text(json.dumps({"schema_version": 1, "variants": {"one": entry}}))
    return tmp_path


@pytest.mark.parametrize(
    "script",
    [
        "import aezoo",
        "aezoo.list_variants()",
        "aezoo.get_entry('one')",
        "import aezoo.cli; aezoo.cli.app(['list'], standalone_mode=False)",
        "import aezoo.cli; aezoo.cli.app(['list', '--json'], standalone_mode=False)",
        "import aezoo.cli; aezoo.cli.app(['show', 'one'], standalone_mode=False)",
        "import aezoo.cli; aezoo.cli.app(['--help'], standalone_mode=False)",
        "aezoo.VariantSpec, aezoo.read_spec, aezoo.register, aezoo.hookimpl",
    ],
)
def test_looking_up_imports_nothing_heavy(zoo: Path, script: str) -> None:
    done = run(f"""
        import sys
        from pathlib import Path
        import aezoo.zoo
        aezoo.zoo.zoo_root = lambda: Path({str(zoo)!r})
        {script}
        print("imported:", *sorted({HEAVY!r} & set(sys.modules)))
    """)
    assert done.splitlines()[-1] == "imported:"


def test_importing_aezoo_imports_no_room() -> None:
    found = run("import aezoo, sys\nprint(*[name for name in sys.modules if name.startswith('aezoo.')])")
    assert found.strip() == ""


def run(script: str) -> str:
    """What a script prints in a Python of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(script)],
        env={**os.environ, "AEZOO_PLUGINS": "", "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- public names -------------------------------------------------------------------------------------

PUBLIC = [(room, name) for room, names in aezoo._ROOMS.items() for name in names]


def test_type_checkers_are_told_the_names_that_are_served() -> None:
    told: list[tuple[str, str]] = []
    variables: list[str] = []
    for node in ast.parse((PACKAGE / "__init__.pyi").read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            told += [(str(node.module), alias.name) for alias in node.names]
            # Without `as`, a name in a stub is private to it.
            assert all(alias.asname == alias.name for alias in node.names)
        else:
            assert isinstance(node, ast.AnnAssign)
            variables.append(ast.unparse(node.target))
    assert sorted(told) == sorted((f"aezoo.{room}", name) for room, name in PUBLIC)
    assert variables == ["__version__"]


def test_dir_shows_the_names_that_are_served() -> None:
    assert dir(aezoo) == sorted([*(name for _, name in PUBLIC), "__version__"])
    assert len(set(dir(aezoo))) == len(dir(aezoo))


def test_the_names_of_each_room_are_sorted() -> None:
    assert list(aezoo._ROOMS) == sorted(aezoo._ROOMS)
    for names in aezoo._ROOMS.values():
        assert list(names) == sorted(names)


@pytest.mark.parametrize(("room", "name"), PUBLIC)
def test_a_public_name_is_served_and_documented(room: str, name: str) -> None:
    module = importlib.import_module(f"aezoo.{room}")
    served: Any = getattr(aezoo, name)
    assert not isinstance(served, ModuleType)
    assert served is vars(module)[name]
    source = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
    # From the source: some classes would inherit or generate what they do not say themselves.
    for node in source.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            assert ast.get_docstring(node)
            return
    assert not callable(served) or name == "hookimpl", f"{name} is not defined in aezoo.{room}"


def test_no_public_name_is_a_rooms_name() -> None:
    # Importing a room sets its module as an attribute of `aezoo`, which would hide such a name.
    assert {name for _, name in PUBLIC} & {room_of(module) for module in MODULES} == set()


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match=r"^module 'aezoo' has no attribute 'laod'$"):
        aezoo.laod  # noqa: B018


def test_the_version_is_the_installed_one() -> None:
    assert aezoo.__version__ == version("aezoo")


def test_the_benchmarks_find_what_they_measure() -> None:
    """They are run by hand, so that nothing else would tell that a name has moved."""
    for path in (PACKAGE.parent / "tests" / "benchmarks").glob("*.py"):
        spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
