"""Tables: numeric columns of a CSV or Parquet file, one sample per row. Requires pyarrow."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from aezoo.data.datasets.files import existing_file, one_line
from aezoo.data.datasets.splits import ShuffledSpec
from aezoo.data.samples import Samples
from aezoo.errors import DataError, optional
from aezoo.plugins.registry import suggestion
from aezoo.specs.base import NonEmpty


class TableSpec(ShuffledSpec):
    """Rows of a CSV or Parquet file as vectors of numbers.

    Inputs are (n, columns), floating point. Columns must contain finite numbers or booleans; text and
    missing values raise an error. Splits are drawn at random. The names of the columns and the scaler are
    saved with the weights, so that `ae.transforms()` accepts rows in their original units.
    """

    kind: Literal["table"] = "table"
    path: str
    """A `.csv` with a header line, or a `.parquet`; relative to the current working directory."""
    columns: NonEmpty[str] | None = None
    """Numeric columns to use, in this order; by default all except `label`."""
    label: str | None = None
    """Column with the labels; text is numbered in sorted order."""
    scale: Literal["standard", "none"] = "standard"
    """`standard` scales each column to mean 0 and standard deviation 1 over the training split."""

    @override
    def read(self) -> Samples:
        table = Table(existing_file(self.path))
        # First, so that a misspelled label is reported rather than the text in its column.
        labels = None if self.label is None else table.labels(self.label)
        values, names = table.numbers(self.columns, self.label)
        return Samples(values, None, labels, columns=names)


class Table:
    """A CSV file with a header line, or a Parquet file.

    Raises:
        DataError: another or a damaged file, duplicate column names, or no rows.
    """

    def __init__(self, path: Path) -> None:
        suffix = path.suffix.lower()
        if suffix not in (".csv", ".parquet"):
            raise DataError(f"{path}: expected .csv or .parquet, found {path.suffix or 'no suffix'!r}")
        arrow = optional("pyarrow", "pyarrow", "table")
        module = optional(f"pyarrow{suffix}", "pyarrow", "table")
        try:
            self._table: Any = module.read_csv(path) if suffix == ".csv" else module.read_table(path)
            self.names: tuple[str, ...] = tuple(self._table.column_names)
        except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read: {one_line(error)}") from error
        self.path = path
        duplicates = [name for name in self.names if self.names.count(name) > 1]
        if duplicates:
            raise DataError(f"{path} has two columns called {duplicates[0]!r}")
        if self._table.num_rows == 0:
            raise DataError(f"{path} has no rows")

    def numbers(
        self, columns: tuple[str, ...] | None, label: str | None = None
    ) -> tuple[Tensor, tuple[str, ...]]:
        """Reads numeric columns.

        Args:
            columns: names of the columns; None for all except `label`.
            label: a column to leave out if `columns` is None.

        Returns:
            Values, float64, (rows, columns), and the names of the columns.

        Raises:
            DataError: no columns, or a column that is missing, not numeric or not complete.
        """
        names = columns or tuple(name for name in self.names if name != label)
        if not names:
            raise DataError(f"{self.path} has no columns to train on")
        return torch.from_numpy(np.stack([self._numbers(name) for name in names], axis=1)), names

    def labels(self, name: str) -> Tensor:
        """Reads a column of labels, (rows,): numbers unchanged, anything else numbered in sorted order.

        Raises:
            DataError: a column that is missing or not complete.
        """
        types = optional("pyarrow.types", "pyarrow", "table")
        column = self._column(name)
        values = column.to_numpy(zero_copy_only=False)
        if types.is_integer(column.type) or types.is_floating(column.type):
            return torch.from_numpy(np.array(values))
        return torch.from_numpy(np.unique(values.astype(str), return_inverse=True)[1])

    def _column(self, name: str) -> Any:
        if name not in self.names:
            near = suggestion(name, self.names)
            raise DataError(f"{self.path} has no column {name!r}{near}; it has {', '.join(self.names)}")
        column = self._table.column(name).combine_chunks()
        if column.null_count:
            row = column.is_null().index(True).as_py()
            raise DataError(
                f"{self.path}: column {name!r} has {column.null_count} missing values, the first in row "
                f"{row + 1}; fill them in or remove the rows"
            )
        return column

    def _numbers(self, name: str) -> NDArray[np.float64]:
        types = optional("pyarrow.types", "pyarrow", "table")
        column = self._column(name)
        kind = column.type
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
            found = "text" if types.is_string(kind) or types.is_large_string(kind) else str(kind)
            raise DataError(
                f"{self.path}: column {name!r} contains {found}, not numbers; name the numeric columns in "
                "`columns`"
            )
        values = np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
        with np.errstate(over="ignore"):
            bad = np.flatnonzero(~np.isfinite(values.astype(np.float32)))
        if bad.size:
            raise DataError(
                f"{self.path}: column {name!r} has {bad.size} values that are not finite, the first in row "
                f"{bad[0] + 1}"
            )
        return values
