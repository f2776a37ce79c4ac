"""Estimators in the folder of a variant: `estimator.json` next to the files of its network."""

import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch

from aezoo.errors import AezooError, CheckpointError, DataError
from aezoo.jsonio import canonical_json, pretty_json, strict_json
from aezoo.sklearn.parameters import plain, read_parameter, seed_of
from aezoo.specs.base import Count, NonNegativeInt, Spec, check
from aezoo.zoo import verify
from aezoo.zoo.load import HUB, find_files
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
    record = EstimatorRecord(
        estimator=cast(Any, type(estimator).__name__),
        network=estimator.autoencoder_.fingerprint(),
        params={name: _as_json(value, estimator) for name, value in estimator.get_params(deep=False).items()},
        n_features_in=estimator.n_features_in_,
        feature_names_in=None if names is None else tuple(map(str, names)),
        n_iter=estimator.n_iter_,
        offset=getattr(estimator, "offset_", None),
    )
    data = record.model_dump(mode="json")
    content = pretty_json({"sha256": _digest(data), **data})
    save(estimator.autoencoder_, folder, overwrite=overwrite, files={ESTIMATOR: content})


def _as_json(value: Any, estimator: Any) -> object:
    """A parameter as JSON has it; specs become objects, and a `RandomState` the seed that was drawn."""
    if isinstance(value, os.PathLike):
        path = Path(cast("os.PathLike[str]", value))
        return str(path) if path.is_absolute() else f"./{path}"  # without ./ it would be a name
    if isinstance(value, Spec | Mapping):
        return read_parameter(cast(Any, value)).model_dump(mode="json")
    if isinstance(value, np.random.RandomState):
        return estimator.autoencoder_.spec.recipe.seed
    return str(value) if isinstance(value, torch.device) else plain(value)


def _digest(data: object) -> str:
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


def load_estimator(cls: type[E], folder: str | os.PathLike[str]) -> E:
    """Loads an estimator of a class; the network is verified as `aezoo.load` does.

    Raises:
        CheckpointError: a file is missing or fails a check, or holds an estimator of another class.
    """
    # A bare name is a folder here, since no published variant is an estimator.
    files = find_files(folder if str(folder).startswith(HUB) else Path(folder))
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
        if record.network != ae.fingerprint():
            text = f"{path} belongs to another network than that of the folder"
            raise CheckpointError("hash-mismatch", text)
        return _restored(cls, ae, record)
    except CheckpointError:
        raise
    except AezooError as error:
        text = "; ".join(str(error).splitlines())
        raise CheckpointError("invalid-config", f"{path}: {text}") from error


def _restored(cls: type[E], ae: Any, record: EstimatorRecord) -> E:
    if record.estimator != cls.__name__:
        raise DataError(f"holds an {record.estimator}; load it with {record.estimator}.load")
    if (n := math.prod(ae.spec.input.shape)) != record.n_features_in:
        raise DataError(f"n_features_in: {record.n_features_in:,}, the network has {n:,}")
    params = dict(record.params)
    if isinstance(params.get("spec"), dict):
        params["spec"] = read_parameter(params["spec"])
    try:
        estimator: Any = cls(**params)
        estimator._check_params()
        seed_of(estimator.random_state)
    except (AezooError, TypeError) as error:  # TypeError: an unknown parameter
        raise DataError(f"params: {error}") from error
    estimator.autoencoder_, estimator.n_iter_ = ae, record.n_iter
    estimator.n_features_in_ = record.n_features_in
    if record.feature_names_in is not None:
        estimator.feature_names_in_ = np.array(record.feature_names_in, dtype=object)
    if record.offset is not None:
        estimator.offset_ = record.offset
    return estimator
