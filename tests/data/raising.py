"""`pytest.raises` for errors about data."""

from collections.abc import Generator
from contextlib import contextmanager

import pytest

from aezoo.errors import DataError


@contextmanager
def data_error(words: str, start: str = "", end: str = "") -> Generator[None]:
    """Expects a `DataError` of one line that contains `words`, begins with `start` and ends with `end`."""
    with pytest.raises(DataError) as error:
        yield
    message = str(error.value)
    assert words in message
    assert message.startswith(start)
    assert message.endswith(end)
    assert "\n" not in message
