"""The built-in callbacks: loggers, checkpoints and dead-latent resampling."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import aezoo
from aezoo.data.inputs import prepare_splits
from tests.training.networks import (
    DEEP,
    IMAGES,
    adam,
    changed,
    conv,
    greedy,
    same_weights,
    spec_of,
    stage,
    state_of,
    train,
)
from tests.training.probes import Calls, Cut, CutOff, on

TWO: list[Any] = [stage(2), stage(1, optimizer=adam(0.5))]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def train_with_a_cut(spec: aezoo.VariantSpec, hook: str, n: int, file: Path) -> aezoo.Autoencoder:
    """Trains until the n-th call of a hook, and resumes."""
    with pytest.raises(CutOff):
        train(spec, Cut(hook, n), resume=file)
    return train(spec, Cut(), resume=file)


# -- history and learning_rate ------------------------------------------------------------------------


@pytest.mark.parametrize("refit", [False, True])
def test_history_writes_every_record_at_once(refit: bool, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "history.jsonl"
    counts: list[int] = []
    ae = train(
        spec_of(callbacks=[{"kind": "history", "path": str(path)}], stages=TWO, refit=refit),
        on("on_epoch_end", lambda state: counts.append(len(lines(path)))),
    )
    assert lines(path) == ae.history
    assert counts == list(range(1, len(ae.history) + 1))


def test_history_overwrites_the_file_of_an_earlier_training(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text("of another training\n")
    spec = spec_of(callbacks=[{"kind": "history", "path": str(path)}])
    for _ in range(2):
        ae = train(spec)
        assert lines(path) == ae.history


def test_learning_rate_writes_every_step(tmp_path: Path) -> None:
    path = tmp_path / "rates.jsonl"
    stages = [stage(2, schedule={"kind": "cosine", "warmup_steps": 2}), greedy(1, optimizer=adam(0.25))]
    lrs: list[float] = []
    train(
        spec_of(callbacks=[{"kind": "learning_rate", "path": str(path)}], stages=stages),
        on("after_step", lambda state: lrs.append(state.optimizer.param_groups[0]["lr"])),
    )
    found = lines(path)
    assert [line["step"] for line in found] == list(range(1, 13))
    assert [line["lr"] for line in found] == lrs
    assert [(line["stage"], line["pair"]) for line in found] == [(0, 0)] * 8 + [(1, 1)] * 4
    assert lrs[0] == pytest.approx(5e-4)
    assert lrs[8:] == [0.25] * 4


@pytest.mark.parametrize("refit", [False, True])
@pytest.mark.parametrize(("hook", "n"), [("on_epoch_end", 2), ("on_epoch_end", 3), ("after_step", 7)])
def test_loggers_continue_their_files_after_an_interruption(
    hook: str, n: int, refit: bool, tmp_path: Path
) -> None:
    def logging_to(name: str) -> tuple[aezoo.VariantSpec, Path, Path]:
        history, lrs = tmp_path / name / "history.jsonl", tmp_path / name / "rates.jsonl"
        callbacks = [{"kind": "history", "path": str(history)}, {"kind": "learning_rate", "path": str(lrs)}]
        return spec_of(callbacks=callbacks, stages=TWO, refit=refit), history, lrs

    def untimed(path: Path) -> list[dict[str, Any]]:
        return [{k: v for k, v in line.items() if k != "seconds"} for line in lines(path)]

    spec, history, lrs = logging_to("whole")
    train(spec)
    spec, resumed_history, resumed_lrs = logging_to("resumed")
    train_with_a_cut(spec, hook, n, tmp_path / "resume")
    assert untimed(resumed_history) == untimed(history)
    assert lines(resumed_lrs) == lines(lrs)


@pytest.mark.parametrize("kind", ["history", "learning_rate"])
def test_an_unwritable_log_ends_the_training_with_one_line(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "record.jsonl"
    with pytest.raises(aezoo.TrainingError) as caught:
        train(spec_of(callbacks=[{"kind": kind, "path": str(path)}]))
    assert str(caught.value).startswith(f"{path} could not be written: ")


# -- checkpoint ---------------------------------------------------------------------------------------


def checkpoints(folder: Path, every: int = 1) -> list[dict[str, Any]]:
    return [{"kind": "checkpoint", "folder": str(folder), "every": every}]


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize(("every", "epochs"), [(1, [1, 2, 3, 4]), (2, [2, 4]), (3, [3]), (9, [])])
def test_checkpoints_hold_the_weights_of_their_epoch(
    every: int, epochs: list[int], tie: bool, tmp_path: Path
) -> None:
    outputs: list[aezoo.Output] = []

    def look(state: aezoo.TrainingState) -> None:
        with torch.no_grad():
            outputs.append(state.ae.eval()(IMAGES))
        state.ae.train()

    stages = [stage(3, tie=tie), stage(1)]
    ae = train(spec_of(callbacks=checkpoints(tmp_path, every), stages=stages), on("on_epoch_end", look))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"epoch-{n:06}" for n in epochs]
    for n in epochs:
        checkpoint = aezoo.load(tmp_path / f"epoch-{n:06}")
        with torch.no_grad():
            out = checkpoint(IMAGES)
        assert torch.equal(out.latents, outputs[n - 1].latents)
        torch.testing.assert_close(out.x_hat, outputs[n - 1].x_hat, atol=1e-6, rtol=0)
        assert checkpoint.metrics == {}
        assert checkpoint.spec == ae.spec.resolved()
    # Checkpoints do not change the result.
    assert same_weights(ae, train(spec_of(stages=stages)))


def test_checkpoints_of_a_greedy_stage_hold_the_whole_network(tmp_path: Path) -> None:
    ae = train(spec_of(**DEEP, callbacks=checkpoints(tmp_path), stages=[greedy(1, tie=True)]))
    assert changed(state_of(aezoo.load(tmp_path / "epoch-000002")), state_of(ae)) == set()


def test_checkpoints_hold_the_scale_of_the_data(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", IMAGES.numpy() * 9 + 4)
    dataset = {"kind": "array", "path": str(tmp_path / "rows.npy"), "scale": "standard"}
    spec = spec_of(dataset=dataset, callbacks=checkpoints(tmp_path)).replace({"input.range": None})
    ae, last = train(spec, data=None), aezoo.load(tmp_path / "epoch-000002")
    assert ae.scaler is not None
    assert last.scaler is not None
    assert torch.equal(last.scaler.shift, ae.scaler.shift)
    assert torch.equal(last.scaler.scale, ae.scaler.scale)


@pytest.mark.parametrize(("hook", "n"), [("on_epoch_end", 3), ("after_step", 10)])
def test_a_resumed_training_counts_checkpoints_on(hook: str, n: int, tmp_path: Path) -> None:
    spec = spec_of(callbacks=checkpoints(tmp_path / "kept", every=2), stages=[stage(4)])
    ae = train_with_a_cut(spec, hook, n, tmp_path / "resume")
    assert sorted(path.name for path in tmp_path.glob("kept/*")) == ["epoch-000002", "epoch-000004"]
    last = aezoo.load(tmp_path / "kept" / "epoch-000004")
    assert torch.equal(last(IMAGES).latents, ae(IMAGES).latents)


# -- resample_dead ------------------------------------------------------------------------------------

LATENTS = 8
DEAD = [1, 4, 6]
ALIVE = [n for n in range(LATENTS) if n not in DEAD]
RELU: list[Any] = ["flatten", {"kind": "linear", "out_features": LATENTS, "activation": "relu"}]
ENCODER, BIAS, DECODER = "encoder.1.linear.weight", "encoder.1.linear.bias", "decoder.0.linear.weight"


def resampling(every: int = 2, **options: Any) -> list[dict[str, Any]]:
    return [{"kind": "resample_dead", "every": every, **options}]


def wake(state: aezoo.TrainingState) -> None:
    """Sets all biases so that every latent fires for every sample."""
    state.ae.get_parameter(BIAS).data.fill_(5.0)


def kill(state: aezoo.TrainingState) -> None:
    """Sets the biases of three latents so that they never fire again."""
    state.ae.get_parameter(BIAS).data[DEAD] = -1e3


def train_with_dead_latents(
    epochs: int, callbacks: list[dict[str, Any]]
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, list[Tensor]]]:
    """A training in which three latents die after two epochs.

    Returns the states after so many epochs and at the start of the next one, and the optimizer's moments of each
    parameter there.
    """
    before: dict[str, Tensor] = {}
    after: dict[str, Tensor] = {}
    moments: dict[str, list[Tensor]] = {}

    def look(name: str, state: aezoo.TrainingState) -> None:
        if name == "on_fit_start":
            wake(state)
        if name == "on_epoch_end" and state.epoch == epochs:
            before.update(state_of(state.ae))
        if name == "on_epoch_start" and state.epoch == 2 < epochs:
            kill(state)
        if name == "on_epoch_start" and state.epoch == epochs:
            after.update(state_of(state.ae))
            for parameter_name, parameter in state.ae.named_parameters():
                kept = state.optimizer.state[parameter]
                moments[parameter_name] = [kept[key].clone() for key in ("exp_avg", "exp_avg_sq")]

    train(spec_of(encoder=RELU, callbacks=callbacks, stages=[stage(epochs + 1)]), Calls(look))
    return before, after, moments


def test_dead_latents_alone_get_new_weights() -> None:
    before, after, _ = train_with_dead_latents(4, resampling())
    assert changed(before, after) == {ENCODER, BIAS, DECODER}
    for name in (ENCODER, BIAS):
        assert torch.equal(after[name][ALIVE], before[name][ALIVE])
    assert torch.equal(after[DECODER][:, ALIVE], before[DECODER][:, ALIVE])
    assert (after[BIAS][DEAD] == 0).all()
    # Each new row points at a training sample; its length is a fifth of the mean length of the others.
    lengths = before[ENCODER].norm(dim=1)
    torch.testing.assert_close(after[ENCODER][DEAD].norm(dim=1), (0.2 * lengths[ALIVE].mean()).expand(3))
    rows = nn.functional.normalize(
        prepare_splits(IMAGES, spec_of(encoder=RELU), 0).train.inputs.flatten(1), dim=1
    )
    for directions in (nn.functional.normalize(after[ENCODER][DEAD], dim=1), after[DECODER][:, DEAD].T):
        assert ((directions @ rows.T).max(1).values > 1 - 1e-5).all()


def test_moments_of_dead_latents_alone_are_reset() -> None:
    _, _, moments = train_with_dead_latents(4, resampling())
    _, _, without = train_with_dead_latents(4, [])
    dead: dict[str, Any] = {ENCODER: DEAD, BIAS: DEAD, DECODER: (slice(None), DEAD)}
    for name, values in without.items():
        for value, expected in zip(moments[name], values, strict=True):
            if name in dead:
                assert (expected[dead[name]] != 0).any(), "nothing to reset"
                expected[dead[name]] = 0.0
            assert torch.equal(value, expected), name


def test_resampling_changes_no_running_statistics_and_no_random_state() -> None:
    random_states: list[Tensor] = []
    after: dict[str, Tensor] = {}
    buffers: dict[str, Tensor] = {}
    linear = RELU[1] | {"activation": None, "norm": "batch_norm", "dropout": 0.2}

    def look(name: str, state: aezoo.TrainingState) -> None:
        if name == "on_fit_start":
            # After the norm, which removes any bias of the linear layer.
            norm = next(m for m in state.ae.encoder.modules() if isinstance(m, nn.BatchNorm1d))
            norm.bias.data[DEAD] = -1e3
        if name == "on_epoch_end" and state.epoch == 1:
            buffers.update({name: buffer.clone() for name, buffer in state.ae.named_buffers()})
        if name == "on_epoch_start":
            after.update(state_of(state.ae))
        if name in ("on_epoch_end", "on_epoch_start"):
            random_states.append(torch.get_rng_state())

    encoder = ["flatten", linear, {"kind": "topk", "k": 3}]
    spec = spec_of(encoder=encoder, callbacks=resampling(1), stages=[stage(2)])
    before = state_of(aezoo.build(spec))
    train(spec, Calls(look))
    assert not torch.equal(before[ENCODER][DEAD], after[ENCODER][DEAD])
    assert torch.equal(random_states[1], random_states[2])
    for name, buffer in buffers.items():
        assert torch.equal(buffer, after[name]), name


@pytest.mark.parametrize(
    ("options", "epochs", "resampled"),
    [({"every": 2}, 3, False), ({"every": 2}, 4, True), ({"every": 2, "until": 3}, 4, False), ({"every": 10}, 9, False)],
    ids=str,
)  # fmt: skip
def test_latents_are_resampled_every_few_epochs_until_the_last(
    options: dict[str, int], epochs: int, resampled: bool
) -> None:
    _, after, _ = train_with_dead_latents(epochs, resampling(**options))
    assert bool((after[BIAS][DEAD] == 0).all()) is resampled


def test_tied_weights_are_resampled_on_both_sides() -> None:
    weights: list[Tensor] = []

    def look(name: str, state: aezoo.TrainingState) -> None:
        if name in ("on_epoch_end", "on_epoch_start"):
            weights.append(state.ae.get_parameter(ENCODER).detach().clone())

    spec = spec_of(encoder=RELU, callbacks=resampling(1), stages=[stage(2, tie=True)])
    trained = state_of(train(spec, on("on_fit_start", wake), on("on_fit_start", kill), Calls(look)))
    assert torch.equal(trained[DECODER], trained[ENCODER].T)
    before, after = weights[1:3]
    assert torch.equal(after[ALIVE], before[ALIVE])
    assert (after[DEAD] != before[DEAD]).any(1).all()


def test_resampling_neither_follows_the_last_epoch_of_a_stage_nor_enters_the_best_epoch() -> None:
    """The recorded losses are those of the network that comes back."""
    for options in ({}, {"early_stop": {"patience": 2}}):
        stages = [stage(4, optimizer=adam(0.1), **options), stage(4, optimizer=adam(0.1), **options)]
        ae = train(spec_of(encoder=RELU, callbacks=resampling(2), stages=stages))
        kept = ae.training_record["epochs"][1]
        records = [record for record in ae.history if record["stage"] == 1]
        assert ae.metrics["mse.validation"]["value"] == pytest.approx(records[kept - 1]["validation"]["mse"])


def test_a_stage_that_a_callback_ends_is_not_followed_by_resampling(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(
        "aezoo.training.callbacks.resample", lambda state, *_: calls.append(len(state.history))
    )

    def stop(state: aezoo.TrainingState) -> None:
        state.stop = state.epoch == 4

    spec = spec_of(encoder=RELU, callbacks=resampling(2), stages=[stage(9), stage(3)])
    train(spec, on("on_fit_start", kill), on("on_epoch_end", stop))
    assert calls == [2, 6], (
        "not after epoch 4, the last of the first stage, nor after epoch 7, the last of all"
    )


def test_layers_that_a_stage_freezes_are_not_resampled() -> None:
    before: list[dict[str, Tensor]] = []
    callback = on("on_fit_start", lambda state: before.append(state_of(state.ae)))
    stages = [stage(3, optimizer=adam(0.1)), stage(4, freeze=["encoder"])]
    ae = train(
        spec_of(encoder=RELU, callbacks=resampling(1), stages=stages), on("on_fit_start", kill), callback
    )
    after = state_of(ae)
    assert all(torch.equal(after[name], before[1][name]) for name in (ENCODER, BIAS))


DYING: dict[str, Any] = {
    "encoder": ["flatten", {"kind": "linear", "out_features": 32, "activation": "relu"}],
    "stages": [stage(6, optimizer=adam(0.1)), stage(6)],
}
"""Steps so large that most latents die."""


def test_resampling_leaves_fewer_dead_latents() -> None:
    dead: list[int] = []
    for callbacks in ([], resampling(2)):
        ae = train(spec_of(callbacks=callbacks, **DYING))
        dead.append(int((ae.encode(IMAGES) == 0).all(0).sum()))
    assert dead[0] >= 16
    assert dead[1] <= 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoder": [conv(2, activation="relu")], "decoder": [conv(1)]}, "needs linear layers on both sides of the latents"),
        ({"encoder": RELU, "stages": [greedy(1)]}, "applies to the whole network, not to the pairs of a greedy stage"),
    ],
    ids=["convolutions", "pairs"],
)  # fmt: skip
def test_networks_that_cannot_be_resampled_are_rejected_before_the_first_step(
    options: dict[str, Any], words: str
) -> None:
    steps: list[int] = []
    spec = spec_of(callbacks=resampling(), **options)
    with pytest.raises(aezoo.SpecError, match=f"^recipe.callbacks.0: resample_dead {words}"):
        train(spec, on("before_step", lambda state: steps.append(state.step)))
    assert steps == []


@pytest.mark.parametrize(("hook", "n"), [("on_epoch_end", 3), ("after_step", 14)])
def test_a_resumed_training_resamples_the_same_latents(hook: str, n: int, tmp_path: Path) -> None:
    spec = spec_of(callbacks=resampling(), **DYING)
    whole = train(spec)
    assert not same_weights(whole, train(spec_of(**DYING)))
    assert same_weights(whole, train_with_a_cut(spec, hook, n, tmp_path / "resume"))


def test_a_refit_resamples_in_the_same_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    def look(state: aezoo.TrainingState, *args: Any) -> None:
        generator: torch.Generator = args[-1]
        calls.append((state.epoch, generator.initial_seed()))

    monkeypatch.setattr("aezoo.training.callbacks.resample", look)
    encoder = ["flatten", {"kind": "linear", "out_features": 8}, {"kind": "topk", "k": 1}]
    # With a single image, all latents but one are dead throughout.
    ones = torch.ones(40, 1, 6, 6)
    train(spec_of(encoder=encoder, callbacks=resampling(until=3), stages=[stage(5)], refit=True), data=ones)
    assert calls == [(2, 2), (2, 2)]
