"""Clusters of the latents, against classes that are known."""

import numpy as np
import pytest
import torch
from sklearn import metrics

from aezoo.data.samples import Samples
from aezoo.evaluation.protocols import run_protocol
from tests.evaluation.networks import normal, values
from tests.evaluation.protocols.networks import classes, dataset, linear


def blobs(n: int, labels: torch.Tensor, blob: torch.Tensor, seed: int) -> Samples:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    return Samples(centres[blob] + 0.1 * normal(n, 2, seed=seed), None, labels)


def test_separate_classes_are_found_whatever_their_numbers() -> None:
    train = classes(60, 3)
    assert train.labels is not None
    # Classes 7, 8 and 9: neither clusters nor classes need to count from zero.
    shifted = Samples(train.inputs, None, train.labels + 7)
    data = dataset(train=shifted, validation=shifted, test=shifted)
    found = run_protocol("clustering", linear(data, torch.eye(3)))
    assert values(found) == pytest.approx({"cluster_ari": 1, "cluster_nmi": 1, "cluster_accuracy": 1})
    assert [entry["n"] for entry in found.values()] == [60] * 3


def test_values_are_those_of_a_table_of_clusters_and_classes() -> None:
    # Three blobs, which are the clusters; a third of the samples of each have the next class.
    blob = torch.arange(90) % 3
    labels = torch.where(torch.arange(90) < 30, (blob + 1) % 3, blob)
    train, test = (blobs(90, labels, blob, seed) for seed in (0, 1))
    found = run_protocol(
        "clustering", linear(dataset(train=train, validation=train, test=test), torch.eye(2))
    )
    assert found["cluster_accuracy"]["value"] == pytest.approx(60 / 90)
    assert found["cluster_ari"]["value"] == pytest.approx(metrics.adjusted_rand_score(labels, blob))
    # Each cluster holds two classes, 20 and 10 of each 30; classes and clusters are equally frequent.
    entropy = np.log(3)
    conditional = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3))
    assert found["cluster_nmi"]["value"] == pytest.approx((entropy - conditional) / entropy)


def test_clusters_are_fitted_to_training_samples() -> None:
    blob = torch.arange(30) % 3
    train = blobs(30, blob, blob, 0)
    # All test samples lie in one blob: by the centres of the training samples, they are one cluster.
    test = blobs(30, torch.arange(30) % 2, torch.zeros(30, dtype=torch.long), 1)
    found = run_protocol(
        "clustering", linear(dataset(train=train, validation=train, test=test), torch.eye(2))
    )
    assert found["cluster_accuracy"]["value"] == pytest.approx(0.5)
    assert found["cluster_nmi"]["value"] == pytest.approx(0)
