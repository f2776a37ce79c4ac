"""The pass over a dataset that measures every metric that applies.

A value is computed from the weights and the data alone, so that anyone can compute it again; one that
cannot be measured is null, with the reason.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal, TypedDict, cast

import torch
from torch import Tensor

from aezoo.data.samples import Batch, Samples
from aezoo.errors import DataError
from aezoo.model.autoencoder import Autoencoder, Output, eval_mode
from aezoo.plugins.registry import registry
from aezoo.specs.components import MetricSpec, Split
from aezoo.specs.variant import VariantSpec

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
EVAL_SEED = 0x5EED
"""Whatever is drawn in an evaluation is the same in every epoch and every run."""
BATCH = 1000
"""Rows a pass handles at once. Sums are in double precision, so that only what is drawn depends on it."""


class Metric(TypedDict):
    """An entry of `metrics.json`.

    Attributes:
        value: the number, or None where it was not measured.
        reason: why there is none; None where there is one.
        source: `computed` (the weights and the data give it again), `protocol` (needs training again)
            or `recorded` (seconds and the like).
        dataset: what it was measured on.
        split: train, validation or test.
        n: how many samples.
        definition: the formula in words.
    """

    value: float | None
    reason: str | None
    source: Literal["computed", "protocol", "recorded"]
    dataset: str | None
    split: str | None
    n: int | None
    definition: str


class NotMeasured(Exception):  # noqa: N818 - it is an answer, not a failure
    """Raised by `Meter.value` when there is no number; its text is the reason."""


class Meter(ABC):
    """Adds up one metric over the batches of a pass."""

    @abstractmethod
    def update(self, output: Output, rows: Batch) -> None:
        """Takes in a batch: what the network gave, and the rows it was given."""

    @abstractmethod
    def value(self) -> float:
        """The number over everything taken in.

        Raises:
            NotMeasured: there is none, with the reason.
        """


def double(x: Tensor) -> Tensor:
    """The same values in double precision."""
    # Apple's GPUs have no double precision.
    return (x.cpu() if x.device.type == "mps" else x).double()


def applicable(ae: Autoencoder) -> list[MetricSpec]:
    """Every registered metric that means anything for a network."""
    specs = [cast(type[MetricSpec], registry.get("metric", kind))() for kind in registry.names("metric")]
    return [spec for spec in specs if spec.applies(ae)]


def evaluate(
    ae: Autoencoder, samples: Samples, *, dataset: str, split: str, batch_size: int = BATCH
) -> dict[str, Metric]:
    """Measures every registered metric that applies in one pass, in evaluation mode.

    Args:
        ae: left in the mode in which it was given.
        samples: measured on; checked against `ae.spec` first.
        dataset: its name, for the record.
        split: which one it is, for the record.
        batch_size: rows at a time.

    Returns:
        Kind -> entry of `metrics.json`.

    Raises:
        DataError: the samples do not fit.
    """
    meters: list[tuple[MetricSpec, Meter]] = [(spec, spec.build(ae)) for spec in applicable(ae)]
    samples = samples.validated_for(ae.spec)
    # A network may have no weights at all.
    weight = next(ae.parameters(), torch.empty(0))
    with eval_mode(ae), torch.no_grad():
        for rows in samples.batches(ae.spec, batch_size):
            rows = Batch(rows.input.to(weight), rows.target.to(weight.device), rows.labels)
            output: Output = ae(rows.input)
            for _, meter in meters:
                meter.update(output, rows)
    return {str(spec.kind_name): _entry(spec, meter, dataset, split, len(samples)) for spec, meter in meters}


def evaluate_again(ae: Autoencoder, split: str = "test") -> dict[str, Metric]:
    """Measures a variant on the dataset that its recipe names.

    Args:
        ae: a variant whose recipe has a dataset.
        split: train, validation or test.

    Raises:
        DataError: no such split, or no dataset in the recipe.
    """
    dataset = ae.spec.recipe.dataset if isinstance(ae.spec, VariantSpec) else None
    if dataset is None:
        raise DataError("the recipe names no dataset; use aezoo.evaluate with samples of your own")
    wanted: Split | None = next((known for known in SPLITS if known == split), None)
    if wanted is None or not dataset.has(wanted):
        known = ", ".join(known for known in SPLITS if dataset.has(known))
        raise DataError(f"{dataset.kind_name} has no split {split!r}; {known} are known")
    return evaluate(ae, dataset.load(wanted), dataset=str(dataset.kind_name), split=split)


def _entry(spec: MetricSpec, meter: Meter, dataset: str, split: str, n: int) -> Metric:
    value, reason = None, None
    try:
        value = meter.value()
        if not math.isfinite(value):
            value, reason = None, f"the result is {value}"
    except NotMeasured as error:
        reason = str(error)
    return Metric(
        value=value, reason=reason, source="computed", dataset=dataset, split=split, n=n,
        definition=spec.definition,
    )  # fmt: skip
