"""Splits by share, and standardization by the training split, for datasets of the user's own files."""

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from aezoo.data.samples import BLOCK, Samples
from aezoo.data.transforms import Scaler
from aezoo.errors import DataError, warn_diagnostic
from aezoo.specs.base import NonNegativeInt
from aezoo.specs.components import DatasetSpec, Split

FEW_DIFFERENT = 20
"""Below this number of different samples, equal ones are divided between the splits."""

ValidationShare = Annotated[float, Field(gt=0, lt=1)]
TestShare = Annotated[float, Field(ge=0, lt=1)]


def split_slices(n: int, validation: float, test: float) -> dict[Split, slice]:
    """Divides `n` samples, in order, into training, validation and test split.

    Validation has at least one sample, and so has test unless its share is 0.

    Raises:
        DataError: no samples are left for training.
    """
    n_validation, n_test = max(1, round(validation * n)), max(1, round(test * n)) if test else 0
    n_train = n - n_validation - n_test
    if n_train <= 0:
        raise DataError(
            f"{n} samples are too few: {n_validation} for validation and {n_test} for the test leave none "
            "for training"
        )
    return {
        "train": slice(n_train),
        "validation": slice(n_train, n_train + n_validation),
        "test": slice(n_train + n_validation, n),
    }


def hash_splits(
    x: Tensor, validation: float, test: float, seed: int, few: int = FEW_DIFFERENT
) -> dict[Split, Tensor]:
    """Divides samples into splits by a hash of each one.

    A sample stays in its split when others are added, and equal samples come into the same split. Of less
    than `few` different samples, each occurrence is drawn by itself.

    Args:
        x: the samples, (n, *shape).
        validation: share of the validation split, which has at least one sample.
        test: share of the test split, which has at least one sample unless the share is 0.
        seed: part of every hash.
        few: number of different samples below which equal ones are divided between the splits.

    Returns:
        The rows of each split, in the order of their hashes.

    Raises:
        DataError: no samples are left for training, or fewer different ones than splits.
    """
    split_slices(len(x), validation, test)
    digests = _hash_rows(x, seed)
    if len(set(digests)) < few:
        digests = _numbered(digests)
    drawn = np.array([int.from_bytes(digest) >> 11 for digest in digests], np.float64) / 2**53
    groups, group_of_row = np.unique(drawn, return_inverse=True)
    if len(groups) < (splits := 3 if test else 2):
        raise DataError(f"{len(groups)} different samples are too few for {splits} splits")
    # How many groups of equal samples go to the test split, and to it and the validation split together.
    to_test = max(int((groups < test).sum()), 1) if test else 0
    to_both = max(int((groups < test + validation).sum()), to_test + 1)
    to_both = min(to_both, len(groups) - 1)
    to_test = min(to_test, to_both - 1)
    order = np.argsort(drawn, kind="stable")
    test_rows, validation_rows, train_rows = np.split(
        order, np.searchsorted(group_of_row[order], [to_test, to_both])
    )
    rows = {"train": train_rows, "validation": validation_rows, "test": test_rows}
    return {cast(Split, split): torch.from_numpy(indices) for split, indices in rows.items()}


def _hash_rows(x: Tensor, seed: int) -> list[bytes]:
    key, digests = str(seed).encode()[:64], list[bytes]()
    for part in cast(tuple[Tensor, ...], x.split(BLOCK)):
        rows = part.contiguous().cpu().reshape(len(part), -1).view(torch.uint8).numpy()
        digests += [hashlib.blake2b(row, digest_size=8, key=key).digest() for row in rows]
    return digests


def _numbered(digests: list[bytes]) -> list[bytes]:
    """Hashes each digest with the number of times that it occurred before, unless it is the first."""
    times = Counter[bytes]()
    found: list[bytes] = []
    for digest in digests:
        again = f"{digest.hex()} {times[digest]}".encode()
        found.append(hashlib.blake2b(again, digest_size=8).digest() if times[digest] else digest)
        times[digest] += 1
    return found


class ShuffledSpec(DatasetSpec):
    """Base class of datasets with independent samples, which are divided by a hash of each one.

    If a subclass has a field `scale` and it is `standard`, the inputs are standardized.
    """

    validation: ValidationShare = 0.1
    """Share of the samples in the validation split, approximately."""
    test: TestShare = 0.0
    """Share of the samples in the test split, approximately; 0 for no test split."""
    seed: NonNegativeInt = 0
    """Seed for drawing the splits."""

    @abstractmethod
    def read(self) -> Samples:
        """Reads all samples.

        Raises:
            DataError: the data are missing or invalid.
        """

    @override
    def has(self, split: Split) -> bool:
        return split != "test" or self.test > 0

    @override
    def validation_note(self) -> str:
        return f"a share of {self.validation:g}, by a hash of each sample with seed {self.seed}"

    @override
    def load(self, split: Split) -> Samples:
        return self.load_together([split])[0]

    def load_together(self, splits: Sequence[Split]) -> list[Samples]:
        """Loads several splits and reads the data once; see `load`."""
        for split in splits:
            require_split(self, split)
        samples, rows = self.read_splits()
        if getattr(self, "scale", "none") == "standard":
            samples = standardize(samples, rows["train"])
        return [samples.select(rows[split]) for split in splits]

    @override
    def load_for(self, split: Split, scaler: Scaler | None, columns: tuple[str, ...] = ()) -> Samples:
        require_split(self, split)
        samples = self.read().ordered_by(columns)
        return samples.select(self.split_rows(samples)[split]).scaled_for(scaler)

    def read_splits(self) -> tuple[Samples, dict[Split, Tensor]]:
        """Reads all samples, and the rows of each split."""
        samples = self.read()
        return samples, self.split_rows(samples)

    def split_rows(self, samples: Samples) -> dict[Split, Tensor]:
        """The rows of each split."""
        return hash_splits(samples.inputs, self.validation, self.test, self.seed)


def load_splits(dataset: DatasetSpec, splits: Sequence[Split]) -> list[Samples]:
    """Loads several splits of a dataset, whose data are read once if it does not have a `load` of its own.

    Raises:
        DataError: as for `DatasetSpec.load`.
    """
    if isinstance(dataset, ShuffledSpec) and type(dataset).load is ShuffledSpec.load:
        return dataset.load_together(splits)
    return [dataset.load(split) for split in splits]


def require_split(dataset: DatasetSpec, split: Split) -> None:
    """Checks that a split exists.

    Raises:
        DataError: it does not.
    """
    if not dataset.has(split):
        raise DataError(f"{dataset.kind_name} has no test split; set its share with `test`")


def standardize(samples: Samples, train: Tensor) -> Samples:
    """Standardizes the inputs by mean and standard deviation of the training rows."""
    training_inputs = samples.inputs[train].double()
    scaler = Scaler.fit(training_inputs)
    warn_constant_inputs(training_inputs, samples.columns)
    return replace(samples, inputs=scaler(samples.inputs.double()).float(), scaler=scaler)


def warn_constant_inputs(x: Tensor, columns: tuple[str, ...] = (), what: str = "value") -> None:
    """Warns about values that are the same in every row of `x`, (n, *shape)."""
    constant = cast(list[int], (x == x[0]).all(0).flatten().nonzero().flatten().tolist())
    if constant:
        names = [f"column {columns[i]!r}" if columns else f"{what} {i}" for i in constant]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        named = f"{', '.join(names[:5])}{more}"
        warn_diagnostic("constant-input", f"{named}: the same in every training sample; leave it out")
