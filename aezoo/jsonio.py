"""JSON: strict reading, readable writing, and the canonical form that is hashed."""

import json
import math
import re
from pathlib import Path
from typing import Any, cast

from aezoo.errors import CheckpointError


def canonical_json(data: object) -> str:
    """Serialize plain data for hashing: sorted keys, no spaces, no NaN."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def pretty_json(data: object) -> bytes:
    """Serialize plain data for people: innermost lists and objects of up to 400 characters take one line.

    Raises:
        CheckpointError: the data contain NaN, infinity or values that JSON does not have.
    """
    try:
        text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            "write-failed", f"a record cannot be written as JSON: {error}; not saved"
        ) from error
    # JSON strings contain no raw line breaks, so that the expression never matches inside one.
    text = re.sub(r"([\[{])\n\s*([^\[\]{}]*?)\n\s*([\]}])", _join_lines, text)
    return (text + "\n").encode()


def _join_lines(match: re.Match[str]) -> str:
    inner = re.sub(r"\n\s*", " ", match[2])
    return f"{match[1]}{inner}{match[3]}" if len(inner) <= 400 else match[0]


def strict_json(raw: bytes, path: Path) -> dict[str, Any]:
    """Parse a JSON object; duplicate keys, NaN, infinity and invalid UTF-8 are refused.

    Args:
        raw: the bytes to parse.
        path: the file to name in errors.

    Raises:
        CheckpointError: `raw` is not such an object.
    """
    try:
        data: object = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_finite,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            "invalid-config", f"{path} is not valid JSON: {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(data, dict):
        raise CheckpointError("invalid-config", f"{path}: expected an object, found {type(data).__name__}")
    return cast(dict[str, Any], data)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"duplicate key {key!r}")
        found[key] = value
    return found


def _finite(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(f"{word} is not a finite number")
    return value
