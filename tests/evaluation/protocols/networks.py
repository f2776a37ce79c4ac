"""Datasets and networks that are small enough to work protocols out by hand."""

from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

import aezoo
from aezoo.data.datasets import torchvision
from aezoo.data.samples import Samples
from aezoo.evaluation.protocols import few_label
from tests.evaluation.networks import normal
from tests.examples import small, small_spec

# -- datasets -----------------------------------------------------------------------------------------


def dataset(**splits: Samples) -> aezoo.DatasetSpec:
    """A dataset with these splits."""

    class ToySpec(aezoo.DatasetSpec):
        kind: Literal["toy"] = "toy"

        def load(self, split: Any) -> Samples:
            return splits[split]

        def has(self, split: Any) -> bool:
            return split in splits

    return ToySpec()


def same_splits(samples: Samples) -> aezoo.DatasetSpec:
    """A dataset whose splits are all the same."""
    return dataset(train=samples, validation=samples, test=samples)


def classes(n: int = 40, kinds: int = 2, noise: float = 0.05, seed: int = 0) -> Samples:
    """Samples with one value for each class; that of the sample's class is about 1, the others about 0."""
    labels = torch.arange(n) % kinds
    return Samples(torch.eye(kinds)[labels] + noise * normal(n, kinds, seed=seed), None, labels)


def splits_of_classes(kinds: int = 2, train: int = 60) -> aezoo.DatasetSpec:
    sizes = {"train": train, "validation": 20 * kinds, "test": 10 * kinds}
    return dataset(**{name: classes(n, kinds, seed=seed) for seed, (name, n) in enumerate(sizes.items())})


ROLL: dict[str, Any] = {"kind": "swiss_roll", "count": 200, "scale": "none"}


def images(n: int, side: int = 2, seed: int = 0) -> Samples:
    """Random images of the classes 3 and 8 in turn; those of class 8 are lighter."""
    labels = torch.tensor([3, 8]).repeat(n // 2)
    pixels = 90 + 30 * normal(n, 1, side, side, seed=seed) + 20 * (labels == 8)[:, None, None, None]
    return Samples(pixels.clamp(0, 255).byte(), None, labels)


def in_torchvision(monkeypatch: pytest.MonkeyPatch, train: Samples, test: Samples) -> dict[str, Any]:
    """Adds a dataset to torchvision, of which a quarter is held out; returns its spec."""

    class Ours:
        def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
            self.data, self.targets = splits[train].inputs, splits[train].labels

    splits = {True: train, False: test}
    monkeypatch.setattr(torchvision, "torchvision_datasets", lambda: SimpleNamespace(Ours=Ours))
    return {"kind": "torchvision", "name": "Ours", "holdout": len(train) // 4}


# -- networks -----------------------------------------------------------------------------------------


def build(data: object, encoder: list[Any], decoder: list[Any], **changes: Any) -> aezoo.Autoencoder:
    """An untrained network whose recipe names a dataset."""
    recipe = small()["recipe"] | {"dataset": data, "threads": 1, "refit": changes.pop("refit", False)}
    spec = {"input": {"shape": [2]}, "encoder": encoder, "decoder": decoder, "recipe": recipe}
    return aezoo.build(small_spec(**(spec | changes)))


def dense(features: int, **options: Any) -> dict[str, Any]:
    return {"kind": "linear", "out_features": features, "bias": False, **options}


def linear(data: object, weight: Tensor, decoder: Tensor | None = None, **changes: Any) -> aezoo.Autoencoder:
    """A linear network without biases; the decoder's weights are the encoder's transposed unless given."""
    latents, size = weight.shape
    changes = {"input": {"shape": [size]}} | changes
    ae = build(data, [dense(latents)], [dense(size)], **changes)
    ae.load_state_dict({
        "encoder.0.linear.weight": weight,
        "decoder.0.linear.weight": weight.T if decoder is None else decoder,
    })  # fmt: skip
    return ae


def for_images(
    data: object, side: int = 2, latents: int = 1, dropout: float = 0.0, **changes: Any
) -> aezoo.Autoencoder:
    """A network for `images`."""
    shape = [1, side, side]
    decoder = [dense(side * side), {"kind": "unflatten", "shape": shape}]
    given = {"input": {"shape": shape, "range": [0, 1]}} | changes
    return build(data, ["flatten", dense(latents, dropout=dropout)], decoder, **given)


def numpy_random_state() -> list[int]:
    state: Any = np.random.get_state()
    return state[1].tolist()


def shorten_few_label(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Makes the few-label protocol small."""
    few: dict[str, Any] = {
        "LABELS": (20,), "DRAWS": 2, "STEPS": 25, "LEARNING_RATES": (1e-3,), "HEAD_LEARNING_RATE": 0.1,
    }  # fmt: skip
    for name, value in (few | changes).items():
        monkeypatch.setattr(few_label, name, value)
