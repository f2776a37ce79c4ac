"""Loading a variant's folder: seven checks, in the order in which `load` calls them.

Nothing is unpickled, no code from the folder runs, and a missing tensor is never replaced by a random one.
docs/folders.md describes the checks.
"""

import hashlib
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from aezoo.errors import CheckpointError, SpecError, warn_diagnostic
from aezoo.jsonio import canonical_json, strict_json
from aezoo.model.autoencoder import Autoencoder, Source, fingerprint
from aezoo.model.build import (
    build_on_meta,
    check_parameters,
    require_device,
    require_float,
    verify_shapes,
)
from aezoo.model.prototype import copy_with, is_copyable
from aezoo.model.sequential import LayerShape
from aezoo.plugins.hookspecs import HOOKS
from aezoo.plugins.registry import registry
from aezoo.specs.base import check
from aezoo.specs.schema import SCHEMA_VERSION, migrate, read_resolved
from aezoo.specs.variant import AutoencoderSpec, VariantSpec
from aezoo.zoo.schema import (
    CONFIG,
    METRICS,
    TRAINING,
    WEIGHTS,
    FolderConfig,
    TensorTypes,
    expected_tensors,
    tensor_mismatch,
    unlisted_kind,
    weights_metadata,
)
from aezoo.zoo.variant_files import VariantFiles, check_hash, read_file

MAX_HEADER_BYTES = 4_000_000
"""Size limit of the header of a safetensors file."""
GRAIN = 32_768
"""Number of values up to which PyTorch computes in one thread."""
CACHED = 256
"""Number of configs whose checks are remembered, by their bytes."""
PICKLE_STARTS = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

JsonObject = dict[str, Any]


def load(
    files: VariantFiles,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    max_parameters: int | None = None,
) -> Autoencoder:
    """Load a variant after checking every byte that is used.

    Args:
        files: of the variant, with the hashes that an index pins.
        device: where the weights go.
        dtype: of the weights, floating point; float32 by default.
        max_parameters: as for `aezoo.build`.

    Returns:
        The autoencoder in evaluation mode.

    Raises:
        CheckpointError: a file is missing or fails a check.
        HubError: a file could not be downloaded.
        NotSupportedError: the device is not available, or the dtype is not floating point.
    """
    device, dtype = require_device(device), require_float(dtype or torch.float32)
    files.check_regular()
    raw_config = check_config_bytes(files)
    config = check_config(files, raw_config)
    check_plugins(files, config)
    network = check_network(files, raw_config, max_parameters)
    raw_weights = check_weights_bytes(files, config, network.expected)
    tensors = check_tensors(files, raw_weights, network.expected, network.metadata)
    check_values(tensors, f"{files.folder / WEIGHTS}: ")

    _check_scaling(files, config, network.on_meta, tensors)

    ae = _with_weights(network, tensors)
    if config.unpackaged:
        kinds = ", ".join(config.unpackaged)
        warn_diagnostic("unpackaged", f"{files.folder} uses kinds that no distribution provides: {kinds}")
    ae.columns = config.columns
    metrics, training = files.check_record(METRICS), files.check_record(TRAINING)
    ae.source = Source(
        files.kind,
        str(files.folder),
        config.weights.sha256,
        WEIGHTS in files.pinned_hashes,
        repository=files.repository,
        commit=files.commit,
        hashes=dict(files.hashes),
    )
    # Half precision is a storage format; computing in it is opt-in.
    if (device.type, dtype) != ("cpu", torch.float32):
        ae.to(device=device, dtype=dtype)
    ae.set_records(
        metrics,
        training,
        partial(_fingerprint, files.folder.absolute() / WEIGHTS, config.weights.sha256, ae.spec, ae.columns),
    )
    if not network.shapes_verified:
        with _errors_in(files.folder / CONFIG):
            verify_shapes(ae)
        network.shapes_verified = True
    return ae


@dataclass
class CheckedNetwork:
    """A network that the checks 1 to 4 accept.

    Attributes:
        on_meta: the network on the meta device.
        expected: the tensors that its weights file must hold.
        metadata: of its weights file.
        shared: whether other loads use the same `on_meta`, of which each then takes a copy.
        shapes_verified: whether a load has run the layers and found the recorded shapes.
    """

    on_meta: Autoencoder
    expected: TensorTypes
    metadata: dict[str, str]
    shared: bool
    shapes_verified: bool = False


def _with_weights(network: CheckedNetwork, tensors: Mapping[str, Tensor]) -> Autoencoder:
    """The network with its weights, in float32."""
    scaling = ("input_shift", "input_scale")
    computed = {
        name: tensor if name in scaling or not tensor.is_floating_point() else _as_float32(tensor)
        for name, tensor in tensors.items()
    }
    if network.shared:
        return copy_with(network.on_meta, computed)
    network.on_meta.load_state_dict(computed, strict=True, assign=True)
    return network.on_meta


def _fingerprint(path: Path, sha256: str, spec: AutoencoderSpec, columns: tuple[str, ...]) -> str | None:
    """The fingerprint of weights in a file; None if the file is gone or has changed since."""
    try:
        raw = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(raw).hexdigest() != sha256:
        return None
    return fingerprint(spec, columns, safetensors.torch.load(raw))


def check_config_bytes(files: VariantFiles) -> bytes:
    """Check 1: `config.json` has at most 4 MB, and the sha256 that the index pins."""
    return files.read(CONFIG)


def check_config(files: VariantFiles, raw: bytes) -> FolderConfig:
    """Check 2: strict JSON, a known schema version, valid fields, and a spec whose hash is `spec_sha256`."""
    return _config_of(raw, files.folder / CONFIG)[0]


@lru_cache(maxsize=CACHED)
def _config_of(raw: bytes, path: Path) -> tuple[FolderConfig, JsonObject]:
    """The config, and the spec as plain data, not validated yet; computed once for the same bytes."""
    data = strict_json(raw, path)
    if not data.keys() & {"schema_version", "spec_sha256", "spec"}:
        text = "was not written by aezoo: it has no schema_version, spec_sha256 and spec"
        raise CheckpointError("not-a-variant", f"{path} {text}")
    version: object = data.get("schema_version")
    if type(version) is not int or version < 1:
        raise _invalid(path, f"schema_version: expected a whole number, found {version!r}")
    if version > SCHEMA_VERSION:
        text = f"has schema version {version}, this aezoo reads up to {SCHEMA_VERSION}; upgrade aezoo"
        raise CheckpointError("schema-version", f"{path} {text}")
    spec_data = cast(JsonObject | None, data.pop("spec", None))
    if not isinstance(spec_data, dict):
        raise _invalid(path, "spec: expected an object")
    with _errors_in(path):
        config = check(FolderConfig, data)
        digest = hashlib.sha256(canonical_json(spec_data).encode()).hexdigest()
    if digest != config.spec_sha256:
        raise _invalid(path, f"spec has sha256 {digest}, spec_sha256 says {config.spec_sha256}")
    return config, spec_data


def check_plugins(files: VariantFiles, config: FolderConfig) -> None:
    """Check 3: every plugin that the config names is installed, and every unpackaged kind registered.

    Nothing is installed or imported because a config asks for it.
    """
    if not config.plugins and not config.unpackaged:
        return
    path = files.folder / CONFIG
    present = {plugin.name: plugin for plugin in registry.list_plugins()}
    for plugin in config.plugins:
        install = f"install {plugin.distribution}=={plugin.version}"
        if plugin.name not in present:
            reason = install
        elif error := present[plugin.name].error:
            reason = f"it is installed but could not be loaded: {error}"
        elif (found := str(present[plugin.name].distribution)) != plugin.distribution:
            reason = f"the installed one is of {found}; {install} instead"
        else:
            continue
        raise CheckpointError("missing-plugin", f"{path} needs the plugin {plugin.name!r}; {reason}")
    for name in config.unpackaged:
        family, _, kind = name.partition(":")
        if family not in HOOKS or kind not in registry.names(family):
            text = "which was registered in a notebook or script; register it before loading"
            raise CheckpointError("missing-plugin", f"{path} needs the {family} {kind!r}, {text}")


def check_network(files: VariantFiles, raw_config: bytes, max_parameters: int | None) -> CheckedNetwork:
    """Check 4: the spec is valid, has at most `max_parameters`, and gives the recorded shapes and counts."""
    path = files.folder / CONFIG
    key = (raw_config, path, registry.generation)
    network = _networks.get(key)
    with _errors_in(path):
        if network is None:
            network = _network_of(*key, max_parameters)
        else:
            check_parameters(network.on_meta.num_parameters, max_parameters)
    if network.shared:
        if len(_networks) >= CACHED:
            _networks.clear()
        _networks[key] = network
    return network


_networks: dict[tuple[bytes, Path, int], CheckedNetwork] = {}


def _network_of(raw: bytes, path: Path, generation: int, max_parameters: int | None) -> CheckedNetwork:
    config, spec = _spec_of(raw, path, generation)
    shapes = {key: LayerShape(value.input, value.output) for key, value in config.shapes.items()}
    ae = build_on_meta(spec, shapes, max_parameters)
    for name, found in (("latents", ae.num_latents), ("parameters", ae.num_parameters)):
        if (recorded := getattr(config, name)) != found:
            raise _invalid(path, f"{name}: {recorded:,} is recorded, the spec gives {found:,}")
    expected = expected_tensors(ae, config.fitted)
    metadata = weights_metadata(spec, config.spec_sha256)
    ae.eval()
    return CheckedNetwork(ae, expected, metadata, is_copyable(ae))


def check_weights_bytes(files: VariantFiles, config: FolderConfig, expected: TensorTypes) -> bytes:
    """Check 5: the weights have the size and sha256 that config and index record, and are not a pickle.

    The size is limited by what the spec needs, before the file is downloaded or read.
    """
    record, path = config.weights, files.folder / CONFIG
    limit = 8 + MAX_HEADER_BYTES + sum(d.itemsize * math.prod(shape) for d, shape in expected.values())
    if record.bytes > limit:
        raise _invalid(path, f"weights.bytes: {record.bytes:,} is recorded, the spec needs at most {limit:,}")
    pinned = files.pinned_hashes.get(WEIGHTS, record.sha256)
    if pinned != record.sha256:
        text = f"{path} names weights with sha256 {record.sha256}, the index names {pinned}"
        raise CheckpointError("hash-mismatch", text)

    def read(path: Path) -> bytes:
        raw = read_file(path, record.bytes + 1)
        # A safetensors file begins with the header's length, which may look like the start of a pickle.
        if raw[:2] in PICKLE_STARTS and _header_length(raw) > MAX_HEADER_BYTES:
            raise CheckpointError(
                "not-safetensors", f"{path} is a pickle, not safetensors; it was not opened"
            )
        if len(raw) != record.bytes:
            text = f"{path} has {path.stat().st_size:,} bytes, expected {record.bytes:,}"
            raise CheckpointError("size-mismatch", text)
        files.hashes[WEIGHTS] = check_hash(path, raw, record.sha256)
        return raw

    return files.read_with_refetch(WEIGHTS, read, record.bytes)


def check_tensors(
    files: VariantFiles, raw: bytes, expected: TensorTypes, metadata: dict[str, str]
) -> dict[str, Tensor]:
    """Check 6: the weights are valid safetensors of this variant, with exactly the spec's tensors."""
    path = files.folder / WEIGHTS
    try:
        if _header_length(raw) > MAX_HEADER_BYTES:
            raise ValueError(f"its header is larger than {MAX_HEADER_BYTES:,} bytes")
        header = strict_json(raw[8 : 8 + _header_length(raw)], path)
        loaded = safetensors.torch.load(raw)
    # Dtypes that torch lacks are a KeyError, shapes beyond its limits a TypeError or RuntimeError.
    except (CheckpointError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError("not-safetensors", f"{path} is not valid safetensors: {reason}") from error
    if mismatch := tensor_mismatch(loaded, expected):
        raise CheckpointError("tensor-mismatch", f"{path}: {mismatch}")
    if header.get("__metadata__") != metadata:
        text = f"these are weights of {header.get('__metadata__')!r}, expected {metadata!r}"
        raise CheckpointError("tensor-mismatch", f"{path}: {text}")
    return {name: _aligned(loaded.pop(name)) for name in expected}


def _aligned(tensor: Tensor) -> Tensor:
    """A copy that begins aligned in memory, which decides the order in which products are summed."""
    copy = torch.empty_like(tensor)
    # NumPy copies in this thread. PyTorch's pool would wait for its other threads on a busy machine.
    _bytes(copy)[...] = _bytes(tensor)
    return copy


def _as_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32, converted in this thread alone."""
    if tensor.dtype == torch.float32:
        return tensor
    converted = torch.empty_like(tensor, dtype=torch.float32)
    # PyTorch uses its pool for more values than these.
    out, values = converted.view(-1), tensor.view(-1)
    for start in range(0, len(values), GRAIN):
        out[start : start + GRAIN].copy_(values[start : start + GRAIN])
    return converted


def _bytes(tensor: Tensor) -> Any:
    """The memory of a contiguous tensor on the CPU as a NumPy array of bytes."""
    return tensor.detach().reshape(-1).view(torch.uint8).numpy()


def check_values(tensors: dict[str, Tensor], where: str = "") -> None:
    """Check 7: every value is finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not _is_finite(tensor):
            bad = int((~torch.isfinite(tensor)).sum())
            raise CheckpointError("not-finite", f"{where}{name} has {bad:,} values that are NaN or infinite")


def _is_finite(tensor: Tensor) -> bool:
    """Whether every value is finite, computed in this thread alone."""
    bits = _bytes(tensor.contiguous())
    if tensor.dtype in (torch.float32, torch.float64):
        # A finite sum proves that all values are finite; only a sum that overflows needs a second look.
        with np.errstate(all="ignore"):
            if math.isfinite(bits.view(np.float32 if tensor.dtype == torch.float32 else np.float64).sum()):
                return True
        return bool(torch.isfinite(tensor).all())
    exponent = {torch.float16: 0x7C00, torch.bfloat16: 0x7F80}.get(tensor.dtype)
    if exponent is None:
        return bool(torch.isfinite(tensor).all())
    return not bool(((bits.view(np.uint16) & exponent) == exponent).any())


def _check_scaling(
    files: VariantFiles, config: FolderConfig, ae: Autoencoder, tensors: Mapping[str, Tensor]
) -> None:
    """Check that inputs can be scaled and named: positive scales, and one distinct column for each value."""
    scale, columns, inputs = tensors.get("input_scale"), config.columns, math.prod(ae.spec.input.shape)
    if scale is not None and not bool((scale > 0).all()):
        raise CheckpointError("not-finite", f"{files.folder / WEIGHTS}: input_scale is not positive")
    if ("input_scale" in tensors) != ("input_shift" in tensors):
        raise _invalid(files.folder / CONFIG, "fitted: input_shift and input_scale belong together")
    if columns and (len(columns) != inputs or len(set(columns)) != inputs):
        text = (
            f"columns: expected {inputs:,} distinct names, one for each input value, found {len(columns):,}"
        )
        text += "" if len(columns) != inputs else ", some of them twice"
        raise _invalid(files.folder / CONFIG, text)


def load_spec(files: VariantFiles) -> VariantSpec:
    """The resolved spec of a variant, from `config.json` alone.

    Raises:
        CheckpointError: as for `load`, or the folder holds an architecture without name and recipe.
    """
    raw = check_config_bytes(files)
    check_plugins(files, check_config(files, raw))
    _, spec = _spec_of(raw, files.folder / CONFIG, registry.generation)
    return require_variant(spec, files.folder)


def require_variant(spec: AutoencoderSpec, where: object) -> VariantSpec:
    """The spec, if it is a variant's.

    Raises:
        CheckpointError: it is an architecture without name and recipe.
    """
    if not isinstance(spec, VariantSpec):
        text = f"{where} holds an architecture without name and recipe; a variant is expected"
        raise CheckpointError("not-a-variant", text)
    return spec


@lru_cache(maxsize=CACHED)
def _spec_of(raw: bytes, path: Path, generation: int) -> tuple[FolderConfig, AutoencoderSpec]:
    """The config and the validated spec, computed once for the same bytes.

    Args:
        raw: content of `config.json`.
        path: its path.
        generation: of the registry, whose kinds the spec is validated by.
    """
    del generation
    config, spec_data = _config_of(raw, path)
    with _errors_in(path):
        data = read_resolved(migrate({**spec_data, "schema_version": config.schema_version}))
        spec = check(VariantSpec if "name" in data else AutoencoderSpec, data)
        if unlisted := unlisted_kind(spec, config):
            raise _invalid(path, f"plugins: {unlisted}")
    return config, spec


def _header_length(raw: bytes) -> int:
    return int.from_bytes(raw[:8], "little")


def _invalid(path: Path, reason: object) -> CheckpointError:
    # A spec with several mistakes has a line for each.
    return CheckpointError("invalid-config", f"{path}: {'; '.join(str(reason).splitlines())}")


@contextmanager
def _errors_in(path: Path) -> Generator[None]:
    """Report an invalid spec as an error of the file that holds it."""
    try:
        yield
    except RecursionError as error:
        raise _invalid(path, "nested too deeply") from error
    except (SpecError, UnicodeEncodeError) as error:
        raise _invalid(path, error) from error
