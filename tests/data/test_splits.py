import warnings
from typing import Any, cast

import numpy as np
import pytest
import torch

import aezoo
from aezoo.data.datasets.arrays import ArraySpec, WindowsSpec
from aezoo.data.datasets.tables import TableSpec
from aezoo.specs.components import Split
from tests.data.generated import array_file, numbers, parquet_file
from tests.data.raising import data_error
from tests.data.splits import SPLITS, inputs_of, labels_of


def counted(n: int, **options: Any) -> ArraySpec:
    """Samples whose value is their number."""
    path = array_file("counted.npy", x=np.arange(n, dtype=np.float32)[:, None])
    return ArraySpec(path=path, **options)


def rows_of(dataset: aezoo.DatasetSpec, split: Split) -> list[int]:
    return [int(value) for value in inputs_of(dataset.load(split)).flatten()]


@pytest.mark.parametrize(
    ("n", "options", "sizes"),
    [
        (50, {}, (45, 5, None)),
        (50, {"validation": 0.3, "test": 0.2}, (25, 15, 10)),
        (4, {}, (3, 1, None)),
        (5, {"test": 0.01}, (3, 1, 1)),
    ],
)
def test_splits_are_disjoint_and_contain_every_sample(
    n: int, options: dict[str, float], sizes: tuple[int | None, ...]
) -> None:
    dataset = counted(n, **options)
    assert tuple(dataset.has(split) for split in SPLITS) == tuple(size is not None for size in sizes)
    parts = [rows_of(dataset, split) for split in SPLITS if dataset.has(split)]
    assert [len(part) for part in parts] == [size for size in sizes if size is not None]
    assert sorted(row for part in parts for row in part) == list(range(n))


def test_seed_determines_the_splits() -> None:
    first, again, other = (rows_of(counted(50, seed=seed), "validation") for seed in (0, 0, 1))
    assert first == again != other
    assert first != [45, 46, 47, 48, 49]


@pytest.mark.parametrize(
    ("n", "options", "words"),
    [
        (1, {}, "1 samples are too few: 1 for validation and 0 for the test leave none for training"),
        (0, {}, "0 samples are too few"),
        (2, {"test": 0.1}, "2 samples are too few: 1 for validation and 1 for the test"),
        (9, {"validation": 0.6, "test": 0.4}, "9 samples are too few: 5 for validation and 4 for the test"),
    ],
)
def test_too_few_samples_are_rejected(n: int, options: dict[str, float], words: str) -> None:
    with data_error(words):
        counted(n, **options).load("train")


# -- constant inputs ----------------------------------------------------------------------------------


def constant() -> TableSpec:
    a, b = numbers(2, 30)
    return TableSpec(path=parquet_file("t.parquet", a=a, still=np.full(30, 0.1), b=b))


def test_constant_column_is_named_and_stays_finite() -> None:
    with pytest.warns(
        aezoo.DiagnosticWarning, match=r"^constant-input: column 'still': the same in every training sample"
    ) as caught:
        samples = constant().load("train")
    assert cast(aezoo.DiagnosticWarning, caught[0].message).code == "constant-input"
    assert inputs_of(samples)[:, 1].tolist() == pytest.approx([0.0] * 27, abs=1e-6)
    assert torch.isfinite(inputs_of(samples)).all()


def test_column_that_varies_only_in_the_validation_split_stays_finite() -> None:
    path = parquet_file("t.parquet", a=numbers(30), row=np.arange(30))
    b = np.zeros(30)
    b[int(labels_of(TableSpec(path=path, label="row").load("validation"))[0])] = 7
    dataset = TableSpec(path=parquet_file(path, a=numbers(30), b=b))
    with pytest.warns(aezoo.DiagnosticWarning, match=r"^constant-input: column 'b'"):
        validation = dataset.load("validation")
    assert inputs_of(validation)[0, 1] == 7


def test_at_most_five_constant_values_are_named() -> None:
    x = np.zeros((20, 3, 3), np.float32)
    x[:, 1, 1] = numbers(20)
    with pytest.warns(
        aezoo.DiagnosticWarning,
        match=r"^constant-input: value 0, value 1, value 2, value 3, value 5 and 3 more: ",
    ):
        ArraySpec(path=array_file("x.npy", x=x), scale="standard").load("train")


def test_constant_channel_of_a_series_is_named_and_stays_finite() -> None:
    series = np.stack([numbers(40), np.ones(40)], 1)
    dataset = WindowsSpec(path=array_file("x.npy", x=series), length=4)
    with pytest.warns(aezoo.DiagnosticWarning, match=r"^constant-input: .*1: the same"):
        samples = dataset.load("train")
    assert torch.isfinite(inputs_of(samples)).all()


def test_environment_variable_silences_whole_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEZOO_SILENCE", "corrupt-images,constant")
    with pytest.warns(aezoo.DiagnosticWarning, match="^constant-input"):
        constant().load("train")
    monkeypatch.setenv("AEZOO_SILENCE", "dead-latents, constant-input")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        constant().load("train")
