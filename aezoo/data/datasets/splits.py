"""Splits by share, and standardization by the training split, for datasets of the user's own files."""

from abc import abstractmethod
from dataclasses import replace
from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Generator, Tensor
from typing_extensions import override

from aezoo.data.samples import Samples
from aezoo.data.transforms import Scaler
from aezoo.errors import DataError, warn_diagnostic
from aezoo.specs.base import NonNegativeInt
from aezoo.specs.components import DatasetSpec, Split

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


class ShuffledSpec(DatasetSpec):
    """Base class of datasets with independent samples, whose splits are drawn at random.

    If a subclass has a field `scale` and it is `standard`, the inputs are standardized.
    """

    validation: ValidationShare = 0.1
    """Share of the samples in the validation split."""
    test: TestShare = 0.0
    """Share of the samples in the test split; 0 for no test split."""
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
        return f"a share of {self.validation:g}, drawn with seed {self.seed}"

    @override
    def load(self, split: Split) -> Samples:
        require_split(self, split)
        samples = self.read()
        rows = self.split_rows(samples)
        if getattr(self, "scale", "none") == "standard":
            samples = standardize(samples, rows["train"])
        return samples.select(rows[split])

    @override
    def load_for(self, split: Split, scaler: Scaler | None, columns: tuple[str, ...] = ()) -> Samples:
        require_split(self, split)
        samples = self.read().ordered_by(columns)
        return samples.select(self.split_rows(samples)[split]).scaled_for(scaler)

    def split_rows(self, samples: Samples) -> dict[Split, Tensor]:
        """The rows of each split."""
        order = torch.randperm(len(samples), generator=Generator().manual_seed(self.seed))
        slices = split_slices(len(samples), self.validation, self.test)
        return {split: order[part] for split, part in slices.items()}


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
