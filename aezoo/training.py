"""From a recipe to a trained autoencoder: stages in order, chosen on validation, measured once on test."""

import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from aezoo.autoencoder import Autoencoder, Batch, Output, Source
from aezoo.builder import build, skeleton
from aezoo.datasets import Data, Rows, Samples, gather
from aezoo.errors import DataError, Problem, SpecError, TrainingError
from aezoo.evaluation import Metric, evaluate
from aezoo.progress import EpochBar
from aezoo.specs import (
    AdamSpec,
    ConstantSpec,
    CosineSpec,
    FitStage,
    LossSpec,
    PlateauSpec,
    RecipeSpec,
    VariantSpec,
)

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


def train(
    spec: VariantSpec,
    data: object = None,
    *,
    device: str | torch.device = "auto",
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    max_parameters: int | None = None,
) -> Autoencoder:
    """Trains a variant by its recipe.

    Everything is chosen on the validation split. A recipe with `refit` then trains the chosen epochs
    once more, from the same initial weights, on training and validation data together. The test split
    is read once, at the end. On a CPU the same spec, data and versions give the same weights bit for bit.
    PyTorch's global random state and number of threads are put back.

    Args:
        spec: what to build and how to train it.
        data: what to train on in place of `recipe.dataset`: a tensor or an array (n, *shape), a pair
            (input, target), a map-style dataset, a `Samples` or a dataset spec. A tenth of one's own
            data, drawn with the recipe's seed, is held out for validation.
        device: `cpu`, `cuda`, `mps`, or `auto` for the fastest that is there.
        callbacks: called after the recipe's own, during both rounds of a refit.
        progress: whether to show a bar where the output is a terminal.
        max_parameters: as for `build`.

    Returns:
        The autoencoder in evaluation mode, with `metrics`, `history` and `training_record`.

    Raises:
        SpecError: a spec that cannot be built or trained.
        DataError: data that are missing or do not fit.
        TrainingError: no such device, or a loss that is no longer finite.
    """
    recipe = spec.recipe
    _check_trainable(spec, max_parameters)
    source = recipe.dataset if data is None else data
    if source is None:
        raise TrainingError("the recipe names no dataset; give data to train, or set recipe.dataset")
    where = pick_device(device)
    started = datetime.now(UTC)
    clock = time.perf_counter()
    splits = gather(source, spec, recipe.seed)
    own = [cast(Callback, callback.build()) for callback in recipe.callbacks]
    with _surroundings(recipe):
        ae = build(spec, seed=recipe.seed, device=where, max_parameters=max_parameters)
        with EpochBar(progress, "training") as bar:
            plan = _Run(ae, spec, splits.train, splits.validation, [*own, *callbacks], where, bar).fit()
        ae.target_mean = splits.train.target_mean(spec).to(where)
        ae.eval()
        chosen = evaluate(ae, splits.validation, dataset=splits.name, split="validation")
        history = plan.history
        if recipe.refit:
            everything = splits.train.joined(splits.validation)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(recipe.seed)
                ae = build(spec, seed=recipe.seed, device=where, max_parameters=max_parameters)
                with EpochBar(progress, "refit on all") as bar:
                    again = _Run(ae, spec, everything, None, [*own, *callbacks], where, bar, plan).fit()
            history = history + again.history
            ae.target_mean = everything.target_mean(spec).to(where)
            ae.eval()
    trained = time.perf_counter() - clock
    ae.history = history
    ae.metrics = cast(dict[str, dict[str, Any]], _measured(ae, splits, chosen, recipe.refit, trained))
    ae.training_record = _record(recipe, splits, plan, where, started, trained, history)
    ae.source = Source("trained")
    return ae


def pick_device(device: str | torch.device) -> torch.device:
    """The device that a name stands for.

    Raises:
        TrainingError: PyTorch has no such device here.
    """
    if device == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise TrainingError(f"device {device!s} is not to be had: {str(error).splitlines()[0]}") from error
    return found


@contextmanager
def _surroundings(recipe: RecipeSpec) -> Iterator[None]:
    """The recipe's threads and seed, and the caller's own afterwards."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(recipe.threads)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            yield
    finally:
        torch.set_num_threads(threads)


# -- one round of training ----------------------------------------------------------------------------


@dataclass
class _Plan:
    """What a round chose, for a refit to repeat: the epochs and learning rates of each stage."""

    rates: list[list[float]] = field(default_factory=list[list[float]])
    epochs: list[int] = field(default_factory=list[int])
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


class _Run:
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
        plan: _Plan | None = None,
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
        self.chosen = _Plan()
        self.generator = Generator().manual_seed(self.recipe.seed)
        losses = (self.recipe.reconstruction, *self.recipe.penalties)
        self.terms: dict[LossSpec, Term] = {loss: loss.build() for loss in losses}
        self.modules = [term.to(device) for term in self.terms.values() if isinstance(term, nn.Module)]
        self.steps = 0

    def fit(self) -> _Plan:
        for index, stage in enumerate(self.recipe.stages):
            assert isinstance(stage, FitStage)
            with tied(self.ae, f"recipe.stages.{index}.tie") if stage.tie else _untied():
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
                record["validation"] = self._validate(self.validation, epoch + 1)
            record["seconds"] = round(time.perf_counter() - clock, 3)
            self._refuse_nonfinite(record)
            self.chosen.history.append(record)
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

    def _epoch(self, state: TrainingState, schedule: "_Schedule") -> dict[str, float]:
        self.ae.train()
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
            loss, values = self.recipe.objective(self.ae, batch, self.terms)
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
        x = rows.input
        for noise in self.recipe.noises:
            x = noise(x, generator)
        return Batch(x, rows.target, rows.labels, epoch, step, generator)

    @torch.no_grad()
    def _validate(self, samples: Samples, epoch: float) -> dict[str, float]:
        self.ae.eval()
        generator = Generator().manual_seed(EVAL_SEED)
        sums: dict[str, Tensor] = {}
        for rows in samples.in_order(self.spec, EVAL_BATCH):
            batch = self._batch(rows, epoch, self.steps, generator)
            loss, values = self.recipe.objective(self.ae, batch, self.terms)
            _add(sums, {"loss": loss, **values}, len(rows.input))
        return {name: float(total) / len(samples) for name, total in sums.items()}

    def _refuse_nonfinite(self, record: dict[str, Any]) -> None:
        for part in ("train", "validation"):
            for name, value in cast(dict[str, float], record.get(part, {})).items():
                if name != "loss" and not math.isfinite(value):
                    raise TrainingError(
                        f"stage {record['stage']}, epoch {record['epoch']}: the {part} term {name!r} became "
                        f"{value}; a lower learning rate usually helps"
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
        if loss < self.best * (1 - self.spec.threshold):
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


# -- tying --------------------------------------------------------------------------------------------


@contextmanager
def _untied() -> Iterator[None]:
    yield


@contextmanager
def tied(ae: Autoencoder, path: str = "") -> Iterator[None]:
    """Within, each decoder weight is its encoder weight's transpose; afterwards it is its own again.

    Leaving changes no output: the decoder's weights become contiguous copies of what they were.

    Args:
        ae: with as many linear and convolutional layers in the decoder as in the encoder, mirrored.
        path: named in the error.

    Raises:
        SpecError: the two sides do not mirror each other.
    """
    pairs = mirrored(ae, path)
    handles = [_follow(decoder, encoder) for encoder, decoder in pairs]
    try:
        yield
    finally:
        for handle, (encoder, decoder) in zip(handles, pairs, strict=True):
            handle.remove()
            del decoder.weight
            decoder.weight = nn.Parameter(_transposed(encoder).detach().clone().contiguous())


Weighted = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


def mirrored(ae: Autoencoder, path: str = "") -> list[tuple[Weighted, Weighted]]:
    """The encoder's weighted modules, each with its mirror image in the decoder.

    Raises:
        SpecError: the two sides do not mirror each other.
    """
    encoder = [m for m in ae.encoder.modules() if isinstance(m, Weighted)]
    decoder = [m for m in ae.decoder.modules() if isinstance(m, Weighted)][::-1]
    if not encoder or len(encoder) != len(decoder):
        counts = f"{len(encoder)} in the encoder, {len(decoder)} in the decoder"
        raise SpecError([Problem(path, f"tie needs as many weighted layers on each side, found {counts}")])
    for e, d in zip(encoder, decoder, strict=True):
        if _transposed(e).shape != d.weight.shape:
            shapes = f"{tuple(e.weight.shape)} and {tuple(d.weight.shape)}"
            raise SpecError([Problem(path, f"tie needs mirrored layers, found weights of {shapes}")])
    return list(zip(encoder, decoder, strict=True))


def _transposed(module: Weighted) -> Tensor:
    # A transposed convolution stores its weight as the convolution does that it is the gradient of.
    return module.weight.t() if isinstance(module, nn.Linear) else module.weight


def _follow(decoder: Weighted, encoder: Weighted) -> Any:
    def take_over(module: nn.Module, _: object) -> None:
        cast(Weighted, module).weight = _transposed(encoder)  # pyright: ignore[reportAttributeAccessIssue]

    del decoder.weight
    return decoder.register_forward_pre_hook(take_over)


# -- before and after ---------------------------------------------------------------------------------


def _check_trainable(spec: VariantSpec, max_parameters: int | None) -> None:
    """Refuses on the meta device what would fail hours later."""
    ae = skeleton(spec, max_parameters=max_parameters)
    if ae.parameters_total == 0:
        raise SpecError([Problem("recipe.stages", "there are no weights to train")])
    for index, stage in enumerate(spec.recipe.stages):
        if isinstance(stage, FitStage) and stage.tie:
            mirrored(ae, f"recipe.stages.{index}.tie")


def _measured(
    ae: Autoencoder, splits: Data, chosen: dict[str, Metric], refitted: bool, seconds: float
) -> dict[str, Metric]:
    """What `metrics.json` holds: the test split where there is one, and what was chosen by."""
    metrics: dict[str, Metric] = {}
    if splits.has_test:
        metrics |= evaluate(ae, splits.test, dataset=splits.name, split="test")
    for name, metric in chosen.items():
        # After a refit the weights have seen the validation split; the number is the first round's.
        entry = Metric(**{**metric, "source": "protocol"}) if refitted else metric
        metrics[f"{name}.validation"] = entry
    metrics["train_seconds"] = Metric(
        value=round(seconds, 1), reason=None, source="recorded", dataset=splits.name, split="train",
        n=len(splits.train), definition="wall time of the whole training, choosing and refitting together",
    )  # fmt: skip
    return metrics


def preview_inputs(spec: VariantSpec, n: int = 12) -> Tensor:
    """The first inputs of the recipe's validation split, scaled, (n, *input shape).

    Raises:
        DataError: the recipe names no dataset, or it is not here.
    """
    if spec.recipe.dataset is None:
        raise DataError("the recipe names no dataset to draw a preview of")
    return spec.recipe.dataset.load("validation").fitted_to(spec).rows(slice(0, n), spec).input


def _record(
    recipe: RecipeSpec,
    splits: Data,
    plan: _Plan,
    device: torch.device,
    started: datetime,
    seconds: float,
    history: list[dict[str, Any]],
) -> dict[str, Any]:
    """What `training.json` holds: circumstances, none of which name the weights."""
    return {
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "device": str(device),
        "threads": recipe.threads,
        "seed": recipe.seed,
        "versions": {name: version(name) for name in ("aezoo", "torch", "torchvision", "numpy")}
        | {"python": platform.python_version()},
        "platform": f"{platform.system()} {platform.machine()}",
        "data": {
            "name": splits.name,
            "train": {"n": len(splits.train), "sha256": splits.train.sha256()},
            "validation": {"n": len(splits.validation), "sha256": splits.validation.sha256()},
            "held_out": splits.held_out,
        },
        "epochs": plan.epochs,
        "refit": recipe.refit,
        "history": history,
    }
