"""Folders that somebody else wrote: links, other kinds of files, values of other types, and markup."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import aezoo
from aezoo.data.transforms import Scaler
from aezoo.text import markdown, markdown_block, markdown_code
from aezoo.zoo.model_card import card
from aezoo.zoo.push import plan_push
from aezoo.zoo.schema import CARD, FILES, MAX_TEXT_BYTES, METRICS, PREVIEW, SPEC, TRAINING, WEIGHTS
from tests.raising import raises
from tests.zoo.folders import config_of, edit_config, metric, network


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return aezoo.save(network(), tmp_path / "small")


def test_a_card_and_a_push_follow_no_link(saved: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret: words")
    for name in set(FILES) - {WEIGHTS}:
        path, kept = saved / name, tmp_path / "kept"
        if path.exists():
            path.rename(kept)
        path.symlink_to(secret)
        for use in (card, aezoo.load, lambda folder: plan_push(folder, org="ann")):
            with raises("missing-file", f"{name} is a symbolic link"):
                use(saved)
        path.unlink()
        if kept.exists():
            kept.rename(path)
    assert card(saved)


@pytest.mark.parametrize("name", [SPEC, PREVIEW, CARD, METRICS])
def test_a_pipe_in_the_place_of_a_file_is_refused(saved: Path, name: str) -> None:
    (saved / name).unlink(missing_ok=True)
    os.mkfifo(saved / name)
    for use in (card, aezoo.load, lambda folder: plan_push(folder, org="ann")):
        with raises("missing-file", f"{name} is not a file"):
            use(saved)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"value": "0.5"}, "mse: value: expected a number or null, found str"),
        ({"value": [0.5]}, "mse: value: expected a number or null, found list"),
        ({"value": True}, "mse: value: expected a number or null, found bool"),
        ({"n": 1.5}, "mse: n: expected a whole number or null, found float"),
        ({"definition": ["x"]}, "mse: definition: expected text or null, found list"),
    ],
)
def test_metrics_of_other_types_are_refused(saved: Path, changes: dict[str, Any], match: str) -> None:
    (saved / METRICS).write_text(json.dumps({"mse": metric(**changes)}))
    with raises("invalid-config", match):
        card(saved)


@pytest.mark.parametrize(
    "record",
    [
        {"versions": []}, {"versions": {"torch": 2}}, {"data": []}, {"data": {"train": []}},
        {"data": {"validation": {"n": "9"}}}, {"data": None},
    ],
)  # fmt: skip
def test_training_records_of_other_types_are_refused(saved: Path, record: dict[str, Any]) -> None:
    (saved / TRAINING).write_text(json.dumps(record))
    with raises("invalid-config", "versions|data"):
        card(saved)


def test_a_metric_without_a_number_of_samples_has_a_card(saved: Path) -> None:
    (saved / METRICS).write_text(json.dumps({"mse": metric(None, "interrupted", n=None)}))
    assert "| null: interrupted | mnist | test |  |" in card(saved)


def test_a_card_shows_texts_of_a_folder_without_markup(tmp_path: Path) -> None:
    text = "# Big <script>x</script> [link](javascript:alert(1)) `code` \x1b[31m"
    ae = network(summary=text, references=[text, f"arxiv:{text}"])
    ae.metrics = {text: metric(definition=text, dataset=text, split=text, source=text)}
    ae.training_record = {"device": text, "versions": {text: text}}
    found = card(aezoo.save(ae, tmp_path / "small")).partition("\n---\n")[2]
    prose = found.replace(found[found.index("## Recipe") : found.index("\n## Metrics")], "")
    assert "\x1b" not in found
    assert "<script>" not in prose.replace("\\<script\\>", "")
    assert "](javascript" not in prose.replace("\\](javascript", "")
    assert prose.count("\n# ") == 1


def test_a_recipe_stays_in_its_fence_and_is_the_configs(saved: Path) -> None:
    text = (saved / SPEC).read_text()
    (saved / SPEC).write_text(text + "\n# ```\n# \u202e\n")
    recipe = card(saved)
    assert "\n````yaml\n" in recipe
    assert "\n# \\u202e\n" in recipe
    (saved / SPEC).write_text(text.replace("out_features: 5", "out_features: 4"))
    assert "out_features: 4" not in card(saved)
    (saved / SPEC).write_bytes(b"#" * (MAX_TEXT_BYTES + 1))
    with raises("invalid-config", "spec.yaml is larger than"):
        card(saved)


@pytest.mark.parametrize("columns", [["a", "b"], ["a"] * 36, [f"c{i}" for i in range(37)]])
def test_columns_other_than_the_inputs_are_refused(saved: Path, columns: list[str]) -> None:
    edit_config(saved, lambda config: config.update(columns=columns))
    assert config_of(saved)["columns"] == columns
    with raises("invalid-config", "columns: expected 36 distinct names"):
        aezoo.load(saved)


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_a_scale_that_is_not_positive_is_refused(tmp_path: Path, scale: float) -> None:
    ae = network()
    ae.scaler = Scaler(torch.zeros(1, 6, 6), torch.full((1, 6, 6), scale))
    folder = aezoo.save(ae, tmp_path / "small")
    with raises("not-finite", "input_scale is not positive"):
        aezoo.load(folder)


def test_markdown_text_has_no_markup() -> None:
    assert markdown("a_b 3 * 4 | x") == r"a_b 3 \* 4 \| x"
    assert markdown("1. a") == r"1\. a"
    assert markdown("# a\n# b") == r"\# a # b"
    assert markdown("&lt; a & b") == r"\&lt; a & b"
    assert markdown_code("mse") == "`mse`"
    assert markdown_code("a`b") == r"a\`b"
    assert markdown_block("a\n```\nb\x1b") == "````\na\n```\nb\\x1b\n````"
