"""Experiment trackers, all offline: what they show is what the training recorded; a resumed training is one run."""

import importlib
import importlib.util
import json
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import aezoo
from aezoo.errors import PluginWarning
from aezoo.training.trackers import values_of
from tests.parts import in_parts
from tests.training.networks import spec_of, stage, state_of, train
from tests.training.probes import Cut, CutOff, on

TRACKERS = ("tensorboard", "trackio", "wandb", "mlflow")
STAGES = [stage(2), stage(1)]
Points = dict[str, list[tuple[int, float]]]
"""Name of a value -> its steps and values."""


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tracker stores its runs below a temporary folder."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path / "wandb-runs"), "WANDB_SILENT": "true",
        "TRACKIO_DIR": str(tmp_path / "trackio"), "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_TRACKING_URI": (tmp_path / "mlflow").as_uri(),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    (tmp_path / "wandb-runs").mkdir()
    # Trackio reads its folder when it is imported.
    for module in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, module)


def callback(kind: str) -> dict[str, Any]:
    return {"kind": kind} | ({"folder": "runs"} if kind == "tensorboard" else {})


def read_tensorboard(folder: Path) -> list[Points]:
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / "runs"))
    events.Reload()
    return [{tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}]


def read_trackio(folder: Path) -> list[Points]:
    runs: dict[str, Points] = {}
    (database,) = (folder / "trackio").glob("*.db")
    with sqlite3.connect(database) as connection:
        for run, step, text in connection.execute(
            "select run_name, step, metrics from metrics order by step"
        ):
            for name, value in json.loads(text).items():
                runs.setdefault(run, {}).setdefault(name, []).append((step, value))
    connection.close()
    return list(runs.values())


def leveldb_records(data: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's format: blocks of 32 KiB with records of checksum, length and type."""
    at, parts = 7, b""  # after the file's own header
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield parts
            parts = b""


def read_wandb(folder: Path) -> list[Points]:
    proto = importlib.import_module("wandb.proto.wandb_internal_pb2")
    runs: dict[str, Points] = {}
    for path in sorted((folder / "wandb-runs" / "wandb").glob("offline-run-*/*.wandb")):
        points = runs.setdefault(path.stem, {})
        for raw in leveldb_records(path.read_bytes()):
            record = proto.Record()
            record.ParseFromString(raw)
            items = {
                "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                for item in record.history.item
            }
            for name, value in items.items():
                if not name.startswith("_"):
                    points.setdefault(name, []).append((record.history.step.num, value))
    return list(runs.values())


def read_mlflow(_: Path) -> list[Points]:
    client = importlib.import_module("mlflow").MlflowClient()
    experiment = client.get_experiment_by_name("aezoo")
    assert experiment is not None
    return [
        {
            name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
        }
        for run in client.search_runs([experiment.experiment_id])
    ]


READERS: dict[str, Callable[[Path], list[Points]]] = {
    "tensorboard": read_tensorboard, "trackio": read_trackio, "wandb": read_wandb, "mlflow": read_mlflow,
}  # fmt: skip


def expected(ae: aezoo.Autoencoder, steps: list[int]) -> Points:
    points: Points = {}
    for step, record in zip(steps, ae.history, strict=True):
        for name, value in values_of(record).items():
            points.setdefault(name, []).append((step, value))
    return points


def assert_same(found: Points, wanted: Points) -> None:
    assert set(found) == set(wanted)
    for name, points in wanted.items():
        assert [step for step, _ in found[name]] == [step for step, _ in points], name
        assert [value for _, value in found[name]] == pytest.approx([v for _, v in points], rel=1e-6), name


@pytest.fixture
def installed(kind: str) -> None:
    """Skips a test of a tracker that is not installed."""
    if importlib.util.find_spec(kind) is None:
        pytest.skip(f"{kind} is not installed")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("trackio") is not None, reason="it is tested here")
def test_trackio_in_a_folder_of_its_own(tmp_path: Path) -> None:
    # It needs an older Pillow than the one that everything else is tested with.
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--target",
        str(tmp_path / "site"),
        "trackio>=0.10",
    ]
    subprocess.run(pip, check=True, capture_output=True)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-k", "trackio", "-rs", __file__], cwd=root,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SKIPPED" not in done.stdout


@pytest.mark.parametrize("kind", in_parts(TRACKERS, 4))
@pytest.mark.usefixtures("installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning")
def test_every_epoch_is_logged(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = train(spec_of(stages=STAGES, refit=True, penalties=["l1_latents"]))
    ae = train(spec_of(callbacks=[callback(kind)], stages=STAGES, refit=True, penalties=["l1_latents"]))
    assert capsys.readouterr().out == ""
    (run,) = READERS[kind](tmp_path)
    # In TensorBoard, where rounds are series of their own, a refit begins at 0 again.
    second = [4, 8, 12] if kind == "tensorboard" else [16, 20, 24]
    assert_same(run, expected(ae, [4, 8, 12, *second]))
    assert {"choose/train/mse", "choose/validation/loss", "refit/train/l1_latents", "refit/lr"} <= set(run)
    # Logging changes nothing: neither random numbers nor anything else of the training.
    state = state_of(plain)
    assert all(value.equal(state[name]) for name, value in state_of(ae).items())


@pytest.mark.parametrize("kind", ["trackio", "mlflow"])
@pytest.mark.usefixtures("installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning")
def test_a_resumed_training_is_one_run(kind: str, tmp_path: Path) -> None:
    spec = spec_of(callbacks=[callback(kind)], stages=[stage(4)])
    with pytest.raises(CutOff):
        train(spec, Cut("after_step", 9), resume=tmp_path / "resume")
    ae = train(spec, Cut(), resume=tmp_path / "resume")
    (run,) = READERS[kind](tmp_path)
    assert_same(run, expected(ae, [4, 8, 12, 16]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning")
def test_a_failed_training_is_marked(tmp_path: Path) -> None:
    with pytest.raises(CutOff):
        train(spec_of(callbacks=[callback("mlflow")], stages=[stage(3)]), Cut("after_step", 5))
    client = importlib.import_module("mlflow").MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("aezoo").experiment_id])
    assert (run.info.status, run.info.run_name) == ("FAILED", "small")
    train(spec_of(callbacks=[callback("mlflow")], stages=[stage(1)]))
    runs = client.search_runs([client.get_experiment_by_name("aezoo").experiment_id])
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED"]


@pytest.mark.parametrize("kind", TRACKERS)
def test_a_missing_package_is_reported_before_the_first_step(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, kind, None)
    steps: list[int] = []
    with pytest.raises(aezoo.MissingExtraError) as caught:
        train(spec_of(callbacks=[callback(kind)]), on("before_step", lambda state: steps.append(state.step)))
    assert str(caught.value).endswith(f"install it with: pip install 'aezoo[{kind}]'")
    assert "\n" not in str(caught.value)
    assert steps == []


def test_callbacks_are_told_once_how_a_training_ended() -> None:
    class Recorder(aezoo.Callback):
        def __init__(self) -> None:
            self.ends: list[BaseException | None] = []

        def on_train_end(self, error: BaseException | None) -> None:
            self.ends.append(error)

    recorder = Recorder()
    train(spec_of(stages=STAGES, refit=True), recorder)
    assert recorder.ends == [None]
    with pytest.raises(CutOff) as caught:
        train(spec_of(stages=STAGES), recorder, Cut("after_step", 2))
    assert recorder.ends == [None, caught.value]


def test_an_error_at_the_end_loses_nothing() -> None:
    class Failing(aezoo.Callback):
        def on_train_end(self, error: BaseException | None) -> None:
            raise OSError("no connection")

    with pytest.warns(PluginWarning, match="on_train_end of Failing raised OSError: no connection"):
        ae = train(spec_of(stages=[stage(1)]), Failing())
    assert ae.metrics
