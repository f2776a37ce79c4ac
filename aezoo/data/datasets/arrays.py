"""Arrays in files: samples side by side, and series that are cut into windows."""

from typing import Literal

import torch
from torch import Tensor

from aezoo.data.datasets.files import existing, named_array, read_arrays, refuse_nonfinite
from aezoo.data.datasets.splits import (
    ShuffledSpec,
    TestShare,
    ValidationShare,
    advise_of_constants,
    split_sizes,
    standardised,
)
from aezoo.data.datasets.tables import read_columns
from aezoo.data.samples import Samples
from aezoo.data.transforms import Scaler
from aezoo.errors import DataError
from aezoo.specs.base import Count
from aezoo.specs.components import DatasetSpec, Split


class ArraySpec(ShuffledSpec):
    """Samples from a `.npy`, `.npz` or `.safetensors` file, the first axis counting them."""

    kind: Literal["array"] = "array"
    path: str
    """The file; relative to the folder in which Python runs."""
    key: str | None = None
    """Name of the inputs, (n, *shape), where the file holds several arrays."""
    target: str | None = None
    """Name of the targets, where they are not the inputs."""
    labels: str | None = None
    """Name of the labels, (n,)."""
    scale: Literal["none", "standard"] = "none"
    """`standard` brings each value to mean 0 and standard deviation 1 over the training split."""

    def read(self) -> Samples:
        """All samples."""
        path = existing(self.path)
        arrays = read_arrays(path, (self.key, self.target, self.labels))
        inputs = named_array(arrays, self.key, path)
        targets = None if self.target is None else named_array(arrays, self.target, path, "target")
        labels = None if self.labels is None else named_array(arrays, self.labels, path, "labels")
        for part in (inputs, targets):
            if part is not None:
                refuse_nonfinite(part, path)
        try:
            return Samples(inputs, targets, labels)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    def _scaled(self, whole: Samples, train: Tensor) -> Samples:
        if self.scale == "none":
            return whole
        if whole.targets is not None:
            raise DataError("scale: standard scales the inputs; targets of their own must come scaled")
        return standardised(whole, train)


class WindowsSpec(DatasetSpec):
    """Overlapping windows of a series, (channels, length) each, from an array or the columns of a table.

    The splits follow one another in time and no window reaches from one into the next, so that nothing
    that was trained on is measured.
    """

    kind: Literal["windows"] = "windows"
    path: str
    """`.npy`, `.npz` or `.safetensors` with (time,) or (time, channels); or `.csv` or `.parquet`."""
    key: str | None = None
    """Name of the array, where the file holds several."""
    columns: tuple[str, ...] | None = None
    """Columns of a table that are the channels; all of them by default."""
    length: Count
    """Steps in a window."""
    stride: Count = 1
    """Steps from one window's start to the next one's."""
    validation: ValidationShare = 0.1
    """Share of the time that is held out to choose by, behind the training's."""
    test: TestShare = 0.0
    """Share of the time at the end that is held out to be measured once; 0 for no test split."""
    scale: Literal["none", "standard"] = "standard"
    """`standard` brings each channel to mean 0 and standard deviation 1 over the training's time."""

    def has(self, split: Split) -> bool:
        """Whether there is such a split."""
        return split != "test" or self.test > 0

    def validation_note(self) -> str:
        """How the validation split comes about, in words."""
        return f"a share of {self.validation:g} of the time, behind the training's"

    def load(self, split: Split) -> Samples:
        """One split, (n, channels, length)."""
        if not self.has(split):
            raise DataError("windows has no test split; give it a share with `test`")
        series = self._series()
        train, held, tested = split_sizes(len(series), self.validation, self.test)
        start = {"train": 0, "validation": train, "test": train + held}[split]
        steps = {"train": train, "validation": held, "test": tested}[split]
        if steps < self.length:
            raise DataError(
                f"{self.path}: the {split} split has {steps} of {len(series)} steps, which hold no window of "
                f"{self.length}"
            )
        scaler = None
        if self.scale == "standard":
            per_step = Scaler.fit(series[:train])
            advise_of_constants(series[:train], self.columns or (), "channel")
            series = per_step(series)
            shape = (series.shape[1], self.length)
            scaler = Scaler(
                per_step.shift[:, None].expand(shape).contiguous(),
                per_step.scale[:, None].expand(shape).contiguous(),
            )
        # A view: every window shares its steps with its neighbours until a batch is taken.
        windows = series[start : start + steps].float().unfold(0, self.length, self.stride)
        return Samples(windows, index=torch.arange(len(windows)), scaler=scaler)

    def _series(self) -> Tensor:
        path = existing(self.path)
        if path.suffix.lower() in (".csv", ".parquet"):
            return read_columns(path, self.columns)[0]
        if self.columns is not None:
            raise DataError(f"{path} has no columns; leave `columns` out")
        series = named_array(read_arrays(path, (self.key,)), self.key, path)
        if series.ndim not in (1, 2):
            raise DataError(f"{path}: expected (time,) or (time, channels), found {tuple(series.shape)}")
        refuse_nonfinite(series, path)
        return series.double() if series.ndim == 2 else series.double()[:, None]
