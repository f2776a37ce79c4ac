"""The examples in `tests/examples.py` cover every registered kind."""

import pytest

from aezoo.plugins.registry import registry
from tests.examples import BY_FAMILY


@pytest.mark.parametrize("family", BY_FAMILY)
def test_every_kind_has_an_example(family: str) -> None:
    assert set(BY_FAMILY[family]) == set(registry.names(family))
