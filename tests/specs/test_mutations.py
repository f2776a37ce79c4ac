"""Bad input, hunted: machine-made mistakes in valid specs, each refused where it stands and in bounded time."""

import copy
import json
import random
import re
import signal
import time
import tracemalloc
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType, NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import AfterValidator
from pydantic.fields import FieldInfo

import aezoo
from aezoo.plugins.registry import registry
from aezoo.specs.base import NonEmpty, RegisteredSpec, Spec
from aezoo.specs.schema import FAMILIES
from aezoo.specs.tensor import Interval, Shape
from aezoo.specs.yaml import Document
from tests.examples import BY_FAMILY, LAYER_CASES, before, small

Json = Any
Steps = tuple[str | int, ...]
ROOT = Path(__file__).parents[2]
SECONDS = 2.0
LONGEST = 300


# -- valid specs --------------------------------------------------------------------------------------


def shape_after(layers: list[Json], in_shape: tuple[int, ...]) -> list[int]:
    stack = aezoo.LayerSequence.build(tuple(map(aezoo.LayerSpec.model_validate, layers)), in_shape, "layers")
    return list(stack.out_shape or ())


def around(layers: list[Json], in_shape: tuple[int, ...]) -> Json:
    """A variant whose encoder these layers are; its decoder changes no shape."""
    return small(
        input={"shape": list(in_shape)},
        target={"shape": shape_after(layers, in_shape)},
        encoder=layers,
        decoder=[{"kind": "batch_norm"}],
    )


def with_recipe(**changes: Json) -> Json:
    return small(recipe=small()["recipe"] | changes)


def with_stage(**changes: Json) -> Json:
    return with_recipe(stages=[{"kind": "fit", "epochs": 2, "early_stop": {"patience": 3}} | changes])


def with_loss(entry: Json) -> Json:
    role = registry.get("loss", entry["kind"]).role
    if role == "reconstruction":
        return with_recipe(reconstruction=entry)
    linear: Json = {"kind": "linear", "out_features": 8, "activation": "sigmoid"}
    encoders = {
        "kl_sparsity": ["flatten", linear],
        "vae_kl": ["flatten", {**linear, "activation": None}, "gaussian_sample"],
    }
    data = with_recipe(penalties=[entry])
    return data | {"encoder": encoders.get(entry["kind"], data["encoder"])}


def with_noise(entry: Json) -> Json:
    shape = [3, 6, 6]
    back = [{"kind": "linear", "out_features": 108}, {"kind": "unflatten", "shape": shape}]
    return with_recipe(noises=[entry]) | {"input": {"shape": shape, "range": [-1, 1]}, "decoder": back}


def with_whole_stage(entry: Json) -> Json:
    if entry["kind"] != "pca":
        return with_recipe(stages=[{"epochs": 2} | entry])
    plain = [{"kind": "linear", "out_features": 8}]
    back = [{"kind": "linear", "out_features": 36}, {"kind": "unflatten", "shape": [1, 6, 6]}]
    return with_recipe(stages=[entry]) | {"encoder": [{"kind": "flatten"}, *plain], "decoder": back}


# Where an entry of each family stands in a variant; metrics stand in none.
PLACES: dict[str, Callable[[Json], Json]] = {
    "loss": with_loss,
    "noise": with_noise,
    "dataset": lambda entry: with_recipe(dataset=entry),
    "callback": lambda entry: with_recipe(callbacks=[entry]),
    "activation": lambda entry: around([{"kind": "linear", "out_features": 5, "activation": entry}], (7,)),
    "optimizer": lambda entry: with_stage(optimizer=entry),
    "schedule": lambda entry: with_stage(schedule=entry),
    "stage": with_whole_stage,
}


def recipe_of_the_docs() -> Json:
    block = re.search(r"```yaml\n(recipe:.*?)```", (ROOT / "docs/specs.md").read_text(), re.DOTALL)
    assert block is not None
    return small(**Document(block[1], "specs.md").data)  # type: ignore[arg-type]


@cache
def originals() -> dict[str, Json]:
    """Valid variants that hold every kind of every family, as plain data."""
    found = {path.parent.name: Document.read(path).data for path in sorted(ROOT.glob("zoo/*/spec.yaml"))}
    found["docs"] = recipe_of_the_docs()
    found["target"] = small(target={"shape": [1, 6, 6], "range": [0, 1]}, references=["arXiv:1312.5663"])
    for index, (specs, in_shape) in enumerate(LAYER_CASES):
        entries = [spec.model_dump(mode="json", exclude_defaults=True) for spec in specs]
        found[f"{specs[-1].kind_name}-{index}"] = around(entries, in_shape)
    for family in FAMILIES:
        place = PLACES.get(family.family)
        for kind in family.kinds() if place else ():
            for index, options in enumerate(BY_FAMILY.get(family.family, {}).get(kind, [{}])):
                found[f"{family.family}-{kind}-{index}"] = place({"kind": kind, **options})  # type: ignore[misc]
    return found


# -- documents that know their lines ------------------------------------------------------------------


def written(data: Json) -> tuple[str, dict[Steps, int]]:
    """YAML with every value on a line of its own, and the line of each."""
    lines: list[str] = []
    places: dict[Steps, int] = {}

    def put(value: Json, steps: Steps, before: str, after: str) -> None:
        places[steps] = len(lines) + 1
        if isinstance(value, dict | list) and value:
            opening, closing = "{}" if isinstance(value, dict) else "[]"
            lines.append(before + opening)
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                put(item, (*steps, key), f"{json.dumps(key)}: " if isinstance(value, dict) else "", ",")
            lines.append(closing + after)
        else:
            spelt = {"NaN": ".nan", "Infinity": ".inf", "-Infinity": "-.inf"}
            text = json.dumps(value, ensure_ascii=False)
            lines.append(before + spelt.get(text, text) + after)

    put(data, (), "", "")
    return "\n".join(lines), places


class Mutation(NamedTuple):
    """A document with one mistake.

    Attributes:
        label: what was done to which document.
        text: the document.
        expected: every path that an error must name, and no other, with its line.
    """

    label: str
    text: bytes
    expected: dict[str, int | None]


def dotted(steps: Steps) -> str:
    return ".".join(map(str, steps))


def mutation(label: str, data: Json, *mistakes: Steps) -> Mutation:
    """The document that `data` is, wrong at these places."""
    text, places = written(data)
    expected: dict[str, int | None] = {}
    for steps in mistakes:
        # What is missing has no line; the mapping that it is missing from has.
        near = next(steps[:end] for end in range(len(steps), -1, -1) if steps[:end] in places)
        expected[dotted(steps)] = places[near]
    return Mutation(label, text.encode(), expected)


def changed(data: Json, steps: Steps, value: Json) -> Json:
    """A copy with one value changed."""
    found = copy.deepcopy(data)
    at(found, steps[:-1])[steps[-1]] = value
    return found


def renamed(data: Json, steps: Steps, to: str | None) -> Json:
    """A copy with one key called otherwise, or left out."""
    found = copy.deepcopy(data)
    owner = at(found, steps[:-1])
    items = [(to if key == steps[-1] else key, value) for key, value in owner.items()]
    owner.clear()
    owner.update((key, value) for key, value in items if key is not None)
    return found


def at(data: Json, steps: Steps) -> Json:
    for step in steps:
        data = data[step]
    return data


# -- mistakes that follow from a field's type ---------------------------------------------------------

WRONG: dict[str, Json] = {
    "text": "no such word", "number as text": "1", "integer": 7, "fraction": 0.5, "true": True,
    "null": None, "list": [], "mapping": {},
}  # fmt: skip
TAKEN: dict[Any, set[str]] = {
    str: {"text", "number as text"},
    int: {"integer"},
    float: {"integer", "fraction"},
    bool: {"true"},
    NoneType: {"null"},
}


class Mistake(NamedTuple):
    """A value that a field must refuse, and where in it the mistake lies."""

    label: str
    value: Json
    steps: Steps = ()


def members(annotation: Any, constraints: Iterable[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """The plain types that an annotation allows, each with what limits_information it."""
    found = [part for c in constraints for part in (c.metadata if isinstance(c, FieldInfo) else [c])]
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        yield from members(inner, [*more, *found])
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from members(part, found)
    else:
        yield annotation, found


def taken(annotation: Any) -> set[str]:
    """The labels in `WRONG` of what is right after all."""
    if get_origin(annotation) is tuple:
        return {"list"}
    if isinstance(annotation, type) and issubclass(annotation, RegisteredSpec):
        # A word, or a mapping with `kind`: wrong, too, but elsewhere.
        return {"text", "number as text", "mapping"}
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return {"mapping"}
    return TAKEN.get(annotation, set())


def mistakes(annotation: Any, constraints: Iterable[Any], now: Json) -> Iterator[Mistake]:
    """Values of a wrong type or out of range, told from the annotation alone."""
    types = list(members(annotation, constraints))
    right = {label for plain, _ in types for label in taken(plain)}
    yield from (Mistake(label, value) for label, value in WRONG.items() if label not in right)
    for plain, rules in types:
        yield from out_of_range(plain, rules)
        if get_origin(plain) is tuple:
            yield from wrong_items(plain, rules, now)
        if isinstance(plain, type) and issubclass(plain, RegisteredSpec):
            yield Mistake("unknown kind", "no such kind", ("kind",))
            yield Mistake("no kind", {}, ("kind",))
            yield Mistake("kind that is no word", {"kind": 7}, ("kind",))


def out_of_range(plain: Any, rules: list[Any]) -> Iterator[Mistake]:
    for rule in rules:
        if isinstance(rule, AfterValidator):
            yield from BY_CHECK.get(rule, [])
        elif isinstance(rule, Ge):
            yield Mistake("below", rule.ge - 1)  # type: ignore[operator]
        elif isinstance(rule, Gt):
            yield from (Mistake("at the open end", rule.gt), Mistake("below", rule.gt - 1))  # type: ignore[operator]
        elif isinstance(rule, Le):
            yield from (Mistake("above", rule.le + 1), Mistake("far above", 10**30))  # type: ignore[operator]
        elif isinstance(rule, Lt):
            yield from (Mistake("at the open end", rule.lt), Mistake("above", rule.lt + 1))  # type: ignore[operator]
        elif isinstance(rule, MinLen) and plain is str:
            yield Mistake("short", "x" * (rule.min_length - 1))
        elif isinstance(rule, MaxLen) and plain is str:
            yield Mistake("long", "x" * (rule.max_length + 1))
    for value in ("nan", "inf", "-inf") if plain in (int, float) else ():
        yield Mistake(value, float(value))


def wrong_items(plain: Any, rules: list[Any], now: Json) -> Iterator[Mistake]:
    inner, *others = get_args(plain)
    items = now if isinstance(now, list) else []
    if others == [...]:
        for label, value, steps in mistakes(inner, (), items[0] if items else None):
            yield Mistake(f"item: {label}", [value, *items[1:]], (0, *steps))
    elif items:
        for label, value, steps in mistakes(inner, (), items[0]):
            yield Mistake(f"item: {label}", [value, *items[1:]], (0, *steps))
        yield Mistake("one too few", items[:-1], (len(items) - 1,))
        yield Mistake("one too many", [*items, items[-1]])


# Rules that are code, and so in no annotation: by what checks them, or by the field.
BY_CHECK: dict[Any, list[Mistake]] = {
    Shape.__metadata__[0]: [  # type: ignore[attr-defined]
        Mistake("empty", []),
        Mistake("too many", [1] * 5),
        Mistake("overflow", [2**31 - 1] * 4),
        Mistake("just too large", [2**16, 2**15]),
    ],
    Interval.__metadata__[0]: [Mistake("turned round", [1, 0]), Mistake("empty", [0, 0])],  # type: ignore[attr-defined]
    NonEmpty.__metadata__[0]: [Mistake("empty", [])],  # type: ignore[attr-defined]
}
BY_FIELD: dict[tuple[type[Spec], str], list[Mistake]] = {
    (aezoo.VariantSpec, "name"): [
        Mistake(f"grammar {name!r}", name)
        for name in ("Small", "a_b", "a.b.c", "-a", "a-", "a b", ".a", "a\n", "ä", "")
    ],
    (aezoo.AutoencoderSpec, "encoder"): [Mistake("too many", ["flatten"] * 1001)],
    (aezoo.RecipeSpec, "penalties"): [Mistake("data term", [{"kind": "mse"}])],
}
VERSIONS = [Mistake("text", "1"), Mistake("zero", 0), Mistake("true", True), Mistake("null", None)]


def specs_in(value: object, steps: Steps = ()) -> Iterator[tuple[Steps, type[Spec]]]:
    """Every spec in a spec, with its place."""
    if isinstance(value, Spec):
        yield steps, type(value)
        for name in type(value).model_fields:
            yield from specs_in(getattr(value, name), (*steps, name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from specs_in(item, (*steps, index))


def mistyped(word: str, known: Iterable[str], rng: random.Random) -> str:
    """A word with a slip of the finger that makes none of the known ones."""
    while True:
        i = rng.randrange(len(word))
        slip = rng.choice([
            word[:i] + word[i + 1 :], word[:i] + word[i] + word[i:], word[:i] + word[i:][1:2] + word[i] + word[i + 2 :],
            word[:i] + "x" + word[i + 1 :],
        ])  # fmt: skip
        if slip and slip not in known:
            return slip


def mutations_of(
    name: str, data: Json, rng: random.Random
) -> Iterator[tuple[set[Any], Callable[[], Mutation]]]:
    """Every mistake that its fields' types allow, each with the sorts that it is of."""
    spec = aezoo.VariantSpec.model_validate(data)
    # Defaults are written out, so that fields which nobody wrote are mutated as well.
    whole = spec.model_dump(mode="json")
    for steps, cls in specs_in(spec):
        owner = at(whole, steps)
        for field, info in cls.model_fields.items():
            # Fields that two classes inherit are of one sort.
            home = [base for base in cls.__mro__ if field in getattr(base, "model_fields", ())][-1]
            here = (*steps, field)

            def make(label: str, value: Json, *wrong: Steps, here: Steps = here) -> Callable[[], Mutation]:
                return lambda: mutation(
                    f"{name}: {dotted(here)}: {label}", changed(whole, here, value), *wrong
                )

            def rename(to: str | None, *wrong: Steps, here: Steps = here) -> Callable[[], Mutation]:
                return lambda: mutation(f"{name}: {dotted(here)}: is {to}", renamed(whole, here, to), *wrong)

            slip = mistyped(field, cls.model_fields, rng)
            if field == "kind":
                word = mistyped(owner[field], cls.kinds(), rng)  # type: ignore[attr-defined]
                yield {(cls, field, "typo")}, rename(slip, here)
                yield {(cls, field, "missing")}, rename(None, here)
                yield {(cls, field, "unknown")}, make("unknown", word, here)
                found = [Mistake(label, value) for label, value in WRONG.items() if label not in TAKEN[str]]
            else:
                also = [here] if info.is_required() else []
                yield {(home, field, "typo")}, rename(slip, (*steps, slip), *also)
                if info.is_required():
                    yield {(home, field, "missing")}, rename(None, here)
                found = [
                    *mistakes(info.annotation, info.metadata, owner[field]),
                    *BY_FIELD.get((home, field), []),
                ]
            for label, value, inner in rng.sample(found, len(found)):
                # Every field once, and every sort of mistake that its type allows in one such field.
                broken = make(label, value, (*here, *inner))
                types = "kind" if field == "kind" else f"{info.annotation!r} {info.metadata!r}"
                yield {(home, field), (types, label)}, broken
    for label, value, _ in VERSIONS:
        broken = mutation(
            f"{name}: version: {label}", {"schema_version": value, **whole}, ("schema_version",)
        )
        yield {("schema_version", label)}, lambda broken=broken: broken


# -- sizes that do not fit ----------------------------------------------------------------------------

CONV = {"kind": "conv", "out_channels": 4, "kernel_size": 3}
TRANSPOSE = {"kind": "conv_transpose", "out_channels": 4, "kernel_size": 3}
RESIDUAL = {"kind": "residual", "layers": [{"kind": "linear", "out_features": 5}]}
# The layer, the shape of its input, and the field that does not fit.
MISFITS: list[tuple[Json, tuple[int, ...], str]] = [
    ({"kind": "topk", "k": 8}, (7,), "k"),
    ({"kind": "topk", "k": 19}, (2, 3, 3), "k"),
    ({"kind": "linear", "out_features": 5}, (1, 6, 6), "kind"),
    ({"kind": "unflatten", "shape": [2, 3]}, (7,), "shape"),
    ({"kind": "unflatten", "shape": [7]}, (7, 1), "kind"),
    ({**CONV, "kernel_size": 7}, (1, 6, 6), "kernel_size"),
    ({**CONV, "kernel_size": [3, 7]}, (1, 6, 6), "kernel_size"),
    ({**CONV, "kernel_size": [3, 3]}, (1, 6), "kernel_size"),
    ({**CONV, "kernel_size": [3, 3, 3]}, (1, 6, 6), "kernel_size"),
    ({**CONV, "dilation": 3}, (1, 6, 6), "kernel_size"),
    ({**CONV, "stride": [1, 1, 1]}, (1, 6, 6), "stride"),
    ({**CONV, "padding": [1]}, (1, 6, 6), "padding"),
    ({**CONV, "dilation": [1]}, (1, 6, 6), "dilation"),
    ({**CONV, "groups": 2}, (3, 6, 6), "groups"),
    ({**CONV, "groups": 3}, (3, 6, 6), "groups"),
    ({**CONV, "stride": 2, "padding": "same"}, (1, 6, 6), "padding"),
    ({**CONV, "padding": 6, "padding_mode": "reflect"}, (1, 6, 6), "padding"),
    ({**CONV, "padding": 7, "padding_mode": "circular"}, (1, 6, 6), "padding"),
    (CONV, (36,), "kind"),
    ({**TRANSPOSE, "groups": 2}, (3, 6, 6), "groups"),
    ({**TRANSPOSE, "stride": [2]}, (1, 6, 6), "stride"),
    ({**TRANSPOSE, "padding": 4}, (1, 6, 6), "padding"),
    ({**TRANSPOSE, "output_padding": 1}, (1, 6, 6), "output_padding"),
    ({**TRANSPOSE, "stride": 2, "output_padding": [2, 1]}, (1, 6, 6), "output_padding"),
    ({**TRANSPOSE, "output_padding": [1]}, (1, 6, 6), "output_padding"),
    ({"kind": "max_pool", "kernel_size": 7}, (1, 6, 6), "kernel_size"),
    ({"kind": "max_pool", "kernel_size": 2, "stride": [1]}, (1, 6, 6), "stride"),
    ({"kind": "avg_pool", "kernel_size": 3, "padding": 2}, (1, 6, 6), "padding"),
    ({"kind": "avg_pool", "kernel_size": 1}, (36,), "kind"),
    ({"kind": "upsample", "scale_factor": 0.1}, (1, 6, 6), "scale_factor"),
    ({"kind": "upsample"}, (36,), "kind"),
    (RESIDUAL, (7,), "layers"),
    ({"kind": "residual", "layers": [{"kind": "residual", "layers": [{"kind": "topk", "k": 8}]}]}, (7,), "layers.0.layers.0.k"),
    ({**RESIDUAL, "layers": [*RESIDUAL["layers"], {"kind": "unflatten", "shape": [6]}]}, (7,), "layers.1.shape"),
]  # fmt: skip


def misfits() -> Iterator[Mutation]:
    for layer, in_shape, field in MISFITS:
        inner: Steps = tuple(int(part) if part.isdigit() else part for part in field.split("."))
        for layers in ([layer], [{"kind": "lifetime", "rate": 1, "repeat": 3}, layer]):
            data = small(input={"shape": list(in_shape)}, encoder=layers)
            here = ("encoder", len(layers) - 1, *inner)
            yield mutation(f"{layer['kind']} at {in_shape}: {field}", data, here)
    yield mutation("decoder gives another shape", small(decoder=["flatten"]), ("decoder", 0))
    yield mutation("target of another shape", small(target={"shape": [36]}), ("decoder", 1))
    wide = [{"kind": "flatten"}, {"kind": "linear", "out_features": 2**31 - 1}, {"kind": "topk", "k": 1}]
    yield mutation("10**11 parameters", small(encoder=wide), ())


# -- mistakes in the text -----------------------------------------------------------------------------


def line_of(text: str, words: str) -> int:
    return text[: text.index(words)].count("\n") + 1


def value_at(document: Document, path: str) -> Json:
    return at(document.data, tuple(int(part) if part.isdigit() else part for part in path.split(".") if part))


def text_mutations(name: str, text: str, rng: random.Random) -> Iterator[Mutation]:
    """Mistakes that no data can hold."""

    def broken(label: str, new: str | bytes, expected: dict[str, int | None]) -> Mutation:
        return Mutation(f"{name}: {label}", new if isinstance(new, bytes) else new.encode(), expected)

    lines = text.rstrip("\n").split("\n")
    last = len(lines) + 1
    whole = "\n".join(lines) + "\n"
    document = Document(whole, name)
    for key in document.data:  # type: ignore[attr-defined]
        yield broken(f"{key} twice", f"{whole}{key}: 1\n", {key: last})
    kind = rng.choice(re.findall(r"\{kind: (\w+)", text))
    inside = whole.replace(f"{{kind: {kind}", f"{{kind: {kind}, kind: {kind}", 1)
    first = line_of(whole, f"{{kind: {kind}")
    path = next(p for p, line in document.lines.items() if line == first and value_at(document, p) == kind)
    yield broken(f"kind {kind} twice", inside, {path: first})
    yield broken("alias", f"{whole}a: &a [x]\nb: *a\n", {"": last + 1})
    yield broken("alias of nothing", f"{whole}b: *a\n", {"": last})
    yield broken("second document", f"{whole}---\n{whole}", {"": last})
    yield broken("end in the middle", f"{whole}...\n{whole}", {"": last + 1})
    yield broken("tag", f"{whole}target: !!python/object/apply:os.system [x]\n", {"": last})
    yield broken("tag of a value", f"{whole}target: !secret x\n", {"": last})
    yield broken("tag of a mapping", f"{whole}target: !secret {{}}\n", {"": last})
    yield broken("tag that lies", f"{whole}target: !!int x\n", {"": last})
    yield broken("fraction that is none", f"{whole}target: !!float x\n", {"": last})
    yield broken("list as key", f"{whole}? [a, b]\n: 1\n", {"": last})
    yield broken("mapping as key", f"{whole}? {{a: b}}\n: 1\n", {"": last})
    yield broken("line break in a key", f'{whole}"a\\nb": 1\n', {"": last})
    yield broken("half a character in a key", f'{whole}"\\ud800": 1\n', {"": last})
    yield broken("long key", f"{whole}{'k' * 900}: 1\n", {"": last})
    yield broken("character that is none", f'{whole}"\\U00110000": 1\n', {"": last})
    yield broken("character beyond any", f'{whole}"\\UFFFFFFFF": 1\n', {"": last})
    yield broken("huge integer", f"{whole}target: 1{'0' * 5000}\n", {"target": last})
    yield broken("large integer", f"{whole}schema_version: -1{'0' * 4000}\n", {"schema_version": last})
    yield broken("list at the top", "".join(f"- {line}\n" for line in ("a", "b")), {"": 1})
    yield broken("word at the top", "small\n", {"": 1})
    yield broken("unclosed bracket", f"{whole}target: [a, b\n", {"": last})
    yield broken("unclosed quote", f'{whole}target: "a, b\n', {"": last})
    yield broken("stray bracket", f"{whole}}}\n", {"": last})
    yield broken("merge", f"{whole}<<: {{name: other}}\n", {"<<": last})
    yield broken("no colon", f"{whole}target\n", {"": last})
    yield broken("unknown directive", f"%YAML 9.9\n---\n{whole}", {"": 1})
    for _ in range(3):
        place = rng.randrange(len(lines))

        def cut(new: str, place: int = place) -> str:
            return "\n".join([*lines[:place], new, *lines[place:], ""])

        yield broken(f"tab at {place + 1}", cut("\tx: 1"), {"": place + 1})
        yield broken(
            f"latin at {place + 1}", cut("# §").replace("§", "\xe9").encode("latin-1"), {"": place + 1}
        )
        for code in (0, 7, 8, 0x1B, 0x7F, 0xFFFE):
            yield broken(f"character {code:#x} at {place + 1}", cut(f"# {chr(code)}"), {"": place + 1})


@cache
def mutations() -> tuple[Mutation, ...]:
    rng = random.Random(0)
    found: list[Mutation] = []
    seen: set[Any] = set()
    # The short ones first, which are read sooner.
    for name, data in sorted(originals().items(), key=lambda item: len(str(item[1]))):
        for sorts, make in mutations_of(name, data, rng):
            # One of every sort, and some of them again in other places.
            if not sorts <= seen or rng.random() < 0.005:
                seen |= sorts
                found.append(make())
    found += misfits()
    for path in sorted(ROOT.glob("zoo/*/spec.yaml"))[::2]:
        found += text_mutations(path.parent.name, path.read_text(), rng)
    return tuple(found)


# -- what becomes of them -----------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What `aezoo.validate` made of a mutation, and how long that took it."""

    mutation: Mutation
    error: BaseException | None
    seconds: float


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
    return (
        {p.path: p.line for p in outcome.error.problems} if isinstance(outcome.error, aezoo.SpecError) else {}
    )


def few(labels: Iterable[str]) -> str:
    """Enough of them to see what is wrong."""
    return "\n".join(list(labels)[:20])


@pytest.mark.parametrize("name", originals())
def test_the_originals_are_valid(name: str, tmp_path: Path) -> None:
    # Else a mutation could be refused for something that it did not change.
    path = tmp_path / "spec.yaml"
    path.write_text(written(originals()[name])[0])
    spec = aezoo.validate(path)
    path.write_text(written(spec.model_dump(mode="json"))[0])
    assert aezoo.validate(path) == spec


def test_there_are_enough_mutations_of_every_kind() -> None:
    assert len(mutations()) >= 500
    texts = "\n".join(written(data)[0] for data in originals().values())
    for family in FAMILIES:
        for kind in family.kinds() if family.family in ("layer", *PLACES) else ():
            assert f'"kind": "{kind}"' in texts
    # Whichever of its mistakes were drawn: the kind itself may be what was misspelt.
    mutated = {broken.label.partition(": ")[0].rpartition("-")[0] for broken in mutations()}
    assert {name.rpartition("-")[0] for name in originals()} <= mutated


def test_every_mutation_is_refused_as_a_spec_error(outcomes: list[Outcome]) -> None:
    odd = [f"{o.mutation.label}: {o.error!r}" for o in outcomes if not isinstance(o.error, aezoo.SpecError)]
    assert not odd, few(odd)


def test_the_error_names_the_very_path_and_line(outcomes: list[Outcome]) -> None:
    by_path = [o for o in outcomes if problems(o).keys() == o.mutation.expected.keys()]
    by_line = [o for o in by_path if problems(o) == o.mutation.expected]
    share = len(by_path) / len(outcomes)
    print(f"{len(outcomes)} mutations, {share:.2%} named by their very path, {len(by_line)} by the line, too")
    amiss = [
        f"{o.mutation.label}: {o.error}, not {o.mutation.expected}" for o in outcomes if o not in by_line
    ]
    assert share >= 0.95, few(amiss)
    assert len(by_line) >= 0.95 * len(outcomes), few(amiss)


def test_the_error_is_written_for_a_person(outcomes: list[Outcome]) -> None:
    classes = {"ValidationError", "Traceback", "RegistryError", "Node", "tuple", "constrained"} | names_of(
        Spec
    )
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


# -- at the limits ------------------------------------------------------------------------------------


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
def test_sizes_at_the_limits_of_their_types_are_taken_or_refused_by_a_clear_error(
    kind: str, tmp_path: Path
) -> None:
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
                    # Where the layer itself is fine, the decoder of another size is not.
                    assert problem.path.split(".")[0] in ("encoder", "decoder", ""), f"{field}: {value}"


# -- bombs --------------------------------------------------------------------------------------------


@contextmanager
def bounded(seconds: float, megabytes: float) -> Generator[None]:
    """Fails what takes longer or more memory, even where it would never end."""

    def stop(number: int, frame: FrameType | None) -> None:
        # Not an `Exception`, which whatever runs just now might catch.
        pytest.fail(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        tracemalloc.stop()
    assert peak < megabytes * 2**20, f"took {peak / 2**20:.0f} MB"


def nested(depth: int) -> Json:
    """One layer, written out a thousand times at each level."""
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
# Text, the paths that may be named and words of the error.
BOMBS: dict[str, tuple[str, set[str], str]] = {
    "aliases": (ALIASES, {""}, "aliases are not read"),
    "10 MB": ("#" * 10_000_000, {""}, "larger than 1,000,000 bytes"),
    "10 MB of a valid spec": (written(small())[0] + " " * 10_000_000, {""}, "larger than 1,000,000 bytes"),
    "open lists": ("[" * 300_000, {""}, "nested deeper than 40 levels"),
    "mappings": ("{a: " * 1000 + "}" * 1000, {""}, "nested deeper than 40 levels"),
    "mappings by indentation": ("\n".join(" " * i + "a:" for i in range(1000)), {""}, "nested deeper than 40"),
    "lists by dashes": ("- " * 200_000, {""}, "nested deeper than 40 levels"),
    "keys by question marks": ("? " * 200_000, {""}, "nested deeper than 40 levels"),
    "deep below a field": (with_text("target: " + "[" * 1000 + "]" * 1000), {""}, "nested deeper than 40"),
    "many layers": (with_text("target: [" + "x," * 100_000 + "]"), {""}, "values, which no spec"),
    "many unknown keys": (with_text("".join(f"k{i}: 1,\n" for i in range(40_000))), {""}, "values, which no spec"),
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
    "shape": (written(small(input={"shape": [2**31 - 1] * 4}))[0], {"input.shape"}, "more than 2,147,483,647"),
    "sizes without end": (written(small(input={"shape": [1] * 2_000}))[0], {"input.shape"}, "1 to 4 sizes"),
    "weights": (
        written(small(encoder=["flatten", *[{"kind": "linear", "out_features": 2**31 - 1}] * 2]))[0],
        {"encoder.2"},
        "cannot be built",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "paths", "words"), BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_before_it_grows(text: str, paths: set[str], words: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with bounded(seconds=10 * SECONDS, megabytes=64), pytest.raises(aezoo.SpecError) as caught:
        aezoo.validate(path)
    assert {problem.path for problem in caught.value.problems} == paths
    assert words in str(caught.value)
    assert len(str(caught.value)) <= LONGEST + len(str(path))


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~", "\ufeff"])
def test_an_empty_file_is_said_to_be_one(text: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(aezoo.SpecError, match=r"spec\.yaml:1: expected a mapping, found None"):
        aezoo.validate(path)


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-8"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_and_any_line_ends_are_fine(codec: str, newline: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(written(small())[0].replace("\n", newline).encode(codec))
    assert aezoo.validate(path).name == "small"
