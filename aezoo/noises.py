"""Corruptions of the input; the target stays clean (Vincent et al., ICML 2008, section 2.3)."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from aezoo.families import PositiveFloat, Share
from aezoo.hookspecs import Register, hookimpl
from aezoo.specs import Interval, NoiseSpec


class GaussianSpec(NoiseSpec):
    """Adds independent normal noise to every value."""

    kind: Literal["gaussian"] = "gaussian"
    std: PositiveFloat
    """Standard deviation, in units of the input."""
    clip: Interval | None = None
    """Range to which the result is clipped; None leaves it as it is."""

    def __call__(
        self, x: Float[Tensor, "batch *shape"], generator: Generator
    ) -> Float[Tensor, "batch *shape"]:
        """The corrupted batch, (batch, *shape)."""
        noisy = x + self.std * _draw(x, generator, normal=True)
        return noisy if self.clip is None else noisy.clamp(*self.clip)


class MaskingSpec(NoiseSpec):
    """Sets an exact share of each sample's values, chosen at random, to a constant."""

    kind: Literal["masking"] = "masking"
    share: Share
    """Share of a sample's values, rounded to whole values."""
    value: float = 0.0
    """What they become."""

    def __call__(
        self, x: Float[Tensor, "batch *shape"], generator: Generator
    ) -> Float[Tensor, "batch *shape"]:
        """The corrupted batch, (batch, *shape)."""
        flat = x.flatten(1)
        count = round(self.share * flat.shape[1])
        chosen = _draw(flat, generator).topk(count, dim=1, sorted=False).indices
        return flat.scatter(1, chosen, self.value).view_as(x)


def _draw(like: Tensor, generator: Generator, normal: bool = False) -> Tensor:
    """Random numbers of the shape of `like`, drawn where the generator lives."""
    draw = torch.randn if normal else torch.rand
    return draw(like.shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


@hookimpl
def register_noises(register: Register) -> None:
    """Registers every built-in noise."""
    for spec in (GaussianSpec, MaskingSpec):
        register(spec)
