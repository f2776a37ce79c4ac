"""Rows of X as samples of a network, the split into trained and held-out rows, and errors of rows."""

import copy
import math
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aezoo.data.containers import from_numpy
from aezoo.data.datasets.splits import hash_splits
from aezoo.data.inputs import Splits
from aezoo.data.samples import Samples
from aezoo.data.transforms import Scaler
from aezoo.errors import DataError
from aezoo.inference.sources import BATCH_SIZE
from aezoo.model.autoencoder import Autoencoder
from aezoo.specs.variant import AutoencoderSpec, VariantSpec

FALSE_ALARMS = 0.05
"""Share of new usual rows that a detector takes for outliers, with `contamination="auto"`."""

Floats = NDArray[np.floating[Any]]


def as_samples(values: NDArray[Any], spec: AutoencoderSpec, *, bounded: bool) -> Tensor:
    """Rows as samples, (n, *input shape): bytes if the input is bounded, else floating point.

    Raises:
        DataError: another number of features, or whole numbers other than bytes for a bounded input.
    """
    shape, dtype = spec.input.shape, values.dtype
    if (expected := math.prod(shape)) != values.shape[1]:
        text = f"X has {values.shape[1]:,} features, the spec's input, {list(shape)}, has {expected:,}"
        raise DataError(text)
    if bounded and dtype.kind in "iu" and dtype != np.uint8:
        low, high = cast("tuple[float, float]", spec.input.range)
        expected = f"bytes (uint8, 0 to 255) or floating point from {low:g} to {high:g}"
        raise DataError(f"X: expected {expected}, found {dtype}")
    # PyTorch has no longer floats than float64.
    keep = dtype.name in ("float16", "float32", "float64") or (bounded and dtype == np.uint8)
    return from_numpy((values if keep else values.astype(np.float64)).reshape(len(values), *shape))


def batches(ae: Autoencoder, values: NDArray[Any]) -> list[Tensor]:
    """Rows as a network takes them, in batches of (n, *input shape)."""
    x = as_samples(values, ae.spec, bounded=ae.scaler is None and ae.spec.input.range is not None)
    transforms = ae.transforms()
    return [transforms(part) for part in cast("tuple[Tensor, ...]", x.split(BATCH_SIZE))]


def _by_hash(x: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of the rows of a share and of the others, at least one of each, ordered by their hashes."""
    drawn = hash_splits(x, share, 0.0, seed)
    order = torch.cat([drawn["validation"], drawn["train"]])
    m = min(max(1, round(share * len(x))), len(x) - 1)
    return order[:m], order[m:]


def reserve(values: NDArray[Any], share: float, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Divides rows, (n, features), into those to train on and a share of others, which may be 0."""
    if share == 0:
        return values, values[:0]
    reserved, kept = _by_hash(from_numpy(values.astype(np.float64)), share, seed)
    return values[kept.numpy()], values[reserved.numpy()]


def splits(
    values: NDArray[Any], spec: VariantSpec, share: float, standardize: bool | str, names: tuple[str, ...]
) -> Splits:
    """Rows for `train`: standardized by all of them, and a share held out for validation.

    Raises:
        DataError: the target has another shape than the input, or a bounded input is to be standardized.
    """
    bounded = spec.input.range is not None
    if spec.output.shape != spec.input.shape:
        shapes = f"target has shape {list(spec.output.shape)}, its input {list(spec.input.shape)}"
        raise DataError(f"spec: the {shapes}; X is input and target, which need the same")
    if standardize is True and bounded:
        raise DataError("standardize: standardized values are unbounded, and the spec has input.range")
    x, scaler = as_samples(values, spec, bounded=bounded), None
    if standardize and not bounded:
        scaler = Scaler.fit(x)
        x = scaler(x.double()).float()
    # A folder has one distinct name for each value of a vector.
    named = len(set(names)) == len(names) and len(spec.input.shape) == 1
    samples = Samples(x, scaler=scaler, columns=names if named else ())
    held_out, trained = _by_hash(samples.inputs, share, spec.recipe.seed)
    note = f"{len(held_out)} of {len(x)} samples, by a hash of each with seed {spec.recipe.seed}"
    return Splits("array", samples[trained], samples[held_out], note)


def errors(ae: Autoencoder, values: NDArray[Any]) -> Floats:
    """Mean squared error of the reconstruction of each row, float64, (n,), in the network's units.

    Raises:
        NotSupportedError: the target's shape is not the input's.
    """
    # In float32 the last bits depend on how many rows are scored together, and so would some predictions.
    device = next(ae.parameters(), torch.zeros(0)).device
    device = torch.device("cpu") if device.type == "mps" else device  # which has no double precision
    exact = copy.deepcopy(ae).to(device, torch.float64).eval()
    with torch.no_grad():
        parts = [exact.score_samples(x.to(device, torch.float64)) for x in batches(ae, values)]
    return -torch.cat(parts).cpu().numpy()


def conformal_limit(errors: Floats) -> float:
    """The error that at most a share `FALSE_ALARMS` of new usual rows exceeds on average (Vovk et al. 2005).

    Of too few errors for that, it is the largest, and the share is 1 / (n + 1).
    """
    position = math.ceil((len(errors) + 1) * (1 - FALSE_ALARMS) - 1e-9)
    limit = float(np.sort(errors)[min(position, len(errors)) - 1])
    # The last bits of that row's error depend on how many rows are scored together.
    return limit * (1 + 1e-9)
