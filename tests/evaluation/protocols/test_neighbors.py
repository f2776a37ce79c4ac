"""Classification by the nearest training samples."""

import pytest
import torch

from aezoo.data.samples import Samples
from aezoo.evaluation.protocols import run_protocol
from tests.evaluation.networks import values
from tests.evaluation.protocols.networks import dataset, linear


def test_the_majority_of_the_five_nearest_training_samples_decides() -> None:
    # Around 0: three samples of class 0 and two of class 1 are nearest, a crowd of class 1 is farther away.
    train = Samples(
        torch.tensor([[0.1], [0.2], [0.3], [-0.1], [-0.2]] + [[1.0]] * 9),
        None,
        torch.tensor([0, 0, 0, 1, 1] + [1] * 9),
    )
    test = Samples(torch.tensor([[0.0], [1.0]]), None, torch.tensor([0, 1]))
    found = run_protocol("neighbors", linear(dataset(train=train, validation=train, test=test), torch.eye(1)))
    assert values(found) == {"knn_accuracy": 1.0, "knn_accuracy.input": 1.0}
    assert "of 14," in found["knn_accuracy"]["definition"]


def test_distances_are_those_of_the_latents() -> None:
    # The classes differ in the second value only, which the network ignores and the input values show.
    x = torch.stack([torch.arange(40.0), 100.0 * (torch.arange(40) // 20)], 1)
    x[:, 0] = torch.arange(40) % 20
    samples = Samples(x, None, torch.arange(40) // 20)
    projection = torch.tensor([[1.0, 0.0]])
    data = dataset(train=samples, validation=samples, test=samples)
    found = run_protocol("neighbors", linear(data, projection))
    assert found["knn_accuracy.input"]["value"] == 1.0
    assert found["knn_accuracy"]["value"] == pytest.approx(0.5, abs=0.15)
