"""The version of documents, the hash of a spec, and its JSON Schema."""

import hashlib
import inspect
from collections.abc import Callable
from typing import Any, cast

from aezoo.errors import CheckpointError, Problem, SpecError
from aezoo.jsonio import canonical_json
from aezoo.specs.base import FAMILY_MARKER, RegisteredSpec, Spec
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
"""Version of specs and of `config.json`, raised if a change alters the meaning of older documents."""

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Schema version -> function that converts a spec of that version to the next one."""

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
    """Converts a document to the current schema and removes its `schema_version`.

    Raises:
        SpecError: the version is not a positive integer.
        CheckpointError: `schema-version`, the document is newer than this aezoo.
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


def resolved_data(spec: AutoencoderSpec) -> dict[str, Any]:
    """A resolved spec as plain data, as in `config.json`: all defaults included, every `repeat` written out.

    `recipe.numerics` is left out where it is 1, as in specs that are older than this field.
    """
    data = spec.resolved().model_dump(mode="json")
    if data.get("recipe", {}).get("numerics") == 1:
        del data["recipe"]["numerics"]
    return data


def read_resolved(data: dict[str, Any]) -> dict[str, Any]:
    """The data of a spec from what `resolved_data` returned."""
    recipe = data.get("recipe")
    return data if not isinstance(recipe, dict) else {**data, "recipe": {"numerics": 1, **recipe}}


def spec_sha256(spec: AutoencoderSpec) -> str:
    """SHA-256 of a resolved spec: all defaults included, every `repeat` written out."""
    return hashlib.sha256(canonical_json(resolved_data(spec)).encode()).hexdigest()


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a `spec.yaml`, including all registered kinds.

    Editors use it for completion and validation. Each field has its description, each kind its examples.
    """
    definitions: dict[str, Any] = {}

    def schema_of(cls: type[Spec]) -> dict[str, Any]:
        schema = cls.model_json_schema()
        for name, definition in schema.pop("$defs", {}).items():
            definitions.setdefault(name, _finished(definition))
        return _finished(schema)

    root = schema_of(VariantSpec)
    root["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    for family in FAMILIES:
        classes = {kind: family.of_kind(kind) for kind in family.kinds()}
        for kind, cls in classes.items():
            definitions[f"{family.family}:{kind}"] = schema_of(cls)
        choices: list[dict[str, Any]] = [{"$ref": f"#/$defs/{family.family}:{kind}"} for kind in classes]
        if bare := [kind for kind, cls in classes.items() if not _has_required_fields(cls)]:
            choices.append({"enum": bare})
        text = {"description": _summary(family)}
        definitions[family.family] = {**text, **({"oneOf": choices} if choices else {"not": {}})}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "aezoo variant",
        **{key: value for key, value in root.items() if key != "title"},
        "$defs": definitions,
    }


def _summary(cls: type[Spec]) -> str:
    return (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")


def _has_required_fields(cls: type[Spec]) -> bool:
    return any(field.is_required() for field in cls.model_fields.values())


def _finished(node: Any) -> Any:
    """Replaces family markers by references, requires `kind`, and drops the titles that pydantic adds."""
    if isinstance(node, list):
        return [_finished(item) for item in cast(list[Any], node)]
    if not isinstance(node, dict):
        return node
    # A property may be called `title`; its value is a schema, not a string.
    items = cast(dict[str, Any], node).items()
    found = {k: _finished(v) for k, v in items if k != "title" or not isinstance(v, str)}
    if FAMILY_MARKER in found:
        return {"$ref": f"#/$defs/{found.pop(FAMILY_MARKER)}", **found}
    if "const" in found.get("properties", {}).get("kind", {}):
        found["required"] = ["kind", *(name for name in found.get("required", []) if name != "kind")]
    return found
