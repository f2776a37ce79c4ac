"""Names of folders: the name of a published variant belongs to its recipe and its weights."""

import re
import warnings
from pathlib import Path
from typing import TypeVar

from aezoo.errors import (
    CheckpointError,
    HubError,
    UnknownVariantError,
    warn_diagnostic,
)
from aezoo.specs.schema import spec_sha256
from aezoo.specs.variant import NAME, AutoencoderSpec, VariantSpec
from aezoo.zoo.index import find_variant
from aezoo.zoo.load import get_spec

Spec = TypeVar("Spec", bound=AutoencoderSpec)


def own_name(spec: Spec, folder: Path, *, modified: bool = False) -> Spec:
    """Returns the spec under a name that it may have in a folder, with a summary that is true of it.

    Args:
        spec: of the autoencoder to save.
        folder: where it is saved.
        modified: whether the weights were changed after training.
    """
    if not isinstance(spec, VariantSpec) or not _is_published(spec.name):
        return spec
    if _is_published_spec(spec) and not modified:
        return spec
    # Characters that a name cannot have separate words.
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")[:96].strip("-")
    if not NAME.fullmatch(name) or _is_published(name):
        name = f"my-{spec.name}"[:96].rstrip("-.")
    what = "weights" if _is_published_spec(spec) else "recipe"
    warn_diagnostic("name", f"{spec.name!r} is a published variant with another {what}; saved as {name!r}")
    summary = f"Changed from {spec.name}: {spec.summary}"
    if spec.recipe.dataset is None:
        summary = f"The recipe of {spec.name}, changed, and trained on other data."
    return spec.model_copy(update={"name": name, "summary": summary[:300]})


def _is_published(name: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on plugins whose variants cannot be listed
            find_variant(name)
    except UnknownVariantError:
        return False
    return True


def _is_published_spec(spec: VariantSpec) -> bool:
    try:
        published = get_spec(spec.name)
    except (CheckpointError, HubError):
        # Without the published spec, nothing shows that this is the same.
        return False
    return spec_sha256(published.resolved()) == spec_sha256(spec.resolved())
