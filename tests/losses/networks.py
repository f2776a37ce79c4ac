"""Networks, batches and losses for tests of losses."""

from typing import Any

import pytest
import torch
from torch import Generator, Tensor

import aezoo
from tests.examples import small, small_spec

SHAPE = (1, 6, 6)
LINEAR = {"kind": "linear", "out_features": 8}
SIGMOID = ["flatten", LINEAR | {"activation": "sigmoid"}]
VARIATIONAL = ["flatten", LINEAR, "gaussian_sample"]
TOPK = ["flatten", LINEAR, {"kind": "topk", "k": 2}]
CONV = {"kind": "conv", "out_channels": 2, "kernel_size": 3}
DECODER = [{"kind": "linear", "out_features": 36}, {"kind": "unflatten", "shape": [*SHAPE]}]


def loss_of(kind: str, **options: Any) -> aezoo.LossSpec:
    """A validated loss."""
    return aezoo.LossSpec.model_validate({"kind": kind, **options})


def spec_of(
    encoder: list[Any], *penalties: Any, decoder: list[Any] = DECODER, **recipe: Any
) -> aezoo.VariantSpec:
    """A variant on (1, 6, 6) with penalties in its recipe."""
    changes = {"threads": 1, "penalties": list(penalties)} | recipe
    return small_spec(encoder=encoder, decoder=decoder, recipe=small()["recipe"] | changes)


def build(encoder: list[Any], decoder: list[Any] = DECODER) -> aezoo.Autoencoder:
    """An autoencoder in double precision."""
    return aezoo.build(spec_of(encoder, decoder=decoder), dtype=torch.float64)


def images(n: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Uniform in [0, 1], (n, 1, 6, 6)."""
    return torch.rand(n, *SHAPE, generator=Generator().manual_seed(seed), dtype=dtype)


def context_of(x: Tensor) -> aezoo.StepContext:
    """The context of a step without noise."""
    return aezoo.StepContext(x, x, None, 0.0, 0, Generator().manual_seed(0))


def value_of(loss: aezoo.LossSpec, ae: aezoo.Autoencoder, x: Tensor) -> Tensor:
    """The unweighted loss of a batch."""
    return loss.build()(ae(x), context_of(x), ae)


def train(spec: aezoo.VariantSpec, n: int = 60) -> aezoo.Autoencoder:
    """Trains on uniform images."""
    return aezoo.train(spec, images(n, dtype=torch.float32), device="cpu", progress=False)


def spec_error(spec: aezoo.VariantSpec) -> str:
    """The error that `train` raises before it reads the data, which would be invalid."""
    with pytest.raises(aezoo.SpecError) as caught:
        aezoo.train(spec, object(), device="cpu", progress=False)
    return str(caught.value)
