"""Index entries of variants wherever they are: in an index, under `AEZOO_ZOO`, or in a folder."""

import warnings
from fnmatch import fnmatchcase
from pathlib import Path

from aezoo.errors import AezooError, CheckpointError
from aezoo.zoo.index import Entry, get_entry, is_folder, list_variants, own_variants

# aezoo.zoo.write_index is imported where it is needed: only folders that no index lists need torch.


def find_entry(name: str) -> Entry:
    """The entry of a variant by name or folder.

    Raises:
        UnknownVariantError: no variant has this name.
        CheckpointError: the folder cannot be loaded.
    """
    folder = Path(name).expanduser() if is_folder(name) else own_variants().get(name)
    return get_entry(name) if folder is None else _read(folder)


def find_entries(pattern: str = "*") -> dict[str, Entry]:
    """The entries of variants by name, sorted.

    Variants in a folder that cannot be loaded are left out with a warning.

    Args:
        pattern: of names, shell-style; or a folder such as `./mine`, of one variant or of several.

    Raises:
        CheckpointError: the folder holds no variant.
    """
    if is_folder(pattern):
        return _in_folder(pattern)
    found = {name: get_entry(name) for name in list_variants(pattern)}
    own = {name: folder for name, folder in own_variants().items() if fnmatchcase(name, pattern)}
    return dict(sorted((found | _readable(own)).items()))


def _in_folder(text: str) -> dict[str, Entry]:
    root = Path(text).expanduser()
    if (root / "config.json").is_file():
        return {text: _read(root)}
    configs = sorted(root.glob("*/config.json"))
    if not configs:
        what = "holds no variant" if root.is_dir() else "is not a folder"
        raise CheckpointError("not-a-variant", f"{text} {what}")
    return _readable({f"{text.rstrip('/')}/{c.parent.name}": c.parent for c in configs})


def _readable(folders: dict[str, Path]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for name, folder in folders.items():
        try:
            found[name] = _read(folder)
        except AezooError as error:
            warnings.warn(f"{folder} was left out: {error}", stacklevel=4)
    return found


def _read(folder: Path) -> Entry:
    from aezoo.zoo.write_index import folder_entry

    return folder_entry(folder)
