"""What a contract check says: for each failure what was expected, what was found, and where to read."""

from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from aezoo.errors import AezooError

GUIDE = "docs/plugins.md"


class ContractError(AezooError, AssertionError):
    """A component that does not keep the contract.

    Attributes:
        report: everything that was checked.
    """

    def __init__(self, report: "Report") -> None:
        super().__init__(str(report))
        self.report = report


@dataclass(frozen=True)
class Finding:
    """One failure.

    Attributes:
        check: name of the check, for an exemption.
        expected: what the contract asks for.
        found: what was there.
        read: where the contract says so.
    """

    check: str
    expected: str
    found: str
    read: str

    def __str__(self) -> str:
        return f"{self.check}: expected {self.expected}; found {self.found} ({self.read})"


@dataclass
class Report:
    """What was checked of one component.

    Attributes:
        subject: the component, in words.
        passed: names of the checks that it passed.
        findings: those that it did not.
        exempt: those that it declares not to keep, with its reason.
    """

    subject: str
    passed: list[str] = field(default_factory=list[str])
    findings: list[Finding] = field(default_factory=list[Finding])
    exempt: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def kept(self) -> bool:
        """Whether the contract is kept, exemptions aside."""
        return not self.findings

    def __str__(self) -> str:
        count = f"{len(self.passed)} checks passed"
        lines = [f"{self.subject}: {count}" + (f", {len(self.findings)} failed" if self.findings else "")]
        lines += [f"  {finding}" for finding in self.findings]
        lines += [f"  exempt from {check}: {reason}" for check, reason in self.exempt.items()]
        return "\n".join(lines)

    def settled(self) -> "Report":
        """The report itself.

        Raises:
            ContractError: something failed.
        """
        if self.findings:
            raise ContractError(self)
        return self


class Checks:
    """Runs checks one after another; one that raises has failed, and the others still run.

    Args:
        subject: the component, in words.
        exemptions: check -> why the component need not pass it.
    """

    def __init__(self, subject: str, exemptions: Mapping[str, str]) -> None:
        self.report = Report(subject)
        self.exemptions = dict(exemptions)

    def run(self, check: str, expected: str, look: Callable[[], str | None]) -> None:
        """Runs one check.

        Args:
            check: its name.
            expected: what the contract asks for, in words.
            look: returns what was found in its place, or None where the contract is kept.
        """
        if reason := self.exemptions.get(check):
            self.report.exempt[check] = reason
            return
        try:
            found = look()
        except Exception as error:  # whatever a faulty component raises
            words = " ".join(str(error).split())
            found = f"{type(error).__name__}: {words[:300]}"
        if found is None:
            self.report.passed.append(check)
        else:
            self.report.findings.append(Finding(check, expected, found, f"{GUIDE}#{check}"))


class Examination(ABC):
    """One component under examination.

    Attributes:
        CHECKS: check -> what the contract asks for, in words. The check `meta-shape` is the method
        `_meta_shape`,
            which returns what was found in its place, or None.
        FIRST: checks without which the others would mean nothing.
        checks: runs them.
    """

    CHECKS: ClassVar[dict[str, str]]
    FIRST: ClassVar[frozenset[str]] = frozenset()
    checks: Checks

    def examine(self) -> Report:
        """Runs the checks in order."""
        report = self.checks.report
        for name, expected in self.CHECKS.items():
            self.checks.run(name, expected, getattr(self, "_" + name.replace("-", "_")))
            if name in self.FIRST and name not in (*report.passed, *report.exempt):
                break
        return report
