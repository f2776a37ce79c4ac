"""YAML files: documents that remember their line numbers, and specs as short YAML.

PyYAML splits the text into events; this module builds plain data from them. It resolves scalars by the core
schema of YAML 1.2, where `1e-3` is a number and `on`, `no` and `1:30` are text, and refuses what could make a
small file expensive: aliases, tags, deep nesting and very many values.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from aezoo.errors import Problem, SpecError
from aezoo.files import read_limited
from aezoo.specs.base import Spec, check
from aezoo.specs.messages import abbreviate
from aezoo.specs.schema import migrate
from aezoo.specs.variant import VariantSpec

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_NODES = 20_000
MAX_KEY = 100

S = TypeVar("S", bound=Spec)

WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
INT = re.compile(r"[-+]?[0-9]+")
FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


class Document:
    """A YAML document as plain data, with line numbers.

    Attributes:
        source: file name shown in errors.
        data: dicts, lists, strings, numbers, booleans and None.
        lines: dotted path -> line of the value, counted from 1; the empty path is the whole document.
    """

    def __init__(self, text: str, source: str) -> None:
        """Parses one document.

        Raises:
            SpecError: invalid YAML, a duplicate key, an alias, a tag, too deep nesting or too many values.
        """
        self.source = source
        self.lines: dict[str, int] = {}
        self._nodes = 0
        self.data: object = None
        events = self._events(text)
        next(events)  # start of the stream
        # An empty file has no document.
        if isinstance(next(events), yaml.DocumentStartEvent):
            self.data = self._value(next(events), events, ())
            next(events)  # end of the document
            if not isinstance(event := next(events), yaml.StreamEndEvent):
                raise self._error("", "expected a single document", event.start_mark.line + 1)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Document":
        """Reads a file of at most 1 MB in UTF-8.

        Raises:
            SpecError: the file is missing, too large, not UTF-8 or not a valid document.
        """
        path = Path(path)
        source = str(path)
        try:
            raw = read_limited(path, MAX_BYTES + 1)
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            reason = error.strerror if isinstance(error, OSError) else None
            raise SpecError([Problem("", reason or str(error))], source) from error
        if len(raw) > MAX_BYTES:
            raise SpecError([Problem("", f"larger than {MAX_BYTES:,} bytes, the limit for a spec")], source)
        try:
            return cls(raw.decode("utf-8"), source)
        except UnicodeDecodeError as error:
            line = raw[: error.start].count(b"\n") + 1
            raise SpecError([Problem("", "not UTF-8", line)], source) from error

    def as_spec(self, cls: type[S]) -> S:
        """Validates the data against a spec class.

        Raises:
            SpecError: every mistake with file, line and path.
        """
        if not isinstance(self.data, dict):
            raise self._error("", f"expected a mapping, found {type(self.data).__name__}", 1)
        try:
            return check(cls, migrate(cast(dict[str, Any], self.data)))
        except SpecError as error:
            raise error.locate(self.source, self.lines) from error

    def _events(self, text: str) -> Iterator[Any]:
        """Events of PyYAML's parser.

        Raises:
            SpecError: invalid YAML.
        """
        parser: Any = None
        try:
            parser = yaml.SafeLoader(text)
            while parser.check_event():
                yield parser.get_event()
        except yaml.MarkedYAMLError as error:
            mark = cast(Any, error.problem_mark or error.context_mark)
            if error.context_mark and mark.index >= len(text.rstrip()):
                # An unclosed bracket or quote: report where it was opened, not the end of the file.
                mark = error.context_mark
            what = " ".join(part for part in (error.context, error.problem) if part)
            raise self._error("", f"invalid YAML: {what}", mark.line + 1) from error
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise self._error("", f"invalid YAML: {str(error).splitlines()[0]}", line) from error
        except (ValueError, OverflowError) as error:
            # An escape outside Unicode, or a version directive with thousands of digits.
            raise self._error("", f"invalid YAML: {str(error).splitlines()[0]}", parser.line + 1) from error

    def _error(self, path: str, message: str, line: int) -> SpecError:
        return SpecError([Problem(path, message, line)], self.source)

    def _check(self, event: Any, depth: int) -> int:
        """Checks the event that begins a value or a key, and returns its line."""
        line: int = event.start_mark.line + 1
        self._nodes += 1
        if isinstance(event, yaml.AliasEvent):
            raise self._error("", "aliases are not supported", line)
        if event.tag is not None:
            raise self._error("", f"tags are not supported, found {abbreviate(event.tag)}", line)
        if depth > MAX_DEPTH:
            raise self._error("", f"nested deeper than {MAX_DEPTH} levels", line)
        if self._nodes > MAX_NODES:
            raise self._error("", f"more than {MAX_NODES:,} values, the limit for a spec", line)
        return line

    def _value(self, event: Any, events: Iterator[Any], path: tuple[str, ...]) -> object:
        line = self._check(event, len(path) + 1)
        # The line of a mapping's value is that of its key.
        self.lines.setdefault(".".join(path), line)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(events, path)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[object] = []
            while not isinstance(event := next(events), yaml.SequenceEndEvent):
                items.append(self._value(event, events, (*path, str(len(items)))))
            return items
        try:
            return _scalar(event.value) if event.implicit[0] else event.value
        except ValueError as error:
            text = f"number has too many digits ({len(event.value):,})"
            raise self._error(".".join(path), text, line) from error

    def _mapping(self, events: Iterator[Any], path: tuple[str, ...]) -> dict[str, object]:
        found: dict[str, object] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            line = self._check(event, len(path) + 2)
            key = event.value if isinstance(event, yaml.ScalarEvent) else None
            if key is None or not key.isprintable() or len(key) > MAX_KEY:
                what = "a list or a mapping" if key is None else abbreviate(key)
                text = f"expected a key of at most {MAX_KEY} characters, found {what}"
                raise self._error(".".join(path), text, line)
            here = ".".join((*path, key))
            if key in found:
                raise self._error(here, "duplicate key", line)
            self.lines[here] = line
            found[key] = self._value(next(events), events, (*path, key))
        return found


def _scalar(text: str) -> object:
    """The value of a scalar without quotes.

    Raises:
        ValueError: an integer of more digits than Python converts.
    """
    if text in WORDS:
        return WORDS[text]
    if INT.fullmatch(text):
        return int(text)
    if FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def read_spec(path: str | os.PathLike[str]) -> VariantSpec:
    """Reads a `spec.yaml`.

    Raises:
        SpecError: every mistake with file, line and path.
    """
    return Document.read(path).as_spec(VariantSpec)


def to_yaml(spec: Spec) -> str:
    """A spec as short YAML, without defaults, that reads back as the same spec."""
    data = spec.model_dump(mode="json", exclude_defaults=True)
    head = {key: data[key] for key in ("name", "summary", "references") if key in data}
    data = {**head, **data}
    return yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
    )


class _Dumper(yaml.SafeDumper):
    """Quotes text that a YAML 1.1 or 1.2 reader would take for another type."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # PyYAML quotes for YAML 1.1, where `1e3` is text. It writes line breaks outside ASCII as spaces.
        plain = data.isprintable() and data not in WORDS and not FLOAT.fullmatch(data)
        return cast(Any, self).represent_scalar("tag:yaml.org,2002:str", data, style=None if plain else '"')


cast(Any, _Dumper).add_representer(str, _Dumper.represent_str)
