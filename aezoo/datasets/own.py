"""What datasets of one's own have in common: files of the user's, split by share."""

from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np
import safetensors
import safetensors.torch
import torch
from pydantic import Field
from torch import Generator, Tensor

from aezoo.errors import DataError, advise
from aezoo.families import NonNegativeInt
from aezoo.samples import Samples
from aezoo.specs import DatasetSpec, Split
from aezoo.transforms import Scaler, from_numpy

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

    def held_out(self) -> str:
        """How the validation split comes about, in words."""
        return f"a share of {self.validation:g}, drawn with seed {self.seed}"

    def load(self, split: Split) -> Samples:
        """One split."""
        if not self.has(split):
            raise DataError(f"{self.declared_kind} has no test split; give it a share with `test`")
        whole = self.read()
        n = len(whole)
        train, held, tested = split_sizes(n, self.validation, self.test)
        order = torch.randperm(n, generator=Generator().manual_seed(self.seed))
        bounds = {"train": (0, train), "validation": (train, train + held), "test": (n - tested, n)}
        parts = {name: order[start:end] for name, (start, end) in bounds.items()}
        return self._scaled(whole, parts["train"]).only(parts[split])

    def _scaled(self, whole: Samples, train: Tensor) -> Samples:
        return whole


def standardised(whole: Samples, train: Tensor) -> Samples:
    """Samples brought to mean 0 and standard deviation 1 by what their training rows say."""
    seen = whole.inputs[train].double()
    scaler = Scaler.fitted(seen)
    advise_of_constants(seen, whole.columns)
    return replace(whole, inputs=scaler(whole.inputs.double()).float(), scaler=scaler)


def advise_of_constants(seen: Tensor, columns: tuple[str, ...] = (), what: str = "value") -> None:
    """Warns of values that are the same in every row, (n, *shape)."""
    still = cast(list[int], (seen == seen[0]).all(0).flatten().nonzero().flatten().tolist())
    if still:
        words = [f"column {columns[i]!r}" if columns else f"{what} {i}" for i in still]
        more = f" and {len(words) - 5} more" if len(words) > 5 else ""
        named = f"{', '.join(words[:5])}{more}"
        advise("constant-input", f"{named}: the same in every training sample; leave it out")


def existing(path: str) -> Path:
    """A file that is there.

    Raises:
        DataError: it is not.
    """
    found = Path(path).expanduser()
    if not found.is_file():
        start = "" if found.is_absolute() else f"; relative paths start at {Path.cwd()}"
        raise DataError(f"there is no file {path}{start}")
    return found


def read_arrays(path: Path, keys: tuple[str | None, ...] = ()) -> dict[str, Tensor]:
    """The arrays of a `.npy`, `.npz` or `.safetensors` file by name; a `.npy` has one, called `array`.

    Nothing is unpickled. Of several in an `.npz`, those that `keys` leaves out are empty.

    Raises:
        DataError: another kind of file, a damaged one, or one that holds pickled objects.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            return safetensors.torch.load_file(path)
        if path.suffix.lower() in (".npy", ".npz"):
            # NumPy would leave a damaged archive open.
            with path.open("rb") as file:
                return _numpy_arrays(np.load(file, allow_pickle=False), path.suffix.lower(), keys)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (
        OSError, ValueError, KeyError, EOFError, BadZipFile, ZlibError, safetensors.SafetensorError
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read: {reason}") from error
    raise DataError(f"{path}: expected .npy, .npz or .safetensors, found {path.suffix or 'no suffix'!r}")


def _numpy_arrays(loaded: Any, suffix: str, keys: tuple[str | None, ...]) -> dict[str, Tensor]:
    if isinstance(loaded, np.ndarray) != (suffix == ".npy"):
        raise ValueError("it holds what the other of .npy and .npz should")
    if suffix == ".npy":
        return {"array": from_numpy(loaded)}
    names: list[str] = loaded.files
    wanted = names if len(names) == 1 else [name for name in names if name in keys]
    return {name: from_numpy(loaded[name]) if name in wanted else torch.empty(0) for name in names}


def named_array(arrays: dict[str, Tensor], key: str | None, path: Path, field: str = "key") -> Tensor:
    """One array of a file, which must be named where there are several.

    Raises:
        DataError: no such array, or several and no name.
    """
    if key is None and len(arrays) == 1:
        return next(iter(arrays.values()))
    names = ", ".join(sorted(arrays)) or "none"
    if key is None:
        raise DataError(f"{path} holds {len(arrays)} arrays ({names}); say which with `{field}`")
    if key not in arrays:
        raise DataError(f"{path} has no array {key!r} ({field}); it holds {names}")
    return arrays[key]


def refuse_nonfinite(x: Tensor, path: Path) -> None:
    """Refuses NaN and infinite values.

    Raises:
        DataError: naming the first place.
    """
    if x.is_floating_point() and not torch.isfinite(x).all():
        where = tuple(int(i) for i in (~torch.isfinite(x)).nonzero()[0])
        raise DataError(f"{path}: the value at index {where} is not finite")
