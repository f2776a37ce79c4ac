"""Abstract classes of the open families: layers, losses, noises, datasets, callbacks and metrics.

Plugins register kinds of these families. Activations are a closed family.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias, cast

from pydantic import AfterValidator, Field

from aezoo.specs.base import NonEmpty, NonNegativeFloat, RegisteredSpec
from aezoo.specs.messages import validation_error
from aezoo.specs.tensor import TensorSpec

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

Bounds = tuple[float, float]
"""Smallest and largest possible value, infinite if unbounded."""
UNBOUNDED: Bounds = (-math.inf, math.inf)
Split = Literal["train", "validation", "test"]
MAX_LAYERS = 2000

# Classes of packages that import this one, which concrete specs annotate with.
Autoencoder: TypeAlias = Any
Output: TypeAlias = Any
Samples: TypeAlias = Any
Scaler: TypeAlias = Any
StepContext: TypeAlias = Any


class ActivationSpec(RegisteredSpec):
    """An elementwise function with the arguments of PyTorch's module of the same name."""

    family = "activation"

    @abstractmethod
    def build(self) -> "nn.Module":
        """Builds the module: (batch, *shape) -> (batch, *shape)."""

    @abstractmethod
    def output_bounds(self) -> Bounds:
        """Bounds of the output, infinite if unbounded."""


class LayerSpec(RegisteredSpec):
    """A layer: the spec is data, and `build` returns its `nn.Module`.

    The module defines `forward(h) -> h`. A module that writes values for later layers or reads values of
    earlier ones lists their names in `emits` (`("mean", "log_var")`) or `needs` (`("pool1.indices",)`) and
    defines `forward(h, aux) -> h`, where `aux` is the dict of those values. State is kept in parameters and
    persistent buffers, not in plain tensor attributes. The module may define `after_step()`, called after
    each optimizer step, and `sparsity()`, the number of non-zero latents.
    """

    family = "layer"
    limits_information: ClassVar[bool] = False
    """Whether the layer limits information (sparsity, noise), so that an overcomplete code is fine."""
    surrogate_gradient: ClassVar[bool] = False
    """Whether the backward pass intentionally differs from the derivative (straight-through estimators)."""
    example_shape: ClassVar[tuple[int, ...]] = (8,)
    """Input shape, without the batch axis, on which contract checks try the `examples`."""
    example_before: ClassVar[tuple[dict[str, Any], ...]] = ()
    """Layers before the one that contract checks try: those that write what it `needs`. `example_shape` is
    then the input shape of the first of them."""

    repeat: Annotated[int, Field(ge=1, le=1000)] = 1
    """Number of consecutive layers with these options, each with its own weights."""

    @abstractmethod
    def build(self, in_shape: tuple[int, ...]) -> "nn.Module":
        """Builds the module.

        Args:
            in_shape: input shape without the batch axis.

        Raises:
            LayerError: an option does not fit `in_shape`.
        """

    def output_bounds(self, given: Bounds) -> Bounds:
        """Bounds of the output for inputs within `given`; unbounded by default.

        Used to check the decoder's range against the data and the loss: `bce` needs outputs in [0, 1].
        """
        return UNBOUNDED

    def expanded(self) -> "tuple[LayerSpec, ...]":
        """This entry as single layers, with nested layers expanded too."""
        nested = {name: expand(layers) for name, layers in self._nested().items()}
        return (self.model_copy(update={"repeat": 1, **nested}),) * self.repeat

    def layer_count(self) -> int:
        """Number of single layers in this entry, including nested ones."""
        return self.repeat * (1 + sum(layer_count(layers) for layers in self._nested().values()))

    def _nested(self) -> "dict[str, tuple[LayerSpec, ...]]":
        return {
            name: cast(tuple[LayerSpec, ...], value)
            for name in type(self).model_fields
            if isinstance(value := getattr(self, name), tuple)
            and any(isinstance(item, LayerSpec) for item in cast(tuple[object, ...], value))
        }


def output_bounds(layers: tuple[LayerSpec, ...]) -> Bounds:
    """Bounds of the output of a sequence of layers for unbounded inputs."""
    bounds = UNBOUNDED
    for layer in layers:
        bounds = layer.output_bounds(bounds)
    return bounds


def include_zero(bounds: Bounds) -> Bounds:
    """The bounds, widened to include 0."""
    return min(bounds[0], 0.0), max(bounds[1], 0.0)


def after_dropout(bounds: Bounds, p: float) -> Bounds:
    """Bounds after dropout, which sets values to 0 and scales the others by 1 / (1 - p)."""
    return include_zero((bounds[0] / (1 - p), bounds[1] / (1 - p))) if p else bounds


def expand(layers: tuple[LayerSpec, ...]) -> tuple[LayerSpec, ...]:
    """The layers with every `repeat` written out."""
    return tuple(single for layer in layers for single in layer.expanded())


def layer_count(layers: tuple[LayerSpec, ...]) -> int:
    """Number of layers with every `repeat` written out."""
    return sum(layer.layer_count() for layer in layers)


class LossSpec(RegisteredSpec):
    """A term of the training objective.

    The spec is a function `loss(output, context, ae) -> scalar` that returns the unweighted term; the trainer
    applies `weight` and its warm-up. Terms are averaged over the rows of the batch. A loss with parameters
    overrides `build` and returns a module with the same signature.

    Attributes:
        role: `reconstruction` for the data term, `penalty` for any other term.
    """

    family = "loss"
    role: ClassVar[Literal["reconstruction", "penalty"]] = "penalty"
    example_encoder: ClassVar[tuple[dict[str, Any], ...]] = ()
    """Encoder layers for a vector on which contract checks try the `examples`. Needed if the loss is
    incompatible with plain, variational and sparse encoders."""

    weight: NonNegativeFloat = 1.0
    """Factor of the term in the objective."""
    warmup_epochs: NonNegativeFloat = 0.0
    """Epochs over which the weight grows linearly from 0 to its full value."""

    def __call__(self, output: "Output", context: "StepContext", ae: "Autoencoder") -> "Tensor":
        """Returns the unweighted term, a scalar."""
        raise TypeError(f"{type(self).__qualname__} defines neither __call__ nor build")

    def build(self) -> "Callable[[Output, StepContext, Autoencoder], Tensor]":
        """Returns what the trainer calls: the spec itself, or a module if the loss has parameters."""
        return self

    def incompatibility(self, ae: "Autoencoder") -> str | None:
        """Returns why the loss cannot be used with a network (on the meta device), or None if it can.

        Checked before training starts.
        """
        return None

    def weight_at(self, epoch: float) -> float:
        """The weight after a (fractional) number of epochs."""
        return self.weight * min(1.0, epoch / self.warmup_epochs) if self.warmup_epochs else self.weight


class NoiseSpec(RegisteredSpec):
    """A corruption of the input: a function `noise(x, generator) -> x` on a batch.

    It must not work in place, and must draw random numbers only from `generator`.
    """

    family = "noise"

    @abstractmethod
    def __call__(self, x: "Tensor", generator: "Generator") -> "Tensor":
        """Returns the corrupted batch: (batch, *shape) -> (batch, *shape), dtype unchanged."""

    def incompatibility(self, given: TensorSpec) -> str | None:
        """Returns why the noise cannot be applied to an input, or None if it can.

        Checked before training starts.
        """
        return None


class DatasetSpec(RegisteredSpec):
    """A named dataset that loads its splits as `Samples`.

    Attributes:
        hub_id: id of the dataset on the Hugging Face Hub, for model cards; None if it is not there.
    """

    family = "dataset"
    hub_id: ClassVar[str | None] = None

    @abstractmethod
    def load(self, split: Split) -> "Samples":
        """Loads one split. `validation` is held out of the training data, never of the test data.

        Raises:
            DataError: the data are missing and cannot be downloaded, or the split does not exist.
        """

    def load_for(self, split: Split, scaler: Scaler | None, columns: tuple[str, ...] = ()) -> "Samples":
        """Loads one split as a network takes it that was trained with a scaler and columns.

        The statistics are those of the network, whatever the data are now; columns are selected by name.

        Args:
            split: as for `load`.
            scaler: scaler of the network's training data; None if they were not scaled.
            columns: columns of the network's training data; empty if they were not a table.

        Raises:
            DataError: as for `load`, or the data cannot be scaled in this way, or have other columns.
        """
        return self.load(split).scaled_for(scaler, columns)

    def has(self, split: Split) -> bool:
        """Whether the split exists; by default all three do."""
        return True

    def validation_note(self) -> str:
        """How the validation split was made, for the training record."""
        return "the dataset's own split"


WRITTEN = "written"
OutputPath = Annotated[str, WRITTEN]
"""A file or folder that a callback writes; relative to the current folder.

`train_to_folder` and `aezoo train` refuse one that is neither below the current folder nor next to the folder
that they write: a recipe from elsewhere must not overwrite files.
"""


class CallbackSpec(RegisteredSpec):
    """Code that runs during training; `build` returns a `Callback`, which may keep state."""

    family = "callback"

    @abstractmethod
    def build(self) -> Any:
        """Returns a new `aezoo.Callback` for one training."""

    def incompatibility(self, ae: "Autoencoder") -> str | None:
        """Returns why the callback cannot be used with a network (on the meta device), or None if it can.

        Checked before training starts.
        """
        return None


def _limit_layers(value: tuple[LayerSpec, ...]) -> tuple[LayerSpec, ...]:
    if (found := layer_count(value)) > MAX_LAYERS:
        raise validation_error(f"{found:,} layers with every `repeat` written out exceed {MAX_LAYERS:,}")
    return value


# Nested repeats multiply: three lines could ask for a billion layers.
Layers = Annotated[NonEmpty[LayerSpec], AfterValidator(_limit_layers)]
