"""The samples on which an exported file is compared with aezoo, as raw data and as input of the network."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aezoo.data.inputs import as_samples
from aezoo.data.samples import Samples
from aezoo.data.transforms import Transforms, scale_bytes
from aezoo.errors import DataError
from aezoo.evaluation.evaluate import dataset_of, load_for, load_split
from aezoo.exporting.program import input_dtype
from aezoo.inference.sources import open_source
from aezoo.model.autoencoder import Autoencoder
from aezoo.specs.components import DatasetSpec

MAX_SAMPLES = 10_000
MAX_VALUES = 2**28
"""Largest number of values in the samples that are compared: 1 GiB in float32."""


class ComparedData(NamedTuple):
    """Samples to compare on.

    Attributes:
        text: what they are, such as `mnist:test`.
        raw: (n, *input shape), what the file is given: uint8, float32 or float64.
        targets: (n, *target shape), in the network's units; None if they are not known.
        published: whether they are a whole test split, on which published metrics were measured.
    """

    text: str
    raw: Tensor
    targets: Tensor | None
    published: bool


def compared_data(ae: Autoencoder, samples: object) -> ComparedData:
    """Reads samples to compare an exported file on: the first 10,000, fewer if they are large.

    Args:
        ae: the network, on the CPU.
        samples: what `aezoo encode` takes. None for the test split of the network's dataset, or, if it cannot
            be read, for the samples of the validation split that are in memory after a training.

    Raises:
        DataError: the samples cannot be read or do not fit the network; or there are none.
    """
    if samples is None:
        return _own_data(ae)
    if isinstance(samples, DatasetSpec):
        return _of_samples(ae, load_for(ae, samples, "test"), f"{samples.kind_name}:test", published=False)
    if isinstance(samples, Samples):
        fitting = as_samples(samples).scaled_for(ae.scaler, ae.columns).validated_for(ae.spec)
        return _of_samples(ae, fitting, "samples in memory", published=False)
    source = open_source(ae, samples)
    x = _first(chunk.x for chunk in source.chunks())
    same = ae.spec.output == ae.spec.input
    return ComparedData(source.text, raw_data(ae.transforms(), x), x if same else None, published=False)


def _own_data(ae: Autoencoder) -> ComparedData:
    try:
        return _of_samples(ae, load_split(ae, "test"), f"{dataset_of(ae).kind_name}:test", published=True)
    except DataError as error:
        if ae.examples is not None:
            x = ae.examples.cpu().float()
            same = ae.spec.output == ae.spec.input
            targets = ae.example_targets.cpu().float() if ae.example_targets is not None else x
            known = targets if same or ae.example_targets is not None else None
            text = "the validation samples in memory"
            return ComparedData(text, raw_data(ae.transforms(), x), known, published=False)
        raise DataError(
            f"an export is compared with aezoo on samples, and there are none: {error}; "
            "give some with samples= (--samples)"
        ) from error


def _of_samples(ae: Autoencoder, samples: Samples, text: str, published: bool) -> ComparedData:
    n = _limit(ae.spec.input.shape)
    whole = len(samples) <= n
    batches = list(samples[:n].batches(ae.spec, 1000))
    parts = zip(*((batch.input, batch.target) for batch in batches), strict=True)
    x, targets = (torch.cat(part).cpu() for part in parts)
    return ComparedData(text, raw_data(ae.transforms(), x), targets, published and whole)


def _limit(shape: tuple[int, ...]) -> int:
    return max(1, min(MAX_SAMPLES, MAX_VALUES // max(1, int(np.prod(shape)))))


def _first(parts: Iterable[Tensor]) -> Tensor:
    kept: list[Tensor] = []
    left = MAX_SAMPLES
    for part in parts:
        if len(part):
            left = min(left, _limit(tuple(part.shape[1:])) - sum(map(len, kept)))
            kept.append(part[:left])
            left -= len(kept[-1])
        if left <= 0:
            break
    if not kept:
        raise DataError("there are no samples to compare on")
    return torch.cat(kept)


def raw_data(transforms: Transforms, x: Tensor) -> Tensor:
    """Data as a user has them, for inputs of a network.

    Args:
        transforms: `ae.transforms()`.
        x: (n, *input shape), as the network takes it.

    Returns:
        Bytes if `x` are scaled bytes, exactly; numbers in their original units if the training data were
        standardized; otherwise `x`.
    """
    if transforms.scaler is not None:
        return transforms.scaler.inverse(x.double()).to(input_dtype(transforms, bytes_only=False))
    if (found := _bytes(transforms, x)) is not None:
        return found
    return x


def _bytes(transforms: Transforms, x: Tensor) -> Tensor | None:
    """The bytes that are scaled to `x`; None if there are none."""
    if input_dtype(transforms, bytes_only=True) != torch.uint8 or transforms.spec.range is None:
        return None
    low, high = transforms.spec.range
    found = ((x.double() - low) / (high - low) * 255).round().clamp(0, 255).to(torch.uint8)
    return found if torch.equal(scale_bytes(found, (low, high)), x) else None


def batch_sizes(n: int) -> Iterator[int]:
    """The sizes of the batches in which `n` samples are run: 1, 2, 7, then 300 at most."""
    for size in (1, 2, 7):
        if n > 0:
            yield min(size, n)
            n -= size
    while n > 0:
        yield min(300, n)
        n -= 300
