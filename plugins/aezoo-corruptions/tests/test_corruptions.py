"""Each corruption changes each image as documented; published numbers; the contract checks."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from aezoo_corruptions import (
    AffineSpec,
    BlurSpec,
    BrightnessSpec,
    ImpulseSpec,
    MixtureSpec,
    OcclusionSpec,
    ShotSpec,
    StripesSpec,
)
from torch import Generator, Tensor

import aezoo
from aezoo.testing import check_plugin
from aezoo.zoo.load import folder_of
from aezoo.zoo.model_card import card


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def gray(rows: int = 200, value: float = 0.5) -> Tensor:
    return torch.full((rows, 1, 28, 28), value)


def test_installed_plugin_passes_contract_checks() -> None:
    assert len(check_plugin("aezoo-corruptions")) >= 16


def test_shot_noise_has_the_mean_and_variance_of_photon_counts() -> None:
    out = ShotSpec(photons=20.0)(gray(value=0.25), seeded())
    assert float(out.mean()) == pytest.approx(0.25, abs=0.002)
    assert float(out.var()) == pytest.approx(0.25 / 20, rel=0.03)
    assert torch.equal(ShotSpec()(gray(value=0.0), seeded()), gray(value=0.0))


def test_impulses_are_black_and_white_in_equal_shares() -> None:
    out = ImpulseSpec(share=0.3)(gray(), seeded())
    for value in (0.0, 1.0):
        assert float((out == value).float().mean()) == pytest.approx(0.15, abs=0.005)
    assert float((out == 0.5).float().mean()) == pytest.approx(0.7, abs=0.005)


def test_blur_spreads_a_point_and_keeps_its_sum() -> None:
    x = torch.zeros(50, 2, 31, 31)
    x[:, :, 15, 15] = 1.0
    out = BlurSpec(sigma=2.0)(x, seeded())
    assert torch.allclose(out.sum((2, 3)), torch.ones(50, 2), atol=1e-4)
    place = torch.arange(31) - 15.0
    widths = (out[:, 0].sum(1) * place.square()).sum(1).sqrt()
    assert float(widths.min()) > 0.6
    assert float(widths.max()) < 2.05
    assert float(widths.std()) > 0.2
    # A constant image is unchanged, including its borders.
    assert torch.allclose(BlurSpec()(gray(3), seeded()), gray(3), atol=1e-5)


def test_occlusion_is_one_rectangle_at_a_random_position() -> None:
    out = OcclusionSpec(size=0.25)(gray(value=1.0), seeded())
    hidden = out[:, 0] == 0
    assert set(hidden.flatten(1).sum(1).tolist()) == {49}
    rows, columns = hidden.any(2), hidden.any(1)
    assert set(rows.sum(1).tolist()) == set(columns.sum(1).tolist()) == {7}
    starts = rows.float().argmax(1)
    assert (int(starts.min()), int(starts.max())) == (0, 21)


def test_brightness_adds_one_value_to_each_image() -> None:
    out = BrightnessSpec(amount=0.3)(gray(), seeded())
    added = out.flatten(1)[:, 0] - 0.5
    assert torch.equal(out, (0.5 + added).view(-1, 1, 1, 1).expand_as(out))
    assert -0.3 <= float(added.min()) < -0.2
    assert 0.2 < float(added.max()) <= 0.3


def test_affine_shift_is_bounded() -> None:
    x = torch.zeros(200, 1, 29, 29)
    x[:, :, 14, 14] = 1.0
    out = AffineSpec(shift=0.2, degrees=0.0)(x, seeded())
    place = torch.arange(29) - 14.0
    moved = (out[:, 0].sum(1) * place).sum(1)
    assert 4.0 < float(moved.abs().max()) <= 0.2 * 29 + 0.01


def test_affine_rotation_keeps_lengths_in_non_square_images() -> None:
    x = torch.zeros(300, 1, 21, 41)
    x[:, :, 10, 28] = 1.0
    out = AffineSpec(shift=0.0, degrees=40.0)(x, seeded())[:, 0]
    rows, columns = torch.arange(21) - 10.0, torch.arange(41) - 20.0
    weight = out.sum((1, 2))
    down = (out.sum(2) * rows).sum(1) / weight
    across = (out.sum(1) * columns).sum(1) / weight
    length = (down.square() + across.square()).sqrt()
    assert torch.allclose(length, torch.full_like(length, 8.0), atol=0.4)
    angle = torch.rad2deg(torch.atan2(down, across)).abs()
    assert 35 < float(angle.max()) < 41


def test_affine_without_shift_and_rotation_is_the_identity() -> None:
    x = torch.rand(4, 3, 9, 7, generator=seeded())
    assert torch.allclose(AffineSpec(shift=0.0, degrees=0.0)(x, seeded()), x, atol=1e-5)


def test_stripes_invert_whole_rows_or_columns() -> None:
    out = StripesSpec(share=0.3)(gray(value=0.25), seeded())[:, 0] == 0.75
    rows = (out.all(2) | ~out.any(2)).all(1)
    columns = (out.all(1) | ~out.any(1)).all(1)
    assert (rows | columns).all()
    assert 0.35 < float((rows & ~columns).float().mean()) < 0.65
    assert float(out.float().mean()) == pytest.approx(0.3, abs=0.03)


def test_mixture_applies_one_noise_to_each_image() -> None:
    out = MixtureSpec(of=(BrightnessSpec(amount=0.3), ImpulseSpec(share=0.5)))(gray(), seeded())
    flat = out.flatten(1)
    constant = (flat == flat[:, :1]).all(1)
    impulses = ((flat == 0) | (flat == 1) | (flat == 0.5)).all(1)
    assert (constant ^ impulses).all()
    assert 0.35 < float(constant.float().mean()) < 0.65


@pytest.mark.parametrize(
    "kind", ["shot", "impulse", "blur", "occlusion", "brightness", "affine", "stripes", "mixture"]
)
def test_noises_are_incompatible_with_other_shapes_and_ranges(kind: str) -> None:
    noise = aezoo.NoiseSpec.model_validate({"kind": f"corruptions.{kind}"})
    assert "takes images" in str(noise.incompatibility(aezoo.TensorSpec(shape=(16,), range=(0.0, 1.0))))
    assert "values in [0, 1]" in str(
        noise.incompatibility(aezoo.TensorSpec(shape=(1, 8, 8), range=(-1.0, 1.0)))
    )
    assert noise.incompatibility(aezoo.TensorSpec(shape=(1, 8, 8), range=(0.0, 1.0))) is None


def test_denoiser_has_metrics_for_each_corruption() -> None:
    metrics = aezoo.load("denoise-mixture").metrics
    for kind in ("shot", "impulse", "blur", "occlusion", "brightness", "affine", "stripes"):
        assert 0 < metrics[f"corruptions.{kind}_mse"]["value"] < 0.1
    assert metrics["denoised_mse"]["value"] < metrics["noisy_input_mse"]["value"]


def test_model_card_is_current() -> None:
    folder = folder_of("denoise-mixture")
    assert (folder / "README.md").read_text() == card(folder, address="denoise-mixture", license="mit")


def test_readme_example_runs() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["x_hat"].shape == (300, 1, 28, 28)
