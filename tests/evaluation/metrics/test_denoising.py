"""Metrics of denoising: errors on inputs with the recipe's noises."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from aezoo.data.noises import GaussianSpec, MaskingSpec
from aezoo.evaluation.metric import EVAL_SEED
from tests.evaluation.networks import (
    identity,
    keep,
    linear,
    measure,
    net,
    normal,
    uniform,
    value,
    values,
    without_recipe,
)

HALF = {"kind": "masking", "share": 0.5}
DENOISING = ("denoised_mse", "noisy_input_mse", "noisy_target_mse")


def test_a_network_that_copies_its_input_removes_no_noise() -> None:
    found = values(measure(identity(8, noises=[HALF]), torch.ones(6, 8)))
    # Half the ones of every sample are replaced by zero.
    assert [found[kind] for kind in DENOISING] == [0.5, 0.5, 0.0]
    assert found["mse"] == 0.0


def test_a_network_that_returns_the_clean_sample_removes_all_noise() -> None:
    ae = net((8,), [keep(8)], [linear(8)], noises=[HALF])
    ae.state_dict()["decoder.0.linear.weight"].zero_()
    ae.state_dict()["decoder.0.linear.bias"].fill_(1.0)
    found = values(measure(ae, torch.ones(6, 8)))
    assert [found[kind] for kind in DENOISING] == [0.0, 0.5, 0.5]


def test_denoising_is_measured_against_the_target() -> None:
    x, target = torch.ones(4, 6), torch.full((4, 6), 3.0)
    found = values(measure(identity(6, noises=[HALF]), x, target))
    # Half the inputs are 1, half are 0; the targets are 3.
    assert [found[kind] for kind in DENOISING] == [6.5, 6.5, 0.0]


@settings(max_examples=20, deadline=None)
@given(std=st.floats(0.01, 10), share=st.floats(0.01, 1), rows=st.integers(1, 20), seed=st.integers(0, 1000))
def test_all_noises_are_applied_in_order(std: float, share: float, rows: int, seed: int) -> None:
    noises = (GaussianSpec(std=std), MaskingSpec(share=share, value=3.0))
    x, generator = normal(rows, 5, seed=seed), Generator().manual_seed(EVAL_SEED)
    noisy = x
    for noise in noises:
        noisy = noise(noisy, generator)
    expected = float((noisy.double() - x.double()).square().mean())
    ae = identity(5, noises=[noise.model_dump() for noise in noises])
    for kind in DENOISING[:2]:
        assert value(ae, kind, x) == pytest.approx(expected, rel=1e-12, abs=1e-30)
    assert value(ae, "noisy_target_mse", x) == 0.0


def test_the_error_of_gaussian_noise_is_its_variance() -> None:
    n, std = 40_000, 0.3
    ae = identity(4, noises=[{"kind": "gaussian", "std": std}])
    measured = value(ae, "noisy_input_mse", torch.zeros(n // 4, 4))
    # Five standard errors; the variance of a squared normal variable is twice its variance squared.
    assert abs(measured - std**2) < 5 * std**2 * math.sqrt(2 / n)


def test_each_batch_gets_noise_of_its_own() -> None:
    # The same mask in every batch would hide the first value of all samples or of none.
    x = torch.tensor([[1.0, 0.0]]).expand(64, 2)
    found = measure(identity(2, noises=[HALF]), x, batch_size=1)
    assert found["noisy_input_mse"]["value"] not in (0.0, 0.5)


def test_denoising_metrics_need_a_recipe_with_noises() -> None:
    x = uniform(3, 4)
    with_noise = identity(4, noises=[HALF])
    assert set(DENOISING) <= set(measure(with_noise, x))
    for ae in (identity(4), without_recipe(with_noise)):
        assert not set(DENOISING) & set(measure(ae, x))


def test_an_input_of_another_shape_than_the_target_is_not_compared() -> None:
    ae = net((4,), [linear(2)], [linear(3)], noises=[HALF], target={"shape": [3]})
    assert set(DENOISING) & set(measure(ae, uniform(3, 4), uniform(3, 3))) == {"denoised_mse"}
