"""Closed families of a recipe: optimizers, learning-rate schedules and stages; and early stopping."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from aezoo.specs.base import Count, NonNegativeFloat, NonNegativeInt, PositiveFloat, RegisteredSpec, Spec
from aezoo.specs.messages import validation_error


class OptimizerSpec(RegisteredSpec):
    """A gradient descent algorithm; arguments are PyTorch's."""

    family = "optimizer"


class _AdaptiveSpec(OptimizerSpec):
    lr: PositiveFloat = 1e-3
    """Initial learning rate."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decay rates of the running averages of the gradient and of its square."""
    eps: PositiveFloat = 1e-8
    """Added to the denominator for numerical stability."""


class AdamSpec(_AdaptiveSpec):
    """Adam (Kingma and Ba, arXiv:1412.6980), with PyTorch's fused implementation if available."""

    kind: Literal["adam"] = "adam"
    examples = ({"lr": 2e-3},)
    weight_decay: NonNegativeFloat = 0.0
    """Coefficient of the L2 penalty added to the gradient."""


class AdamWSpec(_AdaptiveSpec):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101), fused if available."""

    kind: Literal["adamw"] = "adamw"
    examples = ({"lr": 1e-3, "weight_decay": 0.05},)
    weight_decay: NonNegativeFloat = 0.01
    """Fraction of each weight subtracted per step, times the learning rate."""


class SgdSpec(OptimizerSpec):
    """Stochastic gradient descent, optionally with momentum."""

    kind: Literal["sgd"] = "sgd"
    examples = ({"lr": 0.1, "momentum": 0.9},)
    lr: PositiveFloat = 1e-2
    """Initial learning rate."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of the previous update added to the current one."""
    nesterov: bool = False
    """Whether to use Nesterov momentum; needs a momentum above 0."""
    weight_decay: NonNegativeFloat = 0.0
    """Coefficient of the L2 penalty added to the gradient."""

    @field_validator("nesterov")
    @classmethod
    def _needs_momentum(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("momentum"):
            raise validation_error("nesterov needs a momentum above 0")
        return value


class ScheduleSpec(RegisteredSpec):
    """The learning rate over the course of a stage."""

    family = "schedule"


class ConstantSpec(ScheduleSpec):
    """A constant learning rate."""

    kind: Literal["constant"] = "constant"


class CosineSpec(ScheduleSpec):
    """Cosine annealing to `final` times the learning rate, updated every step (arXiv:1608.03983)."""

    kind: Literal["cosine"] = "cosine"
    examples = ({"warmup_steps": 500},)
    final: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Final learning rate as a fraction of the initial one."""
    warmup_steps: NonNegativeInt = 0
    """Steps of linear warm-up from 0 before the annealing."""


class PlateauSpec(ScheduleSpec):
    """Reduces the learning rate when the validation loss stops improving."""

    kind: Literal["plateau"] = "plateau"
    examples = ({"factor": 0.5, "patience": 3},)
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Factor by which the rate is multiplied."""
    patience: NonNegativeInt = 5
    """Epochs without improvement before the rate is reduced."""
    threshold: Annotated[float, Field(ge=0, lt=1)] = 1e-4
    """Smallest relative improvement that counts."""
    min_lr: NonNegativeFloat = 0.0
    """Lower bound of the learning rate."""


class EarlyStopSpec(Spec):
    """Ends a stage when the validation loss stops improving, and restores the weights of the best epoch."""

    patience: Count
    """Epochs without improvement after which the stage ends."""
    min_delta: NonNegativeFloat = 0.0
    """Smallest improvement that counts, in units of the loss."""


class StageSpec(RegisteredSpec):
    """One stage of a training; the stages of a recipe run in order."""

    family = "stage"


class DescentStage(StageSpec):
    """Fields that the stages of gradient descent share."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)]
    """Passes over the training data; the maximum, with `early_stop`."""
    optimizer: OptimizerSpec = AdamSpec()
    """Algorithm of gradient descent."""
    schedule: ScheduleSpec = ConstantSpec()
    """Learning rate over the course of the stage."""
    early_stop: EarlyStopSpec | None = None
    """When to end the stage early. By default it trains for all epochs and keeps the last weights."""
    tie: bool = False
    """Whether each decoder weight is the transpose of the mirrored encoder weight during this stage."""


class FitStage(DescentStage):
    """Gradient descent on the whole objective."""

    kind: Literal["fit"] = "fit"
    examples = ({"epochs": 20, "tie": True, "schedule": "cosine"},)
    freeze: tuple[Annotated[str, Field(max_length=200)], ...] = ()
    """Paths of layers that are not trained: `encoder.1`, or `encoder` or `decoder` for all of its layers."""


class GreedyStage(DescentStage):
    """Greedy layer-wise training (Bengio et al., NeurIPS 2006).

    The outermost pair of an encoder and a decoder layer is trained first, then the next pair inside it, each
    for `epochs` and with the pairs outside it frozen.
    """

    kind: Literal["greedy"] = "greedy"
    examples = ({"epochs": 5, "tie": True},)
    reconstruct: Literal["own_input", "input"] = "own_input"
    """Target of each pair: the pair's own input, or the network's input, reconstructed through the pairs
    outside it."""


class PcaStage(StageSpec):
    """Principal component analysis in closed form, for one linear layer per side without activation.

    It is the optimum of a linear autoencoder (Baldi and Hornik, Neural Networks 2, 1989).
    """

    kind: Literal["pca"] = "pca"
