"""Estimators in the folder of a variant: `estimator.json` next to the files of its network."""

import hashlib
import math
import os
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np

from aezoo.errors import AezooError, CheckpointError, SpecError
from aezoo.jsonio import canonical_json, pretty_json, strict_json
from aezoo.sklearn.parameters import read_parameter, seed_of
from aezoo.specs.base import Count, NonNegativeInt, Spec, check
from aezoo.zoo import verify
from aezoo.zoo.load import find_files
from aezoo.zoo.save import save
from aezoo.zoo.schema import ESTIMATOR, Sha256

E = TypeVar("E")


class EstimatorRecord(Spec):
    """The content of `estimator.json`, except its hash."""

    schema_version: Literal[1] = 1
    estimator: Literal["AutoencoderTransformer", "AutoencoderDetector"]
    network: Sha256
    """Fingerprint of the network that was saved with it."""
    params: dict[str, Any]
    n_features_in: Count
    feature_names_in: tuple[str, ...] | None = None
    n_iter: NonNegativeInt
    offset: float | None = None


def save_estimator(estimator: Any, folder: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Writes the network of a fitted estimator and `estimator.json`, complete or not at all.

    Raises:
        CheckpointError: as for `aezoo.save`, or a parameter cannot be written as JSON.
    """
    names: Any = getattr(estimator, "feature_names_in_", None)
    params: dict[str, Any] = estimator.get_params(deep=False)
    record = EstimatorRecord(
        estimator=cast(Any, type(estimator).__name__),
        network=estimator.autoencoder_.fingerprint(),
        params={name: _plain(name, value, estimator) for name, value in params.items()},
        n_features_in=estimator.n_features_in_,
        feature_names_in=None if names is None else tuple(map(str, names)),
        n_iter=estimator.n_iter_,
        offset=getattr(estimator, "offset_", None),
    )
    data = record.model_dump(mode="json")
    content = pretty_json({"sha256": _digest(data), **data})
    save(estimator.autoencoder_, folder, overwrite=overwrite, files={ESTIMATOR: content})


def _plain(name: str, value: Any, estimator: Any) -> object:
    """A parameter as JSON has it; specs become objects, and a `RandomState` the seed that was drawn."""
    if name == "spec" and value is not None and not isinstance(value, str):
        if isinstance(value, os.PathLike):
            path = str(cast("os.PathLike[str]", value))
            return path if Path(path).is_absolute() else f"./{path}"  # without ./ it would be a name
        return read_parameter(value).model_dump(mode="json")
    if isinstance(value, np.random.RandomState):
        return estimator.autoencoder_.spec.recipe.seed
    return cast(Any, value).item() if isinstance(value, np.generic) else value


def _digest(data: object) -> str:
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


def load_estimator(cls: type[E], folder: str | os.PathLike[str]) -> E:
    """Loads an estimator of a class; the network is verified as `aezoo.load` does.

    Raises:
        CheckpointError: a file is missing or fails a check, or holds an estimator of another class.
    """
    files = find_files(folder)
    ae = verify.load(files)
    path = files.folder / ESTIMATOR
    if not files.has(ESTIMATOR):
        raise CheckpointError("missing-file", f"{path} is missing; AutoencoderTransformer.save writes it")
    data = strict_json(files.read(ESTIMATOR), path)
    expected = data.pop("sha256", None)
    if (found := _digest(data)) != expected:
        raise CheckpointError("hash-mismatch", f"{path} has sha256 {found}, it says {expected}")
    try:
        record = check(EstimatorRecord, data)
    except SpecError as error:
        text = "; ".join(str(error).splitlines())
        raise CheckpointError("invalid-config", f"{path}: {text}") from error
    if record.estimator != cls.__name__:
        text = f"{path} holds an {record.estimator}, load it with {record.estimator}.load"
        raise CheckpointError("invalid-config", text)
    if record.network != ae.fingerprint():
        raise CheckpointError("hash-mismatch", f"{path} belongs to another network than this folder's")
    if (n := math.prod(ae.spec.input.shape)) != record.n_features_in:
        text = f"{path}: n_features_in: {record.n_features_in:,}, the network has {n:,}"
        raise CheckpointError("invalid-config", text)
    try:
        return _restored(cls, ae, record)
    except (AezooError, TypeError) as error:  # TypeError: an unknown parameter
        raise CheckpointError("invalid-config", f"{path}: params: {error}") from error


def _restored(cls: type[E], ae: Any, record: EstimatorRecord) -> E:
    params = dict(record.params)
    if isinstance(params.get("spec"), dict):
        params["spec"] = read_parameter(params["spec"])
    estimator: Any = cls(**params)
    estimator.check_params()
    seed_of(estimator.random_state)
    estimator.autoencoder_, estimator.n_iter_ = ae, record.n_iter
    estimator.n_features_in_ = record.n_features_in
    if record.feature_names_in is not None:
        estimator.feature_names_in_ = np.array(record.feature_names_in, dtype=object)
    if record.offset is not None:
        estimator.offset_ = record.offset
    return estimator
