"""`pytest.raises` for errors that carry a code."""

import pytest

from aezoo.errors import CheckpointError, HubError


def raises(code: str, match: str | None = None) -> "pytest.RaisesExc[CheckpointError | HubError]":
    """Expect a `CheckpointError` or `HubError` with this code, and a message that matches."""
    return pytest.raises((CheckpointError, HubError), match=match, check=lambda error: error.code == code)
