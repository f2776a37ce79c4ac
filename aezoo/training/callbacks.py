"""`Callback`, the base class, and the built-in callbacks: logs, checkpoints, dead-latent resampling."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from typing_extensions import override

from aezoo.data.samples import Samples
from aezoo.errors import TrainingError
from aezoo.model.autoencoder import Autoencoder, eval_mode
from aezoo.model.output import StepContext
from aezoo.plugins.builtin import register_defined
from aezoo.plugins.hookspecs import Register, hookimpl
from aezoo.specs.base import Count
from aezoo.specs.components import CallbackSpec, OutputPath
from aezoo.specs.recipe import RecipeSpec
from aezoo.specs.stages import GreedyStage, StageSpec
from aezoo.specs.variant import VariantSpec
from aezoo.training.optim import Stateful
from aezoo.training.weight_tying import untied_copy
from aezoo.zoo.save import save

RESAMPLE_FROM = 8192
"""Number of training samples from which dead latents are re-initialized."""


@dataclass
class TrainingState:
    """The state of a stage in progress, which callbacks may read and change.

    Attributes:
        ae: the whole autoencoder, in training mode.
        recipe: the recipe.
        samples: the training data, unscaled.
        optimizer: the optimizer of this stage. `on_fit_start` may add parameter groups, whose learning rates
            follow the schedule in proportion, or replace the optimizer. `before_step` may change learning
            rates for one step.
        stage: number of the stage in the recipe, from 0.
        layer_pair: number of the pair in a greedy stage, from 1; 0 in other stages.
        epoch: finished epochs of this stage.
        step: finished optimizer steps of this round.
        context: the batch of the step in progress, as losses get it; None between epochs.
        history: a record of each finished epoch of this round.
        stop: set it to True to end the stage after this epoch.
        is_main: whether this process is the one that writes files.
    """

    ae: Autoencoder
    recipe: RecipeSpec
    samples: Samples
    optimizer: torch.optim.Optimizer
    stage: int = 0
    layer_pair: int = 0
    epoch: int = 0
    step: int = 0
    context: StepContext | None = None
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    stop: bool = False
    is_main: bool = True


class Callback:
    """Base class of callbacks: hooks around training that do nothing unless they are overridden."""

    def on_fit_start(self, state: TrainingState) -> None:
        """Called before the first step of each stage."""

    def on_epoch_start(self, state: TrainingState) -> None:
        """Called before the first step of each epoch; changes of the weights between epochs belong here."""

    def before_step(self, state: TrainingState) -> None:
        """Called before each forward pass; `state.context` holds the batch."""

    def after_step(self, state: TrainingState) -> None:
        """Called after each step of the optimizer and the layers' `after_step`."""

    def on_epoch_end(self, state: TrainingState) -> None:
        """Called after each epoch, once it is validated; its record is `state.history[-1]`.

        The weights must not be changed here: the record, and the epoch that early stopping keeps, would not
        be those of the weights that were validated.
        """

    def on_train_end(self, error: BaseException | None) -> None:
        """Called once when the training has ended, or has failed; closes files and connections.

        What it raises is a warning, since the result of the training is there already.

        Args:
            error: what ended the training, such as `KeyboardInterrupt`; None if it ended regularly.
        """

    def state_dict(self) -> dict[str, Any]:
        """Returns the callback's own state, as tensors and plain values, for the `resume` file."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state that `state_dict` returned."""


class _JsonLinesLogger(Callback):
    """Base class of callbacks that write JSON Lines. A resumed training continues the file."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.started = False

    def write(self, record: dict[str, Any]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a" if self.started else "w", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise TrainingError(f"{self.path} could not be written: {error.strerror or error}") from error
        self.started = True

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"bytes": self.path.stat().st_size if self.started else 0}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.started = state["bytes"] > 0 and self.path.is_file()
        if self.started:
            with self.path.open("r+b") as file:
                file.truncate(state["bytes"])


class _History(_JsonLinesLogger):
    @override
    def on_epoch_end(self, state: TrainingState) -> None:
        if state.is_main:
            self.write(state.history[-1])


class HistorySpec(CallbackSpec):
    """Logs the record of every epoch as a line of JSON."""

    kind: Literal["history"] = "history"
    examples = ({"path": "history.jsonl"},)
    path: OutputPath
    """The file, overwritten by each training; relative to the current folder."""

    @override
    def build(self) -> Callback:
        return _History(self.path)


class _LearningRate(_JsonLinesLogger):
    @override
    def after_step(self, state: TrainingState) -> None:
        lr = state.optimizer.param_groups[0]["lr"]
        if state.is_main:
            self.write({"stage": state.stage, "pair": state.layer_pair, "step": state.step, "lr": lr})


class LearningRateSpec(CallbackSpec):
    """Logs the learning rate of every step as a line of JSON."""

    kind: Literal["learning_rate"] = "learning_rate"
    examples = ({"path": "learning_rate.jsonl"},)
    path: OutputPath
    """The file, overwritten by each training; relative to the current folder."""

    @override
    def build(self) -> Callback:
        return _LearningRate(self.path)


class _Checkpoint(Stateful, Callback):
    STATE = ("epochs",)

    def __init__(self, folder: str, every: int) -> None:
        self.folder = Path(folder)
        self.every = every
        self.epochs = 0

    @override
    def on_epoch_end(self, state: TrainingState) -> None:
        self.epochs += 1
        if self.epochs % self.every == 0 and state.is_main:
            save(untied_copy(state.ae), self.folder / f"epoch-{self.epochs:06}", overwrite=True)


class CheckpointSpec(CallbackSpec):
    """Saves the autoencoder every few epochs, as a folder without metrics that `aezoo.load` reads."""

    kind: Literal["checkpoint"] = "checkpoint"
    examples = ({"folder": "checkpoints", "every": 10},)
    folder: OutputPath
    """Parent of the folders `epoch-NNNNNN`; epochs are counted from the start of training."""
    every: Count = 1
    """Epochs between two checkpoints."""

    @override
    def build(self) -> Callback:
        return _Checkpoint(self.folder, self.every)


class _ResampleDead(Stateful, Callback):
    STATE = ("fired",)

    def __init__(self, every: int, until: int) -> None:
        self.every, self.until = every, until
        self.fired: Tensor | None = None

    @override
    def on_fit_start(self, state: TrainingState) -> None:
        if state.step == 0:
            # A refit repeats the first round, so it counts from the start.
            self.fired = None

    @override
    def after_step(self, state: TrainingState) -> None:
        assert state.context is not None
        with torch.no_grad(), eval_mode(state.ae):
            fired = (state.ae.encode(state.context.input).flatten(1) != 0).any(0)
        # After a resume, the state is on the CPU.
        self.fired = fired if self.fired is None else self.fired.to(fired.device) | fired

    @override
    def on_epoch_start(self, state: TrainingState) -> None:
        # The first epoch of a stage starts from the weights that the stage before has selected.
        epochs = len(state.history)
        if state.epoch == 0 or epochs % self.every or epochs > self.until or self.fired is None:
            return
        layers = _linear_layers_around_latents(state.ae)
        if layers is None or not all(layer.weight.requires_grad for layer in layers):
            return
        dead = (~self.fired).nonzero().flatten()
        self.fired = None
        if len(dead):
            generator = Generator().manual_seed(state.recipe.seed + epochs)
            with eval_mode(state.ae):
                resample(state, *layers, dead, generator)


class ResampleDeadSpec(CallbackSpec):
    """Dead-latent resampling: latents that never fired are re-initialized from badly reconstructed samples.

    Bricken et al., Towards Monosemanticity (2023), appendix on neuron resampling. Needs a linear layer at
    the end of the encoder and one at the start of the decoder, with one row or column for each latent.

    Latents are resampled at the start of an epoch, never after the last one of a stage, and not in a stage
    that freezes one of the two layers.
    """

    kind: Literal["resample_dead"] = "resample_dead"
    examples = ({"every": 1, "until": 10},)
    every: Count = 10
    """Epochs between two resamplings; a latent that was zero throughout them is dead."""
    until: Count = 1_000_000
    """Last epoch after which latents are resampled, counted from the start of training."""

    @override
    def build(self) -> Callback:
        return _ResampleDead(self.every, self.until)

    @override
    def incompatibility(self, ae: Autoencoder) -> str | None:
        if any(isinstance(stage, GreedyStage) for stage in _stages_of(ae)):
            return "applies to the whole network, not to the pairs of a greedy stage"
        if _linear_layers_around_latents(ae) is None:
            return "needs linear layers on both sides of the latents, one row and one column for each"
        return None


@torch.no_grad()
def resample(
    state: TrainingState, encoder: nn.Linear, decoder: nn.Linear, dead: Tensor, generator: Generator
) -> None:
    """Re-initializes `dead` latents from samples that are drawn in proportion to their squared loss.

    `encoder` and `decoder` are the linear layers before and after the latents.
    """
    ae = state.ae
    batch = state.samples.batch(slice(0, RESAMPLE_FROM), ae.spec)
    x = batch.input.to(encoder.weight)
    loss = (ae(x).x_hat - batch.target.to(encoder.weight)).flatten(1).square().sum(1)
    chances = loss.cpu().double().square().clamp(min=1e-30)
    picks = torch.multinomial(chances, len(dead), replacement=len(dead) > len(chances), generator=generator)
    directions = F.normalize(_inputs_of(ae, encoder, x[picks.to(x.device)]), dim=1)
    lengths = encoder.weight.square().sum(1).sqrt()
    alive = torch.ones_like(lengths, dtype=torch.bool)
    alive[dead] = False
    scale = float(lengths[alive].mean() if alive.any() else lengths.mean())
    encoder.weight[dead] = 0.2 * scale * directions
    if "bias" in dict(encoder.named_parameters()):
        encoder.bias[dead] = 0.0
    targets = batch.target[picks.to(batch.target.device)].flatten(1).to(decoder.weight)
    # A tied decoder has no weights of its own.
    if targets.shape[1] == decoder.weight.shape[0] and "weight" not in vars(decoder):
        decoder.weight[:, dead] = F.normalize(targets, dim=1).T
    # The optimizer's moments belong to the weights that were replaced.
    entries = [(encoder.weight, (dead,)), (decoder.weight, (slice(None), dead)), (encoder.bias, (dead,))]
    for parameter, index in entries:
        for value in state.optimizer.state.get(parameter, {}).values():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                value[index] = 0.0


def _stages_of(ae: Autoencoder) -> tuple[StageSpec, ...]:
    return ae.spec.recipe.stages if isinstance(ae.spec, VariantSpec) else ()


def _linear_layers_around_latents(ae: Autoencoder) -> tuple[nn.Linear, nn.Linear] | None:
    before = [m for m in ae.encoder.modules() if isinstance(m, nn.Linear)]
    after = [m for m in ae.decoder.modules() if isinstance(m, nn.Linear)]
    if before and after and before[-1].out_features == ae.num_latents == after[0].in_features:
        return before[-1], after[0]
    return None


def _inputs_of(ae: Autoencoder, linear: nn.Linear, x: Tensor) -> Tensor:
    """Returns what a layer of the encoder is given for inputs `x` of the network."""
    seen: list[Tensor] = []
    handle = linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        ae.encode(x)
    finally:
        handle.remove()
    return seen[0]


@hookimpl
def register_callbacks(register: Register) -> None:
    """Registers the callbacks that this module defines."""
    register_defined(__name__, "callback", register)
