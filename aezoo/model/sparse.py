"""Sparse codes, and products with them by PyTorch's `embedding_bag` with weights and `sampled_addmm`.

With n latents of which each row keeps k, only the encoder's product with its weight needs all n columns, to
find the k. Everything else is computed for the kept entries alone: the reconstruction sums k rows of the
transposed decoder weight, the gradient of the kept values is k dot products, and both weight gradients sum,
for each latent, the rows that kept it. The results are those of the dense computation up to rounding.
"""

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override


class SparsePattern(NamedTuple):
    """The positions of the kept entries of a matrix, row by row, in ascending order within a row.

    Attributes:
        offsets: int64, (rows + 1,), the first entry of each row, and the number of entries.
        columns: int64, (entries,).
        size: number of columns of the matrix.
    """

    offsets: Tensor
    columns: Tensor
    size: int

    @property
    def rows(self) -> Tensor:
        """The row of each entry, int64, (entries,)."""
        counts = self.offsets.diff()
        return torch.repeat_interleave(counts, output_size=len(self.columns))

    @classmethod
    def of_rows(cls, columns: Tensor, size: int) -> "SparsePattern":
        """The pattern whose rows keep equally many entries, (rows, k), in any order."""
        rows, k = columns.shape
        offsets = k * torch.arange(rows + 1, device=columns.device)
        return cls(offsets, columns.sort(1).values.flatten(), size)

    @classmethod
    def of_mask(cls, mask: Tensor) -> "SparsePattern":
        """The pattern of the true values of a mask, (rows, columns)."""
        rows, columns = mask.nonzero(as_tuple=True)
        counts = torch.bincount(rows, minlength=len(mask))
        return cls(_offsets(counts), columns, mask.shape[1])

    @classmethod
    def of_flat(cls, indices: Tensor, rows: int, size: int) -> "SparsePattern":
        """The pattern of entries numbered row by row, in any order."""
        ordered = indices.sort().values
        counts = torch.bincount(ordered.div(size, rounding_mode="floor"), minlength=rows)
        return cls(_offsets(counts), ordered.remainder(size), size)

    @classmethod
    def stack(cls, parts: "list[SparsePattern]") -> "SparsePattern":
        """The pattern of consecutive blocks of rows."""
        if len(parts) == 1:
            return parts[0]
        counts = torch.cat([part.offsets.diff() for part in parts])
        return cls(_offsets(counts), torch.cat([part.columns for part in parts]), parts[0].size)


class SparseCode(NamedTuple):
    """Latents of which few are kept.

    Attributes:
        values: (entries,), in the order of the pattern, with their gradient.
        pattern: the positions of the values; all other latents are zero.
    """

    values: Tensor
    pattern: SparsePattern

    def dense(self) -> Tensor:
        """The latents, (rows, latents)."""
        return _dense(self.pattern, self.values)

    def used_latents(self) -> Tensor:
        """Which latents are not zero in some row, (latents,)."""
        used = torch.zeros(self.pattern.size, dtype=torch.bool, device=self.values.device)
        used[self.pattern.columns[self.values.detach() != 0]] = True
        return used

    def prefix(self, n: int) -> "SparseCode":
        """The code with all latents but the first `n` set to zero."""
        kept = self.pattern.columns < n
        pattern = SparsePattern(
            _offsets(kept)[self.pattern.offsets], self.pattern.columns[kept], self.pattern.size
        )
        return SparseCode(self.values[kept], pattern)


def _offsets(counts: Tensor) -> Tensor:
    """0 and the running sums of counts, int64, (n + 1,)."""
    return F.pad(counts.cumsum(0), (1, 0))


# -- kernels ------------------------------------------------------------------------------------------


def sum_rows(matrix: Tensor, weights: Tensor, index: Tensor, offsets: Tensor) -> Tensor:
    """Weighted sums of rows of a matrix: for each bag of `index`, the sum of `weights * matrix[index]`.

    Args:
        matrix: (n, d); contiguous, or it is copied.
        weights: (entries,).
        index: numbers of rows, int64, (entries,).
        offsets: (bags + 1,), the first entry of each bag, and the number of entries.

    Returns:
        (bags, d).
    """
    bags = cast(Callable[..., Tensor], F.embedding_bag)
    return bags(index, matrix, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True)


def _products(a: Tensor, b: Tensor, pattern: SparsePattern) -> Tensor:
    """The dot products of rows of `a` and rows of `b` at the entries of a pattern, (entries,)."""
    _warn_once()
    if a.device.type == "cpu" and a.dtype in (torch.float32, torch.float64):
        shape = (len(a), pattern.size)
        zeros = a.new_zeros(len(pattern.columns))
        at = torch.sparse_csr_tensor(pattern.offsets, pattern.columns, zeros, shape, check_invariants=False)
        sampled_addmm = cast(Callable[..., Tensor], torch.sparse.sampled_addmm)
        return sampled_addmm(at, a, b.t(), beta=0.0).values()
    return (a[pattern.rows] * b[pattern.columns]).sum(1)


@lru_cache(maxsize=1)
def _warn_once() -> None:
    """Lets PyTorch warn that sparse CSR tensors are in beta state, which it does once in a process."""
    none = torch.tensor([], dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(torch.tensor([0, 0]), none, torch.tensor([]), (1, 1))


def _transposed_sums(matrix: Tensor, weights: Tensor, pattern: SparsePattern) -> Tensor:
    """For each column of a pattern, the weighted sum of the rows of `matrix` that keep it, (columns, d)."""
    order = pattern.columns.argsort(stable=True)
    counts = torch.bincount(pattern.columns, minlength=pattern.size)
    return sum_rows(matrix.contiguous(), weights[order], pattern.rows[order], _offsets(counts))


def _dense(pattern: SparsePattern, values: Tensor) -> Tensor:
    """The matrix of a pattern's entries, (rows, columns), by operations that autograd and vmap support."""
    rows = len(pattern.offsets) - 1
    index = pattern.rows * pattern.size + pattern.columns
    return values.new_zeros(rows * pattern.size).scatter(0, index, values).view(rows, pattern.size)


def _is_plain(gradient: Tensor) -> bool:
    """Whether a backward pass is differentiated itself, or runs under vmap, without sparse kernels."""
    functorch: Any = cast(Any, torch)._C._functorch
    batched = functorch.is_batchedtensor(gradient) or functorch.is_legacy_batchedtensor(gradient)
    return torch.is_grad_enabled() or bool(batched)


class LinearAt(torch.autograd.Function):
    """The entries of `x @ weight.T + bias` at a pattern, whose values are known."""

    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, values: Tensor,  # pyright: ignore
                offsets: Tensor, columns: Tensor) -> Tensor:  # fmt: skip
        ctx.latents = len(weight)
        # Only a gradient of the input needs the weight, which may then not be changed in between.
        ctx.save_for_backward(x, weight if ctx.needs_input_grad[0] else None, offsets, columns)
        return values

    @staticmethod
    @override
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight, offsets, columns = ctx.saved_tensors
        gradient, pattern = gradients[0], SparsePattern(offsets, columns, ctx.latents)
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        if _is_plain(gradient):
            dense = _dense(pattern, gradient)
            dx = dense @ weight if needs_x else None
            return dx, dense.t() @ x, dense.sum(0) if needs_bias else None, None, None, None
        return (
            sum_rows(weight, gradient, columns, offsets) if needs_x else None,
            _transposed_sums(x, gradient, pattern) if needs_weight else None,
            gradient.new_zeros(pattern.size).index_add(0, columns, gradient) if needs_bias else None,
            None,
            None,
            None,
        )


class Decode(torch.autograd.Function):
    """The product of a sparse code with a weight, (latents, features) contiguous."""

    @staticmethod
    @override
    def forward(ctx: Any, values: Tensor, weight: Tensor, offsets: Tensor, columns: Tensor  # pyright: ignore
                ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(values, weight, offsets, columns)
        return sum_rows(weight, values, columns, offsets)

    @staticmethod
    @override
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        values, weight, offsets, columns = ctx.saved_tensors
        gradient, pattern = gradients[0], SparsePattern(offsets, columns, len(weight))
        needs_values, needs_weight = ctx.needs_input_grad[:2]
        if _is_plain(gradient):
            dvalues = (gradient @ weight.t())[pattern.rows, columns]
            return dvalues, _dense(pattern, values).t() @ gradient, None, None
        return (
            _products(gradient, weight, pattern) if needs_values else None,
            _transposed_sums(gradient, values, pattern) if needs_weight else None,
            None,
            None,
        )
