"""The model card: what a folder holds, in words, a picture and tables. Written from the folder alone."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import yaml
from huggingface_hub import EvalResult, ModelCardData

from aezoo.errors import CheckpointError
from aezoo.files import write_atomically
from aezoo.model.autoencoder import Autoencoder
from aezoo.plugins.registry import registry
from aezoo.specs.components import DatasetSpec
from aezoo.specs.variant import VariantSpec
from aezoo.specs.yaml import to_yaml
from aezoo.zoo.schema import CARD, CONFIG, MARKER, METRICS, PREVIEW, SPEC
from aezoo.zoo.verify import load_folder

METRIC = ("value", "reason", "source", "dataset", "split", "n", "definition")
SITES = {"arxiv": "https://arxiv.org/abs/", "doi": "https://doi.org/", "isbn": "https://isbnsearch.org/isbn/"}


def card(folder: str | os.PathLike[str], *, address: str | None = None, license: str | None = None) -> str:
    """The model card of a folder, Markdown under the metadata that the Hub reads.

    Every number in it stands in the folder's files; those that were measured, in `metrics.json`.

    Args:
        folder: as `save` wrote it; verified first.
        address: what `aezoo.load` is called with; the folder's name by default.
        license: of the weights, by the Hub's identifier, such as `mit`; by default what the folder's card
        says,
            if there is one.

    Raises:
        CheckpointError: the folder cannot be loaded, or holds an architecture without a recipe.
    """
    path = Path(folder)
    ae = load_folder(path)
    if not isinstance(ae.spec, VariantSpec):
        raise CheckpointError(
            "invalid-config",
            f"{path} holds an architecture without a name and a recipe; a card is of a variant",
        )
    for name, entry in ae.metrics.items():
        if missing := [key for key in METRIC if key not in entry]:
            raise CheckpointError(
                "invalid-config",
                f"{path / METRICS}: {name}: expected {', '.join(METRIC)}; {missing[0]} is missing",
            )
    address = address or f"./{path.resolve().name}"
    parts = [
        _metadata(ae, ae.spec, license or _license_of(path / CARD)),
        MARKER,
        f"# {ae.spec.name}",
        ae.spec.summary,
        *([f"![inputs and their reconstructions]({PREVIEW})"] if (path / PREVIEW).is_file() else []),
        *_loading(ae, address, path),
        "## Layers",
        _table(
            ("layer", "kind", "output", "parameters"),
            ((f"`{r.path}`", f"`{r.kind}`", _shape(r.output), f"{r.parameters:,}") for r in ae.summary()),
        ),
        f"{ae.num_parameters:,} trainable numbers; {_shape(ae.latent_shape)} latents.",
        "## Recipe",
        f"```yaml\n{_spec_text(path, ae.spec).strip()}\n```",
        _training(ae),
        "## Measured",
        *_measured(ae, address),
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(ae, ae.spec)),
    ]
    if ae.spec.references:
        parts += ["## References", "\n".join(f"- {_reference(text)}" for text in ae.spec.references)]
    return "\n\n".join(parts) + "\n"


def write_card(
    folder: str | os.PathLike[str], *, address: str | None = None, license: str | None = None
) -> Path:
    """Writes a folder's card; a text of its owner's own, without the line that marks ours, is left alone.

    Raises:
        CheckpointError: as for `card`, or it cannot be written.
    """
    path = Path(folder) / CARD
    if not is_own(path):
        try:
            write_atomically(path, card(folder, address=address, license=license).encode())
        except OSError as error:
            raise CheckpointError(
                "write-failed", f"{path} could not be written: {error.strerror or error}"
            ) from error
    return path


def is_own(path: Path) -> bool:
    """Whether a card is a text of its owner's own."""
    return path.is_file() and MARKER not in path.read_text("utf-8", errors="replace")


def _license_of(path: Path) -> str | None:
    """The licence that a card names, whoever wrote it."""
    if not path.is_file():
        return None
    matter = re.match(r"---\r?\n(.*?)\n---", path.read_text("utf-8", errors="replace"), re.DOTALL)
    try:
        found: object = yaml.safe_load(matter[1]) if matter else None
    except yaml.YAMLError:
        return None
    named = cast(dict[str, object], found).get("license") if isinstance(found, dict) else None
    return named if isinstance(named, str) else None


# -- its parts ----------------------------------------------------------------------------------------


def _metadata(ae: Autoencoder, spec: VariantSpec, license: str | None) -> str:
    task = _task(spec)
    dataset = spec.recipe.dataset
    hub_id = None if dataset is None else dataset.hub_id
    arguments = {} if dataset is None else _arguments(dataset)
    # Of the variant, and such that one can be better than another: not of its data, nor of a yardstick.
    judged = {name for name in registry.names("metric") if registry.get("metric", name).better != "neither"}
    results = [
        EvalResult(
            task_type=task,
            dataset_type=str(hub_id),
            dataset_name=entry["dataset"],
            dataset_split=entry["split"],
            dataset_args=arguments or None,
            metric_type=name,
            metric_name=name,
            metric_value=entry["value"],
        )
        for name, entry in ae.metrics.items()
        if hub_id and name in judged and entry["split"] == "test" and entry["value"] is not None
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


def _task(spec: VariantSpec) -> str:
    """By what it is for: a clean or another image out of one, or the latents."""
    images = len(spec.input.shape) == 3 and len(spec.output.shape) == 3
    changed = spec.recipe.noises or spec.output != spec.input
    return "image-to-image" if images and changed else "feature-extraction"


def _tags(spec: VariantSpec) -> list[str]:
    """What sets it apart: kinds of what limits_information it, of penalties and of noises."""
    found = [layer.kind_name for layer in (*spec.encoder, *spec.decoder) if layer.limits_information]
    found += [part.kind_name for part in (*spec.recipe.penalties, *spec.recipe.noises)]
    if len(spec.input.shape) == 3 and any("conv" in (layer.kind_name or "") for layer in spec.encoder):
        found.append("convolutional")
    return list(dict.fromkeys(kind for kind in found if kind))


def _loading(ae: Autoencoder, address: str, path: Path) -> Iterator[str]:
    yield (
        "```python\nimport aezoo\n\n"
        f'ae = aezoo.load("{address}")\n'
        f"out = ae(ae.transforms()({_sample(ae)}))  # Output(x_hat, latents, aux)\n```"
    )
    config = json.loads((path / CONFIG).read_text("utf-8"))
    needed = [f"{plugin['distribution']}=={plugin['version']}" for plugin in config["plugins"]]
    if needed:
        yield f"It needs {', '.join(f'`{name}`' for name in needed)} beside aezoo."
    if config["unpackaged"]:
        kinds = ", ".join(f"`{name}`" for name in config["unpackaged"])
        yield f"It uses kinds that come with no distribution, to be registered before loading: {kinds}."


def _sample(ae: Autoencoder) -> str:
    return "image" if len(ae.spec.input.shape) == 3 else "sample"


def _spec_text(path: Path, spec: VariantSpec) -> str:
    own = path / SPEC
    try:
        return own.read_text("utf-8") if own.is_file() else to_yaml(spec)
    except UnicodeDecodeError as error:
        raise CheckpointError(
            "invalid-config", f"{own} is no UTF-8: {error.reason} at byte {error.start}"
        ) from error


def _training(ae: Autoencoder) -> str:
    record = ae.training_record
    versions = cast(dict[str, str], record.get("versions", {}))
    with_ = ", ".join(f"{name} {version}" for name, version in versions.items())
    data = cast(dict[str, Any], record.get("data", {}))
    pieces = [f"Trained on {_on(record)} with {with_}." if with_ else ""]
    train, held = data.get("train", {}), data.get("validation", {})
    if "n" in train and "n" in held:
        pieces.append(
            f"{train['n']:,} samples were trained on, {held['n']:,} held out to choose by"
            f"{'; then all of them were trained on' if record.get('refit') else ''}."
        )
    return " ".join(piece for piece in pieces if piece)


def _on(record: dict[str, Any]) -> str:
    threads = record.get("threads")
    words = f"{threads} thread{'s' if threads != 1 else ''}" if threads else ""
    return " with ".join(part for part in (str(record.get("device", "a machine")), words) if part)


def _measured(ae: Autoencoder, address: str) -> Iterator[str]:
    if not ae.metrics:
        yield "Nothing was measured."
        return
    yield (
        f"`aezoo evaluate {address}` computes again what is `computed`; `protocol` takes its own "
        "(`aezoo protocols`), and `recorded` was written down as it happened. A number that was not measured "
        "is null."
    )
    rows: list[tuple[str, ...]] = []
    for name, entry in ae.metrics.items():
        value = entry["value"]
        shown = f"null: {entry['reason']}" if value is None else f"{value:.6g}"
        rows.append((
            f"`{name}`", shown, str(entry["dataset"] or ""), str(entry["split"] or ""), f"{entry['n']:,}",
            entry["source"], entry["definition"],
        ))  # fmt: skip
    yield _table(("metric", "value", "dataset", "split", "samples", "source", "definition"), rows)


def _limits(ae: Autoencoder, spec: VariantSpec) -> Iterator[str]:
    dataset = spec.recipe.dataset
    data = "data that are not part of this repository"
    if dataset is not None:
        inner = ", ".join(f"{name}={value}" for name, value in _arguments(dataset).items())
        data = f"`{dataset.kind_name}{inner and f'({inner})'}`"
    low, high = spec.input.range or (None, None)
    span = "" if low is None else f" with values from {low:g} to {high:g}"
    yield f"Trained on {data} alone: other inputs are reconstructed as if they were such."
    yield f"It takes inputs of {_shape(spec.input.shape)}{span}; `ae.transforms()` brings images there."
    if (dead := ae.metrics.get("dead_latents", {}).get("value")) is not None and dead > 0:
        words = "1 latent is" if dead == 1 else f"{dead:,.0f} latents are"
        yield f"{words} never active on the {ae.metrics['dead_latents']['split']} split."
    if spec.recipe.weights_dtype == "float16":
        yield "Weights are stored in half precision and computed with in single."
    yield "Latents have no meaning assigned to them, and their order none beyond what the recipe says."


def _arguments(dataset: DatasetSpec) -> dict[str, Any]:
    """Fields of a dataset that are not what they are by default."""
    found = dataset.model_dump(mode="json", exclude_defaults=True)
    return {name: value for name, value in found.items() if name != "kind"}


def _reference(text: str) -> str:
    kind, _, value = text.partition(":")
    site = SITES.get(kind.lower())
    return f"[{text}]({site}{value})" if site else text


def _shape(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(' '.join(cell.replace('|', BAR).split()) for cell in row)} |" for row in lines
    )


BAR = r"\|"
