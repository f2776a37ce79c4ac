"""The training loop: `StageRunner.fit` trains one unit of a stage, epoch by epoch and step by step."""

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from aezoo.data.samples import Batch
from aezoo.errors import TrainingError
from aezoo.evaluation.evaluate import EVAL_BATCH_SIZE
from aezoo.evaluation.metric import EVAL_SEED
from aezoo.model.output import Output, StepContext
from aezoo.model.sparse_path import sparse_kernels
from aezoo.training.callbacks import TrainingState
from aezoo.training.diagnostics import warn_loss_rising
from aezoo.training.objective import Objective
from aezoo.training.optim import (
    EarlyStopping,
    LRSchedule,
    build_optimizer,
    copy_state,
    has_state,
    restore_state,
)
from aezoo.training.run import Round
from aezoo.training.stages import TrainUnit


class StageRunner:
    """Trains one unit of a stage, and owns all state that changes meanwhile.

    Args:
        round_: the round in progress, which has the data.
        unit: the unit to train.
    """

    epochs: int
    schedule: LRSchedule
    early_stopping: EarlyStopping
    state: TrainingState
    forward: Callable[[Tensor], Output]
    invariants: list[Callable[[], None]]

    def __init__(self, round_: Round, unit: TrainUnit) -> None:
        self.run, self.round, self.unit = round_.run, round_, unit
        self.ae, self.recipe, self.group = self.run.ae, self.run.recipe, self.run.group
        # A pair has latents of its own, and losses that count dead latents must not mix them up.
        self.objective = Objective(self.recipe).to(self.run.device) if unit.layer_pair else round_.objective
        self.trained: list[nn.Module] = [self.ae, self.objective]
        self.lrs: list[float] = []
        self.ended = False

    def fit(self) -> None:
        """Trains the unit until its last epoch, or until early stopping or a callback ends it."""
        # A layer pair is an autoencoder without a recipe.
        sparse = nullcontext() if self.recipe.has_sparse_kernels else sparse_kernels(False)
        with self.unit.constrained(), sparse:
            self._start()
            while not self.ended and self.state.epoch < self.epochs:
                start = time.perf_counter()
                with self._restore_if_not_finite():
                    train = self.train_epoch()
                    validation = self.validate()
                self._end_epoch(train, validation, time.perf_counter() - start)
            kept = self.early_stopping.restore_best() or len(self.lrs)
            self.round.step = self.state.step
            self.round.epoch += 0 if self.unit.layer_pair else kept
            self.round.selected.lrs.append(self.lrs)
            self.round.selected.epochs.append(kept)

    def train_epoch(self) -> dict[str, float]:
        """Trains one epoch and returns the mean of the objective and of each term over all rows."""
        self._set_mode(training=True)
        for callback in self.run.callbacks:
            callback.on_epoch_start(self.state)
        if self.round.replay is not None:
            # A refit has no validation loss, by which a plateau schedule reduces the rate.
            self.schedule.lr = self.round.replay.lrs[self.unit.index][self.state.epoch]
        self.lrs.append(self.schedule.lr)
        sums = TermSums()
        for batch, epoch in self._shuffled_batches():
            sums.add(self.step(self._context(batch, self.round.generator, epoch)), len(batch.input))
        self.state.context = None
        self.state.epoch += 1
        sums.raise_if_not_finite(self.unit, self.state.epoch)
        return self.group.broadcast(sums.means())

    def step(self, context: StepContext) -> dict[str, Tensor]:
        """Takes one optimizer step and returns the objective and its terms, detached."""
        optimizer = self.state.optimizer
        self.state.context = context
        self.schedule.step_groups(optimizer)
        for callback in self.run.callbacks:
            callback.before_step(self.state)
        loss, terms = self.objective(self.unit.ae, context, self.forward)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        loss.backward()
        self.group.average_gradients(p for group in optimizer.param_groups for p in group["params"])
        optimizer.step()
        self.group.sync_buffers(*self.trained)
        self.run.has_stepped = True
        for restore_invariant in self.invariants:
            restore_invariant()
        self.state.step += 1
        for callback in self.run.callbacks:
            callback.after_step(self.state)
        return {"loss": loss.detach(), **terms}

    @torch.no_grad()
    def validate(self) -> dict[str, float] | None:
        """Returns the mean of the objective and of each term over the validation split; None in a refit.

        Every term has its full weight in the objective, because early stopping and a plateau schedule compare
        epochs, and a weight that is still growing would make each look worse than the one before.
        """
        samples = self.round.validation
        if samples is None:
            # Without a validation loss, nothing else shows that the epoch's last step broke the weights.
            if not self._is_finite():
                raise _not_finite(["weights"], self.unit, self.state.epoch, "its last step")
            return None
        self._set_mode(training=False)
        generator = torch.Generator().manual_seed(EVAL_SEED)
        sums = TermSums()
        for batch in samples.batches(self.ae.spec, EVAL_BATCH_SIZE):
            context = self._context(batch, generator, float(self._epochs()))
            loss, terms = self.objective(self.unit.ae, context, self.forward, warmup=False)
            sums.add({"loss": loss, **terms}, len(batch.input))
        self._set_mode(training=True)
        means = self.group.broadcast(sums.means())
        if bad := [name for name, value in means.items() if name != "loss" and not math.isfinite(value)]:
            raise _not_finite(bad, self.unit, self.state.epoch, "validation")
        return means

    # -- around epochs ----------------------------------------------------------------------------

    def _start(self) -> None:
        """Creates the optimizer and the other parts that need the unit's weights frozen and tied."""
        round_, stage = self.round, self.unit.spec
        self.unit.ae.arrange_weights()
        self.epochs = stage.epochs if round_.replay is None else round_.replay.epochs[self.unit.index]
        parameters = (*self.unit.ae.parameters(), *self.objective.parameters())
        optimizer = build_optimizer(stage, [p for p in parameters if p.requires_grad])
        self.schedule = LRSchedule(stage, math.ceil(len(round_.samples) / self.recipe.batch_size))
        self.early_stopping = EarlyStopping(self.trained, stage)
        self.state = TrainingState(
            self.ae, self.recipe, round_.samples, optimizer, self.unit.stage, self.unit.layer_pair,
            step=round_.step, history=round_.selected.history, is_main=self.group.is_main,
        )  # fmt: skip
        self.forward = self.group.forward(self.unit.ae, self.recipe.global_batch_norm)
        frozen = {module for layer in self.unit.frozen for module in layer.modules()}
        self.invariants = [
            cast(Callable[[], None], module.after_step)
            for module in self.unit.ae.modules()
            if callable(getattr(module, "after_step", None)) and module not in frozen
        ]
        self._set_mode(training=True)
        for number, callback in enumerate(self.run.callbacks):
            with self.run.keep_loaded_weights(number, self.state.step):
                callback.on_fit_start(self.state)
        if round_.resume_state is not None:
            assert self.run.resume_file is not None
            with self.run.resume_file.reading():
                self.load_state_dict(round_.resume_state)
            round_.resume_state = None

    def _end_epoch(
        self, train: dict[str, float], validation: dict[str, float] | None, seconds: float
    ) -> None:
        """Records the epoch, calls callbacks, and decides whether it was the last."""
        round_, state = self.round, self.state
        record: dict[str, Any] = {
            "round": round_.name,
            "stage": self.unit.stage,
            **({"pair": self.unit.layer_pair} if self.unit.layer_pair else {}),
            "epoch": state.epoch,
            "train": train,
            "lr": self.state.optimizer.param_groups[0]["lr"],
            **({} if validation is None else {"validation": validation}),
            "seconds": round(seconds, 3),
        }
        state.history.append(record)
        warn_loss_rising(state.history, self.objective.data_term)
        round_.bar.show(record, self.epochs, len(round_.samples))
        self._call_on_epoch_end()
        if validation is not None:
            self.schedule.on_epoch_end(validation["loss"])
            self.ended = self.early_stopping.should_stop(state.epoch, validation["loss"])
        self.ended = self.ended or state.stop
        if self.run.resume_file is not None:
            self.run.write_resume_file(round_, self.state_dict())

    def _call_on_epoch_end(self) -> None:
        """Calls the callbacks' `on_epoch_end`.

        Raises:
            TrainingError: one of them changed the weights, which would then not be those that were validated.
        """
        weights = copy_state(self.trained) if self.run.callbacks else []
        for callback in self.run.callbacks:
            callback.on_epoch_end(self.state)
            if not has_state(self.trained, weights):
                raise TrainingError(
                    f"{type(callback).__name__} changed the weights in on_epoch_end, after the epoch was "
                    "validated; change them in on_epoch_start or after_step"
                )

    @contextmanager
    def _restore_if_not_finite(self) -> Generator[None]:
        """Context manager that restores the state before the epoch if the epoch diverges."""
        state = copy_state(self.trained)
        try:
            yield
        except TrainingError:
            restore_state(self.trained, state)
            raise
        except KeyboardInterrupt:
            # Half an epoch is kept unless it has diverged.
            if not self._is_finite():
                restore_state(self.trained, state)
            raise

    def _is_finite(self) -> bool:
        return all(bool(parameter.isfinite().all()) for parameter in self.ae.parameters())

    # -- around steps -----------------------------------------------------------------------------

    def _set_mode(self, *, training: bool) -> None:
        # A pair is an autoencoder of its own, and losses may read its mode.
        for module in (self.ae, self.unit.ae, self.objective):
            module.train(training)
        if self.unit.preprocess is not None or self.unit.frozen:
            # Frozen layers keep their running statistics and apply no dropout.
            self.ae.eval()
            self.unit.ae.train(training)
            for module in self.unit.frozen:
                module.eval()

    def _shuffled_batches(self) -> Iterator[tuple[Batch, float]]:
        """Yields the batches of an epoch in random order, each with the fractional epoch at its start.

        Epochs are counted over all stages; each layer pair of a greedy stage, whose losses are built again,
        counts its own.
        """
        samples, size = self.round.samples, self.recipe.batch_size
        n = len(samples)
        order = torch.randperm(n, generator=self.round.generator, device="cpu").to(samples.inputs.device)
        for start in range(0, n, size):
            epoch = self._epochs() + start / n
            yield samples.batch(order[start : start + size], self.ae.spec), epoch

    def _epochs(self) -> int:
        return self.state.epoch + (0 if self.unit.layer_pair else self.round.epoch)

    def _context(self, batch: Batch, generator: torch.Generator, epoch: float) -> StepContext:
        batch = batch.to(self.run.device)
        if self.unit.preprocess is not None:
            # An inner pair reconstructs its own input.
            x = self.unit.preprocess(batch.input)
            batch = Batch(x, x, batch.labels)
        x = batch.input
        for noise in self.recipe.noises:
            x = noise(x, generator)
        return StepContext(x, batch.target, batch.labels, epoch, self.state.step, generator)

    # -- resuming ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Returns all state that training depends on, as tensors and plain values."""
        device = self.run.device
        cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
        return {
            "unit": self.unit.index,
            "epoch": self.state.epoch,
            "ended": self.ended,
            "step": self.state.step,
            "epochs_before": self.round.epoch,
            "tensors": copy_state(self.trained),
            "optimizer": self.state.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "early_stopping": self.early_stopping.state_dict(),
            "lrs": self.lrs,
            "random": self.group.all_gather([self.round.generator.get_state(), torch.get_rng_state(), *cuda]),
            "selected": {"lrs": self.round.selected.lrs, "epochs": self.round.selected.epochs},
            "history": self.state.history,
            "callbacks": [callback.state_dict() for callback in self.run.callbacks],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state that `state_dict` returned."""
        restore_state(self.trained, state["tensors"])
        self.state.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.early_stopping.load_state_dict(state["early_stopping"])
        self.lrs[:] = state["lrs"]
        self.state.epoch, self.state.step = state["epoch"], state["step"]
        self.round.epoch = state["epochs_before"]
        self.round.selected.lrs[:] = state["selected"]["lrs"]
        self.round.selected.epochs[:] = state["selected"]["epochs"]
        self.state.history[:] = state["history"]
        for callback, callback_state in zip(self.run.callbacks, state["callbacks"], strict=True):
            callback.load_state_dict(callback_state)
        generator, default_generator, *cuda = state["random"][self.group.rank]
        self.round.generator.set_state(generator)
        torch.set_rng_state(default_generator)
        if cuda:
            torch.cuda.set_rng_state(cuda[0], self.run.device)
        self.ended = state["ended"]


class TermSums:
    """Sums of the objective and its terms over the batches of a pass.

    Values stay on the device until the end of the pass, because reading one at every step would stall a GPU.
    """

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.values: dict[str, list[Tensor]] = {}

    def add(self, values: dict[str, Tensor], rows: int) -> None:
        """Adds the values of one batch, each a mean over its rows."""
        self.rows.append(rows)
        for name, value in values.items():
            self.values.setdefault(name, []).append(value.detach())

    def means(self) -> dict[str, float]:
        """Returns the means over all rows, by name."""
        return {
            name: sum(value * rows for value, rows in zip(_floats(values), self.rows, strict=True))
            / sum(self.rows)
            for name, values in self.values.items()
        }

    def raise_if_not_finite(self, unit: TrainUnit, epoch: int) -> None:
        """Raises an error that names the terms that first became NaN or infinite, and the batch."""
        first: dict[str, int] = {}
        for name, values in self.values.items():
            bad = [number for number, value in enumerate(_floats(values), 1) if not math.isfinite(value)]
            if name != "loss" and bad:
                first[name] = bad[0]
        if first:
            batch = min(first.values())
            raise _not_finite([n for n, b in first.items() if b == batch], unit, epoch, f"batch {batch}")


def _floats(values: list[Tensor]) -> list[float]:
    """The values of tensors with one value each, by one copy from the device."""
    if len({value.dtype for value in values}) > 1:
        return [float(value) for value in values]
    return cast(list[float], torch.stack([value.reshape(()) for value in values]).tolist())


def _not_finite(terms: list[str], unit: TrainUnit, epoch: int, where: str) -> TrainingError:
    text = f"{unit}, epoch {epoch}, {where}: the term {', '.join(map(repr, terms))} is no longer finite"
    return TrainingError(
        f"{text}; a lower learning rate usually helps. The weights are those of the epoch before"
    )
