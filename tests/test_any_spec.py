"""Property-based tests: every valid spec builds, runs, is saved and loaded bit for bit, and survives YAML and JSON.

Specs are drawn by the types of their fields, so that new kinds are drawn without a change here.
"""

import json
import math
import random
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import jsonschema
import pytest
import torch
from annotated_types import Ge, Gt, Le, Lt, MinLen
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import aezoo
from aezoo.model.sequential import LayerBuilder
from aezoo.specs.base import RegisteredSpec, Spec
from aezoo.specs.schema import FAMILIES, spec_sha256
from aezoo.specs.tensor import Interval, Shape
from aezoo.specs.yaml import Document
from tests.examples import BY_FAMILY, before, small
from tests.specs.mutations import members

Json = Any
Sizes = tuple[int, ...]
MOST = 3
"""Largest number that is drawn, and length of the longest list."""
FEATURES = 300
"""Largest number of values after a layer, which keeps the examples quick."""

CLASSES = {family.family: {kind: family.of_kind(kind) for kind in family.kinds()} for family in FAMILIES}
LAYERS = CLASSES["layer"]
NESTS = {kind for kind, cls in LAYERS.items() if "layers" in cls.model_fields}
RECONSTRUCTIONS = [kind for kind, cls in CLASSES["loss"].items() if cls.role == "reconstruction"]  # type: ignore[attr-defined]
PENALTIES = [kind for kind in CLASSES["loss"] if kind not in RECONSTRUCTIONS]


@contextmanager
def same_random_state() -> Generator[None]:
    """Restores Python's random state, which beartype advances and strategies must not."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


# -- values by type -----------------------------------------------------------------------------------


def values(annotation: Any, constraints: Iterable[Any] = ()) -> st.SearchStrategy[Json]:
    """Valid values of a field of this type, as plain data."""
    return st.one_of([_values(plain, rules) for plain, rules in members(annotation, constraints)])


def _values(plain: Any, rules: list[Any]) -> st.SearchStrategy[Json]:
    if get_origin(plain) is Literal:
        return st.sampled_from(get_args(plain))
    if plain is NoneType:
        return st.none()
    if plain is bool:
        return st.booleans()
    if plain is str:
        if pattern := next((rule.pattern for rule in rules if getattr(rule, "pattern", None)), None):
            return st.from_regex(pattern, fullmatch=True)
        least = max((rule.min_length for rule in rules if isinstance(rule, MinLen)), default=1)
        return st.text(min_size=least, max_size=8)
    if plain in (int, float):
        return _numbers(plain, rules)
    if get_origin(plain) is tuple:
        if Interval.__metadata__[0] in rules:  # type: ignore[attr-defined]
            return st.tuples(st.integers(-MOST, 0), st.floats(0.5, MOST)).map(list)
        inner, *others = get_args(plain)
        if others == [...]:
            least = max((rule.min_length for rule in rules if isinstance(rule, MinLen)), default=0)
            items = values(inner)
            # A family may have no kinds.
            return st.lists(items, min_size=least, max_size=0 if items.is_empty else MOST)
        return st.tuples(*(values(part) for part in (inner, *others))).map(list)
    if issubclass(plain, RegisteredSpec):
        return entries(plain)
    assert issubclass(plain, Spec), plain
    return mappings(plain)


def _numbers(plain: type, rules: list[Any]) -> st.SearchStrategy[Json]:
    low = max((rule.ge for rule in rules if isinstance(rule, Ge)), default=-MOST)
    high = min((rule.le for rule in rules if isinstance(rule, Le)), default=MOST)
    if plain is int:
        return st.integers(low, min(high, low + MOST))
    # Not too close to an open end: 1 / 1e-300 is infinite.
    low = max([low, *(rule.gt + 0.1 for rule in rules if isinstance(rule, Gt))])
    high = min([high, MOST, *(rule.lt - 0.1 for rule in rules if isinstance(rule, Lt))])
    return st.floats(low, high)


def entries(family: type[RegisteredSpec], kinds: Iterable[str] | None = None) -> st.SearchStrategy[Json]:
    """An entry of a family: a mapping, or a word if all fields have their defaults."""
    classes = CLASSES[family.family]
    return st.one_of([
        mappings(classes[kind]).filter(lambda data: _is_valid(family, data)).map(_short)
        for kind in (classes if kinds is None else kinds)
    ])  # fmt: skip


def mappings(cls: type[Spec]) -> st.SearchStrategy[Json]:
    fields = {name: values(info.annotation, info.metadata) for name, info in cls.model_fields.items()}
    needed = {name: s for name, s in fields.items() if cls.model_fields[name].is_required() or name == "kind"}
    return st.fixed_dictionaries(needed, optional={k: s for k, s in fields.items() if k not in needed})


def _is_valid(cls: type[Spec], data: Json) -> bool:
    # Some validators compare fields.
    with same_random_state():
        try:
            cls.model_validate(data)
        except ValidationError:
            return False
        return True


def _short(data: Json) -> Json:
    return data["kind"] if len(data) == 1 else data


# -- layers that fit ----------------------------------------------------------------------------------


def shape_after(layer: Json | list[Json], in_shape: Sizes) -> Sizes | None:
    """The shape after one or more layers; None if they do not fit."""
    with same_random_state():
        try:
            entries = layer if isinstance(layer, list) else [layer]
            specs = [aezoo.LayerSpec.model_validate(entry) for entry in entries]
            with torch.device("meta"):
                return LayerBuilder().sequence(specs, in_shape, "layers").out_shape
        except (ValidationError, aezoo.SpecError):
            return None


@st.composite
def factors(draw: st.DrawFn, features: int) -> list[int]:
    """Sizes whose product is the number of features."""
    sizes: list[int] = []
    for _ in range(draw(st.integers(0, 3))):
        size = draw(st.sampled_from([n for n in range(1, features + 1) if features % n == 0]))
        sizes.append(size)
        features //= size
    return [*sizes, features]


@st.composite
def layers(draw: st.DrawFn, kind: str, in_shape: Sizes, depth: int = 2) -> Json:
    """A layer of this kind, which may not fit; optional fields that do not fit are left out."""
    data: Json = {"kind": kind}
    fields = {name: info for name, info in LAYERS[kind].model_fields.items() if name != "kind"}
    for name, info in sorted(fields.items(), key=lambda item: not item[1].is_required()):
        if not info.is_required() and not draw(st.booleans()):
            continue
        if Shape.__metadata__[-1] in info.metadata:  # type: ignore[attr-defined]
            value = draw(factors(math.prod(in_shape)))
        elif any(part is aezoo.LayerSpec for part in get_args(info.annotation)):
            value = draw(stacks(in_shape, 2, depth - 1, keep=True))
        else:
            value = draw(values(info.annotation, info.metadata))
        if info.is_required() or shape_after({**data, name: value}, in_shape) is not None:
            data[name] = value
    return data


@st.composite
def stacks(draw: st.DrawFn, in_shape: Sizes, most: int, depth: int = 2, keep: bool = False) -> list[Json]:
    """Layers that fit one another, and do not change the shape if `keep` is set."""
    found: list[Json] = []
    shape = in_shape
    kinds = [kind for kind in LAYERS if depth or kind not in NESTS]
    for _ in range(draw(st.integers(1, most))):
        layer = draw(layers(draw(st.sampled_from(kinds)), shape, depth))
        # Together with earlier layers, because names that layers emit must not clash.
        after = shape_after([*found, layer], in_shape)
        if after is None or math.prod(after) > FEATURES or (keep and after != in_shape):
            continue
        found.append(layer)
        shape = after
    # At least one layer is needed, and this one fits everywhere.
    return found or [{"kind": "lifetime", "rate": 1}]


def shape_of(stack: list[Json], in_shape: Sizes) -> Sizes:
    return (shape_after(stack, in_shape) or ()) if stack else in_shape


def back_to(shape: Sizes, latents: Sizes) -> list[Json]:
    """Layers from any latents to any shape."""
    return [
        *([{"kind": "flatten"}] if len(latents) > 1 else []),
        {"kind": "linear", "out_features": math.prod(shape)},
        *([{"kind": "unflatten", "shape": list(shape)}] if len(shape) > 1 else []),
    ]


INPUTS = st.one_of(
    st.tuples(st.integers(1, 9)),
    st.tuples(st.integers(1, 3), st.integers(1, 9)),
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
)


@st.composite
def recipes(draw: st.DrawFn) -> Json:
    data = draw(mappings(aezoo.RecipeSpec))
    data["reconstruction"] = draw(entries(aezoo.LossSpec, RECONSTRUCTIONS))
    data["penalties"] = draw(st.lists(entries(aezoo.LossSpec, PENALTIES), max_size=2 if PENALTIES else 0))
    return data


@st.composite
def variants(draw: st.DrawFn, recipe: bool = False) -> Json:
    """A variant as plain data."""
    shape = draw(INPUTS)
    encoder = draw(stacks(shape, 6))
    latents = shape_of(encoder, shape)
    more = draw(stacks(latents, 3)) if draw(st.booleans()) else []
    # Names that the decoder emits must not clash with the encoder's.
    more = more if shape_after([*encoder, *more], shape) is not None else []
    target = draw(st.none() | INPUTS)
    data = small(input={"shape": list(shape)}, encoder=encoder)
    data["decoder"] = [*more, *back_to(target or shape, shape_of(more, latents))]
    if target is not None:
        data["target"] = {"shape": list(target), "range": draw(values(Interval))}
    if recipe:
        data["recipe"] = draw(recipes().filter(lambda found: _is_valid(aezoo.RecipeSpec, found)))
        data["summary"] = draw(st.text(min_size=1, max_size=20))
        data["references"] = draw(st.lists(st.text(min_size=1, max_size=8), max_size=2))
    return data


# -- properties ---------------------------------------------------------------------------------------


def assert_runs_and_survives_a_folder(spec: aezoo.VariantSpec) -> None:
    """Runs forward and backward in both modes, and gives the same bits after saving and loading."""
    ae = aezoo.build(spec, seed=1)
    x = torch.rand(3, *spec.input.shape, generator=torch.Generator().manual_seed(2))
    for training in (True, False):
        ae.train(training)
        ae.zero_grad()
        out = ae(x)
        assert out.latents.shape == (3, *ae.latent_shape)
        assert out.x_hat.shape == (3, *spec.output.shape)
        assert out.x_hat.isfinite().all()
        out.x_hat.square().mean().backward()
        for name, parameter in ae.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
    with tempfile.TemporaryDirectory() as parent:
        loaded = aezoo.load(aezoo.save(ae, Path(parent) / "any"))
    with torch.no_grad():
        first, after = ae(x), loaded(x)
    assert loaded.spec == spec.resolved()
    assert loaded.shapes == ae.shapes
    assert torch.equal(first.latents, after.latents)
    assert torch.equal(first.x_hat, after.x_hat)


# The alignment of tensors in memory decides in which order such a product is summed up.
PRODUCT = small(
    input={"shape": [9]},
    encoder=[{"kind": "linear", "out_features": 1}],
    decoder=[{"kind": "linear", "out_features": 9}],
)


@settings(max_examples=30, deadline=None)
@given(data=variants())
@example(data=PRODUCT)
def test_any_valid_variant_runs_and_survives_a_folder(data: Json) -> None:
    assert_runs_and_survives_a_folder(aezoo.VariantSpec.model_validate(data))


@pytest.mark.parametrize("kind", aezoo.LayerSpec.kinds())
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_any_layer_of_every_kind_runs_and_survives_a_folder(kind: str, data: st.DataObject) -> None:
    options, in_shape = data.draw(st.sampled_from(BY_FAMILY["layer"][kind]))
    needed = before(kind, options)
    # A layer that needs the switches of another must agree with it in every field.
    encoder = [*needed, {"kind": kind, **options}] if needed else [data.draw(layers(kind, in_shape))]
    after = shape_after(encoder, in_shape)
    assume(after is not None)
    variant = small(input={"shape": list(in_shape)}, encoder=encoder, decoder=back_to(in_shape, after or ()))
    assert_runs_and_survives_a_folder(aezoo.VariantSpec.model_validate(variant))


@cache
def validator() -> Any:
    return jsonschema.Draft202012Validator(aezoo.json_schema())


@settings(max_examples=30, deadline=None)
@given(data=variants(recipe=True))
@example(data=small(summary="tab\t, break\n, return\r, \x85, \u2028, \u2029, \ufeff, bell\x07, \U0001f40d"))
@example(
    data=small(summary=" 'a' \"b\" # c: - d ", references=["yes", "~", "1e3", "0x1", "{}", "*a", "!b", " "])
)
def test_any_valid_variant_survives_yaml_and_json_and_matches_the_schema(data: Json) -> None:
    spec = aezoo.VariantSpec.model_validate(data)
    text = aezoo.to_yaml(spec)
    assert Document(text, "any.yaml").as_spec(aezoo.VariantSpec) == spec
    # With every default written out, spec and hash are the same.
    whole = spec.model_dump(mode="json")
    assert aezoo.VariantSpec.model_validate(whole) == spec
    assert aezoo.VariantSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec_sha256(aezoo.VariantSpec.model_validate(json.loads(json.dumps(whole)))) == spec_sha256(spec)
    for form in (data, whole, Document(text, "any.yaml").data):
        assert [error.message for error in validator().iter_errors(form)] == []


@settings(max_examples=25, deadline=None)
@given(data=variants())
def test_any_valid_variant_validates_from_a_file_and_resolves_to_the_same_network(data: Json) -> None:
    spec = aezoo.VariantSpec.model_validate(data)
    with tempfile.TemporaryDirectory() as parent:
        path = Path(parent) / "spec.yaml"
        path.write_text(aezoo.to_yaml(spec), encoding="utf-8")
        assert aezoo.validate(path) == spec
    written_out = aezoo.build(spec.resolved(), seed=3).state_dict()
    for name, tensor in aezoo.build(spec, seed=3).state_dict().items():
        assert torch.equal(written_out[name], tensor), name
