"""Artefacts that upsampling leaves in images: Odena, Dumoulin and Olah, doi:10.23915/distill.00003."""

from typing import Literal, cast

import torch
from torch import Tensor

from aezoo.data.samples import Batch
from aezoo.evaluation.evaluate import Meter, NotMeasured, double
from aezoo.model.autoencoder import Autoencoder, Output
from aezoo.model.layers.conv import ConvTransposeSpec, MaxUnpoolSpec, UpsampleSpec
from aezoo.specs.components import LayerSpec, MetricSpec


def error_power(x_hat: Tensor, target: Tensor) -> Tensor:
    """Power of the error at each frequency, summed over samples and channels.

    Args:
        x_hat: (batch, channels, height, width).
        target: likewise.

    Returns:
        (height, width), frequency 0 at [0, 0] as `torch.fft.fft2` has it.
    """
    spectrum = cast(Tensor, torch.fft.fft2(double(x_hat) - double(target)))
    return spectrum.abs().square().sum((0, 1))


class _Checkerboard(Meter):
    def __init__(self) -> None:
        self.power: Tensor | None = None

    def update(self, output: Output, rows: Batch) -> None:
        found = error_power(output.x_hat, rows.target)
        self.power = found if self.power is None else self.power + found

    def value(self) -> float:
        if self.power is None:
            raise NotMeasured("no samples")
        height, width = self.power.shape
        top, left = height // 2, width // 2
        others = (self.power.sum() - self.power[0, 0]) / (height * width - 1)
        if others == 0:
            raise NotMeasured("the error is the same everywhere")
        at = self.power[top, 0] + self.power[0, left] + self.power[top, left]
        return float(at / 3 / others)


def _upsamples(layer: LayerSpec) -> bool:
    if isinstance(layer, ConvTransposeSpec):
        return layer.stride not in (1, (1, 1))
    return isinstance(layer, MaxUnpoolSpec | UpsampleSpec)


class CheckerboardMetric(MetricSpec):
    """Energy of a pattern that alternates from pixel to pixel, as upsampling by two leaves it."""

    kind: Literal["checkerboard"] = "checkerboard"
    definition = (
        "power of the error at the sampling frequency of an upsampling by two, 1/2 cycle per pixel (along "
        "rows, columns and both, averaged), over its mean power at all frequencies but 0; 1 for white error"
    )
    better = "lower"

    def applies(self, ae: Autoencoder) -> bool:
        """To images of even size from a decoder that upsamples."""
        shape = ae.spec.output.shape
        upsamples = any(_upsamples(layer) for layer in ae.spec.resolved().decoder)
        return upsamples and len(shape) == 3 and shape[1] % 2 == shape[2] % 2 == 0

    def build(self, ae: Autoencoder) -> Meter:
        """Makes the meter."""
        return _Checkerboard()
