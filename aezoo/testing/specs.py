"""Contract checks for the specs of all families."""

import json
import math
import pickle
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from aezoo.errors import RegistryError, SpecError
from aezoo.plugins.registry import registry, suggestion
from aezoo.specs.base import RegisteredSpec
from aezoo.testing.contract import CheckList, Report
from aezoo.testing.observation import PRINTED, observed_settings

S = TypeVar("S", bound=RegisteredSpec)
T = TypeVar("T")
SPEC_CHECKS: CheckList[RegisteredSpec] = CheckList()
SETTING_CHECKS: CheckList[list[str]] = CheckList()
EXEMPTION_CHECKS: CheckList[tuple[Mapping[str, str], list[str], list[str]]] = CheckList()
HOSTILE: tuple[object, ...] = (-1, 0, -0.5, math.nan, math.inf, True, "text")


def run_checks(spec: RegisteredSpec, subject: str, checks: CheckList[T], fixture: T) -> Report:
    """Runs the checks of every spec, then those of one family.

    Args:
        spec: the component; checks in its class's `exempt` are skipped.
        subject: the component in words, for the report.
        checks: those of the family.
        fixture: what they are called with.

    Raises:
        ContractError: a check failed.
    """
    exempt = type(spec).exempt
    report = Report(subject)
    with observed_settings() as changed:
        SPEC_CHECKS.run(spec, report, exempt)
        checks.run(fixture, report, exempt)
    if spec.family == "callback":
        # A callback may report to the user.
        changed = [name for name in changed if name != PRINTED]
    SETTING_CHECKS.run(changed, report, exempt)
    known = [check.name for check in (*SPEC_CHECKS, *checks, *SETTING_CHECKS)]
    EXEMPTION_CHECKS.run((exempt, known, report.unneeded), report)
    return report.raise_on_failure()


@SETTING_CHECKS.add("settings", "settings of the process that are left unchanged")
def settings(changed: list[str]) -> str | None:
    """A component must not change what the rest of the program computes, nor print into its output.

    Failure: `PyTorch's default dtype changed`
    Fix: pass dtypes and devices to the functions that take them; restore what has to be changed for a while;
        use `warnings` or `logging` in place of `print`.
    """
    # The random states have checks of their own.
    names = [name for name in changed if "random state" not in name]
    return f"{', '.join(names)} changed" if names else None


@EXEMPTION_CHECKS.add("exemptions", "exemptions from checks that exist and that the component fails")
def exemptions(given: tuple[Mapping[str, str], list[str], list[str]]) -> str | None:
    """An exemption that is misspelt or no longer needed hides the next fault.

    Failure: `'sparsty' (did you mean 'sparsity'?), which is no check`
    Fix: correct the name in `exempt`, or remove it. Each needs a reason.
    """
    exempt, known, unneeded = given
    for name, reason in exempt.items():
        if name not in known:
            return f"{name!r}{suggestion(name, known)}, which is no check"
        if not str(reason).strip():
            return f"{name!r} without a reason"
    return f"{unneeded[0]!r}, which the component passes" if unneeded else None


@SPEC_CHECKS.add("spec-round-trip", "a spec that is read back as it was written")
def round_trip(spec: RegisteredSpec) -> str | None:
    """A saved variant is rebuilt from its spec's JSON; a field that changes on the way changes the network.

    Failure: `ScaleSpec(factor=0.2) for ScaleSpec(factor=0.25)`
    Fix: remove serializers and validators that change valid values.
    """
    written = json.loads(spec.model_dump_json())
    read = type(spec).model_validate(written)
    if read != spec:
        return f"{read!r} for {spec!r}"
    if json.loads(read.model_dump_json()) != written:
        return "a different document the second time"
    try:
        registered = registry.get(spec.family, str(spec.kind_name))
    except RegistryError:
        return None
    # The class that was defined first with this family is the abstract one.
    family: Any = next(cls for cls in type(spec).__mro__[::-1] if getattr(cls, "family", None) == spec.family)
    if registered is type(spec) and family.model_validate(written) != spec:
        return "a different spec when read through the family"
    return None


@SPEC_CHECKS.add("spec-pickling", "a spec that can be pickled")
def pickling(spec: RegisteredSpec) -> str | None:
    """Data-loading workers and other processes receive specs by pickle.

    Failure: `PicklingError: Can't pickle ... it's not found as ...`
    Fix: define the class at the top level of a module, under its own name.
    """
    return None if pickle.loads(pickle.dumps(spec)) == spec else "a different spec"  # noqa: S301 - our own bytes


@SPEC_CHECKS.add("spec-schema", "a JSON Schema with a `kind` property")
def schema(spec: RegisteredSpec) -> str | None:
    """Editors complete and check YAML files by the JSON Schema of `aezoo schema`.

    Failure: `PydanticInvalidForJsonSchema: Cannot generate a JsonSchema for ...`
    Fix: declare fields with types that JSON can express, and `kind` as a `Literal`.
    """
    found = type(spec).model_json_schema()
    json.dumps(found)
    return None if "kind" in found.get("properties", {}) else "no such property"


@SPEC_CHECKS.add("spec-defaults", "defaults that are the same each time")
def defaults(spec: RegisteredSpec) -> str | None:
    """A spec that leaves a field out must mean the same network on every machine and every day.

    Failure: `{"seed": 3}, then {"seed": 4}`
    Fix: use a constant in place of a `default_factory` that draws, counts or reads the environment.
    """
    required = {
        name: value
        for name, value in json.loads(spec.model_dump_json()).items()
        if name == "kind" or type(spec).model_fields[name].is_required()
    }
    first, second = (type(spec).model_validate(required).model_dump_json() for _ in range(2))
    return None if first == second else f"{first}, then {second}"


@SPEC_CHECKS.add("spec-docstring", "a docstring")
def docstring(spec: RegisteredSpec) -> str | None:
    """The docstring is the kind's manual: `aezoo schema` and editors show it.

    Failure: `no docstring`
    Fix: say on the first line of the class what the component does, and cite its source.
    """
    return None if type(spec).__doc__ else "no docstring"


def hostile_changes(spec: S) -> list[tuple[str, object, S]]:
    """Specs with one number replaced by an extreme value, as far as the spec's own bounds accept it.

    Returns:
        Field, value and the spec with that value.
    """
    accepted: list[tuple[str, object, S]] = []
    data = spec.model_dump(mode="json")
    for name, field in type(spec).model_fields.items():
        if not any(part in (int, float) for part in get_args(field.annotation) or (field.annotation,)):
            continue
        for value in HOSTILE:
            try:
                accepted.append((name, value, type(spec).model_validate({**data, name: value})))
            except (SpecError, ValueError):
                continue
    return accepted
