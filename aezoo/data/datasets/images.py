"""A folder of images, decoded once."""

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

from aezoo.data.datasets.splits import ShuffledSpec
from aezoo.data.datasets.torchvision import cache_root
from aezoo.data.samples import Samples
from aezoo.data.transforms import pixels
from aezoo.errors import DataError, warn_diagnostic
from aezoo.files import replacing, write_atomically
from aezoo.specs.base import Count, NonNegativeInt, WholeNumber

DECODING = 1
"""Grows when the same files would be decoded into other bytes."""
AHEAD = 64
"""Images that wait decoded while one is written; bounds the memory that decoding takes."""

_recent: dict[str, tuple["weakref.ref[Tensor]", list[int]]] = {}
"""What was decoded and may be in use still, so that the splits of one training share it; and what of it
could not be decoded."""


class ImagesSpec(ShuffledSpec):
    """Images in a folder and its subfolders, in any format that Pillow reads, brought to one size.

    Where every image lies in a subfolder, the first subfolder's place in sorted order is the label.
    Images are decoded once. Beyond `memory_mib` they are decoded into a file in the user's cache, which is
    mapped rather than read, and used again while the folder stays as it is.
    """

    kind: Literal["images"] = "images"
    path: str
    """The folder; relative to the folder in which Python runs."""
    size: tuple[Count, Count]
    """Height and width that every image is brought to."""
    channels: Annotated[Literal[1, 3], WholeNumber] = 3
    """3 for colour, 1 for gray."""
    fit: Literal["crop", "stretch", "exact"] = "crop"
    """`crop` scales the image until it covers the size and cuts the middle out, `stretch` scales each side
    by itself, `exact` refuses an image of another size."""
    skip_corrupt: bool = False
    """Whether files that cannot be decoded are left out, with a warning, rather than refused."""
    memory_mib: Count = 2048
    """Decoded images above this size, in MiB, are mapped from a file."""
    workers: NonNegativeInt = 0
    """Threads that decode; 0 for as many as there are processors."""

    def read(self) -> Samples:
        """All images, uint8, (n, channels, *size)."""
        folder = Path(self.path).expanduser()
        files = _images(folder)
        key = self._key(folder, files)
        mapped = len(files) * math.prod(self._shape) > self.memory_mib * 2**20
        reference, bad = _recent.get(key, (None, list[int]()))
        store = None if reference is None else reference()
        if store is None:
            store, bad = self._mapped(files, key) if mapped else self._in_memory(files)
            _recent[key] = weakref.ref(store), bad
        if len(bad) == len(files):
            raise DataError(f"none of the {len(files)} images in {folder} can be decoded")
        samples = Samples(store, None, _labels(folder, files), mapped=mapped)
        if not bad:
            return samples
        warn_diagnostic(
            "corrupt-images", f"{len(bad)} of {len(files)} images are left out, {files[bad[0]]} first"
        )
        left_out = set(bad)
        return samples.select(torch.tensor([i for i in range(len(files)) if i not in left_out]))

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.channels, *self.size

    def _key(self, folder: Path, files: list[Path]) -> str:
        """Changes whenever the decoded images could."""
        stats = [(file, file.stat()) for file in files]
        listing = [(str(file.relative_to(folder)), s.st_size, s.st_mtime_ns) for file, s in stats]
        what: list[object] = [
            DECODING,
            str(folder.resolve()),
            self._shape,
            self.fit,
            self.skip_corrupt,
            listing,
        ]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()

    def _in_memory(self, files: list[Path]) -> tuple[Tensor, list[int]]:
        values = np.zeros((len(files), *self._shape), np.uint8)
        bad: list[int] = []
        for index, decoded in enumerate(self._decoded(files)):
            if decoded is None:
                bad.append(index)
            else:
                values[index] = decoded
        return torch.from_numpy(values), bad

    def _mapped(self, files: list[Path], key: str) -> tuple[Tensor, list[int]]:
        shape = (len(files), *self._shape)
        place = cache_root() / "decoded" / f"{key}.u8"
        record = place.with_suffix(".json")
        try:
            if not (record.is_file() and place.is_file() and place.stat().st_size == math.prod(shape)):
                self._write(files, place, record)
            bad = cast(list[int], json.loads(record.read_text("utf-8")))
            store = torch.from_file(str(place), shared=False, size=math.prod(shape), dtype=torch.uint8)
        except OSError as error:
            gib = math.prod(shape) / 2**30
            raise DataError(
                f"{place} could not be written: {error.strerror or error}; the decoded images take {gib:.1f} "
                "GiB there, XDG_CACHE_HOME names another place"
            ) from error
        return store.view(shape), bad

    def _write(self, files: list[Path], place: Path, record: Path) -> None:
        """Decodes into a file that appears under its name when it is whole."""
        place.parent.mkdir(parents=True, exist_ok=True)
        bad: list[int] = []
        # Written rather than mapped: a full disk is then an error, not the end of the process.
        with replacing(place) as out:
            for index, decoded in enumerate(self._decoded(files)):
                if decoded is None:
                    bad.append(index)
                out.write(bytes(math.prod(self._shape)) if decoded is None else decoded.tobytes())
            write_atomically(record, json.dumps(bad).encode())

    def _decoded(self, files: list[Path]) -> Iterator[NDArray[np.uint8] | None]:
        """Every image in order; None for one that is left out."""
        workers = self.workers or os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:
            waiting: deque[Future[NDArray[np.uint8] | None]] = deque()
            try:
                for file in files:
                    waiting.append(pool.submit(self._decode, file))
                    if len(waiting) > AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _decode(self, file: Path) -> NDArray[np.uint8] | None:
        from PIL import Image, ImageOps

        try:
            with Image.open(file) as image:
                # Cameras write which way is up beside the pixels.
                return pixels(ImageOps.exif_transpose(image), self._shape, self.fit)
        except DataError as error:
            raise DataError(f"{file}: {error}") from error
        except Exception as error:  # Pillow's plugins raise whatever a damaged file leads them to
            if self.skip_corrupt:
                return None
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(
                f"{file} cannot be decoded: {reason}; `skip_corrupt: true` leaves such files out"
            ) from error


def _images(folder: Path) -> list[Path]:
    """The files below a folder whose suffix is an image's, in sorted order; hidden ones are left out.

    Raises:
        DataError: no folder, or no images in it.
    """
    from PIL import Image

    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; relative paths start at {Path.cwd()}")
    # Some formats can be written and not read, such as PDF; MPO is read as JPEG.
    formats = {*Image.OPEN, "MPO"} if Image.registered_extensions() else set[str]()
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in formats}
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in known
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not found:
        raise DataError(f"{folder} holds no images, such as .png or .jpg")
    return found


def _labels(folder: Path, files: list[Path]) -> Tensor | None:
    parts = [file.relative_to(folder).parts for file in files]
    if any(len(part) < 2 for part in parts):
        return None
    names = sorted({part[0] for part in parts})
    return torch.tensor([names.index(part[0]) for part in parts])
