"""`AutoencoderSpec`, an architecture, and `VariantSpec`, a named architecture with its recipe."""

import os
import re
from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, field_validator

from aezoo.errors import Problem, SpecError
from aezoo.specs.base import Spec
from aezoo.specs.components import Layers, expand
from aezoo.specs.messages import validation_error
from aezoo.specs.recipe import RecipeSpec
from aezoo.specs.tensor import TensorSpec
from aezoo.text import type_name

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+(-[a-z0-9]+)*)?")
"""Grammar of variant names, `<architecture>[.<dataset>][-v<N>]`."""


class AutoencoderSpec(Spec):
    """An architecture."""

    input: TensorSpec
    """Shape and range of the input."""
    target: TensorSpec | None = None
    """Shape and range of the output; those of the input by default."""
    encoder: Layers
    """Layers from the input to the latents."""
    decoder: Layers
    """Layers from the latents to the output."""

    @property
    def output(self) -> TensorSpec:
        """Shape and range of the decoder's output: `target`, or `input` without a target."""
        return self.target or self.input

    def resolved(self) -> Self:
        """A copy with every `repeat` written out."""
        return self.model_copy(update={"encoder": expand(self.encoder), "decoder": expand(self.decoder)})


def require_spec(value: object, cls: type[AutoencoderSpec] = AutoencoderSpec) -> None:
    """Checks the type of an argument.

    Raises:
        SpecError: it is not a `cls`; the message says how to get one.
    """
    if isinstance(value, cls):
        return
    found = type_name(value)
    if isinstance(value, type):
        how = "pass an instance"
    elif isinstance(value, os.PathLike) or (isinstance(value, str) and value.endswith((".yaml", ".yml"))):
        how = "aezoo.read_spec(path) reads a file"
    elif isinstance(value, str):
        found, how = repr(value), "aezoo.get_spec(name) returns the spec of a variant"
    elif isinstance(value, Mapping):
        how = f"aezoo.{cls.__name__}.model_validate(data) makes one"
    elif isinstance(value, AutoencoderSpec):
        how = "a recipe is needed"
    else:
        how = "aezoo.read_spec and aezoo.get_spec return one"
    raise SpecError([Problem("", f"expected an instance of {cls.__name__}, found {found}; {how}")])


VariantName = Annotated[str, Field(max_length=96)]


class VariantSpec(AutoencoderSpec):
    """A named architecture with its recipe: the content of a `spec.yaml`."""

    name: VariantName
    """`<architecture>[.<dataset>][-v<N>]` in lower-case words, digits and hyphens."""
    summary: Annotated[str, Field(min_length=1, max_length=300)]
    """One sentence."""
    references: tuple[Annotated[str, Field(min_length=1, max_length=300)], ...] = ()
    """Sources, such as `arXiv:1312.5663`."""
    recipe: RecipeSpec
    """Training configuration."""

    @field_validator("name")
    @classmethod
    def _follows_grammar(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            grammar = "<architecture>[.<dataset>][-v<N>] in a-z, 0-9 and hyphens"
            raise validation_error(f"{value!r} is not a variant name; expected {grammar}")
        return value
