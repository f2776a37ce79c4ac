"""The index of variants: which there are, their metrics, and the hashes of their files.

Looking variants up reads `index.json` alone and imports neither torch nor torchvision. The index pins the
sha256 of every file, so that a name means the same bytes everywhere.
"""

import importlib.util
import os
import tomllib
import warnings
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from aezoo.errors import CheckpointError, PluginWarning, UnknownVariantError
from aezoo.files import read_limited
from aezoo.jsonio import strict_json
from aezoo.plugins.registry import distribution_of, enabled_entry_points, installed_entry_points, suggestion
from aezoo.specs.variant import NAME
from aezoo.text import printable, type_name

INDEX = "index.json"
CONFIG = "config.json"
MAX_INDEX_BYTES = 32 * 2**20
"""Largest index that is read; aezoo's own has 0.1 MB."""
VARIANTS = "aezoo.variants"
"""Entry-point group of packages with a `zoo` folder; the folder is read, the package is not imported."""


class FileEntry(TypedDict):
    """A file's size and hash."""

    sha256: str
    bytes: int


class LayerEntry(TypedDict):
    """A row of the layer table."""

    path: str
    kind: str
    output: list[int]
    parameters: int


class Entry(TypedDict):
    """A variant in the index.

    Attributes:
        summary: one sentence.
        references: papers that the variant follows.
        dataset: kind of the training dataset; None for data without a name.
        input: shape of one sample.
        latents: shape of one sample's latents.
        parameters: number of trainable parameters.
        layers: the layer table.
        metrics: name -> value; None if it was not measured.
        files: name -> size and hash.
        repository: `owner/name` on the Hub; None before the first push.
        commit: the published commit, 40 hexadecimal digits; None before the first push.
    """

    summary: str
    references: list[str]
    dataset: str | None
    input: list[int]
    latents: list[int]
    parameters: int
    layers: list[LayerEntry]
    metrics: dict[str, float | None]
    files: dict[str, FileEntry]
    repository: str | None
    commit: str | None


def zoo_root() -> Path:
    """The folder of aezoo's own zoo: in the installed package, else in the checkout.

    Raises:
        CheckpointError: neither exists.
    """
    return _zoo_root(Path(__file__).parent.parent)


@lru_cache(maxsize=1)
def _zoo_root(package: Path) -> Path:
    packaged, checkout = package / "_zoo", package.parent
    if (packaged / INDEX).is_file():
        return packaged
    project = checkout / "pyproject.toml"
    # The folder above an installed package may be anything; only aezoo's checkout holds its zoo.
    found = tomllib.loads(project.read_text("utf-8")) if project.is_file() else {}
    if found.get("project", {}).get("name") == "aezoo":
        return checkout / "zoo"
    raise CheckpointError("missing-file", f"this installation has no zoo: {packaged / INDEX} is missing")


def read_index(root: Path) -> dict[str, Any]:
    """The index of a folder of variants: `license` of the weights, and `variants`, name -> entry.

    Raises:
        CheckpointError: the index is missing, not valid JSON, or lists no variants.
    """
    path = root / INDEX
    try:
        raw = read_limited(path, MAX_INDEX_BYTES + 1)
    except OSError as error:
        raise CheckpointError("missing-file", f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > MAX_INDEX_BYTES:
        raise CheckpointError("invalid-config", f"{path} is larger than {MAX_INDEX_BYTES // 2**20} MB")
    found = strict_json(raw, path)
    if not isinstance(found.get("variants"), dict):
        raise CheckpointError("not-a-variant", f"{path} is not an index: it has no 'variants'")
    return found


def all_variants() -> dict[str, tuple[Path, Entry]]:
    """Every variant with the root folder that holds it: aezoo's own, then those of plugins by name.

    A plugin's zoo that cannot be read is left out, with one warning per process.
    """
    found, pending_warnings = _scan(zoo_root())
    while pending_warnings:
        warnings.warn(pending_warnings.pop(0), PluginWarning, stacklevel=3)
    return found


@lru_cache(maxsize=1)
def _scan(core_root: Path) -> tuple[dict[str, tuple[Path, Entry]], list[str]]:
    found: dict[str, tuple[Path, Entry]] = {
        name: (core_root, entry) for name, entry in read_index(core_root)["variants"].items()
    }
    points, problems = installed_entry_points(VARIANTS)
    for point in enabled_entry_points(points):
        source = f"the variants of {point.name} ({distribution_of(point)})"
        try:
            root = _plugin_root(point.value)
            entries = _checked_entries(read_index(root)["variants"], root / INDEX)
        except Exception as error:  # whatever the plugin's files hold, everything else keeps working
            problems.append(f"{source} were left out: {printable(error, 500)}")
            continue
        for name, entry in entries.items():
            if name in found:
                problems.append(f"{source}: {name!r} was left out, the name is taken")
            else:
                found[name] = (root, entry)
    return found, problems


def _checked_entries(entries: dict[str, object], path: Path) -> dict[str, Entry]:
    """The entries of a plugin's index, whose names and types may be anything.

    Raises:
        CheckpointError: one of them is not as `write_index` writes it.
    """
    for name, entry in entries.items():
        # A name is also the name of a folder.
        if not NAME.fullmatch(name):
            raise CheckpointError("invalid-config", f"{path}: {name!r} is not the name of a variant")
        try:
            TypeAdapter(Entry).validate_python(entry, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, (name, *first["loc"])))
            raise CheckpointError("invalid-config", f"{path}: {where}: {first['msg']}") from error
        if not all(text.isprintable() for text in _texts(entry)):
            raise CheckpointError("invalid-config", f"{path}: {name}: a text contains control characters")
    return cast(dict[str, Entry], entries)


def _texts(value: object) -> Iterator[str]:
    """Every string in plain data, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for pair in cast(dict[str, object], value).items():
            yield from _texts(list(pair))
    elif isinstance(value, list):
        for item in cast(list[object], value):
            yield from _texts(item)


def own_variants() -> dict[str, Path]:
    """Folders of variants under `AEZOO_ZOO` whose names no index lists, by name, sorted."""
    place = os.environ.get("AEZOO_ZOO")
    configs = sorted(Path(place).expanduser().glob(f"*/{CONFIG}")) if place else []
    return {c.parent.name: c.parent for c in configs if c.parent.name not in all_variants()}


def is_folder(text: str) -> bool:
    """Whether text is written as a folder rather than a name."""
    return (
        text in (".", "..", "~")
        or text.startswith(("./", "../", "/", "~", ".\\", "..\\"))
        or Path(text).is_absolute()
    )


def forget_index() -> None:
    """Read every index again on the next look-up, as after one has changed."""
    _scan.cache_clear()
    _zoo_root.cache_clear()


def _plugin_root(package: str) -> Path:
    """The `zoo` folder of a package, found without importing the package."""
    # Looking up a dotted name would import its parents.
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    places = None if spec is None else spec.submodule_search_locations
    if not places:
        raise CheckpointError("missing-file", f"there is no package {package!r}")
    return Path(next(iter(places))) / "zoo"


def variants_of(plugin: str) -> list[str]:
    """Names of the variants that a plugin provides, sorted.

    Args:
        plugin: name of its entry point.
    """
    points, _ = installed_entry_points(VARIANTS)
    packages = [point.value for point in points if point.name == plugin]
    variants = all_variants()
    roots = [_plugin_root(package) for package in packages]
    return sorted(name for name, (root, _) in variants.items() if root in roots)


def list_variants(pattern: str = "*") -> list[str]:
    """Names of variants, including those of plugins, sorted.

    Args:
        pattern: shell-style, such as `sparse-*` or `*.fashion`.

    Returns:
        The names that match; empty if none does.
    """
    return sorted(name for name in all_variants() if fnmatchcase(name, pattern))


def core_variants() -> list[str]:
    """Names of the variants in aezoo's own zoo, without those of plugins, sorted."""
    root = zoo_root()
    return sorted(name for name, (place, _) in all_variants().items() if place == root)


def get_entry(name: str) -> Entry:
    """The index entry of a variant; does not import torch.

    Raises:
        UnknownVariantError: no variant has this name; the message suggests the nearest one.
    """
    return find_variant(name)[1]


def find_variant(name: str) -> tuple[Path, Entry]:
    """The root folder and the index entry of a variant.

    Raises:
        UnknownVariantError: as for `get_entry`.
    """
    require_name(name)
    variants = all_variants()
    if name not in variants:
        text = f"no variant {name!r}{suggestion(name, [*variants, *own_variants()])}"
        hint = (
            f"write ./{name} for the folder"
            if Path(name).is_dir()
            else f"`aezoo list` shows all {len(variants)}"
        )
        raise UnknownVariantError(f"{text}; {hint}")
    return variants[name]


def require_name(name: object) -> None:
    """Checks the type of an argument.

    Raises:
        UnknownVariantError: it is not text.
    """
    if not isinstance(name, str):
        raise UnknownVariantError(f"expected the name of a variant as text, found {type_name(name)}")
