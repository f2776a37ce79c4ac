"""Change of the latents under small input noise."""

import math

import pytest
import torch

from aezoo.data.samples import Samples
from aezoo.evaluation.protocols import run_protocol
from tests.evaluation.networks import normal, values
from tests.evaluation.protocols.networks import linear, same_splits


@pytest.mark.parametrize("factor", [1.0, 100.0])
def test_the_identity_changes_by_the_noise_over_the_spread(factor: float) -> None:
    # Two batches; the coordinates have standard deviations 3 and 1, and different means.
    x = normal(1500, 2) * torch.tensor([3.0, 1.0]) + torch.tensor([50.0, 0.0])
    ae = linear(same_splits(Samples(x)), factor * torch.eye(2))
    found = run_protocol("stability", ae)
    spread = math.sqrt(x.double().var(0, correction=0).mean())
    assert values(found) == {"latent_change": pytest.approx(0.1 / spread, rel=0.03)}
    assert found["latent_change"]["n"] == 1500


def test_constant_latents_have_no_relative_change() -> None:
    found = run_protocol("stability", linear(same_splits(Samples(normal(20, 2))), torch.zeros(1, 2)))
    entry = found["latent_change"]
    assert (entry["value"], entry["reason"]) == (None, "the result is nan")
