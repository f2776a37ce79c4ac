"""Tied weights: a decoder that uses its encoder's weights for a while, and owns its own afterwards.

Hinton and Salakhutdinov, Science 313 (2006), unrolled networks; a constraint on training alone, since a
saved network always owns independent weights.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from aezoo.errors import Problem, SpecError
from aezoo.model.autoencoder import Autoencoder

Weighted = (
    nn.Linear
    | nn.Conv1d
    | nn.Conv2d
    | nn.Conv3d
    | nn.ConvTranspose1d
    | nn.ConvTranspose2d
    | nn.ConvTranspose3d
)


@contextmanager
def tied(ae: Autoencoder, path: str = "") -> Generator[None]:
    """Within, each decoder weight is its encoder weight's transpose; afterwards it is its own again.

    Leaving changes no output: the decoder's weights become contiguous copies of what they were.

    Args:
        ae: with as many linear and convolutional layers in the decoder as in the encoder, mirrored.
        path: named in the error.

    Raises:
        SpecError: the two sides do not mirror each other.
    """
    pairs = mirrored(ae, path)
    handles = [_follow(decoder, encoder) for encoder, decoder in pairs]
    try:
        yield
    finally:
        for handle, (encoder, decoder) in zip(handles, pairs, strict=True):
            handle.remove()
            del vars(decoder)["weight"]
            decoder.weight = nn.Parameter(_transposed(encoder).detach().clone().contiguous())


def mirrored(ae: Autoencoder, path: str = "") -> list[tuple[Weighted, Weighted]]:
    """The encoder's weighted modules, each with its mirror image in the decoder.

    Raises:
        SpecError: the two sides do not mirror each other.
    """
    encoder = [m for m in ae.encoder.modules() if isinstance(m, Weighted)]
    decoder = [m for m in ae.decoder.modules() if isinstance(m, Weighted)][::-1]
    if not encoder or len(encoder) != len(decoder):
        counts = f"{len(encoder)} in the encoder, {len(decoder)} in the decoder"
        raise SpecError([Problem(path, f"tie needs as many weighted layers on each side, found {counts}")])
    for e, d in zip(encoder, decoder, strict=True):
        convolutions = sorted(isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d) for m in (e, d))
        linear = isinstance(e, nn.Linear) and isinstance(d, nn.Linear)
        if not linear and convolutions != [False, True]:
            kinds = f"{type(e).__name__} and {type(d).__name__}"
            raise SpecError([Problem(path, f"tie needs mirrored layers, found {kinds}")])
        if _transposed(e).shape != d.weight.shape:
            shapes = f"{tuple(e.weight.shape)} and {tuple(d.weight.shape)}"
            raise SpecError([Problem(path, f"tie needs mirrored layers, found weights of {shapes}")])
    return list(zip(encoder, decoder, strict=True))


def _transposed(module: Weighted) -> Tensor:
    # A transposed convolution stores its weight as the convolution does that it is the gradient of.
    return module.weight.t() if isinstance(module, nn.Linear) else module.weight


def _follow(decoder: Weighted, encoder: Weighted) -> Any:
    def take_over(module: nn.Module, _: object) -> None:
        # Beside the parameters, whose order this keeps: an optimizer's state goes by it.
        vars(module)["weight"] = _transposed(encoder)

    decoder.register_parameter("weight", None)
    take_over(decoder, None)
    return decoder.register_forward_pre_hook(take_over)
