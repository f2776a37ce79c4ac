"""Greedy layer-wise training of layer pairs."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import aezoo
from aezoo.data.inputs import prepare_splits
from tests.training.networks import (
    DEEP,
    DENSE,
    IMAGES,
    NORMALIZED,
    TRANSPOSED,
    Layers,
    adam,
    assert_independent,
    changed,
    conv,
    greedy,
    linear,
    names_in,
    same_weights,
    spec_of,
    stage,
    state_of,
    train,
)
from tests.training.probes import Calls, DataTerm, Penalty, Recorder, on, on_validation

POOLS: Layers = {
    "encoder": [conv(3), {"kind": "avg_pool", "kernel_size": 2}, "flatten", linear(5)],
    "decoder": [linear(27), {"kind": "unflatten", "shape": [3, 3, 3]}, "upsample", conv(1)],
}
PAIRS: dict[str, tuple[Layers, list[tuple[str, str]]]] = {
    "linear": (DEEP, [("encoder.1.", "decoder.1."), ("encoder.2.", "decoder.0.")]),
    "normalized": (NORMALIZED, [("encoder.1.", "decoder.1."), ("encoder.2.", "decoder.0.")]),
    "pools": (POOLS, [("encoder.0.", "decoder.3."), ("encoder.3.", "decoder.0.")]),
    "switches": (TRANSPOSED, [("encoder.0.", "decoder.2."), ("encoder.2.", "decoder.0.")]),
}
"""Networks, and the layers of each pair that have weights, outermost first."""
either_target = pytest.mark.parametrize("reconstruct", ["own_input", "input"])


@either_target
@pytest.mark.parametrize(("net", "pairs"), PAIRS.values(), ids=PAIRS)
def test_pairs_are_trained_one_by_one_from_the_outside_in(
    net: Layers, pairs: list[tuple[str, str]], reconstruct: str
) -> None:
    spec = spec_of(**net, stages=[greedy(reconstruct=reconstruct)])
    before: dict[str, Tensor] = {}
    seen: list[tuple[int, int]] = []
    trained: dict[int, set[str]] = {}

    def look(name: str, state: aezoo.TrainingState) -> None:
        if name == "on_fit_start":
            before.update(state_of(state.ae))
        if name == "on_epoch_end":
            seen.append((state.layer_pair, state.epoch))
            trained[state.layer_pair] = changed(before, state_of(state.ae))

    ae = train(spec, Calls(look))
    assert seen == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert trained == {number: names_in(before, layers) for number, layers in enumerate(pairs, 1)}
    records = [(r["stage"], r["pair"], r["epoch"]) for r in ae.history]
    assert records == [(0, 1, 1), (0, 1, 2), (0, 2, 1), (0, 2, 2)]
    assert ae.training_record["epochs"] == [2, 2]
    assert all(parameter.requires_grad for parameter in ae.parameters())


def shapes(seen: Recorder) -> list[tuple[tuple[int, ...], ...]]:
    """Shapes of input, target and latents, without repetitions."""
    contexts = zip(seen.training, seen.outputs, strict=True)
    found = [(c.input.shape[1:], c.target.shape[1:], output.latents.shape[1:]) for c, output in contexts]
    return list(dict.fromkeys(tuple(tuple(shape) for shape in three) for three in found))


IMAGE = (1, 6, 6)


@pytest.mark.parametrize(
    ("reconstruct", "second"),
    [("own_input", ((12,), (12,), (5,))), ("input", (IMAGE, IMAGE, (5,)))],
)
def test_losses_are_given_the_batch_and_the_output_of_the_pair(
    reconstruct: str, second: tuple[tuple[int, ...], ...]
) -> None:
    data_term, penalty = Recorder(), Recorder()
    train(
        spec_of(
            **DEEP,
            reconstruction=data_term.term,
            penalties=[Penalty(of=penalty)],
            stages=[greedy(1, reconstruct=reconstruct)],
        )
    )
    assert shapes(data_term) == shapes(penalty) == [(IMAGE, IMAGE, (12,)), second]


def test_a_pair_is_given_the_latents_of_clean_samples_by_the_frozen_pairs_outside() -> None:
    seen = Recorder()
    noise = {"kind": "masking", "share": 0.25, "value": 1.0}
    spec = spec_of(**NORMALIZED, reconstruction=seen.term, noises=[noise], stages=[greedy(1)])
    ae = train(spec).eval()
    x = prepare_splits(IMAGES, spec, 0).train.inputs
    with torch.no_grad():
        inner = ae.encoder[1](x.flatten(1))
    for context in seen.training:
        clean = x.flatten(1) if context.target.ndim == 4 else inner
        # Without dropout, noise and batch statistics, every target row is one of these.
        distance = torch.cdist(context.target.flatten(1).double(), clean.double()).min(1).values
        assert distance.max() < 1e-5
        altered = context.input != context.target
        assert altered.flatten(1).sum(1).max() <= round(0.25 * clean.shape[1])
        assert (context.input[altered] == 1.0).all()
        assert altered.any()


def test_each_pair_has_its_own_early_stopping() -> None:
    losses = on_validation(DataTerm, 3.0, 1.0, 2.0, 2.0, 0.5)
    states: dict[tuple[int, int], dict[str, Tensor]] = {}
    ae = train(
        spec_of(**DEEP, reconstruction=losses, stages=[greedy(5, early_stop={"patience": 2})]),
        on(
            "on_epoch_end", lambda state: states.update({(state.layer_pair, state.epoch): state_of(state.ae)})
        ),
    )
    assert list(states) == [(pair, epoch) for pair in (1, 2) for epoch in (1, 2, 3, 4)]
    assert ae.training_record["epochs"] == [2, 2]
    assert changed(states[2, 2], state_of(ae)) == set()
    assert changed(states[1, 2], states[2, 1]) == names_in(states[1, 2], PAIRS["linear"][1][1])


def test_refit_repeats_the_epochs_of_each_pair() -> None:
    stops = {("choose", 1): 1, ("choose", 2): 3}

    def stop(state: aezoo.TrainingState) -> None:
        state.stop = stops.get((state.history[-1]["round"], state.layer_pair)) == state.epoch

    ae = train(spec_of(**DEEP, refit=True, stages=[greedy(4), stage(2)]), on("on_epoch_end", stop))
    assert ae.training_record["epochs"] == [1, 3, 2]
    again = [(r["stage"], r.get("pair"), r["epoch"]) for r in ae.history if r["round"] == "refit"]
    assert again == [(0, 1, 1), (0, 2, 1), (0, 2, 2), (0, 2, 3), (1, None, 1), (1, None, 2)]


@either_target
@pytest.mark.parametrize("options", [{}, {"tie": True}, {"schedule": {"kind": "cosine", "warmup_steps": 3}}])
def test_greedy_with_a_single_pair_equals_fit(options: dict[str, Any], reconstruct: str) -> None:
    common: dict[str, Any] = {
        "encoder": ["flatten", DENSE | {"dropout": 0.3}], "noises": [{"kind": "gaussian", "std": 0.1}],
    }  # fmt: skip
    alone = train(spec_of(**common, stages=[greedy(3, reconstruct=reconstruct, **options)]))
    assert same_weights(alone, train(spec_of(**common, stages=[stage(3, **options)])))


def test_greedy_and_a_following_fit_reduce_the_loss() -> None:
    ae = train(spec_of(**DEEP, stages=[greedy(6, optimizer=adam(0.01)), stage(6, optimizer=adam(0.01))]))
    for pair in (1, 2, None):
        losses = [r["train"]["loss"] for r in ae.history if r.get("pair") == pair]
        assert losses[-1] < losses[0]


def pair_differences(ae: aezoo.Autoencoder, pairs: list[tuple[str, str]]) -> list[float]:
    """The largest difference of each pair's decoder weight from its transposed encoder weight."""
    modules = {name: m for name, m in ae.named_modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)}  # fmt: skip
    weights = [
        [next(m.weight for n, m in modules.items() if f"{n}.".startswith(p)) for p in pair] for pair in pairs
    ]
    return [float((d - (e.t() if e.ndim == 2 else e)).abs().max()) for e, d in weights]


@either_target
@pytest.mark.parametrize("name", ["linear", "switches"])
def test_a_tied_pair_shares_weights_in_its_turn_and_owns_them_afterwards(name: str, reconstruct: str) -> None:
    found: list[list[float]] = []
    outputs: list[Tensor] = []
    net, pairs = PAIRS[name]

    def look(state: aezoo.TrainingState) -> None:
        with torch.no_grad():
            found.append(pair_differences(state.ae, pairs))
            outputs.append(state.ae.eval()(IMAGES).x_hat)

    spec = spec_of(**net, stages=[greedy(2, tie=True, reconstruct=reconstruct)])
    ae = train(spec, on("on_epoch_end", look))
    # The second pair is not yet tied while the first is trained.
    assert [(first == 0, second == 0) for first, second in found] == [(True, False)] * 2 + [(True, True)] * 2
    with torch.no_grad():
        torch.testing.assert_close(ae(IMAGES).x_hat, outputs[-1], atol=1e-6, rtol=0)
    assert [n for n, _ in ae.named_parameters()] == [n for n, _ in aezoo.build(spec).named_parameters()]
    assert_independent(ae)


def test_divergence_names_the_pair() -> None:
    def of(output: aezoo.Output, context: aezoo.StepContext, ae: aezoo.Autoencoder) -> Tensor:
        return output.x_hat.sum() * (math.nan if ae.training and context.step >= 4 else 0.0)

    with pytest.raises(aezoo.TrainingError, match=r"^stage 0, pair 2, epoch 1, batch 1: the term 'extra' is"):
        train(spec_of(**DEEP, penalties=[Penalty(of=of)], stages=[greedy(1)]))
