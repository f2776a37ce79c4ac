"""From a recipe to a trained autoencoder: chosen on validation, measured once on the test set."""

import platform
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, cast

import torch
from torch import Tensor

from aezoo.advice import many_dead, of_latents, of_spec, of_targets
from aezoo.autoencoder import FITTED, Autoencoder, Source
from aezoo.builder import build, skeleton
from aezoo.errors import DataError, Problem, SpecError, TrainingError
from aezoo.evaluation import Metric, evaluate
from aezoo.fitting import Callback, Plan, Run
from aezoo.progress import EpochBar
from aezoo.samples import Data, gather
from aezoo.specs import DatasetSpec, FitStage, RecipeSpec, VariantSpec
from aezoo.tying import mirrored
from aezoo.zoo import load


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
    if isinstance(data, DatasetSpec):
        # As if the recipe had named it, so that what comes out says so and can be evaluated again.
        recipe = spec.recipe.model_copy(update={"dataset": data})
        spec, data = spec.model_copy(update={"recipe": recipe}), None
    recipe = spec.recipe
    _check_trainable(spec, max_parameters)
    start = None if recipe.init_from is None else _starting_point(spec, recipe.init_from)
    source = recipe.dataset if data is None else data
    if source is None:
        raise TrainingError("the recipe names no dataset; give data to train, or set recipe.dataset")
    where = pick_device(device)
    started = datetime.now(UTC)
    clock = time.perf_counter()
    splits = gather(source, spec, recipe.seed)
    of_targets(splits.train.inputs, splits.train.targets, bool(recipe.noises))
    own = [cast(Callback, callback.build()) for callback in recipe.callbacks]
    with _surroundings(recipe, where):
        ae = _built(spec, start, where, max_parameters)
        with EpochBar(progress, "training") as bar:
            plan = Run(ae, spec, splits.train, splits.validation, [*own, *callbacks], where, bar).fit()
        ae.target_mean = splits.train.target_mean(spec).to(where)
        _keep_scaling(ae, splits)
        ae.eval()
        chosen = evaluate(ae, splits.validation, dataset=splits.name, split="validation")
        _look_for_dead_latents(ae, splits, chosen)
        history = plan.history
        if recipe.refit:
            everything = splits.train.joined(splits.validation)
            with _seeded(recipe.seed, where):
                ae = _built(spec, start, where, max_parameters)
                with EpochBar(progress, "refit on all") as bar:
                    again = Run(ae, spec, everything, None, [*own, *callbacks], where, bar, plan).fit()
            history = history + again.history
            ae.target_mean = everything.target_mean(spec).to(where)
            # As the data were scaled: by the training split alone.
            _keep_scaling(ae, splits)
            ae.eval()
    trained = time.perf_counter() - clock
    ae.history = history
    ae.metrics = cast(dict[str, dict[str, Any]], _measured(ae, splits, chosen, recipe.refit, trained))
    ae.training_record = _record(recipe, splits, plan, where, started, trained, history)
    if start is not None:
        ae.training_record["init_from"] = {"name": recipe.init_from, "sha256": start.source.sha256}
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
        torch.zeros((), device=found).item()  # the meta device can hold a tensor, but has no values
    except (RuntimeError, AssertionError, ImportError) as error:
        # PyTorch lists every backend behind the first sentence.
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise TrainingError(f"device {device!s} is not to be had: {reason}") from error
    return found


@contextmanager
def _surroundings(recipe: RecipeSpec, device: torch.device) -> Generator[None]:
    """The recipe's threads and seed, and the caller's own afterwards."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(recipe.threads)
        with _seeded(recipe.seed, device):
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


def _look_for_dead_latents(ae: Autoencoder, splits: Data, chosen: dict[str, Metric]) -> None:
    # A small validation split may leave latents out that the training split uses; a second look is rare.
    if many_dead(chosen["dead_latents"]["value"], ae.latents):
        found = evaluate(ae, splits.train, dataset=splits.name, split="train")
        of_latents(found["dead_latents"]["value"], ae.latents)


def _starting_point(spec: VariantSpec, name: str) -> Autoencoder:
    """The network whose weights a training starts from.

    Raises:
        SpecError: it has another architecture.
        CheckpointError, UnknownVariantError: it cannot be loaded.
    """
    start = load(name)
    there = {key: tuple(value.shape) for key, value in _weights(start).items()}
    here = {key: tuple(value.shape) for key, value in _weights(skeleton(spec)).items()}
    for key in sorted(there.keys() | here.keys()):
        if there.get(key) != here.get(key):
            text = f"{key} is {there.get(key)} in {name}, {here.get(key)} here"
            raise SpecError([Problem("recipe.init_from", f"another architecture: {text}")])
    return start


def _weights(ae: Autoencoder) -> dict[str, Tensor]:
    return {key: value for key, value in ae.state_dict().items() if key not in FITTED}


def _built(
    spec: VariantSpec, start: Autoencoder | None, device: torch.device, max_parameters: int | None
) -> Autoencoder:
    ae = build(spec, seed=spec.recipe.seed, device=device, max_parameters=max_parameters)
    if start is not None:
        ae.load_state_dict(_weights(start))
    return ae


def _check_trainable(spec: VariantSpec, max_parameters: int | None) -> None:
    """Refuses on the meta device what would fail hours later."""
    ae = skeleton(spec, max_parameters=max_parameters)
    for advice in of_spec(spec, ae.shapes):
        advice.give()
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
        if refitted:
            metric["source"] = "protocol"
        metrics[f"{name}.validation"] = metric
    metrics["train_seconds"] = Metric(
        value=round(seconds, 1), reason=None, source="recorded", dataset=splits.name, split="train",
        n=len(splits.train), definition="wall time of the whole training, choosing and refitting together",
    )  # fmt: skip
    return metrics


def _keep_scaling(ae: Autoencoder, splits: Data) -> None:
    ae.scaler = splits.train.scaler
    ae.columns = splits.train.columns
    ae.to(next(ae.parameters()).device)


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
    plan: Plan,
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
