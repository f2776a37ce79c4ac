"""Variants by name: which there are, what is known of them, and the trained networks themselves.

Listing and looking up read `index.json` alone, so that they import neither torch nor torchvision. The
index also names the sha256 of every file, which is how a name comes to mean the same bytes everywhere.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aezoo.errors import CheckpointError, UnknownVariantError

if TYPE_CHECKING:
    import torch

    from aezoo.model.autoencoder import Autoencoder
    from aezoo.specs.variant import VariantSpec
    from aezoo.zoo.verify import VariantFiles
from aezoo.zoo.index import Entry, all_variants, find_variant, get_entry

HUB = "hub:"
"""What an address on the Hub begins with."""


def get_spec(name: str) -> "VariantSpec":
    """The resolved spec that a variant was trained from, to read, change and train again.

    Raises:
        UnknownVariantError: no such variant.
        CheckpointError: its config is not the published one.
    """
    from aezoo.zoo.verify import load_spec

    return load_spec(files_of(name), _hashes(get_entry(name)))


def load(
    name: str | os.PathLike[str],
    *,
    device: "str | torch.device" = "cpu",
    dtype: "torch.dtype | None" = None,
    max_parameters: int | None = None,
) -> "Autoencoder":
    """A trained autoencoder, verified, in evaluation mode.

    Args:
        name: a variant's name; or a folder, as a `Path` or as text that starts with `./`, `../`, `/`
            or `~`; or `hub:OWNER/NAME@REVISION` for anyone's repository on the Hub.
        device: where the weights go.
        dtype: of the weights, floating point; float32 by default.
        max_parameters: as for `build`.

    Raises:
        UnknownVariantError: no such variant, with the nearest name.
        CheckpointError: one subclass for each thing that can be wrong with the files.
        HubError: one subclass for each thing that can go wrong on the way from the Hub.
    """
    return load_with_files(name, device=device, dtype=dtype, max_parameters=max_parameters)[0]


def load_with_files(
    name: str | os.PathLike[str], **options: Any
) -> "tuple[Autoencoder, VariantFiles, dict[str, str]]":
    """What `load` gives, the files that it was loaded from, and the hashes that an index vouches for."""
    from aezoo.zoo.verify import VariantFiles, load_folder

    if isinstance(name, os.PathLike) or is_folder(name):
        folder = Path(name).expanduser()
        return load_folder(folder, **options), VariantFiles(folder), {}
    if name.startswith(HUB):
        files, expected, kind = *_on_the_hub(name), "hub"
    else:
        # Before the entry is looked up: a path is refused with what would work.
        files = files_of(name)
        expected, kind = _hashes(get_entry(name)), "zoo"
    ae = load_folder(files, expected=expected, **options)
    ae.source = replace(ae.source, kind=kind)
    return ae, files, expected


def download_all(name: str) -> Path:
    """The folder of a variant, verified, with every file that there is of it.

    Raises:
        UnknownVariantError, CheckpointError, HubError: as for `load`.
    """
    from aezoo.zoo.schema import FILES

    _, files, expected = load_with_files(name)
    for file in FILES:
        if file in expected or files.has(file):
            files.path(file)
    return files.folder


def _on_the_hub(address: str) -> "tuple[VariantFiles, dict[str, str]]":
    """The files of a repository, and the hashes of an index that names the very same commit."""
    from aezoo.errors import warn_diagnostic
    from aezoo.zoo.hub import Repository, read_address, resolve

    repository, revision = read_address(address)
    commit = resolve(repository, revision or "main")
    if revision is None:
        text = f"{address} means what its owner last made of it; what was loaded is {address}@{commit}"
        warn_diagnostic("unpinned", f"{text}, which stays the same")
    for _, entry in all_variants().values():
        if (entry["repository"], entry["commit"]) == (repository, commit):
            return _repository(entry), _hashes(entry)
    return Repository(repository, commit), {}


def files_of(name: str) -> "VariantFiles":
    """A variant's files: those of this installation, else under `AEZOO_ZOO`, else on the Hub.

    Raises:
        UnknownVariantError: no such variant.
        MissingFileError: it is in no such place.
    """
    from aezoo.zoo.verify import VariantFiles

    if "/" in name or os.sep in name:
        text = f"{name!r} is no variant's name; write '{HUB}{name}' for a repository on the Hub"
        raise UnknownVariantError(f"{text}, './{name}' for a folder")
    root, entry = find_variant(name)
    pulled = os.environ.get("AEZOO_ZOO")
    for place in (root, Path(pulled).expanduser() if pulled else None):
        if place is not None and (place / name).is_dir():
            return VariantFiles(place / name)
    if entry["commit"] is None:
        raise CheckpointError(
            "missing-file", f"{name} is not part of this installation, and not on the Hub yet"
        )
    return _repository(entry)


def _repository(entry: Entry) -> "VariantFiles":
    from aezoo.zoo.hub import Repository

    sizes = {file: record["bytes"] for file, record in entry["files"].items()}
    return Repository(str(entry["repository"]), str(entry["commit"]), sizes)


def _hashes(entry: Entry) -> dict[str, str]:
    return {file: record["sha256"] for file, record in entry["files"].items()}


def is_folder(text: str) -> bool:
    """Whether text spells a folder rather than a name."""
    return (
        text in (".", "..", "~")
        or text.startswith(("./", "../", "/", "~", ".\\", "..\\"))
        or Path(text).is_absolute()
    )


def folder_of(name: str) -> Path:
    """The folder of a variant; that of the Hub's cache, with what was fetched so far, for one from there.

    Raises:
        UnknownVariantError: no such variant.
        MissingFileError: it is in no place.
    """
    return files_of(name).folder
