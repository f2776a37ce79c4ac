"""Extreme documents: numbers at the limits of their types, and small files that ask for a lot."""

import signal
import tracemalloc
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, get_args, get_origin

import pytest
from annotated_types import Ge, Le

import aezoo
from tests.examples import BY_FAMILY, before, small
from tests.parts import in_parts
from tests.specs.mutations import LONGEST, SECONDS, Json, members, written


def largest(annotation: Any, constraints: Iterable[Any]) -> Iterator[Json]:
    """The largest and the smallest numbers that a field's type allows, plain or in a list."""
    for plain, rules in members(annotation, constraints):
        for rule in rules:
            if isinstance(rule, Le | Ge) and plain in (int, float):
                yield rule.le if isinstance(rule, Le) else rule.ge
        if plain is float:
            yield from (1e300, 1e-300)
        if get_origin(plain) is tuple:
            inner, *_ = get_args(plain)
            yield from ([value] * n for value in largest(inner, ()) for n in (1, 2, 3))


@pytest.mark.parametrize("kind", aezoo.LayerSpec.kinds())
def test_numbers_at_the_limits_of_their_types_are_valid_or_reported(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    for options, in_shape in BY_FAMILY["layer"][kind]:
        cls = aezoo.LayerSpec.of_kind(kind)
        whole = aezoo.LayerSpec.model_validate({"kind": kind, **options}).model_dump(mode="json")
        for field, info in cls.model_fields.items():
            for value in largest(info.annotation, info.metadata) if field != "repeat" else ():
                data = small(
                    input={"shape": in_shape}, encoder=[*before(kind, options), {**whole, field: value}]
                )
                path.write_text(written(data)[0])
                try:
                    aezoo.validate(path)
                except aezoo.SpecError as error:
                    (problem,) = error.problems
                    assert len(str(problem)) <= LONGEST + 100
                    # If the layer itself is valid, the decoder has another size.
                    assert problem.path.split(".")[0] in ("encoder", "decoder", ""), f"{field}: {value}"


# -- bombs --------------------------------------------------------------------------------------------


@contextmanager
def bounded(seconds: float, megabytes: float) -> Generator[None]:
    """Fails if the block takes more CPU time or memory, even if it would never end."""

    def stop(number: int, frame: FrameType | None) -> None:
        # Not an `Exception`, which the code under test might catch.
        pytest.fail(f"took more than {seconds} s")

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
        tracemalloc.stop()
    assert peak < megabytes * 2**20, f"took {peak / 2**20:.0f} MB"


def nested(depth: int) -> Json:
    """One layer, repeated a thousand times at each level."""
    layer: Json = {"kind": "lifetime", "rate": 1.0, "repeat": 1000}
    for _ in range(depth - 1):
        layer = {"kind": "residual", "repeat": 1000, "layers": [layer]}
    return [layer]


def with_text(words: str) -> str:
    return f"{written(small())[0][:-1]}{words}\n}}"


ALIASES = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
)
# Text, the paths that the error names, and words of the error.
BOMBS: dict[str, tuple[str, set[str], str]] = {
    "aliases": (ALIASES, {""}, "aliases are not supported"),
    "10 MB": ("#" * 10_000_000, {""}, "larger than 1,000,000 bytes"),
    "10 MB of a valid spec": (written(small())[0] + " " * 10_000_000, {""}, "larger than 1,000,000 bytes"),
    "open lists": ("[" * 300_000, {""}, "nested deeper than 40 levels"),
    "mappings": ("{a: " * 1000 + "}" * 1000, {""}, "nested deeper than 40 levels"),
    "mappings by indentation": ("\n".join(" " * i + "a:" for i in range(1000)), {""}, "nested deeper than 40"),
    "lists by dashes": ("- " * 200_000, {""}, "nested deeper than 40 levels"),
    "keys by question marks": ("? " * 200_000, {""}, "expected a key of at most 100 characters"),
    "deep below a field": (with_text("target: " + "[" * 1000 + "]" * 1000), {""}, "nested deeper than 40"),
    "many layers": (with_text("target: [" + "x," * 100_000 + "]"), {""}, "values, the limit for a spec"),
    "many unknown keys": (with_text("".join(f"k{i}: 1,\n" for i in range(40_000))), {""}, "values, the limit for a spec"),
    "long word": (with_text("target: " + "x" * 100_000), {"target"}, "expected a mapping"),
    "long kind": (written(small(encoder=["x" * 100_000]))[0], {"encoder.0.kind"}, "kind"),
    "long number": (with_text("target: " + "9" * 100_000), {"target"}, "number"),
    "long fraction": (with_text("target: 0." + "9" * 100_000), {"target"}, "expected a mapping"),
    "long name": (written(small(name="a" * 100_000))[0], {"name"}, "at most 96 characters"),
    "open quote": (with_text('target: "' + "a " * 50_000), {""}, "end of stream"),
    "10**6 layers": (written(small(encoder=nested(2)))[0], {"encoder"}, "1,001,000 layers"),
    "10**9 layers": (written(small(encoder=nested(3)))[0], {"encoder.0.layers"}, "1,001,000 layers"),
    "10**27 layers": (
        written(small(encoder=nested(9)))[0],
        {"encoder" + ".0.layers" * 7},
        "1,001,000 layers",
    ),
    "shape": (written(small(input={"shape": [2**31 - 1] * 4}))[0], {"input.shape"}, "exceed 2,147,483,647"),
    "sizes without end": (written(small(input={"shape": [1] * 2_000}))[0], {"input.shape"}, "at most 4 entries"),
    "weights": (
        written(small(encoder=["flatten", *[{"kind": "linear", "out_features": 2**31 - 1}] * 2]))[0],
        {"encoder.2"},
        "cannot be built",
    ),
}  # fmt: skip


@pytest.mark.parametrize("bomb", in_parts(BOMBS, 2))
def test_a_bomb_is_rejected_within_bounds(bomb: str, tmp_path: Path) -> None:
    text, paths, words = BOMBS[bomb]
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with bounded(seconds=10 * SECONDS, megabytes=64), pytest.raises(aezoo.SpecError) as caught:
        aezoo.validate(path)
    assert {problem.path for problem in caught.value.problems} == paths
    assert words in str(caught.value)
    assert len(str(caught.value)) <= LONGEST + len(str(path))


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~", "\ufeff"])
def test_an_empty_file_is_rejected(text: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(aezoo.SpecError, match=r"spec\.yaml:1: expected a mapping, found None"):
        aezoo.validate(path)


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-8"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_and_all_line_ends_are_read(codec: str, newline: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(written(small())[0].replace("\n", newline).encode(codec))
    assert aezoo.validate(path).name == "small"
