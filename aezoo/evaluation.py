"""Every metric, defined once, and the pass over a dataset that measures them.

A value is computed from the weights and the data alone, so that anyone can compute it again; one that
cannot be measured is null, with the reason.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal, TypedDict

import torch
from torch import Tensor

from aezoo.autoencoder import Autoencoder, Output, evaluating
from aezoo.errors import DataError
from aezoo.hookspecs import Register, hookimpl
from aezoo.registry import registry
from aezoo.samples import Rows, Samples
from aezoo.specs import MetricSpec, Split, VariantSpec

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
BATCH = 1000
"""Rows a pass handles at once; part of no definition, and sums are kept in double precision."""


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
    def update(self, output: Output, rows: Rows) -> None:
        """Takes in a batch: what the network gave, and the rows it was given."""

    @abstractmethod
    def value(self) -> float:
        """The number over everything taken in.

        Raises:
            NotMeasured: there is none, with the reason.
        """


def _double(x: Tensor) -> Tensor:
    # Apple's GPUs have no double precision.
    return (x.cpu() if x.device.type == "mps" else x).double()


class _SquaredError(Meter):
    def __init__(self, per_row: bool) -> None:
        self.per_row = per_row
        self.total, self.rows, self.elements = 0.0, 0, 0

    def update(self, output: Output, rows: Rows) -> None:
        self.total += float((_double(output.x_hat) - _double(rows.target)).square().sum())
        self.rows += len(rows.target)
        self.elements += rows.target.numel()

    def value(self) -> float:
        return self.total / (self.rows if self.per_row else self.elements)


class MseMetric(MetricSpec):
    """Mean squared error of a reconstruction."""

    kind: Literal["mse"] = "mse"
    definition = "squared difference between reconstruction and target, mean over elements and samples"
    better = "lower"

    def build(self, ae: Autoencoder) -> Meter:
        """Makes the meter."""
        return _SquaredError(per_row=False)


class SseMetric(MetricSpec):
    """Squared error of a whole sample."""

    kind: Literal["sse"] = "sse"
    definition = (
        "squared difference between reconstruction and target, summed over elements, mean over samples"
    )
    better = "lower"

    def build(self, ae: Autoencoder) -> Meter:
        """Makes the meter."""
        return _SquaredError(per_row=True)


class _Fvu(Meter):
    def __init__(self, mean: Tensor | None) -> None:
        self.mean = None if mean is None else _double(mean)
        self.error, self.variance = 0.0, 0.0

    def update(self, output: Output, rows: Rows) -> None:
        if self.mean is None:
            return
        target = _double(rows.target)
        self.error += float((_double(output.x_hat) - target).square().sum())
        self.variance += float((target - self.mean).square().sum())

    def value(self) -> float:
        if self.mean is None:
            raise NotMeasured("the mean of the training targets is not known")
        if self.variance == 0:
            raise NotMeasured("the targets do not vary")
        return self.error / self.variance


class FvuMetric(MetricSpec):
    """Fraction of variance unexplained."""

    kind: Literal["fvu"] = "fvu"
    definition = (
        "squared error over squared distance of the targets from the training mean; "
        "predicting that mean gives 1"
    )
    better = "lower"

    def build(self, ae: Autoencoder) -> Meter:
        """Makes the meter."""
        return _Fvu(ae.target_mean)


class _Activity(Meter):
    def __init__(self) -> None:
        self.nonzero: Tensor | None = None
        self.rows = 0

    def update(self, output: Output, rows: Rows) -> None:
        counts = _double((output.latents != 0).flatten(1).sum(0))
        self.nonzero = counts if self.nonzero is None else self.nonzero + counts
        self.rows += len(output.latents)

    def counts(self) -> Tensor:
        """How many samples each latent was non-zero for."""
        if self.nonzero is None:
            raise NotMeasured("no samples")
        return self.nonzero

    @abstractmethod
    def value(self) -> float: ...


class _L0(_Activity):
    def value(self) -> float:
        return float(self.counts().sum()) / self.rows


class L0Metric(MetricSpec):
    """Latents that are non-zero."""

    kind: Literal["l0"] = "l0"
    definition = "latents that are not exactly zero, summed over a sample, mean over samples"

    def build(self, ae: Autoencoder) -> Meter:
        """Makes the meter."""
        return _L0()


class _DeadLatents(_Activity):
    def value(self) -> float:
        return float((self.counts() == 0).sum())


class DeadLatentsMetric(MetricSpec):
    """Latents that are never used."""

    kind: Literal["dead_latents"] = "dead_latents"
    definition = "latents that are exactly zero for every sample, counted"
    better = "lower"

    def build(self, ae: Autoencoder) -> Meter:
        """Makes the meter."""
        return _DeadLatents()


def evaluate(
    ae: Autoencoder, samples: Samples, *, dataset: str, split: str, batch_size: int = BATCH
) -> dict[str, Metric]:
    """Measures every registered metric in one pass, in evaluation mode.

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
    specs = [registry.get("metric", kind)() for kind in registry.names("metric")]
    meters: list[tuple[MetricSpec, Meter]] = [(spec, spec.build(ae)) for spec in specs]
    samples = samples.fitted_to(ae.spec)
    # A network may have no weights at all.
    weight = next(ae.parameters(), torch.empty(0))
    with evaluating(ae), torch.no_grad():
        for rows in samples.in_order(ae.spec, batch_size):
            rows = Rows(rows.input.to(weight), rows.target.to(weight.device), rows.labels)
            output: Output = ae(rows.input)
            for _, meter in meters:
                meter.update(output, rows)
    return {
        str(spec.declared_kind): _entry(spec, meter, dataset, split, len(samples)) for spec, meter in meters
    }


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
        raise DataError(f"{dataset.declared_kind} has no split {split!r}; {known} are known")
    return evaluate(ae, dataset.load(wanted), dataset=str(dataset.declared_kind), split=split)


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


@hookimpl
def register_metrics(register: Register) -> None:
    """Registers every built-in metric."""
    for spec in (MseMetric, SseMetric, FvuMetric, L0Metric, DeadLatentsMetric):
        register(spec)
