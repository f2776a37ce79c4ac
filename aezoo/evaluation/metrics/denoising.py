"""Denoising: the error on inputs that are corrupted by the noises of the recipe."""

from torch import Generator, Tensor
from typing_extensions import override

from aezoo.data.samples import Batch
from aezoo.evaluation.metric import EVAL_SEED, MeanMetric, recipe_of, squared_error
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.output import Output
from aezoo.specs.components import NoiseSpec


def apply_noises(x: Tensor, noises: tuple[NoiseSpec, ...], generator: Generator) -> Tensor:
    """Corrupts a batch by noises, one after another."""
    for noise in noises:
        x = noise(x, generator)
    return x


class _DenoisingMetric(MeanMetric):
    """Mean squared difference of two of: clean target, noisy input, reconstruction of the noisy input.

    Args:
        ae: the network to measure.
        noises: applied in order; those of the recipe by default.
    """

    def __init__(self, ae: Autoencoder, noises: tuple[NoiseSpec, ...] | None = None) -> None:
        super().__init__(ae)
        self.noises = _recipe_noises(ae) if noises is None else noises
        self.generator = Generator().manual_seed(EVAL_SEED)

    @classmethod
    @override
    def applies(cls, ae: Autoencoder) -> bool:
        return bool(_recipe_noises(ae)) and ae.spec.output.shape == ae.spec.input.shape

    def noisy(self, batch: Batch) -> Tensor:
        """The corrupted input of a batch."""
        return apply_noises(batch.input, self.noises, self.generator)


class DenoisedMseMetric(_DenoisingMetric):
    """Error of a denoiser: from a corrupted input to the clean target (Vincent et al., ICML 2008)."""

    kind = "denoised_mse"
    definition = (
        "squared difference between the reconstruction of the input as the recipe corrupts it and the clean "
        "target, mean over elements and samples"
    )
    better = "lower"

    @classmethod
    @override
    def applies(cls, ae: Autoencoder) -> bool:
        return bool(_recipe_noises(ae))

    @override
    def values(self, output: Output, batch: Batch) -> Tensor:
        return squared_error(self.ae(self.noisy(batch)).x_hat, batch.target)


class NoisyInputMseMetric(_DenoisingMetric):
    """Error of the corrupted input itself, which a network that copies its input would have."""

    kind = "noisy_input_mse"
    definition = (
        "squared difference between the input as the recipe corrupts it and the clean target, mean over "
        "elements and samples"
    )

    @override
    def values(self, output: Output, batch: Batch) -> Tensor:
        return squared_error(self.noisy(batch), batch.target)


class NoisyTargetMseMetric(_DenoisingMetric):
    """Distance of a denoiser's output from the corrupted input; 0 for a network that copies its input."""

    kind = "noisy_target_mse"
    definition = (
        "squared difference between the reconstruction of the input as the recipe corrupts it and that "
        "input, mean over elements and samples"
    )

    @override
    def values(self, output: Output, batch: Batch) -> Tensor:
        noisy = self.noisy(batch)
        return squared_error(self.ae(noisy).x_hat, noisy)


def _recipe_noises(ae: Autoencoder) -> tuple[NoiseSpec, ...]:
    recipe = recipe_of(ae)
    return () if recipe is None else recipe.noises
