"""Modules written in another way, so that files give the same numbers in runtimes with known faults."""

import copy
from collections.abc import Iterable
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from aezoo.model.autoencoder import Autoencoder

AVG_POOLS: dict[type[nn.Module], int] = {nn.AvgPool1d: 1, nn.AvgPool2d: 2, nn.AvgPool3d: 3}
"""Average poolings -> number of axes."""


class CeilAvgPool(nn.Module):
    """Average pooling with windows that extend beyond the end, without ONNX's `ceil_mode`.

    onnxruntime 1.20 to 1.28 divides these windows by the size of a whole window. Here, zeros are added
    explicitly, and the means are divided by the share of each window that lies in the input and its padding.

    Args:
        pool: with `ceil_mode`.
        axes: number of axes, 1 to 3.
    """

    def __init__(self, pool: Any, axes: int) -> None:
        super().__init__()
        self.mean = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[axes - 1]
        values = (pool.kernel_size, pool.stride, pool.padding)
        self.kernel, self.stride, self.padding = (
            (value,) * axes if isinstance(value, int) else tuple(value) for value in values
        )

    @override
    def forward(self, h: Tensor) -> Tensor:
        """(batch, channels, *sizes) -> (batch, channels, *smaller sizes)."""
        inside: list[int] = []
        ends: list[int] = []
        beyond: list[int] = []
        for size, k, s, p in zip(h.shape[2:], self.kernel, self.stride, self.padding, strict=True):
            padded = size + 2 * p
            windows = -(-(padded - k) // s) + 1
            if (windows - 1) * s >= size + p:  # a window must begin in the input or in the padding before it
                windows -= 1
            extra = max(0, (windows - 1) * s + k - padded)
            inside.append(padded)
            ends = [p, p + extra, *ends]
            beyond = [0, extra, *beyond]
        shares = self.mean(F.pad(h.new_ones((1, 1, *inside)), beyond), self.kernel, self.stride)
        return self.mean(F.pad(h, ends), self.kernel, self.stride) / shares


def portable(ae: Autoencoder) -> Autoencoder:
    """The network itself, or a copy in which modules that a runtime gets wrong are written in another way."""
    found: dict[str, int] = {}
    for path, module in cast(Iterable[tuple[str, nn.Module]], ae.named_modules()):
        axes = AVG_POOLS.get(type(module))
        if axes is not None and is_ceil(module):
            found[path] = axes
    if not found:
        return ae
    made = copy.deepcopy(ae)
    for path, axes in found.items():
        made.set_submodule(path, CeilAvgPool(made.get_submodule(path), axes))
    return made


def is_ceil(pool: Any) -> bool:
    """Whether an average pooling has windows that extend beyond the end, and padding counts as zeros."""
    return pool.ceil_mode and pool.count_include_pad and getattr(pool, "divisor_override", None) is None
