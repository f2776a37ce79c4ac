"""docs/folders.md and docs/hub.md describe the checks and the errors as they are."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from aezoo.errors import CheckpointError, HubError
from aezoo.zoo import verify


def test_the_seven_checks_are_called_in_the_documented_order(repository: Path) -> None:
    documented = re.findall(r"^\d\. `(\w+)`", (repository / "docs" / "folders.md").read_text(), re.MULTILINE)
    calls = [
        (node.lineno, node.func.id)
        for node in ast.walk(ast.parse(inspect.getsource(verify.load)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    checks = [name for _, name in sorted(calls) if name.startswith("check_")]
    assert len(documented) == 7
    assert documented == checks
    for number, name in enumerate(checks, 1):
        assert str(getattr(verify, name).__doc__).startswith(f"Check {number}: ")


@pytest.mark.parametrize(("cls", "page"), [(CheckpointError, "folders.md"), (HubError, "hub.md")])
def test_every_code_is_documented_and_raised(repository: Path, cls: type[Exception], page: str) -> None:
    codes = re.findall(r"^ *- `([\w-]+)`", str(cls.__doc__), re.MULTILINE)
    assert codes
    documented = re.findall(r"^\| `([a-z-]+)` \|", (repository / "docs" / page).read_text(), re.MULTILINE)
    assert documented == codes
    source = "".join(path.read_text() for path in (repository / "aezoo").rglob("*.py"))
    assert [code for code in codes if f'"{code}"' not in source] == []
