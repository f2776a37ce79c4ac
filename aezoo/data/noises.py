"""Corruptions of the input; the target stays clean (Vincent et al., ICML 2008, section 2.3).

A noise returns a new batch of the same shape and draws random numbers from the generator that it is given.
"""

from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor
from typing_extensions import override

from aezoo.plugins.builtin import register_defined
from aezoo.plugins.hookspecs import Register, hookimpl
from aezoo.specs.base import PositiveFloat, Share
from aezoo.specs.components import NoiseSpec
from aezoo.specs.tensor import Interval, TensorSpec

Inputs: TypeAlias = Float[Tensor, "batch *shape"]


class GaussianSpec(NoiseSpec):
    """Adds independent Gaussian noise to every value."""

    kind: Literal["gaussian"] = "gaussian"
    examples = ({"std": 0.3, "clip": [0.0, 1.0]},)
    std: PositiveFloat
    """Standard deviation, in units of the scaled input."""
    clip: Interval | None = None
    """Range to which the result is clipped, within the input's range; None for no clipping."""

    @override
    def incompatibility(self, given: TensorSpec) -> str | None:
        return None if self.clip is None else _outside(given, *self.clip)

    @override
    def __call__(self, x: Inputs, generator: Generator) -> Inputs:
        noisy = x + self.std * _draw(x, generator, normal=True)
        return noisy if self.clip is None else noisy.clamp(*self.clip)


class MaskingSpec(NoiseSpec):
    """Sets a fixed share of each sample's values, chosen at random, to a constant."""

    kind: Literal["masking"] = "masking"
    examples = ({"share": 0.25},)
    share: Share
    """Share of a sample's values, rounded to a whole number of values."""
    value: float = 0.0
    """The constant, within the input's range."""

    @override
    def incompatibility(self, given: TensorSpec) -> str | None:
        return _outside(given, self.value)

    @override
    def __call__(self, x: Inputs, generator: Generator) -> Inputs:
        flat = x.flatten(1)
        return flat.scatter(1, _random_positions(flat, self.share, generator), self.value).view_as(x)


class SaltPepperSpec(NoiseSpec):
    """Sets a fixed share of each sample's values, chosen at random, to one of two extremes.

    Vincent et al., JMLR 11 (2010), section 3.3.
    """

    kind: Literal["salt_pepper"] = "salt_pepper"
    examples = ({"share": 0.1},)
    share: Share
    """Share of a sample's values, rounded to a whole number of values."""
    pepper: float = 0.0
    """Lower extreme, within the input's range; each chosen value becomes it with probability 1/2."""
    salt: float = 1.0
    """Upper extreme, within the input's range."""

    @override
    def incompatibility(self, given: TensorSpec) -> str | None:
        return _outside(given, self.pepper, self.salt)

    @override
    def __call__(self, x: Inputs, generator: Generator) -> Inputs:
        flat = x.flatten(1)
        positions = _random_positions(flat, self.share, generator)
        is_salt = _draw(flat, generator).gather(1, positions) < 0.5
        extremes = torch.where(is_salt, self.salt, self.pepper).to(flat.dtype)
        return flat.scatter(1, positions, extremes).view_as(x)


class GrayscaleSpec(NoiseSpec):
    """Replaces every channel of an RGB image by the luma of ITU-R BT.601."""

    kind: Literal["grayscale"] = "grayscale"

    @override
    def incompatibility(self, given: TensorSpec) -> str | None:
        if len(given.shape) == 3 and given.shape[0] == 3:
            return None
        return f"grayscale takes colour images of shape (3, height, width), not {given.shape}"

    @override
    def __call__(
        self, x: Float[Tensor, "batch 3 height width"], generator: Generator
    ) -> Float[Tensor, "batch 3 height width"]:
        luma = x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        return (x * luma).sum(1, keepdim=True).repeat(1, 3, 1, 1)


def _outside(given: TensorSpec, *values: float) -> str | None:
    for value in values:
        if given.range is not None and not given.range[0] <= value <= given.range[1]:
            return f"{value:g} lies outside the input's range {list(given.range)}"
    return None


def _random_positions(
    flat: Float[Tensor, "batch values"], share: float, generator: Generator
) -> Int64[Tensor, "batch positions"]:
    """Draws the positions of a share of each row's values, without replacement."""
    count = round(share * flat.shape[1])
    return _draw(flat, generator).topk(count, dim=1, sorted=False).indices


def _draw(like: Tensor, generator: Generator, normal: bool = False) -> Tensor:
    """Draws uniform or normal numbers of the shape of `like` on the generator's device, and moves them."""
    draw = torch.randn if normal else torch.rand
    return draw(like.shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


@hookimpl
def register_noises(register: Register) -> None:
    """Registers the noises that this module defines."""
    register_defined(__name__, "noise", register)
