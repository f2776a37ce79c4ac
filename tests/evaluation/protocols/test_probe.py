"""Accuracy of a linear classifier on the latents and on the inputs."""

import pytest
import torch

from aezoo.data.samples import Samples
from aezoo.evaluation.protocols import run_protocol
from aezoo.evaluation.protocols.probe import Probe
from tests.evaluation.networks import values
from tests.evaluation.protocols.networks import build, classes, dataset, dense, linear, same_splits


def test_latents_and_inputs_are_probed() -> None:
    # The class is whether a number is far from zero. Its positive and its negative part, the latents, separate the
    # classes; a threshold on the number itself is no better than always predicting the larger class. Without
    # standardization, a regularized classifier could not use features as small as these.
    x = torch.tensor([-3.0, 3.0, -2.5, 2.5, -2.0, 2.0, -0.5, 0.5]).repeat(5)[:, None]
    data = same_splits(Samples(x / 1000, None, (x[:, 0].abs() > 1).long()))
    ae = build(data, [dense(2, activation="relu")], [dense(1)], input={"shape": [1]})
    weights = {"encoder.0.linear.weight": torch.tensor([[1.0], [-1.0]])}
    ae.load_state_dict(weights | {"decoder.0.linear.weight": torch.tensor([[1.0, -1.0]])})
    found = run_protocol("probe", ae)
    assert values(found) == {"probe_accuracy": 1.0, "probe_accuracy.input": 0.75}
    assert [entry["n"] for entry in found.values()] == [40, 40]


def test_the_first_training_samples_are_used_and_the_test_split_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Probe, "SAMPLES", 20)
    right = classes(20, 2)
    assert right.labels is not None
    wrong = Samples(right.inputs, None, 1 - right.labels)
    data = dataset(train=right.concat(wrong).concat(wrong), validation=wrong, test=classes(12, 2, seed=3))
    found = run_protocol("probe", linear(data, torch.eye(2)))
    assert values(found) == {"probe_accuracy": 1.0, "probe_accuracy.input": 1.0}
    assert "first 20 training samples" in found["probe_accuracy"]["definition"]
    assert "latents" in found["probe_accuracy"]["definition"]
    assert "input values" in found["probe_accuracy.input"]["definition"]


def test_the_full_probe_uses_all_training_samples() -> None:
    # As above, but most of the samples say the opposite of the first ones.
    right = classes(20, 2)
    assert right.labels is not None
    wrong = Samples(right.inputs, None, 1 - right.labels)
    data = dataset(train=right.concat(wrong).concat(wrong), validation=right, test=classes(12, 2, seed=3))
    found = run_protocol("probe-full", linear(data, torch.eye(2)))
    assert values(found) == {"probe_accuracy.full": 0.0, "probe_accuracy.full.input": 0.0}
    assert "of all 60 training samples" in found["probe_accuracy.full"]["definition"]
