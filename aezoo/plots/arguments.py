"""Checks of what is to be drawn."""

from typing import Any, cast

import torch
from torch import Tensor

from aezoo.data.containers import plain_tensor
from aezoo.data.transforms import check_finite
from aezoo.errors import DataError
from aezoo.text import type_name


def checked(x: object, what: str) -> Tensor:
    """A batch of floating-point samples on the CPU, without gradients.

    Raises:
        DataError: not a tensor, not floating point, or no samples.
    """
    if not isinstance(x, Tensor):
        raise DataError(
            f"{what}: expected a tensor, found {type_name(x)}; ae.transforms() converts other data"
        )
    x = plain_tensor(x, what)
    if not x.is_floating_point():
        raise DataError(f"{what}: expected floating point, found {x.dtype}; ae.transforms() converts it")
    if x.ndim == 0 or x.numel() == 0:
        raise DataError(f"{what}: expected at least one sample, found shape {list(x.shape)}")
    return x.detach().cpu()


def checked_latents(x: object) -> Tensor:
    """Latents, (batch, latents), float64; those of a convolutional code are flattened.

    Raises:
        DataError: as for `checked`, no batch axis, or values that are not finite.
    """
    x = checked(x, "latents")
    if x.ndim < 2:
        raise DataError(f"expected latents of shape (batch, latents), found {list(x.shape)}")
    check_finite(x)
    return x.double().flatten(1)


def checked_labels(labels: object, n: int) -> Tensor:
    """Labels, (batch,), on the CPU.

    Raises:
        DataError: not a tensor, or not one label for each sample.
    """
    if not isinstance(labels, Tensor):
        raise DataError(f"labels: expected a tensor, found {type_name(labels)}")
    labels = plain_tensor(labels, "labels").detach().cpu()
    if tuple(labels.shape) != (n,):
        raise DataError(f"expected {n} labels, one for each sample, found shape {list(labels.shape)}")
    return labels


def checked_scores(scores: object, what: str) -> Tensor:
    """One finite number for each sample, (batch,), float64.

    Raises:
        DataError: not a tensor of such numbers.
    """
    scores = checked(scores, what)
    if scores.ndim != 1:
        raise DataError(f"{what}: expected shape (batch,), found {list(scores.shape)}")
    check_finite(scores)
    return scores.double()


def checked_classes(labels: Tensor) -> Tensor:
    """Labels of classes as int64.

    Raises:
        DataError: they are not whole numbers.
    """
    if labels.is_floating_point() or labels.is_complex():
        raise DataError(f"labels: expected whole numbers that name classes, found {labels.dtype}")
    return labels.to(torch.int64)


def classes_of(labels: Tensor) -> list[Any]:
    """The different labels in ascending order."""
    return cast(list[Any], torch.unique(labels).tolist())


def check_count(value: object, name: str) -> None:
    """Raises ValueError unless the value is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}: expected a whole number of at least 1, found {value!r}")


def check_choice(value: object, name: str, known: tuple[object, ...]) -> None:
    """Raises ValueError unless the value is one of those that are known."""
    if value not in known:
        raise ValueError(f"{name}: expected {', '.join(map(str, known))}, found {value!r}")
