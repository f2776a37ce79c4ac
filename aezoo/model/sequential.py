"""The stack that runs layers, builds them one behind the other and finds their shapes."""

import math
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from aezoo.errors import AezooError, LayerError, Problem, SpecError
from aezoo.specs.components import LayerSpec

MAX_VALUES = 2**31
"""Values that a layer may make of one sample: 8 GiB of them."""

Aux = dict[str, Tensor]
"""What layers emit beside their output, by name."""


@dataclass(frozen=True)
class Exact:
    """Every row keeps exactly `k` latents; all others are zero (a kept one may be zero, too).

    Attributes:
        k: how many.
        by: whether they are the layer's largest inputs by signed value or by magnitude, passed on unchanged;
        None
            where nothing is said of that.
    """

    k: int
    by: Literal["value", "magnitude"] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Mean:
    """Rows keep `k` latents on average over a dataset."""

    k: float


class LayerShape(NamedTuple):
    """Shapes of one sample before and after a layer, without the batch axis."""

    input: tuple[int, ...]
    output: tuple[int, ...]


@dataclass
class ShapeTrace:
    """Shapes of every layer by path: measured during the first build, looked up in later ones.

    The first forward pass on the meta device costs about a second in a process. A loaded variant
    brings its shapes along, so that it needs none.
    """

    shapes: dict[str, LayerShape] = field(default_factory=dict[str, LayerShape])
    replay: bool = False
    seen: set[str] = field(default_factory=set[str])
    where: str = ""
    source: str = ""
    aux: Aux = field(default_factory=dict[str, Tensor])


_log: ContextVar[ShapeTrace | None] = ContextVar("aezoo_shape_log", default=None)


@contextmanager
def logging_shapes(log: ShapeTrace) -> Generator[ShapeTrace]:
    """Within, `LayerSequence.build` measures into `log`, or replays it."""
    token = _log.set(log)
    try:
        yield log
    finally:
        _log.reset(token)


class LayerSequence(nn.Module):
    """Runs layers in order and carries what they emit to those that need it.

    Its children are named by their index, so that tensors are called `encoder.1.linear.weight`. A stack
    is a layer itself and may be nested.

    Attributes:
        emits: names that its layers add to `aux`.
        needs: names that its layers read from `aux` and none before them in this stack emits.
        out_shape: shape of one sample after the last layer, where `build` made the stack.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        emits: list[str] = []
        needs: list[str] = []
        self._with_aux: list[bool] = []
        for index, layer in enumerate(layers):
            gives, takes = declared(layer)
            needs += [name for name in takes if name not in emits and name not in needs]
            emits += gives
            self._with_aux.append(bool(gives or takes) or isinstance(layer, LayerSequence))
            self.add_module(str(index), layer)
        self.emits = tuple(emits)
        self.needs = tuple(needs)
        self.out_shape: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[nn.Module]:
        return self.children()

    def __getitem__(self, index: int) -> nn.Module:
        return list(self.children())[index]

    def forward(self, h: Tensor, aux: Aux) -> Tensor:
        """Runs all layers.

        Args:
            h: (batch, *in_shape).
            aux: read and written by layers that declare it.
        """
        for layer, with_aux in zip(self.children(), self._with_aux, strict=True):
            h = layer(h, aux) if with_aux else layer(h)
        return h

    @classmethod
    def build(cls, layers: Iterable[LayerSpec], in_shape: tuple[int, ...], name: str) -> "LayerSequence":
        """Builds layers one behind the other; containers call it for the layers that they hold.

        Args:
            layers: specs; `repeat` is written out here.
            in_shape: shape of one sample before the first of them.
            name: the field that holds them, for paths in errors.

        Raises:
            SpecError: a layer that does not fit its input, with its path and both sizes.
        """
        log = _log.get()
        if log is None:
            # A container that is built by itself, outside of an autoencoder.
            layers, log = tuple(layers), ShapeTrace()
            with logging_shapes(log), torch.device("meta"):
                cls.build(layers, in_shape, name)
            log.replay = True
            with logging_shapes(log):
                return cls.build(layers, in_shape, name)
        outer = log.where, log.source, log.aux
        if log.where:
            # What nested layers emit reaches those outside through the layer that holds them.
            log.aux = dict(log.aux)
        built: list[nn.Module] = []
        before, shape = "the encoder" if name == "decoder" else "the input", in_shape
        try:
            for entry, spec in enumerate(layers):
                # Layers held inside are written out by a call of their own: paths stay the document's.
                for single in (spec.model_copy(update={"repeat": 1}),) * spec.repeat:
                    log.where = ".".join(filter(None, (outer[0], name, str(len(built)))))
                    log.source = ".".join(filter(None, (outer[1], name, str(entry))))
                    layer = _build_layer(single, shape, log, before)
                    shape = log.shapes[log.where].output
                    built.append(layer)
                before = log.source
        finally:
            log.where, log.source, log.aux = outer
        stack = cls(built)
        stack.out_shape = shape
        return stack


def declared(layer: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names that a layer emits and needs; any `nn.Module` that declares nothing is a layer too."""
    emits: tuple[str, ...] = getattr(layer, "emits", ())
    needs: tuple[str, ...] = getattr(layer, "needs", ())
    return emits, needs


def _build_layer(spec: LayerSpec, in_shape: tuple[int, ...], log: ShapeTrace, before: str) -> nn.Module:
    where, source = log.where, log.source
    log.seen.add(where)
    given = f"{before} gives" if before != "the input" else "the input has"
    try:
        layer = spec.build(in_shape)
    except LayerError as error:
        problem = Problem(f"{source}.{error.field}", f"{error.message} that {given}")
        raise SpecError([problem]) from error
    except AezooError:
        raise
    except Exception as error:
        what = f"{spec.kind_name} cannot be built on {in_shape}: {_first_line(error)}"
        raise SpecError([Problem(source, what)]) from error
    if log.replay:
        recorded = log.shapes.get(where)
        if recorded is None or recorded.input != in_shape:
            raise SpecError([Problem(where, f"recorded shapes do not follow from {in_shape}")])
        return layer
    _refuse_hidden_tensors(layer, source)
    log.where, log.source = where, source
    log.shapes[where] = LayerShape(in_shape, _measure(layer, spec, in_shape, log, source, given))
    return layer


def _measure(
    layer: nn.Module, spec: LayerSpec, in_shape: tuple[int, ...], log: ShapeTrace, source: str, given: str
) -> tuple[int, ...]:
    """The output shape, found by running the built module once on the meta device."""
    emits, needs = declared(layer)
    for name in needs:
        if name not in log.aux:
            raise SpecError(
                [Problem(source, f"{spec.kind_name} needs {name!r}, which no layer before emits")]
            )
    clash = next((name for name in emits if name in log.aux), None)
    if clash is not None:
        raise SpecError(
            [Problem(source, f"{spec.kind_name} emits {clash!r}, which a layer before emits too")]
        )
    h = torch.empty((2, *in_shape), device="meta")
    was_training = layer.training
    try:
        with torch.no_grad():
            layer.eval()
            out = cast(Tensor, layer(h, log.aux) if emits or needs else layer(h))
    except Exception as error:
        what = f"{spec.kind_name} does not take the shape {in_shape} that {given}: {_first_line(error)}"
        raise SpecError([Problem(source, what)]) from error
    finally:
        layer.train(was_training)
    if out.shape[0] != 2 or out.ndim < 2 or 0 in out.shape:
        what = f"{spec.kind_name} makes {tuple(out.shape)} of a batch of 2 x {in_shape}"
        raise SpecError(
            [Problem(source, f"{what}; a layer keeps the batch axis and gives at least one value")]
        )
    if math.prod(out.shape[1:]) > MAX_VALUES:
        what = f"{spec.kind_name} makes {math.prod(out.shape[1:]):,} values of a sample"
        raise SpecError([Problem(source, f"{what}, more than {MAX_VALUES:,}")])
    missing = next((name for name in emits if name not in log.aux), None)
    if missing is not None:
        raise SpecError(
            [Problem(source, f"{spec.kind_name} declares that it emits {missing!r} but does not")]
        )
    return tuple(out.shape[1:])


def _refuse_hidden_tensors(layer: nn.Module, source: str) -> None:
    """Plain tensor attributes and non-persistent buffers would stay on the meta device unseen."""
    for module in layer.modules():
        plain = [name for name, value in vars(module).items() if isinstance(value, Tensor)]
        fleeting = sorted(cast(Any, module)._non_persistent_buffers_set)
        for name in (*plain, *fleeting):
            what = "a plain tensor" if name in plain else "a non-persistent buffer"
            text = f"{type(module).__name__}.{name} is {what}; make it a parameter or a persistent buffer"
            raise SpecError([Problem(source, text)])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
