"""Folders of a trained variant with faults."""

import json
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import aezoo
from aezoo.model.layers.activations import LeakyReluSpec
from aezoo.testing import Report, check_variant
from tests.testing.planting import PLANTED, Planted

ZOO = Path(__file__).parents[3] / "zoo"
Spoil = Callable[[Path, pytest.MonkeyPatch], None]


@contextmanager
def copied_variant() -> Generator[tuple[Path, pytest.MonkeyPatch]]:
    """A copy of a variant's folder, and a monkeypatch that is undone on exit."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name) / "fc-64"
        shutil.copytree(ZOO / "fc-64", folder)
        try:
            yield folder, patch
        finally:
            patch.undo()
            LeakyReluSpec.model_rebuild(force=True)


def _check(spoil: Spoil) -> Report:
    with copied_variant() as (folder, patch):
        spoil(folder, patch)
        return check_variant(folder)


def plant(fault: str, found_by: str, *, raises: bool = False) -> Callable[[Spoil], Spoil]:
    """Decorates a function that spoils a folder."""

    def register(spoil: Spoil) -> Spoil:
        PLANTED[f"variant/{fault}"] = Planted(partial(_check, spoil), found_by, raises=raises)
        return spoil

    return register


@plant("other-spec", "spec-is-trained")
def other_spec(folder: Path, patch: pytest.MonkeyPatch) -> None:
    path = folder / "spec.yaml"
    written = path.read_text("utf-8")
    assert "lr: 3e-3" in written
    path.write_text(written.replace("lr: 3e-3", "lr: 2e-3"))


@plant("changed-default", "spec-is-trained")
def changed_default(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LeakyReluSpec.model_fields["negative_slope"], "default", 0.2)
    LeakyReluSpec.model_rebuild(force=True)


@plant("flipped-bit", "loads", raises=True)
def flipped_bit(folder: Path, patch: pytest.MonkeyPatch) -> None:
    path = folder / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1000] ^= 1
    path.write_bytes(raw)


@plant("denormals", "denormals")
def denormal_weights(folder: Path, patch: pytest.MonkeyPatch) -> None:
    ae = aezoo.load(folder)
    with torch.no_grad():
        next(ae.parameters())[0, 0] = 1e-40
    ae.metrics, ae.training_record = ae.metrics, ae.training_record
    patch.setattr("aezoo.zoo.save.without_denormals", lambda tensor: tensor)
    aezoo.save(ae, folder, overwrite=True)


def _plant_number(fault: str, found_by: str, metric: str, **changes: Any) -> None:
    def spoil(folder: Path, patch: pytest.MonkeyPatch) -> None:
        path = folder / "metrics.json"
        metrics = json.loads(path.read_text("utf-8"))
        metrics[metric] = {**metrics.get(metric, metrics["mse"]), **changes}
        path.write_text(json.dumps(metrics))

    plant(fault, found_by)(spoil)


_plant_number("null-without-reason", "metrics", "mse", value=None, reason=None)
_plant_number("null-without-reason but an empty one", "metrics", "mse", value=None, reason="")
_plant_number("wrong-number", "numbers", "mse", value=0.005)
_plant_number("wrong-number of an unknown metric", "numbers", "goodness", value=40.0)
