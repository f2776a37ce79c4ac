"""Linear layers: the order of the steps, and columns of length 1."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import aezoo
from tests.examples import small_spec
from tests.model.layers.modules import build_layer, normal


def test_steps_follow_the_weights_in_order() -> None:
    layer = build_layer("linear", (2,), out_features=3, norm="layer_norm", activation="relu", dropout=0.1)
    assert [type(module) for module in layer] == [nn.Linear, nn.LayerNorm, nn.ReLU, nn.Dropout]
    assert [name for name, _ in layer.named_children()] == ["linear", "norm", "activation", "dropout"]


def unit_norm(**options: Any) -> Any:
    return build_layer("unit_norm_linear", (7,), out_features=5, **options).get_submodule("linear")


def lengths(linear: Any) -> Tensor:
    return linear.weight.detach().double().norm(dim=0)


def test_columns_have_length_1_when_built() -> None:
    linear = unit_norm()
    assert tuple(linear.weight.shape) == (5, 7)
    torch.testing.assert_close(lengths(linear), torch.ones(7, dtype=torch.float64), rtol=1e-6, atol=0)


def test_output_does_not_depend_on_the_length_of_the_columns() -> None:
    linear = unit_norm(bias=False).double()
    identity = torch.eye(7, dtype=torch.float64)
    expected = linear(identity)
    with torch.no_grad():
        linear.weight *= torch.arange(1.0, 8.0)
    torch.testing.assert_close(linear(identity), expected)
    torch.testing.assert_close(expected.norm(dim=1), torch.ones(7, dtype=torch.float64))
    linear.after_step()
    torch.testing.assert_close(linear.weight.T, expected)


def test_gradient_is_orthogonal_to_the_columns() -> None:
    linear = unit_norm().double()
    (linear(normal((7,)).double()) ** 2).sum().backward()
    along = (linear.weight.grad * linear.weight.detach()).sum(0)
    assert linear.weight.grad.norm(dim=0).min() > 0.1
    assert along.abs().max() < 1e-12


def test_column_of_length_0_stays_finite() -> None:
    linear = unit_norm()
    with torch.no_grad():
        linear.weight[:, 2] = 0.0
    linear.after_step()
    linear(normal((7,))).sum().backward()
    assert linear.weight.isfinite().all()
    assert linear.weight.grad.isfinite().all()


@pytest.mark.parametrize("tie", [False, True])
def test_columns_have_length_1_after_training(tie: bool) -> None:
    spec = small_spec(
        decoder=[{"kind": "unit_norm_linear", "out_features": 36}, {"kind": "unflatten", "shape": [1, 6, 6]}]
    ).replace({
        "recipe.threads": 1,
        "recipe.stages.0.tie": tie,
        "recipe.stages.0.optimizer": {"kind": "adam", "lr": 0.1},
    })  # fmt: skip
    x = torch.rand(60, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    linear: Any = aezoo.train(spec, x, device="cpu", progress=False).decoder[0].get_submodule("linear")
    before: Any = aezoo.build(spec).decoder[0].get_submodule("linear")
    assert not torch.allclose(linear.weight, before.weight, atol=0.05)
    torch.testing.assert_close(lengths(linear), torch.ones(8, dtype=torch.float64), rtol=1e-6, atol=0)
