"""`WindowsSpec` of aezoo/data/datasets/arrays.py."""

from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

import aezoo
from aezoo.data.datasets.arrays import WindowsSpec
from aezoo.evaluation.evaluate import evaluate_variant
from aezoo.specs.components import Split
from tests.data.generated import array_file, numbers, parquet_file
from tests.data.networks import saved_and_loaded, tiny_variant, train_quietly
from tests.data.raising import data_error
from tests.data.splits import inputs_of


def steps(n: int, **options: Any) -> WindowsSpec:
    """Windows of a series whose value is the number of the step."""
    path = array_file("steps.npy", x=np.arange(n, dtype=np.float32))
    return WindowsSpec.model_validate({"path": path, "scale": "none", **options})


@pytest.mark.parametrize("stride", [1, 2, 7])
@pytest.mark.parametrize("length", [1, 4])
def test_windows_stay_within_the_steps_of_their_split(stride: int, length: int) -> None:
    dataset = steps(100, length=length, stride=stride, validation=0.2, test=0.1)
    for split, start, end in (("train", 0, 70), ("validation", 70, 90), ("test", 90, 100)):
        expected = [list(range(i, i + length)) for i in range(start, end - length + 1, stride)]
        samples = dataset.load(cast(Split, split))
        assert len(samples) == len(expected)
        assert inputs_of(samples)[:, 0].tolist() == expected


def test_channels_come_first() -> None:
    series = numbers(30, 3)
    samples = WindowsSpec(path=array_file("series.npy", x=series), length=4, scale="none").load("train")
    assert inputs_of(samples).shape == (24, 3, 4)
    assert np.array_equal(inputs_of(samples)[5], series[5:9].T)


def test_windows_share_the_memory_of_the_series() -> None:
    samples = steps(5000, length=500).load("train")
    assert samples.inputs.untyped_storage().nbytes() <= 5000 * 4


def test_series_is_standardized_by_the_training_steps() -> None:
    series = numbers(100, 2)
    series[90:] += 1000
    dataset = WindowsSpec(path=array_file("series.npy", x=series), length=3)
    scaler = dataset.load("train").scaler
    assert scaler is not None
    assert scaler.shift.shape == (2, 3)
    np.testing.assert_allclose(scaler.shift[:, 0], series[:90].mean(0, np.float64), rtol=1e-5)
    np.testing.assert_allclose(scaler.scale[:, 2], series[:90].std(0, dtype=np.float64), rtol=1e-5)
    assert inputs_of(dataset.load("validation")).min() > 100


@pytest.mark.parametrize(
    ("options", "split", "words"),
    [
        ({"length": 91}, "train", "a window of 91 steps is longer than the train split, which has 90 of 100"),
        (
            {"length": 11},
            "validation",
            "a window of 11 steps is longer than the validation split, which has 10 of 100 steps",
        ),
        ({"length": 6, "test": 0.05}, "test", "longer than the test split, which has 5 of 100 steps"),
    ],
)
def test_window_longer_than_its_split_is_rejected(options: dict[str, Any], split: Split, words: str) -> None:
    with data_error(words, start="steps.npy"):
        steps(100, **options).load(split)


def test_columns_of_a_table_give_the_same_windows_as_an_array() -> None:
    a, b = numbers(2, 40)
    array = array_file("array.npy", x=np.stack([b, a], 1))
    table = parquet_file("table.parquet", a=a, time=np.arange(40), b=b)
    of_table = WindowsSpec(path=table, columns=("b", "a"), length=3, stride=2).load("train")
    of_array = WindowsSpec(path=array, length=3, stride=2).load("train")
    assert of_table.sha256() == of_array.sha256()


@pytest.mark.parametrize(
    ("array", "options", "words"),
    [
        (np.zeros((5, 2, 2), np.float32), {}, "expected (time,) or (time, channels), found (5, 2, 2)"),
        (np.array([0.0, 1.0, np.nan, 2.0]), {}, "the value at index (2,) is not finite"),
        (np.zeros(20), {"columns": ("a",)}, "is not a table; leave `columns` out"),
        (np.zeros(1), {}, "1 samples are too few"),
    ],
)  # fmt: skip
def test_invalid_series_is_rejected(array: NDArray[Any], options: dict[str, Any], words: str) -> None:
    with data_error(words):
        WindowsSpec(path=array_file("series.npy", x=array), length=1, **options).load("train")


def test_changed_series_is_scaled_as_in_training() -> None:
    series = numbers(100, 2).astype(np.float64)
    dataset = WindowsSpec(path=array_file("series.npy", x=series), length=3, test=0.3)
    ae = saved_and_loaded(train_quietly(tiny_variant((2, 3), dataset=dataset)))
    assert evaluate_variant(ae)["mse"]["value"] == ae.metrics["mse"]["value"]
    array_file("series.npy", x=1000 * series + 7)
    with pytest.warns(aezoo.DiagnosticWarning, match="^other-data"):
        value = evaluate_variant(ae)["mse"]["value"]
    raw = inputs_of(dataset.model_copy(update={"scale": "none"}).load("test"))
    assert value == pytest.approx(float(-ae.score_samples(ae.transforms()(raw)).mean()), rel=1e-4)


def test_channels_are_taken_by_name_not_by_place() -> None:
    columns = {"a": numbers(100), "b": 100 + numbers(100, seed=1)}
    path = parquet_file("t.parquet", **columns)
    ae = saved_and_loaded(
        train_quietly(tiny_variant((2, 3), dataset=WindowsSpec(path=path, length=3, test=0.3)))
    )
    published = ae.metrics["mse"]["value"]
    parquet_file(path, **dict(reversed(columns.items())))
    assert evaluate_variant(ae)["mse"]["value"] == published
    for changed, words in (
        ({"a": columns["a"]}, "the data have no column 'b'"),
        ({**columns, "c": columns["a"]}, "the data have a column 'c', which the network was not trained on"),
    ):
        parquet_file(path, **changed)
        with data_error(words):
            evaluate_variant(ae)


def test_large_offset_of_a_series_is_removed_in_double_precision() -> None:
    dataset = WindowsSpec(path=array_file("s.npy", x=1.7e12 + np.arange(200.0)), length=10)
    samples = dataset.load("train")
    assert abs(float(samples.inputs.double().mean())) < 1e-5
    assert bool((samples.inputs[0].diff() > 0).all())
    with pytest.warns(aezoo.DiagnosticWarning, match="^float32-rounding"):
        dataset.model_copy(update={"scale": "none"}).load("train")
