"""Verification: the published numbers of a variant, recomputed from its weights and its data."""

from dataclasses import dataclass, replace
from typing import Literal

from aezoo.errors import DataError
from aezoo.evaluation.evaluate import SPLITS, TOLERANCE, Measurement, evaluate_variant
from aezoo.evaluation.protocols import PROTOCOLS, run_protocol
from aezoo.model.autoencoder import Autoencoder, require_autoencoder

SMALLEST = 1e-9
"""Published values below this in magnitude are compared absolutely."""
PROTOCOL_TOLERANCE = 1e-4
"""Relative difference that is allowed for a protocol, which sums in another order on another machine."""
LOOSE = {"clustering": 5e-3, "neighbors": 1e-3, "probe": 5e-3, "probe-full": 5e-3}
"""Protocol -> the same, where scikit-learn iterates until it considers itself converged, or chooses among
neighbours at almost the same distance."""


@dataclass(frozen=True)
class Verdict:
    """A published number and the one that was computed now.

    Attributes:
        metric: as in `metrics.json`, such as `mse` or `mse.validation`.
        split: train, validation or test.
        published: the number in `metrics.json`; None if none is published.
        computed: the number now; None if it could not be measured.
        difference: relative difference; None if one of the numbers is None.
        tolerance: the relative difference up to which numbers are the same.
        verdict: `same`, `differs`, or `not measured`. Two numbers that are None are the same.
        reason: why there is no number now, or None.
    """

    metric: str
    split: str
    published: float | None
    computed: float | None
    difference: float | None
    tolerance: float
    verdict: Literal["same", "differs", "not measured"]
    reason: str | None


def verify(ae: Autoencoder, *, protocols: bool = True) -> list[Verdict]:
    """Recomputes every `computed` number of a variant.

    A warning (`other-data`) says if the data are not those that the training record describes. Numbers that
    need another training (`protocol`) and circumstances such as seconds (`recorded`) are not compared.
    Relative differences of 1e-5 are allowed; of 1e-4 in protocols, of 1e-3 in `neighbors`, and of 5e-3 in
    `clustering`, `probe` and `probe-full`, whose optimizers belong to scikit-learn.

    Args:
        ae: a loaded variant.
        protocols: whether to recompute the numbers of protocols, which take longer than all others.

    Returns:
        One verdict for each number, in the order of `metrics.json`.

    Raises:
        DataError: nothing is published, or a dataset or a split of it is not available.
    """
    require_autoencoder(ae)
    published = {name: entry for name, entry in ae.metrics.items() if entry.get("source") == "computed"}
    if not published:
        raise DataError("there is nothing to verify: metrics.json has no computed number")
    splits = [split for split in SPLITS if any(entry.get("split") == split for entry in published.values())]
    if not splits:
        raise DataError("there is nothing to verify: no number in metrics.json names its split")
    found: dict[str, dict[str, Measurement]] = {split: evaluate_variant(ae, split) for split in splits}
    tolerances: dict[str, float] = {}
    for name, protocol in PROTOCOLS.items():
        wanted = published.keys() & set(protocol.gives) - found.get("test", {}).keys()
        for metric in wanted:
            tolerances[metric] = LOOSE.get(name, PROTOCOL_TOLERANCE)
        if wanted and protocols:
            for metric, measured in run_protocol(name, ae).items():
                found.setdefault(str(measured["split"]), {})[metric] = measured
    verdicts: list[Verdict] = []
    for name, entry in published.items():
        if name in tolerances and not protocols:
            continue
        split = str(entry.get("split"))
        now = found.get(split, {}).get(name.removesuffix(f".{split}"))
        expected, value = entry.get("value"), None if now is None else now["value"]
        reason = "no metric of this name applies" if now is None else now["reason"]
        tolerance = tolerances.get(name, TOLERANCE)
        verdicts.append(
            _compared(Verdict(name, split, _number(expected), value, None, tolerance, "not measured", reason))
        )
    return verdicts


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _compared(found: Verdict) -> Verdict:
    """A verdict with the difference of its numbers, and what follows from it."""
    if found.computed is None:
        return found if found.published is not None else replace(found, verdict="same")
    if found.published is None:
        return replace(found, verdict="differs", reason="null is published")
    difference = abs(found.computed - found.published) / max(abs(found.published), SMALLEST)
    verdict = "same" if difference <= found.tolerance else "differs"
    return replace(found, difference=difference, verdict=verdict, reason=None)
