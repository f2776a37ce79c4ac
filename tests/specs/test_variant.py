"""Variants: `repeat` and defaults written out."""

from typing import Any

from tests.examples import small_spec


def test_resolving_writes_out_every_repeat_and_default() -> None:
    nested = {"kind": "residual", "layers": [{"kind": "linear", "out_features": 8, "repeat": 2}], "repeat": 2}
    spec = small_spec(encoder=["flatten", {"kind": "linear", "out_features": 8}, nested])
    resolved: Any = spec.resolved()
    assert [layer.kind_name for layer in resolved.encoder] == ["flatten", "linear", "residual", "residual"]
    assert len(resolved.encoder[2].layers) == 2
    assert all(layer.repeat == 1 for layer in resolved.encoder)
    assert resolved.resolved() == resolved
    assert resolved.model_dump(mode="json")["encoder"][1]["activation"] is None
