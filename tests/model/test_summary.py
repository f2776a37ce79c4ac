"""The table of layers, as text and as HTML."""

from typing import Literal

import pytest
from torch import nn

import aezoo
from aezoo.model.summary import describe_layer
from tests.examples import small, small_spec


def test_print_shows_every_layer_with_shapes_and_parameters() -> None:
    rows = [line.split() for line in str(aezoo.build(small_spec())).splitlines()]
    assert rows[0] == ["small:", "1", "x", "6", "x", "6", "->", "8", "latents,", "620", "parameters"]
    assert rows[1] == ["layer", "kind", "output", "parameters"]
    assert [(row[0], row[-1]) for row in rows[2:]] == [
        ("encoder.0", "0"), ("encoder.1", "296"), ("encoder.2", "0"), ("decoder.0", "324"), ("decoder.1", "0"),
    ]  # fmt: skip


def test_html_escapes_what_a_spec_says(fresh_registry: None) -> None:
    class NotedSpec(aezoo.LayerSpec):
        kind: Literal["noted"] = "noted"
        note: str

        def build(self, in_shape: tuple[int, ...]) -> nn.Module:
            return nn.Identity()

    aezoo.register(NotedSpec)
    data = small()
    data["encoder"].insert(1, {"kind": "noted", "note": "<script>"})
    ae = aezoo.build(aezoo.VariantSpec.model_validate(data))
    page = ae._repr_html_()  # pyright: ignore[reportPrivateUsage]
    assert page.startswith("<table>")
    assert page.count("<tr>") == 1 + len(ae.summary())
    assert "<td>linear(activation=leaky_relu, out_features=8)</td>" in page
    assert "noted(note=&lt;script&gt;)" in page
    assert "<script>" not in page


def test_repeated_layer_has_one_row_per_layer() -> None:
    data = small()
    data["encoder"][1]["repeat"] = 3
    table = aezoo.build(aezoo.VariantSpec.model_validate(data)).summary()
    assert [(row.path, row.input, row.output) for row in table][1:4] == [
        ("encoder.1", (36,), (8,)), ("encoder.2", (8,), (8,)), ("encoder.3", (8,), (8,)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("flatten", "flatten"),
        ({"kind": "conv", "out_channels": 2, "kernel_size": [3, 1]}, "conv(out_channels=2, kernel_size=[3, 1])"),
        ({"kind": "residual", "layers": ["flatten", "flatten"]}, "residual(layers=[2 layers])"),
        ({"kind": "max_pool", "kernel_size": 2, "switches": "a" * 32, "padding": 1},
         "max_pool(kernel_size=2, padding=1, switches=aaaaaaaaaaaaaaaaaaaaaaaaa..."),
    ],
)  # fmt: skip
def test_description_is_short(data: object, text: str) -> None:
    assert describe_layer(aezoo.LayerSpec.model_validate(data)) == text
