"""The expressions that build a network's modules, as formatted Python source."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from torch import nn

from aezoo.errors import NotSupportedError
from aezoo.exporting import python_layers as text
from aezoo.model.layers.activations import Sigmoid
from aezoo.model.layers.conv import LinearUpsample, SpacedZeros, SwitchedMaxUnpool, SwitchingMaxPool
from aezoo.model.layers.linear import UnitNormLinear, is_hooked
from aezoo.model.layers.residual import Residual
from aezoo.model.layers.sampling import GaussianSample
from aezoo.model.layers.sparsity import Lifetime, TopK
from aezoo.model.sequential import LayerSequence, LayerShape

WIDTH = 100
"""Largest number of characters in a line."""


class PythonLayer(NamedTuple):
    """How an exported Python file builds a layer; a module returns one from its method `to_python()`.

    Attributes:
        expression: builds the module without its weights, such as `Scale(3)`.
        definitions: source of the classes and functions that the expression uses, each complete. `torch`,
            `nn`, `F` (`torch.nn.functional`) and `Tensor` are imported.
        aux: whether the class of the module is called with `aux`, too, as one that declares `emits` or
            `needs` is.
    """

    expression: str
    definitions: tuple[str, ...]
    aux: bool = False


@dataclass
class Argument:
    """An argument of a call: its value, the keyword, and a comment at the end of its line."""

    value: "str | Call"
    keyword: str = ""
    comment: str = ""


@dataclass
class Call:
    """A call, whose arguments are on one line if they fit.

    Attributes:
        name: what is called.
        arguments: in order.
        exploded: whether each argument has its own line in any case.
    """

    name: str
    arguments: list[Argument]
    exploded: bool = False

    def flat(self) -> str:
        """The call on one line."""
        parts = [
            f"{a.keyword}{'=' * bool(a.keyword)}{a.value if isinstance(a.value, str) else a.value.flat()}"
            for a in self.arguments
        ]
        return f"{self.name}({', '.join(parts)})"

    def must_explode(self) -> bool:
        """Whether the call cannot be on one line."""
        nested = (a.value for a in self.arguments)
        return self.exploded or any(isinstance(value, Call) and value.must_explode() for value in nested)

    def lines(self, indent: int, before: str = "", after: str = "", comment: str = "") -> list[str]:
        """The lines of the call, laid out as ruff does.

        Args:
            indent: spaces before each line.
            before: text before the call, such as `x = `.
            after: text after it, such as a comma.
            comment: at the end of the last line.
        """
        note = f"  # {comment}" if comment else ""
        one = f"{' ' * indent}{before}{self.flat()}{after}{note}"
        if not self.arguments or (len(one) <= WIDTH and not self.must_explode()):
            return [one]
        found = [f"{' ' * indent}{before}{self.name}("]
        for a in self.arguments:
            keyword = f"{a.keyword}=" if a.keyword else ""
            if isinstance(a.value, Call):
                found += a.value.lines(indent + 4, keyword, ",", a.comment)
            else:
                found.append(f"{' ' * (indent + 4)}{keyword}{a.value},{'  # ' * bool(a.comment)}{a.comment}")
        return [*found, f"{' ' * indent}){after}{note}"]


@dataclass
class Writer:
    """Turns modules into calls, and collects the definitions that they need.

    Attributes:
        shapes: of `Autoencoder.shapes`, for comments.
        aux: whether the network has layers that pass tensors to one another.
        definitions: name -> source, in the order in which they are needed.
        with_aux: names of classes that are called with `aux`.
    """

    shapes: Mapping[str, LayerShape]
    aux: bool
    definitions: dict[str, str] = field(default_factory=dict[str, str])
    with_aux: list[str] = field(default_factory=list[str])

    def sequence(self, layers: LayerSequence, path: str, prefix: str) -> Call:
        """A sequence of layers, one in each line, with the shape that it gives.

        Args:
            layers: the layers.
            path: name of the sequence in paths of parameters.
            prefix: path of the sequence in `shapes`.
        """
        self._check_plain(layers, path)
        arguments: list[Argument] = []
        for index, layer in enumerate(layers):
            shape = self.shapes.get(f"{prefix}.{index}")
            comment = "" if shape is None else batch_shape(shape.output)
            value = self.module(layer, f"{path}.{index}", f"{prefix}.{index}")
            arguments.append(Argument(value, comment=comment))
        return Call("Layers" if self.aux else "nn.Sequential", arguments, exploded=True)

    def module(self, module: nn.Module, path: str, prefix: str = "") -> Call:
        """The call that builds a module.

        Raises:
            NotSupportedError: the class has no source form; the message names it and the path.
        """
        kind = type(module)
        self._check_plain(module, path)
        if isinstance(module, Residual):
            inner = self.sequence(module.inner, f"{path}.inner", f"{prefix}.layers")
            source = text.RESIDUAL_WITH_AUX if self.aux else text.RESIDUAL
            self._define("Residual", source, aux=self.aux)
            arguments = [Argument(inner)]
            if module.activation is not None:
                arguments.append(Argument(self.module(module.activation, f"{path}.activation"), "activation"))
            return Call("Residual", arguments)
        if kind is nn.Sequential:
            self._define("steps", text.STEPS)
            named = [
                Argument(self.module(step, f"{path}.{name}"), name) for name, step in module.named_children()
            ]
            if any(not argument.keyword.isidentifier() for argument in named):
                return Call("nn.Sequential", [Argument(argument.value) for argument in named])
            return Call("steps", named)
        if isinstance(module, SwitchingMaxPool):
            self._define("SwitchingMaxPool", text.SWITCHING_MAX_POOL, aux=True)
            pool = self.module(module.pool, f"{path}.pool")
            return Call("SwitchingMaxPool", [Argument(quoted(_switches(module.emits))), Argument(pool)])
        if isinstance(module, SwitchedMaxUnpool):
            self._define("SwitchedMaxUnpool", text.SWITCHED_MAX_UNPOOL, aux=True)
            name, unpool = quoted(_switches(module.needs)), self.module(module.unpool, f"{path}.unpool")
            sizes = [] if module.sizes is None else [Argument(repr(tuple(module.sizes)), "size")]
            return Call("SwitchedMaxUnpool", [Argument(name), Argument(unpool), *sizes])
        if (own := OWN.get(kind)) is not None:
            self._define(own.name, own.source)
            return Call(own.name, own.arguments(module))
        if (known := TORCH.get(kind.__name__)) is not None and getattr(nn, kind.__name__, None) is kind:
            return Call(f"nn.{kind.__name__}", known(module))
        if kind is Sigmoid:  # differs from PyTorch's under autocast only
            return Call("nn.Sigmoid", [])
        if kind is LinearUpsample:  # differs from PyTorch's in training on a GPU only
            return Call("nn.Upsample", _upsample(module))
        return self._of_plugin(module, path)

    def _check_plain(self, module: nn.Module, path: str) -> None:
        if is_hooked(module) or hasattr(module, "parametrizations"):
            raise NotSupportedError(
                f"{path} ({type(module).__name__}) has hooks or parametrizations, which are not part of its "
                "source; remove them to write the network as Python"
            )

    def _of_plugin(self, module: nn.Module, path: str) -> Call:
        to_python: Callable[[], PythonLayer] | None = getattr(module, "to_python", None)
        if to_python is None:
            raise NotSupportedError(
                f"{path}: {type(module).__module__}.{type(module).__qualname__} has no source form, so that "
                "the network cannot be written as Python; its class can provide one with a method to_python()"
            )
        layer = to_python()
        name = layer.expression.partition("(")[0]
        for source in layer.definitions:
            self._define(source, source)
        if layer.aux:
            self._define(name, "", aux=True)
        return Call(name, [Argument(layer.expression.partition("(")[2].removesuffix(")"))])

    def _define(self, name: str, source: str, aux: bool = False) -> None:
        self.definitions.setdefault(name, source)
        if aux and name not in self.with_aux:
            self.with_aux.append(name)


def batch_shape(shape: Sequence[int]) -> str:
    """The shape of a batch of N samples, such as `(N, 64)`."""
    return f"({', '.join(['N', *map(str, shape)])}{',' * (not shape)})"


def tuple_lines(name: str, items: Sequence[str]) -> list[str]:
    """The lines that assign a tuple to a name, one item in each, as ruff lays them out."""
    if len(items) == 1 and len(one := f"{name} = ({items[0]},)") <= WIDTH:
        return [one]
    return [f"{name} = (", *(f"    {item}," for item in items), ")"]


def passes_tensors(module: nn.Module) -> bool:
    """Whether a module or one inside it is called with `aux` in an exported file."""
    to_python: Callable[[], PythonLayer] | None = getattr(module, "to_python", None)
    if to_python is not None:
        return to_python().aux
    own = isinstance(module, SwitchingMaxPool | SwitchedMaxUnpool)
    return own or any(passes_tensors(child) for child in module.children())


def quoted(value: str) -> str:
    """A string literal in double quotes, as ruff writes it where the text has none."""
    plain = repr(value)
    return f'"{plain[1:-1]}"' if plain.startswith("'") and '"' not in value else plain


def _switches(names: Sequence[str]) -> str:
    return names[0].removesuffix(".indices")


def _value(value: object) -> str:
    """A value as source; sizes that are the same on every axis as one number."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, tuple):
        sizes = cast(tuple[object, ...], value)
        return repr(sizes[0]) if sizes and len(set(sizes)) == 1 else repr(sizes)
    return repr(value)


def _arguments(positional: str = "", **defaults: Any) -> Callable[[Any], list[Argument]]:
    """Reads arguments of a constructor from the attributes of the same names.

    Args:
        positional: names of the arguments that are always given, without keywords.
        defaults: arguments that are given if they are not the default.
    """

    def read(module: Any) -> list[Argument]:
        found = [Argument(_value(getattr(module, name))) for name in positional.split()]
        for name, default in defaults.items():
            value = getattr(module, name)
            if name == "bias":
                value = value is not None
            if _value(value) != _value(default):
                found.append(Argument(_value(value), name))
        return found

    return read


def _pool(**defaults: Any) -> Callable[[Any], list[Argument]]:
    rest = _arguments("kernel_size", padding=0, ceil_mode=False, **defaults)

    def read(module: Any) -> list[Argument]:
        kernel, *found = rest(module)
        if _value(module.stride) != _value(module.kernel_size):
            found.insert(0, Argument(_value(module.stride), "stride"))
        return [kernel, *found]

    return read


def _unpool(module: Any) -> list[Argument]:
    kernel, *found = _arguments("kernel_size", padding=0)(module)
    if _value(module.stride) != _value(module.kernel_size):
        found.insert(0, Argument(_value(module.stride), "stride"))
    return [kernel, *found]


def _upsample(module: Any) -> list[Argument]:
    found = [Argument(_value(module.scale_factor), "scale_factor"), Argument(_value(module.mode), "mode")]
    return found if module.align_corners is None else [*found, Argument("False", "align_corners")]


def _layer_norm(module: Any) -> list[Argument]:
    sizes = tuple(module.normalized_shape)
    shape = str(sizes[0]) if len(sizes) == 1 else repr(sizes)
    return [Argument(shape), *_arguments(eps=1e-5, elementwise_affine=True, bias=True)(module)]


def _unflatten(module: Any) -> list[Argument]:
    return [Argument(str(module.dim)), Argument(repr(tuple(module.unflattened_size)))]


CONV = _arguments(
    "in_channels out_channels kernel_size",
    stride=1, padding=0, dilation=1, groups=1, bias=True, padding_mode="zeros",
)  # fmt: skip
CONV_TRANSPOSE = _arguments(
    "in_channels out_channels kernel_size",
    stride=1, padding=0, output_padding=0, groups=1, bias=True, dilation=1,
)  # fmt: skip
BATCH_NORM = _arguments("num_features", eps=1e-5, momentum=0.1, affine=True, track_running_stats=True)
TORCH: dict[str, Callable[[Any], list[Argument]]] = {
    "Linear": _arguments("in_features out_features", bias=True),
    "LayerNorm": _layer_norm,
    "GroupNorm": _arguments("num_groups num_channels", eps=1e-5, affine=True),
    "Dropout": _arguments("p"),
    "Flatten": _arguments(start_dim=1, end_dim=-1),
    "Unflatten": _unflatten,
    "Upsample": _upsample,
    "ReLU": _arguments(),
    "LeakyReLU": _arguments("negative_slope"),
    "ELU": _arguments("alpha"),
    "GELU": _arguments(approximate="none"),
    "SiLU": _arguments(),
    "Softplus": _arguments(beta=1.0),
    "Sigmoid": _arguments(),
    "Tanh": _arguments(),
    "Identity": _arguments(),
    **{f"Conv{n}d": CONV for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": CONV_TRANSPOSE for n in (1, 2, 3)},
    **{f"BatchNorm{n}d": BATCH_NORM for n in (1, 2, 3)},
    **{f"ConstantPad{n}d": lambda m: [Argument(repr(m.padding)), Argument(repr(m.value))] for n in (1, 2, 3)},
    **{f"MaxPool{n}d": _pool(dilation=1, return_indices=False) for n in (1, 2, 3)},
    "AvgPool1d": _pool(count_include_pad=True),
    **{f"AvgPool{n}d": _pool(count_include_pad=True, divisor_override=None) for n in (2, 3)},
    **{f"MaxUnpool{n}d": _unpool for n in (1, 2, 3)},
}
"""PyTorch's modules -> the arguments of their constructors."""


class _Own(NamedTuple):
    name: str
    source: str
    arguments: Callable[[Any], list[Argument]]


def _topk(module: Any) -> list[Argument]:
    by_magnitude = [Argument("True", "by_magnitude")] if module.by == "magnitude" else []
    return [Argument(str(module.k)), *by_magnitude]


OWN: dict[type[nn.Module], _Own] = {
    UnitNormLinear: _Own("UnitNormLinear", text.UNIT_NORM_LINEAR, TORCH["Linear"]),
    TopK: _Own("TopK", text.TOPK, _topk),
    Lifetime: _Own("Lifetime", text.LIFETIME, _arguments("rate")),
    GaussianSample: _Own("GaussianSample", text.GAUSSIAN_SAMPLE, _arguments()),
    SpacedZeros: _Own("SpacedZeros", text.SPACED_ZEROS, _arguments("factor")),
}
"""Modules of aezoo that an exported file defines."""
