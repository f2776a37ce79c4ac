"""Folders of reconstructed images."""

from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aezoo.errors import CheckpointError, DataError
from aezoo.inference.outputs import SUFFIXES
from aezoo.inference.sources import Source
from aezoo.jsonio import strict_json
from aezoo.model.autoencoder import Autoencoder

MANIFEST = "aezoo.json"
"""The file in a folder of images that says which network made them."""
IMAGE_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Number of channels -> Pillow's mode."""


def check_image_folder(ae: Autoencoder, path: Path, *, force: bool) -> None:
    """Checks that a folder can take a network's outputs as images, before anything is computed.

    Raises:
        DataError: the outputs are no images.
        CheckpointError: the path is a file, a folder with other files, or, unless `force`, an older output.
    """
    shape, spec = ae.spec.output.shape, ae.spec.output
    if len(shape) != 3 or shape[0] not in IMAGE_MODES or spec.range is None or ae.scaler is not None:
        suffixes = ", ".join(SUFFIXES)
        raise DataError(f"{path}: this network's outputs are no images; write a file instead: {suffixes}")
    if path.exists() and not path.is_dir():
        raise CheckpointError("target", f"{path} is a file, a folder is expected")
    if path.is_dir() and any(path.iterdir()):
        if not _is_ours(path):
            raise CheckpointError("target", f"{path} holds other files; write into a new folder")
        if not force:
            raise CheckpointError("target", f"{path} exists; pass force=True (--force) to replace it")


def _is_ours(folder: Path) -> bool:
    """Whether `reconstruct_to` or `decode_to` wrote a folder, and nothing else is in it."""
    try:
        manifest = folder / MANIFEST
        names = strict_json(manifest.read_bytes(), manifest)
        images = names.get("names") or [_numbered(i) for i in range(int(names["n"]))]
        expected = {MANIFEST, *map(str, images)}
    except (OSError, CheckpointError, KeyError, ValueError, TypeError):
        return False
    found = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir()}
    return found <= expected


def _numbered(row: int) -> str:
    return f"{row:07}.png"


class ImageNames:
    """Names of written images: those of the inputs, with the suffix .png, or numbers of rows."""

    def __init__(self, source: Source) -> None:
        self._named = source.named
        self._stems: set[str] = set()
        self.given: list[str] = []

    def __call__(self, identity: str | int) -> str:
        """The name of the image of an input.

        Raises:
            DataError: the name leaves the folder, or another image has it.
        """
        if not isinstance(identity, str):
            return _numbered(identity)
        path = Path(identity)
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"{identity!r} cannot be the name of an image: it leaves the folder")
        name = path.with_suffix(".png").as_posix()
        # a.jpg and a.bmp, or A.png on a file system that ignores case.
        if name.lower() in self._stems:
            name = f"{path.as_posix()}.png"
        if name.lower() in self._stems or name == MANIFEST:
            raise DataError(f"two images would be called {name}")
        self._stems.add(name.lower())
        self.given.append(name)
        return name


def to_bytes(ae: Autoencoder, x_hat: Tensor) -> NDArray[np.uint8]:
    """Reconstructions as bytes, 0 and 255 at the ends of the output's range: (n, channels, height, width)."""
    low, high = cast("tuple[float, float]", ae.spec.output.range)
    unit = (x_hat.double() - low) / (high - low)
    return (unit.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes a PNG of bytes, (channels, height, width)."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    values = image[0] if image.shape[0] == 1 else np.moveaxis(image, 0, -1)
    Image.fromarray(np.ascontiguousarray(values), IMAGE_MODES[image.shape[0]]).save(path, format="PNG")
