"""Checkerboard artifacts of upsampling.

Odena, Dumoulin and Olah, doi:10.23915/distill.00003.
"""

from typing import cast

import torch
from torch import Tensor
from typing_extensions import override

from aezoo.data.samples import Batch
from aezoo.evaluation.metric import Metric, NotMeasured, double
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.layers.conv import ConvTransposeSpec, MaxUnpoolSpec, UpsampleSpec
from aezoo.model.output import Output
from aezoo.specs.components import LayerSpec


class CheckerboardMetric(Metric):
    """Power of the error in patterns that alternate from pixel to pixel, which upsampling by two leaves."""

    kind = "checkerboard"
    definition = (
        "power of the error at the sampling frequency of an upsampling by two, 1/2 cycle per pixel (along "
        "rows, columns and both, averaged), over its mean power at all frequencies but 0; 1 for white error"
    )
    better = "lower"

    def __init__(self, ae: Autoencoder) -> None:
        super().__init__(ae)
        self.power = torch.zeros(ae.spec.output.shape[1:], dtype=torch.float64, device="cpu")

    @classmethod
    @override
    def applies(cls, ae: Autoencoder) -> bool:
        shape = ae.spec.output.shape
        upsamples = any(_upsamples(layer) for layer in ae.spec.resolved().decoder)
        return upsamples and len(shape) == 3 and shape[1] % 2 == shape[2] % 2 == 0

    @override
    def update(self, output: Output, batch: Batch) -> None:
        self.power += error_power(output.x_hat, batch.target).cpu()

    @override
    def compute(self) -> float:
        height, width = self.power.shape
        middle, center = height // 2, width // 2
        mean = (self.power.sum() - self.power[0, 0]) / (height * width - 1)
        if mean == 0:
            raise NotMeasured("the error is the same everywhere")
        alternating = self.power[middle, 0] + self.power[0, center] + self.power[middle, center]
        return float(alternating / 3 / mean)


def error_power(x_hat: Tensor, target: Tensor) -> Tensor:
    """Power of the error at each frequency, summed over samples and channels.

    Args:
        x_hat: (batch, channels, height, width).
        target: (batch, channels, height, width).

    Returns:
        (height, width), with frequencies in the order of `torch.fft.fft2`: frequency 0 is at [0, 0].
    """
    spectrum = cast(Tensor, torch.fft.fft2(double(x_hat) - double(target)))
    return spectrum.abs().square().sum((0, 1))


def _upsamples(layer: LayerSpec) -> bool:
    if isinstance(layer, ConvTransposeSpec):
        return layer.stride not in (1, (1, 1))
    return isinstance(layer, MaxUnpoolSpec | UpsampleSpec)
