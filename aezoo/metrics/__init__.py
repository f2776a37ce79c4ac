"""Every metric, defined once: a spec with its definition, and the meter that measures it."""

from aezoo.hookspecs import Register, hookimpl
from aezoo.metrics.codes import AtomAreaMetric, DeadLatentsMetric, HoyerMetric, L0Metric
from aezoo.metrics.errors import FvuMetric, MseMetric, SseMetric
from aezoo.metrics.noise import DenoisedMseMetric, NoisyInputMseMetric, NoisyTargetMseMetric
from aezoo.metrics.spectrum import CheckerboardMetric
from aezoo.metrics.variational import ElboMetric, KlMetric, LogLikelihoodMetric

METRICS = (
    MseMetric, SseMetric, FvuMetric,
    L0Metric, DeadLatentsMetric, HoyerMetric, AtomAreaMetric,
    DenoisedMseMetric, NoisyInputMseMetric, NoisyTargetMseMetric,
    CheckerboardMetric,
    ElboMetric, LogLikelihoodMetric, KlMetric,
)  # fmt: skip


@hookimpl
def register_metrics(register: Register) -> None:
    """Registers every built-in metric."""
    for spec in METRICS:
        register(spec)
