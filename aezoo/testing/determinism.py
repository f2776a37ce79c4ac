"""Random states, clocks and tensors that a check compares before and after."""

import datetime
import hashlib
import itertools
import random
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

_turns = itertools.count()
SHIFT = 84 * 3600.0
"""Seconds between two times: half a day, so that morning is afternoon, and half a week."""


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Within, PyTorch's global random state is at a seed; afterwards it is what it was, and so are others.

    Python's is another one each time: nothing that matters may be drawn from it. That it moves says little,
    as libraries that check types draw from it.
    """
    python, numpy = random.getstate(), cast(Any, np.random.get_state())
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        random.seed(next(_turns))
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def random_states() -> tuple[str, ...]:
    """The global random states of PyTorch and NumPy, to be compared."""
    numpy: Any = np.random.get_state()
    digest = hashlib.sha256(numpy[1].tobytes() + str(numpy[2:]).encode()).hexdigest()
    torch_digest = hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()
    return torch_digest, digest


def whose_moved(before: tuple[str, ...]) -> str | None:
    """Which global random states have changed since, in words."""
    names = ("PyTorch's", "NumPy's")
    now = random_states()
    moved = [name for name, was, is_ in zip(names, before, now, strict=True) if was != is_]
    return f"{' and '.join(moved)} global random state moved" if moved else None


class _Later(datetime.datetime):
    """The time of day as it will be."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "_Later":
        return super().now(tz) + datetime.timedelta(seconds=SHIFT)

    @classmethod
    def utcnow(cls) -> "_Later":
        # Not the inherited one, which warns that it is deprecated.
        now = super().now(datetime.UTC) + datetime.timedelta(seconds=SHIFT)
        return now.replace(tzinfo=None)


@contextmanager
def at_another_time(*modules: str) -> Generator[None]:
    """Within, clocks show another time, also where modules hold them under names of their own."""
    now, now_ns, local, utc = time.time, time.time_ns, time.localtime, time.gmtime

    def later_local(seconds: float | None = None) -> time.struct_time:
        return local(now() + SHIFT if seconds is None else seconds)

    def later_utc(seconds: float | None = None) -> time.struct_time:
        return utc(now() + SHIFT if seconds is None else seconds)

    later: dict[int, object] = {
        id(now): lambda: now() + SHIFT,
        id(now_ns): lambda: now_ns() + int(SHIFT) * 10**9,
        id(local): later_local,
        id(utc): later_utc,
        id(datetime.datetime): _Later,
    }
    kept = [
        (module, name, value)
        for module in (time, datetime, *(sys.modules[name] for name in modules))
        for name, value in vars(module).items()
        if id(value) in later
    ]
    for module, name, value in kept:
        setattr(module, name, later[id(value)])
    try:
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """A copy of a module's state."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors that differ."""
    return [name for name, tensor in before.items() if not same(tensor, after[name])]


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal, NaN included."""
    return (
        a.shape == b.shape and a.dtype == b.dtype and bool(torch.equal(a.nan_to_num(7.5), b.nan_to_num(7.5)))
    )
