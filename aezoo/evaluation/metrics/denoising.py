"""What a denoiser makes of its input as the recipe corrupts it."""

from typing import Literal

from torch import Generator, Tensor

from aezoo.data.samples import Batch
from aezoo.evaluation.evaluate import EVAL_SEED, Meter, double
from aezoo.model.autoencoder import Autoencoder, Output
from aezoo.specs.components import MetricSpec, NoiseSpec
from aezoo.specs.variant import VariantSpec

Compared = Literal["denoised to clean", "noisy to clean", "denoised to noisy"]


class Denoising(Meter):
    """Mean squared difference of two of: the clean target, the noisy input, what is made of that.

    Args:
        ae: run on the noisy input.
        noises: applied in order, from a seed of their own.
        compared: which two.
    """

    def __init__(self, ae: Autoencoder, noises: tuple[NoiseSpec, ...], compared: Compared) -> None:
        self.ae, self.noises, self.compared = ae, noises, compared
        self.generator = Generator().manual_seed(EVAL_SEED)
        self.total, self.elements = 0.0, 0

    def update(self, output: Output, rows: Batch) -> None:
        """Takes in a batch; what the network gave for the clean input is not used."""
        noisy = corrupted(rows.input, self.noises, self.generator)
        left = noisy if self.compared == "noisy to clean" else self.ae(noisy).x_hat
        right = noisy if self.compared == "denoised to noisy" else rows.target
        self.total += float((double(left) - double(right)).square().sum())
        self.elements += rows.target.numel()

    def value(self) -> float:
        """The mean over elements and samples."""
        return self.total / self.elements


def corrupted(x: Tensor, noises: tuple[NoiseSpec, ...], generator: Generator) -> Tensor:
    """A batch with noises applied in order, of the same shape."""
    for noise in noises:
        x = noise(x, generator)
    return x


def recipe_noises(ae: Autoencoder) -> tuple[NoiseSpec, ...]:
    """What the recipe corrupts inputs by."""
    return ae.spec.recipe.noises if isinstance(ae.spec, VariantSpec) else ()


class DenoisedMseMetric(MetricSpec):
    """Error of a denoiser: from a corrupted input to the clean target (Vincent et al., ICML 2008)."""

    kind: Literal["denoised_mse"] = "denoised_mse"
    definition = (
        "squared difference between the reconstruction of the input as the recipe corrupts it and the clean "
        "target, mean over elements and samples"
    )
    better = "lower"

    def applies(self, ae: Autoencoder) -> bool:
        """To recipes with noises."""
        return bool(recipe_noises(ae))

    def build(self, ae: Autoencoder) -> Meter:
        """Makes the meter."""
        return Denoising(ae, recipe_noises(ae), "denoised to clean")


class NoisyInputMseMetric(MetricSpec):
    """Error of the corrupted input itself: what doing nothing would cost."""

    kind: Literal["noisy_input_mse"] = "noisy_input_mse"
    definition = (
        "squared difference between the input as the recipe corrupts it and the clean target, mean over "
        "elements and samples"
    )

    def applies(self, ae: Autoencoder) -> bool:
        """To recipes with noises, where the target has the input's shape."""
        return bool(recipe_noises(ae)) and ae.spec.output.shape == ae.spec.input.shape

    def build(self, ae: Autoencoder) -> Meter:
        """Makes the meter."""
        return Denoising(ae, recipe_noises(ae), "noisy to clean")


class NoisyTargetMseMetric(MetricSpec):
    """Distance of a denoiser's output from the corrupted input: what copying would make 0."""

    kind: Literal["noisy_target_mse"] = "noisy_target_mse"
    definition = (
        "squared difference between the reconstruction of the input as the recipe corrupts it and that "
        "input, mean over elements and samples"
    )

    def applies(self, ae: Autoencoder) -> bool:
        """To recipes with noises, where the target has the input's shape."""
        return bool(recipe_noises(ae)) and ae.spec.output.shape == ae.spec.input.shape

    def build(self, ae: Autoencoder) -> Meter:
        """Makes the meter."""
        return Denoising(ae, recipe_noises(ae), "denoised to noisy")
