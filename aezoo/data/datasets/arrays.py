"""Arrays in files: independent samples, and time series cut into windows."""

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from aezoo.data.containers import check_exact
from aezoo.data.datasets.files import existing_file, named_array, read_arrays
from aezoo.data.datasets.splits import (
    ShuffledSpec,
    TestShare,
    ValidationShare,
    require_split,
    split_slices,
    warn_constant_inputs,
)
from aezoo.data.datasets.tables import Table
from aezoo.data.samples import Samples, check_columns, to_float32
from aezoo.data.transforms import Scaler, check_finite
from aezoo.errors import DataError
from aezoo.specs.base import Count
from aezoo.specs.components import DatasetSpec, Split


class ArraySpec(ShuffledSpec):
    """Samples of a `.npy`, `.npz` or `.safetensors` file.

    Inputs are (n, *shape), targets (n, *target shape) and labels (n,), with the dtypes of the file; inputs
    and targets must be finite. Splits are drawn by a hash of each sample. With `scale: standard` the inputs
    become float32, and the scaler is saved with the weights.
    """

    kind: Literal["array"] = "array"
    examples = ({"path": "vectors.npz", "key": "x", "scale": "standard"},)
    path: str
    """The file; relative to the current working directory."""
    key: str | None = None
    """Name of the inputs, required if the file contains several arrays."""
    target: str | None = None
    """Name of the targets; by default the inputs are the targets."""
    labels: str | None = None
    """Name of the labels; by default there are none."""
    scale: Literal["none", "standard"] = "none"
    """`standard` scales each input value to mean 0 and standard deviation 1 over the training split."""

    @override
    def read(self) -> Samples:
        if self.scale == "standard" and self.target is not None:
            raise DataError("`scale: standard` does not scale targets; leave out `target` or `scale`")
        path = existing_file(self.path)
        arrays = read_arrays(path, (self.key, self.target, self.labels))
        inputs = named_array(arrays, self.key, path)
        targets = None if self.target is None else named_array(arrays, self.target, path, "target")
        labels = None if self.labels is None else named_array(arrays, self.labels, path, "labels")
        for values in (inputs, targets):
            if values is not None:
                check_finite(values, path)
        if self.scale == "standard" and not inputs.is_floating_point():
            check_exact(inputs.numpy(), torch.float64, str(path))
        try:
            return Samples(inputs, targets, labels)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error


class WindowsSpec(DatasetSpec):
    """Overlapping windows of a time series, from an array or from columns of a table.

    Inputs are float32, (n, channels, length). The splits follow each other in time, training first, and no
    window crosses from one split into the next. With `scale: standard` the scaler is saved with the weights.
    """

    kind: Literal["windows"] = "windows"
    examples = ({"path": "sensors.csv", "length": 128, "stride": 32},)
    path: str
    """A `.npy`, `.npz` or `.safetensors` with (time,) or (time, channels), or a `.csv` or `.parquet` with one
    row per step; relative to the current working directory."""
    key: str | None = None
    """Name of the array, required if the file contains several."""
    columns: tuple[str, ...] | None = None
    """Columns of a table to use as channels; by default all."""
    header: bool | None = None
    """Whether the first line of a CSV has the names of the columns; as in `table`."""
    length: Count
    """Length of a window in steps."""
    stride: Count = 1
    """Steps between the starts of consecutive windows."""
    validation: ValidationShare = 0.1
    """Share of the steps in the validation split, after the training split."""
    test: TestShare = 0.0
    """Share of the steps in the test split, after the validation split; 0 for no test split."""
    scale: Literal["none", "standard"] = "standard"
    """`standard` scales each channel to mean 0 and standard deviation 1 over the training split."""

    @override
    def has(self, split: Split) -> bool:
        return split != "test" or self.test > 0

    @override
    def validation_note(self) -> str:
        return f"a share of {self.validation:g} of the time, after the training split"

    @override
    def load(self, split: Split) -> Samples:
        require_split(self, split)
        series, names = self._series(self.columns)
        scaler = None
        if self.scale == "standard":
            train = series[self._slice("train", len(series))]
            scaler = Scaler.fit(train)
            warn_constant_inputs(train, names, "channel")
        return self._windows(series, names, split, scaler)

    @override
    def load_for(self, split: Split, scaler: Scaler | None, columns: tuple[str, ...] = ()) -> Samples:
        require_split(self, split)
        series, names = self._series(self.columns)
        if columns and names and columns != names:
            check_columns(columns, names)
            series = series[:, [names.index(name) for name in columns]]
        if scaler is not None:
            scaler = Scaler(scaler.shift[:, 0], scaler.scale[:, 0])
        return self._windows(series, columns or names, split, scaler)

    def _slice(self, split: Split, steps: int) -> slice:
        return split_slices(steps, self.validation, self.test)[split]

    def _windows(
        self, series: Tensor, channels: tuple[str, ...], split: Split, scaler: Scaler | None
    ) -> Samples:
        """Cuts a split of a series, (time, channels), into windows; `scaler` is for one step."""
        part = series[self._slice(split, len(series))]
        if len(part) < self.length:
            raise DataError(
                f"{self.path}: a window of {self.length} steps is longer than the {split} split, which has "
                f"{len(part)} of {len(series)} steps"
            )
        if scaler is not None:
            part = scaler(part)
            shift, scale = (
                values[:, None].expand(-1, self.length).contiguous()
                for values in (scaler.shift, scaler.scale)
            )
            scaler = Scaler(shift, scale)
        # A view: overlapping windows share memory until a batch is read.
        windows = to_float32(part).unfold(0, self.length, self.stride)
        return Samples(windows, index=torch.arange(len(windows)), scaler=scaler, channels=channels)

    def _series(self, columns: tuple[str, ...] | None) -> tuple[Tensor, tuple[str, ...]]:
        """Reads the series as float64, (time, channels), and the names of the channels, if it has any."""
        path = existing_file(self.path)
        if path.suffix.lower() in (".csv", ".parquet"):
            exact = torch.float32 if self.scale == "none" else torch.float64
            return Table(path, self.header).numbers(columns, exact=exact)
        if columns is not None:
            raise DataError(f"{path} is not a table; leave `columns` out")
        series = named_array(read_arrays(path, (self.key,)), self.key, path)
        if series.ndim not in (1, 2):
            raise DataError(f"{path}: expected (time,) or (time, channels), found {tuple(series.shape)}")
        check_finite(series, path)
        if not series.is_floating_point():
            check_exact(series.numpy(), torch.float64, str(path))
        return series.double().reshape(len(series), -1), ()
