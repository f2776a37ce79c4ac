"""Specs as files: YAML in and out, the JSON Schema for editors, and the canonical form that is hashed."""

import os
import re
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from aezoo.errors import Problem, SpecError
from aezoo.specs.base import Spec, check
from aezoo.specs.messages import abbreviate
from aezoo.specs.schema import migrate
from aezoo.specs.variant import VariantSpec

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_NODES = 20_000
MAX_KEY = 100

S = TypeVar("S", bound=Spec)


class Document:
    """A YAML file as plain data that remembers its lines.

    Attributes:
        source: the file's name, as errors show it.
        data: dicts, lists, text, numbers, booleans and None.
        lines: dotted path -> line of the value, from 1; the empty path is the whole document.
    """

    def __init__(self, text: str, source: str) -> None:
        """Parses YAML 1.2's core schema (`1e-3` is a number, `on` is text) without anchors.

        Raises:
            SpecError: not YAML, a duplicate key, an alias or a tag, nested too deeply, or too many values.
        """
        self.source = source
        self.lines: dict[str, int] = {}
        loader: Any = None
        try:
            loader = _Loader(text)
            root = loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = cast(Any, error.problem_mark or error.context_mark)
            if mark and error.context_mark and mark.index >= len(text.rstrip()):
                # What was opened and never closed: where it begins, not where the file ends.
                mark = error.context_mark
            what = " ".join(part for part in (error.context, error.problem) if part)
            raise self._error("", f"not YAML: {what}", mark.line + 1 if mark else None) from error
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise self._error("", f"not YAML: {str(error).splitlines()[0]}", line) from error
        except (ValueError, OverflowError) as error:
            # An escape that stands for no character, or a version of thousands of digits.
            raise self._error("", f"not YAML: {str(error).splitlines()[0]}", loader.line + 1) from error
        self.data = self._value(root, ())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Document":
        """Reads a file of at most 1 MB in UTF-8.

        Raises:
            SpecError: the file cannot be read as such.
        """
        path = Path(path)
        source = str(path)
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise SpecError([Problem("", error.strerror or str(error))], source) from error
        if len(raw) > MAX_BYTES:
            raise SpecError([Problem("", f"larger than {MAX_BYTES:,} bytes, which no spec is")], source)
        try:
            return cls(raw.decode("utf-8"), source)
        except UnicodeDecodeError as error:
            line = raw[: error.start].count(b"\n") + 1
            raise SpecError([Problem("", "not UTF-8", line)], source) from error

    def as_spec(self, cls: type[S]) -> S:
        """Checks the data against a spec class.

        Raises:
            SpecError: every mistake with file, line and path.
        """
        if not isinstance(self.data, dict):
            raise self._error("", f"expected a mapping, found {type(self.data).__name__}", 1)
        try:
            return check(cls, migrate(cast(dict[str, Any], self.data)))
        except SpecError as error:
            raise error.locate(self.source, self.lines) from error

    def _error(self, path: str, message: str, line: int | None) -> SpecError:
        return SpecError([Problem(path, message, line)], self.source)

    def _value(self, node: yaml.Node | None, path: tuple[str, ...]) -> object:
        if node is None:
            return None
        if len(path) > MAX_DEPTH:
            raise self._error("", f"nested deeper than {MAX_DEPTH} levels", node.start_mark.line + 1)
        self.lines[".".join(path)] = node.start_mark.line + 1
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, str(i))) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            found: dict[str, object] = {}
            for key_node, value_node in node.value:
                key = key_node.value
                if not isinstance(key, str) or not key.isprintable() or len(key) > MAX_KEY:
                    what = abbreviate(key) if isinstance(key, str) else f"a {key_node.id}"
                    text = f"expected a key of at most {MAX_KEY} letters, found {what}"
                    raise self._error(".".join(path), text, key_node.start_mark.line + 1)
                if key in found:
                    where = ".".join((*path, key))
                    raise self._error(where, "the key stands here twice", key_node.start_mark.line + 1)
                found[key] = self._value(value_node, (*path, key))
                self.lines[".".join((*path, key))] = key_node.start_mark.line + 1
            return found
        try:
            return _scalar(node)
        except ValueError as error:
            text = f"expected a number of few digits, found {len(node.value):,} of them"
            raise self._error(".".join(path), text, node.start_mark.line + 1) from error


def _scalar(node: yaml.Node) -> object:
    text, tag = str(node.value), node.tag.rpartition(":")[2]
    if tag == "null":
        return None
    if tag == "bool":
        return text.lower() == "true"
    if tag == "int":
        return int(text)
    if tag == "float":
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars, no tags, and no aliases: a few lines of them can stand for gigabytes.

    PyYAML follows YAML 1.1, where `1e-3` is text, `no` is false and `1:30` is ninety.
    """

    depth = 0
    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        event = cast(Any, self).peek_event()
        mark = event.start_mark
        problem: str | None = None
        # Composing recurses, so that the limits must hold here, before the data exist.
        self.depth += 1
        self.nodes += 1
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases are not read"
        elif event.tag is not None:
            problem = f"the tag {abbreviate(event.tag)} is not read"
        elif self.depth > MAX_DEPTH:
            problem = f"nested deeper than {MAX_DEPTH} levels"
        elif self.nodes > MAX_NODES:
            problem = f"more than {MAX_NODES:,} values, which no spec has"
        if problem is not None:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        node = cast(Any, super()).compose_node(parent, index)
        self.depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
     list("-+.0123456789")),
):  # fmt: skip
    cast(Any, _Loader).add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first
    )


def read_spec(path: str | os.PathLike[str]) -> VariantSpec:
    """Reads a `spec.yaml`.

    Raises:
        SpecError: every mistake with file, line and path.
    """
    return Document.read(path).as_spec(VariantSpec)


def to_yaml(spec: Spec) -> str:
    """A spec as short YAML that reads back as the same spec."""
    data = spec.model_dump(mode="json", exclude_defaults=True)
    head = ("name", "summary", "references")
    data = {key: data[key] for key in (*(k for k in head if k in data), *(k for k in data if k not in head))}
    return yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
    )


class _Dumper(yaml.SafeDumper):
    """Quotes what only YAML 1.1 readers would take for something else."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # `1e3` is text to PyYAML and a number here; breaks that ASCII does not know would become spaces.
        taken = cast(Any, _Loader).yaml_implicit_resolvers.get(data[:1], [])
        plain = data.isprintable() and not any(pattern.match(data) for _, pattern in taken)
        style = None if plain else '"'
        return cast(Any, self).represent_scalar("tag:yaml.org,2002:str", data, style=style)


cast(Any, _Dumper).add_representer(str, _Dumper.represent_str)
