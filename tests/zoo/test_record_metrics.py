"""`record_metrics`: measured values in the `metrics.json` of a folder."""

import errno
import json
import math
from pathlib import Path
from typing import Any

import pytest

import aezoo
from aezoo import files
from aezoo.errors import CheckpointError
from aezoo.zoo.save import record_metrics
from tests.examples import small_spec
from tests.raising import raises


def entry(value: float | None, source: str = "computed", split: str = "test") -> dict[str, object]:
    """An entry of `metrics.json`."""
    return {
        "value": value, "reason": None if value is not None else "none", "source": source, "dataset": "mnist",
        "split": split, "n": 5, "definition": "made up",
    }  # fmt: skip


OLD = {
    "fvu": entry(0.1),
    "mse": entry(0.2),
    "fvu.validation": entry(0.3, "protocol", "validation"),
    "mse.validation": entry(0.4, "protocol", "validation"),
    "train_seconds": entry(7.0, "recorded", "train"),
}
NEW = {"active_latents": entry(3.0)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with metrics."""
    ae = aezoo.build(small_spec())
    ae.metrics = json.loads(json.dumps(OLD))
    return aezoo.save(ae, tmp_path / "mine")


def recorded(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text("utf-8"))


def test_new_metrics_are_added_in_order(folder: Path) -> None:
    new = {"few_label.100": entry(0.9, "protocol")} | NEW
    assert record_metrics(folder, new) == folder / "metrics.json"
    assert recorded(folder) == OLD | new
    assert list(recorded(folder)) == [
        "fvu", "mse", "few_label.100", "active_latents", "fvu.validation", "mse.validation", "train_seconds",
    ]  # fmt: skip


def test_a_metric_replaces_the_one_of_the_same_name(folder: Path) -> None:
    new = {"mse": entry(0.5), "mse.validation": entry(None, "protocol", "validation")}
    record_metrics(str(folder), new)
    assert recorded(folder) == OLD | new
    assert list(recorded(folder)) == list(OLD)


def test_recording_twice_writes_the_same_bytes(folder: Path) -> None:
    before = (folder / "metrics.json").read_bytes()
    record_metrics(folder, {})
    assert (folder / "metrics.json").read_bytes() == before
    first = record_metrics(folder, NEW).read_bytes()
    assert record_metrics(folder, NEW).read_bytes() == first


def test_the_folder_still_loads_and_its_other_files_are_unchanged(folder: Path) -> None:
    others = {path: path.read_bytes() for path in folder.iterdir() if path.name != "metrics.json"}
    record_metrics(folder, NEW)
    assert aezoo.load(folder).metrics == OLD | NEW
    assert {path: path.read_bytes() for path in folder.iterdir() if path.name != "metrics.json"} == others


def test_a_missing_metrics_file_is_created(folder: Path) -> None:
    (folder / "metrics.json").unlink()
    record_metrics(folder, NEW)
    assert aezoo.load(folder).metrics == NEW


def test_a_full_disk_leaves_the_old_metrics(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_sync", full)
    names = sorted(path.name for path in folder.iterdir())
    with pytest.raises(CheckpointError, match=r"metrics\.json could not be written: No space left on device"):
        record_metrics(folder, NEW)
    assert recorded(folder) == OLD
    assert sorted(path.name for path in folder.iterdir()) == names


def test_a_missing_folder_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        record_metrics(tmp_path / "nowhere", NEW)
    assert list(tmp_path.iterdir()) == []


def test_nan_is_rejected(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written as JSON"):
        record_metrics(folder, {"mse": entry(math.nan)})
    assert recorded(folder) == OLD


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "metrics.json"), ('{"mse": 3}', "mse: expected an object, found int")],
)
def test_an_invalid_metrics_file_is_rejected_and_left_unchanged(folder: Path, text: str, words: str) -> None:
    (folder / "metrics.json").write_text(text)
    with raises("invalid-config", match=words):
        record_metrics(folder, NEW)
    assert (folder / "metrics.json").read_text() == text


def test_an_entry_without_a_source_is_kept(folder: Path) -> None:
    # Such a folder can be loaded.
    (folder / "metrics.json").write_text('{"mse": {"value": 1}}')
    record_metrics(folder, NEW)
    assert recorded(folder) == {"mse": {"value": 1}} | NEW
