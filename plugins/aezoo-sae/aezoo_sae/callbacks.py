"""Where the biases begin."""

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

import aezoo
from aezoo_sae.layers import PreBias


@torch.no_grad()
def geometric_median(x: Tensor, steps: int = 100, tolerance: float = 1e-6) -> Tensor:
    """The point whose summed distance from others is least (Weiszfeld, Tohoku Math. J. 43, 1937).

    Args:
        x: (n, *shape).
        steps: at most so many.
        tolerance: relative change below which it has settled.

    Returns:
        (*shape).
    """
    rows = x.flatten(1).double()
    median = rows.mean(0)
    for _ in range(steps):
        weights = 1 / (rows - median).norm(dim=1).clamp(min=1e-12)
        moved = (weights[:, None] * rows).sum(0) / weights.sum()
        settled = bool((moved - median).norm() <= tolerance * median.norm().clamp(min=1e-12))
        median = moved
        if settled:
            break
    return median.to(x.dtype).view(x.shape[1:])


class _GeometricMedian(aezoo.Callback):
    def __init__(self, samples: int) -> None:
        self.samples = samples

    def on_fit_start(self, state: aezoo.TrainingState) -> None:
        if state.step > 0:
            return
        spec: Any = state.ae.spec
        rows = state.samples.batch(slice(0, self.samples), spec)
        for module in state.ae.encoder.modules():
            if isinstance(module, PreBias):
                with torch.no_grad():
                    module.bias.copy_(geometric_median(rows.input).reshape(module.bias.shape))
        biases = [m.bias for m in state.ae.decoder.modules() if isinstance(m, nn.Linear)]
        if biases and biases[-1] is not None:
            with torch.no_grad():
                biases[-1].copy_(geometric_median(rows.target).flatten())


class GeometricMedianSpec(aezoo.CallbackSpec):
    """Begins the decoder's bias, and every `sae.pre_bias` at the input, at the geometric median of the data.

    Bricken et al., Towards Monosemanticity (2023), appendix on the autoencoder's training.
    """

    kind: Literal["sae.geometric_median"] = "sae.geometric_median"
    samples: Annotated[int, Field(ge=1, le=2**31 - 1)] = 10_000
    """Training samples, the first ones, that it is measured on."""

    def build(self) -> aezoo.Callback:
        """Makes the callback."""
        return _GeometricMedian(self.samples)


class _TransposedStart(aezoo.Callback):
    def on_fit_start(self, state: aezoo.TrainingState) -> None:
        if state.step > 0:
            return
        before = [m for m in state.ae.encoder.modules() if isinstance(m, nn.Linear)][-1:]
        behind = [m for m in state.ae.decoder.modules() if isinstance(m, nn.Linear)][:1]
        if not before or not behind or before[0].weight.shape != behind[0].weight.T.shape:
            raise aezoo.TrainingError(
                "sae.transposed_start needs linear layers around the latents, each other's transpose"
            )
        with torch.no_grad():
            before[0].weight.copy_(F.normalize(behind[0].weight, dim=0).T)


class TransposedStartSpec(aezoo.CallbackSpec):
    """Begins the encoder's last linear layer as the transpose of the decoder's first, of unit rows.

    Gao et al., arXiv:2406.04093, appendix A.1: far fewer latents die of it.
    """

    kind: Literal["sae.transposed_start"] = "sae.transposed_start"

    def build(self) -> aezoo.Callback:
        """Makes the callback."""
        return _TransposedStart()
