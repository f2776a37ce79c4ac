"""Seeds, random states, local time and tensors that a check controls or compares."""

import hashlib
import itertools
import os
import random
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

_other_seeds = itertools.count()


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Seed PyTorch's global CPU random state inside the context; restore all random states afterwards.

    The random states of Python and NumPy get different seeds each time: a component must not depend on them.
    Python's cannot be compared like the others, because runtime type checkers draw from it.
    """
    python, numpy = random.getstate(), cast(Any, np.random.get_state())
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        random.seed(other := next(_other_seeds))
        np.random.seed(other)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def rng_states() -> tuple[str, str]:
    """Digests of the global random states of PyTorch and NumPy."""
    numpy: Any = np.random.get_state()
    numpy_digest = hashlib.sha256(numpy[1].tobytes() + str(numpy[2:]).encode()).hexdigest()
    return hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest(), numpy_digest


def changed_rng(before: tuple[str, str]) -> str | None:
    """The global random states that differ from `before`, in words; None if none does."""
    names = ("PyTorch's", "NumPy's")
    changed = [name for name, old, new in zip(names, before, rng_states(), strict=True) if old != new]
    return f"{' and '.join(changed)} global random state changed" if changed else None


@contextmanager
def half_a_day_away() -> Generator[None]:
    """Shift local time by twelve hours inside the context, by setting the process's time zone.

    No clock is replaced. UTC is not shifted, nor is anything on systems without `time.tzset` (Windows).
    """
    if not hasattr(time, "tzset"):
        yield
        return
    zone = os.environ.get("TZ")
    # TZ counts seconds west of UTC, `tm_gmtoff` east; both must stay within a day.
    east = time.localtime().tm_gmtoff
    west = -(east - 12 * 3600 if east > 0 else east + 12 * 3600)
    os.environ["TZ"] = f"AWAY{'-' if west < 0 else '+'}{abs(west) // 3600}:{abs(west) % 3600 // 60:02}"
    time.tzset()
    try:
        yield
    finally:
        if zone is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = zone
        time.tzset()


def copy_state(module: nn.Module) -> dict[str, Tensor]:
    """A detached copy of a module's state."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def changed_tensors(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that differ."""
    return [name for name, tensor in before.items() if not equal(tensor, after[name])]


def equal(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same shape, dtype and values; NaN equals NaN."""
    return (
        a.shape == b.shape and a.dtype == b.dtype and bool(torch.equal(a.nan_to_num(7.5), b.nan_to_num(7.5)))
    )
