"""Small networks and recipes for tests of training, and comparisons of their weights."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

import aezoo
from tests.examples import small, small_spec


def images(n: int = 60, seed: int = 208) -> Tensor:
    """Random images; of those of the default seed, a recipe with the seed 0 or 1 holds out exactly a tenth."""
    return torch.rand(n, 1, 6, 6, generator=Generator().manual_seed(seed))


IMAGES = images()
"""60 rows, of which 6 are held out; batches of 16 make four steps an epoch, the last with 6 rows."""


# -- layers -------------------------------------------------------------------------------------------


def linear(out_features: int, **options: Any) -> dict[str, Any]:
    return {"kind": "linear", "out_features": out_features, "activation": "tanh", **options}


def conv(out_channels: int, kind: str = "conv", **options: Any) -> dict[str, Any]:
    return {"kind": kind, "out_channels": out_channels, "kernel_size": 3, "padding": 1, **options}


DENSE = linear(8)
FLAT = {"kind": "unflatten", "shape": [1, 6, 6]}
POOL = {"kernel_size": 2, "switches": "a"}
"""Options of a `max_pool` and of its `max_unpool`."""

Layers = dict[str, list[Any]]
LINEAR: Layers = {
    "encoder": ["flatten", {"kind": "linear", "out_features": 4}],
    "decoder": [{"kind": "linear", "out_features": 36}, FLAT],
}
DEEP: Layers = {
    "encoder": ["flatten", linear(12), linear(5)],
    "decoder": [linear(12), linear(36, activation="sigmoid"), FLAT],
}
NORMALIZED: Layers = {
    "encoder": ["flatten", linear(12, norm="batch_norm", dropout=0.3), linear(5, norm="batch_norm")],
    "decoder": [linear(12, norm="batch_norm"), linear(36), FLAT],
}
TRANSPOSED: Layers = {
    "encoder": [conv(3), {"kind": "max_pool", **POOL}, conv(4)],
    "decoder": [conv(3, "conv_transpose"), {"kind": "max_unpool", **POOL}, conv(1, "conv_transpose")],
}


# -- recipes ------------------------------------------------------------------------------------------


def stage(epochs: int = 2, **options: Any) -> dict[str, Any]:
    return {"kind": "fit", "epochs": epochs, **options}


def greedy(epochs: int = 2, **options: Any) -> dict[str, Any]:
    return {"kind": "greedy", "epochs": epochs, **options}


def adam(lr: float) -> dict[str, Any]:
    return {"kind": "adam", "lr": lr}


def spec_of(
    *, encoder: list[Any] | None = None, decoder: list[Any] | None = None, **recipe: Any
) -> aezoo.VariantSpec:
    """The small variant, trained with one thread, with changes to its layers and its recipe."""
    changes: dict[str, Any] = {"recipe": small()["recipe"] | {"threads": 1} | recipe}
    changes |= {"encoder": encoder} if encoder else {}
    changes |= {"decoder": decoder} if decoder else {}
    return small_spec(**changes)


def train(
    spec: aezoo.VariantSpec, *callbacks: aezoo.Callback, data: object = IMAGES, resume: Path | None = None
) -> aezoo.Autoencoder:
    return aezoo.train(spec, data, device="cpu", callbacks=callbacks, progress=False, resume=resume)


# -- weights ------------------------------------------------------------------------------------------


def state_of(ae: aezoo.Autoencoder) -> dict[str, Tensor]:
    """Copies of all parameters and buffers except `target_mean`, which is set at the end of training."""
    return {name: t.detach().clone() for name, t in ae.state_dict().items() if name != "target_mean"}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def assert_independent(ae: aezoo.Autoencoder) -> None:
    """No two parameters share memory, and all are contiguous leaves that take gradients."""
    pointers = [parameter.untyped_storage().data_ptr() for parameter in ae.parameters()]
    assert len(set(pointers)) == len(pointers)
    assert all(p.is_contiguous() and p.requires_grad and p.is_leaf for p in ae.parameters())


def names_in(names: Iterable[str], layers: tuple[str, ...]) -> set[str]:
    """The names that start with one of these layers' paths."""
    return {name for name in names if name.startswith(layers)}


def which(rows: Tensor, x: Tensor) -> list[int]:
    """The index in `x` of each row, all of which must be in it."""
    same = (rows[:, None] == x[None]).flatten(2).all(2)
    assert same.sum(1).tolist() == [1] * len(rows)
    return same.int().argmax(1).tolist()
