"""Callbacks with faults."""

import datetime
import random
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch

import aezoo
from aezoo.specs.base import Count
from tests.testing.planting import good, plant


class _Shrink(aezoo.Callback):
    """Scales the weights down every few epochs."""

    def __init__(self, every: int) -> None:
        self.every, self.seen = every, 0

    def on_fit_start(self, state: aezoo.TrainingState) -> None:
        if state.step == 0:
            self.seen = 0

    def on_epoch_start(self, state: aezoo.TrainingState) -> None:
        self.seen += 1
        if self.seen % self.every == 0:
            self.shrink(state, 0.9)

    def shrink(self, state: aezoo.TrainingState, factor: float) -> None:
        with torch.no_grad():
            for parameter in state.ae.parameters():
                parameter *= factor

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seen = state["seen"]


@good()
@good(every=1)
class ShrinkSpec(aezoo.CallbackSpec):
    kind: Literal["faulty.shrink"] = "faulty.shrink"
    callback: ClassVar[Any] = _Shrink
    every: Count = 2

    def build(self) -> Any:
        return self.callback(self.every)


class _LosesCounter(_Shrink):
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


@plant("callback/loses-counter", "resumes")
@plant("callback/loses-counter, every third epoch", "resumes", every=3)
@plant("callback/loses-counter, every sixth epoch", "resumes", every=6)
class LosesCounterSpec(ShrinkSpec):
    callback = _LosesCounter


class _LosesStepCounter(_LosesCounter):
    def on_epoch_start(self, state: aezoo.TrainingState) -> None:
        pass

    def after_step(self, state: aezoo.TrainingState) -> None:
        super().on_epoch_start(state)


@plant("callback/loses-counter of steps", "resumes")
@plant("callback/loses-counter of steps, every third", "resumes", every=3)
@plant("callback/loses-counter of steps, every sixth", "resumes", every=6)
class LosesStepCounterSpec(ShrinkSpec):
    callback = _LosesStepCounter


class _Clock(_Shrink):
    def on_epoch_start(self, state: aezoo.TrainingState) -> None:
        self.shrink(state, 0.9 + 0.1 * (time.time() % 1))


@plant("callback/clock", "repeatable", also=("resumes",))
class ClockSpec(ShrinkSpec):
    callback = _Clock


class _Mornings(_Shrink):
    def on_epoch_start(self, state: aezoo.TrainingState) -> None:
        if datetime.datetime.now().hour < 12:
            self.shrink(state, 0.9)


@plant("callback/clock in the morning", "repeatable")
class MorningsSpec(ShrinkSpec):
    callback = _Mornings


class _LocalMornings(_Shrink):
    def on_epoch_start(self, state: aezoo.TrainingState) -> None:
        if time.localtime().tm_hour < 12:
            self.shrink(state, 0.9)


@plant("callback/clock in the local morning", "repeatable")
class LocalMorningsSpec(ShrinkSpec):
    callback = _LocalMornings


class _UnreadableState(_Shrink):
    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen, "spec": ShrinkSpec()}


@plant("callback/unreadable-state", "state", also=("resumes",), raises=True)
class UnreadableStateSpec(ShrinkSpec):
    callback = _UnreadableState


class _Draws(_Shrink):
    def before_step(self, state: aezoo.TrainingState) -> None:
        torch.rand(1)


@plant("callback/moves-random-state", "random-state")
class DrawsSpec(ShrinkSpec):
    callback = _Draws


class _DrawsFromPython(_Shrink):
    def on_epoch_start(self, state: aezoo.TrainingState) -> None:
        self.shrink(state, 0.9 + 0.1 * random.random())


@plant("callback/moves-random-state of Python", "repeatable", also=("resumes",))
class DrawsFromPythonSpec(ShrinkSpec):
    callback = _DrawsFromPython
