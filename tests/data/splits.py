"""Names of the splits, and their contents in order."""

import torch

from aezoo.data.samples import Samples
from aezoo.specs.components import Split

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def inputs_of(samples: Samples) -> torch.Tensor:
    """The unscaled inputs of a split in its order."""
    return samples.inputs if samples.index is None else samples.inputs[samples.index]


def labels_of(samples: Samples) -> torch.Tensor:
    """The labels of a split in its order."""
    assert samples.labels is not None
    return samples.labels if samples.index is None else samples.labels[samples.index]
