"""Every metric, defined once: a spec with its definition, and the meter that measures it."""

from aezoo.evaluation.metrics.checkerboard import CheckerboardMetric
from aezoo.evaluation.metrics.denoising import DenoisedMseMetric, NoisyInputMseMetric, NoisyTargetMseMetric
from aezoo.evaluation.metrics.latents import AtomAreaMetric, DeadLatentsMetric, HoyerMetric, L0Metric
from aezoo.evaluation.metrics.reconstruction import FvuMetric, MseMetric, SseMetric
from aezoo.evaluation.metrics.variational import ElboMetric, KlMetric, LogLikelihoodMetric
from aezoo.plugins.hookspecs import Register, hookimpl

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
