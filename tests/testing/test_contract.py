"""How checks are declared, run, exempted and reported."""

from typing import Any

import pytest

import aezoo
from aezoo.testing import ALL_CHECKS, CheckList, ContractCheck, ContractError, Failure, Report, check_layer
from tests.testing.faulty.sparsity import KeepSpec, OneTooMany
from tests.testing.planting import PLANTED


class ExemptSpec(KeepSpec):
    """Keeps one latent more than it declares, and says why."""

    module = OneTooMany
    exempt = {"sparsity": "one latent carries the length of the code"}


def raised_by(planted: str) -> ContractError:
    with pytest.raises(ContractError) as caught:
        PLANTED[planted].check()
    return caught.value


def test_failure_names_the_check_what_was_expected_and_found_and_the_docs() -> None:
    (failure,) = raised_by("layer/one-too-many").report.failures
    assert failure == Failure(
        check="sparsity",
        expected="as many non-zero latents as sparsity() says",
        found="4 in training, where 3 are declared",
        docs="docs/plugins.md#sparsity",
    )
    assert str(failure) == (
        "sparsity: expected as many non-zero latents as sparsity() says; "
        "found 4 in training, where 3 are declared (docs/plugins.md#sparsity)"
    )


def test_contract_error_is_an_assertion_error_with_the_whole_report() -> None:
    error = raised_by("layer/detached")
    assert isinstance(error, AssertionError)
    assert isinstance(error, aezoo.AezooError)
    assert str(error) == str(error.report)
    first, *rest = str(error).splitlines()
    count = f"{len(error.report.passed_checks)} checks passed, {len(error.report.failures)} failed"
    assert first == f"layer faulty.centre on (8,): {count}"
    assert rest == [f"  {failure}" for failure in error.report.failures]


def test_exemption_is_reported_with_its_reason() -> None:
    report = check_layer(ExemptSpec(), (8,))
    assert report.passed
    assert report.exempt == {"sparsity": "one latent carries the length of the code"}
    assert "sparsity" not in report.passed_checks
    assert str(report).splitlines()[1:] == [
        "  exempt from sparsity: one latent carries the length of the code"
    ]


def test_exempt_check_may_fail_and_is_reported_if_it_passes() -> None:
    checks: CheckList[str] = CheckList()
    for name in ("first", "second"):
        checks.add(name, "anything")(lambda fault, name=name: "a fault" if fault == name else None)
    exempt = {"first": "a reason"}
    report = checks.run("first", Report("something"), exempt)
    assert report == Report("something", passed_checks=["second"], exempt=exempt)
    report = checks.run("none", Report("something"), exempt)
    assert report == Report("something", passed_checks=["second"], exempt=exempt, unneeded=["first"])


@pytest.mark.parametrize(
    ("exempt", "found"),
    [
        ({"sparsty": "a reason"}, "'sparsty' (did you mean 'sparsity'?), which is no check"),
        ({"sparsity": "a reason", "rows": "a reason"}, "'rows', which the component passes"),
        ({"sparsity": " "}, "'sparsity' without a reason"),
    ],
)
def test_misspelt_and_stale_exemptions_are_failures(exempt: dict[str, str], found: str) -> None:
    cls = type("MisspeltSpec", (ExemptSpec,), {"exempt": exempt, "__module__": __name__})
    with pytest.raises(ContractError) as caught:
        check_layer(cls(), (8,))
    failures = {failure.check: failure.found for failure in caught.value.report.failures}
    assert failures["exemptions"] == found


def test_check_that_raises_has_failed_and_later_ones_run() -> None:
    checks: CheckList[list[Any]] = CheckList()
    checks.add("first", "an item")(lambda items: items[1])
    checks.add("second", "anything")(lambda items: None)
    report = checks.run([], Report("something"))
    found = "IndexError: list index out of range"
    assert report.failures == [Failure("first", "an item", found, "docs/plugins.md#first")]
    assert report.passed_checks == ["second"]
    assert not report.passed


def test_checks_after_a_failed_required_one_are_skipped() -> None:
    checks: CheckList[str] = CheckList()
    checks.add("first", "nothing", required=True)(lambda found: found)
    checks.add("second", "nothing")(lambda found: found)
    assert [failure.check for failure in checks.run("a fault", Report("something")).failures] == ["first"]
    exempt = checks.run("a fault", Report("something"), {"first": "a reason"})
    assert [failure.check for failure in exempt.failures] == ["second"]


def test_report_that_passed_is_returned() -> None:
    report = Report("something", passed_checks=["first"])
    assert report.raise_on_failure() is report
    assert str(report) == "something: 1 checks passed"


@pytest.mark.parametrize(
    "check", [check for checks in ALL_CHECKS.values() for check in checks], ids=lambda check: check.name
)
def test_check_is_documented(check: ContractCheck[Any]) -> None:
    why, failure, fix = check.guide()
    assert why.endswith(".")
    assert failure.startswith("`")
    assert fix.endswith(".")
    assert not check.expects.endswith(".")


def test_undocumented_check_is_rejected_by_the_docs() -> None:
    with pytest.raises(ValueError, match="docstring of check 'first' needs a 'Failure:'"):
        ContractCheck("first", "nothing", lambda _: None).guide()
