"""What every spec must keep, whatever its family."""

import json
import math
import pickle
from functools import partial
from typing import Any, get_args

from aezoo.errors import RegistryError, SpecError
from aezoo.plugins.registry import registry
from aezoo.specs.base import RegisteredSpec
from aezoo.testing.report import Checks

HOSTILE: tuple[object, ...] = (-1, 0, -0.5, math.nan, math.inf, True, "text")


CHECKS: dict[str, str] = {
    "spec-round-trip": "a spec that reads back as what wrote it",
    "spec-pickling": "a spec that can be pickled",
    "spec-schema": "a JSON Schema entry with the kind",
    "spec-defaults": "defaults that are the same each time",
    "spec-docstring": "a docstring, which is the manual",
}


def check_spec(checks: Checks, spec: RegisteredSpec) -> None:
    """Runs `CHECKS`, which every spec must pass, whatever its family."""
    for name, look in zip(CHECKS, (_round_trip, _pickling, _schema, _defaults, _docstring), strict=True):
        checks.run(name, CHECKS[name], partial(look, spec))


def _docstring(spec: RegisteredSpec) -> str | None:
    return None if type(spec).__doc__ else "none"


def _round_trip(spec: RegisteredSpec) -> str | None:
    written = json.loads(spec.model_dump_json())
    again = type(spec).model_validate(written)
    if again != spec:
        return f"{again!r} for {spec!r}"
    if json.loads(again.model_dump_json()) != written:
        return "another document the second time"
    try:
        known = registry.get(spec.family, str(spec.kind_name))
    except RegistryError:
        return None
    if known is type(spec) and _base(spec).model_validate(written) != spec:
        return "something else through the family"
    return None


def _base(spec: RegisteredSpec) -> Any:
    return next(cls for cls in type(spec).__mro__[::-1] if getattr(cls, "family", None) == spec.family)


def _pickling(spec: RegisteredSpec) -> str | None:
    return None if pickle.loads(pickle.dumps(spec)) == spec else "another spec"  # noqa: S301 - our own bytes


def _schema(spec: RegisteredSpec) -> str | None:
    schema = type(spec).model_json_schema()
    json.dumps(schema)
    return None if "kind" in schema.get("properties", {}) else "no kind in it"


def _defaults(spec: RegisteredSpec) -> str | None:
    required = {
        name: value
        for name, value in json.loads(spec.model_dump_json()).items()
        if name == "kind" or type(spec).model_fields[name].is_required()
    }
    first, second = (type(spec).model_validate(required).model_dump_json() for _ in range(2))
    return None if first == second else f"{first}, then {second}"


def hostile_changes(spec: RegisteredSpec) -> list[tuple[str, object, RegisteredSpec]]:
    """Specs with one number replaced by a hostile value, as far as the spec's own bounds let it pass."""
    passed: list[tuple[str, object, RegisteredSpec]] = []
    data = spec.model_dump(mode="json")
    for name, field in type(spec).model_fields.items():
        if not _is_number(field.annotation):
            continue
        for value in HOSTILE:
            try:
                passed.append((name, value, type(spec).model_validate({**data, name: value})))
            except (SpecError, ValueError):
                continue
    return passed


def _is_number(annotation: Any) -> bool:
    parts = get_args(annotation) or (annotation,)
    return any(part in (int, float) for part in parts)
