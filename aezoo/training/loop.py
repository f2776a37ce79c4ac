"""One round of training: the stages of a recipe on one set of samples, epoch by epoch."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from aezoo.data.samples import Batch, Samples
from aezoo.errors import AezooError, TrainingError
from aezoo.evaluation.evaluate import EVAL_BATCH_SIZE
from aezoo.evaluation.metric import EVAL_SEED
from aezoo.model.autoencoder import Autoencoder, Output, StepContext
from aezoo.model.layers.sparsity import Lifetime
from aezoo.progress import EpochBar
from aezoo.specs.recipe import RecipeSpec
from aezoo.specs.stages import DescentStage, FitStage, GreedyStage
from aezoo.specs.variant import VariantSpec
from aezoo.training.diagnostics import warn_loss_rising
from aezoo.training.distributed import ProcessGroup
from aezoo.training.objective import Objective
from aezoo.training.optim import Best, Schedule, optimizer_of, put_back, snapshot
from aezoo.training.stages import at_paths, frozen, pairs_of, principal_components
from aezoo.training.weight_tying import tied

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

Term = Callable[[Output, StepContext, Autoencoder], Tensor]


@dataclass
class TrainingState:
    """What a callback sees and may change.

    Attributes:
        ae: the autoencoder, in training mode.
        recipe: what is being followed.
        samples: the training data as they came.
        optimizer: this stage's.
        stage: index of the stage.
        pair: number of the pair that a greedy stage is at, from 1; 0 in other stages.
        epoch: epochs of this stage that lie behind.
        step: steps of the whole training that lie behind.
        batch: the one in hand, within a step.
        history: a record for each epoch so far.
        stop: set it to end the stage after this epoch.
        writes: whether this process is the one that writes files, where several train together.
    """

    ae: Autoencoder
    recipe: RecipeSpec
    samples: Samples
    optimizer: torch.optim.Optimizer
    stage: int = 0
    pair: int = 0
    epoch: int = 0
    step: int = 0
    batch: StepContext | None = None
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    stop: bool = False
    writes: bool = True


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
    """What a round chose, for a refit to repeat: epochs and learning rates of each part of each stage."""

    rates: list[list[float]] = field(default_factory=list[list[float]])
    epochs: list[int] = field(default_factory=list[int])
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


@dataclass
class _Part:
    """What one descent trains: the whole autoencoder, or a pair of it."""

    number: int
    stage: int
    pair: int
    ae: Autoencoder
    see: Callable[[Tensor], Tensor] | None
    held: Sequence[nn.Module]


class Run:
    """One pass through the stages on one set of samples.

    Args:
        ae: trained in place.
        spec: its recipe is followed.
        samples: trained on.
        validation: chosen by; None in a refit.
        callbacks: called around steps and epochs.
        device: of the autoencoder.
        bar: shown every epoch's record.
        plan: what an earlier round chose, to repeat.
        keep: given, after every epoch, what `restored` takes to go on from there.
        restored: what `keep` was last given by a run that was cut off.
        crew: the processes that share every batch.
    """

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
        keep: Callable[[dict[str, Any]], None] | None = None,
        restored: dict[str, Any] | None = None,
        crew: ProcessGroup = ProcessGroup(),  # noqa: B008 - frozen
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
        self.keep = keep
        self.restored = restored
        self.crew = crew
        self.chosen = Plan()
        self.generator = Generator().manual_seed(self.recipe.seed)
        self.terms: list[Term] = []
        self.modules: list[nn.Module] = []
        self._build_terms()
        self.steps = 0
        kind = str(self.recipe.reconstruction.kind_name)
        self.data_term = kind if kind != "loss" else "loss.0"

    def _build_terms(self) -> None:
        self.objective = Objective(self.recipe).to(self.device)
        self.terms = self.objective.terms
        self.modules = [self.objective]

    def fit(self) -> Plan:
        """Runs every stage and says what it came to."""
        number = 0
        for index, stage in enumerate(self.recipe.stages):
            where = f"recipe.stages.{index}"
            if isinstance(stage, FitStage):
                held = at_paths(self.ae, stage.freeze, f"{where}.freeze")
                self._part(stage, _Part(number, index, 0, self.ae, None, held))
                number += 1
            elif isinstance(stage, GreedyStage):
                own = self.objective
                for pair, part in enumerate(pairs_of(self.ae, stage.reconstruct == "own_input", where), 1):
                    # A loss that keeps count of latents counts this pair's.
                    self._build_terms()
                    self._part(stage, _Part(number, index, pair, part.ae, part.see, part.held))
                    number += 1
                self.objective = own
                self.modules = [own]
            elif not self._is_behind(number):
                principal_components(self.ae, self.samples, where)
        return self.chosen

    def _is_behind(self, number: int) -> bool:
        """Whether the run that is gone on with had come past this part."""
        return self.restored is not None and number <= self.restored["part"]

    def _part(self, stage: DescentStage, part: _Part) -> None:
        if self._is_behind(part.number + 1):
            return
        where = f"recipe.stages.{part.stage}.tie"
        with frozen(part.held), tied(part.ae, where) if stage.tie else nullcontext():
            self._descend(stage, part)

    def _descend(self, stage: DescentStage, part: _Part) -> None:
        parameters = [p for p in (*part.ae.parameters(), *self._own()) if p.requires_grad]
        optimizer = optimizer_of(stage, parameters)
        state = TrainingState(
            self.ae, self.recipe, self.samples, optimizer, part.stage, part.pair, step=self.steps,
            history=self.chosen.history, writes=self.crew.writes,
        )  # fmt: skip
        epochs = stage.epochs if self.plan is None else self.plan.epochs[part.number]
        schedule = Schedule(stage, math.ceil(len(self.samples) / self.recipe.batch_size))
        best = Best([self.ae, *self.modules], stage)
        rates: list[float] = []
        ended = False
        self._train_mode(True, part)
        for callback in self.callbacks:
            callback.on_fit_start(state)
        if self.restored is not None:
            ended = self._restore(self.restored, state, schedule, best, rates)
            self.restored = None
        while not ended and state.epoch < epochs:
            record = self._record_epoch(state, schedule, part, rates)
            self.chosen.history.append(record)
            warn_loss_rising(self.chosen.history, self.data_term)
            self.bar.show(record, epochs, len(self.samples))
            for callback in self.callbacks:
                callback.on_epoch_end(state)
            if self.validation is not None:
                loss = cast(dict[str, float], record["validation"])["loss"]
                schedule.epoch_done(loss)
                ended = best.epoch_done(state.epoch, loss)
            ended = ended or state.stop
            if self.keep is not None:
                self.keep(self._state(part, state, schedule, best, rates, ended))
        self.steps = state.step
        self.chosen.rates.append(rates)
        self.chosen.epochs.append(best.restore() or len(rates))

    def _record_epoch(
        self, state: TrainingState, schedule: Schedule, part: _Part, rates: list[float]
    ) -> dict[str, Any]:
        clock = time.perf_counter()
        good = snapshot([self.ae, *self.modules])
        if self.plan is not None:
            schedule.replay(self.plan.rates[part.number][state.epoch])
        rates.append(schedule.rate)
        try:
            train = self._epoch(state, schedule, part)
            state.epoch += 1
            record: dict[str, Any] = {
                "round": "choose" if self.plan is None else "refit",
                "stage": part.stage,
                **({"pair": part.pair} if part.pair else {}),
                "epoch": state.epoch,
                "train": train,
                "lr": state.optimizer.param_groups[0]["lr"],
            }
            if self.validation is not None:
                validation = self._validate(self.validation, float(state.epoch), state.step, part)
                record["validation"] = validation
                bad = [name for name, value in validation.items() if not math.isfinite(value)]
                _refuse_nonfinite(bad, part, state.epoch, "validation")
            elif not self._is_finite():
                # Without validation nothing else tells that the epoch's last step broke them.
                _refuse_nonfinite(["weights"], part, state.epoch, "its last step")
        except TrainingError:
            put_back([self.ae, *self.modules], good)
            raise
        except KeyboardInterrupt:
            # Half an epoch is worth keeping, but not once it has diverged.
            if not self._is_finite():
                put_back([self.ae, *self.modules], good)
            raise
        record["seconds"] = round(time.perf_counter() - clock, 3)
        return record

    def _is_finite(self) -> bool:
        return all(bool(parameter.isfinite().all()) for parameter in self.ae.parameters())

    def _own(self) -> Iterator[nn.Parameter]:
        for module in self.modules:
            yield from module.parameters()

    def _train_mode(self, on: bool, part: _Part) -> None:
        # A pair is an autoencoder of its own, whose mode losses may ask for.
        for module in (self.ae, part.ae, *self.modules):
            module.train(on)
        if part.see is not None or part.held:
            # Running statistics of what is frozen stay as they are, and nothing of it is dropped.
            self.ae.eval()
            part.ae.train(on)
            for module in part.held:
                module.eval()

    def _epoch(self, state: TrainingState, schedule: Schedule, part: _Part) -> dict[str, float]:
        self._train_mode(True, part)
        held = {module for layer in part.held for module in layer.modules()}
        after_step = [
            cast(Callable[[], None], module.after_step)
            for module in part.ae.modules()
            if callable(getattr(module, "after_step", None)) and module not in held
        ]
        forward = self.crew.forward(part.ae, self._spanning(part.ae))
        parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
        n = len(self.samples)
        order = torch.randperm(n, generator=self.generator).to(self.samples.inputs.device)
        sums: dict[str, Tensor] = {}
        first_bad: dict[str, Tensor] = {}
        for number, start in enumerate(range(0, n, self.recipe.batch_size), 1):
            rows = self.samples.rows(order[start : start + self.recipe.batch_size], self.spec)
            batch = self._batch(rows, state.epoch + start / n, state.step, self.generator, part)
            state.batch = batch
            for callback in self.callbacks:
                callback.before_step(state)
            for group in state.optimizer.param_groups:
                group["lr"] = schedule.next()
            try:
                loss, values = self.objective(part.ae, batch, forward)
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
            self.crew.average_gradients(parameters)
            state.optimizer.step()
            for restore in after_step:
                restore()
            state.step += 1
            for callback in self.callbacks:
                callback.after_step(state)
            _add(sums, {"loss": loss, **values}, len(rows.input))
            _note_nonfinite(first_bad, values, number)
        state.batch = None
        when = {name: int(number) for name, number in first_bad.items() if number > 0}
        earliest = min(when.values(), default=0)
        bad = [name for name, number in when.items() if number == earliest]
        _refuse_nonfinite(bad, part, state.epoch + 1, f"batch {earliest}")
        self.crew.same_buffers([self.ae])
        return self.crew.agreed({name: float(total) / n for name, total in sums.items()})

    def _spanning(self, ae: Autoencoder) -> list[nn.Module]:
        """Layers whose rows depend on one another, and which are to see the whole batch."""
        norms = BATCH_NORMS if self.recipe.global_batch_norm else ()
        return [module for module in ae.modules() if isinstance(module, (Lifetime, *norms))]

    def _batch(self, rows: Batch, epoch: float, step: int, generator: Generator, part: _Part) -> StepContext:
        rows = rows.to(self.device)
        if part.see is not None:
            # Behind others, a pair's own input is its target, too.
            seen = part.see(rows.input)
            rows = Batch(seen, seen, rows.labels)
        x = rows.input
        for noise in self.recipe.noises:
            x = noise(x, generator)
        return StepContext(x, rows.target, rows.labels, epoch, step, generator)

    @torch.no_grad()
    def _validate(self, samples: Samples, epoch: float, step: int, part: _Part) -> dict[str, float]:
        self._train_mode(False, part)
        generator = Generator().manual_seed(EVAL_SEED)
        sums: dict[str, Tensor] = {}
        forward = self.crew.forward(part.ae, self._spanning(part.ae))
        for rows in samples.batches(self.spec, EVAL_BATCH_SIZE):
            batch = self._batch(rows, epoch, step, generator, part)
            loss, values = self.objective(part.ae, batch, forward)
            _add(sums, {"loss": loss, **values}, len(rows.input))
        self._train_mode(True, part)
        return self.crew.agreed({name: float(total) / len(samples) for name, total in sums.items()})

    # -- going on after a cut ---------------------------------------------------------------------

    def _state(
        self,
        part: _Part,
        state: TrainingState,
        schedule: Schedule,
        best: Best,
        rates: list[float],
        ended: bool,
    ) -> dict[str, Any]:
        """All that decides how this run goes on, in types that PyTorch loads without unpickling code."""
        device = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        return {
            "part": part.number,
            "epoch": state.epoch,
            "ended": ended,
            "step": state.step,
            "tensors": snapshot([self.ae, *self.modules]),
            "optimizer": state.optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "best": best.state_dict(),
            "rates": rates,
            "random": self.crew.everyones([self.generator.get_state(), torch.get_rng_state(), *device]),
            "done": {"rates": self.chosen.rates, "epochs": self.chosen.epochs},
            "history": self.chosen.history,
            "callbacks": [callback.state_dict() for callback in self.callbacks],
        }

    def _restore(
        self,
        kept: dict[str, Any],
        state: TrainingState,
        schedule: Schedule,
        best: Best,
        rates: list[float],
    ) -> bool:
        """Takes all that back; says whether the part had ended."""
        put_back([self.ae, *self.modules], kept["tensors"])
        state.optimizer.load_state_dict(kept["optimizer"])
        schedule.load_state_dict(kept["schedule"])
        best.load_state_dict(kept["best"])
        rates[:] = kept["rates"]
        state.epoch, state.step = kept["epoch"], kept["step"]
        self.chosen.rates, self.chosen.epochs = kept["done"]["rates"], kept["done"]["epochs"]
        self.chosen.history[:] = kept["history"]
        for callback, its in zip(self.callbacks, kept["callbacks"], strict=True):
            callback.load_state_dict(its)
        own, everywhere, *device = kept["random"][self.crew.rank]
        self.generator.set_state(own)
        torch.set_rng_state(everywhere)
        if device:
            torch.cuda.set_rng_state(device[0], self.device)
        return kept["ended"]


def _add(sums: dict[str, Tensor], values: dict[str, Tensor], rows: int) -> None:
    # Summed where it was computed: asking for a number at every step would stall a GPU.
    for name, value in values.items():
        term = value.detach().double() * rows if value.device.type != "mps" else value.detach() * rows
        sums[name] = sums[name] + term if name in sums else term


def _note_nonfinite(first: dict[str, Tensor], values: dict[str, Tensor], number: int) -> None:
    """Remembers the first batch in which a term was not finite; without asking, for the same reason."""
    for name, value in values.items():
        now = torch.where(torch.isfinite(value), 0, number)
        first[name] = torch.where(first[name] > 0, first[name], now) if name in first else now


def _refuse_nonfinite(bad: list[str], part: _Part, epoch: int, where: str) -> None:
    names = [name for name in bad if name != "loss"]
    if names:
        pair = f", pair {part.pair}" if part.pair else ""
        words = ", ".join(map(repr, names))
        raise TrainingError(
            f"stage {part.stage}{pair}, epoch {epoch}, {where}: the term {words} is no longer finite; a "
            "lower learning rate usually helps. The weights are those of the epoch before"
        )
