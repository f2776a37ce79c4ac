"""Inputs of a trained autoencoder, in chunks: images, arrays, tables, datasets and data in memory.

Every file is read as a training on it would read it. At most a few chunks are in memory at once; a `.csv` of
which windows are cut, and data that are in memory already, are the exceptions.
"""

import os
import re
import zipfile
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from torch import Tensor

from aezoo.data.containers import check_exact, check_row_index, is_table
from aezoo.data.datasets.arrays import WindowsSpec
from aezoo.data.datasets.files import existing_file, named_array, one_line, read_arrays
from aezoo.data.datasets.images import image_paths
from aezoo.data.datasets.tables import Table, check_header
from aezoo.data.inputs import as_samples
from aezoo.data.samples import Samples
from aezoo.data.transforms import Transforms
from aezoo.errors import DataError, RegistryError, optional
from aezoo.evaluation.evaluate import SPLITS, load_for
from aezoo.model.autoencoder import Autoencoder
from aezoo.plugins.registry import registry
from aezoo.specs.components import DatasetSpec
from aezoo.text import printable

BATCH_SIZE = 256
"""Samples in a chunk. Results do not depend on how a source is divided among processes, since chunks begin at
multiples of this number."""
ARRAYS = (".npy", ".npz", ".safetensors")
TABLES = (".csv", ".parquet")
SPLIT = re.compile(r"(?P<kind>[a-z0-9_.]+):(?P<split>\w+)")
"""A split of a dataset, such as `mnist:test`."""
AHEAD = 4
"""Chunks of images that are decoded ahead."""


class Chunk(NamedTuple):
    """Consecutive samples.

    Attributes:
        ids: names of images relative to their folder, or numbers of rows that begin at 0.
        x: (n, *input shape), as the network takes it, on the CPU; n may be 0.
        skipped: names of images that cannot be read -> the reason.
    """

    ids: Sequence[str] | Sequence[int]
    x: Tensor
    skipped: dict[str, str]


@dataclass
class Source:
    """Inputs of an autoencoder.

    Attributes:
        text: what it is, for messages and records.
        chunks: a function that returns the chunks, beginning with the first.
        size: number of samples, corrupt images included; None if it is not known before the end.
        item_bytes: size of one sample as it is given, uncompressed.
        named: whether the samples have names rather than numbers.
        paths: the image files, if any.
        read: number of a chunk's first sample -> the chunk, where any can be read at once; else None.
    """

    text: str
    chunks: Callable[[], Iterator[Chunk]]
    size: int | None
    item_bytes: float
    named: bool = False
    paths: list[Path] = field(default_factory=list[Path])
    read: Callable[[int], Chunk] | None = None


def open_source(
    ae: Autoencoder,
    data: object,
    *,
    key: str | None = None,
    skip_corrupt: bool = False,
    batch_size: int = BATCH_SIZE,
) -> Source:
    """Opens inputs for an autoencoder.

    Args:
        ae: the autoencoder, whose shape, scaling and columns the inputs must have.
        data: a folder of images; an image file, or several; a `.npy`, `.npz` or `.safetensors` file, (n,
            *input shape); a `.csv` or `.parquet` file with a row per sample; a split of a dataset, such as
            `mnist:test`; or anything that `aezoo.train` accepts as data. An autoencoder of windows also takes
            a series in a file, (time, channels), which is cut as its training data were.
        key: name of the array in a file that has several.
        skip_corrupt: whether to leave out images that cannot be read, and list them, rather than raise.
        batch_size: samples in a chunk.

    Raises:
        DataError: there are no such data, or they do not fit the autoencoder.
    """
    if batch_size < 1:
        raise DataError(f"batch_size must be at least 1, found {batch_size}")
    transforms = ae.transforms()
    if is_split(data):
        return _samples(ae, str(data), split_samples(ae, str(data)), batch_size)
    if isinstance(data, str | os.PathLike):
        path = Path(cast("str | os.PathLike[str]", data)).expanduser()
        if path.is_dir():
            paths = image_paths(path)
            names = [file.relative_to(path).as_posix() for file in paths]
            return _images(transforms, str(path), paths, names, skip_corrupt, batch_size)
        file = existing_file(str(path))
        suffix = file.suffix.lower()
        if suffix in (*ARRAYS, *TABLES) and (series := _series(ae, file, key)) is not None:
            return _in_memory(transforms, str(file), series, batch_size)
        if suffix in TABLES:
            return _table(ae, file, batch_size)
        if suffix in ARRAYS:
            return _array_file(transforms, file, key, batch_size)
        return _images(transforms, str(file), [file], [file.name], skip_corrupt, batch_size)
    given: Any = data
    if isinstance(data, list | tuple) and data:
        items = cast(Sequence[Any], data)
        if all(isinstance(item, str | os.PathLike) for item in items):
            paths = [existing_file(os.fspath(cast("str | os.PathLike[str]", item))) for item in items]
            names = _unique_names(paths)
            return _images(transforms, f"{len(paths)} files", paths, names, skip_corrupt, batch_size)
    # A Samples has columns, too.
    if isinstance(data, Samples) or not (isinstance(data, Tensor | np.ndarray) or is_table(given)):
        samples = as_samples(given).scaled_for(ae.scaler, ae.columns).validated_for(ae.spec)
        return _samples(ae, f"{len(samples)} samples", samples, batch_size)
    return _in_memory(transforms, str(type(given).__name__), given, batch_size)


def is_split(data: object) -> bool:
    """Whether data names a split, such as `mnist:test`, and not a file."""
    return isinstance(data, str) and SPLIT.fullmatch(data) is not None and not os.path.lexists(data)


def _unique_names(paths: list[Path]) -> list[str]:
    """Names of files: without folders, unless two would then be equal."""
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    common = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    names = [path.absolute().relative_to(common).as_posix() for path in paths]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{repeated} is given twice")
    return names


# -- images -------------------------------------------------------------------------------------------


class _ImageReader(NamedTuple):
    """Reads chunks of images; can be sent to another process."""

    transforms: Transforms
    paths: list[Path]
    names: list[str]
    skip: bool
    batch_size: int

    def __call__(self, start: int) -> Chunk:
        ids: list[str] = []
        parts: list[Tensor] = []
        skipped: dict[str, str] = {}
        for index in range(start, min(start + self.batch_size, len(self.paths))):
            try:
                parts.append(_image(self.transforms, self.paths[index]))
                ids.append(self.names[index])
            except DataError as error:
                if not self.skip:
                    raise DataError(f"{error}; skip_corrupt=True (--skip-corrupt) leaves it out") from error
                skipped[self.names[index]] = str(error)
        x = torch.cat(parts) if parts else torch.empty(0, *self.transforms.spec.shape)
        return Chunk(ids, x, skipped)


def _images(
    transforms: Transforms, text: str, paths: list[Path], names: list[str], skip: bool, batch_size: int
) -> Source:
    read = _ImageReader(transforms, paths, names, skip, batch_size)

    def chunks() -> Iterator[Chunk]:
        starts = range(0, len(paths), batch_size)
        with ThreadPoolExecutor() as pool:
            pending = [pool.submit(read, start) for start in starts[:AHEAD]]
            try:
                for number in range(len(starts)):
                    chunk = pending.pop(0).result()
                    if number + AHEAD < len(starts):
                        pending.append(pool.submit(read, starts[number + AHEAD]))
                    yield chunk
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    values = float(np.prod(transforms.spec.shape))
    return Source(text, chunks, len(paths), values, True, paths, read)


def _image(transforms: Transforms, path: Path) -> Tensor:
    try:
        return transforms(path)
    except DataError as error:
        # Errors of decoding name the file already.
        text, named = str(error), printable(path)
        raise error if named in text else DataError(f"{path}: {text}") from error


# -- arrays -------------------------------------------------------------------------------------------


def _in_memory(transforms: Transforms, text: str, data: Any, batch_size: int) -> Source:
    if is_table(data):
        x = transforms(data)
        return _rows(transforms, text, x, len(x), _item_bytes(x), batch_size, whole=x)
    array = _with_batch_axis(data, transforms)
    return _rows(transforms, text, array, len(array), _item_bytes(array), batch_size)


def _item_bytes(array: Any) -> float:
    itemsize = array.element_size() if isinstance(array, Tensor) else array.dtype.itemsize
    return float(np.prod(tuple(array.shape)[1:])) * itemsize


def _rows(
    transforms: Transforms,
    text: str,
    array: Any,
    size: int,
    item_bytes: float,
    batch_size: int,
    whole: Tensor | None = None,
) -> Source:
    """A source of the slices of an array."""
    if size == 0:
        raise DataError(f"{text} has no samples")

    def chunks() -> Iterator[Chunk]:
        for start in range(0, size, batch_size):
            stop = min(start + batch_size, size)
            with _errors_at(text, start):
                x = transforms(array[start:stop]).cpu() if whole is None else whole[start:stop]
            yield Chunk(range(start, stop), x, {})

    return Source(text, chunks, size, item_bytes)


@contextmanager
def _errors_at(text: str, start: int) -> Generator[None]:
    try:
        yield
    except DataError as error:
        where = f" from row {start} on" if start else ""
        raise DataError(f"{text}{where}: {error}") from error


def _with_batch_axis(array: Any, transforms: Transforms) -> Any:
    """An array of samples; one sample alone gets a batch axis."""
    shape, found = transforms.spec.shape, tuple(array.shape)
    single: list[tuple[int, ...]] = [shape]
    if len(shape) == 3:
        single += [(*shape[1:], shape[0])] + ([shape[1:]] if shape[0] == 1 else [])
    return array[None] if found in single else array


def _array_file(transforms: Transforms, path: Path, key: str | None, batch_size: int) -> Source:
    """A source that reads an array in slices."""
    opened: Any = None
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            opened = np.load(path, mmap_mode="r", allow_pickle=False)
        elif suffix == ".npz":
            opened = _Member.open(path, key)
        else:
            opened = _Slices.open(path, key)
    except Exception as error:  # damaged files raise exceptions of many libraries
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read: {one_line(error)}") from error
    if opened is None:
        opened = named_array(read_arrays(path, (key,)), key, path)
    if len(opened.shape) == 0:
        raise DataError(f"{path}: expected samples of shape {list(transforms.spec.shape)}, found a number")
    array = opened if isinstance(opened, _Member | _Slices) else _with_batch_axis(opened, transforms)
    item = float(np.prod(tuple(array.shape)[1:])) * array.dtype.itemsize
    return _rows(transforms, str(path), array, array.shape[0], item, batch_size)


class _Slices:
    """Rows of a tensor of a `.safetensors` file, read when they are sliced."""

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.path, self.name, self.shape, self.dtype = path, name, shape, dtype

    @classmethod
    def open(cls, path: Path, key: str | None) -> "_Slices":
        with _safe_open(path) as file:
            name = _only(file.keys(), key, path)
            part: Any = file.get_slice(name)
            shape: tuple[int, ...] = tuple(part.get_shape())
            dtype: torch.dtype = part[:0].dtype if shape else torch.float32
        return cls(path, name, shape, dtype)

    def __getitem__(self, rows: slice) -> Tensor:
        with _safe_open(self.path) as file:
            return file.get_slice(self.name)[rows]


def _safe_open(path: Path) -> Any:
    return cast(Any, safetensors).safe_open(path, framework="pt")


class _Member:
    """Rows of an array of a `.npz` file, read in order."""

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path, self.name, self.shape, self.dtype = path, name, shape, dtype
        self._file: BinaryIO | None = None
        self._next = 0

    @classmethod
    def open(cls, path: Path, key: str | None) -> "_Member | None":
        """The array; None if it cannot be read in order, as one of Fortran's order."""
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            name = _only(names, key, path)
            with archive.open(f"{name}.npy") as file:
                shape, fortran, dtype = _header(file)
        return None if fortran or dtype.hasobject or not shape else cls(path, name, shape, dtype)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        if self._file is None or rows.start != self._next:
            # Closed with this object: the rows are read by many calls.
            self._file = cast(BinaryIO, zipfile.ZipFile(self.path).open(f"{self.name}.npy"))  # noqa: SIM115
            _header(self._file)
            self._next = 0
        count = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        while self._next < rows.start:
            self._next += len(self._file.read(count)) // count
        raw = self._file.read(count * (rows.stop - rows.start))
        if len(raw) != count * (rows.stop - rows.start):
            raise DataError(f"{self.path}: {self.name} ends before its last row")
        self._next = rows.stop
        return np.frombuffer(raw, self.dtype).reshape(-1, *self.shape[1:])


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return cast(Any, read(file))


def _only(names: Sequence[str], key: str | None, path: Path) -> str:
    """The name of the array to read.

    Raises:
        DataError: there is none of this name, or several and no name is given.
    """
    if key is None and len(names) == 1:
        return names[0]
    if key in names:
        return cast(str, key)
    # The same words as for a dataset.
    named_array({name: torch.empty(0) for name in names}, key, path)
    raise DataError(f"{path} has no array {key!r}")


# -- tables -------------------------------------------------------------------------------------------


def _table(ae: Autoencoder, path: Path, batch_size: int) -> Source:
    reader = _TableReader(path, ae.columns, getattr(_recipe_dataset(ae), "header", None))
    transforms = ae.transforms()
    width = len(reader.columns)
    if (width,) != ae.spec.input.shape:
        raise DataError(f"{path} has {width} columns of data, the network takes {list(ae.spec.input.shape)}")
    exact = torch.float32 if ae.scaler is None else torch.float64

    def chunks() -> Iterator[Chunk]:
        start = 0
        for values in reader.batches(batch_size, exact):
            with _errors_at(str(path), start):
                x = transforms(values)
            yield Chunk(range(start, start + len(x)), x, {})
            start += len(x)
        if start == 0:
            raise DataError(f"{path} has no rows")

    return Source(str(path), chunks, reader.size, 8.0 * width)


class _TableReader:
    """Reads numeric columns of a CSV or Parquet file in batches of rows.

    Args:
        path: the file.
        columns: names of the columns; empty for all but a row index.
        header: whether the first line of a CSV has the names; None if it must.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], header: bool | None) -> None:
        self.path, self.header = path, header
        self.size: int | None = None
        arrow = optional("pyarrow", "pyarrow", "table")
        self._errors = (arrow.ArrowException, OSError, UnicodeDecodeError)
        self._module = optional(f"pyarrow{path.suffix.lower()}", "pyarrow", "table")
        with self._arrow_errors():
            if path.suffix.lower() == ".csv":
                with self._open_csv(None) as stream:
                    names = tuple(stream.schema.names)
            else:
                file = self._module.ParquetFile(path)
                names, self.size = tuple(file.schema_arrow.names), file.metadata.num_rows
        if path.suffix.lower() == ".csv" and header is None:
            check_header(names, path)
        if not columns:
            check_row_index(names, str(path))
        self.columns = columns or names
        for name in self.columns:
            if names.count(name) != 1:
                problem = "no column" if name not in names else "two columns called"
                raise DataError(f"{path} has {problem} {name!r}; the network needs {', '.join(self.columns)}")

    def batches(self, size: int, exact: torch.dtype) -> Iterator[NDArray[np.float64]]:
        """Yields (size, columns); the last batch may be smaller."""
        rest = np.empty((0, len(self.columns)))
        row = 0
        with self._arrow_errors():
            for batch in self._record_batches(size):
                values = np.empty((batch.num_rows, len(self.columns)))
                for position, name in enumerate(self.columns):
                    values[:, position] = _numbers(batch.column(name), name, row, self.path, exact)
                row += batch.num_rows
                rest = np.concatenate([rest, values])
                while len(rest) >= size:
                    yield rest[:size]
                    rest = rest[size:]
        if len(rest):
            yield rest

    def _record_batches(self, size: int) -> Iterator[Any]:
        if self.path.suffix.lower() == ".parquet":
            yield from self._module.ParquetFile(self.path).iter_batches(size, columns=list(self.columns))
            return
        with self._open_csv(self.columns) as stream:
            yield from stream

    def _open_csv(self, columns: tuple[str, ...] | None) -> Any:
        arrow = optional("pyarrow", "pyarrow", "table")
        read = self._module.ReadOptions(autogenerate_column_names=self.header is False)
        parse = self._module.ParseOptions(newlines_in_values=True)
        if columns is None:
            return self._module.open_csv(self.path, read_options=read, parse_options=parse)
        with self._module.open_csv(self.path, read_options=read, parse_options=parse) as stream:
            kinds = {name: stream.schema.field(name).type for name in columns}
        # The type of a column is found in the first block, and a later row may have a fraction.
        numeric = {
            n: arrow.float64() for n, t in kinds.items() if arrow.types.is_integer(t) or t == arrow.null()
        }
        convert = self._module.ConvertOptions(include_columns=list(columns), column_types=numeric)
        return self._module.open_csv(
            self.path, read_options=read, parse_options=parse, convert_options=convert
        )

    @contextmanager
    def _arrow_errors(self) -> Generator[None]:
        try:
            yield
        except self._errors as error:
            raise DataError(f"{self.path} cannot be read: {one_line(error)}") from error


def _numbers(column: Any, name: str, row: int, path: Path, exact: torch.dtype) -> NDArray[np.float64]:
    """The numbers of a part of a column that begins at `row`."""
    types = optional("pyarrow.types", "pyarrow", "table")
    where, kind = f"{path}: column {name!r}", column.type
    if column.null_count:
        missing = row + column.is_null().to_numpy(zero_copy_only=False).argmax() + 1
        raise DataError(f"{where} has a missing value in row {missing}; fill it in or remove the row")
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        raise DataError(f"{where} contains {kind}, not numbers")
    numbers = column.to_numpy(zero_copy_only=False)
    if types.is_integer(kind):
        check_exact(numbers, exact, where)
    values = np.asarray(numbers, dtype=np.float64)
    if not (finite := np.isfinite(values)).all():
        raise DataError(f"{where} has a value that is not finite in row {row + int((~finite).argmax()) + 1}")
    return values


# -- series, datasets ---------------------------------------------------------------------------------


def _recipe_dataset(ae: Autoencoder) -> object:
    return getattr(getattr(ae.spec, "recipe", None), "dataset", None)


def _series(ae: Autoencoder, path: Path, key: str | None) -> NDArray[Any] | None:
    """The windows of a series, (n, channels, length); None if the file does not hold one for this network."""
    dataset = _recipe_dataset(ae)
    if not isinstance(dataset, WindowsSpec):
        return None
    channels, length = ae.spec.input.shape
    if path.suffix.lower() in TABLES:
        exact = torch.float32 if ae.scaler is None else torch.float64
        names = ae.columns or dataset.columns
        series = Table(path, dataset.header).numbers(names, exact=exact)[0].numpy()
    else:
        series = named_array(read_arrays(path, (key,)), key, path).numpy()
        if series.ndim > 2 or series.shape == ae.spec.input.shape:
            return None
        series = series.reshape(len(series), -1)
    if series.shape[1] != channels:
        raise DataError(f"{path} has {series.shape[1]} channels, the network takes {channels}")
    if len(series) < length:
        raise DataError(f"{path} has {len(series)} steps, a window has {length}")
    windows = np.lib.stride_tricks.sliding_window_view(series, length, axis=0)
    return windows[:: dataset.stride]


def split_samples(ae: Autoencoder, text: str, *, all_classes: bool = False) -> Samples:
    """The samples of a split such as `mnist:test`, with their labels, as a network takes them.

    Args:
        ae: the network.
        text: the kind of a dataset, a colon and a split.
        all_classes: whether to read the classes that the recipe's dataset leaves out, too.

    Raises:
        DataError: there is no such dataset or split, or it does not fit the network.
    """
    found = SPLIT.fullmatch(text)
    if found is None:
        raise DataError(f"expected a split such as mnist:test, found {text!r}")
    kind, split = found["kind"], found["split"]
    try:
        cls = registry.get("dataset", kind)
    except RegistryError as error:
        raise DataError(f"there is no file {text}, and {error}") from error
    if split not in SPLITS:
        raise DataError(f"{text}: expected {', '.join(SPLITS)} after the colon, found {split!r}")
    own = _recipe_dataset(ae)
    if any(field.is_required() for field in cls.model_fields.values()):
        if not isinstance(own, cls):
            raise DataError(f"{text}: {kind} needs settings, which this network's recipe does not have")
        dataset = own
    else:
        dataset = own if isinstance(own, cls) else cls()
    chosen = cast(DatasetSpec, dataset)
    if all_classes and getattr(chosen, "classes", None) is not None:
        chosen = chosen.model_copy(update={"classes": None})
    return load_for(ae, chosen, split)


def _samples(ae: Autoencoder, text: str, samples: Samples, batch_size: int) -> Source:
    def chunks() -> Iterator[Chunk]:
        start = 0
        for batch in samples.batches(ae.spec, batch_size):
            yield Chunk(range(start, start + len(batch.input)), batch.input.cpu(), {})
            start += len(batch.input)

    return Source(text, chunks, len(samples), _item_bytes(samples.inputs))
