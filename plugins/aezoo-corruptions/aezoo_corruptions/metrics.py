"""Denoising error of each corruption of a mixture by itself."""

from typing import ClassVar

from torch import Generator
from typing_extensions import override

import aezoo
from aezoo_corruptions.noises import (
    AffineSpec,
    BlurSpec,
    BrightnessSpec,
    ImpulseSpec,
    MixtureSpec,
    OcclusionSpec,
    ShotSpec,
    StripesSpec,
)

SEED = 0


class _DenoisedMseMetric(aezoo.Metric):
    """Mean squared error from a corrupted input to the clean target."""

    better = "lower"
    noise: ClassVar[aezoo.NoiseSpec]

    def __init__(self, ae: aezoo.Autoencoder) -> None:
        super().__init__(ae)
        self.generator = Generator().manual_seed(SEED)
        self.error, self.elements = 0.0, 0

    @classmethod
    @override
    def applies(cls, ae: aezoo.Autoencoder) -> bool:
        recipe = getattr(ae.spec, "recipe", None)
        return recipe is not None and any(isinstance(noise, MixtureSpec) for noise in recipe.noises)

    @override
    def update(self, output: aezoo.Output, batch: aezoo.Batch) -> None:
        x_hat = self.ae(self.noise(batch.input, self.generator)).x_hat
        self.error += float((x_hat.double() - batch.target.double()).square().sum())
        self.elements += batch.target.numel()

    @override
    def compute(self) -> float:
        return self.error / self.elements


def _definition(corruption: str) -> str:
    return (
        f"squared difference between the reconstruction of an input with {corruption} and the clean target, "
        "mean over elements and samples"
    )


class ShotMetric(_DenoisedMseMetric):
    """Error on inputs with shot noise."""

    kind = "corruptions.shot_mse"
    definition = _definition("shot noise")
    noise = ShotSpec()


class ImpulseMetric(_DenoisedMseMetric):
    """Error on inputs with impulse noise."""

    kind = "corruptions.impulse_mse"
    definition = _definition("impulse noise")
    noise = ImpulseSpec()


class BlurMetric(_DenoisedMseMetric):
    """Error on blurred inputs."""

    kind = "corruptions.blur_mse"
    definition = _definition("blur")
    noise = BlurSpec()


class OcclusionMetric(_DenoisedMseMetric):
    """Error on partly occluded inputs."""

    kind = "corruptions.occlusion_mse"
    definition = _definition("an occluded rectangle")
    noise = OcclusionSpec()


class BrightnessMetric(_DenoisedMseMetric):
    """Error on inputs of another brightness."""

    kind = "corruptions.brightness_mse"
    definition = _definition("another brightness")
    noise = BrightnessSpec()


class AffineMetric(_DenoisedMseMetric):
    """Error on shifted and rotated inputs."""

    kind = "corruptions.affine_mse"
    definition = _definition("a shift and a rotation")
    noise = AffineSpec()


class StripesMetric(_DenoisedMseMetric):
    """Error on inputs with inverted stripes."""

    kind = "corruptions.stripes_mse"
    definition = _definition("inverted stripes")
    noise = StripesSpec()


METRICS = (
    ShotMetric, ImpulseMetric, BlurMetric, OcclusionMetric, BrightnessMetric, AffineMetric, StripesMetric,
)  # fmt: skip
