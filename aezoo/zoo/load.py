"""Variants by name, folder or Hub address: `load`, `get_spec`, and where their files are found."""

import os
from pathlib import Path

import torch

from aezoo.errors import CheckpointError, UnknownVariantError, warn_diagnostic
from aezoo.files import sweep
from aezoo.model.autoencoder import Autoencoder
from aezoo.specs.variant import VariantSpec
from aezoo.zoo import verify
from aezoo.zoo.index import Entry, all_variants, find_variant, is_folder, own_variants, require_name
from aezoo.zoo.schema import ALL_FILES, WEIGHTS
from aezoo.zoo.variant_files import VariantFiles, check_path

# aezoo.zoo.hub is imported where it is needed: its client takes longer to import than a variant to load.

HUB = "hub:"
"""Prefix of an address on the Hub."""


def get_spec(name: str | os.PathLike[str]) -> VariantSpec:
    """The resolved spec that a variant was trained from, to read, change and train again.

    Args:
        name: as for `load`.

    Raises:
        UnknownVariantError, CheckpointError, HubError: as for `load`.
    """
    return verify.load_spec(find_files(name))


def load(
    name: str | os.PathLike[str],
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    max_parameters: int | None = None,
    public_key: str | os.PathLike[str] | None = None,
) -> Autoencoder:
    """Load a trained autoencoder, verified, in evaluation mode.

    Args:
        name: a variant's name, also that of a folder under `AEZOO_ZOO`; or a folder, as a `Path` or as text
            that starts with `./`, `../`, `/` or `~`; or `hub:OWNER/NAME@REVISION` for any repository on the
            Hub.
        device: where the weights go.
        dtype: of the weights, floating point; float32 by default.
        max_parameters: as for `build`.
        public_key: a PEM file with the key that must have signed the variant; for what is loaded from the
            Hub, by default that of the environment variable `AEZOO_PUBLIC_KEY`, if it is set.

    Raises:
        UnknownVariantError: no variant has this name; the message suggests the nearest one.
        CheckpointError: a file is missing or fails a check; `code` says which.
        HubError: a file could not be downloaded; `code` says why.
    """
    files = find_files(name, public_key)
    return verify.load(files, device=device, dtype=dtype, max_parameters=max_parameters)


def download_all(name: str) -> Path:
    """Download and verify all files of a variant; return its folder.

    Raises:
        UnknownVariantError, CheckpointError, HubError: as for `load`.
    """
    files = find_files(name)
    verify.load(files)
    for file in ALL_FILES:
        if file != WEIGHTS and files.has(file):
            files.read(file)
    return files.folder


def find_files(
    name: str | os.PathLike[str], public_key: str | os.PathLike[str] | None = None
) -> VariantFiles:
    """The files that `load` reads for a name, a folder or a Hub address; their signature is verified.

    Raises:
        UnknownVariantError, CheckpointError, HubError: as for `load`.
    """
    files = _found(name)
    if public_key is None and files.repository is not None:
        public_key = os.environ.get("AEZOO_PUBLIC_KEY") or None
    if public_key is not None:
        from aezoo.zoo.signing import check_signature

        check_signature(files, public_key)
    return files


def _found(name: str | os.PathLike[str]) -> VariantFiles:
    if not isinstance(name, os.PathLike):
        require_name(name)
        if not is_folder(name):
            return _files_at(name) if name.startswith(HUB) else files_of(name)
    folder = check_path(Path(name), "missing-file")
    if not folder.exists():
        sweep(folder)  # a process may have been killed while it replaced the folder
    return VariantFiles(folder)


def files_of(name: str) -> VariantFiles:
    """A variant's files: in this installation, else under `AEZOO_ZOO`, else on the Hub.

    A folder under `AEZOO_ZOO` whose name no index lists is loaded as a folder is, without pinned hashes.

    Raises:
        UnknownVariantError: no variant has this name.
        CheckpointError: none of these places has it.
    """
    if "/" in name or os.sep in name:
        text = f"{name!r} is not the name of a variant; write '{HUB}{name}' for a repository on the Hub"
        raise UnknownVariantError(f"{text}, './{name}' for a folder")
    if folder := own_variants().get(name):
        return VariantFiles(folder)
    root, entry = find_variant(name)
    pulled = os.environ.get("AEZOO_ZOO")
    for place in (root, Path(pulled).expanduser() if pulled else None):
        if place is not None and (place / name).is_dir():
            return VariantFiles(place / name, _pinned_hashes(entry), "zoo")
    if entry["commit"] is None:
        text = f"{name} is not part of this installation, and not on the Hub yet"
        raise CheckpointError("missing-file", text)
    return _repository(entry, "zoo")


def _files_at(address: str) -> VariantFiles:
    """The files of a repository; with the pinned hashes if an index names the same commit."""
    from aezoo.zoo.hub import Repository, read_address, resolve

    repository, revision = read_address(address)
    commit = resolve(repository, revision or "main")
    if revision is None:
        text = f"{address} names the latest commit, which may change; pin this one: {address}@{commit}"
        warn_diagnostic("unpinned", text)
    for _, entry in all_variants().values():
        if (entry["repository"], entry["commit"]) == (repository, commit):
            return _repository(entry, "hub")
    return Repository(repository, commit)


def _repository(entry: Entry, kind: str) -> VariantFiles:
    from aezoo.zoo.hub import Repository

    sizes = {file: record["bytes"] for file, record in entry["files"].items()}
    return Repository(str(entry["repository"]), str(entry["commit"]), sizes, _pinned_hashes(entry), kind=kind)


def _pinned_hashes(entry: Entry) -> dict[str, str]:
    return {file: record["sha256"] for file, record in entry["files"].items()}


def folder_of(name: str) -> Path:
    """The folder of a variant; for one on the Hub, its place in the cache, with the files fetched so far.

    Raises:
        UnknownVariantError: no variant has this name.
        CheckpointError: it is in none of the places that `files_of` looks in.
    """
    return files_of(name).folder
