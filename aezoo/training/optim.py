"""Optimizers, learning-rate schedules, early stopping, and copies of a module's state."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from aezoo.specs.stages import AdamSpec, AdamWSpec, CosineSpec, DescentStage, PlateauSpec, SgdSpec

OPTIMIZERS: dict[type, Callable[..., torch.optim.Optimizer]] = {
    AdamSpec: torch.optim.Adam,
    AdamWSpec: torch.optim.AdamW,
    SgdSpec: torch.optim.SGD,
}


def build_optimizer(stage: DescentStage, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Builds the optimizer of a stage, with PyTorch's fused implementation if it supports all parameters."""
    fused = all(p.device.type in ("cpu", "cuda", "mps") and p.is_floating_point() for p in parameters)
    options = {name: value for name, value in stage.optimizer if name != "kind"}
    return OPTIMIZERS[type(stage.optimizer)](parameters, fused=fused, **options)


class Stateful:
    """Base class of objects whose state is kept in a few attributes."""

    STATE: ClassVar[tuple[str, ...]] = ()
    """Names of the attributes."""

    def state_dict(self) -> dict[str, Any]:
        """Returns the state, as tensors and plain values."""
        return {name: getattr(self, name) for name in self.STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state that `state_dict` returned."""
        for name in self.STATE:
            setattr(self, name, state[name])


class LRSchedule(Stateful):
    """The learning rate of every optimizer step of a stage."""

    STATE = ("lr", "step", "best", "bad_epochs")

    def __init__(self, stage: DescentStage, steps_per_epoch: int) -> None:
        assert isinstance(stage.optimizer, AdamSpec | AdamWSpec | SgdSpec)
        self.lr = self.initial_lr = stage.optimizer.lr
        self.spec = stage.schedule
        self.total_steps = stage.epochs * steps_per_epoch
        self.step = 0
        self.best = math.inf
        self.bad_epochs = 0

    def step_groups(self, optimizer: torch.optim.Optimizer) -> None:
        """Sets the learning rate of the next step, and advances.

        Parameter groups that a callback added keep the ratio of their rate to that of the stage.
        """
        lr = self.next()
        for group in optimizer.param_groups:
            group["lr"] = lr * (group.setdefault("initial_lr", group["lr"]) / self.initial_lr)

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
        """Reduces the rate of a plateau schedule if the validation loss has stopped improving."""
        if not isinstance(self.spec, PlateauSpec):
            return
        margin = self.spec.threshold * abs(self.best) if math.isfinite(self.best) else 0.0
        if loss < self.best - margin:
            self.best, self.bad_epochs = loss, 0
            return
        self.bad_epochs += 1
        if self.bad_epochs > self.spec.patience:
            self.lr, self.bad_epochs = max(self.lr * self.spec.factor, self.spec.min_lr), 0


class EarlyStopping(Stateful):
    """Keeps a copy of the best epoch's parameters and buffers, and decides when a stage ends.

    A stage without `early_stop` trains every epoch and keeps the last one.
    """

    STATE = ("best_loss", "best_epoch", "best_state")

    def __init__(self, modules: Sequence[nn.Module], stage: DescentStage) -> None:
        self.spec = stage.early_stop
        self.modules = modules
        self.best_loss = math.inf
        self.best_epoch = 0
        self.best_state: list[Tensor] = []

    def should_stop(self, epoch: int, loss: float) -> bool:
        """Records an epoch's validation loss and returns whether the stage should end."""
        if self.spec is None:
            return False
        if loss < self.best_loss - self.spec.min_delta:
            self.best_loss, self.best_epoch = loss, epoch
            self.best_state = copy_state(self.modules)
        return epoch - self.best_epoch >= self.spec.patience

    def restore_best(self) -> int:
        """Restores the best epoch and returns its number, or 0 if no epoch was kept."""
        if self.best_state:
            restore_state(self.modules, self.best_state)
        return self.best_epoch


def _tensors(modules: Sequence[nn.Module]) -> Iterator[Tensor]:
    for module in modules:
        yield from module.parameters()
        yield from module.buffers()


def copy_state(modules: Sequence[nn.Module]) -> list[Tensor]:
    """Copies all parameters and buffers, in order.

    Names cannot be used: while weights are tied, the decoder has no weights of its own.
    """
    return [tensor.detach().clone() for tensor in _tensors(modules)]


def has_state(modules: Sequence[nn.Module], state: list[Tensor]) -> bool:
    """Returns whether the parameters and buffers are bit for bit those that `copy_state` returned."""
    tensors = list(_tensors(modules))
    return len(tensors) == len(state) and all(map(_same, tensors, state))


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a == b).logical_or((a != a) & (b != b)).all())


@torch.no_grad()
def restore_state(modules: Sequence[nn.Module], state: list[Tensor]) -> None:
    """Restores what `copy_state` returned."""
    for tensor, value in zip(_tensors(modules), state, strict=True):
        # Some buffers, such as counts of dead latents, are created empty and sized by the first batch.
        tensor.data = value.to(tensor.device).clone() if tensor.shape != value.shape else tensor.data
        tensor.copy_(value)
