"""Base classes of specs: frozen, strictly typed models, and families of models selected by `kind`.

A `kind` is looked up in the registry while a document is validated, not when a class is defined. A pydantic
union is fixed when its class is defined, even after `model_rebuild(force=True)`, and could not contain the
kinds of plugins loaded later.
"""

import ast
import copy
import linecache
import sys
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, cast, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, core_schema

from aezoo.errors import Problem, RegistryError, SpecError
from aezoo.plugins.hookspecs import HOOKS
from aezoo.plugins.registry import registry, suggestion, unknown_kind
from aezoo.specs.messages import abbreviate, problems, validation_error

MAX_INT = 2**31 - 1
Count = Annotated[int, Field(ge=1, le=MAX_INT)]
"""A positive integer."""
NonNegativeInt = Annotated[int, Field(ge=0, le=MAX_INT)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
"""A fraction, above 0 and at most 1."""

MAX_KIND = 64
"""Maximum length of a kind. A longer word is rejected without being repeated in the error."""

FAMILY_MARKER = "x-aezoo-family"
"""Placeholder for a family in a class's JSON Schema; `schema.json_schema` replaces it."""

CLOSED: dict[str, dict[str, type["RegisteredSpec"]]] = {}
"""Closed family -> kind -> class. The kinds of open families are in the registry."""

T = TypeVar("T")
S = TypeVar("S", bound="Spec")

NonEmpty = Annotated[tuple[T, ...], Field(min_length=1, max_length=1000)]


class ByType:
    """Annotates a union of `int`, a tuple and a `Literal` of strings: the type of a value selects the member.

    For a plain union pydantic reports an error of every member and adds the members to the path.
    """

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        names = {int: "an integer", tuple: "a list", str: "a word"}
        strict = ConfigDict(strict=True)
        members = {_type_of(m): TypeAdapter[Any](m, config=strict) for m in get_args(source)}
        expected = " or ".join(names[member] for member in members)

        def validate(value: object) -> object:
            if type(value) not in members:
                raise validation_error(f"expected {expected}, found {abbreviate(value)}")
            return members[type(value)].validate_python(value)

        return core_schema.no_info_plain_validator_function(
            validate, json_schema_input_schema=handler(source)
        )


def _type_of(annotation: Any) -> type:
    if get_origin(annotation) is Annotated:
        return _type_of(get_args(annotation)[0])
    return str if get_origin(annotation) is Literal else get_origin(annotation) or annotation


def _number(value: object) -> object:
    # pydantic accepts `true` and 1.0 for a literal 1, because they are equal to it.
    if type(value) is not int:
        raise validation_error(f"expected a whole number, found {abbreviate(value)}")
    return value


WholeNumber = BeforeValidator(_number)
"""Annotates a `Literal` of integers."""


class Spec(BaseModel):
    """Base class of specs. Unknown keys are rejected, instances are frozen, and types are not coerced."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, data: object) -> object:
        # Strict mode accepts only tuples for tuples; YAML and JSON have lists.
        if isinstance(data, dict):
            return {key: _as_tuple(value) for key, value in cast(dict[Any, Any], data).items()}
        return data

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        found = handler(schema)
        properties = handler.resolve_ref_schema(found).get("properties", {})
        for name, text in field_docs(cls).items():
            if name in properties:
                properties[name].setdefault("description", text)
        return found

    @model_serializer(mode="wrap")
    def _keep_kind(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # `kind` always has its default, which `exclude_defaults` would drop.
        data: dict[str, Any] = handler(self)
        kind: str | None = getattr(self, "kind", None)
        return data if kind is None else {"kind": kind, **data}

    def replace(self, changes: Mapping[str, Any]) -> Self:
        """Returns a copy with some values changed, validated as a whole.

        Args:
            changes: dotted path -> new value, such as `{"encoder.2.k": 8, "recipe.batch_size": 256}`.

        Raises:
            SpecError: a path does not exist, or the result is invalid.
        """
        data = self.model_dump(mode="json")
        for path, value in changes.items():
            _set(data, path, _plain(value))
        return check(type(self), data)


def field_docs(cls: type[Spec]) -> dict[str, str]:
    """Descriptions of fields: the docstrings below them, each as one line.

    They are read from the source file. A class without one, such as one of a notebook, has none.

    Returns:
        Field -> description, including the fields of base classes.
    """
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, Spec):
            file = getattr(sys.modules.get(base.__module__), "__file__", None)
            found |= _docs_in_file(str(file)).get(base.__qualname__, {}) if file else {}
    return found


@cache
def _docs_in_file(file: str) -> dict[str, dict[str, str]]:
    """Qualified name of each class in a file -> field -> docstring."""
    # `inspect.getsource` would parse the file again for each class.
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return {}
    found: dict[str, dict[str, str]] = {}
    pending: list[tuple[str, ast.AST]] = [("", tree)]
    while pending:
        prefix, node = pending.pop()
        body: list[ast.stmt] = getattr(node, "body", [])
        if isinstance(node, ast.ClassDef):
            found[prefix.removesuffix(".")] = _docs_in_class(body)
        for child in body:
            if isinstance(child, ast.ClassDef):
                pending.append((f"{prefix}{child.name}.", child))
            elif isinstance(child, ast.FunctionDef):
                pending.append((f"{prefix}{child.name}.<locals>.", child))
    return found


def _docs_in_class(body: list[ast.stmt]) -> dict[str, str]:
    return {
        ast.unparse(field.target): " ".join(text.value.value.split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _as_tuple(value: object) -> object:
    if isinstance(value, list):
        return tuple(_as_tuple(item) for item in cast(list[object], value))
    return value


def _plain(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, Spec) else copy.deepcopy(value)


def _set(data: Any, path: str, value: object) -> None:
    node: Any = data
    keys = path.split(".")
    for depth, key in enumerate(keys):
        here = ".".join(keys[:depth]) or "the spec"
        last = depth == len(keys) - 1
        if isinstance(node, list):
            size = len(cast(list[object], node))
            # `isdigit` alone accepts "²", and `int` refuses thousands of digits.
            if not (key.isascii() and key.isdigit() and len(key) < 10) or int(key) >= size:
                raise SpecError([Problem(path, f"{here} has entries 0 to {size - 1}, found {key!r}")])
        elif not isinstance(node, dict):
            raise SpecError([Problem(path, f"{here} is a single value and has no {key!r}")])
        elif key not in node and not last:
            known = cast(dict[str, object], node)
            raise SpecError([Problem(path, f"{here} has no {key!r}{suggestion(key, known)}")])
        index: Any = int(key) if isinstance(node, list) else key
        if last:
            node[index] = value
        node = cast(Any, node)[index]


def _is_root(cls: type[Spec]) -> bool:
    """Whether a class is the root of a family: the class that sets `family`."""
    return "family" in vars(cls)


class RegisteredSpec(Spec):
    """Base class of families: abstract roots whose concrete classes are selected by `kind`.

    A subclass that sets `family` is the root of a family. Validation against a root looks up `kind` and
    validates against the concrete class. A string is short for a mapping with only that `kind`. Plugins can
    register kinds of the families that have a hook; the other families are closed.

    Attributes:
        family: name of the family.
        kind_name: the kind of a concrete class.
        examples: options of the specs that contract checks try, including every field without a default.
        exempt: name of a check in `aezoo.testing` -> reason why this kind need not pass it.
    """

    family: ClassVar[str]
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    exempt: ClassVar[Mapping[str, str]] = {}
    kind_name: ClassVar[str | None] = None

    def __new__(cls, *args: object, **values: object) -> Self:
        """Rejects instances of a root class."""
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
            raise TypeError(f"{cls.__qualname__}: a spec keeps extra='forbid' and frozen=True")
        cls.kind_name = words[0]
        if cls.family not in HOOKS:
            if not cls.__module__.startswith("aezoo."):
                raise TypeError(f"{cls.__qualname__}: {cls.family} is a closed family and takes no new kinds")
            CLOSED.setdefault(cls.family, {})[cls.kind_name] = cls

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
        # A residual layer contains layers, so that expanding a family here would not end.
        if _is_root(cls):
            return {FAMILY_MARKER: cls.family}
        found = super().__get_pydantic_json_schema__(schema, handler)
        data = [{"kind": cls.kind_name, **example} for example in cls.examples]
        handler.resolve_ref_schema(found).setdefault("examples", data)
        return found

    @classmethod
    def kinds(cls) -> tuple[str, ...]:
        """Kinds of the family, sorted."""
        if cls.family in HOOKS:
            return registry.names(cls.family)
        registry.load()  # imports the modules that define the kinds
        return tuple(sorted(CLOSED[cls.family]))

    @classmethod
    def of_kind(cls, kind: str) -> type["RegisteredSpec"]:
        """Returns the concrete class of a kind.

        Raises:
            RegistryError: the kind is unknown.
        """
        if cls.family in HOOKS:
            return cast(type[RegisteredSpec], registry.get(cls.family, kind))
        known = cls.kinds()
        if kind not in known:
            raise unknown_kind(cls.family, kind, known)
        return CLOSED[cls.family][kind]

    @classmethod
    def class_for(cls, data: Mapping[str, object]) -> type["RegisteredSpec"]:
        """Returns the class that validates a mapping: that of its `kind`, or this class if it has none.

        Raises:
            RegistryError: the kind is unknown.
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
            text = f"expected a {cls.family}: a word or a mapping with `kind`, found {abbreviate(value)}"
            raise validation_error(text)
        data = cast(Mapping[str, object], value)
        kind = data.get("kind")
        if not isinstance(kind, str) or len(kind) > MAX_KIND:
            what = "missing" if "kind" not in data else "not a word"
            raise _kind_error(kind, f"{what}; expected one of {', '.join(cls.kinds())}")
        try:
            concrete = cls.of_kind(kind)
        except RegistryError as error:
            raise _kind_error(kind, str(error)) from error
        return concrete.model_validate(dict(data), context=info.context)


def _kind_error(kind: object, message: str) -> ValidationError:
    details = InitErrorDetails(type=validation_error(message), loc=("kind",), input=kind)
    return ValidationError.from_exception_data("spec", [details])


def check(cls: type[S], data: object) -> S:
    """Validates plain data against a spec class.

    Raises:
        SpecError: every mistake with its path.
    """
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        raise SpecError(problems(cls, data, error)) from error
