"""The sparse path of a network: a linear layer, a layer that keeps few of its values, and a linear layer.

`find_encoder` and `find_decoder` decide for which network and batch `aezoo.model.sparse` computes the same
function faster.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn, overrides
from torch.autograd import forward_ad
from torch.nn.modules import module as global_hooks
from torch.utils import _python_dispatch

from aezoo.errors import LayerError, NotSupportedError
from aezoo.model.layers.activations import ELEMENTWISE
from aezoo.model.layers.linear import UnitNormLinear, is_hooked, plain_steps
from aezoo.model.sequential import Aux, LayerSequence, declared, run_layer
from aezoo.model.sparse import Decode, LinearAt, SparseCode, SparsePattern

MIN_LATENTS = 1024
"""Number of latents from which sparse kernels are used; docs/benchmarks.md has the measurement."""
MIN_VALUES = 2**16
"""Number of latents of a whole batch from which they are used."""
MAX_SHARE = 1 / 16
"""Largest share of latents that may be kept."""
MIN_ROWS = 256
"""Number of rows from which they are used where the decoder's weight has to be transposed first."""
BLOCK_VALUES = 4 * 2**20
"""Values before the selection that are held at once if rows are selected independently; 16 MiB in float32."""

_forced: ContextVar[bool | None] = ContextVar("sparse_kernels", default=None)


@contextmanager
def sparse_kernels(enabled: bool | None) -> Generator[None]:
    """Context manager that switches the sparse kernels off, or on for every size.

    Args:
        enabled: True uses them wherever they compute the same function, False never, None decides by size.

    Raises:
        NotSupportedError: `enabled` is anything else.
    """
    if type(enabled) not in (bool, type(None)):
        raise NotSupportedError(f"sparse_kernels: expected True, False or None, found {enabled!r}")
    token = _forced.set(enabled)
    try:
        yield
    finally:
        _forced.reset(token)


@dataclass(frozen=True)
class SparseDecoder:
    """A decoder that begins with a linear layer.

    Attributes:
        linear: the linear layer.
        steps: what follows it in the same layer.
        after: the other layers.
    """

    linear: nn.Linear
    steps: list[nn.Module]
    after: list[nn.Module]

    def __call__(self, code: SparseCode, aux: Aux) -> Tensor:
        """The reconstruction, (batch, *target shape)."""
        weight, pattern, decode = self.linear.weight, code.pattern, cast(Any, Decode)
        if isinstance(self.linear, UnitNormLinear):
            weight = F.normalize(weight, dim=0)
        h = decode.apply(code.values, weight.t().contiguous(), pattern.offsets, pattern.columns)
        bias = cast(Tensor | None, self.linear.bias)
        h = h if bias is None else h + bias
        for step in self.steps:
            h = step(h)
        for layer in self.after:
            h = run_layer(layer, h, aux)
        return h

    def code_of(self, latents: Tensor) -> SparseCode | None:
        """The code of dense latents, (batch, latents); None if they are not sparse, or need a gradient.

        A gradient with respect to latents that are zero is not known to be unused.
        """
        if torch.is_grad_enabled() and latents.requires_grad:
            return None
        kept = latents != 0
        return SparseCode(latents[kept], SparsePattern.of_mask(kept)) if _is_sparse(kept) else None


@dataclass(frozen=True)
class SparseEncoder:
    """An encoder that ends in a linear layer and a layer that keeps few of its values.

    Attributes:
        before: the layers before the linear layer.
        linear: the linear layer.
        activation: an activation after it that acts on each value alone, or None.
        keep: the layer that keeps few of the values; `pattern(h)` says which.
    """

    before: list[nn.Module]
    linear: nn.Linear
    activation: nn.Module | None
    keep: nn.Module

    def __call__(self, x: Tensor, aux: Aux) -> SparseCode:
        """The code of a batch, (batch, *input shape)."""
        x = self.inputs(x, aux)
        values, pattern = self._select(x)
        weight, bias, at = self.linear.weight, self.linear.bias, cast(Any, LinearAt)
        values = at.apply(x, weight, bias, values, pattern.offsets, pattern.columns)
        return SparseCode(values if self.activation is None else self.activation(values), pattern)

    def inputs(self, x: Tensor, aux: Aux) -> Tensor:
        """What the linear layer is given for a batch."""
        for layer in self.before:
            x = run_layer(layer, x, aux)
        return x

    @torch.no_grad()
    def _select(self, x: Tensor) -> tuple[Tensor, SparsePattern]:
        """The kept values before the activation, and where they are."""
        weight, n = self.linear.weight, self.linear.out_features
        bias = cast(Tensor | None, self.linear.bias)
        whole = self.keep.training and getattr(self.keep, "mixes_rows", False)
        size = max(1, len(x) if whole else min(len(x), BLOCK_VALUES // n))
        # One buffer for all blocks, because fresh memory costs as much as a fifth of the product.
        buffer = x.new_empty(size, n)
        values: list[Tensor] = []
        patterns: list[SparsePattern] = []
        for rows in cast(tuple[Tensor, ...], x.split(size)):
            pre_acts = buffer[: len(rows)]
            if bias is None:
                torch.mm(rows, weight.t(), out=pre_acts)
            else:
                torch.addmm(bias, rows, weight.t(), out=pre_acts)
            h = pre_acts if self.activation is None else self.activation(pre_acts)
            pattern: object = cast(Any, self.keep).pattern(h)
            if not isinstance(pattern, SparsePattern) or pattern.size != n:
                kind = type(self.keep).__name__
                raise LayerError("", f"{kind}.pattern: expected an aezoo.SparsePattern of {n:,} columns")
            patterns.append(pattern)
            values.append(pre_acts.flatten()[pattern.rows * n + pattern.columns])
        return torch.cat(values), SparsePattern.stack(patterns)


def find_encoder(encoder: LayerSequence, x: Tensor) -> SparseEncoder | None:
    """The sparse computation of an encoder for a batch, if it gives the same code faster.

    Args:
        encoder: in the mode in which it would run.
        x: the batch.

    Returns:
        None where the last layers are of other kinds, or hooked; under autocast, `torch.compile`, an export,
        `torch.func` and forward-mode differentiation; on other devices than the CPU; and for few latents or
        rows, where dense products are faster.
    """
    return _encoder_of(encoder) if _is_worthwhile(encoder, x) else None


def find_decoder(encoder: LayerSequence, decoder: LayerSequence, x: Tensor) -> SparseDecoder | None:
    """The sparse computation of a decoder, for an encoder that keeps few latents; as for `find_encoder`.

    Args:
        encoder: of the same network.
        decoder: in the mode in which it would run.
        x: a tensor of as many rows as the batch, and its dtype and device.
    """
    found = _decoder_of(encoder, decoder) if _is_worthwhile(encoder, x) else None
    if found is None or _forced.get() is True or len(x) >= MIN_ROWS or _is_arranged(found):
        return found
    return None


def used_entries(encoder: LayerSequence, aux: Aux) -> Tensor | None:
    """A mask of the latents that are not zero or whose gradient is used, (batch, latents).

    None if they are too many, or if the encoder's last layer does not tell: it has no `used_entries(aux)`.
    """
    last = _last(encoder)
    if not _tells(last, "used_entries"):
        return None
    used: Tensor = cast(Any, last).used_entries(aux)
    return used if _is_sparse(used) else None


def _is_sparse(mask: Tensor) -> bool:
    return _forced.get() is True or int(mask.count_nonzero()) <= MAX_SHARE * mask.numel()


def _is_worthwhile(encoder: LayerSequence, x: Tensor) -> bool:
    forced, shape = _forced.get(), encoder.out_shape
    if forced is False or shape is None or len(shape) != 1 or len(encoder) < 2:
        return False
    if forced is None and (shape[0] < MIN_LATENTS or shape[0] * len(x) < MIN_VALUES):
        return False
    # On a GPU the dense products are faster.
    device = forced is True or x.device.type == "cpu"
    return device and x.dtype in (torch.float32, torch.float64) and _is_eager(x)


def _is_eager(x: Tensor) -> bool:
    """Whether a batch is a plain tensor that runs eagerly, without transforms and autocast."""
    functorch: Any = cast(Any, torch)._C._functorch
    modes: tuple[object, ...] = (
        torch.compiler.is_compiling(),
        cast(Any, torch).jit.is_tracing(),
        torch.is_autocast_enabled(x.device.type),
        functorch.peek_interpreter_stack() is not None,
        cast(Any, forward_ad)._current_level >= 0,
        overrides._get_current_function_mode_stack(),  # pyright: ignore[reportPrivateUsage]
        _python_dispatch._get_current_dispatch_mode_stack(),  # pyright: ignore[reportPrivateUsage]
    )
    return type(x) in (Tensor, nn.Parameter) and x.layout == torch.strided and not any(modes)


def _encoder_of(encoder: LayerSequence) -> SparseEncoder | None:
    if not _is_plain(encoder) or len(encoder) < 2:
        return None
    *before, last, keep = encoder
    steps = list(plain_steps(last).values())
    linear, activation = (*steps, None, None)[:2]
    if len(steps) > 2 or type(linear) is not nn.Linear or _lacks_weight(linear):
        return None
    if type(activation) not in (type(None), *ELEMENTWISE) or not _tells(keep, "pattern"):
        return None
    if is_hooked(keep) or any(declared(keep)) or not _keeps_few(keep, linear.out_features):
        return None
    return SparseEncoder(before, linear, activation, keep)


def _decoder_of(encoder: LayerSequence, decoder: LayerSequence) -> SparseDecoder | None:
    if not _is_plain(decoder) or len(decoder) == 0:
        return None
    keep = _last(encoder)
    tells = _tells(keep, "used_entries") and not is_hooked(keep)
    if not tells and _encoder_of(encoder) is None:
        return None
    first, *after = decoder
    linear, *steps = (*plain_steps(first).values(), None)
    if type(linear) not in (nn.Linear, UnitNormLinear) or _lacks_weight(cast(nn.Linear, linear)):
        return None
    return SparseDecoder(cast(nn.Linear, linear), [step for step in steps if step is not None], after)


def _tells(keep: nn.Module, method: str) -> bool:
    """Whether a layer has a method that belongs to its `forward`, and not to one that it overrides."""
    owners = [
        next((i for i, cls in enumerate(type(keep).__mro__) if name in vars(cls)), None)
        for name in (method, "forward")
    ]
    return owners[0] is not None and owners[1] is not None and owners[0] <= owners[1]


def _is_arranged(decoder: SparseDecoder) -> bool:
    return type(decoder.linear) is nn.Linear and decoder.linear.weight.t().is_contiguous()


def _last(encoder: LayerSequence) -> nn.Module:
    return encoder[len(encoder) - 1]


def _is_plain(sequence: LayerSequence) -> bool:
    names = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks",
             "_global_backward_pre_hooks")  # fmt: skip
    hooked = is_hooked(sequence) or any(getattr(global_hooks, name) for name in names)
    return type(sequence) is LayerSequence and not hooked


def _lacks_weight(linear: nn.Linear) -> bool:
    # A tied layer, or one of another parametrization, has no weight of its own.
    return "weight" not in dict(linear.named_parameters(recurse=False))


def _keeps_few(keep: nn.Module, latents: int) -> bool:
    if _forced.get() is True:
        return True
    declare: Callable[[], Any] | None = getattr(keep, "sparsity", None)
    kept = None if declare is None else declare()
    return kept is not None and kept.k <= MAX_SHARE * latents


@torch.no_grad()
def arrange_weights(encoder: LayerSequence, decoder: LayerSequence) -> None:
    """Stores the decoder's weight column by column, if sparse kernels would read its columns.

    Its values, shape and name stay the same; only its strides change. `restore_weights` undoes it.
    """
    shape = encoder.out_shape
    if shape is None or len(shape) != 1 or shape[0] < MIN_LATENTS or len(encoder) < 2:
        return
    found = _decoder_of(encoder, decoder)
    if found is not None and not found.linear.weight.is_meta:
        weight = found.linear.weight
        if not weight.t().is_contiguous():
            weight.data = weight.data.t().contiguous().t()


@torch.no_grad()
def restore_weights(decoder: LayerSequence) -> None:
    """Stores weights that `arrange_weights` has stored column by column as PyTorch does."""
    for parameter in decoder.parameters():
        if not parameter.is_contiguous():
            parameter.data = parameter.data.contiguous()
