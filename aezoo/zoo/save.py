"""Saving a variant's folder: complete or not at all."""

import hashlib
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import safetensors.torch
import torch
from torch import Tensor

from aezoo import plots
from aezoo.errors import AezooError, CheckpointError, warn_diagnostic
from aezoo.files import read_limited, write_durably
from aezoo.jsonio import pretty_json
from aezoo.model.autoencoder import DATA_STATISTICS, Autoencoder, require_autoencoder
from aezoo.model.build import build_on_meta
from aezoo.model.denormals import without_denormals
from aezoo.specs.schema import SCHEMA_VERSION, resolved_data, spec_sha256
from aezoo.specs.variant import VariantSpec
from aezoo.specs.yaml import to_yaml
from aezoo.zoo.folders import check_target, is_user_written, write_file, write_folder
from aezoo.zoo.model_card import card, license_of
from aezoo.zoo.names import own_name
from aezoo.zoo.schema import (
    CARD,
    CONFIG,
    ESTIMATOR,
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
)  # fmt: skip
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

    The folder of a `VariantSpec` gets a model card, `README.md`, and, if the autoencoder was trained in this
    process or loaded with one and not changed since, a picture, `preview.png`.

    A `spec.yaml` or a user's own `README.md` in the folder is kept; a folder with files that are not part of
    a variant is refused. If `folder` is a link to a folder, the link is kept and the folder that it names is
    replaced.

    Args:
        ae: on any device, in any mode.
        folder: created with its parents; may hold a `spec.yaml`.
        overwrite: whether a folder with weights may be replaced.
        files: contents of `preview.png`, `README.md` and `estimator.json`, if any.

    Returns:
        The folder.

    Raises:
        CheckpointError: a weight is NaN or infinite, the network does not match its spec, the folder holds
            weights or foreign files, or it cannot be written; its old content is still there.
    """
    require_autoencoder(ae)
    target = Path(folder)
    present = check_target(target, overwrite=overwrite)
    for name in files or {}:
        if name not in (PREVIEW, CARD, ESTIMATOR):
            expected = f"{PREVIEW}, {CARD} or {ESTIMATOR}"
            raise CheckpointError("target", f"files: expected {expected}, found {name!r}; not saved")
    contents = _contents(ae, target) | dict(files or {})
    if PREVIEW not in contents and (preview := draw_preview(ae)) is not None:
        contents[PREVIEW] = preview
    if SPEC in present:
        contents.pop(SPEC)
    user_written = CARD in present and is_user_written(target / CARD)
    kept = [SPEC] if SPEC in present else []
    if user_written and CARD not in contents:
        kept.append(CARD)

    def add_card(new: Path) -> None:
        if CARD not in contents and not user_written and isinstance(ae.spec, VariantSpec):
            unchanged = ae.source.path is not None and ae.describes_weights("training_record")
            license = license_of(Path(str(ae.source.path)) / CARD) if unchanged else None
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of loading what is being saved
                    text = card(new, address=f"./{target.resolve().name}", license=license)
            except AezooError as error:  # no reason to lose the weights
                warn_diagnostic("card", f"no model card could be written: {error}")
                return
            write_durably(new / CARD, text.encode())

    write_folder(target, contents, kept, add_card)
    return target


def draw_preview(ae: Autoencoder, theme: Literal["light", "dark"] = "light") -> bytes | None:
    """A picture of an autoencoder's examples, or the one that it was loaded with; None if it has none."""
    try:
        if ae.examples is not None:
            clean, noisy = ae.clean_examples, None if ae.clean_examples is None else ae.examples
            x = ae.examples if clean is None else clean
            with plots.theme(theme):
                return plots.png(plots.reconstructions(ae, x, target=ae.example_targets, noisy=noisy))
        if ae.source.path is not None and ae.describes_weights("training_record"):
            return read_limited(Path(ae.source.path) / PREVIEW, sys.maxsize)
    except OSError:
        return None  # it has none
    except Exception as error:  # no reason to lose the weights
        warn_diagnostic("preview", f"no preview could be drawn: {type(error).__name__}: {error}")
    return None


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
        CONFIG: pretty_json({**config.model_dump(mode="json"), "spec": resolved_data(spec)}),
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
    """An independent contiguous copy on the CPU, without denormal values.

    Floating-point values are converted to `dtype`.
    """
    tensor = tensor.detach().cpu()
    converted = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return without_denormals(converted).contiguous().clone()


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
