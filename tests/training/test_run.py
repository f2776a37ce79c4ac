"""A training as a whole: metrics, the refit, weights in half precision, interruption and divergence."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Generator, Tensor

import aezoo
from aezoo.data.inputs import prepare_splits
from aezoo.evaluation.evaluate import applicable_metrics, evaluate_variant
from tests.parts import in_parts
from tests.training.networks import DENSE, IMAGES, LINEAR, adam, same_weights, spec_of, stage, train
from tests.training.probes import Cut, CutOff, DataTerm, Penalty, Tiny, constant, on, on_validation

# -- metrics ------------------------------------------------------------------------------------------


def test_metrics_of_own_data_are_measured_on_validation_and_can_be_recomputed() -> None:
    spec = spec_of()
    ae = train(spec)
    kinds = {f"{metric.kind}.validation" for metric in applicable_metrics(ae)}
    assert set(ae.metrics) == {"train_seconds", *kinds}
    validation = prepare_splits(IMAGES, spec, 0).validation
    again = aezoo.evaluate(ae, validation, dataset="Tensor", split="validation")
    assert {f"{kind}.validation": entry for kind, entry in again.items()}.items() <= ae.metrics.items()
    assert ae.metrics["mse.validation"]["source"] == "computed"
    assert (ae.metrics["mse.validation"]["n"], ae.metrics["train_seconds"]["n"]) == (6, 54)
    assert ae.metrics["train_seconds"]["source"] == "recorded"
    assert ae.metrics["train_seconds"]["value"] is not None


@pytest.mark.parametrize("refit", [False, True])
def test_the_test_split_is_read_once_at_the_end(refit: bool, fresh_registry: None) -> None:
    aezoo.register(Tiny)
    order: list[str] = []
    ae = train(
        spec_of(dataset={"kind": "tiny", "on_load": order.append}, refit=refit),
        on("on_epoch_end", lambda state: order.append("epoch")),
        data=None,
    )
    assert order == ["train", "validation", *["epoch"] * (4 if refit else 2), "test"]
    test = ae.metrics["mse"]
    assert (test["dataset"], test["split"], test["n"], test["source"]) == ("tiny", "test", 8, "computed")
    # After a refit, only training again gives the validation metrics.
    assert ae.metrics["mse.validation"]["source"] == ("protocol" if refit else "computed")
    assert ae.metrics["mse.validation"]["n"] == 12


def test_a_dataset_without_a_test_split_gives_no_test_metrics() -> None:
    loads: list[str] = []
    ae = train(spec_of(dataset=Tiny(on_load=loads.append, has_test=False)), data=None)
    assert loads == ["train", "validation"]
    assert "mse" not in ae.metrics
    assert "mse.validation" in ae.metrics


# -- the refit ----------------------------------------------------------------------------------------


def train_by_hand(spec: aezoo.VariantSpec, x: Tensor, lrs: list[float]) -> aezoo.Autoencoder:
    """A plain training loop, with one learning rate for each epoch."""
    recipe = spec.recipe
    torch.manual_seed(recipe.seed)
    ae = aezoo.build(spec, seed=recipe.seed)
    objective = aezoo.Objective(recipe)
    optimizer = torch.optim.Adam(ae.parameters(), fused=True)
    generator = Generator().manual_seed(recipe.seed)
    for epoch, lr in enumerate(lrs):
        optimizer.param_groups[0]["lr"] = lr
        order = torch.randperm(len(x), generator=generator)
        for start in range(0, len(x), recipe.batch_size):
            rows = x[order[start : start + recipe.batch_size]]
            loss, _ = objective(ae, aezoo.StepContext(rows, rows, None, epoch + start / len(x), 0, generator))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return ae


def test_refit_trains_the_selected_epochs_and_rates_on_all_data_from_the_same_weights() -> None:
    plateau = {"kind": "plateau", "factor": 0.5, "patience": 0}
    spec = spec_of(
        encoder=["flatten", DENSE | {"dropout": 0.2}],
        reconstruction=on_validation(DataTerm, 5.0, 5.0, 4.0, 4.5, 4.5),
        dataset=Tiny(has_test=False),
        stages=[stage(9, early_stop={"patience": 2}, schedule=plateau, optimizer=adam(0.02))],
        refit=True,
    )
    ae = train(spec, data=None)
    assert [(r["round"], r["epoch"], r["lr"], "validation" in r) for r in ae.history] == [
        ("choose", 1, 0.02, True), ("choose", 2, 0.02, True), ("choose", 3, 0.01, True),
        ("choose", 4, 0.01, True), ("choose", 5, 0.005, True),
        ("refit", 1, 0.02, False), ("refit", 2, 0.02, False), ("refit", 3, 0.01, False),
    ]  # fmt: skip
    everything = torch.cat([Tiny().load(split).inputs for split in ("train", "validation")]).float() / 255
    expected = train_by_hand(spec, everything, [0.02, 0.02, 0.01])
    assert all(torch.equal(a, b) for a, b in zip(ae.parameters(), expected.parameters(), strict=True))
    torch.testing.assert_close(ae.target_mean, everything.mean(0))
    assert not ae.training


def test_refit_repeats_what_a_callback_stopped() -> None:
    def stop(state: aezoo.TrainingState) -> None:
        state.stop = state.epoch == 2

    spec = spec_of(dataset=Tiny(), stages=[stage(5), stage(1)], refit=True)
    ae = train(spec, on("on_epoch_end", stop), data=None)
    assert ae.training_record["epochs"] == [2, 1]
    expected = [("choose", 0), ("choose", 0), ("choose", 1), ("refit", 0), ("refit", 0), ("refit", 1)]
    assert [(record["round"], record["stage"]) for record in ae.history] == expected


# -- half precision -----------------------------------------------------------------------------------

NORMALIZED: dict[str, Any] = {
    "encoder": ["flatten", DENSE | {"norm": "batch_norm"}],
    "stages": [stage(3, optimizer=adam(0.01))],
}
HALF: dict[str, Any] = NORMALIZED | {"weights_dtype": "float16"}


def test_half_precision_stores_parameters_alone_in_float16(tmp_path: Path) -> None:
    whole, half = train(spec_of(**NORMALIZED)), train(spec_of(**HALF))
    aezoo.save(whole, tmp_path / "whole")
    aezoo.save(half, tmp_path / "half")
    stored = load_file(tmp_path / "half" / "model.safetensors")
    parameters = {name for name, _ in half.named_parameters()}
    assert {name for name, tensor in stored.items() if tensor.dtype == torch.float16} == parameters
    assert stored["target_mean"].dtype == torch.float32
    assert stored["encoder.1.norm.running_mean"].dtype == torch.float32
    files = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    # Two bytes less for each parameter; the header is padded.
    assert files[0] - files[1] == pytest.approx(2 * sum(p.numel() for p in whole.parameters()), abs=64)


def test_half_precision_rounds_the_weights_at_the_end_of_the_same_training() -> None:
    whole, half = train(spec_of(**NORMALIZED)), train(spec_of(**HALF))
    rounded = dict(half.named_parameters())
    for name, parameter in whole.named_parameters():
        assert torch.equal(rounded[name], parameter.half().float()), name
        assert rounded[name].dtype == torch.float32
    assert [r["train"] for r in half.history] == [r["train"] for r in whole.history]


@pytest.mark.parametrize("refit", [False, True])
def test_metrics_are_measured_on_the_rounded_weights(refit: bool, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", IMAGES.numpy())
    dataset = {"kind": "array", "path": str(tmp_path / "rows.npy"), "test": 0.2}
    ae = train(spec_of(**HALF, dataset=dataset, refit=refit), data=None)
    loaded = aezoo.load(aezoo.save(ae, tmp_path / "half"))
    assert same_weights(ae, loaded)
    again = evaluate_variant(loaded, "test")
    assert again["mse"]["value"] == loaded.metrics["mse"]["value"]
    assert again.items() <= loaded.metrics.items()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, None])
def test_half_precision_weights_load_in_any_precision(dtype: torch.dtype | None, tmp_path: Path) -> None:
    ae = aezoo.load(aezoo.save(train(spec_of(**HALF)), tmp_path / "half"), dtype=dtype)
    assert {p.dtype for p in ae.parameters()} == {dtype or torch.float32}


def test_half_precision_weights_saved_again_are_the_same_bytes(tmp_path: Path) -> None:
    aezoo.save(train(spec_of(**HALF)), tmp_path / "a")
    aezoo.save(aezoo.load(tmp_path / "a"), tmp_path / "b")
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert first == second


def test_weights_beyond_half_precision_are_not_saved(tmp_path: Path) -> None:
    ae = train(spec_of(**HALF))
    next(ae.parameters()).data[0, 0] = 70_000.0
    with pytest.raises(aezoo.CheckpointError, match=r"encoder\.1\.linear\.weight"):
        aezoo.save(ae, tmp_path / "half")
    assert not (tmp_path / "half").exists()


def test_weights_beyond_half_precision_end_the_training_with_an_error() -> None:
    def grow(state: aezoo.TrainingState) -> None:
        state.ae.decoder[0].get_parameter("linear.bias").data[0] = 70_000.0

    spec = spec_of(**HALF, reconstruction=DataTerm(of=constant(1.0)))
    with pytest.raises(aezoo.TrainingError, match=r"decoder\.0\.linear\.bias.*float16") as caught:
        train(spec, on("after_step", grow))
    assert "\n" not in str(caught.value)


# -- Ctrl-C -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["after_step", "on_epoch_end"])
@pytest.mark.parametrize("tie", [False, True])
def test_interrupted_training_attaches_the_autoencoder_so_far(hook: str, tie: bool) -> None:
    spec = spec_of(stages=[stage(5, tie=tie)])
    n = 6 if hook == "after_step" else 2  # both in the second epoch
    with pytest.raises(aezoo.TrainingInterrupted, match="interrupted") as caught:
        train(spec, Cut(hook, n, KeyboardInterrupt))
    ae = caught.value.ae
    assert isinstance(caught.value, KeyboardInterrupt)
    assert not any(module.training for module in ae.modules())
    assert ae.target_mean is not None
    assert [record["epoch"] for record in ae.history] == ([1] if hook == "after_step" else [1, 2])
    assert ae.training_record["unfinished"] == "the training was interrupted"
    assert set(ae.metrics) == {metric.kind for metric in applicable_metrics(ae)}
    for entry in ae.metrics.values():
        assert (entry["value"], entry["reason"]) == (None, "the training was interrupted")
    if hook == "on_epoch_end":
        assert same_weights(ae, train(spec_of(stages=[stage(2, tie=tie)])))


def test_interrupted_training_with_diverged_weights_attaches_the_epoch_before() -> None:
    def diverge(state: aezoo.TrainingState) -> None:
        if state.step == 6:
            next(state.ae.parameters()).data.fill_(math.nan)
            raise KeyboardInterrupt

    with pytest.raises(aezoo.TrainingInterrupted) as caught:
        train(spec_of(stages=[stage(5)]), on("after_step", diverge))
    assert same_weights(caught.value.ae, train(spec_of(stages=[stage(1)])))


def test_interrupted_refit_keeps_the_history_of_both_rounds() -> None:
    with pytest.raises(aezoo.TrainingInterrupted) as caught:
        train(spec_of(refit=True), Cut("on_epoch_end", 3, KeyboardInterrupt))
    rounds = [(record["round"], record["epoch"]) for record in caught.value.ae.history]
    assert rounds == [("choose", 1), ("choose", 2), ("refit", 1)]


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, aezoo.TrainingError])
def test_a_refit_cut_short_leaves_the_measured_network_of_the_first_round(
    error: type[BaseException], resumed: bool, tmp_path: Path
) -> None:
    spec, file = spec_of(refit=True), tmp_path / "resume"
    if resumed:
        with pytest.raises(CutOff):
            train(spec, Cut("on_epoch_end", 4), resume=file)
    with pytest.raises((aezoo.TrainingInterrupted, aezoo.TrainingError)) as caught:
        train(spec, Cut("on_epoch_end", 1 if resumed else 4, error), resume=file)
    ae, first = caught.value.ae, train(spec_of())
    assert same_weights(ae, first)
    assert not ae.training
    assert torch.equal(ae.target_mean, first.target_mean)
    for name, entry in ae.metrics.items():
        if name.endswith(".validation"):
            assert entry == first.metrics[name]
            assert entry["source"] == "computed"
        else:
            assert entry["value"] is None
    assert ae.training_record["refit"] is False
    assert ae.training_record["epochs"] == [2]
    assert ae.training_record["unfinished"].endswith(
        "the weights are those of the first round, before the refit"
    )


@pytest.mark.parametrize("n", in_parts(range(1, 15), 3))
def test_a_training_with_everything_that_counts_epochs_is_resumed_after_any_epoch(
    n: int, tmp_path: Path
) -> None:
    early = {"early_stop": {"patience": 2, "min_delta": 1e9}}
    spec = spec_of(
        encoder=["flatten", {"kind": "linear", "out_features": 8, "activation": "relu"}],
        penalties=[{"kind": "l1_latents", "weight": 0.1, "warmup_epochs": 5.0}],
        callbacks=[{"kind": "resample_dead", "every": 2}],
        stages=[stage(5, optimizer=adam(0.1), **early), stage(3, tie=True), stage(2, freeze=["encoder"])],
        refit=True,
    )
    whole = train(spec)
    assert len(whole.history) == 14
    with pytest.raises(CutOff):
        train(spec, Cut("on_epoch_end", n), resume=tmp_path / "resume")
    resumed = train(spec, Cut(), resume=tmp_path / "resume")
    assert same_weights(whole, resumed)
    for a, b in zip(whole.history, resumed.history, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {
            k: v for k, v in b.items() if k != "seconds"
        }


class Fault(Exception):
    """An error of code that uses aezoo."""


@pytest.mark.parametrize("hook", ["before_step", "after_step", "on_epoch_start", "on_epoch_end"])
def test_errors_of_other_code_carry_the_autoencoder_so_far(hook: str) -> None:
    def fail(state: aezoo.TrainingState) -> None:
        if state.epoch == 2:
            raise Fault("a\nb")

    with pytest.raises(Fault) as caught:
        train(spec_of(stages=[stage(4)]), on(hook, fail))
    ae: aezoo.Autoencoder = getattr(caught.value, "ae")  # noqa: B009
    assert len(ae.history) == 2
    assert ae.training_record["unfinished"] == r"a\nb"
    assert {entry["value"] for entry in ae.metrics.values()} == {None}


@pytest.mark.parametrize("error", [KeyboardInterrupt, aezoo.TrainingError, Fault])
def test_nothing_is_attached_before_the_first_step(error: type[BaseException]) -> None:
    def fail(state: aezoo.TrainingState) -> None:
        raise error

    with pytest.raises((aezoo.TrainingInterrupted, aezoo.TrainingError, Fault)) as caught:
        train(spec_of(), on("before_step", fail))
    assert getattr(caught.value, "ae", None) is None


# -- divergence ---------------------------------------------------------------------------------------


def diverging(stage_: int, epoch: int, step: int, value: float) -> tuple[aezoo.Callback, Penalty]:
    """A callback and a penalty that is `value` from one batch of an epoch on."""
    bad: list[bool] = []

    def look(state: aezoo.TrainingState) -> None:
        assert state.context is not None
        bad[:] = [True] * (state.stage == stage_ and state.epoch + 1 == epoch and state.context.step >= step)

    def of(output: aezoo.Output, context: aezoo.StepContext, ae: aezoo.Autoencoder) -> Tensor:
        return output.x_hat.sum() * (value if bad and ae.training else 0.0)

    return on("before_step", look), Penalty(of=of)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("tie", [False, True])
def test_divergence_names_the_batch_and_attaches_the_weights_of_the_epoch_before(
    value: float, tie: bool
) -> None:
    callback, penalty = diverging(1, 2, 4 * 3 + 2, value)  # the third of four steps of the fourth epoch
    spec = spec_of(penalties=[penalty], stages=[stage(2), stage(3, tie=tie)])
    with pytest.raises(aezoo.TrainingError) as caught:
        train(spec, callback)
    text = str(caught.value)
    assert text.startswith(
        "stage 1, epoch 2, batch 3: the term 'extra' is no longer finite; a lower learning"
    )
    assert text.endswith("The weights are those of the epoch before")
    assert "\n" not in text
    ae = caught.value.ae
    assert same_weights(ae, train(spec_of(stages=[stage(2), stage(1, tie=tie)])))
    assert not ae.training
    assert [(r["stage"], r["epoch"]) for r in ae.history] == [(0, 1), (0, 2), (1, 1)]
    assert all(torch.isfinite(tensor).all() for tensor in ae.state_dict().values())
    assert {entry["value"] for entry in ae.metrics.values()} == {None}
    assert {entry["reason"] for entry in ae.metrics.values()} == {text}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_divergence_on_validation_names_the_term(value: float) -> None:
    spec = spec_of(penalties=[on_validation(Penalty, 1.0, value)], stages=[stage(1), stage(3)])
    text = "^stage 1, epoch 1, validation: the term 'extra' is no longer finite; a lower learning"
    with pytest.raises(aezoo.TrainingError, match=text) as caught:
        train(spec)
    assert "\n" not in str(caught.value)


def test_divergence_names_the_terms_of_the_first_bad_batch_alone() -> None:
    """All other terms follow one step later."""
    callback, penalty = diverging(0, 1, 1, math.inf)
    with pytest.raises(aezoo.TrainingError, match="batch 2: the term 'extra' is no longer"):
        train(spec_of(penalties=[penalty], reconstruction="mse"), callback)


def test_a_diverging_step_size_leaves_finite_weights() -> None:
    stages = [stage(9, optimizer={"kind": "sgd", "lr": 1e9})]
    with pytest.raises(aezoo.TrainingError, match="the term 'mse' is no longer finite") as caught:
        train(spec_of(**LINEAR, stages=stages))
    assert all(torch.isfinite(tensor).all() for tensor in caught.value.ae.state_dict().values())


def test_weights_that_diverge_in_the_last_step_of_a_refit_epoch_are_rejected() -> None:
    """A refit has no validation loss that would show it."""

    def spoil(state: aezoo.TrainingState) -> None:
        if len(state.samples) == 60 and (state.epoch, state.step) == (0, 4):
            next(state.ae.parameters()).data.fill_(math.nan)

    with pytest.raises(aezoo.TrainingError, match=r"stage 0, epoch 1.* no longer finite") as caught:
        train(spec_of(refit=True, stages=[stage(3)]), on("after_step", spoil))
    assert all(torch.isfinite(tensor).all() for tensor in caught.value.ae.state_dict().values())
