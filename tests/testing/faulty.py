"""Components that are good, and beside each the same with one of the faults that tests/faults.yaml lists.

A planted fault is called as in that list; words after its name tell several ways to plant it apart.
"""

import datetime
import itertools
import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from pydantic import Field, PrivateAttr, field_serializer
from torch import Generator, Tensor, nn

import aezoo
from aezoo.errors import DataError, LayerError
from aezoo.model.sequential import Aux, Exact, Mean
from aezoo.specs.base import Count, PositiveFloat, RegisteredSpec
from aezoo.specs.components import Bounds, LayerSpec, Split

S = TypeVar("S", bound=RegisteredSpec)
M = TypeVar("M", bound=nn.Module)

GOOD: dict[str, list[RegisteredSpec]] = {}
"""Group -> components with nothing wrong."""
FAULTY: dict[str, dict[str, RegisteredSpec]] = {}
"""Group -> fault -> the component with it."""


def good(group: str, **options: Any) -> Callable[[type[S]], type[S]]:
    """Decorates a spec of a good component."""

    def keep(cls: type[S]) -> type[S]:
        GOOD.setdefault(group, []).append(cls(**options))
        return cls

    return keep


def plant(group: str, fault: str, **options: Any) -> Callable[[type[S]], type[S]]:
    """Decorates a spec of a component with a fault."""

    def keep(cls: type[S]) -> type[S]:
        FAULTY.setdefault(group, {})[fault] = cls(**options)
        return cls

    return keep


def plant_layer(fault: str, base: type["OneModuleSpec"], **options: Any) -> Callable[[type[M]], type[M]]:
    """Decorates a module with a fault; its spec is made beside it, where pickle finds it."""

    def keep(module: type[M]) -> type[M]:
        name = f"{module.__name__}Spec"
        assert name not in globals()
        body = {"__module__": __name__, "__qualname__": name, "__doc__": module.__doc__, "module": module}
        cls: type[RegisteredSpec] = type(base)(name, (base,), body)
        globals()[name] = cls
        plant("layer", fault, **options)(cls)
        return module

    return keep


class OneModuleSpec(LayerSpec):
    """A layer whose spec names the module's class."""

    module: ClassVar[Any]

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        return self.module(in_shape)


# -- layers: weights and a running mean ---------------------------------------------------------------


class Centre(nn.Module):
    """Takes off a mean that runs in training, and weighs each value."""

    mean: Tensor

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.uniform_(torch.empty(in_shape), 0.5, 1.5))
        self.register_buffer("mean", torch.zeros(in_shape))

    def learn(self, h: Tensor) -> None:
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(h.mean(0), 0.1)

    def forward(self, h: Tensor) -> Tensor:
        self.learn(h)
        return self.weight * (h - self.mean)


@good("layer")
class CentreSpec(OneModuleSpec):
    """Takes off a running mean."""

    kind: Literal["faulty.centre"] = "faulty.centre"
    module = Centre


@plant_layer("state-between-batches", CentreSpec)
class StateBetweenBatches(Centre):
    """Adds the last batch's mean in evaluation."""

    last = 0.0

    def forward(self, h: Tensor) -> Tensor:
        out = super().forward(h)
        if not self.training and not h.is_meta:
            out, self.last = out + self.last, float(h.detach().mean())
        return out


@plant_layer("learns-in-eval", CentreSpec)
class LearnsInEval(Centre):
    """Counts batches, those of evaluation too."""

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    def forward(self, h: Tensor) -> Tensor:
        self.batches += 1
        return super().forward(h)


@plant_layer("random-in-eval", CentreSpec)
class RandomInEval(Centre):
    """Adds noise in evaluation too."""

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h) + 0.1 * torch.randn_like(h)


@plant_layer("draws-in-eval", CentreSpec)
class DrawsInEval(Centre):
    """Draws a number in evaluation and throws it away."""

    def forward(self, h: Tensor) -> Tensor:
        if not self.training:
            torch.rand(1)
        return super().forward(h)


@plant_layer("seeds-the-world", CentreSpec)
class SeedsTheWorld(Centre):
    """Seeds PyTorch before it draws."""

    def forward(self, h: Tensor) -> Tensor:
        if self.training:
            torch.manual_seed(0)
            h = h + 0.1 * torch.randn_like(h)
        return super().forward(h)


@plant_layer("seeds-the-world in evaluation", CentreSpec)
class SeedsTheWorldInEval(Centre):
    """Seeds PyTorch in evaluation."""

    def forward(self, h: Tensor) -> Tensor:
        if not self.training:
            torch.manual_seed(0)
        return super().forward(h)


@plant_layer("numpy-random", CentreSpec)
class NumpyRandom(Centre):
    """Jitters by NumPy's numbers in training."""

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h) * (1 + 0.1 * np.random.rand() if self.training else 1.0)


@plant_layer("numpy-random, or Python's", CentreSpec)
class PythonRandom(Centre):
    """Jitters by Python's numbers in training."""

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h) * (1 + 0.1 * random.random() if self.training else 1.0)


@plant_layer("init-ignores-seed", CentreSpec)
class InitIgnoresSeed(Centre):
    """Draws its weights from a generator with a seed of its own."""

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        drawn = torch.rand(in_shape, generator=Generator("cpu").manual_seed(5), device="cpu")
        self.weight = nn.Parameter((0.5 + drawn).to(self.weight.device))


@plant_layer("init-ignores-seed by NumPy", CentreSpec)
class InitByNumpy(Centre):
    """Draws its weights from NumPy's state."""

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        drawn = torch.as_tensor(np.random.rand(*in_shape), dtype=torch.float32)
        self.weight = nn.Parameter(0.5 + drawn)


@plant_layer("writes-its-input", CentreSpec)
class WritesItsInput(Centre):
    """Takes the mean off in place."""

    def forward(self, h: Tensor) -> Tensor:
        self.learn(h)
        return self.weight * h.sub_(self.mean)


@plant_layer("writes-its-input-in-training", CentreSpec)
class WritesItsInputInTraining(Centre):
    """Takes the mean off in place, in training."""

    def forward(self, h: Tensor) -> Tensor:
        self.learn(h)
        return self.weight * (h.sub_(self.mean) if self.training else h - self.mean)


@plant_layer("writes-its-input in evaluation", CentreSpec)
class WritesItsInputInEval(Centre):
    """Takes the mean off in place, in evaluation."""

    def forward(self, h: Tensor) -> Tensor:
        self.learn(h)
        return self.weight * (h - self.mean if self.training else h.sub_(self.mean))


@plant_layer("mixes-rows", CentreSpec)
class MixesRows(Centre):
    """Takes the batch's own mean off in evaluation."""

    def forward(self, h: Tensor) -> Tensor:
        return self.weight * (h - h.mean(0))


@plant_layer("unsaved-buffer", CentreSpec)
class UnsavedBuffer(Centre):
    """Does not save its mean."""

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        self.register_buffer("mean", self.mean, persistent=False)


@plant_layer("plain-tensor", CentreSpec)
class PlainTensor(Centre):
    """Holds its mean as a plain attribute."""

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        del self.mean
        self.mean = torch.zeros(in_shape)


@plant_layer("plain-tensor in a list", CentreSpec)
class TensorInList(Centre):
    """Holds its mean in a list."""

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        del self.mean
        self.means = [torch.zeros(in_shape)]

    def forward(self, h: Tensor) -> Tensor:
        if self.training:
            self.means[0] = torch.lerp(self.means[0].to(h), h.detach().mean(0), 0.1)
        return self.weight * (h - self.means[0])


@plant_layer("hidden-counter", CentreSpec)
class HiddenCounter(Centre):
    """Counts its steps in a plain number and goes by it."""

    steps = 0

    def forward(self, h: Tensor) -> Tensor:
        self.steps += self.training
        return super().forward(h) / (1 + self.steps)


@plant_layer("left-on-meta", CentreSpec)
class LeftOnMeta(Centre):
    """Makes a buffer on the meta device, for later."""

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        self.register_buffer("later", torch.zeros(3, device="meta"))


@plant_layer("unused-parameter", CentreSpec)
class UnusedParameter(Centre):
    """Has a parameter to spare."""

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        self.spare = nn.Parameter(torch.zeros(3))


@plant_layer("detached", CentreSpec)
class Detached(Centre):
    """Cuts its input off from what came before."""

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h.detach())


class _Doubling(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        return h.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return 2 * gradients[0]


@plant_layer("wrong-gradient", CentreSpec)
class WrongGradient(Centre):
    """Doubles the gradient."""

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(_Doubling.apply(h))


@plant_layer("meta-lies", CentreSpec)
class MetaLies(Centre):
    """Gives fewer values on the meta device."""

    def forward(self, h: Tensor) -> Tensor:
        out = super().forward(h)
        return out[:, :3] if h.is_meta else out


@plant_layer("needs-real-values", CentreSpec)
class NeedsRealValues(Centre):
    """Looks values up in a table that is too short for them."""

    def forward(self, h: Tensor) -> Tensor:
        out = super().forward(h)
        return out + torch.zeros(1, device=h.device)[h.detach().flatten(1).argmax(1)].view(
            -1, *[1] * (h.ndim - 1)
        )


@plant_layer("single-precision", CentreSpec)
class SinglePrecision(Centre):
    """Computes in single precision whatever comes."""

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h).float()


@plant_layer("not-copyable", CentreSpec)
class NotCopyable(Centre):
    """Holds a lock."""

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        self.lock = threading.Lock()


@plant_layer("not-copyable for pickle alone", CentreSpec)
class NotPicklable(Centre):
    """Holds a function that has no name."""

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        self.change = lambda h: h


@plant_layer("tied-inside", CentreSpec)
class TiedInside(Centre):
    """Has one weight under two names."""

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        self.again = self.weight


@plant_layer("tied-inside by a view", CentreSpec)
class TiedByView(Centre):
    """Has two parameters on the same values."""

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        self.again = nn.Parameter(self.weight.data.flatten())

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h) + self.again.view_as(self.weight)


# -- layers: a linear map whose rows are of length 1 --------------------------------------------------


class UnitRows(nn.Module):
    """A linear map; after each step its rows are of length 1."""

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


@good("layer")
class UnitRowsSpec(OneModuleSpec):
    """A linear map with rows of length 1."""

    kind: Literal["faulty.unit_rows"] = "faulty.unit_rows"
    module = UnitRows


@plant_layer("restless-after-step", UnitRowsSpec)
class ShrinkingRows(UnitRows):
    """Makes its rows shorter with every step."""

    def after_step(self) -> None:
        with torch.no_grad():
            self.weight *= 0.9


# -- layers: each sample at length 1 ------------------------------------------------------------------


class Unit(nn.Module):
    """Brings each sample to about length 1."""

    least = 1e-3

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__()

    def forward(self, h: Tensor) -> Tensor:
        return h / (h.flatten(1).norm(dim=1) + self.least).view(-1, *[1] * (h.ndim - 1))


@good("layer")
class UnitSpec(OneModuleSpec):
    """Each sample at about length 1."""

    kind: Literal["faulty.unit"] = "faulty.unit"
    module = Unit


@plant_layer("not-finite-at-zero", UnitSpec)
class NotFiniteAtZero(Unit):
    """Divides by 0 where a sample is 0."""

    least = 0.0


# -- layers: bounds -----------------------------------------------------------------------------------


class Twice(nn.Module):
    """Doubles what is positive."""

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__()

    def forward(self, h: Tensor) -> Tensor:
        return 2 * h.relu()


@good("layer")
class TwiceSpec(OneModuleSpec):
    """Doubles what is positive."""

    kind: Literal["faulty.twice"] = "faulty.twice"
    module = Twice

    def output_bounds(self, given: Bounds) -> Bounds:
        return 2 * max(0.0, given[0]), 2 * max(0.0, given[1])


@plant("layer", "wrong-reach")
class WrongReachSpec(TwiceSpec):
    """Forgets that it doubles."""

    def output_bounds(self, given: Bounds) -> Bounds:
        return max(0.0, given[0]), max(0.0, given[1])


@plant("layer", "wrong-reach whatever is given")
class FixedReachSpec(TwiceSpec):
    """States a bound that there is not."""

    def output_bounds(self, given: Bounds) -> Bounds:
        return 0.0, 4.0


# -- layers: more than an output ----------------------------------------------------------------------


class Emits(nn.Module):
    """Gives its input on, and each sample's mean beside it."""

    emits = ("faulty.mean",)

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__()

    def forward(self, h: Tensor, aux: Aux) -> Tensor:
        aux["faulty.mean"] = h.flatten(1).mean(1)
        return h.clone()


@good("layer")
class EmitsSpec(OneModuleSpec):
    """Emits each sample's mean."""

    kind: Literal["faulty.emits"] = "faulty.emits"
    module = Emits


@plant_layer("undeclared-aux", EmitsSpec)
class UndeclaredAux(Emits):
    """Emits the largest value too, and does not say so."""

    def forward(self, h: Tensor, aux: Aux) -> Tensor:
        aux["faulty.most"] = h.flatten(1).amax(1)
        return super().forward(h, aux)


# -- layers: exactly k latents ------------------------------------------------------------------------

By = Literal["value", "magnitude"]


class Keep(nn.Module):
    """Keeps the k largest."""

    def __init__(self, k: int, by: By) -> None:
        super().__init__()
        self.k = k
        self.by: By = by

    def kept(self, h: Tensor, k: int, by: By) -> Tensor:
        rows = h.flatten(1)
        ranked = rows.abs() if by == "magnitude" else rows
        where = ranked.topk(min(k, rows.shape[1]), dim=1).indices
        return torch.zeros_like(rows).scatter(1, where, rows.gather(1, where)).view_as(h)

    def forward(self, h: Tensor) -> Tensor:
        return self.kept(h, self.k, self.by)

    def sparsity(self) -> Exact:
        return Exact(self.k, by=self.by)


@good("layer")
@good("layer", by="magnitude")
class KeepSpec(OneModuleSpec):
    """Keeps the k largest."""

    kind: Literal["faulty.keep"] = "faulty.keep"
    module = Keep
    k: Count = 3
    by: By = "value"

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        if self.k > math.prod(in_shape):
            raise LayerError("k", f"{self.k} is more than the {math.prod(in_shape)} features")
        return self.module(self.k, self.by)


@plant_layer("dense-in-eval", KeepSpec)
class DenseInEval(Keep):
    """Keeps all in evaluation."""

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h) if self.training else h.clone()


@plant_layer("dense-in-training", KeepSpec)
class DenseInTraining(Keep):
    """Keeps all in training."""

    def forward(self, h: Tensor) -> Tensor:
        return h.clone() if self.training else super().forward(h)


@plant_layer("one-too-many", KeepSpec)
class OneTooMany(Keep):
    """Keeps one more."""

    def forward(self, h: Tensor) -> Tensor:
        return self.kept(h, self.k + 1, self.by)


@plant_layer("one-too-few", KeepSpec)
class OneTooFew(Keep):
    """Keeps one less."""

    def forward(self, h: Tensor) -> Tensor:
        return self.kept(h, self.k - 1, self.by)


@plant_layer("magnitude-for-value", KeepSpec)
class MagnitudeForValue(Keep):
    """Goes by magnitude whatever it says."""

    def forward(self, h: Tensor) -> Tensor:
        return self.kept(h, self.k, "magnitude")


@plant_layer("value-for-magnitude", KeepSpec, by="magnitude")
class ValueForMagnitude(Keep):
    """Goes by value whatever it says."""

    def forward(self, h: Tensor) -> Tensor:
        return self.kept(h, self.k, "value")


@plant_layer("scaled-survivors", KeepSpec)
class ScaledSurvivors(Keep):
    """Makes what it keeps a little larger."""

    def forward(self, h: Tensor) -> Tensor:
        return 1.01 * super().forward(h)


# -- layers: k latents on average ---------------------------------------------------------------------


class Few(nn.Module):
    """Keeps k times as many values as there are rows, wherever they lie; in evaluation, by a threshold."""

    threshold: Tensor
    factor = {True: 1.0, False: 1.0}

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        self.register_buffer("threshold", torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        least = self.threshold * self.factor[False]
        if self.training:
            kept = min(h.numel(), round(self.k * len(h) * self.factor[True]))
            least = h.detach().flatten().topk(kept).values[-1]
            self.threshold.lerp_(least.to(self.threshold), 0.1)
        return torch.where(h >= least, h, 0.0)

    def sparsity(self) -> Mean:
        return Mean(float(self.k))


@good("layer")
class FewSpec(OneModuleSpec):
    """Keeps k latents on average."""

    kind: Literal["faulty.few"] = "faulty.few"
    module = Few
    k: Count = 2

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        if self.k > math.prod(in_shape):
            raise LayerError("k", f"{self.k} is more than the {math.prod(in_shape)} features")
        return self.module(self.k)


@plant_layer("wrong-mean", FewSpec)
class WrongMean(Few):
    """Keeps twice as many."""

    factor = {True: 2.0, False: 1.0}


@plant_layer("wrong-mean in evaluation", FewSpec)
class WrongMeanInEval(Few):
    """Keeps about twice as many in evaluation."""

    factor = {True: 1.0, False: 0.0}


# -- specs --------------------------------------------------------------------------------------------


@good("spec", scale=0.25, size=5)
class SizedSpec(LayerSpec):
    """A linear map, scaled."""

    kind: Literal["faulty.sized"] = "faulty.sized"
    scale: PositiveFloat = 1.0
    size: Count = 4
    seed: int = Field(default=0, ge=0, le=9)

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        if len(in_shape) != 1:
            raise LayerError("kind", f"takes a vector, not the {len(in_shape)} axes")
        if self.size > 1_000_000:
            raise LayerError("size", f"{self.size} is too many for the {in_shape[0]} values")
        return nn.Linear(in_shape[0], self.size)


@plant("spec", "lossy-round-trip", scale=0.25)
class LossyRoundTripSpec(SizedSpec):
    """Writes one digit alone."""

    @field_serializer("scale")
    def _rounded(self, scale: float) -> float:
        return round(scale, 1)


NUMBERS = itertools.count()


@plant("spec", "mutable-default")
class MutableDefaultSpec(SizedSpec):
    """Has a new seed each time."""

    seed: int = Field(default_factory=lambda: next(NUMBERS))


@plant("spec", "unbounded-field")
class UnboundedFieldSpec(SizedSpec):
    """Takes any size."""

    size: int = 4


def _hidden() -> None:
    @plant("spec", "unpicklable-spec")
    class UnpicklableSpec(SizedSpec):
        """Lies where pickle does not look."""


_hidden()


# -- losses -------------------------------------------------------------------------------------------


@good("loss")
class SquaredSpec(aezoo.LossSpec):
    """Mean squared difference."""

    kind: Literal["faulty.squared"] = "faulty.squared"
    role = "reconstruction"

    def __call__(self, output: Any, batch: Any, ae: Any) -> Tensor:
        return (output.x_hat - batch.target).square().mean()


@plant("loss", "sum-for-mean")
class SumForMeanSpec(SquaredSpec):
    """Sums the rows."""

    def __call__(self, output: Any, batch: Any, ae: Any) -> Tensor:
        return (output.x_hat - batch.target).square().sum()


@plant("loss", "constant-for-count")
class ConstantForCountSpec(SquaredSpec):
    """Divides by the rows that it thinks there are."""

    def __call__(self, output: Any, batch: Any, ae: Any) -> Tensor:
        return (output.x_hat - batch.target).square().flatten(1).mean(1).sum() / 6


@plant("loss", "weighs-itself")
class WeighsItselfSpec(SquaredSpec):
    """Weighs itself."""

    def __call__(self, output: Any, batch: Any, ae: Any) -> Tensor:
        return self.weight * super().__call__(output, batch, ae)


@plant("loss", "writes-the-output")
class WritesTheOutputSpec(SquaredSpec):
    """Takes the target off in place."""

    def __call__(self, output: Any, batch: Any, ae: Any) -> Tensor:
        return output.x_hat.sub_(batch.target).square().mean()


@plant("loss", "writes-the-target")
class WritesTheTargetSpec(SquaredSpec):
    """Takes the reconstruction off in place."""

    def __call__(self, output: Any, batch: Any, ae: Any) -> Tensor:
        value = super().__call__(output, batch, ae)
        batch.target.sub_(output.x_hat.detach())
        return value


@plant("loss", "not-a-scalar")
class NotAScalarSpec(SquaredSpec):
    """Gives one value for each row."""

    def __call__(self, output: Any, batch: Any, ae: Any) -> Tensor:
        return (output.x_hat - batch.target).square().flatten(1).mean(1)


@plant("loss", "no-gradient")
class NoGradientSpec(SquaredSpec):
    """Lets no gradient through."""

    def __call__(self, output: Any, batch: Any, ae: Any) -> Tensor:
        return super().__call__(output, batch, ae).detach()


@plant("loss", "no-gradient at the network")
class GradientElsewhereSpec(SquaredSpec):
    """Has a gradient for what is no part of the network."""

    def __call__(self, output: Any, batch: Any, ae: Any) -> Tensor:
        return (output.x_hat.detach().requires_grad_() - batch.target).square().mean()


@plant("loss", "global-noise")
class GlobalNoiseSpec(SquaredSpec):
    """Compares a few elements, drawn from the global random state."""

    def __call__(self, output: Any, batch: Any, ae: Any) -> Tensor:
        drawn = torch.rand_like(output.x_hat[0])
        return (drawn * (output.x_hat - batch.target).square()).mean()


@plant("loss", "global-noise of Python")
class PythonNoiseSpec(SquaredSpec):
    """Weighs at random."""

    def __call__(self, output: Any, batch: Any, ae: Any) -> Tensor:
        return (0.5 + random.random()) * super().__call__(output, batch, ae)


@plant("loss", "raises-in-incompatibility")
class RaisesInObjectionSpec(SquaredSpec):
    """Raises what it should say."""

    def incompatibility(self, ae: Any) -> str | None:
        raise ValueError("it does not go with this network")


@plant("loss", "negative-infinity")
class NegativeInfinitySpec(SquaredSpec):
    """Takes the logarithm."""

    def __call__(self, output: Any, batch: Any, ae: Any) -> Tensor:
        return super().__call__(output, batch, ae).log()


@plant("loss", "negative-infinity in the gradient")
class InfiniteGradientSpec(SquaredSpec):
    """Takes the root, whose slope at 0 is infinite."""

    def __call__(self, output: Any, batch: Any, ae: Any) -> Tensor:
        return super().__call__(output, batch, ae).sqrt()


class _Relative(nn.Module):
    """The squared difference against what it used to be."""

    mean: Any

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones(()))

    def forward(self, output: Any, batch: Any, ae: Any) -> Tensor:
        error = (output.x_hat - batch.target).square().mean()
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * error.detach()
        return error / (1 + self.mean)


@good("loss")
class RelativeSpec(SquaredSpec):
    """Squared difference against its running mean."""

    kind: Literal["faulty.relative"] = "faulty.relative"

    def build(self) -> Any:
        return _Relative()


class _Unsaved(_Relative):
    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.mean = 1.0


@plant("loss", "unsaved-state")
class UnsavedStateSpec(RelativeSpec):
    """Keeps its running mean as a plain number."""

    def build(self) -> Any:
        return _Unsaved()


class _Remembering:
    def __init__(self) -> None:
        self.last = 0.0

    def __call__(self, output: Any, batch: Any, ae: Any) -> Tensor:
        error = (output.x_hat - batch.target).square().mean()
        value, self.last = error + 0.1 * self.last, float(error.detach())
        return value


@plant("loss", "remembers")
class RemembersSpec(SquaredSpec):
    """Adds what it gave before."""

    def build(self) -> Any:
        return _Remembering()


@plant("loss", "remembers in the spec")
class RemembersItselfSpec(SquaredSpec):
    """Adds what it gave before, which the spec itself holds."""

    _last: float = PrivateAttr(default=0.0)

    def __call__(self, output: Any, batch: Any, ae: Any) -> Tensor:
        error = super().__call__(output, batch, ae)
        value, self._last = error + 0.1 * self._last, float(error.detach())
        return value


# -- noises -------------------------------------------------------------------------------------------


@good("noise")
class JitterSpec(aezoo.NoiseSpec):
    """Adds normal noise."""

    kind: Literal["faulty.jitter"] = "faulty.jitter"

    def drawn(self, x: Tensor, generator: Generator | None) -> Tensor:
        return 0.1 * torch.randn(x.shape, generator=generator, dtype=x.dtype)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return x + self.drawn(x, generator)


@plant("noise", "ignores-generator")
class IgnoresGeneratorSpec(JitterSpec):
    """Draws from the global random state."""

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return x + self.drawn(x, None)


@plant("noise", "ignores-generator for Python's")
class PythonStrengthSpec(JitterSpec):
    """Draws its strength from Python's random state."""

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return x + random.random() * self.drawn(x, generator)


@plant("noise", "reseeds-generator")
class ReseedsGeneratorSpec(JitterSpec):
    """Seeds its generator."""

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return super().__call__(x, generator.manual_seed(3))


@plant("noise", "reseeds-generator by one of its own")
class OwnGeneratorSpec(JitterSpec):
    """Makes a generator of its own, with the same seed each time."""

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return super().__call__(x, Generator().manual_seed(3))


@plant("noise", "in-place")
class InPlaceSpec(JitterSpec):
    """Adds to the clean batch."""

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return x.add_(self.drawn(x, generator))


@plant("noise", "other-shape")
class OtherShapeSpec(JitterSpec):
    """Flattens."""

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return super().__call__(x, generator).flatten(1)


@plant("noise", "other-dtype")
class OtherDtypeSpec(JitterSpec):
    """Gives single precision."""

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return super().__call__(x, generator).float()


@plant("noise", "not-finite")
class NotFiniteNoiseSpec(JitterSpec):
    """Divides by the batch's largest value, which may be 0."""

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return x / x.amax() + self.drawn(x, generator)


@plant("noise", "writes-elsewhere")
class WritesElsewhereSpec(JitterSpec):
    """Grows with every call."""

    _calls: int = PrivateAttr(default=0)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        self._calls += 1
        return x + self._calls * self.drawn(x, generator)


@plant("noise", "writes-elsewhere in the class")
class CountsInTheClassSpec(JitterSpec):
    """Grows with every call of any such noise."""

    calls: ClassVar[list[int]] = []

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        self.calls.append(1)
        return x + len(self.calls) * self.drawn(x, generator)


# -- datasets -----------------------------------------------------------------------------------------


@good("dataset")
@good("dataset", test=False)
class CloudSpec(aezoo.DatasetSpec):
    """Points in a cube, labelled."""

    kind: Literal["faulty.cloud"] = "faulty.cloud"
    test: bool = True

    def has(self, split: Split) -> bool:
        return self.test or split != "test"

    def drawn(self, seed: int, count: int = 60) -> aezoo.Samples:
        inputs = torch.rand((count, 4), generator=Generator().manual_seed(seed))
        return aezoo.Samples(inputs, labels=torch.arange(count) % 7)

    def load(self, split: Split) -> aezoo.Samples:
        if not self.has(split):
            raise DataError(f"there is no {split} split")
        return self.drawn(("train", "validation", "test").index(split))


@plant("dataset", "leaks-test")
class LeaksTestSpec(CloudSpec):
    """Validates on test samples."""

    def load(self, split: Split) -> aezoo.Samples:
        return super().load("test")[:30] if split == "validation" else super().load(split)


@plant("dataset", "leaks-train")
class LeaksTrainSpec(CloudSpec):
    """Trains on validation samples."""

    def load(self, split: Split) -> aezoo.Samples:
        return super().load("train")[50:] if split == "validation" else super().load(split)


@plant("dataset", "leaks-train at the end of many")
class LeaksManySpec(CloudSpec):
    """Trains on validation samples, which lie behind many others."""

    def load(self, split: Split) -> aezoo.Samples:
        if split == "test":
            return super().load(split)
        many = self.drawn(0, 6000)
        return many[5900:] if split == "validation" else many


@plant("dataset", "restless")
class RestlessSpec(CloudSpec):
    """Draws anew each time."""

    def load(self, split: Split) -> aezoo.Samples:
        return self.drawn(10 + next(NUMBERS))


@plant("dataset", "has-lies")
class HasLiesSpec(CloudSpec):
    """Says that it has a test split."""

    test: bool = False

    def has(self, split: Split) -> bool:
        return True

    def load(self, split: Split) -> aezoo.Samples:
        if split == "test":
            raise DataError("there is no test split")
        return super().load(split)


@plant("dataset", "raw-error", test=False)
class RawErrorSpec(CloudSpec):
    """Looks a split up that is not there."""

    def load(self, split: Split) -> aezoo.Samples:
        return self.drawn({"train": 0, "validation": 1}[split])


@plant("dataset", "not-finite")
class NotFiniteDataSpec(CloudSpec):
    """Has a value that is none."""

    def load(self, split: Split) -> aezoo.Samples:
        samples = super().load(split)
        samples.inputs[55, 0] = math.nan
        return samples


@plant("dataset", "not-finite behind many")
class NotFiniteBehindManySpec(CloudSpec):
    """Has an infinite value behind many others."""

    def load(self, split: Split) -> aezoo.Samples:
        samples = self.drawn(("train", "validation", "test").index(split), 6000)
        samples.inputs[-1, 0] = math.inf
        return samples


@plant("dataset", "not-finite in the targets")
class NotFiniteTargetSpec(CloudSpec):
    """Has a target that is none."""

    def load(self, split: Split) -> aezoo.Samples:
        samples = super().load(split)
        return replace(samples, targets=samples.inputs / torch.arange(60).unsqueeze(1))


class _Shifted(aezoo.Samples):
    def select(self, index: Tensor) -> aezoo.Samples:
        assert self.labels is not None
        return aezoo.Samples(self.inputs[index], labels=self.labels[: len(index)])


@plant("dataset", "labels-shift")
class LabelsShiftSpec(CloudSpec):
    """Takes the first labels, whichever samples are taken."""

    def load(self, split: Split) -> aezoo.Samples:
        samples = super().load(split)
        return _Shifted(samples.inputs, labels=samples.labels)


class _ShiftedSlices(aezoo.Samples):
    def __getitem__(self, index: slice | Tensor) -> aezoo.Samples:
        assert self.labels is not None
        taken = self.inputs[index]
        return aezoo.Samples(taken, labels=self.labels[: len(taken)])


@plant("dataset", "labels-shift in a slice")
class LabelsShiftInASliceSpec(CloudSpec):
    """Takes the first labels, whichever samples a slice takes."""

    def load(self, split: Split) -> aezoo.Samples:
        samples = super().load(split)
        return _ShiftedSlices(samples.inputs, labels=samples.labels)


# -- callbacks ----------------------------------------------------------------------------------------


class _Shrinks(aezoo.Callback):
    """Makes weights smaller every so many epochs."""

    def __init__(self, every: int) -> None:
        self.every, self.seen = every, 0

    def on_epoch_end(self, state: aezoo.TrainingState) -> None:
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


@good("callback")
@good("callback", every=1)
class ShrinksSpec(aezoo.CallbackSpec):
    """Makes weights smaller every so many epochs."""

    kind: Literal["faulty.shrinks"] = "faulty.shrinks"
    callback: ClassVar[Any] = _Shrinks
    every: Count = 2

    def build(self) -> Any:
        return self.callback(self.every)


class _Forgets(_Shrinks):
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


@plant("callback", "forgets")
@plant("callback", "forgets, every third epoch", every=3)
@plant("callback", "forgets, every sixth epoch", every=6)
class ForgetsSpec(ShrinksSpec):
    """Begins to count anew when a training goes on."""

    callback = _Forgets


class _ForgetsSteps(_Forgets):
    def on_epoch_end(self, state: aezoo.TrainingState) -> None:
        pass

    def after_step(self, state: aezoo.TrainingState) -> None:
        super().on_epoch_end(state)


@plant("callback", "forgets its steps")
@plant("callback", "forgets its steps, every third", every=3)
@plant("callback", "forgets its steps, every sixth", every=6)
class ForgetsStepsSpec(ShrinksSpec):
    """Begins to count steps anew when a training goes on."""

    callback = _ForgetsSteps


class _Clock(_Shrinks):
    def on_epoch_end(self, state: aezoo.TrainingState) -> None:
        self.shrink(state, 0.9 + 0.1 * (time.time() % 1))


@plant("callback", "clock")
class ClockSpec(ShrinksSpec):
    """Goes by the clock."""

    callback = _Clock


class _Mornings(_Shrinks):
    def on_epoch_end(self, state: aezoo.TrainingState) -> None:
        if datetime.datetime.now().hour < 12:
            self.shrink(state, 0.9)


@plant("callback", "clock in the morning")
class MorningsSpec(ShrinksSpec):
    """Works before noon."""

    callback = _Mornings


class _LocalMornings(_Shrinks):
    def on_epoch_end(self, state: aezoo.TrainingState) -> None:
        if time.localtime().tm_hour < 12:
            self.shrink(state, 0.9)


@plant("callback", "clock in the local morning")
class LocalMorningsSpec(ShrinksSpec):
    """Works before noon, by another clock."""

    callback = _LocalMornings


class _Unreadable(_Shrinks):
    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen, "spec": ShrinksSpec()}


@plant("callback", "unreadable-state")
class UnreadableStateSpec(ShrinksSpec):
    """Keeps an object of its own."""

    callback = _Unreadable


class _Moves(_Shrinks):
    def before_step(self, state: aezoo.TrainingState) -> None:
        torch.rand(1)


@plant("callback", "moves-random-state")
class MovesRandomStateSpec(ShrinksSpec):
    """Draws a number before each step."""

    callback = _Moves


class _Lucky(_Shrinks):
    def on_epoch_end(self, state: aezoo.TrainingState) -> None:
        self.shrink(state, 0.9 + 0.1 * random.random())


@plant("callback", "moves-random-state of Python")
class LuckySpec(ShrinksSpec):
    """Shrinks by numbers of Python's."""

    callback = _Lucky
