"""Text from elsewhere is shown in one line without control characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aezoo.errors import AezooError, CheckpointError, DiagnosticWarning, PluginWarning, Problem, SpecError
from aezoo.text import printable

HOSTILE = "a\x1b[2J\nb\u202ec\ud800"
ESCAPED = r"a\x1b[2J\nb\u202ec\ud800"


@given(st.text(alphabet=st.characters(), max_size=50))
def test_printable_text_is_kept_and_the_rest_is_escaped(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


def test_long_text_is_cut_before_it_is_escaped() -> None:
    assert printable("x" * 100, limit=10) == "xxxxxxx..."
    assert printable("x" * 10, limit=10) == "x" * 10


@pytest.mark.parametrize(
    "error",
    [
        AezooError(HOSTILE),
        CheckpointError("target", HOSTILE),
        DiagnosticWarning("code", HOSTILE),
        PluginWarning(HOSTILE),
        SpecError([Problem(HOSTILE, HOSTILE)], HOSTILE),
    ],
    ids=lambda error: type(error).__name__,
)
def test_messages_escape_text_from_elsewhere(error: Exception) -> None:
    assert str(error).isprintable()
    assert ESCAPED in str(error)


def test_every_problem_of_a_spec_has_a_line_of_its_own() -> None:
    assert str(SpecError([Problem("a", "x\ny"), Problem("b", "z")])).splitlines() == [r"a: x\ny", "b: z"]
