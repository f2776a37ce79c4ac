"""Callbacks that come with aezoo, and weights that are stored in half precision."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import aezoo
from aezoo.data.inputs import prepare_splits
from aezoo.evaluation.evaluate import evaluate_variant
from tests.training.test_training import (
    DENSE,
    FLAT,
    IMAGES,
    Calls,
    DataTerm,
    constant,
    on,
    same_weights,
    spec_of,
    stage,
    train,
)

TWO: list[Any] = [stage(2), stage(1, optimizer={"kind": "adam", "lr": 0.5})]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class CutOff(Exception):
    pass


def cut_at(hook: str, n: int) -> Calls:
    """Raises in the n-th call of a hook; never where n is 0."""
    calls: list[str] = []

    def see(name: str, state: aezoo.TrainingState) -> None:
        calls.extend([name] * (name == hook))
        if n and name == hook and len(calls) == n:
            raise CutOff

    return Calls(see)


def cut_and_resumed(spec: aezoo.VariantSpec, hook: str, n: int, file: Path) -> aezoo.Autoencoder:
    """Trained up to the n-th call of a hook, and then from where that was kept to the end."""
    for cut in (n, 0):
        try:
            return aezoo.train(
                spec, IMAGES, device="cpu", callbacks=[cut_at(hook, cut)], progress=False, resume=file
            )
        except CutOff:
            assert file.exists()
    raise AssertionError("cut off twice")


# -- lines of JSON ------------------------------------------------------------------------------------


@pytest.mark.parametrize("refit", [False, True])
def test_history_writes_every_record_as_it_comes(refit: bool, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "history.jsonl"
    counts: list[int] = []
    ae = train(
        spec_of(callbacks=[{"kind": "history", "path": str(path)}], stages=TWO, refit=refit),
        on("on_epoch_end", lambda state: counts.append(len(lines(path)))),
    )
    assert lines(path) == ae.history
    assert counts == list(range(1, len(ae.history) + 1))


def test_history_is_begun_anew_by_each_training(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text("of another training\n")
    spec = spec_of(callbacks=[{"kind": "history", "path": str(path)}])
    for _ in range(2):
        ae = train(spec)
        assert lines(path) == ae.history


def test_learning_rate_writes_every_step(tmp_path: Path) -> None:
    path = tmp_path / "rates.jsonl"
    schedule = {"kind": "cosine", "warmup_steps": 2}
    stages = [
        stage(2, schedule=schedule),
        {"kind": "greedy", "epochs": 1, "optimizer": {"kind": "adam", "lr": 0.25}},
    ]
    rates: list[float] = []
    train(
        spec_of(callbacks=[{"kind": "learning_rate", "path": str(path)}], stages=stages),
        on("after_step", lambda state: rates.append(state.optimizer.param_groups[0]["lr"])),
    )
    found = lines(path)
    assert [line["step"] for line in found] == list(range(1, 13))  # 54 rows in batches of 16, three times
    assert [line["lr"] for line in found] == rates
    assert [(line["stage"], line["pair"]) for line in found] == [(0, 0)] * 8 + [(1, 1)] * 4
    assert rates[0] == pytest.approx(5e-4)
    assert rates[8:] == [0.25] * 4


@pytest.mark.parametrize("refit", [False, True])
@pytest.mark.parametrize(("hook", "n"), [("on_epoch_end", 2), ("on_epoch_end", 3), ("after_step", 7)])
def test_lines_behind_the_cut_are_cut_back_and_written_again(
    hook: str, n: int, refit: bool, tmp_path: Path
) -> None:
    def written(name: str) -> tuple[aezoo.VariantSpec, Path, Path]:
        history, rates = tmp_path / name / "history.jsonl", tmp_path / name / "rates.jsonl"
        callbacks = [{"kind": "history", "path": str(history)}, {"kind": "learning_rate", "path": str(rates)}]
        return spec_of(callbacks=callbacks, stages=TWO, refit=refit), history, rates

    def untimed(path: Path) -> list[dict[str, Any]]:
        return [{k: v for k, v in line.items() if k != "seconds"} for line in lines(path)]

    whole, history, rates = written("whole")
    train(whole)
    pieces, history_too, rates_too = written("pieces")
    cut_and_resumed(pieces, hook, n, tmp_path / "cut.resume")
    assert untimed(history_too) == untimed(history)
    assert lines(rates_too) == lines(rates)


# -- checkpoints --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize(("every", "kept"), [(1, [1, 2, 3, 4]), (2, [2, 4]), (3, [3]), (9, [])])
def test_a_checkpoint_every_few_epochs_loads_and_holds_that_epochs_weights(
    every: int, kept: list[int], tie: bool, tmp_path: Path
) -> None:
    folder, codes, x_hats = tmp_path / "kept", [], []

    def look(state: aezoo.TrainingState) -> None:
        with torch.no_grad():
            out = state.ae.eval()(IMAGES)
        codes.append(out.latents)
        x_hats.append(out.x_hat)
        state.ae.train()

    callbacks = [{"kind": "checkpoint", "folder": str(folder), "every": every}]
    spec = spec_of(callbacks=callbacks, stages=[stage(3, tie=tie), stage(1)])
    ae = train(spec, on("on_epoch_end", look))
    assert sorted(path.name for path in tmp_path.glob("kept/*")) == [f"epoch-{n:06}" for n in kept]
    for n in kept:
        there = aezoo.load(str(folder / f"epoch-{n:06}"))
        with torch.no_grad():
            assert torch.equal(there(IMAGES).latents, codes[n - 1])
            torch.testing.assert_close(there(IMAGES).x_hat, x_hats[n - 1], atol=1e-6, rtol=0)
        assert there.metrics == {}
        assert there.spec == ae.spec.resolved()
    # Saving in between changes nothing of what comes out.
    assert same_weights(ae, train(spec_of(stages=[stage(3, tie=tie), stage(1)])))


def test_a_checkpoint_of_greedy_epochs_is_of_the_whole_network(tmp_path: Path) -> None:
    layers: dict[str, Any] = {
        "encoder": ["flatten", DENSE | {"out_features": 12}, DENSE],
        "decoder": [DENSE | {"out_features": 12}, DENSE | {"out_features": 36}, FLAT],
    }
    callbacks = [{"kind": "checkpoint", "folder": str(tmp_path)}]
    ae = train(spec_of(**layers, callbacks=callbacks, stages=[{"kind": "greedy", "epochs": 1, "tie": True}]))
    last = aezoo.load(str(tmp_path / "epoch-000002"))
    for name, tensor in last.state_dict().items():
        assert torch.equal(tensor, ae.state_dict()[name]), name


def test_a_checkpoint_of_scaled_data_takes_the_same_data_as_the_outcome(tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    np.save(path, IMAGES.numpy() * 9 + 4)
    dataset = {"kind": "array", "path": str(path), "scale": "standard"}
    callbacks = [{"kind": "checkpoint", "folder": str(tmp_path / "kept")}]
    spec = spec_of(dataset=dataset, callbacks=callbacks).replace({"input.range": None})
    ae, last = train(spec, data=None), aezoo.load(str(tmp_path / "kept" / "epoch-000002"))
    assert ae.scaler is not None
    assert last.scaler is not None
    assert torch.equal(last.scaler.shift, ae.scaler.shift)
    assert torch.equal(last.scaler.scale, ae.scaler.scale)


@pytest.mark.parametrize("hook_n", [("on_epoch_end", 3), ("after_step", 10)])
def test_checkpoints_are_counted_on_after_a_cut(hook_n: tuple[str, int], tmp_path: Path) -> None:
    callbacks = [{"kind": "checkpoint", "folder": str(tmp_path / "kept"), "every": 2}]
    ae = cut_and_resumed(spec_of(callbacks=callbacks, stages=[stage(4)]), *hook_n, tmp_path / "cut.resume")
    assert sorted(path.name for path in tmp_path.glob("kept/*")) == ["epoch-000002", "epoch-000004"]
    last = aezoo.load(str(tmp_path / "kept" / "epoch-000004"))
    assert torch.equal(last(IMAGES).latents, ae(IMAGES).latents)


# -- dead latents -------------------------------------------------------------------------------------

LATENTS = 8
DEAD = [1, 4, 6]
ALIVE = [n for n in range(LATENTS) if n not in DEAD]
RELU: list[Any] = ["flatten", {"kind": "linear", "out_features": LATENTS, "activation": "relu"}]
RESAMPLING = {"kind": "resample_dead", "every": 2}


def linears(ae: aezoo.Autoencoder) -> tuple[nn.Linear, nn.Linear]:
    encoder, decoder = (
        next(m for m in s.modules() if isinstance(m, nn.Linear)) for s in (ae.encoder, ae.decoder)
    )
    return encoder, decoder


def wake(state: aezoo.TrainingState) -> None:
    """Lets every latent fire for every sample."""
    linears(state.ae)[0].bias.data.fill_(5.0)


def kill(state: aezoo.TrainingState) -> None:
    """Lets three latents never fire again."""
    linears(state.ae)[0].bias.data[DEAD] = -1e3


def resampled(
    epochs: int, **options: Any
) -> tuple[aezoo.Autoencoder, dict[str, Tensor], dict[str, list[Tensor]]]:
    """A training in which three latents die after two epochs.

    Gives the network, the weights before its last epoch's end, and each parameter's moments behind it.
    """
    before: dict[str, Tensor] = {}
    moments: dict[str, list[Tensor]] = {}

    def look(name: str, state: aezoo.TrainingState) -> None:
        if name == "on_fit_start":
            wake(state)
        if name == "after_step":
            before.update({n: t.clone() for n, t in state.ae.state_dict().items()})
        if name == "on_epoch_end" and state.epoch == 2:
            kill(state)
        if name == "on_epoch_end":
            for n, parameter in state.ae.named_parameters():
                kept = state.optimizer.state[parameter]
                moments[n] = [kept[key].clone() for key in ("exp_avg", "exp_avg_sq")]

    callbacks = options.get("callbacks", [RESAMPLING])
    return (
        train(spec_of(encoder=RELU, callbacks=callbacks, stages=[stage(epochs)]), Calls(look)), before, moments
    )  # fmt: skip


NORMED = [
    RELU[0],
    RELU[1] | {"activation": None, "norm": "batch_norm", "dropout": 0.2},
    {"kind": "topk", "k": 3},
]


def test_dead_latents_get_new_weights_and_the_others_are_left_alone() -> None:
    ae, before, _ = resampled(4)
    encoder, decoder = linears(ae)
    names = {"encoder.1.linear.weight", "encoder.1.linear.bias", "decoder.0.linear.weight"}
    after = {name: tensor for name, tensor in ae.state_dict().items() if name != "target_mean"}
    assert {name for name in before if not torch.equal(before[name], after[name])} == names
    for name, rows in (("encoder.1.linear.weight", encoder.weight), ("encoder.1.linear.bias", encoder.bias)):
        assert torch.equal(rows[ALIVE], before[name][ALIVE])
    assert torch.equal(decoder.weight[:, ALIVE], before["decoder.0.linear.weight"][:, ALIVE])
    assert (encoder.bias[DEAD] == 0).all()
    # A fifth of the others' mean length, along a training sample each.
    lengths = before["encoder.1.linear.weight"].norm(dim=1)
    torch.testing.assert_close(encoder.weight[DEAD].norm(dim=1), (0.2 * lengths[ALIVE].mean()).expand(3))
    rows = nn.functional.normalize(prepare_splits(IMAGES, ae.spec, 0).train.inputs.flatten(1), dim=1)
    for directions in (nn.functional.normalize(encoder.weight[DEAD], dim=1), decoder.weight[:, DEAD].T):
        assert ((directions @ rows.T).max(1).values > 1 - 1e-5).all()


def test_the_optimizer_forgets_the_dead_and_nothing_else() -> None:
    _, _, moments = resampled(4)
    _, _, untouched = resampled(4, callbacks=[])
    places: dict[str, Any] = {
        "encoder.1.linear.weight": DEAD,
        "encoder.1.linear.bias": DEAD,
        "decoder.0.linear.weight": (slice(None), DEAD),
    }
    for name, values in untouched.items():
        for value, otherwise in zip(moments[name], values, strict=True):
            expected = otherwise.clone()
            if name in places:
                assert (expected[places[name]] != 0).any(), "nothing to forget"
                expected[places[name]] = 0.0
            assert torch.equal(value, expected), name


def test_looking_for_bad_samples_changes_no_running_statistics_and_draws_no_numbers() -> None:
    states: list[Tensor] = []
    buffers: list[dict[str, Tensor]] = []

    def look(name: str, state: aezoo.TrainingState) -> None:
        if name == "on_fit_start":
            # Dead behind the normalisation, which takes any bias of the linear layer away.
            norm = next(m for m in state.ae.encoder.modules() if isinstance(m, nn.BatchNorm1d))
            norm.bias.data[DEAD] = -1e3
        if name == "after_step":
            states.append(torch.get_rng_state())
            buffers.append({n: b.clone() for n, b in state.ae.named_buffers()})

    spec = spec_of(encoder=NORMED, callbacks=[RESAMPLING | {"every": 1}], stages=[stage(1)])
    before = aezoo.build(spec).state_dict()
    ae = train(
        spec,
        Calls(look),
        on("on_epoch_end", lambda state: states.append(torch.get_rng_state())),
    )
    after = ae.state_dict()
    assert not torch.equal(before["encoder.1.linear.weight"][DEAD], after["encoder.1.linear.weight"][DEAD])
    assert torch.equal(states[-1], states[-2])
    for name, value in buffers[-1].items():
        assert torch.equal(value, after[name]), name


@pytest.mark.parametrize(
    ("options", "epochs", "changes"),
    [({"every": 2}, 3, False), ({"every": 2}, 4, True), ({"every": 2, "until": 3}, 4, False), ({}, 9, False)],
    ids=str,
)
def test_looks_come_every_few_epochs_until_there_are_no_more(
    options: dict[str, int], epochs: int, changes: bool
) -> None:
    ae, _, _ = resampled(epochs, callbacks=[{"kind": "resample_dead", **options}])
    assert bool((linears(ae)[0].bias[DEAD] == 0).all()) is changes


def test_a_tied_dictionary_is_resampled_on_both_sides() -> None:
    seen: list[Tensor] = []

    def look(name: str, state: aezoo.TrainingState) -> None:
        if name == "on_fit_start":
            wake(state)
            kill(state)
        if name == "after_step":
            seen.append(linears(state.ae)[0].weight.detach().clone())

    callbacks = [RESAMPLING | {"every": 1}]
    ae = train(spec_of(encoder=RELU, callbacks=callbacks, stages=[stage(1, tie=True)]), Calls(look))
    encoder, decoder = linears(ae)
    assert torch.equal(decoder.weight, encoder.weight.T)
    assert torch.equal(encoder.weight[ALIVE], seen[-1][ALIVE])
    assert (encoder.weight[DEAD] != seen[-1][DEAD]).any(1).all()


DYING: dict[str, Any] = {
    "encoder": ["flatten", {"kind": "linear", "out_features": 32, "activation": "relu"}],
    "stages": [stage(6, optimizer={"kind": "adam", "lr": 0.1}), stage(6)],
}
"""With steps so large that most latents die."""


def test_training_with_it_ends_with_fewer_dead_latents() -> None:
    dead: list[int] = []
    for callbacks in ([], [{"kind": "resample_dead", "every": 3, "until": 9}]):
        ae = train(spec_of(callbacks=callbacks, **DYING))
        dead.append(int((ae.encode(IMAGES) == 0).all(0).sum()))
    assert dead[0] >= 16
    assert dead[1] <= 4


CONV: list[Any] = [
    {"kind": "conv", "out_channels": 2, "kernel_size": 3, "padding": "same", "activation": "relu"}
]
UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "convolutions": (
        {"encoder": CONV, "decoder": [{"kind": "conv", "out_channels": 1, "kernel_size": 3, "padding": "same"}]},
        "resample_dead needs linear layers on both sides of the latents",
    ),
    "pairs": (
        {"encoder": RELU, "stages": [{"kind": "greedy", "epochs": 1}]},
        "resample_dead works on the whole network, not on the pairs of a greedy stage",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("options", "words"), UNFIT.values(), ids=UNFIT)
def test_resampling_where_it_cannot_work_is_refused_before_the_first_step(
    options: dict[str, Any], words: str
) -> None:
    """Not after many epochs, when the first latent is found dead."""
    steps: list[int] = []
    spec = spec_of(callbacks=[RESAMPLING], **options)
    with pytest.raises(aezoo.AezooError, match=words):
        train(spec, on("before_step", lambda state: steps.append(state.step)))
    assert steps == []


@pytest.mark.parametrize(("hook", "n"), [("on_epoch_end", 3), ("after_step", 14)])
def test_resampling_goes_on_after_a_cut(hook: str, n: int, tmp_path: Path) -> None:
    spec = spec_of(callbacks=[RESAMPLING], **DYING)
    whole = train(spec)
    assert not same_weights(whole, train(spec_of(**DYING)))
    assert same_weights(whole, cut_and_resumed(spec, hook, n, tmp_path / "cut.resume"))


# -- TensorBoard --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard")
def test_tensorboard_reads_the_losses_and_the_learning_rate(tmp_path: Path) -> None:
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    callbacks = [{"kind": "tensorboard", "folder": str(tmp_path / "runs")}]
    ae = train(spec_of(callbacks=callbacks, stages=TWO, refit=True, penalties=["l1_latents"]))
    events = accumulator.EventAccumulator(str(tmp_path / "runs"))
    events.Reload()
    terms = ("loss", "mse", "l1_latents")
    assert set(events.Tags()["scalars"]) == {
        *(f"choose/{split}/{term}" for split in ("train", "validation") for term in terms),
        *(f"refit/train/{term}" for term in terms), "choose/lr", "refit/lr",
    }  # fmt: skip
    for round_, steps in (("choose", [4, 8, 12]), ("refit", [4, 8, 12])):
        records = [record for record in ae.history if record["round"] == round_]
        for tag, values in (
            (f"{round_}/train/mse", [record["train"]["mse"] for record in records]),
            (f"{round_}/lr", [record["lr"] for record in records]),
        ):
            found = events.Scalars(tag)
            assert [event.step for event in found] == steps
            assert [event.value for event in found] == pytest.approx(values, rel=1e-6)


def test_tensorboard_that_is_not_installed_is_asked_for_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    steps: list[int] = []
    spec = spec_of(callbacks=[{"kind": "tensorboard", "folder": str(tmp_path / "runs")}])
    with pytest.raises(aezoo.AezooError) as caught:
        train(spec, on("before_step", lambda state: steps.append(state.step)))
    assert type(caught.value).__name__ == "MissingExtraError"
    assert str(caught.value) == "this needs tensorboard; install it with: pip install 'aezoo[tensorboard]'"
    assert steps == []


# -- half precision -----------------------------------------------------------------------------------

HALF: dict[str, Any] = {
    "encoder": ["flatten", DENSE | {"norm": "batch_norm"}],
    "stages": [stage(3, optimizer={"kind": "adam", "lr": 0.01})],
}


def test_half_precision_is_of_weights_alone_and_halves_them(tmp_path: Path) -> None:
    whole, half = train(spec_of(**HALF)), train(spec_of(**HALF, weights_dtype="float16"))
    aezoo.save(whole, tmp_path / "whole")
    aezoo.save(half, tmp_path / "half")
    stored = load_file(tmp_path / "half" / "model.safetensors")
    parameters = {name for name, _ in half.named_parameters()}
    assert {name for name, tensor in stored.items() if tensor.dtype == torch.float16} == parameters
    assert stored["target_mean"].dtype == torch.float32
    assert stored["encoder.1.norm.running_mean"].dtype == torch.float32
    sizes = [sum(p.numel() for p in whole.parameters()) * width for width in (4, 2)]
    files = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    assert files[0] - files[1] == pytest.approx(sizes[0] - sizes[1], abs=64)  # the header is padded


def test_half_precision_is_rounding_at_the_end_of_the_same_training() -> None:
    whole, half = train(spec_of(**HALF)), train(spec_of(**HALF, weights_dtype="float16"))
    rounded = dict(half.named_parameters())
    for name, parameter in whole.named_parameters():
        assert torch.equal(rounded[name], parameter.half().float()), name
        assert rounded[name].dtype == torch.float32
    assert [r["train"] for r in half.history] == [r["train"] for r in whole.history]


@pytest.mark.parametrize("refit", [False, True])
def test_metrics_are_measured_on_what_is_stored(refit: bool, tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    np.save(path, IMAGES.numpy())
    dataset = {"kind": "array", "path": str(path), "test": 0.2}
    ae = train(spec_of(**HALF, dataset=dataset, weights_dtype="float16", refit=refit), data=None)
    aezoo.save(ae, tmp_path / "half")
    loaded = aezoo.load(str(tmp_path / "half"))
    assert same_weights(ae, loaded)
    again = evaluate_variant(loaded, "test")
    assert again["mse"]["value"] == loaded.metrics["mse"]["value"]
    assert again.items() <= loaded.metrics.items()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, None])
def test_any_precision_can_be_asked_for(dtype: torch.dtype | None, tmp_path: Path) -> None:
    aezoo.save(train(spec_of(**HALF, weights_dtype="float16")), tmp_path / "half")
    ae = aezoo.load(str(tmp_path / "half"), dtype=dtype)
    assert {p.dtype for p in ae.parameters()} == {dtype or torch.float32}


def test_a_half_precision_folder_saved_again_is_the_same(tmp_path: Path) -> None:
    aezoo.save(train(spec_of(**HALF, weights_dtype="float16")), tmp_path / "a")
    aezoo.save(aezoo.load(str(tmp_path / "a")), tmp_path / "b")
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert first == second


def test_weights_beyond_half_precision_are_not_saved(tmp_path: Path) -> None:
    ae = train(spec_of(**HALF, weights_dtype="float16"))
    next(ae.parameters()).data[0, 0] = 70_000.0
    with pytest.raises(aezoo.CheckpointError, match=r"encoder\.1\.linear\.weight"):
        aezoo.save(ae, tmp_path / "half")
    assert not (tmp_path / "half").exists()


def test_a_training_that_ends_beyond_half_precision_says_so() -> None:
    """Hours of training end in numbers that are none otherwise, which save then refuses."""

    def grow(state: aezoo.TrainingState) -> None:
        linears(state.ae)[1].bias.data[0] = 70_000.0

    spec = spec_of(**HALF, weights_dtype="float16", reconstruction=DataTerm(of=constant(1.0)))
    with pytest.raises(aezoo.TrainingError, match=r"decoder\.0\.linear\.bias.*float16") as caught:
        train(spec, on("after_step", grow))
    assert "\n" not in str(caught.value)


# -- what goes wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["history", "learning_rate"])
def test_a_record_that_cannot_be_written_ends_the_training_in_one_line(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "record.jsonl"
    spec = spec_of(callbacks=[{"kind": kind, "path": str(path)}])
    with pytest.raises(aezoo.TrainingError) as caught:
        train(spec)
    assert str(caught.value).startswith(f"{path} could not be written: ")


def test_a_refit_looks_for_dead_latents_as_the_first_round_did(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[tuple[int, int]] = []

    def look(state: aezoo.TrainingState, dead: Tensor, generator: torch.Generator) -> None:
        looked.append((state.epoch, generator.initial_seed()))

    monkeypatch.setattr("aezoo.training.callbacks.resample", look)
    sparse = ["flatten", {"kind": "linear", "out_features": 8}, {"kind": "topk", "k": 1}]
    spec = spec_of(
        encoder=sparse, callbacks=[{"kind": "resample_dead", "every": 2, "until": 3}],
        stages=[stage(5)], refit=True,
    )  # fmt: skip
    # A single image: all but one latent are dead throughout.
    train(spec, data=torch.ones(40, 1, 6, 6))
    assert looked == [(2, 2), (2, 2)]
