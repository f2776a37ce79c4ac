"""A folder on disk and an autoencoder: saved whole or not at all, loaded verified or not at all.

A folder holds `config.json` (the resolved spec, every layer's shapes, the weights' hash and size),
`model.safetensors`, `metrics.json`, `training.json`, `spec.yaml` and, mostly, `preview.png`.
"""

import hashlib
import json
import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import safetensors.torch
import torch
from pydantic import Field

from aezoo.autoencoder import FITTED, Autoencoder, Source
from aezoo.builder import skeleton
from aezoo.documents import SCHEMA_VERSION, canonical_json, migrate, spec_sha256, to_yaml
from aezoo.errors import (
    CheckpointError,
    ConfigError,
    HashError,
    MissingFileError,
    MissingPluginError,
    NotAVariantError,
    NotSafetensorsError,
    SchemaVersionError,
    SpecError,
    TensorError,
    TruncatedError,
    advise,
)
from aezoo.families import FamilySpec, NonNegativeInt, Spec, check
from aezoo.files import opened, write_atomically, write_durably
from aezoo.hookspecs import HOOKS
from aezoo.registry import LOCAL, registry
from aezoo.specs import AutoencoderSpec, Shape, VariantSpec
from aezoo.stack import LayerShape
from aezoo.weights import (
    MAX_HEADER_BYTES,
    as_stored,
    check_hash,
    read_tensors,
    refuse_nonfinite,
    strict_json,
)

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
METRICS = "metrics.json"
TRAINING = "training.json"
SPEC = "spec.yaml"
PREVIEW = "preview.png"
CARD = "README.md"
FILES = (CONFIG, WEIGHTS, METRICS, TRAINING, SPEC, PREVIEW, CARD)

MARKER = (
    "<!-- Written by aezoo from this folder. Without this line, the text is yours and stays as it is. -->"
)
"""What a card says that is written anew with its folder."""

MAX_CONFIG_BYTES = 4_000_000
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class WeightsRecord(Spec):
    """The weights' file as it was written."""

    file: Literal["model.safetensors"] = WEIGHTS
    sha256: Sha256
    bytes: Annotated[int, Field(ge=1, le=2**53)]


class ShapesRecord(Spec):
    """One layer's shapes, without the batch axis."""

    input: Shape
    output: Shape


class PluginRecord(Spec):
    """A plugin whose kinds the spec uses."""

    name: str
    distribution: str
    version: str


class FolderConfig(Spec):
    """What `config.json` holds beside the spec itself."""

    schema_version: NonNegativeInt
    spec_sha256: Sha256
    shapes: dict[str, ShapesRecord]
    fitted: tuple[Literal["target_mean", "input_shift", "input_scale"], ...] = ()
    """Tensors that were measured on the training data rather than trained."""
    columns: Annotated[tuple[str, ...], Field(max_length=100_000)] = ()
    """A table's columns in the order of the input's values."""
    plugins: tuple[PluginRecord, ...] = ()
    unpackaged: tuple[str, ...] = ()
    """Kinds that came from `aezoo.register` and so from no distribution."""
    latents: NonNegativeInt
    parameters: NonNegativeInt
    weights: WeightsRecord


# -- saving -------------------------------------------------------------------------------------------


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
            raise CheckpointError(f"{name!r} is none of {PREVIEW} and {CARD}, which may be given; not saved")
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
        raise CheckpointError(f"{target} could not be written: {error.strerror or error}") from error
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
        raise CheckpointError(f"{folder} is a file, a folder is expected")
    if folder.resolve() == Path.cwd():
        raise CheckpointError(
            f"{folder} is the current folder, which cannot be replaced as a whole; run this from above it"
        )
    present = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    foreign = next((name for name in present if name not in FILES), None)
    if foreign is not None:
        raise CheckpointError(
            f"{folder} holds {foreign!r}, which is no part of a variant; use another folder"
        )
    if (CONFIG in present or WEIGHTS in present) and not overwrite:
        raise CheckpointError(f"{folder} already holds a trained variant; pass overwrite=True (--overwrite)")
    return present


def is_unfinished(folder: Path) -> bool:
    """Whether a folder holds what a training that was cut off left behind."""
    files = Files(folder)
    return files.has(TRAINING) and "unfinished" in _record_of(files, TRAINING, {}, {})


def _contents(ae: Autoencoder) -> dict[str, bytes]:
    spec = ae.spec.resolved()
    spec_data = spec.model_dump(mode="json")
    stored = _precisions(ae)
    tensors = {
        name: as_stored(tensor, stored.get(name, torch.float32)) for name, tensor in ae.state_dict().items()
    }
    for name, tensor in tensors.items():
        refuse_nonfinite(name, tensor)
    fresh = skeleton(spec, ae.shapes, sys.maxsize)
    fitted = tuple(name for name in FITTED if getattr(ae, name) is not None)
    wanted, found = _wanted(fresh, fitted), {name: (t.dtype, tuple(t.shape)) for name, t in tensors.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if found.get(name) != wanted.get(name):
            # Such as weights that are tied just now, or a layer that was exchanged after the build.
            raise TensorError(f"{name} is {found.get(name)}, the spec asks for {wanted.get(name)}; not saved")
    digest = spec_sha256(spec)
    weights = safetensors.torch.save(tensors, metadata=_metadata(spec, digest))
    plugins, unpackaged = _origins(spec)
    config = FolderConfig(
        schema_version=SCHEMA_VERSION,
        spec_sha256=digest,
        shapes={path: ShapesRecord(input=s.input, output=s.output) for path, s in ae.shapes.items()},
        fitted=cast(Any, fitted),
        columns=ae.columns,
        plugins=plugins,
        unpackaged=unpackaged,
        latents=ae.latents,
        # Not those of `ae`, where two layers may share some.
        parameters=fresh.parameters_total,
        weights=WeightsRecord(sha256=hashlib.sha256(weights).hexdigest(), bytes=len(weights)),
    )
    return {
        CONFIG: pretty_json({**config.model_dump(mode="json"), "spec": spec_data}),
        WEIGHTS: weights,
        METRICS: pretty_json(ae.metrics),
        TRAINING: pretty_json(ae.training_record),
        SPEC: to_yaml(ae.spec).encode(),
    }


def _metadata(spec: AutoencoderSpec, digest: str) -> dict[str, str]:
    """What the weights' file says about itself."""
    # With a second key the order in which safetensors writes them, and so the hash, varies.
    name: str | None = getattr(spec, "name", None)
    return {"aezoo": canonical_json({"name": name, "spec_sha256": digest})}


def pretty_json(data: object) -> bytes:
    """JSON for people: lists and objects that hold nothing but plain values take one line."""
    try:
        text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"a record cannot be written as JSON: {error}; not saved") from error
    # A line break is never part of a JSON string, so this cannot touch one.
    text = re.sub(r"([\[{])\n\s*([^\[\]{}]*?)\n\s*([\]}])", _one_line, text)
    return (text + "\n").encode()


def _one_line(match: re.Match[str]) -> str:
    inner = re.sub(r"\n\s*", " ", match[2])
    return f"{match[1]}{inner}{match[3]}" if len(inner) <= 400 else match[0]


def _origins(spec: Spec) -> tuple[tuple[PluginRecord, ...], tuple[str, ...]]:
    """The plugins and the unpackaged kinds that a spec uses."""
    plugins: dict[str, PluginRecord] = {}
    unpackaged: list[str] = []
    for family, kind in sorted(set(_kinds(spec))):
        who = registry.contributor(family, kind)
        if who.name == LOCAL:
            unpackaged.append(f"{family}:{kind}")
        elif who.name != "aezoo":
            plugins[who.name] = PluginRecord(
                name=who.name, distribution=str(who.distribution), version=str(who.version)
            )
    return tuple(plugins.values()), tuple(unpackaged)


def _kinds(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, FamilySpec) and value.family in HOOKS and value.declared_kind:
        yield value.family, value.declared_kind
    if isinstance(value, Spec):
        for name in type(value).model_fields:
            yield from _kinds(getattr(value, name))
    elif isinstance(value, tuple):
        for item in cast(tuple[object, ...], value):
            yield from _kinds(item)


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
    there = _record_of(Files(Path(folder)), METRICS, {}, {})
    metrics = there | {name: dict(entry) for name, entry in found.items()}
    # As `train` writes them: what was measured at the end, what was chosen by, what was recorded.
    ordered = sorted(
        metrics, key=lambda name: (metrics[name].get("source") == "recorded", ".validation" in name)
    )
    data = pretty_json({name: metrics[name] for name in ordered})
    try:
        write_atomically(path, data)
    except OSError as error:
        raise CheckpointError(f"{path} could not be written: {error.strerror or error}") from error
    return path


# -- loading ------------------------------------------------------------------------------------------


class Files:
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

    def again(self, name: str) -> bool:
        """Fetches a file anew, whatever is here; False where there is nowhere to fetch it from."""
        return False


def load_folder(
    folder: str | os.PathLike[str] | Files,
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
    files = folder if isinstance(folder, Files) else Files(Path(folder))
    if not isinstance(folder, Files) and not files.folder.is_dir():
        raise MissingFileError(f"{files.folder} is no folder")
    vouched = dict(expected or {})
    raw, path = _fetched(files, CONFIG, vouched)
    hashes = {CONFIG: hashlib.sha256(raw).hexdigest()}
    config, spec = _parsed(path, raw)
    shapes = {key: LayerShape(value.input, value.output) for key, value in config.shapes.items()}
    try:
        ae = skeleton(spec, shapes, max_parameters)
    except SpecError as error:
        raise ConfigError(f"{path}: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply") from error
    for name, found in (("latents", ae.latents), ("parameters", ae.parameters_total)):
        if (recorded := getattr(config, name)) != found:
            raise ConfigError(f"{path}: {name}: {recorded:,} is recorded, the spec gives {found:,}")
    wanted = _wanted(ae, config.fitted)
    record = config.weights
    most = 8 + MAX_HEADER_BYTES + sum(dtype.itemsize * math.prod(shape) for dtype, shape in wanted.values())
    if record.bytes > most:
        raise ConfigError(
            f"{path}: weights.bytes: {record.bytes:,} is recorded, the spec asks for at most {most:,}"
        )
    if vouched.get(WEIGHTS, record.sha256) != record.sha256:
        raise HashError(f"{path} names weights {record.sha256}, the index vouches for {vouched[WEIGHTS]}")
    hashes[WEIGHTS] = record.sha256
    about = _metadata(spec, config.spec_sha256)

    def read(weights: Path) -> dict[str, torch.Tensor]:
        return read_tensors(weights, record.bytes, record.sha256, wanted, about)

    tensors = _twice(files, WEIGHTS, record.bytes, read)
    for name, tensor in tensors.items():
        refuse_nonfinite(f"{files.path(WEIGHTS)}: {name}", tensor)
    ae.load_state_dict(tensors, strict=True, assign=True)
    if config.unpackaged:
        kinds = ", ".join(config.unpackaged)
        advise("unpackaged", f"{files.folder} uses kinds that come with no distribution: {kinds}")
    ae.columns = config.columns
    ae.metrics = cast(dict[str, dict[str, Any]], _record_of(files, METRICS, vouched, hashes))
    ae.training_record = _record_of(files, TRAINING, vouched, hashes)
    ae.source = Source(
        "folder",
        str(files.folder),
        record.sha256,
        WEIGHTS in vouched,
        repository=files.repository,
        commit=files.commit,
        hashes=hashes,
    )
    # Half precision is for storage; nothing is computed in it unless asked for.
    return ae.to(device=device, dtype=dtype or torch.float32).eval()


T = TypeVar("T")


def _twice(files: Files, name: str, size: int | None, read: Callable[[Path], T]) -> T:
    """What a reader makes of a file, which is fetched anew where its bytes are not the expected ones."""
    try:
        return read(files.path(name, size))
    except (HashError, TruncatedError, NotSafetensorsError):
        if not files.again(name):
            raise
        return read(files.path(name, size))


def _fetched(files: Files, name: str, vouched: Mapping[str, str]) -> tuple[bytes, Path]:
    """A small file's bytes, and where it lies."""

    def read(path: Path) -> tuple[bytes, Path]:
        return _read_bytes(path, MAX_CONFIG_BYTES, vouched.get(name)), path

    return _twice(files, name, None, read)


def _record_of(files: Files, name: str, vouched: Mapping[str, str], hashes: dict[str, str]) -> dict[str, Any]:
    if name not in vouched and not files.has(name):
        return {}
    raw, path = _fetched(files, name, vouched)
    hashes[name] = hashlib.sha256(raw).hexdigest()
    found = strict_json(raw, path)
    return _checked_metrics(found, path) if name == METRICS else found


def _wanted(ae: Autoencoder, fitted: Iterable[str]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """What a file of the weights must hold, for a network on the meta device."""
    for name in fitted:
        shape = (ae.spec.output if name == "target_mean" else ae.spec.input).shape
        setattr(ae, name, torch.empty(shape, device="meta"))
    # As declared, whatever the process's or a layer's own precision.
    stored = _precisions(ae)
    return {
        name: (stored.get(name, torch.float32) if t.is_floating_point() else t.dtype, tuple(t.shape))
        for name, t in ae.state_dict().items()
    }


def _precisions(ae: Autoencoder) -> dict[str, torch.dtype]:
    """The declared precision of every weight; whatever else there is stays float32."""
    spec = ae.spec
    half = isinstance(spec, VariantSpec) and spec.recipe.weights_dtype == "float16"
    return {name: torch.float16 if half else torch.float32 for name, _ in ae.named_parameters()}


def load_spec(folder: Path | Files, expected: Mapping[str, str] | None = None) -> VariantSpec:
    """The resolved spec of a folder, without its weights.

    Args:
        folder: as `save` wrote it.
        expected: file -> sha256, where an index vouches for it.

    Raises:
        CheckpointError: as for `load_folder`; or the folder holds an architecture without a recipe.
    """
    files = folder if isinstance(folder, Files) else Files(folder)
    raw, path = _fetched(files, CONFIG, expected or {})
    _, spec = _parsed(path, raw)
    if not isinstance(spec, VariantSpec):
        raise ConfigError(f"{files.folder} holds an architecture without a name and a recipe")
    return spec


def _read_bytes(path: Path, limit: int, sha256: str | None) -> bytes:
    try:
        with opened(path) as file:
            raw = file.read(limit + 1)
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} is missing") from error
    except OSError as error:
        raise MissingFileError(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > limit:
        raise ConfigError(f"{path} is larger than {limit:,} bytes")
    if sha256 is not None:
        check_hash(path, raw, sha256)
    return raw


def _parsed(path: Path, raw: bytes) -> tuple[FolderConfig, AutoencoderSpec]:
    data = strict_json(raw, path)
    if not data.keys() & {"schema_version", "spec_sha256", "spec"}:
        raise NotAVariantError(
            f"{path} is none that aezoo wrote: it has no schema_version, spec_sha256 and spec"
        )
    version: object = data.get("schema_version")
    if type(version) is not int or version < 1:
        raise ConfigError(f"{path}: schema_version: expected a whole number, found {version!r}")
    if version > SCHEMA_VERSION:
        raise SchemaVersionError(
            f"{path} has schema version {version}, this aezoo reads up to {SCHEMA_VERSION}; upgrade aezoo"
        )
    spec_data = cast(dict[str, Any] | None, data.pop("spec", None))
    if not isinstance(spec_data, dict):
        raise ConfigError(f"{path}: spec: expected an object")
    try:
        config = check(FolderConfig, data)
        _require_plugins(path, config)
        digest = hashlib.sha256(canonical_json(spec_data).encode()).hexdigest()
        if digest != config.spec_sha256:
            raise ConfigError(f"{path}: spec has sha256 {digest}, spec_sha256 says {config.spec_sha256}")
        lifted = migrate({**spec_data, "schema_version": version})
        return config, check(VariantSpec if "name" in lifted else AutoencoderSpec, lifted)
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply") from error
    except ValueError as error:  # a SpecError, or text that UTF-8 cannot spell
        raise ConfigError(f"{path}: {error}") from error


def _require_plugins(path: Path, config: FolderConfig) -> None:
    present = {c.name: c.error for c in registry.contributors()}
    for plugin in config.plugins:
        if reason := present.get(plugin.name):
            raise MissingPluginError(
                f"{path} needs the plugin {plugin.name!r}, which is here but was left out: {reason}"
            )
        if plugin.name not in present:
            raise MissingPluginError(
                f"{path} needs the plugin {plugin.name!r}; install {plugin.distribution}=={plugin.version}"
            )
    for name in config.unpackaged:
        family, _, kind = name.partition(":")
        if family not in HOOKS or kind not in registry.names(family):
            raise MissingPluginError(
                f"{path} needs the {family} {kind!r}, which was registered in a notebook or script and comes "
                "with no distribution; register it before loading"
            )


def _checked_metrics(metrics: dict[str, Any], path: Path) -> dict[str, dict[str, Any]]:
    for name, entry in metrics.items():
        if not isinstance(entry, dict):
            raise ConfigError(f"{path}: {name}: expected an object, found {type(entry).__name__}")
    return metrics
