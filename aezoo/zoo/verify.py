"""A folder on disk and an autoencoder: saved whole or not at all, loaded verified or not at all.

A folder holds `config.json` (the resolved spec, every layer's shapes, the weights' hash and size),
`model.safetensors`, `metrics.json`, `training.json`, `spec.yaml` and, mostly, `preview.png`.
"""

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from aezoo.errors import CheckpointError, SpecError, warn_diagnostic
from aezoo.files import opened
from aezoo.jsonio import canonical_json, strict_json
from aezoo.model.autoencoder import Autoencoder, Source
from aezoo.model.build import build_on_meta
from aezoo.model.sequential import LayerShape
from aezoo.plugins.hookspecs import HOOKS
from aezoo.plugins.registry import registry
from aezoo.specs.base import check
from aezoo.specs.schema import SCHEMA_VERSION, migrate
from aezoo.specs.variant import AutoencoderSpec, VariantSpec
from aezoo.zoo.schema import (
    CONFIG,
    MAX_CONFIG_BYTES,
    METRICS,
    TRAINING,
    WEIGHTS,
    FolderConfig,
    expected_tensors,
    weights_metadata,
)
from aezoo.zoo.weights import MAX_HEADER_BYTES, check_hash, read_tensors, refuse_nonfinite


class VariantFiles:
    """A variant's files in a folder. A subclass may fetch them from elsewhere.

    Args:
        folder: that holds them.
        repository: on the Hub, `owner/name`, that they come from; None for another place.
        commit: of it.
    """

    def __init__(self, folder: Path, repository: str | None = None, commit: str | None = None) -> None:
        self.folder, self.repository, self.commit = folder, repository, commit

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.folder / name).exists()

    def path(self, name: str, size: int | None = None) -> Path:
        """Where a file lies, once it is here.

        Args:
            name: of the file.
            size: in bytes, where it is known before the file is.
        """
        return self.folder / name

    def refetch(self, name: str) -> bool:
        """Fetches a file anew, whatever is here; False where there is nowhere to fetch it from."""
        return False


def load_folder(
    folder: str | os.PathLike[str] | VariantFiles,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    expected: Mapping[str, str] | None = None,
    max_parameters: int | None = None,
) -> Autoencoder:
    """Loads a folder, every byte of the weights checked before it is used.

    In this order: the config's size, its strict parse, the plugins that it needs, the tensors that must
    be there, the weights' size and hash, their header, their values. Nothing is unpickled, no code of the
    folder runs, and a tensor that is missing is never replaced by a random one.

    Args:
        folder: as `save` wrote it.
        device: where the weights go.
        dtype: of the weights, floating point; float32 by default.
        expected: file -> sha256 that an index vouches for, checked in addition.
        max_parameters: as for `aezoo.build`.

    Returns:
        The autoencoder in evaluation mode.

    Raises:
        CheckpointError: one subclass for each thing that can be wrong.
        HubError: a file that had to be fetched could not be.
        SpecError: a spec that cannot be built.
    """
    files = folder if isinstance(folder, VariantFiles) else VariantFiles(Path(folder))
    if not isinstance(folder, VariantFiles) and not files.folder.is_dir():
        raise CheckpointError("missing-file", f"{files.folder} is no folder")
    index_verified = dict(expected or {})
    raw, path = _fetched(files, CONFIG, index_verified)
    hashes = {CONFIG: hashlib.sha256(raw).hexdigest()}
    config, spec = _parsed(path, raw)
    shapes = {key: LayerShape(value.input, value.output) for key, value in config.shapes.items()}
    try:
        ae = build_on_meta(spec, shapes, max_parameters)
    except SpecError as error:
        raise CheckpointError("invalid-config", f"{path}: {error}") from error
    except RecursionError as error:
        raise CheckpointError("invalid-config", f"{path}: nested too deeply") from error
    for name, found in (("latents", ae.num_latents), ("parameters", ae.num_parameters)):
        if (recorded := getattr(config, name)) != found:
            raise CheckpointError(
                "invalid-config", f"{path}: {name}: {recorded:,} is recorded, the spec gives {found:,}"
            )
    wanted = expected_tensors(ae, config.fitted)
    record = config.weights
    most = 8 + MAX_HEADER_BYTES + sum(dtype.itemsize * math.prod(shape) for dtype, shape in wanted.values())
    if record.bytes > most:
        raise CheckpointError(
            "invalid-config",
            f"{path}: weights.bytes: {record.bytes:,} is recorded, the spec asks for at most {most:,}",
        )
    if index_verified.get(WEIGHTS, record.sha256) != record.sha256:
        raise CheckpointError(
            "hash-mismatch",
            f"{path} names weights {record.sha256}, the index vouches for {index_verified[WEIGHTS]}",
        )
    hashes[WEIGHTS] = record.sha256
    about = weights_metadata(spec, config.spec_sha256)

    def read(weights: Path) -> dict[str, torch.Tensor]:
        return read_tensors(weights, record.bytes, record.sha256, wanted, about)

    tensors = _twice(files, WEIGHTS, record.bytes, read)
    for name, tensor in tensors.items():
        refuse_nonfinite(f"{files.path(WEIGHTS)}: {name}", tensor)
    ae.load_state_dict(tensors, strict=True, assign=True)
    if config.unpackaged:
        kinds = ", ".join(config.unpackaged)
        warn_diagnostic("unpackaged", f"{files.folder} uses kinds that come with no distribution: {kinds}")
    ae.columns = config.columns
    ae.metrics = cast(dict[str, dict[str, Any]], read_record(files, METRICS, index_verified, hashes))
    ae.training_record = read_record(files, TRAINING, index_verified, hashes)
    ae.source = Source(
        "folder",
        str(files.folder),
        record.sha256,
        WEIGHTS in index_verified,
        repository=files.repository,
        commit=files.commit,
        hashes=hashes,
    )
    # Half precision is for storage; nothing is computed in it unless asked for.
    return ae.to(device=device, dtype=dtype or torch.float32).eval()


T = TypeVar("T")
WRONG_BYTES = frozenset({"hash-mismatch", "size-mismatch", "not-safetensors"})
"""Codes of errors after which a file is downloaded again."""


def _twice(files: VariantFiles, name: str, size: int | None, read: Callable[[Path], T]) -> T:
    """What a reader makes of a file, which is fetched anew where its bytes are not the expected ones."""
    try:
        return read(files.path(name, size))
    except CheckpointError as error:
        if error.code not in WRONG_BYTES or not files.refetch(name):
            raise
        return read(files.path(name, size))


def _fetched(files: VariantFiles, name: str, index_verified: Mapping[str, str]) -> tuple[bytes, Path]:
    """A small file's bytes, and where it lies."""

    def read(path: Path) -> tuple[bytes, Path]:
        return _read_bytes(path, MAX_CONFIG_BYTES, index_verified.get(name)), path

    return _twice(files, name, None, read)


def read_record(
    files: VariantFiles, name: str, index_verified: Mapping[str, str], hashes: dict[str, str]
) -> dict[str, Any]:
    if name not in index_verified and not files.has(name):
        return {}
    raw, path = _fetched(files, name, index_verified)
    hashes[name] = hashlib.sha256(raw).hexdigest()
    found = strict_json(raw, path)
    return _checked_metrics(found, path) if name == METRICS else found


def load_spec(folder: Path | VariantFiles, expected: Mapping[str, str] | None = None) -> VariantSpec:
    """The resolved spec of a folder, without its weights.

    Args:
        folder: as `save` wrote it.
        expected: file -> sha256, where an index vouches for it.

    Raises:
        CheckpointError: as for `load_folder`; or the folder holds an architecture without a recipe.
    """
    files = folder if isinstance(folder, VariantFiles) else VariantFiles(folder)
    raw, path = _fetched(files, CONFIG, expected or {})
    _, spec = _parsed(path, raw)
    if not isinstance(spec, VariantSpec):
        raise CheckpointError(
            "invalid-config", f"{files.folder} holds an architecture without a name and a recipe"
        )
    return spec


def _read_bytes(path: Path, limit: int, sha256: str | None) -> bytes:
    try:
        with opened(path) as file:
            raw = file.read(limit + 1)
    except FileNotFoundError as error:
        raise CheckpointError("missing-file", f"{path} is missing") from error
    except OSError as error:
        raise CheckpointError("missing-file", f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > limit:
        raise CheckpointError("invalid-config", f"{path} is larger than {limit:,} bytes")
    if sha256 is not None:
        check_hash(path, raw, sha256)
    return raw


def _parsed(path: Path, raw: bytes) -> tuple[FolderConfig, AutoencoderSpec]:
    data = strict_json(raw, path)
    if not data.keys() & {"schema_version", "spec_sha256", "spec"}:
        raise CheckpointError(
            "not-a-variant",
            f"{path} is none that aezoo wrote: it has no schema_version, spec_sha256 and spec",
        )
    version: object = data.get("schema_version")
    if type(version) is not int or version < 1:
        raise CheckpointError(
            "invalid-config", f"{path}: schema_version: expected a whole number, found {version!r}"
        )
    if version > SCHEMA_VERSION:
        raise CheckpointError(
            "schema-version",
            f"{path} has schema version {version}, this aezoo reads up to {SCHEMA_VERSION}; upgrade aezoo",
        )
    spec_data = cast(dict[str, Any] | None, data.pop("spec", None))
    if not isinstance(spec_data, dict):
        raise CheckpointError("invalid-config", f"{path}: spec: expected an object")
    try:
        config = check(FolderConfig, data)
        _require_plugins(path, config)
        digest = hashlib.sha256(canonical_json(spec_data).encode()).hexdigest()
        if digest != config.spec_sha256:
            raise CheckpointError(
                "invalid-config", f"{path}: spec has sha256 {digest}, spec_sha256 says {config.spec_sha256}"
            )
        lifted = migrate({**spec_data, "schema_version": version})
        return config, check(VariantSpec if "name" in lifted else AutoencoderSpec, lifted)
    except RecursionError as error:
        raise CheckpointError("invalid-config", f"{path}: nested too deeply") from error
    except ValueError as error:  # a SpecError, or text that UTF-8 cannot spell
        raise CheckpointError("invalid-config", f"{path}: {error}") from error


def _require_plugins(path: Path, config: FolderConfig) -> None:
    present = {c.name: c.error for c in registry.list_plugins()}
    for plugin in config.plugins:
        if reason := present.get(plugin.name):
            raise CheckpointError(
                "missing-plugin",
                f"{path} needs the plugin {plugin.name!r}, which is here but was left out: {reason}",
            )
        if plugin.name not in present:
            raise CheckpointError(
                "missing-plugin",
                f"{path} needs the plugin {plugin.name!r}; install {plugin.distribution}=={plugin.version}",
            )
    for name in config.unpackaged:
        family, _, kind = name.partition(":")
        if family not in HOOKS or kind not in registry.names(family):
            raise CheckpointError(
                "missing-plugin",
                f"{path} needs the {family} {kind!r}, which was registered in a notebook or script and comes "
                "with no distribution; register it before loading",
            )


def _checked_metrics(metrics: dict[str, Any], path: Path) -> dict[str, dict[str, Any]]:
    for name, entry in metrics.items():
        if not isinstance(entry, dict):
            raise CheckpointError(
                "invalid-config", f"{path}: {name}: expected an object, found {type(entry).__name__}"
            )
    return metrics
