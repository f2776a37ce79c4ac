"""Layers with faults in their state, random numbers, shapes, gradients and outputs."""

import random
import threading
from typing import Any, Literal

import numpy as np
import torch
from torch import Generator, Tensor, nn

from aezoo.errors import LayerError
from aezoo.model.sequential import Aux
from aezoo.specs.components import Bounds
from tests.testing.planting import ModuleSpec, good, plant, plant_layer

# -- a layer with weights and a running mean ----------------------------------------------------------


class Centre(nn.Module):
    """Subtracts a running mean and scales each value."""

    mean: Tensor

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.uniform_(torch.empty(in_shape), 0.5, 1.5))
        self.register_buffer("mean", torch.zeros(in_shape))

    def update(self, h: Tensor) -> None:
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(h.mean(0).to(self.mean.dtype), 0.1)

    def forward(self, h: Tensor) -> Tensor:
        self.update(h)
        return self.weight * (h - self.mean)


@good()
class CentreSpec(ModuleSpec):
    kind: Literal["faulty.centre"] = "faulty.centre"
    module = Centre


@plant_layer(
    CentreSpec, "state-between-batches", "eval-deterministic", also=("rows", "copying", "gradient-correct")
)
class StateBetweenBatches(Centre):
    last = 0.0

    def forward(self, h: Tensor) -> Tensor:
        out = super().forward(h)
        if not self.training and not h.is_meta:
            out, self.last = out + self.last, float(h.detach().mean())
        return out


@plant_layer(CentreSpec, "updates-buffer-in-eval", "eval-keeps-state")
class UpdatesBufferInEval(Centre):
    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    def forward(self, h: Tensor) -> Tensor:
        self.batches += 1
        return super().forward(h)


@plant_layer(
    CentreSpec, "random-in-eval", "eval-deterministic", also=("eval-random-state", "gradient-correct")
)
class RandomInEval(Centre):
    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h) + 0.1 * torch.randn_like(h)


@plant_layer(CentreSpec, "draws-in-eval", "eval-random-state")
class DrawsInEval(Centre):
    def forward(self, h: Tensor) -> Tensor:
        if not self.training:
            torch.rand(1)
        return super().forward(h)


@plant_layer(CentreSpec, "sets-global-seed", "train-repeatable")
class SetsGlobalSeed(Centre):
    def forward(self, h: Tensor) -> Tensor:
        if self.training:
            torch.manual_seed(0)
            h = h + 0.1 * torch.randn_like(h)
        return super().forward(h)


# `init` may fail, too, because a build runs the layer on the meta device, in evaluation.
@plant_layer(CentreSpec, "sets-global-seed in evaluation", "eval-random-state", also=("init",))
class SetsGlobalSeedInEval(Centre):
    def forward(self, h: Tensor) -> Tensor:
        if not self.training:
            torch.manual_seed(0)
        return super().forward(h)


@plant_layer(CentreSpec, "numpy-random", "train-repeatable")
class NumpyRandom(Centre):
    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h) * (1 + 0.1 * np.random.rand() if self.training else 1.0)


@plant_layer(CentreSpec, "numpy-random, or Python's", "train-repeatable")
class PythonRandom(Centre):
    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h) * (1 + 0.1 * random.random() if self.training else 1.0)


@plant_layer(CentreSpec, "init-ignores-seed", "init")
class InitIgnoresSeed(Centre):
    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        drawn = torch.rand(in_shape, generator=Generator("cpu").manual_seed(5), device="cpu")
        self.weight = nn.Parameter((0.5 + drawn).to(self.weight.device))


@plant_layer(CentreSpec, "init-ignores-seed by NumPy", "init", also=("train-repeatable",))
class InitByNumpy(Centre):
    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        drawn = torch.as_tensor(np.random.rand(*in_shape), dtype=torch.float32)
        self.weight = nn.Parameter(0.5 + drawn)


@plant_layer(CentreSpec, "writes-its-input", "input-intact", also=("gradient-reaches", "gradient-correct"))
class WritesItsInput(Centre):
    def forward(self, h: Tensor) -> Tensor:
        self.update(h)
        return self.weight * h.sub_(self.mean)


@plant_layer(CentreSpec, "writes-its-input-in-training", "input-intact", also=("gradient-reaches",))
class WritesItsInputInTraining(Centre):
    def forward(self, h: Tensor) -> Tensor:
        self.update(h)
        return self.weight * (h.sub_(self.mean) if self.training else h - self.mean)


@plant_layer(CentreSpec, "writes-its-input in evaluation", "input-intact", also=("gradient-correct",))
class WritesItsInputInEval(Centre):
    def forward(self, h: Tensor) -> Tensor:
        self.update(h)
        return self.weight * (h - self.mean if self.training else h.sub_(self.mean))


@plant_layer(CentreSpec, "mixes-rows", "rows")
class MixesRows(Centre):
    def forward(self, h: Tensor) -> Tensor:
        return self.weight * (h - h.mean(0))


@plant_layer(CentreSpec, "unsaved-buffer", "build", raises=True)
class UnsavedBuffer(Centre):
    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        self.register_buffer("mean", self.mean, persistent=False)


@plant_layer(CentreSpec, "plain-tensor", "build", raises=True)
class PlainTensor(Centre):
    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        del self.mean
        self.mean = torch.zeros(in_shape)


@plant_layer(CentreSpec, "plain-tensor in a list", "state-round-trip", raises=True)
class TensorInList(Centre):
    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        del self.mean
        self.means = [torch.zeros(in_shape)]

    def forward(self, h: Tensor) -> Tensor:
        if self.training:
            self.means[0] = torch.lerp(self.means[0].to(h), h.detach().mean(0), 0.1)
        return self.weight * (h - self.means[0])


@plant_layer(CentreSpec, "hidden-counter", "state-round-trip")
class HiddenCounter(Centre):
    steps = 0

    def forward(self, h: Tensor) -> Tensor:
        self.steps += self.training
        return super().forward(h) / (1 + self.steps)


@plant_layer(CentreSpec, "left-on-meta", "no-meta-left")
class LeftOnMeta(Centre):
    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        self.register_buffer("later", torch.zeros(3, device="meta"))


@plant_layer(CentreSpec, "unused-parameter", "gradient-reaches")
class UnusedParameter(Centre):
    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        self.spare = nn.Parameter(torch.zeros(3))


@plant_layer(CentreSpec, "detached", "gradient-reaches", also=("gradient-correct",))
class Detached(Centre):
    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h.detach())


class _DoubledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        return h.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return 2 * gradients[0]


@plant_layer(CentreSpec, "wrong-gradient", "gradient-correct")
class WrongGradient(Centre):
    def forward(self, h: Tensor) -> Tensor:
        return super().forward(_DoubledGradient.apply(h))


@plant_layer(CentreSpec, "wrong-meta-shape", "meta-shape", also=("hostile-shapes",))
class WrongMetaShape(Centre):
    def forward(self, h: Tensor) -> Tensor:
        out = super().forward(h)
        return out[:, :3] if h.is_meta else out


@plant_layer(CentreSpec, "fails-on-real-values", "build", raises=True)
class FailsOnRealValues(Centre):
    """Looks values up in a table that has one entry only."""

    def forward(self, h: Tensor) -> Tensor:
        out = super().forward(h)
        table = torch.zeros(1, device=h.device)
        return out + table[h.detach().flatten(1).argmax(1)].view(-1, *[1] * (h.ndim - 1))


@plant_layer(CentreSpec, "single-precision", "precision", also=("gradient-correct",))
class SinglePrecision(Centre):
    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h).float()


@plant_layer(CentreSpec, "not-copyable", "copying", raises=True)
class NotCopyable(Centre):
    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        self.lock = threading.Lock()


@plant_layer(CentreSpec, "not-copyable for pickle alone", "copying", raises=True)
class NotPicklable(Centre):
    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        self.change = lambda h: h


@plant_layer(CentreSpec, "shared-memory", "own-memory")
class SharedParameter(Centre):
    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        self.again = self.weight


@plant_layer(CentreSpec, "shared-memory by a view", "own-memory")
class SharedView(Centre):
    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        self.again = nn.Parameter(self.weight.data.flatten())

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h) + self.again.view_as(self.weight)


# -- a linear map whose rows have unit norm -----------------------------------------------------------


class UnitRows(nn.Module):
    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__()
        if len(in_shape) != 1:
            raise LayerError("kind", f"takes a vector, not the {len(in_shape)} axes")
        self.weight = nn.Parameter(nn.init.normal_(torch.empty(4, *in_shape)))
        self.after_step()

    def after_step(self) -> None:
        with torch.no_grad():
            self.weight /= self.weight.norm(dim=1, keepdim=True)

    def forward(self, h: Tensor) -> Tensor:
        return h @ self.weight.T


@good()
class UnitRowsSpec(ModuleSpec):
    kind: Literal["faulty.unit_rows"] = "faulty.unit_rows"
    module = UnitRows


@plant_layer(UnitRowsSpec, "after-step-not-idempotent", "after-step")
class ShrinkingRows(UnitRows):
    def after_step(self) -> None:
        with torch.no_grad():
            self.weight *= 0.9


# -- a layer that normalizes each sample --------------------------------------------------------------


class Unit(nn.Module):
    eps = 1e-3

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__()

    def forward(self, h: Tensor) -> Tensor:
        return h / (h.flatten(1).norm(dim=1) + self.eps).view(-1, *[1] * (h.ndim - 1))


@good()
class UnitSpec(ModuleSpec):
    kind: Literal["faulty.unit"] = "faulty.unit"
    module = Unit


@plant_layer(UnitSpec, "not-finite-at-zero", "finite")
class NotFiniteAtZero(Unit):
    eps = 0.0


# -- a layer with bounds ------------------------------------------------------------------------------


class Twice(nn.Module):
    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__()

    def forward(self, h: Tensor) -> Tensor:
        return 2 * h.relu()


@good()
class TwiceSpec(ModuleSpec):
    kind: Literal["faulty.twice"] = "faulty.twice"
    module = Twice

    def output_bounds(self, given: Bounds) -> Bounds:
        return 2 * max(0.0, given[0]), 2 * max(0.0, given[1])


@plant("layer/wrong-output-bounds", "output-bounds")
class WrongBoundsSpec(TwiceSpec):
    def output_bounds(self, given: Bounds) -> Bounds:
        return max(0.0, given[0]), max(0.0, given[1])


@plant("layer/wrong-output-bounds for unbounded inputs", "output-bounds")
class ConstantBoundsSpec(TwiceSpec):
    def output_bounds(self, given: Bounds) -> Bounds:
        return 0.0, 4.0


# -- a layer that writes to aux -----------------------------------------------------------------------


class Emits(nn.Module):
    emits = ("faulty.mean",)

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__()

    def forward(self, h: Tensor, aux: Aux) -> Tensor:
        aux["faulty.mean"] = h.flatten(1).mean(1)
        return h.clone()


@good()
class EmitsSpec(ModuleSpec):
    kind: Literal["faulty.emits"] = "faulty.emits"
    module = Emits


@plant_layer(EmitsSpec, "undeclared-aux", "aux")
class UndeclaredAux(Emits):
    def forward(self, h: Tensor, aux: Aux) -> Tensor:
        aux["faulty.max"] = h.flatten(1).amax(1)
        return super().forward(h, aux)
