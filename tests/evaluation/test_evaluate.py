"""`evaluate` and `evaluate_variant`: passes, entries and errors."""

from typing import Any, Literal

import pytest
import torch

import aezoo
from aezoo.data.samples import Samples
from aezoo.errors import DataError
from aezoo.evaluation.evaluate import Measurement, evaluate, evaluate_variant
from aezoo.plugins.registry import registry
from tests.evaluation.by_hand import BY_HAND, TWO_TO_TWO, X, two_to_two
from tests.evaluation.networks import measure, uniform, values
from tests.examples import small, small_spec


def test_the_batch_size_does_not_change_values() -> None:
    ae, x = aezoo.build(small_spec(), dtype=torch.float64), uniform(50, 1, 6, 6)
    ae.target_mean = Samples(x).target_mean(ae.spec)
    expected = values(measure(ae, x))
    assert None not in expected.values()
    for size in (1, 7, 50):
        found = values(measure(ae, x, batch_size=size))
        assert found == pytest.approx(expected, rel=1e-12, abs=0), size


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (Samples(torch.zeros(0, 2)), "there are no samples"),
        (Samples(torch.zeros(3, 4)), "expected samples of shape [2], found [3, 4]"),
        (Samples(X.long()), "expected uint8 or floating point as input, found torch.int64"),
        (Samples(X * torch.inf), "is not finite"),
        (Samples(X, X[:, :1]), "expected samples of shape [2], found [3, 1]"),
    ],
)
def test_samples_that_do_not_fit_are_rejected(samples: Samples, words: str) -> None:
    ae = two_to_two().train()
    with pytest.raises(DataError) as error:
        evaluate(ae, samples, dataset="ours", split="test")
    assert words in str(error.value)
    assert ae.training


@pytest.mark.parametrize("kind", BY_HAND)
def test_an_entry_records_what_was_measured(kind: str) -> None:
    entry = evaluate(two_to_two(), Samples(X), dataset="ours", split="validation")[kind]
    assert list(entry) == list(Measurement.__annotations__)
    assert entry == {
        "value": pytest.approx(BY_HAND[kind]),
        "reason": None,
        "source": "computed",
        "dataset": "ours",
        "split": "validation",
        "n": 3,
        "definition": registry.get("metric", kind).definition,
    }
    assert type(entry["value"]) is float


# -- evaluate_variant ---------------------------------------------------------------------------------


class OursSpec(aezoo.DatasetSpec):
    """Has another number of samples in each split, and no test split."""

    kind: Literal["ours"] = "ours"

    def load(self, split: Any) -> Samples:
        return Samples(torch.rand(5 if split == "train" else 3, 6, 6))

    def has(self, split: Any) -> bool:
        return split != "test"


@pytest.fixture
def ours(fresh_registry: None) -> aezoo.Autoencoder:
    """A variant whose recipe names the dataset above."""
    aezoo.register(OursSpec)
    return aezoo.build(small_spec(recipe=small()["recipe"] | {"dataset": {"kind": "ours"}}))


@pytest.mark.parametrize(("split", "n"), [("train", 5), ("validation", 3)])
def test_a_variant_is_measured_on_the_dataset_of_its_recipe(
    ours: aezoo.Autoencoder, split: str, n: int
) -> None:
    for entry in evaluate_variant(ours, split).values():
        assert (entry["dataset"], entry["split"], entry["n"]) == ("ours", split, n)


@pytest.mark.parametrize("split", ["tset", "", "test"])
def test_an_unknown_split_is_rejected(ours: aezoo.Autoencoder, split: str) -> None:
    with pytest.raises(DataError, match=rf"^ours has no split '{split}'; train, validation are known$"):
        evaluate_variant(ours, split)


@pytest.mark.parametrize("spec", [small_spec(), aezoo.AutoencoderSpec.model_validate(TWO_TO_TWO)])
def test_a_recipe_without_a_dataset_is_rejected(spec: aezoo.AutoencoderSpec) -> None:
    with pytest.raises(DataError, match=r"names no dataset; use aezoo\.evaluate with samples of your own$"):
        evaluate_variant(aezoo.build(spec))
