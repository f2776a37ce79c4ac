"""Training an autoencoder by its recipe: `train`, and `train_to_folder`, which also writes its folder."""

import os
import sys
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import torch

from aezoo.data.inputs import Splits, prepare_splits
from aezoo.errors import CheckpointError, DataError, Problem, SpecError, TrainingError, env_int
from aezoo.jsonio import strict_json
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.build import build_on_meta
from aezoo.model.denormals import flush_denormals
from aezoo.specs.components import DatasetSpec
from aezoo.specs.recipe import RecipeSpec
from aezoo.specs.schema import spec_sha256
from aezoo.specs.variant import VariantSpec, require_spec
from aezoo.training.allocator import release_freed_memory
from aezoo.training.callbacks import Callback
from aezoo.training.checks import check_recipe, check_written_paths
from aezoo.training.diagnostics import lint_spec, warn_identical_targets
from aezoo.training.distributed import env_rank, init_distributed
from aezoo.training.loop import StageRunner
from aezoo.training.run import TrainingRun, seed_global, weights_of
from aezoo.zoo.folders import check_space, check_target, is_unfinished
from aezoo.zoo.load import load
from aezoo.zoo.names import own_name
from aezoo.zoo.save import save as save_folder
from aezoo.zoo.schema import CONFIG, MAX_JSON_BYTES
from aezoo.zoo.variant_files import check_path, read_file


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

    Epochs and learning rates are selected on the validation split. A recipe with `refit` then trains the
    selected epochs again, from the same initial weights, on the training and validation data together. The
    test split is read once, at the end. On a CPU, the same spec, data and versions give the same weights bit
    for bit. On a GPU they do as well, on the same model of GPU, unless a layer uses an operation for which
    PyTorch has no deterministic algorithm, such as padding by reflection. PyTorch's global random state,
    number of threads and settings of determinism are restored.

    Args:
        spec: the architecture and its recipe.
        data: training data to use instead of `recipe.dataset`: a tensor or an array (n, *shape), a pair
            (input, target) of them, a data frame, a map-style dataset, a `Samples` or a dataset spec. A tenth
            of your own data, drawn with the recipe's seed, is held out for validation.
        device: `cpu`, `cuda`, `mps`, or `auto` for the fastest available.
        callbacks: called after the recipe's callbacks, in both rounds of a refit.
        progress: whether to show progress on standard error: a bar on a terminal, lines elsewhere.
        max_parameters: as for `build`.
        resume: a local file that holds the state after every epoch. If it exists, the training continues from
            it and gives the same weights as an uninterrupted training. It is deleted at the end.
        save: called with the trained autoencoder, in rank 0 only, before the `resume` file is deleted. If it
            fails, the training can still be resumed.

    Returns:
        The autoencoder in evaluation mode, with `metrics`, `history` and `training_record`.

    Raises:
        SpecError: the spec cannot be built or trained.
        DataError: the data are missing or do not match the spec.
        TrainingError: the device is not available, the loss is no longer finite, or the `resume` file is
            damaged or belongs to another training.
        TrainingInterrupted: Ctrl-C was pressed; `ae` holds the autoencoder as trained so far.
    """
    run = _prepare(spec, data, device, callbacks, progress, max_parameters)
    return _train(run, resume, save)


def _train(
    run: TrainingRun, resume: str | os.PathLike[str] | None, save: Callable[[Autoencoder], object] | None
) -> Autoencoder:
    with init_distributed(run.device) as run.group:
        run.check_batches()
        run.open_resume_file(resume)
        with (
            run.closing_callbacks(),
            run.attach_to_errors(),
            _reproducible(run.recipe, run.device, run.group.rank),
        ):
            for round_ in run.rounds():
                with round_.bar:
                    for unit in round_.units():
                        StageRunner(round_, unit).fit()
                run.finish(round_)
            run.measure()
        if save is not None and run.group.is_main:
            save(run.ae)
        run.remove_resume_file()
    return run.ae


def train_to_folder(
    spec: VariantSpec,
    folder: str | os.PathLike[str] | None = None,
    data: object = None,
    *,
    device: str | torch.device = "auto",
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    overwrite: bool = False,
    resume: bool = False,
    write_anywhere: bool = False,
) -> Autoencoder:
    """Trains a variant and writes its folder: weights, metrics, training record, preview and model card.

    This is what `aezoo train` does. A file `.FOLDER.resume` next to the folder holds the state after every
    epoch until the folder is written. If the training is interrupted or diverges, the folder is written with
    the weights so far; their metrics are null. A changed copy of a published variant gets a name of its own,
    as in `save`.

    Args:
        spec: the architecture and its recipe.
        folder: the folder to write, whole or not at all; by default `./NAME`. A `spec.yaml` in it is kept.
        data: as for `train`.
        device: as for `train`.
        callbacks: as for `train`.
        progress: as for `train`.
        overwrite: whether to replace a folder that holds weights.
        resume: whether to continue an interrupted training of this folder. A folder that already holds the
            result of the same training is loaded.
        write_anywhere: whether the recipe's callbacks may write outside of the current folder and the parent
            of `folder`, and overwrite files that are not logs.

    Returns:
        The autoencoder, as from `train`.

    Raises:
        CheckpointError: the folder cannot be written; checked before training as far as possible.
        TrainingError: as for `train`, or an interrupted training was found and `resume` is False.
        SpecError, DataError, TrainingInterrupted: as for `train`.
    """
    require_spec(spec, VariantSpec)
    target = check_path(Path(spec.name if folder is None else folder), "target")
    resume_path = check_path(target.parent / f".{target.name}.resume", "target")
    if resume_path.exists() and not resume:
        text = f"{resume_path} found from an interrupted run"
        raise TrainingError(f"{text}; pass --resume (resume=True) to continue, or delete it to start over")
    if not write_anywhere:
        check_written_paths(spec.recipe, target)
    spec = own_name(_trained_on(spec, data), target)
    unfinished = resume and is_unfinished(target)
    # A process can be killed after it has written the folder, before or after it deletes its resume file.
    written = resume and not unfinished and _is_of_spec(target, spec)
    overwrite = overwrite or unfinished or (written and resume_path.exists())
    if overwrite or not written:
        check_target(target, overwrite=overwrite)
    run = _prepare(spec, data, device, callbacks, progress, None)
    if written and not overwrite:
        return _load_finished(target, run)
    if env_rank() == 0:
        # A guess: parameters and the optimizer's state, twice.
        check_space(resume_path, 4 * 4 * run.on_meta.num_parameters)
    try:
        return _train(run, resume_path, lambda ae: save_folder(ae, target, overwrite=overwrite))
    except (Exception, KeyboardInterrupt) as error:
        ae = getattr(error, "ae", None)
        if isinstance(ae, Autoencoder) and env_rank() == 0:
            _save_unfinished(ae, target, overwrite=overwrite)
        raise


def _is_of_spec(folder: Path, spec: VariantSpec) -> bool:
    """Whether a folder holds a variant that was trained from a spec."""
    config = folder / CONFIG
    if not config.is_file():
        return False
    digest = strict_json(read_file(config, MAX_JSON_BYTES), config).get("spec_sha256")
    return digest == spec_sha256(spec.resolved())


def _load_finished(target: Path, run: TrainingRun) -> Autoencoder:
    """Loads the result of a training that needs no resuming.

    Raises:
        CheckpointError: the folder was trained on other data.
    """
    ae = load(target)
    recorded = ae.training_record.get("data", {})
    if any(recorded.get(split, {}).get("sha256") != digest for split, digest in run.data_hashes.items()):
        check_target(target, overwrite=False)
    print(f"{target} holds the result of this training already", file=sys.stderr)
    return ae


def _save_unfinished(ae: Autoencoder, target: Path, *, overwrite: bool) -> None:
    """Writes the folder of a training that did not end. The error that ended it is the one to report."""
    try:
        save_folder(ae, target, overwrite=overwrite)
    except CheckpointError as error:
        print(f"the weights so far are not saved: {error}", file=sys.stderr)
        return
    text = f"{target} holds the weights so far, not measured"
    print(f"{text}; pass --resume to continue from the last finished epoch", file=sys.stderr)


# -- before training ----------------------------------------------------------------------------------


def _prepare(
    spec: VariantSpec,
    data: object,
    device: str | torch.device,
    callbacks: Sequence[Callback],
    progress: bool,
    max_parameters: int | None,
) -> TrainingRun:
    """Checks the spec, reads the data and builds the network."""
    require_spec(spec, VariantSpec)
    spec = _trained_on(spec, data)
    data = None if isinstance(data, DatasetSpec) else data
    on_meta = build_on_meta(spec, max_parameters=max_parameters)
    check_recipe(on_meta, spec)
    start = None if spec.recipe.init_from is None else _load_start(on_meta, spec.recipe.init_from)
    found = pick_device(device)
    started, clock = datetime.now(UTC), time.perf_counter()
    splits = _read_splits(spec, data)
    warn_identical_targets(splits.train.inputs, splits.train.targets, bool(spec.recipe.noises))
    run = TrainingRun(
        spec=spec,
        splits=splits,
        callbacks=[*(cast(Callback, callback.build()) for callback in spec.recipe.callbacks), *callbacks],
        device=found,
        progress=progress,
        on_meta=on_meta,
        start=start,
        started=started,
        clock=clock,
        data_hashes={"train": splits.train.sha256(), "validation": splits.validation.sha256()},
    )
    run.ae = run.build()
    for diagnostic in lint_spec(spec, on_meta.shapes):
        diagnostic.warn()
    return run


def _trained_on(spec: VariantSpec, data: object) -> VariantSpec:
    """Returns the spec with the dataset that it is trained on, none for data that have no name.

    What is saved can then be evaluated again, and does not claim a dataset on which it was not trained.
    """
    if data is None:
        return spec
    dataset = data if isinstance(data, DatasetSpec) else None
    return spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"dataset": dataset})})


def _load_start(on_meta: Autoencoder, name: str) -> Autoencoder:
    """Loads the autoencoder whose weights training starts from.

    Raises:
        SpecError: it has another architecture.
        CheckpointError, UnknownVariantError: it cannot be loaded.
    """
    start = load(name)
    found = {key: tuple(value.shape) for key, value in weights_of(start).items()}
    expected = {key: tuple(value.shape) for key, value in weights_of(on_meta).items()}
    for key in sorted(found.keys() | expected.keys()):
        if found.get(key) != expected.get(key):
            text = f"{key} is {found.get(key)} in {name}, {expected.get(key)} here"
            raise SpecError([Problem("recipe.init_from", f"another architecture: {text}")])
    return start


def _read_splits(spec: VariantSpec, data: object) -> Splits:
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
    """Returns the device of a name; `auto` is CUDA if available, else MPS, else the CPU.

    `cuda` without a number is the GPU of this process if several train together, else the current one.

    Raises:
        TrainingError: the device is not available.
    """
    if device == "auto":
        if torch.cuda.is_available():
            # One GPU for each process of a machine.
            return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.zeros((), device=found).item()  # raises for the meta device, whose tensors have no values
    except (RuntimeError, AssertionError, ImportError) as error:
        # PyTorch's message lists every backend after the first sentence.
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise TrainingError(f"device {device!s} is not available: {reason}") from error
    if found == torch.device("cuda"):
        return torch.device("cuda", env_int("LOCAL_RANK", torch.cuda.current_device(), least=0))
    return found


@contextmanager
def _reproducible(recipe: RecipeSpec, device: torch.device, rank: int) -> Generator[None]:
    """Context manager that sets the recipe's threads, numerics and seed, and restores the caller's."""
    threads = torch.get_num_threads()
    gpu = [device] if device.type == "cuda" else []
    on_cpu = device.type == "cpu"
    try:
        torch.set_num_threads(recipe.threads)
        deterministic = deterministic_cuda() if gpu else nullcontext()
        with (
            torch.random.fork_rng(devices=gpu),
            deterministic,
            flush_denormals(on_cpu and recipe.flushes_denormals),
        ):
            # Ranks draw different dropout masks and samples.
            seed_global(recipe.seed + rank, device)
            yield
    finally:
        torch.set_num_threads(threads)
        if on_cpu:
            release_freed_memory()


@contextmanager
def deterministic_cuda() -> Generator[None]:
    """Context manager in which CUDA computes the same bits in every run, as far as PyTorch can.

    Some operations add in an order that varies, and cuDNN may choose a convolution by its speed.
    """
    backend, filling = cast(Any, torch.backends.cudnn), cast(Any, torch.utils).deterministic
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        filling.fill_uninitialized_memory,
        backend.benchmark,
    )
    # Read by cuBLAS, which otherwise may choose another workspace in every run.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        filling.fill_uninitialized_memory = backend.benchmark = False
        with warnings.catch_warnings():
            # Of operations that have no other implementation, such as unpooling.
            warnings.filterwarnings("ignore", ".*does not have a deterministic implementation", UserWarning)
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        filling.fill_uninitialized_memory, backend.benchmark = before[2:]
