"""One round of training: the stages of a recipe on one set of samples, epoch by epoch."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from aezoo.advice import of_first_epochs
from aezoo.autoencoder import Autoencoder, Batch, Output
from aezoo.errors import AezooError, TrainingError
from aezoo.progress import EpochBar
from aezoo.samples import Rows, Samples
from aezoo.specs import (
    AdamSpec,
    ConstantSpec,
    CosineSpec,
    FitStage,
    PlateauSpec,
    RecipeSpec,
    VariantSpec,
)
from aezoo.tying import tied

EVAL_BATCH = 1000
EVAL_SEED = 0x5EED
"""Noise in evaluation is the same in every epoch and every run."""

Term = Callable[[Output, Batch, Autoencoder], Tensor]


@dataclass
class TrainingState:
    """What a callback sees and may change.

    Attributes:
        ae: the autoencoder, in training mode.
        recipe: what is being followed.
        samples: the training data as they came.
        optimizer: this stage's.
        stage: index of the stage.
        epoch: epochs of this stage that lie behind.
        step: steps of the whole training that lie behind.
        batch: the one in hand, within a step.
        history: a record for each epoch so far.
        stop: set it to end the stage after this epoch.
    """

    ae: Autoencoder
    recipe: RecipeSpec
    samples: Samples
    optimizer: torch.optim.Optimizer
    stage: int = 0
    epoch: int = 0
    step: int = 0
    batch: Batch | None = None
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    stop: bool = False


class Callback:
    """Hooks around training; override the ones that matter."""

    def on_fit_start(self, state: TrainingState) -> None:
        """Before the first step of each stage."""

    def before_step(self, state: TrainingState) -> None:
        """Before each forward pass; `state.batch` is at hand."""

    def after_step(self, state: TrainingState) -> None:
        """After each step of the optimizer and the layers' own `after_step`."""

    def on_epoch_end(self, state: TrainingState) -> None:
        """After each epoch; its record is the last of `state.history`."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs to go on as if uninterrupted; empty where nothing is kept."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""


# -- one round of training ----------------------------------------------------------------------------


@dataclass
class Plan:
    """What a round chose, for a refit to repeat: the epochs and learning rates of each stage."""

    rates: list[list[float]] = field(default_factory=list[list[float]])
    epochs: list[int] = field(default_factory=list[int])
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


class Run:
    """One pass through the stages on one set of samples."""

    def __init__(
        self,
        ae: Autoencoder,
        spec: VariantSpec,
        samples: Samples,
        validation: Samples | None,
        callbacks: Sequence[Callback],
        device: torch.device,
        bar: EpochBar,
        plan: Plan | None = None,
    ) -> None:
        self.ae = ae
        self.spec = spec
        self.recipe = spec.recipe
        self.samples = samples.to(device)
        self.validation = None if validation is None else validation.to(device)
        self.callbacks = callbacks
        self.device = device
        self.bar = bar
        self.plan = plan
        self.chosen = Plan()
        self.generator = Generator().manual_seed(self.recipe.seed)
        losses = (self.recipe.reconstruction, *self.recipe.penalties)
        self.terms: list[Term] = [loss.build() for loss in losses]
        self.modules = [term.to(device) for term in self.terms if isinstance(term, nn.Module)]
        self.steps = 0
        kind = str(self.recipe.reconstruction.declared_kind)
        self.data_term = kind if kind != "loss" else "loss.0"

    def fit(self) -> Plan:
        """Runs every stage and says what it came to."""
        for index, stage in enumerate(self.recipe.stages):
            assert isinstance(stage, FitStage)
            with tied(self.ae, f"recipe.stages.{index}.tie") if stage.tie else nullcontext():
                self._stage(index, stage)
        return self.chosen

    def _stage(self, index: int, stage: FitStage) -> None:
        parameters = [p for p in (*self.ae.parameters(), *self._own()) if p.requires_grad]
        optimizer = _optimizer(stage, parameters)
        state = TrainingState(
            self.ae, self.recipe, self.samples, optimizer, index, step=self.steps, history=self.chosen.history
        )
        epochs = stage.epochs if self.plan is None else self.plan.epochs[index]
        schedule = _Schedule(stage, math.ceil(len(self.samples) / self.recipe.batch_size))
        best = _Best(self.ae, self.modules, stage)
        rates: list[float] = []
        self._train_mode(True)
        for callback in self.callbacks:
            callback.on_fit_start(state)
        for epoch in range(epochs):
            clock = time.perf_counter()
            if self.plan is not None:
                schedule.replay(self.plan.rates[index][epoch])
            rates.append(schedule.rate)
            record: dict[str, Any] = {
                "round": "choose" if self.plan is None else "refit",
                "stage": index,
                "epoch": epoch + 1,
                "train": self._epoch(state, schedule),
                "lr": optimizer.param_groups[0]["lr"],
            }
            state.epoch = epoch + 1
            if self.validation is not None:
                record["validation"] = self._validate(self.validation, float(epoch + 1), state.step)
            record["seconds"] = round(time.perf_counter() - clock, 3)
            self._refuse_nonfinite(record)
            self.chosen.history.append(record)
            of_first_epochs(self.chosen.history, self.data_term)
            self.bar.show(record, epochs)
            for callback in self.callbacks:
                callback.on_epoch_end(state)
            if self.validation is not None:
                loss = cast(dict[str, float], record["validation"])["loss"]
                schedule.epoch_done(loss)
                if best.epoch_done(epoch + 1, loss):
                    break
            if state.stop:
                break
        self.steps = state.step
        self.chosen.rates.append(rates)
        self.chosen.epochs.append(best.restore() or len(rates))

    def _own(self) -> Iterator[nn.Parameter]:
        for module in self.modules:
            yield from module.parameters()

    def _train_mode(self, on: bool) -> None:
        for module in (self.ae, *self.modules):
            module.train(on)

    def _epoch(self, state: TrainingState, schedule: "_Schedule") -> dict[str, float]:
        self._train_mode(True)
        after_step = [
            cast(Callable[[], None], module.after_step)
            for module in self.ae.modules()
            if callable(getattr(module, "after_step", None))
        ]
        n = len(self.samples)
        order = torch.randperm(n, generator=self.generator).to(self.samples.inputs.device)
        sums: dict[str, Tensor] = {}
        for start in range(0, n, self.recipe.batch_size):
            rows = self.samples.rows(order[start : start + self.recipe.batch_size], self.spec)
            batch = self._batch(rows, state.epoch + start / n, state.step, self.generator)
            state.batch = batch
            for callback in self.callbacks:
                callback.before_step(state)
            for group in state.optimizer.param_groups:
                group["lr"] = schedule.next()
            try:
                loss, values = self.recipe.objective(self.ae, batch, self.terms)
            except ValueError as error:
                if len(rows.input) > 1 or isinstance(error, AezooError):
                    raise
                size = self.recipe.batch_size
                raise TrainingError(
                    f"a batch of 1 row cannot be trained on ({error}); {n} rows in batches of {size} leave "
                    "one over, choose another recipe.batch_size"
                ) from error
            state.optimizer.zero_grad()
            loss.backward()
            state.optimizer.step()
            for restore in after_step:
                restore()
            state.step += 1
            for callback in self.callbacks:
                callback.after_step(state)
            _add(sums, {"loss": loss, **values}, len(rows.input))
        state.batch = None
        return {name: float(total) / n for name, total in sums.items()}

    def _batch(self, rows: Rows, epoch: float, step: int, generator: Generator) -> Batch:
        rows = rows.to(self.device)
        x = rows.input
        for noise in self.recipe.noises:
            x = noise(x, generator)
        return Batch(x, rows.target, rows.labels, epoch, step, generator)

    @torch.no_grad()
    def _validate(self, samples: Samples, epoch: float, step: int) -> dict[str, float]:
        self._train_mode(False)
        generator = Generator().manual_seed(EVAL_SEED)
        sums: dict[str, Tensor] = {}
        for rows in samples.in_order(self.spec, EVAL_BATCH):
            batch = self._batch(rows, epoch, step, generator)
            loss, values = self.recipe.objective(self.ae, batch, self.terms)
            _add(sums, {"loss": loss, **values}, len(rows.input))
        self._train_mode(True)
        return {name: float(total) / len(samples) for name, total in sums.items()}

    def _refuse_nonfinite(self, record: dict[str, Any]) -> None:
        for part in ("train", "validation"):
            values = cast(dict[str, float], record.get(part, {}))
            bad = [f"{k!r} became {v}" for k, v in values.items() if k != "loss" and not math.isfinite(v)]
            if bad:
                raise TrainingError(
                    f"stage {record['stage']}, epoch {record['epoch']}: the {part} term {', '.join(bad)}; "
                    "a lower learning rate usually helps"
                )


def _add(sums: dict[str, Tensor], values: dict[str, Tensor], rows: int) -> None:
    # Summed where it was computed: asking for a number at every step would stall a GPU.
    for name, value in values.items():
        term = value.detach().double() * rows if value.device.type != "mps" else value.detach() * rows
        sums[name] = sums[name] + term if name in sums else term


def _optimizer(stage: FitStage, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    spec = stage.optimizer
    assert isinstance(spec, AdamSpec)
    fused = all(p.device.type in ("cpu", "cuda", "mps") and p.is_floating_point() for p in parameters)
    return torch.optim.Adam(
        parameters, lr=spec.lr, betas=spec.betas, eps=spec.eps, weight_decay=spec.weight_decay, fused=fused
    )


class _Schedule:
    """The learning rate of each step of a stage."""

    def __init__(self, stage: FitStage, steps_per_epoch: int) -> None:
        assert isinstance(stage.optimizer, AdamSpec)
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
            assert isinstance(self.spec, ConstantSpec | CosineSpec)
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


class _Best:
    """The weights of a stage's best epoch, where the stage stops early."""

    def __init__(self, ae: Autoencoder, modules: list[nn.Module], stage: FitStage) -> None:
        self.spec = stage.early_stop
        self.modules: list[nn.Module] = [ae, *modules]
        self.loss = math.inf
        self.epoch = 0
        self.kept: list[Tensor] = []

    def _tensors(self) -> Iterator[Tensor]:
        for module in self.modules:
            yield from module.parameters()
            yield from module.buffers()

    def epoch_done(self, epoch: int, loss: float) -> bool:
        """Takes note of the validation loss; True when the stage should end."""
        if self.spec is None:
            return False
        if loss < self.loss - self.spec.min_delta:
            self.loss, self.epoch = loss, epoch
            self.kept = [tensor.detach().clone() for tensor in self._tensors()]
        return epoch - self.epoch >= self.spec.patience

    def restore(self) -> int:
        """Goes back to the best epoch and returns its number; 0 where there is none to go back to."""
        if self.kept:
            with torch.no_grad():
                for tensor, kept in zip(self._tensors(), self.kept, strict=True):
                    tensor.copy_(kept)
        return self.epoch
