"""Resuming: a training that was cut off anywhere ends as if it had not been."""

import hashlib
import json
import math
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

import aezoo
from aezoo import cli
from aezoo.data.inputs import prepare_splits
from aezoo.evaluation.evaluate import applicable_metrics
from aezoo.training.callbacks import HistorySpec
from tests.examples import small
from tests.training.test_training import DENSE, FLAT, IMAGES, images, same_weights, spec_of, stage, which


class CutOff(Exception):
    pass


class Cut(aezoo.Callback):
    """Raises in the n-th call of a hook; counts them where n is 0."""

    def __init__(self, hook: str = "on_epoch_end", n: int = 0, error: type[BaseException] = CutOff) -> None:
        self.hook, self.n, self.error, self.calls = hook, n, error, 0

    def _see(self, hook: str) -> None:
        self.calls += hook == self.hook
        if self.n and hook == self.hook and self.calls == self.n:
            raise self.error

    def after_step(self, state: aezoo.TrainingState) -> None:
        self._see("after_step")

    def on_epoch_end(self, state: aezoo.TrainingState) -> None:
        self._see("on_epoch_end")


def train(spec: aezoo.VariantSpec, cut: Cut, resume: Path | None, data: object = IMAGES) -> aezoo.Autoencoder:
    return aezoo.train(spec, data, device="cpu", callbacks=[cut], progress=False, resume=resume)


def outcome(ae: aezoo.Autoencoder) -> dict[str, Any]:
    """All that must come out the same, seconds left out."""
    record = ae.training_record
    return {
        "history": [{k: v for k, v in r.items() if k != "seconds"} for r in ae.history],
        "metrics": {k: v for k, v in ae.metrics.items() if k != "train_seconds"},
        "record": {k: record[k] for k in ("epochs", "data", "seed", "refit")},
    }


class Likelihood(nn.Module):
    """Learns a variance, and keeps a running mean of the error."""

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(()))
        self.register_buffer("usual", torch.ones(()))

    usual: Tensor

    def forward(self, output: aezoo.Output, batch: aezoo.StepContext, ae: aezoo.Autoencoder) -> Tensor:
        error = (output.x_hat - batch.target).square().mean()
        if self.training:
            self.usual = 0.9 * self.usual + 0.1 * error.detach()
        return error / self.usual / self.log_variance.exp() + self.log_variance


class LikelihoodSpec(aezoo.LossSpec):
    kind: Literal["running_likelihood"] = "running_likelihood"
    role = "reconstruction"

    def build(self) -> Likelihood:
        return Likelihood()


DEEP: dict[str, list[Any]] = {
    "encoder": ["flatten", DENSE | {"out_features": 12, "norm": "batch_norm"}, DENSE | {"dropout": 0.2}],
    "decoder": [DENSE | {"out_features": 12}, DENSE | {"out_features": 36}, FLAT],
}
PLAIN: dict[str, list[Any]] = {
    "encoder": ["flatten", {"kind": "linear", "out_features": 8}],
    "decoder": [{"kind": "linear", "out_features": 36}, FLAT],
}
NOISES = [{"kind": "gaussian", "std": 0.1}, {"kind": "masking", "share": 0.2}]
HIGH = {"kind": "adam", "lr": 0.1}
RECIPES: dict[str, dict[str, Any]] = {
    "two stages": {"stages": [stage(2), stage(2, optimizer={"kind": "sgd", "lr": 0.1, "momentum": 0.9})]},
    "cosine": {"stages": [stage(4, optimizer={"kind": "adamw"}, schedule={"kind": "cosine", "warmup_steps": 6})]},
    "plateau": {"refit": True, "stages": [stage(3, optimizer=HIGH, schedule={"kind": "plateau", "patience": 0})]},
    "early stop": {"stages": [stage(6, optimizer=HIGH, early_stop={"patience": 2}), stage(1)]},
    "noises": {"noises": NOISES, "stages": [stage(3)]},
    "dropout and norm": {**DEEP, "stages": [stage(3)]},
    "lifetime": {"encoder": ["flatten", DENSE, {"kind": "lifetime", "rate": 0.3}], "stages": [stage(3)]},
    "tie": {"stages": [stage(2, tie=True), stage(2)]},
    "tie and early stop": {"stages": [stage(6, tie=True, optimizer=HIGH, early_stop={"patience": 1}), stage(1)]},
    "greedy": {**DEEP, "noises": NOISES, "stages": [{"kind": "greedy", "epochs": 2}, stage(1, freeze=["encoder"])]},
    "greedy, tied": {**DEEP, "stages": [stage(1), {"kind": "greedy", "epochs": 2, "tie": True, "reconstruct": "input"}]},
    "greedy, refit": {
        **DEEP, "refit": True,
        "stages": [{"kind": "greedy", "epochs": 3, "optimizer": HIGH, "early_stop": {"patience": 1}}],
    },
    "pca": {**PLAIN, "stages": [{"kind": "pca"}, stage(2), {"kind": "pca"}, stage(1)]},
    "pca at the end": {**PLAIN, "stages": [stage(2), {"kind": "pca"}]},
    "a loss that learns": {"reconstruction": LikelihoodSpec(), "stages": [stage(2), stage(2)]},
    "a loss that counts": {"penalties": [{"kind": "auxk", "k": 2, "dead_after": 20, "weight": 1.0}], "stages": [stage(3)]},
    "greedy with a loss that learns": {
        **DEEP, "reconstruction": LikelihoodSpec(), "stages": [{"kind": "greedy", "epochs": 2}, stage(1)],
    },
    "refit": {**DEEP, "refit": True, "noises": NOISES, "stages": [stage(2), stage(1, tie=False)]},
    "half precision": {"weights_dtype": "float16", "refit": True, "stages": [stage(2)]},
    "callbacks": {"callbacks": [{"kind": "resample_dead", "every": 2}], "stages": [stage(5, optimizer=HIGH)]},
}  # fmt: skip
each_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


@each_recipe
def test_a_training_cut_at_the_end_of_any_epoch_ends_as_if_it_had_not_been(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    spec, counts, file = spec_of(**recipe), Cut(), tmp_path / "cut.resume"
    whole = train(spec, counts, None)
    assert counts.calls == len(whole.history) > 0
    for n in range(1, counts.calls + 1):
        with pytest.raises(CutOff):
            train(spec, Cut("on_epoch_end", n), file)
        assert file.exists() == (n > 1)
        rest = Cut()
        resumed = train(spec, rest, file)
        # An epoch whose end was not reached is trained again, and no other.
        assert rest.calls == counts.calls - (n - 1)
        assert same_weights(resumed, whole), n
        assert outcome(resumed) == outcome(whole), n
        assert not file.exists()


@each_recipe
def test_a_training_cut_in_the_middle_of_every_epoch_ends_as_if_it_had_not_been(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    """Each piece comes to one epoch's end and is cut off two steps later."""
    spec, file = spec_of(**recipe), tmp_path / "cut.resume"
    whole, pieces = train(spec, Cut(), None), 0
    while True:
        try:
            resumed = train(spec, Cut("after_step", 6 if pieces else 2), file)
            break
        except CutOff:
            pieces += 1
    assert pieces >= 2
    assert same_weights(resumed, whole)
    assert outcome(resumed) == outcome(whole)


@pytest.mark.parametrize("refit", [False, True])
def test_a_training_cut_while_it_was_measured_trains_nothing_again(
    refit: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise CutOff

    spec, file = spec_of(**DEEP, refit=refit, stages=[stage(2, tie=False)]), tmp_path / "cut.resume"
    whole, rest = train(spec, Cut(), None), Cut()
    with monkeypatch.context() as patch:
        patch.setattr("aezoo.training.train._measured", fail)
        with pytest.raises(CutOff):
            train(spec, Cut(), file)
    resumed = train(spec, rest, file)
    assert rest.calls == 0
    assert same_weights(resumed, whole)
    assert outcome(resumed) == outcome(whole)


def test_what_was_trained_before_counts_as_training_time(tmp_path: Path) -> None:
    file = tmp_path / "cut.resume"
    with pytest.raises(CutOff):
        train(spec_of(), Cut("on_epoch_end", 2), file)
    state = torch.load(file, weights_only=True)
    torch.save(state | {"seconds": 1000.0}, file)
    ae = train(spec_of(), Cut(), file)
    assert ae.metrics["train_seconds"]["value"] >= 1000
    assert ae.training_record["seconds"] >= 1000


# -- files that cannot be gone on with ----------------------------------------------------------------


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """A training that was cut off in its second epoch."""
    file = tmp_path / "cut.resume"
    with pytest.raises(CutOff):
        train(spec_of(), Cut("on_epoch_end", 2), file)
    return file


def refused(file: Path, *words: str, spec: aezoo.VariantSpec | None = None, data: object = IMAGES) -> None:
    before = file.read_bytes()
    with pytest.raises(aezoo.TrainingError) as caught:
        train(spec or spec_of(), Cut(), file, data)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{file} ")
    assert "delete it to begin anew" in text
    for word in words:
        assert word in text
    assert file.read_bytes() == before


OTHERS: dict[str, tuple[dict[str, Any], Tensor, str]] = {
    "recipe": ({"seed": 1}, IMAGES, "the spec is "),
    "layers": ({"encoder": ["flatten", DENSE]}, IMAGES, "the spec is "),
    "data": ({}, images(seed=1), "the train data is "),
    "more rows": ({}, images(61), "the train data is "),
}


@pytest.mark.parametrize(("recipe", "data", "words"), OTHERS.values(), ids=OTHERS)
def test_a_file_of_another_training_is_refused(
    recipe: dict[str, Any], data: Tensor, words: str, cut: Path
) -> None:
    refused(cut, "is of another training", words, " there, ", " here", spec=spec_of(**recipe), data=data)


def test_a_validation_row_that_has_changed_is_noticed_too(cut: Path) -> None:
    held = which(prepare_splits(IMAGES, spec_of(), 0).validation.inputs, IMAGES)[0]
    changed = IMAGES.clone()
    changed[held] = 0.5
    refused(cut, "the validation data is ", data=changed)


def test_a_file_of_another_pytorch_is_refused(cut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = torch.__version__
    monkeypatch.setattr(torch, "__version__", "1.0.0")
    refused(cut, f"torch is {here} there, 1.0.0 here")


def test_a_file_of_another_format_is_refused(cut: Path) -> None:
    state = torch.load(cut, weights_only=True)
    torch.save(state | {"identity": state["identity"] | {"format": "0"}}, cut)
    refused(cut, "format is 0 there, 1 here")


def test_other_callbacks_are_refused_rather_than_given_a_strangers_state(cut: Path) -> None:
    before = cut.read_bytes()
    with pytest.raises(aezoo.TrainingError, match="callbacks") as caught:
        aezoo.train(spec_of(), IMAGES, device="cpu", progress=False, resume=cut)
    assert str(caught.value).startswith(f"{cut} is of another training")
    assert cut.read_bytes() == before


def test_a_start_that_has_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    """In a refit, both rounds would start from different weights."""
    start, file = tmp_path / "start", tmp_path / "cut.resume"
    spec = spec_of(refit=True, init_from=str(start))
    aezoo.save(aezoo.build(spec_of(), seed=1), start)
    with pytest.raises(CutOff):
        train(spec, Cut("on_epoch_end", 2), file)
    aezoo.save(aezoo.build(spec_of(), seed=2), start, overwrite=True)
    refused(file, "is of another training", spec=spec)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: b"",
    "text": lambda raw: b"not a file of PyTorch",
    "cut": lambda raw: raw[: len(raw) // 2],
    "short": lambda raw: raw[:-1],
    "flipped": lambda raw: raw[:-200] + bytes([raw[-200] ^ 255]) + raw[-199:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_refused(damage: Callable[[bytes], bytes], cut: Path) -> None:
    cut.write_bytes(damage(cut.read_bytes()))
    refused(cut, "cannot be gone on with")


def test_weights_that_rotted_on_the_disk_are_not_gone_on_with(cut: Path) -> None:
    weights = torch.load(cut, weights_only=True)["run"]["tensors"][0].numpy().tobytes()
    raw = bytearray(cut.read_bytes())
    raw[raw.index(weights) + 1] ^= 1
    cut.write_bytes(raw)
    refused(cut, "cannot be gone on with")


@pytest.mark.parametrize("state", [{}, [1], {"identity": 3}, {"identity": ["spec"]}], ids=str)
def test_a_file_of_something_else_is_refused(state: object, cut: Path) -> None:
    torch.save(state, cut)
    refused(cut)


class Malice:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("container", ["torch", "old torch", "pickle"])
def test_a_pickle_that_runs_code_is_refused_and_nothing_runs(container: str, cut: Path) -> None:
    done = cut.with_name("done")
    malice = {"identity": Malice(done)}
    if container == "pickle":
        cut.write_bytes(pickle.dumps(malice))
    else:
        torch.save(malice, cut, _use_new_zipfile_serialization=container == "torch")
    refused(cut, "cannot be gone on with")
    assert not done.exists()
    pickle.loads(pickle.dumps(malice))
    assert done.exists()


# -- Ctrl-C -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["after_step", "on_epoch_end"])
@pytest.mark.parametrize("tie", [False, True])
def test_an_interrupted_training_hands_over_what_it_has(hook: str, tie: bool) -> None:
    """The first epoch has four steps; the sixth lies in the second."""
    spec = spec_of(stages=[stage(5, tie=tie)])
    n = 6 if hook == "after_step" else 2
    with pytest.raises(aezoo.TrainingInterrupted, match="interrupted") as caught:
        train(spec, Cut(hook, n, KeyboardInterrupt), None)
    ae = caught.value.ae
    assert isinstance(caught.value, KeyboardInterrupt)
    assert not any(module.training for module in ae.modules())
    assert ae.target_mean is not None
    assert [record["epoch"] for record in ae.history] == ([1] if hook == "after_step" else [1, 2])
    assert ae.training_record["unfinished"] == "the training was interrupted"
    assert set(ae.metrics) == {str(spec.kind_name) for spec in applicable_metrics(ae)}
    for entry in ae.metrics.values():
        assert (entry["value"], entry["reason"]) == (None, "the training was interrupted")
    if hook == "on_epoch_end":
        assert same_weights(ae, train(spec_of(stages=[stage(2, tie=tie)]), Cut(), None))


def test_an_interrupt_after_the_weights_have_diverged_hands_over_the_epoch_before() -> None:
    class Diverges(Cut):
        def after_step(self, state: aezoo.TrainingState) -> None:
            if self.calls + 1 == self.n:
                with torch.no_grad():
                    next(state.ae.parameters()).fill_(math.nan)
            super().after_step(state)

    with pytest.raises(aezoo.TrainingInterrupted) as caught:
        train(spec_of(stages=[stage(5)]), Diverges("after_step", 6, KeyboardInterrupt), None)
    assert same_weights(caught.value.ae, train(spec_of(stages=[stage(1)]), Cut(), None))


def test_what_a_killed_process_left_half_written_is_swept_up(tmp_path: Path) -> None:
    (tmp_path / ".kept-abcdefgh").write_bytes(b"half")
    (tmp_path / ".kept2-abcdefgh").write_bytes(b"of another")
    train(spec_of(stages=[stage(1)]), Cut(), tmp_path / "kept")
    assert [path.name for path in tmp_path.iterdir()] == [".kept2-abcdefgh"]


def test_an_interrupted_refit_hands_over_the_history_of_both_rounds() -> None:
    with pytest.raises(aezoo.TrainingInterrupted) as caught:
        train(spec_of(refit=True), Cut("on_epoch_end", 3, KeyboardInterrupt), None)
    rounds = [(record["round"], record["epoch"]) for record in caught.value.ae.history]
    assert rounds == [("choose", 1), ("choose", 2), ("refit", 1)]


# -- the command line ---------------------------------------------------------------------------------


def written(folder: Path, *, epochs: int, rows: int = 60, **recipe: Any) -> Path:
    """A spec beside the array that it trains on."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "rows.npy", images(rows).numpy())
    data = small()
    data["recipe"] |= {
        "threads": 1, "dataset": {"kind": "array", "path": str(folder / "rows.npy"), "test": 0.1},
        "stages": [stage(epochs)], **recipe,
    }  # fmt: skip
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


def sha256(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["aezoo", *map(str, arguments), "--device", "cpu"])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        printed = capsys.readouterr()
        return int(exit_.value.code or 0), printed.out, printed.err

    return call


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the next training of the recipe's history callback raise KeyboardInterrupt at an epoch's end."""
    built = HistorySpec.build

    def arm(n: int) -> None:
        def build(self: HistorySpec) -> aezoo.Callback:
            callback = built(self)
            cut, write = Cut("on_epoch_end", n, KeyboardInterrupt), callback.on_epoch_end

            def on_epoch_end(state: aezoo.TrainingState) -> None:
                write(state)
                cut.on_epoch_end(state)

            callback.on_epoch_end = on_epoch_end  # type: ignore[method-assign]
            return callback

        monkeypatch.setattr(HistorySpec, "build", build if n else built)

    return arm


def test_ctrl_c_leaves_a_folder_that_resume_finishes(
    run: Run, interrupted: Callable[[int], None], tmp_path: Path
) -> None:
    history = {"kind": "history", "path": str(tmp_path / "history.jsonl")}
    spec, target, kept = (
        written(tmp_path, epochs=4, callbacks=[history]),
        tmp_path / "to",
        tmp_path / ".to.resume",
    )
    whole = tmp_path / "whole"
    assert run("train", spec, "--out", whole)[0] == 0
    interrupted(3)
    code, out, err = run("train", spec, "--out", target)
    assert (code, out) == (130, "")
    assert f"{target} holds what there is, not measured; --resume goes on from the last epoch's end" in err
    assert "Traceback" not in err
    assert kept.exists()
    ae = aezoo.load(str(target))
    assert {entry["value"] for entry in ae.metrics.values()} == {None}
    assert {entry["reason"] for entry in ae.metrics.values()} == {"the training was interrupted"}
    assert ae.training_record["unfinished"] == "the training was interrupted"
    interrupted(0)
    code, _, err = run("train", spec, "--out", target)
    assert (code, err) == (1, f"{kept} is left of a training that was cut off; --resume goes on with it, delete it to begin anew\n")  # fmt: skip
    assert run("train", spec, "--out", target, "--resume")[0] == 0
    assert not kept.exists()
    assert sha256(target) == sha256(whole)
    ae = aezoo.load(str(target))
    assert "unfinished" not in ae.training_record
    assert ae.metrics["mse"] == aezoo.load(str(whole)).metrics["mse"]
    lines = [json.loads(line)["epoch"] for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert lines == [1, 2, 3, 4]


def test_a_finished_variant_is_not_replaced_by_resume(run: Run, tmp_path: Path) -> None:
    spec, target = written(tmp_path, epochs=1), tmp_path / "to"
    assert run("train", spec, "--out", target)[0] == 0
    code, _, err = run("train", spec, "--out", target, "--resume")
    assert (code, err) == (
        1,
        f"{target} already holds a trained variant; pass overwrite=True (--overwrite)\n",
    )


def test_a_folder_that_cannot_be_written_costs_no_training(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, target, kept = written(tmp_path, epochs=2), tmp_path / "to", tmp_path / ".to.resume"
    assert run("train", spec, "--out", tmp_path / "whole")[0] == 0
    with monkeypatch.context() as full:

        def write(path: Path, data: bytes) -> None:
            raise OSError(28, "No space left on device")

        full.setattr("aezoo.zoo.save.write_durably", write)
        code, _, err = run("train", spec, "--out", target)
        assert (code, err) == (1, f"{target} could not be written: No space left on device\n")
    assert kept.exists()
    assert run("train", spec, "--out", target, "--resume")[0] == 0
    assert not kept.exists()
    assert sha256(target) == sha256(tmp_path / "whole")


def test_resume_with_nothing_to_go_on_with_begins_anew(run: Run, tmp_path: Path) -> None:
    spec = written(tmp_path, epochs=2)
    assert run("train", spec, "--out", tmp_path / "a", "--resume")[0] == 0
    assert run("train", spec, "--out", tmp_path / "b")[0] == 0
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b")


def test_a_spec_that_was_changed_meanwhile_is_refused_by_resume(
    run: Run, interrupted: Callable[[int], None], tmp_path: Path
) -> None:
    history = {"kind": "history", "path": str(tmp_path / "history.jsonl")}
    spec, target = written(tmp_path, epochs=3, callbacks=[history]), tmp_path / "to"
    interrupted(2)
    assert run("train", spec, "--out", target)[0] == 130
    interrupted(0)
    code, _, err = run("train", spec, "--out", target, "--resume", "--set", "recipe.batch_size=20")
    assert code == 1
    assert err.startswith(f"{tmp_path / '.to.resume'} is of another training: the spec is ")
    assert err.count("\n") == 1


def test_a_loss_that_is_no_longer_finite_leaves_the_epoch_before_in_the_folder(
    run: Run, tmp_path: Path
) -> None:
    spec = written(
        tmp_path, epochs=9, stages=[stage(9, optimizer={"kind": "sgd", "lr": 1e18})],
    )  # fmt: skip
    data = yaml.safe_load(spec.read_text())
    data["decoder"][0] = {"kind": "linear", "out_features": 36}
    spec.write_text(yaml.safe_dump(data))
    code, _, err = run("train", spec, "--out", tmp_path / "to")
    assert code == 1
    assert "the term 'mse' is no longer finite" in err
    assert "Traceback" not in err
    ae = aezoo.load(str(tmp_path / "to"))
    assert "no longer finite" in ae.training_record["unfinished"]


# -- real processes -----------------------------------------------------------------------------------


def start(spec: Path, target: Path, *options: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "aezoo",
        "train",
        str(spec),
        "--out",
        str(target),
        "--device",
        "cpu",
        *options,
    ]
    # Whatever runs these tests in the background has its children ignore Ctrl-C.
    return subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_for_an_epoch(process: subprocess.Popen[str], kept: Path, before: int) -> None:
    """Until the file is another one than before; it is replaced at every epoch's end."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if kept.exists() and kept.stat().st_ino != before:
            return
        time.sleep(0.005)


@pytest.mark.slow
def test_a_training_that_is_killed_again_and_again_gives_the_same_bytes(tmp_path: Path) -> None:
    spec = written(
        tmp_path, epochs=20, rows=3000, refit=True, noises=[{"kind": "gaussian", "std": 0.1}],
    )  # fmt: skip
    whole, target, kept = tmp_path / "whole", tmp_path / "to", tmp_path / ".to.resume"
    start(spec, whole).communicate(timeout=300)
    moments, killed = random.Random(0), 0
    while True:
        before = kept.stat().st_ino if kept.exists() else 0
        process = start(spec, target, "--resume")
        wait_for_an_epoch(process, kept, before)
        time.sleep(moments.uniform(0, 0.5))
        if killed < 3 and process.poll() is None:
            process.kill()
            killed += 1
        _, err = process.communicate(timeout=300)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, err
    assert killed >= 2
    assert sha256(target) == sha256(whole)
    assert not kept.exists()


@pytest.mark.slow
def test_a_signal_to_a_real_process_is_an_interruption(tmp_path: Path) -> None:
    spec, target = written(tmp_path, epochs=100_000), tmp_path / "to"
    process = start(spec, target)
    wait_for_an_epoch(process, tmp_path / ".to.resume", 0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == ""
    assert "not measured; --resume goes on from the last epoch's end" in err
    assert "Traceback" not in err
    ae = aezoo.load(str(target))
    assert (ae.metrics["mse"]["value"], ae.metrics["mse"]["reason"]) == (None, "the training was interrupted")
