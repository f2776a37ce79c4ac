"""`train_to_folder`: the folder it writes, its preview, interruption and resuming."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

import aezoo
from aezoo import plots
from aezoo.data.inputs import prepare_splits
from aezoo.training.run import preview_inputs
from tests.raising import raises
from tests.training.networks import IMAGES, LINEAR, images, same_weights, spec_of, stage, train
from tests.training.probes import Cut, Tiny, on

FILES = {
    "README.md", "config.json", "metrics.json", "model.safetensors", "preview.png", "spec.yaml", "training.json",
}  # fmt: skip


def to_folder(
    spec: aezoo.VariantSpec, folder: Path, *callbacks: aezoo.Callback, data: object = IMAGES, **options: Any
) -> aezoo.Autoencoder:
    return aezoo.train_to_folder(
        spec, folder, data, device="cpu", callbacks=callbacks, progress=False, **options
    )


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def resume_file(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.resume")


# -- the folder ---------------------------------------------------------------------------------------


def test_the_folder_holds_what_train_returns(tmp_path: Path) -> None:
    ae = to_folder(spec_of(), tmp_path / "mine")
    assert {path.name for path in (tmp_path / "mine").iterdir()} == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    loaded = aezoo.load(tmp_path / "mine")
    assert same_weights(loaded, ae)
    assert same_weights(loaded, train(spec_of()))
    assert loaded.metrics == ae.metrics
    assert loaded.training_record == ae.training_record


def test_the_default_folder_has_the_name_of_the_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    aezoo.train_to_folder(spec_of(), data=IMAGES, device="cpu", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["small"]
    assert aezoo.load("./small").spec == spec_of().resolved()


def test_a_spec_yaml_in_the_folder_is_kept(tmp_path: Path) -> None:
    text = "# by hand\n" + aezoo.to_yaml(spec_of())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "spec.yaml").write_text(text)
    to_folder(spec_of(), tmp_path / "mine")
    assert {path.name for path in (tmp_path / "mine").iterdir()} == FILES
    assert (tmp_path / "mine" / "spec.yaml").read_text() == text


def test_a_trained_variant_is_replaced_only_with_overwrite(tmp_path: Path) -> None:
    to_folder(spec_of(), tmp_path / "mine")
    before = weights(tmp_path / "mine")
    for resume in (False, True):
        with raises("target", match="already holds a trained variant; pass overwrite=True"):
            to_folder(spec_of(seed=1), tmp_path / "mine", data=object(), resume=resume)
    assert weights(tmp_path / "mine") == before
    to_folder(spec_of(seed=1), tmp_path / "mine", overwrite=True)
    assert weights(tmp_path / "mine") != before
    assert same_weights(aezoo.load(tmp_path / "mine"), train(spec_of(seed=1)))


@pytest.mark.parametrize("target", ["file", "foreign", "."])
def test_unusable_targets_are_rejected_before_data_are_read(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    Path("foreign").mkdir()
    Path("foreign", "thesis.tex").write_text("")
    with raises("target"):
        to_folder(spec_of(), Path(target), data=object())
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "foreign", "thesis.tex"]


def test_a_full_disk_at_the_end_loses_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    folder = tmp_path / "mine"
    with monkeypatch.context() as full:
        full.setattr("aezoo.zoo.folders.write_durably", write)
        with raises("write-failed", match=f"^{folder} could not be written: No space left on device$"):
            to_folder(spec_of(), folder, Cut())
    assert resume_file(folder).exists()
    rest = Cut()
    to_folder(spec_of(), folder, rest, resume=True)
    assert rest.calls == 0
    assert not resume_file(folder).exists()
    assert same_weights(aezoo.load(folder), train(spec_of()))


def test_weights_are_saved_if_the_preview_cannot_be_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(figure: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(plots, "png", fail)
    with pytest.warns(aezoo.DiagnosticWarning, match="preview: no preview could be drawn: ZeroDivisionError"):
        to_folder(spec_of(), tmp_path / "mine")
    assert same_weights(aezoo.load(tmp_path / "mine"), train(spec_of()))
    assert not (tmp_path / "mine" / "preview.png").exists()


@pytest.mark.parametrize("kind", ["history", "learning_rate", "checkpoint"])
def test_callbacks_of_a_recipe_write_below_the_current_folder(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "a" / "work"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    field = "folder" if kind == "checkpoint" else "path"
    (tmp_path / "link").symlink_to("/")
    for path in (tmp_path / "victim", "../victim", "a/../../victim", "/dev/null/x", "../link/victim"):
        spec = spec_of(callbacks=[{"kind": kind, field: str(path)}], stages=[stage(1)])
        text = f"recipe.callbacks.0.{field}: .* is outside of the current folder"
        with pytest.raises(aezoo.SpecError, match=text):
            to_folder(spec, Path("mine"), data=object())
    assert [path.name for path in tmp_path.iterdir() if path.name != "link"] == ["a"]
    assert list(work.iterdir()) == []
    spec = spec_of(callbacks=[{"kind": kind, field: "logs/x"}], stages=[stage(1)])
    to_folder(spec, Path("mine"))
    assert Path("logs/x").exists()
    spec = spec_of(callbacks=[{"kind": kind, field: str(tmp_path / "victim")}], stages=[stage(1)])
    to_folder(spec, Path("other"), write_anywhere=True)
    assert (tmp_path / "victim").exists()


@pytest.mark.parametrize("kind", ["history", "learning_rate"])
def test_logs_overwrite_logs_only(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = spec_of(callbacks=[{"kind": kind, "path": "file"}], stages=[stage(1)])
    for content in (b"[project]\n", b"\xff\x00", b"12\n", b"x" * 10**6):
        Path("file").write_bytes(content)
        with pytest.raises(aezoo.SpecError, match="exists and is not the log of a training; it would be"):
            to_folder(spec, Path("mine"), data=object())
        assert Path("file").read_bytes() == content
    Path("file").unlink()
    for folder in ("mine", "again"):
        to_folder(spec, Path(folder))


# -- the preview --------------------------------------------------------------------------------------


def preview(spec: aezoo.VariantSpec, data: object = None, n: int = 12) -> Tensor:
    source = Tiny() if data is None else data
    return preview_inputs(prepare_splits(source, spec, 0).validation, spec, n)


@pytest.mark.parametrize("noises", [[], [{"kind": "gaussian", "std": 0.5}]], ids=["clean", "noisy"])
def test_preview_shows_the_first_validation_rows(
    noises: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Tensor] = []

    def draw(ae: object, x: Tensor, target: Tensor, noisy: Tensor | None) -> None:
        drawn.extend([x if noisy is None else noisy, target, x])

    monkeypatch.setattr(plots, "reconstructions", draw)
    monkeypatch.setattr(plots, "png", cast(Any, lambda figure: b"picture"))
    spec = spec_of(noises=noises)
    to_folder(spec, tmp_path / "mine")
    assert (tmp_path / "mine" / "preview.png").read_bytes() == b"picture"
    assert torch.equal(drawn[0], preview(spec, IMAGES))
    rows = prepare_splits(IMAGES, spec, 0).validation.batch(slice(0, 12), spec).input
    assert torch.equal(drawn[0], rows) is (not noises)
    assert drawn[0].shape == rows.shape
    assert torch.equal(drawn[1], rows)
    assert torch.equal(drawn[2], rows)


def test_preview_applies_the_noises_in_order_and_reproducibly() -> None:
    mask_a_third = {"kind": "masking", "share": 1 / 3, "value": 0.5}
    mask_all = {"kind": "masking", "share": 1.0, "value": 0.5}
    noise = {"kind": "gaussian", "std": 0.1}
    clean = preview(spec_of())
    random_state = torch.get_rng_state()
    masked = preview(spec_of(noises=[mask_a_third]))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert (masked != clean).flatten(1).sum(1).tolist() == [12] * 12
    assert set(masked[masked != clean].tolist()) == {0.5}
    assert torch.equal(masked, preview(spec_of(noises=[mask_a_third])))
    assert (preview(spec_of(noises=[noise, mask_all])) == 0.5).all()
    noisy = preview(spec_of(noises=[mask_all, noise])) - 0.5
    assert 0 < noisy.abs().max() < 0.6


# -- interruption and resuming ------------------------------------------------------------------------


def interrupt(folder: Path, n: int = 3, **recipe: Any) -> aezoo.VariantSpec:
    """Trains until Ctrl-C at the end of an epoch."""
    spec = spec_of(**{"stages": [stage(4)], **recipe})
    with pytest.raises(aezoo.TrainingInterrupted):
        to_folder(spec, folder, Cut("on_epoch_end", n, KeyboardInterrupt))
    return spec


def test_an_interrupted_training_leaves_a_folder_that_resume_completes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    spec = interrupt(folder)
    assert capsys.readouterr() == (
        "",
        f"{folder} holds the weights so far, not measured; pass --resume to continue from the last finished epoch\n",
    )
    ae = aezoo.load(folder)
    assert {entry["value"] for entry in ae.metrics.values()} == {None}
    assert {entry["reason"] for entry in ae.metrics.values()} == {"the training was interrupted"}
    assert ae.training_record["unfinished"] == "the training was interrupted"
    rest = Cut()
    to_folder(spec, folder, rest, resume=True)
    assert rest.calls == 2, "the third epoch was not finished"
    to_folder(spec, tmp_path / "whole", Cut())
    assert weights(folder) == weights(tmp_path / "whole")
    assert not resume_file(folder).exists()
    assert {path.name for path in folder.iterdir()} == FILES
    ae = aezoo.load(folder)
    assert "unfinished" not in ae.training_record
    assert ae.metrics["mse.validation"] == aezoo.load(tmp_path / "whole").metrics["mse.validation"]


def test_the_file_of_an_interrupted_training_must_be_resumed_or_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    spec = interrupt(folder)
    with pytest.raises(aezoo.TrainingError) as caught:
        to_folder(spec, folder, data=object(), overwrite=True)
    assert str(caught.value) == (
        f"{resume_file(folder)} found from an interrupted run; pass --resume (resume=True) to continue, or "
        "delete it to start over"
    )


def test_resume_rejects_a_changed_spec(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    spec = interrupt(folder)
    text = f"^{resume_file(folder)} belongs to another training: the spec is "
    with pytest.raises(aezoo.TrainingError, match=text):
        to_folder(spec.replace({"recipe.batch_size": 20}), folder, Cut(), resume=True)
    assert resume_file(folder).exists()


def test_resume_without_an_interrupted_training_starts_from_the_beginning(tmp_path: Path) -> None:
    to_folder(spec_of(), tmp_path / "mine", resume=True)
    assert same_weights(aezoo.load(tmp_path / "mine"), train(spec_of()))


def test_a_diverging_training_leaves_the_epoch_before_in_the_folder(tmp_path: Path) -> None:
    steps: list[int] = []
    diverging = spec_of(**LINEAR, stages=[stage(9, optimizer={"kind": "sgd", "lr": 1e18})])
    with pytest.raises(aezoo.TrainingError, match="the term 'mse' is no longer finite") as caught:
        to_folder(diverging, tmp_path / "mine", on("after_step", lambda state: steps.append(state.step)))
    assert steps
    ae = aezoo.load(tmp_path / "mine")
    assert ae.training_record["unfinished"] == str(caught.value)
    assert same_weights(ae, caught.value.ae)


# -- real processes -----------------------------------------------------------------------------------


def spec_file(folder: Path, *, epochs: int, rows: int = 60, **recipe: Any) -> Path:
    """A `spec.yaml` next to the array that it trains on."""
    np.save(folder / "rows.npy", images(rows).numpy())
    dataset = {"kind": "array", "path": str(folder / "rows.npy"), "test": 0.1}
    file = folder / "mine.yaml"
    file.write_text(aezoo.to_yaml(spec_of(dataset=dataset, stages=[stage(epochs)], **recipe)))
    return file


def start(spec: Path, folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "aezoo", "train", spec, "--out", folder, "--device", "cpu", *options]
    # A background process, which may run these tests, lets its children ignore Ctrl-C.
    return subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_for_an_epoch(process: subprocess.Popen[str], file: Path, inode: int) -> None:
    """Waits until the resume file, which every epoch replaces, has another inode."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if file.exists() and file.stat().st_ino != inode:
            return
        time.sleep(0.005)


@pytest.mark.slow
def test_a_training_that_is_killed_repeatedly_gives_the_same_bytes(tmp_path: Path) -> None:
    spec = spec_file(tmp_path, epochs=20, rows=3000, refit=True, noises=[{"kind": "gaussian", "std": 0.1}])
    whole, folder = tmp_path / "whole", tmp_path / "mine"
    start(spec, whole).communicate(timeout=300)
    moments, kills = random.Random(0), 0
    while True:
        inode = resume_file(folder).stat().st_ino if resume_file(folder).exists() else 0
        process = start(spec, folder, "--resume")
        wait_for_an_epoch(process, resume_file(folder), inode)
        time.sleep(moments.uniform(0, 0.5))
        if kills < 3 and process.poll() is None:
            process.kill()
            kills += 1
        _, err = process.communicate(timeout=300)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, err
    assert kills >= 2
    assert weights(folder) == weights(whole)
    assert not resume_file(folder).exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_interrupt_the_command_line(number: signal.Signals, status: int, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    process = start(spec_file(tmp_path, epochs=100_000), folder)
    wait_for_an_epoch(process, resume_file(folder), 0)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert out == ""
    assert "not measured; pass --resume to continue from the last finished epoch" in err
    assert "Traceback" not in err
    metric = aezoo.load(folder).metrics["mse"]
    assert (metric["value"], metric["reason"]) == (None, "the training was interrupted")
