"""Validation errors as one line each: the path, what was expected, what was found, and a suggestion."""

from collections.abc import Iterator
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from aezoo.errors import Problem
from aezoo.plugins.registry import suggestion


def validation_error(text: str) -> PydanticCustomError:
    """Returns an error for a validator to raise: pydantic adds the path and keeps `text` as it is."""
    return PydanticCustomError("aezoo", "{text}", {"text": text})


def problems(cls: type[BaseModel], data: object, error: ValidationError) -> Iterator[Problem]:
    """Every mistake that pydantic found, with its path in the document."""
    found: dict[str, list[str]] = {}
    for details in error.errors(include_url=False):
        context = details.get("ctx", {})
        if details["type"] == "too_short" and len(details["input"]) >= context["min_length"]:
            # pydantic does not count entries that have errors of their own.
            continue
        # Members of a union report the same path.
        found.setdefault(_path(data, details), []).append(_message(cls, data, details))
    return (Problem(path, "; or ".join(messages)) for path, messages in found.items())


def _path(data: object, details: ErrorDetails) -> str:
    """The dotted path of a mistake, without the names that pydantic gives to a union's members."""
    path: list[str] = []
    for part in details["loc"]:
        if isinstance(part, int):
            items = cast(list[object], data) if isinstance(data, list | tuple) else []
            data = items[part] if part < len(items) else None
        else:
            fields = cast(dict[str, object], data) if isinstance(data, dict) else {}
            if part not in fields and part != "kind" and details["type"] != "missing":
                continue
            data = fields.get(part)
        path.append(str(part))
    return ".".join(path)


def _message(cls: type[BaseModel], data: object, details: ErrorDetails) -> str:
    if details["type"] == "extra_forbidden":
        owner = _class_at(cls, data, details["loc"][:-1])
        known = sorted(owner.model_fields, key=lambda name: name != "kind") if owner else []
        word = str(details["loc"][-1])
        return f"unknown key{suggestion(word, known)}; known are {', '.join(known)}"
    if details["type"] == "missing":
        return "missing"
    if details["type"] == "aezoo":
        return details["msg"]
    if details["type"] == "model_type":
        return f"expected a mapping, found {abbreviate(details['input'])}"
    if details["type"] in ("too_short", "too_long"):
        limit = details.get("ctx", {})
        most = f"most {limit['max_length']}" if "max_length" in limit else f"least {limit['min_length']}"
        return f"expected at {most} entries, found {len(details['input'])}"
    text = details["msg"].replace("Input should be", "expected").replace("a valid ", "a ")
    text = text.replace("a integer", "an integer").replace("tuple", "list")
    return f"{text[:1].lower()}{text[1:]}, found {abbreviate(details['input'])}"


def abbreviate(value: object) -> str:
    """The `repr` of a value, cut to 60 characters."""
    text = repr(list(cast(tuple[object, ...], value)) if isinstance(value, tuple) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _class_at(cls: type[BaseModel], data: object, path: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The spec class that validates the value at a path of a document, or None."""
    here: type[BaseModel] | None = cls
    for part in path:
        try:
            data = cast(Any, data)[part]
        except (KeyError, IndexError, TypeError):
            return None
        if isinstance(part, str) and here is not None:
            field = here.model_fields.get(part)
            here = _spec_in(field.annotation) if field else None
        # A root class selects the concrete class by `kind`.
        class_for = getattr(here, "class_for", None)
        if class_for is not None and isinstance(data, dict):
            here = class_for(data)
    return here


def _spec_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _spec_in(part))), None)
