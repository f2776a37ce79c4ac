"""Checks of a recipe against the network, on the meta device, before anything is trained."""

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import TypeAdapter

from aezoo.errors import Problem, SpecError, TrainingError
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.build import build_on_meta
from aezoo.model.sequential import LayerBuilder
from aezoo.specs.base import check
from aezoo.specs.components import WRITTEN, LayerSpec
from aezoo.specs.recipe import RecipeSpec
from aezoo.specs.stages import FitStage, GreedyStage, PcaStage
from aezoo.specs.tensor import TensorSpec
from aezoo.specs.variant import AutoencoderSpec, VariantSpec
from aezoo.specs.yaml import Document
from aezoo.training.diagnostics import lint_spec
from aezoo.training.distributed import ProcessGroup
from aezoo.training.greedy import layer_pairs
from aezoo.training.pca import linear_layers
from aezoo.training.stages import layers_at
from aezoo.training.weight_tying import mirrored_weights


def validate(path: str | os.PathLike[str]) -> VariantSpec:
    """Reads a `spec.yaml` and checks on the meta device that it can be built and trained.

    Issues a `DiagnosticWarning` for what is valid but likely to give poor results.

    Args:
        path: path of the YAML file.

    Returns:
        The spec.

    Raises:
        SpecError: the spec is invalid; lists every mistake with file, line and path.
    """
    spec, ae = read_and_check(path)
    for diagnostic in lint_spec(spec, ae.shapes):
        diagnostic.warn()
    return spec


def read_and_check(path: str | os.PathLike[str]) -> tuple[VariantSpec, Autoencoder]:
    """Reads a `spec.yaml`, builds it on the meta device and checks its recipe; issues no warnings.

    Returns:
        The spec and the autoencoder on the meta device.

    Raises:
        SpecError: as for `validate`. If a part of the document is invalid, the layers are built as far as
            they are valid, so that those that do not fit are reported too.
    """
    document = Document.read(path)
    try:
        spec = document.as_spec(VariantSpec)
    except SpecError as error:
        if not isinstance(document.data, dict):
            raise
        found = _build_problems(cast(dict[str, Any], document.data), {p.path for p in error.problems})
        # In the order of the document, as far as lines are known.
        problems = [*error.problems, *SpecError(found).locate(document.source, document.lines).problems]
        raise SpecError(sorted(problems, key=lambda p: p.line or 0), document.source) from error
    try:
        ae = build_on_meta(spec)
        check_recipe(ae, spec)
    except SpecError as error:
        raise error.locate(document.source, document.lines) from error
    return spec, ae


def _build_problems(data: dict[str, Any], invalid: set[str]) -> tuple[Problem, ...]:
    """What does not fit in the architecture of a document of which some paths are invalid."""
    parts = {key: data[key] for key in AutoencoderSpec.model_fields if key in data}
    wrong = [path for path in invalid if path.partition(".")[0] in AutoencoderSpec.model_fields]
    try:
        if not wrong:
            build_on_meta(check(AutoencoderSpec, parts))
        elif all(path.startswith(("encoder.", "decoder.")) for path in wrong):
            _build_valid_start(parts, wrong)
    except SpecError as error:
        return error.problems
    return ()


def _build_valid_start(parts: dict[str, Any], wrong: list[str]) -> None:
    """Builds the layers before the first invalid one.

    Raises:
        SpecError: a layer does not fit its input.
    """
    builder, shape = LayerBuilder(), check(TensorSpec, parts["input"]).shape
    for name in ("encoder", "decoder"):
        indices = [int(path.split(".")[1]) for path in wrong if path.startswith(f"{name}.")]
        valid = parts[name][: min(indices, default=None)]
        layers = TypeAdapter(tuple[LayerSpec, ...]).validate_python(tuple(valid))
        with torch.device("meta"):
            built = builder.sequence(layers, shape, name)
        if indices:
            return
        assert built.out_shape is not None
        shape = built.out_shape


def check_recipe(ae: Autoencoder, spec: VariantSpec) -> None:
    """Checks that a recipe can train the network `ae` that was built from the same spec.

    Raises:
        SpecError: it cannot; lists every mistake by path.
    """
    recipe = spec.recipe
    problems = list(_check_noises_and_losses(recipe, ae))
    for index, callback in enumerate(recipe.callbacks):
        if text := callback.incompatibility(ae):
            problems.append(Problem(f"recipe.callbacks.{index}", f"{callback.kind_name} {text}"))
    if ae.num_parameters == 0:
        problems.append(Problem("recipe.stages", "there are no weights to train"))
    for index, stage in enumerate(recipe.stages):
        where = f"recipe.stages.{index}"
        try:
            if isinstance(stage, PcaStage):
                linear_layers(ae, where)
                if recipe.init_from is not None:
                    problems.append(Problem(where, "pca would replace the weights of recipe.init_from"))
            elif isinstance(stage, GreedyStage):
                _check_greedy(ae, recipe, stage, where)
            elif isinstance(stage, FitStage):
                _check_fit(ae, stage, where)
        except SpecError as error:
            problems += error.problems
    if problems:
        raise SpecError(problems)


def check_batches(ae: Autoencoder, recipe: RecipeSpec, rows: int, group: ProcessGroup) -> None:
    """Checks that the network can train on every batch of an epoch; batch norm needs more than one row.

    Args:
        ae: on the meta device.
        recipe: batch size and stages.
        rows: number of training samples.
        group: the processes that share a batch.

    Raises:
        TrainingError: it cannot train on the last batch of `rows` samples, or on a whole one.
    """
    whole = min(recipe.batch_size, rows)
    for batch in sorted({whole, rows % whole or whole}):
        size = batch if recipe.global_batch_norm else group.smallest_shard(batch)
        x = torch.empty((size, *ae.spec.input.shape), device="meta")
        for stage in recipe.stages:
            trained = copy.deepcopy(ae).train()
            for layer in layers_at(trained, getattr(stage, "freeze", ()), ""):
                layer.eval()
            try:
                trained(x)
            except ValueError as error:
                shared = "" if group.world_size == 1 else f" on {group.world_size} processes"
                found = f"{rows} rows in batches of {recipe.batch_size}{shared} leave a batch of {size}"
                text = f"{found} row{'s' * (size > 1)}, which the network cannot be trained on ({error})"
                raise TrainingError(f"recipe.batch_size: {text}; choose another batch size") from error
            except Exception:  # noqa: S112 - layers that read values cannot run on the meta device
                continue


def _check_noises_and_losses(recipe: RecipeSpec, ae: Autoencoder) -> Iterator[Problem]:
    for index, noise in enumerate(recipe.noises):
        if text := noise.incompatibility(ae.spec.input):
            yield Problem(f"recipe.noises.{index}", text)
    if text := recipe.reconstruction.incompatibility(ae):
        yield Problem("recipe.reconstruction", text)
    for index, penalty in enumerate(recipe.penalties):
        if text := penalty.incompatibility(ae):
            yield Problem(f"recipe.penalties.{index}", text)


def _check_greedy(ae: Autoencoder, recipe: RecipeSpec, stage: GreedyStage, where: str) -> None:
    for number, pair in enumerate(layer_pairs(ae, stage.reconstruct == "own_input", where), 1):
        if stage.tie:
            mirrored_weights(pair.ae, f"{where}.tie")
        for problem in _check_noises_and_losses(recipe, pair.ae):
            raise SpecError([Problem(where, f"pair {number}: {problem.path}: {problem.message}")])


def _check_fit(ae: Autoencoder, stage: FitStage, where: str) -> None:
    pairs = mirrored_weights(ae, f"{where}.tie") if stage.tie else []
    if not stage.freeze:
        return
    frozen = layers_at(ae, stage.freeze, f"{where}.freeze")
    for index, layer in enumerate(frozen):
        if any(module in pair for pair in pairs for module in layer.modules()):
            text = f"{stage.freeze[index]} is tied in this stage, so it cannot be frozen"
            raise SpecError([Problem(f"{where}.freeze", text)])
    if not set(ae.parameters()) - {p for module in frozen for p in module.parameters()}:
        raise SpecError([Problem(f"{where}.freeze", "freezes all weights, so nothing is left to train")])


def check_written_paths(recipe: RecipeSpec, folder: Path) -> None:
    """Checks that a recipe's callbacks write below the current folder, or below the parent of `folder`, only.

    Raises:
        SpecError: a path leads elsewhere.
    """
    allowed = [Path.cwd(), folder.resolve().parent]
    for index, callback in enumerate(recipe.callbacks):
        for name, info in type(callback).model_fields.items():
            if WRITTEN not in info.metadata:
                continue
            path = Path(str(getattr(callback, name))).resolve()
            if not any(path.is_relative_to(place) for place in allowed):
                where = f"recipe.callbacks.{index}.{name}"
                text = f"{path} is outside of the current folder; to allow it, pass write_anywhere=True"
                raise SpecError([Problem(where, f"{text} (--write-anywhere)")])
            if path.is_file() and not _is_log(path):
                where = f"recipe.callbacks.{index}.{name}"
                text = f"{path} exists and is not the log of a training; it would be overwritten"
                raise SpecError([Problem(where, text)])


def _is_log(path: Path) -> bool:
    """Whether a file is empty or begins with a line of JSON, as logs of callbacks do."""
    try:
        with path.open(encoding="utf-8") as file:
            first = file.readline(100_000)
        return not first or isinstance(json.loads(first), dict)
    except (OSError, ValueError):
        return False
