"""PSNR and SSIM of reconstructed images, against their formulas."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from aezoo.data.samples import Samples
from aezoo.errors import NotSupportedError
from aezoo.evaluation.protocols import run_protocol
from tests.evaluation.networks import values
from tests.evaluation.protocols.networks import build, dataset, dense

SIDE = 16


def ssim(x: np.ndarray, y: np.ndarray) -> float:
    """SSIM of two channels in [0, 1], without the border of 5 pixels (Wang et al. 2004)."""

    def mean(z: np.ndarray) -> np.ndarray:
        return gaussian_filter(z, sigma=1.5, truncate=3.5)

    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    full = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(full[5:-5, 5:-5].mean())


def network(channels: int = 1, limits: tuple[float, float] = (0, 1), side: int = SIDE):
    """A linear network that halves each value of a flattened image and adds 0.3, and its test images."""
    generator = torch.Generator().manual_seed(0)
    # Smooth images, so that their structure matters.
    noise = torch.rand(7, channels, side, side, generator=generator)
    pixels = torch.from_numpy(gaussian_filter(noise.numpy(), (0, 0, 2, 2)))
    pixels = ((pixels - pixels.min()) / (pixels.max() - pixels.min()) * 255).byte()
    data = dataset(**dict.fromkeys(("train", "validation", "test"), Samples(pixels)))
    n = channels * side**2
    ae = build(
        data,
        [{"kind": "flatten"}, dense(n, bias=True)],
        [dense(n), {"kind": "unflatten", "shape": [channels, side, side]}],
        input={"shape": [channels, side, side], "range": list(limits)},
    )
    low, high = limits
    weights = {
        "encoder.1.linear.weight": torch.eye(n) / 2,
        "encoder.1.linear.bias": torch.full((n,), 0.3 * (high - low)),
        "decoder.0.linear.weight": torch.eye(n),
    }
    ae.load_state_dict(weights)
    return ae, pixels.double() / 255


@pytest.mark.parametrize("channels", [1, 3])
def test_values_follow_the_formulas(channels: int) -> None:
    ae, x = network(channels)
    x_hat = (x / 2 + 0.3).clamp(0, 1)
    found = run_protocol("image-quality", ae)
    mse = (x_hat - x).flatten(1).square().mean(1)
    assert found["psnr"]["value"] == pytest.approx(float((10 * (1 / mse).log10()).mean()), rel=1e-5)
    each = [ssim(x[i, c].numpy(), x_hat[i, c].numpy()) for i in range(len(x)) for c in range(channels)]
    assert found["ssim"]["value"] == pytest.approx(float(np.mean(each)), rel=1e-4)
    assert found["ssim"]["value"] < 0.99
    assert [entry["n"] for entry in found.values()] == [7, 7]


def test_values_do_not_depend_on_the_range() -> None:
    # The same images in other units: x in [-1, 1] is 2x - 1, of which a network with the same weights, but for
    # the bias, gives the same reconstruction.
    ae, _ = network(limits=(-1, 1))
    bias = ae.encoder[1].linear.bias
    with torch.no_grad():
        # 2(x / 2 + 0.3) - 1 = (2x - 1) / 2 + 0.1
        assert isinstance(bias, Tensor)
        bias.fill_(0.1)
    wide, unit = run_protocol("image-quality", ae), run_protocol("image-quality", network()[0])
    assert values(wide) == pytest.approx(values(unit), rel=1e-5)


def test_values_outside_the_range_are_clipped() -> None:
    ae, x = network()
    with torch.no_grad():
        ae.encoder[1].linear.weight.zero_()
        ae.encoder[1].linear.bias.fill_(5.0)
    mse = (1 - x).flatten(1).square().mean(1)
    found = run_protocol("image-quality", ae)
    assert found["psnr"]["value"] == pytest.approx(float((-10 * mse.log10()).mean()), rel=1e-5)


def test_an_image_without_error_has_no_psnr() -> None:
    ae, _ = network()
    with torch.no_grad():
        ae.encoder[1].linear.weight.copy_(torch.eye(SIDE**2))
        ae.encoder[1].linear.bias.zero_()
    found = run_protocol("image-quality", ae)
    assert found["psnr"]["value"] is None
    assert "inf" in str(found["psnr"]["reason"])
    assert found["ssim"]["value"] == pytest.approx(1)
    assert not math.isnan(found["ssim"]["value"] or 0)


def test_small_images_and_other_data_are_refused() -> None:
    with pytest.raises(NotSupportedError, match="at least 11 x 11 pixels"):
        run_protocol("image-quality", network(side=10)[0])
    data = dataset(**dict.fromkeys(("train", "validation", "test"), Samples(torch.rand(5, 3))))
    with pytest.raises(NotSupportedError, match="it is defined for images"):
        run_protocol("image-quality", build(data, [dense(2)], [dense(3)], input={"shape": [3]}))
