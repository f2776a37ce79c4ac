"""Noises: the contract of `aezoo.testing`, what each computes, and inputs that it rejects."""

from pathlib import Path
from typing import Any

import pydantic
import pytest
import torch
import yaml
from torch import Generator, Tensor

import aezoo
from aezoo.testing import check_noise
from tests.examples import NOISES, small_spec

ROWS, SHAPE = 6, (1, 6, 6)


def noise_of(kind: str, **options: Any) -> aezoo.NoiseSpec:
    return aezoo.NoiseSpec.model_validate({"kind": kind, **options})


EXAMPLES = [
    pytest.param(noise_of(kind, **options), id=f"{kind}-{i}")
    for kind, cases in NOISES.items()
    for i, options in enumerate(cases)
]
each_noise = pytest.mark.parametrize("noise", EXAMPLES)


def shape_for(noise: aezoo.NoiseSpec) -> tuple[int, ...]:
    return (3, 4, 4) if noise.kind_name == "grayscale" else SHAPE


def is_deterministic(noise: Any) -> bool:
    return noise.kind_name == "grayscale" or (noise.kind_name == "masking" and noise.share == 1)


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def values(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """In [0.6, 0.9], which contains no value that a noise sets."""
    return 0.6 + 0.3 * torch.rand(shape, generator=seeded(0), dtype=dtype)


# -- every noise --------------------------------------------------------------------------------------


@each_noise
def test_noise_keeps_the_contract(noise: aezoo.NoiseSpec) -> None:
    assert check_noise(noise).passed


@each_noise
@pytest.mark.parametrize("shape", [(7,), SHAPE, (2, 12)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_noise_changes_values_but_not_shape_and_dtype(
    noise: aezoo.NoiseSpec, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    if noise.kind_name == "grayscale":
        shape = (3, len(shape), shape[-1])
    x = values(ROWS, *shape, dtype=dtype)
    noisy = noise(x, seeded(0))
    assert (noisy.shape, noisy.dtype) == (x.shape, x.dtype)
    assert torch.equal(x, values(ROWS, *shape, dtype=dtype))
    assert not torch.equal(noisy, x)
    assert noisy.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()


@each_noise
def test_noise_does_not_depend_on_the_memory_format(noise: aezoo.NoiseSpec) -> None:
    x = values(ROWS, 3, 6, 6)
    strided = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(noise(strided, seeded(0)), noise(x, seeded(0)))


@each_noise
def test_noise_is_drawn_from_the_generator(noise: aezoo.NoiseSpec) -> None:
    x = values(ROWS, *shape_for(noise))
    generator = seeded(0)
    first = noise(x, generator)
    assert torch.equal(noise(x, seeded(0)), first)
    assert torch.equal(noise(x, generator), first) == is_deterministic(noise)
    assert torch.equal(noise(x, seeded(1)), first) == is_deterministic(noise)


@each_noise
def test_rows_are_corrupted_independently(noise: aezoo.NoiseSpec) -> None:
    noisy = noise(values(1, *shape_for(noise)).expand(2, *shape_for(noise)), seeded(0))
    assert torch.equal(noisy[0], noisy[1]) == is_deterministic(noise)


@each_noise
def test_input_without_a_range_is_accepted(noise: aezoo.NoiseSpec) -> None:
    assert noise.incompatibility(aezoo.TensorSpec(shape=shape_for(noise))) is None


# -- gaussian -----------------------------------------------------------------------------------------


def test_gaussian_adds_noise_of_its_standard_deviation() -> None:
    x = values(500, *SHAPE)
    difference = noise_of("gaussian", std=0.3)(x, seeded(0)) - x
    # 18,000 draws: both tolerances are about five standard errors.
    assert float(difference.std()) == pytest.approx(0.3, abs=0.008)
    assert float(difference.mean()) == pytest.approx(0.0, abs=0.012)


def test_gaussian_clips_to_the_declared_range() -> None:
    x = values(ROWS, *SHAPE)
    free, clipped = (noise_of("gaussian", std=2.0, clip=clip)(x, seeded(0)) for clip in (None, [0.25, 1]))
    assert float(free.min()) < 0.25
    assert float(free.max()) > 1
    assert torch.equal(clipped, free.clamp(0.25, 1))


def test_clip_range_must_ascend() -> None:
    message = r"expected the smaller value first, found \[1\.0, 0\.0\]"
    with pytest.raises(pydantic.ValidationError, match=message):
        noise_of("gaussian", std=0.3, clip=[1, 0])


# -- masking, salt and pepper -------------------------------------------------------------------------

SHARES = [(0.25, 9), (0.5, 18), (0.26, 9), (0.29, 10), (1.0, 36), (0.001, 0)]


@pytest.mark.parametrize(("share", "changed"), SHARES)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("masking", {"value": 0.0}), ("masking", {"value": -2.5}),
        ("salt_pepper", {"pepper": 0.0, "salt": 1.0}), ("salt_pepper", {"pepper": -0.5, "salt": 2.5}),
    ],
)  # fmt: skip
def test_exact_share_of_every_row_is_changed(
    share: float, changed: int, kind: str, options: dict[str, float]
) -> None:
    x = values(50, *SHAPE)
    noisy = noise_of(kind, share=share, **options)(x, seeded(0)).flatten(1)
    hit = torch.isin(noisy, torch.tensor(list(options.values()), dtype=torch.float64))
    assert (hit.sum(1) == changed).all()
    assert torch.equal(noisy[~hit], x.flatten(1)[~hit])


@pytest.mark.parametrize(
    ("kind", "extremes", "atol"),
    # Five standard errors of a share of a quarter, and of an eighth, in 4,000 rows.
    [("masking", [0], 0.035), ("salt_pepper", [0, 1], 0.0262)],
)
def test_every_position_is_changed_equally_often(kind: str, extremes: list[int], atol: float) -> None:
    noisy = noise_of(kind, share=0.25)(values(4000, 8), seeded(0))
    expected = torch.full((8,), 0.25 / len(extremes), dtype=torch.float64)
    for extreme in extremes:
        torch.testing.assert_close((noisy == extreme).double().mean(0), expected, atol=atol, rtol=0)


def test_half_of_salt_and_pepper_is_salt() -> None:
    noisy = noise_of("salt_pepper", share=0.25)(values(4000, 8), seeded(0))
    # 8,000 values are changed; five standard errors.
    assert float((noisy == 1).double().sum() / 8000) == pytest.approx(0.5, abs=5 * 0.5 / 8000**0.5)


# -- grayscale ----------------------------------------------------------------------------------------


def test_grayscale_gives_every_channel_the_luma() -> None:
    noise = noise_of("grayscale")
    colors = torch.eye(3, dtype=torch.float64).view(3, 3, 1, 1)
    assert noise(colors, seeded(0))[:, :, 0, 0].tolist() == [[w] * 3 for w in (0.299, 0.587, 0.114)]
    gray = values(2, 1, 4, 4).expand(2, 3, 4, 4)
    torch.testing.assert_close(noise(gray, seeded(0)), gray, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(3,), (3, 8), (4, 8, 8), (3, 2, 8, 8)], ids=str)
def test_grayscale_requires_color_images(shape: tuple[int, ...]) -> None:
    noise = noise_of("grayscale")
    assert f"not {shape}" in str(noise.incompatibility(aezoo.TensorSpec(shape=shape)))
    assert noise.incompatibility(aezoo.TensorSpec(shape=(3, 8, 8))) is None


# -- inputs that are rejected -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        ({"kind": "masking", "share": 0.5, "value": -1}, "-1 lies outside the input's range [0.0, 1.0]"),
        ({"kind": "salt_pepper", "share": 0.5, "pepper": -0.5}, "-0.5 lies outside the input's range [0.0, 1.0]"),
        ({"kind": "salt_pepper", "share": 0.5, "salt": 255}, "255 lies outside the input's range [0.0, 1.0]"),
        ({"kind": "gaussian", "std": 0.5, "clip": [-1, 1]}, "-1 lies outside the input's range [0.0, 1.0]"),
        ({"kind": "gaussian", "std": 0.5, "clip": [0, 2]}, "2 lies outside the input's range [0.0, 1.0]"),
        ("grayscale", "grayscale takes colour images of shape (3, height, width), not (1, 6, 6)"),
    ],
    ids=["value", "pepper", "salt", "clip-below", "clip-above", "gray"],
)  # fmt: skip
def test_input_that_does_not_fit_is_rejected(noise: Any, words: str, tmp_path: Path) -> None:
    spec = small_spec().replace({"recipe.noises": [{"kind": "gaussian", "std": 0.1}, noise]})
    with pytest.raises(aezoo.SpecError) as in_training:
        aezoo.train(spec, object(), device="cpu", progress=False)
    assert str(in_training.value) == f"recipe.noises.1: {words}"
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json", exclude_defaults=True), sort_keys=False))
    with pytest.raises(aezoo.SpecError) as in_validation:
        aezoo.validate(path)
    (problem,) = in_validation.value.problems
    assert problem.line is not None
    assert str(in_validation.value) == f"{path}:{problem.line}: recipe.noises.1: {words}"
