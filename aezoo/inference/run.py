"""Encode, decode, reconstruct and score files with a trained autoencoder.

Each function reads its input in chunks, runs the network in evaluation mode, and writes its output whole or
not at all, with a stamp that says which network made it.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aezoo.errors import CheckpointError, DataError, NotSupportedError
from aezoo.files import replace_folder
from aezoo.inference.images import MANIFEST, ImageNames, check_image_folder, to_bytes, write_image
from aezoo.inference.latents import read_latents
from aezoo.inference.network import decode, encode, loaded, pairs, reconstruct, squared_errors
from aezoo.inference.outputs import (
    SUFFIXES,
    FieldType,
    RowWriter,
    Stamp,
    check_output,
    write_errors,
)
from aezoo.inference.ray_engine import encoded_by_ray
from aezoo.inference.sources import BATCH_SIZE, Chunk, Source, open_source
from aezoo.jsonio import pretty_json
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.sequential import Exact
from aezoo.progress import ItemProgress

StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Result:
    """What was written.

    Attributes:
        path: the file or folder.
        n: number of samples.
        skipped: names of images that could not be read -> the reason.
        item_bytes: bytes of an input, as it is stored in memory.
        code_bytes: for latents, bytes of one sample's; otherwise None.
        threshold: for scores, the error above which a sample is anomalous; None without calibration.
        false_alarm_rate: for scores, the share of the calibration samples above the threshold.
        anomalous: for scores, the number of samples above the threshold.
    """

    path: Path
    n: int
    skipped: dict[str, str]
    item_bytes: float
    code_bytes: float | None = None
    threshold: float | None = None
    false_alarm_rate: float | None = None
    anomalous: int | None = None

    @property
    def ratio(self) -> float | None:
        """How many times smaller the latents of a sample are than the sample; None for other results."""
        return None if self.code_bytes is None else self.item_bytes / self.code_bytes


def encode_to_file(
    ae: Autoencoder | str,
    data: object,
    out: StrPath,
    *,
    dense: bool = False,
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    key: str | None = None,
    skip_corrupt: bool = False,
    force: bool = False,
    batch_size: int = BATCH_SIZE,
    progress: bool = False,
) -> Result:
    """Encodes data to a file of latents.

    The file has one row for each sample, in order, and the names or the numbers of the samples: as arrays
    `names` or `rows` in `.npz`, as a column in `.parquet`, and in the stamp otherwise. Latents are float32.
    Where the network keeps exactly `k` latents, `.npz`, `.safetensors` and `.parquet` hold `indices` (int32,
    into the flattened latents) and `values` (float32), both (n, k) and sorted by index; a row with fewer
    non-zero latents ends in zeros. Otherwise they hold `latents`, (n, *latent shape).

    Args:
        ae: an autoencoder, or what `aezoo.load` takes.
        data: a folder of images, a file, a split of a dataset, or an array; see
            `aezoo.inference.sources.open_source`.
        out: a `.npy`, `.npz`, `.safetensors` or `.parquet` file.
        dense: whether to write all latents of a sparse code.
        engine: `local`, or `ray` for Ray Data: workers on this machine, or on those of the cluster to which
            Ray is connected. The output has the same bytes; paths must be the same on every machine.
        workers: number of Ray's workers; by default one for each CPU.
        key: name of the array in a file that has several.
        skip_corrupt: whether to leave out images that cannot be read, and list them in the stamp.
        force: whether to replace a file.
        batch_size: samples in a batch. The last bits of latents depend on it.
        progress: whether to report progress on standard error.

    Raises:
        DataError: the data cannot be read or do not fit the autoencoder.
        CheckpointError: the file exists or cannot be written. Nothing was written.
        MissingExtraError: Ray is not installed.
    """
    ae, path = loaded(ae), Path(out).expanduser()
    if engine not in ("local", "ray"):
        raise DataError(f"engine: expected local or ray, found {engine!r}")
    if workers is not None and engine == "local":
        raise DataError("workers are those of Ray: give engine='ray' (--engine ray) as well")
    check_output(path, force=force, suffixes=(".npy", ".npz", ".safetensors", ".parquet"))
    source = open_source(ae, data, key=key, skip_corrupt=skip_corrupt, batch_size=batch_size)
    sparsity = ae.sparsity()
    k = sparsity.k if isinstance(sparsity, Exact) and not dense and path.suffix.lower() != ".npy" else None
    fields = {"latents": FieldType(ae.latent_shape, "float32")}
    if k is not None:
        fields = {"indices": FieldType((k,), "int32"), "values": FieldType((k,), "float32")}
    stamp = Stamp.of(ae, "latents", source.text)
    with ItemProgress(progress, "encode", source.size) as bar, RowWriter(path, fields, stamp) as writer:
        if engine == "ray":
            done = encoded_by_ray(
                ae, source, partial(_latent_rows, k=k), lambda given: _hashed(given, stamp, bar),
                batch_size=batch_size, workers=workers, near=path,
            )  # fmt: skip
            for chunk, rows in done:
                writer.write(chunk.ids, rows)
        else:
            for chunk in _hashed(source, stamp, bar):
                writer.write(chunk.ids, _latent_rows(ae, chunk.x, k=k))
        _require_rows(stamp, source)
    code = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in fields.values())
    return Result(path, stamp.n, stamp.skipped, source.item_bytes, float(code))


def _latent_rows(ae: Autoencoder, x: Tensor, *, k: int | None) -> dict[str, NDArray[Any]]:
    """What is written for a batch: latents, or pairs of index and value."""
    latents = encode(ae, x)
    return {"latents": latents.numpy()} if k is None else pairs(latents.flatten(1), k)


def decode_to(
    ae: Autoencoder | str,
    latents: object,
    out: StrPath,
    *,
    force: bool = False,
    batch_size: int = BATCH_SIZE,
    progress: bool = False,
) -> Result:
    """Decodes latents to a folder of images, or to a file.

    Values are in the units of the training data: those of standardized data are not standardized.

    Args:
        ae: an autoencoder, or what `aezoo.load` takes.
        latents: a file that `encode_to_file` wrote, another file with an array, (n, *latent shape), or an
            array or a tensor.
        out: a folder, for PNG images; or a `.npy`, `.npz`, `.safetensors`, `.parquet` or `.csv` file.
        force: whether to replace a file, or a folder that this function wrote.
        batch_size: samples in a batch.
        progress: whether to report progress on standard error.

    Raises:
        DataError: latents of another network or shape; or images are asked of a network that makes none.
        CheckpointError: the output exists or cannot be written. Nothing was written.
    """
    ae, path = loaded(ae), Path(out).expanduser()
    given, names, text = read_latents(ae, latents)

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(given), batch_size):
            part = given[start : start + batch_size].to(torch.float32)
            if not torch.isfinite(part).all():
                raise DataError(
                    f"{text} has a value that is not finite in rows {start} to {start + len(part) - 1}"
                )
            ids = range(start, start + len(part)) if names is None else names[start : start + len(part)]
            yield Chunk(ids, part, {})

    if batch_size < 1:
        raise DataError(f"batch_size must be at least 1, found {batch_size}")
    source = Source(text, chunks, len(given), 4.0 * ae.num_latents, names is not None)
    return _write_decoded(ae, source, path, decode, force=force, progress=progress, word="decode")


def reconstruct_to(
    ae: Autoencoder | str,
    data: object,
    out: StrPath,
    *,
    key: str | None = None,
    skip_corrupt: bool = False,
    force: bool = False,
    batch_size: int = BATCH_SIZE,
    progress: bool = False,
) -> Result:
    """Encodes and decodes data: cleans, colours, or compresses with loss, as the network was trained to.

    Images keep their names, below the same subfolders, as PNG files of the network's size.

    Args:
        ae: an autoencoder, or what `aezoo.load` takes.
        data: as for `encode_to_file`.
        out: as for `decode_to`.
        key: name of the array in a file that has several.
        skip_corrupt: as for `encode_to_file`.
        force: as for `decode_to`.
        batch_size: samples in a batch.
        progress: whether to report progress on standard error.

    Raises:
        DataError: the data cannot be read or do not fit the autoencoder.
        CheckpointError: the output exists or cannot be written. Nothing was written.
    """
    ae, path = loaded(ae), Path(out).expanduser()
    source = open_source(ae, data, key=key, skip_corrupt=skip_corrupt, batch_size=batch_size)
    real = path.resolve()
    if any(real == file.resolve() or real in file.resolve().parents for file in source.paths):
        raise CheckpointError("target", f"{path} holds the images that are read; write into another folder")
    return _write_decoded(ae, source, path, reconstruct, force=force, progress=progress, word="reconstruct")


def score_to_file(
    ae: Autoencoder | str,
    data: object,
    out: StrPath,
    *,
    calibrate: object = None,
    threshold: float | None = None,
    explain: bool = False,
    key: str | None = None,
    skip_corrupt: bool = False,
    force: bool = False,
    batch_size: int = BATCH_SIZE,
    progress: bool = False,
) -> Result:
    """Scores how unusual each sample is: its mean squared reconstruction error, in the network's units.

    With `calibrate` and `threshold`, the file also says which samples are anomalous. The limit is the
    smallest error of a calibration sample that at most a share `threshold` of new usual samples exceeds on
    average: of n sorted errors, the one at position ceil((n + 1)(1 - threshold)) (split conformal
    prediction; Vovk et al. 2005). The file is sorted as the input is.

    Args:
        ae: an autoencoder, or what `aezoo.load` takes.
        data: as for `encode_to_file`.
        out: a `.csv`, `.parquet`, `.npz` or `.safetensors` file with `error`, float32; with `anomalous`; and
            with `explain`, which value of a sample has the largest squared error: `value` is its position
            in the flattened sample, `share` its share of the squared error. In `.csv` and `.parquet`, `where`
            names its column, or gives the indices of its channel, row and column.
        calibrate: usual samples, as for `data`; none of the training, on which errors are smaller.
        threshold: share of false alarms that is accepted, between 0 and 1.
        explain: whether to say which value contributes most.
        key: name of the array in a file that has several.
        skip_corrupt: as for `encode_to_file`.
        force: whether to replace a file.
        batch_size: samples in a batch.
        progress: whether to report progress on standard error.

    Raises:
        DataError: the data do not fit the autoencoder; or too few calibration samples for the threshold.
        NotSupportedError: the target's shape is not the input's.
        CheckpointError: the file exists or cannot be written. Nothing was written.
    """
    ae, path = loaded(ae), Path(out).expanduser()
    if (calibrate is None) != (threshold is None):
        raise DataError(
            "threshold and calibrate belong together: give both (--threshold 0.01 --calibrate GOOD)"
        )
    if threshold is not None and not 0 < threshold < 1:
        raise DataError(f"threshold must be a share between 0 and 1, found {threshold:g}")
    if ae.spec.output.shape != ae.spec.input.shape:
        raise NotSupportedError("scores compare with the input, which is not this target's shape")
    check_output(path, force=force, suffixes=(".csv", ".parquet", ".npz", ".safetensors"))
    source = open_source(ae, data, key=key, skip_corrupt=skip_corrupt, batch_size=batch_size)
    limit = rate = None
    stamp = Stamp.of(ae, "scores", source.text)
    if threshold is not None:
        good = open_source(ae, calibrate, key=key, skip_corrupt=skip_corrupt, batch_size=batch_size)
        limit, rate, n = _calibrated(ae, good, threshold, progress)
        stamp.threshold = {
            "value": limit, "accepted_false_alarm_rate": threshold, "calibration": good.text,
            "calibration_n": n, "calibration_false_alarm_rate": rate,
        }  # fmt: skip
    fields = {"error": FieldType((), "float32")}
    if limit is not None:
        fields["anomalous"] = FieldType((), "bool")
    if explain:
        fields |= {"value": FieldType((), "int64"), "share": FieldType((), "float32")}
    places = _places(ae) if explain and path.suffix.lower() in (".csv", ".parquet") else None
    anomalous = 0
    with (
        ItemProgress(progress, "score", source.size) as bar,
        RowWriter(path, fields, stamp, {"where": ("value", places)} if places else None) as writer,
    ):
        for chunk in _hashed(source, stamp, bar):
            squared = squared_errors(ae, chunk.x)
            rows: dict[str, NDArray[Any]] = {"error": squared.mean(1).numpy()}
            if limit is not None:
                rows["anomalous"] = rows["error"] > np.float32(limit)
                anomalous += int(rows["anomalous"].sum())
            if explain:
                largest, place = squared.max(1)
                rows |= {"value": place.numpy(), "share": (largest / squared.sum(1).clamp(min=1e-30)).numpy()}
            writer.write(chunk.ids, rows)
        _require_rows(stamp, source)
    found = None if limit is None else anomalous
    return Result(path, stamp.n, stamp.skipped, source.item_bytes, None, limit, rate, found)


def _hashed(source: Source, stamp: Stamp, bar: ItemProgress) -> Iterator[Chunk]:
    """The chunks of a source; completes the stamp with the hash of the inputs and the skipped images."""
    digest = hashlib.sha256()
    for chunk in source.chunks():
        digest.update(cast(Any, chunk.x.contiguous().numpy()))
        stamp.skipped |= chunk.skipped
        yield chunk
        bar.advance(len(chunk.ids) + len(chunk.skipped))
    stamp.input_sha256 = digest.hexdigest()


def _require_rows(stamp: Stamp, source: Source) -> None:
    if source.size is not None and len(stamp.skipped) == source.size:
        raise DataError(f"none of the {source.size} images in {source.text} can be read")


def _calibrated(ae: Autoencoder, good: Source, rate: float, progress: bool) -> tuple[float, float, int]:
    """The limit for an accepted rate of false alarms, the rate on the calibration data, and their number."""
    with ItemProgress(progress, "calibrate", good.size) as bar:
        parts: list[Tensor] = []
        for chunk in good.chunks():
            parts.append(squared_errors(ae, chunk.x).mean(1))
            bar.advance(len(chunk.ids))
    errors = torch.cat(parts).sort().values
    n = len(errors)
    position = math.ceil((n + 1) * (1 - rate) - 1e-9)
    if position > n:
        needed = math.ceil(1 / rate - 1e-9) - 1
        text = f"a false alarm rate of {rate:g} needs at least {needed:,} calibration samples"
        raise DataError(f"{text}, {good.text} has {n:,}")
    limit = errors[position - 1]
    return float(limit), float((errors > limit).double().mean()), n


def _places(ae: Autoencoder) -> list[str]:
    """Names of the values of a flattened sample: columns, or indices such as `0 3 14`."""
    shape = ae.spec.input.shape
    if ae.columns and len(ae.columns) == math.prod(shape):
        return list(ae.columns)
    return [" ".join(map(str, index)) for index in np.ndindex(*shape)]


# -- parts -----------------------------------------------------------------------------------------


def _write_decoded(
    ae: Autoencoder,
    source: Source,
    path: Path,
    run: Callable[[Autoencoder, Tensor], Tensor],
    *,
    force: bool,
    progress: bool,
    word: str,
) -> Result:
    stamp = Stamp.of(ae, "reconstructions", source.text)
    if path.suffix.lower() in SUFFIXES and not path.is_dir():
        check_output(path, force=force)
        with ItemProgress(progress, word, source.size) as bar:
            _write_values(ae, source, path, run, stamp, bar)
        return Result(path, stamp.n, stamp.skipped, source.item_bytes)
    check_image_folder(ae, path, force=force)

    def fill(folder: Path) -> None:
        names = ImageNames(source)
        with ItemProgress(progress, word, source.size) as bar:
            for chunk in _hashed(source, stamp, bar):
                for identity, image in zip(chunk.ids, to_bytes(ae, run(ae, chunk.x)), strict=True):
                    write_image(folder / names(identity), image)
                stamp.n += len(chunk.ids)
        _require_rows(stamp, source)
        stamp.names = names.given or None
        (folder / MANIFEST).write_bytes(pretty_json(stamp.as_dict()))

    with write_errors(path):
        replace_folder(path, fill)
    return Result(path, stamp.n, stamp.skipped, source.item_bytes)


def _write_values(
    ae: Autoencoder,
    source: Source,
    path: Path,
    run: Callable[[Autoencoder, Tensor], Tensor],
    stamp: Stamp,
    bar: ItemProgress,
) -> None:
    """Writes reconstructions as numbers in the units of the training data."""
    transforms = ae.transforms()
    double = ae.scaler is not None and ae.scaler.shift.dtype == torch.float64
    dtype = "float64" if double else "float32"
    by_column = bool(ae.columns) and path.suffix.lower() in (".csv", ".parquet")
    fields = {"reconstructions": FieldType(ae.spec.output.shape, dtype)}
    if by_column:
        fields = {name: FieldType((), dtype) for name in ae.columns}
    with RowWriter(path, fields, stamp) as writer:
        for chunk in _hashed(source, stamp, bar):
            x_hat = transforms.inverse(run(ae, chunk.x)).numpy()
            rows = {name: x_hat[:, i] for i, name in enumerate(ae.columns)}
            writer.write(chunk.ids, rows if by_column else {"reconstructions": x_hat})
        _require_rows(stamp, source)
