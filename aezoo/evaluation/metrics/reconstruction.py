"""How far reconstructions are from their targets."""

from typing import Literal

from torch import Tensor

from aezoo.data.samples import Batch
from aezoo.evaluation.evaluate import Meter, NotMeasured, double
from aezoo.model.autoencoder import Autoencoder, Output
from aezoo.specs.components import MetricSpec


class _SquaredError(Meter):
    def __init__(self, per_row: bool) -> None:
        self.per_row = per_row
        self.total, self.rows, self.elements = 0.0, 0, 0

    def update(self, output: Output, rows: Batch) -> None:
        self.total += float((double(output.x_hat) - double(rows.target)).square().sum())
        self.rows += len(rows.target)
        self.elements += rows.target.numel()

    def value(self) -> float:
        return self.total / (self.rows if self.per_row else self.elements)


class MseMetric(MetricSpec):
    """Mean squared error of a reconstruction."""

    kind: Literal["mse"] = "mse"
    definition = "squared difference between reconstruction and target, mean over elements and samples"
    better = "lower"

    def build(self, ae: Autoencoder) -> Meter:
        """Makes the meter."""
        return _SquaredError(per_row=False)


class SseMetric(MetricSpec):
    """Squared error of a whole sample."""

    kind: Literal["sse"] = "sse"
    definition = (
        "squared difference between reconstruction and target, summed over elements, mean over samples"
    )
    better = "lower"

    def build(self, ae: Autoencoder) -> Meter:
        """Makes the meter."""
        return _SquaredError(per_row=True)


class _Fvu(Meter):
    def __init__(self, mean: Tensor | None) -> None:
        self.mean = None if mean is None else double(mean)
        self.error, self.variance = 0.0, 0.0

    def update(self, output: Output, rows: Batch) -> None:
        if self.mean is None:
            return
        target = double(rows.target)
        self.error += float((double(output.x_hat) - target).square().sum())
        self.variance += float((target - self.mean).square().sum())

    def value(self) -> float:
        if self.mean is None:
            raise NotMeasured("the mean of the training targets is not known")
        if self.variance == 0:
            raise NotMeasured("the targets do not vary")
        return self.error / self.variance


class FvuMetric(MetricSpec):
    """Fraction of variance unexplained."""

    kind: Literal["fvu"] = "fvu"
    definition = (
        "squared error over squared distance of the targets from the training mean; predicting that mean "
        "gives 1"
    )
    better = "lower"

    def build(self, ae: Autoencoder) -> Meter:
        """Makes the meter."""
        return _Fvu(ae.target_mean)
