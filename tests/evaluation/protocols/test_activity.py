"""Active latents, relative to their largest value in training."""

import pytest
import torch

from aezoo.data.samples import Samples
from aezoo.evaluation.protocols import run_protocol
from tests.evaluation.networks import normal, values
from tests.evaluation.protocols.networks import dataset, linear, same_splits


def test_a_latent_is_active_above_a_hundredth_of_its_largest_training_value() -> None:
    # The largest absolute values are 100 and 2, so that the thresholds are 1 and 0.02.
    train = Samples(torch.tensor([[-100.0, 1.0], [3.0, -2.0]]))
    test = Samples(torch.tensor([[1.0, 0.02], [1.01, 0.0], [-1.01, -0.021], [0.0, 0.03]]))
    ae = linear(dataset(train=train, validation=train, test=test), torch.eye(2))
    found = run_protocol("activity", ae)
    # The second and the last sample have one active latent, the third has two.
    assert values(found) == {"active_latents": 4 / 4}
    assert found["active_latents"]["n"] == 4


def test_a_latent_that_is_always_zero_is_not_active() -> None:
    ae = linear(same_splits(Samples(normal(5, 2) + 10)), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert values(run_protocol("activity", ae)) == {"active_latents": 1.0}


@pytest.mark.parametrize(("refit", "active"), [(False, 1.0), (True, 0.0)])
def test_after_a_refit_validation_samples_count_as_training_samples(refit: bool, active: float) -> None:
    data = dataset(
        train=Samples(torch.ones(3, 1)),
        validation=Samples(torch.full((2, 1), 200.0)),
        test=Samples(torch.ones(4, 1)),
    )
    found = run_protocol("activity", linear(data, torch.ones(1, 1), refit=refit))
    assert values(found) == {"active_latents": active}
