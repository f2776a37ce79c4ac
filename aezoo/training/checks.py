"""Checks of a recipe against the network, on the meta device, before anything is trained."""

import copy
import os
from collections.abc import Iterator

import torch

from aezoo.errors import Problem, SpecError, TrainingError
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.build import build_on_meta
from aezoo.specs.recipe import RecipeSpec
from aezoo.specs.stages import FitStage, GreedyStage, PcaStage
from aezoo.specs.variant import VariantSpec
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
    document = Document.read(path)
    spec = document.as_spec(VariantSpec)
    try:
        ae = build_on_meta(spec)
        check_recipe(ae, spec)
    except SpecError as error:
        raise error.locate(document.source, document.lines) from error
    for diagnostic in lint_spec(spec, ae.shapes):
        diagnostic.warn()
    return spec


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
