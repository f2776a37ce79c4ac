"""The autoencoder: encode, decode, forward; and the records of a trained one."""

import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from aezoo.data.transforms import Scaler, Transforms
from aezoo.errors import NotSupportedError
from aezoo.model.sequential import Aux, Exact, LayerSequence, LayerShape, Mean
from aezoo.model.summary import LayerRow, as_html, as_text, describe_layer, format_shape
from aezoo.specs.variant import AutoencoderSpec

DATA_STATISTICS = ("target_mean", "input_shift", "input_scale")
"""Buffers of an autoencoder that are computed from the training data."""


class Output(NamedTuple):
    """The result of `Autoencoder.forward`.

    Attributes:
        x_hat: the reconstruction, (batch, *target shape).
        latents: the code, floating point, (batch, *latent shape).
        aux: tensors that layers emitted in addition to their output, by name.
    """

    x_hat: Tensor
    latents: Tensor
    aux: Aux


class StepContext(NamedTuple):
    """What a loss receives in addition to the output.

    Attributes:
        input: what the network received, noise included, (batch, *input shape).
        target: what the network should return, without noise, (batch, *target shape).
        labels: (batch,) or None. No built-in loss reads them.
        epoch: epochs completed so far, fractional within an epoch; of all stages, or of this layer pair in a
            greedy stage.
        step: optimizer steps of this training completed so far.
        generator: source of all random numbers that a loss draws.
    """

    input: Tensor
    target: Tensor
    labels: Tensor | None
    epoch: float
    step: int
    generator: torch.Generator


@dataclass(frozen=True)
class Source:
    """Where the weights of an autoencoder come from.

    Attributes:
        kind: `built` (random weights), `trained` (in this process), `folder`, `zoo` (by name) or `hub`.
        path: the folder, if any; for the Hub, the folder in its cache.
        sha256: verified hash of the weights file, if any.
        index_verified: whether the index of a zoo lists this hash.
        repository: `owner/name` on the Hub, if any.
        commit: commit of the repository, 40 hexadecimal digits.
        hashes: sha256 of every file that was read, by file name.
    """

    kind: str
    path: str | None = None
    sha256: str | None = None
    index_verified: bool = False
    repository: str | None = None
    commit: str | None = None
    hashes: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)


class Autoencoder(nn.Module):
    """An encoder and a decoder. Created by `aezoo.build`, `aezoo.train` and `aezoo.load`.

    Attributes:
        encoder: (batch, *input shape) -> (batch, *latent shape).
        decoder: (batch, *latent shape) -> (batch, *target shape).
        spec: the spec that it was built from.
        shapes: input and output shape of every layer, by path.
        target_mean: mean of the training targets, (*target shape); None before training.
        input_shift: subtracted from the inputs in training, (*input shape); None if they were not scaled.
        input_scale: the shifted inputs were divided by it, (*input shape); None if they were not scaled.
        columns: column names of a table, in the order of the input's values; empty for other data.
        metrics: measured numbers as in `metrics.json`; empty if nothing was measured.
        history: one record per epoch of a training in this process.
        training_record: circumstances of the training, as in `training.json`.
        source: where the weights come from.
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

    def encode(self, x: Float[Tensor, "batch *input"]) -> Float[Tensor, "batch *latents"]:
        """Encodes a batch.

        Args:
            x: (batch, *input shape), as `transforms()` returns it.

        Returns:
            The latents, (batch, *latent shape).

        Raises:
            ValueError: another shape.
        """
        self._check_input(x)
        return self.encoder(x)

    def decode(
        self, latents: Float[Tensor, "batch *latents"], aux: Aux | None = None
    ) -> Float[Tensor, "batch *target"]:
        """Decodes latents.

        Args:
            latents: (batch, *latent shape).
            aux: `forward(x).aux`; required if the decoder needs what the encoder emits. Not changed.

        Returns:
            The reconstruction, (batch, *target shape).

        Raises:
            ValueError: another shape, or a name missing from `aux`.
        """
        aux = dict(aux or {})
        if missing := ", ".join(repr(name) for name in self.decoder.needs if name not in aux):
            raise ValueError(
                f"this decoder needs {missing} from the encoder; call decode(out.latents, out.aux) with "
                "out = ae(x)"
            )
        if tuple(latents.shape[1:]) != self.latent_shape:
            expected = format_shape(self.latent_shape)
            raise ValueError(f"expected latents of shape (batch, {expected}), found {tuple(latents.shape)}")
        return self.decoder(latents, aux)

    @override
    def forward(self, x: Float[Tensor, "batch *input"]) -> Output:
        """Encodes and decodes a batch.

        Args:
            x: (batch, *input shape), as `transforms()` returns it.

        Raises:
            ValueError: another shape.
        """
        self._check_input(x)
        aux: Aux = {}
        latents = self.encoder(x, aux)
        return Output(self.decoder(latents, aux), latents, aux)

    def _check_input(self, x: Tensor) -> None:
        if tuple(x.shape[1:]) != self.spec.input.shape:
            expected = format_shape(self.spec.input.shape)
            raise ValueError(
                f"expected input of shape (batch, {expected}), found {tuple(x.shape)}; "
                "ae.transforms() converts images and arrays"
            )

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n *target"]:
        """Draws latents from the prior and decodes them.

        Args:
            n: number of samples.
            generator: on the autoencoder's device; PyTorch's global one by default.

        Returns:
            (n, *target shape).

        Raises:
            NotSupportedError: the encoder's last layer has no `sample_prior(n, generator)`, as in every
                autoencoder that is not variational.
        """
        draw: Callable[[int, torch.Generator | None], Tensor] | None
        draw = getattr(self._last_layer, "sample_prior", None)
        if draw is None:
            raise NotSupportedError("this autoencoder has no prior to sample from; a variational one has")
        latents = draw(n, generator)
        like = next(self.parameters(), latents)
        return self.decode(latents.to(like.device, like.dtype))

    @torch.no_grad()
    def score_samples(self, x: Float[Tensor, "batch *input"]) -> Float[Tensor, " batch"]:
        """Scores how usual each sample is: minus its mean squared reconstruction error.

        As in scikit-learn, a higher score is more usual. The autoencoder runs in its current mode.

        Args:
            x: (batch, *input shape).

        Returns:
            (batch,), at most 0.

        Raises:
            NotSupportedError: the target's shape is not the input's.
        """
        if self.spec.output.shape != self.spec.input.shape:
            raise NotSupportedError("score_samples compares with the input, which is not this target's shape")
        return -(self(x).x_hat - x).flatten(1).square().mean(1)

    def sparsity(self) -> Exact | Mean | None:
        """How many latents are non-zero, as the encoder's last layer declares; None if it does not."""
        declare: Callable[[], Exact | Mean | None] | None = getattr(self._last_layer, "sparsity", None)
        return None if declare is None else declare()

    @property
    def _last_layer(self) -> nn.Module:
        return self.encoder[len(self.encoder) - 1]

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one sample's latents."""
        assert self.encoder.out_shape is not None
        return self.encoder.out_shape

    @property
    def num_latents(self) -> int:
        """Number of latents of one sample."""
        return math.prod(self.latent_shape)

    @property
    def num_parameters(self) -> int:
        """Number of parameters of the encoder and the decoder."""
        return sum(p.numel() for p in self.parameters())

    # -- data -------------------------------------------------------------------------------------

    def transforms(self) -> Transforms:
        """The preprocessing that converts PIL images, arrays and uint8 tensors to input batches."""
        dataset: object = getattr(getattr(self.spec, "recipe", None), "dataset", None)
        return Transforms(self.spec.input, self.scaler, self.columns, getattr(dataset, "fit", "stretch"))

    @property
    def scaler(self) -> Scaler | None:
        """The scaling computed from the training inputs; None if they were not scaled."""
        if self.input_shift is None or self.input_scale is None:
            return None
        return Scaler(self.input_shift, self.input_scale)

    @scaler.setter
    def scaler(self, scaler: Scaler | None) -> None:
        self.input_shift = None if scaler is None else scaler.shift
        self.input_scale = None if scaler is None else scaler.scale

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Autoencoder":
        # The scaling keeps its precision when the weights are converted to another dtype.
        before = {name: getattr(self, name) for name in ("input_shift", "input_scale")}
        super()._apply(fn, recurse)
        for name, tensor in before.items():
            if tensor is not None and not tensor.is_meta:
                setattr(self, name, tensor.to(getattr(self, name).device))
        return self

    # -- printing ---------------------------------------------------------------------------------

    def summary(self) -> list[LayerRow]:
        """One row per layer: path, kind with options, input shape, output shape, number of parameters."""
        spec = self.spec.resolved()
        specs = {f"encoder.{i}": layer for i, layer in enumerate(spec.encoder)}
        specs |= {f"decoder.{i}": layer for i, layer in enumerate(spec.decoder)}
        rows: list[LayerRow] = []
        for path, layer_spec in specs.items():
            count = sum(p.numel() for p in self.get_submodule(path).parameters())
            kind = describe_layer(layer_spec)
            rows.append(LayerRow(path, kind, *self.shapes[path], count))
        return rows

    def _title(self) -> str:
        name: str = getattr(self.spec, "name", "autoencoder")
        shape = format_shape(self.spec.input.shape)
        return f"{name}: {shape} -> {self.num_latents:,} latents, {self.num_parameters:,} parameters"

    @override
    def __repr__(self) -> str:
        return as_text(self._title(), self.summary())

    def _repr_html_(self) -> str:
        return as_html(self._title(), self.summary())


@contextmanager
def eval_mode(ae: Autoencoder) -> Generator[None]:
    """Switches to evaluation mode inside the context; afterwards restores the mode of every module."""
    modes = [(module, module.training) for module in ae.modules()]
    ae.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def get_layer(ae: Autoencoder, path: str) -> nn.Module | None:
    """The layer at a path such as `encoder.1`, or the whole `encoder` or `decoder`; None if there is none."""
    if path.partition(".")[0] not in ("encoder", "decoder"):
        return None
    try:
        return ae.get_submodule(path)
    except AttributeError:
        return None
