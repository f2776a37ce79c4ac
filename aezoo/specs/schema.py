"""Specs as files: YAML in and out, the JSON Schema for editors, and the canonical form that is hashed."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, cast

from aezoo.errors import CheckpointError, Problem, SpecError
from aezoo.jsonio import canonical_json
from aezoo.specs.base import FAMILY_MARKER, RegisteredSpec
from aezoo.specs.components import (
    ActivationSpec,
    CallbackSpec,
    DatasetSpec,
    LayerSpec,
    LossSpec,
    NoiseSpec,
)
from aezoo.specs.messages import abbreviate
from aezoo.specs.stages import OptimizerSpec, ScheduleSpec, StageSpec
from aezoo.specs.variant import AutoencoderSpec, VariantSpec

SCHEMA_VERSION = 1
"""Of specs and of `config.json`; grows when an older document would otherwise be read wrongly."""

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Schema version -> the function that lifts a spec of that version to the next one."""

FAMILIES: tuple[type[RegisteredSpec], ...] = (
    LayerSpec,
    LossSpec,
    NoiseSpec,
    DatasetSpec,
    CallbackSpec,
    ActivationSpec,
    OptimizerSpec,
    ScheduleSpec,
    StageSpec,
)


def migrate(data: dict[str, Any]) -> dict[str, Any]:
    """Lifts a document to this aezoo's schema and takes its `schema_version` off.

    Raises:
        SpecError: the version is no number.
        SchemaVersionError: the document is newer than this aezoo.
    """
    data = dict(data)
    version: object = data.pop("schema_version", SCHEMA_VERSION)
    if type(version) is not int or version < 1:
        raise SpecError([Problem("schema_version", f"expected a whole number, found {abbreviate(version)}")])
    if version > SCHEMA_VERSION:
        raise CheckpointError(
            "schema-version",
            f"written with schema version {version}, this aezoo reads up to {SCHEMA_VERSION}; upgrade aezoo",
        )
    for step in range(version, SCHEMA_VERSION):
        data = MIGRATIONS[step](data)
    return data


def spec_sha256(spec: AutoencoderSpec) -> str:
    """Hash of a resolved spec: every default written out, every `repeat` expanded."""
    data = spec.resolved().model_dump(mode="json")
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a `spec.yaml`, with every kind that is registered now.

    Editors complete and check with it.
    """
    definitions: dict[str, Any] = {}

    def absorb(schema: dict[str, Any]) -> dict[str, Any]:
        for name, definition in schema.pop("$defs", {}).items():
            definitions.setdefault(name, _finished(definition))
        return _finished(schema)

    root = absorb(VariantSpec.model_json_schema())
    root["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    for family in FAMILIES:
        choices: list[dict[str, Any]] = []
        bare: list[str] = []
        for kind in family.kinds():
            cls = family.of_kind(kind)
            name = f"{family.family}:{kind}"
            definitions[name] = absorb(cls.model_json_schema())
            choices.append({"$ref": f"#/$defs/{name}"})
            if not any(field.is_required() for field in cls.model_fields.values()):
                bare.append(kind)
        either = [*choices, *([{"enum": bare}] if bare else [])]
        definitions[family.family] = {"oneOf": either} if either else {"not": {}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "aezoo variant",
        **{key: value for key, value in root.items() if key != "title"},
        "$defs": definitions,
    }


def _finished(node: Any) -> Any:
    """Puts references for family markers, and `kind` among the required keys."""
    if isinstance(node, list):
        return [_finished(item) for item in cast(list[Any], node)]
    if not isinstance(node, dict):
        return node
    found = {key: _finished(value) for key, value in _items(cast(dict[str, Any], node))}
    if FAMILY_MARKER in found:
        return {"$ref": f"#/$defs/{found[FAMILY_MARKER]}"}
    if "const" in found.get("properties", {}).get("kind", {}):
        found["required"] = ["kind", *(name for name in found.get("required", []) if name != "kind")]
    return found


def _items(node: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    return (item for item in node.items() if item[0] != "title" or not isinstance(item[1], str))
