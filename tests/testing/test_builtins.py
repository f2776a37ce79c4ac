"""aezoo's own layers, losses, noises, callbacks, datasets and variants pass the contract checks."""

from typing import Any

import pytest

import aezoo
from aezoo.testing import (
    check_callback,
    check_dataset,
    check_layer,
    check_loss,
    check_noise,
    check_variant,
)
from tests.examples import LAYER_CASES, LOSSES, NOISES


def examples(family: dict[str, list[dict[str, Any]]]) -> list[Any]:
    return [
        pytest.param({"kind": kind, **options}, id=f"{kind}-{number}")
        for kind, cases in family.items()
        for number, options in enumerate(cases)
    ]


@pytest.mark.parametrize(
    ("layers", "in_shape"),
    LAYER_CASES,
    ids=[f"{layers[-1].kind_name}-{i}" for i, (layers, _) in enumerate(LAYER_CASES)],
)
def test_layers(layers: tuple[aezoo.LayerSpec, ...], in_shape: tuple[int, ...]) -> None:
    assert check_layer(layers[-1], in_shape, before=layers[:-1]).passed


@pytest.mark.parametrize("data", examples(LOSSES))
def test_losses(data: dict[str, Any]) -> None:
    assert check_loss(aezoo.LossSpec.model_validate(data)).passed


@pytest.mark.parametrize("data", examples(NOISES))
def test_noises(data: dict[str, Any]) -> None:
    assert check_noise(aezoo.NoiseSpec.model_validate(data)).passed


@pytest.mark.parametrize("every", [1, 3])
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
