"""Optimizers, learning-rate schedules and early stopping."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

import aezoo
from aezoo.data.inputs import prepare_splits
from tests.training.networks import (
    DENSE,
    IMAGES,
    adam,
    changed,
    same_weights,
    spec_of,
    stage,
    state_of,
    train,
)
from tests.training.probes import Cut, CutOff, DataTerm, on, on_validation

# -- optimizers ---------------------------------------------------------------------------------------

Make = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, tuple[dict[str, Any], Make]] = {
    "adamw": (
        {"kind": "adamw", "lr": 0.01, "betas": [0.8, 0.95], "eps": 1e-6, "weight_decay": 0.1},
        lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1, fused=True),
    ),
    "adamw defaults": (
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
def test_optimizers_give_the_weights_of_a_loop_by_hand(optimizer: dict[str, Any], make: Make) -> None:
    spec = spec_of(stages=[stage(3, optimizer=optimizer)])
    by_hand, x = aezoo.build(spec, seed=0).train(), prepare_splits(IMAGES, spec, 0).train.inputs
    generator, torch_optimizer = Generator().manual_seed(0), make(by_hand.parameters())
    for _ in range(3):
        for rows in torch.randperm(len(x), generator=generator).split(16):
            torch_optimizer.zero_grad()
            (by_hand(x[rows]).x_hat - x[rows]).square().mean().backward()
            torch_optimizer.step()
    assert changed(state_of(by_hand), state_of(train(spec))) == set()


def test_nesterov_needs_a_momentum() -> None:
    with pytest.raises(ValueError, match="nesterov needs a momentum above 0"):
        spec_of(stages=[stage(optimizer={"kind": "sgd", "lr": 0.1, "nesterov": True})])


# -- learning-rate schedules --------------------------------------------------------------------------


def lrs_of(spec: aezoo.VariantSpec) -> tuple[list[float], aezoo.Autoencoder]:
    """The learning rate of every step, and the trained autoencoder."""
    lrs: list[float] = []
    ae = train(spec, on("after_step", lambda state: lrs.append(state.optimizer.param_groups[0]["lr"])))
    return lrs, ae


def test_plateau_reduces_the_rate_after_patience_epochs_without_improvement() -> None:
    # With a relative threshold of 0.1, losses improve below 9 and then below 7.2; 7.9 and 7.5 do not.
    losses = [10.0, 8.0, 7.9, 7.5, 7.5, 7.5, 1.0, 2.0, 2.0, 2.0, 2.0]
    plateau = {"kind": "plateau", "factor": 0.5, "patience": 1, "threshold": 0.1, "min_lr": 0.02}
    expected = [0.08] * 4 + [0.04] * 2 + [0.02] * 5
    stages = [stage(len(losses), schedule=plateau, optimizer=adam(0.08))]
    lrs, ae = lrs_of(spec_of(reconstruction=on_validation(DataTerm, *losses), stages=stages))
    assert [record["validation"]["loss"] for record in ae.history] == pytest.approx(losses)
    assert [record["lr"] for record in ae.history] == expected
    assert lrs == [lr for lr in expected for _ in range(4)]


def test_plateau_compares_negative_losses() -> None:
    """Log-likelihoods and entropies can be below zero."""
    plateau = {"kind": "plateau", "factor": 0.5, "patience": 0, "threshold": 0.1}
    losses = on_validation(DataTerm, -1.0, -1.0, -1.05, -1.2, -1.2)
    stages = [stage(5, schedule=plateau, optimizer=adam(0.08))]
    _, ae = lrs_of(spec_of(reconstruction=losses, stages=stages))
    assert [record["lr"] for record in ae.history] == [0.08, 0.08, 0.04, 0.02, 0.02]


def test_cosine_warms_up_and_decays_step_by_step_in_each_stage() -> None:
    cosine = {"kind": "cosine", "final": 0.1, "warmup_steps": 3}
    lrs, ae = lrs_of(spec_of(stages=[stage(2, schedule=cosine, optimizer=adam(0.02))] * 2))
    warmup = [0.02 * step / 3 for step in (1, 2, 3)]
    decay = [0.02 * (0.1 + 0.9 * (1 + math.cos(math.pi * step / 5)) / 2) for step in range(5)]
    assert lrs == pytest.approx((warmup + decay) * 2, rel=1e-12)
    assert [record["lr"] for record in ae.history] == [lrs[i] for i in (3, 7, 11, 15)]


@pytest.mark.parametrize("kind", ["constant", "cosine", "plateau"])
def test_every_parameter_group_follows_the_schedule_at_its_own_ratio(kind: str) -> None:
    groups: list[list[float]] = []

    def split(state: aezoo.TrainingState) -> None:
        group = state.optimizer.param_groups[0]
        decoder = [p for p in group["params"] if any(p is q for q in state.ae.decoder.parameters())]
        group["params"] = [p for p in group["params"] if not any(p is q for q in decoder)]
        state.optimizer.add_param_group({"params": decoder[:1], "lr": 0.002})
        state.optimizer.add_param_group({"params": decoder[1:]})

    def look(state: aezoo.TrainingState) -> None:
        groups.append([group["lr"] for group in state.optimizer.param_groups])

    losses = on_validation(DataTerm, 2.0, 1.0, 1.0, 1.0, 1.0)
    options: dict[str, Any] = {"kind": kind, **({"patience": 0} if kind == "plateau" else {})}
    spec = spec_of(reconstruction=losses, stages=[stage(5, schedule=options, optimizer=adam(0.02))])
    train(spec, on("on_fit_start", split), on("after_step", look))
    expected, _ = lrs_of(spec)
    assert [first for first, _, _ in groups] == [third for _, _, third in groups] == expected
    assert [second for _, second, _ in groups] == pytest.approx([lr / 10 for lr in expected])


def test_before_step_may_change_the_rate_of_a_step() -> None:
    def change(state: aezoo.TrainingState) -> None:
        for group in state.optimizer.param_groups:
            group["lr"] *= 2.0 if state.step % 2 else 1.0

    lrs: list[float] = []
    spec = spec_of(stages=[stage(2, optimizer={"kind": "sgd", "lr": 0.25})])
    look = on("after_step", lambda state: lrs.append(state.optimizer.param_groups[0]["lr"]))
    ae = train(spec, on("before_step", change), look)
    assert lrs == [0.25, 0.5] * 4
    assert not same_weights(ae, train(spec))


def test_on_fit_start_may_replace_the_optimizer(tmp_path: Path) -> None:
    def replace(state: aezoo.TrainingState) -> None:
        state.optimizer = torch.optim.Adagrad(state.ae.parameters(), lr=0.1)

    spec = spec_of(stages=[stage(3, schedule="cosine", optimizer={"kind": "sgd", "lr": 1e-9})])
    whole = train(spec, on("on_fit_start", replace))
    assert not same_weights(whole, train(spec))
    with pytest.raises(CutOff):
        train(spec, on("on_fit_start", replace), Cut("on_epoch_end", 2), resume=tmp_path / "resume")
    assert same_weights(whole, train(spec, on("on_fit_start", replace), Cut(), resume=tmp_path / "resume"))


# -- early stopping -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "options", "epochs", "best"),
    [
        ([5.0, 4.0, 4.5, 4.0, 1.0], {"patience": 2}, 4, 2),
        ([5.0, 4.0, 4.5, 3.9, 4.0], {"patience": 2}, 5, 4),
        ([5.0, 4.0, 3.9, 3.8, 1.0], {"patience": 2, "min_delta": 0.5}, 4, 2),
        ([5.0, 4.0, 3.0, 2.0, 1.0], {"patience": 1}, 5, 5),
        ([1.0, 2.0, 0.5], {"patience": 1}, 2, 1),
    ],
    ids=["equal is not better", "an improvement resets patience", "min_delta", "never", "at once"],
)
def test_early_stopping_restores_the_best_epoch(
    losses: list[float], options: dict[str, Any], epochs: int, best: int
) -> None:
    states: list[dict[str, Tensor]] = []
    ae = train(
        spec_of(
            encoder=["flatten", DENSE | {"norm": "batch_norm"}],  # buffers are restored, too
            reconstruction=on_validation(DataTerm, *losses),
            stages=[stage(len(losses), early_stop=options)],
        ),
        on("on_epoch_end", lambda state: states.append(state_of(state.ae))),
    )
    assert [record["validation"]["loss"] for record in ae.history] == pytest.approx(losses[:epochs])
    assert ae.training_record["epochs"] == [best]
    matches = [changed(state, state_of(ae)) == set() for state in states]
    assert matches == [epoch == best for epoch in range(1, epochs + 1)]


def test_the_next_stage_starts_from_the_best_epoch() -> None:
    starts: list[dict[str, Tensor]] = []
    ends: list[dict[str, Tensor]] = []
    train(
        spec_of(
            reconstruction=on_validation(DataTerm, 1.0, 2.0, 3.0),
            stages=[stage(3, early_stop={"patience": 2}), stage(1)],
        ),
        on("on_fit_start", lambda state: starts.append(state_of(state.ae))),
        on("on_epoch_end", lambda state: ends.append(state_of(state.ae))),
    )
    assert changed(starts[1], ends[0]) == set()
    assert changed(starts[1], ends[2]) != set()
