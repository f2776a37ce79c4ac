"""The training loop: batches, noise, validation, the objective's warm-up, and the order of hooks."""

import math
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import aezoo
from tests.training.networks import (
    DEEP,
    DENSE,
    IMAGES,
    adam,
    greedy,
    images,
    same_weights,
    spec_of,
    stage,
    train,
    which,
)
from tests.training.probes import (
    Calls,
    CallsSpec,
    DataTerm,
    Likelihood,
    LikelihoodPenaltySpec,
    LikelihoodSpec,
    Penalty,
    Recorder,
    Tiny,
    constant,
    on,
    on_validation,
)

# -- batches ------------------------------------------------------------------------------------------


def test_every_row_is_seen_once_an_epoch_in_a_new_order() -> None:
    seen = Recorder()
    train(spec_of(reconstruction=seen.term))
    assert [len(context.input) for context in seen.training] == [16, 16, 16, 6] * 2
    inputs = [context.input for context in seen.training]
    orders = [which(torch.cat(inputs[i : i + 4]), IMAGES) for i in (0, 4)]
    assert len(set(orders[0])) == 54
    assert set(orders[0]) == set(orders[1])
    assert orders[0] != orders[1]


def test_context_counts_epochs_and_steps_of_the_round() -> None:
    seen = Recorder()
    train(spec_of(reconstruction=seen.term, stages=[stage(2), stage(1)]))
    within = [0.0, 16 / 54, 32 / 54, 48 / 54]
    assert [c.epoch for c in seen.training] == pytest.approx([n + e for n in range(3) for e in within])
    assert [c.step for c in seen.training] == list(range(12))
    assert [c.epoch for c in seen.validation] == [1.0, 2.0, 3.0]
    assert [c.step for c in seen.validation] == [4, 8, 12]


def test_context_has_the_labels_and_targets_of_its_rows() -> None:
    seen = Recorder()
    samples = aezoo.Samples(IMAGES, 1 - IMAGES, torch.arange(60))
    train(spec_of(reconstruction=seen.term), data=samples)
    for context in seen.training + seen.validation:
        assert context.labels is not None
        assert context.labels.tolist() == which(context.input, IMAGES)
        assert torch.equal(context.target, 1 - context.input)


def test_a_seeded_tenth_of_own_data_is_the_validation_split() -> None:
    validation: dict[int, set[int]] = {}
    for seed in (0, 1):
        seen = Recorder()
        ae = train(spec_of(reconstruction=seen.term, seed=seed))
        trained = set(which(torch.cat([context.target for context in seen.training[:4]]), IMAGES))
        validation[seed] = set(which(seen.validation[0].target, IMAGES))
        assert (len(trained), len(validation[seed])) == (54, 6)
        assert trained | validation[seed] == set(range(60))
        assert ae.training_record["data"]["held_out"] == f"6 of 60 samples, drawn with seed {seed}"
    assert validation[0] != validation[1]


@pytest.mark.parametrize("rows", [2, 5, 11])
def test_fewer_rows_than_the_batch_size_are_one_batch(rows: int) -> None:
    seen = Recorder()
    train(spec_of(reconstruction=seen.term), data=IMAGES[:rows])
    assert [len(context.input) for context in seen.training] == [rows - 1] * 2
    assert [len(context.input) for context in seen.validation] == [1] * 2


@pytest.mark.parametrize(
    ("batch_size", "refit", "rows"),
    [(53, False, 54), (1, False, 54), (59, True, 60)],
    ids=["last", "every", "refit"],
)
def test_a_batch_of_one_row_is_rejected_by_batch_norm_before_the_first_step(
    batch_size: int, refit: bool, rows: int
) -> None:
    steps: list[int] = []
    layer = DENSE | {"norm": "batch_norm"}
    text = f"^recipe.batch_size: {rows} rows in batches of {batch_size} leave a batch of 1 row, "
    for stages in ([stage(2)], [greedy(1), stage(1)]):
        spec = spec_of(encoder=["flatten", layer], batch_size=batch_size, refit=refit, stages=stages)
        with pytest.raises(aezoo.TrainingError, match=text) as caught:
            train(spec, on("before_step", lambda state: steps.append(state.step)))
        assert caught.value.ae is None
    assert steps == []


def test_a_batch_of_one_row_trains_networks_that_accept_it() -> None:
    layer = DENSE | {"norm": "batch_norm"}
    train(spec_of(batch_size=53))
    train(spec_of(encoder=["flatten", layer], batch_size=53, stages=[stage(1, freeze=["encoder"])]))


# -- callbacks ----------------------------------------------------------------------------------------


def add(state: aezoo.TrainingState) -> None:
    next(state.ae.parameters()).data.add_(1.0)


@pytest.mark.parametrize(
    "stages", [[stage(2)], [greedy(2)], [stage(2, tie=True)]], ids=["fit", "greedy", "tied"]
)
@pytest.mark.parametrize("refit", [False, True])
def test_weights_changed_after_validation_end_the_training(stages: list[Any], refit: bool) -> None:
    def change(state: aezoo.TrainingState) -> None:
        if not refit or state.history[-1]["round"] == "refit":
            add(state)

    text = "^Calls changed the weights in on_epoch_end, after the epoch was validated; change them in on_epoch_start"
    with pytest.raises(aezoo.TrainingError, match=text):
        train(spec_of(**DEEP, stages=stages, refit=refit), on("on_epoch_end", change))


@pytest.mark.parametrize("hook", ["on_fit_start", "on_epoch_start", "before_step", "after_step"])
def test_weights_changed_before_validation_are_those_that_are_recorded(hook: str) -> None:
    ae = train(spec_of(), on(hook, add))
    assert not same_weights(ae, train(spec_of()))
    recorded = ae.history[-1]["validation"]["mse"]
    assert ae.metrics["mse.validation"]["value"] == pytest.approx(recorded, rel=1e-5)


def test_an_epoch_that_diverges_restores_the_weights_before_on_epoch_start() -> None:
    def change(state: aezoo.TrainingState) -> None:
        if state.epoch == 1:
            next(state.ae.parameters()).data.fill_(math.nan)

    with pytest.raises(aezoo.TrainingError) as caught:
        train(spec_of(stages=[stage(3)]), on("on_epoch_start", change))
    assert same_weights(caught.value.ae, train(spec_of(stages=[stage(1)])))


# -- noise --------------------------------------------------------------------------------------------


def noise_by_row(contexts: list[aezoo.StepContext]) -> Tensor:
    """What was added to each row, in the order of `IMAGES`. Fails if the targets are not clean."""
    targets = torch.cat([context.target for context in contexts])
    added = torch.cat([context.input for context in contexts]) - targets
    return added[torch.tensor(which(targets, IMAGES)).argsort()]


def test_noise_is_added_to_the_input_alone_and_drawn_for_every_batch() -> None:
    seen = Recorder()
    train(spec_of(reconstruction=seen.term, noises=[{"kind": "gaussian", "std": 0.1}]))
    noise = torch.cat([noise_by_row(seen.training[:4]), noise_by_row(seen.training[4:])]).flatten(1)
    assert float(noise.std()) == pytest.approx(0.1, rel=0.1)
    assert noise.unique(dim=0).shape == (108, 36), "no two of 54 rows in two epochs share their noise"


def test_validation_noise_is_the_same_in_every_epoch_and_training() -> None:
    inputs: list[Tensor] = []
    for seed in (0, 1):
        seen = Recorder()
        spec = spec_of(
            dataset=Tiny(), reconstruction=seen.term, noises=[{"kind": "gaussian", "std": 0.1}],
            stages=[stage(2), stage(1)], seed=seed,
        )  # fmt: skip
        train(spec, data=None)
        inputs += [context.input for context in seen.validation]
    assert len(inputs) == 6
    assert all(torch.equal(x, inputs[0]) for x in inputs)
    assert not (inputs[0] == seen.validation[0].target).any()


@pytest.mark.parametrize("masking_first", [True, False])
def test_noises_are_applied_in_order(masking_first: bool) -> None:
    noises: list[Any] = [{"kind": "masking", "share": 1.0, "value": 0.5}, {"kind": "gaussian", "std": 0.1}]
    seen = Recorder()
    train(spec_of(reconstruction=seen.term, noises=noises if masking_first else noises[::-1]))
    assert bool((seen.training[0].input == 0.5).all()) is not masking_first


# -- losses -------------------------------------------------------------------------------------------


def test_warmup_grows_within_an_epoch_and_terms_are_recorded_unweighted() -> None:
    spec = spec_of(
        reconstruction=DataTerm(of=constant(0.0)),
        penalties=[Penalty(of=constant(1.0), weight=3.0, warmup_epochs=1.5)],
    )
    batches = [(0, 16), (16, 16), (32, 16), (48, 6)]
    for epoch, record in enumerate(train(spec).history):
        expected = sum(3.0 * min(1.0, (epoch + start / 54) / 1.5) * rows for start, rows in batches) / 54
        assert record["train"]["loss"] == pytest.approx(expected, rel=1e-6)
        assert record["train"]["extra"] == record["validation"]["extra"] == 1.0
        assert record["validation"]["loss"] == pytest.approx(3.0, rel=1e-6), "the full weight"


def test_warmup_goes_on_in_the_next_stage_and_starts_anew_for_each_pair() -> None:
    def weights(*stages: dict[str, Any], refit: bool = False) -> list[float]:
        penalty = Penalty(of=constant(1.0), warmup_epochs=4.0)
        spec = spec_of(
            **DEEP, reconstruction=DataTerm(of=constant(0.0)), penalties=[penalty], batch_size=1000,
            stages=stages, refit=refit,
        )  # fmt: skip
        return [record["train"]["loss"] for record in train(spec).history]

    assert weights(stage(2), stage(3)) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert weights(stage(2), stage(3), refit=True) == [0.0, 0.25, 0.5, 0.75, 1.0] * 2
    assert weights(greedy(2), stage(2)) == [0.0, 0.25] * 3


def test_warmup_goes_on_from_the_epoch_that_early_stopping_kept() -> None:
    data = on_validation(DataTerm, 3.0, 1.0, 2.0, 2.0, *[1.0] * 9)
    penalty = Penalty(of=constant(1.0), warmup_epochs=100.0)
    stages = [stage(9, early_stop={"patience": 2}), stage(1)]
    history = train(spec_of(reconstruction=data, penalties=[penalty], stages=stages, batch_size=1000)).history
    assert len(history) == 5, "the second epoch was the best"
    weight = history[-1]["train"]["loss"] - history[-1]["train"]["data_term"]
    assert weight == pytest.approx(0.02, rel=1e-4)


@pytest.mark.parametrize("warmup", [0.0, 30.0])
def test_early_stopping_and_plateau_schedules_judge_epochs_by_full_weights(warmup: float) -> None:
    """Under a growing weight, a falling penalty looks like a rising loss."""

    def falling(output: aezoo.Output, context: aezoo.StepContext, ae: aezoo.Autoencoder) -> Tensor:
        return output.x_hat.sum() * 0 + 1.0 - context.epoch / 1000

    penalty = Penalty(of=falling, warmup_epochs=warmup)
    options = {"early_stop": {"patience": 2}, "schedule": {"kind": "plateau", "patience": 0}}
    spec = spec_of(
        reconstruction=DataTerm(of=constant(0.0)), penalties=[penalty], stages=[stage(9, **options)]
    )
    ae = train(spec)
    assert ae.training_record["epochs"] == [9]
    assert {record["lr"] for record in ae.history} == {1e-3}


def test_a_term_called_loss_does_not_replace_the_sum() -> None:
    class Loss(Penalty):
        kind: Literal["loss"] = "loss"

    ae = train(spec_of(penalties=[Loss(of=constant(5.0), weight=0.1)]))
    for part in (ae.history[0]["train"], ae.history[0]["validation"]):
        assert part["loss"] == pytest.approx(part["mse"] + 0.5, rel=1e-6)


def test_parameters_of_a_loss_are_trained_and_restored_with_the_best_epoch() -> None:
    made: list[Likelihood] = []
    seen: list[float] = []
    ae = train(
        spec_of(
            reconstruction=LikelihoodSpec(keep=made.append, weight=1e-6),
            penalties=[on_validation(Penalty, 3.0, 2.0, 4.0, 4.0)],
            stages=[stage(9, early_stop={"patience": 2}, optimizer=adam(0.1))],
        ),
        on("on_epoch_end", lambda state: seen.append(made[0].log_variance.item())),
    )
    assert len(made) == 1
    assert 0 > seen[0] > seen[1] > seen[2] > seen[3], "the variance of these images is far below 1"
    assert ae.training_record["epochs"] == [2]
    assert made[0].log_variance.item() == seen[1]


def test_a_loss_is_in_eval_mode_on_validation() -> None:
    made: list[Likelihood] = []
    train(spec_of(reconstruction=LikelihoodSpec(keep=made.append)))
    assert made[0].modes == [True] * 4 + [False] + [True] * 4 + [False]


def test_losses_of_the_same_kind_have_parameters_of_their_own() -> None:
    made: list[Likelihood] = []
    train(spec_of(penalties=[LikelihoodPenaltySpec(keep=made.append)] * 2))
    assert [len(module.modes) for module in made] == [10, 10]


def test_a_loss_spec_may_hold_a_mapping() -> None:
    class Weighted(DataTerm):
        kind: Literal["weighted"] = "weighted"
        shares: dict[str, float]

    ae = train(spec_of(reconstruction=Weighted(of=lambda *_: None, shares={"a": 1.0})))
    assert len(ae.history) == 2


# -- callbacks ----------------------------------------------------------------------------------------


def test_hooks_are_called_in_order_for_the_recipes_callbacks_first() -> None:
    calls: list[tuple[str, str]] = []
    spec = spec_of(
        callbacks=[CallsSpec(function=lambda name, state: calls.append((name, "recipe")))],
        stages=[stage(1), stage(1)],
    )
    train(spec, Calls(lambda name, state: calls.append((name, "given"))), data=images(20))
    step = ["before_step", "after_step"]
    names = ["on_fit_start", "on_epoch_start", *step, *step, "on_epoch_end"] * 2
    assert calls == [(name, whose) for name in names for whose in ("recipe", "given")]


def test_state_at_every_hook() -> None:
    seen: list[tuple[Any, ...]] = []

    def look(name: str, state: aezoo.TrainingState) -> None:
        size = None if state.context is None else len(state.context.input)
        seen.append((name, state.stage, state.epoch, state.step, size, len(state.history)))
        assert len(state.samples) == 18
        assert state.ae.training, name
        assert state.recipe == spec.recipe

    spec = spec_of(stages=[stage(2), stage(1)])
    train(spec, Calls(look), data=images(20))
    assert seen == [
        ("on_fit_start", 0, 0, 0, None, 0),
        ("on_epoch_start", 0, 0, 0, None, 0),
        ("before_step", 0, 0, 0, 16, 0), ("after_step", 0, 0, 1, 16, 0),
        ("before_step", 0, 0, 1, 2, 0), ("after_step", 0, 0, 2, 2, 0),
        ("on_epoch_end", 0, 1, 2, None, 1),
        ("on_epoch_start", 0, 1, 2, None, 1),
        ("before_step", 0, 1, 2, 16, 1), ("after_step", 0, 1, 3, 16, 1),
        ("before_step", 0, 1, 3, 2, 1), ("after_step", 0, 1, 4, 2, 1),
        ("on_epoch_end", 0, 2, 4, None, 2),
        ("on_fit_start", 1, 0, 4, None, 2),
        ("on_epoch_start", 1, 0, 4, None, 2),
        ("before_step", 1, 0, 4, 16, 2), ("after_step", 1, 0, 5, 16, 2),
        ("before_step", 1, 0, 5, 2, 2), ("after_step", 1, 0, 6, 2, 2),
        ("on_epoch_end", 1, 1, 6, None, 3),
    ]  # fmt: skip


def test_stop_ends_the_stage_after_the_epoch() -> None:
    def stop(state: aezoo.TrainingState) -> None:
        state.stop = state.stop or (state.stage == 0 and state.step == 6)

    ae = train(spec_of(stages=[stage(5), stage(2)]), on("after_step", stop))
    assert [(r["stage"], r["epoch"]) for r in ae.history] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert ae.training_record["epochs"] == [2, 2]


# -- layers with an invariant -------------------------------------------------------------------------


class Unit(nn.Module):
    """A factor for each feature; the vector of factors has norm 1."""

    def __init__(self, features: int, log: Callable[[tuple[str, float]], None]) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((features,), features**-0.5))
        self.log = log

    def forward(self, h: Tensor) -> Tensor:
        return h * self.factor

    def after_step(self) -> None:
        with torch.no_grad():
            self.log(("layer", self.factor.norm().item()))
            self.factor.div_(self.factor.norm())


class UnitSpec(aezoo.LayerSpec):
    kind: Literal["unit"] = "unit"
    log: Any

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        return Unit(in_shape[0], self.log)


def test_layers_restore_their_invariant_after_the_optimizer_and_before_callbacks() -> None:
    log: list[tuple[str, float]] = []

    def look(state: aezoo.TrainingState) -> None:
        factor = next(p for name, p in state.ae.named_parameters() if name.endswith("factor"))
        log.append(("callback", factor.detach().norm().item()))

    # Nested, because layers within layers have invariants, too.
    block = {"kind": "residual", "layers": [UnitSpec(log=log.append)]}
    spec = spec_of(encoder=["flatten", DENSE, block], stages=[stage(1)])
    train(spec, on("after_step", look))
    assert [who for who, _ in log] == ["layer", "callback"] * 4
    assert all(abs(norm - 1) > 1e-4 for who, norm in log if who == "layer"), "the optimizer has stepped"
    assert all(abs(norm - 1) < 1e-6 for who, norm in log if who == "callback")
