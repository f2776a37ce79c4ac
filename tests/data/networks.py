"""Small specs, and training without output."""

import math
from pathlib import Path
from typing import Any

import aezoo


def shape_spec(
    shape: tuple[int, ...] = (1, 6, 6),
    range: tuple[float, float] | None = (0.0, 1.0),
    target: dict[str, Any] | None = None,
) -> aezoo.AutoencoderSpec:
    """A spec of the data; its layers are never built."""
    return aezoo.AutoencoderSpec.model_validate({
        "input": {"shape": shape, "range": range},
        "target": target,
        "encoder": [{"kind": "flatten"}],
        "decoder": [{"kind": "unflatten", "shape": shape}],
    })  # fmt: skip


def tiny_variant(
    shape: tuple[int, ...],
    range: tuple[float, float] | None = None,
    target: tuple[int, ...] | None = None,
    **recipe: Any,
) -> aezoo.VariantSpec:
    """A network with two latents, trained for one epoch."""
    output = target or shape
    return aezoo.VariantSpec.model_validate({
        "name": "tiny",
        "summary": "A network for tests.",
        "input": {"shape": shape, "range": range},
        "target": None if target is None else {"shape": target, "range": range},
        "encoder": [{"kind": "flatten"}, {"kind": "linear", "out_features": 2}],
        "decoder": [
            {"kind": "linear", "out_features": math.prod(output)},
            {"kind": "unflatten", "shape": output},
        ],
        "recipe": {
            "reconstruction": "mse",
            "batch_size": 16,
            "stages": [{"kind": "fit", "epochs": 1}],
            "threads": 1,
        } | recipe,
    })  # fmt: skip


def train_quietly(spec: aezoo.VariantSpec, data: object = None, **options: Any) -> aezoo.Autoencoder:
    return aezoo.train(spec, data=data, progress=False, **options)


def saved_and_loaded(ae: aezoo.Autoencoder, folder: Path = Path("trained")) -> aezoo.Autoencoder:
    return aezoo.load(aezoo.save(ae, folder))
