"""Every fault in faults.yaml is found by the check that is meant to find it, and nothing else is reported."""

import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from aezoo.specs.base import RegisteredSpec
from aezoo.specs.components import CallbackSpec
from aezoo.testing import ContractError, Failure
from aezoo.testing.layer_use import USE_CHECKS
from aezoo.testing.loss_use import USE_CHECKS as LOSS_USE_CHECKS
from tests.testing.faulty import plugins
from tests.testing.planting import GOOD, PLANTED, check

BROAD = {check.name for check in (*USE_CHECKS, *LOSS_USE_CHECKS)} | {"refit"}
"""Checks that run a component in many ways, so that they may find the faults of other checks as well."""
LISTED: dict[str, dict[str, str]] = yaml.safe_load(Path(__file__).with_name("faults.yaml").read_text("utf-8"))


@cache
def failures(planted: str) -> tuple[Failure, ...]:
    """The failures that the check of a planted fault reports."""
    try:
        PLANTED[planted].check()
    except ContractError as error:
        return tuple(error.report.failures)
    return ()


def marks(planted: str) -> list[pytest.MarkDecorator]:
    if planted.startswith("variant/wrong-number"):
        return [pytest.mark.data]
    # Checks of callbacks train several networks. Of the others, every fourth one is planted in each run.
    in_each_run = not planted.startswith("callback/") and list(PLANTED).index(planted) % 4 == 0
    return [] if in_each_run else [pytest.mark.slow]


@pytest.mark.parametrize("planted", [pytest.param(name, marks=marks(name)) for name in PLANTED])
def test_fault_is_found_by_its_check(planted: str) -> None:
    fault = PLANTED[planted]
    found = {failure.check: failure.found for failure in failures(planted)}
    assert fault.found_by in found
    assert fault.also == ("*",) or set(found) - BROAD <= {fault.found_by, *fault.also}
    # A check that raises by itself has found nothing, unless the fault is to raise.
    assert bool(re.match(r"\w+Error: ", found[fault.found_by])) == fault.raises


def test_listed_faults_are_planted() -> None:
    listed = {f"{family}/{fault}" for family, faults in LISTED.items() for fault in faults}
    assert len(listed) >= 110
    assert {name.replace(",", " ").split()[0] for name in PLANTED} == listed
    assert len(PLANTED) >= 140


@pytest.mark.parametrize("name", plugins.FAULTS)
def test_report_of_faulty_plugin_says_what_to_fix(name: str) -> None:
    (failure,) = failures(f"plugin/{name}")
    assert plugins.FAULTS[name][2] in failure.found
    assert "\n" not in failure.found


@pytest.mark.parametrize("planted", ["layer/detached", "loss/not-a-scalar", "dataset/missing-split"])
def test_failures_are_complete_and_on_one_line(planted: str) -> None:
    assert len(failures(planted)) > 1
    for failure in failures(planted):
        assert failure.docs == f"docs/plugins.md#{failure.check}"
        for text in (failure.check, failure.expected, failure.found):
            assert text == " ".join(text.split())
            assert text


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(
            spec,
            id=f"{spec.kind_name}-{i}",
            marks=[pytest.mark.slow] if isinstance(spec, CallbackSpec) else [],
        )
        for i, spec in enumerate(GOOD)
    ],
)
def test_originals_of_the_faults_pass(spec: RegisteredSpec) -> None:
    report = check(spec)
    assert report.failures == []
    assert report.exempt == {}
