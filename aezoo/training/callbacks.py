"""Callbacks that come with aezoo: records, checkpoints, and latents brought back to life."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator, Tensor, nn

from aezoo.errors import TrainingError, optional
from aezoo.model.autoencoder import Autoencoder, eval_mode
from aezoo.plugins.builtin import register_defined
from aezoo.plugins.hookspecs import Register, hookimpl
from aezoo.specs.base import Count
from aezoo.specs.components import CallbackSpec
from aezoo.training.loop import Callback, TrainingState
from aezoo.training.stages import standing_alone
from aezoo.zoo.save import save

LOOKED_AT = 8192
"""Training samples among which badly reconstructed ones are looked for."""


class _Lines(Callback):
    """Writes JSON Lines; a training that goes on writes on from where it was kept."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.begun = False

    def write(self, record: dict[str, Any]) -> None:
        """Adds a line."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a" if self.begun else "w", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise TrainingError(f"{self.path} could not be written: {error.strerror or error}") from error
        self.begun = True

    def state_dict(self) -> dict[str, Any]:
        """How long the file is."""
        return {"bytes": self.path.stat().st_size if self.begun else 0}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Cuts off what was written after the state was kept."""
        self.begun = state["bytes"] > 0 and self.path.is_file()
        if self.begun:
            with self.path.open("r+b") as file:
                file.truncate(state["bytes"])


class _History(_Lines):
    def on_epoch_end(self, state: TrainingState) -> None:
        if state.writes:
            self.write(state.history[-1])


class HistorySpec(CallbackSpec):
    """Every epoch's record as a line of JSON."""

    kind: Literal["history"] = "history"
    path: str
    """The file, begun anew by each training; relative to the folder in which Python runs."""

    def build(self) -> Callback:
        """Makes the callback."""
        return _History(self.path)


class _LearningRate(_Lines):
    def after_step(self, state: TrainingState) -> None:
        rate = state.optimizer.param_groups[0]["lr"]
        if state.writes:
            self.write({"stage": state.stage, "pair": state.pair, "step": state.step, "lr": rate})


class LearningRateSpec(CallbackSpec):
    """Every step's learning rate as a line of JSON."""

    kind: Literal["learning_rate"] = "learning_rate"
    path: str
    """The file, begun anew by each training; relative to the folder in which Python runs."""

    def build(self) -> Callback:
        """Makes the callback."""
        return _LearningRate(self.path)


class _Checkpoint(Callback):
    def __init__(self, folder: str, every: int) -> None:
        self.folder = Path(folder)
        self.every = every
        self.seen = 0

    def on_epoch_end(self, state: TrainingState) -> None:
        self.seen += 1
        if self.seen % self.every or not state.writes:
            return
        save(standing_alone(state.ae), self.folder / f"epoch-{self.seen:06}", overwrite=True)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


class CheckpointSpec(CallbackSpec):
    """A folder of the autoencoder as it is, every so many epochs; loads as any other, not measured."""

    kind: Literal["checkpoint"] = "checkpoint"
    folder: str
    """Where the folders go, named by the epochs since the training began."""
    every: Count = 1
    """Epochs from one to the next."""

    def build(self) -> Callback:
        """Makes the callback."""
        return _Checkpoint(self.folder, self.every)


class _ResampleDead(Callback):
    """See `ResampleDeadSpec`."""

    def __init__(self, every: int, until: int) -> None:
        self.every, self.until = every, until
        self.epochs = 0
        self.fired: Tensor | None = None

    def on_fit_start(self, state: TrainingState) -> None:
        if state.pair:
            raise TrainingError(
                "resample_dead works on the whole network, not on the pairs of a greedy stage"
            )
        _around_latents(state.ae)
        if state.step == 0:
            # A refit repeats what the first round did.
            self.epochs, self.fired = 0, None

    def after_step(self, state: TrainingState) -> None:
        assert state.batch is not None
        with torch.no_grad(), eval_mode(state.ae):
            fired = (state.ae.encode(state.batch.input).flatten(1) != 0).any(0)
        self.fired = fired if self.fired is None else self.fired | fired

    def on_epoch_end(self, state: TrainingState) -> None:
        self.epochs += 1
        if self.epochs % self.every or self.epochs > self.until or self.fired is None:
            return
        dead = (~self.fired).nonzero().flatten()
        self.fired = None
        if len(dead):
            generator = Generator().manual_seed(state.recipe.seed + self.epochs)
            with eval_mode(state.ae):
                resample(state, dead, generator)

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "fired": self.fired}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epochs, self.fired = state["epochs"], state["fired"]


class ResampleDeadSpec(CallbackSpec):
    """Points latents that never fired at samples that are reconstructed badly.

    Bricken et al., Towards Monosemanticity (2023), appendix on neuron resampling. For an encoder whose
    last weights, and a decoder whose first, are linear layers with one row or column for each latent.
    """

    kind: Literal["resample_dead"] = "resample_dead"
    every: Count = 10
    """Epochs from one look to the next; a latent is dead that did not fire in all that time."""
    until: Count = 1_000_000
    """Epochs since the training began after which nothing is resampled any more."""

    def build(self) -> Callback:
        """Makes the callback."""
        return _ResampleDead(self.every, self.until)


class _TensorBoard(Callback):
    def __init__(self, folder: str) -> None:
        # TensorBoard's own package is what PyTorch's writer needs.
        optional("tensorboard", "tensorboard", "tensorboard")
        self.writer: Any = optional("torch.utils.tensorboard", "tensorboard", "tensorboard").SummaryWriter(
            folder
        )

    def on_epoch_end(self, state: TrainingState) -> None:
        if not state.writes:
            return
        record = state.history[-1]
        for split in ("train", "validation"):
            for name, value in record.get(split, {}).items():
                self.writer.add_scalar(f"{record['round']}/{split}/{name}", value, state.step)
        self.writer.add_scalar(f"{record['round']}/lr", record["lr"], state.step)
        self.writer.flush()


class TensorBoardSpec(CallbackSpec):
    """Losses by term and the learning rate for TensorBoard; needs `aezoo[tensorboard]`."""

    kind: Literal["tensorboard"] = "tensorboard"
    folder: Annotated[str, Field(min_length=1)]
    """Where the event files go."""

    def build(self) -> Callback:
        """Makes the callback."""
        return _TensorBoard(self.folder)


@torch.no_grad()
def resample(state: TrainingState, dead: Tensor, generator: Generator) -> None:
    """Gives dead latents new weights: a badly reconstructed sample each, drawn by its squared loss.

    Args:
        state: of a training whose network has linear layers on both sides of the latents.
        dead: indices of latents.
        generator: on the CPU; of the draw.

    Raises:
        TrainingError: no such layers.
    """
    ae = state.ae
    encoder, decoder = _around_latents(ae)
    rows = state.samples.rows(slice(0, LOOKED_AT), ae.spec)
    x = rows.input.to(encoder.weight)
    loss = (ae(x).x_hat - rows.target.to(encoder.weight)).flatten(1).square().sum(1)
    chances = loss.cpu().double().square().clamp(min=1e-30)
    picks = torch.multinomial(chances, len(dead), replacement=len(dead) > len(chances), generator=generator)
    inputs = _reaching(ae, encoder, x[picks.to(x.device)])
    directions = F.normalize(inputs, dim=1)
    lengths = encoder.weight.square().sum(1).sqrt()
    alive = torch.ones_like(lengths, dtype=torch.bool)
    alive[dead] = False
    scale = float(lengths[alive].mean() if alive.any() else lengths.mean())
    encoder.weight[dead] = 0.2 * scale * directions
    if "bias" in dict(encoder.named_parameters()):
        encoder.bias[dead] = 0.0
    targets = rows.target[picks.to(rows.target.device)].flatten(1).to(decoder.weight)
    # A tied decoder follows its encoder by itself.
    if targets.shape[1] == decoder.weight.shape[0] and "weight" not in vars(decoder):
        decoder.weight[:, dead] = F.normalize(targets, dim=1).T
    places = [(encoder.weight, (dead,)), (decoder.weight, (slice(None), dead)), (encoder.bias, (dead,))]
    for parameter, index in places:
        for value in state.optimizer.state.get(parameter, {}).values():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                value[index] = 0.0


def _around_latents(ae: Autoencoder) -> tuple[nn.Linear, nn.Linear]:
    before = [m for m in ae.encoder.modules() if isinstance(m, nn.Linear)]
    behind = [m for m in ae.decoder.modules() if isinstance(m, nn.Linear)]
    sizes = [m[0] for m in ([b.out_features for b in before[-1:]], [b.in_features for b in behind[:1]]) if m]
    if sizes != [ae.num_latents, ae.num_latents]:
        raise TrainingError(
            "resample_dead needs linear layers on both sides of the latents, one row and one column for each"
        )
    return before[-1], behind[0]


def _reaching(ae: Autoencoder, linear: nn.Linear, x: Tensor) -> Tensor:
    """What reaches a layer for some inputs."""
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
