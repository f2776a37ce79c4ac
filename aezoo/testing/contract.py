"""Contract checks: how a check is declared, run and reported."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from typing_extensions import override

from aezoo.errors import AezooError
from aezoo.text import printable

GUIDE = "docs/plugins.md"
T = TypeVar("T")


class ContractError(AezooError, AssertionError):
    """A component breaks the contract.

    Attributes:
        report: every check that was run.
    """

    def __init__(self, report: "Report") -> None:
        super().__init__(str(report))
        self.report = report

    @override
    def __str__(self) -> str:
        return "\n".join(map(printable, str(self.report).splitlines()))


@dataclass(frozen=True)
class Failure:
    """A failed check.

    Attributes:
        check: name of the check, as used in `exempt`.
        expected: what the contract requires.
        found: what was found instead.
        docs: section of the documentation that explains the check.
    """

    check: str
    expected: str
    found: str
    docs: str

    def __str__(self) -> str:
        return f"{self.check}: expected {self.expected}; found {self.found} ({self.docs})"


@dataclass
class Report:
    """Results of the checks of one component.

    Attributes:
        subject: the component, such as `layer topk on (8,)`.
        passed_checks: names of the checks that passed.
        failures: the checks that failed.
        exempt: checks that the component need not pass -> its reason.
        unneeded: those of them that it passes.
    """

    subject: str
    passed_checks: list[str] = field(default_factory=list[str])
    failures: list[Failure] = field(default_factory=list[Failure])
    exempt: dict[str, str] = field(default_factory=dict[str, str])
    unneeded: list[str] = field(default_factory=list[str])

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    def __str__(self) -> str:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        lines = [f"{self.subject}: {len(self.passed_checks)} checks passed{failed}"]
        lines += [f"  {failure}" for failure in self.failures]
        lines += [f"  exempt from {check}: {reason}" for check, reason in self.exempt.items()]
        return "\n".join(lines)

    def raise_on_failure(self) -> "Report":
        """Returns the report itself.

        Raises:
            ContractError: a check failed.
        """
        if self.failures:
            raise ContractError(self)
        return self


@dataclass(frozen=True)
class ContractCheck(Generic[T]):
    """One check of the contract.

    Attributes:
        name: such as `meta-shape`; the key in `exempt` and the heading in docs/plugins.md.
        expects: what the contract requires, in words.
        find: returns what was found instead, or None if the component passes. Its docstring says why the
            check matters, what a failure looks like ("Failure:") and how to fix it ("Fix:").
        required: whether later checks are skipped when this one fails.
    """

    name: str
    expects: str
    find: Callable[[T], str | None]
    required: bool = False

    def guide(self) -> tuple[str, str, str]:
        """Why the check matters, what a failure looks like and how to fix it."""
        text = inspect.cleandoc(self.find.__doc__ or "")
        parts = re.fullmatch(r"(.+)\n\nFailure: (.+)\nFix: (.+)", text, re.DOTALL)
        if parts is None:
            raise ValueError(f"the docstring of check {self.name!r} needs a 'Failure:' and a 'Fix:' line")
        why, failure, fix = (" ".join(part.split()) for part in parts.groups())
        return why, failure, fix


class CheckList(list[ContractCheck[T]]):
    """The checks of one family, in the order in which they run."""

    def add(
        self, name: str, expects: str, *, required: bool = False
    ) -> Callable[[Callable[[T], str | None]], Callable[[T], str | None]]:
        """Decorates a function that finds what is wrong with a component; see `ContractCheck`."""

        def append(find: Callable[[T], str | None]) -> Callable[[T], str | None]:
            self.append(ContractCheck(name, expects, find, required))
            return find

        return append

    def run(self, component: T, report: Report, exempt: Mapping[str, str] | None = None) -> Report:
        """Runs the checks one after another. A check that raises has failed; later ones still run.

        Args:
            component: what the checks are called with.
            report: where results are added.
            exempt: check -> why the component need not pass it; by default no exemptions. An exempt check is
                run all the same: the report lists exemptions that are not needed.
        """
        for check in self:
            reason = (exempt or {}).get(check.name)
            try:
                found = check.find(component)
            except Exception as error:  # a faulty component may raise anything
                found = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            if reason:
                report.exempt[check.name] = reason
                if found is None:
                    report.unneeded.append(check.name)
                continue
            if found is None:
                report.passed_checks.append(check.name)
                continue
            report.failures.append(Failure(check.name, check.expects, found, f"{GUIDE}#{check.name}"))
            if check.required:
                break
        return report
