"""Documents with one mistake: each is rejected at its place, in words, and quickly."""

import re
import time
from pathlib import Path
from typing import NamedTuple

import pytest

import aezoo
from aezoo.specs.base import Spec
from aezoo.specs.schema import FAMILIES
from tests.specs.mutations import LONGEST, PLACES, SECONDS, Mutation, mutations, originals, written


class Outcome(NamedTuple):
    """The error of `aezoo.validate` for a mutation, and the CPU time it took."""

    mutation: Mutation
    error: BaseException | None
    seconds: float


# About 40 seconds.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    path = tmp_path_factory.mktemp("mutations") / "spec.yaml"
    found: list[Outcome] = []
    for broken in mutations():
        path.write_bytes(broken.text)
        error: BaseException | None = None
        begin = time.process_time()
        try:
            aezoo.validate(path)
        except Exception as caught:
            error = caught
        found.append(Outcome(broken, error, time.process_time() - begin))
    return found


def problems(outcome: Outcome) -> dict[str, int | None]:
    error = outcome.error
    return {p.path: p.line for p in error.problems} if isinstance(error, aezoo.SpecError) else {}


def few(labels: list[str]) -> str:
    return "\n".join(labels[:20])


@pytest.mark.parametrize("name", originals())
def test_the_originals_are_valid(name: str, tmp_path: Path) -> None:
    # Otherwise a mutation could be rejected for something that it did not change.
    path = tmp_path / "spec.yaml"
    path.write_text(written(originals()[name])[0])
    spec = aezoo.validate(path)
    path.write_text(written(spec.model_dump(mode="json"))[0])
    assert aezoo.validate(path) == spec


def test_every_kind_and_every_document_is_mutated() -> None:
    assert len(mutations()) >= 500
    texts = "\n".join(written(data)[0] for data in originals().values())
    for family in FAMILIES:
        for kind in family.kinds() if family.family in ("layer", *PLACES) else ():
            assert f'"kind": "{kind}"' in texts
    mutated = {broken.label.partition(": ")[0].rpartition("-")[0] for broken in mutations()}
    assert {name.rpartition("-")[0] for name in originals()} <= mutated


def test_every_mutation_is_rejected_with_a_spec_error(outcomes: list[Outcome]) -> None:
    odd = [f"{o.mutation.label}: {o.error!r}" for o in outcomes if not isinstance(o.error, aezoo.SpecError)]
    assert not odd, few(odd)


def test_the_error_names_the_path_and_the_line(outcomes: list[Outcome]) -> None:
    by_path = [o for o in outcomes if problems(o).keys() == o.mutation.expected.keys()]
    by_line = [o for o in by_path if problems(o) == o.mutation.expected]
    share = len(by_path) / len(outcomes)
    others = [o for o in outcomes if o not in by_line]
    amiss = [f"{o.mutation.label}: {o.error}, not {o.mutation.expected}" for o in others]
    assert share >= 0.95, few(amiss)
    assert len(by_line) >= 0.95 * len(outcomes), few(amiss)


def test_the_error_is_one_short_line_per_mistake(outcomes: list[Outcome]) -> None:
    internal = {"ValidationError", "Traceback", "RegistryError", "Node", "tuple", "constrained"}
    classes = internal | names_of(Spec)
    inside = re.compile(rf"\b({'|'.join(sorted(classes))})\b")
    for broken, error, _ in outcomes:
        assert isinstance(error, aezoo.SpecError), broken.label
        lines = str(error).encode().decode().splitlines()
        assert len(lines) == len(error.problems) >= 1, broken.label
        for line in lines:
            text = line.removeprefix(str(error.source))
            assert len(text) <= LONGEST, f"{broken.label}: {text}"
            assert text.isprintable(), f"{broken.label}: {text!r}"
            assert not inside.search(text), f"{broken.label}: {text}"


def names_of(cls: type[Spec]) -> set[str]:
    return {cls.__name__}.union(*(names_of(sub) for sub in cls.__subclasses__()))


def test_no_mutation_takes_long(outcomes: list[Outcome]) -> None:
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    assert slowest.seconds < SECONDS, slowest.mutation.label
