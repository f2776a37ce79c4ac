"""Abstract classes of everything a spec declares by `kind`, one for each family.

Layers, losses, noises, datasets and callbacks are open families: plugins register kinds of them.
Activations are a closed family. This module does not import torch.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias, cast

from pydantic import AfterValidator, Field

from aezoo.specs.base import (
    NonEmpty,
    NonNegativeFloat,
    RegisteredSpec,
)
from aezoo.specs.messages import validation_error

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

from aezoo.specs.stages import Members
from aezoo.specs.tensor import TensorSpec

Bounds = tuple[float, float]
"""A smallest and a largest value, infinite where there are none."""
UNBOUNDED: Bounds = (-math.inf, math.inf)
Split = Literal["train", "validation", "test"]

# Runtime classes of packages that import this one. Concrete classes annotate with the real ones.
Autoencoder: TypeAlias = Any
Output: TypeAlias = Any
Samples: TypeAlias = Any
StepContext: TypeAlias = Any


class ActivationSpec(RegisteredSpec):
    """An elementwise function; its arguments are PyTorch's."""

    family = "activation"
    members: ClassVar[Members] = {}

    @abstractmethod
    def build(self) -> "nn.Module":
        """The module that applies it."""

    @abstractmethod
    def output_bounds(self) -> tuple[float, float]:
        """Bounds of what it can give, infinite where there are none."""


class LayerSpec(RegisteredSpec):
    """A layer: data here, and the `nn.Module` that `build` makes of it.

    The module is called `forward(h) -> h`. One that gives more than its output or needs what an earlier
    layer gave declares the names (`emits = ("mean", "log_var")`, `needs = ("pool1.indices",)`) and is
    called `forward(h, aux)`, where `aux` is a dict that it reads and writes. The module keeps no plain
    tensor attribute and no non-persistent buffer. It may define `after_step()`, called after each step
    of the optimizer, and `sparsity()`, which says how many latents are non-zero.
    """

    family = "layer"
    limits_information: ClassVar[bool] = False
    """Whether its output carries less than its size says, as sparse or noisy latents do."""
    surrogate_gradient: ClassVar[bool] = False
    """Whether its backward pass is meant not to be the derivative, as a straight-through one is not."""
    example_shape: ClassVar[tuple[int, ...]] = (8,)
    """Shape of one sample, on which contract checks try its `examples` out."""

    repeat: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many such layers follow one another."""

    @abstractmethod
    def build(self, in_shape: tuple[int, ...]) -> "nn.Module":
        """Makes the module.

        Args:
            in_shape: shape of one sample that it will be given, without the batch axis.

        Raises:
            LayerError: a field that does not fit `in_shape`.
        """

    def output_bounds(self, given: Bounds) -> Bounds:
        """Bounds of what it gives for values within `given`, as far as the spec tells.

        By default infinite. Losses and advice go by it: bce wants a decoder that stays in [0, 1].
        """
        return UNBOUNDED

    def expanded(self) -> "tuple[LayerSpec, ...]":
        """This entry as single layers, nested ones included."""
        nested = {name: expand(layers) for name, layers in self._nested().items()}
        return (self.model_copy(update={"repeat": 1, **nested}),) * self.repeat

    def layer_count(self) -> int:
        """How many single layers this entry stands for, nested ones included."""
        return self.repeat * (1 + sum(layer_count(layers) for layers in self._nested().values()))

    def _nested(self) -> "dict[str, tuple[LayerSpec, ...]]":
        return {
            name: cast(tuple[LayerSpec, ...], value)
            for name in type(self).model_fields
            if isinstance(value := getattr(self, name), tuple)
            and any(isinstance(item, LayerSpec) for item in cast(tuple[object, ...], value))
        }


def output_bounds(layers: "tuple[LayerSpec, ...]") -> Bounds:
    """Bounds of what layers give, as far as their specs tell; infinite where there are none."""
    bounds = UNBOUNDED
    for layer in layers:
        bounds = layer.output_bounds(bounds)
    return bounds


def include_zero(bounds: Bounds) -> Bounds:
    """Bounds of the same values, and of zeros among them."""
    return min(bounds[0], 0.0), max(bounds[1], 0.0)


def after_dropout(bounds: Bounds, p: float) -> Bounds:
    """Bounds behind a dropout, which scales up what it keeps."""
    return include_zero((bounds[0] / (1 - p), bounds[1] / (1 - p))) if p else bounds


def expand(layers: tuple[LayerSpec, ...]) -> tuple[LayerSpec, ...]:
    """Layers with every `repeat` written out."""
    return tuple(single for layer in layers for single in layer.expanded())


def layer_count(layers: tuple[LayerSpec, ...]) -> int:
    """How many layers there are with every `repeat` written out."""
    return sum(layer.layer_count() for layer in layers)


class LossSpec(RegisteredSpec):
    """A term of the training objective.

    The spec is the function: `loss(output, batch, ae) -> scalar`, unweighted; the trainer applies
    `weight` and warm-up. Rows are always averaged, so that repeating a batch changes nothing. A loss
    with parameters of its own defines `build` and is the module that it returns.

    Attributes:
        role: `reconstruction` for a data term, `penalty` for anything added to it.
    """

    family = "loss"
    role: ClassVar[Literal["reconstruction", "penalty"]] = "penalty"
    example_encoder: ClassVar[tuple[dict[str, Any], ...]] = ()
    """Layers on a vector that it goes with, where it objects to plain, variational and sparse ones; contract
    checks try its `examples` out behind them."""

    weight: NonNegativeFloat = 1.0
    """Factor of the term in the objective."""
    warmup_epochs: NonNegativeFloat = 0.0
    """Epochs over which the weight grows linearly from 0 to its full value."""

    def __call__(self, output: "Output", batch: "StepContext", ae: "Autoencoder") -> "Tensor":
        """The unweighted term, a scalar."""
        raise TypeError(f"{type(self).__qualname__} defines neither __call__ nor build")

    def build(self) -> "Callable[[Output, StepContext, Autoencoder], Tensor]":
        """What the trainer calls: the spec itself, or a module where the loss has parameters."""
        return self

    def incompatibility(self, ae: "Autoencoder") -> str | None:
        """Why it does not go with a network (on the meta device), found before training starts.

        None where it does.
        """
        return None

    def weight_at(self, epoch: float) -> float:
        """The weight after a (fractional) number of epochs."""
        return self.weight * min(1.0, epoch / self.warmup_epochs) if self.warmup_epochs else self.weight


class NoiseSpec(RegisteredSpec):
    """A corruption of the input: the spec is the function `noise(x, generator) -> x`, on a batch.

    Never in place, and no global random state: whatever is drawn is drawn from `generator`.
    """

    family = "noise"

    @abstractmethod
    def __call__(self, x: "Tensor", generator: "Generator") -> "Tensor":
        """The corrupted batch, of the same shape and dtype."""

    def incompatibility(self, given: "TensorSpec") -> str | None:
        """Why it does not go with an input, found before training starts; None where it does."""
        return None


class DatasetSpec(RegisteredSpec):
    """A named dataset that gives its splits as `Samples`.

    Attributes:
        hub_id: by which the Hub knows the dataset, for model cards; None where it does not.
    """

    family = "dataset"
    hub_id: ClassVar[str | None] = None

    @abstractmethod
    def load(self, split: Split) -> "Samples":
        """One split; `validation` is held out of the training data, never out of the test data.

        Raises:
            DataError: the data are neither here nor to be had, or there is no such split.
        """

    def has(self, split: Split) -> bool:
        """Whether there is such a split; by default all three."""
        return True

    def validation_note(self) -> str:
        """How the validation split comes about, in words, for the record."""
        return "the dataset's own split"


class CallbackSpec(RegisteredSpec):
    """Something that happens around training; `build` makes a `Callback`, which may keep state."""

    family = "callback"

    @abstractmethod
    def build(self) -> Any:
        """A fresh `aezoo.Callback` for one training."""


def _not_too_many(value: tuple[LayerSpec, ...]) -> tuple[LayerSpec, ...]:
    if (found := layer_count(value)) > MAX_LAYERS:
        raise validation_error(f"{found:,} layers, every `repeat` written out, are more than {MAX_LAYERS:,}")
    return value


MAX_LAYERS = 2000
# Nested repeats multiply: three lines could ask for a thousand million layers.
Layers = Annotated[NonEmpty[LayerSpec], AfterValidator(_not_too_many)]
