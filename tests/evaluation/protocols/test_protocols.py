"""Properties that every protocol has: its name, the networks it applies to, its entries, no side effects."""

import json
import math
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
import torch
from torch import Tensor

import aezoo
from aezoo.data.samples import Samples
from aezoo.errors import DataError, NotSupportedError
from aezoo.evaluation.evaluate import Measurement, dataset_of
from aezoo.evaluation.protocols import PROTOCOLS, run_protocol
from aezoo.evaluation.protocols.one_class import OneClass
from tests.evaluation.networks import normal, values
from tests.evaluation.protocols.networks import (
    ROLL,
    build,
    classes,
    dataset,
    dense,
    for_images,
    images,
    in_torchvision,
    linear,
    numpy_random_state,
    same_splits,
    shorten_few_label,
    splits_of_classes,
)
from tests.examples import small

NAMES = [
    "activity", "clustering", "few-label", "image-quality", "neighbors", "noise", "one-class", "probe", "probe-full",
    "stability", "subspace", "unrolling",
]  # fmt: skip


def test_protocols_are_sorted_by_name() -> None:
    assert list(PROTOCOLS) == NAMES
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert protocol.summary
        assert "\n" not in protocol.summary


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("prob", "no protocol 'prob' (did you mean 'probe'?); known are activity, clustering, few-label"),
        ("few_label", "no protocol 'few_label' (did you mean 'few-label'?); known are"),
        ("xyz", "no protocol 'xyz'; known are activity"),
        ("", "no protocol ''; known are activity"),
    ],
)
def test_an_unknown_protocol_is_rejected(asked: str, words: str) -> None:
    with pytest.raises(NotSupportedError) as error:
        run_protocol(asked, linear(None, torch.eye(2)))
    assert str(error.value).startswith(words)
    assert str(error.value).endswith(", ".join(NAMES[3:]))


# -- incompatible networks ----------------------------------------------------------------------------


def architecture() -> aezoo.Autoencoder:
    parts = {key: value for key, value in small().items() if key in ("input", "encoder", "decoder")}
    return aezoo.build(aezoo.AutoencoderSpec.model_validate(parts))


def labelled(labels: Tensor | None) -> aezoo.Autoencoder:
    return linear(same_splits(Samples(normal(6, 2), None, labels)), torch.eye(2))


def of_classes(**changes: Any) -> aezoo.Autoencoder:
    return linear(splits_of_classes(), torch.eye(2), **changes)


def decoding(decoder: list[Any], **changes: Any) -> aezoo.Autoencoder:
    return build(splits_of_classes(), [dense(1)], decoder, **changes)


OF_CLASSES = ("probe", "probe-full", "clustering", "neighbors", "few-label")
UNIT = {"shape": [2], "range": [0, 1]}
TO_CONV = [{"kind": "unflatten", "shape": [1, 1]}, {"kind": "conv", "out_channels": 2, "kernel_size": 1}]
NO_DATASET = "the recipe names no dataset"
NO_CLASSES = "the dataset has no classes"
NOT_UNIT = "it is defined for inputs in [0, 1] that are their own target"
EVERY_CLASS = "the network was trained on every class; give the recipe's dataset `classes`"
NOT_LINEAR = "the decoder is not one linear layer without an activation"
INCOMPATIBLE: list[tuple[str, Callable[[], aezoo.Autoencoder], str]] = [
    *((name, lambda: linear(None, torch.eye(2)), NO_DATASET) for name in NAMES),
    *((name, architecture, NO_DATASET) for name in NAMES),
    *((name, lambda: labelled(None), NO_CLASSES) for name in OF_CLASSES),
    *((name, lambda: labelled(torch.linspace(0, 1, 6)), NO_CLASSES) for name in OF_CLASSES),
    *((name, lambda: labelled(torch.full((6,), 3)), "the dataset has a single class") for name in OF_CLASSES),
    ("unrolling", of_classes, "the dataset is not a swiss roll"),
    ("noise", lambda: of_classes(input={"shape": [2], "range": [-1, 1]}), NOT_UNIT),
    ("noise", lambda: of_classes(input={"shape": [2]}), NOT_UNIT),
    ("noise", lambda: of_classes(input=UNIT, target=UNIT), NOT_UNIT),
    ("one-class", lambda: for_images("mnist"), EVERY_CLASS),
    ("one-class", lambda: for_images("fashion_mnist"), EVERY_CLASS),
    ("one-class", lambda: for_images({"kind": "torchvision", "name": "KMNIST"}), EVERY_CLASS),
    ("one-class", lambda: for_images(splits_of_classes()), EVERY_CLASS),
    ("subspace", lambda: decoding([dense(2, activation="relu")]), NOT_LINEAR),
    ("subspace", lambda: decoding([dense(2, norm="layer_norm")]), NOT_LINEAR),
    ("subspace", lambda: decoding([dense(3), dense(2)]), NOT_LINEAR),
    ("subspace", lambda: decoding([*TO_CONV, "flatten"]), NOT_LINEAR),
    ("subspace", lambda: decoding([dense(2), "layer_norm"]), NOT_LINEAR),
    ("subspace", lambda: decoding([dense(3)], target={"shape": [3]}), "the target is not the input"),
    (
        "subspace",
        lambda: linear(splits_of_classes(), normal(3, 2)),
        "3 latents are more than the input has values",
    ),
]


@pytest.mark.parametrize(("name", "make", "reason"), INCOMPATIBLE)
def test_an_incompatible_network_is_rejected_with_the_reason(
    name: str, make: Callable[[], aezoo.Autoencoder], reason: str
) -> None:
    ae = make()
    assert PROTOCOLS[name].incompatibility(ae) == reason
    with pytest.raises(NotSupportedError) as error:
        run_protocol(name, ae)
    assert str(error.value) == f"the protocol {name} does not apply: {reason}"


def test_one_class_needs_other_classes_in_the_test_split(monkeypatch: pytest.MonkeyPatch) -> None:
    data = in_torchvision(monkeypatch, images(40), images(20))
    with pytest.raises(NotSupportedError, match=r"^the protocol one-class .* every class of the test split$"):
        run_protocol("one-class", for_images(data | {"classes": [3, 8]}))


@pytest.mark.parametrize("name", ["activity", "stability", "probe"])
def test_a_dataset_without_a_test_split_is_rejected(name: str) -> None:
    ae = linear(dataset(train=classes(), validation=classes()), torch.eye(2))
    with pytest.raises(DataError, match=r"^toy has no split 'test'; train, validation are known$"):
        run_protocol(name, ae)


# -- common properties --------------------------------------------------------------------------------


def compatible(name: str, monkeypatch: pytest.MonkeyPatch) -> aezoo.Autoencoder:
    """A network with dropout that a protocol applies to."""
    shorten_few_label(monkeypatch)
    monkeypatch.setattr(OneClass, "COMPONENTS", 2)
    data = in_torchvision(monkeypatch, images(80), images(40, seed=1))
    if name == "unrolling":
        return build(ROLL, [dense(2, dropout=0.5)], [dense(3)], input={"shape": [3]})
    if name == "image-quality":
        data = in_torchvision(monkeypatch, images(80, side=12), images(40, side=12, seed=1))
        return for_images(data, side=12, latents=2, dropout=0.5)
    selected = {"classes": [3]} if name == "one-class" else {}
    return for_images(data | selected, latents=2, dropout=0.5)


@pytest.mark.parametrize("name", NAMES)
def test_every_value_is_an_entry_of_metrics_json(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ae = compatible(name, monkeypatch)
    assert PROTOCOLS[name].incompatibility(ae) is None
    found = run_protocol(name, ae)
    assert found
    if name != "few-label":  # which is shortened here
        assert tuple(found) == PROTOCOLS[name].gives
    for entry in found.values():
        assert list(entry) == list(get_type_hints(Measurement))
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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [False, True])
def test_a_protocol_has_no_side_effects(name: str, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ae = compatible(name, monkeypatch).train(training)
    ae.decoder.train(not training)
    weights = {key: tensor.clone() for key, tensor in ae.state_dict().items()}
    modes = [module.training for module in ae.modules()]
    torch.manual_seed(4711)  # a state that no earlier run can have left
    random_state, threads = torch.get_rng_state(), torch.get_num_threads()
    numpy_state = numpy_random_state()
    first = run_protocol(name, ae)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert numpy_random_state() == numpy_state
    assert torch.get_num_threads() == threads
    assert [module.training for module in ae.modules()] == modes
    assert all(torch.equal(ae.state_dict()[key], tensor) for key, tensor in weights.items())
    assert all(p.grad is None and p.requires_grad for p in ae.parameters())
    assert ae.metrics == {}
    assert run_protocol(name, ae.train(not training)) == first


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_another_precision_has_similar_values(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    ae = compatible(name, monkeypatch)
    expected = values(run_protocol(name, ae))
    # Rounding may change the order of two samples, and noise is drawn differently.
    assert values(run_protocol(name, ae.to(dtype))) == pytest.approx(expected, rel=0.2, abs=0.1)


@pytest.mark.parametrize("name", ["activity", "few-label", "noise", "probe", "stability"])
def test_a_network_without_weights_can_be_measured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset_of(compatible(name, monkeypatch))
    image = {"kind": "unflatten", "shape": [1, 2, 2]}
    ae = build(data, ["flatten"], [image], input={"shape": [1, 2, 2], "range": [0, 1]})
    assert None not in values(run_protocol(name, ae)).values()


@pytest.mark.data
@pytest.mark.parametrize("name", ["activity", "noise", "stability"])
def test_a_variant_of_the_zoo_can_be_measured(name: str) -> None:
    found = run_protocol(name, aezoo.load("fc-64"))
    assert {(entry["dataset"], entry["n"]) for entry in found.values()} == {("mnist", 10_000)}
    measured: dict[str, Any] = values(found)
    if name == "activity":
        assert 32 < measured["active_latents"] <= 64
    elif name == "noise":
        assert measured["gaussian.denoised_mse"] < measured["gaussian.noisy_input_mse"]
    else:
        assert 0 < measured["latent_change"] < 1
