"""A folder on disk and an autoencoder: saved whole or not at all, loaded verified or not at all.

A folder holds `config.json` (the resolved spec, every layer's shapes, the weights' hash and size),
`model.safetensors`, `metrics.json`, `training.json`, `spec.yaml` and, mostly, `preview.png`.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch

from aezoo.errors import CheckpointError
from aezoo.files import write_atomically, write_durably
from aezoo.jsonio import pretty_json
from aezoo.model.autoencoder import DATA_STATISTICS, Autoencoder
from aezoo.model.build import build_on_meta
from aezoo.specs.schema import SCHEMA_VERSION, spec_sha256
from aezoo.specs.yaml import to_yaml
from aezoo.zoo.schema import (
    CARD,
    CONFIG,
    FILES,
    MARKER,
    METRICS,
    PREVIEW,
    SPEC,
    TRAINING,
    WEIGHTS,
    FolderConfig,
    ShapesRecord,
    WeightsRecord,
    expected_tensors,
    required_plugins,
    storage_dtypes,
    weights_metadata,
)
from aezoo.zoo.verify import VariantFiles, read_record
from aezoo.zoo.weights import as_stored, refuse_nonfinite


def save(
    ae: Autoencoder,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """Writes an autoencoder's folder, whole or not at all.

    Weights are stored in `recipe.weights_dtype`, which is float32 unless declared. A `spec.yaml` that lies
    there is kept; files that are not part of a variant's folder are refused rather than moved.

    Args:
        ae: on any device, in any mode.
        folder: made with its parents; may hold a `spec.yaml`.
        overwrite: whether a folder with weights may be replaced.
        files: `preview.png` and `README.md`, where there are any.

    Returns:
        The folder.

    Raises:
        CheckpointError: the folder holds weights or foreign files, or cannot be written; what it held
            is still there.
        NotFiniteError: a weight is NaN or infinite.
    """
    target = Path(folder)
    present = check_target(target, overwrite=overwrite)
    for name in files or {}:
        if name not in (PREVIEW, CARD):
            raise CheckpointError(
                "target", f"{name!r} is none of {PREVIEW} and {CARD}, which may be given; not saved"
            )
    contents = _contents(ae) | dict(files or {})
    if SPEC in present:
        contents.pop(SPEC, None)
    return write_folder(target, contents, [name for name in _own(target, present) if name not in contents])


def write_folder(target: Path, contents: Mapping[str, bytes], kept: Iterable[str] = ()) -> Path:
    """Writes a folder whole or not at all, in the place of one that is there.

    Args:
        target: made with its parents.
        contents: file -> bytes.
        kept: files of the old folder that go on into the new one.

    Raises:
        CheckpointError: it cannot be written; what was there still is.
    """
    try:
        _swap(target, contents, kept)
    except OSError as error:
        raise CheckpointError(
            "write-failed", f"{target} could not be written: {error.strerror or error}"
        ) from error
    return target


def _own(folder: Path, present: list[str]) -> list[str]:
    """The files of a folder that somebody wrote, which new weights do not replace."""
    card = folder / CARD
    ours = CARD in present and MARKER in card.read_text("utf-8", errors="replace")
    return [name for name in present if name == SPEC or (name == CARD and not ours)]


def check_target(folder: Path, *, overwrite: bool) -> list[str]:
    """Refuses a folder that `save` could not write, before hours are spent on what goes there.

    Returns:
        The names of the files that it holds.

    Raises:
        CheckpointError: a file, or a folder that holds weights or foreign files.
    """
    if folder.exists() and not folder.is_dir():
        raise CheckpointError("target", f"{folder} is a file, a folder is expected")
    if folder.resolve() == Path.cwd():
        raise CheckpointError(
            "target",
            f"{folder} is the current folder, which cannot be replaced as a whole; run this from above it",
        )
    present = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    foreign = next((name for name in present if name not in FILES), None)
    if foreign is not None:
        raise CheckpointError(
            "target", f"{folder} holds {foreign!r}, which is no part of a variant; use another folder"
        )
    if (CONFIG in present or WEIGHTS in present) and not overwrite:
        raise CheckpointError(
            "target", f"{folder} already holds a trained variant; pass overwrite=True (--overwrite)"
        )
    return present


def is_unfinished(folder: Path) -> bool:
    """Whether a folder holds what a training that was cut off left behind."""
    files = VariantFiles(folder)
    return files.has(TRAINING) and "unfinished" in read_record(files, TRAINING, {}, {})


def _contents(ae: Autoencoder) -> dict[str, bytes]:
    spec = ae.spec.resolved()
    spec_data = spec.model_dump(mode="json")
    stored = storage_dtypes(ae)
    tensors = {
        name: as_stored(tensor, stored.get(name, torch.float32)) for name, tensor in ae.state_dict().items()
    }
    for name, tensor in tensors.items():
        refuse_nonfinite(name, tensor)
    fresh = build_on_meta(spec, ae.shapes, sys.maxsize)
    fitted = tuple(name for name in DATA_STATISTICS if getattr(ae, name) is not None)
    wanted, found = (
        expected_tensors(fresh, fitted),
        {name: (t.dtype, tuple(t.shape)) for name, t in tensors.items()},
    )
    for name in sorted(wanted.keys() | found.keys()):
        if found.get(name) != wanted.get(name):
            # Such as weights that are tied just now, or a layer that was exchanged after the build.
            raise CheckpointError(
                "tensor-mismatch",
                f"{name} is {found.get(name)}, the spec asks for {wanted.get(name)}; not saved",
            )
    digest = spec_sha256(spec)
    weights = safetensors.torch.save(tensors, metadata=weights_metadata(spec, digest))
    plugins, unpackaged = required_plugins(spec)
    config = FolderConfig(
        schema_version=SCHEMA_VERSION,
        spec_sha256=digest,
        shapes={path: ShapesRecord(input=s.input, output=s.output) for path, s in ae.shapes.items()},
        fitted=cast(Any, fitted),
        columns=ae.columns,
        plugins=plugins,
        unpackaged=unpackaged,
        latents=ae.num_latents,
        # Not those of `ae`, where two layers may share some.
        parameters=fresh.num_parameters,
        weights=WeightsRecord(sha256=hashlib.sha256(weights).hexdigest(), bytes=len(weights)),
    )
    return {
        CONFIG: pretty_json({**config.model_dump(mode="json"), "spec": spec_data}),
        WEIGHTS: weights,
        METRICS: pretty_json(ae.metrics),
        TRAINING: pretty_json(ae.training_record),
        SPEC: to_yaml(ae.spec).encode(),
    }


def _swap(target: Path, contents: Mapping[str, bytes], kept: Iterable[str]) -> None:
    """Puts a complete new folder in the place of the old one.

    The new one is written beside it first, so that a full disk or a crash leaves the old one as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{target.name}-new-", dir=target.parent))
    try:
        for name, data in contents.items():
            write_durably(stage / name, data)
        for name in kept:
            shutil.copy2(target / name, stage / name)
        umask = os.umask(0)
        os.umask(umask)
        stage.chmod(0o777 & ~umask)
        if not target.exists():
            stage.rename(target)
            return
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
        try:
            target.rename(old / target.name)
            try:
                stage.rename(target)
            except OSError:
                (old / target.name).rename(target)
                raise
        finally:
            if target.exists():
                shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def record_metrics(folder: str | os.PathLike[str], found: Mapping[str, Mapping[str, object]]) -> Path:
    """Writes numbers into a folder's `metrics.json`, beside those that are there or in their place.

    Args:
        folder: as `save` wrote it.
        found: name -> entry, measured on the folder's own weights.

    Returns:
        The file.

    Raises:
        CheckpointError: the metrics that are there cannot be read, or the new ones not be written.
    """
    path = Path(folder) / METRICS
    there = read_record(VariantFiles(Path(folder)), METRICS, {}, {})
    metrics = there | {name: dict(entry) for name, entry in found.items()}
    # As `train` writes them: what was measured at the end, what was chosen by, what was recorded.
    ordered = sorted(
        metrics, key=lambda name: (metrics[name].get("source") == "recorded", ".validation" in name)
    )
    data = pretty_json({name: metrics[name] for name in ordered})
    try:
        write_atomically(path, data)
    except OSError as error:
        raise CheckpointError(
            "write-failed", f"{path} could not be written: {error.strerror or error}"
        ) from error
    return path
