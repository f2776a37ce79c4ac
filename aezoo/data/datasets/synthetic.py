"""Data that come with scikit-learn, so that nothing need be downloaded."""

from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from aezoo.data.datasets.splits import ShuffledSpec, TestShare, standardised
from aezoo.data.samples import Samples
from aezoo.errors import optional
from aezoo.specs.base import Count, NonNegativeFloat, NonNegativeInt, WholeNumber
from aezoo.specs.components import DatasetSpec, Split

STRIPS: dict[Split, tuple[float, float]] = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}
"""Which part of each photograph's width a split is cut from, so that none of them share a pixel."""


class PhotoPatchesSpec(DatasetSpec):
    """Square patches of scikit-learn's two colour photographs, uint8: natural images at hand everywhere.

    A temple and a flower, 640 x 427 each (`sklearn.datasets.load_sample_images`). Training patches come
    from the left four fifths, the others from the tenths beside it.
    """

    kind: Literal["photo_patches"] = "photo_patches"
    size: Annotated[int, Field(ge=2, le=64)] = 16
    """Pixels on a side."""
    channels: Annotated[Literal[1, 3], WholeNumber] = 3
    """3 for colour, 1 for gray."""
    count: Count = 50_000
    """Training patches; validation and test have a tenth of it each."""
    seed: NonNegativeInt = 0
    """Of the places that are cut out."""

    def validation_note(self) -> str:
        """How the validation split comes about, in words."""
        return "a strip of each photograph"

    def load(self, split: Split) -> Samples:
        """One split; labels say which photograph, 0 or 1."""
        photos = [_as_bytes(photo, self.channels) for photo in _photographs()]
        low, high = STRIPS[split]
        count = self.count if split == "train" else max(1, self.count // 10)
        # A stream of its own for each split: more training patches do not move the others.
        draw = np.random.default_rng([self.seed, list(STRIPS).index(split)])
        labels = draw.integers(0, len(photos), count)
        patches = np.empty((count, self.channels, self.size, self.size), np.uint8)
        for label, photo in enumerate(photos):
            strip = photo[:, :, round(low * photo.shape[2]) : round(high * photo.shape[2])]
            windows = np.lib.stride_tricks.sliding_window_view(strip, (self.size, self.size), (1, 2))
            rows = np.flatnonzero(labels == label)
            top = draw.integers(0, windows.shape[1], len(rows))
            left = draw.integers(0, windows.shape[2], len(rows))
            patches[rows] = windows[:, top, left].swapaxes(0, 1)
        return Samples(torch.from_numpy(patches), None, torch.from_numpy(labels))


class SwissRollSpec(ShuffledSpec):
    """Points on a rolled-up sheet in space, labelled by where along the roll they lie.

    Marsland, Machine Learning: An Algorithmic Perspective (2009), chapter 10.
    """

    kind: Literal["swiss_roll"] = "swiss_roll"
    count: Count = 10_000
    """Points in all splits together."""
    noise: NonNegativeFloat = 0.0
    """Standard deviation of what is added to each coordinate, in units of the roll (about 20 across)."""
    test: TestShare = 0.1
    """Share of the points that is held out to be measured once."""
    scale: Literal["standard", "none"] = "standard"
    """`standard` brings each coordinate to mean 0 and standard deviation 1."""

    def read(self) -> Samples:
        """All points, (n, 3), with the angle along the roll in radians as label."""
        sklearn = optional("sklearn.datasets", "scikit-learn", "sklearn")
        points, angle = sklearn.make_swiss_roll(self.count, noise=self.noise, random_state=self.seed)
        return Samples(torch.from_numpy(points).float(), None, torch.from_numpy(angle).float())

    def _scaled(self, whole: Samples, train: Tensor) -> Samples:
        return whole if self.scale == "none" else standardised(whole, train)


def _photographs() -> list[NDArray[np.uint8]]:
    return list(optional("sklearn.datasets", "scikit-learn", "sklearn").load_sample_images().images)


def _as_bytes(photo: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    from PIL import Image

    image = Image.fromarray(photo)
    values = np.asarray(image.convert("L") if channels == 1 else image)
    return values[None] if channels == 1 else np.moveaxis(values, -1, 0)
