"""Datasets with faults."""

import itertools
import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Generator, Tensor

import aezoo
from aezoo.errors import DataError
from aezoo.specs.components import Split
from tests.testing.planting import good, plant


@good()
@good(test=False)
class CloudSpec(aezoo.DatasetSpec):
    """Points in a cube, labelled."""

    kind: Literal["faulty.cloud"] = "faulty.cloud"
    test: bool = True

    def has(self, split: Split) -> bool:
        return self.test or split != "test"

    def draw(self, seed: int, count: int = 60) -> aezoo.Samples:
        inputs = torch.rand((count, 4), generator=Generator().manual_seed(seed))
        return aezoo.Samples(inputs, labels=torch.arange(count) % 7)

    def load(self, split: Split) -> aezoo.Samples:
        if not self.has(split):
            raise DataError(f"there is no {split} split")
        return self.draw(("train", "validation", "test").index(split))


@plant("dataset/leaks-test", "splits-disjoint")
class LeaksTestSpec(CloudSpec):
    def load(self, split: Split) -> aezoo.Samples:
        return super().load("test")[:30] if split == "validation" else super().load(split)


@plant("dataset/leaks-train", "splits-disjoint")
class LeaksTrainSpec(CloudSpec):
    def load(self, split: Split) -> aezoo.Samples:
        return super().load("train")[50:] if split == "validation" else super().load(split)


@plant("dataset/leaks-train after many samples", "splits-disjoint")
class LeaksTrainAfterManySpec(CloudSpec):
    def load(self, split: Split) -> aezoo.Samples:
        if split == "test":
            return super().load(split)
        many = self.draw(0, 6000)
        return many[5900:] if split == "validation" else many


SEEDS = itertools.count(10)


@plant("dataset/not-repeatable", "repeatable", also=("order", "random-state"))
class NotRepeatableSpec(CloudSpec):
    def load(self, split: Split) -> aezoo.Samples:
        return self.draw(next(SEEDS))


MISSING = (
    "alike",
    "label-values",
    "random-state",
    "order",
    "clock",
    "alike",
    "label-values",
    "random-state",
    "order",
    "clock",
    "repeatable",
    "splits-disjoint",
    "finite",
    "labels",
)


@plant("dataset/missing-split", "splits", also=MISSING, raises=True)
class MissingSplitSpec(CloudSpec):
    test: bool = False

    def has(self, split: Split) -> bool:
        return True

    def load(self, split: Split) -> aezoo.Samples:
        if split == "test":
            raise DataError("there is no test split")
        return super().load(split)


@plant("dataset/undocumented-error", "absent-split", raises=True, test=False)
class UndocumentedErrorSpec(CloudSpec):
    def load(self, split: Split) -> aezoo.Samples:
        return self.draw({"train": 0, "validation": 1}[split])


@plant("dataset/not-finite", "finite")
class NotFiniteSpec(CloudSpec):
    def load(self, split: Split) -> aezoo.Samples:
        samples = super().load(split)
        samples.inputs[55, 0] = math.nan
        return samples


@plant("dataset/not-finite after many samples", "finite")
class NotFiniteAfterManySpec(CloudSpec):
    def load(self, split: Split) -> aezoo.Samples:
        samples = self.draw(("train", "validation", "test").index(split), 6000)
        samples.inputs[-1, 0] = math.inf
        return samples


@plant("dataset/not-finite in the targets", "finite")
class NotFiniteTargetSpec(CloudSpec):
    def load(self, split: Split) -> aezoo.Samples:
        samples = super().load(split)
        return replace(samples, targets=samples.inputs / torch.arange(60).unsqueeze(1))


class _FirstLabels(aezoo.Samples):
    def select(self, index: Tensor) -> aezoo.Samples:
        assert self.labels is not None
        return aezoo.Samples(self.inputs[index], labels=self.labels[: len(index)])


@plant("dataset/misaligned-labels", "labels")
class MisalignedLabelsSpec(CloudSpec):
    def load(self, split: Split) -> aezoo.Samples:
        samples = super().load(split)
        return _FirstLabels(samples.inputs, labels=samples.labels)


class _FirstLabelsOfSlice(aezoo.Samples):
    def __getitem__(self, index: slice | Tensor) -> aezoo.Samples:
        assert self.labels is not None
        taken = self.inputs[index]
        return aezoo.Samples(taken, labels=self.labels[: len(taken)])


@plant("dataset/misaligned-labels in a slice", "labels")
class MisalignedSliceSpec(CloudSpec):
    def load(self, split: Split) -> aezoo.Samples:
        samples = super().load(split)
        return _FirstLabelsOfSlice(samples.inputs, labels=samples.labels)
