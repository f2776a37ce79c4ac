"""Saving a variant's folder: complete or not at all."""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from torch import Tensor

from aezoo.errors import CheckpointError
from aezoo.files import check_writable, read_limited, replace_folder, sweep, write_atomically, write_durably
from aezoo.jsonio import pretty_json
from aezoo.model.autoencoder import DATA_STATISTICS, Autoencoder, require_autoencoder
from aezoo.model.build import build_on_meta
from aezoo.specs.schema import SCHEMA_VERSION, spec_sha256
from aezoo.specs.yaml import to_yaml
from aezoo.zoo.names import own_name
from aezoo.zoo.schema import (
    CARD,
    CONFIG,
    FILES,
    MARKER,
    METRIC_KEYS,
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
    tensor_mismatch,
    weights_metadata,
)
from aezoo.zoo.variant_files import VariantFiles
from aezoo.zoo.verify import check_values

CHANGED = "the network was changed after this was measured"
MODIFIED = "the network was changed after this training"


def save(
    ae: Autoencoder,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """Write an autoencoder's folder, complete or not at all.

    Weights are stored in `recipe.weights_dtype`, float32 by default. If weights, scaling, columns, network or
    recipe have changed since `ae.metrics` was assigned, the metrics are saved as null with that reason; if
    they have changed since the training, `training.json` has the entry `modified`.

    The name of a published variant belongs to its recipe and weights. With another recipe, other data or
    changed weights, the folder gets a name of its own (its file name if that is a valid one, else
    `my-NAME`), with a warning.

    A `spec.yaml` or a user's own `README.md` in the folder is kept; a folder with files that are not part of
    a variant is refused. If `folder` is a link to a folder, the link is kept and the folder that it names is
    replaced.

    Args:
        ae: on any device, in any mode.
        folder: created with its parents; may hold a `spec.yaml`.
        overwrite: whether a folder with weights may be replaced.
        files: contents of `preview.png` and `README.md`, if any.

    Returns:
        The folder.

    Raises:
        CheckpointError: a weight is NaN or infinite, the network does not match its spec, the folder holds
            weights or foreign files, or it cannot be written; its old content is still there.
    """
    return save_completed(ae, Path(folder), overwrite=overwrite, files=files)


def save_completed(
    ae: Autoencoder,
    target: Path,
    *,
    overwrite: bool = False,
    files: Mapping[str, bytes] | None = None,
    complete: Callable[[Path], object] | None = None,
) -> Path:
    """Write a folder as `save` does, with files that are made from the others.

    Args:
        ae: as for `save`.
        target: as `folder` for `save`.
        overwrite: as for `save`.
        files: as for `save`.
        complete: called with the new folder before it takes the place of the old one; adds files.

    Returns:
        The folder.

    Raises:
        CheckpointError: as for `save`.
    """
    require_autoencoder(ae)
    present = check_target(target, overwrite=overwrite)
    for name in files or {}:
        if name not in (PREVIEW, CARD):
            raise CheckpointError("target", f"files: expected {PREVIEW} or {CARD}, found {name!r}; not saved")
    contents = _contents(ae, target) | dict(files or {})
    if SPEC in present:
        contents.pop(SPEC)
    kept = [name for name in present if name == SPEC or (name == CARD and is_user_written(target / CARD))]
    return write_folder(target, contents, [name for name in kept if name not in contents], complete)


def write_folder(
    target: Path,
    contents: Mapping[str, bytes],
    kept: Iterable[str] = (),
    complete: Callable[[Path], object] | None = None,
) -> Path:
    """Write a folder, complete or not at all, replacing an older one.

    Args:
        target: created with its parents.
        contents: file -> bytes.
        kept: files of the old folder that are copied into the new one.
        complete: as for `save_completed`.

    Returns:
        The folder.

    Raises:
        CheckpointError: the folder cannot be written; its old content is still there.
    """

    def fill(new: Path) -> None:
        for name, data in contents.items():
            write_durably(new / name, data)
        for name in kept:
            shutil.copy2(target / name, new / name)
        if complete is not None:
            complete(new)

    try:
        replace_folder(target, fill)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise _write_error(target, error) from error
    return target


def write_file(path: Path, data: bytes) -> None:
    """Replace a file in one step; its folder is created if it is missing.

    Raises:
        CheckpointError: the file cannot be written; its old content is still there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise _write_error(path, error) from error


def check_space(path: Path, size: int) -> None:
    """Check that a file of `size` bytes could be written at `path`, whose folder is created.

    Raises:
        CheckpointError: it could not: the disk is full or read-only, or the path cannot be used.
    """
    try:
        check_writable(path, size)
    except (OSError, ValueError) as error:
        raise _write_error(path, error) from error


def _write_error(path: Path, error: OSError | ValueError) -> CheckpointError:
    reason = error.strerror if isinstance(error, OSError) else None
    return CheckpointError("write-failed", f"{shorten(path)} could not be written: {reason or error}")


def shorten(path: Path, limit: int = 400) -> str:
    """A path as text, without its middle if it is long."""
    text = str(path)
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"


def check_target(folder: Path, *, overwrite: bool) -> list[str]:
    """Check that `save` could write a folder, before hours are spent on its content.

    What a killed process left of writing the folder is deleted; a folder that it was replacing is restored.

    Returns:
        The names of the files in the folder.

    Raises:
        CheckpointError: the path is a file, the current folder, a mount point, cannot be read, or is a folder
            with weights or foreign files.
    """
    try:
        return _check_target(folder, overwrite=overwrite)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = error.strerror if isinstance(error, OSError) else None
        raise CheckpointError("target", f"{shorten(folder)} cannot be used: {reason or error}") from error


def _check_target(folder: Path, *, overwrite: bool) -> list[str]:
    sweep(Path(os.path.realpath(folder)))
    present = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    foreign = next((name for name in present if name not in FILES), None)
    if folder.exists() and not folder.is_dir():
        problem = "is a file, a folder is expected"
    elif folder.resolve() == Path.cwd():
        problem = "is the current folder, which cannot be replaced; run this from another folder"
    elif os.path.ismount(folder):
        problem = "is a mount point, which cannot be replaced; use a folder inside it"
    elif foreign is not None:
        problem = f"holds {foreign!r}, which is not part of a variant; use another folder"
    elif (CONFIG in present or WEIGHTS in present) and not overwrite:
        problem = "already holds a trained variant; pass overwrite=True (--overwrite)"
    else:
        return present
    raise CheckpointError("target", f"{folder} {problem}")


def is_unfinished(folder: Path) -> bool:
    """Whether a folder holds the result of an interrupted training."""
    return "unfinished" in VariantFiles(folder).read_record(TRAINING)


def is_user_written(card: Path) -> bool:
    """Whether a model card exists that aezoo did not write; such a card is never replaced."""
    return card.is_file() and MARKER not in read_limited(card, sys.maxsize).decode("utf-8", errors="replace")


def _contents(ae: Autoencoder, target: Path) -> dict[str, bytes]:
    record = _training_record_of(ae)
    named = own_name(ae.spec, target, modified="modified" in record)
    spec = named.resolved()
    dtypes = storage_dtypes(ae)
    tensors = {
        name: _stored(tensor, dtypes.get(name, torch.float32)) for name, tensor in ae.state_dict().items()
    }
    check_values(tensors)
    fresh = build_on_meta(spec, ae.shapes, sys.maxsize)
    fitted = tuple(name for name in DATA_STATISTICS if getattr(ae, name) is not None)
    # They differ while weights are tied, or after a layer was exchanged.
    if mismatch := tensor_mismatch(tensors, expected_tensors(fresh, fitted)):
        raise CheckpointError("tensor-mismatch", f"{mismatch}; not saved")
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
        # Layers of `ae` may share parameters; those that are saved are independent.
        parameters=fresh.num_parameters,
        weights=WeightsRecord(sha256=hashlib.sha256(weights).hexdigest(), bytes=len(weights)),
    )
    return {
        CONFIG: pretty_json({**config.model_dump(mode="json"), "spec": spec.model_dump(mode="json")}),
        WEIGHTS: weights,
        METRICS: pretty_json(_metrics_of(ae)),
        TRAINING: pretty_json(record),
        SPEC: to_yaml(named).encode(),
    }


def _metrics_of(ae: Autoencoder) -> dict[str, dict[str, Any]]:
    """The metrics; null with the reason if the network is no longer the one that was measured."""
    if ae.describes_weights("metrics"):
        return ae.metrics
    return {
        name: entry
        if entry.get("value") is None
        else {key: entry[key] for key in METRIC_KEYS if key in entry} | {"value": None, "reason": CHANGED}
        for name, entry in ae.metrics.items()
    }


def _training_record_of(ae: Autoencoder) -> dict[str, Any]:
    if ae.describes_weights("training_record"):
        return ae.training_record
    return ae.training_record | {"modified": MODIFIED}


def _stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """An independent contiguous copy on the CPU; floating-point values are converted to `dtype`."""
    tensor = tensor.detach().cpu()
    return (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous().clone()


def record_metrics(folder: str | os.PathLike[str], found: Mapping[str, Mapping[str, object]]) -> Path:
    """Add metrics to a folder's `metrics.json`, replacing those of the same name.

    Args:
        folder: as `save` wrote it.
        found: name -> entry, measured on the folder's own weights.

    Returns:
        The file.

    Raises:
        CheckpointError: the present metrics cannot be read, or the new ones cannot be written.
    """
    files = VariantFiles(Path(folder))
    if not files.folder.is_dir():
        raise CheckpointError("missing-file", f"{files.folder} is not a folder")
    metrics = files.read_record(METRICS) | {name: dict(entry) for name, entry in found.items()}
    # The order in which `train` writes them: final metrics, those of validation, recorded ones.
    ordered = sorted(
        metrics, key=lambda name: (metrics[name].get("source") == "recorded", ".validation" in name)
    )
    path = files.folder / METRICS
    write_file(path, pretty_json({name: metrics[name] for name in ordered}))
    return path
