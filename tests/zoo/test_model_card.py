"""The model card: the Hub reads its metadata, people its tables, and every number in it was measured."""

import json
import re
import shutil
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
from aezoo.plugins.registry import PluginInfo, Registration, registry
from aezoo.zoo.model_card import card, write_card
from aezoo.zoo.schema import CARD, CONFIG, MARKER, METRICS, PREVIEW, SPEC, TRAINING, WEIGHTS
from aezoo.zoo.write_index import write_published
from tests.examples import small, small_spec
from tests.hub_server import HubServer
from tests.parts import in_parts
from tests.raising import raises
from tests.zoo.conftest import Run
from tests.zoo.folders import ENCODER, architecture, contents, flip, metric, network, no_space

ZOO = Path(__file__).parents[2] / "zoo"
every_variant = pytest.mark.parametrize("name", in_parts(aezoo.list_variants(), 3))

# Metrics that rank variants; all others are a description or a baseline.
RANKING = {"checkerboard", "dead_latents", "denoised_mse", "elbo", "fvu", "log_likelihood", "mse", "sse"}
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
HEADS = {
    "Metrics": ["metric", "value", "dataset", "split", "samples", "source", "definition"],
    "Layers": ["layer", "kind", "output", "parameters"],
}


@cache
def card_of(name: str) -> str:
    return card(ZOO / name, address=name, license="mit")


def metrics_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / METRICS).read_text())


def front_matter(text: str) -> dict[str, Any]:
    start, matter, _ = text.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(matter)


def section(text: str, title: str) -> str:
    """The text under a heading."""
    # A comment in a recipe begins as a heading does.
    found = re.search(rf"^## {title}\n\n(.*?)\n(?=\n## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def tables(text: str) -> list[list[list[str]]]:
    """Every table as rows of cells, as Markdown reads them; they are well formed."""
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
    for table in found:
        assert set(table[1]) == {"---"}
        assert {len(row) for row in table} == {len(table[0])}
    return found


def rows(text: str, title: str) -> list[list[str]]:
    head, _, *found = tables(section(text, title))[0]
    assert head == HEADS[title]
    return found


# -- the zoo's cards ----------------------------------------------------------------------------------


@every_variant
def test_the_card_is_current(name: str) -> None:
    assert (ZOO / name / CARD).read_text() == card_of(name)


@every_variant
def test_the_hubs_client_reads_the_metadata(name: str) -> None:
    text, metadata = card_of(name), front_matter(card_of(name))
    parsed = ModelCard(text)
    assert isinstance(parsed.data, ModelCardData)
    # As the client would write what it read.
    assert str(parsed) == text
    assert parsed.data.library_name == "aezoo"
    assert parsed.data.license == "mit"
    assert parsed.data.model_name == name
    assert parsed.data.tags == ["autoencoder", *TAGS.get(name, parsed.data.tags[1:])]
    task = "image-to-image" if name in IMAGE_TO_IMAGE else "feature-extraction"
    assert metadata["pipeline_tag"] == task
    kind = str(aezoo.get_entry(name)["dataset"])
    assert metadata.get("datasets") == ([HUB_IDS[kind]] if kind in HUB_IDS else None)
    assert ("model-index" in metadata) == (kind in HUB_IDS)
    if kind not in HUB_IDS:
        return
    variant, results = model_index_to_eval_results(metadata["model-index"])
    assert (variant, results) == (name, parsed.data.eval_results)
    assert eval_results_to_model_index(name, results) == metadata["model-index"]
    digit = name.removeprefix("anomaly-")
    part = {"args": {"classes": [int(digit)]}} if digit != name else {}
    for result in metadata["model-index"][0]["results"]:
        assert result["dataset"] == {"name": kind, "type": HUB_IDS[kind], "split": "test", **part}
        assert result["task"] == {"type": task}
    metrics = metrics_of(ZOO / name)
    ranking = {key for key, entry in metrics.items() if key in RANKING and entry["split"] == "test"}
    assert ranking >= {"dead_latents", "fvu", "mse", "sse"}
    assert sorted(r.metric_type for r in results) == sorted(ranking)
    for result in results:
        assert result.metric_value == metrics[result.metric_type]["value"]
        assert result.metric_name == result.metric_type


@every_variant
def test_every_metric_is_in_the_table_with_its_definition(name: str) -> None:
    metrics = metrics_of(ZOO / name)
    found = rows(card_of(name), "Metrics")
    assert [row[0] for row in found] == [f"`{key}`" for key in metrics]
    for row, (key, entry) in zip(found, metrics.items(), strict=True):
        # Values are printed with six digits.
        assert float(row[1]) == pytest.approx(entry["value"], rel=5e-6, abs=1e-12), key
        assert row[2:] == [
            entry["dataset"] or "", entry["split"] or "", f"{entry['n']:,}", entry["source"],
            entry["definition"],
        ]  # fmt: skip


@every_variant
def test_a_card_describes_layers_recipe_and_training(name: str) -> None:
    text, ae = card_of(name), aezoo.load(name)
    assert rows(text, "Layers") == [
        [f"`{r.path}`", f"`{r.kind}`", "x".join(map(str, r.output)), f"{r.parameters:,}"]
        for r in ae.summary()
    ]
    size = "x".join(map(str, ae.latent_shape))
    assert f"\n\n{ae.num_parameters:,} trainable parameters; {size} latents.\n" in text
    recipe, _, training = section(text, "Recipe").rpartition("```\n\n")
    assert recipe == f"```yaml\n{(ZOO / name / SPEC).read_text().strip()}\n"
    record = json.loads((ZOO / name / TRAINING).read_text())
    assert training.startswith(f"Trained on {record['device']} (1 thread) with ")
    for package, version in record["versions"].items():
        assert f"{package} {version}" in training
    train, validation = (record["data"][split]["n"] for split in ("train", "validation"))
    assert f"{train:,} training samples, {validation:,} validation samples" in training
    assert ("retrained on all of them" in training) == bool(record.get("refit"))


@every_variant
def test_a_card_is_complete(name: str) -> None:
    text, spec = card_of(name), aezoo.get_spec(name)
    assert len(tables(text)) == 2
    _, _, prose = text.split("---\n", 2)
    start = f"\n{MARKER}\n\n# {name}\n\n{spec.summary}\n\n![inputs and their reconstructions]({PREVIEW})\n"
    assert prose.startswith(start)
    assert f'aezoo.load("{name}")' in text
    assert f"`aezoo evaluate {name}`" in text
    for reference in spec.references:
        # An address is a link by itself.
        shown = reference if reference.startswith("https://") else f"[{reference}](https://"
        assert f"\n- {shown}" in "\n" + section(text, "References"), reference
    assert ("## References" in text) == bool(spec.references)
    for word in ("None", "null:", str(ZOO.parent), "Requires", "no distribution"):
        assert word not in prose
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


# -- other folders ------------------------------------------------------------------------------------


@pytest.fixture
def card_with(tmp_path: Path) -> Callable[..., str]:
    """Builds the card of a network with these metrics and this spec."""

    def build(metrics: dict[str, Any] | None = None, **changes: Any) -> str:
        ae = network(**changes)
        ae.metrics = metrics or {}
        return card(aezoo.save(ae, tmp_path / "built"))

    return build


def recipe(**changes: Any) -> dict[str, Any]:
    return small()["recipe"] | changes


def test_unnamed_data(folder: Path) -> None:
    text = card(folder)
    metadata = front_matter(text)
    assert set(metadata) == {"library_name", "model_name", "pipeline_tag", "tags"}
    assert metadata["model_name"] == "small"
    assert section(text, "Limitations").splitlines() == [
        "- Trained on data that are not part of this repository only; out-of-distribution inputs are not "
        "detected.",
        "- Inputs have the shape 1x6x6 with values from 0 to 1; `ae.transforms()` converts data to it.",
        "- Latents have no assigned meaning, and no order unless the recipe gives them one.",
    ]
    assert len(tables(text)) == 2
    assert ModelCard(text).data.eval_results is None


def test_a_metric_that_was_not_measured_is_null_with_its_reason(card_with: Callable[..., str]) -> None:
    reason = "every target is the mean | nothing is left\nto explain"
    metrics = {"mse": metric(0.25), "fvu": metric(None, reason), "l0": metric(None, "the result is nan")}
    text = card_with(metrics, recipe=recipe(dataset="mnist"))
    assert [row[:2] for row in rows(text, "Metrics")] == [
        ["`mse`", "0.25"],
        ["`fvu`", "null: every target is the mean | nothing is left to explain"],
        ["`l0`", "null: the result is nan"],
    ]
    # The Hub has no null.
    assert [r.metric_type for r in ModelCard(text).data.eval_results] == ["mse"]


def test_results_for_the_hub_are_of_the_test_split(card_with: Callable[..., str]) -> None:
    metrics = {"mse": metric(0.25), "sse": metric(9.0, split="train"), "fvu": metric(0.5, split="validation")}
    text = card_with(metrics, recipe=recipe(dataset="mnist"))
    assert [row[0] for row in rows(text, "Metrics")] == ["`mse`", "`sse`", "`fvu`"]
    assert [r.metric_type for r in ModelCard(text).data.eval_results] == ["mse"]


@pytest.mark.parametrize("definition", ["a | b", "|a| + |b|", "a\nb", "a\r\n\r\n| b |"])
def test_any_definition_fits_into_the_table(card_with: Callable[..., str], definition: str) -> None:
    metrics = {"mse": metric(0.25, definition=definition), "own": metric(1e-9, dataset=None, split=None)}
    found = rows(card_with(metrics), "Metrics")
    assert [row[:5] for row in found] == [
        ["`mse`", "0.25", "mnist", "test", "7"],
        ["`own`", "1e-09", "", "", "7"],
    ]
    assert found[0][6].split() == definition.split()


def test_a_card_without_metrics(card_with: Callable[..., str]) -> None:
    text = card_with()
    assert section(text, "Metrics") == "No metrics were measured."
    assert len(tables(text)) == 1


@pytest.mark.parametrize(
    ("dead", "words"),
    [
        (0.0, []),
        (1.0, ["- 1 latent is never active on the test split."]),
        (1234.0, ["- 1,234 latents are never active on the test split."]),
        (None, []),
    ],
)
def test_dead_latents_are_a_limitation(
    card_with: Callable[..., str], dead: float | None, words: list[str]
) -> None:
    text = card_with({"dead_latents": metric(dead, None if dead is not None else "no data")})
    limitations = section(text, "Limitations").splitlines()
    assert [line for line in limitations if "never active" in line] == words


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_half_precision_is_a_limitation(card_with: Callable[..., str], dtype: str) -> None:
    text = card_with(recipe=recipe(weights_dtype=dtype))
    words = "- Weights are stored in half precision; computation is in single precision."
    assert (words in section(text, "Limitations").splitlines()) == (dtype == "float16")


def test_inputs_that_are_not_images(tmp_path: Path) -> None:
    dense = {"kind": "linear", "out_features": 3}
    spec = small_spec(input={"shape": [3]}, encoder=[dense | {"out_features": 2}], decoder=[dense])
    text = card(aezoo.save(aezoo.build(spec), tmp_path / "small"))
    assert "- Inputs have the shape 3; `ae.transforms()`" in section(text, "Limitations")
    assert "out = ae(ae.transforms()(sample))" in text
    assert front_matter(text)["pipeline_tag"] == "feature-extraction"


def test_another_target_than_the_input_makes_an_image_to_image_model(card_with: Callable[..., str]) -> None:
    decoder = [{"kind": "linear", "out_features": 108}, {"kind": "unflatten", "shape": [3, 6, 6]}]
    text = card_with(target={"shape": [3, 6, 6], "range": [0, 1]}, decoder=decoder)
    assert front_matter(text)["pipeline_tag"] == "image-to-image"


def test_a_picture_is_shown_if_it_exists(folder: Path) -> None:
    shown = f"![inputs and their reconstructions]({PREVIEW})"
    assert shown not in card(folder)
    (folder / PREVIEW).write_bytes(b"\x89PNG")
    assert shown in card(folder)


def test_a_hand_written_spec_is_shown_as_it_is(folder: Path) -> None:
    by_hand = "# Größe: mine | yours\n" + (folder / SPEC).read_text() + "# ## No heading\n"
    (folder / SPEC).write_text(by_hand)
    assert f"```yaml\n{by_hand.strip()}\n```\n" in card(folder)
    (folder / SPEC).unlink()
    shown = re.search(r"```yaml\n(.*?)\n```\n", card(folder), re.DOTALL)
    assert shown is not None
    assert aezoo.VariantSpec.model_validate(yaml.safe_load(shown[1])) == aezoo.load(folder).spec


def test_address_and_license_are_as_given(folder: Path) -> None:
    plain = card(folder)
    assert 'aezoo.load("./small")' in plain
    assert "`aezoo evaluate ./small`" in plain
    assert "license" not in front_matter(plain)
    given = card(folder, address="hub:ann/small", license="cc-by-4.0")
    assert 'aezoo.load("hub:ann/small")' in given
    assert "`aezoo evaluate hub:ann/small`" in given
    assert "./small" not in given
    assert front_matter(given)["license"] == "cc-by-4.0"


def test_the_license_of_the_present_card_is_kept(folder: Path) -> None:
    write_card(folder, license="cc-by-4.0")
    assert front_matter(card(folder))["license"] == "cc-by-4.0"
    assert front_matter(card(folder, license="mit"))["license"] == "mit"
    (folder / CARD).write_text("---\nlicense: apache-2.0\n---\nMine.")
    assert front_matter(card(folder))["license"] == "apache-2.0"


@pytest.mark.parametrize(
    "text",
    [
        "", "Mine.", "---\n---\n", "---\nlicense: [\n---\n", "---\nlicense: 5\n---\n", "---\n- a list\n---\n",
        # Aliases can make a few lines expand for minutes.
        "---\nbase: &base {license: mit}\n<<: [*base, *base]\n---\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_card_without_a_license_is_no_error(folder: Path, text: str, encoding: str) -> None:
    expected = card(folder)
    for own in (text, text + MARKER):
        (folder / CARD).write_bytes((own + "Größe").encode(encoding))
        assert card(folder) == expected


def test_a_card_depends_on_the_folder_only(
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


def test_new_weights_get_a_new_card(folder: Path, tmp_path: Path) -> None:
    write_card(folder, license="mit")
    ae = aezoo.load(folder)
    assert ae.metrics["mse"]["value"] == 0.25
    # The license belongs to the weights.
    assert front_matter((aezoo.save(ae, tmp_path / "copy") / CARD).read_text())["license"] == "mit"
    ae.metrics = {"mse": metric(0.5)}
    aezoo.save(network(seed=2), folder, overwrite=True)
    new = (folder / CARD).read_text()
    assert new == card(folder)
    assert "license" not in front_matter(new)


@pytest.mark.parametrize("text", ["# Mine\n", "", "---\nlicense: mit\n---\r\nMine.\r\n"])
def test_a_users_own_card_is_kept(folder: Path, text: str) -> None:
    (folder / CARD).write_bytes(text.encode())
    assert write_card(folder, license="mit") == folder / CARD
    assert (folder / CARD).read_bytes() == text.encode()


def test_a_card_that_cannot_be_written_stays_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_card(folder)
    before = (folder / CARD).read_bytes()
    monkeypatch.setattr("aezoo.files._sync", no_space)
    with raises("write-failed", match=r"README\.md could not be written: No space left") as caught:
        write_card(folder, license="mit")
    assert isinstance(caught.value.__cause__, OSError)
    assert (folder / CARD).read_bytes() == before


def bare(folder: Path) -> None:
    shutil.rmtree(folder)
    architecture(folder)


def spec_in_latin_1(folder: Path) -> None:
    (folder / SPEC).write_bytes("# Größe\n".encode("latin-1") + (folder / SPEC).read_bytes())


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (lambda folder: (folder / CONFIG).unlink(), "missing-file", r"small/config\.json is missing"),
        (lambda folder: flip(folder / WEIGHTS), "hash-mismatch", r"small/model\.safetensors .*sha256"),
        (bare, "not-a-variant", "small holds an architecture without name and recipe"),
        (
            lambda folder: (folder / METRICS).write_text('{"mse": {"value": 0.25}}'), "invalid-config",
            r"small/metrics\.json: mse: reason is missing, expected value, .*definition",
        ),
        (spec_in_latin_1, "invalid-config", r"small/spec\.yaml is not UTF-8"),
    ],
    ids=["untrained", "tampered", "architecture", "half a metric", "latin-1"],
)  # fmt: skip
def test_an_invalid_folder_has_no_card(
    folder: Path, spoil: Callable[[Path], object], code: str, words: str
) -> None:
    spoil(folder)
    before = sorted(folder.iterdir())
    for write in (card, write_card):
        with raises(code, match=words) as caught:
            write(folder)
        assert "\n" not in str(caught.value)
    assert sorted(folder.iterdir()) == before


# -- kinds of plugins and notebooks -------------------------------------------------------------------


class NothingSpec(aezoo.LayerSpec):
    """A layer that belongs to no distribution."""

    kind: Literal["nothing"] = "nothing"

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        return nn.Identity()


class PluginNothingSpec(NothingSpec):
    kind: Literal["sae.nothing"] = "sae.nothing"


@pytest.mark.usefixtures("fresh_registry")
def test_unpackaged_kinds_are_named(card_with: Callable[..., str]) -> None:
    aezoo.register(NothingSpec)
    text = card_with(encoder=[*ENCODER, "nothing"])
    words = "Uses kinds that no distribution provides; register them before loading: `layer:nothing`."
    assert words in text
    assert "Requires" not in text


@pytest.mark.usefixtures("fresh_registry")
def test_required_plugins_are_named(card_with: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    registry._claims["layer", "sae.nothing"] = [Registration(PluginNothingSpec, "sae")]
    who = PluginInfo("sae", "aezoo-sae", "1.2.0", 1, (("layer", "sae.nothing"),))
    monkeypatch.setattr(registry, "_plugins", [*registry._plugins, who])
    text = card_with(encoder=[*ENCODER, "sae.nothing"])
    assert "Requires `aezoo-sae==1.2.0` in addition to aezoo." in text
    assert "no distribution" not in text


# -- the command line ---------------------------------------------------------------------------------


@pytest.fixture
def rolled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a spec for a swiss roll, which needs no data and trains at once."""
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


def test_command_card_prints_a_card(run: Run, folder: Path) -> None:
    assert run("card", "fc-64") == (0, (ZOO / "fc-64" / CARD).read_text(), "")
    (folder / CARD).unlink()
    assert run("card", folder) == (0, card(folder, address=str(folder)), "")
    assert not (folder / CARD).exists()


@pytest.mark.parametrize("name", ["small", "hub:ann/small@v1.0"])
def test_command_card_prints_the_card_of_a_variant_on_the_hub(
    run: Run, hub: HubServer, root: Path, name: str
) -> None:
    commit = hub.add("ann/small", contents(root / "small"), tag="v1.0")
    write_published(root, "small", "ann/small", commit)
    expected = card(root / "small", address=name)
    shutil.rmtree(root / "small")
    assert run("card", name) == (0, expected, "")


def record(run: Run) -> None:
    code, _, err = run("evaluate", "./rolled", "--protocol", "stability", "--record")
    assert (code, err) == (0, "")


def test_training_writes_a_card_and_recording_renews_it(run: Run, rolled: Path) -> None:
    code, _, err = run("train", "rolled.yaml", "--device", "cpu")
    assert code == 0
    assert err.startswith("training, stage 0: epoch 1 of 1: mse")
    first = (rolled / CARD).read_text()
    assert first == card(rolled)
    assert MARKER in first
    assert "`latent_change`" not in first
    write_card(rolled, license="cc-by-4.0")
    record(run)
    second = (rolled / CARD).read_text()
    assert second == card(rolled)
    assert front_matter(second)["license"] == "cc-by-4.0"
    assert "`latent_change`" in [row[0] for row in rows(second, "Metrics")]


def test_recording_writes_no_card_and_keeps_a_users_own(run: Run, rolled: Path) -> None:
    aezoo.save(aezoo.build(aezoo.validate("rolled.yaml")), rolled)
    (rolled / CARD).unlink()
    record(run)
    assert not (rolled / CARD).exists()
    (rolled / CARD).write_text("Mine.")
    record(run)
    assert (rolled / CARD).read_text() == "Mine."


def test_training_keeps_a_users_own_card(run: Run, rolled: Path) -> None:
    rolled.mkdir()
    (rolled / CARD).write_text("Mine.")
    code, _, err = run("train", "rolled.yaml", "--device", "cpu")
    assert code == 0
    assert err.startswith("training, stage 0: epoch 1 of 1: mse")
    assert (rolled / CARD).read_text() == "Mine."
    assert torch.isfinite(aezoo.load(rolled).encode(torch.rand(2, 3))).all()
