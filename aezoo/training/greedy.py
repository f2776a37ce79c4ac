"""Layer pairs of greedy layer-wise training: Bengio et al., NeurIPS 2006."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aezoo.errors import Problem, SpecError
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.sequential import LayerSequence
from aezoo.specs.tensor import TensorSpec
from aezoo.specs.variant import AutoencoderSpec
from aezoo.training.weight_tying import Weighted


@dataclass
class LayerPair:
    """An encoder layer and the decoder layer that mirrors it, as an autoencoder.

    Attributes:
        ae: the autoencoder to train; shares its layers with the whole autoencoder.
        preprocess: maps an input of the whole autoencoder to an input of `ae`; None if they are the same.
        frozen: modules of `ae` that are not trained.
    """

    ae: Autoencoder
    preprocess: Callable[[Tensor], Tensor] | None
    frozen: list[nn.Module]


def layer_pairs(ae: Autoencoder, own_input: bool, path: str) -> list[LayerPair]:
    """Splits an autoencoder into layer pairs, outermost first.

    Args:
        ae: an autoencoder whose decoder mirrors its encoder, layer by layer.
        own_input: whether each pair reconstructs its own input, or the network's input through the pairs
            outside it.
        path: path of the stage in the spec, for errors.

    Raises:
        SpecError: the decoder does not mirror the encoder.
    """
    starts, decoder_starts = _weighted_layers(ae.encoder), _weighted_layers(ae.decoder)
    if len(starts) != len(decoder_starts) or not starts:
        counts = f"{len(starts)} in the encoder, {len(decoder_starts)} in the decoder"
        text = f"greedy needs as many weighted layers on each side, found {counts}"
        raise SpecError([Problem(path, text)])
    # Pair n is encoder layers bounds[n - 1] to bounds[n] and decoder layers mirror[n] to mirror[n - 1].
    bounds = [0, *starts[1:], len(ae.encoder)]
    mirror = [len(ae.decoder)]
    for number, end in enumerate(bounds[1:], start=1):
        mirror.append(_decoder_start(ae, ae.shapes[f"encoder.{end - 1}"].output, number, path))
    found: list[LayerPair] = []
    for number in range(1, len(bounds)):
        begin = bounds[number - 1] if own_input else 0
        finish = mirror[number - 1] if own_input else len(ae.decoder)
        part = _sub_autoencoder(ae, (begin, bounds[number]), (mirror[number], finish))
        if missing := sorted(set(part.decoder.needs) - set(part.encoder.emits)):
            text = f"pair {number} needs {missing[0]!r}, which lies outside it; reconstruct: input reaches it"
            raise SpecError([Problem(path, text)])
        trained = {*list(ae.encoder)[bounds[number - 1] : bounds[number]]}
        trained |= {*list(ae.decoder)[mirror[number] : mirror[number - 1]]}
        frozen = [layer for layer in (*part.encoder, *part.decoder) if layer not in trained]
        preprocess = _without_gradient(LayerSequence(list(ae.encoder)[:begin])) if begin else None
        found.append(LayerPair(part, preprocess, frozen))
    return found


def _without_gradient(layers: LayerSequence) -> Callable[[Tensor], Tensor]:
    @torch.no_grad()
    def run(x: Tensor) -> Tensor:
        return layers(x, {})

    return run


def _weighted_layers(layers: LayerSequence) -> list[int]:
    """Returns the indices of the layers that have weights."""
    return [i for i, layer in enumerate(layers) if any(isinstance(m, Weighted) for m in layer.modules())]


def _decoder_start(ae: Autoencoder, latent: tuple[int, ...], number: int, path: str) -> int:
    """Returns the index of the decoder layer from which `number` weighted layers decode a `latent` shape."""
    weighted = _weighted_layers(ae.decoder)
    for index in reversed(range(len(ae.decoder))):
        if ae.shapes[f"decoder.{index}"].input == latent and sum(i >= index for i in weighted) == number:
            return index
    text = f"greedy needs a decoder that mirrors the encoder; none of its last {number} layers takes {latent}"
    raise SpecError([Problem(path, text)])


def _sub_autoencoder(ae: Autoencoder, encoder: tuple[int, int], decoder: tuple[int, int]) -> Autoencoder:
    """Returns an autoencoder of some encoder and decoder layers (first, last + 1), which it shares."""
    (begin, end), (first, last) = encoder, decoder
    resolved = ae.spec.resolved()
    in_shape, out_shape = ae.shapes[f"encoder.{begin}"].input, ae.shapes[f"decoder.{last - 1}"].output
    whole = begin == 0 and last == len(ae.decoder)
    spec = AutoencoderSpec.model_construct(
        input=ae.spec.input if begin == 0 else TensorSpec(shape=in_shape),
        target=ae.spec.target if whole else None if in_shape == out_shape else TensorSpec(shape=out_shape),
        encoder=resolved.encoder[begin:end],
        decoder=resolved.decoder[first:last],
    )
    sides = LayerSequence(list(ae.encoder)[begin:end]), LayerSequence(list(ae.decoder)[first:last])
    sides[0].out_shape, sides[1].out_shape = ae.shapes[f"encoder.{end - 1}"].output, out_shape
    shapes = {f"encoder.{i - begin}": ae.shapes[f"encoder.{i}"] for i in range(begin, end)}
    shapes |= {f"decoder.{i - first}": ae.shapes[f"decoder.{i}"] for i in range(first, last)}
    return Autoencoder(*sides, spec, shapes)
