"""The base class of all metrics."""

import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

from torch import Tensor
from typing_extensions import override

from aezoo.data.samples import Batch
from aezoo.model.autoencoder import Autoencoder, Output
from aezoo.specs.recipe import RecipeSpec
from aezoo.specs.variant import VariantSpec

EVAL_SEED = 0x5EED
"""Seed of everything drawn during an evaluation, so that each evaluation gives the same values."""


class NotMeasured(Exception):  # noqa: N818 - an answer, not a failure
    """Raised by `Metric.compute` when there is no value; the message is published as the reason."""


class Metric(ABC):
    """A number measured in one pass over a dataset, in evaluation mode.

    `aezoo.evaluate` creates an instance of every registered metric that applies to a network, passes each
    batch to `update` and then calls `compute`.

    Args:
        ae: the network to measure.

    Attributes:
        kind: name of the metric; only base classes of several metrics have none.
        definition: the formula in one line of words, published with every value.
        better: whether a lower or a higher value is better, or neither.
    """

    family: ClassVar[str] = "metric"
    kind: ClassVar[str]
    kind_name: ClassVar[str | None] = None
    definition: ClassVar[str]
    better: ClassVar[Literal["lower", "higher", "neither"]] = "neither"

    def __init__(self, ae: Autoencoder) -> None:
        self.ae = ae

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kind" not in vars(cls):
            return
        kind: object = vars(cls)["kind"]
        if not isinstance(kind, str) or not kind:
            raise TypeError(f'{cls.__qualname__}: write kind as `kind = "name"`')
        if not getattr(cls, "definition", None):
            raise TypeError(f"{cls.__qualname__}: a metric needs a `definition`")
        # Every evaluation creates every metric, so one that cannot be created would break them all.
        try:
            inspect.signature(cls.__init__).bind(None, None)
        except TypeError as error:
            raise TypeError(f"{cls.__qualname__}: __init__ is called with `ae` alone: {error}") from error
        cls.kind_name = kind

    @classmethod
    def applies(cls, ae: Autoencoder) -> bool:  # noqa: ARG003
        """Whether the metric is meaningful for a network; if not, it is left out. True by default."""
        return True

    @abstractmethod
    def update(self, output: Output, batch: Batch) -> None:
        """Adds a batch.

        Args:
            output: what the network returned for `batch.input`.
            batch: the batch that it was given, on the network's device.
        """

    @abstractmethod
    def compute(self) -> float:
        """Returns the value over all batches, of which there is at least one.

        Raises:
            NotMeasured: there is no value.
        """


class MeanMetric(Metric):
    """A metric that is the mean of some values over all batches."""

    def __init__(self, ae: Autoencoder) -> None:
        super().__init__(ae)
        self.total, self.count = 0.0, 0

    @abstractmethod
    def values(self, output: Output, batch: Batch) -> Tensor:
        """The values of a batch, of any shape."""

    @override
    def update(self, output: Output, batch: Batch) -> None:
        values = self.values(output, batch)
        self.total += float(values.sum())
        self.count += values.numel()

    @override
    def compute(self) -> float:
        return self.total / self.count


def squared_error(x: Tensor, y: Tensor) -> Tensor:
    """Elementwise squared difference, in double precision."""
    return (double(x) - double(y)).square()


def double(x: Tensor) -> Tensor:
    """Converts a tensor to double precision, in which metrics are summed."""
    # Apple's GPUs have no double precision.
    return (x.cpu() if x.device.type == "mps" else x).double()


def recipe_of(ae: Autoencoder) -> RecipeSpec | None:
    """The recipe of a network; None if its spec is an architecture without one."""
    return ae.spec.recipe if isinstance(ae.spec, VariantSpec) else None
