"""The order of the packages, what is imported when, and the public names."""

import ast
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest

import aezoo
from aezoo.plugins.builtin import BUILTINS
from aezoo.zoo.index import Entry

PACKAGE = Path(aezoo.__file__).parent

# Packages and top-level modules: each may import only from those before it.
ORDER = [
    "text", "errors", "files", "jsonio", "terminal", "progress", "plugins", "specs", "data", "model", "losses", "evaluation",
    "plots", "zoo", "training", "inference", "exporting", "report", "sklearn", "testing", "cli", "__main__", "__init__",
]  # fmt: skip
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"torch", "torchvision", "numpy", "matplotlib", "safetensors", "PIL", "huggingface_hub"}


def dotted(path: Path) -> str:
    """The dotted name of the module in a file."""
    parts = ("aezoo", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path) for path in FILES}


def package_of(module: str) -> str:
    """The package or top-level module of a module."""
    return module.partition(".")[2].partition(".")[0] or "__init__"


def imported(source: str) -> set[str]:
    """The modules of aezoo that a source imports, including inside functions and for type checkers."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.partition(".")[0] == "aezoo"}
        elif isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "aezoo":
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
    return found


IMPORTS = {dotted(path): imported(path.read_text("utf-8")) for path in FILES}


def test_every_package_is_in_the_order() -> None:
    assert sorted(ORDER) == sorted({package_of(module) for module in MODULES})


@pytest.mark.parametrize("module", sorted(MODULES))
def test_packages_import_in_one_direction(module: str) -> None:
    here = ORDER.index(package_of(module))
    assert {other for other in IMPORTS[module] if ORDER.index(package_of(other)) > here} == set()


def test_imports_have_no_circles() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for other in sorted(IMPORTS[module] & MODULES):
                visit(other, (*path, module))
            done.add(module)

    for module in sorted(MODULES):
        visit(module, ())


def test_specs_never_import_torch() -> None:
    for module in MODULES:
        if package_of(module) in ("errors", "files", "jsonio", "plugins", "specs"):
            tree = ast.parse(Path(importlib.import_module(module).__file__ or "").read_text("utf-8"))
            branches = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
            checked = [node for node in branches if "TYPE_CHECKING" in ast.unparse(node.test)]
            for_checkers = {id(inner) for node in checked for inner in ast.walk(node)}
            names: set[str] = set()
            for node in ast.walk(tree):
                if isinstance(node, ast.Import) and id(node) not in for_checkers:
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and id(node) not in for_checkers:
                    names.add(str(node.module).partition(".")[0])
            assert names.isdisjoint(HEAVY), module


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import aezoo.cli", {"aezoo.cli"}),
        ("from aezoo import cli, LayerSpec", {"aezoo.cli", "aezoo"}),
        ("from aezoo.model.layers.conv import ConvSpec", {"aezoo.model.layers.conv"}),
        ("def late():\n    import aezoo.cli", {"aezoo.cli"}),
        ("if TYPE_CHECKING:\n    import aezoo.cli", {"aezoo.cli"}),
        ("import torch, aezoology\nfrom typing import Any", set[str]()),
    ],
)
def test_all_imports_of_a_source_are_found(source: str, found: set[str]) -> None:
    assert imported(source) == found


def test_built_in_modules_exist() -> None:
    assert set(BUILTINS) <= MODULES


def test_no_module_has_a_vague_name() -> None:
    vague = ("util", "helper", "manager", "common", "misc")
    assert [module for module in MODULES if any(word in module for word in vague)] == []


# -- imports at run time ------------------------------------------------------------------------------


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A zoo with an index of one variant."""
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
def test_listing_and_specs_do_not_import_torch(zoo: Path, script: str) -> None:
    done = run(f"""
        import sys
        from pathlib import Path
        import aezoo.zoo.index
        aezoo.zoo.index.zoo_root = lambda: Path({str(zoo)!r})
        {script}
        print("imported:", *sorted({HEAVY!r} & set(sys.modules)))
    """)
    assert done.splitlines()[-1] == "imported:"


def test_importing_aezoo_imports_none_of_its_modules() -> None:
    found = run("import aezoo, sys\nprint(*[name for name in sys.modules if name.startswith('aezoo.')])")
    assert found.strip() == ""


def run(script: str) -> str:
    """The output of a script in a new Python process."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(script)],
        env={**os.environ, "AEZOO_PLUGINS": "", "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- public names -------------------------------------------------------------------------------------

STUB = ast.parse((PACKAGE / "__init__.pyi").read_text("utf-8"))
PUBLIC = [
    (str(node.module), alias.name)
    for node in STUB.body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
]


def test_dir_lists_the_public_names() -> None:
    assert sorted(dir(aezoo)) == sorted(name for _, name in PUBLIC)
    assert len(set(dir(aezoo))) == len(dir(aezoo))


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_a_public_name_is_importable_and_documented(module: str, name: str) -> None:
    defined = importlib.import_module(f"aezoo.{module}")
    found: Any = getattr(aezoo, name)
    assert not isinstance(found, ModuleType)
    assert found is vars(defined)[name]
    source = ast.parse(Path(str(defined.__file__)).read_text("utf-8"))
    # From the source, since classes can inherit or generate a docstring.
    for node in source.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            assert ast.get_docstring(node)
            return
    assert not callable(found) or name == "hookimpl", f"{name} is not defined in aezoo.{module}"


def test_public_names_and_module_names_differ() -> None:
    # An imported submodule becomes an attribute of `aezoo` and would hide the public name.
    assert {name for _, name in PUBLIC} & {package_of(module) for module in MODULES} == set()


def test_unknown_names_are_rejected() -> None:
    with pytest.raises(AttributeError, match="laod"):
        aezoo.laod  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_the_version_is_the_installed_one() -> None:
    assert aezoo.__version__ == version("aezoo")


def test_the_benchmarks_can_be_imported() -> None:
    """No other test imports them, so that a renamed module would go unnoticed."""
    for path in (PACKAGE.parent / "tests" / "benchmarks").glob("*.py"):
        spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
