"""Contract checks of datasets."""

import hashlib
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor

from aezoo.data.samples import Samples
from aezoo.errors import DataError
from aezoo.evaluation.evaluate import SPLITS
from aezoo.specs.components import DatasetSpec, Split
from aezoo.testing.determinism import same
from aezoo.testing.report import Checks, Examination, Report
from aezoo.testing.specs import check_spec

BLOCK = 4096
"""Samples that are read at once."""
FEW = 50
"""Samples whose labels are looked at."""


def check_dataset(spec: DatasetSpec) -> Report:
    """Checks a dataset against the contract; its data must be at hand.

    Args:
        spec: the dataset.

    Returns:
        What was checked.

    Raises:
        ContractError: something is not kept.
    """
    return ExaminedDataset(spec).report().settled()


class ExaminedDataset(Examination):
    """One dataset under examination."""

    CHECKS = {
        "splits": "every split that has() names, as Samples, training and validation among them",
        "absent-split": "a DataError for a split that is not there",
        "loads-alike": "the same samples each time",
        "splits-disjoint": "no sample in two splits",
        "finite": "finite values",
        "labels": "labels that go with their samples",
        "held-out": "words for how validation comes about",
    }  # fmt: skip

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec = spec
        self.checks = Checks(f"dataset {spec.kind_name}", type(spec).exempt)

    def report(self) -> Report:
        """Runs every check."""
        check_spec(self.checks, self.spec)
        return self.examine()

    def _there(self) -> list[Split]:
        return [split for split in SPLITS if self.spec.has(split)]

    def _load(self, split: Split) -> Samples:
        return self.spec.load(split)

    def _splits(self) -> str | None:
        for split in ("train", "validation"):
            if not self.spec.has(split):
                return f"no {split} split"
        for split in self._there():
            found: Any = self.spec.load(split)
            if not isinstance(found, Samples):
                return f"{type(found).__name__} for {split}"
            if len(found) == 0:
                return f"no samples in {split}"
        return None

    def _absent_split(self) -> str | None:
        for split in SPLITS:
            if not self.spec.has(split):
                try:
                    self.spec.load(split)
                except DataError:
                    continue
                return f"samples for {split}"
        return None

    def _loads_alike(self) -> str | None:
        for split in self._there():
            if self._load(split).sha256() != self._load(split).sha256():
                return f"{split} differs when it is loaded again"
        return None

    def _splits_disjoint(self) -> str | None:
        rows = {split: _hashes(self._load(split)) for split in self._there()}
        for number, split in enumerate(rows):
            for other in list(rows)[number + 1 :]:
                if common := len(rows[split] & rows[other]):
                    return f"{common} samples of {split} in {other}"
        return None

    def _finite(self) -> str | None:
        for split in self._there():
            samples = self._load(split)
            for what, whole in (("values", samples.inputs), ("targets", samples.targets)):
                if whole is None or not whole.is_floating_point():
                    continue
                if not all(bool(torch.isfinite(part).all()) for part in _blocks(samples, whole)):
                    return f"{what} in {split} that are not"
        return None

    def _labels(self) -> str | None:
        for split in self._there():
            samples = self._load(split)
            if samples.labels is None:
                continue
            few = min(len(samples), FEW)
            backwards = torch.arange(few).flip(0)
            for where, part in (
                (backwards, samples.select(backwards)),
                (torch.arange(few // 2, few), samples[few // 2 : few]),
            ):
                for whole, taken in zip(_first(samples), _first(part), strict=True):
                    if not same(whole[where], taken):
                        return f"others in {split} when some are taken"
        return None

    def _held_out(self) -> str | None:
        found: Any = self.spec.validation_note()
        return None if isinstance(found, str) and found else f"{found!r}"


def _blocks(samples: Samples, whole: Tensor) -> Iterator[Tensor]:
    """The split's rows of a tensor that holds them, some at a time: it may be larger than memory."""
    for start in range(0, len(samples), BLOCK):
        block = slice(start, start + BLOCK)
        yield whole[block if samples.index is None else samples.index[block]]


def _first(samples: Samples) -> tuple[Tensor, Tensor]:
    """The first inputs and their labels."""
    inputs, labels = samples.inputs, cast(Tensor, samples.labels)
    return next(_blocks(samples, inputs))[:FEW], next(_blocks(samples, labels))[:FEW]


def _hashes(samples: Samples) -> set[bytes]:
    return {
        hashlib.sha256(row.contiguous().numpy().tobytes()).digest()
        for rows in _blocks(samples, samples.inputs)
        for row in rows
    }
