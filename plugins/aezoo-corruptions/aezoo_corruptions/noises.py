"""Corruptions of batches of images, (batch, channels, height, width) in [0, 1]."""

import math
from abc import abstractmethod
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor

import aezoo

Images = Float[Tensor, "batch channels height width"]
Share = Annotated[float, Field(gt=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, le=1e6)]
Positive = Annotated[float, Field(gt=0, le=1e6)]


def draw(shape: tuple[int, ...], like: Tensor, generator: Generator, normal: bool = False) -> Tensor:
    """Random numbers, uniform in [0, 1) or standard normal, drawn where the generator lives."""
    make = torch.randn if normal else torch.rand
    return make(shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


class _ImageNoise(aezoo.NoiseSpec):
    """A noise of images in [0, 1]."""

    def incompatibility(self, given: aezoo.TensorSpec) -> str | None:
        """Anything but images in [0, 1]."""
        if len(given.shape) != 3:
            return f"{self.kind_name} takes images (channels, height, width), not {given.shape}"
        if given.range is not None and tuple(given.range) != (0, 1):
            return f"{self.kind_name} takes values in [0, 1], not in {list(given.range)}"
        return None

    @abstractmethod
    def __call__(self, x: Images, generator: Generator) -> Images:
        """The corrupted batch, of the same shape."""


class ShotSpec(_ImageNoise):
    """Shot noise: each value is counted in photons (arXiv:1903.12261, appendix B)."""

    kind: Literal["corruptions.shot"] = "corruptions.shot"
    photons: Positive = 5.0
    """Expected count for a value of 1; fewer are noisier."""

    def __call__(self, x: Images, generator: Generator) -> Images:
        """The corrupted batch, of the same shape."""
        # torch.poisson draws on the generator's own device.
        rate = (x.clamp(0, 1) * self.photons).to(generator.device)
        return (torch.poisson(rate, generator=generator).to(x) / self.photons).clamp(0, 1)


class ImpulseSpec(_ImageNoise):
    """Impulse noise: some values of each image become 0 or 1."""

    kind: Literal["corruptions.impulse"] = "corruptions.impulse"
    share: Share = 0.2
    """Of the values, on average."""

    def __call__(self, x: Images, generator: Generator) -> Images:
        """The corrupted batch, of the same shape."""
        drawn = draw(tuple(x.shape), x, generator)
        return torch.where(drawn < self.share / 2, 0.0, torch.where(drawn < self.share, 1.0, x)).to(x.dtype)


class BlurSpec(_ImageNoise):
    """Gaussian blur, of another width for each image."""

    kind: Literal["corruptions.blur"] = "corruptions.blur"
    sigma: Positive = 1.5
    """Largest standard deviation, in pixels; each image's is drawn between a third of it and it."""

    def __call__(self, x: Images, generator: Generator) -> Images:
        """The corrupted batch, of the same shape."""
        sigma = self.sigma * (1 + 2 * draw((len(x),), x, generator)) / 3
        reach = max(1, min(math.ceil(3 * self.sigma), max(x.shape[2:]) - 1))
        place = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
        kernels = torch.exp(-0.5 * (place / sigma[:, None]).square())
        kernels = kernels / kernels.sum(1, keepdim=True)
        rows, channels = x.shape[:2]
        # Each image is a group of its own.
        flat = x.reshape(1, rows * channels, *x.shape[2:])
        each = kernels.repeat_interleave(channels, 0)
        flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), mode="replicate"), each[:, None, :, None],
                        groups=rows * channels)  # fmt: skip
        flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), mode="replicate"), each[:, None, None, :],
                        groups=rows * channels)  # fmt: skip
        return flat.view_as(x).clamp(0, 1)


class OcclusionSpec(_ImageNoise):
    """A rectangle of each image becomes constant (DeVries and Taylor, arXiv:1708.04552)."""

    kind: Literal["corruptions.occlusion"] = "corruptions.occlusion"
    size: Share = 0.35
    """Side of the rectangle, as a share of the image's."""
    value: Annotated[float, Field(ge=0, le=1)] = 0.0
    """What its values become."""

    def __call__(self, x: Images, generator: Generator) -> Images:
        """The corrupted batch, of the same shape."""
        inside = []
        for axis, size in enumerate(x.shape[2:]):
            length = max(1, round(self.size * size))
            start = (draw((len(x),), x, generator) * (size - length + 1)).floor()
            place = torch.arange(size, device=x.device)
            within = (place >= start[:, None]) & (place < start[:, None] + length)
            inside.append(within[:, None, :, None] if axis == 0 else within[:, None, None, :])
        return torch.where(inside[0] & inside[1], self.value, x).to(x.dtype)


class BrightnessSpec(_ImageNoise):
    """Each image becomes brighter or darker, as a whole."""

    kind: Literal["corruptions.brightness"] = "corruptions.brightness"
    amount: Share = 0.4
    """Largest value that is added or taken away."""

    def __call__(self, x: Images, generator: Generator) -> Images:
        """The corrupted batch, of the same shape."""
        added = self.amount * (2 * draw((len(x), 1, 1, 1), x, generator) - 1)
        return (x + added).clamp(0, 1)


class AffineSpec(_ImageNoise):
    """Each image is shifted and rotated; what comes in from outside is 0."""

    kind: Literal["corruptions.affine"] = "corruptions.affine"
    shift: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Largest shift along each axis, as a share of the image's side."""
    degrees: Annotated[float, Field(ge=0, le=180)] = 15.0
    """Largest rotation either way."""

    def __call__(self, x: Images, generator: Generator) -> Images:
        """The corrupted batch, of the same shape."""
        drawn = 2 * draw((len(x), 3), x, generator) - 1
        angle = drawn[:, 0] * math.radians(self.degrees)
        cos, sin = angle.cos(), angle.sin()
        # An image's sides are 2 long in these coordinates, whatever its shape; angles need true lengths.
        ratio = x.shape[3] / x.shape[2]
        shift = 2 * self.shift * drawn[:, 1:]
        rows = torch.stack([cos, -sin / ratio, shift[:, 0], sin * ratio, cos, shift[:, 1]], 1)
        grid = F.affine_grid(rows.view(-1, 2, 3), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False).clamp(0, 1)


class StripesSpec(_ImageNoise):
    """Some rows or columns of each image are inverted (arXiv:1906.02337, section 3)."""

    kind: Literal["corruptions.stripes"] = "corruptions.stripes"
    share: Share = 0.25
    """Of the rows or columns, on average; which of the two is drawn for each image."""

    def __call__(self, x: Images, generator: Generator) -> Images:
        """The corrupted batch, of the same shape."""
        across = draw((len(x), 1, 1, 1), x, generator) < 0.5
        rows = draw((len(x), 1, x.shape[2], 1), x, generator) < self.share
        columns = draw((len(x), 1, 1, x.shape[3]), x, generator) < self.share
        return torch.where(torch.where(across, rows, columns), 1 - x, x)


class MixtureSpec(_ImageNoise):
    """Each image is corrupted by one of several noises, drawn for it."""

    kind: Literal["corruptions.mixture"] = "corruptions.mixture"
    of: Annotated[tuple[aezoo.NoiseSpec, ...], Field(max_length=100)] = (
        ShotSpec(), ImpulseSpec(), BlurSpec(), OcclusionSpec(), BrightnessSpec(), AffineSpec(), StripesSpec(),
    )  # fmt: skip
    """The noises; each is as likely as any other."""

    examples = ({}, {"of": ["corruptions.shot", "corruptions.blur"]})

    def incompatibility(self, given: aezoo.TensorSpec) -> str | None:
        """No noises at all, or what one of them objects to."""
        if not self.of:
            return "a mixture of no noises"
        return super().incompatibility(given) or next(
            (reason for noise in self.of if (reason := noise.incompatibility(given))), None
        )

    def __call__(self, x: Images, generator: Generator) -> Images:
        """The corrupted batch, of the same shape."""
        which = (draw((len(x),), x, generator) * len(self.of)).long().clamp(max=len(self.of) - 1)
        out = x.clone()
        for number, noise in enumerate(self.of):
            rows = torch.nonzero(which == number)[:, 0]
            if len(rows):
                out[rows] = noise(x[rows], generator)
        return out
