"""Protocols: each number against one worked out by hand, whom it refuses, and where numbers are kept."""

import errno
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_type_hints

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

import aezoo
from aezoo import files
from aezoo.data.datasets import torchvision as named
from aezoo.data.samples import Samples
from aezoo.errors import CheckpointError, DataError, NotSupportedError
from aezoo.evaluation.evaluate import Metric
from aezoo.evaluation.protocols import PROTOCOLS, few_label, run_protocol
from aezoo.evaluation.protocols.latents import Probe
from aezoo.evaluation.protocols.protocol import fitted_on, inputs_of, labels_of
from aezoo.evaluation.protocols.reconstruction import OneClass
from aezoo.zoo.save import record_metrics
from tests.examples import small, small_spec
from tests.raising import raises

NAMES = ["activity", "few-label", "noise", "one-class", "probe", "stability", "subspace", "unrolling"]


def dataset(**splits: Samples) -> aezoo.DatasetSpec:
    """A dataset of these splits."""

    class ToySpec(aezoo.DatasetSpec):
        kind: Literal["toy"] = "toy"

        def load(self, split: Any) -> Samples:
            return splits[split]

        def has(self, split: Any) -> bool:
            return split in splits

    return ToySpec()


def alike(samples: Samples) -> aezoo.DatasetSpec:
    """A dataset whose splits are all the same."""
    return dataset(train=samples, validation=samples, test=samples)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def build(data: object, encoder: list[Any], decoder: list[Any], **changes: Any) -> aezoo.Autoencoder:
    """A network of one's own layers that has not been trained."""
    recipe = small()["recipe"] | {"dataset": data, "threads": 1, "refit": changes.pop("refit", False)}
    spec = {"input": {"shape": [2]}, "encoder": encoder, "decoder": decoder, "recipe": recipe}
    return aezoo.build(small_spec(**(spec | changes)))


def dense(features: int, **options: Any) -> dict[str, Any]:
    return {"kind": "linear", "out_features": features, "bias": False, **options}


def linear(data: object, weight: Tensor, decoder: Tensor | None = None, **changes: Any) -> aezoo.Autoencoder:
    """A linear network without biases; the decoder's weights are the encoder's transposed unless given."""
    latents, values = weight.shape
    changes = {"input": {"shape": [values]}} | changes
    ae = build(data, [dense(latents)], [dense(values)], **changes)
    ae.load_state_dict({
        "encoder.0.linear.weight": weight,
        "decoder.0.linear.weight": weight.T if decoder is None else decoder,
    })  # fmt: skip
    return ae


def numbers(found: dict[str, Metric]) -> dict[str, float | None]:
    return {name: entry["value"] for name, entry in found.items()}


def classes(n: int = 40, kinds: int = 2, noise: float = 0.05, seed: int = 0) -> Samples:
    """Samples of as many values as there are classes, of which the class's own is about 1."""
    labels = torch.arange(n) % kinds
    return Samples(torch.eye(kinds)[labels] + noise * drawn(n, kinds, seed=seed), None, labels)


def splits_of_classes(kinds: int = 2, train: int = 60) -> aezoo.DatasetSpec:
    train_, validation, test = (
        classes(n, kinds, seed=seed) for seed, n in enumerate((train, 20 * kinds, 10 * kinds))
    )
    return dataset(train=train_, validation=validation, test=test)


# -- images that torchvision might have ---------------------------------------------------------------


def offered(monkeypatch: pytest.MonkeyPatch, train: Samples, test: Samples) -> dict[str, Any]:
    """A recipe's dataset, which torchvision seems to have; a quarter is held out for validation."""

    class Ours:
        def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
            chosen = parts[train]
            self.data, self.targets = chosen.inputs, chosen.labels

    parts = {True: train, False: test}
    monkeypatch.setattr(named, "torchvision_datasets", lambda: SimpleNamespace(Ours=Ours))
    return {"kind": "torchvision", "name": "Ours", "holdout": len(train) // 4}


def pictures(n: int, side: int = 2, seed: int = 0) -> Samples:
    """Random images of the classes 3 and 8 by turns; those of class 8 are lighter."""
    labels = torch.tensor([3, 8]).repeat(n // 2)
    pixels = 90 + 30 * drawn(n, 1, side, side, seed=seed) + 20 * (labels == 8)[:, None, None, None]
    return Samples(pixels.clamp(0, 255).byte(), None, labels)


def for_pictures(
    data: object, side: int = 2, latents: int = 1, dropout: float = 0.0, **changes: Any
) -> aezoo.Autoencoder:
    """A network for them."""
    shape = [1, side, side]
    decoder = [dense(side * side), {"kind": "unflatten", "shape": shape}]
    given = {"input": {"shape": shape, "range": [0, 1]}} | changes
    return build(data, ["flatten", dense(latents, dropout=dropout)], decoder, **given)


# -- which there are, and whom they refuse ------------------------------------------------------------


def test_every_protocol_is_there_under_its_name_in_order() -> None:
    assert list(PROTOCOLS) == NAMES
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert protocol.summary
        assert "\n" not in protocol.summary


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("prob", "no protocol 'prob' (did you mean 'probe'?); known are activity, few-label, noise"),
        ("few_label", "no protocol 'few_label' (did you mean 'few-label'?); known are"),
        ("xyz", "no protocol 'xyz'; known are activity"),
        ("", "no protocol ''; known are activity"),
    ],
)
def test_an_unknown_protocol_names_the_nearest_and_all(asked: str, words: str) -> None:
    with pytest.raises(NotSupportedError) as error:
        run_protocol(asked, linear(None, torch.eye(2)))
    assert str(error.value).startswith(words)
    assert str(error.value).endswith(", ".join(NAMES[3:]))


def validation_error(name: str, ae: aezoo.Autoencoder) -> str:
    """Why a protocol does not apply: its incompatibility, which running it turns into one line."""
    reason = PROTOCOLS[name].incompatibility(ae)
    assert reason is not None
    with pytest.raises(NotSupportedError) as error:
        run_protocol(name, ae)
    assert str(error.value) == f"the protocol {name} does not apply: {reason}"
    assert "\n" not in str(error.value)
    return reason


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_without_a_dataset_is_refused(name: str) -> None:
    assert validation_error(name, linear(None, torch.eye(2))) == "the recipe names no dataset"


@pytest.mark.parametrize("name", NAMES)
def test_an_architecture_without_a_recipe_is_refused(name: str) -> None:
    data = {key: value for key, value in small().items() if key in ("input", "encoder", "decoder")}
    ae = aezoo.build(aezoo.AutoencoderSpec.model_validate(data))
    assert validation_error(name, ae) == "the recipe names no dataset"


@pytest.mark.parametrize("name", ["probe", "few-label"])
@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (None, "the dataset has no classes"),
        (torch.linspace(0, 1, 6), "the dataset has no classes"),
        (torch.full((6,), 3), "the dataset has a single class"),
    ],
    ids=["no labels", "an angle", "one class"],
)
def test_what_reads_classes_off_needs_two_of_them(name: str, labels: Tensor | None, reason: str) -> None:
    ae = linear(alike(Samples(drawn(6, 2), None, labels)), torch.eye(2))
    assert validation_error(name, ae) == reason


def test_only_a_swiss_roll_can_be_unrolled() -> None:
    assert (
        validation_error("unrolling", linear(splits_of_classes(), torch.eye(2)))
        == "the dataset is no swiss roll"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"input": {"shape": [2], "range": [-1, 1]}},
        {"input": {"shape": [2]}},
        {"input": {"shape": [2], "range": [0, 1]}, "target": {"shape": [2], "range": [0, 1]}},
    ],
    ids=["another range", "no range", "a target of its own"],
)
def test_noise_wants_inputs_from_0_to_1_that_are_their_own_target(changes: dict[str, Any]) -> None:
    reason = validation_error("noise", linear(splits_of_classes(), torch.eye(2), **changes))
    assert reason == "it is defined for inputs in [0, 1] that are their own target"


@pytest.mark.parametrize("data", ["mnist", "fashion_mnist", {"kind": "torchvision", "name": "KMNIST"}, "toy"])
def test_one_class_wants_a_network_of_chosen_classes(data: object) -> None:
    ae = for_pictures(splits_of_classes() if data == "toy" else data)
    assert validation_error("one-class", ae) == (
        "the network was trained on every class; give the recipe's dataset `classes`"
    )


def test_one_class_refuses_classes_that_are_all_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OneClass, "COMPONENTS", 1)
    data = offered(monkeypatch, pictures(40), pictures(20))
    ae = for_pictures(data | {"classes": [3, 8]})
    with pytest.raises(NotSupportedError, match=r"^the protocol one-class .*trained on every class"):
        run_protocol("one-class", ae)


TWO_LAYERS = [dense(3), dense(2)]


@pytest.mark.parametrize(
    "decoder",
    [
        [dense(2, activation="relu")],
        [dense(2, norm="layer_norm")],
        TWO_LAYERS,
        [{"kind": "unflatten", "shape": [1, 1]}, {"kind": "conv", "out_channels": 2, "kernel_size": 1},
         "flatten"],
        [dense(2), "layer_norm"],
    ],
    ids=["activation", "norm", "two layers", "conv", "a norm behind"],
)  # fmt: skip
def test_only_a_single_linear_layer_spans_a_subspace(decoder: list[Any]) -> None:
    ae = build(splits_of_classes(), [dense(1)], decoder)
    assert validation_error("subspace", ae) == "the decoder is not one linear layer without an activation"


def test_more_latents_than_values_span_no_subspace() -> None:
    reason = validation_error("subspace", linear(splits_of_classes(), drawn(3, 2)))
    assert "latents" in reason


def test_a_target_of_another_shape_spans_no_subspace_of_the_input() -> None:
    ae = build(splits_of_classes(), [dense(1)], [dense(3)], target={"shape": [3]})
    assert "target" in validation_error("subspace", ae)


@pytest.mark.parametrize("name", ["activity", "stability", "probe"])
def test_a_dataset_without_a_test_split_is_named(name: str) -> None:
    ae = linear(dataset(train=classes(), validation=classes()), torch.eye(2))
    with pytest.raises(DataError, match=r"^toy has no test split$"):
        run_protocol(name, ae)


# -- activity -----------------------------------------------------------------------------------------


def test_a_latent_is_active_above_a_hundredth_of_its_largest_training_value() -> None:
    # The largest are 100 and 2, whatever their sign, so that latents count from 1 and from 0.02 on.
    train = Samples(torch.tensor([[-100.0, 1.0], [3.0, -2.0]]))
    test = Samples(torch.tensor([[1.0, 0.02], [1.01, 0.0], [-1.01, -0.021], [0.0, 0.03]]))
    ae = linear(dataset(train=train, validation=train, test=test), torch.eye(2))
    found = run_protocol("activity", ae)
    # The second and the last have one, the third has both.
    assert numbers(found) == {"active_latents": 4 / 4}
    assert found["active_latents"]["n"] == 4


def test_a_latent_that_is_never_used_is_not_active() -> None:
    ae = linear(alike(Samples(drawn(5, 2) + 10)), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert numbers(run_protocol("activity", ae)) == {"active_latents": 1.0}


@pytest.mark.parametrize(("refit", "active"), [(False, 1.0), (True, 0.0)])
def test_activity_is_relative_to_all_that_the_weights_were_fitted_to(refit: bool, active: float) -> None:
    data = dataset(
        train=Samples(torch.ones(3, 1)),
        validation=Samples(torch.full((2, 1), 200.0)),
        test=Samples(torch.ones(4, 1)),
    )
    found = run_protocol("activity", linear(data, torch.ones(1, 1), refit=refit))
    assert numbers(found) == {"active_latents": active}


def test_a_refit_was_fitted_to_training_and_validation_data() -> None:
    train, validation = Samples(drawn(5, 2)), Samples(drawn(3, 2, seed=1))
    data = dataset(train=train, validation=validation, test=train)
    assert fitted_on(linear(data, torch.eye(2))).sha256() == train.sha256()
    assert fitted_on(linear(data, torch.eye(2), refit=True)).sha256() == train.concat(validation).sha256()


# -- stability ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0, 100.0])
def test_the_identity_changes_by_the_noise_over_the_spread(factor: float) -> None:
    # Two batches; the coordinates' variances are 9 and 1 about means that play no part.
    x = drawn(1500, 2) * torch.tensor([3.0, 1.0]) + torch.tensor([50.0, 0.0])
    ae = linear(alike(Samples(x)), factor * torch.eye(2))
    found = run_protocol("stability", ae)
    spread = math.sqrt(x.double().var(0, correction=0).mean())
    assert numbers(found) == {"latent_change": pytest.approx(0.1 / spread, rel=0.03)}
    assert found["latent_change"]["n"] == 1500


def test_latents_that_ignore_the_input_have_no_relative_change() -> None:
    found = run_protocol("stability", linear(alike(Samples(drawn(20, 2))), torch.zeros(1, 2)))
    entry = found["latent_change"]
    assert entry["value"] is None
    assert entry["reason"]


# -- probe --------------------------------------------------------------------------------------------


def test_the_probe_reads_latents_and_beside_them_inputs() -> None:
    # A class is how far a number lies from zero: the latents, its positive and its negative part, tell
    # it, but no threshold on the number itself does better than the larger class. Features this small
    # would tell a regularised classifier nothing, were they not standardised.
    x = torch.tensor([-3.0, 3.0, -2.5, 2.5, -2.0, 2.0, -0.5, 0.5]).repeat(5)[:, None]
    data = alike(Samples(x / 1000, None, (x[:, 0].abs() > 1).long()))
    ae = build(data, [dense(2, activation="relu")], [dense(1)], input={"shape": [1]})
    weights = {"encoder.0.linear.weight": torch.tensor([[1.0], [-1.0]])}
    ae.load_state_dict(weights | {"decoder.0.linear.weight": torch.tensor([[1.0, -1.0]])})
    found = run_protocol("probe", ae)
    assert numbers(found) == {"probe_accuracy": 1.0, "probe_accuracy.input": 0.75}
    assert [entry["n"] for entry in found.values()] == [40, 40]


def test_the_probe_is_fitted_on_the_first_training_samples_and_measured_on_the_test_split(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Probe, "ROWS", 20)
    right = classes(20, 2)
    assert right.labels is not None
    wrong = Samples(right.inputs, None, 1 - right.labels)
    data = dataset(train=right.concat(wrong).concat(wrong), validation=wrong, test=classes(12, 2, seed=3))
    found = run_protocol("probe", linear(data, torch.eye(2)))
    assert numbers(found) == {"probe_accuracy": 1.0, "probe_accuracy.input": 1.0}
    assert "first 20 training samples" in found["probe_accuracy"]["definition"]
    assert "latents" in found["probe_accuracy"]["definition"]
    assert "input values" in found["probe_accuracy.input"]["definition"]


# -- unrolling ----------------------------------------------------------------------------------------


class Radius(nn.Module):
    """How far a point lies from the axis of the roll, behind as many latents that are always zero."""

    def __init__(self, dead: int) -> None:
        super().__init__()
        self.dead = dead

    def forward(self, h: Tensor) -> Tensor:
        return torch.cat([h.new_zeros(len(h), self.dead), h[:, [0, 2]].norm(dim=1, keepdim=True)], 1)


class RadiusSpec(aezoo.LayerSpec):
    kind: Literal["radius"] = "radius"
    dead: int = 0

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        return Radius(self.dead)


ROLL: dict[str, Any] = {"kind": "swiss_roll", "count": 200, "scale": "none"}


def test_an_encoder_that_reads_the_angle_unrolls_the_roll() -> None:
    # A point lies as far from the axis as its angle says.
    ae = build(ROLL, [RadiusSpec()], [dense(3)], input={"shape": [3]})
    found = run_protocol("unrolling", ae)
    assert found["rank_correlation"]["value"] == pytest.approx(1.0, abs=1e-12)
    assert {entry["n"] for entry in found.values()} == {20}


def test_a_latent_that_is_always_zero_correlates_with_nothing() -> None:
    ae = build(ROLL, [RadiusSpec(dead=2)], [dense(3)], input={"shape": [3]})
    assert run_protocol("unrolling", ae)["rank_correlation"]["value"] == pytest.approx(1.0, abs=1e-12)


def test_latents_that_are_all_the_same_have_no_rank_correlation() -> None:
    found = run_protocol("unrolling", linear(aezoo.DatasetSpec.model_validate(ROLL), torch.zeros(2, 3)))
    assert found["rank_correlation"]["value"] is None
    assert found["rank_correlation"]["reason"]
    assert found["rank_correlation.pca"]["value"] > 0  # type: ignore[operator]


@pytest.mark.parametrize("refit", [False, True])
@pytest.mark.parametrize("latents", [1, 2, 5])
def test_principal_components_unroll_as_far_as_scipy_says(latents: int, refit: bool) -> None:
    ae = build(ROLL, [dense(latents)], [dense(3)], input={"shape": [3]}, refit=refit)
    roll = aezoo.DatasetSpec.model_validate(ROLL)
    train, validation, test = (roll.load(split) for split in ("train", "validation", "test"))
    everything = train.concat(validation) if refit else train

    x = inputs_of(ae, everything).double().numpy()
    _, _, axes = np.linalg.svd(x - x.mean(0))
    scores = inputs_of(ae, test).double().numpy() @ axes.T
    angle = labels_of(test).numpy()
    expected = [abs(scipy.stats.spearmanr(scores[:, i], angle).statistic) for i in range(min(latents, 3))]
    found = run_protocol("unrolling", ae)
    assert found["rank_correlation.pca"]["value"] == pytest.approx(max(expected), abs=1e-9)


# -- subspace -----------------------------------------------------------------------------------------

AXES = Samples(
    torch.cat([torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0]))] * 2) * torch.tensor([[1.0]] * 4 + [[-1.0]] * 4)
)
"""The axes are the principal components, in order."""
SKEW = math.sqrt(0.5)


@pytest.mark.parametrize(
    ("atoms", "degrees"),
    [
        ([[1.0, 0, 0, 0]], 0.0),
        ([[-7.0, 0, 0, 0]], 0.0),
        ([[1.0, 1, 0, 0], [1, -2, 0, 0]], 0.0),
        ([[0, 1.0, 0, 0]], 90.0),
        ([[0, 0, 1.0, 0], [0, 0, 0, 1]], 90.0),
        ([[1.0, 0, 0, 0], [0, 0, 1, 0]], 90.0),
        ([[SKEW, 0, 0, SKEW]], 45.0),
        ([[1.0, 0, 0, 0], [0, math.sqrt(3), 1, 0]], 30.0),
        ([[1.0, 2, 3, 4], [0, 1, 2, 3], [0, 0, 1, 2], [0, 0, 0, 1]], 0.0),
    ],
)
def test_the_angle_between_the_decoders_span_and_the_principal_components(
    atoms: list[list[float]], degrees: float
) -> None:
    decoder = torch.tensor(atoms).T
    found = run_protocol("subspace", linear(alike(AXES), torch.zeros_like(decoder.T), decoder))
    entry = found["principal_angle"]
    assert entry["value"] == pytest.approx(degrees, abs=1e-4)
    assert (entry["split"], entry["n"]) == ("train", 8)


@pytest.mark.parametrize(("refit", "degrees", "n"), [(False, 0.0, 8), (True, 90.0, 16)])
def test_the_components_are_of_all_that_the_weights_were_fitted_to(
    refit: bool, degrees: float, n: int
) -> None:
    far = Samples(AXES.inputs.flip(1) * 10)
    data = dataset(train=AXES, validation=far, test=AXES)
    first = torch.tensor([[1.0, 0, 0, 0]])
    found = run_protocol("subspace", linear(data, first, refit=refit))
    assert found["principal_angle"]["value"] == pytest.approx(degrees, abs=1e-4)
    assert found["principal_angle"]["n"] == n


def test_an_image_is_spanned_as_the_vector_of_its_pixels() -> None:
    image = {"kind": "unflatten", "shape": [1, 2, 2]}
    data = alike(Samples(AXES.inputs.view(8, 1, 2, 2)))
    ae = build(data, ["flatten", dense(1)], [dense(4), image], input={"shape": [1, 2, 2]})
    first = torch.tensor([[1.0, 0, 0, 0]])
    ae.load_state_dict({"encoder.1.linear.weight": first, "decoder.0.linear.weight": first.T})
    assert run_protocol("subspace", ae)["principal_angle"]["value"] == pytest.approx(0, abs=1e-4)


# -- noise --------------------------------------------------------------------------------------------


def test_the_identity_leaves_the_noise_as_it_is() -> None:
    # Of noise around 0 that is clipped to [0, 1], the lower half is cut off; what is left of a variance
    # of 0.1 is a half of it, less what lies beyond 1.
    ae = linear(alike(Samples(torch.zeros(3000, 8))), torch.eye(8), input={"shape": [8], "range": [0, 1]})
    found = run_protocol("noise", ae)
    std = math.sqrt(0.1)
    at = np.linspace(0, 4, 100_001)
    left = np.trapezoid(np.minimum(at, 1) ** 2 * scipy.stats.norm.pdf(at, scale=std), at)
    assert numbers(found)["gaussian.noisy_input_mse"] == pytest.approx(left, rel=0.03)
    assert numbers(found)["gaussian.denoised_mse"] == numbers(found)["gaussian.noisy_input_mse"]
    assert {entry["n"] for entry in found.values()} == {3000}


def test_a_network_that_always_gives_the_clean_input_removes_all_noise() -> None:
    # Clean inputs are 0, and so is whatever this network gives.
    clean, noisy = Samples(torch.zeros(20, 2)), {"shape": [2], "range": [0, 1]}
    found = run_protocol("noise", linear(alike(clean), torch.zeros(1, 2), input=noisy))
    assert found["gaussian.denoised_mse"]["value"] == 0
    assert found["gaussian.noisy_input_mse"]["value"] > 0.01


# -- one class ----------------------------------------------------------------------------------------


def auroc(usual: np.ndarray, other: np.ndarray) -> float:
    """How often another sample's error is the larger one of a pair, a tie counting half."""
    apart = other[:, None] - usual[None]
    return float(((apart > 0) + 0.5 * (apart == 0)).mean())


def test_the_reconstruction_error_tells_other_classes_as_far_as_it_ranks_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(OneClass, "COMPONENTS", 1)
    shades = torch.tensor([0, 150, 100, 255, 150], dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 1, 2, 2)
    test = Samples(shades.contiguous(), None, torch.tensor([3, 3, 8, 8, 8]))
    ae = for_pictures(offered(monkeypatch, pictures(40), test) | {"classes": [3]})
    # It gives back nothing, so that a lighter image is one more unusual.
    ae.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in ae.state_dict().items()})
    found = run_protocol("one-class", ae)
    # 100 and 150 are above 0, 255 is above both, and 150 is a tie with 150.
    assert found["auroc"]["value"] == 4.5 / 6
    assert {entry["n"] for entry in found.values()} == {5}


@pytest.mark.parametrize("refit", [False, True])
def test_principal_components_of_the_chosen_classes_stand_beside_it(
    monkeypatch: pytest.MonkeyPatch, refit: bool
) -> None:
    monkeypatch.setattr(OneClass, "COMPONENTS", 2)
    train, test = pictures(80), pictures(60, seed=1)
    ae = for_pictures(offered(monkeypatch, train, test) | {"classes": [3]}, refit=refit)
    found = run_protocol("one-class", ae)
    assert train.labels is not None
    assert test.labels is not None
    fitted = train.inputs[: 80 if refit else 60].flatten(1).double().numpy() / 255
    fitted = fitted[(train.labels[: len(fitted)] == 3).numpy()]
    x, usual = test.inputs.flatten(1).double().numpy() / 255, (test.labels == 3).numpy()
    axes = np.linalg.svd(fitted - fitted.mean(0))[2][:2]
    rest = (x - fitted.mean(0)) - (x - fitted.mean(0)) @ axes.T @ axes
    errors = (rest**2).mean(1)
    assert found["auroc.pca"]["value"] == pytest.approx(auroc(errors[usual], errors[~usual]), abs=1e-12)
    with torch.no_grad():
        own = (ae(test.inputs / 255).x_hat - test.inputs / 255).square().flatten(1).mean(1).numpy()
    assert found["auroc"]["value"] == pytest.approx(auroc(own[usual], own[~usual]), abs=1e-12)
    assert "2 components" in found["auroc.pca"]["definition"]


@pytest.mark.parametrize("name", ["one-class", "subspace"])
def test_principal_components_of_many_images_are_the_same_every_time(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # scikit-learn approximates them by a random projection where samples are many, but fewer than ten
    # for each value.
    data = offered(monkeypatch, pictures(1600, side=16), pictures(200, side=16, seed=1))
    ae = for_pictures(data | {"classes": [3]}, side=16, latents=8)
    state = np.random.get_state()[1].copy()
    first = numbers(run_protocol(name, ae))
    assert first == numbers(run_protocol(name, ae))
    assert np.array_equal(state, np.random.get_state()[1])


# -- few labels ---------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The protocol made small; tests may change more of it."""
    for name, value in {"LABELS": (20,), "DRAWS": 2, "STEPS": 25, "RATES": (1e-3,), "HEAD_RATE": 0.1}.items():
        monkeypatch.setattr(few_label, name, value)
    return monkeypatch


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("kinds", [2, 10])
def test_few_labels_suffice_where_classes_lie_apart(kinds: int) -> None:
    ae = linear(splits_of_classes(kinds, train=20 * kinds), torch.eye(kinds))
    found = run_protocol("few-label", ae)
    assert found["few_label.20"]["value"] == 1.0
    assert found["few_label.20.std"]["value"] == 0.0
    assert {entry["n"] for entry in found.values()} == {10 * kinds}


def test_every_number_of_labels_is_measured_from_both_starts(few: pytest.MonkeyPatch) -> None:
    few.setattr(few_label, "LABELS", (4, 20))
    few.setattr(few_label, "RATES", (1e-4, 2e-3))
    found = run_protocol("few-label", linear(splits_of_classes(), torch.eye(2)))
    assert list(found) == [
        f"few_label.{n}{scratch}{std}"
        for n in (4, 20)
        for scratch in ("", ".scratch")
        for std in ("", ".std")
    ]
    for name, entry in found.items():
        # Random weights and labels that are drawn are no part of a folder.
        assert entry["source"] == "protocol"
        words = entry["definition"]
        assert f"{name.split('.')[1]} balanced labels" in words
        assert "after 25 steps" in words
        assert "over 2 draws" in words
        assert ("standard deviation" if name.endswith(".std") else "mean") in words
        assert ("random weights" if "scratch" in name else "the variant's weights") in words
        assert any(f"learning rate, {rate}," in words for rate in ("0.0001", "0.002"))
        assert "validation" in words


def test_the_standard_number_of_draws_and_labels() -> None:
    assert (few_label.LABELS, few_label.DRAWS, few_label.STEPS) == ((100, 1000), 10, 300)


def test_rates_are_chosen_on_validation_by_a_draw_that_is_not_measured(few: pytest.MonkeyPatch) -> None:
    few.setattr(few_label, "DRAWS", 3)
    few.setattr(few_label, "RATES", (1.0, 2.0, 3.0))
    data = splits_of_classes()
    lengths = {split: len(data.load(split)) for split in ("validation", "test")}  # pyright: ignore
    seen: list[tuple[str, float, int, bool]] = []
    draws: list[Tensor] = []

    def accuracy(ae: Any, labelled: Any, measured: Any, rate: float, seed: int, scratch: bool) -> float:
        split = next(name for name, length in lengths.items() if length == len(measured.y))
        seen.append((split, rate, seed, scratch))
        draws.append(labelled.x)
        # On the test split another rate would be the best.
        return {1.0: 0.2, 2.0: 0.7, 3.0: 0.4}[rate] if split == "validation" else rate / 10 + seed**2 / 100

    few.setattr(few_label, "_accuracy", accuracy)
    found = run_protocol("few-label", linear(data, torch.eye(2)))
    for scratch in (False, True):
        assert [entry for entry in seen if entry[3] == scratch] == [
            *[("validation", rate, 3, scratch) for rate in (1.0, 2.0, 3.0)],
            *[("test", 2.0, seed, scratch) for seed in range(3)],
        ]
    assert found["few_label.20"]["value"] == pytest.approx((0.2 + 0.21 + 0.24) / 3)
    # Of a sample, not of a population.
    assert found["few_label.20.std"]["value"] == pytest.approx(np.std([0.2, 0.21, 0.24], ddof=1))
    # The draw that chose, and the three; the same for both starts.
    own = [draws[0], *draws[3:6]]
    assert all(not torch.equal(a, b) for i, a in enumerate(own) for b in own[:i])
    assert all(torch.equal(a, b) for a, b in zip(draws[:6], draws[6:], strict=True))


@pytest.mark.usefixtures("few")
def test_few_labels_are_drawn_in_equal_parts() -> None:
    lone = torch.tensor([0] * 90 + [1] * 10)
    many = few_label.Labelled(drawn(100, 2), lone)
    found = few_label._drawn(many, 12, seed=0)
    assert found.y.bincount().tolist() == [6, 6]
    assert len({tuple(row) for row in found.x.tolist()}) == 12
    places = [(many.x == row).all(1).nonzero().item() for row in found.x]
    assert torch.equal(lone[places], found.y)


def beside(samples: Samples, column: Tensor | float) -> Samples:
    """The same samples with another value behind theirs."""
    more = torch.as_tensor(column).expand(len(samples))[:, None]
    return Samples(torch.cat([samples.inputs, more], 1), None, samples.labels)


def test_few_labels_start_from_the_given_weights_and_beside_them_from_random_ones(
    few: pytest.MonkeyPatch,
) -> None:
    # The given encoder sees nothing but noise, and hardly learns; a random one sees the classes.
    few.setattr(few_label, "RATES", (1e-9,))
    noisy = alike(beside(classes(200), 0.05 * drawn(200, seed=9)))
    found = numbers(run_protocol("few-label", linear(noisy, torch.tensor([[0, 0, 1.0], [0, 0, -2.0]]))))
    assert found["few_label.20"] == pytest.approx(0.5, abs=0.2)
    assert found["few_label.20.scratch"] == 1.0


def test_every_draw_has_random_weights_of_its_own(few: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    def build_noting(spec: aezoo.AutoencoderSpec, *, seed: int) -> aezoo.Autoencoder:
        seeds.append(seed)
        return aezoo.build(spec, seed=seed)

    few.setattr(few_label, "RATES", (1e-4, 1e-3))
    few.setattr(few_label, "build", build_noting)
    run_protocol("few-label", linear(splits_of_classes(), torch.eye(2)))
    assert seeds == [2, 2, 0, 1]


@pytest.mark.usefixtures("few")
def test_few_labels_are_learnt_from_latents_as_they_are_used() -> None:
    # A layer that drops latents in training gives all of them when it is used.
    data, whole = splits_of_classes(), torch.tensor([[1.0, 0.5], [0.2, -1.0]])
    dropping = build(data, [dense(2), {"kind": "dropout", "p": 0.9}], [dense(2)])
    dropping.load_state_dict({"encoder.0.linear.weight": whole, "decoder.0.linear.weight": whole.T})
    assert numbers(run_protocol("few-label", dropping)) == numbers(
        run_protocol("few-label", linear(data, whole))
    )


def test_the_encoder_is_trained_along(few: pytest.MonkeyPatch) -> None:
    # What a random head makes of latents is changed by the encoder alone.
    few.setattr(few_label, "HEAD_RATE", 1e-9)
    few.setattr(few_label, "STEPS", 60)
    ae = linear(splits_of_classes(), torch.eye(2))
    reached: list[float] = []
    for rate in (1e-9, 0.1):
        few.setattr(few_label, "RATES", (rate,))
        reached.append(numbers(run_protocol("few-label", ae))["few_label.20"] or 0.0)
    assert reached[0] < 0.8
    assert reached[1] == 1.0


@pytest.mark.usefixtures("few")
def test_few_labels_give_the_same_numbers_every_time() -> None:
    data = dataset(train=classes(60, noise=1), validation=classes(40, noise=1, seed=1),
                   test=classes(200, noise=1, seed=2))  # fmt: skip
    ae = linear(data, torch.tensor([[1.0, 0.2], [0.1, -1.0]]))
    first = run_protocol("few-label", ae)
    torch.manual_seed(123)
    assert run_protocol("few-label", ae) == first
    values = numbers(first)
    assert 0.5 < values["few_label.20"] < 1  # type: ignore[operator]
    assert values["few_label.20"] != values["few_label.20.scratch"]


@pytest.mark.usefixtures("few")
def test_classes_that_only_the_training_data_have_are_no_mistake() -> None:
    def without(samples: Samples, label: int) -> Samples:
        assert samples.labels is not None
        return samples[(samples.labels != label).nonzero()[:, 0]]

    test = without(classes(30, 3, seed=2), 2)
    data = dataset(train=classes(60, 3), validation=without(classes(30, 3, seed=1), 2), test=test)
    assert numbers(run_protocol("few-label", linear(data, torch.eye(3))))["few_label.20"] == 1.0


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("labels", [[3, 8], [-1, 1]])
def test_labels_need_not_count_from_zero(labels: list[int]) -> None:
    def renamed(seed: int) -> Samples:
        samples = classes(40, seed=seed)
        return Samples(samples.inputs, None, torch.tensor(labels)[samples.labels])

    data = dataset(train=renamed(0), validation=renamed(1), test=renamed(2))
    assert numbers(run_protocol("few-label", linear(data, torch.eye(2))))["few_label.20"] == 1.0


@pytest.mark.usefixtures("few")
def test_the_definition_names_as_many_labels_as_were_drawn() -> None:
    # Of three classes, 20 labels in equal parts are 18.
    found = run_protocol("few-label", linear(splits_of_classes(3), torch.eye(3)))
    assert "18 balanced labels" in found["few_label.20"]["definition"]


@pytest.mark.usefixtures("few")
def test_a_class_with_too_few_samples_is_no_balanced_draw() -> None:
    data = dataset(train=classes(12), validation=classes(20, seed=1), test=classes(20, seed=2))
    with pytest.raises(DataError, match=r"10 .*class 0.* 6"):
        run_protocol("few-label", linear(data, torch.eye(2)))


@pytest.mark.usefixtures("few")
def test_fewer_labels_than_classes_are_too_few() -> None:
    with pytest.raises(DataError, match=r"20 .*25 classes"):
        run_protocol("few-label", linear(splits_of_classes(25, train=500), torch.eye(25)))


def test_a_latent_that_no_labelled_sample_uses_drowns_no_other(few: pytest.MonkeyPatch) -> None:
    few.setattr(few_label, "RATES", (1e-9,))
    # Rare enough to be zero in the training data altogether.
    data = dataset(train=beside(classes(60), 0.0), validation=beside(classes(40, seed=1), 0.0),
                   test=beside(classes(40, seed=2), 0.1))  # fmt: skip
    assert numbers(run_protocol("few-label", linear(data, torch.eye(3))))["few_label.20"] == 1.0


# -- what holds for all of them -----------------------------------------------------------------------


def suited(name: str, monkeypatch: pytest.MonkeyPatch) -> aezoo.Autoencoder:
    """A network that a protocol applies to, of which one layer draws in training."""
    monkeypatch.setattr(OneClass, "COMPONENTS", 2)
    data = offered(monkeypatch, pictures(80), pictures(40, seed=1))
    if name == "unrolling":
        return build(ROLL, [dense(2, dropout=0.5)], [dense(3)], input={"shape": [3]})
    chosen = {"classes": [3]} if name == "one-class" else {}
    return for_pictures(data | chosen, latents=2, dropout=0.5)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("name", NAMES)
def test_every_number_is_an_entry_of_metrics_json(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ae = suited(name, monkeypatch)
    assert PROTOCOLS[name].incompatibility(ae) is None
    found = run_protocol(name, ae)
    assert found
    for entry in found.values():
        assert list(entry) == list(get_type_hints(Metric))
        assert type(entry["value"]) is float
        assert math.isfinite(entry["value"])
        assert entry["reason"] is None
        assert entry["source"] == ("protocol" if name == "few-label" else "computed")
        assert entry["dataset"] == ("swiss_roll" if name == "unrolling" else "torchvision")
        assert entry["split"] == ("train" if name == "subspace" else "test")
        assert type(entry["n"]) is int
        assert entry["n"] > 0
        assert "  " not in entry["definition"]
        assert "{" not in entry["definition"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [False, True])
def test_a_protocol_leaves_everything_as_it_was(
    name: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ae = suited(name, monkeypatch).train(training)
    ae.decoder.train(not training)  # a mode of its own is kept, too
    weights = {key: tensor.clone() for key, tensor in ae.state_dict().items()}
    modes = [module.training for module in ae.modules()]
    torch.manual_seed(4711)  # a state that no earlier run can have left
    random_state, threads = torch.get_rng_state(), torch.get_num_threads()
    numpy_state = np.random.get_state()[1].copy()
    first = run_protocol(name, ae)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    assert torch.get_num_threads() == threads
    assert [module.training for module in ae.modules()] == modes
    assert all(torch.equal(ae.state_dict()[key], tensor) for key, tensor in weights.items())
    assert all(p.grad is None and p.requires_grad for p in ae.parameters())
    assert ae.metrics == {}
    assert run_protocol(name, ae.train(not training)) == first


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_another_precision_gives_nearly_the_same(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    ae = suited(name, monkeypatch)
    expected = numbers(run_protocol(name, ae))
    # Rounding may change the order of two samples, and noise is drawn anew.
    assert numbers(run_protocol(name, ae.to(dtype))) == pytest.approx(expected, rel=0.2, abs=0.1)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("name", ["activity", "few-label", "noise", "probe", "stability"])
def test_a_network_without_weights_can_be_measured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = suited(name, monkeypatch).spec.recipe.dataset  # type: ignore[union-attr]
    image = {"kind": "unflatten", "shape": [1, 2, 2]}
    ae = build(data, ["flatten"], [image], input={"shape": [1, 2, 2], "range": [0, 1]})
    assert all(entry["value"] is not None for entry in run_protocol(name, ae).values())


@pytest.mark.data
@pytest.mark.parametrize("name", ["activity", "noise", "stability"])
def test_a_variant_of_the_zoo_can_be_measured(name: str) -> None:
    found = run_protocol(name, aezoo.load("fc-64"))
    assert {(entry["dataset"], entry["n"]) for entry in found.values()} == {("mnist", 10_000)}
    values = numbers(found)
    if name == "activity":
        assert 32 < values["active_latents"] <= 64  # type: ignore[operator]
    elif name == "noise":
        assert values["gaussian.denoised_mse"] < values["gaussian.noisy_input_mse"]  # type: ignore[operator]
    else:
        assert 0 < values["latent_change"] < 1  # type: ignore[operator]


# -- numbers that are kept ----------------------------------------------------------------------------


def metric(value: float | None, source: str = "computed", split: str = "test") -> dict[str, object]:
    """An entry of `metrics.json`."""
    return {
        "value": value, "reason": None if value is not None else "none", "source": source, "dataset": "mnist",
        "split": split, "n": 5, "definition": "made up",
    }  # fmt: skip


OLD = {
    "fvu": metric(0.1),
    "mse": metric(0.2),
    "fvu.validation": metric(0.3, "protocol", "validation"),
    "mse.validation": metric(0.4, "protocol", "validation"),
    "train_seconds": metric(7.0, "recorded", "train"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with numbers in it."""
    ae = aezoo.build(small_spec())
    ae.metrics = json.loads(json.dumps(OLD))
    return aezoo.save(ae, tmp_path / "mine")


def kept(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text("utf-8"))


def test_recorded_numbers_stand_beside_the_old_ones_in_order(folder: Path) -> None:
    new = {"few_label.100": metric(0.9, "protocol"), "active_latents": metric(3.0)}
    path = record_metrics(folder, new)
    assert path == folder / "metrics.json"
    assert kept(folder) == OLD | new
    assert list(kept(folder)) == [
        "fvu", "mse", "few_label.100", "active_latents", "fvu.validation", "mse.validation", "train_seconds",
    ]  # fmt: skip


def test_a_recorded_number_takes_the_place_of_the_one_of_its_name(folder: Path) -> None:
    new = {"mse": metric(0.5), "mse.validation": metric(None, "protocol", "validation")}
    record_metrics(str(folder), new)
    assert kept(folder) == OLD | new
    assert list(kept(folder)) == list(OLD)


def test_recording_again_changes_nothing(folder: Path) -> None:
    new = {"active_latents": metric(3.0)}
    before = (folder / "metrics.json").read_bytes()
    record_metrics(folder, {})
    assert (folder / "metrics.json").read_bytes() == before
    first = record_metrics(folder, new).read_bytes()
    assert record_metrics(folder, new).read_bytes() == first


def test_a_folder_with_recorded_numbers_loads_and_only_the_numbers_are_others(folder: Path) -> None:
    others = {path: path.read_bytes() for path in folder.iterdir() if path.name != "metrics.json"}
    new = {"active_latents": metric(3.0)}
    record_metrics(folder, new)
    assert aezoo.load(folder).metrics == OLD | new
    assert {path: path.read_bytes() for path in folder.iterdir() if path.name != "metrics.json"} == others


def test_a_folder_without_numbers_gets_some(folder: Path) -> None:
    (folder / "metrics.json").unlink()
    record_metrics(folder, {"active_latents": metric(3.0)})
    assert aezoo.load(folder).metrics == {"active_latents": metric(3.0)}


def test_a_full_disk_leaves_the_old_numbers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_sync", full)
    names = sorted(path.name for path in folder.iterdir())
    with pytest.raises(CheckpointError, match=r"metrics\.json could not be written: No space left on device"):
        record_metrics(folder, {"mse": metric(9.0)})
    assert kept(folder) == OLD
    assert sorted(path.name for path in folder.iterdir()) == names


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        record_metrics(tmp_path / "nowhere", {"mse": metric(9.0)})
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_json_does_not_have_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written as JSON"):
        record_metrics(folder, {"mse": metric(math.nan)})
    assert kept(folder) == OLD


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "metrics.json"), ('{"mse": 3}', "mse: expected an object, found int")],
)
def test_numbers_that_cannot_be_read_are_left_alone(folder: Path, text: str, words: str) -> None:
    (folder / "metrics.json").write_text(text)
    with raises("invalid-config", match=words):
        record_metrics(folder, {"active_latents": metric(3.0)})
    assert (folder / "metrics.json").read_text() == text


def test_an_entry_that_does_not_say_where_it_is_from_is_kept(folder: Path) -> None:
    # Such a folder loads.
    (folder / "metrics.json").write_text('{"mse": {"value": 1}}')
    record_metrics(folder, {"active_latents": metric(3.0)})
    assert kept(folder) == {"mse": {"value": 1}, "active_latents": metric(3.0)}
