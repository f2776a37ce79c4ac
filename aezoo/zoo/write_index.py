"""Writing `index.json` and the model cards of a folder of variants."""

import hashlib
from pathlib import Path
from typing import Any

from aezoo.errors import CheckpointError
from aezoo.jsonio import pretty_json
from aezoo.zoo.folders import write_file
from aezoo.zoo.index import INDEX, Entry, FileEntry, LayerEntry, forget_index, read_index
from aezoo.zoo.model_card import write_card
from aezoo.zoo.schema import ALL_FILES
from aezoo.zoo.variant_files import VariantFiles
from aezoo.zoo.verify import load, load_spec, require_variant


def write_index(root: Path, *, license: str | None = None) -> Path:
    """Write the model card of every variant under a folder, then `index.json`.

    Args:
        root: a folder of variants.
        license: of the weights, as a Hub identifier such as `mit`; by default the one in the index.

    Returns:
        The path of the index.

    Raises:
        CheckpointError: the folder has no variants, or one cannot be loaded.
    """
    if not any(root.glob("*/config.json")):
        what = "holds no variants" if root.is_dir() else "is not a folder"
        raise CheckpointError("target", f"{root} {what}; expected a folder with one folder per variant")
    license = license or (read_index(root) if (root / INDEX).is_file() else {}).get("license")
    for config in sorted(root.glob("*/config.json")):
        write_card(config.parent, address=config.parent.name, license=license)
    return _write(root, build_index(root) | {"license": license})


def write_published(root: Path, name: str, repository: str, commit: str) -> None:
    """Record the published commit of a variant, unless its entry names another repository."""
    index = read_index(root)
    entry = index["variants"][name]
    if entry["repository"] in (None, repository):
        entry.update(repository=repository, commit=commit)
    _write(root, index)


def build_index(root: Path) -> dict[str, Any]:
    """The content of `index.json` for the variants under a folder.

    License, repositories and commits are copied from the present index.

    Raises:
        CheckpointError: a variant cannot be loaded.
    """
    present = read_index(root) if (root / INDEX).is_file() else {}
    published: dict[str, Entry] = present.get("variants", {})
    names = sorted(config.parent.name for config in root.glob("*/config.json"))
    return {
        "schema_version": 1,
        "license": present.get("license"),
        "variants": {name: _entry(root / name, published.get(name)) for name in names},
    }


def _write(root: Path, index: dict[str, Any]) -> Path:
    path = root / INDEX
    write_file(path, pretty_json(index))
    forget_index()
    return path


def _entry(folder: Path, published: Entry | None) -> Entry:
    name = load_spec(VariantFiles(folder)).name
    if name != folder.name:
        raise CheckpointError("not-a-variant", f"{folder} holds {name!r}, expected {folder.name!r}")
    return folder_entry(folder, published)


def folder_entry(folder: Path, published: Entry | None = None) -> Entry:
    """The index entry of the variant in a folder, which is loaded for it.

    Args:
        folder: as `save` wrote it.
        published: an older entry, whose repository and commit are kept.

    Raises:
        CheckpointError: the variant cannot be loaded.
    """
    ae = load(VariantFiles(folder))
    spec = require_variant(ae.spec, folder)
    dataset = spec.recipe.dataset
    files = {name: (folder / name).read_bytes() for name in ALL_FILES if (folder / name).is_file()}
    return Entry(
        summary=spec.summary,
        references=list(spec.references),
        dataset=None if dataset is None else dataset.kind_name,
        input=list(spec.input.shape),
        latents=list(ae.latent_shape),
        parameters=ae.num_parameters,
        layers=[
            LayerEntry(path=r.path, kind=r.kind, output=list(r.output), parameters=r.parameters)
            for r in ae.summary()
        ],
        metrics={name: metric.get("value") for name, metric in ae.metrics.items()},
        files={
            name: FileEntry(sha256=hashlib.sha256(raw).hexdigest(), bytes=len(raw))
            for name, raw in files.items()
        },
        repository=published["repository"] if published else None,
        commit=published["commit"] if published else None,
    )
