"""Tables: numeric columns of a CSV or Parquet file, one sample per row. Requires pyarrow."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from aezoo.data.containers import check_exact, check_row_index
from aezoo.data.datasets.files import check_memory, existing_file, one_line
from aezoo.data.datasets.splits import ShuffledSpec
from aezoo.data.samples import Samples
from aezoo.errors import DataError, optional
from aezoo.plugins.registry import suggestion
from aezoo.specs.base import NonEmpty

MAX_BLOCK = 2**30
"""Bytes of a CSV that are parsed at once."""


class TableSpec(ShuffledSpec):
    """Rows of a CSV or Parquet file as vectors of numbers.

    Inputs are (n, columns), floating point. Columns must contain finite numbers or booleans; text and
    missing values raise an error. Splits are drawn by a hash of each row. The names of the columns and the
    scaler are saved with the weights, so that `ae.transforms()` accepts rows in their original units.
    """

    kind: Literal["table"] = "table"
    examples = ({"path": "measurements.csv", "label": "species"},)
    path: str
    """A `.csv` with a header line, or a `.parquet`; relative to the current working directory."""
    columns: NonEmpty[str] | None = None
    """Numeric columns to use, in this order; by default all except `label` and the row index of a pandas
    data frame."""
    label: str | None = None
    """Column with the labels; text is numbered in sorted order."""
    header: bool | None = None
    """Whether the first line of a CSV has the names of the columns; without them, columns are called f0, f1
    and so on. By default it has, and a first line that looks like data is an error."""
    scale: Literal["standard", "none"] = "standard"
    """`standard` scales each column to mean 0 and standard deviation 1 over the training split."""

    @override
    def read(self) -> Samples:
        table = Table(existing_file(self.path), self.header)
        # First, so that a misspelled label is reported rather than the text in its column.
        labels = None if self.label is None else table.labels(self.label)
        exact = torch.float32 if self.scale == "none" else torch.float64
        values, names = table.numbers(self.columns, self.label, exact)
        return Samples(values, None, labels, columns=names)


class Table:
    """A CSV file, or a Parquet file.

    Args:
        path: the file.
        header: as in `TableSpec`.

    Raises:
        DataError: another or a damaged file, a file that needs more memory than there is, a first line that
            looks like data, duplicate column names, or no rows.
    """

    def __init__(self, path: Path, header: bool | None = None) -> None:
        suffix = path.suffix.lower()
        if suffix not in (".csv", ".parquet"):
            raise DataError(f"{path}: expected .csv or .parquet, found {path.suffix or 'no suffix'!r}")
        self.path = path
        arrow = optional("pyarrow", "pyarrow", "table")
        module = optional(f"pyarrow{suffix}", "pyarrow", "table")
        try:
            read = _read_csv(module, path, header) if suffix == ".csv" else _read_parquet(module, path)
            self._table: Any = read
            self.names: tuple[str, ...] = tuple(read.column_names)
        except MemoryError as error:
            raise DataError(f"{path} cannot be read: it announces more data than fit into memory") from error
        except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read: {one_line(error)}{_separator_hint(path)}") from error
        if suffix == ".csv" and header is None:
            check_header(self.names, path)
        duplicate = next((name for name, times in Counter(self.names).items() if times > 1), None)
        if duplicate is not None:
            raise DataError(f"{path} has two columns called {duplicate!r}")
        if self._table.num_rows == 0:
            raise DataError(f"{path} has no rows")
        self._positions = {name: position for position, name in enumerate(self.names)}
        self.index_names = _index_names(self._table.schema.metadata)

    def numbers(
        self,
        columns: tuple[str, ...] | None,
        label: str | None = None,
        exact: torch.dtype = torch.float64,
    ) -> tuple[Tensor, tuple[str, ...]]:
        """Reads numeric columns.

        Args:
            columns: names of the columns; None for all except `label` and a row index.
            label: a column to leave out if `columns` is None.
            exact: the floating-point dtype that has to hold the integers of the table.

        Returns:
            Values, float64, (rows, columns), and the names of the columns.

        Raises:
            DataError: no columns, or a column that is missing, named twice, not numeric, not complete, or
                probably a row index.
        """
        names = columns or self.data_columns(label)
        if not names:
            raise DataError(f"{self.path} has no columns to train on")
        if repeated := [name for name, times in Counter(names).items() if times > 1]:
            raise DataError(f"{self.path}: column {repeated[0]!r} is named twice in `columns`")
        values = np.empty((self._table.num_rows, len(names)))
        for position, name in enumerate(names):
            values[:, position] = self._numbers(name, exact)
        return torch.from_numpy(values), names

    def data_columns(self, label: str | None = None) -> tuple[str, ...]:
        """Names of all columns except the label and the row index that a Parquet file declares.

        Raises:
            DataError: another column that is probably a row index.
        """
        names = tuple(name for name in self.names if name != label and name not in self.index_names)
        check_row_index(names, str(self.path))
        return names

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
        if name not in self._positions:
            near = suggestion(name, self.names)
            raise DataError(f"{self.path} has no column {name!r}{near}; it has {shortened(self.names)}")
        column = self._table.column(self._positions[name]).combine_chunks()
        if column.null_count:
            row = column.is_null().index(True).as_py()
            raise DataError(
                f"{self.path}: column {name!r} has {column.null_count} missing values, the first in row "
                f"{row + 1}; fill them in or remove the rows"
            )
        return column

    def _numbers(self, name: str, exact: torch.dtype) -> NDArray[np.float64]:
        types = optional("pyarrow.types", "pyarrow", "table")
        column = self._column(name)
        kind = column.type
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
            found = "text" if types.is_string(kind) or types.is_large_string(kind) else str(kind)
            raise DataError(
                f"{self.path}: column {name!r} contains {found}, not numbers; name the numeric columns in "
                "`columns`"
            )
        numbers = column.to_numpy(zero_copy_only=False)
        if types.is_integer(kind):
            check_exact(numbers, exact, f"{self.path}: column {name!r}")
        values = np.asarray(numbers, dtype=np.float64)
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise DataError(
                f"{self.path}: column {name!r} has {bad.size} values that are not finite, the first in row "
                f"{bad[0] + 1}"
            )
        return values


def check_header(names: tuple[str, ...], path: Path) -> None:
    """Checks that the first line of a CSV has names, not the first row of a table without names.

    Raises:
        DataError: most names are numbers, other than 0, 1, 2 and so on, which pandas gives to columns.
    """
    numbers = [name for name in names if is_number(name)]
    by_position = numbers == [str(i) for i in range(len(numbers))] and len(numbers) > 1
    if 2 * len(numbers) > len([name for name in names if name]) and not by_position:
        raise DataError(
            f"{path}: the first line looks like data, not like names of columns ({shortened(names)}); set "
            "`header: false` if it is data, `header: true` if these are names"
        )


def is_number(text: str) -> bool:
    """Whether a text is a number, such as `-1.5e3` or `nan`."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def shortened(names: tuple[str, ...], most: int = 20) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _read_csv(module: Any, path: Path, header: bool | None) -> Any:
    # The type of a column is that of its values in the first block, and no row may be longer than a block.
    block_size = min(max(path.stat().st_size, 1), MAX_BLOCK)
    return module.read_csv(
        path,
        read_options=module.ReadOptions(autogenerate_column_names=header is False, block_size=block_size),
        parse_options=module.ParseOptions(newlines_in_values=True),
    )


def _read_parquet(module: Any, path: Path) -> Any:
    file = module.ParquetFile(path)
    # A compressed page of a few bytes may announce any number of equal rows.
    check_memory(8 * file.metadata.num_rows * file.metadata.num_columns)
    return module.read_table(path)


def _separator_hint(path: Path) -> str:
    with path.open("rb") as file:
        line = file.readline(65536)
    other = max((b";", b"\t", b"|"), key=line.count)
    if path.suffix.lower() == ".csv" and line.count(other) > line.count(b","):
        return f"; the columns seem to be separated by {other.decode()!r}, a comma is expected"
    return ""


def _index_names(metadata: dict[bytes, bytes] | None) -> set[str]:
    """Columns that pandas wrote as the row index of a data frame, and leaves out when it reads the file."""
    try:
        columns = json.loads((metadata or {}).get(b"pandas", b"{}"))["index_columns"]
        return {column for column in columns if isinstance(column, str)}
    except (ValueError, KeyError, TypeError, RecursionError):
        return set()
