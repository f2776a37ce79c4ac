"""pydantic's errors as one line each: the path, what was expected, what was found, a suggestion."""

from collections.abc import Iterator
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from aezoo.errors import Problem
from aezoo.plugins.registry import suggestion


def validation_error(text: str) -> PydanticCustomError:
    """An error for a validator to raise: pydantic adds the path, and `text` is shown as it is."""
    return PydanticCustomError("aezoo", "{text}", {"text": text})


def problems(cls: type[BaseModel], data: object, error: ValidationError) -> Iterator[Problem]:
    """Every mistake that pydantic found, in aezoo's words."""
    unions: dict[str, list[tuple[str, ErrorDetails]]] = {}
    for details in error.errors(include_url=False):
        path, union = _place(data, details)
        if union is None:
            yield Problem(path, _message(cls, data, details))
        else:
            unions.setdefault(union, []).append((path, details))
    for union, found in unions.items():
        yield _of_union(cls, data, union, found)


def _place(data: object, details: ErrorDetails) -> tuple[str, str | None]:
    """The path of a mistake, and that of the value that may be of several types, if it lies in one.

    pydantic names the types it tried within the path, as in `kernel_size.constrained-int`.
    """
    path: list[str] = []
    union: str | None = None
    for part in details["loc"]:
        if isinstance(part, int):
            items = cast(list[object], data) if isinstance(data, list | tuple) else []
            data = items[part] if part < len(items) else None
        else:
            fields = cast(dict[str, object], data) if isinstance(data, dict) else {}
            if part not in fields and part != "kind" and details["type"] != "missing":
                union = ".".join(path)
                continue
            data = fields.get(part)
        path.append(str(part))
    return ".".join(path), union


def _of_union(
    cls: type[BaseModel], data: object, union: str, found: list[tuple[str, ErrorDetails]]
) -> Problem:
    """What is wrong with a value by the type that it comes nearest to; else every type that it may have."""
    near = [
        (path, details)
        for path, details in found
        if path != union or not details["type"].endswith(("_type", "literal_error"))
    ]
    if near:
        path, details = near[0]
        return Problem(path, _message(cls, data, details))
    messages = [_message(cls, data, details) for _, details in found]
    expected = [text.removeprefix("expected ").rpartition(", found ")[0] for text in messages]
    value = abbreviate(found[0][1]["input"])
    return Problem(union, f"expected {', '.join(expected[:-1])} or {expected[-1]}, found {value}")


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
    if details["type"] == "too_long":
        found = cast(dict[str, Any], details.get("ctx"))
        return f"expected at most {found['max_length']} entries, found {len(details['input'])}"
    text = details["msg"].replace("Input should be", "expected").replace("a valid ", "a ")
    text = text.replace("a integer", "an integer").replace("tuple", "list")
    return f"{text[:1].lower()}{text[1:]}, found {abbreviate(details['input'])}"


def abbreviate(value: object) -> str:
    """A value as an error shows it: short, and telling text from numbers."""
    text = repr(list(cast(tuple[object, ...], value)) if isinstance(value, tuple) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _class_at(cls: type[BaseModel], data: object, path: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The spec class that reads what lies at a path of a document; None where there is none."""
    here: type[BaseModel] | None = cls
    for part in path:
        try:
            data = cast(Any, data)[part]
        except (KeyError, IndexError, TypeError):
            return None
        if isinstance(part, str) and here is not None:
            field = here.model_fields.get(part)
            here = _spec_in(field.annotation) if field else None
        # A family's abstract class looks the concrete one up by `kind`.
        class_for = getattr(here, "class_for", None)
        if class_for is not None and isinstance(data, dict):
            here = class_for(data)
    return here


def _spec_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _spec_in(part))), None)
