"""`RecipeSpec`: the training configuration of a variant."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from aezoo.specs.base import NonEmpty, NonNegativeInt, Spec
from aezoo.specs.components import CallbackSpec, DatasetSpec, LossSpec, NoiseSpec
from aezoo.specs.messages import validation_error
from aezoo.specs.stages import StageSpec


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


def _of_role(loss: LossSpec, role: str) -> LossSpec:
    if loss.role != role:
        raise validation_error(f"{loss.kind_name!r} is a {loss.role}, a {role} is expected here")
    return loss
