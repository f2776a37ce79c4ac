"""Datasets made from scikit-learn without a download: photograph patches and the swiss roll."""

from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Generator, Tensor
from typing_extensions import override

from aezoo.data.datasets.splits import ShuffledSpec, TestShare, split_slices
from aezoo.data.samples import Samples
from aezoo.errors import optional
from aezoo.specs.base import Count, NonNegativeFloat, NonNegativeInt, WholeNumber
from aezoo.specs.components import DatasetSpec, Split

STRIPS: dict[Split, tuple[float, float]] = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}
"""Split -> start and end of its strip, as shares of a photograph's width; the splits share no pixel."""


class PhotoPatchesSpec(DatasetSpec):
    """Random square patches of scikit-learn's two photographs (`sklearn.datasets.load_sample_images`).

    The photographs are in colour, 427 x 640 pixels each. Training patches are cut from the left 80 % of the
    width, validation patches from the next 10 % and test patches from the last 10 %.

    Inputs are uint8, (n, channels, size, size); the label is the photograph, 0 or 1. Requires scikit-learn.
    """

    kind: Literal["photo_patches"] = "photo_patches"
    examples = ({"size": 16, "channels": 1},)
    size: Annotated[int, Field(ge=2, le=64)] = 16
    """Height and width in pixels."""
    channels: Annotated[Literal[1, 3], WholeNumber] = 3
    """3 for colour, 1 for gray."""
    count: Count = 50_000
    """Number of training patches; validation and test have a tenth of it each."""
    seed: NonNegativeInt = 0
    """Seed for the positions of the patches."""

    @override
    def validation_note(self) -> str:
        return "a strip of each photograph"

    @override
    def load(self, split: Split) -> Samples:
        sklearn = optional("sklearn.datasets", "scikit-learn", "sklearn")
        photos = [_channels_first(photo, self.channels) for photo in sklearn.load_sample_images().images]
        low, high = STRIPS[split]
        count = self.count if split == "train" else max(1, self.count // 10)
        # One random stream per split: `count` does not change which patches the other splits contain.
        rng = np.random.default_rng([self.seed, list(STRIPS).index(split)])
        labels = rng.integers(0, len(photos), count)
        patches = np.empty((count, self.channels, self.size, self.size), np.uint8)
        for label, photo in enumerate(photos):
            strip = photo[:, :, round(low * photo.shape[2]) : round(high * photo.shape[2])]
            windows = np.lib.stride_tricks.sliding_window_view(strip, (self.size, self.size), (1, 2))
            rows = np.flatnonzero(labels == label)
            top = rng.integers(0, windows.shape[1], len(rows))
            left = rng.integers(0, windows.shape[2], len(rows))
            patches[rows] = windows[:, top, left].swapaxes(0, 1)
        return Samples(torch.from_numpy(patches), None, torch.from_numpy(labels))


class SwissRollSpec(ShuffledSpec):
    """Points on a rolled-up plane in three dimensions (`sklearn.datasets.make_swiss_roll`).

    Marsland, Machine Learning: An Algorithmic Perspective (2009), chapter 10.

    Inputs are float32, (n, 3); the label is the angle along the roll in radians. Requires scikit-learn.
    """

    kind: Literal["swiss_roll"] = "swiss_roll"
    examples = ({"count": 5000, "noise": 0.1},)
    count: Count = 10_000
    """Number of points in all splits together."""
    noise: NonNegativeFloat = 0.0
    """Standard deviation of Gaussian noise on each coordinate, in units of the roll (about 20 wide)."""
    test: TestShare = 0.1
    """Share of the samples in the test split; 0 for no test split."""
    scale: Literal["standard", "none"] = "standard"
    """`standard` scales each coordinate to mean 0 and standard deviation 1 over the training split."""

    @override
    def validation_note(self) -> str:
        return f"a share of {self.validation:g}, drawn with seed {self.seed}"

    @override
    def split_rows(self, samples: Samples) -> dict[Split, Tensor]:
        # Published variants were trained on these splits. No point is ever added to them.
        order = torch.randperm(len(samples), generator=Generator().manual_seed(self.seed), device="cpu")
        slices = split_slices(len(samples), self.validation, self.test)
        return {split: order[part] for split, part in slices.items()}

    @override
    def read(self) -> Samples:
        sklearn = optional("sklearn.datasets", "scikit-learn", "sklearn")
        points, angle = sklearn.make_swiss_roll(self.count, noise=self.noise, random_state=self.seed)
        return Samples(torch.from_numpy(points).float(), None, torch.from_numpy(angle).float())


def _channels_first(photo: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Converts (height, width, 3) to (channels, height, width)."""
    if channels == 3:
        return np.moveaxis(photo, -1, 0)
    from PIL import Image

    return np.asarray(Image.fromarray(photo).convert("L"))[None]
