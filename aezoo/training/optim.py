"""Optimizers, learning-rate schedules, early stopping, and copies of weights."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aezoo.specs.stages import AdamSpec, AdamWSpec, CosineSpec, DescentStage, PlateauSpec, SgdSpec


def build_optimizer(stage: DescentStage, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Builds the optimizer of a stage, with PyTorch's fused implementation if it supports all parameters."""
    spec = stage.optimizer
    fused = all(p.device.type in ("cpu", "cuda", "mps") and p.is_floating_point() for p in parameters)
    if isinstance(spec, SgdSpec):
        return torch.optim.SGD(
            parameters, lr=spec.lr, momentum=spec.momentum, nesterov=spec.nesterov,
            weight_decay=spec.weight_decay, fused=fused,
        )  # fmt: skip
    assert isinstance(spec, AdamSpec | AdamWSpec)
    cls = torch.optim.Adam if isinstance(spec, AdamSpec) else torch.optim.AdamW
    return cls(
        parameters, lr=spec.lr, betas=spec.betas, eps=spec.eps, weight_decay=spec.weight_decay, fused=fused
    )


class LRSchedule:
    """The learning rate of each step.

    Args:
        stage: has the schedule, the optimizer's learning rate and the number of epochs.
        steps_per_epoch: optimizer steps in an epoch.
    """

    def __init__(self, stage: DescentStage, steps_per_epoch: int) -> None:
        assert isinstance(stage.optimizer, AdamSpec | AdamWSpec | SgdSpec)
        self.lr = stage.optimizer.lr
        self.spec = stage.schedule
        self.total_steps = stage.epochs * steps_per_epoch
        self.step = 0
        self.best = math.inf
        self.bad_epochs = 0

    def next(self) -> float:
        """Returns the learning rate of the next step and advances."""
        step, self.step = self.step, self.step + 1
        if not isinstance(self.spec, CosineSpec):
            return self.lr
        warmup = self.spec.warmup_steps
        if step < warmup:
            return self.lr * (step + 1) / warmup
        progress = (step - warmup) / max(1, self.total_steps - warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return self.lr * (self.spec.final + (1 - self.spec.final) * cosine)

    def on_epoch_end(self, loss: float) -> None:
        """Takes the epoch's validation loss, by which a plateau schedule reduces the rate."""
        if not isinstance(self.spec, PlateauSpec):
            return
        margin = self.spec.threshold * abs(self.best) if math.isfinite(self.best) else 0.0
        if loss < self.best - margin:
            self.best, self.bad_epochs = loss, 0
            return
        self.bad_epochs += 1
        if self.bad_epochs > self.spec.patience:
            self.lr, self.bad_epochs = max(self.lr * self.spec.factor, self.spec.min_lr), 0

    def state_dict(self) -> dict[str, float]:
        """Returns what `load_state_dict` takes."""
        return {"lr": self.lr, "step": self.step, "best": self.best, "bad_epochs": self.bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state that `state_dict` returned."""
        self.lr, self.step = state["lr"], state["step"]
        self.best, self.bad_epochs = state["best"], state["bad_epochs"]


class EarlyStopping:
    """Keeps the weights of the best epoch and says when a stage should end.

    Args:
        modules: parameters and buffers that are kept.
        stage: its `early_stop` is followed; without one every epoch is trained and the last one kept.
    """

    def __init__(self, modules: Sequence[nn.Module], stage: DescentStage) -> None:
        self.spec = stage.early_stop
        self.modules = modules
        self.best_loss = math.inf
        self.best_epoch = 0
        self.best_state: list[Tensor] = []

    def should_stop(self, epoch: int, loss: float) -> bool:
        """Takes an epoch's validation loss and returns whether the stage should end."""
        if self.spec is None:
            return False
        if loss < self.best_loss - self.spec.min_delta:
            self.best_loss, self.best_epoch = loss, epoch
            self.best_state = copy_state(self.modules)
        return epoch - self.best_epoch >= self.spec.patience

    def restore_best(self) -> int:
        """Restores the best epoch and returns its number; returns 0 if no epoch was kept."""
        if self.best_state:
            restore_state(self.modules, self.best_state)
        return self.best_epoch

    def state_dict(self) -> dict[str, Any]:
        """Returns what `load_state_dict` takes."""
        return {"best_loss": self.best_loss, "best_epoch": self.best_epoch, "best_state": self.best_state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state that `state_dict` returned."""
        self.best_loss, self.best_epoch = state["best_loss"], state["best_epoch"]
        self.best_state = state["best_state"]


def _tensors(modules: Sequence[nn.Module]) -> Iterator[Tensor]:
    for module in modules:
        yield from module.parameters()
        yield from module.buffers()


def copy_state(modules: Sequence[nn.Module]) -> list[Tensor]:
    """Copies all parameters and buffers, in order.

    By order, not by name: while weights are tied, the decoder has none of its own.
    """
    return [tensor.detach().clone() for tensor in _tensors(modules)]


@torch.no_grad()
def restore_state(modules: Sequence[nn.Module], state: list[Tensor]) -> None:
    """Restores what `copy_state` returned."""
    for tensor, value in zip(_tensors(modules), state, strict=True):
        # A buffer that was created empty takes the size it had.
        tensor.data = value.to(tensor.device).clone() if tensor.shape != value.shape else tensor.data
        tensor.copy_(value)
