"""Specs as data: exact round trips, strict types, changes that are checked."""

import pickle
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import aezoo
from aezoo.specs.schema import FAMILIES, spec_sha256
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
            assert family.model_validate(spec.model_dump(mode="json", exclude_defaults=True)) == spec


def test_a_bare_word_stands_for_a_kind_with_defaults() -> None:
    stages = [{"kind": "fit", "epochs": 1, "schedule": "cosine"}]
    recipe = small_spec(recipe={"reconstruction": "mse", "stages": stages}).recipe
    stage = recipe.stages[0]
    assert isinstance(stage, FitStage)
    assert stage.schedule == CosineSpec()


def test_specs_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        small_spec().name = "other"  # type: ignore[misc]


def test_replace_changes_a_copy_and_checks_it() -> None:
    spec = small_spec()
    other = spec.replace({"encoder.2.k": 5, "recipe.batch_size": 7})
    assert (other.encoder[2].k, other.recipe.batch_size) == (5, 7)  # type: ignore[attr-defined]
    assert spec == small_spec()
    nested = spec.replace({"recipe.reconstruction": {"kind": "bce"}, "encoder.1.activation": None})
    assert nested.recipe.reconstruction.kind_name == "bce"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder.2.k": "5"}, "encoder.2.k: expected an integer, found '5'"),
        ({"encoder.2.k": True}, "encoder.2.k: expected an integer, found True"),
        ({"encoder.2.k": 0}, "encoder.2.k: expected greater than or equal to 1, found 0"),
        ({"encoder.9.k": 5}, "encoder.9.k: encoder has entries 0 to 2, found '9'"),
        ({"recip.seed": 5}, "recip.seed: the spec has no 'recip' (did you mean 'recipe'?)"),
        ({"recipe.sead": 5}, "recipe.sead: unknown key (did you mean 'seed'?)"),
        ({"name.x": 5}, "name.x: name is a single value and has no 'x'"),
        ({"recipe.stages": []}, "recipe.stages: expected 1 to 1000 entries, found 0"),
    ],
)
def test_replace_refuses_with_the_path(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(aezoo.SpecError) as error:
        small_spec().replace(changes)
    assert words in str(error.value)


def test_replace_can_set_a_value_that_was_left_out() -> None:
    assert small_spec().replace({"target": {"shape": [1, 6, 6]}}).target is not None


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"summry": "x"}, "summry", "unknown key (did you mean 'summary'?)"),
        ({"name": "Sparse_1"}, "name", "'Sparse_1' is no variant name"),
        ({"name": "a.b.c"}, "name", "is no variant name"),
        ({"name": "a..b"}, "name", "is no variant name"),
        ({"input": {"shape": [1, 6, 6], "range": [1, 0]}}, "input.range", "expected the smaller value first"),
        ({"input": {"shape": []}}, "input.shape", "expected 1 to 4 sizes, found 0"),
        ({"input": {"shape": [1.5]}}, "input.shape.0", "expected an integer, found 1.5"),
        ({"input": {"shape": [2**40]}}, "input.shape.0", "expected less than or equal to"),
        ({"encoder": "flatten"}, "encoder", "expected a list"),
        ({"encoder": [5]}, "encoder.0", "expected a layer: a word or a mapping with `kind`, found 5"),
        ({"encoder": [{"out_features": 5}]}, "encoder.0.kind", "missing; one of avg_pool, "),
        ({"encoder": [{"kind": 5}]}, "encoder.0.kind", "not a word"),
        ({"encoder": [{"kind": "toppk", "k": 5}]}, "encoder.0.kind", "unknown layer 'toppk' (did you mean 'topk'?)"),
        ({"encoder": [{"kind": "topk", "k": 1, "K": 5}]}, "encoder.0.K", "unknown key"),
        ({"encoder": [{"kind": "topk"}]}, "encoder.0.k", "missing"),
        ({"encoder": [{"kind": "linear", "out_features": 3, "dropout": 1}]}, "encoder.0.dropout", "less than 1"),
        ({"encoder": [{"kind": "linear", "out_features": 3, "activation": "rleu"}]}, "encoder.0.activation.kind", "'relu'"),
        ({"encoder": [{"kind": "linear", "out_features": 3, "activation": {"kind": "relu", "a": 1}}]}, "encoder.0.activation.a", "unknown key"),
        ({"encoder": [{"kind": "residual", "layers": [{"kind": "topk", "k": 1, "q": 1}]}]}, "encoder.0.layers.0.q", "unknown key"),
        ({"recipe": {"reconstruction": "mse", "stages": [{"kind": "fit"}]}}, "recipe.stages.0.epochs", "missing"),
        ({"recipe": {"reconstruction": "mse", "penalties": ["mse"], "stages": [{"kind": "fit", "epochs": 1}]}}, "recipe.penalties", "'mse' is a reconstruction, a penalty is expected here"),
        ({"recipe": {"reconstruction": "mse", "stages": [{"kind": "fit", "epochs": 1, "optimizer": {"kind": "adam", "lr": -1}}]}}, "recipe.stages.0.optimizer.lr", "greater than 0"),
        ({"recipe": {"reconstruction": "mse", "stages": [{"kind": "fit", "epochs": 1, "optimizer": {"kind": "adam", "lr": float("nan")}}]}}, "recipe.stages.0.optimizer.lr", "finite"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_path_and_expectation(change: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(aezoo.SpecError) as error:
        Document(yaml.safe_dump(small(**change)), "spec.yaml").as_spec(aezoo.VariantSpec)
    (problem,) = error.value.problems
    assert problem.path == path
    assert words in problem.message
    assert problem.line is not None


def test_all_mistakes_of_a_file_come_at_once() -> None:
    text = yaml.safe_dump(
        small(summary=5, references="x", encoder=[{"kind": "topk", "k": "5"}, {"kind": "nix"}])
    )
    with pytest.raises(aezoo.SpecError) as error:
        Document(text, "spec.yaml").as_spec(aezoo.VariantSpec)
    assert {p.path for p in error.value.problems} == {
        "summary",
        "references",
        "encoder.0.k",
        "encoder.1.kind",
    }
    assert len(str(error.value).splitlines()) == 4


def test_resolving_writes_out_every_repeat_and_default() -> None:
    nested = {"kind": "residual", "layers": [{"kind": "linear", "out_features": 8, "repeat": 2}], "repeat": 2}
    spec = small_spec(encoder=["flatten", {"kind": "linear", "out_features": 8}, nested])
    resolved = spec.resolved()
    assert [layer.kind_name for layer in resolved.encoder] == [
        "flatten",
        "linear",
        "residual",
        "residual",
    ]
    assert len(resolved.encoder[2].layers) == 2  # type: ignore[attr-defined]
    assert all(layer.repeat == 1 for layer in resolved.encoder)
    assert resolved.resolved() == resolved
    assert resolved.model_dump(mode="json")["encoder"][1]["activation"] is None


def test_spec_hash_follows_what_the_spec_means() -> None:
    spec = small_spec()
    longhand = spec.model_dump(mode="json")
    assert spec_sha256(aezoo.VariantSpec.model_validate(longhand)) == spec_sha256(spec)
    assert spec_sha256(spec.replace({"recipe.seed": 1})) != spec_sha256(spec)
    repeated = small_spec(
        decoder=[{"kind": "linear", "out_features": 36, "repeat": 2}, *small()["decoder"][1:]]
    )
    written_out = small_spec(decoder=[*[{"kind": "linear", "out_features": 36}] * 2, *small()["decoder"][1:]])
    assert spec_sha256(repeated) == spec_sha256(written_out)


# -- YAML ---------------------------------------------------------------------------------------------


def parsed(text: str) -> Any:
    return Document(text, "x.yaml").data


def test_yaml_follows_version_1_2() -> None:
    text = "{a: 1e-3, b: on, c: 010, d: 1:30, e: ~, f: true, g: -2.5, h: 2001-01-01, i: .5, j: 'x', k: 1_000}"
    assert parsed(text) == {
        "a": 0.001, "b": "on", "c": 10, "d": "1:30", "e": None, "f": True, "g": -2.5, "h": "2001-01-01",
        "i": 0.5, "j": "x", "k": "1_000",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3", 3, "a: the key stands here twice"),
        ("a: {b: 1,\n b: 2}", 2, "a.b: the key stands here twice"),
        ("a: &x [1]\nb: *x", 2, "aliases are not read"),
        ("a: [1, 2", 1, "not YAML"),
        ("a: !!python/object:os.system x", 1, "is not read"),
        ("[" * 100 + "]" * 100, 1, "nested deeper than 40 levels"),
        ("[1, 2]", 1, "expected a mapping, found list"),
        ("", 1, "expected a mapping, found NoneType"),
        ("a: 1\n---\nb: 2", 2, "not YAML"),
    ],
)
def test_yaml_that_is_refused(text: str, line: int, words: str) -> None:
    with pytest.raises(aezoo.SpecError) as error:
        Document(text, "x.yaml").as_spec(aezoo.VariantSpec)
    assert str(error.value).startswith(f"x.yaml:{line}: ")
    assert words in str(error.value)


def test_a_yaml_bomb_is_refused_before_it_grows() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    with pytest.raises(aezoo.SpecError, match="aliases are not read"):
        parsed("\n".join(lines))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(aezoo.SpecError, match=r"none\.yaml: No such file"):
        aezoo.read_spec(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: a\nsummary: \xe9t\xe9\n")
    with pytest.raises(aezoo.SpecError, match=r"latin\.yaml:2: not UTF-8"):
        aezoo.read_spec(tmp_path / "latin.yaml")
    (tmp_path / "huge.yaml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(aezoo.SpecError, match="larger than 1,000,000 bytes"):
        aezoo.read_spec(tmp_path / "huge.yaml")


def test_schema_version_is_read_and_a_newer_one_refused() -> None:
    older = Document(yaml.safe_dump(small(schema_version=1)), "x.yaml").as_spec(aezoo.VariantSpec)
    assert older == small_spec()
    with pytest.raises(aezoo.CheckpointError, match=r"schema version 2, this aezoo reads up to 1"):
        Document(yaml.safe_dump(small(schema_version=2)), "x.yaml").as_spec(aezoo.VariantSpec)
    with pytest.raises(aezoo.SpecError, match="schema_version: expected a whole number"):
        Document(yaml.safe_dump(small(schema_version="1")), "x.yaml").as_spec(aezoo.VariantSpec)


def test_a_migration_lifts_an_older_document(monkeypatch: pytest.MonkeyPatch) -> None:
    from aezoo.specs.schema import MIGRATIONS

    def lift(data: dict[str, Any]) -> dict[str, Any]:
        return {**{k: v for k, v in data.items() if k != "title"}, "summary": data["title"]}

    monkeypatch.setattr("aezoo.specs.schema.SCHEMA_VERSION", 2)
    monkeypatch.setitem(MIGRATIONS, 1, lift)
    old = {k: v for k, v in small(schema_version=1, title="Lifted.").items() if k != "summary"}
    spec = Document(yaml.safe_dump(old), "x.yaml").as_spec(aezoo.VariantSpec)
    assert spec.summary == "Lifted."


# -- JSON Schema --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = aezoo.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_takes_what_aezoo_takes(validator: Any, repository: Path) -> None:
    validator.validate(small())
    validator.validate(small_spec().model_dump(mode="json"))
    for path in repository.glob("zoo/*/spec.yaml"):
        validator.validate(Document.read(path).data)


def test_every_kind_is_in_the_schema(validator: Any) -> None:
    for family in FAMILIES:
        for kind in family.kinds():
            definition = validator.schema["$defs"][f"{family.family}:{kind}"]
            assert definition["properties"]["kind"]["const"] == kind
            assert "kind" in definition["required"]
            assert definition["additionalProperties"] is False
            assert definition["description"]


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"encoder": [{"k": 3}]},
        {"encoder": [{"kind": "topk", "k": "3"}]},
        {"encoder": [{"kind": "topk", "k": 3, "q": 1}]},
        {"encoder": [{"kind": "nix"}]},
        {"encoder": []},
        {"encoder": ["topk"]},
        {"recipe": {"reconstruction": "mse", "stages": [{"kind": "fit", "epochs": 0}]}},
    ],
)
def test_the_schema_refuses_what_aezoo_refuses(validator: Any, change: dict[str, Any]) -> None:
    assert list(validator.iter_errors(small(**change)))
    with pytest.raises(ValueError):
        small_spec(**change)


KEYS = ["name", "summary", "input", "encoder", "decoder", "recipe"]


@settings(max_examples=60, deadline=None)
@given(key=st.sampled_from(KEYS), value=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
))  # fmt: skip
def test_any_nonsense_is_refused_as_a_spec_error(key: str, value: Any) -> None:
    from aezoo.specs.base import check

    try:
        check(aezoo.VariantSpec, small(**{key: value}))
    except aezoo.SpecError as error:
        assert {problem.path.split(".")[0] for problem in error.problems} == {key}  # noqa: PT017
