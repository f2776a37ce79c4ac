"""The tables of docs/specs.md: every built-in kind with its fields, defaults and descriptions.

They come from the classes: their docstrings and those of their fields.
"""

import inspect
import json
import re
from collections.abc import Iterable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from aezoo.plugins.registry import registry
from aezoo.specs.base import RegisteredSpec, Spec, field_docs
from aezoo.specs.recipe import RecipeSpec
from aezoo.specs.schema import FAMILIES
from aezoo.specs.stages import EarlyStopSpec
from aezoo.specs.tensor import TensorSpec
from aezoo.specs.variant import VariantSpec

PAGE = Path(__file__).resolve().parent / "specs.md"
CLASSES: dict[str, type[Spec]] = {
    "variant": VariantSpec,
    "tensor": TensorSpec,
    "recipe": RecipeSpec,
    "early_stop": EarlyStopSpec,
}
COMMON = {
    "layer": ("repeat",),
    "loss": ("weight", "warmup_epochs"),
    "dataset": ("validation", "test", "seed"),
}
"""Family -> fields of many kinds, which have a table of their own."""


def field_names(cls: type[Spec]) -> list[str]:
    """The fields of a class, then those of its base classes."""
    owners = [inspect.get_annotations(base) for base in cls.__mro__]
    names = [name for name in cls.model_fields if name != "kind"]
    return sorted(names, key=lambda name: next(i for i, fields in enumerate(owners) if name in fields))


def words_of(annotation: Any) -> list[str]:
    """The words that a field accepts; none if it accepts more than words."""
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return [word for part in get_args(annotation) for word in words_of(part)]
    return []


def yaml_text(value: Any) -> str:
    """A value as it is written in YAML."""
    if isinstance(value, Spec):
        data = value.model_dump(mode="json", exclude_defaults=True)
        return yaml_text(data["kind"] if list(data) == ["kind"] else data)
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def default_of(field: FieldInfo) -> str:
    """The default of a field, followed by the other words that it accepts."""
    default: Any = None if field.is_required() else field.default
    others = [word for word in words_of(field.annotation) if word != str(default)]
    text = "required" if field.is_required() else yaml_text(default)
    return f"{text}; or {', '.join(f'`{word}`' for word in others)}" if others else text


def describe(cls: type[Spec], name: str) -> str:
    """The description of a field."""
    text = field_docs(cls).get(name)
    assert text, f"{cls.__name__}.{name} has no docstring"
    return text.replace("|", "\\|")


def rows(cls: type[Spec], names: Iterable[str], before: str = "") -> list[str]:
    """A row for each of these fields."""
    fields = cls.model_fields
    return [f"|{before} `{name}` | {default_of(fields[name])} | {describe(cls, name)} |" for name in names]


def class_table(cls: type[Spec]) -> list[str]:
    """A table of the fields of one class."""
    return ["| field | default | description |", "|---|---|---|", *rows(cls, field_names(cls))]


def built_in(family: type[RegisteredSpec]) -> list[type[RegisteredSpec]]:
    """The built-in classes of a family, sorted by kind."""
    kinds = [kind for kind in family.kinds() if "." not in kind]
    return [family.of_kind(kind) for kind in kinds]


def common_table(family: type[RegisteredSpec]) -> list[str]:
    """A table of the fields that many kinds of a family share."""
    names = COMMON[family.family]
    # The root of a family has no default of a single kind.
    cls = next(cls for cls in (family, *built_in(family)) if set(names) <= set(cls.model_fields))
    return ["| field | default | description |", "|---|---|---|", *rows(cls, names)]


def family_table(family: type[RegisteredSpec], role: str | None = None) -> list[str]:
    """A table of the kinds of a family: a row for the kind and a row for each field of its own."""
    found = [f"| {role or family.family} | field | default | description |", "|---|---|---|---|"]
    for cls in built_in(family):
        if role is None or getattr(cls, "role", None) == role:
            summary = (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")
            found.append(f"| **`{cls.kind_name}`** | | | {summary} |")
            found += rows(cls, [name for name in field_names(cls) if not is_common(family, cls, name)], " |")
    return found


def is_common(family: type[RegisteredSpec], cls: type[Spec], name: str) -> bool:
    """Whether a field is in the table of common fields, with the same default."""
    if name not in COMMON.get(family.family, ()):
        return False
    shared = family.model_fields.get(name)
    return shared is None or shared.default == cls.model_fields[name].default


def tables() -> dict[str, list[str]]:
    """Name in the page -> table."""
    families = {family.family: family for family in FAMILIES}
    registry.load()
    return {
        **{name: class_table(cls) for name, cls in CLASSES.items()},
        **{f"common {name}": common_table(families[name]) for name in COMMON},
        **{name: family_table(family) for name, family in families.items() if name not in ("loss", "metric")},
        "reconstruction": family_table(families["loss"], "reconstruction"),
        "penalty": family_table(families["loss"], "penalty"),
    }


def specs_page() -> str:
    """docs/specs.md with current tables."""
    found = tables()
    table = re.compile(r"<!-- table: ([\w ]+) -->\n.*?<!-- end -->", re.DOTALL)

    def current(match: re.Match[str]) -> str:
        return "\n".join([f"<!-- table: {match[1]} -->", *found.pop(match[1]), "<!-- end -->"])

    text = table.sub(current, PAGE.read_text("utf-8"))
    assert not found, f"docs/specs.md has no place for {', '.join(found)}"
    return text
