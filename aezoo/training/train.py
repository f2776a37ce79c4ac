"""From a recipe to a trained autoencoder: chosen on validation, measured once on the test set."""

import json
import os
import platform
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from aezoo.data.inputs import Splits, prepare_splits
from aezoo.data.samples import Samples
from aezoo.errors import DataError, Problem, SpecError, TrainingError, TrainingInterrupted
from aezoo.evaluation.evaluate import Measurement, applicable_metrics, evaluate
from aezoo.evaluation.metric import EVAL_SEED
from aezoo.evaluation.metrics.denoising import apply_noises
from aezoo.model.autoencoder import DATA_STATISTICS, Autoencoder, Source
from aezoo.model.build import build, build_on_meta
from aezoo.progress import EpochBar
from aezoo.specs.components import DatasetSpec
from aezoo.specs.recipe import RecipeSpec
from aezoo.specs.schema import spec_sha256
from aezoo.specs.variant import VariantSpec
from aezoo.training.checks import check_recipe
from aezoo.training.diagnostics import lint_spec, many_dead, warn_dead_latents, warn_identical_targets
from aezoo.training.distributed import ProcessGroup, init_distributed
from aezoo.training.loop import Callback, Plan, Run
from aezoo.training.resume import ResumeFile
from aezoo.zoo.load import load


def train(
    spec: VariantSpec,
    data: object = None,
    *,
    device: str | torch.device = "auto",
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    max_parameters: int | None = None,
    resume: str | os.PathLike[str] | None = None,
    save: Callable[[Autoencoder], object] | None = None,
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
        resume: a local file in which every epoch's end is kept. Where it is there, the training goes on
            from it, and the weights come out as if it had never been cut off; it is deleted at the end.
        save: called with what was trained before the file of `resume` is deleted, so that a disk which is
            full by then costs nothing. Where several processes train together, the first one's alone.

    Returns:
        The autoencoder in evaluation mode, with `metrics`, `history` and `training_record`.

    Raises:
        SpecError: a spec that cannot be built or trained.
        DataError: data that are missing or do not fit.
        TrainingError: no such device, a loss that is no longer finite, or a `resume` file of another
            training.
        TrainingInterrupted: Ctrl-C; its `ae` is what had been trained.
    """
    if isinstance(data, DatasetSpec):
        # As if the recipe had named it, so that what comes out says so and can be evaluated again.
        recipe = spec.recipe.model_copy(update={"dataset": data})
        spec, data = spec.model_copy(update={"recipe": recipe}), None
    check_recipe(build_on_meta(spec, max_parameters=max_parameters), spec)
    return _Training(spec, data, device, callbacks, progress, max_parameters, resume, save).run()


class _Training:
    """One call of `train`."""

    def __init__(
        self,
        spec: VariantSpec,
        data: object,
        device: str | torch.device,
        callbacks: Sequence[Callback],
        progress: bool,
        max_parameters: int | None,
        resume: str | os.PathLike[str] | None,
        save: Callable[[Autoencoder], object] | None,
    ) -> None:
        recipe = spec.recipe
        self.save = save
        self.spec, self.recipe, self.progress, self.max_parameters = spec, recipe, progress, max_parameters
        self.start = None if recipe.init_from is None else _starting_point(spec, recipe.init_from)
        self.device = pick_device(device)
        self.started = datetime.now(UTC)
        self.clock = time.perf_counter()
        self.splits = _gathered(spec, data)
        warn_identical_targets(self.splits.train.inputs, self.splits.train.targets, bool(recipe.noises))
        self.callbacks = [*(cast(Callback, callback.build()) for callback in recipe.callbacks), *callbacks]
        self.hashes = {
            "train": self.splits.train.sha256(), "validation": self.splits.validation.sha256(),
        }  # fmt: skip
        self.file = None if resume is None else ResumeFile(Path(resume), self._identity())
        self.history: list[dict[str, Any]] = []
        self.before: list[dict[str, Any]] = []
        self.crew = ProcessGroup()
        self.ae = self._built()

    def _identity(self) -> dict[str, str]:
        hashes = {f"the {name} data": digest for name, digest in self.hashes.items()}
        return {
            "the spec": spec_sha256(self.spec.resolved()), **hashes,
            "torch": str(torch.__version__), "the device": self.device.type,
            "the starting point": str(None if self.start is None else self.start.source.sha256),
            "the list of callbacks": ", ".join(type(callback).__name__ for callback in self.callbacks),
        }  # fmt: skip

    def run(self) -> Autoencoder:
        """Both rounds, what they are measured by, and the record."""
        with init_distributed(self.device) as crew:
            self.crew = crew
            if self.file is not None:
                self.file.identity["the number of processes"] = str(crew.size)
            return self._run()

    def _run(self) -> Autoencoder:
        cut = self.crew.agreed(self.file.read() if self.file is not None and self.crew.writes else None)
        before: float = 0.0 if cut is None else cut["seconds"]
        self.clock -= before
        for advice in lint_spec(self.spec, self.ae.shapes):
            advice.give()
        try:
            with _surroundings(self.recipe, self.device, self.crew.rank):
                plan, chosen, history = self._rounds(cut)
                trained = time.perf_counter() - self.clock
                measured = _measured(self.ae, self.splits, chosen, self.recipe.refit, trained)
        except KeyboardInterrupt as error:
            interrupted = TrainingInterrupted("interrupted")
            interrupted.ae = self._unfinished("the training was interrupted")
            raise interrupted from error
        except TrainingError as error:
            error.ae = self._unfinished(str(error))
            raise
        ae = self.ae
        ae.history = history
        ae.metrics = cast(dict[str, dict[str, Any]], measured)
        ae.training_record = self._record(plan, trained)
        ae.source = Source("trained")
        if self.save is not None and self.crew.writes:
            self.save(ae)
        if self.file is not None and self.crew.writes:
            self.file.remove()
        return ae

    def _rounds(
        self, cut: dict[str, Any] | None
    ) -> tuple[Plan, dict[str, Measurement], list[dict[str, Any]]]:
        splits = self.splits
        if cut is not None and cut["round"] == "refit":
            plan = Plan(**cut["plan"])
            chosen: dict[str, Measurement] = json.loads(cut["chosen"])
        else:
            plan = self._round("training", splits.train, splits.validation, None, cut, {"round": "choose"})
            self._round_weights()
            self._finish(splits.train)
            chosen = evaluate(self.ae, splits.validation, dataset=splits.name, split="validation")
            self._look_for_dead_latents(chosen)
            cut = None
        if not self.recipe.refit:
            return plan, chosen, plan.history
        everything = splits.train.concat(splits.validation)
        with _seeded(self.recipe.seed + self.crew.rank, self.device):
            self.ae = self._built()
            self.before = plan.history
            what = {"round": "refit", "plan": asdict(plan), "chosen": json.dumps(chosen)}
            again = self._round("refit on all", everything, None, plan, cut, what)
        self._round_weights()
        self._finish(everything)
        return plan, chosen, plan.history + again.history

    def _round(
        self,
        title: str,
        samples: Samples,
        validation: Samples | None,
        plan: Plan | None,
        cut: dict[str, Any] | None,
        what: dict[str, Any],
    ) -> Plan:
        def keep(state: dict[str, Any]) -> None:
            if self.file is not None and writes:
                self.file.write({**what, "seconds": time.perf_counter() - self.clock, "run": state})

        writes = self.crew.writes
        with EpochBar(self.progress and writes, title) as bar:
            run = Run(
                self.ae, self.spec, samples, validation, self.callbacks, self.device, bar, plan,
                keep=None if self.file is None else keep,
                restored=None if cut is None else cut["run"], crew=self.crew,
            )  # fmt: skip
            self.history = run.chosen.history
            return run.fit()

    def _built(self) -> Autoencoder:
        recipe = self.recipe
        ae = build(self.spec, seed=recipe.seed, device=self.device, max_parameters=self.max_parameters)
        if self.start is not None:
            ae.load_state_dict(_weights(self.start))
        # As the data were scaled: by the training split alone.
        ae.scaler, ae.columns = self.splits.train.scaler, self.splits.train.columns
        return ae.to(self.device)

    @torch.no_grad()
    def _finish(self, samples: Samples) -> None:
        """What belongs to the network beside its weights."""
        self.ae.target_mean = samples.target_mean(self.spec)
        self.ae.to(self.device)
        self.ae.eval()

    @torch.no_grad()
    def _round_weights(self) -> None:
        """Brings the weights to the precision in which they will be stored."""
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

    def _look_for_dead_latents(self, chosen: dict[str, Measurement]) -> None:
        # A small validation split may leave latents out that the training split uses; a second look is rare.
        if many_dead(chosen["dead_latents"]["value"], self.ae.num_latents):
            found = evaluate(self.ae, self.splits.train, dataset=self.splits.name, split="train")
            warn_dead_latents(found["dead_latents"]["value"], self.ae.num_latents)

    def _unfinished(self, reason: str) -> Autoencoder:
        """What there is of a training that did not come to its end; nothing of it was measured."""
        self._finish(self.splits.train)
        metrics = {
            metric.kind: Measurement(
                value=None, reason=reason, source="computed", dataset=self.splits.name, split="test", n=None,
                definition=metric.definition,
            )
            for metric in applicable_metrics(self.ae)
        }  # fmt: skip
        self.ae.metrics = cast(dict[str, dict[str, Any]], metrics)
        self.ae.history = self.before + self.history
        record = self._record(Plan(), time.perf_counter() - self.clock)
        self.ae.training_record = record | {"unfinished": reason}
        self.ae.source = Source("trained")
        return self.ae

    def _record(self, plan: Plan, seconds: float) -> dict[str, Any]:
        """What `training.json` holds: circumstances, none of which name the weights."""
        recipe, splits = self.recipe, self.splits
        data = {
            split: {"n": len(getattr(splits, split)), "sha256": digest}
            for split, digest in self.hashes.items()
        }
        record: dict[str, Any] = {
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round(seconds, 1),
            "device": str(self.device),
            "processes": self.crew.size,
            "threads": recipe.threads,
            "seed": recipe.seed,
            "versions": {name: version(name) for name in ("aezoo", "torch", "torchvision", "numpy")}
            | {"python": platform.python_version()},
            "platform": f"{platform.system()} {platform.machine()}",
            "data": {"name": splits.name, **data, "held_out": splits.held_out},
            "epochs": plan.epochs,
            "refit": recipe.refit,
            "history": self.ae.history,
        }
        if self.start is not None:
            record["init_from"] = {"name": recipe.init_from, "sha256": self.start.source.sha256}
        return record


def _gathered(spec: VariantSpec, data: object) -> Splits:
    source = spec.recipe.dataset if data is None else data
    if source is None:
        raise TrainingError("the recipe names no dataset; give data to train, or set recipe.dataset")
    try:
        return prepare_splits(source, spec, spec.recipe.seed)
    except DataError as error:
        if data is not None:
            raise
        raise DataError(f"recipe.dataset: {error}") from error


def pick_device(device: str | torch.device) -> torch.device:
    """The device that a name stands for.

    Raises:
        TrainingError: PyTorch has no such device here.
    """
    if device == "auto":
        mps = torch.backends.mps.is_available()
        # One GPU for each process of a machine.
        gpu = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        return torch.device(gpu if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        found = torch.device(device)
        torch.zeros((), device=found).item()  # the meta device can hold a tensor, but has no values
    except (RuntimeError, AssertionError, ImportError) as error:
        # PyTorch lists every backend behind the first sentence.
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise TrainingError(f"device {device!s} is not to be had: {reason}") from error
    return found


@contextmanager
def _surroundings(recipe: RecipeSpec, device: torch.device, rank: int) -> Generator[None]:
    """The recipe's threads and seed, and the caller's own afterwards."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(recipe.threads)
        # Each process drops and samples for itself.
        with _seeded(recipe.seed + rank, device):
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Generator[None]:
    """The global random states of the CPU and of one accelerator at a seed, and put back afterwards."""
    gpu = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpu):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every accelerator
        for one in gpu:
            with torch.cuda.device(one):
                torch.cuda.manual_seed(seed)
        yield


# -- before and after ---------------------------------------------------------------------------------


def _starting_point(spec: VariantSpec, name: str) -> Autoencoder:
    """The network whose weights a training starts from.

    Raises:
        SpecError: it has another architecture.
        CheckpointError, UnknownVariantError: it cannot be loaded.
    """
    start = load(name)
    there = {key: tuple(value.shape) for key, value in _weights(start).items()}
    here = {key: tuple(value.shape) for key, value in _weights(build_on_meta(spec)).items()}
    for key in sorted(there.keys() | here.keys()):
        if there.get(key) != here.get(key):
            text = f"{key} is {there.get(key)} in {name}, {here.get(key)} here"
            raise SpecError([Problem("recipe.init_from", f"another architecture: {text}")])
    return start


def _weights(ae: Autoencoder) -> dict[str, Tensor]:
    return {key: value for key, value in ae.state_dict().items() if key not in DATA_STATISTICS}


def _measured(
    ae: Autoencoder, splits: Splits, chosen: dict[str, Measurement], refitted: bool, seconds: float
) -> dict[str, Measurement]:
    """What `metrics.json` holds: the test split where there is one, and what was chosen by."""
    metrics: dict[str, Measurement] = {}
    if splits.has_test:
        metrics |= evaluate(ae, splits.test, dataset=splits.name, split="test")
    for name, metric in chosen.items():
        # After a refit the weights have seen the validation split; the number is the first round's.
        if refitted:
            metric["source"] = "protocol"
        metrics[f"{name}.validation"] = metric
    metrics["train_seconds"] = Measurement(
        value=round(seconds, 1), reason=None, source="recorded", dataset=splits.name, split="train",
        n=len(splits.train), definition="wall time of the whole training, choosing and refitting together",
    )  # fmt: skip
    return metrics


def preview_inputs(spec: VariantSpec, n: int = 12) -> Tensor:
    """The first inputs of the recipe's validation split, scaled, and corrupted where the recipe says so.

    Returns:
        (n, *input shape).

    Raises:
        DataError: the recipe names no dataset, or it is not here.
    """
    if spec.recipe.dataset is None:
        raise DataError("the recipe names no dataset to draw a preview of")
    x = spec.recipe.dataset.load("validation").validated_for(spec).rows(slice(0, n), spec).input
    return apply_noises(x, spec.recipe.noises, torch.Generator().manual_seed(EVAL_SEED))
