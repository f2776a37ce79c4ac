"""Variants by name: which there are, what is known of them, and the trained networks themselves.

Listing and looking up read `index.json` alone, so that they import neither torch nor torchvision. The
index also names the sha256 of every file, which is how a name comes to mean the same bytes everywhere.
"""

import hashlib
import importlib.util
import json
import os
import tomllib
import warnings
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from aezoo.errors import (
    CheckpointError,
    MissingFileError,
    NotSupportedError,
    PluginWarning,
    UnknownVariantError,
)
from aezoo.registry import distribution_of, suggestion, wanted_points

if TYPE_CHECKING:
    import torch

    from aezoo.autoencoder import Autoencoder
    from aezoo.specs import VariantSpec

INDEX = "index.json"
VARIANTS = "aezoo.variants"
"""Entry points that each name a package with a `zoo` folder; it is read, the package is not imported."""


class FileEntry(TypedDict):
    """A file's size and hash."""

    sha256: str
    bytes: int


class LayerEntry(TypedDict):
    """A line of the layer table."""

    path: str
    kind: str
    output: list[int]
    parameters: int


class Entry(TypedDict):
    """What the index knows of a variant.

    Attributes:
        summary: one sentence.
        references: where the idea comes from.
        dataset: what it was trained on; None for data without a name.
        input: shape of one sample.
        latents: shape of its latents.
        parameters: trainable numbers.
        layers: the layer table.
        metrics: name -> value, None where it was not measured.
        files: name -> size and hash.
        repository: where it is on the Hub; None while it is not published.
        commit: the published commit, 40 hexadecimal digits; None likewise.
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
    """The folder of the zoo: the one in the installed package, else a checkout's own.

    Raises:
        MissingFileError: neither is there.
    """
    package = Path(__file__).parent
    packaged = package / "_zoo"
    if (packaged / INDEX).is_file():
        return packaged
    checkout = package.parent
    project = checkout / "pyproject.toml"
    # Any folder may lie above an installed package; only aezoo's own checkout holds its zoo.
    if (
        project.is_file()
        and tomllib.loads(project.read_text("utf-8")).get("project", {}).get("name") == "aezoo"
    ):
        return checkout / "zoo"
    raise MissingFileError(f"this installation has no zoo: {packaged / INDEX} is missing")


@lru_cache(maxsize=1)
def _index(root: Path) -> dict[str, Entry]:
    path = root / INDEX
    try:
        return json.loads(path.read_text("utf-8"))["variants"]
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} is missing") from error
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _places(own: Path) -> dict[str, tuple[Path, Entry]]:
    """Every variant: the root that holds it, and its entry; aezoo's own, then those of plugins by name.

    What is wrong with a plugin's zoo is said once, as a warning; everything else stays.
    """
    found, unsaid = _gathered(own)
    while unsaid:
        warnings.warn(unsaid.pop(0), PluginWarning, stacklevel=3)
    return found


@lru_cache(maxsize=1)
def _gathered(own: Path) -> tuple[dict[str, tuple[Path, Entry]], list[str]]:
    found = {name: (own, entry) for name, entry in _index(own).items()}
    unsaid: list[str] = []
    for point in wanted_points(list(entry_points(group=VARIANTS))):
        who = f"the variants of {point.name} ({distribution_of(point)})"
        try:
            root = _plugin_root(point.value)
            entries: dict[str, Entry] = json.loads((root / INDEX).read_text("utf-8"))["variants"]
        except (OSError, ValueError, KeyError, ImportError, MissingFileError) as error:
            unsaid.append(f"{who} were left out: {type(error).__name__}: {error}")
            continue
        for name, entry in entries.items():
            if name in found:
                unsaid.append(f"{who}: {name!r} was left out, the name is taken")
            else:
                found[name] = (root, entry)
    return found, unsaid


def _plugin_root(package: str) -> Path:
    """The `zoo` folder of a package, found without importing it."""
    # A dotted name would import its parents.
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    places = None if spec is None else spec.submodule_search_locations
    if not places:
        raise MissingFileError(f"there is no package {package!r}")
    return Path(next(iter(places))) / "zoo"


def variants_of(plugin: str) -> list[str]:
    """Names of the variants that a plugin's entry point brings, sorted."""
    roots = [_plugin_root(point.value) for point in entry_points(group=VARIANTS) if point.name == plugin]
    return sorted(name for name, (root, _) in _places(zoo_root()).items() if root in roots)


def list_variants(pattern: str = "*") -> list[str]:
    """Names of variants, sorted; those that plugins bring among them.

    Args:
        pattern: shell-style, such as `sparse-*` or `*.fashion`.

    Returns:
        The names that fit; empty where none does.
    """
    return sorted(name for name in _places(zoo_root()) if fnmatchcase(name, pattern))


def get_entry(name: str) -> Entry:
    """What the index knows of a variant, without importing torch.

    Raises:
        UnknownVariantError: no such variant, with the nearest name.
    """
    return _place(name)[1]


def _place(name: str) -> tuple[Path, Entry]:
    places = _places(zoo_root())
    if name not in places:
        raise UnknownVariantError(
            f"no variant {name!r}{suggestion(name, places)}; `aezoo list` shows all {len(places)}"
        )
    return places[name]


def get_spec(name: str) -> "VariantSpec":
    """The resolved spec that a variant was trained from, to read, change and train again.

    Raises:
        UnknownVariantError: no such variant.
        CheckpointError: its config is not the published one.
    """
    from aezoo import checkpoint

    files = get_entry(name)["files"]
    return checkpoint.load_spec(place_of(name), files[checkpoint.CONFIG]["sha256"])


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
            or `~`.
        device: where the weights go.
        dtype: of the weights, floating point; float32 by default.
        max_parameters: as for `build`.

    Raises:
        UnknownVariantError: no such variant, with the nearest name.
        CheckpointError: one subclass for each thing that can be wrong with the files.
        NotSupportedError: a place that this version does not load from.
    """
    from aezoo.checkpoint import load_folder

    if isinstance(name, os.PathLike) or is_folder(name):
        folder = Path(name).expanduser()
        return load_folder(folder, device=device, dtype=dtype, max_parameters=max_parameters)
    if name.startswith("hub:"):
        raise NotSupportedError(
            f"{name!r}: this version loads variants by name and folders, not from the Hub"
        )
    if "/" in name or os.sep in name:
        raise UnknownVariantError(f"{name!r} is no variant's name; write './{name}' for a folder")
    hashes = {file: entry["sha256"] for file, entry in get_entry(name)["files"].items()}
    ae = load_folder(
        place_of(name), device=device, dtype=dtype, expected=hashes, max_parameters=max_parameters
    )
    ae.source = replace(ae.source, kind="zoo")
    return ae


def is_folder(text: str) -> bool:
    """Whether text spells a folder rather than a name."""
    return (
        text in (".", "..", "~")
        or text.startswith(("./", "../", "/", "~", ".\\", "..\\"))
        or Path(text).is_absolute()
    )


def place_of(name: str) -> Path:
    """The folder of a variant.

    Raises:
        UnknownVariantError: no such variant.
        MissingFileError: it is not part of this installation.
    """
    folder = _place(name)[0] / name
    if not folder.is_dir():
        raise MissingFileError(f"{name} is not part of this installation, and is not published yet")
    return folder


# -- the index ----------------------------------------------------------------------------------------


def build_index(root: Path) -> dict[str, Any]:
    """What `index.json` should hold for the folders under a root.

    Where a variant was published is taken over from the index that is there.

    Raises:
        CheckpointError: a folder that cannot be loaded.
    """
    published = _index(root) if (root / INDEX).is_file() else {}
    names = sorted(config.parent.name for config in root.glob("*/config.json"))
    return {
        "schema_version": 1,
        "variants": {name: _entry(root / name, published.get(name)) for name in names},
    }


def write_index(root: Path) -> Path:
    """Writes `index.json` anew; the checks of `build_index` come first."""
    from aezoo.checkpoint import pretty_json
    from aezoo.files import write_atomically

    path = root / INDEX
    write_atomically(path, pretty_json(build_index(root)))
    _index.cache_clear()
    _gathered.cache_clear()
    return path


def _entry(folder: Path, published: Entry | None) -> Entry:
    from aezoo.checkpoint import FILES, load_folder
    from aezoo.specs import VariantSpec

    ae = load_folder(folder)
    spec = ae.spec
    if not isinstance(spec, VariantSpec) or spec.name != folder.name:
        raise CheckpointError(f"{folder} holds {getattr(spec, 'name', 'no variant')!r}, not {folder.name!r}")
    dataset = spec.recipe.dataset
    present = [name for name in FILES if (folder / name).is_file()]
    return Entry(
        summary=spec.summary,
        references=list(spec.references),
        dataset=None if dataset is None else dataset.declared_kind,
        input=list(spec.input.shape),
        latents=list(ae.latent_shape),
        parameters=ae.parameters_total,
        layers=[
            LayerEntry(path=r.path, kind=r.kind, output=list(r.output), parameters=r.parameters)
            for r in ae.table()
        ],
        metrics={name: metric["value"] for name, metric in ae.metrics.items()},
        files={name: _file(folder / name) for name in present},
        repository=published["repository"] if published else None,
        commit=published["commit"] if published else None,
    )


def _file(path: Path) -> FileEntry:
    raw = path.read_bytes()
    return FileEntry(sha256=hashlib.sha256(raw).hexdigest(), bytes=len(raw))
