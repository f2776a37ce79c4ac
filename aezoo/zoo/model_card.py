"""The model card: a folder's content as text, a picture and tables, with metadata for the Hub."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from huggingface_hub import EvalResult, ModelCardData

from aezoo.errors import AezooError, CheckpointError, SpecError
from aezoo.model.autoencoder import Autoencoder
from aezoo.plugins.registry import registry
from aezoo.specs.components import DatasetSpec
from aezoo.specs.variant import VariantSpec
from aezoo.specs.yaml import Document, read_spec, to_yaml
from aezoo.text import markdown, markdown_block, markdown_code
from aezoo.zoo.folders import is_user_written, write_file
from aezoo.zoo.schema import CARD, MARKER, METRIC_KEYS, METRICS, PREVIEW, SPEC, FolderConfig
from aezoo.zoo.variant_files import VariantFiles, check_path, read_text
from aezoo.zoo.verify import check_config, check_config_bytes, load, require_variant

FRONT_MATTER = re.compile(r"\s*---\n(.*?)^---$", re.DOTALL | re.MULTILINE)
SITES = {"arxiv": "https://arxiv.org/abs/", "doi": "https://doi.org/", "isbn": "https://isbnsearch.org/isbn/"}


def card(folder: str | os.PathLike[str], *, address: str | None = None, license: str | None = None) -> str:
    """The model card of a folder, as Markdown with the Hub's metadata on top.

    Every number in it comes from the folder's files; every metric from `metrics.json`.

    Args:
        folder: as `save` wrote it; verified first.
        address: the argument of `aezoo.load` in the example; by default `./` and the folder's name.
        license: of the weights, as a Hub identifier such as `mit`; by default that of the present card.

    Raises:
        CheckpointError: the folder cannot be loaded, or holds an architecture without a recipe.
    """
    files = VariantFiles(check_path(Path(folder), "missing-file"))
    path = files.folder
    ae = load(files)
    spec = require_variant(ae.spec, path)
    config = check_config(files, check_config_bytes(files))
    for name, entry in ae.metrics.items():
        if missing := [key for key in METRIC_KEYS if key not in entry]:
            text = f"{path / METRICS}: {name}: {missing[0]} is missing, expected {', '.join(METRIC_KEYS)}"
            raise CheckpointError("invalid-config", text)
    address = address or f"./{path.resolve().name}"
    layers = [
        (markdown_code(r.path), markdown_code(r.kind), _shape(r.output), f"{r.parameters:,}")
        for r in ae.summary()
    ]
    parts = [
        _metadata(ae, spec, license or license_of(path / CARD)),
        MARKER,
        f"# {spec.name}",
        markdown(spec.summary),
        *([f"![inputs and their reconstructions]({PREVIEW})"] if files.has(PREVIEW) else []),
        *_usage(spec, config, address),
        "## Layers",
        _table(("layer", "kind", "output", "parameters"), layers),
        f"{ae.num_parameters:,} trainable parameters; {_shape(ae.latent_shape)} latents.",
        "## Recipe",
        markdown_block(_recipe(files, spec), "yaml"),
        _training(ae.training_record),
        "## Metrics",
        *_metrics(ae.metrics, address),
        "## Limitations",
        "\n".join(f"- {limitation}" for limitation in _limitations(ae, spec)),
    ]
    if spec.references:
        parts += ["## References", "\n".join(f"- {_reference(text)}" for text in spec.references)]
    return "\n\n".join(parts) + "\n"


def _recipe(files: VariantFiles, spec: VariantSpec) -> str:
    """The text of `spec.yaml` if the network was trained from it, else the config's spec."""
    if files.has(SPEC):
        text = read_text(files.folder / SPEC)
        try:
            if read_spec(files.folder / SPEC).resolved() == spec.resolved():
                return text
        except AezooError:
            pass
    return to_yaml(spec)


def write_card(
    folder: str | os.PathLike[str], *, address: str | None = None, license: str | None = None
) -> Path:
    """Write a folder's `README.md`, unless the user wrote it.

    Args:
        folder: as for `card`.
        address: as for `card`.
        license: as for `card`.

    Returns:
        The path of the card.

    Raises:
        CheckpointError: as for `card`, or the card cannot be written.
    """
    path = Path(folder) / CARD
    if not is_user_written(path):
        write_file(path, card(folder, address=address, license=license).encode())
    return path


def license_of(path: Path) -> str | None:
    """The license in a card's metadata, if any."""
    try:
        metadata = FRONT_MATTER.match(path.read_text("utf-8-sig")) if path.is_file() else None
        # `Document` refuses aliases, which let a few lines take minutes in PyYAML's own loader.
        data = Document(metadata[1], str(path)).data if metadata else None
    except (UnicodeDecodeError, SpecError):
        return None
    license = cast(dict[str, object], data).get("license") if isinstance(data, dict) else None
    return license if isinstance(license, str) else None


def _metadata(ae: Autoencoder, spec: VariantSpec, license: str | None) -> str:
    dataset = spec.recipe.dataset
    hub_id = None if dataset is None else dataset.hub_id
    # A clean or another image for an image, or else the latents.
    images = len(spec.input.shape) == 3 and len(spec.output.shape) == 3
    changed = spec.recipe.noises or spec.output != spec.input
    task = "image-to-image" if images and changed else "feature-extraction"
    # Metrics that rank variants; others describe the variant, or are a baseline.
    ranking = {name for name in registry.names("metric") if registry.get("metric", name).better != "neither"}
    results = [
        EvalResult(
            task_type=task,
            dataset_type=str(hub_id),
            dataset_name=entry["dataset"],
            dataset_split=entry["split"],
            dataset_args=_arguments(dataset) or None if dataset else None,
            metric_type=name,
            metric_name=name,
            metric_value=entry["value"],
        )
        for name, entry in ae.metrics.items()
        if hub_id and name in ranking and entry["split"] == "test" and entry["value"] is not None
    ]
    data = ModelCardData(
        library_name="aezoo",
        license=license,
        pipeline_tag=task,
        datasets=[hub_id] if hub_id else None,
        tags=["autoencoder", *_tags(spec)],
        model_name=spec.name,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml(line_break=chr(10))}\n---"


def _tags(spec: VariantSpec) -> list[str]:
    """Kinds of the layers that limit information, of penalties and of noises."""
    found = [layer.kind_name for layer in (*spec.encoder, *spec.decoder) if layer.limits_information]
    found += [part.kind_name for part in (*spec.recipe.penalties, *spec.recipe.noises)]
    if len(spec.input.shape) == 3 and any("conv" in (layer.kind_name or "") for layer in spec.encoder):
        found.append("convolutional")
    return list(dict.fromkeys(kind for kind in found if kind))


def _usage(spec: VariantSpec, config: FolderConfig, address: str) -> Iterator[str]:
    sample = "image" if len(spec.input.shape) == 3 else "sample"
    yield (
        "```python\nimport aezoo\n\n"
        f'ae = aezoo.load("{address}")\n'
        f"out = ae(ae.transforms()({sample}))  # Output(x_hat, latents, aux)\n```"
    )
    if config.plugins:
        required = ", ".join(
            markdown_code(f"{plugin.distribution}=={plugin.version}") for plugin in config.plugins
        )
        yield f"Requires {required} in addition to aezoo."
    if config.unpackaged:
        kinds = ", ".join(map(markdown_code, config.unpackaged))
        yield f"Uses kinds that no distribution provides; register them before loading: {kinds}."


def _training(record: dict[str, Any]) -> str:
    sentences: list[str] = []
    if versions := cast(dict[str, str], record.get("versions") or {}):
        threads = record.get("threads")
        device = str(record.get("device", "an unknown device"))
        device += f" ({threads} thread{'s' if threads != 1 else ''})" if threads else ""
        packages = ", ".join(f"{name} {version}" for name, version in versions.items())
        sentences.append(markdown(f"Trained on {device} with {packages}."))
    if "modified" in record:
        sentences.append("**Modified**: the network was changed after this training.")
    data = cast(dict[str, dict[str, int]], record.get("data", {}))
    train, validation = (data.get(split, {}).get("n") for split in ("train", "validation"))
    if train is not None and validation is not None:
        refit = "; then retrained on all of them" if record.get("refit") else ""
        sentences.append(f"{train:,} training samples, {validation:,} validation samples{refit}.")
    return " ".join(sentences)


def _metrics(metrics: dict[str, dict[str, Any]], address: str) -> Iterator[str]:
    if not metrics:
        yield "No metrics were measured."
        return
    yield (
        f"`aezoo evaluate {address}` recomputes the `computed` metrics. A `protocol` metric takes several "
        "passes or another training (`aezoo protocols`); a `recorded` metric was noted during training. A "
        "metric that was not measured is null."
    )
    rows: list[tuple[str, ...]] = []
    for name, entry in metrics.items():
        value = entry["value"]
        shown = markdown(f"null: {entry['reason']}") if value is None else f"{value:.6g}"
        rows.append((
            markdown_code(name), shown, markdown(entry["dataset"] or ""), markdown(entry["split"] or ""),
            "" if entry["n"] is None else f"{entry['n']:,}",
            markdown(entry["source"]), markdown(entry["definition"]),
        ))  # fmt: skip
    yield _table(("metric", "value", "dataset", "split", "samples", "source", "definition"), rows)


def _limitations(ae: Autoencoder, spec: VariantSpec) -> Iterator[str]:
    data = "data that are not part of this repository"
    if dataset := spec.recipe.dataset:
        arguments = ", ".join(f"{name}={value}" for name, value in _arguments(dataset).items())
        data = markdown_code(f"{dataset.kind_name}{arguments and f'({arguments})'}")
    low, high = spec.input.range or (None, None)
    values = "" if low is None else f" with values from {low:g} to {high:g}"
    yield f"Trained on {data} only; out-of-distribution inputs are not detected."
    yield f"Inputs have the shape {_shape(spec.input.shape)}{values}; `ae.transforms()` converts data to it."
    if dead := ae.metrics.get("dead_latents", {}).get("value"):
        latents = "1 latent is" if dead == 1 else f"{dead:,.0f} latents are"
        yield f"{latents} never active on the {markdown(ae.metrics['dead_latents']['split'])} split."
    if spec.recipe.weights_dtype == "float16":
        yield "Weights are stored in half precision; computation is in single precision."
    yield "Latents have no assigned meaning, and no order unless the recipe gives them one."


def _arguments(dataset: DatasetSpec) -> dict[str, Any]:
    """The fields of a dataset that differ from their defaults."""
    found = dataset.model_dump(mode="json", exclude_defaults=True)
    return {name: value for name, value in found.items() if name != "kind"}


def _reference(text: str) -> str:
    kind, _, value = text.partition(":")
    site = SITES.get(kind.lower())
    link = quote(value, safe="/:.()")
    return f"[{markdown(text)}]({site}{link})" if site else markdown(text)


def _shape(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    cells = ([" ".join(re.sub(r"(?<!\\)\|", r"\|", cell).split()) for cell in row] for row in lines)
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
