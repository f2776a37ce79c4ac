"""Corruptions of the input; the target stays clean (Vincent et al., ICML 2008, section 2.3)."""

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from aezoo.plugins.builtin import register_defined
from aezoo.plugins.hookspecs import Register, hookimpl
from aezoo.specs.base import PositiveFloat, Share
from aezoo.specs.components import NoiseSpec
from aezoo.specs.tensor import Interval, TensorSpec


class GaussianSpec(NoiseSpec):
    """Adds independent normal noise to every value."""

    kind: Literal["gaussian"] = "gaussian"
    std: PositiveFloat
    """Standard deviation, in units of the input."""
    clip: Interval | None = None
    """Range to which the result is clipped; None leaves it as it is."""

    def incompatibility(self, given: TensorSpec) -> str | None:
        """A range to clip to that lies outside the input's."""
        return None if self.clip is None else _outside(given, *self.clip)

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

    def incompatibility(self, given: TensorSpec) -> str | None:
        """A value outside the input's range."""
        return _outside(given, self.value)

    def __call__(
        self, x: Float[Tensor, "batch *shape"], generator: Generator
    ) -> Float[Tensor, "batch *shape"]:
        """The corrupted batch, (batch, *shape)."""
        flat = x.flatten(1)
        return flat.scatter(1, _some(flat, self.share, generator), self.value).view_as(x)


class SaltPepperSpec(NoiseSpec):
    """Sets an exact share of each sample's values, chosen at random, to one of two extremes.

    Vincent et al., JMLR 11 (2010), section 3.3.
    """

    kind: Literal["salt_pepper"] = "salt_pepper"
    share: Share
    """Share of a sample's values, rounded to whole values."""
    pepper: float = 0.0
    """The lower extreme, for half of them on average."""
    salt: float = 1.0
    """The upper extreme, for the others."""

    def incompatibility(self, given: TensorSpec) -> str | None:
        """An extreme outside the input's range."""
        return _outside(given, self.pepper, self.salt)

    def __call__(
        self, x: Float[Tensor, "batch *shape"], generator: Generator
    ) -> Float[Tensor, "batch *shape"]:
        """The corrupted batch, (batch, *shape)."""
        flat = x.flatten(1)
        chosen = _some(flat, self.share, generator)
        upper = _draw(flat, generator).gather(1, chosen) < 0.5
        extremes = torch.where(upper, self.salt, self.pepper).to(flat.dtype)
        return flat.scatter(1, chosen, extremes).view_as(x)


class GrayscaleSpec(NoiseSpec):
    """A colour image seen gray: every channel becomes the luma of ITU-R BT.601."""

    kind: Literal["grayscale"] = "grayscale"

    def incompatibility(self, given: TensorSpec) -> str | None:
        """Anything that is not a colour image."""
        if len(given.shape) == 3 and given.shape[0] == 3:
            return None
        return f"grayscale takes colour images of shape (3, height, width), not {given.shape}"

    def __call__(
        self, x: Float[Tensor, "batch 3 height width"], generator: Generator
    ) -> Float[Tensor, "batch 3 height width"]:
        """The gray batch, (batch, 3, height, width)."""
        luma = x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        return (x * luma).sum(1, keepdim=True).repeat(1, 3, 1, 1)


def _outside(given: TensorSpec, *values: float) -> str | None:
    for value in values:
        if given.range is not None and not given.range[0] <= value <= given.range[1]:
            return f"{value:g} lies outside the input's range {list(given.range)}"
    return None


def _some(
    flat: Float[Tensor, "batch values"], share: float, generator: Generator
) -> Int64[Tensor, "batch some"]:
    """Places of an exact share of each row's values."""
    count = round(share * flat.shape[1])
    return _draw(flat, generator).topk(count, dim=1, sorted=False).indices


def _draw(like: Tensor, generator: Generator, normal: bool = False) -> Tensor:
    """Random numbers of the shape of `like`, drawn where the generator lives."""
    draw = torch.randn if normal else torch.rand
    return draw(like.shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


@hookimpl
def register_noises(register: Register) -> None:
    """Registers the noises that this module defines."""
    register_defined(__name__, "noise", register)
