"""Stages in sequence, and frozen layers."""

import pytest
import torch
from torch import Tensor

import aezoo
from tests.training.networks import (
    DEEP,
    DENSE,
    FLAT,
    LINEAR,
    NORMALIZED,
    changed,
    greedy,
    names_in,
    same_weights,
    spec_of,
    stage,
    state_of,
    train,
)
from tests.training.probes import Calls, on

PCA = {"kind": "pca"}

# -- freeze -------------------------------------------------------------------------------------------


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
def test_frozen_layers_do_not_change_and_all_others_do(freeze: list[str], layers: tuple[str, ...]) -> None:
    spec = spec_of(**NORMALIZED, stages=[stage(3, freeze=freeze)])
    before = state_of(aezoo.build(spec))
    ae = train(spec)
    assert changed(before, state_of(ae)) == before.keys() - names_in(before, layers)
    assert all(parameter.requires_grad for parameter in ae.parameters())


def test_frozen_layers_are_in_eval_mode() -> None:
    spec = spec_of(**NORMALIZED, stages=[stage(1, freeze=["encoder.1"]), stage(1)])
    modes: dict[int, set[tuple[bool, bool]]] = {0: set(), 1: set()}

    def look(name: str, state: aezoo.TrainingState) -> None:
        modes[state.stage].add((state.ae.encoder[1].training, state.ae.encoder[2].training))

    train(spec, Calls(look))
    assert modes == {0: {(False, True)}, 1: {(True, True)}}


def test_invariants_of_frozen_layers_are_not_restored() -> None:
    """Normalizing a unit vector once more may change its last bits."""
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


def test_frozen_layers_are_trained_in_the_next_stage() -> None:
    spec = spec_of(**DEEP, stages=[stage(1, freeze=["encoder", "decoder.0"]), stage(1)])
    after = state_of(train(spec))
    assert changed(state_of(aezoo.build(spec)), after) == after.keys()


def test_interrupted_training_unfreezes_layers() -> None:
    def stop(state: aezoo.TrainingState) -> None:
        assert not state.ae.encoder[1].get_parameter("linear.weight").requires_grad
        raise KeyboardInterrupt

    with pytest.raises(aezoo.TrainingInterrupted) as caught:
        train(spec_of(**DEEP, stages=[stage(freeze=["encoder"])]), on("after_step", stop))
    assert all(parameter.requires_grad for parameter in caught.value.ae.parameters())


# -- stages in sequence -------------------------------------------------------------------------------


def test_fit_after_pca_starts_from_the_components() -> None:
    start: dict[str, Tensor] = {}
    alone = train(spec_of(**LINEAR, stages=[PCA]))
    spec = spec_of(**LINEAR, stages=[PCA, stage(2, freeze=["encoder"])])
    ae = train(spec, on("on_fit_start", lambda state: start.update(state_of(state.ae))))
    assert changed(state_of(alone), start) == set()
    assert changed(start, state_of(ae)) == {"decoder.0.linear.weight", "decoder.0.linear.bias"}
    assert [record["stage"] for record in ae.history] == [1, 1]


def test_pca_after_fit_replaces_the_weights() -> None:
    alone = train(spec_of(**LINEAR, stages=[PCA]))
    assert same_weights(alone, train(spec_of(**LINEAR, stages=[stage(1), PCA])))


def test_a_tied_fit_then_greedy_then_a_fit_of_the_decoder() -> None:
    starts: list[dict[str, Tensor]] = []
    stages = [stage(1, tie=True), greedy(1, tie=True), stage(1, freeze=["encoder"])]
    ae = train(
        spec_of(**DEEP, stages=stages, refit=True),
        on("on_fit_start", lambda state: starts.append(state_of(state.ae))),
    )
    records = [(r["round"], r["stage"], r.get("pair")) for r in ae.history]
    units = [(0, None), (1, 1), (1, 2), (2, None)]
    assert records == [(name, *unit) for name in ("choose", "refit") for unit in units]
    assert changed(starts[-1], state_of(ae)) == names_in(starts[-1], ("decoder.",))
    assert torch.equal(starts[-1]["decoder.1.linear.weight"], starts[-1]["encoder.1.linear.weight"].t())
