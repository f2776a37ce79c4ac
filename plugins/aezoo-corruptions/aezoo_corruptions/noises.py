"""Image corruptions: (batch, channels, height, width) -> the same shape, in [0, 1]."""

import math
from abc import abstractmethod
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor
from typing_extensions import override

import aezoo

Images = Float[Tensor, "batch channels height width"]
Share = Annotated[float, Field(gt=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, le=1e6)]
Positive = Annotated[float, Field(gt=0, le=1e6)]


def draw(shape: tuple[int, ...], like: Tensor, generator: Generator, normal: bool = False) -> Tensor:
    """Random numbers, uniform in [0, 1) or standard normal, drawn on the generator's device."""
    make = torch.randn if normal else torch.rand
    return make(shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


class _ImageNoise(aezoo.NoiseSpec):
    """A noise for images in [0, 1]."""

    @override
    def incompatibility(self, given: aezoo.TensorSpec) -> str | None:
        if len(given.shape) != 3:
            return f"{self.kind_name} takes images (channels, height, width), not {given.shape}"
        if given.range is not None and tuple(given.range) != (0, 1):
            return f"{self.kind_name} takes values in [0, 1], not in {list(given.range)}"
        return None

    @abstractmethod
    @override
    def __call__(self, x: Images, generator: Generator) -> Images:
        """The corrupted batch."""


class ShotSpec(_ImageNoise):
    """Shot noise: each value becomes a Poisson-distributed photon count (arXiv:1903.12261, appendix B)."""

    kind: Literal["corruptions.shot"] = "corruptions.shot"
    photons: Positive = 5.0
    """Expected photon count for a value of 1; fewer photons give more noise."""

    @override
    def __call__(self, x: Images, generator: Generator) -> Images:
        # torch.poisson draws on the generator's own device.
        rate = (x.clamp(0, 1) * self.photons).to(generator.device)
        return (torch.poisson(rate, generator=generator).to(x) / self.photons).clamp(0, 1)


class ImpulseSpec(_ImageNoise):
    """Impulse noise: random values of each image become 0 or 1."""

    kind: Literal["corruptions.impulse"] = "corruptions.impulse"
    share: Share = 0.2
    """Mean share of changed values; half become 0, half 1."""

    @override
    def __call__(self, x: Images, generator: Generator) -> Images:
        drawn = draw(tuple(x.shape), x, generator)
        return torch.where(drawn < self.share / 2, 0.0, torch.where(drawn < self.share, 1.0, x)).to(x.dtype)


class BlurSpec(_ImageNoise):
    """Gaussian blur with a random width for each image."""

    kind: Literal["corruptions.blur"] = "corruptions.blur"
    sigma: Positive = 1.5
    """Largest standard deviation, in pixels; that of an image is uniform between a third of it and it."""

    @override
    def __call__(self, x: Images, generator: Generator) -> Images:
        sigma = self.sigma * (1 + 2 * draw((len(x),), x, generator)) / 3
        radius = max(1, min(math.ceil(3 * self.sigma), max(x.shape[2:]) - 1))
        offset = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
        kernels = torch.exp(-0.5 * (offset / sigma[:, None]).square())
        kernels = kernels / kernels.sum(1, keepdim=True)
        rows, channels = x.shape[:2]
        # One convolution group per channel of each image.
        flat = x.reshape(1, rows * channels, *x.shape[2:])
        each = kernels.repeat_interleave(channels, 0)
        flat = F.conv2d(F.pad(flat, (0, 0, radius, radius), mode="replicate"), each[:, None, :, None],
                        groups=rows * channels)  # fmt: skip
        flat = F.conv2d(F.pad(flat, (radius, radius, 0, 0), mode="replicate"), each[:, None, None, :],
                        groups=rows * channels)  # fmt: skip
        return flat.view_as(x).clamp(0, 1)


class OcclusionSpec(_ImageNoise):
    """Occlusion: a random rectangle of each image becomes constant (DeVries and Taylor, arXiv:1708.04552)."""

    kind: Literal["corruptions.occlusion"] = "corruptions.occlusion"
    size: Share = 0.35
    """Side length of the rectangle, as a fraction of the image's."""
    value: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Value of the rectangle."""

    @override
    def __call__(self, x: Images, generator: Generator) -> Images:
        inside = []
        for axis, size in enumerate(x.shape[2:]):
            length = max(1, round(self.size * size))
            start = (draw((len(x),), x, generator) * (size - length + 1)).floor()
            index = torch.arange(size, device=x.device)
            within = (index >= start[:, None]) & (index < start[:, None] + length)
            inside.append(within[:, None, :, None] if axis == 0 else within[:, None, None, :])
        return torch.where(inside[0] & inside[1], self.value, x).to(x.dtype)


class BrightnessSpec(_ImageNoise):
    """Brightness: a random value is added to each image."""

    kind: Literal["corruptions.brightness"] = "corruptions.brightness"
    amount: Share = 0.4
    """Largest absolute value that is added."""

    @override
    def __call__(self, x: Images, generator: Generator) -> Images:
        added = self.amount * (2 * draw((len(x), 1, 1, 1), x, generator) - 1)
        return (x + added).clamp(0, 1)


class AffineSpec(_ImageNoise):
    """Random shift and rotation of each image; pixels from outside are 0."""

    kind: Literal["corruptions.affine"] = "corruptions.affine"
    shift: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Largest shift along each axis, as a fraction of the image's side."""
    degrees: Annotated[float, Field(ge=0, le=180)] = 15.0
    """Largest rotation in either direction, in degrees."""

    @override
    def __call__(self, x: Images, generator: Generator) -> Images:
        drawn = 2 * draw((len(x), 3), x, generator) - 1
        angle = drawn[:, 0] * math.radians(self.degrees)
        cos, sin = angle.cos(), angle.sin()
        # Both sides have length 2 in the coordinates of the grid; rotations need the true ratio.
        ratio = x.shape[3] / x.shape[2]
        shift = 2 * self.shift * drawn[:, 1:]
        rows = torch.stack([cos, -sin / ratio, shift[:, 0], sin * ratio, cos, shift[:, 1]], 1)
        grid = F.affine_grid(rows.view(-1, 2, 3), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False).clamp(0, 1)


class StripesSpec(_ImageNoise):
    """Stripes: random rows or random columns of each image are inverted (arXiv:1906.02337, section 3)."""

    kind: Literal["corruptions.stripes"] = "corruptions.stripes"
    share: Share = 0.25
    """Mean share of inverted rows or columns; each image has either, with equal probability."""

    @override
    def __call__(self, x: Images, generator: Generator) -> Images:
        across = draw((len(x), 1, 1, 1), x, generator) < 0.5
        rows = draw((len(x), 1, x.shape[2], 1), x, generator) < self.share
        columns = draw((len(x), 1, 1, x.shape[3]), x, generator) < self.share
        return torch.where(torch.where(across, rows, columns), 1 - x, x)


class MixtureSpec(_ImageNoise):
    """Corrupts each image by one of several noises, chosen at random."""

    kind: Literal["corruptions.mixture"] = "corruptions.mixture"
    of: Annotated[tuple[aezoo.NoiseSpec, ...], Field(max_length=100)] = (
        ShotSpec(), ImpulseSpec(), BlurSpec(), OcclusionSpec(), BrightnessSpec(), AffineSpec(), StripesSpec(),
    )  # fmt: skip
    """The noises, chosen with equal probability."""

    examples = ({}, {"of": ["corruptions.shot", "corruptions.blur"]})

    @override
    def incompatibility(self, given: aezoo.TensorSpec) -> str | None:
        if not self.of:
            return "corruptions.mixture needs at least one noise"
        return super().incompatibility(given) or next(
            (reason for noise in self.of if (reason := noise.incompatibility(given))), None
        )

    @override
    def __call__(self, x: Images, generator: Generator) -> Images:
        which = (draw((len(x),), x, generator) * len(self.of)).long().clamp(max=len(self.of) - 1)
        out = x.clone()
        for number, noise in enumerate(self.of):
            rows = torch.nonzero(which == number)[:, 0]
            if len(rows):
                out[rows] = noise(x[rows], generator)
        return out
