"""The model card: the Hub reads its metadata, people its tables, and every number in it was measured."""

import errno
import json
import re
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from torch import nn

import aezoo
from aezoo import cli, files
from aezoo.errors import CheckpointError
from aezoo.plugins.registry import PluginInfo, Registration, registry
from aezoo.zoo.index import write_index, write_published
from aezoo.zoo.model_card import card, write_card
from aezoo.zoo.schema import CARD, CONFIG, MARKER, METRICS, PREVIEW, SPEC, TRAINING
from tests.examples import small, small_spec
from tests.hub_server import HubServer
from tests.raising import raises

ZOO = Path(__file__).parents[2] / "zoo"
VARIANTS = aezoo.list_variants()
every_variant = pytest.mark.parametrize("name", VARIANTS)
Run = Callable[..., tuple[int, str, str]]

# Of the variant, and such that more of it, or less, is better. All else is a description or a yardstick.
JUDGED = {"checkerboard", "dead_latents", "denoised_mse", "elbo", "fvu", "log_likelihood", "mse", "sse"}
HUB_IDS = {"mnist": "ylecun/mnist", "fashion_mnist": "zalando-datasets/fashion_mnist"}
IMAGE_TO_IMAGE = {"colorize", "denoise-32", "denoise-gaussian", "denoise-mask"}
TAGS = {
    "colorize": ["grayscale", "convolutional"],
    "conv-fc": ["convolutional"],
    "denoise-mask": ["masking"],
    "fc-64": [],
    "sparse-topk16": ["topk"],
    "vae-16": ["gaussian_sample", "vae_kl"],
}


@cache
def card_of(name: str) -> str:
    return card(ZOO / name, address=name, license="mit")


@cache
def load_with_files(name: str) -> aezoo.Autoencoder:
    return aezoo.load(name)


def metrics_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / METRICS).read_text())


def front_matter(text: str) -> dict[str, Any]:
    start, matter, _ = text.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(matter)


def section(text: str, title: str) -> str:
    """What stands under a heading."""
    # A comment in a recipe begins as a heading does.
    found = re.search(rf"^## {title}\n\n(.*?)\n(?=\n## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def tables(text: str) -> list[list[list[str]]]:
    """Every table as rows of cells, as Markdown reads them; its head is the first row."""
    found: list[list[list[str]]] = []
    before = ""
    for line in text.splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
            assert cells[0] == cells[-1] == ""
            if not before.startswith("|"):
                assert before == "", "a table begins after an empty line"
                found.append([])
            found[-1].append([cell.replace(r"\|", "|") for cell in cells[1:-1]])
        before = line
    return found


def well_formed(text: str) -> bool:
    """Whether every row of every table has as many cells as its head, and a rule is below that."""
    return all(
        set(table[1]) == {"---"} and all(len(row) == len(table[0]) for row in table) for table in tables(text)
    )


def rows(text: str, title: str) -> list[list[str]]:
    head, _, *found = tables(section(text, title))[0]
    assert (
        head
        == {
            "Measured": ["metric", "value", "dataset", "split", "samples", "source", "definition"],
            "Layers": ["layer", "kind", "output", "parameters"],
        }[title]
    )
    return found


# -- the zoo's cards ----------------------------------------------------------------------------------


@every_variant
def test_the_hubs_client_takes_the_metadata(name: str) -> None:
    text, metadata = card_of(name), front_matter(card_of(name))
    parsed = ModelCard(text)
    assert isinstance(parsed.data, ModelCardData)
    # As the client would write what it read.
    assert str(parsed) == text
    assert parsed.data.library_name == "aezoo"
    assert parsed.data.license == "mit"
    assert parsed.data.model_name == name
    assert parsed.data.tags[0] == "autoencoder"
    if "model-index" in metadata:
        of, results = model_index_to_eval_results(metadata["model-index"])
        assert (of, results) == (name, parsed.data.eval_results)
        assert eval_results_to_model_index(name, results) == metadata["model-index"]


@every_variant
def test_the_task_is_an_image_for_an_image_where_another_one_comes_out(name: str) -> None:
    expected = "image-to-image" if name in IMAGE_TO_IMAGE else "feature-extraction"
    assert front_matter(card_of(name))["pipeline_tag"] == expected


@every_variant
def test_the_dataset_is_named_as_the_hub_names_it(name: str) -> None:
    hub_id = HUB_IDS.get(str(aezoo.get_entry(name)["dataset"]))
    metadata = front_matter(card_of(name))
    assert metadata.get("datasets") == ([hub_id] if hub_id else None)
    results = metadata["model-index"][0]["results"] if hub_id else []
    assert ("model-index" in metadata) == bool(hub_id)
    for result in results:
        kind = aezoo.get_entry(name)["dataset"]
        digit = name.removeprefix("anomaly-")
        part = {"args": {"classes": [int(digit)]}} if digit != name else {}
        assert result["dataset"] == {"name": kind, "type": hub_id, "split": "test", **part}
        assert result["task"] == {"type": metadata["pipeline_tag"]}


@pytest.mark.parametrize(("name", "tags"), TAGS.items())
def test_tags_say_what_sets_it_apart(name: str, tags: list[str]) -> None:
    assert front_matter(card_of(name))["tags"] == ["autoencoder", *tags]


@every_variant
def test_results_for_the_hub_are_those_of_the_variant_and_not_its_yardsticks(name: str) -> None:
    metrics = metrics_of(ZOO / name)
    results = ModelCard(card_of(name)).data.eval_results or []
    judged = {key for key, entry in metrics.items() if key in JUDGED and entry["split"] == "test"}
    assert judged >= {"dead_latents", "fvu", "mse", "sse"}
    known = aezoo.get_entry(name)["dataset"] in HUB_IDS
    assert sorted(r.metric_type for r in results) == sorted(judged if known else [])
    for result in results:
        assert result.metric_value == metrics[result.metric_type]["value"]
        assert result.metric_name == result.metric_type


@every_variant
def test_every_metric_stands_in_the_table_with_what_it_means(name: str) -> None:
    metrics = metrics_of(ZOO / name)
    found = rows(card_of(name), "Measured")
    assert [row[0] for row in found] == [f"`{key}`" for key in metrics]
    for row, (key, entry) in zip(found, metrics.items(), strict=True):
        # To the printed digits, of which there are at least six.
        assert float(row[1]) == pytest.approx(entry["value"], rel=5e-6, abs=1e-12), key
        assert row[2:] == [
            entry["dataset"] or "", entry["split"] or "", f"{entry['n']:,}", entry["source"],
            entry["definition"],
        ]  # fmt: skip


@every_variant
def test_the_layers_are_those_of_the_network(name: str) -> None:
    ae = load_with_files(name)
    assert rows(card_of(name), "Layers") == [
        [f"`{r.path}`", f"`{r.kind}`", "x".join(map(str, r.output)), f"{r.parameters:,}"]
        for r in ae.summary()
    ]
    size = "x".join(map(str, ae.latent_shape))
    assert section(card_of(name), "Layers").endswith(
        f"\n\n{ae.num_parameters:,} trainable numbers; {size} latents."
    )


@every_variant
def test_the_recipe_is_the_file_that_was_trained_from(name: str) -> None:
    text = (ZOO / name / SPEC).read_text()
    assert section(card_of(name), "Recipe").startswith(f"```yaml\n{text.strip()}\n```\n\n")


@every_variant
def test_what_it_was_trained_on_and_with(name: str) -> None:
    record = json.loads((ZOO / name / TRAINING).read_text())
    told = section(card_of(name), "Recipe").rpartition("```\n\n")[2]
    assert told.startswith(f"Trained on {record['device']}")
    for package, version in record["versions"].items():
        assert f"{package} {version}" in told
    train, held = (record["data"][split]["n"] for split in ("train", "validation"))
    assert f"{train:,} samples were trained on, {held:,} held out to choose by" in told
    assert ("all of them were trained on" in told) == bool(record.get("refit"))


@every_variant
def test_the_text_is_whole(name: str) -> None:
    text, spec = card_of(name), load_with_files(name).spec
    assert well_formed(text)
    assert len(tables(text)) == 2
    _, _, prose = text.split("---\n", 2)
    start = f"\n{MARKER}\n\n# {name}\n\n{spec.summary}\n\n![inputs and their reconstructions]({PREVIEW})\n"
    assert prose.startswith(start)
    assert f'aezoo.load("{name}")' in text
    assert f"`aezoo evaluate {name}`" in text
    for reference in spec.references:
        # An address is a link as it stands.
        shown = reference if reference.startswith("https://") else f"[{reference}](https://"
        assert f"\n- {shown}" in "\n" + section(text, "References"), reference
    assert ("## References" in text) == bool(spec.references)
    assert "None" not in prose
    assert "null:" not in text
    assert str(ZOO.parent) not in text
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


# -- a folder of one's own ----------------------------------------------------------------------------


def metric(value: float | None, reason: str | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "value": value, "reason": reason, "source": "computed", "dataset": "mnist", "split": "test", "n": 7,
        "definition": "mean squared error",
    } | changes  # fmt: skip


def network(metrics: dict[str, Any] | None = None, **changes: Any) -> aezoo.Autoencoder:
    ae = aezoo.build(small_spec(**changes), seed=1)
    ae.metrics = metrics or {}
    return ae


def recipe(**changes: Any) -> dict[str, Any]:
    return small()["recipe"] | changes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return aezoo.save(network({"mse": metric(0.25)}), tmp_path / "small")


def test_data_without_a_name(folder: Path) -> None:
    text = card(folder)
    metadata = front_matter(text)
    assert set(metadata) == {"library_name", "model_name", "pipeline_tag", "tags"}
    assert metadata["model_name"] == "small"
    limits = section(text, "Limits")
    assert "- Trained on data that are not part of this repository alone: other inputs are" in limits
    assert "- It takes inputs of 1x6x6 with values from 0 to 1; `ae.transforms()` brings images" in limits
    assert well_formed(text)
    assert ModelCard(text).data.eval_results is None


def test_a_number_that_was_not_measured_is_null_with_its_reason(tmp_path: Path) -> None:
    reason = "every target is the mean | nothing is left\nto explain"
    metrics = {"mse": metric(0.25), "fvu": metric(None, reason), "l0": metric(None, "the result is nan")}
    ae = network(metrics, recipe=recipe(dataset="mnist"))
    text = card(aezoo.save(ae, tmp_path / "small"))
    assert well_formed(text)
    assert [row[:2] for row in rows(text, "Measured")] == [
        ["`mse`", "0.25"],
        ["`fvu`", "null: every target is the mean | nothing is left to explain"],
        ["`l0`", "null: the result is nan"],
    ]
    # The Hub knows no null.
    assert [r.metric_type for r in ModelCard(text).data.eval_results] == ["mse"]


def test_results_for_the_hub_are_of_the_test_split(tmp_path: Path) -> None:
    metrics = {"mse": metric(0.25), "sse": metric(9.0, split="train"), "fvu": metric(0.5, split="validation")}
    text = card(aezoo.save(network(metrics, recipe=recipe(dataset="mnist")), tmp_path / "small"))
    assert [row[0] for row in rows(text, "Measured")] == ["`mse`", "`sse`", "`fvu`"]
    assert [r.metric_type for r in ModelCard(text).data.eval_results] == ["mse"]


@pytest.mark.parametrize("definition", ["a | b", "|a| + |b|", "a\nb", "a\r\n\r\n| b |"])
def test_tables_hold_whatever_a_definition_says(tmp_path: Path, definition: str) -> None:
    metrics = {"mse": metric(0.25, definition=definition), "own": metric(1e-9, dataset=None, split=None)}
    text = card(aezoo.save(network(metrics), tmp_path / "small"))
    assert well_formed(text)
    found = rows(text, "Measured")
    assert [row[:5] for row in found] == [
        ["`mse`", "0.25", "mnist", "test", "7"],
        ["`own`", "1e-09", "", "", "7"],
    ]
    assert found[0][6].split() == definition.split()


def test_nothing_was_measured(tmp_path: Path) -> None:
    text = card(aezoo.save(network(), tmp_path / "small"))
    assert section(text, "Measured") == "Nothing was measured."
    assert len(tables(text)) == 1


@pytest.mark.parametrize(
    ("dead", "words"),
    [
        (0.0, None),
        (1.0, "- 1 latent is never active on the test split."),
        (3.0, "- 3 latents are never active on the test split."),
        (1234.0, "- 1,234 latents are never active on the test split."),
        (None, None),
    ],
)
def test_dead_latents_are_a_limit(tmp_path: Path, dead: float | None, words: str | None) -> None:
    metrics = {"dead_latents": metric(dead, None if dead is not None else "no data")}
    limits = section(card(aezoo.save(network(metrics), tmp_path / "small")), "Limits").splitlines()
    assert [line for line in limits if "never active" in line] == ([] if words is None else [words])


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_half_precision_is_a_limit(tmp_path: Path, dtype: str) -> None:
    text = card(aezoo.save(network(recipe=recipe(weights_dtype=dtype)), tmp_path / "small"))
    said = "- Weights are stored in half precision and computed with in single."
    assert (said in section(text, "Limits").splitlines()) == (dtype == "float16")


def test_inputs_without_a_range_that_are_no_images(tmp_path: Path) -> None:
    dense = {"kind": "linear", "out_features": 3}
    ae = network(input={"shape": [3]}, encoder=[dense | {"out_features": 2}], decoder=[dense])
    text = card(aezoo.save(ae, tmp_path / "small"))
    assert "- It takes inputs of 3; `ae.transforms()`" in section(text, "Limits")
    assert "out = ae(ae.transforms()(sample))" in text
    assert front_matter(text)["pipeline_tag"] == "feature-extraction"


def test_another_target_than_the_input_makes_an_image_out_of_an_image(tmp_path: Path) -> None:
    decoder = [{"kind": "linear", "out_features": 108}, {"kind": "unflatten", "shape": [3, 6, 6]}]
    ae = network(target={"shape": [3, 6, 6], "range": [0, 1]}, decoder=decoder)
    text = card(aezoo.save(ae, tmp_path / "small"))
    assert front_matter(text)["pipeline_tag"] == "image-to-image"


def test_the_picture_is_shown_where_there_is_one(folder: Path) -> None:
    shown = f"![inputs and their reconstructions]({PREVIEW})"
    assert shown not in card(folder)
    (folder / PREVIEW).write_bytes(b"\x89PNG")
    assert shown in card(folder)


def test_a_recipe_written_by_hand_is_shown_as_it_was_written(folder: Path) -> None:
    by_hand = "# Größe: mine | yours\n" + (folder / SPEC).read_text() + "# ## No heading\n"
    (folder / SPEC).write_text(by_hand)
    assert f"```yaml\n{by_hand.strip()}\n```\n" in card(folder)
    (folder / SPEC).unlink()
    shown = re.search(r"```yaml\n(.*?)\n```\n", card(folder), re.DOTALL)
    assert shown is not None
    assert aezoo.VariantSpec.model_validate(yaml.safe_load(shown[1])) == aezoo.load(folder).spec


def test_the_address_and_the_license_are_as_given(folder: Path) -> None:
    plain = card(folder)
    assert 'aezoo.load("./small")' in plain
    assert "`aezoo evaluate ./small`" in plain
    assert "license" not in front_matter(plain)
    given = card(folder, address="hub:ann/small", license="cc-by-4.0")
    assert 'aezoo.load("hub:ann/small")' in given
    assert "`aezoo evaluate hub:ann/small`" in given
    assert "./small" not in given
    assert front_matter(given)["license"] == "cc-by-4.0"


def test_a_license_is_kept_by_the_next_card(folder: Path) -> None:
    write_card(folder, license="cc-by-4.0")
    assert front_matter(card(folder))["license"] == "cc-by-4.0"
    assert front_matter(card(folder, license="mit"))["license"] == "mit"
    (folder / CARD).write_text("---\nlicense: apache-2.0\n---\nMine.")
    assert front_matter(card(folder))["license"] == "apache-2.0"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"Mine.",
        b"---\n---\n",
        b"---\nlicense: [\n---\n",
        b"---\n- a list\n---\n",
        "Größe".encode("latin-1"),
    ],
)
def test_a_license_is_looked_for_in_whatever_text_is_there(folder: Path, text: bytes) -> None:
    expected = card(folder)
    for own in (text, text + MARKER.encode()):
        (folder / CARD).write_bytes(own)
        assert card(folder) == expected


def test_a_card_is_the_same_wherever_and_however_often_it_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = card(folder)
    elsewhere = shutil.copytree(folder, tmp_path / "elsewhere" / "small")
    assert card(elsewhere) == card(str(folder)) == text
    for _ in range(2):
        assert write_card(folder) == folder / CARD
        assert (folder / CARD).read_text() == text
    monkeypatch.chdir(folder)
    assert card(Path()) == text
    monkeypatch.chdir(tmp_path)
    assert card("small") == text


def test_the_card_that_was_written_is_part_of_the_folder(folder: Path) -> None:
    write_card(folder, license="mit")
    assert aezoo.load(folder).metrics["mse"]["value"] == 0.25
    # Better weights take the old ones' card away, and do not leave it to describe them.
    aezoo.save(network(), folder, overwrite=True)
    assert not (folder / CARD).exists()


@pytest.mark.parametrize("text", ["# Mine\n", "", "---\nlicense: mit\n---\r\nMine.\r\n"])
def test_an_owners_own_text_is_left_alone(folder: Path, text: str) -> None:
    (folder / CARD).write_bytes(text.encode())
    assert write_card(folder, license="mit") == folder / CARD
    assert (folder / CARD).read_bytes() == text.encode()


def test_a_card_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_card(folder)
    before = (folder / CARD).read_bytes()

    def full(file: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_settle", full)
    with pytest.raises(CheckpointError, match=r"README\.md could not be written: No space left") as refused:
        write_card(folder, license="mit")
    assert isinstance(refused.value.__cause__, OSError)
    assert (folder / CARD).read_bytes() == before


# -- refusals -----------------------------------------------------------------------------------------


def untrained(folder: Path) -> None:
    (folder / CONFIG).unlink()


def tampered(folder: Path) -> None:
    raw = bytearray((folder / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (folder / "model.safetensors").write_bytes(raw)


def no_recipe(folder: Path) -> None:
    spec = small_spec().model_dump(mode="json")
    for key in ("name", "summary", "references", "recipe"):
        spec.pop(key)
    shutil.rmtree(folder)
    aezoo.save(aezoo.build(aezoo.AutoencoderSpec.model_validate(spec)), folder)


def half_a_metric(folder: Path) -> None:
    (folder / METRICS).write_text('{"mse": {"value": 0.25}}')


def spec_in_latin_1(folder: Path) -> None:
    (folder / SPEC).write_bytes("# Größe\n".encode("latin-1") + (folder / SPEC).read_bytes())


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (untrained, "missing-file", r"small/config\.json is missing"),
        (tampered, "hash-mismatch", r"small/model\.safetensors .*sha256"),
        (
            no_recipe,
            "invalid-config",
            "small holds an architecture without a name and a recipe; a card is of a",
        ),
        (half_a_metric, "invalid-config", r"small/metrics\.json: mse: .*definition"),
        (spec_in_latin_1, "invalid-config", r"small/spec\.yaml .*UTF-8"),
    ],
)
def test_a_card_is_of_a_folder_that_loads(
    folder: Path, spoil: Callable[[Path], None], code: str, words: str
) -> None:
    spoil(folder)
    before = sorted(folder.iterdir())
    for write in (card, write_card):
        with raises(code, match=words) as refused:
            write(folder)
        assert "\n" not in str(refused.value)
    assert sorted(folder.iterdir()) == before


# -- kinds that are not aezoo's -----------------------------------------------------------------------


class NothingSpec(aezoo.LayerSpec):
    """A layer that belongs to no distribution."""

    kind: Literal["nothing"] = "nothing"

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        return nn.Identity()


class PluginNothingSpec(NothingSpec):
    """As a plugin brings it."""

    kind: Literal["sae.nothing"] = "sae.nothing"


@pytest.mark.usefixtures("fresh_registry")
def test_kinds_that_come_with_no_distribution_are_named(tmp_path: Path) -> None:
    aezoo.register(NothingSpec)
    text = card(aezoo.save(network(encoder=[*small()["encoder"], "nothing"]), tmp_path / "small"))
    said = "It uses kinds that come with no distribution, to be registered before loading: `layer:nothing`."
    assert said in text
    assert "beside aezoo" not in text
    assert said not in card_of("fc-64")


@pytest.mark.usefixtures("fresh_registry")
def test_plugins_are_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry._claims["layer", "sae.nothing"] = [Registration(PluginNothingSpec, "sae")]
    who = PluginInfo("sae", "aezoo-sae", "1.2.0", 1, (("layer", "sae.nothing"),))
    monkeypatch.setattr(registry, "_plugins", [*registry._plugins, who])
    text = card(aezoo.save(network(encoder=[*small()["encoder"], "sae.nothing"]), tmp_path / "small"))
    assert "It needs `aezoo-sae==1.2.0` beside aezoo." in text
    assert "no distribution" not in text
    assert "beside aezoo" not in card_of("fc-64")


# -- the command line ---------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process; gives exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["aezoo", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        printed = capsys.readouterr()
        return int(exit_.value.code or 0), printed.out, printed.err

    return call


@pytest.fixture
def rolled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec for a swiss roll, which needs no data, and trains in no time."""
    monkeypatch.chdir(tmp_path)
    dense = {"kind": "linear", "bias": False}
    spec = small_spec(
        name="rolled", input={"shape": [3]}, encoder=[dense | {"out_features": 2}],
        decoder=[dense | {"out_features": 3}],
        recipe={
            "dataset": {"kind": "swiss_roll", "count": 100}, "reconstruction": "mse", "threads": 1,
            "stages": [{"kind": "fit", "epochs": 1}],
        },
    )  # fmt: skip
    (tmp_path / "rolled.yaml").write_text(aezoo.to_yaml(spec))
    return tmp_path / "rolled"


def test_card_prints_a_variants_card(run: Run) -> None:
    assert run("card", "fc-64") == (0, (ZOO / "fc-64" / CARD).read_text(), "")


def test_card_prints_a_folders_card_and_writes_none(run: Run, folder: Path) -> None:
    assert run("card", folder) == (0, card(folder, address=str(folder)), "")
    assert not (folder / CARD).exists()


@pytest.mark.parametrize("name", ["small", "hub:ann/small@v1.0"])
def test_card_prints_the_card_of_what_is_on_the_hub(
    run: Run, hub: HubServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    root = tmp_path / "zoo"
    root.mkdir()
    held = folder.rename(root / "small")
    write_index(root, license="mit")
    commit = hub.add("ann/small", {path.name: path.read_bytes() for path in held.iterdir()}, tag="v1.0")
    write_published(root, "small", "ann/small", commit)
    expected = card(held, address=name)
    shutil.rmtree(held)
    monkeypatch.setattr("aezoo.zoo.index.zoo_root", lambda: root)
    assert run("card", name) == (0, expected, "")


@pytest.mark.parametrize(
    ("name", "words"),
    [("fc-46", "no variant 'fc-46' (did you mean 'fc-64'?)"), ("./nowhere", "nowhere is no folder")],
)
def test_card_refuses_in_one_clear_line(run: Run, tmp_path: Path, name: str, words: str) -> None:
    code, out, err = run("card", name)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert words in err


def test_train_writes_a_card_and_record_renews_it(run: Run, rolled: Path) -> None:
    code, _, err = run("train", "rolled.yaml", "--device", "cpu")
    assert (code, err) == (0, "")
    first = (rolled / CARD).read_text()
    assert first == card(rolled)
    assert MARKER in first
    assert "stability" not in str(metrics_of(rolled))
    assert "`latent_change`" not in first
    code, _, err = run("evaluate", "./rolled", "--protocol", "stability", "--record")
    assert (code, err) == (0, "")
    second = (rolled / CARD).read_text()
    assert second == card(rolled)
    assert "`latent_change`" in [row[0] for row in rows(second, "Measured")]


def test_a_license_outlives_a_new_record(run: Run, rolled: Path) -> None:
    aezoo.save(aezoo.build(aezoo.validate("rolled.yaml")), rolled)
    write_card(rolled, license="cc-by-4.0")
    assert run("evaluate", "./rolled", "--protocol", "stability", "--record")[0] == 0
    text = (rolled / CARD).read_text()
    assert front_matter(text)["license"] == "cc-by-4.0"
    assert "`latent_change`" in text


def test_record_writes_no_card_where_there_is_none_and_leaves_an_owners_own(run: Run, rolled: Path) -> None:
    aezoo.save(aezoo.build(aezoo.validate("rolled.yaml")), rolled)
    assert run("evaluate", "./rolled", "--protocol", "stability", "--record")[0] == 0
    assert not (rolled / CARD).exists()
    (rolled / CARD).write_text("Mine.")
    assert run("evaluate", "./rolled", "--protocol", "stability", "--record")[0] == 0
    assert (rolled / CARD).read_text() == "Mine."


def test_train_keeps_an_owners_own_text(run: Run, rolled: Path) -> None:
    rolled.mkdir()
    (rolled / CARD).write_text("Mine.")
    code, _, err = run("train", "rolled.yaml", "--device", "cpu")
    assert (code, err) == (0, "")
    assert (rolled / CARD).read_text() == "Mine."
    assert torch.isfinite(aezoo.load(rolled).encode(torch.rand(2, 3))).all()
