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
        if (layers := _transposed_layers(state.ae)) is not None:
            before, after = layers
            with torch.no_grad():
                before.weight.copy_(F.normalize(after.weight, dim=0).T)


class TransposedStartSpec(aezoo.CallbackSpec):
    """Initializes the encoder's last linear layer to the normalized transpose of the decoder's first.

    Fewer latents die. Gao et al., arXiv:2406.04093, appendix A.1.
    """

    kind: Literal["sae.transposed_start"] = "sae.transposed_start"

    @override
    def build(self) -> aezoo.Callback:
        return _TransposedStart()

    @override
    def incompatibility(self, ae: aezoo.Autoencoder) -> str | None:
        if _transposed_layers(ae) is None:
            return "needs linear layers of transposed shapes before and after the latents"
        return None


def _transposed_layers(ae: aezoo.Autoencoder) -> tuple[nn.Linear, nn.Linear] | None:
    before = [m for m in ae.encoder.modules() if isinstance(m, nn.Linear)][-1:]
    after = [m for m in ae.decoder.modules() if isinstance(m, nn.Linear)][:1]
    if before and after and before[0].weight.shape == after[0].weight.T.shape:
        return before[0], after[0]
    return None
