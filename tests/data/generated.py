"""Arrays, images and files made for tests of data."""

# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import safetensors.torch
import torch
from numpy.typing import NDArray
from PIL import Image


def numbers(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(3, 5, shape).astype(np.float32)


def pixels(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def byte_tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(pixels(*shape, seed=seed))


def numbered(n: int) -> torch.Tensor:
    """Constant samples, (n, 1, 6, 6), from 0 for the first to 1 for the last."""
    return torch.linspace(0, 1, n).view(n, 1, 1, 1).expand(n, 1, 6, 6).contiguous()


def with_value(x: torch.Tensor, index: tuple[int, ...], value: float) -> torch.Tensor:
    """A copy with one value replaced."""
    changed = x.clone()
    changed[index] = value
    return changed


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(pixels(height, width, 3, seed=seed))


def image_folder(
    n: int, height: int = 6, width: int = 8, labelled: bool = False, path: str = "photos"
) -> Path:
    """A folder of different images; if labelled, each in its own subfolder."""
    for index in range(n):
        file = Path(path, f"{index:03}", "it.png") if labelled else Path(path, f"{index:03}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(height, width, seed=index).save(file)
    return Path(path)


def array_file(path: str, **arrays: NDArray[Any]) -> str:
    """A file of arrays in the format of its suffix."""
    if path.endswith(".npy"):
        (array,) = arrays.values()
        np.save(path, array)
    elif path.endswith(".npz"):
        np.savez_compressed(path, **cast(Any, arrays))
    else:
        safetensors.torch.save_file({k: torch.from_numpy(v) for k, v in arrays.items()}, path)
    return path


def parquet_file(path: str, **columns: Any) -> str:
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path
