"""Contract checks of corruptions of the input."""

import copy
from typing import Any

import torch
from torch import Generator, Tensor

from aezoo.specs.components import NoiseSpec
from aezoo.specs.tensor import TensorSpec
from aezoo.testing.determinism import random_states, same, seeded, whose_moved
from aezoo.testing.report import Checks, Examination, Report
from aezoo.testing.specs import check_spec

ROWS = 6
SHAPES: tuple[tuple[int, ...], ...] = ((1, 8, 8), (3, 8, 8), (16,), (2, 16))


def check_noise(spec: NoiseSpec, *, shape: tuple[int, ...] | None = None) -> Report:
    """Checks a noise against the contract.

    Args:
        spec: the noise.
        shape: of one sample that it takes; by default the first of a few to which it has no incompatibility.

    Returns:
        What was checked.

    Raises:
        ContractError: something is not kept.
    """
    return ExaminedNoise(spec, shape).report().settled()


class ExaminedNoise(Examination):
    """One noise under examination."""

    CHECKS = {
        "incompatibility": "an incompatibility that is a reason or None",
        "same-shape": "the batch's own shape and precision",
        "finite": "finite values",
        "batch-intact": "the clean batch to be left as it was",
        "generator": "draws from the given generator alone",
        "generator-goes-on": "the generator to go on from where it is",
        "repeatable": "the same noise from the same generator",
    }  # fmt: skip
    FIRST = frozenset({"incompatibility"})

    def __init__(self, spec: NoiseSpec, shape: tuple[int, ...] | None) -> None:
        self.spec = spec
        self.shapes = SHAPES if shape is None else (shape,)
        self.shape = self.shapes[0]
        self.checks = Checks(f"noise {spec.kind_name}", type(spec).exempt)

    def report(self) -> Report:
        """Runs every check."""
        check_spec(self.checks, self.spec)
        return self.examine()

    def _x(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.rand((ROWS, *self.shape), generator=Generator().manual_seed(1), dtype=dtype)

    def _noisy(self, seed: int = 2, spec: NoiseSpec | None = None) -> Tensor:
        return (spec or copy.deepcopy(self.spec))(self._x(), Generator().manual_seed(seed))

    def _incompatibility(self) -> str | None:
        reasons: list[str] = []
        for bounds in ((0.0, 1.0), None):
            for shape in self.shapes:
                found: Any = self.spec.incompatibility(TensorSpec(shape=shape, range=bounds))
                if found is None:
                    self.shape = shape
                    return None
                if not isinstance(found, str):
                    return f"{found!r}"
                reasons.append(found)
        return f"no shape at hand goes with it ({reasons[0]}); give one with shape="

    def _same_shape(self) -> str | None:
        for dtype in (torch.float32, torch.float64):
            x = self._x(dtype)
            out = copy.deepcopy(self.spec)(x, Generator().manual_seed(2))
            if out.shape != x.shape or out.dtype != dtype:
                return f"{tuple(out.shape)} {out.dtype} for {tuple(x.shape)} {dtype}"
        return None

    def _finite(self) -> str | None:
        for x in (self._x(), torch.zeros_like(self._x()), torch.ones_like(self._x())):
            if not torch.isfinite(copy.deepcopy(self.spec)(x, Generator().manual_seed(2))).all():
                return "values that are not"
        return None

    def _batch_intact(self) -> str | None:
        x = self._x()
        kept = x.clone()
        out = copy.deepcopy(self.spec)(x, Generator().manual_seed(2))
        if not same(x, kept):
            return "it changed"
        out.add_(1)
        return None if same(x, kept) else "a result that shares its memory"

    def _generator(self) -> str | None:
        with seeded(3):
            before = random_states()
            first = self._noisy()
            if moved := whose_moved(before):
                return moved
        with seeded(4):
            second = self._noisy()
        if not same(first, second):
            return "other noise under another global seed"
        return self._own_seed() if same(first, self._noisy(seed=8)) else None

    def _own_seed(self) -> str | None:
        """What does not go by the generator must treat equal rows alike."""
        rows = self._x()[:1].expand(ROWS, *self.shape).clone()
        out = copy.deepcopy(self.spec)(rows, Generator().manual_seed(2))
        return None if same(out, out[:1].expand_as(out)) else "numbers drawn with a seed of its own"

    def _generator_goes_on(self) -> str | None:
        states: list[Tensor] = []
        for seed in (5, 6):
            generator = Generator().manual_seed(seed)
            copy.deepcopy(self.spec)(self._x(), generator)
            states.append(generator.get_state())
        return "its seed is set" if torch.equal(*states) else None

    def _repeatable(self) -> str | None:
        spec = copy.deepcopy(self.spec)
        first = self._noisy(spec=spec)
        self._noisy(seed=7, spec=spec)
        return None if same(first, self._noisy(spec=spec)) else "other noise once it has been called before"
