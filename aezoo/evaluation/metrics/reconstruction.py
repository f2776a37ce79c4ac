"""Squared error of reconstructions: MSE, SSE and FVU."""

import math

from torch import Tensor
from typing_extensions import override

from aezoo.data.samples import Batch
from aezoo.evaluation.metric import MeanMetric, NotMeasured, squared_error
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.output import Output


class _SquaredErrorMetric(MeanMetric):
    better = "lower"

    @override
    def values(self, output: Output, batch: Batch) -> Tensor:
        return squared_error(output.x_hat, batch.target)


class MseMetric(_SquaredErrorMetric):
    """Mean squared error of a reconstruction."""

    kind = "mse"
    definition = "squared difference between reconstruction and target, mean over elements and samples"


class SseMetric(_SquaredErrorMetric):
    """Squared error of a whole sample."""

    kind = "sse"
    definition = (
        "squared difference between reconstruction and target, summed over elements, mean over samples"
    )

    @override
    def compute(self) -> float:
        return self.total / (self.count // math.prod(self.ae.spec.output.shape))


class FvuMetric(_SquaredErrorMetric):
    """Fraction of variance unexplained."""

    kind = "fvu"
    definition = (
        "squared error over squared distance of the targets from the training mean; predicting that mean "
        "gives 1"
    )

    def __init__(self, ae: Autoencoder) -> None:
        super().__init__(ae)
        self.variation = 0.0

    @override
    def update(self, output: Output, batch: Batch) -> None:
        super().update(output, batch)
        if self.ae.target_mean is not None:
            self.variation += float(squared_error(batch.target, self.ae.target_mean).sum())

    @override
    def compute(self) -> float:
        if self.ae.target_mean is None:
            raise NotMeasured("the mean of the training targets is not known")
        if self.variation == 0:
            raise NotMeasured("the targets do not vary")
        return self.total / self.variation
