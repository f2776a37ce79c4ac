"""Squared error of reconstructions: MSE, SSE and FVU."""

from typing_extensions import override

from aezoo.data.samples import Batch
from aezoo.evaluation.metric import Metric, NotMeasured, double
from aezoo.model.autoencoder import Autoencoder, Output


class _SquaredErrorMetric(Metric):
    better = "lower"

    def __init__(self, ae: Autoencoder) -> None:
        super().__init__(ae)
        self.error, self.samples, self.elements = 0.0, 0, 0

    @override
    def update(self, output: Output, batch: Batch) -> None:
        self.error += float((double(output.x_hat) - double(batch.target)).square().sum())
        self.samples += len(batch.target)
        self.elements += batch.target.numel()


class MseMetric(_SquaredErrorMetric):
    """Mean squared error of a reconstruction."""

    kind = "mse"
    definition = "squared difference between reconstruction and target, mean over elements and samples"

    @override
    def compute(self) -> float:
        return self.error / self.elements


class SseMetric(_SquaredErrorMetric):
    """Squared error of a whole sample."""

    kind = "sse"
    definition = (
        "squared difference between reconstruction and target, summed over elements, mean over samples"
    )

    @override
    def compute(self) -> float:
        return self.error / self.samples


class FvuMetric(_SquaredErrorMetric):
    """Fraction of variance unexplained."""

    kind = "fvu"
    definition = (
        "squared error over squared distance of the targets from the training mean; predicting that mean "
        "gives 1"
    )

    def __init__(self, ae: Autoencoder) -> None:
        super().__init__(ae)
        self.mean = None if ae.target_mean is None else double(ae.target_mean)
        self.variation = 0.0

    @override
    def update(self, output: Output, batch: Batch) -> None:
        super().update(output, batch)
        if self.mean is not None:
            self.variation += float((double(batch.target) - self.mean).square().sum())

    @override
    def compute(self) -> float:
        if self.mean is None:
            raise NotMeasured("the mean of the training targets is not known")
        if self.variation == 0:
            raise NotMeasured("the targets do not vary")
        return self.error / self.variation
