"""The format of a variant's folder: its file names, `config.json`, and the tensors that its weights hold."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Literal, cast

import torch
from pydantic import Field

from aezoo.jsonio import canonical_json
from aezoo.model.autoencoder import Autoencoder
from aezoo.plugins.hookspecs import HOOKS
from aezoo.plugins.registry import SESSION, registry
from aezoo.specs.base import NonNegativeInt, RegisteredSpec, Spec
from aezoo.specs.tensor import Shape
from aezoo.specs.variant import AutoencoderSpec, VariantSpec

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
METRICS = "metrics.json"
TRAINING = "training.json"
SPEC = "spec.yaml"
PREVIEW = "preview.png"
CARD = "README.md"
SIGNATURE = "model.sig"
"""A signature of the other files; part of a repository, and of what is pulled from it."""
ESTIMATOR = "estimator.json"
"""Written for estimators of `aezoo.sklearn` only."""
FILES = (CONFIG, WEIGHTS, METRICS, TRAINING, SPEC, PREVIEW, CARD)
ALL_FILES = (*FILES, ESTIMATOR)

METRIC_KEYS = ("value", "reason", "source", "dataset", "split", "n", "definition")
"""The entries that every metric in `metrics.json` has."""

MARKER = (
    "<!-- Written by aezoo from this folder. Without this line, the text is yours and stays as it is. -->"
)
"""Marks a generated model card. A card without it was written by the user and is never replaced."""

MAX_JSON_BYTES = 4_000_000
"""Size limit of `config.json`, `metrics.json` and `training.json`."""
MAX_TEXT_BYTES = 4_000_000
"""Size limit of `spec.yaml` and `README.md`."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
TensorTypes = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
"""Tensor name -> dtype and shape."""


class WeightsRecord(Spec):
    """Size and hash of the weights file."""

    file: Literal["model.safetensors"] = WEIGHTS
    sha256: Sha256
    bytes: Annotated[int, Field(ge=1, le=2**53)]


class ShapesRecord(Spec):
    """One layer's shapes, without the batch axis."""

    input: Shape
    output: Shape


class PluginRecord(Spec):
    """A plugin whose kinds the spec uses."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    distribution: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    version: Annotated[str, Field(pattern=r"^\w[\w.!+-]*$")]


class FolderConfig(Spec):
    """The fields of `config.json`, except `spec`."""

    schema_version: NonNegativeInt
    spec_sha256: Sha256
    shapes: dict[str, ShapesRecord]
    fitted: tuple[Literal["target_mean", "input_shift", "input_scale"], ...] = ()
    """Tensors that were measured on the training data, not trained."""
    columns: Annotated[tuple[str, ...], Field(max_length=100_000)] = ()
    """A table's columns in the order of the input's values."""
    plugins: tuple[PluginRecord, ...] = ()
    unpackaged: tuple[str, ...] = ()
    """Kinds that were registered with `aezoo.register` and belong to no distribution, as `family:kind`."""
    latents: NonNegativeInt
    parameters: NonNegativeInt
    weights: WeightsRecord


def weights_metadata(spec: AutoencoderSpec, spec_sha256: str) -> dict[str, str]:
    """The metadata of the weights file: one key, `aezoo`, that names the variant and its spec."""
    # safetensors writes several keys in random order, and the file's hash would vary.
    name: str | None = getattr(spec, "name", None)
    return {"aezoo": canonical_json({"name": name, "spec_sha256": spec_sha256})}


def required_plugins(spec: Spec) -> tuple[tuple[PluginRecord, ...], tuple[str, ...]]:
    """The plugins and the unpackaged kinds that a spec uses."""
    plugins: dict[str, PluginRecord] = {}
    unpackaged: list[str] = []
    for family, kind in sorted(set(_kinds(spec))):
        who = registry.plugin_of(family, kind)
        if who.name == SESSION:
            unpackaged.append(f"{family}:{kind}")
        elif who.name != "aezoo":
            plugins[who.name] = PluginRecord(
                name=who.name, distribution=str(who.distribution), version=str(who.version)
            )
    return tuple(plugins.values()), tuple(unpackaged)


def unlisted_kind(spec: Spec, config: FolderConfig) -> str | None:
    """A kind that a spec uses and that the config does not account for, in words; None if there is none."""
    listed = {"aezoo", *(plugin.name for plugin in config.plugins)}
    for family, kind in sorted(set(_kinds(spec))):
        plugin = registry.plugin_of(family, kind).name
        if plugin not in listed and f"{family}:{kind}" not in config.unpackaged:
            return f"the {family} {kind!r} of the plugin {plugin!r} is used, but not listed"
    return None


def _kinds(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, RegisteredSpec) and value.family in HOOKS and value.kind_name:
        yield value.family, value.kind_name
    if isinstance(value, Spec):
        for name in type(value).model_fields:
            yield from _kinds(getattr(value, name))
    elif isinstance(value, tuple):
        for item in cast(tuple[object, ...], value):
            yield from _kinds(item)


def expected_tensors(ae: Autoencoder, fitted: Iterable[str]) -> TensorTypes:
    """The tensors that a weights file must hold.

    Args:
        ae: on the meta device; receives empty tensors under the names in `fitted`.
        fitted: as in `FolderConfig`.
    """
    for name in fitted:
        shape = (ae.spec.output if name == "target_mean" else ae.spec.input).shape
        dtype = torch.float32 if name == "target_mean" else torch.float64
        setattr(ae, name, torch.empty(shape, dtype=dtype, device="meta"))
    # Independent of the process's default dtype and of a layer's own.
    stored = storage_dtypes(ae)
    return {
        name: (stored.get(name, torch.float32) if t.is_floating_point() else t.dtype, tuple(t.shape))
        for name, t in ae.state_dict().items()
    }


def storage_dtypes(ae: Autoencoder) -> dict[str, torch.dtype]:
    """The dtype in which parameters and the scaling are stored; other floating-point buffers are float32."""
    spec = ae.spec
    half = isinstance(spec, VariantSpec) and spec.recipe.weights_dtype == "float16"
    scaler = ae.scaler
    scaling = {} if scaler is None else {"input_shift": scaler.shift.dtype, "input_scale": scaler.scale.dtype}
    return {name: torch.float16 if half else torch.float32 for name, _ in ae.named_parameters()} | scaling


def tensor_mismatch(tensors: Mapping[str, torch.Tensor], expected: TensorTypes) -> str | None:
    """The first difference between tensors and what the spec gives, or None."""
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            return f"tensor {name!r} is missing"
        if name not in expected:
            return f"tensor {name!r} is not in the spec"
        found = (tensors[name].dtype, tuple(tensors[name].shape))
        dtype, shape = expected[name]
        # Only the scaling may be float64; it is float32 where that is precise enough.
        if found != (dtype, shape) and (dtype, *found) != (torch.float64, torch.float32, shape):
            return f"tensor {name!r} is {_describe(*found)}, the spec gives {_describe(*expected[name])}"
    return None


def _describe(dtype: torch.dtype, shape: tuple[int, ...]) -> str:
    return f"{str(dtype).removeprefix('torch.')} {list(shape)}"
