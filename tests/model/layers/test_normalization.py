"""Normalization and dropout against PyTorch's functions."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.model.layers.modules import build_layer, normal


@pytest.mark.parametrize(
    ("kind", "in_shape", "expected_module"),
    [
        ("batch_norm", (7,), lambda: nn.BatchNorm1d(7)),
        ("batch_norm", (3, 8), lambda: nn.BatchNorm1d(3)),
        ("batch_norm", (3, 4, 4), lambda: nn.BatchNorm2d(3)),
        ("batch_norm", (3, 2, 4, 4), lambda: nn.BatchNorm3d(3)),
        ("layer_norm", (7,), lambda: nn.LayerNorm(7)),
        ("layer_norm", (3, 8), lambda: nn.GroupNorm(1, 3)),
        ("layer_norm", (3, 4, 4), lambda: nn.GroupNorm(1, 3)),
    ],
    ids=lambda value: "" if callable(value) else str(value),
)
def test_normalization_equals_pytorch(
    kind: str, in_shape: tuple[int, ...], expected_module: Callable[[], nn.Module]
) -> None:
    layer, expected = build_layer(kind, in_shape), expected_module()
    for seed in (0, 1):
        h = 3 * normal(in_shape, seed=seed) + 1
        assert torch.equal(layer.train()(h), expected.train()(h))
        assert torch.equal(layer.eval()(h), expected.eval()(h))


def test_layer_norm_is_over_all_values_of_a_sample() -> None:
    out = build_layer("layer_norm", (3, 4, 4))(5 * normal((3, 4, 4)) + 2).flatten(1)
    torch.testing.assert_close(out.mean(1), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std(1, correction=0), torch.ones(6), atol=1e-4, rtol=0)


@pytest.mark.parametrize("p", [0.1, 0.75])
def test_dropout_drops_its_share_in_training_only(p: float) -> None:
    layer, h = build_layer("dropout", (5000,), p=p), torch.ones(4, 5000)
    torch.manual_seed(0)
    out = layer.train()(h)
    torch.manual_seed(0)
    assert torch.equal(out, nn.functional.dropout(h, p))
    assert float((out == 0).float().mean()) == pytest.approx(p, abs=5 * (p * (1 - p) / 20_000) ** 0.5)
    assert torch.equal(layer.eval()(h), h)
