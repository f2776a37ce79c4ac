"""Denoising of Gaussian noise."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from aezoo.data.samples import Samples
from aezoo.evaluation.protocols import run_protocol
from tests.evaluation.networks import values
from tests.evaluation.protocols.networks import linear, same_splits


def test_the_identity_removes_no_noise() -> None:
    # Clean inputs are 0. Clipping to [0, 1] removes the negative half of the noise and what is above 1.
    data = same_splits(Samples(torch.zeros(3000, 8)))
    found = run_protocol("noise", linear(data, torch.eye(8), input={"shape": [8], "range": [0, 1]}))
    at = np.linspace(0, 4, 100_001)
    density = np.exp(-(at**2) / 0.2) / math.sqrt(2 * math.pi * 0.1)
    expected = pytest.approx(np.trapezoid(np.minimum(at, 1) ** 2 * density, at), rel=0.03)
    measured = values(found)
    assert measured["gaussian.noisy_input_mse"] == expected
    assert measured["gaussian.denoised_mse"] == measured["gaussian.noisy_input_mse"]
    assert {entry["n"] for entry in found.values()} == {3000}


def test_a_network_that_always_returns_the_clean_input_removes_all_noise() -> None:
    data = same_splits(Samples(torch.zeros(20, 2)))
    ae = linear(data, torch.zeros(1, 2), input={"shape": [2], "range": [0, 1]})
    measured: dict[str, Any] = values(run_protocol("noise", ae))
    assert measured["gaussian.denoised_mse"] == 0
    assert measured["gaussian.noisy_input_mse"] > 0.01
