"""Verification of a training: the recipe of a variant, run again."""

import math
import platform
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, cast

import torch

from aezoo.errors import DataError, NotSupportedError, optional
from aezoo.evaluation.evaluate import dataset_of, load_split, other_data, recorded_data
from aezoo.model.autoencoder import Autoencoder, require_autoencoder
from aezoo.specs.variant import VariantSpec
from aezoo.training.checks import check_written_paths
from aezoo.training.train import train

CONFIDENCE = 0.99
"""Share of honest variants of which every published number lies within its interval."""
ROUNDING = 1e-4
"""Relative difference that is allowed in any case, as between two libraries of linear algebra."""


@dataclass(frozen=True)
class RetrainedMetric:
    """A published number and those of new trainings.

    Attributes:
        metric: as in `metrics.json`, of the test split.
        published: the number in `metrics.json`.
        mean: mean over the new trainings.
        sd: standard deviation over the new trainings.
        limit: distance from the mean up to which the published number agrees with the new ones.
        verdict: `same` within the limit, otherwise `differs`.
    """

    metric: str
    published: float
    mean: float
    sd: float
    limit: float
    verdict: Literal["same", "differs"]


@dataclass(frozen=True)
class Retraining:
    """The result of running a recipe again.

    Attributes:
        verdict: `identical` if every tensor has the published bits; `consistent` if the bits may differ,
            since the machine or the versions do, and every number agrees with those of new trainings;
            `differs` otherwise.
        reason: why the bits are not expected to be the same, or what differs; empty if they are the same.
        seeds: of the trainings that were run.
        metrics: numbers of the new trainings; empty if the bits decided.
    """

    verdict: Literal["identical", "consistent", "differs"]
    reason: str
    seeds: tuple[int, ...]
    metrics: tuple[RetrainedMetric, ...] = ()


def verify_training(ae: Autoencoder, *, seeds: int = 3, progress: bool = False) -> Retraining:
    """Runs the recipe of a variant again and compares the result with the published weights and numbers.

    On the same kind of machine, which has the versions, the platform, the device and the vector instructions
    of the training record, every tensor must have the same bits. Elsewhere, if the bits differ, the recipe is
    trained with further seeds, and every `computed` number of the test split that takes one pass must lie
    within a prediction interval of the new ones: mean +- t sd sqrt(1 + 1/n), Student's t at n - 1 degrees of
    freedom, such that 99 % of the variants that were published honestly pass as a whole (Bonferroni), and at
    least 1e-4 of the mean.

    Args:
        ae: a loaded variant.
        seeds: number of trainings if the bits differ, at least 2: with the recipe's seed and those after it.
        progress: whether to report progress on standard error.

    Raises:
        NotSupportedError: it has no recipe or no training record, its weights were changed after their
            training, or `seeds` is below 2.
        DataError: the data are missing or not those of the training record.
        MissingExtraError: the extra `sklearn` is not installed, and the machine is of another kind.
        SpecError, TrainingError: as for `aezoo.train`.
    """
    require_autoencoder(ae)
    if seeds < 2:
        raise NotSupportedError(f"seeds: expected at least 2, since one has no deviation, found {seeds}")
    record = ae.training_record
    if not isinstance(ae.spec, VariantSpec) or not record:
        raise NotSupportedError("there is no training to verify: no recipe, or no training record")
    if "modified" in record or "unfinished" in record or not ae.describes_weights("training_record"):
        raise NotSupportedError("the weights are not those that the recipe gives: they were changed after it")
    check_written_paths(ae.spec.recipe, Path(ae.spec.name))
    _require_data(ae)
    elsewhere = _other_machine(record)
    # Found out before hours of training, not after.
    stats: Any = optional("scipy.stats", "scikit-learn", "sklearn") if elsewhere else None
    device = str(record.get("device", "cpu"))
    device = device if device == "cpu" or _available(device) else "cpu"
    first = train(ae.spec, device=device, progress=progress)
    own = ae.spec.recipe.seed
    if first.fingerprint() == ae.fingerprint():
        return Retraining("identical", "", (own,))
    if stats is None:
        reason = "the machine and the versions are those of the training record, but the bits differ"
        return Retraining("differs", reason, (own,))
    found = [first.metrics]
    for seed in range(own + 1, own + seeds):
        recipe = ae.spec.recipe.model_copy(update={"seed": seed})
        spec = ae.spec.model_copy(update={"recipe": recipe})
        found.append(train(spec, device=device, progress=progress).metrics)
    metrics = _compared(ae.metrics, found, stats)
    bad = [row.metric for row in metrics if row.verdict == "differs"]
    numbers = f"{', '.join(bad)} differ from new trainings; " if bad else ""
    verdict = "differs" if bad else "consistent"
    return Retraining(
        verdict, f"{numbers}bits may differ: {elsewhere}", tuple(range(own, own + seeds)), metrics
    )


def _require_data(ae: Autoencoder) -> None:
    dataset = dataset_of(ae)
    for split in ("train", "validation"):
        if recorded_data(ae).get(split) is None:
            raise NotSupportedError(f"the training record does not say which {split} data were used")
        if dataset.has(split) and (reason := other_data(ae, load_split(ae, split), split)):
            raise DataError(f"the training cannot be repeated: {reason}")


def _other_machine(record: Mapping[str, Any]) -> str:
    """How this machine differs from the one of a training record; empty if it is of the same kind."""
    versions = cast(Mapping[str, object], record.get("versions", {}))
    # Other packages and Python itself compute nothing in a training.
    expected = {"torch": versions.get("torch"), "platform": record.get("platform")}
    found = {"torch": _version("torch"), "platform": f"{platform.system()} {platform.machine()}"}
    expected["vector instructions"] = record.get("cpu_capability")
    found["vector instructions"] = torch.backends.cpu.get_cpu_capability()
    device = str(record.get("device", "cpu"))
    expected["device"], found["device"] = device, device if _available(device) else "cpu"
    if record.get("processes", 1) != 1:
        expected["processes"], found["processes"] = record.get("processes"), "1"
    differences = [
        f"{name} was {expected[name] or 'not recorded'}, is {found[name]}"
        for name in expected
        if expected[name] != found[name]
    ]
    return "; ".join(differences)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _available(device: str) -> bool:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        return False
    return True


def _compared(
    published: Mapping[str, Mapping[str, Any]], found: list[dict[str, dict[str, Any]]], stats: Any
) -> tuple[RetrainedMetric, ...]:
    """Compares the computed numbers that a training measures on the test split."""
    names = [
        name
        for name, entry in found[0].items()
        if entry["source"] == "computed"
        and entry["split"] == "test"
        and isinstance(published.get(name, {}).get("value"), int | float)
        and all(run[name]["value"] is not None for run in found)
    ]
    if not names:
        raise NotSupportedError("no published number can be compared with those of a new training")
    n = len(found)
    quantile = float(stats.t.ppf(1 - (1 - CONFIDENCE) / (2 * len(names)), n - 1))
    rows: list[RetrainedMetric] = []
    for name in names:
        values = [float(run[name]["value"]) for run in found]
        mean, sd = statistics.mean(values), statistics.stdev(values)
        limit = max(quantile * sd * math.sqrt(1 + 1 / n), ROUNDING * abs(mean))
        value = float(published[name]["value"])
        verdict = "same" if abs(value - mean) <= limit else "differs"
        rows.append(RetrainedMetric(name, value, mean, sd, limit, verdict))
    return tuple(rows)
