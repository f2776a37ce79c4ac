"""Shapes and value ranges of inputs and targets."""

import math
from typing import Annotated

from pydantic import AfterValidator, Field

from aezoo.specs.base import (
    MAX_INT,
    Count,
    Spec,
)
from aezoo.specs.messages import validation_error


def _fits(value: tuple[int, ...]) -> tuple[int, ...]:
    if not 1 <= len(value) <= 4:
        raise validation_error(f"expected 1 to 4 sizes, found {len(value)}")
    if math.prod(value) > MAX_INT:
        raise validation_error(f"{math.prod(value):,} values are more than {MAX_INT:,}")
    return value


Shape = Annotated[
    tuple[Count, ...], AfterValidator(_fits), Field(json_schema_extra={"minItems": 1, "maxItems": 4})
]
"""Sizes without the batch axis; images are (channels, height, width)."""


def _ascends(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] >= value[1]:
        raise validation_error(f"expected the smaller value first, found {list(value)}")
    return value


Interval = Annotated[tuple[float, float], AfterValidator(_ascends)]
"""A smallest and a largest value."""


class TensorSpec(Spec):
    """What goes in, or what should come out."""

    shape: Shape
    range: Interval | None = None
    """Smallest and largest value; bytes 0 to 255 are scaled to it. None for unbounded values."""
