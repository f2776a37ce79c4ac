"""One call of `train`: its rounds, the resume file, the metrics and the training record."""

import json
import os
import platform
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from aezoo.data.inputs import Splits
from aezoo.data.samples import Samples
from aezoo.errors import PluginWarning, TrainingError, TrainingInterrupted, warn_diagnostic
from aezoo.evaluation.evaluate import Measurement, applicable_metrics, evaluate
from aezoo.evaluation.metric import EVAL_SEED
from aezoo.evaluation.metrics.denoising import apply_noises
from aezoo.model.autoencoder import DATA_STATISTICS, Autoencoder, Source
from aezoo.model.build import materialize
from aezoo.model.denormals import without_denormals
from aezoo.model.sparse_path import restore_weights
from aezoo.progress import EpochBar
from aezoo.specs.recipe import RecipeSpec
from aezoo.specs.schema import spec_sha256
from aezoo.specs.variant import VariantSpec
from aezoo.text import printable
from aezoo.training.callbacks import Callback
from aezoo.training.checks import check_batches
from aezoo.training.diagnostics import many_dead_latents, warn_dead_latents
from aezoo.training.distributed import ProcessGroup
from aezoo.training.objective import Objective
from aezoo.training.optim import copy_state, has_state, restore_state
from aezoo.training.resume import ResumeFile
from aezoo.training.stages import TrainUnit, train_units
from aezoo.zoo.variant_files import check_path


@dataclass
class Selected:
    """What a round selected, for a refit to repeat.

    Attributes:
        lrs: by unit, the learning rate of each epoch (before warm-up and cosine).
        epochs: by unit, the number of epochs kept.
        history: a record of every epoch of the round.
    """

    lrs: list[list[float]] = field(default_factory=list[list[float]])
    epochs: list[int] = field(default_factory=list[int])
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


class Round:
    """One pass through the stages of a recipe: the first, which selects epochs, or the refit.

    Args:
        run: the training.
        samples: training data, on the device.
        validation: data by which epochs are selected, on the device; None in a refit.
        replay: what the first round selected, which a refit repeats; None in the first round.
    """

    def __init__(
        self, run: "TrainingRun", samples: Samples, validation: Samples | None, replay: Selected | None
    ) -> None:
        self.run, self.samples, self.validation, self.replay = run, samples, validation, replay
        self.name, title = ("choose", "training") if replay is None else ("refit", "refit on all")
        self.bar = EpochBar(run.progress and run.group.is_main, title)
        self.selected = Selected()
        self.step = 0
        self.epoch = 0
        self.generator = torch.Generator().manual_seed(run.recipe.seed)
        self.objective = Objective(run.recipe).to(run.device)
        resumed = run.resumed
        self.resume_state: dict[str, Any] | None = (
            resumed["run"] if resumed is not None and resumed["round"] == self.name else None
        )

    def units(self) -> Iterator[TrainUnit]:
        """Yields the units to train in order, starting from the one at which a training is resumed."""
        resumed = None if self.resume_state is None else self.resume_state["unit"]
        return train_units(self.run.ae, self.run.recipe, self.samples, resumed)


@dataclass
class TrainingRun:
    """One call of `train`.

    Attributes:
        callbacks: the recipe's callbacks, then the caller's.
        on_meta: the network on the meta device.
        start: the autoencoder whose weights training starts from; None for random weights.
        started: time of the start.
        clock: time of the start by `time.perf_counter`, less the seconds that an interrupted training took.
        data_hashes: sha256 of each split.
        samples: training data of the round in progress.
        selected: what the first round selected.
        history: records by round.
        first: the network of the first round while a refit is in progress.
        validation_metrics: metrics of the validation split after the first round.
        has_stepped: whether an optimizer step was taken in this process.
        seconds: wall time of the training; 0 until it has ended.
        resume_file: the file that holds the state after every epoch, if any.
        resumed: its contents at the start; None if training starts from the beginning.
    """

    spec: VariantSpec
    splits: Splits
    callbacks: Sequence[Callback]
    device: torch.device
    progress: bool
    on_meta: Autoencoder
    start: Autoencoder | None
    started: datetime
    clock: float
    data_hashes: dict[str, str]
    group: ProcessGroup = field(default_factory=ProcessGroup)
    ae: Autoencoder = field(init=False)
    samples: Samples = field(init=False)
    selected: Selected = field(default_factory=Selected)
    history: list[list[dict[str, Any]]] = field(default_factory=list[list[dict[str, Any]]])
    validation_metrics: dict[str, Measurement] = field(default_factory=dict[str, Measurement])
    first: Autoencoder | None = None
    has_stepped: bool = False
    seconds: float = 0.0
    resume_file: ResumeFile | None = None
    resumed: dict[str, Any] | None = None

    @property
    def recipe(self) -> RecipeSpec:
        """The variant's recipe."""
        return self.spec.recipe

    def build(self) -> Autoencoder:
        """Builds the network with its initial weights, random or those of `recipe.init_from`."""
        ae = materialize(self.on_meta, seed=self.recipe.seed, device=self.device)
        if self.start is not None:
            ae.load_state_dict(weights_of(self.start))
        # A refit scales its data by the statistics of the training split, too.
        ae.scaler, ae.columns = self.splits.train.scaler, self.splits.train.columns
        return ae.to(self.device)

    def check_batches(self) -> None:
        """Checks that every batch of every round can be trained on.

        Raises:
            TrainingError: one cannot.
        """
        n = len(self.splits.train)
        for rows in (n, n + len(self.splits.validation)) if self.recipe.refit else (n,):
            check_batches(self.on_meta, self.recipe, rows, self.group)

    # -- rounds -----------------------------------------------------------------------------------

    def rounds(self) -> Iterator[Round]:
        """Yields the round that selects on the validation split, then the refit if one is declared."""
        splits, resumed = self.splits, self.resumed
        if resumed is not None and resumed["round"] == "refit":
            self._finish_network(splits.train)
            self.selected = Selected(**resumed["selected"])
            self.history = [self.selected.history]
            self.validation_metrics = json.loads(resumed["validation_metrics"])
            restore_state([self.ae], resumed["first"])
        else:
            yield self._round(splits.train, splits.validation)
        if self.recipe.refit:
            seed_global(self.recipe.seed + self.group.rank, self.device)
            self.first, self.ae = self.ae, self.build()
            yield self._round(splits.train.concat(splits.validation), None, self.selected)

    def _round(self, samples: Samples, validation: Samples | None, replay: Selected | None = None) -> Round:
        self.samples = samples
        on_device = None if validation is None else validation.to(self.device)
        round_ = Round(self, samples.to(self.device), on_device, replay)
        if replay is None:
            self.selected = round_.selected
        self.history = [*self.history, round_.selected.history]
        return round_

    @contextmanager
    def keep_loaded_weights(self, number: int, step: int) -> Generator[None]:
        """Context manager that keeps callback `number` from initializing weights that were loaded.

        Callbacks that the caller passes to `train` may change them.
        """
        if self.start is None or step > 0 or number >= len(self.recipe.callbacks):
            yield
            return
        state = copy_state([self.ae])
        yield
        if not has_state([self.ae], state):
            restore_state([self.ae], state)
            kind = self.recipe.callbacks[number].kind_name
            text = f"recipe.callbacks.{number}: {kind} initializes weights that recipe.init_from has loaded"
            warn_diagnostic("init-from", f"{text}; the loaded weights are kept")

    def finish(self, round_: Round) -> None:
        """Rounds the weights to what is stored, and measures the first round."""
        restore_weights(self.ae.decoder)
        self._cast_weights()
        self._finish_network(self.samples)
        self._flush_weights()
        if round_.replay is not None:
            self.first = None
            return
        name, splits = self.splits.name, self.splits
        self.validation_metrics = evaluate(self.ae, splits.validation, dataset=name, split="validation")
        if many_dead_latents(self.validation_metrics["dead_latents"]["value"], self.ae.num_latents):
            # Latents that are zero on a small validation split may be in use on the training split.
            on_train = evaluate(self.ae, splits.train, dataset=name, split="train")
            warn_dead_latents(on_train["dead_latents"]["value"], self.ae.num_latents)

    @torch.no_grad()
    def _cast_weights(self) -> None:
        if self.recipe.weights_dtype == "float32":
            return
        for name, parameter in self.ae.named_parameters():
            half = parameter.half()
            if not half.isfinite().all():
                largest = float(parameter.abs().max())
                raise TrainingError(
                    f"{name} has {largest:g}, more than float16 holds; declare recipe.weights_dtype: float32"
                )
            parameter.copy_(half)

    @torch.no_grad()
    def _flush_weights(self) -> None:
        """Sets denormal values of parameters and buffers to zero, as `save` stores them."""
        for tensor in (*self.ae.parameters(), *self.ae.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(without_denormals(tensor))

    def _finish_network(self, samples: Samples) -> None:
        """Sets everything that belongs to a trained network except its weights."""
        self.ae.target_mean = samples.target_mean(self.spec)
        self.ae.to(self.device)
        self.ae.eval()

    # -- resuming ---------------------------------------------------------------------------------

    def open_resume_file(self, path: str | os.PathLike[str] | None) -> None:
        """Reads the state of an interrupted training, if the file exists.

        Raises:
            TrainingError: the file is damaged, or belongs to another training.
        """
        if path is None:
            return
        self.resume_file = ResumeFile(check_path(Path(path), "target"), self._identity())
        self.resumed = self.group.broadcast(self.resume_file.read() if self.group.is_main else None)
        self.clock -= 0.0 if self.resumed is None else self.resumed["seconds"]

    def _identity(self) -> dict[str, str]:
        """Returns what must be the same for a resumed training to give the same weights."""
        hashes = {f"the {name} data": digest for name, digest in self.data_hashes.items()}
        return {
            "the spec": spec_sha256(self.spec.resolved()), **hashes,
            "torch": str(torch.__version__), "the device": _model_of(self.device),
            # Other vector units add in another order, so that the last bits differ.
            "the CPU's vector instructions": torch.backends.cpu.get_cpu_capability(),
            "the starting point": str(None if self.start is None else self.start.source.sha256),
            "the list of callbacks": ", ".join(type(callback).__name__ for callback in self.callbacks),
            "the number of processes": str(self.group.world_size),
        }  # fmt: skip

    def write_resume_file(self, round_: Round, runner_state: dict[str, Any]) -> None:
        """Writes the state after an epoch, of which `StageRunner` gives its part."""
        if self.resume_file is None or not self.group.is_main:
            return
        state: dict[str, Any] = {"round": round_.name, "seconds": self._elapsed(), "run": runner_state}
        if round_.replay is not None:
            state["selected"] = asdict(self.selected)
            state["validation_metrics"] = json.dumps(self.validation_metrics)
            assert self.first is not None
            state["first"] = copy_state([self.first])
        self.resume_file.write(state)

    def remove_resume_file(self) -> None:
        """Deletes the resume file after training has ended."""
        if self.resume_file is not None and self.group.is_main:
            self.resume_file.remove()

    def _elapsed(self) -> float:
        """Seconds of training so far; clocks of virtual machines can run backwards."""
        return max(0.0, time.perf_counter() - self.clock)

    # -- measuring and recording ------------------------------------------------------------------

    def measure(self) -> None:
        """Measures the test split and completes the metrics and the training record."""
        self.seconds = self._elapsed()
        splits = self.splits
        metrics: dict[str, Measurement] = {}
        if splits.has_test:
            metrics |= evaluate(self.ae, splits.test, dataset=splits.name, split="test")
            self.data_hashes["test"] = splits.test.sha256()
        for name, metric in self.validation_metrics.items():
            # After a refit only training again gives this number: the weights have seen the validation split.
            if self.recipe.refit:
                metric["source"] = "protocol"
            metrics[f"{name}.validation"] = metric
        metrics["train_seconds"] = Measurement(
            value=round(self.seconds, 1), reason=None, source="recorded", dataset=splits.name, split="train",
            n=len(splits.train),
            definition="wall time of the whole training, choosing and refitting together",
        )  # fmt: skip
        self._complete(metrics)

    @contextmanager
    def closing_callbacks(self) -> Generator[None]:
        """Context manager that tells the callbacks at its end that the training has ended."""
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            for callback in self.callbacks:
                try:
                    callback.on_train_end(error)
                except Exception as failure:
                    text = printable(f"{type(failure).__name__}: {failure}", 300)
                    name = type(callback).__name__
                    warnings.warn(f"on_train_end of {name} raised {text}", PluginWarning, stacklevel=2)

    @contextmanager
    def attach_to_errors(self) -> Generator[None]:
        """Context manager that attaches the unfinished autoencoder to errors, and to Ctrl-C.

        Errors raised by callbacks, losses and metrics of others get it as well, so that a long training is
        not lost. Before the first step there is nothing to attach.
        """
        try:
            yield
        except KeyboardInterrupt as error:
            interrupted = TrainingInterrupted("interrupted")
            if self.has_stepped:
                interrupted.ae = self._unfinished("the training was interrupted")
            raise interrupted from error
        except Exception as error:
            if self.has_stepped:
                cast(Any, error).ae = self._unfinished(printable(str(error) or type(error).__name__))
            raise

    def _unfinished(self, reason: str) -> Autoencoder:
        """Returns the autoencoder of a training that did not finish; what was not measured is null.

        A refit that did not finish has not reached the network of the first round, which is returned instead.
        """
        self.seconds = self._elapsed()
        if self.first is not None:
            self.ae = self.first
        else:
            self.selected = Selected()
            self._finish_network(self.splits.train)
        metrics = {
            metric.kind: Measurement(
                value=None, reason=reason, source="computed", dataset=self.splits.name, split="test", n=None,
                definition=metric.definition,
            )
            for metric in applicable_metrics(self.ae)
        }  # fmt: skip
        if self.first is not None:
            metrics |= {f"{name}.validation": metric for name, metric in self.validation_metrics.items()}
            reason = f"{reason}; the weights are those of the first round, before the refit"
        self._complete(metrics)
        self.ae.training_record["unfinished"] = reason
        return self.ae

    def _complete(self, metrics: dict[str, Measurement]) -> None:
        self.ae.metrics = cast(dict[str, dict[str, Any]], metrics)
        self.ae.history = [record for records in self.history for record in records]
        self.ae.training_record = self._record()
        self.ae.source = Source("trained")
        set_examples(self.ae, self.splits.validation, self.spec)

    def _record(self) -> dict[str, Any]:
        """Returns the contents of `training.json`."""
        recipe, splits = self.recipe, self.splits
        data: dict[str, Any] = {
            split: {"n": len(getattr(splits, split)), "sha256": digest}
            for split, digest in self.data_hashes.items()
        }
        if channels := splits.train.channels:
            data["channels"] = channels
        record: dict[str, Any] = {
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 1),
            "device": str(self.device),
            "processes": self.group.world_size,
            "threads": recipe.threads,
            "seed": recipe.seed,
            "versions": {name: version(name) for name in ("aezoo", "torch", "torchvision", "numpy")}
            | {"python": platform.python_version()},
            "platform": f"{platform.system()} {platform.machine()}",
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "data": {"name": splits.name, **data, "held_out": splits.validation_note},
            "epochs": self.selected.epochs,
            "refit": recipe.refit and self.first is None,
            "history": self.ae.history,
        }
        if self.start is not None:
            record["init_from"] = {"name": recipe.init_from, "sha256": self.start.source.sha256}
        return record


def _model_of(device: torch.device) -> str:
    """What the last bits depend on: the type of a device, and the model of a GPU."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def weights_of(ae: Autoencoder) -> dict[str, Tensor]:
    """Returns the tensors of an autoencoder without the data statistics, by name."""
    return {key: value for key, value in ae.state_dict().items() if key not in DATA_STATISTICS}


def set_examples(ae: Autoencoder, validation: Samples, spec: VariantSpec) -> None:
    """Gives an autoencoder the examples that its preview shows: the first ones of the validation split."""
    # A few points say nothing about their distribution.
    n = 1000 if spec.input.shape in ((2,), (3,)) else 12
    batch = validation.batch(slice(0, n), spec)
    ae.examples = preview_inputs(validation, spec, n)
    ae.example_targets = batch.target
    ae.clean_examples = batch.input if spec.recipe.noises else None


def preview_inputs(samples: Samples, spec: VariantSpec, n: int = 12) -> Tensor:
    """Returns the first `n` inputs, (n, *shape), with the recipe's noises applied."""
    x = samples.batch(slice(0, n), spec).input
    return apply_noises(x, spec.recipe.noises, torch.Generator().manual_seed(EVAL_SEED))


def seed_global(seed: int, device: torch.device) -> None:
    """Seeds PyTorch's global generators of the CPU and of `device`."""
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every accelerator
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
