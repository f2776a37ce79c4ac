"""What the estimators share: parameters, training and folders by scikit-learn's conventions."""

import copy
import math
import os
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from aezoo.errors import DataError, optional
from aezoo.model.autoencoder import Autoencoder
from aezoo.sklearn import folder, rows
from aezoo.sklearn.parameters import (
    PREFIX,
    changed,
    deep_parameters,
    default_spec,
    plain,
    read_parameter,
    with_training,
)
from aezoo.training.train import pick_device, train
from aezoo.zoo.load import load

base: Any = optional("sklearn.base", "scikit-learn", "sklearn")
validation: Any = optional("sklearn.utils.validation", "scikit-learn", "sklearn")

E = TypeVar("E", bound="AutoencoderEstimator")


class AutoencoderEstimator(base.BaseEstimator):
    """Base class; `AutoencoderTransformer` documents the parameters and attributes."""

    autoencoder_: Autoencoder
    n_features_in_: int
    n_iter_: int
    _activation = "gelu"

    # scikit-learn wants any values to be taken here, and checked in `fit`.
    def __init__(
        self,
        spec: Any = None,
        *,
        n_components: Any = None,
        standardize: Any = "auto",
        pretrained: Any = False,
        max_epochs: Any = None,
        batch_size: Any = None,
        learning_rate: Any = None,
        validation_fraction: Any = 0.1,
        random_state: Any = None,
        device: Any = "auto",
        verbose: Any = 0,
    ) -> None:
        self.spec = spec
        self.n_components = n_components
        self.standardize = standardize
        self.pretrained = pretrained
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    # -- parameters -------------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name.

        Args:
            deep: whether to include the values of the spec, such as `spec__encoder__2__k`. The default spec,
                which depends on X, and pretrained variants have none.
        """
        found = cast("dict[str, Any]", super().get_params(deep=deep))
        return found | (deep_parameters(self.spec) if deep and self.pretrained is False else {})

    def set_params(self: E, **params: Any) -> E:
        """Sets parameters; `spec__encoder__2__k`, or `spec__encoder.2.k`, sets a value of the spec.

        The parameter `spec` is replaced by a changed copy. If a value is refused, nothing is changed.

        Raises:
            ValueError: an unknown parameter or path, or an invalid value; the message names it.
        """
        changes = {name: value for name, value in params.items() if name.startswith(PREFIX)}
        others = {name: value for name, value in params.items() if name not in changes}
        parent = super()
        if unknown := sorted(others.keys() - parent.get_params(deep=False).keys()):
            parent.set_params(**{unknown[0]: None})  # raises scikit-learn's error
        if changes:
            if others.get("pretrained", self.pretrained) is not False:
                raise DataError(f"{next(iter(changes))}: pretrained weights belong to their spec")
            others["spec"] = changed(others.get("spec", self.spec), changes)
        return parent.set_params(**others)

    def _check_params(self) -> None:
        """Checks the parameters whose values nothing else checks.

        Raises:
            DataError: one has another type or is out of its range.
        """
        for name in ("n_components", "max_epochs", "batch_size"):
            value = plain(getattr(self, name))
            if value is not None and not (type(value) is int and value >= 1):
                raise DataError(f"{name}: expected None or a whole number of at least 1, found {value!r}")
        rate = plain(self.learning_rate)
        if rate is not None and not (type(rate) in (int, float) and 0 < rate < math.inf):
            raise DataError(f"learning_rate: expected None or a number above 0, found {rate!r}")
        for name in ("validation_fraction", "calibration_fraction"):
            share = plain(getattr(self, name, 0.1))
            if not (type(share) is float and 0 < share < 1):
                raise DataError(f"{name}: expected a share between 0 and 1, found {share!r}")
        if type(self.pretrained) is not bool:
            raise DataError(f"pretrained: expected True or False, found {self.pretrained!r}")
        if not isinstance(self.standardize, bool) and str(self.standardize) != "auto":
            raise DataError(f"standardize: expected True, False or 'auto', found {self.standardize!r}")
        if not isinstance(self.device, str | torch.device):
            raise DataError(f"device: expected a name such as 'cpu', found {self.device!r}")
        if self.spec is not None and self.n_components is not None:
            raise DataError("n_components is for the default spec; a given spec has its own latents")
        if self.pretrained and not isinstance(self.spec, str | os.PathLike):
            raise DataError("pretrained: expected the name or the folder of a variant as spec")

    def __getstate__(self) -> dict[str, Any]:
        # What was trained on a GPU is unpickled on any machine.
        state = cast("dict[str, Any]", super().__getstate__())
        if (ae := state.get("autoencoder_")) is not None:
            state = state | {"autoencoder_": copy.deepcopy(ae).to("cpu")}
        return state

    # -- fitting ----------------------------------------------------------------------------------

    def _fit(self, X: Any, *, reserved: Any = 0.0) -> "NDArray[Any]":
        """Trains or loads the network.

        Args:
            X: as in `fit`.
            reserved: share of the rows that is not trained on in any way.

        Returns:
            The reserved rows, (m, features): all if the network is pretrained.
        """
        self._check_params()
        if self.pretrained:
            ae = load(self.spec, device=pick_device(self.device))
            values = rest = self._checked(X, reset=True)
            names = self._names()
            if names and ae.columns and names != ae.columns:
                raise DataError(f"X: expected the columns of the training in order, {', '.join(ae.columns)}")
            rows.batches(ae, values)  # raises for values that the network does not take
        else:
            given = None if self.spec is None else read_parameter(self.spec)
            values = self._checked(X, reset=True, ensure_min_samples=3 if reserved else 2)
            k = plain(self.n_components)
            spec = given or default_spec(values.shape[1], k, activation=self._activation)
            spec = with_training(spec, self.get_params(deep=False))
            values, rest = rows.reserve(values, reserved, spec.recipe.seed)
            share = plain(self.validation_fraction)
            splits = rows.splits(values, spec, share, self.standardize, self._names())
            ae = train(spec, splits, device=self.device, progress=bool(self.verbose))
        self.autoencoder_ = ae
        self.n_iter_ = 0 if self.pretrained else len(ae.history)
        return rest

    def _names(self) -> tuple[str, ...]:
        """Names of the columns of X in `fit`; empty if it had none."""
        return tuple(map(str, cast("list[str]", getattr(self, "feature_names_in_", ()))))

    def _fitted(self) -> Autoencoder:
        validation.check_is_fitted(self, "autoencoder_")
        return self.autoencoder_

    def _checked(self, X: Any, *, reset: bool = False, **options: Any) -> "NDArray[Any]":
        """X as an array, (n, features), checked as scikit-learn's estimators check theirs."""
        if not reset:
            self._fitted()
        if np.ma.is_masked(X):
            raise DataError("X has masked values; fill or remove them")
        values: NDArray[Any] = validation.validate_data(self, X, reset=reset, **options)
        if values.dtype.kind not in "fiub":
            raise DataError(f"X: expected numbers, found {values.dtype}")
        return values

    # -- folders ----------------------------------------------------------------------------------

    def save(self, folder_: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Writes the network's folder, as `aezoo.save` does, with the estimator in `estimator.json`.

        Args:
            folder_: created with its parents.
            overwrite: whether a folder with weights may be replaced.

        Raises:
            NotFittedError: the estimator is not fitted.
            CheckpointError: as for `aezoo.save`, or a parameter cannot be written as JSON.
        """
        self._fitted()
        folder.save_estimator(self, folder_, overwrite=overwrite)

    @classmethod
    def load(cls: type[E], folder_: str | os.PathLike[str]) -> E:
        """Loads an estimator that `save` wrote, after checking every byte that is used; nothing is unpickled.

        Args:
            folder_: the folder, or an address on the Hub, `hub:OWNER/NAME@REVISION`.

        Raises:
            CheckpointError: a file is missing or fails a check, or holds another estimator.
        """
        return folder.load_estimator(cls, folder_)
