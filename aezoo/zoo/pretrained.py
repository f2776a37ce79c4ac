"""The verbs of other libraries for save, load and push, with every check of these."""

import copy
import os
import tempfile
from pathlib import Path

from aezoo.errors import HubError, NotSupportedError, UnknownVariantError
from aezoo.model.autoencoder import Autoencoder
from aezoo.specs.variant import VariantSpec
from aezoo.zoo.hub import read_address
from aezoo.zoo.load import HUB, is_folder, load
from aezoo.zoo.push import Published, push
from aezoo.zoo.save import save


def from_pretrained(name: str | os.PathLike[str], revision: str | None = None) -> Autoencoder:
    """See `Autoencoder.from_pretrained`."""
    text = os.fspath(name)
    is_repository = isinstance(name, str) and "/" in text and not is_folder(text) and not Path(text).is_dir()
    if not is_repository:
        if revision is not None:
            raise UnknownVariantError(f"{text!r} is not a repository OWNER/NAME, which alone has revisions")
        # `load` tells folders from names by a leading dot or slash.
        return load(Path(text) if Path(text).is_dir() else name)
    address = text.removeprefix(HUB)
    return load(f"{HUB}{address}" if revision is None else f"{HUB}{address}@{revision}")


def push_to_hub(
    ae: Autoencoder,
    repository: str,
    *,
    private: bool = False,
    tag: str | None = None,
    license: str | None = None,
    allow_modified: bool = False,
) -> Published:
    """See `Autoencoder.push_to_hub`."""
    spec = ae.spec
    if not isinstance(spec, VariantSpec):
        raise NotSupportedError("only a variant can be published: a spec with name, summary and recipe")
    address, revision = read_address(repository)
    if revision is not None:
        raise HubError("failed", f"{repository!r}: a push makes a new commit; name it with tag")
    owner, _, name = address.partition("/")
    named = copy.copy(ae)
    named.spec = VariantSpec.model_validate(spec.model_dump(mode="json") | {"name": name})
    with tempfile.TemporaryDirectory(prefix="aezoo-") as place:
        folder = save(named, Path(place) / name)
        saved = load(folder).spec
        if getattr(saved, "name", None) != name:
            text = f"{name!r} is a published variant, and this is another network"
            raise HubError("immutable", f"{text}; choose another name")
        return push(
            folder, org=owner, private=private, tag=tag, license=license, allow_modified=allow_modified
        )
