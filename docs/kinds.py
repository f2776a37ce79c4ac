"""Writes the tables of `docs/specs.md`: every kind with its fields, defaults and descriptions.

The text comes from the classes: their docstrings, and the docstrings of their fields.
"""

import ast
import inspect
import json
import re
import textwrap
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from aezoo.plugins.registry import registry
from aezoo.specs.base import Spec
from aezoo.specs.recipe import RecipeSpec
from aezoo.specs.schema import FAMILIES
from aezoo.specs.stages import EarlyStopSpec
from aezoo.specs.variant import VariantSpec

PAGE = Path(__file__).parent / "specs.md"
SHARED = {"layer": ("repeat",), "loss": ("weight", "warmup_epochs"), "dataset": ("validation", "test", "seed")}
"""Family -> fields that the page describes once, above the table."""
ALONE: dict[str, type[Spec]] = {"variant": VariantSpec, "recipe": RecipeSpec, "early_stop": EarlyStopSpec}


def field_docs(cls: type[Any]) -> dict[str, str]:
    """Field -> docstring, for the fields that a class and its base classes document."""
    found: dict[str, str] = {}
    for base in reversed([base for base in cls.__mro__ if issubclass(base, Spec)]):
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        body = node.body if isinstance(node, ast.ClassDef) else []
        for field, text in zip(body, body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                    found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def default(field: FieldInfo) -> str:
    """The default of a field as it is written in YAML."""
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True)
    if isinstance(value, Spec):
        data = value.model_dump(mode="json", exclude_defaults=True)
        value = data["kind"] if list(data) == ["kind"] else data
    if isinstance(value, float) and not 1e-4 < abs(value) < 1e6:
        return f"`{value:g}`"
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def rows(cls: type[Spec], skip: tuple[str, ...] = ()) -> list[str]:
    """A row of a table for each field."""
    docs = field_docs(cls)
    return [
        f"| | `{name}` | {default(field)} | {docs.get(name, '')} |"
        for name, field in cls.model_fields.items()
        if name not in ("kind", *skip)
    ]


def family_table(family: str) -> str:
    (root,) = [root for root in FAMILIES if root.family == family]
    head = [f"| {family} | field | default | description |", "|---|---|---|---|"]
    for kind in root.kinds():
        if "." in kind:
            continue
        cls = root.of_kind(kind)
        summary = (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")
        head += [f"| **`{kind}`** | | | {summary} |", *rows(cls, SHARED.get(family, ()))]
    return "\n".join(head)


if __name__ == "__main__":
    for family in FAMILIES:
        if family.family != "metric":
            print(family_table(family.family)); print()
    for c in ALONE.values(): print("\n".join(rows(c)))
