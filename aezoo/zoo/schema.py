"""A folder on disk and an autoencoder: saved whole or not at all, loaded verified or not at all.

A folder holds `config.json` (the resolved spec, every layer's shapes, the weights' hash and size),
`model.safetensors`, `metrics.json`, `training.json`, `spec.yaml` and, mostly, `preview.png`.
"""

from collections.abc import Iterable, Iterator
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


def weights_metadata(spec: AutoencoderSpec, digest: str) -> dict[str, str]:
    """What the weights' file says about itself."""
    # With a second key the order in which safetensors writes them, and so the hash, varies.
    name: str | None = getattr(spec, "name", None)
    return {"aezoo": canonical_json({"name": name, "spec_sha256": digest})}


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


def _kinds(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, RegisteredSpec) and value.family in HOOKS and value.kind_name:
        yield value.family, value.kind_name
    if isinstance(value, Spec):
        for name in type(value).model_fields:
            yield from _kinds(getattr(value, name))
    elif isinstance(value, tuple):
        for item in cast(tuple[object, ...], value):
            yield from _kinds(item)


def expected_tensors(
    ae: Autoencoder, fitted: Iterable[str]
) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """What a file of the weights must hold, for a network on the meta device."""
    for name in fitted:
        shape = (ae.spec.output if name == "target_mean" else ae.spec.input).shape
        setattr(ae, name, torch.empty(shape, device="meta"))
    # As declared, whatever the process's or a layer's own precision.
    stored = storage_dtypes(ae)
    return {
        name: (stored.get(name, torch.float32) if t.is_floating_point() else t.dtype, tuple(t.shape))
        for name, t in ae.state_dict().items()
    }


def storage_dtypes(ae: Autoencoder) -> dict[str, torch.dtype]:
    """The declared precision of every weight; whatever else there is stays float32."""
    spec = ae.spec
    half = isinstance(spec, VariantSpec) and spec.recipe.weights_dtype == "float16"
    return {name: torch.float16 if half else torch.float32 for name, _ in ae.named_parameters()}
