"""Fine-tuning on few labels."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import aezoo
from aezoo.data.samples import Samples
from aezoo.errors import DataError
from aezoo.evaluation.protocols import few_label, run_protocol
from aezoo.evaluation.protocols.few_label import FewLabel, Labelled, draw_balanced
from tests.evaluation.networks import normal, values
from tests.evaluation.protocols.networks import (
    build,
    classes,
    dataset,
    dense,
    linear,
    same_splits,
    shorten_few_label,
    splits_of_classes,
)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The protocol made small; tests may change more of it."""
    shorten_few_label(monkeypatch)
    return monkeypatch


def accuracy(ae: aezoo.Autoencoder) -> Any:
    return run_protocol("few-label", ae)["few_label.20"]["value"]


def append(samples: Samples, column: Tensor | float) -> Samples:
    """The same samples with another value at the end of each."""
    more = torch.as_tensor(column).expand(len(samples))[:, None]
    return Samples(torch.cat([samples.inputs, more], 1), None, samples.labels)


# -- what is measured ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [2, 10])
def test_few_labels_suffice_for_separate_classes(kinds: int) -> None:
    found = run_protocol("few-label", linear(splits_of_classes(kinds, train=20 * kinds), torch.eye(kinds)))
    assert found["few_label.20"]["value"] == 1.0
    assert found["few_label.20.std"]["value"] == 0.0
    assert {entry["n"] for entry in found.values()} == {10 * kinds}


def test_every_number_of_labels_is_measured_from_both_starts(few: pytest.MonkeyPatch) -> None:
    shorten_few_label(few, LABELS=(4, 20), LEARNING_RATES=(1e-4, 2e-3))
    found = run_protocol("few-label", linear(splits_of_classes(), torch.eye(2)))
    assert list(found) == [
        f"few_label.{n}{scratch}{std}"
        for n in (4, 20)
        for scratch in ("", ".scratch")
        for std in ("", ".std")
    ]
    for name, entry in found.items():
        # The values need training, so the weights and the data alone do not determine them.
        assert entry["source"] == "protocol"
        words = entry["definition"]
        assert f"{name.split('.')[1]} balanced labels" in words
        assert "after 25 steps" in words
        assert "over 2 draws" in words
        assert ("standard deviation" if name.endswith(".std") else "mean") in words
        assert ("random weights" if "scratch" in name else "the variant's weights") in words
        assert any(f"learning rate, {rate}," in words for rate in ("0.0001", "0.002"))
        assert "validation" in words


def test_the_protocol_of_published_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert (few_label.LABELS, few_label.DRAWS, few_label.STEPS) == ((100, 1000), 10, 300)
    assert len(FewLabel.gives) == 8


def test_rates_are_chosen_on_validation_by_a_draw_that_is_not_measured(few: pytest.MonkeyPatch) -> None:
    shorten_few_label(few, DRAWS=3, LEARNING_RATES=(1.0, 2.0, 3.0))
    data = splits_of_classes()
    lengths = {split: len(data.load(split)) for split in ("validation", "test")}  # pyright: ignore
    seen: list[tuple[str, float, int, bool]] = []
    draws: list[Tensor] = []

    def accuracy(self: Any, labelled: Any, measured: Any, rate: float, *, seed: int, scratch: bool) -> float:
        split = next(name for name, length in lengths.items() if length == len(measured.y))
        seen.append((split, rate, seed, scratch))
        draws.append(labelled.x)
        # On the test split, another rate would be the best.
        return {1.0: 0.2, 2.0: 0.7, 3.0: 0.4}[rate] if split == "validation" else rate / 10 + seed**2 / 100

    few.setattr(FewLabel, "accuracy", accuracy)
    found = run_protocol("few-label", linear(data, torch.eye(2)))
    for scratch in (False, True):
        assert [entry for entry in seen if entry[3] == scratch] == [
            *[("validation", rate, 3, scratch) for rate in (1.0, 2.0, 3.0)],
            *[("test", 2.0, seed, scratch) for seed in range(3)],
        ]
    assert found["few_label.20"]["value"] == pytest.approx((0.2 + 0.21 + 0.24) / 3)
    # The sample's standard deviation, not the population's.
    assert found["few_label.20.std"]["value"] == pytest.approx(np.std([0.2, 0.21, 0.24], ddof=1))
    # The draw that chooses and the three that are measured differ; both starts use the same ones.
    own = [draws[0], *draws[3:6]]
    assert all(not torch.equal(a, b) for i, a in enumerate(own) for b in own[:i])
    assert all(torch.equal(a, b) for a, b in zip(draws[:6], draws[6:], strict=True))


# -- draws --------------------------------------------------------------------------------------------


def test_labels_are_drawn_in_equal_parts() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    train = Labelled(normal(100, 2), labels)
    drawn = draw_balanced(train, 12, seed=0)
    assert drawn.y.bincount().tolist() == [6, 6]
    assert drawn.x.unique(dim=0).shape == (12, 2)
    rows = [int((train.x == row).all(1).nonzero()) for row in drawn.x]
    assert torch.equal(labels[rows], drawn.y)


def test_the_definition_gives_the_number_of_labels_drawn() -> None:
    # 20 labels of three classes in equal parts are 18.
    found = run_protocol("few-label", linear(splits_of_classes(3), torch.eye(3)))
    assert "18 balanced labels" in found["few_label.20"]["definition"]


def test_a_class_with_too_few_samples_is_rejected() -> None:
    data = dataset(train=classes(12), validation=classes(20, seed=1), test=classes(20, seed=2))
    with pytest.raises(DataError, match=r"^10 labels of each class are to be drawn, class 0 has 6$"):
        run_protocol("few-label", linear(data, torch.eye(2)))


def test_fewer_labels_than_classes_are_rejected() -> None:
    with pytest.raises(DataError, match=r"^20 labels are too few for 25 classes$"):
        run_protocol("few-label", linear(splits_of_classes(25, train=500), torch.eye(25)))


def test_classes_may_occur_in_the_training_split_only() -> None:
    def without(samples: Samples, label: int) -> Samples:
        assert samples.labels is not None
        return samples[(samples.labels != label).nonzero()[:, 0]]

    test = without(classes(30, 3, seed=2), 2)
    data = dataset(train=classes(60, 3), validation=without(classes(30, 3, seed=1), 2), test=test)
    assert accuracy(linear(data, torch.eye(3))) == 1.0


@pytest.mark.parametrize("labels", [[3, 8], [-1, 1]])
def test_labels_need_not_count_from_zero(labels: list[int]) -> None:
    def renamed(seed: int) -> Samples:
        samples = classes(40, seed=seed)
        return Samples(samples.inputs, None, torch.tensor(labels)[samples.labels])

    data = dataset(train=renamed(0), validation=renamed(1), test=renamed(2))
    assert accuracy(linear(data, torch.eye(2))) == 1.0


# -- training -----------------------------------------------------------------------------------------


def test_training_starts_from_the_given_or_from_random_weights(few: pytest.MonkeyPatch) -> None:
    # The given encoder uses a value of pure noise and hardly learns; random weights use the classes.
    shorten_few_label(few, LEARNING_RATES=(1e-9,))
    noisy = same_splits(append(classes(200), 0.05 * normal(200, seed=9)))
    found = values(run_protocol("few-label", linear(noisy, torch.tensor([[0, 0, 1.0], [0, 0, -2.0]]))))
    assert found["few_label.20"] == pytest.approx(0.5, abs=0.2)
    assert found["few_label.20.scratch"] == 1.0


def test_every_draw_has_its_own_random_weights(few: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    def recorded_build(spec: aezoo.AutoencoderSpec, *, seed: int) -> aezoo.Autoencoder:
        seeds.append(seed)
        return aezoo.build(spec, seed=seed)

    shorten_few_label(few, LEARNING_RATES=(1e-4, 1e-3))
    few.setattr(few_label, "build", recorded_build)
    run_protocol("few-label", linear(splits_of_classes(), torch.eye(2)))
    assert seeds == [2, 0, 1]  # the first one is copied for each learning rate


def test_dropout_is_off() -> None:
    data, weight = splits_of_classes(), torch.tensor([[1.0, 0.5], [0.2, -1.0]])
    dropping = build(data, [dense(2), {"kind": "dropout", "p": 0.9}], [dense(2)])
    dropping.load_state_dict({"encoder.0.linear.weight": weight, "decoder.0.linear.weight": weight.T})
    plain = linear(data, weight)
    assert values(run_protocol("few-label", dropping)) == values(run_protocol("few-label", plain))


def test_the_encoder_is_trained_too(few: pytest.MonkeyPatch) -> None:
    # The head stays random, so that only the encoder can improve the accuracy.
    ae = linear(splits_of_classes(), torch.eye(2))
    shorten_few_label(few, HEAD_LEARNING_RATE=1e-9, STEPS=60, LEARNING_RATES=(1e-9,))
    assert accuracy(ae) < 0.8
    shorten_few_label(few, HEAD_LEARNING_RATE=1e-9, STEPS=60, LEARNING_RATES=(0.1,))
    assert accuracy(ae) == 1.0


def test_values_are_reproducible() -> None:
    data = dataset(train=classes(60, noise=1), validation=classes(40, noise=1, seed=1),
                   test=classes(200, noise=1, seed=2))  # fmt: skip
    ae = linear(data, torch.tensor([[1.0, 0.2], [0.1, -1.0]]))
    first = run_protocol("few-label", ae)
    torch.manual_seed(123)
    assert run_protocol("few-label", ae) == first
    measured: dict[str, Any] = values(first)
    assert 0.5 < measured["few_label.20"] < 1
    assert measured["few_label.20"] != measured["few_label.20.scratch"]


def test_a_latent_that_is_constant_in_training_does_not_dominate(few: pytest.MonkeyPatch) -> None:
    shorten_few_label(few, LEARNING_RATES=(1e-9,))
    data = dataset(train=append(classes(60), 0.0), validation=append(classes(40, seed=1), 0.0),
                   test=append(classes(40, seed=2), 0.1))  # fmt: skip
    assert accuracy(linear(data, torch.eye(3))) == 1.0
