"""Shapes and value ranges of inputs and targets."""

import math
from typing import Annotated

from pydantic import AfterValidator, Field

from aezoo.specs.base import MAX_INT, Count, Spec
from aezoo.specs.messages import validation_error


def _limit_values(value: tuple[int, ...]) -> tuple[int, ...]:
    if (count := math.prod(value)) > MAX_INT:
        raise validation_error(f"{count:,} values exceed {MAX_INT:,}")
    return value


Shape = Annotated[tuple[Count, ...], Field(min_length=1, max_length=4), AfterValidator(_limit_values)]
"""Sizes without the batch axis: (features,), (channels, length), (channels, height, width) or
(channels, depth, height, width)."""


def _ascending(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] >= value[1]:
        raise validation_error(f"expected the smaller value first, found {list(value)}")
    return value


Interval = Annotated[tuple[float, float], AfterValidator(_ascending)]
"""Smallest and largest value."""


class TensorSpec(Spec):
    """Shape and value range of one sample."""

    shape: Shape
    """Sizes without the batch axis, 1 to 4 of them; images are (channels, height, width)."""
    range: Interval | None = None
    """Smallest and largest value, to which bytes (0 to 255) are scaled; unbounded by default."""
