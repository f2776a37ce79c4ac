# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from typing import Any, Literal, cast

import numpy as np
import pytest
import torch
from PIL import Image

from aezoo.data.datasets.synthetic import PhotoPatchesSpec, SwissRollSpec
from aezoo.specs.components import Split
from tests.data.splits import inputs_of, labels_of


@pytest.mark.parametrize("channels", [1, 3])
def test_patches_are_cut_from_the_strip_of_their_split(channels: Literal[1, 3]) -> None:
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(photo) for photo in cast(Any, load_sample_images()).images]
    arrays = [np.atleast_3d(np.asarray(photo.convert("L" if channels == 1 else "RGB"))) for photo in photos]
    size = 8
    for split, start, end in (("train", 0, 512), ("validation", 512, 576), ("test", 576, 640)):
        patches = PhotoPatchesSpec(size=size, channels=channels, count=20).load(cast(Split, split))
        for patch, label in zip(patches.inputs.numpy(), labels_of(patches), strict=True):
            strip = arrays[int(label)][:, start:end].transpose(2, 0, 1)
            windows = np.lib.stride_tricks.sliding_window_view(strip, (size, size), (1, 2))
            # Only windows with the same upper left pixel are compared whole.
            places = np.argwhere((windows[:, :, :, 0, 0] == patch[:, None, None, 0, 0]).all(0))
            assert any(np.array_equal(windows[:, top, left], patch) for top, left in places)


@pytest.mark.parametrize("size", [2, 64])
def test_patches_have_the_requested_size_and_count(size: int) -> None:
    dataset = PhotoPatchesSpec(size=size, count=30)
    assert dataset.load("train").inputs.shape == (30, 3, size, size)
    assert dataset.load("train").inputs.dtype == torch.uint8
    for split in ("validation", "test"):
        assert dataset.load(split).inputs.shape == (3, 3, size, size)
    assert PhotoPatchesSpec(size=size, count=1).load("test").inputs.shape == (1, 3, size, size)


def test_patches_come_from_both_photographs_and_depend_on_the_seed() -> None:
    first, again, other = (PhotoPatchesSpec(size=8, count=100, seed=seed).load("train") for seed in (0, 0, 1))
    assert first.sha256() == again.sha256() != other.sha256()
    assert set(labels_of(first).tolist()) == {0, 1}


def test_number_of_training_patches_does_not_change_other_splits() -> None:
    # A tenth of 100 and of 109 is the same number of patches.
    few, many = (PhotoPatchesSpec(size=8, count=count).load("validation") for count in (100, 109))
    assert few.sha256() == many.sha256()


def test_swiss_roll_is_standardized_by_its_training_points() -> None:
    dataset = SwissRollSpec(count=200, validation=0.25)
    train = dataset.load("train")
    assert len(train) == 130
    x = inputs_of(train).double()
    torch.testing.assert_close(x.mean(0), torch.zeros(3).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(3).double(), atol=1e-5, rtol=0)
    assert inputs_of(dataset.load("validation")).mean(0).abs().max() > 1e-3


def test_swiss_roll_is_labelled_by_the_angle() -> None:
    roll = SwissRollSpec(count=100, scale="none").load("train")
    x, angle = inputs_of(roll), labels_of(roll)
    torch.testing.assert_close(x[:, 0], angle * angle.cos(), atol=1e-4, rtol=0)
    torch.testing.assert_close(x[:, 2], angle * angle.sin(), atol=1e-4, rtol=0)
    assert roll.scaler is None
    noisy = SwissRollSpec(count=100, scale="none", noise=0.5).load("train")
    assert not torch.allclose(inputs_of(noisy)[:, 0], labels_of(noisy) * labels_of(noisy).cos(), atol=0.1)
