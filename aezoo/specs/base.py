"""What every spec is built on: closed, frozen, strictly typed models, and families told apart by `kind`.

The `kind` of an entry is looked up while a document is checked, not when a class is defined, so that a
plugin installed tomorrow is understood by a class defined today. (A union frozen at import could not
hold it: pydantic keeps a nested model's old union even after `model_rebuild(force=True)`.)
"""

import copy
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, cast, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    model_serializer,
    model_validator,
)
from pydantic_core import core_schema

from aezoo.errors import Problem, RegistryError, SpecError
from aezoo.plugins.registry import registry, suggestion
from aezoo.specs.messages import abbreviate, problems, validation_error

MAX_INT = 2**31 - 1
Count = Annotated[int, Field(ge=1, le=MAX_INT)]
"""A whole number from 1."""
NonNegativeInt = Annotated[int, Field(ge=0, le=MAX_INT)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
"""A part of a whole, above 0 and at most 1."""

MAX_KIND = 64
"""Letters of a kind; what is longer is none, and would only lengthen the error."""

FAMILY_MARKER = "x-aezoo-family"
"""Stands for a family in a JSON Schema until `documents.json_schema` puts its kinds there."""

T = TypeVar("T")
S = TypeVar("S", bound="Spec")


def _some(value: tuple[T, ...]) -> tuple[T, ...]:
    return entries(value, MAX_ITEMS)


def entries(value: tuple[T, ...], most: int) -> tuple[T, ...]:
    """The same, if it has at least one entry and not more than `most`."""
    if not 1 <= len(value) <= most:
        raise validation_error(f"expected 1 to {most} entries, found {len(value)}")
    return value


MAX_ITEMS = 1000
# Not pydantic's min_length: it counts only valid items, and so adds a second error to a bad one.
NonEmpty = Annotated[
    tuple[T, ...], AfterValidator(_some), Field(json_schema_extra={"minItems": 1, "maxItems": MAX_ITEMS})
]
"""One entry or more."""


def _number(value: object) -> object:
    # To pydantic a literal 1 is as good as `true` and 1.0, which are equal to it.
    if type(value) is not int:
        raise validation_error(f"expected a whole number, found {abbreviate(value)}")
    return value


WholeNumber = BeforeValidator(_number)
"""Annotates a `Literal` of numbers."""


class Spec(BaseModel):
    """Base of everything declared: closed, frozen, strictly typed."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, data: object) -> object:
        # Strict mode wants tuples where YAML, JSON and people write lists.
        if isinstance(data, dict):
            return {key: _as_tuple(value) for key, value in cast(dict[Any, Any], data).items()}
        return data

    @model_serializer(mode="wrap")
    def _keep_kind(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # `kind` is a default, which `exclude_defaults` would drop.
        data: dict[str, Any] = handler(self)
        kind: str | None = getattr(self, "kind", None)
        return data if kind is None else {"kind": kind, **data}

    def replace(self, changes: Mapping[str, Any]) -> Self:
        """A copy with some values changed, checked as a whole.

        Args:
            changes: dotted path -> new value, as in `{"encoder.2.k": 8, "recipe.batch_size": 256}`.

        Raises:
            SpecError: a path that does not exist, or a result that is not valid.
        """
        data = self.model_dump(mode="json")
        for path, value in changes.items():
            _set(data, path, _plain(value))
        return check(type(self), data)


def _as_tuple(value: object) -> object:
    if isinstance(value, list):
        return tuple(_as_tuple(item) for item in cast(list[object], value))
    return value


def _plain(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, Spec) else copy.deepcopy(value)


def _set(data: Any, path: str, value: object) -> None:
    node: Any = data
    *parents, last = path.split(".")
    for depth, part in enumerate([*parents, last]):
        here = ".".join(path.split(".")[:depth]) or "the spec"
        key: Any = part
        if isinstance(node, list):
            size = len(cast(list[Any], node))
            if not part.isdigit() or int(part) >= size:
                raise SpecError([Problem(path, f"{here} has entries 0 to {size - 1}, found {part!r}")])
            key = int(part)
        elif not isinstance(node, dict):
            raise SpecError([Problem(path, f"{here} is a single value and has no {part!r}")])
        if depth == len(parents):
            node[key] = value
            return
        children = cast(dict[Any, Any] | list[Any], node)
        if isinstance(children, dict) and key not in children:
            near = suggestion(part, children)
            raise SpecError([Problem(path, f"{here} has no {part!r}{near}")])
        node = children[key]


def _is_root(cls: type[Spec]) -> bool:
    """Whether a class is the abstract head of a family: the one that names it."""
    return "family" in vars(cls)


class RegisteredSpec(Spec):
    """Base of the families: abstract classes whose concrete ones are told apart by `kind`.

    A subclass that sets `family` is the root of a family. Validating against a root looks `kind` up and
    validates against the concrete class. A bare word stands for a kind with nothing but defaults.

    Attributes:
        family: the family's name.
        members: a closed family's kinds; None where the registry knows them.
        kind_name: a concrete class's kind.
        examples: fields of specs that contract checks try out; those that have no default, at least.
        exempt: check of `aezoo.testing` -> why this kind need not pass it.
    """

    family: ClassVar[str]
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    exempt: ClassVar[Mapping[str, str]] = {}
    members: ClassVar[dict[str, type["RegisteredSpec"]] | None] = None
    kind_name: ClassVar[str | None] = None

    def __new__(cls, *args: object, **values: object) -> Self:
        """Refuses to make an instance of a family itself."""
        if _is_root(cls):
            raise TypeError(f"{cls.__name__} is abstract; use one of its kinds")
        return super().__new__(cls)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        field = cls.model_fields.get("kind")
        if _is_root(cls) or field is None:
            return
        words = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        if len(words) != 1 or not isinstance(words[0], str) or field.default != words[0]:
            raise TypeError(f'{cls.__qualname__}: write kind as `kind: Literal["name"] = "name"`')
        if cls.model_config.get("extra") != "forbid" or not cls.model_config.get("frozen"):
            raise TypeError(f"{cls.__qualname__}: a spec stays extra='forbid' and frozen=True")
        cls.kind_name = words[0]
        if cls.members is not None:
            if not cls.__module__.startswith("aezoo."):
                raise TypeError(f"{cls.__qualname__}: {cls.family} is a closed family, it takes no kinds")
            cls.members[cls.kind_name] = cls

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        if not _is_root(cls):
            return handler(source)
        return core_schema.with_info_plain_validator_function(cls._dispatch)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        # Expanding a family here would recurse for ever; `json_schema` replaces the marker.
        return {FAMILY_MARKER: cls.family} if _is_root(cls) else handler(schema)

    @classmethod
    def kinds(cls) -> tuple[str, ...]:
        """The family's kinds, sorted."""
        if cls.members is None:
            return registry.names(cls.family)
        registry.load()  # activations are defined beside the layers that use them
        return tuple(sorted(cls.members))

    @classmethod
    def of_kind(cls, kind: str) -> type["RegisteredSpec"]:
        """The concrete class of a kind.

        Raises:
            RegistryError: no such kind.
        """
        if cls.members is None:
            return cast(type[RegisteredSpec], registry.get(cls.family, kind))
        known = cls.kinds()
        if kind not in cls.members:
            raise RegistryError(
                f"unknown {cls.family} {kind!r}{suggestion(kind, known)}; known are {', '.join(known)}"
            )
        return cls.members[kind]

    @classmethod
    def class_for(cls, data: Mapping[str, object]) -> type["RegisteredSpec"]:
        """The concrete class of a mapping's `kind`; the class itself where it is concrete or has no kind.

        Raises:
            RegistryError: no such kind.
        """
        kind = data.get("kind")
        return cls.of_kind(kind) if _is_root(cls) and isinstance(kind, str) else cls

    @classmethod
    def _dispatch(cls, value: object, info: ValidationInfo) -> "RegisteredSpec":
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, Mapping):
            raise validation_error(
                f"expected a {cls.family}: a word or a mapping with `kind`, found {abbreviate(value)}"
            )
        data = cast(Mapping[str, object], value)
        kind = data.get("kind")
        if not isinstance(kind, str) or len(kind) > MAX_KIND:
            what = "missing" if "kind" not in data else "not a word"
            raise _error_at("kind", kind, f"{what}; one of {', '.join(cls.kinds())} is expected")
        try:
            concrete = cls.of_kind(kind)
        except RegistryError as error:
            raise _error_at("kind", kind, str(error)) from error
        return concrete.model_validate(dict(data), context=info.context)


def _error_at(field: str, found: object, message: str) -> ValidationError:
    return ValidationError.from_exception_data(
        "spec", [{"type": validation_error(message), "loc": (field,), "input": found}]
    )


def check(cls: type[S], data: object) -> S:
    """Validates plain data against a spec class.

    Raises:
        SpecError: every mistake, each with its path.
    """
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        raise SpecError(problems(cls, data, error)) from error
