"""Networks that are small enough to work out their metrics by hand, and how they are measured."""

from typing import Any

import torch
from torch import Generator, Tensor

import aezoo
from aezoo.data.samples import Samples
from aezoo.evaluation.evaluate import Measurement, evaluate
from aezoo.model.autoencoder import Autoencoder
from aezoo.plugins.registry import registry
from tests.examples import small_spec

METRICS = registry.names("metric")


def net(
    shape: tuple[int, ...],
    encoder: list[Any],
    decoder: list[Any],
    *,
    loss: object = "mse",
    noises: list[Any] | None = None,
    **target: Any,
) -> Autoencoder:
    """An untrained network with a recipe; `target` gives it a target other than its input."""
    recipe = {"reconstruction": loss, "noises": noises or [], "stages": [{"kind": "fit", "epochs": 1}]}
    layers = {"input": {"shape": list(shape)}, "encoder": encoder, "decoder": decoder}
    return aezoo.build(small_spec(**layers, **target, recipe=recipe))


def without_recipe(ae: Autoencoder) -> Autoencoder:
    """The same architecture without its recipe."""
    spec = aezoo.AutoencoderSpec(input=ae.spec.input, encoder=ae.spec.encoder, decoder=ae.spec.decoder)
    return aezoo.build(spec)


def keep(n: int) -> dict[str, Any]:
    """A layer that returns n values unchanged."""
    return {"kind": "topk", "k": n}


def linear(out: int, **options: Any) -> dict[str, Any]:
    return {"kind": "linear", "out_features": out, **options}


def identity(n: int, **options: Any) -> Autoencoder:
    """Returns its n inputs, which are its latents, too."""
    return net((n,), [keep(n)], [keep(n)], **options)


def measure(
    ae: Autoencoder, x: Tensor, target: Tensor | None = None, **options: Any
) -> dict[str, Measurement]:
    return evaluate(ae, Samples(x, target), dataset="ours", split="test", **options)


def values(found: dict[str, Measurement]) -> dict[str, float | None]:
    return {kind: entry["value"] for kind, entry in found.items()}


def value(ae: Autoencoder, kind: str, x: Tensor, target: Tensor | None = None) -> float:
    entry = measure(ae, x, target)[kind]
    assert entry["value"] is not None, entry["reason"]
    return entry["value"]


def reason(ae: Autoencoder, kind: str, x: Tensor) -> str | None:
    entry = measure(ae, x)[kind]
    assert entry["value"] is None
    return entry["reason"]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=Generator().manual_seed(seed))
