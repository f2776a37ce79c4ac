"""Losses, datasets and callbacks that record what training does, or interfere with it."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

import aezoo
from tests.training.networks import images

Term = Callable[[aezoo.Output, aezoo.StepContext, aezoo.Autoencoder], Tensor | None]


# -- losses -------------------------------------------------------------------------------------------


class DataTerm(aezoo.LossSpec):
    """The value of `of`, or the mean squared error if that is None."""

    kind: Literal["data_term"] = "data_term"
    role = "reconstruction"
    of: Any

    def __call__(self, output: aezoo.Output, context: aezoo.StepContext, ae: aezoo.Autoencoder) -> Tensor:
        value: Tensor | None = self.of(output, context, ae)
        return (output.x_hat - context.target).square().mean() if value is None else value


class Penalty(DataTerm):
    kind: Literal["extra"] = "extra"
    role = "penalty"


def constant(value: float) -> Term:
    return lambda output, context, ae: output.x_hat.sum() * 0 + value


def on_validation(term: type[DataTerm], *values: float) -> DataTerm:
    """A loss that trains as usual and has these values on validation, epoch by epoch."""

    def of(output: aezoo.Output, context: aezoo.StepContext, ae: aezoo.Autoencoder) -> Tensor | None:
        return None if ae.training else output.x_hat.sum() * 0 + values[int(context.epoch) - 1]

    return term(of=of)


class Recorder:
    """Keeps the contexts and outputs that a loss is given, in training and on validation."""

    def __init__(self) -> None:
        self.training: list[aezoo.StepContext] = []
        self.validation: list[aezoo.StepContext] = []
        self.outputs: list[aezoo.Output] = []
        self.term = DataTerm(of=self)

    def __call__(self, output: aezoo.Output, context: aezoo.StepContext, ae: aezoo.Autoencoder) -> None:
        (self.training if ae.training else self.validation).append(context)
        if ae.training:
            self.outputs.append(output)


class Likelihood(nn.Module):
    """Gaussian likelihood with a learned variance."""

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(()))
        self.modes: list[bool] = []

    def forward(self, output: aezoo.Output, context: aezoo.StepContext, ae: aezoo.Autoencoder) -> Tensor:
        self.modes.append(self.training)
        error = (output.x_hat - context.target).square().mean()
        return error / self.log_variance.exp() + self.log_variance


class LikelihoodSpec(aezoo.LossSpec):
    """Gives every module that it builds to `keep`."""

    kind: Literal["likelihood"] = "likelihood"
    role = "reconstruction"
    keep: Any

    def build(self) -> Likelihood:
        module = Likelihood()
        self.keep(module)
        return module


class LikelihoodPenaltySpec(LikelihoodSpec):
    kind: Literal["likelihood_penalty"] = "likelihood_penalty"
    role = "penalty"


# -- data ---------------------------------------------------------------------------------------------


class Tiny(aezoo.DatasetSpec):
    """Splits of 40, 12 and 8 rows; calls `on_load` with the name of each split that is loaded."""

    kind: Literal["tiny"] = "tiny"
    on_load: Any = str
    has_test: bool = True

    def load(self, split: str) -> aezoo.Samples:
        self.on_load(split)
        n, seed = {"train": (40, 1), "validation": (12, 2), "test": (8, 3)}[split]
        return aezoo.Samples((images(n, seed) * 255).byte())

    def has(self, split: str) -> bool:
        return self.has_test or split != "test"


# -- callbacks ----------------------------------------------------------------------------------------

HOOKS = ("on_fit_start", "on_epoch_start", "before_step", "after_step", "on_epoch_end")


class Calls(aezoo.Callback):
    """Calls a function with the name of every hook and the state."""

    def __init__(self, function: Callable[[str, aezoo.TrainingState], object]) -> None:
        for hook in HOOKS:
            setattr(self, hook, lambda state, hook=hook: function(hook, state))


def on(hook: str, function: Callable[[aezoo.TrainingState], object]) -> Calls:
    """A callback with one hook."""
    return Calls(lambda name, state: function(state) if name == hook else None)


class CallsSpec(aezoo.CallbackSpec):
    kind: Literal["calls"] = "calls"
    function: Any

    def build(self) -> Calls:
        return Calls(self.function)


class CutOff(Exception):
    """Ends a training in its middle, as a crash would."""


class Cut(aezoo.Callback):
    """Raises in the n-th call of a hook, or counts the calls if n is 0."""

    def __init__(self, hook: str = "on_epoch_end", n: int = 0, error: type[BaseException] = CutOff) -> None:
        self.hook, self.n, self.error, self.calls = hook, n, error, 0

    def _call(self, hook: str) -> None:
        self.calls += hook == self.hook
        if self.n and hook == self.hook and self.calls == self.n:
            raise self.error

    def after_step(self, state: aezoo.TrainingState) -> None:
        self._call("after_step")

    def on_epoch_end(self, state: aezoo.TrainingState) -> None:
        self._call("on_epoch_end")
