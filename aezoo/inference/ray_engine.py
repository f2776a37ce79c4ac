"""Encoding on several workers, or machines, by Ray Data: the same bytes as in one process.

The unit of work is a chunk, whose first sample is a multiple of the batch size, as in one process. Workers
read and decode images themselves, below the same paths; every other input is first written, chunk by chunk,
to an array file next to the output, from which workers read their chunks. Each worker holds the network, and
encodes many chunks. What they return is written in order. A chunk whose worker was killed is encoded again.
"""

import copy
import logging
import os
import pickle
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aezoo.errors import DataError, NotSupportedError, optional
from aezoo.inference.sources import Chunk, Source
from aezoo.model.autoencoder import Autoencoder

Rows = dict[str, NDArray[Any]]
Encode = Callable[[Autoencoder, Tensor], Rows]
"""Network and inputs, (n, *input shape) -> what is written for each row."""
HEADER = 256
"""Bytes of the header of the array file."""
MOST_BLOCKS = 1000
"""Parts into which Ray divides the chunks."""


class Encoded(NamedTuple):
    """A chunk and its rows. Of an input that was written to an array file, `chunk.x` is empty."""

    chunk: Chunk
    rows: Rows


class _Worker:
    """What a Ray worker runs: holds the network, and encodes one chunk in each call."""

    def __init__(
        self, ae: Any, encode: Encode, read: Callable[[int], Chunk], threads: int, with_inputs: bool
    ) -> None:
        # The last bits of sums depend on the number of threads.
        torch.set_num_threads(threads)
        self.ae: Autoencoder = optional("ray", "Ray", "ray").get(ae)
        self.encode, self.read, self.with_inputs = encode, read, with_inputs

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, list[bytes]]:
        return {"encoded": [self._encoded(int(start)) for start in batch["start"]]}

    def _encoded(self, start: int) -> bytes:
        try:
            chunk = self.read(start)
            rows = self.encode(self.ae, chunk.x)
        except DataError as error:
            # As a value, since Ray would wrap the exception in its own, with the worker's traceback.
            return pickle.dumps(str(error))
        given = chunk.x if self.with_inputs else chunk.x[:0]
        ids = chunk.ids if isinstance(chunk.ids, range) else list(chunk.ids)
        return pickle.dumps((ids, given.contiguous().numpy(), chunk.skipped, rows))


class _ArrayFile(NamedTuple):
    """Reads chunks of network inputs from a `.npy` file."""

    path: str
    batch_size: int

    def __call__(self, start: int) -> Chunk:
        array: NDArray[np.float32] = np.load(self.path, mmap_mode="r")
        part = np.array(array[start : start + self.batch_size])
        return Chunk(range(start, start + len(part)), torch.from_numpy(part), {})


def encoded_by_ray(
    ae: Autoencoder,
    source: Source,
    encode: Encode,
    hashed: Callable[[Source], Iterator[Chunk]],
    *,
    batch_size: int,
    workers: int | None,
    near: Path,
) -> Iterator[Encoded]:
    """Encodes the chunks of a source on Ray's workers, and yields them in order.

    Args:
        ae: the network, in any mode.
        source: the inputs.
        encode: what is computed of each chunk; a function that can be pickled.
        hashed: iterates over a source's chunks and adds them to the stamp.
        batch_size: samples in a chunk.
        workers: number of workers; by default one for each of Ray's CPUs.
        near: the output, next to which inputs may be written.

    Raises:
        DataError: as in one process.
        NotSupportedError: `workers` is below 1.
        MissingExtraError: Ray is not installed.
    """
    if workers is not None and workers < 1:
        raise NotSupportedError(f"workers: expected at least 1, found {workers}")
    optional("ray.data", "Ray", "ray")
    with tempfile.TemporaryDirectory(prefix=f".{near.name}.tmp-", dir=near.parent) as place:
        if source.read is None:
            path = Path(place) / "inputs.npy"
            size = _write_inputs(path, ae, source, hashed)
            read = _ArrayFile(str(path), batch_size)
            found = _encoded(ae, encode, read, size, batch_size, workers, with_inputs=False)
            yield from (Encoded(chunk, rows) for chunk, rows in found)
            return
        assert source.size is not None
        found = _encoded(ae, encode, source.read, source.size, batch_size, workers, with_inputs=True)
        pending: list[Rows] = []

        def chunks() -> Iterator[Chunk]:
            for chunk, rows in found:
                pending.append(rows)
                yield chunk

        for chunk in hashed(_with_chunks(source, chunks)):
            yield Encoded(chunk, pending.pop())


def _with_chunks(source: Source, chunks: Callable[[], Iterator[Chunk]]) -> Source:
    return Source(source.text, chunks, source.size, source.item_bytes, source.named, source.paths)


def _write_inputs(
    path: Path, ae: Autoencoder, source: Source, hashed: Callable[[Source], Iterator[Chunk]]
) -> int:
    """Writes a source without names as network inputs, float32; returns the number of samples."""
    size = 0
    with path.open("wb") as file:
        # Space for the header, which states the number of rows.
        file.write(bytes(HEADER))
        for chunk in hashed(source):
            file.write(chunk.x.to(torch.float32).contiguous().numpy().tobytes())
            size += len(chunk.x)
        file.seek(0)
        text = repr({"descr": "<f4", "fortran_order": False, "shape": (size, *ae.spec.input.shape)})
        file.write(b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little"))
        file.write(text.encode().ljust(HEADER - 11) + b"\n")
    return size


def _encoded(
    ae: Autoencoder,
    encode: Encode,
    read: Callable[[int], Chunk],
    size: int,
    batch_size: int,
    workers: int | None,
    *,
    with_inputs: bool,
) -> Iterator[tuple[Chunk, Rows]]:
    with _cluster(workers) as (ray, count):
        starts = [{"start": start} for start in range(0, size, batch_size)]
        given = ray.data.from_items(starts, override_num_blocks=min(len(starts), MOST_BLOCKS))
        arguments = {
            # Workers have no GPU, and could not read tensors of one.
            "ae": ray.put(copy.deepcopy(ae).cpu()), "encode": encode, "read": read,
            "threads": torch.get_num_threads(), "with_inputs": with_inputs,
        }  # fmt: skip
        mapped = given.map_batches(
            _Worker, fn_constructor_kwargs=arguments, batch_size=1, num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=count),
        )  # fmt: skip
        for row in mapped.iter_rows():
            found: Any = pickle.loads(row["encoded"])  # noqa: S301 - what our own worker wrote
            if isinstance(found, str):
                raise DataError(found)
            ids, x, skipped, rows = found
            yield Chunk(ids, torch.from_numpy(x), skipped), rows


@contextmanager
def _cluster(workers: int | None) -> Generator[tuple[Any, int]]:
    """Context manager with Ray and the number of workers: the user's cluster if Ray runs, or a local one."""
    # Read when Ray is imported, and when it starts.
    for name, value in (("RAY_USAGE_STATS_ENABLED", "0"), ("RAY_BACKEND_LOG_LEVEL", "fatal")):
        os.environ.setdefault(name, value)
    ray: Any = optional("ray", "Ray", "ray")
    optional("ray.data", "Ray", "ray")
    started = not ray.is_initialized()
    count = workers or os.cpu_count() or 1
    if started:
        # One CPU more, so that what is not a worker never waits for one.
        ray.init(num_cpus=count + 1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    elif workers is None:
        count = max(1, int(ray.cluster_resources().get("CPU", 1)))
    context, logger = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    options = context.execution_options
    before = (options.preserve_order, context.enable_progress_bars, logger.level)
    options.preserve_order, context.enable_progress_bars = True, False
    logger.setLevel(logging.ERROR)
    try:
        yield ray, count
    finally:
        options.preserve_order, context.enable_progress_bars, level = before
        logger.setLevel(level)
        if started:
            ray.shutdown()
