"""Variants on their way out to the Hub, and from it onto a disk."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from aezoo.errors import CheckpointError, DataError, NotSupportedError
from aezoo.files import write_atomically
from aezoo.plugins.registry import registry
from aezoo.specs.variant import VariantSpec
from aezoo.zoo.hub import Published, publish, read_address, user
from aezoo.zoo.index import INDEX, read_index, write_published
from aezoo.zoo.load import HUB, folder_of, is_folder, load_with_files
from aezoo.zoo.model_card import card, is_own
from aezoo.zoo.save import write_folder
from aezoo.zoo.schema import CARD, FILES
from aezoo.zoo.verify import load_folder


@dataclass(frozen=True)
class Plan:
    """What `push` would upload.

    Attributes:
        folder: that it comes from.
        repository: `owner/name`.
        contents: file -> bytes.
        index: the index that lists it, to be told the commit; None for a folder by itself.
        released: the commit that holds its config and weights, which must stay; None before the first push.
    """

    folder: Path
    repository: str
    contents: dict[str, bytes]
    index: Path | None
    released: str | None


def plan_push(name: str | os.PathLike[str], *, org: str | None = None, license: str | None = None) -> Plan:
    """What `push` would upload, without a request where `org` is given or the index names the repository.

    Args:
        name: a variant's name, or a folder, as for `aezoo.load`.
        org: the user or organisation on the Hub; by default whose the repository already is, else yours.
        license: of the weights, for the card; by default what the index says.

    Raises:
        CheckpointError: the folder cannot be loaded, is not finished, or is not the one that its index lists.
        HubError: your name on the Hub could not be found out.
    """
    if isinstance(name, os.PathLike) or is_folder(name):
        folder = Path(name).expanduser()
    elif name.startswith(HUB):
        raise NotSupportedError(f"{name!r} is on the Hub already; push takes a variant's name or a folder")
    else:
        folder = folder_of(name)
    ae = load_folder(folder)
    if not isinstance(ae.spec, VariantSpec):
        raise CheckpointError(
            "not-a-variant", f"{folder} holds an architecture without a name and a recipe; push a variant"
        )
    if "unfinished" in ae.training_record:
        raise CheckpointError(
            "unfinished", f"{folder} holds a training that was cut off; finish it with --resume first"
        )
    root, name = folder.resolve().parent, folder.resolve().name
    index = root / INDEX
    entry = read_index(root)["variants"].get(name) if index.is_file() else None
    contents = {file: (folder / file).read_bytes() for file in FILES if (folder / file).is_file()}
    if entry is not None:
        listed = {file: record["sha256"] for file, record in entry["files"].items()}
        found = {file: hashlib.sha256(raw).hexdigest() for file, raw in contents.items()}
        if other := next((f for f in FILES if listed.get(f) != found.get(f)), None):
            raise CheckpointError(
                "hash-mismatch", f"{folder / other} is not the one that {index} lists; see `aezoo index`"
            )
    elif is_own(folder / CARD):
        try:
            contents[CARD].decode()
        except UnicodeDecodeError as error:
            text = (
                f"{folder / CARD} is no UTF-8, which the Hub asks for: {error.reason} at byte {error.start}"
            )
            raise CheckpointError("invalid-config", text) from error
    before = "" if entry is None else entry["repository"] or ""
    # Asked last, so that what is refused is refused without a request.
    owner = org or before.partition("/")[0] or user()
    repository, _ = read_address(f"{owner}/{ae.spec.name}")
    if entry is None and not is_own(folder / CARD):
        contents[CARD] = card(folder, address=f"{HUB}{repository}", license=license).encode()
    released = entry["commit"] if entry is not None and entry["repository"] == repository else None
    return Plan(folder, repository, contents, index if entry else None, released)


def push(
    name: str | os.PathLike[str],
    *,
    org: str | None = None,
    private: bool = False,
    tag: str | None = None,
    license: str | None = None,
) -> Published:
    """Publishes a variant: one repository, what changed in one commit, compared with what comes back.

    Dying half-way leaves the version that was there; running it again completes it. The commit goes into the
    index that lists the variant, unless that names another repository.

    Args:
        name: a variant's name, or a folder, as for `aezoo.load`.
        org: the user or organisation on the Hub; by default whose the repository already is, else yours.
        private: whether a repository that is made is visible to its owner alone.
        tag: for the commit, such as `v1.0`; one that is there never moves.
        license: of the weights, for the card of a folder that no index lists, such as `mit`.

    Raises:
        CheckpointError: as for `plan_push`; a `HashError` where other bytes come back than were sent.
        PublishedError: a tag would move, or the bytes behind a released name would change.
        HubError: one subclass for each other thing that can go wrong.
    """
    plan = plan_push(name, org=org, license=license)
    published = publish(plan.repository, plan.contents, private=private, tag=tag, released=plan.released)
    own = plan.folder / CARD
    changed = own if plan.index is None else plan.index
    try:
        if plan.index is not None:
            write_published(plan.index.parent, plan.folder.resolve().name, plan.repository, published.commit)
        elif not is_own(own):
            # The folder's card as it is there: how to load it, and under which licence.
            write_atomically(own, plan.contents[CARD])
    except OSError as error:
        text = f"{published.url} is at {published.commit}, but {changed} could not be written"
        raise CheckpointError("write-failed", f"{text}: {error.strerror or error}; push again") from error
    return published


def pull(name: str, to: str | os.PathLike[str] | None = None) -> Path:
    """Puts a variant's folder, verified, where a machine without network finds it.

    Args:
        name: a variant's name, or `hub:OWNER/NAME@REVISION`.
        to: the folder to put it into, `AEZOO_ZOO` by default; a variant by name is found there through it.

    Returns:
        The variant's folder; one that is there already and holds the same is left as it is.

    Raises:
        UnknownVariantError: no such variant.
        CheckpointError: something is wrong with the files, or another folder stands in its place.
        HubError: one subclass for each thing that can go wrong on the way.
    """
    place = os.environ.get("AEZOO_ZOO") if to is None else os.fspath(to)
    if not place:
        raise CheckpointError("target", "where to is not said: give a folder (--to DIR), or set AEZOO_ZOO")
    ae, files, expected = load_with_files(name)
    if not isinstance(ae.spec, VariantSpec):
        raise CheckpointError(
            "not-a-variant", f"{name} is an architecture without a name and a recipe; pull a variant"
        )
    target = Path(place).expanduser() / ae.spec.name
    contents = {file: files.path(file).read_bytes() for file in FILES if file in expected or files.has(file)}
    for file, sha256 in {**expected, **ae.source.hashes}.items():
        if hashlib.sha256(contents[file]).hexdigest() != sha256:
            raise CheckpointError(
                "hash-mismatch", f"{files.path(file)} is not what was verified; expected sha256 {sha256}"
            )
    present = {file: (target / file).read_bytes() for file in FILES if (target / file).is_file()}
    if present == contents:
        return target
    if target.exists():
        raise CheckpointError(
            "target", f"{target} is there and holds something else; remove it, or pull to another folder"
        )
    return write_folder(target, contents)


def pull_dataset(kind: str, to: str | os.PathLike[str] | None = None) -> Path:
    """Puts a dataset where a machine without network finds it through `AEZOO_DATA`.

    Args:
        kind: such as `mnist`.
        to: the folder to put it into; `AEZOO_DATA`, or aezoo's folder in the user's cache, by default.

    Raises:
        RegistryError: no such dataset.
        DataError: it is none that is downloaded, or could not be.
    """
    from aezoo.data.datasets.files import data_root
    from aezoo.data.datasets.torchvision import TorchvisionSplits

    cls = registry.get("dataset", kind)
    fixed = issubclass(cls, TorchvisionSplits) and not any(f.is_required() for f in cls.model_fields.values())
    if not fixed:
        raise DataError(
            f"{kind} is no dataset that is downloaded under this name; mnist and fashion_mnist are"
        )
    root = data_root() if to is None else Path(to).expanduser()
    cls().fetch(root)
    return root
