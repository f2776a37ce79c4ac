"""Specs: an autoencoder, its recipe and its name as plain data that cannot be mistyped silently.

Layers, losses, noises, datasets, callbacks and metrics are open families: plugins add kinds to them.
Stages, optimizers, schedules and activations are closed families, which work in the same way but take
no kinds from outside. This module needs no torch; the classes that build something import it where
they are defined.
"""

import math
import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from aezoo.errors import advise
from aezoo.families import (
    MAX_INT,
    Count,
    FamilySpec,
    NonEmpty,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    Spec,
    refusal,
)

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from aezoo.autoencoder import Autoencoder, Batch, Output
    from aezoo.samples import Samples

Bounds = tuple[float, float]
"""A smallest and a largest value, infinite where there are none."""
UNBOUNDED: Bounds = (-math.inf, math.inf)
Members = dict[str, type[FamilySpec]] | None
Split = Literal["train", "validation", "test"]


def _fits(value: tuple[int, ...]) -> tuple[int, ...]:
    if not 1 <= len(value) <= 4:
        raise refusal(f"expected 1 to 4 sizes, found {len(value)}")
    if math.prod(value) > MAX_INT:
        raise refusal(f"{math.prod(value):,} values are more than {MAX_INT:,}")
    return value


Shape = Annotated[
    tuple[Count, ...], AfterValidator(_fits), Field(json_schema_extra={"minItems": 1, "maxItems": 4})
]
"""Sizes without the batch axis; images are (channels, height, width)."""


def _ascends(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] >= value[1]:
        raise refusal(f"expected the smaller value first, found {list(value)}")
    return value


Interval = Annotated[tuple[float, float], AfterValidator(_ascends)]
"""A smallest and a largest value."""

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+(-[a-z0-9]+)*)?")
"""The grammar of variant names, `<architecture>[.<dataset>][-v<N>]`."""


class ActivationSpec(FamilySpec):
    """An elementwise function; its arguments are PyTorch's."""

    family = "activation"
    members: ClassVar[Members] = {}

    @abstractmethod
    def build(self) -> "nn.Module":
        """The module that applies it."""

    @abstractmethod
    def reach(self) -> tuple[float, float]:
        """Bounds of what it can give, infinite where there are none."""


class LayerSpec(FamilySpec):
    """A layer: data here, and the `nn.Module` that `build` makes of it.

    The module is called `forward(h) -> h`. One that gives more than its output or needs what an earlier
    layer gave declares the names (`emits = ("mean", "log_var")`, `needs = ("pool1.indices",)`) and is
    called `forward(h, aux)`, where `aux` is a dict that it reads and writes. The module keeps no plain
    tensor attribute and no non-persistent buffer. It may define `after_step()`, called after each step
    of the optimizer, and `sparsity()`, which says how many latents are non-zero.
    """

    family = "layer"
    constrains: ClassVar[bool] = False
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

    def reach(self, given: Bounds) -> Bounds:
        """Bounds of what it gives for values within `given`, as far as the spec tells.

        By default infinite. Losses and advice go by it: bce wants a decoder that stays in [0, 1].
        """
        return UNBOUNDED

    def expanded(self) -> "tuple[LayerSpec, ...]":
        """This entry as single layers, nested ones included."""
        nested = {name: expand(layers) for name, layers in self._nested().items()}
        return (self.model_copy(update={"repeat": 1, **nested}),) * self.repeat

    def singles(self) -> int:
        """How many single layers this entry stands for, nested ones included."""
        return self.repeat * (1 + sum(singles(layers) for layers in self._nested().values()))

    def _nested(self) -> "dict[str, tuple[LayerSpec, ...]]":
        return {
            name: cast(tuple[LayerSpec, ...], value)
            for name in type(self).model_fields
            if isinstance(value := getattr(self, name), tuple)
            and any(isinstance(item, LayerSpec) for item in cast(tuple[object, ...], value))
        }


def reach(layers: "tuple[LayerSpec, ...]") -> Bounds:
    """Bounds of what layers give, as far as their specs tell; infinite where there are none."""
    bounds = UNBOUNDED
    for layer in layers:
        bounds = layer.reach(bounds)
    return bounds


def with_zero(bounds: Bounds) -> Bounds:
    """Bounds of the same values, and of zeros among them."""
    return min(bounds[0], 0.0), max(bounds[1], 0.0)


def dropped(bounds: Bounds, p: float) -> Bounds:
    """Bounds behind a dropout, which scales up what it keeps."""
    return with_zero((bounds[0] / (1 - p), bounds[1] / (1 - p))) if p else bounds


def expand(layers: tuple[LayerSpec, ...]) -> tuple[LayerSpec, ...]:
    """Layers with every `repeat` written out."""
    return tuple(single for layer in layers for single in layer.expanded())


def singles(layers: tuple[LayerSpec, ...]) -> int:
    """How many layers there are with every `repeat` written out."""
    return sum(layer.singles() for layer in layers)


class LossSpec(FamilySpec):
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

    def __call__(self, output: "Output", batch: "Batch", ae: "Autoencoder") -> "Tensor":
        """The unweighted term, a scalar."""
        raise TypeError(f"{type(self).__qualname__} defines neither __call__ nor build")

    def build(self) -> "Callable[[Output, Batch, Autoencoder], Tensor]":
        """What the trainer calls: the spec itself, or a module where the loss has parameters."""
        return self

    def objection(self, ae: "Autoencoder") -> str | None:
        """Why it does not go with a network (on the meta device), found before training starts.

        None where it does.
        """
        return None

    def weight_at(self, epoch: float) -> float:
        """The weight after a (fractional) number of epochs."""
        return self.weight * min(1.0, epoch / self.warmup_epochs) if self.warmup_epochs else self.weight


class NoiseSpec(FamilySpec):
    """A corruption of the input: the spec is the function `noise(x, generator) -> x`, on a batch.

    Never in place, and no global random state: whatever is drawn is drawn from `generator`.
    """

    family = "noise"

    @abstractmethod
    def __call__(self, x: "Tensor", generator: "Generator") -> "Tensor":
        """The corrupted batch, of the same shape and dtype."""

    def objection(self, given: "TensorSpec") -> str | None:
        """Why it does not go with an input, found before training starts; None where it does."""
        return None


class DatasetSpec(FamilySpec):
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

    def held_out(self) -> str:
        """How the validation split comes about, in words, for the record."""
        return "the dataset's own split"


class CallbackSpec(FamilySpec):
    """Something that happens around training; `build` makes a `Callback`, which may keep state."""

    family = "callback"

    @abstractmethod
    def build(self) -> Any:
        """A fresh `aezoo.Callback` for one training."""


class MetricSpec(FamilySpec):
    """A number measured on a dataset; `build` makes a `Meter` that is shown every batch.

    Attributes:
        definition: the formula in one line of words; published beside every value.
        better: whether a lower or a higher value is better, or neither.
    """

    family = "metric"
    definition: ClassVar[str]
    better: ClassVar[Literal["lower", "higher", "neither"]] = "neither"

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        needed = [name for name, field in cls.model_fields.items() if field.is_required()]
        if needed:
            raise TypeError(
                f"{cls.__qualname__}: every metric is measured with its defaults; give {needed[0]} one"
            )

    def applies(self, ae: "Autoencoder") -> bool:
        """Whether the number means anything for a network; it is left out where not. By default it does."""
        return True

    @abstractmethod
    def build(self, ae: "Autoencoder") -> Any:
        """A fresh `aezoo.Meter` for one pass over the data."""


# -- recipes ------------------------------------------------------------------------------------------


class OptimizerSpec(FamilySpec):
    """How gradients become steps."""

    family = "optimizer"
    members: ClassVar[Members] = {}


class _AdaptiveSpec(OptimizerSpec):
    lr: PositiveFloat = 1e-3
    """Learning rate of the first step."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Share of the running mean, and of the running mean square, that each step keeps."""
    eps: PositiveFloat = 1e-8
    """Added to the root of the mean square."""


class AdamSpec(_AdaptiveSpec):
    """Adam (Kingma and Ba, arXiv:1412.6980), fused where PyTorch has it."""

    kind: Literal["adam"] = "adam"
    weight_decay: NonNegativeFloat = 0.0
    """L2 penalty added to the gradient."""


class AdamWSpec(_AdaptiveSpec):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101), fused likewise."""

    kind: Literal["adamw"] = "adamw"
    weight_decay: NonNegativeFloat = 0.01
    """Share of each weight that is taken off at each step, times the learning rate."""


class SgdSpec(OptimizerSpec):
    """Stochastic gradient descent, with momentum where it is declared."""

    kind: Literal["sgd"] = "sgd"
    lr: PositiveFloat = 1e-2
    """Learning rate of the first step."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    nesterov: bool = False
    """Whether the gradient is taken where the momentum leads; needs a momentum."""
    weight_decay: NonNegativeFloat = 0.0
    """L2 penalty added to the gradient."""

    @field_validator("nesterov")
    @classmethod
    def _has_momentum(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("momentum"):
            raise refusal("nesterov needs a momentum above 0")
        return value


class ScheduleSpec(FamilySpec):
    """How the learning rate changes during a stage."""

    family = "schedule"
    members: ClassVar[Members] = {}


class ConstantSpec(ScheduleSpec):
    """The optimizer's learning rate throughout."""

    kind: Literal["constant"] = "constant"


class CosineSpec(ScheduleSpec):
    """Half a cosine from the optimizer's learning rate down to `final`, step by step (arXiv:1608.03983)."""

    kind: Literal["cosine"] = "cosine"
    final: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Last learning rate as a share of the first."""
    warmup_steps: NonNegativeInt = 0
    """Steps over which the rate first grows linearly from 0."""


class PlateauSpec(ScheduleSpec):
    """Multiplies the rate by `factor` whenever validation has not improved for `patience` epochs."""

    kind: Literal["plateau"] = "plateau"
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    patience: NonNegativeInt = 5
    """Epochs without improvement that are let pass."""
    threshold: Annotated[float, Field(ge=0, lt=1)] = 1e-4
    """Relative improvement that counts as one."""
    min_lr: NonNegativeFloat = 0.0


class EarlyStopSpec(Spec):
    """Ends a stage when the validation loss stops improving, and goes back to its best epoch."""

    patience: Count
    """Epochs without improvement after which the stage ends."""
    min_delta: NonNegativeFloat = 0.0
    """Improvement below which an epoch counts as none, in units of the loss."""


class StageSpec(FamilySpec):
    """A part of a recipe; parts run in order."""

    family = "stage"
    members: ClassVar[Members] = {}


class DescentStage(StageSpec):
    """What stages of gradient descent have in common."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)]
    optimizer: OptimizerSpec = AdamSpec()
    schedule: ScheduleSpec = ConstantSpec()
    early_stop: EarlyStopSpec | None = None
    tie: bool = False
    """Each decoder weight is the transpose of its mirror image in the encoder during this stage."""


class FitStage(DescentStage):
    """Gradient descent on the whole objective."""

    kind: Literal["fit"] = "fit"
    freeze: tuple[Annotated[str, Field(max_length=200)], ...] = ()
    """Layers by path, such as `encoder.1`, or a whole side, that stay as they are."""


class GreedyStage(DescentStage):
    """Layer-wise training: the outermost pair of an encoder layer and a decoder layer, then the next one in.

    Bengio et al., Greedy layer-wise training of deep networks, NeurIPS 2006. Each pair is trained for
    `epochs`, with those outside it frozen.
    """

    kind: Literal["greedy"] = "greedy"
    reconstruct: Literal["own_input", "input"] = "own_input"
    """What each pair gives back: what it was given itself, or, through the pairs outside it, the input."""


class PcaStage(StageSpec):
    """Principal components in closed form, for one linear layer on each side without an activation.

    Baldi and Hornik, Neural Networks 2 (1989): the optimum of a linear autoencoder.
    """

    kind: Literal["pca"] = "pca"


class RecipeSpec(Spec):
    """How the weights come about."""

    dataset: DatasetSpec | None = None
    """What to train on; None where the data are given to `train`."""
    reconstruction: LossSpec
    """The data term."""
    penalties: tuple[LossSpec, ...] = ()
    noises: tuple[NoiseSpec, ...] = ()
    """Applied in order to the input, never to the target; drawn anew for every batch."""
    callbacks: tuple[CallbackSpec, ...] = ()
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 512
    stages: NonEmpty[StageSpec]
    refit: bool = False
    """After choosing on the validation split, train once more on it and the training split together."""
    seed: NonNegativeInt = 0
    """Of the initial weights, the order of the rows and every noise."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 2
    """CPU threads while training: sums over another number of threads differ in their last bits."""
    autocast: Literal["bf16"] | None = None
    """Whether layers run in bfloat16 where PyTorch deems that safe; weights and losses stay float32."""
    init_from: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    """A variant's name, or a folder, of the same architecture, whose weights to start from."""
    global_batch_norm: bool = False
    """Whether batch norm's statistics are the whole batch's where several processes share it, or each
    process's own rows'."""
    weights_dtype: Literal["float32", "float16"] = "float32"
    """Precision in which weights are stored; what is measured is measured on what is stored."""

    @field_validator("reconstruction")
    @classmethod
    def _is_data_term(cls, value: LossSpec) -> LossSpec:
        return _of_role(value, "reconstruction")

    @field_validator("penalties")
    @classmethod
    def _are_penalties(cls, value: tuple[LossSpec, ...]) -> tuple[LossSpec, ...]:
        return tuple(_of_role(loss, "penalty") for loss in value)

    def objective(
        self,
        ae: "Autoencoder",
        batch: "Batch",
        terms: "Sequence[Callable[[Output, Batch, Autoencoder], Tensor]] | None" = None,
        forward: "Callable[[Tensor], Output] | None" = None,
    ) -> "tuple[Tensor, dict[str, Tensor]]":
        """What training minimises, for people with a loop of their own.

        Args:
            ae: the autoencoder, in the mode (train or eval) in which it should run.
            batch: rows already on its device; `batch.input` is what the network sees.
            terms: what each loss's `build` gave, the data term first; by default each is built on the
                spot, which a loss with parameters does not train by.
            forward: what runs the network on the batch; `ae` itself by default.

        Returns:
            The weighted sum, to be differentiated, and every term by its kind, unweighted and detached, to
            be recorded. All are scalars.
        """
        output = self._output(forward or ae, batch)
        if self.noises and batch.target is batch.input:
            advise("noisy-target", "the batch's target is its noisy input; give the clean samples as target")
        values: dict[str, Tensor] = {}
        total: Tensor | None = None
        losses = (self.reconstruction, *self.penalties)
        for loss, term in zip(losses, terms or [loss.build() for loss in losses], strict=True):
            value = term(output, batch, ae)
            name = str(type(loss).declared_kind)
            # "loss" is what the sum is called in a history.
            values[f"{name}.{len(values)}" if name in (*values, "loss") else name] = value.detach()
            weighted = value * loss.weight_at(batch.epoch)
            total = weighted if total is None else total + weighted
        assert total is not None
        return total, values

    def _output(self, forward: "Callable[[Tensor], Output]", batch: "Batch") -> "Output":
        if self.autocast is None:
            return forward(batch.input)
        import torch

        with torch.autocast(batch.input.device.type, dtype=torch.bfloat16):
            output = forward(batch.input)
        # Losses sum many small numbers, for which eight bits of mantissa are too few.
        aux = {name: t.float() if t.is_floating_point() else t for name, t in output.aux.items()}
        return output._replace(x_hat=output.x_hat.float(), latents=output.latents.float(), aux=aux)


def _of_role(loss: LossSpec, role: str) -> LossSpec:
    if loss.role != role:
        raise refusal(f"{loss.declared_kind!r} is a {loss.role}, a {role} is expected here")
    return loss


# -- whole documents ----------------------------------------------------------------------------------


class TensorSpec(Spec):
    """What goes in, or what should come out."""

    shape: Shape
    range: Interval | None = None
    """Smallest and largest value; bytes 0 to 255 are scaled to it. None for unbounded values."""


def _not_too_many(value: tuple[LayerSpec, ...]) -> tuple[LayerSpec, ...]:
    if (found := singles(value)) > MAX_LAYERS:
        raise refusal(f"{found:,} layers, every `repeat` written out, are more than {MAX_LAYERS:,}")
    return value


MAX_LAYERS = 2000
# Nested repeats multiply: three lines could ask for a thousand million layers.
Layers = Annotated[NonEmpty[LayerSpec], AfterValidator(_not_too_many)]


class AutoencoderSpec(Spec):
    """The architecture alone."""

    input: TensorSpec
    target: TensorSpec | None = None
    """What the decoder should give, where it is not the input."""
    encoder: Layers
    decoder: Layers

    @property
    def output(self) -> TensorSpec:
        """What the decoder gives: `target`, or `input` where there is none."""
        return self.target or self.input

    def resolved(self) -> Self:
        """The same with every `repeat` written out."""
        return self.model_copy(update={"encoder": expand(self.encoder), "decoder": expand(self.decoder)})


VariantName = Annotated[str, Field(max_length=96)]


class VariantSpec(AutoencoderSpec):
    """A named autoencoder with the recipe that trains it: what a `spec.yaml` holds."""

    name: VariantName
    """`<architecture>[.<dataset>][-v<N>]`: lower-case words, digits and hyphens."""
    summary: Annotated[str, Field(min_length=1, max_length=300)]
    """One sentence."""
    references: tuple[Annotated[str, Field(min_length=1, max_length=300)], ...] = ()
    """Where the idea comes from, such as `arXiv:1312.5663`."""
    recipe: RecipeSpec

    @field_validator("name")
    @classmethod
    def _follows_grammar(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            grammar = "<architecture>[.<dataset>][-v<N>] in a-z, 0-9 and hyphens"
            raise refusal(f"{value!r} is no variant name; write {grammar}")
        return value
