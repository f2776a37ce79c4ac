"""Tables: the numeric columns of a CSV or Parquet file, one sample a row. Needs pyarrow."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aezoo.data.datasets.files import existing
from aezoo.data.datasets.splits import ShuffledSpec, standardised
from aezoo.data.samples import Samples
from aezoo.errors import DataError, optional
from aezoo.plugins.registry import suggestion
from aezoo.specs.base import NonEmpty


class TableSpec(ShuffledSpec):
    """Rows of a CSV or Parquet file as vectors of their numbers.

    Text and missing values are refused by name rather than guessed at. What the columns were scaled by is
    saved with the weights, and `ae.transforms()` applies it.
    """

    kind: Literal["table"] = "table"
    path: str
    """A `.csv` with a header line, or a `.parquet`; relative to the folder in which Python runs."""
    columns: NonEmpty[str] | None = None
    """Numeric columns to take, in this order; by default all of them but `label`."""
    label: str | None = None
    """A column to keep aside as labels; text becomes the numbers of its words in sorted order."""
    scale: Literal["standard", "none"] = "standard"
    """`standard` brings each column to mean 0 and standard deviation 1 over the training split."""

    def read(self) -> Samples:
        """All rows."""
        path = existing(self.path)
        labels = None if self.label is None else _labels(path, self.label)
        values, names = read_columns(path, self.columns, self.label)
        return Samples(values, None, labels, columns=names)

    def _scaled(self, whole: Samples, train: Tensor) -> Samples:
        return whole if self.scale == "none" else standardised(whole, train)


def read_columns(
    path: Path, columns: tuple[str, ...] | None, label: str | None = None
) -> tuple[Tensor, tuple[str, ...]]:
    """The numbers of a table.

    Args:
        path: a `.csv` with a header line, or a `.parquet`.
        columns: which, in this order; None for all but `label`.
        label: left out where `columns` is None.

    Returns:
        float64 of (rows, columns), and the columns' names.

    Raises:
        DataError: a column that is not there, that holds something other than numbers, or in which values
            are missing.
    """
    table = _read(path)
    names = columns or tuple(name for name in table.column_names if name != label)
    if not names:
        raise DataError(f"{path} has no columns to train on")
    return torch.from_numpy(np.stack([_numbers(path, table, name) for name in names], axis=1)), names


def _read(path: Path) -> Any:
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise DataError(f"{path}: expected .csv or .parquet, found {path.suffix or 'no suffix'!r}")
    arrow = optional("pyarrow", "pyarrow", "table")
    try:
        if path.suffix.lower() == ".csv":
            table: Any = optional("pyarrow.csv", "pyarrow", "table").read_csv(path)
        else:
            table = optional("pyarrow.parquet", "pyarrow", "table").read_table(path)
        names: list[str] = list(table.column_names)
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path} has two columns called {twice!r}")
    if table.num_rows == 0:
        raise DataError(f"{path} has no rows")
    return table


def _column(path: Path, table: Any, name: str) -> Any:
    if name not in table.column_names:
        near = suggestion(name, table.column_names)
        raise DataError(f"{path} has no column {name!r}{near}; it has {', '.join(table.column_names)}")
    column = table.column(name).combine_chunks()
    if column.null_count:
        row = column.is_null().index(True).as_py()
        raise DataError(
            f"{path}: column {name!r} has {column.null_count} missing values, the first in row {row + 1}; "
            "fill them in or leave the rows out"
        )
    return column


def _numbers(path: Path, table: Any, name: str) -> NDArray[np.float64]:
    types = optional("pyarrow.types", "pyarrow", "table")
    column = _column(path, table, name)
    kind = column.type
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        held = "text" if types.is_string(kind) or types.is_large_string(kind) else str(kind)
        raise DataError(
            f"{path}: column {name!r} holds {held}, not numbers; name the numeric ones in `columns`"
        )
    values = np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
    with np.errstate(over="ignore"):
        bad = np.flatnonzero(~np.isfinite(values.astype(np.float32)))
    if bad.size:
        raise DataError(
            f"{path}: column {name!r} has {bad.size} values that are not finite, the first in row "
            f"{bad[0] + 1}"
        )
    return values


def _labels(path: Path, name: str) -> Tensor:
    types = optional("pyarrow.types", "pyarrow", "table")
    column = _column(path, _read(path), name)
    values = column.to_numpy(zero_copy_only=False)
    if types.is_integer(column.type) or types.is_floating(column.type):
        return torch.from_numpy(np.array(values))
    return torch.from_numpy(np.unique(values.astype(str), return_inverse=True)[1])
