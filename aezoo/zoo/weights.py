"""Weights as bytes: safetensors that are proven to be what a spec asks for before they are used."""

import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from aezoo.errors import CheckpointError
from aezoo.files import opened
from aezoo.jsonio import strict_json

MAX_HEADER_BYTES = 4_000_000
CHUNK = 1 << 20
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def as_stored(tensor: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """A contiguous copy of its own on the CPU, floating point in the precision that is stored."""
    tensor = tensor.detach().cpu()
    return (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous().clone()


def check_hash(path: Path, raw: bytes | bytearray, sha256: str) -> None:
    """Compares the bytes of a file with what they should be.

    Raises:
        HashError: naming both hashes.
    """
    _compare(path, hashlib.sha256(raw).hexdigest(), sha256)


def _compare(path: Path, found: str, sha256: str) -> None:
    if found != sha256:
        raise CheckpointError(
            "hash-mismatch",
            f"{path} has sha256 {found}, expected {sha256}; these are not the published bytes",
        )


def read_tensors(
    path: Path,
    size_expected: int,
    sha256: str,
    wanted: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    metadata: Mapping[str, str],
) -> dict[str, Tensor]:
    """The tensors of a file, read once: what is hashed is what is given.

    Each is read into memory of its own, since where a tensor begins in memory decides in which order its
    products are summed up.

    Args:
        path: of the file.
        size_expected: in bytes.
        sha256: of all of it.
        wanted: dtype and shape of every tensor that must be there, and of no others.
        metadata: what the file must say about itself.

    Raises:
        CheckpointError: one subclass for each thing that can be wrong. Other bytes than expected are a
            `HashError`, whatever else is wrong with them.
    """
    digest = hashlib.sha256()
    tensors: dict[str, Tensor] = {}
    problem: CheckpointError | None = None
    try:
        with opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(8)
            # Safetensors begin with the header's length, whose low bytes may be the same as a pickle's.
            pickled = head[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
            if pickled and int.from_bytes(head, "little") > MAX_HEADER_BYTES:
                raise CheckpointError(
                    "not-safetensors", f"{path} is a pickle, not safetensors; it was not opened"
                )
            if size != size_expected:
                raise CheckpointError(
                    "size-mismatch", f"{path} has {size:,} bytes, expected {size_expected:,}"
                )
            digest.update(head)
            try:
                length = _header_length(path, head, size)
                raw = file.read(length)
                digest.update(raw)
                for name, dtype, shape in _in_order(path, raw, size - 8 - length, wanted, metadata):
                    tensors[name] = torch.empty(shape, dtype=dtype)
                    if tensors[name].numel():
                        view = memoryview(cast(Any, tensors[name].view(-1).view(torch.uint8).numpy()))
                        file.readinto(view)
                        digest.update(view)
            except CheckpointError as error:
                problem = error
            while rest := file.read(CHUNK):
                digest.update(rest)
    except FileNotFoundError as error:
        raise CheckpointError("missing-file", f"{path} is missing") from error
    except OSError as error:
        raise CheckpointError("missing-file", f"{path} cannot be read: {error.strerror}") from error
    _compare(path, digest.hexdigest(), sha256)
    if problem is not None:
        raise problem
    return tensors


def _header_length(path: Path, head: bytes, size: int) -> int:
    if size < 8:
        raise CheckpointError("not-safetensors", f"{path} is too short for safetensors")
    length = int.from_bytes(head, "little")
    if length > min(MAX_HEADER_BYTES, size - 8):
        raise CheckpointError(
            "not-safetensors", f"{path} is not safetensors: a header of {length:,} bytes does not fit"
        )
    return length


def _in_order(
    path: Path,
    raw: bytes,
    data_size: int,
    wanted: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    metadata: Mapping[str, str],
) -> list[tuple[str, torch.dtype, tuple[int, ...]]]:
    """What is wanted, in the order of the data, once the header has proven to be exactly that."""
    try:
        header = strict_json(raw, path)
    except CheckpointError as error:
        raise CheckpointError("not-safetensors", f"{path} is not safetensors: {error}") from error
    said = header.pop("__metadata__", None)
    missing, extra = sorted(wanted.keys() - header.keys()), sorted(header.keys() - wanted.keys())
    if missing:
        raise CheckpointError(
            "tensor-mismatch",
            f"{path}: tensor {missing[0]!r} is missing ({len(missing)} of {len(wanted)} are)",
        )
    if extra:
        raise CheckpointError(
            "tensor-mismatch", f"{path}: tensor {extra[0]!r} is none that the spec asks for"
        )
    if said != metadata:
        raise CheckpointError(
            "tensor-mismatch", f"{path}: these are weights of {said!r}, expected {dict(metadata)!r}"
        )
    places: list[tuple[int, int, str]] = []
    for name, (dtype, shape) in wanted.items():
        entry = cast(dict[str, Any], header[name] if isinstance(header[name], dict) else {})
        size = math.prod(shape) * dtype.itemsize
        asked = {"dtype": DTYPE_NAMES[dtype], "shape": list(shape)}
        found = {key: entry.get(key) for key in asked}
        if found != asked:
            raise CheckpointError("tensor-mismatch", f"{path}: tensor {name!r} is {found}, expected {asked}")
        offsets = cast(list[int], entry.get("data_offsets"))
        if not isinstance(offsets, list) or [type(o) for o in offsets] != [int, int]:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise CheckpointError(
                "tensor-mismatch", f"{path}: tensor {name!r} has no two offsets but {offsets!r}"
            )
        begin, end = offsets
        if end - begin != size:
            raise CheckpointError(
                "tensor-mismatch", f"{path}: tensor {name!r} takes {end - begin:,} bytes, expected {size:,}"
            )
        places.append((begin, end, name))
    expected_start = 0
    for begin, end, name in sorted(places):
        if begin != expected_start:
            raise CheckpointError(
                "tensor-mismatch", f"{path}: tensor {name!r} begins at {begin:,}, expected {expected_start:,}"
            )
        expected_start = end
    if expected_start != data_size:
        start = 8 + len(raw)
        raise CheckpointError(
            "tensor-mismatch",
            f"{path}: the tensors end at {start + expected_start:,} of {start + data_size:,} bytes",
        )
    return [(name, *wanted[name]) for _, _, name in sorted(places)]


def refuse_nonfinite(name: str, tensor: Tensor) -> None:
    """Refuses NaN and infinite values.

    Raises:
        NotFiniteError: naming the tensor and how many there are.
    """
    # A finite sum proves every value finite, in a tenth of the time of asking each.
    if not tensor.is_floating_point() or math.isfinite(float(tensor.sum())):
        return
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise CheckpointError("not-finite", f"{name} has {bad:,} values that are NaN or infinite")
