"""Closed families of a recipe: optimizers, learning-rate schedules, stages and early stopping."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from aezoo.specs.base import Count, NonNegativeFloat, NonNegativeInt, PositiveFloat, RegisteredSpec, Spec
from aezoo.specs.messages import validation_error

Members = dict[str, type[RegisteredSpec]] | None


class OptimizerSpec(RegisteredSpec):
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
            raise validation_error("nesterov needs a momentum above 0")
        return value


class ScheduleSpec(RegisteredSpec):
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


class StageSpec(RegisteredSpec):
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
