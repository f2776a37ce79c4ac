"""What protocols have in common: a name, an incompatibility, and numbers as `metrics.json` holds them."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor

from aezoo.data.samples import Samples
from aezoo.errors import DataError
from aezoo.evaluation.evaluate import BATCH, Metric
from aezoo.model.autoencoder import Autoencoder, eval_mode
from aezoo.specs.components import DatasetSpec, Split
from aezoo.specs.variant import VariantSpec


class Protocol(ABC):
    """A measurement that takes more than one pass over a split.

    Attributes:
        name: as it is asked for.
        summary: what is measured, in one line.
        gives: names of its numbers.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    gives: ClassVar[tuple[str, ...]]

    @abstractmethod
    def incompatibility(self, ae: Autoencoder) -> str | None:
        """Why it means nothing for a network; None where it does."""

    @abstractmethod
    def run(self, ae: Autoencoder) -> dict[str, Metric]:
        """Name -> entry of `metrics.json`; everything drawn is seeded."""


def dataset_of(ae: Autoencoder) -> DatasetSpec:
    """The dataset that the recipe names.

    Raises:
        DataError: it names none.
    """
    dataset = ae.spec.recipe.dataset if isinstance(ae.spec, VariantSpec) else None
    if dataset is None:
        raise DataError("the recipe names no dataset")
    return dataset


def without_dataset(ae: Autoencoder) -> str | None:
    """The incompatibility to a network whose recipe names no dataset."""
    named = isinstance(ae.spec, VariantSpec) and ae.spec.recipe.dataset is not None
    return None if named else "the recipe names no dataset"


def samples_of(ae: Autoencoder, split: Split) -> Samples:
    """A split of the recipe's dataset.

    Raises:
        DataError: there is no such split, or the data are not to be had.
    """
    dataset = dataset_of(ae)
    if not dataset.has(split):
        raise DataError(f"{dataset.kind_name} has no {split} split")
    return dataset.load(split).validated_for(ae.spec)


def fitted_on(ae: Autoencoder) -> Samples:
    """What the weights were fitted to: the training split, and after a refit the validation split, too."""
    train = samples_of(ae, "train")
    refitted = isinstance(ae.spec, VariantSpec) and ae.spec.recipe.refit
    return train.concat(samples_of(ae, "validation")) if refitted else train


def latents_of(ae: Autoencoder, samples: Samples) -> Tensor:
    """Latents of all samples in evaluation mode, (n, latents), on the CPU."""
    weight = next(ae.parameters(), torch.empty(0))
    with eval_mode(ae), torch.no_grad():
        return torch.cat([
            ae.encode(rows.input.to(weight)).flatten(1).cpu().float()
            for rows in samples.batches(ae.spec, BATCH)
        ])  # fmt: skip


def inputs_of(ae: Autoencoder, samples: Samples) -> Tensor:
    """Inputs of all samples, scaled, (n, values)."""
    return torch.cat([rows.input.flatten(1) for rows in samples.batches(ae.spec, BATCH)])


def labels_of(samples: Samples) -> Tensor:
    """Labels of all samples.

    Raises:
        DataError: there are none.
    """
    if samples.labels is None:
        raise DataError("the dataset has no labels")
    return samples.labels if samples.index is None else samples.labels[samples.index]


def entry(
    ae: Autoencoder,
    value: float,
    n: int,
    definition: str,
    source: Literal["computed", "protocol"] = "computed",
    split: Split = "test",
) -> Metric:
    """A number that was measured, on the test split if nothing else is said; null where it is not finite."""
    reason = None if math.isfinite(value) else f"the result is {value}"
    return Metric(
        value=value if reason is None else None, reason=reason, source=source,
        dataset=str(dataset_of(ae).kind_name), split=split, n=n, definition=definition,
    )  # fmt: skip
