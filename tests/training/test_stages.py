"""Stages: what each kind trains, what it leaves alone, and what it refuses before anything is read."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import yaml
from sklearn.decomposition import PCA
from torch import Generator, Tensor, nn

import aezoo
from aezoo.data.inputs import prepare_splits
from tests.examples import small
from tests.training.test_training import (
    DENSE,
    FLAT,
    IMAGES,
    Calls,
    DataTerm,
    Penalty,
    Tiny,
    on,
    on_validation,
    same_weights,
    spec_of,
    stage,
    train,
)


def linear(out_features: int, **options: Any) -> dict[str, Any]:
    return {"kind": "linear", "out_features": out_features, "activation": "tanh", **options}


def conv(out_channels: int, **options: Any) -> dict[str, Any]:
    return {"kind": "conv", "out_channels": out_channels, "kernel_size": 3, "padding": "same", **options}


def greedy(epochs: int = 2, **options: Any) -> dict[str, Any]:
    return {"kind": "greedy", "epochs": epochs, **options}


DEEP: dict[str, list[Any]] = {
    "encoder": ["flatten", linear(12), linear(5)],
    "decoder": [linear(12), linear(36, activation="sigmoid"), FLAT],
}
LINEAR: dict[str, list[Any]] = {
    "encoder": ["flatten", {"kind": "linear", "out_features": 4}],
    "decoder": [{"kind": "linear", "out_features": 36}, FLAT],
}
LAYERED: dict[str, dict[str, list[Any]]] = {
    "linear": DEEP,
    "normalised": {
        "encoder": ["flatten", linear(12, norm="batch_norm", dropout=0.3), linear(5, norm="batch_norm")],
        "decoder": [linear(12, norm="batch_norm"), linear(36), FLAT],
    },
    "pools": {
        "encoder": [conv(3), {"kind": "avg_pool", "kernel_size": 2}, "flatten", linear(5)],
        "decoder": [linear(27), {"kind": "unflatten", "shape": [3, 3, 3]}, "upsample", conv(1)],
    },
    "switches": {
        "encoder": [conv(3), {"kind": "max_pool", "kernel_size": 2, "switches": "a"}, conv(4)],
        "decoder": [conv(3), {"kind": "max_unpool", "kernel_size": 2, "switches": "a"}, conv(1)],
    },
}
PAIRS: dict[str, list[tuple[str, ...]]] = {
    "linear": [("encoder.1.", "decoder.1."), ("encoder.2.", "decoder.0.")],
    "normalised": [("encoder.1.", "decoder.1."), ("encoder.2.", "decoder.0.")],
    "pools": [("encoder.0.", "decoder.3."), ("encoder.3.", "decoder.0.")],
    "switches": [("encoder.0.", "decoder.2."), ("encoder.2.", "decoder.0.")],
}
"""Where the weights of each pair of those are, outermost first."""


def state_of(ae: aezoo.Autoencoder) -> dict[str, Tensor]:
    return {
        name: tensor.detach().clone() for name, tensor in ae.state_dict().items() if name != "target_mean"
    }


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def of_layers(names: Iterable[str], layers: tuple[str, ...]) -> set[str]:
    return {name for name in names if name.startswith(layers)}


# -- optimizers ---------------------------------------------------------------------------------------

Make = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, tuple[dict[str, Any], Make]] = {
    "adamw": (
        {"kind": "adamw", "lr": 0.01, "betas": [0.8, 0.95], "eps": 1e-6, "weight_decay": 0.1},
        lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1, fused=True),
    ),
    "adamw as it is": (
        {"kind": "adamw"},
        lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.01, fused=True),
    ),
    "sgd": ({"kind": "sgd", "lr": 0.5}, lambda p: torch.optim.SGD(p, lr=0.5, fused=True)),
    "momentum": (
        {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01, fused=True),
    ),
    "nesterov": (
        {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True},
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, fused=True),
    ),
}


@pytest.mark.parametrize(("optimizer", "make"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_optimizer_does_what_a_loop_by_hand_does(optimizer: dict[str, Any], make: Make) -> None:
    spec = spec_of(stages=[stage(3, optimizer=optimizer)])
    by_hand, x = aezoo.build(spec, seed=0).train(), prepare_splits(IMAGES, spec, 0).train.inputs
    generator, steps = Generator().manual_seed(0), make(by_hand.parameters())
    for _ in range(3):
        for rows in torch.randperm(len(x), generator=generator).split(16):
            steps.zero_grad()
            (by_hand(x[rows]).x_hat - x[rows]).square().mean().backward()
            steps.step()
    assert changed(state_of(by_hand), state_of(train(spec))) == set()


def test_nesterov_needs_a_momentum() -> None:
    with pytest.raises(ValueError, match="nesterov needs a momentum above 0"):
        spec_of(stages=[stage(optimizer={"kind": "sgd", "lr": 0.1, "nesterov": True})])


# -- freeze -------------------------------------------------------------------------------------------

NORMALISED = LAYERED["normalised"]


@pytest.mark.parametrize(
    ("freeze", "layers"),
    [
        (["encoder.1"], ("encoder.1.",)),
        (["encoder.2", "decoder.1"], ("encoder.2.", "decoder.1.")),
        (["encoder"], ("encoder.",)),
        (["encoder.1.linear"], ("encoder.1.linear.",)),
    ],
    ids=str,
)
def test_frozen_layers_stay_as_they_are_and_all_others_learn(
    freeze: list[str], layers: tuple[str, ...]
) -> None:
    spec = spec_of(**NORMALISED, stages=[stage(3, freeze=freeze)])
    before = state_of(aezoo.build(spec))
    ae = train(spec)
    assert changed(before, state_of(ae)) == before.keys() - of_layers(before, layers)
    assert all(parameter.requires_grad for parameter in ae.parameters())


def test_a_frozen_layer_drops_nothing_and_the_others_do() -> None:
    spec = spec_of(**NORMALISED, stages=[stage(1, freeze=["encoder.1"]), stage(1)])
    modes: dict[int, set[tuple[bool, bool]]] = {0: set(), 1: set()}

    def look(name: str, state: aezoo.TrainingState) -> None:
        modes[state.stage].add((state.ae.encoder[1].training, state.ae.encoder[2].training))

    train(spec, Calls(look))
    assert modes == {0: {(False, True)}, 1: {(True, True)}}


def test_a_frozen_layer_is_not_brought_back_to_its_invariant_either() -> None:
    """Dividing a unit vector by its length once more may change its last bits."""
    spec = spec_of(
        encoder=["flatten", DENSE],
        decoder=[{"kind": "unit_norm_linear", "out_features": 36}, FLAT],
        stages=[stage(1, freeze=["decoder.0"])],
    )
    before = state_of(aezoo.build(spec))

    def stretch(state: aezoo.TrainingState) -> None:
        state.ae.decoder[0].get_submodule("linear").weight.data.mul_(2.0)

    after = state_of(train(spec, on("on_fit_start", stretch)))
    assert torch.equal(after["decoder.0.linear.weight"], 2 * before["decoder.0.linear.weight"])


def test_what_was_frozen_learns_in_the_next_stage() -> None:
    spec = spec_of(**DEEP, stages=[stage(1, freeze=["encoder", "decoder.0"]), stage(1)])
    assert changed(state_of(aezoo.build(spec)), names := state_of(train(spec))) == names.keys()


def test_frozen_layers_thaw_when_the_training_is_cut_off() -> None:
    def stop(state: aezoo.TrainingState) -> None:
        assert not state.ae.encoder[1].get_parameter("linear.weight").requires_grad
        raise KeyboardInterrupt

    with pytest.raises(aezoo.TrainingInterrupted) as caught:
        train(spec_of(**DEEP, stages=[stage(freeze=["encoder"])]), on("after_step", stop))
    assert all(parameter.requires_grad for parameter in caught.value.ae.parameters())


# -- greedy -------------------------------------------------------------------------------------------

each_layered = pytest.mark.parametrize("net", LAYERED)
either_target = pytest.mark.parametrize("reconstruct", ["own_input", "input"])


@either_target
@each_layered
def test_pairs_are_trained_from_the_outside_in_and_each_alone(net: str, reconstruct: str) -> None:
    spec = spec_of(**LAYERED[net], stages=[greedy(reconstruct=reconstruct)])
    before: dict[str, Tensor] = {}
    seen: list[tuple[int, int]] = []
    touched: dict[int, set[str]] = {}

    def look(name: str, state: aezoo.TrainingState) -> None:
        if name == "on_fit_start":
            before.update(state_of(state.ae))
        if name == "on_epoch_end":
            seen.append((state.layer_pair, state.epoch))
            touched[state.layer_pair] = changed(before, state_of(state.ae))

    ae = train(spec, Calls(look))
    assert seen == [(1, 1), (1, 2), (2, 1), (2, 2)]
    for pair, layers in enumerate(PAIRS[net], 1):
        assert touched[pair] == of_layers(before, layers)
    assert [(r["stage"], r["pair"], r["epoch"]) for r in ae.history] == [(0, 1, 1), (0, 1, 2), (0, 2, 1), (0, 2, 2)]  # fmt: skip
    assert ae.training_record["epochs"] == [2, 2]
    assert all(parameter.requires_grad for parameter in ae.parameters())


class Window:
    """Keeps what a loss is given, in training, pair by pair."""

    def __init__(self) -> None:
        self.rows: list[tuple[aezoo.Output, aezoo.StepContext]] = []

    def __call__(self, output: aezoo.Output, batch: aezoo.StepContext, ae: aezoo.Autoencoder) -> None:
        if ae.training:
            self.rows.append((output, batch))

    def shapes(self) -> list[tuple[tuple[int, ...], ...]]:
        found: list[tuple[tuple[int, ...], ...]] = []
        for output, batch in self.rows:
            one = tuple(tuple(t.shape[1:]) for t in (batch.input, batch.target, output.latents))
            found += [one] if one not in found else []
        return found


IMAGE = (1, 6, 6)


@pytest.mark.parametrize(
    ("reconstruct", "second"),
    [("own_input", ((12,), (12,), (5,))), ("input", (IMAGE, IMAGE, (5,)))],
)
def test_losses_see_what_the_pair_sees(reconstruct: str, second: tuple[tuple[int, ...], ...]) -> None:
    data_term, penalty = Window(), Window()
    train(
        spec_of(
            **DEEP,
            reconstruction=DataTerm(of=data_term),
            penalties=[Penalty(of=penalty)],
            stages=[greedy(1, reconstruct=reconstruct)],
        )
    )
    assert data_term.shapes() == penalty.shapes() == [(IMAGE, IMAGE, (12,)), second]


def test_a_pair_is_given_what_the_frozen_ones_outside_make_of_the_clean_samples() -> None:
    window = Window()
    spec = spec_of(
        **NORMALISED,
        reconstruction=DataTerm(of=window),
        noises=[{"kind": "masking", "share": 0.25, "value": 1.0}],
        stages=[greedy(1)],
    )
    ae = train(spec).eval()
    x = prepare_splits(IMAGES, spec, 0).train.inputs
    with torch.no_grad():
        inner = ae.encoder[1](x.flatten(1))
    generator = Generator().manual_seed(0)
    torch.randperm(len(x), generator=generator)
    for _, batch in window.rows:
        clean = x.flatten(1) if batch.target.ndim == 4 else inner
        # Every row of the target is one of what is seen there, so no dropout, no noise, no batch's statistics.
        distance = torch.cdist(batch.target.flatten(1).double(), clean.double()).min(1).values
        assert distance.max() < 1e-5
        altered = batch.input != batch.target
        assert altered.flatten(1).sum(1).max() <= round(0.25 * clean.shape[1])
        assert (batch.input[altered] == 1.0).all()
        assert altered.any()


def test_each_pair_stops_early_by_itself() -> None:
    losses = on_validation(DataTerm, 3.0, 1.0, 2.0, 2.0, 0.5)
    kept: dict[tuple[int, int], dict[str, Tensor]] = {}
    ae = train(
        spec_of(**DEEP, reconstruction=losses, stages=[greedy(5, early_stop={"patience": 2})]),
        on("on_epoch_end", lambda state: kept.update({(state.layer_pair, state.epoch): state_of(state.ae)})),
    )
    assert list(kept) == [(pair, epoch) for pair in (1, 2) for epoch in (1, 2, 3, 4)]
    assert ae.training_record["epochs"] == [2, 2]
    assert changed(kept[2, 2], state_of(ae)) == set()
    assert changed(kept[1, 2], kept[2, 1]) == of_layers(kept[1, 2], PAIRS["linear"][1])


def test_a_refit_repeats_the_epochs_of_each_pair() -> None:
    stops = {("choose", 1): 1, ("choose", 2): 3}

    def stop(state: aezoo.TrainingState) -> None:
        state.stop = stops.get((state.history[-1]["round"], state.layer_pair)) == state.epoch

    ae = train(spec_of(**DEEP, refit=True, stages=[greedy(4), stage(2)]), on("on_epoch_end", stop))
    assert ae.training_record["epochs"] == [1, 3, 2]
    again = [(r["stage"], r.get("pair"), r["epoch"]) for r in ae.history if r["round"] == "refit"]
    assert again == [(0, 1, 1), (0, 2, 1), (0, 2, 2), (0, 2, 3), (1, None, 1), (1, None, 2)]


@either_target
@pytest.mark.parametrize("options", [{}, {"tie": True}, {"schedule": {"kind": "cosine", "warmup_steps": 3}}])
def test_greedy_with_a_single_pair_is_a_fit(options: dict[str, Any], reconstruct: str) -> None:
    noises = [{"kind": "gaussian", "std": 0.1}]
    layers: dict[str, Any] = {"encoder": ["flatten", DENSE | {"dropout": 0.3}]}
    alone = train(spec_of(**layers, noises=noises, stages=[greedy(3, reconstruct=reconstruct, **options)]))
    assert same_weights(alone, train(spec_of(**layers, noises=noises, stages=[stage(3, **options)])))


def test_greedy_learns_and_a_fit_behind_it_learns_more() -> None:
    optimizer = {"kind": "adam", "lr": 0.01}
    ae = train(spec_of(**DEEP, stages=[greedy(6, optimizer=optimizer), stage(6, optimizer=optimizer)]))
    losses = [(r.get("pair"), r["train"]["loss"]) for r in ae.history]
    for pair in (1, 2, None):
        own = [loss for number, loss in losses if number == pair]
        assert own[-1] < own[0]


def weights_of_pairs(ae: aezoo.Autoencoder, net: str) -> list[tuple[Tensor, Tensor]]:
    weights = {name: m.weight for name, m in ae.named_modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)}  # fmt: skip
    return [
        tuple(next(w for name, w in weights.items() if f"{name}.".startswith(layer)) for layer in layers)
        for layers in PAIRS[net]
    ]


TRANSPOSED = {
    "linear": DEEP,
    "conv": {
        "encoder": [
            conv(3, padding=1),
            {"kind": "max_pool", "kernel_size": 2, "switches": "a"},
            conv(4, padding=1),
        ],
        "decoder": [
            conv(3, padding=1) | {"kind": "conv_transpose"},
            {"kind": "max_unpool", "kernel_size": 2, "switches": "a"},
            conv(1, padding=1) | {"kind": "conv_transpose"},
        ],
    },
}
PAIRS["conv"] = PAIRS["switches"]


@either_target
@pytest.mark.parametrize("net", TRANSPOSED)
def test_a_tied_pair_shares_its_weights_inside_and_owns_them_afterwards(net: str, reconstruct: str) -> None:
    apart: list[list[float]] = []
    outputs: list[Tensor] = []

    def look(state: aezoo.TrainingState) -> None:
        with torch.no_grad():
            pairs = weights_of_pairs(state.ae, net)
            apart.append([float((d - (e.t() if e.ndim == 2 else e)).abs().max()) for e, d in pairs])
            outputs.append(state.ae.eval()(IMAGES).x_hat)

    spec = spec_of(**TRANSPOSED[net], stages=[greedy(2, tie=True, reconstruct=reconstruct)])
    ae = train(spec, on("on_epoch_end", look))
    # While the first pair is trained, the second has its weights yet to come.
    assert [(first == 0, second == 0) for first, second in apart] == [(True, False)] * 2 + [(True, True)] * 2
    with torch.no_grad():
        torch.testing.assert_close(ae(IMAGES).x_hat, outputs[-1], atol=1e-6, rtol=0)
    assert [n for n, _ in ae.named_parameters()] == [n for n, _ in aezoo.build(spec).named_parameters()]
    pointers = [parameter.untyped_storage().data_ptr() for parameter in ae.parameters()]
    assert len(set(pointers)) == len(pointers)
    assert all(p.is_contiguous() and p.requires_grad and p.is_leaf for p in ae.parameters())


# -- principal components -----------------------------------------------------------------------------

SLANTED = (torch.randn(200, 36, generator=Generator().manual_seed(5)) @ torch.diag(torch.linspace(2, 0.1, 36)))  # fmt: skip
"""With components that lie well apart."""
ROTATED = (SLANTED @ torch.linalg.qr(torch.randn(36, 36, generator=Generator().manual_seed(6)))[0] + 1).view(-1, 1, 6, 6)  # fmt: skip
PLAIN: dict[str, Any] = {"kind": "pca"}


def linear_spec(**recipe: Any) -> aezoo.VariantSpec:
    return spec_of(**LINEAR, **recipe).replace({"input.range": None})


def test_pca_is_what_scikit_learn_computes() -> None:
    spec = linear_spec(stages=[PLAIN])
    x = prepare_splits(ROTATED, spec, 0).train.inputs
    reference = PCA(4, svd_solver="full").fit(x.flatten(1).double().numpy())
    ae = train(spec, data=ROTATED)
    x_hat = reference.inverse_transform(reference.transform(x.flatten(1).double().numpy()))
    expected = float(np.square(x_hat - x.flatten(1).numpy()).mean())
    with torch.no_grad():
        out = ae(x)
    assert float((out.x_hat - x).square().mean()) == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(out.x_hat.flatten(1), torch.from_numpy(x_hat).float(), atol=1e-4, rtol=0)
    scores = out.latents.double()
    torch.testing.assert_close(
        scores.var(0), torch.from_numpy(reference.explained_variance_).double(), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(scores.mean(0), torch.zeros(4).double(), atol=1e-5, rtol=0)
    assert ae.history == []
    assert ae.training_record["epochs"] == []


def test_components_are_orthonormal_and_their_largest_weight_is_positive() -> None:
    weight = train(linear_spec(stages=[PLAIN]), data=ROTATED).encoder[1].get_parameter("linear.weight")
    torch.testing.assert_close(weight @ weight.T, torch.eye(4), atol=1e-6, rtol=0)
    assert (weight.gather(1, weight.abs().argmax(1, keepdim=True)) > 0).all()


def test_the_same_components_come_out_of_any_initial_weights() -> None:
    """The seed chooses the held-out rows as well, so the data are given split."""
    rows = ROTATED[:180]
    first, second = (train(linear_spec(stages=[PLAIN], seed=seed), data=Split(rows=rows)) for seed in (0, 1))
    assert changed(state_of(first), state_of(second)) == set()


class Split(Tiny):
    """The same splits whatever the seed."""

    kind: Literal["split"] = "split"
    rows: Any

    def load(self, split: str) -> aezoo.Samples:
        return aezoo.Samples(self.rows)


def test_a_refit_takes_the_components_of_all_rows() -> None:
    ae = train(linear_spec(stages=[PLAIN], refit=True), data=ROTATED)
    mean = ae.decoder[0].get_parameter("linear.bias")
    torch.testing.assert_close(mean, ROTATED.flatten(1).mean(0), atol=1e-5, rtol=0)


WIDE = [{"kind": "linear", "out_features": 40}]
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "activation": (
        {"encoder": ["flatten", linear(4)]},
        "pca needs an encoder of one linear layer with a bias and without an activation",
    ),
    "behind": (
        {"encoder": ["flatten", *LINEAR["encoder"][1:], {"kind": "topk", "k": 2}]},
        "pca needs an encoder of one linear layer with a bias and without an activation",
    ),
    "no bias": (
        {"encoder": ["flatten", linear(4, activation=None, bias=False)]},
        "pca needs an encoder of one linear layer with a bias and without an activation",
    ),
    "two layers": (
        {"decoder": [linear(8, activation=None), *LINEAR["decoder"]]},
        "pca needs a decoder of one linear layer with a bias and without an activation",
    ),
    "unit norm": (
        {"decoder": [{"kind": "unit_norm_linear", "out_features": 36}, FLAT]},
        "pca needs a decoder of one linear layer with a bias and without an activation",
    ),
    "too many": (
        {"encoder": ["flatten", *WIDE]},
        "pca gives at most as many components as values, found 36 -> 40 -> 36",
    ),
    "target": (
        {"target": {"shape": [1, 6, 6], "range": [0, 1]}},
        "pca reconstructs the input, but the spec declares another target",
    ),
}


def refusal_of(changes: dict[str, Any], **recipe: Any) -> list[tuple[str, str]]:
    """What is said before any data are read, path by path."""
    asked: list[str] = []
    spec = aezoo.VariantSpec.model_validate(
        small(**LINEAR)
        | changes
        | {"recipe": small()["recipe"] | {"dataset": Tiny(asked=asked.append), **recipe}}
    )
    with pytest.raises(aezoo.SpecError) as caught:
        train(spec, data=None)
    assert asked == []
    return [(problem.path, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize(("changes", "words"), REFUSED.values(), ids=REFUSED)
def test_pca_refuses_what_is_no_linear_autoencoder(changes: dict[str, Any], words: str) -> None:
    assert refusal_of(changes, stages=[stage(), PLAIN]) == [("recipe.stages.1", words)]


# -- refusals before anything is read -----------------------------------------------------------------

SWITCHED = {
    "encoder": [conv(2), {"kind": "max_pool", "kernel_size": 1, "switches": "a"}, conv(3)],
    "decoder": [conv(2), {"kind": "max_unpool", "kernel_size": 1, "switches": "a"}, conv(1)],
}
COLOUR = {
    "input": {"shape": [3, 6, 6], "range": [0, 1]},
    "encoder": ["flatten", linear(12), linear(5)],
    "decoder": [linear(12), linear(108), {"kind": "unflatten", "shape": [3, 6, 6]}],
}
BEFORE: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "freeze, unknown": (
        DEEP, {"stages": [stage(freeze=["encoder.7"])]},
        "recipe.stages.0.freeze.0", "there is no layer 'encoder.7'",
    ),
    "freeze, the second unknown": (
        DEEP, {"stages": [stage(), stage(freeze=["encoder.1", "target_mean"])]},
        "recipe.stages.1.freeze.1", "there is no layer 'target_mean'",
    ),
    "freeze, everything": (
        DEEP, {"stages": [stage(freeze=["encoder", "decoder.0", "decoder.1"])]},
        "recipe.stages.0.freeze", "freezes all weights, so nothing is left to train",
    ),
    "freeze, tied": (
        DEEP, {"stages": [stage(tie=True, freeze=["decoder.0"])]},
        "recipe.stages.0.freeze", "decoder.0",
    ),
    "greedy, counts": (
        DEEP | {"decoder": [linear(36), FLAT]}, {"stages": [stage(), greedy()]},
        "recipe.stages.1", "greedy needs as many weighted layers on each side, found 2 in the encoder, 1 in the decoder",
    ),
    "greedy, sizes": (
        DEEP | {"decoder": [linear(11), linear(36), FLAT]}, {"stages": [greedy()]},
        "recipe.stages.0", "greedy needs a decoder that mirrors the encoder; none of its last 1 layers takes (12,)",
    ),
    "greedy, switches": (
        SWITCHED, {"stages": [greedy()]},
        "recipe.stages.0", "pair 2 needs 'a.indices', which lies outside it; reconstruct: input reaches it",
    ),
    "greedy, tie": (
        LAYERED["pools"], {"stages": [greedy(tie=True)]},
        "recipe.stages.0.tie", "tie needs mirrored layers, found Conv2d and Conv2d",
    ),
    "greedy, a loss": (
        DEEP, {"stages": [greedy()], "penalties": [{"kind": "weight_decay", "on": ["encoder.2"]}]},
        "recipe.stages.0", "pair 1: recipe.penalties.0: weight_decay finds no weights at 'encoder.2'",
    ),
    "greedy, a noise": (
        COLOUR, {"stages": [greedy()], "noises": ["grayscale"]},
        "recipe.stages.0", "pair 2: recipe.noises.0: grayscale takes colour images of shape (3, height, width), not (12,)",
    ),
    "noise": (
        DEEP, {"noises": [{"kind": "masking", "share": 0.1}, {"kind": "masking", "share": 0.1, "value": 2.0}]},
        "recipe.noises.1", "2 lies outside the input's range [0",
    ),
    "reconstruction": (
        LINEAR, {"reconstruction": "bce"},
        "recipe.reconstruction", "bce needs a decoder that stays in [0, 1], its last layers give -inf to inf",
    ),
    "penalty": (
        DEEP, {"penalties": ["l1_latents", "auxk"]},
        "recipe.penalties.1", "auxk revives latents that topk leaves out; end the encoder in topk",
    ),
    "nothing to train": (
        {"encoder": ["flatten"], "decoder": [FLAT]}, {},
        "recipe.stages", "there are no weights to train",
    ),
}  # fmt: skip
each_refused = pytest.mark.parametrize(("layers", "recipe", "path", "words"), BEFORE.values(), ids=BEFORE)


@each_refused
def test_a_recipe_that_cannot_work_is_refused_before_data_are_read(
    layers: dict[str, Any], recipe: dict[str, Any], path: str, words: str
) -> None:
    ((found, message),) = refusal_of(layers, **recipe)
    assert found == path
    assert words in message


@each_refused
def test_validate_says_the_same_with_the_line(
    layers: dict[str, Any], recipe: dict[str, Any], path: str, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(small(**layers, recipe=small()["recipe"] | recipe), sort_keys=False))
    with pytest.raises(aezoo.SpecError) as caught:
        aezoo.validate(file)
    (problem,) = caught.value.problems
    assert str(caught.value).startswith(f"{file}:{problem.line}: {path}: ")
    lines = file.read_text().splitlines()
    assert problem.line is not None
    # The line of the value itself or, in a list, of its entry.
    last = [part for part in path.split(".") if not part.isdecimal()][-1]
    assert last in lines[problem.line - 1] or lines[problem.line - 1].lstrip().startswith("- ")


def test_several_problems_are_told_at_once() -> None:
    found = refusal_of(
        DEEP,
        reconstruction={"kind": "mse"},
        noises=["grayscale"],
        penalties=["auxk"],
        stages=[stage(freeze=["nowhere"]), PLAIN, greedy(), stage(freeze=["encoder", "decoder"])],
    )
    assert [path for path, _ in found] == [
        "recipe.noises.0", "recipe.penalties.0", "recipe.stages.0.freeze.0", "recipe.stages.1",
        "recipe.stages.2", "recipe.stages.3.freeze",
    ]  # fmt: skip


# -- one stage after the other ------------------------------------------------------------------------


def test_a_fit_behind_pca_starts_from_the_components() -> None:
    began: dict[str, Tensor] = {}
    alone = train(linear_spec(stages=[PLAIN]), data=ROTATED)
    both = linear_spec(stages=[PLAIN, stage(2, freeze=["encoder"])])
    ae = train(both, on("on_fit_start", lambda state: began.update(state_of(state.ae))), data=ROTATED)
    assert changed(state_of(alone), began) == set()
    assert changed(began, state_of(ae)) == {"decoder.0.linear.weight", "decoder.0.linear.bias"}
    assert [record["stage"] for record in ae.history] == [1, 1]


def test_pca_behind_a_fit_takes_its_place() -> None:
    alone = train(linear_spec(stages=[PLAIN]), data=ROTATED)
    assert same_weights(alone, train(linear_spec(stages=[stage(1), PLAIN]), data=ROTATED))


def test_a_tied_fit_then_greedy_then_a_fit_of_the_decoder() -> None:
    began: list[dict[str, Tensor]] = []
    stages = [stage(1, tie=True), greedy(1, tie=True), stage(1, freeze=["encoder"])]
    ae = train(
        spec_of(**DEEP, stages=stages, refit=True),
        on(
            "on_fit_start",
            lambda state: began.append({n: t.clone() for n, t in state.ae.state_dict().items()}),
        ),
    )
    where = [(r["round"], r["stage"], r.get("pair")) for r in ae.history]
    once = [(0, None), (1, 1), (1, 2), (2, None)]
    assert where == [(name, *at) for name in ("choose", "refit") for at in once]
    assert changed(began[-1], state_of(ae)) == of_layers(began[-1], ("decoder.",))
    assert began[-1]["decoder.1.linear.weight"].equal(began[-1]["encoder.1.linear.weight"].t())


# -- a loss that is no longer finite ------------------------------------------------------------------


def until(stage_: int, epoch: int, step: int, value: float) -> tuple[Calls, Penalty]:
    """A callback and a penalty that is `value` from one batch on."""
    bad: list[bool] = []

    def look(state: aezoo.TrainingState) -> None:
        assert state.context is not None
        bad[:] = [True] * (state.stage == stage_ and state.epoch + 1 == epoch and state.context.step >= step)

    def of(output: aezoo.Output, batch: aezoo.StepContext, ae: aezoo.Autoencoder) -> Tensor:
        return output.x_hat.sum() * (value if bad and ae.training else 0.0)

    return on("before_step", look), Penalty(of=of)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("tie", [False, True])
def test_the_error_names_the_batch_and_holds_the_weights_of_the_epoch_before(value: float, tie: bool) -> None:
    looks, penalty = until(1, 2, 4 * 3 + 2, value)  # four steps an epoch; the third of the fourth epoch
    spec = spec_of(penalties=[penalty], stages=[stage(2), stage(3, tie=tie)])
    with pytest.raises(aezoo.TrainingError) as caught:
        train(spec, looks)
    assert str(caught.value).startswith("stage 1, epoch 2, batch 3: the term 'extra' is no longer finite")
    assert str(caught.value).endswith("The weights are those of the epoch before")
    ae = caught.value.ae
    assert same_weights(ae, train(spec_of(stages=[stage(2), stage(1, tie=tie)])))
    assert not ae.training
    assert [(r["stage"], r["epoch"]) for r in ae.history] == [(0, 1), (0, 2), (1, 1)]
    assert all(torch.isfinite(tensor).all() for tensor in ae.state_dict().values())
    assert {entry["value"] for entry in ae.metrics.values()} == {None}
    assert {entry["reason"] for entry in ae.metrics.values()} == {str(caught.value)}


def test_the_pair_is_named_too() -> None:
    looks, penalty = until(0, 1, 4 * 1, math.nan)
    with pytest.raises(aezoo.TrainingError, match=r"^stage 0, pair 2, epoch 1, batch 1: the term 'extra' is"):
        train(spec_of(**DEEP, penalties=[penalty], stages=[greedy(1)]), looks)


def test_only_the_terms_of_the_first_bad_batch_are_named() -> None:
    """All others follow from it one step later."""
    looks, penalty = until(0, 1, 1, math.inf)
    with pytest.raises(aezoo.TrainingError, match="batch 2: the term 'extra' is no longer"):
        train(spec_of(penalties=[penalty], reconstruction="mse"), looks)


def test_a_step_size_that_diverges_leaves_finite_weights() -> None:
    stages = [stage(9, optimizer={"kind": "sgd", "lr": 1e9})]
    with pytest.raises(aezoo.TrainingError, match="the term 'mse' is no longer finite") as caught:
        train(linear_spec(stages=stages))
    assert all(torch.isfinite(tensor).all() for tensor in caught.value.ae.state_dict().values())


def test_weights_that_broke_in_the_last_step_of_an_epoch_are_not_taken_for_good_ones() -> None:
    """A refit has no validation that would have told at once."""

    def spoil(state: aezoo.TrainingState) -> None:
        if len(state.samples) == 60 and (state.epoch, state.step) == (0, 4):
            next(state.ae.parameters()).data.fill_(math.nan)

    with pytest.raises(aezoo.TrainingError, match=r"stage 0, epoch 1.* no longer finite") as caught:
        train(spec_of(refit=True, stages=[stage(3)]), on("after_step", spoil))
    assert all(torch.isfinite(tensor).all() for tensor in caught.value.ae.state_dict().values())
