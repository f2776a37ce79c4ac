"""Initialization from the data and of the encoder from the decoder."""

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

import aezoo
from aezoo_sae.layers import PreBias


@torch.no_grad()
def geometric_median(x: Tensor, steps: int = 100, tolerance: float = 1e-6) -> Tensor:
    """The point with the smallest sum of distances to all rows (Weiszfeld, Tohoku Math. J. 43, 1937).

    Args:
        x: (n, *shape).
        steps: maximum number of iterations.
        tolerance: relative change at which the iteration stops.

    Returns:
        The geometric median, (*shape).
    """
    rows = x.flatten(1).double()
    median = rows.mean(0)
    for _ in range(steps):
        weights = 1 / (rows - median).norm(dim=1).clamp(min=1e-12)
        moved = (weights[:, None] * rows).sum(0) / weights.sum()
        converged = bool((moved - median).norm() <= tolerance * median.norm().clamp(min=1e-12))
        median = moved
        if converged:
            break
    return median.to(x.dtype).view(x.shape[1:])


class _GeometricMedian(aezoo.Callback):
    def __init__(self, samples: int) -> None:
        self.samples = samples

    @override
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
    """Initializes biases to the geometric median of the training data.

    It sets every `sae.pre_bias` of the encoder, and the bias of the decoder's last linear layer. Bricken et
    al., Towards Monosemanticity (2023), appendix on the training of the autoencoder.
    """

    kind: Literal["sae.geometric_median"] = "sae.geometric_median"
    samples: Annotated[int, Field(ge=1, le=2**31 - 1)] = 10_000
    """Number of training samples, from the first on, of which the median is taken."""

    @override
    def build(self) -> aezoo.Callback:
        return _GeometricMedian(self.samples)


class _TransposedStart(aezoo.Callback):
    @override
    def on_fit_start(self, state: aezoo.TrainingState) -> None:
        if state.step > 0:
            return
        before = [m for m in state.ae.encoder.modules() if isinstance(m, nn.Linear)][-1:]
        behind = [m for m in state.ae.decoder.modules() if isinstance(m, nn.Linear)][:1]
        if not before or not behind or before[0].weight.shape != behind[0].weight.T.shape:
            raise aezoo.TrainingError(
                "sae.transposed_start needs linear layers of transposed shapes before and after the latents"
            )
        with torch.no_grad():
            before[0].weight.copy_(F.normalize(behind[0].weight, dim=0).T)


class TransposedStartSpec(aezoo.CallbackSpec):
    """Initializes the encoder's last linear layer to the normalized transpose of the decoder's first.

    Fewer latents die. Gao et al., arXiv:2406.04093, appendix A.1.
    """

    kind: Literal["sae.transposed_start"] = "sae.transposed_start"

    @override
    def build(self) -> aezoo.Callback:
        return _TransposedStart()
