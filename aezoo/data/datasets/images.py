"""Folders of images, decoded once to uint8."""

import hashlib
import json
import math
import os
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from aezoo.data.datasets.files import cache_root, one_line
from aezoo.data.datasets.splits import ShuffledSpec
from aezoo.data.samples import Samples
from aezoo.data.transforms import ResizeMode, pixels
from aezoo.errors import DataError, warn_diagnostic
from aezoo.files import replacing, write_atomically
from aezoo.specs.base import Count, NonNegativeInt, WholeNumber

DECODER_VERSION = 1
"""Bump when the same files would be decoded to other bytes."""
AHEAD = 64
"""Number of images decoded ahead of the one being written; bounds the memory used for decoding."""

in_use: dict[str, tuple["weakref.ref[Tensor]", list[int]]] = {}
"""Cache key -> decoded images and the numbers of corrupt files. Weak references, so that the splits of one
training run share the images and the memory is freed afterwards."""


class ImagesSpec(ShuffledSpec):
    """Images of a folder and its subfolders, in any format that Pillow reads, resized to one size.

    Inputs are uint8, (n, channels, *size). If every image is in a subfolder, its label is the position of the
    top-level subfolder in sorted order. Splits are drawn at random.

    Images are decoded once. Above `memory_mib` they are decoded to a file in the user's cache, which is
    memory-mapped and reused until the folder changes.
    """

    kind: Literal["images"] = "images"
    path: str
    """The folder; relative to the current working directory."""
    size: tuple[Count, Count]
    """Height and width in pixels after resizing."""
    channels: Annotated[Literal[1, 3], WholeNumber] = 3
    """3 for colour, 1 for gray."""
    fit: ResizeMode = "crop"
    """`crop` scales the image to cover the size and cuts out the center, `stretch` scales height and width
    independently, `exact` raises an error for an image of another size."""
    skip_corrupt: bool = False
    """Whether to skip files that cannot be decoded, with a warning, instead of raising an error."""
    memory_mib: Count = 2048
    """Size of the decoded images, in MiB, above which they are memory-mapped from a file."""
    workers: NonNegativeInt = 0
    """Number of decoding threads; 0 for the number of processors."""

    @override
    def read(self) -> Samples:
        folder = Path(self.path).expanduser()
        files = _image_files(folder)
        key = self._key(folder, files)
        mapped = len(files) * math.prod(self._shape) > self.memory_mib * 2**20
        reference, corrupt = in_use.get(key, (None, list[int]()))
        images = None if reference is None else reference()
        if images is None:
            images, corrupt = self._decode_to_file(files, key) if mapped else self._decode_to_memory(files)
            in_use[key] = weakref.ref(images), corrupt
        if len(corrupt) == len(files):
            raise DataError(f"none of the {len(files)} images in {folder} can be decoded")
        samples = Samples(images, None, _labels(folder, files), mapped=mapped)
        if not corrupt:
            return samples
        warn_diagnostic(
            "corrupt-images", f"skipped {len(corrupt)} of {len(files)} images, first {files[corrupt[0]]}"
        )
        skipped = set(corrupt)
        return samples.select(torch.tensor([i for i in range(len(files)) if i not in skipped]))

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.channels, *self.size

    def _key(self, folder: Path, files: list[Path]) -> str:
        """A hash of everything that the decoded images depend on."""
        stats = [(file, file.stat()) for file in files]
        listing = [(str(file.relative_to(folder)), s.st_size, s.st_mtime_ns) for file, s in stats]
        what = [DECODER_VERSION, str(folder.resolve()), self._shape, self.fit, self.skip_corrupt, listing]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()

    def _decode_to_memory(self, files: list[Path]) -> tuple[Tensor, list[int]]:
        values = np.empty((len(files), *self._shape), np.uint8)
        corrupt: list[int] = []
        for index, image in enumerate(self._decoded(files, corrupt)):
            values[index] = image
        return torch.from_numpy(values), corrupt

    def _decode_to_file(self, files: list[Path], key: str) -> tuple[Tensor, list[int]]:
        shape = (len(files), *self._shape)
        path = cache_root() / "decoded" / f"{key}.u8"
        record = path.with_suffix(".json")
        try:
            if not (record.is_file() and path.is_file() and path.stat().st_size == math.prod(shape)):
                path.parent.mkdir(parents=True, exist_ok=True)
                corrupt: list[int] = []
                # Written instead of mapped: a full disk then raises OSError instead of killing the process.
                with replacing(path) as out:
                    for image in self._decoded(files, corrupt):
                        out.write(image.tobytes())
                    write_atomically(record, json.dumps(corrupt).encode())
            corrupt = cast(list[int], json.loads(record.read_text("utf-8")))
            images = torch.from_file(str(path), shared=False, size=math.prod(shape), dtype=torch.uint8)
        except OSError as error:
            raise DataError(
                f"{path} could not be written: {error.strerror or error}; the decoded images need "
                f"{math.prod(shape) / 2**30:.1f} GiB, set XDG_CACHE_HOME to use another folder"
            ) from error
        return images.view(shape), corrupt

    def _decoded(self, files: list[Path], corrupt: list[int]) -> Iterator[NDArray[np.uint8]]:
        """Decodes the files in order; yields zeros for a corrupt one and appends its number to `corrupt`."""
        with ThreadPoolExecutor(self.workers or os.cpu_count() or 1) as pool:
            pending: deque[Future[NDArray[np.uint8] | None]] = deque()
            try:
                for submitted in range(len(files) + AHEAD):
                    if submitted < len(files):
                        pending.append(pool.submit(self._decode, files[submitted]))
                    if (index := submitted - AHEAD) >= 0:
                        image = pending.popleft().result()
                        if image is None:
                            corrupt.append(index)
                        yield np.zeros(self._shape, np.uint8) if image is None else image
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _decode(self, file: Path) -> NDArray[np.uint8] | None:
        from PIL import Image

        try:
            with Image.open(file) as image:
                return pixels(image, self._shape, self.fit)
        except DataError as error:
            raise DataError(f"{file}: {error}") from error
        except Exception as error:  # Pillow raises many types of exceptions for corrupt files
            if self.skip_corrupt:
                return None
            raise DataError(
                f"{file} cannot be decoded: {one_line(error)}; set `skip_corrupt: true` to skip such files"
            ) from error


def _image_files(folder: Path) -> list[Path]:
    """Finds the image files below a folder by suffix, sorted; skips hidden files and folders."""
    from PIL import Image

    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; relative paths start at {Path.cwd()}")
    # Pillow writes some formats that it does not read, such as PDF. It reads MPO as JPEG.
    suffixes = Image.registered_extensions()
    readable = {suffix for suffix, name in suffixes.items() if name in {*Image.OPEN, "MPO"}}
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in readable
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not found:
        raise DataError(f"{folder} contains no images, such as .png or .jpg")
    return found


def _labels(folder: Path, files: list[Path]) -> Tensor | None:
    parts = [file.relative_to(folder).parts for file in files]
    if any(len(part) < 2 for part in parts):
        return None
    names = sorted({part[0] for part in parts})
    return torch.tensor([names.index(part[0]) for part in parts])
