"""The version of documents, the hash of a spec, and the JSON Schema."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import aezoo
from aezoo.specs.schema import FAMILIES, MIGRATIONS, spec_sha256
from aezoo.specs.yaml import Document
from tests.examples import small, small_spec


def test_the_hash_depends_on_the_resolved_spec() -> None:
    spec = small_spec()
    longhand = spec.model_dump(mode="json")
    assert spec_sha256(aezoo.VariantSpec.model_validate(longhand)) == spec_sha256(spec)
    assert spec_sha256(spec.replace({"recipe.seed": 1})) != spec_sha256(spec)
    repeated = small_spec(
        decoder=[{"kind": "linear", "out_features": 36, "repeat": 2}, *small()["decoder"][1:]]
    )
    written_out = small_spec(decoder=[*[{"kind": "linear", "out_features": 36}] * 2, *small()["decoder"][1:]])
    assert spec_sha256(repeated) == spec_sha256(written_out)


def test_a_newer_schema_version_is_rejected() -> None:
    older = Document(yaml.safe_dump(small(schema_version=1)), "x.yaml").as_spec(aezoo.VariantSpec)
    assert older == small_spec()
    with pytest.raises(aezoo.CheckpointError, match=r"schema version 2, this aezoo reads up to 1"):
        Document(yaml.safe_dump(small(schema_version=2)), "x.yaml").as_spec(aezoo.VariantSpec)
    with pytest.raises(aezoo.SpecError, match="schema_version: expected a whole number"):
        Document(yaml.safe_dump(small(schema_version="1")), "x.yaml").as_spec(aezoo.VariantSpec)


def test_an_older_document_is_migrated(monkeypatch: pytest.MonkeyPatch) -> None:
    def migrate(data: dict[str, Any]) -> dict[str, Any]:
        return {**{k: v for k, v in data.items() if k != "title"}, "summary": data["title"]}

    monkeypatch.setattr("aezoo.specs.schema.SCHEMA_VERSION", 2)
    monkeypatch.setitem(MIGRATIONS, 1, migrate)
    old = {k: v for k, v in small(schema_version=1, title="Migrated.").items() if k != "summary"}
    spec = Document(yaml.safe_dump(old), "x.yaml").as_spec(aezoo.VariantSpec)
    assert spec.summary == "Migrated."


# -- JSON Schema --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = aezoo.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_accepts_valid_specs(validator: Any, repository: Path) -> None:
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
def test_the_schema_rejects_invalid_specs(validator: Any, change: dict[str, Any]) -> None:
    assert list(validator.iter_errors(small(**change)))
    with pytest.raises(ValueError):
        small_spec(**change)
