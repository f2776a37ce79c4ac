"""JSON is parsed strictly and written readably."""

import json
import math
from pathlib import Path

import pytest

from aezoo.jsonio import canonical_json, pretty_json, strict_json
from tests.raising import raises


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "is not valid JSON"),
        (b"{", "is not valid JSON"),
        (b"{} {}", "is not valid JSON"),
        (b"\xff\xfe{}", "is not valid JSON"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "duplicate key 'c'"),
        (b'{"a": NaN}', "NaN is not a finite number"),
        (b'{"a": [-Infinity]}', "-Infinity is not a finite number"),
        (b'{"a": 1e999}', "1e999 is not a finite number"),
        (b"[1]", "expected an object, found list"),
        (b"null", "expected an object, found NoneType"),
        (b'{"a":' * 100_000, "is not valid JSON"),
        (b'{"a":' + b"1" * 10_000 + b"}", "is not valid JSON"),
    ],
    ids=["empty", "open", "two", "utf-16", "twice", "nan", "infinity", "overflow", "list", "null", "deep", "digits"],
)  # fmt: skip
def test_invalid_json_is_refused_in_one_line(raw: bytes, words: str) -> None:
    with raises("invalid-config", match=r"^x\.json") as caught:
        strict_json(raw, Path("x.json"))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_valid_json_is_parsed() -> None:
    text = '{"a": [1, 2.5, true, null, "ä"], "b": {"a": {}}}'
    assert strict_json(text.encode(), Path("x.json")) == json.loads(text)


def test_innermost_lists_and_objects_take_one_line() -> None:
    data = {"a": [1, 2], "b": {"c": {"d": "x\ny"}}, "long": ["x" * 300, "y" * 300]}
    lines = pretty_json(data).decode().splitlines()
    assert lines[:2] == ["{", ' "a": [1, 2],']
    assert len(lines) == 10
    assert strict_json(pretty_json(data), Path("x.json")) == data


@pytest.mark.parametrize("value", [math.nan, math.inf, object()])
def test_what_json_does_not_have_is_not_written(value: object) -> None:
    with raises("write-failed", match="cannot be written as JSON: .*; not saved"):
        pretty_json({"a": value})


def test_the_canonical_form_is_one_for_equal_data() -> None:
    assert canonical_json({"b": 1, "a": [True, "ä"]}) == canonical_json({"a": [True, "ä"], "b": 1})
    assert canonical_json({"b": 1, "a": "ä"}) == '{"a":"ä","b":1}'
