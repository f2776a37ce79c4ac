"""Names of folders: the name of a published variant belongs to its recipe, its data and its weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import aezoo
from aezoo.specs.schema import resolved_data
from aezoo.zoo.schema import CARD, CONFIG, TRAINING

PUBLISHED = "fc-16"
IMAGES = torch.rand(40, 28, 28, generator=torch.Generator().manual_seed(0))
ONE_EPOCH: dict[str, Any] = {"recipe.stages": [{"kind": "fit", "epochs": 1}], "recipe.refit": False}
WARNING = f"'{PUBLISHED}' is a published variant with another"


def spec_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / CONFIG).read_text())["spec"]


def published() -> aezoo.VariantSpec:
    return aezoo.get_spec(PUBLISHED)


def test_a_changed_recipe_on_own_data_claims_neither_name_nor_dataset(tmp_path: Path) -> None:
    with pytest.warns(aezoo.DiagnosticWarning, match=f"{WARNING} recipe; saved as 'mine'"):
        ae = aezoo.train_to_folder(
            published().replace(ONE_EPOCH), tmp_path / "mine", IMAGES, device="cpu", progress=False
        )
    spec = spec_of(tmp_path / "mine")
    assert spec == resolved_data(ae.spec)
    assert (spec["name"], spec["recipe"]["dataset"]) == ("mine", None)
    assert spec["summary"] == f"The recipe of {PUBLISHED}, changed, and trained on other data."
    card = (tmp_path / "mine" / CARD).read_text()
    assert "mnist" not in card.lower()
    data = json.loads((tmp_path / "mine" / TRAINING).read_text())["data"]
    assert data["train"]["n"] + data["validation"]["n"] == 40
    with pytest.raises(aezoo.DataError, match="dataset"):
        aezoo.evaluation.evaluate.evaluate_variant(aezoo.load(tmp_path / "mine"), "test")


def test_a_changed_recipe_that_was_trained_in_python_is_saved_under_another_name(tmp_path: Path) -> None:
    ae = aezoo.train(published().replace(ONE_EPOCH), IMAGES, device="cpu", progress=False)
    with pytest.warns(aezoo.DiagnosticWarning, match=f"{WARNING} recipe; saved as 'run-3'"):
        folder = aezoo.save(ae, tmp_path / "Run 3")
    assert spec_of(folder)["name"] == "run-3"
    with pytest.warns(aezoo.DiagnosticWarning, match=f"{WARNING} recipe; saved as 'my-{PUBLISHED}'"):
        folder = aezoo.save(ae, tmp_path / PUBLISHED)
    assert spec_of(folder)["name"] == f"my-{PUBLISHED}"
    assert aezoo.load(folder).spec.name == f"my-{PUBLISHED}"  # type: ignore[union-attr]


def test_changed_weights_of_a_published_variant_are_saved_under_another_name(tmp_path: Path) -> None:
    ae = aezoo.load(PUBLISHED)
    assert spec_of(aezoo.save(ae, tmp_path / "copy"))["name"] == PUBLISHED
    with torch.no_grad():
        next(ae.parameters()).zero_()
    with pytest.warns(aezoo.DiagnosticWarning, match=f"{WARNING} weights; saved as 'zeroed'"):
        folder = aezoo.save(ae, tmp_path / "zeroed")
    assert spec_of(folder)["name"] == "zeroed"
    assert spec_of(folder)["summary"].startswith(f"Changed from {PUBLISHED}: ")


def test_names_of_ones_own_are_kept(tmp_path: Path) -> None:
    spec = published().replace(ONE_EPOCH | {"name": "seven"})
    aezoo.train_to_folder(spec, tmp_path / "mine", IMAGES, device="cpu", progress=False)
    assert spec_of(tmp_path / "mine")["name"] == "seven"


def test_an_interrupted_training_of_a_changed_copy_is_resumed(tmp_path: Path) -> None:
    spec = published().replace(ONE_EPOCH)

    class Stop(aezoo.Callback):
        def on_epoch_end(self, state: aezoo.TrainingState) -> None:
            if stopping:
                raise KeyboardInterrupt

    def train(resume: bool) -> None:
        aezoo.train_to_folder(
            spec, tmp_path / "mine", IMAGES, device="cpu", progress=False, resume=resume, callbacks=[Stop()]
        )

    stopping = True
    with pytest.raises(aezoo.TrainingInterrupted):
        train(resume=False)
    stopping = False
    train(resume=True)
    assert spec_of(tmp_path / "mine")["name"] == "mine"
    assert "unfinished" not in aezoo.load(tmp_path / "mine").training_record
