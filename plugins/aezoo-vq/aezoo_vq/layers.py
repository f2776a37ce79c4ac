"""Vector quantization and finite scalar quantization."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

import aezoo
from aezoo_vq import exported

MAX_CODES = 2**20


def at_least_float32(x: Tensor) -> Tensor:
    """A tensor in float16 or bfloat16 as float32, in which codes are chosen; any other unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def in_autocast(x: Tensor) -> bool:
    """Whether operations on a tensor run under autocast; the meta device has none."""
    return not x.is_meta and torch.is_autocast_enabled(x.device.type)


class Quantize(nn.Module):
    """Replaces each vector along the channel axis by the nearest one of a codebook.

    The gradient is passed straight through. In training, each code follows the vectors assigned to it by
    exponential moving averages, and rarely used codes are reset to random vectors of the batch.
    """

    emits = ("vq.codes", "vq.error")
    codebook: Tensor
    counts: Tensor
    sums: Tensor
    begun: Tensor

    def __init__(self, codes: int, channels: int, decay: float, restart: float) -> None:
        super().__init__()
        self.codes, self.decay, self.restart = codes, decay, restart
        self.register_buffer("codebook", torch.randn(codes, channels))
        self.register_buffer("counts", torch.zeros(codes))
        self.register_buffer("sums", torch.zeros(codes, channels))
        self.register_buffer("begun", torch.zeros(()))

    def forward(self, h: Float[Tensor, "batch channels *sizes"], aux: dict[str, Tensor]
                ) -> Float[Tensor, "batch channels *sizes"]:  # fmt: skip
        """Quantizes a batch.

        Args:
            h: (batch, channels, *sizes).
            aux: `vq.codes`, (batch, *sizes), and `vq.error`, the shape of `h`, are written to it.

        Returns:
            The nearest codes, in the shape of `h`. The codes are chosen in float32 or more; the result has
            the dtype of `h`, or that of the codebook if it is wider, as under autocast.
        """
        dtype = torch.promote_types(h.dtype, self.codebook.dtype)
        h = at_least_float32(h)
        vectors = h.movedim(1, -1)
        flat = vectors.reshape(-1, vectors.shape[-1])
        if self.training and not flat.is_meta:
            self._initialize(flat.detach())
        nearest = self._nearest(flat)
        quantized = self.codebook.to(flat.dtype)[nearest].view_as(vectors).movedim(-1, 1)
        aux["vq.codes"] = nearest.view(vectors.shape[:-1])
        # Before the codebook is updated: the distance from the codes that these vectors were assigned.
        aux["vq.error"] = h - quantized.detach()
        if self.training and not flat.is_meta:
            self._update(flat.detach(), nearest)
        return (h + (quantized - h).detach()).to(dtype)

    def _nearest(self, flat: Tensor) -> Tensor:
        codebook = self.codebook.to(flat.dtype)
        # Autocast would compute the product in bfloat16.
        with torch.autocast(flat.device.type, enabled=False) if in_autocast(flat) else nullcontext():
            distances = codebook.square().sum(1) - 2 * flat @ codebook.T
        return distances.argmin(1)

    @torch.no_grad()
    def _initialize(self, flat: Tensor) -> None:
        """Sets the codes to random vectors of the first batch."""
        if bool(self.begun):
            return
        self.begun.fill_(1)
        self.codebook.copy_(flat[torch.randint(len(flat), (self.codes,), device=flat.device)])
        self.counts.fill_(1)
        self.sums.copy_(self.codebook)

    @torch.no_grad()
    def _update(self, flat: Tensor, nearest: Tensor) -> None:
        flat = flat.to(self.sums.dtype)
        counts = torch.zeros_like(self.counts).index_add_(0, nearest, torch.ones_like(flat[:, 0]))
        sums = torch.zeros_like(self.sums)
        if flat.is_cuda:
            # Sorts before it adds. The order in which index_add_ adds on a GPU changes from run to run.
            sums.index_put_((nearest,), flat, accumulate=True)
        else:
            sums.index_add_(0, nearest, flat)
        self.counts.mul_(self.decay).add_(counts, alpha=1 - self.decay)
        self.sums.mul_(self.decay).add_(sums, alpha=1 - self.decay)
        # Relative to the count that each code would have if all were used equally.
        unused = self.counts < self.restart * len(flat) / self.codes
        fresh = flat[torch.randint(len(flat), (self.codes,), device=flat.device)]
        self.counts.copy_(torch.where(unused, len(flat) / self.codes, self.counts))
        self.sums.copy_(torch.where(unused[:, None], fresh * self.counts[:, None], self.sums))
        self.codebook.copy_(self.sums / self.counts[:, None])

    def to_python(self) -> aezoo.PythonLayer:
        """Its source in an exported Python file."""
        sizes = f"{self.codes}, {self.codebook.shape[1]}"
        return aezoo.PythonLayer(f"Quantize({sizes})", (exported.QUANTIZE,))


class QuantizeSpec(aezoo.LayerSpec):
    """Vector quantization: the nearest vector of a codebook at each position; use it with `vq.commitment`.

    (batch, channels, *sizes) -> (batch, channels, *sizes). van den Oord et al., arXiv:1711.00937, section 3;
    the codebook is updated by the moving averages of appendix A.1.
    """

    kind: Literal["vq.quantize"] = "vq.quantize"
    limits_information = True
    surrogate_gradient = True
    codes: Annotated[int, Field(ge=2, le=MAX_CODES)]
    """Number of vectors in the codebook."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Decay of the moving averages, per training batch."""
    restart: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """A code is reset if its moving average count is below this fraction of the mean count; 0 for never."""

    examples = ({"codes": 16}, {"codes": 4, "decay": 0.9, "restart": 0.0})
    example_shape = (6, 3, 3)

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        return Quantize(self.codes, in_shape[0], self.decay, self.restart)


class Fsq(nn.Module):
    """Rounds each channel to one of a few levels; the gradient is passed straight through the rounding."""

    emits = ("vq.codes",)
    levels: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.codes = math.prod(levels)
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float64))

    def forward(self, h: Float[Tensor, "batch channels *sizes"], aux: dict[str, Tensor]
                ) -> Float[Tensor, "batch channels *sizes"]:  # fmt: skip
        """Quantizes a batch.

        Args:
            h: (batch, channels, *sizes).
            aux: `vq.codes`, (batch, *sizes), is written to it.

        Returns:
            Levels in [-1, 1], in the shape of `h`. They are chosen in float32 or more; the result has the
            dtype of `h`, or float32 under autocast.
        """
        dtype = h.dtype
        h = at_least_float32(h)
        levels = self.levels.to(h.dtype).view(-1, *[1] * (h.ndim - 2))
        # An even number of levels has none at 0: shift by half a step, and back.
        half = (levels - 1) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0).to(h.dtype)
        scale = half * (1 + 1e-3)
        bounded = torch.tanh(h + torch.atanh(offset / scale)) * scale - offset
        rounded = bounded + (bounded.round() - bounded).detach()
        digits = (rounded.detach() + torch.div(levels, 2, rounding_mode="floor")).round().long()
        sizes = self.levels.long()
        base = torch.cat([sizes.new_ones(1), sizes.cumprod(0)[:-1]])
        aux["vq.codes"] = (digits.movedim(1, -1) * base).sum(-1)
        quantized = rounded / torch.div(levels, 2, rounding_mode="floor")
        return quantized if in_autocast(h) else quantized.to(dtype)

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Fsq":
        # The levels stay exact when weights are converted to half precision.
        levels = self.levels
        super()._apply(fn, recurse)
        if not (levels.is_meta or self.levels.is_meta):
            self.levels = levels.to(self.levels.device)
        return self

    def to_python(self) -> aezoo.PythonLayer:
        """Its source in an exported Python file."""
        return aezoo.PythonLayer(f"Fsq({len(self.levels)})", (exported.FSQ,))


class FsqSpec(aezoo.LayerSpec):
    """Finite scalar quantization: each channel is rounded to one of a few levels, without a learned codebook.

    (batch, channels, *sizes) -> (batch, channels, *sizes), in [-1, 1]. Mentzer et al., arXiv:2309.15505,
    section 3.
    """

    kind: Literal["vq.fsq"] = "vq.fsq"
    limits_information = True
    surrogate_gradient = True
    levels: Annotated[tuple[Annotated[int, Field(ge=2, le=1024)], ...], Field(min_length=1, max_length=64)]
    """Number of values of each channel; their product is the number of codes."""

    examples = ({"levels": [8, 5, 5]}, {"levels": [3, 2, 4]})
    example_shape = (3, 4, 4)

    @override
    def output_bounds(self, given: tuple[float, float]) -> tuple[float, float]:
        return -1.0, 1.0

    @override
    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        if in_shape[0] != len(self.levels):
            raise aezoo.LayerError("levels", f"{len(self.levels)} levels for the {in_shape[0]} channels")
        if math.prod(self.levels) > 2**53:
            raise aezoo.LayerError("levels", f"{math.prod(self.levels):,} codes are more than the 2^53")
        return Fsq(self.levels)
