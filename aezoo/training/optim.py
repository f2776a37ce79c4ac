"""Optimizers, learning rates and the best epoch of one part of a training."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aezoo.specs.stages import AdamSpec, AdamWSpec, CosineSpec, DescentStage, PlateauSpec, SgdSpec


def optimizer_of(stage: DescentStage, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The stage's optimizer, fused where PyTorch has it."""
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


class Schedule:
    """The learning rate of each step."""

    def __init__(self, stage: DescentStage, steps_per_epoch: int) -> None:
        assert isinstance(stage.optimizer, AdamSpec | AdamWSpec | SgdSpec)
        self.rate = stage.optimizer.lr
        self.spec = stage.schedule
        self.steps = stage.epochs * steps_per_epoch
        self.step = 0
        self.best = math.inf
        self.waited = 0

    def next(self) -> float:
        """The rate of the step that comes now."""
        step, self.step = self.step, self.step + 1
        if not isinstance(self.spec, CosineSpec):
            return self.rate
        warmup = self.spec.warmup_steps
        if step < warmup:
            return self.rate * (step + 1) / warmup
        done = (step - warmup) / max(1, self.steps - warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * done))
        return self.rate * (self.spec.final + (1 - self.spec.final) * cosine)

    def epoch_done(self, loss: float) -> None:
        """Takes note of the validation loss."""
        if not isinstance(self.spec, PlateauSpec):
            return
        margin = self.spec.threshold * abs(self.best) if math.isfinite(self.best) else 0.0
        if loss < self.best - margin:
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited > self.spec.patience:
            self.rate, self.waited = max(self.rate * self.spec.factor, self.spec.min_lr), 0

    def replay(self, rate: float) -> None:
        """Takes the rate that an earlier round came to in this epoch."""
        self.rate = rate

    def state_dict(self) -> dict[str, float]:
        """What a resumed training needs."""
        return {"rate": self.rate, "step": self.step, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self.rate, self.step = state["rate"], state["step"]
        self.best, self.waited = state["best"], state["waited"]


class Best:
    """The weights of the best epoch, where a stage stops early."""

    def __init__(self, modules: Sequence[nn.Module], stage: DescentStage) -> None:
        self.spec = stage.early_stop
        self.modules = modules
        self.loss = math.inf
        self.epoch = 0
        self.kept: list[Tensor] = []

    def epoch_done(self, epoch: int, loss: float) -> bool:
        """Takes note of the validation loss; True when the stage should end."""
        if self.spec is None:
            return False
        if loss < self.loss - self.spec.min_delta:
            self.loss, self.epoch = loss, epoch
            self.kept = snapshot(self.modules)
        return epoch - self.epoch >= self.spec.patience

    def restore(self) -> int:
        """Goes back to the best epoch and returns its number; 0 where there is none to go back to."""
        if self.kept:
            put_back(self.modules, self.kept)
        return self.epoch

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        return {"loss": self.loss, "epoch": self.epoch, "kept": self.kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self.loss, self.epoch, self.kept = state["loss"], state["epoch"], state["kept"]


def _tensors(modules: Sequence[nn.Module]) -> Iterator[Tensor]:
    for module in modules:
        yield from module.parameters()
        yield from module.buffers()


def snapshot(modules: Sequence[nn.Module]) -> list[Tensor]:
    """Copies of all parameters and buffers, in order."""
    return [tensor.detach().clone() for tensor in _tensors(modules)]


@torch.no_grad()
def put_back(modules: Sequence[nn.Module], kept: list[Tensor]) -> None:
    """Undoes whatever came after a snapshot."""
    for tensor, value in zip(_tensors(modules), kept, strict=True):
        # A buffer that began empty takes the size that it had.
        tensor.data = value.to(tensor.device).clone() if tensor.shape != value.shape else tensor.data
        tensor.copy_(value)
