"""Contract checks of metrics, by evaluations of small networks."""

import copy
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Generator, Tensor

from aezoo.data.samples import Batch
from aezoo.evaluation.metric import Metric, NotMeasured
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.build import build
from aezoo.model.output import Output
from aezoo.specs.variant import AutoencoderSpec, VariantSpec
from aezoo.testing.contract import CheckList, Report
from aezoo.testing.determinism import changed_rng, changed_tensors, half_a_day_away, rng_states, seeded
from aezoo.testing.loss_fixture import example_network, example_networks
from aezoo.testing.observation import ModuleSnapshot, another_day, observed_settings
from aezoo.testing.specs import SETTING_CHECKS

ROWS = 130
TOLERANCE = 1e-4
METRIC_CHECKS: CheckList["MetricFixture"] = CheckList()


def check_metric(metric: type[Metric], *, networks: Sequence[AutoencoderSpec] = ()) -> Report:
    """Checks a metric against the contract.

    Args:
        metric: class of the metric.
        networks: autoencoders to try beside one with the layers of `example_encoder` and, without that, a
            plain, a variational and a sparse one. The metric is checked on the first to which it applies.

    Returns:
        The results.

    Raises:
        ContractError: a check failed; the message says for each what was expected and found.
    """
    report = Report(f"metric {metric.kind}")
    with observed_settings() as changed:
        METRIC_CHECKS.run(MetricFixture(metric, networks), report)
    return SETTING_CHECKS.run(changed, report).raise_on_failure()


class MetricFixture:
    """The metric under test and a network to which it applies.

    Attributes:
        metric: class of the metric.
        candidates: networks to try.
        network: the first of them to which the metric applies, once the check `applies` has run.
    """

    def __init__(self, metric: type[Metric], networks: Sequence[AutoencoderSpec]) -> None:
        self.metric = metric
        example = metric.example_encoder
        examples = [example_network(*example)] if example else [*example_networks(), *_example_variants()]
        self.candidates = [*examples, *networks]
        self.network = self.candidates[0]

    def ae(self) -> Autoencoder:
        """The network in evaluation mode."""
        return build(self.network, seed=0).eval()

    def batch(self, rows: int = ROWS, seed: int = 1) -> Batch:
        """Inputs in [0, 1] with three classes of labels; the first rows are blank and saturated."""
        x = torch.rand((rows, *self.network.input.shape), generator=Generator().manual_seed(seed))
        if rows > 2:
            x[0], x[1] = 0.0, 1.0
        return Batch(x, x.clone(), torch.arange(rows) % 3)

    def tolerance(self) -> float:
        """Relative difference allowed between two ways of making batches: more if the metric draws."""
        drawn = any(isinstance(value, Generator) for value in vars(self.metric(self.ae())).values())
        return 0.2 if drawn else TOLERANCE

    def value(
        self,
        batches: Sequence[Batch] | None = None,
        ae: Autoencoder | None = None,
        metric: Metric | None = None,
    ) -> float | None:
        """What the metric measures; None if it says that there is no value."""
        network = ae or self.ae()
        metric = metric or self.metric(network)
        try:
            with torch.no_grad():
                for batch in batches or [self.batch()]:
                    metric.update(network(batch.input), batch)
            return float(metric.compute())
        except NotMeasured:
            return None


def _example_variants() -> list[VariantSpec]:
    """A variational and a convolutional denoising autoencoder with recipes, which some metrics read."""
    fit = {"batch_size": 16, "stages": [{"kind": "fit", "epochs": 1}]}
    image = {"shape": [1, 6, 6], "range": [0, 1]}
    documents: list[dict[str, Any]] = [
        {
            "encoder": [
                {"kind": "flatten"}, {"kind": "linear", "out_features": 16}, {"kind": "gaussian_sample"},
            ],
            "decoder": [
                {"kind": "linear", "out_features": 36, "activation": "sigmoid"},
                {"kind": "unflatten", "shape": [1, 6, 6]},
            ],
            "recipe": {"reconstruction": {"kind": "bce"}, "penalties": [{"kind": "vae_kl"}], **fit},
        },
        {
            "encoder": [{"kind": "conv", "out_channels": 2, "kernel_size": 2, "stride": 2}],
            "decoder": [{"kind": "conv_transpose", "out_channels": 1, "kernel_size": 2, "stride": 2}],
            "recipe": {
                "reconstruction": {"kind": "mse"}, "noises": [{"kind": "gaussian", "std": 0.1}], **fit
            },
        },
    ]  # fmt: skip
    named = {"name": "example", "summary": "A network for contract checks.", "input": image}
    return [VariantSpec.model_validate({**named, **document}) for document in documents]


def _rows(batch: Batch, index: Any) -> Batch:
    return Batch(*(None if part is None else part[index] for part in batch))  # pyright: ignore[reportArgumentType]


def _differ(a: float | None, b: float | None, tolerance: float = TOLERANCE) -> bool:
    if a is None or b is None:
        return (a is None) != (b is None)
    return abs(a - b) > tolerance * max(abs(a), 1e-3)


@METRIC_CHECKS.add("metric-docstring", "a docstring")
def metric_docstring(metric: MetricFixture) -> str | None:
    """The docstring says what the number means and where it comes from.

    Failure: `no docstring`
    Fix: say on the first line of the class what is measured, and cite its source.
    """
    return None if metric.metric.__doc__ else "no docstring"


@METRIC_CHECKS.add(
    "applies", "True or False from applies(), and a network to which the metric applies", required=True
)
def applies(metric: MetricFixture) -> str | None:
    """Every evaluation asks every metric, whatever the network is.

    Failure: `no network to which it applies; set example_encoder or pass networks=`
    Fix: set `example_encoder` to layers that the metric is for; return False for other networks.
    """
    for network in [*metric.candidates, *example_networks(), *_example_variants()]:
        found: Any = metric.metric.applies(build(network, seed=0).eval())
        if not isinstance(found, bool):
            return f"{found!r}"
    for candidate in metric.candidates:
        if metric.metric.applies(build(candidate, seed=0).eval()):
            metric.network = candidate
            return None
    return "no network to which it applies; set example_encoder or pass networks="


@METRIC_CHECKS.add("measures", "a finite number, or NotMeasured with a reason")
def measures(metric: MetricFixture) -> str | None:
    """A metric that raises or is not finite is published as null.

    Failure: `nan`
    Fix: return a number from `compute`; guard divisions, and raise `aezoo.NotMeasured` if there is no value.
    """
    for rows in (1, 2, ROWS):
        network = metric.ae()
        instance, batch = metric.metric(network), metric.batch(rows)
        try:
            with torch.no_grad():
                instance.update(network(batch.input), batch)
            found: Any = instance.compute()
        except NotMeasured as reason:
            if not str(reason):
                return "NotMeasured without a reason"
            continue
        if isinstance(found, bool | str) or not isinstance(found, int | float):
            return f"{type(found).__name__} for {rows} rows"
        if not math.isfinite(found):
            return f"{found} for {rows} rows"
    return None


@METRIC_CHECKS.add("labels-optional", "a number or NotMeasured without labels")
def labels_optional(metric: MetricFixture) -> str | None:
    """Most datasets have no labels.

    Failure: `TypeError: 'NoneType' object is not iterable`
    Fix: raise `aezoo.NotMeasured("there are no labels")` if `batch.labels` is None.
    """
    found = metric.value([metric.batch()._replace(labels=None)])
    return None if found is None or math.isfinite(found) else f"{found}"


@METRIC_CHECKS.add("batch-intact", "an output and a batch that are left unchanged")
def batch_intact(metric: MetricFixture) -> str | None:
    """Tensors that are changed in place are not what the network returned.

    Failure: `latents changed`
    Fix: replace in-place operations (`sub_`, `clamp_`, `+=`) on the arguments.
    """
    ae, batch = metric.ae(), metric.batch()
    with torch.no_grad():
        output: Output = ae(batch.input)
        parts = {
            "x_hat": output.x_hat, "latents": output.latents, "input": batch.input, "target": batch.target,
            "labels": cast(Tensor, batch.labels), **output.aux,
        }  # fmt: skip
        before, names = {name: part.clone() for name, part in parts.items()}, set(output.aux)
        instance = metric.metric(ae)
        instance.update(output, batch)
    if set(output.aux) != names:
        return "other names in aux"
    changed = changed_tensors(before, parts)
    return f"{', '.join(changed)} changed" if changed else None


@METRIC_CHECKS.add("network-intact", "a network that is left as it is: weights, modes and hooks")
def network_intact(metric: MetricFixture) -> str | None:
    """A measurement must not change what is measured.

    Failure: `encoder.1 switched to training mode`
    Fix: change neither weights nor modes; work on a copy of the network.
    """
    ae = metric.ae()
    snapshot = ModuleSnapshot(ae, values=True)
    metric.metric.applies(ae)
    metric.value(ae=ae)
    return snapshot.change()


@METRIC_CHECKS.add("batch-size", "the same value for batches of any size")
def batch_size(metric: MetricFixture) -> str | None:
    """The batch size of an evaluation is a matter of memory, not part of the definition.

    Failure: `0.31 in one batch, 0.35 in batches of 7`
    Fix: sum over rows in `update`, and divide by their number in `compute`.
    """
    batch = metric.batch()
    whole = metric.value([batch])
    for size in (1, 7, 64):
        parts = [_rows(batch, slice(i, i + size)) for i in range(0, ROWS, size)]
        found = metric.value(parts)
        if _differ(whole, found, metric.tolerance()):
            return f"{whole} in one batch, {found} in batches of {size}"
    return None


@METRIC_CHECKS.add("row-order", "the same value for rows in any order")
def row_order(metric: MetricFixture) -> str | None:
    """A dataset is a set: the order of its samples means nothing.

    Failure: `0.31 and, in another order, 0.32`
    Fix: keep nothing that depends on which batch was the last.
    """
    batch = metric.batch()
    whole = metric.value([batch])
    order = torch.randperm(ROWS, generator=Generator().manual_seed(3))
    found = metric.value([_rows(batch, part) for part in (order[:50], order[50:100], order[100:])])
    return f"{whole} and, in another order, {found}" if _differ(whole, found, metric.tolerance()) else None


@METRIC_CHECKS.add("repeatable", "the same value each time, whatever else is measured")
def repeatable(metric: MetricFixture) -> str | None:
    """Anyone can recompute a published number.

    Failure: `0.31, then 0.33`
    Fix: keep sums on the instance, not on the class; let `compute` change nothing.
    """
    first = metric.value()
    metric.value([metric.batch(seed=7)])
    network = metric.ae()
    instance, other = metric.metric(network), metric.metric(network)
    halves = [_rows(metric.batch(), slice(0, 60)), _rows(metric.batch(), slice(60, ROWS))]
    with torch.no_grad():
        for half in halves:
            instance.update(network(half.input), half)
            strange = metric.batch(seed=9)
            other.update(network(strange.input), strange)
    for _ in range(2):
        try:
            found = float(instance.compute())
        except NotMeasured:
            found = None
        if _differ(first, found):
            return f"{first}, then {found}"
    again = metric.value()
    return f"{first}, then {again}" if first != again else None


@METRIC_CHECKS.add("random-state", "a value that depends on no random state, all of which are left unchanged")
def random_state(metric: MetricFixture) -> str | None:
    """Each evaluation gives the same values, and changes nothing in the program around it.

    Failure: `PyTorch's global random state changed`
    Fix: draw from a `torch.Generator` of a fixed seed that `__init__` makes.
    """
    found: list[float | None] = []
    for seed in (3, 4):
        with seeded(seed):
            ae, before = metric.ae(), rng_states()
            found.append(metric.value(ae=ae))
            if changed := changed_rng(before):
                return changed
    return None if found[0] == found[1] else f"{found[0]}, and {found[1]} under another global seed"


@METRIC_CHECKS.add("precision", "about the same value for a network in double precision")
def precision(metric: MetricFixture) -> str | None:
    """Networks may be built and run in double precision.

    Failure: `RuntimeError: expected scalar type Float but found Double`
    Fix: convert both sides with `.double()` before they meet.
    """
    batch, first = metric.batch(), metric.value()
    double = batch._replace(input=batch.input.double())
    found = metric.value([double], ae=metric.ae().double())
    far = first is not None and found is not None and abs(first - found) > 0.05 * max(abs(first), 1e-2)
    return f"{found:.6g} for {first:.6g} in single precision" if far else None


@METRIC_CHECKS.add("copying", "a class whose evaluation works on a copy of the network")
def copying(metric: MetricFixture) -> str | None:
    """Every metric of a plugin works on a copy of its own.

    Failure: `0.31, and 0.35 for a copy of the network`
    Fix: read the network that `__init__` was given, and no other.
    """
    ae = metric.ae()
    first, second = metric.value(ae=ae), metric.value(metric=metric.metric(copy.deepcopy(ae)))
    return f"{first}, and {second} for a copy of the network" if _differ(first, second) else None


@METRIC_CHECKS.add("clock", "a value that does not depend on the clock")
def clock(metric: MetricFixture) -> str | None:
    """Anyone can recompute a published number, on any day.

    Failure: `0.31, and 0.33 on another day`
    Fix: depend on neither `time` nor `datetime`.
    """
    first = metric.value()
    for moved in (half_a_day_away(), another_day(metric.metric)):
        with moved:
            second = metric.value()
        if first != second:
            return f"{first}, and {second} on another day"
    return None
