"""Losses with faults."""

import random
from typing import Any, Literal

import torch
from pydantic import PrivateAttr
from torch import Tensor, nn

import aezoo
from tests.testing.planting import good, plant


@good()
class SquaredSpec(aezoo.LossSpec):
    kind: Literal["faulty.squared"] = "faulty.squared"
    role = "reconstruction"

    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        return (output.x_hat - context.target).square().mean()


@plant("loss/sums-rows", "rows-averaged")
class SumsRowsSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        return (output.x_hat - context.target).square().sum()


@plant("loss/divides-by-constant", "rows-averaged")
class DividesByConstantSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        return (output.x_hat - context.target).square().flatten(1).mean(1).sum() / 6


@plant("loss/applies-weight", "unweighted")
class AppliesWeightSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        return self.weight * super().__call__(output, context, ae)


@plant("loss/writes-the-output", "batch-intact", also=("gradient-reaches", "finite-when-perfect"))
class WritesTheOutputSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        return output.x_hat.sub_(context.target).square().mean()


@plant("loss/writes-the-target", "batch-intact")
class WritesTheTargetSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        value = super().__call__(output, context, ae)
        context.target.sub_(output.x_hat.detach())
        return value


@plant("loss/clips-the-latents", "batch-intact")
class ClipsTheLatentsSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        output.latents.data.clamp_(min=0)
        return super().__call__(output, context, ae)


NOT_A_NUMBER = ("rows-averaged", "unweighted", "gradient-reaches", "finite-when-perfect")


@plant("loss/not-a-scalar", "scalar", also=NOT_A_NUMBER)
class NotAScalarSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        return (output.x_hat - context.target).square().flatten(1).mean(1)


@plant("loss/no-gradient", "gradient-reaches")
class NoGradientSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        return super().__call__(output, context, ae).detach()


@plant("loss/no-gradient at the network", "gradient-reaches")
class GradientElsewhereSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        return (output.x_hat.detach().requires_grad_() - context.target).square().mean()


NOT_REPEATABLE = ("rows-averaged", "unweighted", "repeatable", "state-round-trip")


@plant("loss/global-random-state", "random-state", also=NOT_REPEATABLE)
class GlobalRandomStateSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        drawn = torch.rand_like(output.x_hat[0])
        return (drawn * (output.x_hat - context.target).square()).mean()


@plant("loss/global-random-state of Python", "random-state", also=NOT_REPEATABLE)
class PythonRandomStateSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        return (0.5 + random.random()) * super().__call__(output, context, ae)


@plant("loss/raises-in-incompatibility", "incompatibility", raises=True)
class RaisesInIncompatibilitySpec(SquaredSpec):
    def incompatibility(self, ae: Any) -> str | None:
        raise ValueError("it does not support this network")


@plant("loss/not-finite-when-perfect", "finite-when-perfect")
class InfiniteValueSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        return super().__call__(output, context, ae).log()


@plant("loss/not-finite-when-perfect in the gradient", "finite-when-perfect")
class InfiniteGradientSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        return super().__call__(output, context, ae).sqrt()


# -- losses with state --------------------------------------------------------------------------------


class _Relative(nn.Module):
    """The squared error relative to its running mean."""

    mean: Any

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones(()))

    def forward(self, output: Any, context: Any, ae: Any) -> Tensor:
        error = (output.x_hat - context.target).square().mean()
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * error.detach()
        return error / (1 + self.mean)


@good()
class RelativeSpec(SquaredSpec):
    kind: Literal["faulty.relative"] = "faulty.relative"

    def build(self) -> Any:
        return _Relative()


class _Unsaved(_Relative):
    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.mean = 1.0


@plant("loss/unsaved-state", "state-round-trip")
class UnsavedStateSpec(RelativeSpec):
    def build(self) -> Any:
        return _Unsaved()


class _AddsLastValue:
    def __init__(self) -> None:
        self.last = 0.0

    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        error = (output.x_hat - context.target).square().mean()
        value, self.last = error + 0.1 * self.last, float(error.detach())
        return value


@plant("loss/depends-on-last-value", "repeatable", also=("state-round-trip",))
class AddsLastValueSpec(SquaredSpec):
    def build(self) -> Any:
        return _AddsLastValue()


@plant("loss/depends-on-last-value in the spec", "repeatable", also=("state-round-trip",))
class KeepsLastValueSpec(SquaredSpec):
    _last: float = PrivateAttr(default=0.0)

    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        error = super().__call__(output, context, ae)
        value, self._last = error + 0.1 * self._last, float(error.detach())
        return value
