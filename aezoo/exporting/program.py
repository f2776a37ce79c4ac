"""The network that is exported: preprocessing, encoder, decoder and score as one module without options."""

import copy
import io
import logging
import warnings
from collections.abc import Generator, Iterable
from contextlib import contextmanager, redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from aezoo.data.transforms import Transforms
from aezoo.errors import AezooError, NotSupportedError
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.sequential import Aux, LayerSequence, run_layer

INPUT = "input"
"""Name of the only input."""
EXAMPLE = 3
"""Samples of the batch with which a program is traced. It is not 1, a size that PyTorch would burn in."""


class ExportedNetwork(nn.Module):
    """What an exported file computes from a batch of raw data.

    Parameters keep the names that they have in `model.safetensors`, such as `encoder.1.linear.weight`.

    Args:
        ae: in evaluation mode, in float32.
        dtype: of the input: uint8 for bytes, otherwise floating point. Bytes are scaled to the range of the
            network's input. Where the training data were standardized, numbers in their original units are
            standardized, in double precision as by `ae.transforms()`.
        outputs: what is returned, in this order.
    """

    input_shift: Tensor
    input_scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, ae: Autoencoder, dtype: torch.dtype, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.encoder = ae.encoder
        self.decoder = ae.decoder if outputs != ("latents",) else None
        self.outputs = outputs
        self.dtype = dtype
        scaler = ae.scaler
        self.standardized = scaler is not None
        if scaler is not None:
            # Buffers of double precision: rounding a mean of 1.7e9 seconds to float32 loses a minute.
            self.register_buffer("input_shift", scaler.shift.double())
            self.register_buffer("input_scale", scaler.scale.double())
        self.wide = scaler is not None and scaler.shift.dtype == torch.float64
        low, high = ae.spec.input.range or (0.0, 1.0)
        self.unit = (low, high) == (0.0, 1.0)
        if dtype == torch.uint8 and not self.unit:
            self.register_buffer("low", torch.tensor(low))
            self.register_buffer("high", torch.tensor(high))

    @override
    def forward(self, input: Tensor) -> dict[str, Tensor]:
        """(batch, *input shape), raw -> the outputs by name, in their order."""
        x = self.preprocessed(input)
        aux: Aux = {}
        latents = self.encoder(x, aux)
        found = {"latents": latents}
        if self.decoder is not None:
            x_hat = self.decoder(latents, aux)
            found["reconstruction"] = self.in_original_units(x_hat)
            if "score" in self.outputs:
                found["score"] = -(x_hat - x).flatten(1).square().mean(1)
        return {name: found[name] for name in self.outputs}

    def preprocessed(self, x: Tensor) -> Tensor:
        """Raw data -> the network's input, float32."""
        if self.standardized:
            return ((x.double() - self.input_shift) / self.input_scale).float()
        if self.dtype == torch.uint8:
            x = x.to(torch.float32) / 255.0
            return x if self.unit else torch.lerp(self.low, self.high, x)
        return x

    def in_original_units(self, x_hat: Tensor) -> Tensor:
        """As `ae.transforms().inverse` gives it: float64 where float32 would lose digits."""
        if not self.standardized:
            return x_hat
        values = x_hat.double() * self.input_scale + self.input_shift
        return values if self.wide else values.float()


def frozen(ae: Autoencoder) -> Autoencoder:
    """A copy on the CPU, in evaluation mode and in float32, without gradients.

    Raises:
        NotSupportedError: the network has no weights, as on the meta device.
    """
    if any(tensor.is_meta for tensor in ae.state_dict().values()):
        raise NotSupportedError("the network is on the meta device and has no weights to export")
    made = copy.deepcopy(ae).cpu().float().eval()
    return made.requires_grad_(False)


def input_dtype(transforms: Transforms, bytes_only: bool) -> torch.dtype:
    """The dtype of an exported network's input.

    Args:
        transforms: `ae.transforms()`.
        bytes_only: whether all samples at hand are bytes.

    Returns:
        uint8 for bytes that are scaled, float64 where the scaling is kept in it, otherwise float32.
    """
    if transforms.scaler is not None:
        return torch.float64 if transforms.scaler.shift.dtype == torch.float64 else torch.float32
    scales = transforms.spec.range is not None and not transforms.columns
    return torch.uint8 if scales and bytes_only else torch.float32


@contextmanager
def quiet() -> Generator[None]:
    """Hides what the exporters report about their own code, also on standard output."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def trace(network: ExportedNetwork, ae: Autoencoder) -> Any:
    """Traces a network to a `torch.export.ExportedProgram` whose batch axis has any size.

    Raises:
        NotSupportedError: the code of a layer cannot be traced; the message names the layer.
    """
    example = torch.zeros(EXAMPLE, *ae.spec.input.shape, dtype=network.dtype)
    try:
        return _exported(network, example)
    except AezooError:
        raise
    except Exception as error:  # tracing runs the layers' code, which may raise anything
        where, reason = _untraceable(ae) or ("the network", error)
        text = " ".join(str(reason).split())[:300]
        raise NotSupportedError(
            f"{where} cannot be exported: torch.export failed with {type(reason).__name__}: {text}"
        ) from error


def _exported(module: nn.Module, example: Tensor) -> Any:
    batch = torch.export.Dim("batch", min=1)
    with quiet(), torch.no_grad():
        return torch.export.export(module, (example,), dynamic_shapes=({0: batch},), strict=False)


class _First(nn.Module):
    """The first layers of an encoder and a decoder."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    @override
    def forward(self, h: Tensor) -> Tensor:
        aux: Aux = {}
        for layer in self.layers:
            h = run_layer(layer, h, aux)
        return h


def _untraceable(ae: Autoencoder) -> tuple[str, Exception] | None:
    """Path and kind of the first layer that cannot be traced, and why."""
    spec = ae.spec.resolved()
    parts: list[tuple[str, LayerSequence, Any]] = [
        ("encoder", ae.encoder, spec.encoder),
        ("decoder", ae.decoder, spec.decoder),
    ]
    done: list[nn.Module] = []
    for part, layers, specs in parts:
        for index, layer in enumerate(layers):
            done.append(layer)
            try:
                _exported(_First(done), torch.zeros(EXAMPLE, *ae.spec.input.shape))
            except Exception as error:
                return f"{part}.{index} ({specs[index].kind_name})", error
    return None
