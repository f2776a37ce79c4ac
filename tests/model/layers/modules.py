"""Layers and inputs for tests of single layers."""

from typing import Any

import torch
from torch import Tensor

import aezoo


def build_layer(kind: str, in_shape: tuple[int, ...], **options: Any) -> Any:
    """The module of one layer."""
    return aezoo.LayerSpec.model_validate({"kind": kind, **options}).build(in_shape)


def layer_specs(*layers: Any) -> tuple[aezoo.LayerSpec, ...]:
    """Validated specs of layers given as words or mappings."""
    return tuple(aezoo.LayerSpec.model_validate(layer) for layer in layers)


def normal(in_shape: tuple[int, ...], rows: int = 6, seed: int = 0) -> Tensor:
    """Standard normal input, (rows, *in_shape)."""
    return torch.randn(rows, *in_shape, generator=torch.Generator().manual_seed(seed))
