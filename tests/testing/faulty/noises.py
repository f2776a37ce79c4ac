"""Noises with faults."""

import random
from typing import ClassVar, Literal

import torch
from pydantic import PrivateAttr
from torch import Generator, Tensor

import aezoo
from tests.testing.planting import good, plant


@good()
class JitterSpec(aezoo.NoiseSpec):
    kind: Literal["faulty.jitter"] = "faulty.jitter"

    def draw(self, x: Tensor, generator: Generator | None) -> Tensor:
        return 0.1 * torch.randn(x.shape, generator=generator, dtype=x.dtype)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return x + self.draw(x, generator)


@plant("noise/ignores-generator", "generator", also=("repeatable",))
class IgnoresGeneratorSpec(JitterSpec):
    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return x + self.draw(x, None)


@plant("noise/ignores-generator for Python's", "generator", also=("repeatable",))
class PythonStrengthSpec(JitterSpec):
    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return x + random.random() * self.draw(x, generator)


@plant("noise/reseeds-generator", "generator-advances", also=("generator",))
class ReseedsGeneratorSpec(JitterSpec):
    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return super().__call__(x, generator.manual_seed(3))


@plant("noise/reseeds-generator of its own", "generator")
class OwnGeneratorSpec(JitterSpec):
    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return super().__call__(x, Generator().manual_seed(3))


@plant("noise/in-place", "batch-intact")
class InPlaceSpec(JitterSpec):
    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return x.add_(self.draw(x, generator))


@plant("noise/other-shape", "same-shape")
class OtherShapeSpec(JitterSpec):
    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return super().__call__(x, generator).flatten(1)


@plant("noise/other-dtype", "same-shape")
class OtherDtypeSpec(JitterSpec):
    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return super().__call__(x, generator).float()


@plant("noise/not-finite", "finite")
class NotFiniteSpec(JitterSpec):
    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        return x / x.amax() + self.draw(x, generator)


@plant("noise/counts-calls", "repeatable")
class CountsCallsSpec(JitterSpec):
    _calls: int = PrivateAttr(default=0)

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        self._calls += 1
        return x + self._calls * self.draw(x, generator)


@plant("noise/counts-calls in the class", "repeatable", also=("generator",))
class CountsCallsInClassSpec(JitterSpec):
    calls: ClassVar[list[int]] = []

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        self.calls.append(1)
        return x + len(self.calls) * self.draw(x, generator)
