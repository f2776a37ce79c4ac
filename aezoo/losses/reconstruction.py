"""Reconstruction terms: the distance of a reconstruction from its target.

Each is computed per element and averaged over rows; `reduction` says whether the elements of a row are
averaged or summed. Huber loss: Huber, Annals of Mathematical Statistics 35, 1964.
"""

import math
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from aezoo.errors import DataError
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.layers.activations import is_half
from aezoo.model.output import Output, StepContext
from aezoo.specs.base import PositiveFloat
from aezoo.specs.components import LossSpec, output_bounds

Reduction = Literal["mean", "sum"]


def at_least_float32(x: Tensor) -> Tensor:
    """A tensor in float16 or bfloat16 as float32, in which losses are computed; any other unchanged."""
    return x.float() if is_half(x) else x


def reduce_rows(elements: Float[Tensor, "batch *shape"], reduction: Reduction) -> Float[Tensor, ""]:
    """The mean over rows of each row's mean or sum."""
    return elements.mean() if reduction == "mean" else elements.flatten(1).sum(1).mean()


def difference(output: Output, context: StepContext) -> Float[Tensor, "batch *shape"]:
    """x_hat - target, in float32 or more."""
    return at_least_float32(output.x_hat) - at_least_float32(context.target)


class MseSpec(LossSpec):
    """Squared error, (x_hat - target)^2; at least 0."""

    kind: Literal["mse"] = "mse"
    examples = ({"reduction": "sum"},)
    role = "reconstruction"
    reduction: Reduction = "mean"
    """Over the elements of a row."""

    @override
    def __call__(self, output: Output, context: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        if self.reduction == "mean":
            # One pass forward and one backward; the formula below has three of each.
            return F.mse_loss(at_least_float32(output.x_hat), at_least_float32(context.target))
        return reduce_rows(difference(output, context).square(), self.reduction)


class BceSpec(LossSpec):
    """Binary cross-entropy, -target log(x_hat) - (1 - target) log(1 - x_hat), in nats; at least 0.

    Logarithms are limited to -100 or more, as in PyTorch. Reconstruction and target must be in [0, 1]: end
    the decoder in a sigmoid. The reconstruction must not be in float16 or bfloat16, where values close to 1
    are rounded to 1; under autocast, aezoo's sigmoid gives float32.
    """

    kind: Literal["bce"] = "bce"
    examples = ({"reduction": "sum"},)
    role = "reconstruction"
    reduction: Reduction = "mean"
    """Over the elements of a row."""

    @override
    def incompatibility(self, ae: Autoencoder) -> str | None:
        target = ae.spec.output.range
        if target is not None and not (target[0] >= 0 and target[1] <= 1):
            return f"bce needs targets in [0, 1], their range is {list(target)}"
        low, high = output_bounds(ae.spec.decoder)
        if low < 0 or high > 1:
            return f"bce needs a decoder that stays in [0, 1], its last layers give {low:g} to {high:g}"
        return None

    @override
    def __call__(self, output: Output, context: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        """The term.

        Raises:
            DataError: a reconstruction or a target outside [0, 1], or a reconstruction in half precision.
        """
        if is_half(output.x_hat):
            raise DataError(
                f"bce needs a reconstruction in float32, found {str(output.x_hat.dtype)[6:]}, in which "
                "values close to 1 are rounded to 1; keep the weights in float32 and use autocast"
            )
        target = at_least_float32(context.target)
        for name, values in (("reconstruction", output.x_hat), ("target", target)):
            low, high = (float(value) for value in values.detach().aminmax())
            if math.isnan(low):
                # PyTorch would raise, and on a GPU abort. The trainer reports a loss that is NaN.
                return output.x_hat.sum() * math.nan
            if low < 0 or high > 1:
                raise DataError(
                    f"bce needs values in [0, 1], the {name} has {low:g} to {high:g}; "
                    "end the decoder in a sigmoid and declare a range of [0, 1]"
                )
        elements = F.binary_cross_entropy(output.x_hat, target, reduction="none")
        return reduce_rows(elements, self.reduction)


class L1Spec(LossSpec):
    """Absolute error, |x_hat - target|; at least 0."""

    kind: Literal["l1"] = "l1"
    role = "reconstruction"
    reduction: Reduction = "mean"
    """Over the elements of a row."""

    @override
    def __call__(self, output: Output, context: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        return reduce_rows(difference(output, context).abs(), self.reduction)


class HuberSpec(LossSpec):
    """Half the squared error up to `delta`, delta (|x_hat - target| - delta / 2) beyond; at least 0."""

    kind: Literal["huber"] = "huber"
    examples = ({"delta": 0.5},)
    role = "reconstruction"
    delta: PositiveFloat = 1.0
    """Absolute error from which the loss is linear, in units of the target."""
    reduction: Reduction = "mean"
    """Over the elements of a row."""

    @override
    def __call__(self, output: Output, context: StepContext, ae: Autoencoder) -> Float[Tensor, ""]:
        x_hat, target = at_least_float32(output.x_hat), at_least_float32(context.target)
        elements = F.huber_loss(x_hat, target, reduction="none", delta=self.delta)
        return reduce_rows(elements, self.reduction)
