"""Spec classes: round trips, changes, and families whose members are selected by `kind`."""

import pickle
from typing import Any, Literal

import pydantic
import pytest
import yaml
from pydantic import Field

import aezoo
from aezoo.specs.base import Count, RegisteredSpec, check
from aezoo.specs.schema import FAMILIES
from aezoo.specs.stages import CosineSpec, FitStage
from aezoo.specs.yaml import Document
from tests.examples import BY_FAMILY, small, small_spec


def test_round_trips_are_exact() -> None:
    spec = small_spec()
    assert aezoo.VariantSpec.model_validate_json(spec.model_dump_json()) == spec
    assert aezoo.VariantSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert Document(aezoo.to_yaml(spec), "spec.yaml").as_spec(aezoo.VariantSpec) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert hash(pickle.loads(pickle.dumps(spec))) == hash(spec)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.family in BY_FAMILY], ids=lambda f: f.family)
def test_every_example_of_every_kind_round_trips(family: Any) -> None:
    for kind, cases in BY_FAMILY[family.family].items():
        for case in cases:
            options = case[0] if family.family == "layer" else case
            spec = family.model_validate({"kind": kind, **options})
            assert family.model_validate_json(spec.model_dump_json()) == spec
            short = spec.model_dump(mode="json", exclude_defaults=True)
            assert short == {"kind": kind, **short}
            assert family.model_validate(short) == spec


def test_a_string_is_a_kind_with_defaults() -> None:
    stages = [{"kind": "fit", "epochs": 1, "schedule": "cosine"}]
    stage = small_spec(recipe={"reconstruction": "mse", "stages": stages}).recipe.stages[0]
    assert isinstance(stage, FitStage)
    assert stage.schedule == CosineSpec()


def test_specs_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        small_spec().name = "other"  # pyright: ignore[reportAttributeAccessIssue]


# -- replace ------------------------------------------------------------------------------------------


def test_replace_changes_a_copy() -> None:
    spec = small_spec()
    other: Any = spec.replace({"encoder.2.k": 5, "recipe.batch_size": 7})
    assert (other.encoder[2].k, other.recipe.batch_size) == (5, 7)
    assert spec == small_spec()
    nested = spec.replace({"recipe.reconstruction": {"kind": "bce"}, "encoder.1.activation": None})
    assert nested.recipe.reconstruction.kind_name == "bce"


def test_replace_sets_a_field_that_had_its_default() -> None:
    assert small_spec().replace({"target": {"shape": [1, 6, 6]}}).target is not None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder.2.k": True}, "encoder.2.k: expected an integer, found True"),
        ({"encoder.9.k": 5}, "encoder.9.k: encoder has entries 0 to 2, found '9'"),
        ({"recip.seed": 5}, "recip.seed: the spec has no 'recip' (did you mean 'recipe'?)"),
        ({"recipe.sead": 5}, "recipe.sead: unknown key (did you mean 'seed'?)"),
        ({"name.x": 5}, "name.x: name is a single value and has no 'x'"),
        ({"recipe.stages": []}, "recipe.stages: expected at least 1 entries, found 0"),
    ],
)
def test_replace_rejects_invalid_changes_by_path(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(aezoo.SpecError) as error:
        small_spec().replace(changes)
    assert words in str(error.value)


# -- unions of sizes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, [3, 2]])
def test_a_size_keeps_its_form(size: Any) -> None:
    spec = aezoo.LayerSpec.model_validate({"kind": "conv", "out_channels": 4, "kernel_size": size})
    assert spec.model_dump(mode="json")["kernel_size"] == size


@pytest.mark.parametrize(
    ("field", "value", "path", "words"),
    [
        ("kernel_size", 0, "kernel_size", "expected greater than or equal to 1, found 0"),
        ("kernel_size", [3, 0], "kernel_size.1", "expected greater than or equal to 1, found 0"),
        ("kernel_size", [3, "x"], "kernel_size.1", "expected an integer, found 'x'"),
        ("kernel_size", [], "kernel_size", "expected at least 1 entries, found 0"),
        ("kernel_size", [1] * 4, "kernel_size", "expected at most 3 entries, found 4"),
        ("kernel_size", 1.5, "kernel_size", "expected an integer or a list, found 1.5"),
        ("kernel_size", True, "kernel_size", "expected an integer or a list, found True"),
        ("kernel_size", None, "kernel_size", "expected an integer or a list, found None"),
        ("padding", "valid", "padding", "expected 'same', found 'valid'"),
        ("padding", {}, "padding", "expected an integer or a list or a word, found {}"),
        ("padding", -1, "padding", "expected greater than or equal to 0, found -1"),
    ],
)
def test_a_wrong_size_is_one_mistake(field: str, value: Any, path: str, words: str) -> None:
    layer = {"kind": "conv", "out_channels": 4, "kernel_size": 3, field: value}
    with pytest.raises(aezoo.SpecError) as error:
        check(aezoo.VariantSpec, small(encoder=[layer]))
    (problem,) = error.value.problems
    assert (problem.path, problem.message) == (f"encoder.0.{path}", words)


# -- definitions of classes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (str, "bad"),
        (Literal["bad"], "other"),
        (Literal["bad"], ...),
        (Literal["bad", "worse"], "bad"),
        (Literal["bad"] | None, None),
        (Literal[3], 3),
    ],
    ids=["no literal", "another default", "no default", "two words", "optional", "no word"],
)
def test_a_kind_is_a_literal_of_one_word(annotation: Any, default: Any) -> None:
    with pytest.raises(TypeError, match=r'^Bad: write kind as `kind: Literal\["name"\] = "name"`$'):
        pydantic.create_model("Bad", __base__=aezoo.LayerSpec, kind=(annotation, default))


@pytest.mark.parametrize("config", [{"extra": "allow"}, {"extra": "ignore"}, {"frozen": False}], ids=str)
def test_a_spec_cannot_be_open_or_mutable(config: dict[str, Any]) -> None:
    kind: Any = (Literal["bad"], "bad")
    with pytest.raises(TypeError, match=r"^Bad: a spec keeps extra='forbid' and frozen=True$"):
        pydantic.create_model("Bad", __base__=aezoo.LayerSpec, __cls_kwargs__=config, kind=kind)


def test_a_closed_family_takes_no_kinds_of_plugins() -> None:
    relu = aezoo.ActivationSpec.of_kind("relu")
    with pytest.raises(TypeError, match=r"Relu: activation is a closed family"):

        class Relu(aezoo.ActivationSpec):  # pyright: ignore[reportUnusedClass]
            kind: Literal["relu"] = "relu"

    assert aezoo.ActivationSpec.of_kind("relu") is relu


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_abstract(family: type[RegisteredSpec]) -> None:
    text = f"^{family.__name__} is abstract; use one of its kinds$"
    for make in (family, family.model_construct):
        with pytest.raises(TypeError, match=text):
            make()


def test_a_class_without_its_methods_is_abstract() -> None:
    class Unfinished(aezoo.LayerSpec):
        kind: Literal["unfinished"] = "unfinished"

    with pytest.raises(TypeError, match=r"abstract class Unfinished .*build"):
        Unfinished()  # pyright: ignore[reportAbstractUsage]


@pytest.mark.usefixtures("fresh_registry")
def test_a_plain_union_of_a_plugin_is_reported_by_path() -> None:
    @aezoo.register
    class Either(aezoo.NoiseSpec):  # pyright: ignore[reportUnusedClass]
        kind: Literal["either"] = "either"
        size: Count | tuple[Count, ...] = 1
        names: tuple[str, ...] = Field(("a",), min_length=2)

        def __call__(self, x: Any, generator: Any) -> Any:
            return x

    recipe = small()["recipe"] | {"noises": [{"kind": "either", "size": "x", "names": [1]}]}
    with pytest.raises(aezoo.SpecError) as error:
        Document(yaml.safe_dump(small(recipe=recipe)), "x.yaml").as_spec(aezoo.VariantSpec)
    found = {problem.path: problem.message for problem in error.value.problems}
    assert found == {
        "recipe.noises.0.size": "expected an integer, found 'x'; or expected a list, found 'x'",
        "recipe.noises.0.names.0": "expected a string, found 1",
        "recipe.noises.0.names": "expected at least 2 entries, found 1",
    }
