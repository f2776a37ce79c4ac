"""The base class of all metrics, and how a metric is run in isolation."""

import contextlib
import copy
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import Any, ClassVar, Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from aezoo.data.samples import Batch
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.output import Output
from aezoo.plugins.isolation import preserved_settings
from aezoo.plugins.registry import registry
from aezoo.specs.recipe import RecipeSpec
from aezoo.specs.variant import VariantSpec
from aezoo.text import printable

T = TypeVar("T")
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
        example_encoder: encoder layers for a vector on which contract checks try the metric. Needed if it
            applies to neither plain, variational nor sparse encoders.
    """

    family: ClassVar[str] = "metric"
    kind: ClassVar[str]
    kind_name: ClassVar[str | None] = None
    definition: str
    better: ClassVar[Literal["lower", "higher", "neither"]] = "neither"
    example_encoder: ClassVar[tuple[dict[str, Any], ...]] = ()

    def __init__(self, ae: Autoencoder) -> None:
        self.ae = ae

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kind" not in vars(cls):
            return
        kind: object = vars(cls)["kind"]
        if not isinstance(kind, str) or not kind:
            raise TypeError(f'{cls.__qualname__}: write kind as `kind = "name"`')
        definition: object = getattr(cls, "definition", None)
        if not isinstance(definition, str) or not definition.strip():
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


class MetricRun:
    """A metric in one evaluation. Whatever it does, the other metrics and the network are not affected.

    If the metric raises, it has no value, and the exception is the reason. A metric that is not built in
    works on its own copy of the network and of every batch, and changes to the settings of the process, such
    as the global random states, are undone.

    Args:
        metric: class of the metric.
        ae: the network to measure, in evaluation mode while batches are added.

    Attributes:
        metric: class of the metric.
        reason: why there is no value; None while there may be one.
        problems: a message for each thing that the metric's author has to correct.
    """

    def __init__(self, metric: type[Metric], ae: Autoencoder) -> None:
        self.metric = metric
        self.reason: str | None = None
        self.problems: list[str] = []
        self._ae = ae
        self._isolated = registry.plugin_of("metric", metric.kind).name != "aezoo"
        if self._isolated:
            self._ae = self._run(lambda: copy.deepcopy(ae).eval()) or ae
        self._instance: Metric | None = None

    @property
    def definition(self) -> str:
        """The formula; an instance may be more precise than its class, for the network that it measures."""
        found: object = getattr(self._instance, "definition", None)
        return found if isinstance(found, str) else self.metric.definition

    def applies(self) -> bool:
        """Whether the metric is meaningful for the network. True also if that cannot be found out."""
        found = self._run(lambda: bool(self.metric.applies(self._ae)))
        return found is not False

    def start(self) -> None:
        """Creates the metric, which starts without batches."""
        self._instance = self._run(lambda: self.metric(self._ae))

    def update(self, output: Output, batch: Batch) -> None:
        """Adds a batch; see `Metric.update`."""
        if self._instance is None or self.reason is not None:
            return
        metric = self._instance
        if self._isolated:
            aux = {name: value.clone() for name, value in output.aux.items()}
            output = Output(output.x_hat.clone(), output.latents.clone(), aux)
            batch = Batch(*(None if part is None else part.clone() for part in batch))  # pyright: ignore[reportArgumentType]
        self._run(lambda: metric.update(output, batch))

    def compute(self) -> float | None:
        """Returns the value over all batches, which may be infinite or NaN; None if there is none."""
        if self._instance is None or self.reason is not None:
            return None
        metric = self._instance
        return self._run(lambda: _as_number(metric.compute()))

    def _run(self, function: Callable[[], T]) -> T | None:
        """The result of a function of the metric; None if it raised, with `reason`, or has before."""
        if self.reason is not None:
            return None
        try:
            with self._isolation():
                return function()
        except NotMeasured as error:
            self.reason = str(error) or "the metric gives no reason"
        except (Exception, SystemExit) as error:
            self.reason = printable(f"the metric raised {type(error).__name__}: {_message(error)}", 300)
            self.problems.append(f"metric {self.metric.kind} was not measured: {self.reason}")
        return None

    @contextlib.contextmanager
    def _isolation(self) -> Generator[None]:
        if not self._isolated:
            yield
            return
        # Standard output may be the JSON of `aezoo evaluate --json`.
        with preserved_settings() as changed, contextlib.redirect_stdout(sys.stderr), torch.no_grad():
            yield
        if changed:
            text = f"metric {self.metric.kind} changed {', '.join(changed)}; restored"
            self.problems += [text] if text not in self.problems else []


def _as_number(value: Any) -> float:
    """What `compute` returned, as a number.

    Raises:
        TypeError: it is no real number.
    """
    complex_ = torch.is_complex(value) if isinstance(value, Tensor) else np.iscomplexobj(value)
    # `float` reads numbers from text.
    if complex_ or isinstance(value, str | bytes | bytearray | None):
        raise TypeError(f"compute() returned {printable(repr(value), 60)}, expected a real number")
    return float(cast(Any, value))


def _message(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())
    except Exception:
        return "the exception has no message"


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
    a, b = double(x), double(y)
    in_place = a is not x and not (a.requires_grad or b.requires_grad)
    if in_place and torch.broadcast_shapes(a.shape, b.shape) == a.shape:
        # Large batches take most of the time to allocate.
        return a.sub_(b).square_()
    return (a - b).square()


def double(x: Tensor) -> Tensor:
    """Converts a tensor to double precision, in which metrics are summed."""
    # Apple's GPUs have no double precision.
    return (x.cpu() if x.device.type == "mps" else x).double()


@contextlib.contextmanager
def full_float32(ae: Autoencoder) -> Generator[None]:
    """Inside the context, an NVIDIA GPU computes products of float32 values in float32.

    PyTorch rounds the inputs of convolutions to TF32, which has 10 bits of mantissa, unless it is told not
    to. Metrics would then differ from those of a CPU in the third digit.
    """
    if not any(parameter.is_cuda for parameter in ae.parameters()):
        yield
        return
    restore = _without_tf32(torch.backends)
    try:
        yield
    finally:
        restore()


def _without_tf32(backends: Any) -> Callable[[], None]:
    """Turns TF32 off and returns a function that restores the settings."""
    try:
        convolutions, products = backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    except RuntimeError:  # set by PyTorch's newer settings, which do not mix with these
        owners = (backends.cudnn.conv, backends.cuda.matmul)
        before = [owner.fp32_precision for owner in owners]
        for owner in owners:
            owner.fp32_precision = "ieee"

        def restore_newer() -> None:
            for owner, old in zip(owners, before, strict=True):
                owner.fp32_precision = old

        return restore_newer
    backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")

    def restore() -> None:
        backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)

    return restore


def recipe_of(ae: Autoencoder) -> RecipeSpec | None:
    """The recipe of a network; None if its spec is an architecture without one."""
    return ae.spec.recipe if isinstance(ae.spec, VariantSpec) else None
