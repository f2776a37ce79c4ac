"""Residual blocks: the sum, and names that pass through them."""

from typing import Any

import pytest
import torch

import aezoo
from tests.examples import small_spec
from tests.model.layers.modules import build_layer, normal

LINEAR = {"kind": "linear", "out_features": 6, "activation": "relu", "repeat": 2}


def pool(name: str) -> dict[str, Any]:
    return {"kind": "max_pool", "kernel_size": 2, "switches": name}


def unpool(name: str) -> dict[str, Any]:
    return pool(name) | {"kind": "max_unpool"}


def test_the_input_is_added() -> None:
    block, h = build_layer("residual", (6,), layers=[LINEAR]), normal((6,))
    assert torch.equal(block(h), h + block.inner(h))
    assert len(block.inner) == 2


def test_the_activation_follows_the_sum() -> None:
    block, h = build_layer("residual", (6,), layers=[LINEAR], activation="tanh"), normal((6,))
    assert torch.equal(block(h), torch.tanh(h + block.inner(h)))


@pytest.mark.parametrize("training", [True, False])
def test_switches_inside_residuals_reach_both_sides(training: bool) -> None:
    encoder = [{"kind": "residual", "layers": [pool("b"), unpool("b")]}, pool("a")]
    decoder = [unpool("a"), {"kind": "residual", "layers": [pool("c"), unpool("c")]}]
    spec = small_spec(input={"shape": [1, 6, 6], "range": [0, 1]}, encoder=encoder, decoder=decoder)
    ae = aezoo.build(spec).train(training)
    x = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    out = ae(x)
    assert set(out.aux) >= {"a.indices", "b.indices", "c.indices"}
    # Each residual doubles the maxima; everything else is zero.
    assert torch.equal(out.x_hat, torch.where(out.x_hat != 0, 4 * x, 0.0))
    assert int((out.x_hat != 0).sum()) == 27


def test_a_nested_layer_needs_what_a_layer_outside_emits() -> None:
    inner = {"kind": "residual", "layers": [unpool("a"), pool("b")]}
    spec = small_spec(encoder=[pool("a"), inner], decoder=[unpool("a")])
    ae = aezoo.build(spec)
    assert (ae.encoder.emits, ae.encoder.needs) == (("a.indices", "a.sizes", "b.indices", "b.sizes"), ())
    h, aux = torch.rand(2, 1, 6, 6), {}
    pooled = ae.encoder[0](h, aux)
    assert torch.equal(ae.encode(h), 2 * pooled)
    assert list(ae.shapes) == [
        "encoder.0",
        "encoder.1.layers.0",
        "encoder.1.layers.1",
        "encoder.1",
        "decoder.0",
    ]
