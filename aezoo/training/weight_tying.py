"""Weight tying: each decoder weight is the transpose of an encoder weight during a stage.

Hinton and Salakhutdinov, Science 313 (2006). A saved network owns independent weights.
"""

import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn

from aezoo.errors import Problem, SpecError
from aezoo.model.autoencoder import DATA_STATISTICS, Autoencoder
from aezoo.model.build import build_on_meta

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
Weighted = nn.Linear | Conv | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
"""Modules whose weights can be tied, and which a greedy stage counts as layers."""


@contextmanager
def tied(ae: Autoencoder, path: str = "") -> Generator[None]:
    """Context manager that ties each decoder weight to the transpose of its encoder weight.

    On exit the decoder's weights become contiguous copies, so that no output changes.

    Raises:
        SpecError: the encoder and the decoder do not mirror each other; reported at `path`.
    """
    pairs = mirrored_weights(ae, path)
    handles = [_tie(decoder, encoder) for encoder, decoder in pairs]
    try:
        yield
    finally:
        for handle, (encoder, decoder) in zip(handles, pairs, strict=True):
            handle.remove()
            del vars(decoder)["weight"]
            decoder.weight = nn.Parameter(_transposed(encoder).detach().clone().contiguous())


def mirrored_weights(ae: Autoencoder, path: str = "") -> list[tuple[Weighted, Weighted]]:
    """Pairs each weighted module of the encoder with the one of the decoder that mirrors it.

    Raises:
        SpecError: the encoder and the decoder do not mirror each other; reported at `path`.
    """
    encoder = [m for m in ae.encoder.modules() if isinstance(m, Weighted)]
    decoder = [m for m in ae.decoder.modules() if isinstance(m, Weighted)][::-1]
    if not encoder or len(encoder) != len(decoder):
        counts = f"{len(encoder)} in the encoder, {len(decoder)} in the decoder"
        raise SpecError([Problem(path, f"tie needs as many weighted layers on each side, found {counts}")])
    for e, d in zip(encoder, decoder, strict=True):
        convolutions = sorted(isinstance(m, Conv) for m in (e, d))
        linear = isinstance(e, nn.Linear) and isinstance(d, nn.Linear)
        if not linear and convolutions != [False, True]:
            kinds = f"{type(e).__name__} and {type(d).__name__}"
            raise SpecError([Problem(path, f"tie needs mirrored layers, found {kinds}")])
        if _transposed(e).shape != d.weight.shape:
            shapes = f"{tuple(e.weight.shape)} and {tuple(d.weight.shape)}"
            raise SpecError([Problem(path, f"tie needs mirrored layers, found weights of {shapes}")])
    return list(zip(encoder, decoder, strict=True))


def untied_copy(ae: Autoencoder) -> Autoencoder:
    """Copies an autoencoder, whose weights may be tied, into one with independent weights, in eval mode."""
    state = {name: tensor.detach().clone() for name, tensor in ae.state_dict().items()}
    for name, module in cast(Iterable[tuple[str, nn.Module]], ae.named_modules()):
        tied_weight: object = vars(module).get("weight")
        if isinstance(tied_weight, Tensor):
            state[f"{name}.weight"] = tied_weight.detach().clone().contiguous()
    other = build_on_meta(ae.spec, ae.shapes, sys.maxsize)
    for name in DATA_STATISTICS:
        setattr(other, name, state.get(name))
    other.load_state_dict(state, strict=True, assign=True)
    other.columns = ae.columns
    return other.eval()


def _transposed(module: Weighted) -> Tensor:
    # A transposed convolution stores its weight in the layout of the convolution it is the gradient of.
    return module.weight.t() if isinstance(module, nn.Linear) else module.weight


def _tie(decoder: Weighted, encoder: Weighted) -> Any:
    def use_encoder_weight(module: nn.Module, _: object) -> None:
        # Not a parameter: the order of parameters must not change, since the optimizer's state depends on it.
        vars(module)["weight"] = _transposed(encoder)

    decoder.register_parameter("weight", None)
    use_encoder_weight(decoder, None)
    return decoder.register_forward_pre_hook(use_encoder_weight)
