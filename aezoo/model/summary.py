"""The network: two stacks of layers, what they give, and what a trained one knows about itself."""

from typing import NamedTuple, cast

from aezoo.specs.components import LayerSpec


class LayerRow(NamedTuple):
    """A line of the table that `print(ae)` shows."""

    path: str
    kind: str
    input: tuple[int, ...]
    output: tuple[int, ...]
    parameters: int


def describe_layer(spec: LayerSpec) -> str:
    """A layer's kind with whatever was set on it, in one short phrase."""
    data = spec.model_dump(mode="json", exclude_defaults=True)
    parts = [f"{k}={_short(v)}" for k, v in data.items() if k != "kind"]
    text = f"{spec.kind_name}({', '.join(parts)})" if parts else str(spec.kind_name)
    return text if len(text) <= 72 else f"{text[:69]}..."


def _short(value: object) -> str:
    if isinstance(value, dict):
        data = cast(dict[str, object], value)
        return str(data["kind"]) if "kind" in data else "{...}"
    items = cast(list[object], value) if isinstance(value, list) else []
    if any(isinstance(item, dict) for item in items):
        return f"[{len(items)} layers]"
    return str(cast(object, value))


def format_shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
