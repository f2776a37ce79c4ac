"""The parameter `spec` of the estimators: what it may be, its paths, and the recipe that is trained."""

import os
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np

from aezoo.errors import AezooError, DataError, Problem, SpecError
from aezoo.specs.base import MAX_INT, Spec, check
from aezoo.specs.schema import migrate
from aezoo.specs.variant import AutoencoderSpec, VariantSpec
from aezoo.specs.yaml import read_spec
from aezoo.text import type_name
from aezoo.zoo.load import HUB, get_spec

PREFIX = "spec__"
"""Begins the name of a parameter that is a value of the spec."""

STAGE: dict[str, Any] = {
    "kind": "fit",
    "epochs": 200,
    "optimizer": {"kind": "adam", "lr": 3e-3},
    "schedule": "cosine",
    "early_stop": {"patience": 20},
}
RECIPE: dict[str, Any] = {"reconstruction": "mse", "batch_size": 32, "stages": [STAGE], "threads": 1}
"""The recipe of the default spec, and of an architecture that is given without one."""


def default_spec(
    n_features: int, n_components: int | None = None, *, activation: str = "gelu"
) -> VariantSpec:
    """The spec that the estimators train if none is given: two linear layers on each side.

    Args:
        n_features: number of input values, at least 1.
        n_components: number of latents, at least 1; by default a quarter of the features, rounded up, and at
            most 32.
        activation: of the 64 units of each hidden layer. `AutoencoderDetector` uses `tanh`, whose bounded
            units reconstruct outliers worse.

    Raises:
        SpecError: a number is not a whole number of at least 1, or the activation is unknown.
    """
    latents = min(32, (n_features + 3) // 4) if n_components is None else n_components
    hidden = {"kind": "linear", "out_features": 64, "activation": activation}
    return _with_recipe(
        {
            "input": {"shape": [n_features]},
            "encoder": [hidden, {"kind": "linear", "out_features": latents}],
            "decoder": [hidden, {"kind": "linear", "out_features": n_features}],
        }
    )


def _with_recipe(data: Mapping[str, Any]) -> VariantSpec:
    """Validates plain data as a variant; name, summary and recipe may be missing."""
    given = {"name": "estimator", "summary": "Trained by a scikit-learn estimator.", "recipe": RECIPE}
    return check(VariantSpec, given | migrate(dict(data)))


def read_parameter(value: object) -> VariantSpec:
    """The variant that a parameter `spec` other than None names or describes.

    Raises:
        SpecError: another type, or an invalid spec.
        UnknownVariantError, CheckpointError, HubError: as for `aezoo.get_spec`.
    """
    if isinstance(value, VariantSpec):
        return value
    if isinstance(value, AutoencoderSpec):
        return _with_recipe(value.model_dump(mode="json", exclude_none=True))
    if isinstance(value, Mapping):
        return _with_recipe(cast(Mapping[str, Any], value))
    if isinstance(value, str | os.PathLike):
        path = cast("str | os.PathLike[str]", value)
        return read_spec(path) if os.fspath(path).endswith((".yaml", ".yml")) else get_spec(path)
    text = f"expected None, a spec, a dict, a path or the name of a variant, found {type_name(value)}"
    raise SpecError([Problem("spec", text)])


def deep_parameters(value: object) -> dict[str, object]:
    """The values of a parameter `spec` by names such as `spec__encoder__2__k`.

    None, invalid specs and addresses on the Hub, which would have to be downloaded, have none.
    """
    if value is None or (isinstance(value, str) and value.startswith(HUB)):
        return {}
    try:
        return {PREFIX + path.replace(".", "__"): leaf for path, leaf in _leaves(read_parameter(value))}
    except AezooError:
        return {}


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    below = f"{path}." if path else ""
    if isinstance(value, Spec):
        for name in type(value).model_fields:
            if name != "kind":
                yield from _leaves(getattr(value, name), below + name)
    elif isinstance(value, tuple) and any(isinstance(item, Spec) for item in cast(tuple[object, ...], value)):
        for index, item in enumerate(cast(tuple[object, ...], value)):
            yield from _leaves(item, f"{below}{index}")
    else:
        yield path, value


def changed(value: object, changes: Mapping[str, object]) -> VariantSpec:
    """The variant of a parameter `spec` with other values.

    Args:
        value: the parameter.
        changes: `spec__encoder__2__k` or `spec__encoder.2.k` -> the new value.

    Raises:
        SpecError: `value` is None, a path does not exist, or the result is invalid; names the path.
    """
    if value is None:
        text = "spec is None and has no paths; pass spec=default_spec(n_features), of aezoo.sklearn"
        raise SpecError([Problem(next(iter(changes)), text)])
    paths = {name.removeprefix(PREFIX).replace("__", "."): plain(new) for name, new in changes.items()}
    return read_parameter(value).replace(paths)


def plain(value: Any) -> Any:
    """A value with numbers of Python in place of NumPy's."""
    return cast(Any, value).tolist() if isinstance(value, np.generic | np.ndarray) else value


def with_training(spec: VariantSpec, parameters: Mapping[str, Any]) -> VariantSpec:
    """A variant whose recipe has the epochs, rows per step, learning rate and seed of an estimator, if given.

    Raises:
        DataError: there is no stage of gradient descent that a number could be for.
    """
    changes = {
        "recipe.batch_size": parameters["batch_size"], "recipe.seed": seed_of(parameters["random_state"])
    }  # fmt: skip
    descents = [i for i, stage in enumerate(spec.recipe.stages) if hasattr(stage, "optimizer")]
    for name, key in (("max_epochs", "epochs"), ("learning_rate", "optimizer.lr")):
        if parameters[name] is not None and not descents:
            raise DataError(f"{name}: the recipe of {spec.name} has no stage of gradient descent")
        changes |= {f"recipe.stages.{i}.{key}": parameters[name] for i in descents}
    return spec.replace({path: plain(new) for path, new in changes.items() if new is not None})


def seed_of(random_state: Any) -> int | None:
    """The seed that a parameter `random_state` stands for; None for that of the recipe.

    A `RandomState` is advanced by one draw, as scikit-learn's estimators do.

    Raises:
        DataError: it is something else.
    """
    if random_state is None:
        return None
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(MAX_INT))
    seed = plain(random_state)
    if type(seed) is int and 0 <= seed <= MAX_INT:
        return seed
    expected = f"None, a whole number from 0 to {MAX_INT} or a numpy.random.RandomState"
    raise DataError(f"random_state: expected {expected}, found {random_state!r}")
