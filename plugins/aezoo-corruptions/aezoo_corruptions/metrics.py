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


class DenoisedMseMetric(aezoo.Metric):
    """Mean squared error from an input with one corruption to the clean target."""

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


def _metric(noise: aezoo.NoiseSpec, words: str) -> type[DenoisedMseMetric]:
    name = str(noise.kind_name).removeprefix("corruptions.")
    members = {
        "__doc__": f"Mean squared error from an input with {words} to the clean target.",
        "kind": f"corruptions.{name}_mse",
        "definition": f"squared difference between the reconstruction of an input with {words} and the clean "
        "target, mean over elements and samples",
        "noise": noise,
    }
    return type(f"{name.title()}Metric", (DenoisedMseMetric,), members)


METRICS = (
    _metric(ShotSpec(), "shot noise"),
    _metric(ImpulseSpec(), "impulse noise"),
    _metric(BlurSpec(), "blur"),
    _metric(OcclusionSpec(), "an occluded rectangle"),
    _metric(BrightnessSpec(), "another brightness"),
    _metric(AffineSpec(), "a shift and a rotation"),
    _metric(StripesSpec(), "inverted stripes"),
)
