"""The verdicts of docs/claims.md follow from the rules of docs/claims.py."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def import_claims() -> ModuleType:
    spec = importlib.util.spec_from_file_location("claims", DOCS / "claims.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look up the module of their class.
    sys.modules["claims"] = module
    spec.loader.exec_module(module)
    return module


claims = import_claims()
Numbers = dict[tuple[str, str], float]


def lookup(**values: float) -> Callable[[str, str], float | None]:
    return lambda variant, metric: values.get(variant)


def no_seeds(variant: str, metric: str) -> dict[str, float]:
    return {}


def claim_of(*comparisons: Any) -> Any:
    return claims.Claim("Text.", "Rule.", comparisons, ("command",))


A, B, C = (claims.Cell(name, "mse") for name in "abc")


@pytest.mark.parametrize(
    ("smaller", "larger", "expected"),
    [
        (1.0, 2.0, True),
        (2.0, 1.0, False),
        (1.0, 1.12, True),
        (1.12, 1.0, False),
        (1.0, 1.1, None),
        (1.1, 1.0, None),
        (63.75, 64.0, None),
        (1.0, 1.0, None),
        (0.0, 0.0, None),
        (-2.0, -1.0, True),
    ],
)
def test_small_differences_do_not_decide(smaller: float, larger: float, expected: bool | None) -> None:
    comparison = claims.Comparison(A, B)
    assert claims.decide(comparison, lookup(a=smaller, b=larger), no_seeds) is expected


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1.0] * 5, [1.01] * 5, True),
        ([1.01] * 5, [1.0] * 5, False),
        ([1.0] * 4, [1.01] * 4, None),
        ([1.0, 1.0, 1.0, 1.0, 1.02], [1.01] * 5, None),
        ([1.0] * 5, [1.0] * 5, None),
    ],
    ids=["all", "none", "too few", "one against", "equal"],
)
def test_a_sign_test_over_seeds_decides_small_differences(
    first: list[float], second: list[float], expected: bool | None
) -> None:
    measured = {"a": dict(enumerate(first)), "b": dict(enumerate(second))}
    result = claims.decide(claims.Comparison(A, B), lookup(a=1.0, b=1.01), lambda name, _: measured[name])
    assert result is expected


def test_sign_test_is_the_binomial_tail() -> None:
    assert claims.sign_test(5, 5) == 1 / 32
    assert claims.sign_test(4, 5) == 6 / 32
    assert claims.sign_test(0, 0) == 1.0


def test_constants_decide_at_any_difference() -> None:
    assert claims.decide(claims.Comparison(A, 5), lookup(a=4.99), no_seeds) is True
    assert claims.decide(claims.Comparison(5, A), lookup(a=4.99), no_seeds) is False


def test_quotients_are_compared() -> None:
    value = lookup(a=1.0, b=4.0, c=2.0)
    assert (
        claims.decide(claims.Comparison(claims.Quotient(A, B), claims.Quotient(A, C)), value, no_seeds)
        is True
    )


def test_a_number_that_was_not_measured_is_an_error() -> None:
    with pytest.raises(ValueError, match="was not measured"):
        claims.decide(claims.Comparison(A, B), lookup(a=1.0), no_seeds)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"a": 3.0, "b": 2.0, "c": 1.0}, "Holds."),
        ({"a": 1.0, "b": 2.0, "c": 3.0}, "Does not hold."),
        ({"a": 3.0, "b": 1.0, "c": 2.0}, "Does not hold throughout: 1 of 2 comparisons hold."),
        ({"a": 3.0, "b": 1.0, "c": 1.0}, "Undecided: 1 of 2 comparisons hold, 1 is undecided."),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, "Undecided: 0 of 2 comparisons hold, 2 are undecided."),
        (
            {"a": 1.0, "b": 2.0, "c": 2.0},
            "Does not hold throughout: 0 of 2 comparisons hold, 1 is undecided.",
        ),
    ],
    ids=str,
)
def test_a_claim_holds_only_if_every_comparison_does(values: dict[str, float], expected: str) -> None:
    claim = claim_of(*claims.falls("mse", "a", "b", "c"))
    assert claims.verdict(claim, lookup(**values), no_seeds) == expected


@pytest.mark.parametrize("claim", claims.CLAIMS, ids=lambda claim: claim.text)
def test_every_row_of_a_table_takes_part_in_the_rule(claim: Any) -> None:
    assert set(claim.variants) == {cell.variant for cell in claim.cells}
    assert len(set(claim.comparisons)) == len(claim.comparisons)
