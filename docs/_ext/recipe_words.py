"""A recipe as sentences."""

from typing import Any

from aezoo.specs.recipe import RecipeSpec
from aezoo.specs.stages import DescentStage, GreedyStage, StageSpec

ALGORITHMS = {"adam": "Adam", "adamw": "AdamW", "sgd": "stochastic gradient descent"}


def recipe_in_words(recipe: RecipeSpec) -> list[str]:
    """Sentences, as Markdown, that describe a training: data, objective, stages, refit."""
    sentences = [_objective(recipe)]
    if recipe.dataset is not None:
        sentences.insert(0, f"The training data are {_component(recipe.dataset)}.")
    if recipe.noises:
        noises = " and then ".join(_component(noise) for noise in recipe.noises)
        random = any(noise.kind_name != "grayscale" for noise in recipe.noises)
        drawn = ", drawn again for every batch" if random else ""
        sentences.append(f"Each input is corrupted by {noises}{drawn}; the target is the clean sample.")
    if recipe.init_from:
        sentences.append(f"The initial weights are those of `{recipe.init_from}`.")
    count = len(recipe.stages)
    for number, stage in enumerate(recipe.stages, 1):
        start = f"Stage {number} of {count}" if count > 1 else "The training"
        sentences.append(_stage(start, stage))
    descent = any(isinstance(stage, DescentStage) for stage in recipe.stages)
    if descent:
        sentences.append(f"A batch has {recipe.batch_size:,} samples.")
    if recipe.refit:
        early = any(getattr(stage, "early_stop", None) for stage in recipe.stages)
        chosen = " for as many epochs as the first round chose" if early else " in the same way"
        sentences.append(
            f"A second round (refit) trains a new network{chosen}, on the training and validation splits "
            "together."
        )
    if recipe.autocast:
        sentences.append("Layers run in bfloat16 (autocast).")
    if recipe.weights_dtype != "float32":
        sentences.append(f"The weights are saved as {recipe.weights_dtype}.")
    sentences += [
        f"The callback {_component(callback)} runs during the training." for callback in recipe.callbacks
    ]
    threads = "one thread" if recipe.threads == 1 else f"{recipe.threads} threads"
    sentences.append(f"The seed is {recipe.seed}, with {threads}.")
    return sentences


def _objective(recipe: RecipeSpec) -> str:
    text = f"The objective is {_component(recipe.reconstruction)}"
    for penalty in recipe.penalties:
        text += f" plus {_component(penalty)}"
    return text + "."


def _stage(start: str, stage: StageSpec) -> str:
    if not isinstance(stage, DescentStage):
        return f"{start} computes principal components in closed form."
    epochs = "1 epoch" if stage.epochs == 1 else f"{stage.epochs} epochs"
    if stage.early_stop is not None:
        epochs = f"at most {epochs} (early stopping after {stage.early_stop.patience} without improvement)"
    optimizer = stage.optimizer
    algorithm = ALGORITHMS.get(optimizer.kind_name, f"`{optimizer.kind_name}`")
    rate = getattr(optimizer, "lr", None)
    schedule = stage.schedule
    with_rate = "" if rate is None else f" at a learning rate of {rate:g}"
    if schedule.kind_name == "cosine":
        final = getattr(schedule, "final", 0.0)
        steps = getattr(schedule, "warmup_steps", 0)
        with_rate += f", which falls along a cosine to {f'{final:g} of it' if final else '0'}"
        with_rate += f" after {steps:,} steps of warm-up" if steps else ""
    elif schedule.kind_name == "plateau":
        with_rate += ", reduced when the validation loss stops improving"
    elif schedule.kind_name != "constant":
        with_rate += f", with the schedule {_component(schedule)}"
    decay = getattr(optimizer, "weight_decay", 0.0)
    with_rate += f", with a weight decay of {decay:g}" if decay else ""
    text = f"{start} runs {algorithm} for {epochs}{with_rate}."
    if isinstance(stage, GreedyStage):
        text += " It trains layer by layer, from the outside inwards."
    if stage.tie:
        text += " Each decoder weight is the transpose of the mirrored encoder weight."
    if frozen := getattr(stage, "freeze", ()):
        text += f" Frozen: {', '.join(f'`{path}`' for path in frozen)}."
    return text


def _component(spec: Any) -> str:
    """A loss, noise, dataset, schedule or callback, with what differs from the defaults."""
    values = spec.model_dump(mode="json", exclude_defaults=True)
    left_out = ("kind", "weight", "warmup_epochs")
    arguments = ", ".join(f"{key}={value}" for key, value in values.items() if key not in left_out)
    text = f"`{spec.kind_name}`" + (f" ({arguments})" if arguments else "")
    weight, warmup = getattr(spec, "weight", 1.0), getattr(spec, "warmup_epochs", 0.0)
    if weight != 1:
        text = f"{weight:g} times {text}"
    return f"{text} (warmed up over {warmup:g} epochs)" if warmup else text
