"""Pull variants and datasets into folders that machines without a network can use."""

import os
from pathlib import Path

from aezoo.data.datasets.torchvision import TorchvisionSplits, data_root
from aezoo.errors import CheckpointError, DataError
from aezoo.plugins.registry import registry
from aezoo.zoo.folders import write_folder
from aezoo.zoo.load import find_files
from aezoo.zoo.schema import ALL_FILES, SIGNATURE, WEIGHTS
from aezoo.zoo.variant_files import check_hash, check_path
from aezoo.zoo.verify import load, require_variant


def pull(name: str, to: str | os.PathLike[str] | None = None) -> Path:
    """Copy or download a variant's folder, verified.

    Args:
        name: a variant's name, or `hub:OWNER/NAME@REVISION`.
        to: the folder to put it into; by default `AEZOO_ZOO`, in which `aezoo.load` finds variants by name.

    Returns:
        The variant's folder; if it exists with the same content, it is left as it is.

    Raises:
        UnknownVariantError: no variant has this name.
        CheckpointError: a file fails a check, or another folder is in the way.
        HubError: a file could not be downloaded.
    """
    place = os.environ.get("AEZOO_ZOO") if to is None else os.fspath(to)
    if not place:
        raise CheckpointError("target", "no target folder: pass one (--to DIR), or set AEZOO_ZOO")
    files = find_files(name)
    ae = load(files)
    target = check_path(Path(place), "target") / require_variant(ae.spec, name).name
    names = (*ALL_FILES, SIGNATURE)
    contents = {file: files.read(file) for file in names if file != WEIGHTS and files.has(file)}
    contents[WEIGHTS] = files.path(WEIGHTS).read_bytes()
    for file, sha256 in ae.source.hashes.items():
        # A file may have changed since it was loaded.
        check_hash(files.folder / file, contents[file], sha256)
    present = {file: (target / file).read_bytes() for file in names if (target / file).is_file()}
    if present == contents:
        return target
    if target.exists():
        text = f"{target} exists and holds something else; remove it, or pull into another folder"
        raise CheckpointError("target", text)
    return write_folder(target, contents)


def pull_dataset(kind: str, to: str | os.PathLike[str] | None = None) -> Path:
    """Copy or download a dataset, to be found through `AEZOO_DATA`.

    Args:
        kind: such as `mnist`.
        to: the folder to put it into; by default `AEZOO_DATA`, or aezoo's folder in the user's cache.

    Returns:
        The folder.

    Raises:
        RegistryError: there is no such dataset.
        DataError: the dataset cannot be downloaded, or the download failed.
    """
    cls = registry.get("dataset", kind)
    if not issubclass(cls, TorchvisionSplits) or any(f.is_required() for f in cls.model_fields.values()):
        raise DataError(f"the dataset {kind} cannot be pulled; mnist and fashion_mnist can")
    root = data_root() if to is None else check_path(Path(to), "target")
    cls().fetch(root)
    return root
