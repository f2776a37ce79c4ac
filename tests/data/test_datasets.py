"""Every dataset of files, and every synthetic one, from the spec to new data."""

# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from sklearn.datasets import make_swiss_roll

import aezoo
from aezoo.data.datasets.arrays import ArraySpec, WindowsSpec
from aezoo.data.datasets.images import ImagesSpec
from aezoo.data.datasets.synthetic import PhotoPatchesSpec, SwissRollSpec
from aezoo.data.datasets.tables import TableSpec
from aezoo.data.samples import Samples
from aezoo.errors import MissingExtraError
from aezoo.evaluation.evaluate import evaluate_variant
from tests.data.generated import array_file, image_folder, numbers, parquet_file
from tests.data.networks import saved_and_loaded, tiny_variant, train_quietly
from tests.data.raising import data_error
from tests.data.splits import inputs_of, labels_of


@dataclass
class Case:
    """A dataset, shape and range of its samples, and their conversion to the form in which a user has them."""

    dataset: aezoo.DatasetSpec
    shape: tuple[int, ...]
    range: tuple[float, float] | None
    raw: Callable[[Samples], object]

    def variant(self, **recipe: Any) -> aezoo.VariantSpec:
        return tiny_variant(self.shape, self.range, **recipe)


def images_case() -> Case:
    folder = image_folder(20, labelled=True)

    def raw(samples: Samples) -> object:
        return [Image.open(folder / f"{int(i):03}" / "it.png") for i in labels_of(samples)]

    return Case(ImagesSpec(path="photos", size=(6, 8)), (3, 6, 8), (0.0, 1.0), raw)


def array_case() -> Case:
    x = numbers(30, 2, 3)
    path = array_file("data.npz", x=x, y=np.arange(30))
    dataset = ArraySpec(path=path, key="x", labels="y", scale="standard", test=0.2)
    return Case(dataset, (2, 3), None, lambda samples: x[labels_of(samples).numpy()])


def table_case() -> Case:
    a, b, c = numbers(3, 30).astype(np.float64)
    table: Any = pa.table({"c": c, "b": b, "a": a})
    path = parquet_file("data.parquet", a=a, row=np.arange(30), b=b, c=c)
    dataset = TableSpec(path=path, label="row", test=0.2)
    return Case(dataset, (3,), None, lambda samples: table.take(labels_of(samples).numpy()))


def windows_case() -> Case:
    series = numbers(60, 2)
    path = array_file("series.npy", x=series)
    dataset = WindowsSpec(path=path, length=5, stride=2, validation=0.2, test=0.2)
    # The training split starts at the first step.
    return Case(
        dataset, (2, 5), None, lambda samples: [series[2 * i : 2 * i + 5].T for i in range(len(samples))]
    )


def photo_patches_case() -> Case:
    dataset = PhotoPatchesSpec(size=6, count=40)
    return Case(dataset, (3, 6, 6), (0.0, 1.0), lambda samples: inputs_of(samples).numpy())


def swiss_roll_case() -> Case:
    points, angle = make_swiss_roll(50, random_state=3)

    def raw(samples: Samples) -> object:
        return points[[int(np.abs(angle - float(label)).argmin()) for label in labels_of(samples)]]

    return Case(SwissRollSpec(count=50, seed=3), (3,), None, raw)


CASES = {
    "images": images_case,
    "array": array_case,
    "table": table_case,
    "windows": windows_case,
    "photo_patches": photo_patches_case,
    "swiss_roll": swiss_roll_case,
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]()


def test_dataset_in_recipe_is_trained_saved_loaded_and_evaluated(case: Case) -> None:
    ae = train_quietly(case.variant(dataset=case.dataset.model_dump(mode="json")))
    loaded = saved_and_loaded(ae)
    assert isinstance(loaded.spec, aezoo.VariantSpec)
    assert loaded.spec.recipe.dataset == case.dataset
    measured = evaluate_variant(loaded, "validation")
    assert set(measured) >= {"mse", "fvu", "l0"}
    for metric, entry in measured.items():
        recorded = ae.metrics[f"{metric}.validation"]
        assert entry["value"] == pytest.approx(recorded["value"], rel=1e-6), metric
        assert (entry["dataset"], entry["n"]) == (case.dataset.kind_name, recorded["n"])
    assert any(metric in ae.metrics for metric in measured) == case.dataset.has("test")


def test_dataset_as_argument_replaces_that_of_the_recipe(case: Case) -> None:
    ae = train_quietly(case.variant(), case.dataset)
    assert ae.metrics["mse.validation"]["dataset"] == case.dataset.kind_name
    assert ae.training_record["data"]["held_out"] == case.dataset.validation_note()
    assert ae.training_record["data"]["train"]["n"] == len(case.dataset.load("train"))


def test_transforms_reproduce_the_training_inputs(case: Case) -> None:
    spec = case.variant()
    ae = saved_and_loaded(train_quietly(spec, case.dataset))
    samples = case.dataset.load("train")[:7]
    x = samples.validated_for(spec).batch(slice(None), spec).input
    new = ae.transforms()(case.raw(samples))
    torch.testing.assert_close(new, x, rtol=0, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(ae(new).x_hat, ae(x).x_hat)


def test_loading_a_split_is_deterministic(case: Case) -> None:
    train, validation = (case.dataset.load(split).sha256() for split in ("train", "validation"))
    assert (train, validation) == tuple(case.dataset.load(s).sha256() for s in ("train", "validation"))
    assert train != validation


def test_refit_keeps_the_scaler_of_the_training_split(case: Case) -> None:
    # The recipe's choices were made with this scaler.
    ae = train_quietly(case.variant(refit=True), case.dataset)
    assert ae.metrics["mse.validation"]["source"] == "protocol"
    scaler = case.dataset.load("train").scaler
    assert (ae.scaler is None) == (scaler is None)
    if ae.scaler is not None and scaler is not None:
        assert torch.equal(ae.scaler.shift, scaler.shift)


@pytest.mark.parametrize(
    "dataset",
    [
        ImagesSpec(path="x", size=(2, 2)),
        ArraySpec(path="x"),
        TableSpec(path="x"),
        WindowsSpec(path="x", length=2),
        SwissRollSpec(test=0.0),
    ],
    ids=lambda dataset: dataset.kind_name,
)
def test_no_test_split_without_a_share(dataset: aezoo.DatasetSpec) -> None:
    assert not dataset.has("test")
    with data_error(f"{dataset.kind_name} has no test split; set its share with `test`"):
        dataset.load("test")


@pytest.mark.parametrize("field", ["validation", "test"])
@pytest.mark.parametrize("kind", ["array", "windows"])
@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5])
def test_shares_outside_0_to_1_are_rejected(kind: str, field: str, share: float) -> None:
    data = {"kind": kind, "path": "x", field: share} | ({"length": 2} if kind == "windows" else {})
    with pytest.raises(ValueError, match=field):
        aezoo.DatasetSpec.model_validate(data)


@pytest.mark.parametrize("kind", ["array", "table", "windows"])
def test_missing_file_error_names_the_start_of_a_relative_path(kind: str, tmp_path: Path) -> None:
    data = {"kind": kind, "path": "here/x.npy"} | ({"length": 2} if kind == "windows" else {})
    message = f"there is no file here/x.npy; relative paths start at {tmp_path}"
    with data_error("", message, message):
        aezoo.DatasetSpec.model_validate(data).load("train")
    absolute = str(tmp_path / "x.npy")
    with data_error("", f"there is no file {absolute}", absolute):
        aezoo.DatasetSpec.model_validate(data | {"path": absolute}).load("train")


@pytest.mark.parametrize(
    ("module", "message", "dataset"),
    [
        ("sklearn.datasets", r"scikit-learn; .*'aezoo\[sklearn\]'", PhotoPatchesSpec(count=10)),
        ("sklearn.datasets", r"scikit-learn; .*'aezoo\[sklearn\]'", SwissRollSpec(count=10)),
        ("pyarrow", r"pyarrow; .*'aezoo\[table\]'", TableSpec(path="data.csv")),
        ("pyarrow", r"pyarrow; .*'aezoo\[table\]'", WindowsSpec(path="data.csv", length=1)),
    ],
)
def test_missing_extra(module: str, message: str, dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data.csv").write_text("a\n1\n2\n3\n")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=f"^this needs {message}"):
        dataset.load("train")
