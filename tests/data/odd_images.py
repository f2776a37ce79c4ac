"""Image files that Pillow does not write: TIFF with any tags, and PNG of 16 bits per channel."""

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def tiff(
    path: Path, values: NDArray[np.generic], *, photometric: int = 1, bits: int | None = None, **tags: int
) -> Path:
    """Writes an uncompressed TIFF; values are (height, width) or (height, width, channels).

    `bits` is the number that the file states; `extra_samples` and `sample_format` are tags.
    """
    height, width, *rest = values.shape
    channels = rest[0] if rest else 1
    stated = bits or values.itemsize * 8
    data = values.tobytes()
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(np.uint32)
        packed = pairs[:, 0] << 12 | pairs[:, 1]
        data = b"".join(int(three).to_bytes(3) for three in packed)
    entries: list[tuple[int, tuple[int, ...]]] = [
        (256, (width,)), (257, (height,)), (258, (stated,) * channels), (259, (1,)), (262, (photometric,)),
        (273, (8,)), (277, (channels,)), (278, (height,)), (279, (len(data),)), (284, (1,)),
    ]  # fmt: skip
    if "extra_samples" in tags:
        entries.append((338, (tags["extra_samples"],)))
    if "sample_format" in tags:
        entries.append((339, (tags["sample_format"],) * channels))
    data += b"\0" * (len(data) % 2)
    start = 8 + len(data)
    overflow, at = b"", start + 2 + 12 * len(entries) + 4
    directory = struct.pack("<H", len(entries))
    for tag, numbers in entries:
        packed_numbers = struct.pack(f"<{len(numbers)}H", *numbers)
        if len(packed_numbers) > 4:
            where = struct.pack("<I", at + len(overflow))
            overflow += packed_numbers
        else:
            where = packed_numbers.ljust(4, b"\0")
        directory += struct.pack("<HHI", tag, 3, len(numbers)) + where
    path.write_bytes(struct.pack("<2sHI", b"II", 42, start) + data + directory + bytes(4) + overflow)
    return path


def png(path: Path, values: NDArray[np.uint16]) -> Path:
    """Writes a PNG of 16 bits per channel; values are (height, width, channels), 2 to 4 channels."""
    height, width, channels = values.shape
    kind = {2: 4, 3: 2, 4: 6}[channels]

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path
