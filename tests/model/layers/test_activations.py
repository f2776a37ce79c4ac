"""Activations: every kind gives values within its bounds, and comes close to them."""

import math
from typing import Any

import pytest
import torch

from aezoo.specs.components import ActivationSpec

ACTIVATIONS: list[Any] = [
    "relu", "leaky_relu", {"kind": "leaky_relu", "negative_slope": 0.0}, {"kind": "elu", "alpha": 0.3}, "gelu",
    {"kind": "gelu", "approximate": "tanh"}, "silu", {"kind": "softplus", "beta": 3.0}, "sigmoid", "tanh",
]  # fmt: skip


def test_every_kind_is_tested() -> None:
    kinds = {one if isinstance(one, str) else one["kind"] for one in ACTIVATIONS}
    assert kinds == set(ActivationSpec.kinds())


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_bounds_are_tight(activation: Any) -> None:
    spec = ActivationSpec.model_validate(activation)
    low, high = spec.output_bounds()
    values = spec.build()(torch.linspace(-60, 60, 1_200_001, dtype=torch.float64))
    assert low <= values.min()
    assert values.max() <= high
    # Loose bounds would refuse losses that fit.
    assert math.isinf(low) or values.min() - low < 1e-3
    assert math.isinf(high) or high - values.max() < 1e-3


def test_options_reach_the_module() -> None:
    def values(activation: Any) -> list[float]:
        return ActivationSpec.model_validate(activation).build()(torch.tensor([-2.0, 3.0])).tolist()

    for activation in ACTIVATIONS:
        assert isinstance(activation, str) or values(activation) != values(activation["kind"])
    assert values({"kind": "leaky_relu", "negative_slope": 0.25}) == [-0.5, 3.0]
