"""JSON: strict reading, readable writing, and the canonical form that is hashed."""

import json
import math
import re
from pathlib import Path
from typing import Any, cast

from aezoo.errors import CheckpointError


def canonical_json(data: object) -> str:
    """The one spelling of plain data that is hashed: sorted keys, no spaces, no NaN."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def pretty_json(data: object) -> bytes:
    """JSON for people: lists and objects that hold nothing but plain values take one line."""
    try:
        text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            "write-failed", f"a record cannot be written as JSON: {error}; not saved"
        ) from error
    # A line break is never part of a JSON string, so this cannot touch one.
    text = re.sub(r"([\[{])\n\s*([^\[\]{}]*?)\n\s*([\]}])", _one_line, text)
    return (text + "\n").encode()


def _one_line(match: re.Match[str]) -> str:
    inner = re.sub(r"\n\s*", " ", match[2])
    return f"{match[1]}{inner}{match[3]}" if len(inner) <= 400 else match[0]


def strict_json(raw: bytes, path: Path) -> dict[str, Any]:
    """A JSON object without duplicate keys, NaN or infinity.

    Raises:
        ConfigError: anything else.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            keys = [key for key, _ in items]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise CheckpointError("invalid-config", f"{path}: the key {twice!r} stands there twice")
        return found

    def refuse(word: str) -> None:
        raise CheckpointError("invalid-config", f"{path}: {word} is no JSON number")

    def number(word: str) -> float:
        value = float(word)
        if math.isinf(value):
            refuse(word)
        return value

    try:
        data: object = json.loads(
            raw.decode("utf-8"), object_pairs_hook=pairs, parse_constant=refuse, parse_float=number
        )
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            "invalid-config", f"{path} is not JSON: {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(data, dict):
        raise CheckpointError("invalid-config", f"{path}: expected an object, found {type(data).__name__}")
    return cast(dict[str, Any], data)
