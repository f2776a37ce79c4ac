"""The network: two stacks of layers, what they give, and what a trained one knows about itself."""

import html
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from aezoo.errors import AezooError, LayerError, NotSupportedError, Problem, SpecError
from aezoo.specs import AutoencoderSpec, LayerSpec
from aezoo.transforms import Transforms

Aux = dict[str, Tensor]


class Output(NamedTuple):
    """What `forward` gives.

    Attributes:
        x_hat: the reconstruction, (batch, *target shape).
        latents: the code, floating point, (batch, *latent shape).
        aux: what layers emitted beside their output, by name.
    """

    x_hat: Tensor
    latents: Tensor
    aux: Aux


class Batch(NamedTuple):
    """What a loss is given beside the output.

    Attributes:
        input: what the network saw, noise included, (batch, *input shape).
        target: what it should give, always clean, (batch, *target shape).
        labels: one for each row, or None; never used for the reconstruction itself.
        epoch: epochs of this stage that lie behind, fractional within an epoch.
        step: steps of this training that lie behind.
        generator: for whatever a loss draws.
    """

    input: Tensor
    target: Tensor
    labels: Tensor | None
    epoch: float
    step: int
    generator: Generator


@dataclass(frozen=True)
class Exact:
    """Every row keeps exactly `k` latents; all others are zero (a kept one may be zero, too)."""

    k: int


@dataclass(frozen=True)
class Mean:
    """Rows keep `k` latents on average over a dataset."""

    k: float


class LayerShape(NamedTuple):
    """Shapes of one sample before and after a layer, without the batch axis."""

    input: tuple[int, ...]
    output: tuple[int, ...]


@dataclass
class ShapeLog:
    """Shapes of every layer by path: measured during the first build, looked up in later ones.

    The first forward pass on the meta device costs about a second in a process. A loaded variant
    brings its shapes along, so that it needs none.
    """

    shapes: dict[str, LayerShape] = field(default_factory=dict[str, LayerShape])
    replay: bool = False
    where: str = ""
    source: str = ""
    aux: Aux = field(default_factory=dict[str, Tensor])


_log: ContextVar[ShapeLog | None] = ContextVar("aezoo_shape_log", default=None)


@contextmanager
def logging_shapes(log: ShapeLog) -> Iterator[ShapeLog]:
    """Within, `Stack.build` measures into `log`, or replays it."""
    token = _log.set(log)
    try:
        yield log
    finally:
        _log.reset(token)


class Stack(nn.Module):
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
            self._with_aux.append(bool(gives or takes) or isinstance(layer, Stack))
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
    def build(cls, layers: Iterable[LayerSpec], in_shape: tuple[int, ...], name: str) -> "Stack":
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
            # A layer under test is built outside of an autoencoder.
            with logging_shapes(ShapeLog()):
                return cls.build(layers, in_shape, name)
        outer = log.where, log.source, log.aux
        if log.where:
            # What nested layers emit reaches those outside through the layer that holds them.
            log.aux = dict(log.aux)
        built: list[nn.Module] = []
        before, shape = "the input", in_shape
        try:
            for entry, spec in enumerate(layers):
                for single in spec.expanded():
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


def _build_layer(spec: LayerSpec, in_shape: tuple[int, ...], log: ShapeLog, before: str) -> nn.Module:
    where, source = log.where, log.source
    given = f"{before} gives" if before != "the input" else "the input has"
    try:
        layer = spec.build(in_shape)
    except LayerError as error:
        problem = Problem(f"{source}.{error.field}", f"{error.message} that {given}")
        raise SpecError([problem]) from error
    except AezooError:
        raise
    except Exception as error:
        what = f"{spec.declared_kind} cannot be built on {in_shape}: {_first_line(error)}"
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
    layer: nn.Module, spec: LayerSpec, in_shape: tuple[int, ...], log: ShapeLog, source: str, given: str
) -> tuple[int, ...]:
    """The output shape, found by running the built module once on the meta device."""
    emits, needs = declared(layer)
    for name in needs:
        if name not in log.aux:
            raise SpecError([Problem(source, f"{spec.declared_kind} needs {name!r}, which no layer before emits")])
    clash = next((name for name in emits if name in log.aux), None)
    if clash is not None:
        raise SpecError([Problem(source, f"{spec.declared_kind} emits {clash!r}, which a layer before emits too")])
    h = torch.empty((2, *in_shape), device="meta")
    was_training = layer.training
    try:
        with torch.no_grad():
            layer.eval()
            out = cast(Tensor, layer(h, log.aux) if emits or needs else layer(h))
    except Exception as error:
        what = f"{spec.declared_kind} does not take the shape {in_shape} that {given}: {_first_line(error)}"
        raise SpecError([Problem(source, what)]) from error
    finally:
        layer.train(was_training)
    if out.shape[0] != 2 or out.ndim < 2 or 0 in out.shape:
        what = f"{spec.declared_kind} makes {tuple(out.shape)} of a batch of 2 x {in_shape}"
        raise SpecError([Problem(source, f"{what}; a layer keeps the batch axis and gives at least one value")])
    missing = next((name for name in emits if name not in log.aux), None)
    if missing is not None:
        raise SpecError([Problem(source, f"{spec.declared_kind} declares that it emits {missing!r} but does not")])
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


@dataclass(frozen=True)
class Source:
    """Where the weights came from.

    Attributes:
        kind: `built` (random weights), `trained` (in this process), `folder`, `zoo`.
        path: the folder, where there is one.
        sha256: of the weights' file, checked; None for weights that come from no file.
        vouched: whether the zoo's index named these very bytes.
    """

    kind: str
    path: str | None = None
    sha256: str | None = None
    vouched: bool = False


class LayerRow(NamedTuple):
    """A line of the table that `print(ae)` shows."""

    path: str
    kind: str
    input: tuple[int, ...]
    output: tuple[int, ...]
    parameters: int


class Autoencoder(nn.Module):
    """An encoder and a decoder, made by `aezoo.build`, `aezoo.train` or `aezoo.load`.

    Attributes:
        encoder: (batch, *input shape) -> (batch, *latent shape).
        decoder: (batch, *latent shape) -> (batch, *target shape).
        spec: what it was built from.
        shapes: shapes of every layer by path.
        target_mean: mean of the training targets, (*target shape); None before any training.
        metrics: measured numbers as in `metrics.json`; empty for a network nobody measured.
        history: one record for each epoch of the training in this process.
        training_record: circumstances of the training as in `training.json`.
        source: where the weights came from.
    """

    target_mean: Tensor | None

    def __init__(
        self, encoder: Stack, decoder: Stack, spec: AutoencoderSpec, shapes: dict[str, LayerShape]
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.spec = spec
        self.shapes = shapes
        self.register_buffer("target_mean", None)
        self.metrics: dict[str, dict[str, Any]] = {}
        self.history: list[dict[str, Any]] = []
        self.training_record: dict[str, Any] = {}
        self.source = Source("built")
        self._decoder_needs = tuple(name for name in decoder.needs)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one sample's latents."""
        assert self.encoder.out_shape is not None
        return self.encoder.out_shape

    @property
    def latents(self) -> int:
        """How many latents a sample has."""
        return math.prod(self.latent_shape)

    @property
    def parameters_total(self) -> int:
        """Trainable numbers in both stacks."""
        return sum(p.numel() for p in self.parameters())

    # -- running ----------------------------------------------------------------------------------

    def encode(self, x: Float[Tensor, "batch *input"]) -> Float[Tensor, "batch *latents"]:
        """The latents of a batch.

        Args:
            x: (batch, *spec.input.shape), as `transforms()` makes it.

        Raises:
            ValueError: another shape.
        """
        self._check_input(x)
        return self.encoder(x, {})

    def decode(
        self, latents: Float[Tensor, "batch *latents"], aux: Aux | None = None
    ) -> Float[Tensor, "batch *target"]:
        """The reconstruction that latents stand for.

        Args:
            latents: (batch, *latent_shape).
            aux: `forward(x).aux`, for decoders that need what the encoder emitted.

        Raises:
            ValueError: another shape, or something in `aux` is missing.
        """
        given = {} if aux is None else dict(aux)
        missing = [name for name in self._decoder_needs if name not in given]
        if missing:
            names = ", ".join(map(repr, missing))
            raise ValueError(
                f"this decoder needs {names} of the encoder; call decode(out.latents, out.aux) with "
                "out = ae(x)"
            )
        if tuple(latents.shape[1:]) != self.latent_shape:
            raise ValueError(f"expected latents of shape (batch, {_sizes(self.latent_shape)}), found "
                             f"{tuple(latents.shape)}")  # fmt: skip
        return self.decoder(latents, given)

    def forward(self, x: Float[Tensor, "batch *input"]) -> Output:
        """Encodes and decodes.

        Args:
            x: (batch, *spec.input.shape).
        """
        self._check_input(x)
        aux: Aux = {}
        latents = self.encoder(x, aux)
        return Output(self.decoder(latents, aux), latents, aux)

    def _check_input(self, x: Tensor) -> None:
        if tuple(x.shape[1:]) != self.spec.input.shape:
            raise ValueError(
                f"expected input of shape (batch, {_sizes(self.spec.input.shape)}), found {tuple(x.shape)}; "
                "ae.transforms() makes it of images and arrays"
            )

    @torch.no_grad()
    def score_samples(self, x: Float[Tensor, "batch *input"]) -> Float[Tensor, " batch"]:
        """How usual each sample looks: minus its mean squared reconstruction error.

        As in scikit-learn, higher is more usual. Runs in the module's present mode.

        Args:
            x: (batch, *spec.input.shape), where input and target have the same shape.

        Returns:
            (batch,), at most 0.

        Raises:
            NotSupportedError: the target is not the input.
        """
        if self.spec.output.shape != self.spec.input.shape:
            raise NotSupportedError("score_samples compares with the input, which is not this target's shape")
        return -(self(x).x_hat - x).flatten(1).square().mean(1)

    @torch.no_grad()
    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n *target"]:
        """Draws from the prior and decodes.

        Args:
            n: how many.
            generator: on the autoencoder's device; by default PyTorch's global one.

        Returns:
            (n, *target shape).

        Raises:
            NotSupportedError: no layer at the end of the encoder defines a prior (`sample_prior(n,
                generator)`), as none does in a plain autoencoder.
        """
        draw: Callable[[int, Generator | None], Tensor] | None = getattr(
            self.encoder[len(self.encoder) - 1], "sample_prior", None
        )
        if draw is None:
            raise NotSupportedError("this autoencoder has no prior to sample from; a variational one has")
        return self.decode(draw(n, generator))

    def transforms(self) -> Transforms:
        """What turns a PIL image, an array or a uint8 tensor into a batch for this autoencoder."""
        return Transforms(self.spec.input)

    def sparsity(self) -> Exact | Mean | None:
        """What the encoder's last layer promises about the latents."""
        promise: Callable[[], Exact | Mean | None] | None = getattr(
            self.encoder[len(self.encoder) - 1], "sparsity", None
        )
        return None if promise is None else promise()

    # -- showing ----------------------------------------------------------------------------------

    def table(self) -> list[LayerRow]:
        """Every layer of both stacks with its kind, its shapes and its parameters."""
        rows: list[LayerRow] = []
        spec = self.spec.resolved()
        for side, stack, layers in (
            ("encoder", self.encoder, spec.encoder),
            ("decoder", self.decoder, spec.decoder),
        ):
            for index, (layer, layer_spec) in enumerate(zip(stack, layers, strict=True)):
                path = f"{side}.{index}"
                total = sum(p.numel() for p in layer.parameters())
                rows.append(LayerRow(path, _described(layer_spec), *self.shapes[path], total))
        return rows

    def _title(self) -> str:
        name: str | None = getattr(self.spec, "name", None)
        shape = " x ".join(map(str, self.spec.input.shape))
        counts = f"{self.latents:,} latents, {self.parameters_total:,} parameters"
        return f"{name or 'autoencoder'}: {shape} -> {counts}"

    def __repr__(self) -> str:
        head = ("layer", "kind", "output", "parameters")
        cells = [head] + [(r.path, r.kind, _sizes(r.output), f"{r.parameters:,}") for r in self.table()]
        widths = [max(len(row[i]) for row in cells) for i in range(4)]
        lines = [
            f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}".rstrip()
            for a, b, c, d in cells
        ]
        return "\n".join([self._title(), *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(r.path)}</td><td>{html.escape(r.kind)}</td>"
            f"<td>{_sizes(r.output)}</td><td style='text-align:right'>{r.parameters:,}</td></tr>"
            for r in self.table()
        )
        head = "<tr><th>layer</th><th>kind</th><th>output</th><th>parameters</th></tr>"
        return f"<table><caption>{html.escape(self._title())}</caption>{head}{rows}</table>"


def _described(spec: LayerSpec) -> str:
    """A layer's kind with whatever was set on it, in one short phrase."""
    data = spec.model_dump(mode="json", exclude_defaults=True)
    parts = [f"{k}={_short(v)}" for k, v in data.items() if k != "kind"]
    text = f"{spec.declared_kind}({', '.join(parts)})" if parts else str(spec.declared_kind)
    return text if len(text) <= 72 else f"{text[:69]}..."


def _short(value: object) -> str:
    if isinstance(value, dict):
        data = cast(dict[str, object], value)
        return str(data["kind"]) if "kind" in data else "{...}"
    return f"[{len(cast(list[object], value))} layers]" if _holds_layers(value) else str(value)


def _holds_layers(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(cast(list[object], value)[0], dict)


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
