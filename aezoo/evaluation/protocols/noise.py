"""Noise protocol: denoising of Gaussian noise, which the network need not have been trained on."""

from typing_extensions import override

from aezoo.data.noises import GaussianSpec
from aezoo.evaluation.evaluate import Measurement, run_metrics
from aezoo.evaluation.metrics.denoising import DenoisedMseMetric, NoisyInputMseMetric
from aezoo.evaluation.protocols.protocol import Protocol
from aezoo.model.autoencoder import Autoencoder


class Noise(Protocol):
    """Measures the error of reconstructions of noisy inputs, and of the noisy inputs for comparison."""

    name = "noise"
    summary = "error from an input with Gaussian noise of variance 0.1 to the clean target"
    gives = ("gaussian.denoised_mse", "gaussian.noisy_input_mse")
    NOISE = GaussianSpec(std=0.1**0.5, clip=(0.0, 1.0))

    @classmethod
    @override
    def incompatibility(cls, ae: Autoencoder) -> str | None:
        if reason := super().incompatibility(ae):
            return reason
        if ae.spec.input.range != (0, 1) or ae.spec.target is not None:
            return "it is defined for inputs in [0, 1] that are their own target"
        return None

    @override
    def run(self) -> dict[str, Measurement]:
        samples = self.samples("test")
        metrics = [metric(self.ae, (self.NOISE,)) for metric in (DenoisedMseMetric, NoisyInputMseMetric)]
        run_metrics(metrics, self.ae, samples)
        definition = (
            "squared difference between {} with Gaussian noise of variance 0.1, clipped to [0, 1], and the "
            "clean target, mean over elements and samples"
        )
        whats = ("the reconstruction of the input", "the input")
        return {
            name: self.measurement(metric.compute(), len(samples), definition.format(what))
            for name, metric, what in zip(self.gives, metrics, whats, strict=True)
        }
