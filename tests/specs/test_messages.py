"""Validation errors: one line each, with the path, what was expected and what was found."""

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import aezoo
from aezoo.specs.base import check
from aezoo.specs.yaml import Document
from tests.examples import small


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"summry": "x"}, "summry", "unknown key (did you mean 'summary'?)"),
        ({"name": "Sparse_1"}, "name", "'Sparse_1' is not a variant name; expected <architecture>"),
        ({"input": {"shape": [1, 6, 6], "range": [1, 0]}}, "input.range", "expected the smaller value first"),
        ({"input": {"shape": []}}, "input.shape", "expected at least 1 entries, found 0"),
        ({"input": {"shape": [1.5]}}, "input.shape.0", "expected an integer, found 1.5"),
        ({"input": {"shape": [2**40]}}, "input.shape.0", "expected less than or equal to"),
        ({"encoder": "flatten"}, "encoder", "expected a list"),
        ({"encoder": [5]}, "encoder.0", "expected a layer: a word or a mapping with `kind`, found 5"),
        ({"encoder": [{"out_features": 5}]}, "encoder.0.kind", "missing; expected one of avg_pool, "),
        ({"encoder": [{"kind": 5}]}, "encoder.0.kind", "not a word"),
        ({"encoder": [{"kind": "toppk", "k": 5}]}, "encoder.0.kind", "unknown layer 'toppk' (did you mean 'topk'?)"),
        ({"encoder": [{"kind": "linear", "out_features": 3, "dropout": 1}]}, "encoder.0.dropout", "less than 1"),
        ({"encoder": [{"kind": "linear", "out_features": 3, "activation": "rleu"}]}, "encoder.0.activation.kind", "unknown activation 'rleu' (did you mean 'relu'?); known are elu, "),
        ({"encoder": [{"kind": "linear", "out_features": 3, "activation": {"kind": "relu", "a": 1}}]}, "encoder.0.activation.a", "unknown key"),
        ({"encoder": [{"kind": "residual", "layers": [{"kind": "topk", "k": 1, "q": 1}]}]}, "encoder.0.layers.0.q", "unknown key"),
        ({"recipe": {"reconstruction": "mse", "stages": [{"kind": "fit"}]}}, "recipe.stages.0.epochs", "missing"),
        ({"recipe": {"reconstruction": "mse", "penalties": ["mse"], "stages": [{"kind": "fit", "epochs": 1}]}}, "recipe.penalties", "expected a penalty, found the reconstruction 'mse'"),
        ({"recipe": {"reconstruction": "mse", "stages": [{"kind": "fit", "epochs": 1, "optimizer": {"kind": "adam", "lr": -1}}]}}, "recipe.stages.0.optimizer.lr", "greater than 0"),
        ({"recipe": {"reconstruction": "mse", "stages": [{"kind": "fit", "epochs": 1, "optimizer": {"kind": "adam", "lr": float("nan")}}]}}, "recipe.stages.0.optimizer.lr", "finite"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_path_and_line(change: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(aezoo.SpecError) as error:
        Document(yaml.safe_dump(small(**change)), "spec.yaml").as_spec(aezoo.VariantSpec)
    (problem,) = error.value.problems
    assert problem.path == path
    assert words in problem.message
    assert problem.line is not None


def test_all_mistakes_are_reported_at_once() -> None:
    data = small(summary=5, references="x", encoder=[{"kind": "topk", "k": "5"}, {"kind": "nix"}])
    with pytest.raises(aezoo.SpecError) as error:
        Document(yaml.safe_dump(data), "spec.yaml").as_spec(aezoo.VariantSpec)
    paths = {problem.path for problem in error.value.problems}
    assert paths == {"summary", "references", "encoder.0.k", "encoder.1.kind"}
    assert len(str(error.value).splitlines()) == 4


KEYS = ["name", "summary", "input", "encoder", "decoder", "recipe"]


@settings(max_examples=60, deadline=None)
@given(key=st.sampled_from(KEYS), value=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
))  # fmt: skip
def test_any_value_is_valid_or_a_spec_error_at_its_path(key: str, value: Any) -> None:
    try:
        check(aezoo.VariantSpec, small(**{key: value}))
    except aezoo.SpecError as error:
        assert {problem.path.split(".")[0] for problem in error.problems} == {key}  # noqa: PT017
