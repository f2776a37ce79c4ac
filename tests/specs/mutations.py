"""Generates documents with one known mistake each, from valid specs and the types of their fields."""

import copy
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, cast, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import AfterValidator
from pydantic.fields import FieldInfo

import aezoo
from aezoo.plugins.registry import registry
from aezoo.specs.base import RegisteredSpec, Spec
from aezoo.specs.schema import FAMILIES
from aezoo.specs.tensor import Interval, Shape
from aezoo.specs.yaml import Document
from tests.examples import BY_FAMILY, LAYER_CASES, small

Json = Any
Steps = tuple[str | int, ...]
ROOT = Path(__file__).parents[2]
SECONDS = 2.0
"""CPU time that a rejection may take."""
LONGEST = 300
"""Characters of an error, without the file name."""


# -- valid specs --------------------------------------------------------------------------------------


def around(layers: list[Json], in_shape: tuple[int, ...]) -> Json:
    """A variant with these layers as its encoder, and a decoder that keeps the shape."""
    specs = tuple(map(aezoo.LayerSpec.model_validate, layers))
    shape = aezoo.LayerSequence.build(specs, in_shape, "layers").out_shape
    return small(
        input={"shape": list(in_shape)},
        target={"shape": list(shape or ())},
        encoder=layers,
        decoder=[{"kind": "batch_norm"}],
    )


def with_recipe(**changes: Json) -> Json:
    return small(recipe=small()["recipe"] | changes)


def with_stage(**changes: Json) -> Json:
    return with_recipe(stages=[{"kind": "fit", "epochs": 2, "early_stop": {"patience": 3}} | changes])


def with_loss(entry: Json) -> Json:
    if registry.get("loss", entry["kind"]).role == "reconstruction":
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
    decoder = [{"kind": "linear", "out_features": 108}, {"kind": "unflatten", "shape": shape}]
    return with_recipe(noises=[entry]) | {"input": {"shape": shape, "range": [-1, 1]}, "decoder": decoder}


def with_only_stage(entry: Json) -> Json:
    if entry["kind"] != "pca":
        return with_recipe(stages=[{"epochs": 2} | entry])
    encoder = [{"kind": "flatten"}, {"kind": "linear", "out_features": 8}]
    decoder = [{"kind": "linear", "out_features": 36}, {"kind": "unflatten", "shape": [1, 6, 6]}]
    return with_recipe(stages=[entry]) | {"encoder": encoder, "decoder": decoder}


PLACES: dict[str, Callable[[Json], Json]] = {
    "loss": with_loss,
    "noise": with_noise,
    "dataset": lambda entry: with_recipe(dataset=entry),
    "callback": lambda entry: with_recipe(callbacks=[entry]),
    "activation": lambda entry: around([{"kind": "linear", "out_features": 5, "activation": entry}], (7,)),
    "optimizer": lambda entry: with_stage(optimizer=entry),
    "schedule": lambda entry: with_stage(schedule=entry),
    "stage": with_only_stage,
}
"""Family -> function that puts an entry into a variant. Metrics are not part of a variant."""


def recipe_of_the_docs() -> Json:
    block = re.search(r"```yaml\n(recipe:.*?)```", (ROOT / "docs/specs.md").read_text(), re.DOTALL)
    assert block is not None
    return small(**cast(Json, Document(block[1], "specs.md").data))


@cache
def originals() -> dict[str, Json]:
    """Valid variants that contain every kind of every family, as plain data."""
    found: dict[str, Json] = {
        path.parent.name: Document.read(path).data for path in sorted(ROOT.glob("zoo/*/spec.yaml"))
    }
    found["docs"] = recipe_of_the_docs()
    found["target"] = small(target={"shape": [1, 6, 6], "range": [0, 1]}, references=["arXiv:1312.5663"])
    for index, (specs, in_shape) in enumerate(LAYER_CASES):
        entries = [spec.model_dump(mode="json", exclude_defaults=True) for spec in specs]
        found[f"{specs[-1].kind_name}-{index}"] = around(entries, in_shape)
    for family in FAMILIES:
        if place := PLACES.get(family.family):
            for kind in family.kinds():
                for index, options in enumerate(BY_FAMILY.get(family.family, {}).get(kind, [{}])):
                    found[f"{family.family}-{kind}-{index}"] = place({"kind": kind, **options})
    return found


# -- documents with known lines -----------------------------------------------------------------------


def written(data: Json) -> tuple[str, dict[Steps, int]]:
    """YAML with every value on a line of its own, and the line of each."""
    lines: list[str] = []
    line_numbers: dict[Steps, int] = {}

    def put(value: Json, steps: Steps, before: str, after: str) -> None:
        line_numbers[steps] = len(lines) + 1
        if type(value) in (dict, list) and value:
            is_mapping = type(value) is dict
            opening, closing = "{}" if is_mapping else "[]"
            lines.append(before + opening)
            keys = cast("dict[str, Json]", value) if is_mapping else range(len(value))
            for key in keys:
                put(value[key], (*steps, key), f"{json.dumps(key)}: " if is_mapping else "", ",")
            lines.append(closing + after)
        else:
            spelt = {"NaN": ".nan", "Infinity": ".inf", "-Infinity": "-.inf"}
            text = json.dumps(value, ensure_ascii=False)
            lines.append(before + spelt.get(text, text) + after)

    put(data, (), "", "")
    return "\n".join(lines), line_numbers


class Mutation(NamedTuple):
    """A document with one mistake.

    Attributes:
        label: the document and what was changed.
        text: the document.
        expected: path -> line of exactly the mistakes that the error must name.
    """

    label: str
    text: bytes
    expected: dict[str, int | None]


def dotted(steps: Steps) -> str:
    return ".".join(map(str, steps))


def steps_of(path: str) -> Steps:
    return tuple(int(part) if part.isdigit() else part for part in path.split(".") if part)


def mutation(label: str, data: Json, *mistakes: Steps) -> Mutation:
    """The document of some data, with mistakes at these places."""
    text, lines = written(data)
    expected: dict[str, int | None] = {}
    for steps in mistakes:
        # A missing value has no line; its mapping has one.
        near = next(steps[:end] for end in range(len(steps), -1, -1) if steps[:end] in lines)
        expected[dotted(steps)] = lines[near]
    return Mutation(label, text.encode(), expected)


def at(data: Json, steps: Steps) -> Json:
    for step in steps:
        data = data[step]
    return data


def changed(data: Json, steps: Steps, value: Json) -> Json:
    """A copy with one value replaced."""
    found = copy.deepcopy(data)
    at(found, steps[:-1])[steps[-1]] = value
    return found


def renamed(data: Json, steps: Steps, to: str | None) -> Json:
    """A copy with one key renamed, or removed if `to` is None."""
    found = copy.deepcopy(data)
    owner = at(found, steps[:-1])
    items = [(to if key == steps[-1] else key, value) for key, value in owner.items()]
    owner.clear()
    owner.update((key, value) for key, value in items if key is not None)
    return found


# -- mistakes that follow from the type of a field ----------------------------------------------------

WRONG: dict[str, Json] = {
    "text": "no such word", "number as text": "1", "integer": 7, "fraction": 0.5, "true": True,
    "null": None, "list": [], "mapping": {},
}  # fmt: skip
ACCEPTED: dict[Any, set[str]] = {
    str: {"text", "number as text"},
    int: {"integer"},
    float: {"integer", "fraction"},
    bool: {"true"},
    NoneType: {"null"},
}


class Mistake(NamedTuple):
    """A value that a field must reject, and the place of the mistake within the value."""

    label: str
    value: Json
    steps: Steps = ()


def members(annotation: Any, constraints: Iterable[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """The plain types that an annotation allows, each with its constraints."""
    found = [part for c in constraints for part in (c.metadata if isinstance(c, FieldInfo) else [c])]
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        yield from members(inner, [*more, *found])
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from members(part, found)
    else:
        yield annotation, found


def accepted(annotation: Any) -> set[str]:
    """Labels of the values in `WRONG` that a type accepts, or rejects at another place."""
    if get_origin(annotation) is tuple:
        return {"list"}
    if isinstance(annotation, type) and issubclass(annotation, RegisteredSpec):
        return {"text", "number as text", "mapping"}
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return {"mapping"}
    return ACCEPTED.get(annotation, set())


def mistakes(annotation: Any, constraints: Iterable[Any], now: Json) -> Iterator[Mistake]:
    """Values of a wrong type or out of range, according to the annotation."""
    types = list(members(annotation, constraints))
    right = {label for plain, _ in types for label in accepted(plain)}
    yield from (Mistake(label, value) for label, value in WRONG.items() if label not in right)
    for plain, rules in types:
        yield from out_of_range(plain, rules)
        if get_origin(plain) is tuple:
            yield from wrong_items(plain, now)
        if isinstance(plain, type) and issubclass(plain, RegisteredSpec):
            yield Mistake("unknown kind", "no such kind", ("kind",))
            yield Mistake("no kind", {}, ("kind",))
            yield Mistake("kind that is not a word", {"kind": 7}, ("kind",))


def out_of_range(plain: Any, rules: list[Any]) -> Iterator[Mistake]:
    for rule in rules:
        bound: Any = rule
        if isinstance(rule, AfterValidator):
            yield from BY_CHECK.get(rule, [])
        elif isinstance(rule, Ge):
            yield Mistake("below", bound.ge - 1)
        elif isinstance(rule, Gt):
            yield from (Mistake("at the open end", bound.gt), Mistake("below", bound.gt - 1))
        elif isinstance(rule, Le):
            yield from (Mistake("above", bound.le + 1), Mistake("far above", 10**30))
        elif isinstance(rule, Lt):
            yield from (Mistake("at the open end", bound.lt), Mistake("above", bound.lt + 1))
        elif isinstance(rule, MinLen):
            yield Mistake("short", ("x" * (rule.min_length - 1)) if plain is str else [])
        elif isinstance(rule, MaxLen) and plain is str:
            yield Mistake("long", "x" * (rule.max_length + 1))
        elif isinstance(rule, MaxLen) and rule.max_length < 10:
            yield Mistake("long", [1] * (rule.max_length + 1))
    for value in ("nan", "inf", "-inf") if plain in (int, float) else ():
        yield Mistake(value, float(value))


def wrong_items(plain: Any, now: Json) -> Iterator[Mistake]:
    inner, *others = get_args(plain)
    items: list[Json] = cast(list[Json], now) if isinstance(now, list) else []
    if items or others == [...]:
        for label, value, steps in mistakes(inner, (), items[0] if items else None):
            yield Mistake(f"item: {label}", [value, *items[1:]], (0, *steps))
    if items and others != [...]:
        yield Mistake("one too few", items[:-1], (len(items) - 1,))
        yield Mistake("one too many", [*items, items[-1]])


# Constraints in code rather than in the annotation: by validator, or by field.
BY_CHECK: dict[Any, list[Mistake]] = {
    cast(Any, Shape).__metadata__[-1]: [
        Mistake("overflow", [2**31 - 1] * 4),
        Mistake("just too large", [2**16, 2**15]),
    ],
    cast(Any, Interval).__metadata__[0]: [Mistake("descending", [1, 0]), Mistake("empty", [0, 0])],
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
        for index, item in enumerate(cast(tuple[object, ...], value)):
            yield from specs_in(item, (*steps, index))


def mistyped(word: str, known: Iterable[str], rng: random.Random) -> str:
    """A word with a typing mistake that is not one of the known words."""
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
    """Every mistake that the types of the fields allow, each with the categories it belongs to."""
    spec = aezoo.VariantSpec.model_validate(data)
    # With all defaults, so that every field is mutated.
    whole = spec.model_dump(mode="json")
    for steps, cls in specs_in(spec):
        owner = at(whole, steps)
        for field, info in cls.model_fields.items():
            # A field that two classes inherit is one category.
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
                word = mistyped(owner[field], cast(type[RegisteredSpec], cls).kinds(), rng)
                yield {(cls, field, "typo")}, rename(slip, here)
                yield {(cls, field, "missing")}, rename(None, here)
                yield {(cls, field, "unknown")}, make("unknown", word, here)
                found = [
                    Mistake(label, value) for label, value in WRONG.items() if label not in ACCEPTED[str]
                ]
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
                # Every field once, and every category of mistake that its type allows in one such field.
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
# Layer, input shape, and the field that does not fit.
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
        inner: Steps = steps_of(field)
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


def text_mutations(name: str, text: str, rng: random.Random) -> Iterator[Mutation]:
    """Mistakes of syntax."""

    def broken(label: str, new: str | bytes, expected: dict[str, int | None]) -> Mutation:
        return Mutation(f"{name}: {label}", new if isinstance(new, bytes) else new.encode(), expected)

    lines = text.rstrip("\n").split("\n")
    last = len(lines) + 1
    whole = "\n".join(lines) + "\n"
    document = Document(whole, name)
    for key in cast(Json, document.data):
        yield broken(f"{key} twice", f"{whole}{key}: 1\n", {key: last})
    kind = rng.choice(re.findall(r"\{kind: (\w+)", text))
    inside = whole.replace(f"{{kind: {kind}", f"{{kind: {kind}, kind: {kind}", 1)
    first = line_of(whole, f"{{kind: {kind}")
    path = next(
        p for p, line in document.lines.items() if line == first and at(document.data, steps_of(p)) == kind
    )
    yield broken(f"kind {kind} twice", inside, {path: first})
    yield broken("alias", f"{whole}a: &a [x]\nb: *a\n", {"": last + 1})
    yield broken("alias of nothing", f"{whole}b: *a\n", {"": last})
    yield broken("second document", f"{whole}---\n{whole}", {"": last})
    yield broken("end in the middle", f"{whole}...\n{whole}", {"": last + 1})
    yield broken("tag", f"{whole}target: !!python/object/apply:os.system [x]\n", {"": last})
    yield broken("tag of a value", f"{whole}target: !secret x\n", {"": last})
    yield broken("tag of a mapping", f"{whole}target: !secret {{}}\n", {"": last})
    yield broken("tag of another type", f"{whole}target: !!int x\n", {"": last})
    yield broken("tag of a number", f"{whole}target: !!float x\n", {"": last})
    yield broken("list as key", f"{whole}? [a, b]\n: 1\n", {"": last})
    yield broken("mapping as key", f"{whole}? {{a: b}}\n: 1\n", {"": last})
    yield broken("line break in a key", f'{whole}"a\\nb": 1\n', {"": last})
    yield broken("surrogate in a key", f'{whole}"\\ud800": 1\n', {"": last})
    yield broken("long key", f"{whole}{'k' * 900}: 1\n", {"": last})
    yield broken("character outside Unicode", f'{whole}"\\U00110000": 1\n', {"": last})
    yield broken("character beyond 32 bits", f'{whole}"\\UFFFFFFFF": 1\n', {"": last})
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
    # Short documents first, which are validated faster.
    for name, data in sorted(originals().items(), key=lambda item: len(str(item[1]))):
        for categories, make in mutations_of(name, data, rng):
            # One mistake of every category, and a few of them again in other places.
            if not categories <= seen or rng.random() < 0.005:
                seen |= categories
                found.append(make())
    found += misfits()
    for path in sorted(ROOT.glob("zoo/*/spec.yaml"))[::2]:
        found += text_mutations(path.parent.name, path.read_text(), rng)
    return tuple(found)
