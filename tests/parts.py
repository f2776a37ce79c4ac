"""Parametrized tests of which every run takes a part, and `make check` the rest."""

from collections.abc import Iterable
from typing import Any

import pytest


def in_parts(values: Iterable[Any], every: int) -> list[Any]:
    """Parameters of a test: every `every`-th value is tested in each run, the others are slow tests.

    Args:
        values: of one parameter, or tuples of several.
        every: at least 2.
    """
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)), marks=[pytest.mark.slow] if i % every else []
        )
        for i, value in enumerate(values)
    ]
