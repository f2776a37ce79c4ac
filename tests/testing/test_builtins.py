"""aezoo's own callbacks, datasets and variants pass the contract checks.

Those of layers, losses and noises are in the tests of their modules.
"""

from typing import Any

import pytest

import aezoo
from aezoo.testing import check_callback, check_dataset, check_variant


@pytest.mark.parametrize("every", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_callbacks(every: int) -> None:
    data = {"kind": "resample_dead", "every": every}
    assert check_callback(aezoo.CallbackSpec.model_validate(data)).passed


@pytest.mark.parametrize(
    "data",
    [{"kind": "swiss_roll", "count": 200}, {"kind": "photo_patches", "count": 100, "size": 8}],
    ids=["swiss_roll", "photo_patches"],
)
def test_datasets(data: dict[str, Any]) -> None:
    assert check_dataset(aezoo.DatasetSpec.model_validate(data)).passed


@pytest.mark.data
@pytest.mark.parametrize("name", ["fc-64", "sparse-topk16"])
def test_variants(name: str) -> None:
    report = check_variant(name)
    assert report.passed
    assert "numbers" in report.passed_checks
