"""Components that are correct where they are tried first, and wrong in other uses."""

import datetime
import time
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Generator, Tensor, nn

import aezoo
from aezoo.model.sequential import Aux
from tests.testing.faulty.callbacks import ShrinkSpec, _Shrink  # pyright: ignore[reportPrivateUsage]
from tests.testing.faulty.datasets import CloudSpec
from tests.testing.faulty.layers import Centre, CentreSpec
from tests.testing.faulty.losses import SquaredSpec
from tests.testing.planting import ModuleSpec, good, plant, plant_layer, plant_metric

# -- layers -------------------------------------------------------------------------------------------


@plant_layer(CentreSpec, "replaces-parameters", "module-intact")
class ReplacesParameters(Centre):
    def after_step(self) -> None:
        self.weight = nn.Parameter(self.weight.detach().clamp(0.5, 1.5))


@plant_layer(CentreSpec, "changes-modes", "module-intact")
class SwitchesToEvaluation(Centre):
    def forward(self, h: Tensor) -> Tensor:
        out = super().forward(h)
        self.eval()
        return out


@plant_layer(CentreSpec, "fails-under-autocast", "autocast", raises=True)
class FailsUnderAutocast(Centre):
    def forward(self, h: Tensor) -> Tensor:
        out = torch.zeros(h.shape, device=h.device, dtype=self.weight.dtype)
        out[..., :] = h
        return super().forward(out.index_put((torch.tensor([0]),), h[:1]))


@plant_layer(CentreSpec, "wrong-beyond-64-rows", "batch-sizes")
class WrongBeyond64Rows(Centre):
    def forward(self, h: Tensor) -> Tensor:
        out = super().forward(h)
        return torch.cat([out[:64], 2 * out[64:]])


@plant_layer(
    CentreSpec, "not-finite-on-a-row", "odd-rows", also=("finite", "gradient-correct", "hostile-shapes")
)
class DividesBySpread(Centre):
    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h) + 0.1 * (h - h.mean(-1, keepdim=True)) / h.std(-1, keepdim=True)


@plant_layer(CentreSpec, "spreads-nan", "nan-stays", also=("rows",))
class SpreadsNan(Centre):
    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h) + 0 * h.sum()


@plant_layer(CentreSpec, "needs-contiguous-input", "layout", raises=True)
class NeedsContiguousInput(Centre):
    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h.view(-1)[:].view(h.shape))


@plant_layer(CentreSpec, "one-draw-for-a-batch", "row-draws")
class OneDrawForABatch(Centre):
    def forward(self, h: Tensor) -> Tensor:
        out = super().forward(h)
        return out * (0.5 + torch.rand(out.shape[1:], device=h.device)) if self.training else out


@plant_layer(CentreSpec, "shared-by-layers", "independent", also=("train-repeatable",))
class SharedByLayers(Centre):
    seen: ClassVar[list[float]] = []

    def forward(self, h: Tensor) -> Tensor:
        if self.training and not h.is_meta:
            self.seen.append(1.0)
        return super().forward(h) + len(self.seen)


@plant_layer(CentreSpec, "depends-on-the-hour", "clock", also=("init",))
class DependsOnTheHour(Centre):
    def forward(self, h: Tensor) -> Tensor:
        hours = time.time() // 3600
        return super().forward(h) + hours % 1000


@plant_layer(CentreSpec, "changes-settings", "settings")
class ChangesSettings(Centre):
    def forward(self, h: Tensor) -> Tensor:
        torch.set_float32_matmul_precision("medium")
        return super().forward(h)


class Mean(Centre):
    """Emits what it returns."""

    emits = ("faulty.mean",)

    def forward(self, h: Tensor, aux: Aux) -> Tensor:  # type: ignore[override]
        out = super().forward(h)
        aux["faulty.mean"] = out
        return out


@good()
class MeanSpec(ModuleSpec):
    kind: Literal["faulty.mean"] = "faulty.mean"
    module = Mean


@plant_layer(MeanSpec, "detached-aux", "aux-gradient")
class DetachedAux(Mean):
    def forward(self, h: Tensor, aux: Aux) -> Tensor:  # type: ignore[override]
        out = super().forward(h, aux)
        aux["faulty.mean"] = out.detach()
        return out


class Prior(Centre):
    """Emits a learned prior, and has a frozen scale."""

    emits = ("faulty.prior",)

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        self.prior = nn.Parameter(torch.zeros(in_shape))
        self.frozen = nn.Parameter(torch.ones(in_shape), requires_grad=False)

    def forward(self, h: Tensor, aux: Aux) -> Tensor:  # type: ignore[override]
        aux["faulty.prior"] = self.prior + 0
        return super().forward(h) * self.frozen


@good()
class PriorSpec(ModuleSpec):
    kind: Literal["faulty.prior"] = "faulty.prior"
    module = Prior


class Reader(nn.Module):
    """Adds what an earlier layer emitted."""

    needs = ("faulty.mean",)

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__()

    def forward(self, h: Tensor, aux: Aux) -> Tensor:
        return h + aux["faulty.mean"]


@good()
class ReaderSpec(ModuleSpec):
    kind: Literal["faulty.reader"] = "faulty.reader"
    module = Reader
    example_before: ClassVar[Any] = (MeanSpec(),)


# -- losses -------------------------------------------------------------------------------------------


class _RandomStart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(36, 4)

    def forward(self, output: Any, context: Any, ae: Any) -> Tensor:
        return (self.head(output.x_hat.flatten(1)) - self.head(context.target.flatten(1))).square().mean()


@good()
class RandomStartSpec(SquaredSpec):
    """A loss with random initial weights."""

    kind: Literal["faulty.random_start"] = "faulty.random_start"

    def build(self) -> Any:
        return _RandomStart()


@good()
class DrawsSpec(SquaredSpec):
    """A loss that draws from the generator of its context."""

    kind: Literal["faulty.draws"] = "faulty.draws"

    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        drawn = torch.rand(output.x_hat.shape, generator=context.generator, dtype=output.x_hat.dtype)
        return (drawn * (output.x_hat - context.target).square()).mean()


@plant("loss/divides-by-epoch", "epochs", raises=True)
class DividesByEpochSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        return super().__call__(output, context, ae) * (1 + 1 / context.epoch)


@plant("loss/changes-modes", "network-intact")
class ChangesModesSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        ae.eval()
        ae.encoder.train()
        return super().__call__(output, context, ae)


@plant("loss/needs-labels", "labels-optional", raises=True)
class NeedsLabelsSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        return super().__call__(output, context, ae) + 0 * context.labels.sum()


@plant("loss/leaves-rows-out", "every-row")
class LeavesRowsOutSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        return (output.x_hat - context.target)[:64].square().mean()


@plant("loss/not-finite-on-a-row", "odd-rows", also=("finite-when-perfect",))
class NotFiniteOnARowSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        error = (output.x_hat - context.target).flatten(1)
        return (error.norm(dim=1) / context.target.flatten(1).norm(dim=1)).mean()


@plant("loss/reads-the-input", "reads-target", also=("finite-when-perfect",))
class ReadsTheInputSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        return (output.x_hat - context.input).square().mean()


@plant("loss/depends-on-the-hour", "clock", also=("rows-averaged", "unweighted", "repeatable"))
class HourLossSpec(SquaredSpec):
    def __call__(self, output: Any, context: Any, ae: Any) -> Tensor:
        hour = datetime.datetime.now(datetime.UTC).hour
        return super().__call__(output, context, ae) * (1 + hour)


# -- noises, datasets and callbacks -------------------------------------------------------------------


@good()
class AddsSpec(aezoo.NoiseSpec):
    kind: Literal["faulty.adds"] = "faulty.adds"

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return x + torch.randn(x.shape, generator=generator, dtype=x.dtype)


@plant("noise/one-draw-for-a-batch", "row-draws")
class OneDrawSpec(AddsSpec):
    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return x + torch.randn(x.shape[1:], generator=generator, dtype=x.dtype)


@plant("noise/leaves-rows-out", "every-row")
class LeavesRowsOutNoiseSpec(AddsSpec):
    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return torch.cat([super().__call__(x[:64], generator), x[64:]])


@plant("noise/depends-on-the-hour", "clock")
class HourNoiseSpec(AddsSpec):
    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return super().__call__(x, generator) + time.gmtime().tm_hour


@plant("dataset/other-scale", "alike")
class OtherScaleSpec(CloudSpec):
    def load(self, split: Any) -> aezoo.Samples:
        samples = super().load(split)
        return aezoo.Samples(samples.inputs * (100 if split == "test" else 1), labels=samples.labels)


@plant("dataset/moves-random-state", "random-state")
class MovesRandomStateSpec(CloudSpec):
    def load(self, split: Any) -> aezoo.Samples:
        torch.rand(1)
        return super().load(split)


class _GoesOn(_Shrink):
    def on_fit_start(self, state: aezoo.TrainingState) -> None:
        pass


@plant("callback/counts-on-through-a-refit", "refit")
@plant("callback/counts-on-through-a-refit, every third epoch", "refit", every=3)
class GoesOnSpec(ShrinkSpec):
    callback = _GoesOn


class _Evaluates(_Shrink):
    def after_step(self, state: aezoo.TrainingState) -> None:
        state.ae.eval()


@plant("callback/changes-modes", "network-intact", also=("finite", "resumes", "refit"))
class EvaluatesSpec(ShrinkSpec):
    callback = _Evaluates


# -- metrics ------------------------------------------------------------------------------------------


class Largest(aezoo.Metric):
    """The largest error."""

    definition = "largest absolute error of an element"

    def __init__(self, ae: Any) -> None:
        super().__init__(ae)
        self.largest = 0.0

    def update(self, output: Any, batch: Any) -> None:
        self.largest = max(self.largest, float((output.x_hat - batch.target).abs().max()))

    def compute(self) -> float:
        return self.largest


@plant_metric("raises", "measures", raises=True, also=("*",))
class Raises(Largest):
    def compute(self) -> float:
        raise KeyError("x")


@plant_metric("not-finite", "measures", also=("labels-optional", "repeatable", "random-state", "clock"))
class NotFinite(Largest):
    def compute(self) -> float:
        return float("nan")


@plant_metric("writes-in-place", "batch-intact", also=("repeatable",))
class WritesInPlace(Largest):
    def update(self, output: Any, batch: Any) -> None:
        super().update(output, batch)
        output.latents.zero_()


@plant_metric("depends-on-batch-size", "batch-size", also=("row-order", "repeatable"))
class MeanOfBatches(Largest):
    def update(self, output: Any, batch: Any) -> None:
        self.largest += float((output.x_hat - batch.target).abs().max())


@plant_metric("depends-on-order", "row-order", also=("batch-size", "repeatable"))
class LastBatch(Largest):
    def update(self, output: Any, batch: Any) -> None:
        self.largest = float((output.x_hat - batch.target)[-1].abs().max())


@plant_metric("changes-the-network", "network-intact")
class ChangesTheNetwork(Largest):
    def compute(self) -> float:
        self.ae.train()
        return super().compute()


@plant_metric("depends-on-the-hour", "clock")
class HourMetric(Largest):
    def compute(self) -> float:
        return super().compute() + time.gmtime().tm_hour


@plant_layer(CentreSpec, "prints", "settings")
class Prints(Centre):
    def forward(self, h: Tensor) -> Tensor:
        print("a batch")
        return super().forward(h)


@plant_layer(CentreSpec, "seeds-numpy", "train-repeatable", also=("eval-random-state",))
class SeedsNumpy(Centre):
    def forward(self, h: Tensor) -> Tensor:
        np.random.seed(0)
        return super().forward(h)


class Average(Centre):
    """Counts batches and averages them."""

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape)
        self.average: Tensor
        self.batches: Tensor
        self.register_buffer("average", torch.zeros(in_shape))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    def forward(self, h: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.average.lerp_(h.mean(0).to(self.average.dtype), 0.1)
                self.batches += 1
        return super().forward(h) - self.average.to(h.dtype)


@good()
class AverageSpec(ModuleSpec):
    kind: Literal["faulty.average"] = "faulty.average"
    module = Average


@plant_layer(AverageSpec, "graph-in-a-buffer", "module-intact")
class GraphInABuffer(Average):
    def forward(self, h: Tensor) -> Tensor:
        if self.training:
            self.average = 0.9 * self.average + 0.1 * h.mean(0).to(self.average.dtype)
        return Centre.forward(self, h)


@plant_layer(AverageSpec, "buffer-changes-dtype", "module-intact")
class BufferChangesDtype(Average):
    def forward(self, h: Tensor) -> Tensor:
        out = super().forward(h)
        if self.training:
            self.batches = self.batches.double()
        return out


@plant_layer(CentreSpec, "after-step-at-a-count", "training-resumes", also=("after-step",))
class AfterStepAtACount(Centre):
    steps = 0

    def after_step(self) -> None:
        self.steps += 1
        if self.steps == 5:
            with torch.no_grad():
                for parameter in self.parameters():
                    parameter.mul_(0.5)
