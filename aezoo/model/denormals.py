"""Denormal numbers: computing with them rounded to zero, and removing them from weights.

A number smaller than the smallest normal one, 1.2e-38 in float32, takes some CPUs many times as long as any
other. Networks hold such numbers where weights decay to zero, and optimizers make them of gradients that do.
"""

import ctypes
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

TINY = 1e-310
"""A denormal number in double precision."""


@contextmanager
def flush_denormals(enabled: bool = True) -> Generator[None]:
    """Context manager that rounds denormal numbers to zero, in this thread and in PyTorch's thread pool.

    Each thread's setting is restored at the end. It has no effect on CPUs that cannot round them, and in the
    threads of a pool that is not OpenMP's.

    Args:
        enabled: False changes nothing.
    """
    if not enabled:
        yield
        return
    before: dict[int, bool] = {}
    # Those that are switched on are switched off, also if fewer threads are set in between.
    threads = torch.get_num_threads()

    def switch_on() -> None:
        before[threading.get_ident()] = flushes_denormals()
        torch.set_flush_denormal(True)

    def restore() -> None:
        torch.set_flush_denormal(before.get(threading.get_ident(), False))

    in_each_thread(switch_on, threads)
    try:
        yield
    finally:
        in_each_thread(restore, threads)


def flushes_denormals() -> bool:
    """Whether this thread rounds denormal numbers to zero."""
    # A product that no compiler computes in advance.
    return float(TINY) * threading.get_ident() == 0.0


def in_each_thread(call: Callable[[], None], threads: int) -> None:
    """Calls a function without arguments in this thread and in the others of PyTorch's pool of `threads`."""
    parallel = _gomp_parallel()
    if parallel is None:
        call()
        return

    def run(_: object) -> None:
        call()

    parallel(ctypes.CFUNCTYPE(None, ctypes.c_void_p)(run), None, threads, 0)


@lru_cache(maxsize=1)
def _gomp_parallel() -> Any:
    """The function of GNU's OpenMP that runs another in each thread of its pool; None without it."""
    try:
        found: Any = ctypes.CDLL(None).GOMP_parallel
    except (OSError, TypeError, AttributeError):  # Windows, macOS, or another OpenMP
        return None
    found.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    found.restype = None
    return found


BITS = {
    torch.float32: (torch.int32, 0x7F800000, 0x007FFFFF),
    torch.bfloat16: (torch.int16, 0x7F80, 0x007F),
    torch.float64: (torch.int64, 0x7FF0000000000000, 0x000FFFFFFFFFFFFF),
}
"""Integer of the same size, and masks of the exponent and the mantissa. Denormal numbers of float16 are left
out: they are computed with in float32, where they are not denormal."""


def is_denormal(x: Tensor) -> Tensor:
    """Which values of a tensor are denormal, bool, of the same shape; none in float16 and integers."""
    if x.dtype not in BITS:
        return torch.zeros_like(x, dtype=torch.bool)
    # A comparison with zero would itself round denormal numbers to zero inside `flush_denormals`.
    integer, exponent, mantissa = BITS[x.dtype]
    bits = x.detach().contiguous().view(integer)
    return ((bits & exponent) == 0) & ((bits & mantissa) != 0)


def without_denormals(x: Tensor) -> Tensor:
    """A tensor with its denormal values set to zero; itself if it has none."""
    found = is_denormal(x)
    return x.masked_fill(found, 0.0) if found.any() else x
