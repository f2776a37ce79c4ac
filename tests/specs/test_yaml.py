"""YAML 1.2 in and out: data with line numbers, and the documents that are rejected."""

from pathlib import Path
from typing import Any

import pytest

import aezoo
from aezoo.specs.yaml import Document
from tests.examples import small_spec


def parsed(text: str) -> Any:
    return Document(text, "x.yaml").data


def test_scalars_are_those_of_yaml_1_2() -> None:
    text = "{a: 1e-3, b: on, c: 010, d: 1:30, e: ~, f: true, g: -2.5, h: 2001-01-01, i: .5, j: 'x', k: 1_000}"
    assert parsed(text) == {
        "a": 0.001, "b": "on", "c": 10, "d": "1:30", "e": None, "f": True, "g": -2.5, "h": "2001-01-01",
        "i": 0.5, "j": "x", "k": "1_000",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3", 3, "a: duplicate key"),
        ("a: {b: 1,\n b: 2}", 2, "a.b: duplicate key"),
        ("a: &x [1]\nb: *x", 2, "aliases are not supported"),
        ("a: [1, 2", 1, "invalid YAML"),
        (
            "a: !!python/object:os.system x",
            1,
            "tags are not supported, found 'tag:yaml.org,2002:python/object",
        ),
        ("? [a, b]\n: 1", 1, "expected a key of at most 100 characters, found a list or a mapping"),
        (f"a: {'9' * 5000}", 1, "a: number has too many digits (5,000)"),
        ("[" * 100 + "]" * 100, 1, "nested deeper than 40 levels"),
        ("[1, 2]", 1, "expected a mapping, found list"),
        ("", 1, "expected a mapping, found NoneType"),
        ("a: 1\n---\nb: 2", 2, "expected a single document"),
    ],
)
def test_an_invalid_document_is_rejected_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(aezoo.SpecError) as error:
        Document(text, "x.yaml").as_spec(aezoo.VariantSpec)
    assert str(error.value).startswith(f"x.yaml:{line}: ")
    assert words in str(error.value)


def test_nested_aliases_are_rejected_before_they_expand() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    with pytest.raises(aezoo.SpecError, match="aliases are not supported"):
        parsed("\n".join(lines))


def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(aezoo.SpecError, match=r"none\.yaml: No such file"):
        aezoo.read_spec(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: a\nsummary: \xe9t\xe9\n")
    with pytest.raises(aezoo.SpecError, match=r"latin\.yaml:2: not UTF-8"):
        aezoo.read_spec(tmp_path / "latin.yaml")
    (tmp_path / "huge.yaml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(aezoo.SpecError, match="larger than 1,000,000 bytes"):
        aezoo.read_spec(tmp_path / "huge.yaml")


@pytest.mark.parametrize("text", ["1e3", "0x1", "yes", "null", "~", "1_000", "2001-01-01", "a\x85b", "{a}"])
def test_text_reads_back_as_text(text: str) -> None:
    assert parsed(aezoo.to_yaml(small_spec(references=[text])))["references"] == [text]
