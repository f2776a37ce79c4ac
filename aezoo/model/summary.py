"""The table of layers that `print(ae)` and notebooks show."""

import html
from collections.abc import Sequence
from typing import NamedTuple, cast

from aezoo.specs.components import LayerSpec

HEAD = ("layer", "kind", "output", "parameters")
MAX_DESCRIPTION = 72
"""Largest number of characters in a layer's description; a longer one is cut."""


class LayerRow(NamedTuple):
    """One layer: its path, its kind with its options, shapes without the batch axis, parameter count."""

    path: str
    kind: str
    input: tuple[int, ...]
    output: tuple[int, ...]
    parameters: int


def as_text(title: str, rows: Sequence[LayerRow]) -> str:
    """The table as aligned text under its title."""
    cells = [HEAD, *((r.path, r.kind, format_shape(r.output), f"{r.parameters:,}") for r in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(["", *map(str.ljust, row[:3], widths[:3]), row[3].rjust(widths[3])]).rstrip()
        for row in cells
    ]
    return "\n".join([title, *lines])


def as_html(title: str, rows: Sequence[LayerRow]) -> str:
    """The table as HTML, with everything that a spec says escaped."""
    head = "".join(f"<th>{name}</th>" for name in HEAD)
    body = "".join(
        f"<tr><td>{html.escape(r.path)}</td><td>{html.escape(r.kind)}</td>"
        f"<td>{format_shape(r.output)}</td><td style='text-align:right'>{r.parameters:,}</td></tr>"
        for r in rows
    )
    return f"<table><caption>{html.escape(title)}</caption><tr>{head}</tr>{body}</table>"


def describe_layer(spec: LayerSpec) -> str:
    """A layer's kind with every option that is not its default, in one short line."""
    options = spec.model_dump(mode="json", exclude_defaults=True)
    parts = [f"{name}={_short(value)}" for name, value in options.items() if name != "kind"]
    text = f"{spec.kind_name}({', '.join(parts)})" if parts else str(spec.kind_name)
    return text if len(text) <= MAX_DESCRIPTION else f"{text[: MAX_DESCRIPTION - 3]}..."


def _short(value: object) -> str:
    if isinstance(value, dict):
        return str(cast(dict[str, object], value).get("kind", "{...}"))
    if isinstance(value, list) and any(isinstance(item, dict) for item in cast(list[object], value)):
        return f"[{len(cast(list[object], value))} layers]"
    return str(cast(object, value))


def format_shape(shape: tuple[int, ...]) -> str:
    """A shape in words, such as `1 x 28 x 28`."""
    return " x ".join(map(str, shape))
