"""Every number against one worked out by hand, and what stands where there is none."""

import math
from typing import Any, ClassVar, Literal

import pytest
import torch

import aezoo
from aezoo.data.samples import Batch, Samples
from aezoo.errors import DataError
from aezoo.evaluation.evaluate import Metric, evaluate, evaluate_again
from aezoo.model.autoencoder import Output
from aezoo.plugins.registry import registry
from tests.examples import METRICS, small, small_spec

TWO_TO_TWO = {
    "input": {"shape": [2]},
    "encoder": [{"kind": "linear", "out_features": 3, "activation": "relu"}],
    "decoder": [{"kind": "linear", "out_features": 2}],
}
X = torch.tensor([[1.0, 2.0], [3.0, -4.0], [0.0, 0.0]])


def two_to_two(dtype: torch.dtype = torch.float32) -> aezoo.Autoencoder:
    """Gives back the positive part of its input; the third latent is always zero."""
    ae = aezoo.build(aezoo.AutoencoderSpec.model_validate(TWO_TO_TWO), dtype=dtype)
    eye = torch.eye(3, 2, dtype=dtype)
    ae.load_state_dict({
        "encoder.0.linear.weight": eye, "encoder.0.linear.bias": torch.zeros(3),
        "decoder.0.linear.weight": eye.T, "decoder.0.linear.bias": torch.zeros(2),
    })  # fmt: skip
    ae.target_mean = torch.tensor([1.0, -1.0], dtype=dtype)
    return ae


# X comes back as [[1, 2], [3, 0], [0, 0]] from the latents [[1, 2, 0], [3, 0, 0], [0, 0, 0]]; from the
# mean (1, -1) its rows lie 9, 13 and 2 away. The first code has sizes that sum to 3 and squares that sum
# to 5, the second is as sparse as can be, the third says nothing. Two atoms cover one value of two each.
BY_HAND = {
    "mse": 16 / 6,
    "sse": 16 / 3,
    "fvu": 16 / 24,
    "l0": 3 / 3,
    "dead_latents": 1.0,
    "hoyer": ((math.sqrt(3) - 3 / math.sqrt(5)) / (math.sqrt(3) - 1) + 1) / 2,
    "atom_area": 1 / 2,
}
# The network has no recipe, gives no images and draws nothing.
LEFT_OUT = {
    "denoised_mse", "noisy_input_mse", "noisy_target_mse", "checkerboard", "kl", "log_likelihood", "elbo",
}  # fmt: skip


def measured(ae: aezoo.Autoencoder, samples: Samples, **options: Any) -> dict[str, Metric]:
    return evaluate(ae, samples, dataset="ours", split="test", **options)


def numbers(found: dict[str, Metric]) -> dict[str, float | None]:
    return {kind: entry["value"] for kind, entry in found.items()}


# -- each metric --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_metric_is_the_one_worked_out_by_hand(dtype: torch.dtype) -> None:
    assert set(BY_HAND) | LEFT_OUT == set(METRICS)
    assert numbers(measured(two_to_two(dtype), Samples(X))) == pytest.approx(BY_HAND, rel=1e-15)


def test_the_error_is_measured_against_the_target() -> None:
    found = numbers(measured(two_to_two(), Samples(X, torch.zeros(3, 2))))
    # The reconstructions are 5, 9 and 0 away from zero, the mean 2.
    assert found == pytest.approx(BY_HAND | {"mse": 14 / 6, "sse": 14 / 3, "fvu": 14 / 6}, rel=1e-15)


def test_bytes_are_measured_as_the_network_sees_them() -> None:
    spec = aezoo.AutoencoderSpec.model_validate(TWO_TO_TWO | {"input": {"shape": [2], "range": [-1, 1]}})
    ae = aezoo.build(spec)
    ae.load_state_dict(two_to_two().state_dict(), strict=False)
    samples = Samples(torch.tensor([[0, 255], [255, 0]], dtype=torch.uint8))
    assert measured(ae, samples)["sse"]["value"] == 1.0


@pytest.mark.parametrize("train", [X, torch.rand(999, 2, generator=torch.Generator().manual_seed(0))])
def test_predicting_the_training_mean_leaves_all_variance_unexplained(train: torch.Tensor) -> None:
    ae = two_to_two()
    mean = Samples(train).target_mean(ae.spec)
    ae.target_mean = mean
    state = ae.state_dict()
    state["decoder.0.linear.weight"].zero_()
    state["decoder.0.linear.bias"].copy_(mean)
    assert measured(ae, Samples(X))["fvu"]["value"] == 1.0


@pytest.mark.parametrize(
    ("mean", "samples", "reason"),
    [
        (None, X, "the mean of the training targets is not known"),
        (X[0], X[:1].expand(5, 2), "the targets do not vary"),
    ],
)
def test_fvu_is_null_where_there_is_nothing_to_compare_with(
    mean: torch.Tensor | None, samples: torch.Tensor, reason: str
) -> None:
    ae = two_to_two()
    ae.target_mean = mean
    found = measured(ae, Samples(samples))
    assert (found["fvu"]["value"], found["fvu"]["reason"]) == (None, reason)
    assert all(found[kind]["reason"] is None for kind in set(found) - {"fvu"})


NO_PARAMETERS = {
    "input": {"shape": [1, 2, 3]},
    "encoder": [{"kind": "topk", "k": 2}],
    "decoder": [{"kind": "max_pool", "kernel_size": 1}],
}


def test_latents_of_an_image_are_counted_one_by_one_and_parameters_are_not_needed() -> None:
    ae = aezoo.build(aezoo.AutoencoderSpec.model_validate(NO_PARAMETERS))
    assert ae.num_parameters == 0
    x = torch.tensor([[1.0, 2, 3, 4, 5, 6], [7, 1, 1, 1, 1, 8]]).view(2, 1, 2, 3)
    found = numbers(measured(ae, Samples(x)))
    # 5, 6 and then 7, 8 are kept: the first, the fifth and the sixth latent are in use.
    assert (found["l0"], found["dead_latents"]) == (2.0, 3.0)
    assert found["sse"] == (1 + 4 + 9 + 16 + 4) / 2


# -- a pass over the samples --------------------------------------------------------------------------


def test_the_batch_size_changes_nothing() -> None:
    ae = aezoo.build(small_spec(), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    samples = Samples(torch.rand(50, 1, 6, 6, generator=generator))
    ae.target_mean = samples.target_mean(ae.spec)
    at_once = numbers(measured(ae, samples))
    assert None not in at_once.values()
    for size in (1, 7, 50):
        found = numbers(measured(ae, samples, batch_size=size))
        assert found == pytest.approx(at_once, rel=1e-12, abs=0), size


def test_sums_are_kept_in_double_precision() -> None:
    # 2^24 + 1 is the first whole number that single precision does not have.
    ae = two_to_two()
    samples = Samples(torch.tensor([[-4096.0, 0.0], [-1.0, 0.0]]))
    ae.target_mean = torch.zeros(2)
    found = numbers(measured(ae, samples))
    assert (found["sse"], found["fvu"]) == ((2**24 + 1) / 2, 1.0)


class ModeMetric(aezoo.MetricSpec):
    """Notes the mode of every pass; raises where told to."""

    kind: Literal["mode"] = "mode"
    definition = "1 where the network trains"
    fails: ClassVar[bool] = False

    def build(self, ae: aezoo.Autoencoder) -> aezoo.Meter:
        return ModeMeter(ae)


class ModeMeter(aezoo.Meter):
    def __init__(self, ae: aezoo.Autoencoder) -> None:
        self.ae = ae
        self.seen: list[bool] = []

    def update(self, output: Output, rows: Batch) -> None:
        if ModeMetric.fails:
            raise RuntimeError("this metric fails")
        self.seen += [module.training for module in self.ae.modules()]
        self.seen.append(output.x_hat.requires_grad)

    def value(self) -> float:
        return float(any(self.seen))


def modes(ae: aezoo.Autoencoder) -> list[bool]:
    return [module.training for module in ae.modules()]


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("mode", ["train", "eval", "frozen encoder"])
def test_the_network_is_measured_in_eval_and_left_in_its_mode(
    mode: str, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    aezoo.register(ModeMetric)
    monkeypatch.setattr(ModeMetric, "fails", fails)
    ae = two_to_two().train(mode != "eval")
    if mode == "frozen encoder":
        ae.encoder.eval()
    before = modes(ae)
    if fails:
        with pytest.raises(RuntimeError, match="this metric fails"):
            measured(ae, Samples(X))
    else:
        assert measured(ae, Samples(X))["mode"]["value"] == 0.0
    assert modes(ae) == before


def test_weights_samples_and_random_state_stay_as_they_were() -> None:
    ae, x, random_state = two_to_two(), X.clone(), torch.get_rng_state()
    before = {name: tensor.clone() for name, tensor in ae.state_dict().items()}
    measured(ae, Samples(x))
    assert torch.equal(x, X)
    assert all(torch.equal(tensor, before[name]) for name, tensor in ae.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())


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
def test_samples_that_do_not_fit_are_refused(samples: Samples, words: str) -> None:
    ae = two_to_two().train()
    with pytest.raises(DataError) as error:
        measured(ae, samples)
    assert words in str(error.value)
    assert ae.training


# -- entries ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BY_HAND)
def test_an_entry_says_what_was_measured_on_what(kind: str) -> None:
    entry = evaluate(two_to_two(), Samples(X), dataset="ours", split="validation")[kind]
    assert list(entry) == list(Metric.__annotations__)
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


BETTER = {
    "lower": {"mse", "sse", "fvu", "dead_latents", "denoised_mse", "checkerboard"},
    "higher": {"log_likelihood", "elbo"},
    "neither": {"l0", "hoyer", "atom_area", "noisy_input_mse", "noisy_target_mse", "kl"},
}


@pytest.mark.parametrize("kind", METRICS)
def test_a_definition_is_one_line_and_says_which_way_is_better(kind: str) -> None:
    cls = registry.get("metric", kind)
    assert cls.definition.split()
    assert "\n" not in cls.definition
    assert kind in BETTER[cls.better]


@pytest.mark.parametrize(
    ("bias", "words"), [(torch.nan, "the result is nan"), (torch.inf, "the result is inf")]
)
def test_a_result_that_is_not_finite_is_null(bias: float, words: str) -> None:
    ae = two_to_two()
    ae.state_dict()["decoder.0.linear.bias"].fill_(bias)
    found = measured(ae, Samples(X))
    for kind in ("mse", "sse", "fvu"):
        assert (found[kind]["value"], found[kind]["reason"]) == (None, words)
    assert found["l0"]["value"] == BY_HAND["l0"]


class LargestSpec(aezoo.MetricSpec):
    """Largest error of a single element."""

    kind: Literal["largest"] = "largest"
    definition = "largest absolute difference of any element"

    def build(self, ae: aezoo.Autoencoder) -> aezoo.Meter:
        return Largest()


class Largest(aezoo.Meter):
    def __init__(self) -> None:
        self.largest = 0.0

    def update(self, output: Output, rows: Batch) -> None:
        self.largest = max(self.largest, float((output.x_hat - rows.target).abs().max()))

    def value(self) -> float:
        if self.largest == 0:
            raise aezoo.NotMeasured("there is no error at all")
        return self.largest


@pytest.mark.usefixtures("fresh_registry")
def test_a_metric_of_ones_own_is_measured_beside_the_others() -> None:
    aezoo.register(LargestSpec)
    found = measured(two_to_two(), Samples(X), batch_size=1)
    assert numbers(found) == pytest.approx(BY_HAND | {"largest": 4.0})
    assert found["largest"]["definition"] == LargestSpec.definition
    perfect = measured(two_to_two(), Samples(X[:1]))["largest"]
    assert (perfect["value"], perfect["reason"]) == (None, "there is no error at all")


# -- measuring again ----------------------------------------------------------------------------------


class OursSpec(aezoo.DatasetSpec):
    """Another number of samples in each split, and no test split."""

    kind: Literal["ours"] = "ours"

    def load(self, split: Any) -> Samples:
        return Samples(torch.rand(5 if split == "train" else 3, 6, 6))

    def has(self, split: Any) -> bool:
        return split != "test"


@pytest.fixture
def ours(fresh_registry: None) -> aezoo.Autoencoder:
    """A variant that was trained on the dataset above."""
    aezoo.register(OursSpec)
    return aezoo.build(small_spec(recipe=small()["recipe"] | {"dataset": {"kind": "ours"}}))


@pytest.mark.parametrize(("split", "n"), [("train", 5), ("validation", 3)])
def test_a_variant_is_measured_on_the_dataset_of_its_recipe(
    ours: aezoo.Autoencoder, split: str, n: int
) -> None:
    for entry in evaluate_again(ours, split).values():
        assert (entry["dataset"], entry["split"], entry["n"]) == ("ours", split, n)


@pytest.mark.parametrize("split", ["tset", "", "test"])
def test_a_split_that_there_is_not_is_named(ours: aezoo.Autoencoder, split: str) -> None:
    with pytest.raises(DataError, match=rf"^ours has no split '{split}'; train, validation are known$"):
        evaluate_again(ours, split)


@pytest.mark.parametrize("spec", [small_spec(), aezoo.AutoencoderSpec.model_validate(TWO_TO_TWO)])
def test_without_a_dataset_in_the_recipe_there_is_nothing_to_measure_on(spec: aezoo.AutoencoderSpec) -> None:
    with pytest.raises(DataError, match=r"names no dataset; use aezoo\.evaluate with samples of your own$"):
        evaluate_again(aezoo.build(spec))


def test_a_metric_that_needs_to_be_told_something_is_refused_when_it_is_defined() -> None:
    """Every registered metric is measured in every evaluation, with nobody there to tell it."""
    with pytest.raises(TypeError, match="NeedySpec: every metric is measured with its defaults; give k one"):

        class NeedySpec(aezoo.MetricSpec):
            kind: Literal["needy"] = "needy"
            definition = "nothing"
            k: int

            def build(self, ae: aezoo.Autoencoder) -> aezoo.Meter:
                raise AssertionError
