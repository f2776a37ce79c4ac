"""Activity protocol: latents that are clearly active, relative to their largest value in training."""

from typing_extensions import override

from aezoo.evaluation.evaluate import Measurement
from aezoo.evaluation.protocols.protocol import Protocol


class Activity(Protocol):
    """Counts the latents of a sample that are above 1 % of their largest value in training."""

    name = "activity"
    summary = "latents above 1 % of the largest value that each had on the training split"
    gives = ("active_latents",)
    SHARE = 0.01

    @override
    def run(self) -> dict[str, Measurement]:
        largest = self.latents(self.training_samples()).abs().amax(0)
        latents = self.latents(self.samples("test")).abs()
        value = float((latents > self.SHARE * largest).sum(1).double().mean())
        definition = (
            "latents whose absolute value is above 1 % of the largest that they had for a training sample, "
            "counted for each sample, mean over samples"
        )
        return {"active_latents": self.measurement(value, len(latents), definition)}
