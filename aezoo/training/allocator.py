"""Memory of the CPU during training: freed memory is kept for the next step."""

import ctypes
import os
from functools import lru_cache

KEPT = 2**30
"""Bytes up to which a freed block is reused, and up to which free memory is kept at the end of the heap."""
RELEASED = 2**28
"""Free bytes above which they are returned to the system at the end of a training."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of `mallopt`, from malloc.h."""


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Tells glibc's allocator to keep freed memory; returns whether it does. Done once in a process.

    Otherwise it returns every large tensor to the system, and the next step pays for fresh pages. The setting
    stays, because glibc cannot go back to its default, a threshold that follows the program. It is left alone
    if the environment sets it.
    """
    tuned = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")
    if any(name in os.environ for name in tuned):
        return False
    try:
        libc = ctypes.CDLL(None)
        mallopt, _ = libc.mallopt, libc.gnu_get_libc_version
    except (OSError, TypeError, AttributeError):  # another system, or another C library
        return False
    # Older versions accept no more than 32 MiB as a threshold.
    raised = any(mallopt(M_MMAP_THRESHOLD, size) == 1 for size in (KEPT, 32 * 2**20))
    return raised and mallopt(M_TRIM_THRESHOLD, KEPT) == 1


class _Mallinfo2(ctypes.Structure):
    """`struct mallinfo2` of malloc.h."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
        "keepcost",
    ))  # fmt: skip


def release_freed_memory() -> None:
    """Returns the memory that `keep_freed_memory` has kept to the system, if it is more than `RELEASED`.

    Less is kept for the next training, which would pay for fresh pages again.
    """
    if not keep_freed_memory():
        return
    libc = ctypes.CDLL(None)
    try:
        mallinfo = libc.mallinfo2  # glibc 2.33
    except AttributeError:
        return
    mallinfo.restype = _Mallinfo2
    if mallinfo().fordblks > RELEASED:
        libc.malloc_trim(0)
