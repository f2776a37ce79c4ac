"""Parts of an autoencoder that a stage trains by themselves: what is left of frozen layers, and pairs."""

import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from aezoo.data.samples import Samples
from aezoo.errors import Problem, SpecError
from aezoo.model.autoencoder import DATA_STATISTICS, Autoencoder, get_layer
from aezoo.model.build import build_on_meta
from aezoo.model.sequential import LayerSequence, LayerShape
from aezoo.specs.tensor import TensorSpec
from aezoo.specs.variant import AutoencoderSpec
from aezoo.training.weight_tying import Weighted

ROWS = 4096
"""Samples that the closed form reads at once."""


# -- frozen layers ------------------------------------------------------------------------------------


@contextmanager
def frozen(modules: Iterable[nn.Module]) -> Generator[None]:
    """Within, these modules learn nothing; `hold` keeps them in evaluation mode besides."""
    parameters: list[nn.Parameter] = []
    for module in modules:
        parameters += [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def at_paths(ae: Autoencoder, paths: Iterable[str], where: str) -> list[nn.Module]:
    """The modules at some paths.

    Raises:
        SpecError: there is no such layer.
    """
    found: list[nn.Module] = []
    for index, path in enumerate(paths):
        layer = get_layer(ae, path)
        if layer is None:
            raise SpecError([Problem(f"{where}.{index}", f"there is no layer {path!r}")])
        found.append(layer)
    return found


def standing_alone(ae: Autoencoder) -> Autoencoder:
    """A copy with weights of its own, also while some are tied; in evaluation mode."""
    state = {name: tensor.detach().clone() for name, tensor in ae.state_dict().items()}
    modules = cast(Iterable[tuple[str, nn.Module]], ae.named_modules())
    for name, module in modules:
        tied_weight: object = vars(module).get("weight")
        if isinstance(tied_weight, Tensor):
            state[f"{name}.weight"] = tied_weight.detach().clone().contiguous()
    other = build_on_meta(ae.spec, ae.shapes, sys.maxsize)
    for name in DATA_STATISTICS:
        setattr(other, name, state.get(name))
    other.load_state_dict(state, strict=True, assign=True)
    other.columns = ae.columns
    return other.eval()


# -- pairs --------------------------------------------------------------------------------------------


@dataclass
class Pair:
    """An encoder layer and the decoder layer that mirrors it, as an autoencoder of their own.

    Attributes:
        ae: what is trained; shares its layers with the whole.
        see: gives what the pair is given for an input; None where that is the input itself.
        held: modules of `ae` that stay frozen.
    """

    ae: Autoencoder
    see: Callable[[Tensor], Tensor] | None
    held: list[nn.Module]


def pairs_of(ae: Autoencoder, own_input: bool, where: str) -> list[Pair]:
    """The pairs of an autoencoder, outermost first.

    Args:
        ae: whose decoder mirrors its encoder, layer by layer.
        own_input: whether each pair gives back what it was given, or the input, through those outside it.
        where: path of the stage, for errors.

    Raises:
        SpecError: no decoder layer gives back what an encoder layer was given.
    """
    starts = _starts(ae.encoder)
    if len(starts) != len(_starts(ae.decoder)) or not starts:
        counts = f"{len(starts)} in the encoder, {len(_starts(ae.decoder))} in the decoder"
        raise SpecError(
            [Problem(where, f"greedy needs as many weighted layers on each side, found {counts}")]
        )
    ends = [*starts[1:], len(ae.encoder)]
    cuts = [0, *ends]
    mirrored = [len(ae.decoder)]
    for number, end in enumerate(ends, start=1):
        latent = ae.shapes[f"encoder.{end - 1}"].output
        mirrored.append(_cut(ae, latent, number, where))
    found: list[Pair] = []
    for number in range(1, len(cuts)):
        begin = cuts[number - 1] if own_input else 0
        finish = mirrored[number - 1] if own_input else len(ae.decoder)
        part = _part(ae, begin, cuts[number], mirrored[number], finish)
        if missing := sorted(set(part.decoder.needs) - set(part.encoder.emits)):
            text = f"pair {number} needs {missing[0]!r}, which lies outside it; reconstruct: input reaches it"
            raise SpecError([Problem(where, text)])
        see = _through(LayerSequence(list(ae.encoder)[:begin])) if begin else None
        own = {*list(ae.encoder)[cuts[number - 1] : cuts[number]]}
        own |= {*list(ae.decoder)[mirrored[number] : mirrored[number - 1]]}
        held = [layer for layer in (*part.encoder, *part.decoder) if layer not in own]
        found.append(Pair(part, see, held))
    return found


def _through(outside: LayerSequence) -> Callable[[Tensor], Tensor]:
    @torch.no_grad()
    def see(x: Tensor) -> Tensor:
        return outside(x, {})

    return see


def _starts(stack: LayerSequence) -> list[int]:
    """Where the layers with weights are."""
    return [i for i, layer in enumerate(stack) if any(isinstance(m, Weighted) for m in layer.modules())]


def _cut(ae: Autoencoder, latent: tuple[int, ...], number: int, where: str) -> int:
    """Where in the decoder the part begins that has `number` weighted layers and takes such latents."""
    weighted = set(_starts(ae.decoder))
    for index in reversed(range(len(ae.decoder))):
        if ae.shapes[f"decoder.{index}"].input != latent:
            continue
        if len([i for i in weighted if i >= index]) == number:
            return index
    text = f"greedy needs a decoder that mirrors the encoder; none of its last {number} layers takes {latent}"
    raise SpecError([Problem(where, text)])


def _part(ae: Autoencoder, begin: int, end: int, first: int, last: int) -> Autoencoder:
    resolved = ae.spec.resolved()
    inside, outside = ae.shapes[f"encoder.{begin}"].input, ae.shapes[f"decoder.{last - 1}"].output
    whole = begin == 0 and last == len(ae.decoder)
    spec = AutoencoderSpec.model_construct(
        input=ae.spec.input if begin == 0 else TensorSpec(shape=inside),
        target=ae.spec.target if whole else None if inside == outside else TensorSpec(shape=outside),
        encoder=resolved.encoder[begin:end],
        decoder=resolved.decoder[first:last],
    )
    encoder, decoder = LayerSequence(list(ae.encoder)[begin:end]), LayerSequence(list(ae.decoder)[first:last])
    encoder.out_shape, decoder.out_shape = ae.shapes[f"encoder.{end - 1}"].output, outside
    shapes: dict[str, LayerShape] = {}
    for side, start, stop in (("encoder", begin, end), ("decoder", first, last)):
        for index in range(start, stop):
            shapes[f"{side}.{index - start}"] = ae.shapes[f"{side}.{index}"]
    return Autoencoder(encoder, decoder, spec, shapes)


# -- principal components -----------------------------------------------------------------------------


def linear_pair(ae: Autoencoder, where: str) -> tuple[nn.Linear, nn.Linear]:
    """The two linear layers of a linear autoencoder.

    Raises:
        SpecError: the network is anything else.
    """
    found: list[nn.Linear] = []
    for side, stack in (("encoder", ae.encoder), ("decoder", ae.decoder)):
        steps = [step for layer in stack for step in _steps(layer)]
        linear = [step for step in steps if type(step) is nn.Linear]
        others = [s for s in steps if not isinstance(s, nn.Linear | nn.Flatten | nn.Unflatten)]
        if len(linear) != 1 or others or "bias" not in dict(linear[0].named_parameters()):
            text = f"pca needs an {side} of one linear layer with a bias and without an activation"
            raise SpecError([Problem(where, text.replace("an decoder", "a decoder"))])
        found.append(linear[0])
    encoder, decoder = found
    if encoder.in_features != decoder.out_features or encoder.out_features > encoder.in_features:
        sizes = f"{encoder.in_features} -> {encoder.out_features} -> {decoder.out_features}"
        raise SpecError([Problem(where, f"pca gives at most as many components as values, found {sizes}")])
    if ae.spec.target is not None:
        raise SpecError([Problem(where, "pca reconstructs the input, but the spec has a target of its own")])
    return encoder, decoder


def _steps(layer: nn.Module) -> list[nn.Module]:
    return list(layer) if isinstance(layer, nn.Sequential) else [layer]


@torch.no_grad()
def principal_components(ae: Autoencoder, samples: Samples, where: str) -> None:
    """Sets a linear autoencoder to the principal components of its data, largest first.

    Sums are in double precision. Each component's largest weight is positive, so that the same data give
    the same signs.
    """
    encoder, decoder = linear_pair(ae, where)
    d = encoder.in_features
    total, outer = torch.zeros(d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64)
    for rows in samples.batches(ae.spec, ROWS):
        x = rows.input.flatten(1).cpu().double()
        total += x.sum(0)
        outer += x.T @ x
    mean = total / len(samples)
    covariance = outer / len(samples) - torch.outer(mean, mean)
    eigenvectors = cast(Tensor, cast(Any, torch.linalg.eigh)(covariance)[1])
    vectors = eigenvectors.flip(1)[:, : encoder.out_features].T
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    components = vectors * largest.sign()
    encoder.weight.copy_(components)
    encoder.bias.copy_(-components @ mean)
    decoder.weight.copy_(components.T)
    decoder.bias.copy_(mean)
