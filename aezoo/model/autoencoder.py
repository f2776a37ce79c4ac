"""The network: two stacks of layers, what they give, and what a trained one knows about itself."""

import html
import math
from collections.abc import Callable, Mapping
from collections.abc import Generator as ContextGenerator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from aezoo.data.transforms import Scaler, Transforms
from aezoo.errors import NotSupportedError
from aezoo.model.sequential import Aux, Exact, LayerSequence, LayerShape, Mean
from aezoo.model.summary import LayerRow, describe_layer, format_shape
from aezoo.specs.variant import AutoencoderSpec

DATA_STATISTICS = ("target_mean", "input_shift", "input_scale")
"""Tensors of an autoencoder that are measured on the training data rather than trained."""


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


class StepContext(NamedTuple):
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
class Source:
    """Where the weights came from.

    Attributes:
        kind: `built` (random weights), `trained` (in this process), `folder`, `zoo` (by name), `hub`.
        path: the folder, where there is one; that of the Hub's cache for what came from there.
        sha256: of the weights' file, checked; None for weights that come from no file.
        index_verified: whether an index of a zoo named these very bytes.
        repository: on the Hub, `owner/name`; None for what came from elsewhere.
        commit: of the repository, 40 hexadecimal digits.
        hashes: file -> sha256 of every file that was read.
    """

    kind: str
    path: str | None = None
    sha256: str | None = None
    index_verified: bool = False
    repository: str | None = None
    commit: str | None = None
    hashes: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)


class Autoencoder(nn.Module):
    """An encoder and a decoder, made by `aezoo.build`, `aezoo.train` or `aezoo.load`.

    Attributes:
        encoder: (batch, *input shape) -> (batch, *latent shape).
        decoder: (batch, *latent shape) -> (batch, *target shape).
        spec: what it was built from.
        shapes: shapes of every layer by path.
        target_mean: mean of the training targets, (*target shape); None before any training.
        input_shift: what was taken off each input value in training, (*input shape); None where inputs
            were not scaled by what was fitted to them.
        input_scale: what each was then divided by; likewise.
        columns: a table's columns in the order of the input's values; empty for other data.
        metrics: measured numbers as in `metrics.json`; empty for a network nobody measured.
        history: one record for each epoch of the training in this process.
        training_record: circumstances of the training as in `training.json`.
        source: where the weights came from.
    """

    target_mean: Tensor | None
    input_shift: Tensor | None
    input_scale: Tensor | None

    def __init__(
        self,
        encoder: LayerSequence,
        decoder: LayerSequence,
        spec: AutoencoderSpec,
        shapes: dict[str, LayerShape],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.spec = spec
        self.shapes = shapes
        for name in DATA_STATISTICS:
            self.register_buffer(name, None)
        self.columns: tuple[str, ...] = ()
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
    def num_latents(self) -> int:
        """How many latents a sample has."""
        return math.prod(self.latent_shape)

    @property
    def num_parameters(self) -> int:
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
            raise ValueError(f"expected latents of shape (batch, {format_shape(self.latent_shape)}), found "
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
                f"expected input of shape (batch, {format_shape(self.spec.input.shape)}), found {tuple(x.shape)}; "
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
        drawn = draw(n, generator)
        like = next(self.parameters(), drawn)
        return self.decode(drawn.to(like.device, like.dtype))

    def transforms(self) -> Transforms:
        """What turns a PIL image, an array or a uint8 tensor into a batch for this autoencoder."""
        dataset: object = getattr(getattr(self.spec, "recipe", None), "dataset", None)
        return Transforms(self.spec.input, self.scaler, self.columns, getattr(dataset, "fit", "stretch"))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Autoencoder":
        """Moves to a device or another precision; the units of the data stay as exact as they were."""
        measured = {
            name: tensor for name in DATA_STATISTICS[1:] if (tensor := getattr(self, name)) is not None
        }
        super()._apply(fn, recurse)
        for name, tensor in measured.items():
            if not tensor.is_meta:
                setattr(self, name, tensor.to(getattr(self, name).device))
        return self

    @property
    def scaler(self) -> Scaler | None:
        """What was fitted to the training inputs, where they were scaled by it."""
        if self.input_shift is None or self.input_scale is None:
            return None
        return Scaler(self.input_shift, self.input_scale)

    @scaler.setter
    def scaler(self, scaler: Scaler | None) -> None:
        self.input_shift = None if scaler is None else scaler.shift
        self.input_scale = None if scaler is None else scaler.scale

    def sparsity(self) -> Exact | Mean | None:
        """What the encoder's last layer promises about the latents."""
        promise: Callable[[], Exact | Mean | None] | None = getattr(
            self.encoder[len(self.encoder) - 1], "sparsity", None
        )
        return None if promise is None else promise()

    # -- showing ----------------------------------------------------------------------------------

    def summary(self) -> list[LayerRow]:
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
                rows.append(LayerRow(path, describe_layer(layer_spec), *self.shapes[path], total))
        return rows

    def _title(self) -> str:
        name: str | None = getattr(self.spec, "name", None)
        shape = " x ".join(map(str, self.spec.input.shape))
        counts = f"{self.num_latents:,} latents, {self.num_parameters:,} parameters"
        return f"{name or 'autoencoder'}: {shape} -> {counts}"

    def __repr__(self) -> str:
        head = ("layer", "kind", "output", "parameters")
        cells = [head] + [
            (r.path, r.kind, format_shape(r.output), f"{r.parameters:,}") for r in self.summary()
        ]
        widths = [max(len(row[i]) for row in cells) for i in range(4)]
        lines = [
            f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}".rstrip()
            for a, b, c, d in cells
        ]
        return "\n".join([self._title(), *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(r.path)}</td><td>{html.escape(r.kind)}</td>"
            f"<td>{format_shape(r.output)}</td><td style='text-align:right'>{r.parameters:,}</td></tr>"
            for r in self.summary()
        )
        head = "<tr><th>layer</th><th>kind</th><th>output</th><th>parameters</th></tr>"
        return f"<table><caption>{html.escape(self._title())}</caption>{head}{rows}</table>"


@contextmanager
def eval_mode(ae: Autoencoder) -> ContextGenerator[None]:
    """Within, evaluation mode; afterwards every module is in the mode that it was in."""
    modes = [(module, module.training) for module in ae.modules()]
    ae.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def get_layer(ae: Autoencoder, path: str) -> nn.Module | None:
    """The layer at a path such as `encoder.1`, or a whole side; None where there is none."""
    if path.partition(".")[0] not in ("encoder", "decoder"):
        return None
    try:
        return ae.get_submodule(path)
    except AttributeError:
        return None
