"""`RecipeSpec`: the training configuration of a variant."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from aezoo.specs.base import NonEmpty, NonNegativeInt, Spec
from aezoo.specs.components import CallbackSpec, DatasetSpec, LossSpec, NoiseSpec
from aezoo.specs.messages import validation_error
from aezoo.specs.stages import StageSpec


class RecipeSpec(Spec):
    """Training configuration."""

    dataset: DatasetSpec | None = None
    """Training data. Not needed if they are passed to `train`."""
    reconstruction: LossSpec
    """The data term of the objective."""
    penalties: tuple[LossSpec, ...] = ()
    """Terms added to the data term."""
    noises: tuple[NoiseSpec, ...] = ()
    """Corruptions applied in order to the input, not to the target; drawn again for every batch."""
    callbacks: tuple[CallbackSpec, ...] = ()
    """Code that runs during training."""
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 512
    """Rows per step, over all processes."""
    stages: NonEmpty[StageSpec]
    """Stages of the training, in order."""
    refit: bool = False
    """Whether to train again on the training and validation data together, for the selected epochs."""
    seed: NonNegativeInt = 0
    """Seed for initialization, shuffling and noise."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 2
    """CPU threads. The last bits of sums depend on their number."""
    autocast: Literal["bf16"] | None = None
    """`bf16` runs layers under `torch.autocast` in bfloat16; weights and losses stay float32."""
    init_from: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    """Name or folder of a variant of the same architecture that provides the initial weights."""
    global_batch_norm: bool = False
    """Whether batch normalization uses the statistics of the whole batch in distributed training, instead of
    each process's rows."""
    numerics: Annotated[int, Field(ge=1, le=2)] = 2
    """Version of the arithmetic: the same version gives the same bits, a newer one is faster. 2 rounds
    denormal numbers to zero and computes sparse codes of many latents without dense products; 1 does
    neither, and is what folders without this field were trained with."""
    weights_dtype: Literal["float32", "float16"] = "float32"
    """Dtype of the saved weights, with which metrics are measured. A loaded network computes in float32 by
    default."""

    @property
    def flushes_denormals(self) -> bool:
        """Whether denormal numbers are rounded to zero in training."""
        return self.numerics >= 2

    @property
    def has_sparse_kernels(self) -> bool:
        """Whether sparse codes of many latents are computed without dense products."""
        return self.numerics >= 2

    @field_validator("reconstruction")
    @classmethod
    def _is_data_term(cls, value: LossSpec) -> LossSpec:
        return _with_role(value, "reconstruction")

    @field_validator("penalties")
    @classmethod
    def _are_penalties(cls, value: tuple[LossSpec, ...]) -> tuple[LossSpec, ...]:
        return tuple(_with_role(loss, "penalty") for loss in value)


def _with_role(loss: LossSpec, role: str) -> LossSpec:
    if loss.role != role:
        raise validation_error(f"expected a {role}, found the {loss.role} {loss.kind_name!r}")
    return loss
