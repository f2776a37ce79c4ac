"""Evaluation: one pass over a dataset that measures every metric that applies to a network.

Values are computed from the weights and the data alone, so that anyone can reproduce them. A value that
cannot be measured is null, with a reason.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypedDict, cast

import torch

from aezoo.data.inputs import as_samples
from aezoo.data.samples import Batch, Samples
from aezoo.errors import DataError, PluginWarning, warn_diagnostic
from aezoo.evaluation.metric import Metric, MetricRun, full_float32, recipe_of
from aezoo.model.autoencoder import Autoencoder, eval_mode, require_autoencoder
from aezoo.model.denormals import flush_denormals
from aezoo.plugins.registry import registry
from aezoo.specs.components import DatasetSpec, Split

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
EVAL_BATCH_SIZE = 1000
"""Samples in a batch. Sums are in double precision, so that it changes only what is drawn at random."""

TOLERANCE = 1e-5
"""Relative difference from a published value that counts as another value."""


class Measurement(TypedDict):
    """An entry of `metrics.json`.

    Attributes:
        value: the number; None if it was not measured.
        reason: why there is no value; None if there is one.
        source: `computed` (from the weights and the data), `protocol` (needs training to reproduce) or
            `recorded` (circumstances, such as seconds).
        dataset: name of the dataset.
        split: train, validation or test.
        n: number of samples.
        definition: the formula in words.
    """

    value: float | None
    reason: str | None
    source: Literal["computed", "protocol", "recorded"]
    dataset: str | None
    split: str | None
    n: int | None
    definition: str


def applicable_metrics(ae: Autoencoder) -> list[type[Metric]]:
    """Every registered metric that applies to a network, sorted by kind.

    A metric whose `applies` raises is included: it has no value, and the exception is the reason.
    """
    return [run.metric for run in _applicable_runs(ae)]


def _applicable_runs(ae: Autoencoder) -> list[MetricRun]:
    runs = [MetricRun(registry.get("metric", kind), ae) for kind in registry.names("metric")]
    return [run for run in runs if run.applies()]


def evaluate(
    ae: Autoencoder, samples: object, *, dataset: str, split: str, batch_size: int = EVAL_BATCH_SIZE
) -> dict[str, Measurement]:
    """Measures every metric that applies to a network, in one pass and in evaluation mode.

    A metric that raises is null, with the exception as the reason, and a `PluginWarning` is raised.

    Args:
        ae: its mode is restored afterwards.
        samples: a `Samples`, a dataset spec, of which `split` is loaded, or anything else that `aezoo.train`
            accepts as data. If the network's training data were standardized, samples without a scaler are
            taken in their original units, and standardized by the network's own statistics. Columns of a
            table are put in the network's order, by name.
        dataset: name of the dataset, for the record.
        split: name of the split, for the record and for a dataset spec.
        batch_size: samples in a batch.

    Returns:
        Kind of metric -> entry of `metrics.json`.

    Raises:
        DataError: the samples do not fit the spec, have other columns, or were scaled by other statistics
            than the network's training data.
    """
    require_autoencoder(ae)
    if isinstance(samples, DatasetSpec):
        samples = load_for(ae, samples, split)
    else:
        samples = as_samples(samples).scaled_for(ae.scaler, ae.columns)
    runs = _applicable_runs(ae)
    for run in runs:
        run.start()
    samples = samples.validated_for(ae.spec)
    with flush_denormals():
        run_metrics(runs, ae, samples, batch_size)
    found: dict[str, Measurement] = {}
    for run in runs:
        value, reason = run.compute(), run.reason
        if value is not None:
            value, reason = finite_or_reason(value)
        found[run.metric.kind] = Measurement(
            value=value, reason=reason, source="computed", dataset=dataset, split=split, n=len(samples),
            definition=run.definition,
        )  # fmt: skip
    # Last, because a filter may turn the first warning into an exception.
    for problem in (problem for run in runs for problem in run.problems):
        warnings.warn(problem, PluginWarning, stacklevel=2)
    return found


def evaluate_variant(ae: Autoencoder, split: str = "test") -> dict[str, Measurement]:
    """Evaluates a network on a split of the dataset that its recipe names.

    A warning (`other-data`) says if the data are not those that the training record describes.

    Args:
        ae: its recipe must name a dataset.
        split: train, validation or test.

    Returns:
        Kind of metric -> entry of `metrics.json`.

    Raises:
        DataError: the recipe names no dataset, or the dataset has no such split.
    """
    return evaluate(ae, load_split(ae, split), dataset=str(dataset_of(ae).kind_name), split=split)


def run_metrics(
    metrics: Sequence[Metric | MetricRun],
    ae: Autoencoder,
    samples: Samples,
    batch_size: int = EVAL_BATCH_SIZE,
) -> None:
    """Passes all samples to each metric, in evaluation mode."""
    with eval_mode(ae), torch.no_grad(), full_float32(ae):
        for batch in batches_for(ae, samples, batch_size):
            output = ae(batch.input)
            for metric in metrics:
                metric.update(output, batch)


def batches_for(ae: Autoencoder, samples: Samples, batch_size: int = EVAL_BATCH_SIZE) -> Iterator[Batch]:
    """Batches on the device of a network, with inputs in its dtype."""
    # A network may have no parameters.
    weight = next(ae.parameters(), torch.empty(0))
    for batch in samples.batches(ae.spec, batch_size):
        on_device = batch.to(weight.device)
        yield on_device._replace(input=on_device.input.to(weight.dtype))


def dataset_of(ae: Autoencoder) -> DatasetSpec:
    """The dataset that a network's recipe names.

    Raises:
        DataError: it names none.
    """
    recipe = recipe_of(ae)
    if recipe is None or recipe.dataset is None:
        raise DataError("the recipe names no dataset; use aezoo.evaluate with samples of your own")
    return recipe.dataset


def load_split(ae: Autoencoder, split: str) -> Samples:
    """Loads a split of the dataset that a network's recipe names, scaled as its training data were.

    Raises:
        DataError: the recipe names no dataset, the dataset has no such split, or it is not available.
    """
    samples = load_for(ae, dataset_of(ae), split)
    if reason := other_data(ae, samples, split):
        warn_diagnostic("other-data", reason)
    return samples


def load_for(ae: Autoencoder, dataset: DatasetSpec, split: str) -> Samples:
    """Loads a split of any dataset with the columns and the scaling of a network's training data.

    Raises:
        DataError: the dataset has no such split, is not available, or does not fit the network.
    """
    available = [known for known in SPLITS if dataset.has(known)]
    if split not in available:
        raise DataError(f"{dataset.kind_name} has no split {split!r}; {', '.join(available)} are known")
    columns = ae.columns or tuple(map(str, recorded_data(ae).get("channels", ())))
    samples: Samples = dataset.load_for(cast(Split, split), ae.scaler, columns)
    return samples.validated_for(ae.spec)


def other_data(ae: Autoencoder, samples: Samples, split: str) -> str | None:
    """How a split of the recipe's dataset differs from the one that the training record describes.

    Args:
        ae: a trained network; without a training record, nothing is known about its data.
        samples: the split, as the network takes it.
        split: train, validation or test.

    Returns:
        The difference; None if there is none.
    """
    name, kind = recorded_data(ae).get("name"), dataset_of(ae).kind_name
    if name not in (None, kind):
        return f"the network was trained on {name}, not on the dataset of its recipe ({kind})"
    recorded: object = recorded_data(ae).get(split)
    if not isinstance(recorded, dict):
        return None
    expected, found = cast(dict[str, object], recorded), samples.sha256()
    if found == expected.get("sha256"):
        return None
    return (
        f"the {split} split is not the one of the training: found {len(samples):,} samples with sha256 "
        f"{found[:12]}, training.json records {expected.get('n')} with {str(expected.get('sha256'))[:12]}"
    )


def recorded_data(ae: Autoencoder) -> dict[str, Any]:
    """What the training record says about the data; empty if it says nothing."""
    data: object = ae.training_record.get("data")
    return cast(dict[str, Any], data) if isinstance(data, dict) else {}


def changed_values(ae: Autoencoder, found: Mapping[str, Measurement]) -> list[str]:
    """Which published values of a network differ from those that were computed again.

    Args:
        ae: a loaded network, with the published metrics.
        found: what `evaluate_variant` or a protocol returned.

    Returns:
        One line for each value; values that only training gives again are not compared.
    """
    lines: list[str] = []
    for name, entry in found.items():
        published = ae.metrics.get(name if entry["split"] == "test" else f"{name}.{entry['split']}", {})
        expected, value = published.get("value"), entry["value"]
        if published.get("source") != "computed" or not isinstance(expected, int | float):
            continue
        if value is None:
            lines.append(f"{name}: {expected:.8g} published, not measured now: {entry['reason']}")
        elif abs(value - expected) > TOLERANCE * max(abs(expected), 1e-9):
            lines.append(f"{name}: {expected:.8g} published, {value:.8g} computed now")
    return lines


def finite_or_reason(value: float) -> tuple[float | None, str | None]:
    """The value and no reason; no value and a reason if the value is not finite."""
    return (value, None) if math.isfinite(value) else (None, f"the result is {value}")
