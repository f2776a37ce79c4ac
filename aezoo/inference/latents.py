"""Latents to decode, from a file or from memory."""

import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from aezoo.data.datasets.files import existing_file, named_array, read_arrays
from aezoo.errors import DataError, optional
from aezoo.inference.outputs import read_stamp
from aezoo.inference.sources import ARRAYS
from aezoo.model.autoencoder import Autoencoder


def read_latents(ae: Autoencoder, latents: object) -> tuple[Tensor, list[str] | None, str]:
    """Latents as one tensor, (n, *latent shape), their names, and what they are."""
    names: list[str] | None = None
    given: Any = latents
    if not isinstance(given, str | os.PathLike):
        x = torch.as_tensor(given) if isinstance(given, np.ndarray) else given
        if not isinstance(x, Tensor):
            raise DataError(
                f"expected a file, an array or a tensor of latents, found {type(latents).__name__}"
            )
        text = "the latents"
    else:
        path = existing_file(os.fspath(given))
        text = str(path)
        stamp = read_stamp(path) or {}
        _check_stamp(ae, stamp, path)
        names = cast("list[str] | None", stamp.get("names"))
        x = _latents_of(ae, path)
        if names is not None and len(names) != len(x):
            raise DataError(f"{path} has {len(x)} rows, and its stamp has {len(names)} names")
    if tuple(x.shape[1:]) != ae.latent_shape or x.ndim < 2:
        expected = ", ".join(map(str, ae.latent_shape))
        raise DataError(f"{text}: expected latents of shape (n, {expected}), found {tuple(x.shape)}")
    if len(x) == 0:
        raise DataError(f"{text} has no rows")
    return x.detach().cpu(), names, text


def _check_stamp(ae: Autoencoder, stamp: dict[str, Any], path: Path) -> None:
    content = stamp.get("content", "latents")
    if content != "latents":
        raise DataError(f"{path} holds {content}, not latents")
    made_by, own = stamp.get("fingerprint"), ae.fingerprint()
    if made_by is not None and made_by != own:
        name = stamp.get("variant") or "another network"
        raise DataError(f"{path} holds latents of {name}, whose weights are not those of this network")


def _latents_of(ae: Autoencoder, path: Path) -> Tensor:
    suffix, names = path.suffix.lower(), ("latents", "indices", "values")
    if suffix == ".parquet":
        arrays = _columns(path, names)
        if "latents" in arrays and arrays["latents"].shape[1] == ae.num_latents:
            arrays["latents"] = arrays["latents"].reshape(-1, *ae.latent_shape)
    elif suffix in ARRAYS:
        arrays = read_arrays(path, names)
    else:
        raise DataError(f"{path}: expected latents in .npy, .npz, .safetensors or .parquet")
    if "indices" in arrays and "values" in arrays:
        return _dense(ae, path, arrays["indices"].long(), arrays["values"].float())
    return arrays["latents"] if "latents" in arrays else named_array(arrays, None, path)


def _columns(path: Path, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Columns of lists of equal length, (rows, length)."""
    parquet = optional("pyarrow.parquet", "pyarrow", "table")
    try:
        table = parquet.read_table(path)
        found = [name for name in names if name in table.column_names]
        flat = {name: np.array(table[name].combine_chunks().flatten()) for name in found}
        return {name: torch.from_numpy(values).reshape(len(table), -1) for name, values in flat.items()}
    except Exception as error:  # pyarrow, and lists of different length
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def _dense(ae: Autoencoder, path: Path, indices: Tensor, values: Tensor) -> Tensor:
    """Latents of pairs of index and value, (n, *latent shape)."""
    if indices.shape != values.shape or indices.ndim != 2:
        shapes = f"{list(indices.shape)} and {list(values.shape)}"
        raise DataError(f"{path}: expected indices and values of shape (n, k), found {shapes}")
    if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < ae.num_latents:
        raise DataError(f"{path} has an index outside of 0 to {ae.num_latents - 1}")
    # A pair of zeros stands for no latent; its index may be that of another pair.
    dense = torch.zeros(len(indices), ae.num_latents).scatter_add_(1, indices, values)
    return dense.reshape(-1, *ae.latent_shape)
