"""Folders of images, decoded once."""

import hashlib
import json
import math
import os
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from typing_extensions import override

from aezoo.data.datasets.files import cache_root, check_memory, expanded, one_line
from aezoo.data.datasets.splits import ShuffledSpec, hash_splits
from aezoo.data.pixels import ResizeMode, is_deep, open_image, pixels, unused_bits, warn_unused_bits
from aezoo.data.samples import Samples
from aezoo.data.transforms import Scaler
from aezoo.errors import DataError, warn_diagnostic
from aezoo.files import read_limited, replacing, write_atomically
from aezoo.specs.base import Count, NonNegativeInt, PositiveFloat, WholeNumber
from aezoo.specs.components import Split

DECODER_VERSION = 2
"""Bump when the same files would be decoded to other bytes."""
AHEAD = 64
"""Number of images decoded ahead of the one being written; bounds the memory used for decoding."""
TOGETHER = 16
"""Number of files that a thread takes at once; passing on a single small one takes as long as decoding it."""
MAX_RECORD = 2**28
"""Limit for the record of decoded images, in bytes."""
UNREADABLE = bytes(32)
"""Stands for the hash of a file that cannot be read; its decoding says why."""

OTHER_IMAGES = {
    ".arw", ".cr2", ".cr3", ".dcm", ".dng", ".exr", ".heic", ".heif", ".hif", ".jxl", ".nef", ".orf", ".raf",
    ".rw2", ".svg",
}  # fmt: skip
"""Suffixes of images that Pillow does not know."""

SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Names of top-level subfolders that are splits, in lower case."""

T = TypeVar("T")


class DeepValuesFound(Exception):  # noqa: N818 - an answer, not a failure
    """An image of more than 8 bits among those that are decoded to bytes."""


class DecodedImage(NamedTuple):
    """What was found in an image file.

    Attributes:
        values: (channels, height, width), uint8 or float32; None if the file is corrupt and to be skipped.
        highest: its `unused_bits`.
        deep: whether its values have more than 8 bits.
    """

    values: NDArray[Any] | None
    highest: float | None
    deep: bool


class Record(BaseModel):
    """What was found when the images of a folder were decoded; the JSON next to a decoded file."""

    model_config = ConfigDict(strict=True, extra="forbid")

    dtype: Literal["uint8", "float32"]
    """float32 if an image has more than 8 bits."""
    corrupt: list[NonNegativeInt] = []
    """Numbers of the files that cannot be decoded."""
    highest: float = 0.0
    """The largest value of the images of more than 8 bits whose white level nobody states."""
    sha256: str = ""
    """Of the decoded file."""


class ImageFile(NamedTuple):
    """A file of an image folder.

    Attributes:
        folder: the image folder.
        names: the names of the subfolders and of the file.
        split: the split whose folder contains the file, or None.
    """

    folder: Path
    names: tuple[str, ...]
    split: Split | None

    @property
    def path(self) -> Path:
        """The file; made when it is needed, since that takes longer than listing the file."""
        return self.folder.joinpath(*self.names)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the subfolders and of the file, without the folder of a split."""
        return self.names if self.split is None else self.names[1:]


in_use: dict[str, tuple["weakref.ref[Tensor]", Record]] = {}
"""Cache key -> decoded images and what was found. Weak references, so that the splits of one training run
share the images and the memory is freed afterwards."""


class ImagesSpec(ShuffledSpec):
    """Images of a folder and its subfolders, resized to one size.

    Formats: PNG, JPEG, WebP, AVIF, GIF, TIFF, BMP, PPM (PGM, PBM), JPEG 2000, TGA and QOI. An image that
    would lose something is refused by name: several frames or pages, transparent pixels with fewer than 4
    channels, extra channels, 16 bits per colour channel.

    Inputs are uint8, (n, channels, *size), or float32 from 0 to 1 (white) if an image has more than 8 bits
    per value. If every image is in a subfolder, its label is the position of the top-level subfolder in
    sorted order.

    The top-level subfolders `train`, `val` and `test` (also `training`, `valid`, `validation`, `dev`,
    `testing`) are the splits if there are at least two of them; labels then come from the subfolders below.
    Otherwise, splits are drawn by a hash of each file's bytes, so that files that are added, removed or
    renamed move no others; validation images without a folder are drawn from `train` in the same way.

    Images are decoded once. Above `memory_mib` they are decoded to a file in the user's cache, which is
    memory-mapped and reused until a file of the folder changes.
    """

    kind: Literal["images"] = "images"
    examples = ({"path": "photos", "size": [64, 64]},)
    path: str
    """The folder; relative to the current working directory."""
    size: tuple[Count, Count]
    """Height and width in pixels after resizing."""
    channels: Annotated[Literal[1, 3, 4], WholeNumber] = 3
    """3 for colour, 1 for gray, 4 for colour and opacity."""
    fit: ResizeMode = "crop"
    """`crop` scales the image to cover the size and cuts out the center, `stretch` scales height and width
    independently, `exact` raises an error for an image of another size."""
    white: PositiveFloat | None = None
    """Value of white in images of more than 8 bits per value that do not state it, such as 4095 for 12 bits
    in 16-bit files; by default 65535. Images of 32-bit integers or floating point need it."""
    skip_corrupt: bool = False
    """Whether to skip files that cannot be decoded, with a warning, instead of raising an error."""
    memory_mib: Count = 2048
    """Size of the decoded images, in MiB, above which they are memory-mapped from a file."""
    workers: NonNegativeInt = 0
    """Number of decoding threads; 0 for the number of processors."""

    @override
    def has(self, split: Split) -> bool:
        return super().has(split) or split in self._split_folders()

    @override
    def validation_note(self) -> str:
        if "validation" in self._split_folders():
            return "the folder's own split"
        return f"a share of {self.validation:g}, by a hash of each file with seed {self.seed}"

    @override
    def read(self) -> Samples:
        return self._read()[0]

    @override
    def load_for(self, split: Split, scaler: Scaler | None, columns: tuple[str, ...] = ()) -> Samples:
        return self.load(split).scaled_for(scaler, columns)

    @override
    def read_splits(self) -> tuple[Samples, dict[Split, Tensor]]:
        samples, files, digests = self._read()
        return samples, self._rows(files, digests)

    def _read(self) -> tuple[Samples, list[ImageFile], list[bytes]]:
        """All samples, their files, and a hash of each file."""
        folder = expanded(self.path)
        files = _image_files(folder)
        digests = self._in_threads(_digest, files)
        images, mapped, record = self._images(files, digests)
        if len(record.corrupt) == len(files):
            raise DataError(f"none of the {len(files)} images in {folder} can be decoded")
        warn_unused_bits(record.highest)
        skipped = set(record.corrupt)
        kept = [i for i in range(len(files)) if i not in skipped]
        samples = Samples(images, None, _labels(files), mapped=mapped, unit_scale=record.dtype == "float32")
        if skipped:
            first = files[record.corrupt[0]].path
            warn_diagnostic("corrupt-images", f"skipped {len(skipped)} of {len(files)} images, first {first}")
            samples = samples.select(torch.tensor(kept))
        return samples, [files[i] for i in kept], [digests[i] for i in kept]

    def _split_folders(self) -> set[Split | None]:
        with suppress(DataError):
            return {file.split for file in _image_files(expanded(self.path))}
        return set()

    def _rows(self, files: list[ImageFile], digests: list[bytes]) -> dict[Split, Tensor]:
        """The rows of each split: those of its folder, in the order of their hashes, or drawn by hash."""
        x = torch.frombuffer(bytearray(b"".join(digests)), dtype=torch.uint8).view(len(digests), -1)

        def draw(rows: Tensor, validation: float, test: float) -> dict[Split, Tensor]:
            drawn = hash_splits(x[rows], validation, test, self.seed, few=0)
            return {split: rows[indices] for split, indices in drawn.items()}

        if files[0].split is None:
            return draw(torch.arange(len(files)), self.validation, self.test)
        rows: dict[Split, Tensor] = {}
        for split in ("train", "validation", "test"):
            of_split = [i for i, file in enumerate(files) if file.split == split]
            rows[split] = torch.tensor(sorted(of_split, key=lambda i: digests[i]), dtype=torch.int64)
        _warn_shared(files, digests)
        has_validation, needs_test = len(rows["validation"]) > 0, self.test > 0 and not len(rows["test"])
        if not has_validation:
            drawn = draw(rows["train"], self.validation, self.test if needs_test else 0.0)
            rows |= drawn if needs_test else {"train": drawn["train"], "validation": drawn["validation"]}
        elif needs_test:
            drawn = draw(rows["train"], self.test, 0.0)
            rows |= {"train": drawn["train"], "test": drawn["validation"]}
        return rows

    # -- decoding ---------------------------------------------------------------------------------

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.channels, *self.size

    def _images(self, files: list[ImageFile], digests: list[bytes]) -> tuple[Tensor, bool, Record]:
        """The decoded images, whether they are memory-mapped, and what was found."""
        from PIL import Image

        mapped = len(files) * math.prod(self._shape) > self.memory_mib * 2**20
        key = self._key(files, digests)
        reference, record = in_use.get(key, (None, None))
        images = None if reference is None else reference()
        if images is None or record is None:
            with warnings.catch_warnings():
                # Too many pixels are an error.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                decode = self._decode_to_file if mapped else self._decode_to_memory
                paths = [file.path for file in files]
                try:
                    images, record = decode(paths, key, Record(dtype="uint8"))
                except DeepValuesFound:
                    images, record = decode(paths, key, Record(dtype="float32"))
            in_use[key] = weakref.ref(images), record
        return images, mapped, record

    def _key(self, files: list[ImageFile], digests: list[bytes]) -> str:
        """A hash of everything that the decoded images depend on."""
        import PIL

        what = [DECODER_VERSION, PIL.__version__, self._shape, self.fit, self.white, self.skip_corrupt]
        listing = [digest.hex() for digest in digests]
        if UNREADABLE in digests:
            listing += [str(file.path.resolve()) for file in files]
        return hashlib.sha256(json.dumps([what, listing]).encode()).hexdigest()

    def _decode_to_memory(self, files: list[Path], key: str, record: Record) -> tuple[Tensor, Record]:
        size = len(files) * math.prod(self._shape) * np.dtype(record.dtype).itemsize
        try:
            check_memory(size)
            values = np.empty((len(files), *self._shape), record.dtype)
        except MemoryError as error:
            raise DataError(
                f"the decoded images need {size / 2**30:.1f} GiB, more than the memory; with a smaller "
                "`memory_mib` they are mapped from a file"
            ) from error
        for index, image in enumerate(self._decoded(files, record)):
            values[index] = image
        return torch.from_numpy(values), record

    def _decode_to_file(self, files: list[Path], key: str, record: Record) -> tuple[Tensor, Record]:
        shape = (len(files), *self._shape)
        json_file = cache_root() / "decoded" / f"{key}.json"
        found = _cached(json_file, shape)
        if found is not None:
            return found
        path = _decoded_file(json_file, record)
        digest = hashlib.sha256()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Written instead of mapped: a full disk then raises OSError instead of killing the process.
            with replacing(path) as out:
                for image in self._decoded(files, record):
                    data = image.tobytes()
                    digest.update(data)
                    out.write(data)
                record.sha256 = digest.hexdigest()
                write_atomically(json_file, record.model_dump_json().encode())
            return _map(path, shape, record), record
        except OSError as error:
            size = math.prod(shape) * np.dtype(record.dtype).itemsize
            raise DataError(
                f"{path} could not be written: {error.strerror or error}; the decoded images need "
                f"{size / 2**30:.1f} GiB, set XDG_CACHE_HOME to use another folder"
            ) from error

    def _in_threads(self, function: Callable[[Any], T], items: list[Any]) -> list[T]:
        """The results of a function, in the order of its arguments."""

        def run(part: list[Any]) -> list[T]:
            return [function(item) for item in part]

        with ThreadPoolExecutor(self.workers or os.cpu_count() or 1) as pool:
            return [result for results in pool.map(run, _parts(items)) for result in results]

    def _decoded(self, files: list[Path], record: Record) -> Iterator[NDArray[Any]]:
        """Decodes the files in order; yields zeros for a corrupt one and records its number.

        Raises:
            DeepValuesFound: the record is one of bytes, and a file has more than 8 bits.
        """
        for index, image in enumerate(self._decoded_ahead(files)):
            if image.deep and record.dtype == "uint8":
                raise DeepValuesFound
            if image.values is None:
                record.corrupt.append(index)
                yield np.zeros(self._shape, record.dtype)
            else:
                record.highest = max(record.highest, image.highest or 0.0)
                to_unit = record.dtype == "float32" and image.values.dtype == np.uint8
                yield image.values.astype(np.float32) / 255 if to_unit else image.values

    def _decoded_ahead(self, files: list[Path]) -> Iterator[DecodedImage]:
        """Decodes the files in threads and yields them in order."""

        def decode(part: list[Path]) -> list[DecodedImage]:
            return [self._decode(file) for file in part]

        with ThreadPoolExecutor(self.workers or os.cpu_count() or 1) as pool:
            pending: deque[Future[list[DecodedImage]]] = deque()
            try:
                for part in _parts(files):
                    pending.append(pool.submit(decode, part))
                    if len(pending) > AHEAD // TOGETHER:
                        yield from pending.popleft().result()
                while pending:
                    yield from pending.popleft().result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _decode(self, file: Path) -> DecodedImage:
        deep = False
        try:
            with open_image(file) as image:
                deep = is_deep(image)
                values = pixels(image, self._shape, self.fit, self.white)
                return DecodedImage(values, unused_bits(image, self.white), deep)
        except DataError as error:
            raise DataError(f"{file}: {error}") from error
        except Exception as error:  # Pillow raises many types of exceptions for corrupt files
            if self.skip_corrupt:
                return DecodedImage(None, None, deep)
            raise DataError(
                f"{file} cannot be decoded: {one_line(error)}; set `skip_corrupt: true` to skip such files"
            ) from error


def _parts(items: list[T]) -> list[list[T]]:
    return [items[start : start + TOGETHER] for start in range(0, len(items), TOGETHER)]


def _cached(json_file: Path, shape: tuple[int, ...]) -> tuple[Tensor, Record] | None:
    """Maps a decoded file if it is complete and has the hash that its record states."""
    try:
        if not json_file.is_file():
            return None
        record = Record.model_validate_json(read_limited(json_file, MAX_RECORD))
        path = _decoded_file(json_file, record)
        size = math.prod(shape) * np.dtype(record.dtype).itemsize
        if not path.is_file() or path.stat().st_size != size or max(record.corrupt, default=0) >= shape[0]:
            return None
        images = _map(path, shape, record)
    except (OSError, ValueError, DataError):
        return None
    same = hashlib.sha256(cast(Any, images.numpy())).hexdigest() == record.sha256
    return (images, record) if same else None


def _decoded_file(json_file: Path, record: Record) -> Path:
    return json_file.with_suffix({"uint8": ".u8", "float32": ".f32"}[record.dtype])


def _map(path: Path, shape: tuple[int, ...], record: Record) -> Tensor:
    dtype = {"uint8": torch.uint8, "float32": torch.float32}[record.dtype]
    return torch.from_file(str(path), shared=False, size=math.prod(shape), dtype=dtype).view(shape)


def _digest(file: ImageFile) -> bytes:
    try:
        with file.path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").digest()
    except OSError:
        return UNREADABLE


def _image_files(folder: Path) -> list[ImageFile]:
    """The image files below a folder, each with its split.

    Raises:
        DataError: no folder, no images, or images beside the folders of splits.
    """
    found: list[ImageFile] = []
    for names in _image_names(folder):
        split = SPLIT_FOLDERS.get(names[0].lower()) if len(names) > 1 else None
        found.append(ImageFile(folder, names, split))
    splits = {file.split for file in found} - {None}
    if len(splits) < 2:  # A class may be called `train`.
        return [file._replace(split=None) for file in found] if splits else found
    others = [file.path for file in found if file.split is None]
    if others or "train" not in splits:
        names = ", ".join(sorted({file.names[0] for file in found if file.split is not None}))
        reason = f"{others[0]} is outside of them" if others else "no folder train"
        raise DataError(f"{folder} has folders of splits ({names}), but {reason}")
    return found


def image_paths(folder: Path) -> list[Path]:
    """Finds the image files below a folder by suffix, sorted; skips hidden files and folders.

    Raises:
        DataError: no folder, or no images.
    """
    return [folder.joinpath(*names) for names in _image_names(folder)]


def _image_names(folder: Path) -> list[tuple[str, ...]]:
    """The names of the subfolders and of the file, for each path of `image_paths`."""
    from PIL import Image

    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; relative paths start at {Path.cwd()}")
    # Pillow writes some formats that it does not read, such as PDF. It reads MPO as JPEG.
    suffixes = Image.registered_extensions()
    readable = {suffix for suffix, name in suffixes.items() if name in {*Image.OPEN, "MPO"}}
    # Other images are not left out: their decoding says that they cannot be read.
    found = sorted(_visible_files(folder, tuple(readable | OTHER_IMAGES)))
    if not found:
        raise DataError(f"{folder} contains no images, such as .png or .jpg")
    return found


def _visible_files(
    folder: Path, suffixes: tuple[str, ...], parts: tuple[str, ...] = (), above: tuple[Path, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """The files of some suffixes that are not hidden, also in linked folders, below the first folder."""
    real = folder.resolve()
    if real in above:  # a link back to a folder that contains it
        return
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}") from error
    for entry in found:
        # Only a link needs another look at the disk.
        link = Path(entry.path) if entry.is_symlink() else None
        if link.is_dir() if link else entry.is_dir():
            yield from _visible_files(folder / entry.name, suffixes, (*parts, entry.name), (*above, real))
        # A link to a missing file, as git-annex makes, is an error when it is decoded.
        elif entry.name.lower().endswith(suffixes) and (
            (link.is_file() or not link.exists()) if link else entry.is_file()
        ):
            yield (*parts, entry.name)


def _labels(files: list[ImageFile]) -> Tensor | None:
    if any(len(file.parts) < 2 for file in files):
        return None
    names = sorted({file.parts[0] for file in files})
    return torch.tensor([names.index(file.parts[0]) for file in files])


def _warn_shared(files: list[ImageFile], digests: list[bytes]) -> None:
    """Warns if the folders of two splits contain the same bytes."""
    first: dict[bytes, ImageFile] = {}
    for file, digest in zip(files, digests, strict=True):
        other = first.setdefault(digest, file)
        if other.split != file.split:
            warn_diagnostic(
                "shared-images", f"{file.path} and {other.path} are the same image in two splits; remove one"
            )
            return
