"""Resuming: a training that was interrupted anywhere ends as if it had not been."""

import copy
import os
import pickle
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import aezoo
from aezoo.data.inputs import prepare_splits
from aezoo.training.resume import FORMAT, ResumeFile
from tests.parts import in_parts
from tests.training.networks import (
    DENSE,
    FLAT,
    IMAGES,
    LINEAR,
    adam,
    greedy,
    images,
    linear,
    same_weights,
    spec_of,
    stage,
    train,
    which,
)
from tests.training.probes import Cut, CutOff


def outcome(ae: aezoo.Autoencoder) -> dict[str, Any]:
    """History, metrics and record without times, which must not depend on interruptions."""
    record = ae.training_record
    return {
        "history": [{k: v for k, v in r.items() if k != "seconds"} for r in ae.history],
        "metrics": {k: v for k, v in ae.metrics.items() if k != "train_seconds"},
        "record": {k: record[k] for k in ("epochs", "data", "seed", "refit")},
    }


class RunningLikelihood(nn.Module):
    """Learns a variance, and keeps a running mean of the error in a buffer."""

    mean_error: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(()))
        self.register_buffer("mean_error", torch.ones(()))

    def forward(self, output: aezoo.Output, context: aezoo.StepContext, ae: aezoo.Autoencoder) -> Tensor:
        error = (output.x_hat - context.target).square().mean()
        if self.training:
            self.mean_error = 0.9 * self.mean_error + 0.1 * error.detach()
        return error / self.mean_error / self.log_variance.exp() + self.log_variance


class RunningLikelihoodSpec(aezoo.LossSpec):
    kind: Literal["running_likelihood"] = "running_likelihood"
    role = "reconstruction"

    def build(self) -> RunningLikelihood:
        return RunningLikelihood()


DEEP: dict[str, list[Any]] = {
    "encoder": ["flatten", linear(12, norm="batch_norm"), linear(8, dropout=0.2)],
    "decoder": [linear(12), linear(36), FLAT],
}
NOISES = [{"kind": "gaussian", "std": 0.1}, {"kind": "masking", "share": 0.2}]
HIGH = adam(0.1)
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
    "greedy": {**DEEP, "noises": NOISES, "stages": [greedy(2), stage(1, freeze=["encoder"])]},
    "greedy, tied": {**DEEP, "stages": [stage(1), greedy(2, tie=True, reconstruct="input")]},
    "greedy, refit": {**DEEP, "refit": True, "stages": [greedy(3, optimizer=HIGH, early_stop={"patience": 1})]},
    "pca": {**LINEAR, "stages": [{"kind": "pca"}, stage(2), {"kind": "pca"}, stage(1)]},
    "pca at the end": {**LINEAR, "stages": [stage(2), {"kind": "pca"}]},
    "a loss with parameters": {"reconstruction": RunningLikelihoodSpec(), "stages": [stage(2), stage(2)]},
    "a loss that counts": {"penalties": [{"kind": "auxk", "k": 2, "dead_after": 20, "weight": 1.0}], "stages": [stage(3)]},
    "greedy, a loss with parameters": {**DEEP, "reconstruction": RunningLikelihoodSpec(), "stages": [greedy(2), stage(1)]},
    "refit": {**DEEP, "refit": True, "noises": NOISES, "stages": [stage(2), stage(1)]},
    "half precision": {"weights_dtype": "float16", "refit": True, "stages": [stage(2)]},
    "callbacks": {"callbacks": [{"kind": "resample_dead", "every": 2}], "stages": [stage(5, optimizer=HIGH)]},
}  # fmt: skip


@pytest.mark.parametrize("recipe", in_parts(RECIPES, 3))
def test_a_training_cut_off_at_any_epoch_end_gives_the_same_result(recipe: str, tmp_path: Path) -> None:
    spec, counts, file = spec_of(**RECIPES[recipe]), Cut(), tmp_path / "resume"
    whole = train(spec, counts)
    assert counts.calls == len(whole.history) > 0
    for n in range(1, counts.calls + 1):
        with pytest.raises(CutOff):
            train(spec, Cut("on_epoch_end", n), resume=file)
        assert file.exists() == (n > 1)
        rest = Cut()
        resumed = train(spec, rest, resume=file)
        # Only the epoch that was not finished is trained again.
        assert rest.calls == counts.calls - (n - 1)
        assert same_weights(resumed, whole), n
        assert outcome(resumed) == outcome(whole), n
        assert not file.exists()


@pytest.mark.parametrize("recipe", in_parts(RECIPES, 3))
def test_a_training_cut_off_within_every_epoch_gives_the_same_result(recipe: str, tmp_path: Path) -> None:
    """Each piece finishes one epoch and is cut off two steps later."""
    spec, file = spec_of(**RECIPES[recipe]), tmp_path / "resume"
    whole, pieces = train(spec, Cut()), 0
    while True:
        try:
            resumed = train(spec, Cut("after_step", 6 if pieces else 2), resume=file)
            break
        except CutOff:
            pieces += 1
    assert pieces >= 2
    assert same_weights(resumed, whole)
    assert outcome(resumed) == outcome(whole)


@pytest.mark.parametrize("refit", [False, True])
def test_a_training_cut_off_while_measuring_trains_nothing_again(
    refit: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise CutOff

    spec, file = spec_of(**DEEP, refit=refit, stages=[stage(2)]), tmp_path / "resume"
    whole, rest = train(spec, Cut()), Cut()
    with monkeypatch.context() as patch:
        patch.setattr("aezoo.training.run.TrainingRun.measure", fail)
        with pytest.raises(CutOff):
            train(spec, Cut(), resume=file)
    resumed = train(spec, rest, resume=file)
    assert rest.calls == 0
    assert same_weights(resumed, whole)
    assert outcome(resumed) == outcome(whole)


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """The file of a training that was cut off in its second epoch."""
    file = tmp_path / "resume"
    with pytest.raises(CutOff):
        train(spec_of(), Cut("on_epoch_end", 2), resume=file)
    return file


def test_train_seconds_include_the_time_before_the_interruption(cut: Path) -> None:
    state = torch.load(cut, weights_only=True)
    identity = state.pop("identity")
    del state["sha256"]
    ResumeFile(cut, identity).write(state | {"seconds": 1000.0})
    ae = train(spec_of(), Cut(), resume=cut)
    assert ae.metrics["train_seconds"]["value"] >= 1000
    assert ae.training_record["seconds"] >= 1000


def test_temporary_files_of_a_killed_process_are_deleted(tmp_path: Path) -> None:
    (tmp_path / ".resume.tmp-abcdefgh").write_bytes(b"half")
    (tmp_path / ".resume2.tmp-abcdefgh").write_bytes(b"of another training")
    train(spec_of(stages=[stage(1)]), resume=tmp_path / "resume")
    assert [path.name for path in tmp_path.iterdir()] == [".resume2.tmp-abcdefgh"]


# -- files that cannot be resumed from ----------------------------------------------------------------


def assert_rejected(
    file: Path, *words: str, spec: aezoo.VariantSpec | None = None, data: object = IMAGES
) -> None:
    before = file.read_bytes()
    with pytest.raises(aezoo.TrainingError) as caught:
        train(spec or spec_of(), Cut(), data=data, resume=file)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{file} ")
    assert text.endswith("; delete it to start over")
    for word in words:
        assert word in text
    assert file.read_bytes() == before


OTHERS: dict[str, tuple[dict[str, Any], Tensor, str]] = {
    "recipe": ({"seed": 1}, IMAGES, "the spec is "),
    "layers": ({"encoder": ["flatten", DENSE]}, IMAGES, "the spec is "),
    "data": ({}, images(seed=1), "the train data is "),
    "more rows": ({}, images(61), " data is "),
}


@pytest.mark.parametrize(("recipe", "data", "words"), OTHERS.values(), ids=OTHERS)
def test_resume_file_of_another_training_is_rejected(
    recipe: dict[str, Any], data: Tensor, words: str, cut: Path
) -> None:
    words_ = ("belongs to another training", words, " there, ", " here")
    assert_rejected(cut, *words_, spec=spec_of(**recipe), data=data)


def test_resume_file_is_rejected_if_a_validation_row_has_changed(cut: Path) -> None:
    row = which(prepare_splits(IMAGES, spec_of(), 0).validation.inputs, IMAGES)[0]
    data, value = IMAGES.clone(), 0.0
    data[row] = value
    # The hash of the changed row decides its split.
    while len(prepare_splits(data, spec_of(), 0).validation) < 6:
        value += 0.01
        data[row] = value
    assert_rejected(cut, "the validation data is ", data=data)


def test_resume_file_of_another_pytorch_is_rejected(cut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = torch.__version__
    monkeypatch.setattr(torch, "__version__", "1.0.0")
    assert_rejected(cut, f"torch is {version} there, 1.0.0 here")


def test_resume_file_of_another_format_is_rejected(cut: Path) -> None:
    state = torch.load(cut, weights_only=True)
    torch.save(state | {"identity": state["identity"] | {"format": "0"}}, cut)
    assert_rejected(cut, f"format is 0 there, {FORMAT} here")


def test_resume_file_of_other_callbacks_is_rejected(cut: Path) -> None:
    before = cut.read_bytes()
    with pytest.raises(aezoo.TrainingError, match="callbacks") as caught:
        train(spec_of(), resume=cut)
    assert str(caught.value).startswith(f"{cut} belongs to another training")
    assert cut.read_bytes() == before


def test_resume_file_is_rejected_if_the_initial_weights_have_changed(tmp_path: Path) -> None:
    """The rounds of a refit would start from different weights."""
    start, file = tmp_path / "start", tmp_path / "resume"
    spec = spec_of(refit=True, init_from=str(start))
    aezoo.save(aezoo.build(spec_of(), seed=1), start)
    with pytest.raises(CutOff):
        train(spec, Cut("on_epoch_end", 2), resume=file)
    aezoo.save(aezoo.build(spec_of(), seed=2), start, overwrite=True)
    assert_rejected(file, "belongs to another training", spec=spec)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: b"",
    "text": lambda raw: b"not a file of PyTorch",
    "half": lambda raw: raw[: len(raw) // 2],
    "a byte short": lambda raw: raw[:-1],
    "flipped bits": lambda raw: raw[:-200] + bytes([raw[-200] ^ 255]) + raw[-199:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_resume_file_is_rejected(damage: Callable[[bytes], bytes], cut: Path) -> None:
    cut.write_bytes(damage(cut.read_bytes()))
    assert_rejected(cut, "cannot be resumed from")


def test_resume_file_with_a_corrupt_weight_is_rejected(cut: Path) -> None:
    weights = torch.load(cut, weights_only=True)["run"]["tensors"][0].numpy().tobytes()
    raw = bytearray(cut.read_bytes())
    raw[raw.index(weights) + 1] ^= 1
    cut.write_bytes(raw)
    assert_rejected(cut, "cannot be resumed from")


@pytest.mark.parametrize("state", [{}, [1], {"identity": 3}, {"identity": ["spec"]}], ids=str)
def test_a_pytorch_file_of_something_else_is_rejected(state: object, cut: Path) -> None:
    torch.save(state, cut)
    assert_rejected(cut)


MISSING = object()


def paths(value: Any, depth: int = 3) -> Iterator[tuple[object, ...]]:
    """Keys and indices of all entries down to a depth."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (key,)
        if depth > 1:
            yield from ((key, *rest) for rest in paths(inner, depth - 1))


def test_a_resume_file_with_changed_entries_is_rejected(cut: Path) -> None:
    good = torch.load(cut, weights_only=True)
    count = 0
    for path in paths(good):
        for wrong in (MISSING, None, -1):
            state = copy.deepcopy(good)
            *parents, last = path
            place = reduce(lambda inner, key: inner[key], parents, state)
            if wrong is MISSING:
                place.pop(last)
            elif repr(place[last]) != repr(wrong):
                place[last] = wrong
            else:
                continue
            torch.save(state, cut)
            assert_rejected(cut)
            count += 1
    assert count > 120


def test_a_pipe_in_place_of_a_resume_file_is_rejected(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "resume")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("resume", "zero"):
        with pytest.raises(aezoo.TrainingError, match=f"{name} cannot be resumed from: it is not a file"):
            train(spec_of(), resume=tmp_path / name)


class Malice:
    """Makes a directory when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("container", ["torch", "old torch", "pickle"])
def test_a_malicious_pickle_is_rejected_and_not_run(container: str, cut: Path) -> None:
    target = cut.with_name("target")
    malice = {"identity": Malice(target)}
    if container == "pickle":
        cut.write_bytes(pickle.dumps(malice))
    else:
        torch.save(malice, cut, _use_new_zipfile_serialization=container == "torch")
    assert_rejected(cut, "cannot be resumed from")
    assert not target.exists()
    pickle.loads(pickle.dumps(malice))
    assert target.exists(), "the pickle is harmless"
