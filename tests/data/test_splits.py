import warnings
from typing import Any, cast

import numpy as np
import pytest
import torch

import aezoo
from aezoo.data.datasets.arrays import ArraySpec, WindowsSpec
from aezoo.data.datasets.splits import hash_splits
from aezoo.data.datasets.tables import TableSpec
from aezoo.specs.components import Split
from tests.data.generated import array_file, numbers, parquet_file
from tests.data.raising import data_error
from tests.data.splits import SPLITS, inputs_of


def counted(n: int, **options: Any) -> ArraySpec:
    """Samples whose value is their number."""
    path = array_file("counted.npy", x=np.arange(n, dtype=np.float32)[:, None])
    return ArraySpec(path=path, **options)


def rows_of(dataset: aezoo.DatasetSpec, split: Split) -> list[int]:
    return [int(value) for value in inputs_of(dataset.load(split)).flatten()]


@pytest.mark.parametrize(
    ("n", "options", "shares"),
    [
        (5000, {}, (0.9, 0.1, None)),
        (5000, {"validation": 0.3, "test": 0.2}, (0.5, 0.3, 0.2)),
        (5000, {"validation": 0.01, "test": 0.9}, (0.09, 0.01, 0.9)),
        (2, {}, (0.5, 0.5, None)),
        (3, {"test": 0.01}, (1 / 3, 1 / 3, 1 / 3)),
    ],
)
def test_splits_are_disjoint_and_contain_every_sample(
    n: int, options: dict[str, float], shares: tuple[float | None, ...]
) -> None:
    dataset = counted(n, **options)
    assert tuple(dataset.has(split) for split in SPLITS) == tuple(share is not None for share in shares)
    parts = [rows_of(dataset, split) for split in SPLITS if dataset.has(split)]
    expected = [share * n for share in shares if share is not None]
    assert [len(part) for part in parts] == pytest.approx(expected, abs=2 * n**0.5 if n > 3 else 0)
    assert sorted(row for part in parts for row in part) == list(range(n))


@pytest.mark.parametrize("n", range(2, 40))
def test_no_split_is_empty(n: int) -> None:
    for seed in range(20):
        for validation, test in ((0.01, 0.0), (0.01, 0.01), (0.6, 0.2)):
            if n < 10 and test:
                continue
            rows = hash_splits(torch.arange(float(n))[:, None], validation, test, seed)
            assert [len(rows[split]) > 0 for split in SPLITS] == [True, True, test > 0]


def samples_in(x: torch.Tensor) -> set[tuple[float, ...]]:
    return {tuple(float(value) for value in row) for row in x}


def test_split_of_a_sample_depends_on_the_sample_alone() -> None:
    x = torch.rand(300, 4, generator=torch.Generator().manual_seed(0))
    before = hash_splits(x[:200], 0.1, 0.2, 0)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    after = hash_splits(x[order], 0.1, 0.2, 0)
    for split in SPLITS:
        assert samples_in(x[before[split]]) < samples_in(x[order][after[split]])
    # Another share of the validation split does not move samples into or out of the test split.
    assert torch.equal(hash_splits(x, 0.5, 0.2, 0)["test"], hash_splits(x, 0.1, 0.2, 0)["test"])


def test_equal_samples_are_in_the_same_split() -> None:
    x = torch.rand(100, 4, generator=torch.Generator().manual_seed(0)).repeat(3, 1)
    rows = hash_splits(x, 0.2, 0.2, 0)
    assert sum(len(samples_in(x[rows[split]])) for split in SPLITS) == 100


def test_a_few_patterns_are_in_every_split() -> None:
    x = torch.eye(8).repeat(100, 1)
    rows = hash_splits(x, 0.2, 0.0, 0)
    assert samples_in(x[rows["train"]]) == samples_in(torch.eye(8))
    assert 100 < len(rows["validation"]) < 220
    more = hash_splits(torch.cat([x, torch.eye(8)]), 0.2, 0.0, 0)
    assert np.isin(rows["validation"], more["validation"]).all()
    same = hash_splits(torch.zeros(50, 3), 0.1, 0.0, 0)
    assert len(same["train"]) + len(same["validation"]) == 50


@pytest.mark.parametrize("n", [19, 20, 25])
def test_one_more_sample_moves_no_other_between_few_and_many(n: int) -> None:
    for seed in range(20):
        x = torch.rand(n + 1, 4, generator=torch.Generator().manual_seed(seed))
        before, after = (hash_splits(part, 0.3, 0.3, seed) for part in (x[:n], x))
        for split in SPLITS:
            assert {int(i) for i in before[split]} == {int(i) for i in after[split]} - {n}


def test_equal_samples_stay_together_if_asked_to() -> None:
    x = torch.arange(4.0)[:, None].repeat(10, 1)
    rows = hash_splits(x, 0.3, 0.3, 0, few=0)
    assert sum(len(samples_in(x[rows[split]])) for split in SPLITS) == 4
    with data_error("2 different samples are too few for 3 splits"):
        hash_splits(x[:2].repeat(10, 1), 0.3, 0.3, 0, few=0)


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
    assert inputs_of(samples)[:, 1].tolist() == pytest.approx([0.0] * len(samples), abs=1e-6)
    assert torch.isfinite(inputs_of(samples)).all()


def test_column_that_varies_only_in_the_validation_split_stays_finite() -> None:
    for varied in range(30):
        b = np.where(np.arange(30) == varied, 7.0, 0.0)
        dataset = TableSpec(path=parquet_file("t.parquet", a=numbers(30), b=b))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            validation = inputs_of(dataset.load("validation"))[:, 1]
        assert torch.isfinite(validation).all()
        if 7 in validation:
            assert str(caught[0].message).startswith("constant-input: column 'b'")
            break
    else:
        pytest.fail("no row came into the validation split")


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
