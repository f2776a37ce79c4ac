"""Files of rows: `.npy`, `.npz`, `.safetensors`, `.parquet` and `.csv`, written whole or not at all.

Every file states which network made it (`Stamp`): in its metadata, or for `.npy` and `.csv`, which have none,
in a file next to it, `NAME.json`.
"""

import csv
import io
import json
import struct
import tempfile
import zipfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import safetensors
from numpy.typing import NDArray

from aezoo.errors import CheckpointError, DataError, optional
from aezoo.files import check_writable, replacing, write_atomically
from aezoo.jsonio import canonical_json, pretty_json, strict_json
from aezoo.model.autoencoder import Autoencoder

SUFFIXES = (".npy", ".npz", ".safetensors", ".parquet", ".csv")
COPIED = 2**22
"""Bytes that are copied at once."""
TYPES = {"float32": "F32", "int32": "I32", "int64": "I64", "uint8": "U8", "bool": "BOOL"}
"""NumPy's names of dtypes -> those of safetensors."""
Rows = Mapping[str, NDArray[Any]]


class FieldType(NamedTuple):
    """Type of the values that a row holds under one name."""

    shape: tuple[int, ...]
    dtype: str


@dataclass
class Stamp:
    """What a file was made by and from.

    Attributes:
        content: `latents`, `reconstructions` or `scores`.
        variant: name of the variant, or null.
        fingerprint: of the network; see `Autoencoder.fingerprint`.
        weights_sha256: of the weights file, or null for a network that was not loaded.
        input: what was read, such as a folder.
        input_sha256: of the network's inputs, float32.
        n: number of rows.
        latent_shape: of one sample.
        names: of the samples, in order; null where they have numbers.
        skipped: names of images that could not be read -> the reason.
        threshold: for scores, the error above which a sample is anomalous, and how it was found; or null.
        version: of aezoo.
    """

    content: str
    variant: str | None
    fingerprint: str | None
    weights_sha256: str | None
    input: str
    latent_shape: tuple[int, ...]
    input_sha256: str = ""
    n: int = 0
    names: list[str] | None = None
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    threshold: dict[str, Any] | None = None
    version: str = ""

    @classmethod
    def of(cls, ae: Autoencoder, content: str, text: str) -> "Stamp":
        """The stamp of a network, before anything was read."""
        name = getattr(ae.spec, "name", None)
        return cls(
            content, name, ae.fingerprint(), ae.source.sha256, text, ae.latent_shape, version=version("aezoo")
        )

    def as_dict(self) -> dict[str, Any]:
        """The stamp as it is written in JSON."""
        return {**asdict(self), "latent_shape": list(self.latent_shape)}


def check_output(path: Path, *, force: bool, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Checks that a file can be written, before anything is computed.

    Raises:
        DataError: another suffix, or a file that exists, unless `force`.
        CheckpointError: the path cannot be written.
    """
    if path.suffix.lower() not in suffixes:
        found = path.suffix or "no suffix"
        raise DataError(f"{path}: expected {', '.join(suffixes)}, found {found!r}")
    if path.is_dir():
        raise CheckpointError("target", f"{path} is a folder, a file is expected")
    if not force and (path.exists() or path.is_symlink()):
        raise CheckpointError("target", f"{path} exists; pass force=True (--force) to replace it")
    if path.suffix.lower() == ".parquet":
        optional("pyarrow.parquet", "pyarrow", "table")
    with write_errors(path):
        check_writable(path)


@contextmanager
def write_errors(path: Path) -> Generator[None]:
    """Turns errors of writing a path into a `CheckpointError`; nothing was replaced."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = error.strerror if isinstance(error, OSError) else None
        raise CheckpointError("write-failed", f"{path} could not be written: {reason or error}") from error


class RowWriter:
    """Writes rows to a file, which replaces `path` when the block ends without an error.

    Rows go to temporary files first, so that memory does not grow with their number. That of a `.npy` file is
    the file itself, since its header has the same size for any number of rows.

    Args:
        path: the file, with a suffix of `SUFFIXES`.
        fields: name -> type of the values in a row.
        stamp: completed while rows are written.
        labels: for `.parquet` and `.csv`, name of a column of text -> the field that holds the number of its
            text, and all texts.
    """

    def __init__(
        self,
        path: Path,
        fields: Mapping[str, FieldType],
        stamp: Stamp,
        labels: Mapping[str, tuple[str, Sequence[str]]] | None = None,
    ) -> None:
        self.path, self.fields, self.stamp = path, dict(fields), stamp
        self.labels = dict(labels or {}) if path.suffix.lower() in (".parquet", ".csv") else {}
        self._parts: dict[str, BinaryIO] = {}
        self._open = ExitStack()
        self._names: list[str] = []
        self._rows = 0

    def __enter__(self) -> "RowWriter":
        with write_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.suffix.lower() == ".npy":
                (name,) = self.fields
                self._parts[name] = self._open.enter_context(replacing(self.path))
                self._npy_header(0)
                return self
            for name in self.fields:
                # Next to the file, where there is room for it.
                part = tempfile.TemporaryFile(dir=self.path.parent)
                self._parts[name] = cast(BinaryIO, self._open.enter_context(part))
        return self

    def write(self, ids: Sequence[str] | Sequence[int], rows: Rows) -> None:
        """Adds rows: name -> (n, *shape of the field)."""
        with write_errors(self.path):
            for name, (shape, dtype) in self.fields.items():
                values = np.ascontiguousarray(rows[name], dtype=dtype)
                assert values.shape == (len(ids), *shape), name
                self._parts[name].write(values.data)
        self._rows += len(ids)
        if not isinstance(ids, range):
            self._names += [str(name) for name in ids]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._open.__exit__(kind, error, trace)
            return
        self.stamp.n, self.stamp.names = self._rows, self._names or None
        with write_errors(self.path), self._open:
            self._finish()

    # -- formats ----------------------------------------------------------------------------------

    def _finish(self) -> None:
        suffix = self.path.suffix.lower()
        beside = self.path.with_name(f"{self.path.name}.json")
        if suffix == ".npy":
            self._npy_header(self._rows)
            write_atomically(beside, pretty_json(self.stamp.as_dict()))
            return
        write = {
            ".npz": self._npz, ".safetensors": self._safetensors, ".parquet": self._parquet,
            ".csv": self._csv,
        }[suffix]  # fmt: skip
        with replacing(self.path) as file:
            write(file)
            if suffix == ".csv":
                write_atomically(beside, pretty_json(self.stamp.as_dict()))
        if suffix != ".csv":
            # That of an older file of this name would describe another one.
            beside.unlink(missing_ok=True)

    def _copy(self, name: str, file: Any) -> None:
        part = self._parts[name]
        part.seek(0)
        while raw := part.read(COPIED):
            file.write(raw)

    def _batches(self, rows: int = 4096) -> Iterator[Rows]:
        """The rows that were written, a part at a time."""
        for part in self._parts.values():
            part.seek(0)
        for start in range(0, self._rows, rows):
            n = min(rows, self._rows - start)
            yield {
                name: np.frombuffer(
                    self._parts[name].read(n * int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype
                ).reshape(n, *shape)
                for name, (shape, dtype) in self.fields.items()
            }

    def _ids(self) -> Sequence[str] | Sequence[int]:
        return self._names or range(self._rows)

    def _npy_header(self, rows: int) -> None:
        """Writes the header, which has the same size for any number of rows, and goes to the end."""
        ((name, (shape, dtype)),) = self.fields.items()
        part = self._parts[name]
        part.seek(0)
        _write_npy(part, (rows, *shape), dtype)
        part.seek(0, io.SEEK_END)

    def _npz(self, file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name, (shape, dtype) in self.fields.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    _write_npy(member, (self._rows, *shape), dtype)
                    self._copy(name, member)
            texts = {"aezoo": np.array(canonical_json(self.stamp.as_dict()))}
            texts["names" if self._names else "rows"] = np.array(self._ids())
            for name, array in texts.items():
                with archive.open(f"{name}.npy", "w") as member:
                    buffer = io.BytesIO()
                    np.save(buffer, array, allow_pickle=False)
                    member.write(buffer.getvalue())

    def _safetensors(self, file: BinaryIO) -> None:
        header: dict[str, Any] = {"__metadata__": {"aezoo": canonical_json(self.stamp.as_dict())}}
        offset = 0
        # The largest items first, as the library orders them.
        names = sorted(self.fields, key=lambda name: (-np.dtype(self.fields[name].dtype).itemsize, name))
        for name in names:
            shape, dtype = self.fields[name]
            size = self._rows * int(np.prod(shape)) * np.dtype(dtype).itemsize
            where = [offset, offset + size]
            header[name] = {"dtype": TYPES[dtype], "shape": [self._rows, *shape], "data_offsets": where}
            offset += size
        raw = json.dumps(header, separators=(",", ":")).encode()
        raw += b" " * (-len(raw) % 8)
        file.write(struct.pack("<Q", len(raw)) + raw)
        for name in names:
            self._copy(name, file)

    def _parquet(self, file: BinaryIO) -> None:
        arrow = optional("pyarrow", "pyarrow", "table")
        parquet = optional("pyarrow.parquet", "pyarrow", "table")
        columns = [arrow.field("name", arrow.string()) if self._names else arrow.field("row", arrow.int64())]
        for name, (shape, dtype) in self.fields.items():
            kind = arrow.from_numpy_dtype(np.dtype(dtype))
            columns.append(arrow.field(name, arrow.list_(kind, int(np.prod(shape))) if shape else kind))
        columns += [arrow.field(name, arrow.string()) for name in self.labels]
        schema = arrow.schema(columns, metadata={"aezoo": canonical_json(self.stamp.as_dict())})
        with parquet.ParquetWriter(file, schema) as writer:
            start, ids = 0, self._ids()
            for rows in self._batches():
                n = len(next(iter(rows.values())))
                arrays = [arrow.array(list(ids[start : start + n]), columns[0].type)]
                for name, values in rows.items():
                    flat = arrow.array(values.reshape(-1))
                    shape = self.fields[name].shape
                    size = int(np.prod(shape))
                    arrays.append(arrow.FixedSizeListArray.from_arrays(flat, size) if shape else flat)
                for field_name, texts in self.labels.values():
                    arrays.append(arrow.array([texts[i] for i in rows[field_name]], arrow.string()))
                writer.write_batch(arrow.record_batch(arrays, schema=schema))
                start += n

    def _csv(self, file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        head = ["name" if self._names else "row"]
        for name, (shape, _) in self.fields.items():
            head += [name] if not shape else [f"{name}_{i}" for i in range(int(np.prod(shape)))]
        head += self.labels
        writer.writerow(head)
        start, ids = 0, self._ids()
        for rows in self._batches():
            n = len(next(iter(rows.values())))
            flat = [values.reshape(n, -1) for values in rows.values()]
            for i in range(n):
                numbers = [_text(v) for values in flat for v in values[i]]
                texts = [texts[rows[name][i]] for name, texts in self.labels.values()]
                writer.writerow([ids[start + i], *numbers, *texts])
            start += n
        text.detach()


def _text(value: Any) -> str:
    """A NumPy scalar as the shortest text that gives it again; true and false in lower case."""
    return str(value).lower() if value.dtype == np.bool_ else str(value)


def _write_npy(file: Any, shape: tuple[int, ...], dtype: str) -> None:
    np.lib.format.write_array_header_1_0(
        file, {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    )


def read_stamp(path: Path) -> dict[str, Any] | None:
    """The stamp of a file of rows; None if it has none.

    Raises:
        DataError: the file or its stamp cannot be read.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in (".npy", ".csv"):
            beside = path.with_name(f"{path.name}.json")
            return strict_json(beside.read_bytes(), beside) if beside.is_file() else None
        text: str | None = None
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                text = str(archive["aezoo"]) if "aezoo" in archive.files else None
        elif suffix == ".safetensors":
            with cast(Any, safetensors).safe_open(path, framework="np") as file:
                text = cast("dict[str, str]", file.metadata() or {}).get("aezoo")
        elif suffix == ".parquet":
            parquet = optional("pyarrow.parquet", "pyarrow", "table")
            raw = cast("dict[bytes, bytes]", parquet.read_schema(path).metadata or {}).get(b"aezoo")
            text = None if raw is None else raw.decode()
        return None if text is None else strict_json(text.encode(), path)
    except Exception as error:  # damaged files raise exceptions of many libraries
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
