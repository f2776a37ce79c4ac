"""What a denoiser that was trained on a mixture makes of each corruption by itself."""

from typing import Any, ClassVar, Literal

from torch import Generator

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


class _Restored(aezoo.Meter):
    """Mean squared error from a corrupted input to the clean target."""

    def __init__(self, ae: aezoo.Autoencoder, noise: aezoo.NoiseSpec) -> None:
        self.ae, self.noise = ae, noise
        self.generator = Generator().manual_seed(SEED)
        self.total, self.elements = 0.0, 0

    def update(self, output: aezoo.Output, rows: aezoo.Batch) -> None:
        x_hat = self.ae(self.noise(rows.input, self.generator)).x_hat
        self.total += float((x_hat.double() - rows.target.double()).square().sum())
        self.elements += rows.target.numel()

    def value(self) -> float:
        return self.total / self.elements


class _OnEach(aezoo.MetricSpec):
    better = "lower"
    noise: ClassVar[aezoo.NoiseSpec]

    def applies(self, ae: aezoo.Autoencoder) -> bool:
        """To recipes that corrupt by a mixture."""
        recipe = getattr(ae.spec, "recipe", None)
        return recipe is not None and any(isinstance(noise, MixtureSpec) for noise in recipe.noises)

    def build(self, ae: aezoo.Autoencoder) -> Any:
        """Makes the meter."""
        return _Restored(ae, self.noise)


def _definition(word: str) -> str:
    return f"squared difference between the reconstruction of an input with {word} and the clean target, mean over elements and samples"  # noqa: E501


class ShotMetric(_OnEach):
    """Error behind shot noise."""

    kind: Literal["corruptions.shot_mse"] = "corruptions.shot_mse"
    definition = _definition("shot noise")
    noise = ShotSpec()


class ImpulseMetric(_OnEach):
    """Error behind impulse noise."""

    kind: Literal["corruptions.impulse_mse"] = "corruptions.impulse_mse"
    definition = _definition("impulse noise")
    noise = ImpulseSpec()


class BlurMetric(_OnEach):
    """Error behind blur."""

    kind: Literal["corruptions.blur_mse"] = "corruptions.blur_mse"
    definition = _definition("blur")
    noise = BlurSpec()


class OcclusionMetric(_OnEach):
    """Error behind occlusion."""

    kind: Literal["corruptions.occlusion_mse"] = "corruptions.occlusion_mse"
    definition = _definition("an occluded rectangle")
    noise = OcclusionSpec()


class BrightnessMetric(_OnEach):
    """Error behind a change of brightness."""

    kind: Literal["corruptions.brightness_mse"] = "corruptions.brightness_mse"
    definition = _definition("another brightness")
    noise = BrightnessSpec()


class AffineMetric(_OnEach):
    """Error behind a shift and a rotation."""

    kind: Literal["corruptions.affine_mse"] = "corruptions.affine_mse"
    definition = _definition("a shift and a rotation")
    noise = AffineSpec()


class StripesMetric(_OnEach):
    """Error behind inverted stripes."""

    kind: Literal["corruptions.stripes_mse"] = "corruptions.stripes_mse"
    definition = _definition("inverted stripes")
    noise = StripesSpec()


METRICS = (
    ShotMetric, ImpulseMetric, BlurMetric, OcclusionMetric, BrightnessMetric, AffineMetric, StripesMetric,
)  # fmt: skip
