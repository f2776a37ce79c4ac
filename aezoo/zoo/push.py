"""Push a variant to the Hugging Face Hub: what would be uploaded, and the upload, verified afterwards."""

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import huggingface_hub

from aezoo.errors import CheckpointError, HubError, NotSupportedError, warn_diagnostic
from aezoo.specs.variant import VariantSpec
from aezoo.specs.yaml import read_spec
from aezoo.text import printable
from aezoo.zoo.folders import is_user_written, write_file
from aezoo.zoo.hub import download, git_id, read_address
from aezoo.zoo.hub_client import endpoint, hub_requests
from aezoo.zoo.index import INDEX, read_index, zoo_root
from aezoo.zoo.load import HUB, folder_of, is_folder
from aezoo.zoo.model_card import card
from aezoo.zoo.schema import ALL_FILES, CARD, CONFIG, MAX_TEXT_BYTES, SIGNATURE, SPEC, WEIGHTS
from aezoo.zoo.signing import check_key
from aezoo.zoo.signing import sign as sign_files
from aezoo.zoo.variant_files import VariantFiles, check_path, read_text
from aezoo.zoo.verify import load, require_variant
from aezoo.zoo.write_index import write_published

HUB_ENDPOINT = "https://huggingface.co"
TAG = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_+-]*(\.[0-9A-Za-z_+-]+)*", re.ASCII)
MAX_TAG = 200


@dataclass(frozen=True)
class PushPlan:
    """What `push` would upload.

    Attributes:
        folder: the variant's folder.
        repository: `owner/name`.
        contents: file -> bytes.
        index: the index that lists the variant and will record the commit; None if no index lists it.
        released: the published commit, whose config and weights must not change; None before the first push.
    """

    folder: Path
    repository: str
    contents: dict[str, bytes]
    index: Path | None
    released: str | None


@dataclass(frozen=True)
class Published:
    """The result of `push`.

    Attributes:
        repository: `owner/name`.
        commit: that holds the variant.
        url: of the repository's page.
        changed: files that were uploaded or removed; empty if the repository was up to date.
    """

    repository: str
    commit: str
    url: str
    changed: tuple[str, ...]


def plan_push(
    name: str | os.PathLike[str],
    *,
    org: str | None = None,
    license: str | None = None,
    allow_modified: bool = False,
) -> PushPlan:
    """What `push` would upload. Sends no request if `org` is given or the index names the repository.

    Args:
        name: a variant's name, or a folder, as for `aezoo.load`.
        org: user or organisation on the Hub; by default the owner of the published repository, else you.
        license: of the weights, for the card; by default the one in the index or the present card.
        allow_modified: whether to publish a network that was changed after its training.

    Raises:
        CheckpointError: the folder cannot be loaded, is unfinished or modified, has another `spec.yaml`, or
            differs from its index.
        SpecError: `spec.yaml` cannot be read.
        HubError: your user name could not be looked up.
    """
    folder = _folder(name)
    ae = load(VariantFiles(folder))
    spec = require_variant(ae.spec, folder)
    if "unfinished" in ae.training_record:
        text = f"{folder} holds an interrupted training; finish it with --resume first"
        raise CheckpointError("unfinished", text)
    if "modified" in ae.training_record and not allow_modified:
        text = f"{folder} holds a network that was changed after its training, as training.json says"
        raise CheckpointError(
            "modified", f"{text}; to publish it, pass allow_modified=True (--allow-modified)"
        )
    if (folder / SPEC).is_file() and not _same_recipe(read_spec(folder / SPEC), spec):
        text = f"{folder / SPEC} is not the spec that the weights were trained by; delete or correct it"
        raise CheckpointError("invalid-config", text)
    path = folder.resolve()
    index = path.parent / INDEX
    entry = read_index(path.parent)["variants"].get(path.name) if index.is_file() else None
    contents = {file: (folder / file).read_bytes() for file in ALL_FILES if (folder / file).is_file()}
    own_card = is_user_written(folder / CARD)
    if entry is not None:
        listed = {file: record["sha256"] for file, record in entry["files"].items()}
        found = {file: hashlib.sha256(raw).hexdigest() for file, raw in contents.items()}
        if other := next((f for f in ALL_FILES if listed.get(f) != found.get(f)), None):
            text = f"{folder / other} is not the one that {index} lists; see `aezoo index`"
            raise CheckpointError("hash-mismatch", text)
    elif own_card:
        read_text(folder / CARD)  # The Hub requires UTF-8.
    published = ("" if entry is None else entry["repository"]) or ""
    # Last, so that what is refused is refused without a request.
    owner = org or published.partition("/")[0] or _user()
    repository, _ = read_address(f"{owner}/{spec.name}")
    if entry is None and not own_card:
        contents[CARD] = card(folder, address=f"{HUB}{repository}", license=license).encode()
    released = entry["commit"] if entry is not None and published == repository else None
    return PushPlan(folder, repository, contents, index if entry else None, released)


def push(
    name: str | os.PathLike[str],
    *,
    org: str | None = None,
    private: bool = False,
    tag: str | None = None,
    license: str | None = None,
    allow_modified: bool = False,
    sign: str | os.PathLike[str] | None = None,
) -> Published:
    """Publish a variant in a repository of its own: the changes in one commit, then verified.

    An interrupted push leaves the published version as it was; running it again completes it. The index that
    lists the variant records the commit, unless it names another repository. aezoo's own index records
    commits of huggingface.co only.

    Args:
        name: a variant's name, or a folder, as for `aezoo.load`.
        org: as for `plan_push`.
        private: whether a new repository is visible to its owner only.
        tag: for the commit, such as `v1.0`; an existing tag never moves.
        license: of the weights, for the card of a folder that no index lists, such as `mit`.
        allow_modified: as for `plan_push`.
        sign: a PEM file with a private key, by which the files are signed; see `aezoo.zoo.signing`. Without
            it, a published signature is removed if a file that it covers changes.

    Raises:
        CheckpointError: as for `plan_push`; the key cannot be used; or other bytes came back than were sent.
        HubError: a tag would move, the bytes of a released name would change, or a request failed.
    """
    _check_tag(tag)
    plan = plan_push(name, org=org, license=license, allow_modified=allow_modified)
    if sign is not None:
        check_key(sign)
    published = _upload(plan, private=private, tag=tag, sign=sign)
    try:
        if plan.index is not None and endpoint() != HUB_ENDPOINT and _ships(plan.index):
            text = f"{plan.index} names commits of {HUB_ENDPOINT}; the commit at {endpoint()} is not recorded"
            warn_diagnostic("endpoint", text)
        elif plan.index is not None:
            write_published(plan.index.parent, plan.folder.resolve().name, plan.repository, published.commit)
        elif not is_user_written(plan.folder / CARD):
            write_file(plan.folder / CARD, plan.contents[CARD])
    except CheckpointError as error:
        text = f"{published.url} is at {published.commit}, but {error}; push again"
        raise CheckpointError("write-failed", text) from error
    return published


def _same_recipe(a: VariantSpec, b: VariantSpec) -> bool:
    """Whether two specs differ in nothing but name and summary."""
    texts = {"name", "summary"}
    return a.resolved().model_dump(exclude=texts) == b.resolved().model_dump(exclude=texts)


def _ships(index: Path) -> bool:
    """Whether an index is aezoo's own, which everybody reads."""
    try:
        return index.parent.resolve() == zoo_root().resolve()
    except CheckpointError:
        return False  # an installation without a zoo


def _check_tag(tag: str | None) -> None:
    """Refuse a tag that no address `hub:OWNER/NAME@TAG` can spell, or that git reads as something else."""
    if tag is None or (len(tag) <= MAX_TAG and TAG.fullmatch(tag) and not tag.endswith(".lock")):
        return
    text = f"{printable(tag, 60)!r} cannot be a tag: expected up to 200 letters, digits, '.', '_', '+' or '-'"
    raise HubError("failed", f"{text}, such as v1.0; nothing was uploaded")


def _folder(name: str | os.PathLike[str]) -> Path:
    if isinstance(name, os.PathLike) or is_folder(name):
        return check_path(Path(name), "missing-file")
    if name.startswith(HUB):
        raise NotSupportedError(f"{name!r} is on the Hub already; push takes a variant's name or a folder")
    return folder_of(name)


def _user() -> str:
    with hub_requests("your account"):
        return str(cast(dict[str, Any], _api().whoami())["name"])


def _api() -> huggingface_hub.HfApi:
    return huggingface_hub.HfApi(endpoint=endpoint(), library_name="aezoo")


def _upload(
    plan: PushPlan, *, private: bool, tag: str | None, sign: str | os.PathLike[str] | None
) -> Published:
    """Upload a plan's files in one commit, and compare all of them with what comes back."""
    api, repository, contents = _api(), plan.repository, dict(plan.contents)
    with hub_requests(repository):
        api.create_repo(repository, private=private, exist_ok=True)
        if private and api.model_info(repository).private is False:
            text = f"{repository} exists and is public, but private was requested; nothing was uploaded"
            raise HubError("failed", f"{text}; change its visibility on its page, or push under another name")
        commit, present = _remote_files(repository)
        tags = {ref.name: ref.target_commit for ref in api.list_repo_refs(repository).tags}
    signature = _signature_of(repository, commit, present)
    if sign is not None:
        contents[SIGNATURE] = sign_files(contents, sign, signature)
    sent = [name for name, raw in contents.items() if not _same_content(present.get(name), raw)]
    removed = [name for name in present if name in ALL_FILES and name not in contents]
    if sign is None and signature is not None and {*sent, *removed} - {CARD}:
        removed.append(SIGNATURE)
    _check_released(plan)
    if tag in tags and (sent or removed or tags[tag] != commit):
        text = f"the tag {tag} of {repository} names commit {tags[tag]} and does not move; choose another tag"
        raise HubError("immutable", text)
    if sent or removed:
        operations = [
            *(huggingface_hub.CommitOperationAdd(name, contents[name]) for name in sent),
            *(huggingface_hub.CommitOperationDelete(name) for name in removed),
        ]
        with hub_requests(repository):
            created = api.create_commit(
                repository,
                operations,
                commit_message=f"aezoo: {', '.join([*sent, *removed])}",
                parent_commit=commit,
            )
        commit = str(created.oid)
    _check_uploaded(repository, commit, contents)
    # A tag is a promise, so it comes after the comparison.
    if tag is not None and tag not in tags:
        with hub_requests(repository, tag):
            api.create_tag(repository, tag=tag, revision=commit)
    return Published(repository, commit, f"{endpoint()}/{repository}", (*sent, *removed))


def _signature_of(repository: str, commit: str, present: Mapping[str, Any]) -> bytes | None:
    """The published signature, if there is one."""
    file = present.get(SIGNATURE)
    if file is None:
        return None
    if not isinstance(file.size, int) or file.size > MAX_TEXT_BYTES:
        raise CheckpointError("size-mismatch", f"{repository}@{commit}: {SIGNATURE} is too large")
    with tempfile.TemporaryDirectory(prefix="aezoo-") as folder:
        return download(repository, commit, SIGNATURE, Path(folder), size=file.size).read_bytes()


def _check_released(plan: PushPlan) -> None:
    """Refuse a config or weights other than those of the released commit."""
    if plan.released is None:
        return
    try:
        with hub_requests(plan.repository, plan.released):
            _, released = _remote_files(plan.repository, plan.released)
    except HubError as error:
        if error.code != "no-revision":
            raise
        return  # The released commit is gone, and nothing is left to differ from.
    changed = [
        name
        for name in (CONFIG, WEIGHTS)
        if name in released and not _same_content(released[name], plan.contents[name])
    ]
    if changed:
        text = (
            f"{' and '.join(changed)} of {plan.repository} would change, but a released name keeps its bytes"
        )
        raise HubError("immutable", f"{text}; publish better weights under a new name")


def _remote_files(repository: str, revision: str | None = None) -> tuple[str, dict[str, Any]]:
    """The commit that a revision names, and the Hub's description of its files."""
    info = _api().model_info(repository, revision=revision, files_metadata=True)
    return str(info.sha), {file.rfilename: file for file in info.siblings or []}


def _same_content(file: Any, raw: bytes) -> bool:
    """Whether a file of a repository, as the Hub describes it, holds these bytes."""
    if file is None:
        return False
    if file.lfs is not None:
        return bool(file.lfs.sha256 == hashlib.sha256(raw).hexdigest())
    return bool(file.blob_id == git_id(raw))


def _check_uploaded(repository: str, commit: str, contents: Mapping[str, bytes]) -> None:
    """Download all files into an empty cache, and refuse other bytes than were sent."""
    with tempfile.TemporaryDirectory(prefix="aezoo-") as folder:
        for name, raw in contents.items():
            found = download(repository, commit, name, Path(folder), size=len(raw)).read_bytes()
            if found != raw:
                digests = [hashlib.sha256(data).hexdigest() for data in (found, raw)]
                text = f"{name} came back with sha256 {digests[0]}, expected {digests[1]}"
                raise CheckpointError("hash-mismatch", f"{repository}@{commit}: {text}")
