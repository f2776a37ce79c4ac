"""Reconstruction terms. Rows are averaged, always; over a row's elements the reduction is declared."""

import math
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from aezoo.errors import DataError
from aezoo.model.autoencoder import Autoencoder, Output, StepContext
from aezoo.specs.base import PositiveFloat
from aezoo.specs.components import LossSpec, output_bounds

Reduction = Literal["mean", "sum"]


def reduce_rows(elements: Float[Tensor, "batch *shape"], reduction: Reduction) -> Float[Tensor, ""]:
    """The mean over rows of each row's mean or sum."""
    return elements.mean() if reduction == "mean" else elements.flatten(1).sum(1).mean()


class MseSpec(LossSpec):
    """Squared difference between reconstruction and target."""

    kind: Literal["mse"] = "mse"
    role = "reconstruction"
    reduction: Reduction = "mean"
    """Over the elements of a row."""

    def __call__(self, output: Output, batch: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        """A scalar, at least 0."""
        return reduce_rows((output.x_hat - batch.target).square(), self.reduction)


class BceSpec(LossSpec):
    """Binary cross-entropy in nats between a reconstruction and a target that both lie in [0, 1].

    The decoder must end in a sigmoid or anything else that stays in [0, 1].
    """

    kind: Literal["bce"] = "bce"
    role = "reconstruction"
    reduction: Reduction = "mean"
    """Over the elements of a row."""

    def incompatibility(self, ae: Autoencoder) -> str | None:
        """A target or a decoder that leaves [0, 1]."""
        wanted = ae.spec.output.range
        if wanted is not None and not (wanted[0] >= 0 and wanted[1] <= 1):
            return f"bce needs targets in [0, 1], their range is {list(wanted)}"
        low, high = output_bounds(ae.spec.decoder)
        if low < 0 or high > 1:
            return f"bce needs a decoder that stays in [0, 1], its last layers give {low:g} to {high:g}"
        return None

    def __call__(self, output: Output, batch: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        """A scalar, at least 0.

        Raises:
            DataError: a reconstruction or a target outside [0, 1].
        """
        for name, values in (("reconstruction", output.x_hat), ("target", batch.target)):
            low, high = (float(value) for value in values.detach().aminmax())
            if math.isnan(low):
                # PyTorch raises (on a GPU: dies) where other losses become NaN, which the trainer reports.
                return output.x_hat.sum() * math.nan
            if low < 0 or high > 1:
                raise DataError(
                    f"bce needs values in [0, 1], the {name} has {low:g} to {high:g}; "
                    "end the decoder in a sigmoid and declare a range of [0, 1]"
                )
        elements = F.binary_cross_entropy(output.x_hat, batch.target, reduction="none")
        return reduce_rows(elements, self.reduction)


class L1Spec(LossSpec):
    """Absolute difference between reconstruction and target."""

    kind: Literal["l1"] = "l1"
    role = "reconstruction"
    reduction: Reduction = "mean"
    """Over the elements of a row."""

    def __call__(self, output: Output, batch: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        """A scalar, at least 0."""
        return reduce_rows((output.x_hat - batch.target).abs(), self.reduction)


class HuberSpec(LossSpec):
    """Half the squared difference up to `delta`, linear beyond (Huber, Ann. Math. Statist. 35, 1964)."""

    kind: Literal["huber"] = "huber"
    role = "reconstruction"
    delta: PositiveFloat = 1.0
    """Where it turns linear, in units of the target."""
    reduction: Reduction = "mean"
    """Over the elements of a row."""

    def __call__(self, output: Output, batch: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        """A scalar, at least 0."""
        elements = F.huber_loss(output.x_hat, batch.target, reduction="none", delta=self.delta)
        return reduce_rows(elements, self.reduction)
