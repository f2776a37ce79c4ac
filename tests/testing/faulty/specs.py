"""Specs with faults, as layers."""

import itertools
from typing import Literal

from pydantic import Field, field_serializer
from torch import nn

from aezoo.errors import LayerError
from aezoo.specs.base import Count, PositiveFloat
from aezoo.specs.components import LayerSpec
from tests.testing.planting import good, plant


@good(scale=0.25, size=5)
class SizedSpec(LayerSpec):
    kind: Literal["faulty.sized"] = "faulty.sized"
    scale: PositiveFloat = 1.0
    size: Count = 4
    seed: int = Field(default=0, ge=0, le=9)

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        if len(in_shape) != 1:
            raise LayerError("kind", f"takes a vector, not the {len(in_shape)} axes")
        if self.size > 1_000_000:
            raise LayerError("size", f"{self.size} is too many for the {in_shape[0]} values")
        return nn.Linear(in_shape[0], self.size)


@plant("spec/lossy-round-trip", "spec-round-trip", scale=0.25)
class LossyRoundTripSpec(SizedSpec):
    @field_serializer("scale")
    def _rounded(self, scale: float) -> float:
        return round(scale, 1)


NUMBERS = itertools.count()


@plant("spec/changing-default", "spec-defaults")
class ChangingDefaultSpec(SizedSpec):
    seed: int = Field(default_factory=lambda: next(NUMBERS))


@plant("spec/unbounded-field", "bounds")
class UnboundedFieldSpec(SizedSpec):
    size: int = 4


def _local() -> None:
    @plant("spec/unpicklable-spec", "spec-pickling", raises=True)
    class UnpicklableSpec(SizedSpec):
        pass


_local()
