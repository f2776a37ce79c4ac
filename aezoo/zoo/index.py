"""Variants by name: which there are, what is known of them, and the trained networks themselves.

Listing and looking up read `index.json` alone, so that they import neither torch nor torchvision. The
index also names the sha256 of every file, which is how a name comes to mean the same bytes everywhere.
"""

import hashlib
import importlib.util
import json
import tomllib
import warnings
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

from aezoo.errors import CheckpointError, PluginWarning, UnknownVariantError
from aezoo.plugins.registry import distribution_of, enabled_entry_points, suggestion

if TYPE_CHECKING:
    pass

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
    package = Path(__file__).parent.parent
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
    raise CheckpointError("missing-file", f"this installation has no zoo: {packaged / INDEX} is missing")


@lru_cache(maxsize=1)
def _index(root: Path) -> dict[str, Entry]:
    return read_index(root)["variants"]


def read_index(root: Path) -> dict[str, Any]:
    """The index of a folder of variants: `license` of their weights, and `variants`, name -> entry.

    Raises:
        MissingFileError: there is none.
        CheckpointError: it is none that aezoo wrote.
    """
    path = root / INDEX
    try:
        found: Any = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError("missing-file", f"{path} is missing") from error
    except ValueError as error:
        raise CheckpointError("not-a-variant", f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict) or not isinstance(cast(dict[str, Any], found).get("variants"), dict):
        raise CheckpointError("not-a-variant", f"{path} cannot be read: it holds no variants")
    return cast(dict[str, Any], found)


def all_variants() -> dict[str, tuple[Path, Entry]]:
    """Every variant: the root that holds it, and its entry; aezoo's own, then those of plugins by name.

    What is wrong with a plugin's zoo is said once, as a warning; everything else stays.
    """
    found, unsaid = scan_variants(zoo_root())
    while unsaid:
        warnings.warn(unsaid.pop(0), PluginWarning, stacklevel=3)
    return found


@lru_cache(maxsize=1)
def scan_variants(own: Path) -> tuple[dict[str, tuple[Path, Entry]], list[str]]:
    found = {name: (own, entry) for name, entry in _index(own).items()}
    unsaid: list[str] = []
    for point in enabled_entry_points(list(entry_points(group=VARIANTS))):
        who = f"the variants of {point.name} ({distribution_of(point)})"
        try:
            root = _plugin_root(point.value)
            entries: dict[str, Entry] = json.loads((root / INDEX).read_text("utf-8"))["variants"]
        except (OSError, ValueError, KeyError, ImportError, CheckpointError) as error:
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
        raise CheckpointError("missing-file", f"there is no package {package!r}")
    return Path(next(iter(places))) / "zoo"


def variants_of(plugin: str) -> list[str]:
    """Names of the variants that a plugin's entry point brings, sorted."""
    roots = [_plugin_root(point.value) for point in entry_points(group=VARIANTS) if point.name == plugin]
    return sorted(name for name, (root, _) in all_variants().items() if root in roots)


def list_variants(pattern: str = "*") -> list[str]:
    """Names of variants, sorted; those that plugins bring among them.

    Args:
        pattern: shell-style, such as `sparse-*` or `*.fashion`.

    Returns:
        The names that fit; empty where none does.
    """
    return sorted(name for name in all_variants() if fnmatchcase(name, pattern))


def own_variants() -> list[str]:
    """Names of the variants of aezoo's own zoo, sorted."""
    return sorted(_index(zoo_root()))


def get_entry(name: str) -> Entry:
    """What the index knows of a variant, without importing torch.

    Raises:
        UnknownVariantError: no such variant, with the nearest name.
    """
    return find_variant(name)[1]


def find_variant(name: str) -> tuple[Path, Entry]:
    places = all_variants()
    if name not in places:
        raise UnknownVariantError(
            f"no variant {name!r}{suggestion(name, places)}; `aezoo list` shows all {len(places)}"
        )
    return places[name]


def build_index(root: Path) -> dict[str, Any]:
    """What `index.json` should hold for the folders under a root.

    Where a variant was published is taken over from the index that is there.

    Raises:
        CheckpointError: a folder that cannot be loaded.
    """
    there = read_index(root) if (root / INDEX).is_file() else {}
    published: dict[str, Entry] = there.get("variants", {})
    names = sorted(config.parent.name for config in root.glob("*/config.json"))
    return {
        "schema_version": 1,
        "license": there.get("license"),
        "variants": {name: _entry(root / name, published.get(name)) for name in names},
    }


def write_published(root: Path, name: str, repository: str, commit: str) -> Path:
    """Notes in the index where a variant was published, unless that names another repository."""
    index = read_index(root)
    entry = index["variants"][name]
    if entry["repository"] in (None, repository):
        entry.update(repository=repository, commit=commit)
    return _write(root, index)


def write_index(root: Path, *, license: str | None = None) -> Path:
    """Writes every folder's card and `index.json` anew; the checks of `build_index` come first.

    Args:
        root: a folder of variants.
        license: of their weights, by the Hub's identifier, such as `mit`; by default what the index says.
    """
    from aezoo.zoo.model_card import write_card

    license = license or (read_index(root) if (root / INDEX).is_file() else {}).get("license")
    for config in sorted(root.glob("*/config.json")):
        write_card(config.parent, address=config.parent.name, license=license)
    return _write(root, build_index(root) | {"license": license})


def _write(root: Path, index: dict[str, Any]) -> Path:
    from aezoo.files import write_atomically
    from aezoo.jsonio import pretty_json

    path = root / INDEX
    write_atomically(path, pretty_json(index))
    _index.cache_clear()
    scan_variants.cache_clear()
    return path


def _entry(folder: Path, published: Entry | None) -> Entry:
    from aezoo.specs.variant import VariantSpec
    from aezoo.zoo.schema import FILES
    from aezoo.zoo.verify import load_folder

    ae = load_folder(folder)
    spec = ae.spec
    if not isinstance(spec, VariantSpec) or spec.name != folder.name:
        raise CheckpointError(
            "not-a-variant", f"{folder} holds {getattr(spec, 'name', 'no variant')!r}, not {folder.name!r}"
        )
    dataset = spec.recipe.dataset
    present = [name for name in FILES if (folder / name).is_file()]
    return Entry(
        summary=spec.summary,
        references=list(spec.references),
        dataset=None if dataset is None else dataset.kind_name,
        input=list(spec.input.shape),
        latents=list(ae.latent_shape),
        parameters=ae.num_parameters,
        layers=[
            LayerEntry(path=r.path, kind=r.kind, output=list(r.output), parameters=r.parameters)
            for r in ae.summary()
        ],
        metrics={name: metric["value"] for name, metric in ae.metrics.items()},
        files={name: _file(folder / name) for name in present},
        repository=published["repository"] if published else None,
        commit=published["commit"] if published else None,
    )


def _file(path: Path) -> FileEntry:
    raw = path.read_bytes()
    return FileEntry(sha256=hashlib.sha256(raw).hexdigest(), bytes=len(raw))
