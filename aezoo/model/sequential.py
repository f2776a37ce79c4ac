"""Sequences of layers: running them, building them from specs and finding their shapes."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from aezoo.errors import AezooError, LayerError, Problem, SpecError
from aezoo.specs.components import LayerSpec

MAX_VALUES = 2**31
"""Largest number of values that a layer may give for one sample: 8 GiB in float32."""

Aux = dict[str, Tensor]
"""Tensors that layers emit in addition to their output, by name."""


@dataclass(frozen=True)
class Exact:
    """Exactly `k` latents of each row are kept; the others are zero. A kept latent may be zero as well.

    Attributes:
        k: number of latents kept.
        by: if given, the latents kept are the layer's largest inputs, by signed value or by magnitude, and
            are passed on unchanged. Not compared: two declarations are equal if their `k` is.
    """

    k: int
    by: Literal["value", "magnitude"] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Mean:
    """Rows keep `k` latents on average over a dataset; the others are zero."""

    k: float


class LayerShape(NamedTuple):
    """Shapes of one sample before and after a layer, without the batch axis."""

    input: tuple[int, ...]
    output: tuple[int, ...]


class LayerSequence(nn.Module):
    """Layers applied in order. They pass tensors to one another through `aux`.

    Children are named by their index, so that parameters are called `encoder.1.linear.weight`. A sequence is
    itself a layer and can be nested.

    Args:
        layers: modules called as `layer(h)`, or as `layer(h, aux)` if they declare `emits` or `needs`.
        out_shape: shape of one sample after the last layer, if known.

    Attributes:
        emits: names that the layers add to `aux`.
        needs: names that the layers read from `aux` and that no earlier layer of the sequence emits.
        out_shape: shape of one sample after the last layer; None if unknown.
    """

    def __init__(self, layers: Iterable[nn.Module], out_shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        emits: list[str] = []
        needs: list[str] = []
        for index, layer in enumerate(layers):
            emitted, needed = declared(layer)
            needs += [name for name in needed if name not in emits and name not in needs]
            emits += emitted
            self.add_module(str(index), layer)
        self.emits = tuple(emits)
        self.needs = tuple(needs)
        self.out_shape = out_shape

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[nn.Module]:
        return self.children()

    def __getitem__(self, index: int) -> nn.Module:
        return list(self.children())[index]

    @override
    def forward(self, h: Tensor, aux: Aux | None = None) -> Tensor:
        """Runs all layers.

        Args:
            h: (batch, *in_shape).
            aux: holds what the layers need, and receives what they emit.

        Returns:
            (batch, *out_shape).
        """
        aux = {} if aux is None else aux
        for layer in self._modules.values():
            h = run_layer(cast(nn.Module, layer), h, aux)
        return h

    @classmethod
    def build(cls, layers: Iterable[LayerSpec], in_shape: tuple[int, ...], name: str) -> "LayerSequence":
        """Builds layers in order, each for the shape that the one before it gives.

        A container calls it in its own `build` for the layers that it contains:
        `LayerSequence.build(self.layers, in_shape, "layers")`.

        Args:
            layers: specs; one with `repeat` becomes several layers.
            in_shape: shape of one sample before the first layer.
            name: the field that holds the specs, for paths in errors.

        Raises:
            SpecError: a layer that does not fit its input. Paths begin with `name`; for a container, they are
                completed to the path in the document.
        """
        if isinstance(layers, NestedLayers):
            # What is emitted in a container reaches other layers through the container's own `emits`.
            builder = replace(layers.builder, aux=dict(layers.builder.aux))
        else:
            layers = tuple(layers)
            measuring = LayerBuilder()
            with torch.device("meta"):
                measuring.sequence(layers, in_shape, name)
            builder = LayerBuilder(known=measuring.shapes)
        return builder.sequence(layers, in_shape, name)


def declared(layer: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names that a layer emits and the names that it needs. Any `nn.Module` may leave both out."""
    emits: tuple[str, ...] = getattr(layer, "emits", ())
    needs: tuple[str, ...] = getattr(layer, "needs", ())
    return emits, needs


def run_layer(layer: nn.Module, h: Tensor, aux: Aux) -> Tensor:
    """Calls a layer, with `aux` if it declares names."""
    # `getattr` of a name that a module lacks searches its parameters, buffers and children first.
    cls, own = type(layer), vars(layer)
    if not (hasattr(cls, "emits") or hasattr(cls, "needs") or "emits" in own or "needs" in own):
        return cast(Tensor, layer(h))
    return cast(Tensor, layer(h, aux) if any(declared(layer)) else layer(h))


# -- building -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerBuilder:
    """Builds layers in order and finds the shape after each.

    Shapes are measured by running each layer on the meta device, or looked up in `known`. The first forward
    pass on the meta device takes more than a second in a process, so `load` looks them up.

    Attributes:
        known: shapes of all layers by path; None to measure them.
        shapes: shapes of the layers built so far, by path. `repeat` counts as several layers.
        aux: tensors on the meta device that the layers built so far emit.
        prefix: path of the container, with a dot at its end; empty for the encoder and the decoder.
    """

    known: Mapping[str, LayerShape] | None = None
    shapes: dict[str, LayerShape] = field(default_factory=dict[str, LayerShape])
    aux: Aux = field(default_factory=dict[str, Tensor])
    prefix: str = ""

    def sequence(self, layers: Iterable[LayerSpec], in_shape: tuple[int, ...], name: str) -> LayerSequence:
        """Builds a sequence; see `LayerSequence.build`."""
        built: list[nn.Module] = []
        shape, given = in_shape, "the encoder gives" if name == "decoder" else "the input has"
        for index, spec in enumerate(layers):
            for _ in range(spec.repeat):
                path = f"{self.prefix}{name}.{len(built)}"
                try:
                    layer, shape = self._layer(spec, shape, path, given)
                except SpecError as error:
                    # Completed to the path in the document by each container around it.
                    here = f"{name}.{index}"
                    problems = (replace(p, path=f"{here}.{p.path}".rstrip(".")) for p in error.problems)
                    raise SpecError(problems) from error
                built.append(layer)
                given = f"{name}.{index} gives"
        return LayerSequence(built, shape)

    def _layer(
        self, spec: LayerSpec, in_shape: tuple[int, ...], path: str, given: str
    ) -> tuple[nn.Module, tuple[int, ...]]:
        """A layer and the shape that it gives. Paths of errors are relative to the layer."""
        single = spec.model_copy(update={"repeat": 1, **self._nested(spec, f"{path}.")})
        try:
            layer = single.build(in_shape)
        except LayerError as error:
            text = f"{error.message} that {given}" if error.about_input else error.message
            raise SpecError([Problem(error.field, text)]) from error
        except AezooError:
            raise
        except Exception as error:
            raise _problem(f"{spec.kind_name} cannot be built on {in_shape}: {_first_line(error)}") from error
        if self.known is None:
            _check_tensors(layer)
            out_shape = self._output_shape(layer, in_shape, str(spec.kind_name), given)
        elif path in self.known and self.known[path].input == in_shape:
            out_shape = self.known[path].output
        else:
            raise _problem(f"recorded shapes do not follow from {in_shape}")
        self.shapes[path] = LayerShape(in_shape, out_shape)
        return layer, out_shape

    def _nested(self, spec: LayerSpec, prefix: str) -> "dict[str, NestedLayers]":
        nested: dict[str, NestedLayers] = {}
        for name, value in spec:
            items = cast(tuple[Any, ...], value) if isinstance(value, tuple) else ()
            if any(isinstance(item, LayerSpec) for item in items):
                nested[name] = NestedLayers(items)
                nested[name].builder = replace(self, prefix=prefix)
        return nested

    def _output_shape(
        self, layer: nn.Module, in_shape: tuple[int, ...], kind: str, given: str
    ) -> tuple[int, ...]:
        """The shape after a layer, found by running it on two samples in evaluation mode."""
        emits, needs = declared(layer)
        for name in needs:
            if name not in self.aux:
                raise _problem(f"{kind} needs {name!r}, which no earlier layer emits")
        for name in emits:
            if name in self.aux:
                raise _problem(f"{kind} emits {name!r}, which an earlier layer emits too")
        was_training = layer.training
        try:
            with torch.no_grad():
                out = run_layer(layer.eval(), torch.empty((2, *in_shape), device="meta"), self.aux)
        except Exception as error:
            text = f"{kind} does not take the shape {in_shape} that {given}: {_first_line(error)}"
            raise _problem(text) from error
        finally:
            layer.train(was_training)
        if out.shape[0] != 2 or out.ndim < 2 or 0 in out.shape:
            text = f"{kind} gives {tuple(out.shape)} for a batch of 2 x {in_shape}"
            raise _problem(f"{text}; a layer keeps the batch axis and gives at least one value")
        if (values := math.prod(out.shape[1:])) > MAX_VALUES:
            raise _problem(f"{kind} gives {values:,} values for one sample, more than {MAX_VALUES:,}")
        for name in emits:
            if name not in self.aux:
                raise _problem(f"{kind} declares that it emits {name!r} but does not")
        return tuple(out.shape[1:])


class NestedLayers(tuple[LayerSpec, ...]):
    """The layers of a container that is being built, with the builder of the network around it."""

    builder: LayerBuilder


def _check_tensors(layer: nn.Module) -> None:
    # Plain tensor attributes and non-persistent buffers would stay on the meta device after a load.
    for module in layer.modules():
        plain = [name for name, value in vars(module).items() if isinstance(value, Tensor)]
        transient = sorted(cast(Any, module)._non_persistent_buffers_set)
        for name in (*plain, *transient):
            what = "a plain tensor" if name in plain else "a non-persistent buffer"
            raise _problem(
                f"{type(module).__name__}.{name} is {what}; make it a parameter or a persistent buffer"
            )


def _problem(text: str) -> SpecError:
    return SpecError([Problem("", text)])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
