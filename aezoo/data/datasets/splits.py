"""What datasets of one's own have in common: files of the user's, split by share."""

from abc import abstractmethod
from dataclasses import replace
from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Generator, Tensor

from aezoo.data.samples import Samples
from aezoo.data.transforms import Scaler
from aezoo.errors import DataError, warn_diagnostic
from aezoo.specs.base import NonNegativeInt
from aezoo.specs.components import DatasetSpec, Split

ValidationShare = Annotated[float, Field(gt=0, lt=1)]
TestShare = Annotated[float, Field(ge=0, lt=1)]


def split_sizes(n: int, validation: float, test: float) -> tuple[int, int, int]:
    """How many of n go to training, validation and test.

    Raises:
        DataError: nothing would be left to train on.
    """
    held, tested = max(1, round(validation * n)), max(1, round(test * n)) if test else 0
    if held + tested >= n:
        raise DataError(
            f"{n} samples are too few: {held} for validation and {tested} for the test leave none to train on"
        )
    return n - held - tested, held, tested


class ShuffledSpec(DatasetSpec):
    """A dataset whose samples are independent, so that any of them may be held out."""

    validation: ValidationShare = 0.1
    """Share of the samples that is held out to choose by."""
    test: TestShare = 0.0
    """Share of the samples that is held out to be measured once; 0 for no test split."""
    seed: NonNegativeInt = 0
    """Of the draw that says which sample belongs to which split."""

    @abstractmethod
    def read(self) -> Samples:
        """All samples, before they are split."""

    def has(self, split: Split) -> bool:
        """Whether there is such a split."""
        return split != "test" or self.test > 0

    def validation_note(self) -> str:
        """How the validation split comes about, in words."""
        return f"a share of {self.validation:g}, drawn with seed {self.seed}"

    def load(self, split: Split) -> Samples:
        """One split."""
        if not self.has(split):
            raise DataError(f"{self.kind_name} has no test split; give it a share with `test`")
        whole = self.read()
        n = len(whole)
        train, held, tested = split_sizes(n, self.validation, self.test)
        order = torch.randperm(n, generator=Generator().manual_seed(self.seed))
        bounds = {"train": (0, train), "validation": (train, train + held), "test": (n - tested, n)}
        parts = {name: order[start:end] for name, (start, end) in bounds.items()}
        return self._scaled(whole, parts["train"]).select(parts[split])

    def _scaled(self, whole: Samples, train: Tensor) -> Samples:
        return whole


def standardised(whole: Samples, train: Tensor) -> Samples:
    """Samples brought to mean 0 and standard deviation 1 by what their training rows say."""
    seen = whole.inputs[train].double()
    scaler = Scaler.fit(seen)
    advise_of_constants(seen, whole.columns)
    return replace(whole, inputs=scaler(whole.inputs.double()).float(), scaler=scaler)


def advise_of_constants(seen: Tensor, columns: tuple[str, ...] = (), what: str = "value") -> None:
    """Warns of values that are the same in every row, (n, *shape)."""
    still = cast(list[int], (seen == seen[0]).all(0).flatten().nonzero().flatten().tolist())
    if still:
        words = [f"column {columns[i]!r}" if columns else f"{what} {i}" for i in still]
        more = f" and {len(words) - 5} more" if len(words) > 5 else ""
        named = f"{', '.join(words[:5])}{more}"
        warn_diagnostic("constant-input", f"{named}: the same in every training sample; leave it out")
