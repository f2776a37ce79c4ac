"""Training: what a recipe promises is what happens, step by step and bit for bit."""

import hashlib
import io
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Generator, Tensor, nn

import aezoo
from aezoo.data.inputs import prepare_splits
from aezoo.evaluation.evaluate import applicable_metrics
from aezoo.training.train import pick_device, preview_inputs
from aezoo.training.weight_tying import mirrored, tied
from tests.examples import small, small_spec

SHAPE = (1, 6, 6)


def images(n: int = 60, seed: int = 0) -> Tensor:
    return torch.rand(n, *SHAPE, generator=Generator().manual_seed(seed))


def stage(epochs: int = 2, **options: Any) -> dict[str, Any]:
    return {"kind": "fit", "epochs": epochs, **options}


def spec_of(
    *, encoder: list[Any] | None = None, decoder: list[Any] | None = None, **recipe: Any
) -> aezoo.VariantSpec:
    """The small variant on one thread, with parts of its recipe and its layers changed."""
    changes: dict[str, Any] = {"recipe": small()["recipe"] | {"threads": 1} | recipe}
    changes |= {"encoder": encoder} if encoder else {}
    changes |= {"decoder": decoder} if decoder else {}
    return small_spec(**changes)


IMAGES = images()
"""Of these 60 rows, 6 are held out; a batch of 16 then comes four times an epoch, the last with 6 rows."""


def train(spec: aezoo.VariantSpec, *callbacks: aezoo.Callback, data: object = IMAGES) -> aezoo.Autoencoder:
    return aezoo.train(spec, data, device="cpu", callbacks=callbacks, progress=False)


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def which(rows: Tensor, x: Tensor) -> list[int]:
    """The index in `x` of each row, all of which must be there."""
    same = (rows[:, None] == x[None]).flatten(2).all(2)
    assert same.sum(1).tolist() == [1] * len(rows)
    return same.int().argmax(1).tolist()


# -- what the tests bring along -----------------------------------------------------------------------

Term = Callable[[aezoo.Output, aezoo.StepContext, aezoo.Autoencoder], Tensor | None]


class DataTerm(aezoo.LossSpec):
    """What `of` gives, or the mean squared error where that is None; so it serves as a window, too."""

    kind: Literal["data_term"] = "data_term"
    role = "reconstruction"
    of: Any

    def __call__(self, output: aezoo.Output, batch: aezoo.StepContext, ae: aezoo.Autoencoder) -> Tensor:
        value: Tensor | None = self.of(output, batch, ae)
        return (output.x_hat - batch.target).square().mean() if value is None else value


class Penalty(DataTerm):
    kind: Literal["extra"] = "extra"
    role = "penalty"


def constant(value: float) -> Term:
    return lambda output, batch, ae: output.x_hat.sum() * 0 + value


def on_validation(term: type[DataTerm], *values: float) -> DataTerm:
    """Trains as usual, and has these values on validation, epoch by epoch."""

    def of(output: aezoo.Output, batch: aezoo.StepContext, ae: aezoo.Autoencoder) -> Tensor | None:
        return None if ae.training else output.x_hat.sum() * 0 + values[int(batch.epoch) - 1]

    return term(of=of)


class Likelihood(nn.Module):
    """Gaussian, with a variance that is learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(()))
        self.modes: list[bool] = []

    def forward(self, output: aezoo.Output, batch: aezoo.StepContext, ae: aezoo.Autoencoder) -> Tensor:
        self.modes.append(self.training)
        error = (output.x_hat - batch.target).square().mean()
        return error / self.log_variance.exp() + self.log_variance


class LikelihoodSpec(aezoo.LossSpec):
    kind: Literal["likelihood"] = "likelihood"
    role = "reconstruction"
    keep: Any

    def build(self) -> Likelihood:
        module = Likelihood()
        self.keep(module)
        return module


class LikelihoodPenaltySpec(LikelihoodSpec):
    kind: Literal["likelihood_penalty"] = "likelihood_penalty"
    role = "penalty"


class Tiny(aezoo.DatasetSpec):
    """Splits of 40, 12 and 8 rows; says whenever one is loaded."""

    kind: Literal["tiny"] = "tiny"
    asked: Any = str
    tested: bool = True

    def load(self, split: str) -> aezoo.Samples:
        self.asked(split)
        n, seed = {"train": (40, 1), "validation": (12, 2), "test": (8, 3)}[split]
        return aezoo.Samples((images(n, seed) * 255).byte())

    def has(self, split: str) -> bool:
        return self.tested or split != "test"


class Calls(aezoo.Callback):
    """Hands every call to a function, with the hook's name."""

    def __init__(self, see: Callable[[str, aezoo.TrainingState], object]) -> None:
        self.see = see

    def on_fit_start(self, state: aezoo.TrainingState) -> None:
        self.see("on_fit_start", state)

    def before_step(self, state: aezoo.TrainingState) -> None:
        self.see("before_step", state)

    def after_step(self, state: aezoo.TrainingState) -> None:
        self.see("after_step", state)

    def on_epoch_end(self, state: aezoo.TrainingState) -> None:
        self.see("on_epoch_end", state)


class CallsSpec(aezoo.CallbackSpec):
    kind: Literal["calls"] = "calls"
    see: Any

    def build(self) -> Calls:
        return Calls(self.see)


def on(hook: str, do: Callable[[aezoo.TrainingState], object]) -> Calls:
    """A callback with one hook."""
    return Calls(lambda name, state: do(state) if name == hook else None)


def validation_losses(ae: aezoo.Autoencoder) -> list[float]:
    return [record["validation"]["loss"] for record in ae.history]


# -- what comes back ----------------------------------------------------------------------------------


def test_training_gives_an_autoencoder_in_eval_mode_that_has_learnt() -> None:
    ae = train(spec_of(stages=[stage(5)]))
    assert isinstance(ae, aezoo.Autoencoder)
    assert not any(module.training for module in ae.modules())
    assert ae.source.kind == "trained"
    losses = validation_losses(ae)
    assert len(losses) == 5
    assert losses[-1] < losses[0]


def test_history_has_a_record_for_each_epoch_of_each_stage() -> None:
    ae = train(spec_of(stages=[stage(2), stage(1, optimizer={"kind": "adam", "lr": 0.5})]))
    assert [(r["round"], r["stage"], r["epoch"], r["lr"]) for r in ae.history] == [
        ("choose", 0, 1, 1e-3), ("choose", 0, 2, 1e-3), ("choose", 1, 1, 0.5),
    ]  # fmt: skip
    for record in ae.history:
        assert set(record["train"]) == set(record["validation"]) == {"loss", "mse"}
        assert record["seconds"] >= 0
    assert ae.training_record["history"] == ae.history
    assert ae.training_record["epochs"] == [2, 1]


def test_the_target_mean_is_that_of_the_training_rows() -> None:
    spec = spec_of()
    torch.testing.assert_close(train(spec).target_mean, prepare_splits(IMAGES, spec, 0).train.inputs.mean(0))


def test_metrics_of_own_data_are_of_validation_and_can_be_computed_again() -> None:
    spec = spec_of()
    ae = train(spec)
    assert set(ae.metrics) == {
        "train_seconds",
        *(f"{spec.kind_name}.validation" for spec in applicable_metrics(ae)),
    }
    again = aezoo.evaluate(
        ae, prepare_splits(IMAGES, spec, 0).validation, dataset="Tensor", split="validation"
    )
    assert {f"{kind}.validation": entry for kind, entry in again.items()}.items() <= ae.metrics.items()
    assert ae.metrics["mse.validation"]["source"] == "computed"
    assert (ae.metrics["mse.validation"]["n"], ae.metrics["train_seconds"]["n"]) == (6, 54)
    assert ae.metrics["train_seconds"]["source"] == "recorded"
    assert ae.metrics["train_seconds"]["value"] is not None


@pytest.mark.parametrize("refit", [False, True])
def test_the_test_split_is_read_once_when_all_else_is_done(refit: bool, fresh_registry: None) -> None:
    aezoo.register(Tiny)
    order: list[str] = []
    ae = train(
        spec_of(dataset={"kind": "tiny", "asked": order.append}, refit=refit),
        on("on_epoch_end", lambda state: order.append("epoch")),
        data=None,
    )
    assert order == ["train", "validation", *["epoch"] * (4 if refit else 2), "test"]
    test = ae.metrics["mse"]
    assert (test["dataset"], test["split"], test["n"], test["source"]) == ("tiny", "test", 8, "computed")
    # After a refit the weights have seen these rows, and only training again gives the number.
    assert ae.metrics["mse.validation"]["source"] == ("protocol" if refit else "computed")
    assert ae.metrics["mse.validation"]["n"] == 12


def test_a_dataset_without_a_test_split_gives_no_test_metrics() -> None:
    asked: list[str] = []
    ae = train(spec_of(dataset=Tiny(asked=asked.append, tested=False)), data=None)
    assert asked == ["train", "validation"]
    assert "mse" not in ae.metrics
    assert "mse.validation" in ae.metrics


def test_data_that_are_given_take_the_place_of_the_recipes_dataset() -> None:
    asked: list[str] = []
    ae = train(spec_of(dataset=Tiny(asked=asked.append)), data=images(20))
    assert asked == []
    assert ae.training_record["data"]["train"]["n"] == 18
    assert train(spec_of(), data=Tiny()).training_record["data"]["name"] == "tiny"


# -- the same again -----------------------------------------------------------------------------------

DENSE = {"kind": "linear", "out_features": 8, "activation": "tanh"}
REPEATABLE: dict[str, dict[str, Any]] = {
    "plain": {},
    "noise": {"noises": [{"kind": "gaussian", "std": 0.1}, {"kind": "masking", "share": 0.2}]},
    "dropout": {"encoder": ["flatten", DENSE | {"dropout": 0.5}]},
    "batch_norm": {"encoder": ["flatten", DENSE | {"norm": "batch_norm"}]},
    "lifetime": {"encoder": ["flatten", DENSE, {"kind": "lifetime", "rate": 0.3}]},
    "tie": {"stages": [stage(tie=True), stage()]},
    "refit": {"refit": True, "encoder": ["flatten", DENSE | {"dropout": 0.5}]},
    "early stop": {"stages": [stage(6, early_stop={"patience": 1}, optimizer={"kind": "adam", "lr": 0.3})]},
}


def numbers(ae: aezoo.Autoencoder) -> list[Any]:
    return [(record["train"], record.get("validation"), record["lr"]) for record in ae.history]


@pytest.mark.parametrize("changes", REPEATABLE.values(), ids=REPEATABLE)
def test_the_same_spec_gives_the_same_weights_bit_for_bit(changes: dict[str, Any]) -> None:
    spec = spec_of(**changes)
    torch.manual_seed(1)
    first = train(spec)
    torch.manual_seed(2)  # what the caller's random state is must not matter
    second = train(spec)
    assert same_weights(first, second)
    assert numbers(first) == numbers(second)
    assert not same_weights(first, train(spec_of(**changes, seed=1)))


@pytest.mark.parametrize("fails", [False, True])
def test_random_state_and_threads_are_put_back(fails: bool) -> None:
    during: list[int] = []

    def look(state: aezoo.TrainingState) -> None:
        during.append(torch.get_num_threads())
        if fails:
            raise ZeroDivisionError

    spec = spec_of(encoder=["flatten", DENSE | {"dropout": 0.5}], refit=True)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        before = torch.get_rng_state()
        if fails:
            with pytest.raises(ZeroDivisionError):
                train(spec, on("after_step", look))
        else:
            train(spec, on("after_step", look))
        assert set(during) == {1}
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.get_rng_state(), before)
    finally:
        torch.set_num_threads(threads)


def test_training_on_the_cpu_leaves_an_accelerators_random_state_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    train(spec_of(refit=True))
    assert seeds == []


# -- the objective ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epoch", "share"), [(0.0, 0.0), (0.5, 0.125), (3.0, 0.75), (4.0, 1.0), (9.0, 1.0)])
def test_the_objective_is_the_weighted_sum_of_unweighted_terms(epoch: float, share: float) -> None:
    spec = spec_of(
        reconstruction={"kind": "mse", "weight": 0.5},
        penalties=[Penalty(of=constant(7.0), weight=2.0), Penalty(of=constant(3.0), weight=10.0, warmup_epochs=4.0)],
    )  # fmt: skip
    ae, x = aezoo.build(spec), images(5)
    total, terms = aezoo.Objective(spec.recipe)(ae, aezoo.StepContext(x, x, None, epoch, 0, Generator()))
    mse = (ae(x).x_hat - x).square().mean()
    assert list(terms) == ["mse", "extra", "extra.2"]
    torch.testing.assert_close(terms["mse"], mse)
    assert [terms[name].item() for name in ("extra", "extra.2")] == [7.0, 3.0]
    torch.testing.assert_close(total, 0.5 * mse + 2.0 * 7.0 + 10.0 * share * 3.0)
    total.backward()
    assert all(p.grad is not None for p in ae.parameters())


def test_the_objective_takes_the_clean_target_and_the_modules_mode() -> None:
    spec = spec_of(encoder=["flatten", DENSE | {"dropout": 0.9}])
    ae, x = aezoo.build(spec), images(5)
    noisy = aezoo.StepContext(torch.zeros_like(x), x, None, 0.0, 0, Generator())
    ae.eval()
    first, second = (aezoo.Objective(spec.recipe)(ae, noisy)[0] for _ in range(2))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, (ae(torch.zeros_like(x)).x_hat - x).square().mean())
    ae.train()
    assert not torch.equal(
        aezoo.Objective(spec.recipe)(ae, noisy)[0], aezoo.Objective(spec.recipe)(ae, noisy)[0]
    )


def test_the_weight_warms_up_within_an_epoch_and_the_term_is_recorded_unweighted() -> None:
    spec = spec_of(
        reconstruction=DataTerm(of=constant(0.0)),
        penalties=[Penalty(of=constant(1.0), weight=3.0, warmup_epochs=1.5)],
        stages=[stage(2)],
    )
    ae = train(spec)
    batches = [(0, 16), (16, 16), (32, 16), (48, 6)]
    for epoch, record in enumerate(ae.history):
        expected = sum(3.0 * min(1.0, (epoch + start / 54) / 1.5) * rows for start, rows in batches) / 54
        assert record["train"]["loss"] == pytest.approx(expected, rel=1e-6)
        assert record["train"]["extra"] == record["validation"]["extra"] == 1.0
        assert record["validation"]["loss"] == pytest.approx(3.0 * min(1.0, (epoch + 1) / 1.5), rel=1e-6)


def test_a_term_called_loss_does_not_stand_in_for_the_sum() -> None:
    class Loss(Penalty):
        kind: Literal["loss"] = "loss"

    ae = train(spec_of(penalties=[Loss(of=constant(5.0), weight=0.1)]))
    for part in (ae.history[0]["train"], ae.history[0]["validation"]):
        assert part["loss"] == pytest.approx(part["mse"] + 0.5, rel=1e-6)


def test_a_loss_with_parameters_is_trained_and_goes_back_to_the_best_epoch() -> None:
    made: list[Likelihood] = []
    seen: list[float] = []
    ae = train(
        spec_of(
            reconstruction=LikelihoodSpec(keep=made.append, weight=1e-6),
            penalties=[on_validation(Penalty, 3.0, 2.0, 4.0, 4.0)],
            stages=[stage(9, early_stop={"patience": 2}, optimizer={"kind": "adam", "lr": 0.1})],
        ),
        on("on_epoch_end", lambda state: seen.append(made[0].log_variance.item())),
    )
    assert len(made) == 1
    assert 0 > seen[0] > seen[1] > seen[2] > seen[3], "the variance of these images is far below 1"
    assert ae.training_record["epochs"] == [2]
    assert made[0].log_variance.item() == seen[1]


def test_a_loss_with_parameters_is_in_eval_mode_on_validation() -> None:
    made: list[Likelihood] = []
    train(spec_of(reconstruction=LikelihoodSpec(keep=made.append)))
    assert made[0].modes == [True] * 4 + [False] + [True] * 4 + [False]


def test_each_entry_of_a_loss_with_parameters_has_its_own() -> None:
    made: list[Likelihood] = []
    train(spec_of(penalties=[LikelihoodPenaltySpec(keep=made.append)] * 2))
    assert [len(module.modes) for module in made] == [10, 10]


def test_a_loss_whose_spec_holds_a_mapping_trains() -> None:
    class Weighted(DataTerm):
        kind: Literal["weighted"] = "weighted"
        shares: dict[str, float]

    ae = train(spec_of(reconstruction=Weighted(of=lambda *_: None, shares={"a": 1.0})))
    assert len(ae.history) == 2


# -- rows and batches ---------------------------------------------------------------------------------


class Seen:
    """What a data term was shown, training apart from validation."""

    def __init__(self) -> None:
        self.training: list[aezoo.StepContext] = []
        self.validation: list[aezoo.StepContext] = []
        self.term = DataTerm(of=self._look)

    def _look(self, output: aezoo.Output, batch: aezoo.StepContext, ae: aezoo.Autoencoder) -> None:
        (self.training if ae.training else self.validation).append(batch)


def test_every_row_is_seen_once_an_epoch_in_another_order_and_the_last_batch_may_be_short() -> None:
    seen = Seen()
    train(spec_of(reconstruction=seen.term))
    assert [len(batch.input) for batch in seen.training] == [16, 16, 16, 6] * 2
    orders = [which(torch.cat([batch.input for batch in seen.training[i : i + 4]]), IMAGES) for i in (0, 4)]
    assert len(set(orders[0])) == 54
    assert set(orders[0]) == set(orders[1])
    assert orders[0] != orders[1]


def test_a_batch_says_how_much_of_the_stage_and_of_the_training_lies_behind() -> None:
    seen = Seen()
    train(spec_of(reconstruction=seen.term, stages=[stage(2), stage(1)]))
    within = [0.0, 16 / 54, 32 / 54, 48 / 54]
    assert [b.epoch for b in seen.training] == pytest.approx([*within, *(1 + e for e in within), *within])
    assert [b.step for b in seen.training] == list(range(12))
    assert [b.epoch for b in seen.validation] == [1.0, 2.0, 1.0]
    assert [b.step for b in seen.validation] == [4, 8, 12]


def test_a_batch_brings_labels_and_targets_of_its_rows() -> None:
    seen = Seen()
    samples = aezoo.Samples(IMAGES, 1 - IMAGES, torch.arange(60))
    train(spec_of(reconstruction=seen.term), data=samples)
    for batch in seen.training + seen.validation:
        assert batch.labels is not None
        assert batch.labels.tolist() == which(batch.input, IMAGES)
        assert torch.equal(batch.target, 1 - batch.input)


def test_a_seeded_tenth_of_own_data_is_held_out() -> None:
    held: dict[int, set[int]] = {}
    for seed in (0, 1):
        seen = Seen()
        ae = train(spec_of(reconstruction=seen.term, seed=seed))
        trained = set(which(torch.cat([batch.target for batch in seen.training[:4]]), IMAGES))
        held[seed] = set(which(seen.validation[0].target, IMAGES))
        assert (len(trained), len(held[seed])) == (54, 6)
        assert trained | held[seed] == set(range(60))
        assert ae.training_record["data"]["held_out"] == f"6 of 60 samples, drawn with seed {seed}"
    assert held[0] != held[1]


@pytest.mark.parametrize(("rows", "held"), [(2, 1), (5, 1), (11, 1)])
def test_fewer_rows_than_a_batch_are_one_batch(rows: int, held: int) -> None:
    seen = Seen()
    train(spec_of(reconstruction=seen.term), data=IMAGES[:rows])
    assert [len(batch.input) for batch in seen.training] == [rows - held] * 2
    assert [len(batch.input) for batch in seen.validation] == [held] * 2


def test_a_single_row_cannot_be_split() -> None:
    with pytest.raises(aezoo.DataError, match="1 sample is too few to hold one out for validation"):
        train(spec_of(), data=IMAGES[:1])


# -- noise --------------------------------------------------------------------------------------------


def noise_by_row(batches: list[aezoo.StepContext]) -> Tensor:
    """What was added to each row, in the order of `IMAGES`; this proves that the targets are clean."""
    targets = torch.cat([batch.target for batch in batches])
    added = torch.cat([batch.input for batch in batches]) - targets
    return added[torch.tensor(which(targets, IMAGES)).argsort()]


def test_noise_is_on_the_input_alone_and_drawn_anew_for_every_batch() -> None:
    seen = Seen()
    train(spec_of(reconstruction=seen.term, noises=[{"kind": "gaussian", "std": 0.1}]))
    noise = torch.cat([noise_by_row(seen.training[:4]), noise_by_row(seen.training[4:])]).flatten(1)
    assert float(noise.std()) == pytest.approx(0.1, rel=0.1)
    # 54 rows in two epochs: no two draws are alike.
    assert noise.unique(dim=0).shape == (108, 36)


def test_noise_is_the_same_in_every_validation_of_every_training() -> None:
    inputs: list[Tensor] = []
    for seed in (0, 1):
        seen = Seen()
        train(
            spec_of(
                dataset=Tiny(),
                reconstruction=seen.term,
                noises=[{"kind": "gaussian", "std": 0.1}],
                stages=[stage(2), stage(1)],
                seed=seed,
            ),
            data=None,
        )
        inputs += [batch.input for batch in seen.validation]
    assert len(inputs) == 6
    assert all(torch.equal(x, inputs[0]) for x in inputs)
    assert not (inputs[0] == seen.validation[0].target).any()


@pytest.mark.parametrize("masking_first", [True, False])
def test_noises_are_applied_in_their_order(masking_first: bool) -> None:
    noises: list[Any] = [{"kind": "masking", "share": 1.0, "value": 0.5}, {"kind": "gaussian", "std": 0.1}]
    seen = Seen()
    train(spec_of(reconstruction=seen.term, noises=noises if masking_first else noises[::-1]))
    assert bool((seen.training[0].input == 0.5).all()) is not masking_first


# -- learning rates -----------------------------------------------------------------------------------


def rates_of(spec: aezoo.VariantSpec) -> tuple[list[float], aezoo.Autoencoder]:
    """The learning rate of every step."""
    rates: list[float] = []
    ae = train(spec, on("after_step", lambda state: rates.append(state.optimizer.param_groups[0]["lr"])))
    return rates, ae


def test_plateau_lowers_the_rate_after_patience_epochs_without_improvement() -> None:
    # A relative threshold of a tenth: below 9 and then below 7.2 count as better, 7.9 and 7.5 do not.
    losses = [10.0, 8.0, 7.9, 7.5, 7.5, 7.5, 1.0, 2.0, 2.0, 2.0, 2.0]
    plateau = {"kind": "plateau", "factor": 0.5, "patience": 1, "threshold": 0.1, "min_lr": 0.02}
    adam = {"kind": "adam", "lr": 0.08}
    expected = [0.08] * 4 + [0.04] * 2 + [0.02] * 5
    rates, ae = rates_of(
        spec_of(
            reconstruction=on_validation(DataTerm, *losses),
            stages=[stage(len(losses), schedule=plateau, optimizer=adam)],
        )
    )
    assert validation_losses(ae) == pytest.approx(losses)
    assert [record["lr"] for record in ae.history] == expected
    assert rates == [rate for rate in expected for _ in range(4)]


def test_plateau_knows_better_from_worse_below_zero() -> None:
    # As log-likelihoods and entropies are.
    plateau = {"kind": "plateau", "factor": 0.5, "patience": 0, "threshold": 0.1}
    _, ae = rates_of(
        spec_of(
            reconstruction=on_validation(DataTerm, -1.0, -1.0, -1.05, -1.2, -1.2),
            stages=[stage(5, schedule=plateau, optimizer={"kind": "adam", "lr": 0.08})],
        )
    )
    assert [record["lr"] for record in ae.history] == [0.08, 0.08, 0.04, 0.02, 0.02]


def test_cosine_warms_up_and_then_falls_step_by_step_in_each_stage() -> None:
    cosine = {"kind": "cosine", "final": 0.1, "warmup_steps": 3}
    one = stage(2, schedule=cosine, optimizer={"kind": "adam", "lr": 0.02})
    rates, ae = rates_of(spec_of(stages=[one, one]))
    warming = [0.02 * step / 3 for step in (1, 2, 3)]
    falling = [0.02 * (0.1 + 0.9 * (1 + math.cos(math.pi * step / 5)) / 2) for step in range(5)]
    assert rates == pytest.approx((warming + falling) * 2, rel=1e-12)
    assert [record["lr"] for record in ae.history] == [rates[i] for i in (3, 7, 11, 15)]


# -- early stop and refit -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "options", "epochs", "best"),
    [
        ([5.0, 4.0, 4.5, 4.0, 1.0], {"patience": 2}, 4, 2),
        ([5.0, 4.0, 4.5, 3.9, 4.0], {"patience": 2}, 5, 4),
        ([5.0, 4.0, 3.9, 3.8, 1.0], {"patience": 2, "min_delta": 0.5}, 4, 2),
        ([5.0, 4.0, 3.0, 2.0, 1.0], {"patience": 1}, 5, 5),
        ([1.0, 2.0, 0.5], {"patience": 1}, 2, 1),
    ],
    ids=["equal is no better", "patience starts anew", "min_delta", "never", "at once"],
)
def test_an_early_stop_goes_back_to_the_best_epoch(
    losses: list[float], options: dict[str, Any], epochs: int, best: int
) -> None:
    weights: list[dict[str, Tensor]] = []

    def keep(state: aezoo.TrainingState) -> None:
        weights.append({name: tensor.clone() for name, tensor in state.ae.state_dict().items()})

    ae = train(
        spec_of(
            encoder=["flatten", DENSE | {"norm": "batch_norm"}],  # with buffers, which go back as well
            reconstruction=on_validation(DataTerm, *losses),
            stages=[stage(len(losses), early_stop=options)],
        ),
        on("on_epoch_end", keep),
    )
    assert validation_losses(ae) == pytest.approx(losses[:epochs])
    assert ae.training_record["epochs"] == [best]
    matches = [all(torch.equal(ae.state_dict()[n], t) for n, t in kept.items()) for kept in weights]
    assert matches == [epoch == best for epoch in range(1, epochs + 1)]


def test_the_next_stage_starts_from_the_best_epoch() -> None:
    starts: list[Tensor] = []
    kept: list[Tensor] = []

    def weight(state: aezoo.TrainingState) -> Tensor:
        return next(state.ae.parameters()).detach().clone()

    train(
        spec_of(
            reconstruction=on_validation(DataTerm, 1.0, 2.0, 3.0),
            stages=[stage(3, early_stop={"patience": 2}), stage(1)],
        ),
        on("on_fit_start", lambda state: starts.append(weight(state))),
        on("on_epoch_end", lambda state: kept.append(weight(state))),
    )
    assert torch.equal(starts[1], kept[0])
    assert not torch.equal(starts[1], kept[2])


def by_hand(spec: aezoo.VariantSpec, x: Tensor, rates: list[float]) -> aezoo.Autoencoder:
    """Plain training, one rate an epoch, as a person would write it."""
    recipe = spec.recipe
    torch.manual_seed(recipe.seed)
    ae = aezoo.build(spec, seed=recipe.seed)
    optimizer = torch.optim.Adam(ae.parameters(), fused=True)
    generator = Generator().manual_seed(recipe.seed)
    step = 0
    for epoch, rate in enumerate(rates):
        optimizer.param_groups[0]["lr"] = rate
        order = torch.randperm(len(x), generator=generator)
        for start in range(0, len(x), recipe.batch_size):
            rows = x[order[start : start + recipe.batch_size]]
            loss, _ = aezoo.Objective(recipe)(
                ae, aezoo.StepContext(rows, rows, None, epoch + start / len(x), step, generator)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    return ae


def test_a_refit_trains_the_chosen_epochs_with_their_rates_on_all_rows_from_the_same_start() -> None:
    losses = [5.0, 5.0, 4.0, 4.5, 4.5]
    adam = {"kind": "adam", "lr": 0.02}
    spec = spec_of(
        encoder=["flatten", DENSE | {"dropout": 0.2}],
        reconstruction=on_validation(DataTerm, *losses),
        dataset=Tiny(tested=False),
        stages=[
            stage(
                9,
                early_stop={"patience": 2},
                schedule={"kind": "plateau", "factor": 0.5, "patience": 0},
                optimizer=adam,
            )
        ],
        refit=True,
    )
    ae = train(spec, data=None)
    records = [(r["round"], r["epoch"], r["lr"], "validation" in r) for r in ae.history]
    assert records == [
        ("choose", 1, 0.02, True), ("choose", 2, 0.02, True), ("choose", 3, 0.01, True),
        ("choose", 4, 0.01, True), ("choose", 5, 0.005, True),
        ("refit", 1, 0.02, False), ("refit", 2, 0.02, False), ("refit", 3, 0.01, False),
    ]  # fmt: skip
    everything = torch.cat([Tiny().load(split).inputs for split in ("train", "validation")]).float() / 255
    expected = by_hand(spec, everything, [0.02, 0.02, 0.01])
    assert all(torch.equal(a, b) for a, b in zip(ae.parameters(), expected.parameters(), strict=True))
    torch.testing.assert_close(ae.target_mean, everything.mean(0))
    assert not ae.training


def test_a_refit_follows_what_a_callback_stopped() -> None:
    def stop(state: aezoo.TrainingState) -> None:
        state.stop = state.epoch == 2

    spec = spec_of(dataset=Tiny(), stages=[stage(5), stage(1)], refit=True)
    ae = train(spec, on("on_epoch_end", stop), data=None)
    assert ae.training_record["epochs"] == [2, 1]
    expected = [("choose", 0), ("choose", 0), ("choose", 1), ("refit", 0), ("refit", 0), ("refit", 1)]
    assert [(record["round"], record["stage"]) for record in ae.history] == expected


# -- callbacks ----------------------------------------------------------------------------------------


def test_callbacks_come_in_order_the_recipes_own_first() -> None:
    calls: list[tuple[str, str]] = []
    spec = spec_of(
        callbacks=[CallsSpec(see=lambda name, state: calls.append((name, "recipe")))],
        stages=[stage(1), stage(1)],
    )
    train(spec, Calls(lambda name, state: calls.append((name, "given"))), data=images(20))
    step = ["before_step", "after_step"]
    names = ["on_fit_start", *step, *step, "on_epoch_end"] * 2
    assert calls == [(name, whose) for name in names for whose in ("recipe", "given")]


def test_the_state_says_where_training_is() -> None:
    where: list[tuple[Any, ...]] = []
    rows: list[int] = []

    def look(name: str, state: aezoo.TrainingState) -> None:
        size = None if state.batch is None else len(state.batch.input)
        where.append((name, state.stage, state.epoch, state.step, size, len(state.history)))
        rows.append(len(state.samples))
        assert state.ae.training, name
        assert state.recipe == spec.recipe

    spec = spec_of(stages=[stage(2), stage(1)])
    train(spec, Calls(look), data=images(20))
    assert where == [
        ("on_fit_start", 0, 0, 0, None, 0),
        ("before_step", 0, 0, 0, 16, 0), ("after_step", 0, 0, 1, 16, 0),
        ("before_step", 0, 0, 1, 2, 0), ("after_step", 0, 0, 2, 2, 0),
        ("on_epoch_end", 0, 1, 2, None, 1),
        ("before_step", 0, 1, 2, 16, 1), ("after_step", 0, 1, 3, 16, 1),
        ("before_step", 0, 1, 3, 2, 1), ("after_step", 0, 1, 4, 2, 1),
        ("on_epoch_end", 0, 2, 4, None, 2),
        ("on_fit_start", 1, 0, 4, None, 2),
        ("before_step", 1, 0, 4, 16, 2), ("after_step", 1, 0, 5, 16, 2),
        ("before_step", 1, 0, 5, 2, 2), ("after_step", 1, 0, 6, 2, 2),
        ("on_epoch_end", 1, 1, 6, None, 3),
    ]  # fmt: skip
    assert set(rows) == {18}


def test_the_last_record_of_the_history_is_the_epochs_own() -> None:
    records: list[dict[str, Any]] = []
    ae = train(spec_of(), on("on_epoch_end", lambda state: records.append(state.history[-1])))
    assert records == ae.history


def test_stop_ends_the_stage_after_its_epoch_and_nothing_else() -> None:
    def stop(state: aezoo.TrainingState) -> None:
        state.stop = state.stop or (state.stage == 0 and state.step == 6)

    ae = train(spec_of(stages=[stage(5), stage(2)]), on("after_step", stop))
    assert [(r["stage"], r["epoch"]) for r in ae.history] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert ae.training_record["epochs"] == [2, 2]


class Unit(nn.Module):
    """A factor for each feature; together they have norm 1."""

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


def test_layers_restore_their_invariant_between_the_optimizer_and_the_callbacks() -> None:
    log: list[tuple[str, float]] = []

    def look(state: aezoo.TrainingState) -> None:
        factor = next(p for name, p in state.ae.named_parameters() if name.endswith("factor"))
        log.append(("callback", factor.detach().norm().item()))

    # Nested, since a layer's own layers have invariants as well.
    block = {"kind": "residual", "layers": [UnitSpec(log=log.append)]}
    spec = spec_of(encoder=["flatten", DENSE, block], stages=[stage(1)])
    train(spec, on("after_step", look))
    assert [who for who, _ in log] == ["layer", "callback"] * 4
    assert all(abs(norm - 1) > 1e-4 for who, norm in log if who == "layer"), "the optimizer had stepped"
    assert all(abs(norm - 1) < 1e-6 for who, norm in log if who == "callback")


# -- tied weights -------------------------------------------------------------------------------------

CONV: dict[str, Any] = {"kernel_size": 3, "padding": 1, "activation": "tanh"}
FLAT = {"kind": "unflatten", "shape": [1, 6, 6]}
MIRRORED: dict[str, dict[str, list[Any]]] = {
    "linear": {},
    "several": {
        "encoder": ["flatten", DENSE, DENSE | {"out_features": 5}],
        "decoder": [DENSE | {"bias": False}, DENSE | {"out_features": 36}, FLAT],
    },
    "conv": {
        "encoder": [{"kind": "conv", "out_channels": 4, **CONV}, {"kind": "conv", "out_channels": 2, **CONV}],
        "decoder": [
            {"kind": "conv_transpose", "out_channels": 4, **CONV},
            {"kind": "conv_transpose", "out_channels": 1, **CONV},
        ],
    },
    "strided": {
        "encoder": [{"kind": "conv", "out_channels": 3, "kernel_size": 2, "stride": 2}, "flatten", DENSE],
        "decoder": [
            DENSE | {"out_features": 27},
            {"kind": "unflatten", "shape": [3, 3, 3]},
            {"kind": "conv_transpose", "out_channels": 1, "kernel_size": 2, "stride": 2},
        ],
    },
    "residual": {
        "encoder": ["flatten", {"kind": "residual", "layers": [DENSE | {"out_features": 36}]}, DENSE],
        "decoder": [
            DENSE | {"out_features": 36},
            {"kind": "residual", "layers": [DENSE | {"out_features": 36}]},
            FLAT,
        ],
    },
}
each_mirrored = pytest.mark.parametrize("layers", MIRRORED.values(), ids=MIRRORED)


def transposed(weight: Tensor) -> Tensor:
    """Of a linear layer; a transposed convolution keeps its weight as the convolution does."""
    return weight.t() if weight.ndim == 2 else weight


def differences(pairs: list[Any]) -> list[float]:
    return [(d.weight - transposed(e.weight)).abs().max().item() for e, d in pairs]


@each_mirrored
def test_while_tied_each_decoder_weight_is_its_encoders_transposed(layers: dict[str, list[Any]]) -> None:
    apart: list[float] = []

    def look(name: str, state: aezoo.TrainingState) -> None:
        with torch.no_grad():
            apart.extend(differences(mirrored(state.ae)))

    spec = spec_of(**layers, stages=[stage(tie=True)])
    ae = train(spec, Calls(look))
    assert set(apart) == {0.0}
    for (trained, _), (before, _) in zip(mirrored(ae), mirrored(aezoo.build(spec)), strict=True):
        assert not torch.equal(trained.weight, before.weight)


@each_mirrored
def test_after_a_tied_stage_the_weights_are_independent_and_the_outputs_the_same(
    layers: dict[str, list[Any]],
) -> None:
    outputs: list[Tensor] = []

    def look(state: aezoo.TrainingState) -> None:
        with torch.no_grad():
            outputs.append(state.ae.eval()(IMAGES).x_hat)

    spec = spec_of(**layers, stages=[stage(tie=True)])
    ae = train(spec, on("on_epoch_end", look))
    with torch.no_grad():
        torch.testing.assert_close(ae(IMAGES).x_hat, outputs[-1], atol=1e-6, rtol=0)
    untouched = aezoo.build(spec)
    names = [name for name in ae.state_dict() if name != "target_mean"]
    assert names == list(untouched.state_dict())
    assert [n for n, _ in ae.named_parameters()] == [n for n, _ in untouched.named_parameters()]
    pointers = [parameter.untyped_storage().data_ptr() for parameter in ae.parameters()]
    assert len(set(pointers)) == len(pointers)
    assert all(parameter.is_contiguous() and parameter.requires_grad for parameter in ae.parameters())
    assert all(parameter.is_leaf for parameter in ae.parameters())


def test_biases_stay_free_while_tied() -> None:
    spec = spec_of(stages=[stage(tie=True)])
    before, after = aezoo.build(spec).state_dict(), train(spec).state_dict()
    for name in ("encoder.1.linear.bias", "decoder.0.linear.bias"):
        assert not torch.equal(before[name], after[name]), name


def test_a_stage_after_the_tied_one_moves_the_weights_apart() -> None:
    ae = train(spec_of(stages=[stage(tie=True), stage()]))
    with torch.no_grad():
        assert min(differences(mirrored(ae))) > 0


def test_an_early_stop_of_a_tied_stage_goes_back_with_both_sides() -> None:
    kept: list[Tensor] = []
    ae = train(
        spec_of(
            reconstruction=on_validation(DataTerm, 1.0, 2.0, 3.0),
            stages=[stage(3, tie=True, early_stop={"patience": 2})],
        ),
        on("on_epoch_end", lambda state: kept.append(mirrored(state.ae)[0][0].weight.detach().clone())),
    )
    ((encoder, decoder),) = mirrored(ae)
    assert torch.equal(encoder.weight, kept[0])
    assert torch.equal(decoder.weight, kept[0].t())


def one_conv(kind: str) -> list[Any]:
    return [{"kind": kind, "out_channels": 1, **CONV}]


@pytest.mark.parametrize(
    ("encoder", "decoder", "words"),
    [
        (["flatten", DENSE, DENSE], None, "as many weighted layers on each side, found 2 in the encoder, 1 in the decoder"),
        (["flatten", UnitSpec(log=str)], [FLAT], "as many weighted layers on each side, found 0 in the encoder, 0 in the decoder"),
        (
            ["flatten", DENSE | {"out_features": 7}, DENSE], [DENSE, DENSE | {"out_features": 36}, FLAT],
            "mirrored layers, found weights of (7, 36) and (36, 8)",
        ),
        # Weights of the same shape, and yet the second is not the first one's transpose.
        (one_conv("conv"), one_conv("conv"), "mirrored layers, found "),
        (one_conv("conv_transpose"), one_conv("conv_transpose"), "mirrored layers, found "),
    ],
    ids=["counts", "none", "shapes", "conv and conv", "transposed twice"],
)  # fmt: skip
def test_a_tie_of_sides_that_do_not_mirror_each_other_is_refused_before_training(
    encoder: list[Any], decoder: list[Any] | None, words: str
) -> None:
    asked: list[str] = []
    spec = spec_of(
        encoder=encoder,
        decoder=decoder,
        dataset=Tiny(asked=asked.append),
        stages=[stage(), stage(tie=True)],
    )
    with pytest.raises(aezoo.SpecError) as caught:
        train(spec, data=None)
    assert str(caught.value).startswith(f"recipe.stages.1.tie: tie needs {words}")
    assert asked == []


class Interrupted(Exception):
    pass


def interrupt(ae: aezoo.Autoencoder, forwards: int) -> None:
    with tied(ae):
        for _ in range(forwards):
            ae(IMAGES)
        raise Interrupted


@pytest.mark.parametrize("forwards", [0, 1])
@each_mirrored
def test_an_interrupted_tie_leaves_a_whole_network(layers: dict[str, list[Any]], forwards: int) -> None:
    ae = aezoo.build(spec_of(**layers)).eval()
    names = set(ae.state_dict())
    with pytest.raises(Interrupted):
        interrupt(ae, forwards)
    assert set(ae.state_dict()) == names
    with torch.no_grad():
        assert set(differences(mirrored(ae))) == {0.0}
    ae(IMAGES).x_hat.sum().backward()
    assert all(parameter.grad is not None for parameter in ae.parameters())


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_loss_that_is_no_longer_finite_is_named_with_stage_and_epoch(part: str, value: float) -> None:
    def of(output: aezoo.Output, batch: aezoo.StepContext, ae: aezoo.Autoencoder) -> Tensor | None:
        bad = ae.training == (part == "train") and stages[-1] == 1 and batch.epoch >= 1
        return output.x_hat.sum() * (value if bad else 0.0)

    stages: list[int] = []
    spec = spec_of(penalties=[Penalty(of=of)], stages=[stage(1), stage(3)])
    with pytest.raises(aezoo.TrainingError) as caught:
        train(spec, on("on_fit_start", lambda state: stages.append(state.stage)))
    text = str(caught.value)
    where = "epoch 2, batch 1" if part == "train" else "epoch 1, validation"
    assert text.startswith(f"stage 1, {where}: the term 'extra' is no longer finite; a lower learning")
    assert "'extra'" in text
    assert "lower learning rate" in text
    assert "\n" not in text


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "meta", "hpu", "vulkan", ""])
def test_a_device_that_is_not_to_be_had_is_refused_in_one_short_line(device: str) -> None:
    with pytest.raises(aezoo.TrainingError) as caught:
        aezoo.train(spec_of(), IMAGES, device=device, progress=False)
    text = str(caught.value)
    assert text.startswith(f"device {device} is not to be had: ")
    assert "\n" not in text
    assert len(text) < 300


def test_auto_and_cpu_are_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    assert aezoo.train(spec_of(), IMAGES, device="cpu", progress=False).training_record["device"] == "cpu"


def test_a_recipe_without_a_dataset_needs_data() -> None:
    with pytest.raises(
        aezoo.TrainingError,
        match=r"^the recipe names no dataset; give data to train, or set recipe\.dataset$",
    ):
        train(spec_of(), data=None)


def test_a_network_without_weights_cannot_be_trained() -> None:
    with pytest.raises(aezoo.SpecError, match=r"^recipe\.stages: there are no weights to train$"):
        train(spec_of(encoder=["flatten"], decoder=[FLAT]))


def test_too_many_parameters_are_refused() -> None:
    with pytest.raises(aezoo.SpecError, match="parameters are more than the 100 allowed"):
        aezoo.train(spec_of(), IMAGES, progress=False, max_parameters=100)


def test_a_batch_of_one_row_that_batch_norm_cannot_train_on_is_explained() -> None:
    # Of 54 rows, the second batch holds the last.
    spec = spec_of(encoder=["flatten", DENSE | {"norm": "batch_norm"}], batch_size=53)
    with pytest.raises(aezoo.TrainingError, match=r"a batch of 1 row.*batch_size"):
        train(spec)


# -- the rest -----------------------------------------------------------------------------------------


def test_a_preview_is_of_the_first_validation_rows_scaled() -> None:
    spec = spec_of(dataset=Tiny())
    rows = Tiny().load("validation").inputs
    assert torch.equal(preview_inputs(spec, 5), rows[:5].float() / 255)
    assert len(preview_inputs(spec)) == 12


def test_a_preview_needs_a_dataset() -> None:
    with pytest.raises(aezoo.DataError, match="the recipe names no dataset to draw a preview of"):
        preview_inputs(spec_of())


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1"}], ids=["plain", "FORCE_COLOR"])
def test_the_bar_is_silent_where_there_is_no_terminal(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    aezoo.train(spec_of(refit=True), IMAGES, device="cpu", progress=True)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("wanted", [True, False])
def test_on_a_terminal_the_bar_is_shown_where_it_is_wanted(
    wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    aezoo.train(spec_of(refit=True), IMAGES, device="cpu", progress=wanted)
    shown = [title in terminal.getvalue() for title in ("training, stage 0", "refit on all, stage 0")]
    assert shown == [wanted] * 2


class FewDigits(aezoo.DatasetSpec):
    """The first rows of each split of MNIST."""

    kind: Literal["few_digits"] = "few_digits"

    def load(self, split: Any) -> aezoo.Samples:
        return aezoo.DatasetSpec.model_validate("mnist").load(split)[:600]


@pytest.mark.data
def test_a_spec_learns_digits(fresh_registry: None) -> None:
    aezoo.register(FewDigits)
    changes = {"dataset": "few_digits", "stages": [stage(6)], "batch_size": 50, "threads": 1}
    spec = aezoo.get_spec("sparse-topk16").replace({f"recipe.{name}": v for name, v in changes.items()})
    ae = train(spec, data=None)
    assert (ae.metrics["fvu"]["n"], ae.metrics["fvu"]["dataset"]) == (600, "few_digits")
    assert ae.metrics["l0"]["value"] == 16
    assert ae.metrics["fvu"]["value"] < 0.8, "predicting the mean digit gives 1"


# -- where it starts, and in which precision ----------------------------------------------------------


def saved(tmp_path: Path, **changes: Any) -> tuple[aezoo.Autoencoder, str]:
    """A trained network and the folder that it lies in."""
    first = aezoo.train(spec_of(**changes), images(40), progress=False)
    return first, str(aezoo.save(first, tmp_path / "first"))


def from_there(folder: str, **recipe: Any) -> aezoo.VariantSpec:
    return spec_of().replace({"recipe.init_from": folder, **{f"recipe.{k}": v for k, v in recipe.items()}})


@pytest.mark.parametrize("refit", [False, True])
def test_training_starts_from_the_weights_that_it_names(tmp_path: Path, refit: bool) -> None:
    first, folder = saved(tmp_path)
    seen: list[torch.Tensor] = []

    class Look(aezoo.Callback):
        def on_fit_start(self, state: aezoo.TrainingState) -> None:
            seen.append(state.ae.encoder[1].linear.weight.detach().clone())  # type: ignore[union-attr]

    ae = aezoo.train(from_there(folder, refit=refit), images(40), callbacks=[Look()], progress=False)
    assert len(seen) == 1 + refit
    assert all(torch.equal(weight, first.encoder[1].linear.weight) for weight in seen)  # type: ignore[union-attr]
    assert not torch.equal(ae.encoder[1].linear.weight, seen[0])  # type: ignore[union-attr]
    hash_of_file = hashlib.sha256((Path(folder) / "model.safetensors").read_bytes()).hexdigest()
    assert ae.training_record["init_from"] == {"name": folder, "sha256": hash_of_file}


def test_weights_of_another_architecture_are_refused_before_training(tmp_path: Path) -> None:
    _, folder = saved(tmp_path)
    spec = from_there(folder).replace({"encoder.1.out_features": 9})
    with pytest.raises(aezoo.SpecError) as caught:
        aezoo.train(spec, images(40), progress=False)
    assert str(caught.value) == (
        "recipe.init_from: another architecture: decoder.0.linear.weight is (36, 8) in "
        f"{folder}, (36, 9) here"
    )


def test_a_start_that_is_not_there_is_refused_before_the_data_are_read() -> None:
    with pytest.raises(aezoo.UnknownVariantError, match="did you mean 'sparse-topk16'"):
        aezoo.train(from_there("sparse-topk17"), object(), progress=False)


def test_autocast_runs_layers_in_bfloat16_and_keeps_weights_and_losses() -> None:
    seen: list[tuple[torch.dtype, ...]] = []

    class Look(aezoo.Callback):
        def before_step(self, state: aezoo.TrainingState) -> None:
            assert state.batch is not None
            linear = state.ae.encoder[1].linear  # type: ignore[union-attr]

            def after(module: Any, inputs: Any, out: torch.Tensor) -> None:
                seen.append((out.dtype, module.weight.dtype))
                handle.remove()

            handle = linear.register_forward_hook(after)

    spec = spec_of().replace({"recipe.autocast": "bf16"})
    ae = aezoo.train(spec, images(40), callbacks=[Look()], progress=False)
    assert set(seen) == {(torch.bfloat16, torch.float32)}
    assert {p.dtype for p in ae.parameters()} == {torch.float32}
    plain = aezoo.train(spec_of(), images(40), progress=False)
    assert not torch.equal(ae.encoder[1].linear.weight, plain.encoder[1].linear.weight)  # type: ignore[union-attr]
    difference = ae.metrics["mse.validation"]["value"] - plain.metrics["mse.validation"]["value"]
    assert abs(difference) < 0.01 * plain.metrics["mse.validation"]["value"]


def test_losses_see_float32_under_autocast() -> None:
    spec = spec_of().replace({"recipe.autocast": "bf16", "recipe.reconstruction": {"kind": "bce"}})
    x = images(4)
    loss, terms = aezoo.Objective(spec.recipe)(
        aezoo.build(spec), aezoo.StepContext(x, x, None, 0.0, 0, torch.Generator())
    )
    assert {loss.dtype, terms["bce"].dtype} == {torch.float32}


DEVICES = [
    "cpu",
    *(["cuda"] if torch.cuda.is_available() else []),
    *(["mps"] if torch.backends.mps.is_available() else []),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("autocast", [None, "bf16"])
def test_the_same_spec_trains_on_every_device_that_is_here(device: str, autocast: str | None) -> None:
    spec = spec_of().replace({"recipe.autocast": autocast, "recipe.refit": True})
    ae = aezoo.train(spec, images(40), device=device, progress=False)
    assert {p.device.type for p in ae.parameters()} == {device}
    assert ae.training_record["device"].startswith(device)
    assert ae(images(2).to(device)).x_hat.isfinite().all()
