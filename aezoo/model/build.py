"""From a spec to an autoencoder. Every mistake is found on the meta device, before anything is allocated."""

import os

import torch

from aezoo.errors import Problem, SpecError
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.sequential import LayerSequence, LayerShape, ShapeTrace, logging_shapes
from aezoo.specs.variant import AutoencoderSpec

MAX_PARAMETERS = 1_000_000_000
"""Parameters that a network may have unless a caller or `AEZOO_MAX_PARAMETERS` says otherwise."""


def build(
    spec: AutoencoderSpec,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    max_parameters: int | None = None,
) -> Autoencoder:
    """Builds a network with random weights.

    The same spec and seed give the same weights bit for bit, whatever the device; PyTorch's global
    random state is left as it was.

    Args:
        spec: an architecture or a whole variant.
        seed: of the initial weights.
        device: where the weights go after they were drawn on the CPU.
        dtype: of the weights, floating point.
        max_parameters: refuses more than that; by default a thousand million.

    Returns:
        The autoencoder in training mode, as PyTorch's modules are when new.

    Raises:
        SpecError: layers that do not fit one another, or too many parameters.
    """
    log = ShapeTrace()
    _assemble(spec, log, max_parameters)
    log.replay = True
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which seeds every accelerator as well.
        torch.default_generator.manual_seed(seed)
        ae = _assemble(spec, log, max_parameters, "cpu")
    return ae.to(device=device, dtype=dtype)


def build_on_meta(
    spec: AutoencoderSpec,
    shapes: dict[str, LayerShape] | None = None,
    max_parameters: int | None = None,
) -> Autoencoder:
    """The network on the meta device: every name, shape and dtype, and no memory.

    Args:
        spec: an architecture or a whole variant.
        shapes: what an earlier build found, which spares a forward pass on the meta device.
        max_parameters: as for `build`.

    Raises:
        SpecError: as for `build`, or shapes that do not follow from the spec.
    """
    log = ShapeTrace() if shapes is None else ShapeTrace(dict(shapes), replay=True)
    return _assemble(spec, log, max_parameters)


def _assemble(
    spec: AutoencoderSpec, log: ShapeTrace, max_parameters: int | None, device: str = "meta"
) -> Autoencoder:
    with logging_shapes(log), torch.device(device):
        encoder = LayerSequence.build(spec.encoder, spec.input.shape, "encoder")
        assert encoder.out_shape is not None
        decoder = LayerSequence.build(spec.decoder, encoder.out_shape, "decoder")
    if unknown := sorted(log.shapes.keys() - log.seen):
        raise SpecError([Problem(unknown[0], "shapes are recorded for a layer that the spec does not have")])
    if decoder.out_shape != spec.output.shape:
        what = "target" if spec.target else "input"
        raise SpecError([Problem(
            f"decoder.{len(spec.decoder) - 1}",
            f"gives {decoder.out_shape}, which is not the {what}'s shape {spec.output.shape}",
        )])  # fmt: skip
    ae = Autoencoder(encoder, decoder, spec, log.shapes)
    limit = _parameter_limit() if max_parameters is None else max_parameters
    if ae.num_parameters > limit:
        text = f"{ae.num_parameters:,} parameters are more than the {limit:,} allowed"
        raise SpecError([Problem("", f"{text}; raise max_parameters or AEZOO_MAX_PARAMETERS")])
    return ae


def _parameter_limit() -> int:
    text = os.environ.get("AEZOO_MAX_PARAMETERS")
    if text is None:
        return MAX_PARAMETERS
    if not text.isdecimal():
        raise SpecError([Problem("", f"AEZOO_MAX_PARAMETERS: expected a whole number, found {text!r}")])
    return int(text)
