"""Power of the error at the frequencies of checkerboard artifacts."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.evaluation.networks import linear, measure, net, normal, uniform

CONV_1 = {"kind": "conv", "out_channels": 1, "kernel_size": 1}
POOL, UPSAMPLE = {"kind": "max_pool", "kernel_size": 2}, {"kind": "upsample"}
TRANSPOSED = {"kind": "conv_transpose", "out_channels": 1, "kernel_size": 2, "stride": 2}
SWITCHES = {"switches": "a"}
UNPOOL = {"kind": "max_unpool", "kernel_size": 2, **SWITCHES}
even = st.integers(1, 8).map(lambda n: 2 * n)


def checkerboard(error: Tensor, **options: Any) -> tuple[float | None, str | None]:
    """Value and reason for an error, (n, channels, height, width), of a network that returns zeros."""
    ae = net(tuple(error.shape[1:]), [POOL], [UPSAMPLE])
    entry = measure(ae, torch.zeros_like(error), -error, **options)["checkerboard"]
    return entry["value"], entry["reason"]


def waves(shape: tuple[int, ...], cycles: tuple[float, float]) -> Tensor:
    """A plane wave over an image, with this many cycles down and across it."""
    height, width = shape[-2:]
    down = torch.arange(height, dtype=torch.float64)[:, None] * cycles[0] / height
    across = torch.arange(width, dtype=torch.float64) * cycles[1] / width
    return torch.cos(2 * math.pi * (down + across)).float().expand(shape)


@settings(max_examples=30, deadline=None)
@given(
    height=even,
    width=even,
    channels=st.integers(1, 3),
    scale=st.floats(1e-3, 1e3),
    along=st.sampled_from(["rows", "columns", "both"]),
)
def test_an_alternating_pattern_has_the_largest_value(
    height: int, width: int, channels: int, scale: float, along: str
) -> None:
    down, across = torch.arange(height)[:, None], torch.arange(width)
    step = {"rows": down + 0 * across, "columns": 0 * down + across, "both": down + across}[along]
    error = (scale * (1 - 2 * (step % 2))).float().expand(2, channels, height, width)
    # All the power is at one of the three frequencies, the mean is over all frequencies but 0.
    expected = (height * width - 1) / 3
    assert checkerboard(error) == (pytest.approx(expected, rel=1e-9), None)
    # A constant is added at frequency 0.
    assert checkerboard(error + scale) == (pytest.approx(expected, rel=1e-6), None)


@settings(max_examples=20, deadline=None)
@given(height=even, width=even, rows=st.integers(1, 3), seed=st.integers(0, 1000))
def test_the_value_has_bounds(height: int, width: int, rows: int, seed: int) -> None:
    measured, _ = checkerboard(normal(rows, 2, height, width, seed=seed))
    assert measured is not None
    assert 0 <= measured <= (height * width - 1) / 3 * (1 + 1e-12)


@pytest.mark.parametrize("sizes", [(8, 8), (6, 10), (2, 4)])
def test_white_noise_has_a_value_of_1(sizes: tuple[int, int]) -> None:
    n = 4000
    measured, _ = checkerboard(normal(n, 2, *sizes))
    assert measured is not None
    # Five standard errors of the mean of 3 x n x 2 squared normal variables; the mean over the other
    # frequencies adds at most as much again.
    assert abs(measured - 1) < 2 * 5 * math.sqrt(2 / (3 * n * 2))


@pytest.mark.parametrize("cycles", [(1, 0), (0, 2), (1, 1), (3, -2)])
def test_a_smooth_error_has_a_value_of_0(cycles: tuple[int, int]) -> None:
    assert checkerboard(waves((2, 1, 12, 16), cycles)) == (pytest.approx(0, abs=1e-10), None)


@settings(max_examples=30, deadline=None)
@given(height=even, width=even, size=st.floats(-10, 10, width=32))
def test_a_constant_error_is_null(height: int, width: int, size: float) -> None:
    error = torch.full((3, 2, height, width), size)
    assert checkerboard(error) == (None, "the error is the same everywhere")


@pytest.mark.parametrize("batch_size", [1, 2])
def test_power_is_summed_over_batches_before_the_ratio(batch_size: int) -> None:
    alternating, smooth = 3 * waves((1, 1, 4, 4), (2, 2)), waves((1, 1, 4, 4), (1, 0))
    # Their powers are 9 and 1/2.
    expected = 9 / 3 / ((9 + 1 / 2) / 15)
    measured = checkerboard(torch.cat([alternating, smooth]), batch_size=batch_size)
    assert measured == (pytest.approx(expected, rel=1e-9), None)


@pytest.mark.parametrize(
    ("shape", "encoder", "decoder", "expected"),
    [
        ((1, 4, 6), [POOL], [UPSAMPLE], True),
        ((1, 4, 6), [POOL], [TRANSPOSED], True),
        ((1, 4, 6), [POOL | SWITCHES], [UNPOOL], True),
        ((1, 8, 8), [POOL | {"repeat": 2}], [TRANSPOSED | {"repeat": 2}], True),
        ((1, 4, 6), [CONV_1], [CONV_1], False),
        ((1, 4, 4), ["flatten", linear(3)], [linear(16), {"kind": "unflatten", "shape": [1, 4, 4]}], False),
        # Upsampling in the encoder leaves no artifacts in the output.
        ((1, 4, 6), [UPSAMPLE], [POOL], False),
        ((1, 9, 9), [{"kind": "max_pool", "kernel_size": 3}], [{"kind": "upsample", "scale_factor": 3}], False),
        ((1, 4, 9), [{"kind": "max_pool", "kernel_size": [1, 3]}], [
            {"kind": "conv_transpose", "out_channels": 1, "kernel_size": [1, 3], "stride": [1, 3]}], False),
        ((1, 9, 4), [{"kind": "max_pool", "kernel_size": [3, 1]}], [
            {"kind": "conv_transpose", "out_channels": 1, "kernel_size": [3, 1], "stride": [3, 1]}], False),
        ((2, 8), [POOL], [UPSAMPLE], False),
    ],
)  # fmt: skip
def test_it_applies_to_images_of_even_size_from_decoders_that_upsample(
    shape: tuple[int, ...], encoder: list[Any], decoder: list[Any], expected: bool
) -> None:
    assert ("checkerboard" in measure(net(shape, encoder, decoder), uniform(3, *shape))) == expected
