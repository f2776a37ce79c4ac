"""The estimators: scikit-learn's conventions around `aezoo.train` and a trained network."""

import copy
import math
import os
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aezoo.data.containers import from_numpy
from aezoo.data.datasets.splits import hash_splits
from aezoo.data.inputs import Splits
from aezoo.data.samples import Samples
from aezoo.data.transforms import Scaler
from aezoo.errors import DataError, optional
from aezoo.inference.network import decode, encode
from aezoo.inference.sources import BATCH_SIZE
from aezoo.model.autoencoder import Autoencoder
from aezoo.sklearn import folder
from aezoo.sklearn.parameters import (
    PREFIX,
    changed,
    deep_parameters,
    default_spec,
    read_parameter,
    seed_of,
    with_training,
)
from aezoo.specs.variant import VariantSpec
from aezoo.training.train import train
from aezoo.zoo.load import load

base: Any = optional("sklearn.base", "scikit-learn", "sklearn")
validation: Any = optional("sklearn.utils.validation", "scikit-learn", "sklearn")

FALSE_ALARMS = 0.05
"""Share of new usual rows that a detector takes for outliers, with `contamination="auto"`."""

Floats = NDArray[np.floating[Any]]
E = TypeVar("E", bound="_AutoencoderEstimator")


class _AutoencoderEstimator(base.BaseEstimator):
    """What the two estimators share: parameters, training, and folders."""

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

    def check_params(self) -> None:
        """Checks the parameters whose values nothing else checks.

        Raises:
            DataError: one has another type or is out of its range.
        """
        whole, real = (int, np.integer), (int, float, np.integer, np.floating)
        for name in ("n_components", "max_epochs", "batch_size"):
            value: Any = getattr(self, name)
            if value is not None and (not _is(value, whole) or value < 1):
                raise DataError(f"{name}: expected None or a whole number of at least 1, found {value!r}")
        rate: Any = self.learning_rate
        if rate is not None and (not _is(rate, real) or not 0 < rate < math.inf):
            raise DataError(f"learning_rate: expected None or a number above 0, found {rate!r}")
        share: Any = self.validation_fraction
        if not _is(share, real) or not 0 < share < 1:
            raise DataError(f"validation_fraction: expected a share between 0 and 1, found {share!r}")
        if type(self.pretrained) is not bool:
            raise DataError(f"pretrained: expected True or False, found {self.pretrained!r}")
        if not isinstance(self.standardize, bool) and str(self.standardize) != "auto":
            raise DataError(f"standardize: expected True, False or 'auto', found {self.standardize!r}")
        if self.spec is not None and self.n_components is not None:
            raise DataError("n_components is for the default spec; a given spec has its own latents")
        if self.pretrained and not isinstance(self.spec, str | os.PathLike):
            raise DataError("pretrained: expected the name or the folder of a variant as spec")

    # -- fitting ----------------------------------------------------------------------------------

    def _fit(self, X: Any, *, hold_out: bool = False) -> "NDArray[Any]":
        """Trains or loads the network.

        Args:
            X: as in `fit`.
            hold_out: whether the held-out rows are never trained on, even if the recipe has a refit.

        Returns:
            The rows of X that were held out, (m, features): all if the network is pretrained.
        """
        self.check_params()
        if self.pretrained:
            ae = load(self.spec, device="cpu" if self.device == "auto" else self.device)
            values = self._checked(X, reset=True)
            self._batches(ae, values)  # raises for values that the network does not take
            held_out = values
        else:
            seed = seed_of(self.random_state)
            spec = None if self.spec is None else read_parameter(self.spec)
            values = self._checked(X, reset=True, ensure_min_samples=2)
            if spec is None:
                n = self.n_components
                k = None if n is None else int(n)
                spec = default_spec(values.shape[1], k, activation=self._activation)
            spec = self._with_training(spec, seed)
            ae, held_out = self._train(values, spec.replace({"recipe.refit": False}) if hold_out else spec)
        self.autoencoder_ = ae
        self.n_iter_ = 0 if self.pretrained else len(ae.history)
        return held_out

    def _with_training(self, spec: VariantSpec, seed: int | None) -> VariantSpec:
        if spec.output.shape != spec.input.shape:
            shapes = f"target has shape {list(spec.output.shape)}, its input {list(spec.input.shape)}"
            raise DataError(f"spec: the {shapes}; X is input and target, which need the same")
        epochs, rows, rate = self.max_epochs, self.batch_size, self.learning_rate
        return with_training(
            spec,
            max_epochs=None if epochs is None else int(epochs),
            batch_size=None if rows is None else int(rows),
            learning_rate=None if rate is None else float(rate),
            seed=seed,
        )

    def _train(self, values: "NDArray[Any]", spec: VariantSpec) -> "tuple[Autoencoder, NDArray[Any]]":
        x = self._reshaped(values, spec.input.shape)
        if self.standardize is True and spec.input.range is not None:
            raise DataError("standardize: standardized values are unbounded, and the spec has input.range")
        standardize = bool(self.standardize) and spec.input.range is None
        x, scaler = _numbers(x, spec.input.range), None
        if standardize:
            scaler = Scaler.fit(x)
            x = scaler(x.double()).float()
        names = tuple(cast("list[str]", getattr(self, "feature_names_in_", ())))
        # A folder has one distinct name for each value of a vector.
        named = len(set(names)) == len(names) and len(spec.input.shape) == 1
        samples = Samples(x, scaler=scaler, columns=names if named else ())
        held_out, trained = self._split(samples.inputs, spec.recipe.seed)
        note = f"{len(held_out)} of {len(x)} samples, by a hash of each with seed {spec.recipe.seed}"
        splits = Splits("array", samples[trained], samples[held_out], note)
        ae = train(spec, splits, device=self.device, progress=bool(self.verbose))
        return ae, values[held_out.numpy()]

    def _split(self, x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Numbers of the rows that are held out, and of those that are trained on."""
        share = float(self.validation_fraction)
        rows = hash_splits(x, share, 0.0, seed)
        # Ordered by their hashes, so that neither the order of X nor added rows draw all of them anew.
        order = torch.cat([rows["validation"], rows["train"]])
        m = min(max(1, round(share * len(x))), len(x) - 1)
        return order[:m], order[m:]

    # -- the network ------------------------------------------------------------------------------

    def _fitted(self) -> Autoencoder:
        validation.check_is_fitted(self, "autoencoder_")
        return self.autoencoder_

    def _checked(self, X: Any, *, reset: bool = False, **options: Any) -> "NDArray[Any]":
        """X as an array, (n, features), checked as scikit-learn's estimators check theirs."""
        if not reset:
            self._fitted()
        values: NDArray[Any] = validation.validate_data(self, X, reset=reset, **options)
        # PyTorch has no longer floats.
        return values.astype(np.float64) if values.dtype == np.longdouble else values

    @staticmethod
    def _reshaped(values: "NDArray[Any]", shape: tuple[int, ...]) -> Tensor:
        """Rows as samples of the network, (n, *shape)."""
        if (expected := math.prod(shape)) != values.shape[1]:
            text = f"X has {values.shape[1]:,} features, the spec's input, {list(shape)}, has {expected:,}"
            raise DataError(text)
        return from_numpy(values.reshape(len(values), *shape))

    def _batches(self, ae: Autoencoder, values: "NDArray[Any]") -> list[Tensor]:
        """Rows as a network takes them, in batches of (n, *input shape)."""
        x = _numbers(self._reshaped(values, ae.spec.input.shape), None if ae.scaler else ae.spec.input.range)
        transforms = ae.transforms()
        return [transforms(part) for part in cast("tuple[Tensor, ...]", x.split(BATCH_SIZE))]

    def _errors_of(self, values: "NDArray[Any]") -> Floats:
        """Mean squared error of the reconstruction of each row, (n,), in the network's units."""
        ae = self.autoencoder_
        # In float32 the last bits depend on how many rows are scored together, and so would some predictions.
        device = next(ae.parameters(), torch.zeros(0)).device
        device = torch.device("cpu") if device.type == "mps" else device  # which has no double precision
        exact = copy.deepcopy(ae).to(device, torch.float64).eval()
        with torch.no_grad():
            parts = [exact.score_samples(x.to(device, torch.float64)) for x in self._batches(ae, values)]
        return -torch.cat(parts).cpu().numpy()

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
            folder_: the folder, or what else `aezoo.load` takes.

        Raises:
            CheckpointError: a file is missing or fails a check, or holds another estimator.
        """
        return folder.load_estimator(cls, folder_)


class AutoencoderTransformer(
    base.ClassNamePrefixFeaturesOutMixin, base.TransformerMixin, _AutoencoderEstimator
):
    """Dimensionality reduction by an autoencoder.

    `transform` encodes, `inverse_transform` decodes. All results are float32, computed in evaluation mode.

    Parameters:
        spec: the network and its recipe: None for `default_spec(n_features, n_components)`; a `VariantSpec`,
            an `AutoencoderSpec` or a dict; the path of a YAML file or of a folder; or the name of a published
            variant. Without a recipe, that of the default spec is used.
        n_components: number of latents of the default spec.
        standardize: whether `fit` computes mean and standard deviation of each feature, with which inputs are
            standardized and reconstructions converted back. `auto` does so unless the spec declares
            `input.range`.
        pretrained: whether to use the published weights of `spec`, a name or a folder. `fit` then only checks
            X. By default its recipe is trained on X.
        max_epochs: epochs of every stage; by default those of the recipe.
        batch_size: rows per step; by default that of the recipe.
        learning_rate: of every stage; by default those of the recipe.
        validation_fraction: share of the rows of X, above 0 and below 1, that is held out for early stopping
            and other choices of the recipe.
        random_state: seed of the initial weights, the held-out rows, batches and noise: None for the seed of
            the recipe, so that results are the same in every run, an int, or a `RandomState`.
        device: `cpu`, `cuda`, `mps`, or `auto` for the fastest available.
        verbose: 0 for no output; 1 shows the progress on standard error.

    Attributes:
        autoencoder_: the trained `Autoencoder`, in evaluation mode.
        n_features_in_: number of features of X.
        feature_names_in_: names of the columns of X, if they are strings.
        n_iter_: number of epochs trained, over all stages; 0 if pretrained.
    """

    def fit(self: E, X: Any, y: Any = None) -> E:
        """Trains the autoencoder on X, or loads it.

        Args:
            X: (n, features), at least two rows of finite numbers. Images are flattened. If the spec declares
                `input.range`, X is bytes (uint8, 0 to 255), which are scaled to it, or floating point within
                it.
            y: not used.

        Raises:
            ValueError: invalid X, parameters or spec.
            TrainingError: the loss is no longer finite, or the device is not available.
        """
        self._fit(X)
        return self

    def transform(self, X: Any) -> Floats:
        """Encodes X.

        Args:
            X: (n, features), as in `fit`.

        Returns:
            The latents, float32, (n, latents); those of a feature map are flattened.

        Raises:
            ValueError: invalid X.
        """
        ae = self._fitted()
        batches = self._batches(ae, self._checked(X))
        return torch.cat([encode(ae, part).flatten(1) for part in batches]).numpy()

    def inverse_transform(self, X: Any) -> Floats:
        """Decodes latents.

        Args:
            X: (n, latents), as `transform` returns them.

        Returns:
            The reconstructions, (n, features), in the units of the data in `fit`; in `input.range`, if the
            spec declares one. float32, or float64 where float32 would shift the data noticeably.

        Raises:
            ValueError: invalid latents, or a decoder that needs more than latents of the encoder.
        """
        ae = self._fitted()
        if needed := ", ".join(map(repr, ae.decoder.needs)):
            raise DataError(f"inverse_transform: the decoder needs {needed} of the encoder, not only latents")
        latents = validation.check_array(X, dtype=np.float32, input_name="X")
        if latents.shape[1] != ae.num_latents:
            raise DataError(f"X has {latents.shape[1]:,} columns, expected {ae.num_latents:,} latents")
        rows = from_numpy(latents).reshape(-1, *ae.latent_shape)
        decoded = torch.cat([decode(ae, part) for part in cast("tuple[Tensor, ...]", rows.split(BATCH_SIZE))])
        return ae.transforms().inverse(decoded).flatten(1).numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the mean squared error of the reconstruction of X: higher is better, 0 is perfect.

        The error is a mean over rows and features, in the network's units: with `standardize`, of features
        that are standardized by the mean and standard deviation of X in `fit`.

        Args:
            X: (n, features), as in `fit`.
            y: not used.

        Raises:
            ValueError: invalid X.
        """
        return -float(self._errors_of(self._checked(X)).mean())

    @property
    def _n_features_out(self) -> int:
        return self.autoencoder_.num_latents

    def __sklearn_tags__(self) -> Any:
        tags = cast("Any", super().__sklearn_tags__())
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


class AutoencoderDetector(base.OutlierMixin, _AutoencoderEstimator):
    """Outlier and novelty detection by the error of an autoencoder's reconstruction.

    Parameters and attributes are those of `AutoencoderTransformer`, and:

    Parameters:
        validation_fraction: 0.2 by default, since the threshold is judged by the held-out rows.
        contamination: share of outliers in X of `fit`, above 0 and at most 0.5, which sets the threshold
            `offset_`; or `auto` for the error that at most 5 % of new usual rows exceed on average (split
            conformal prediction), judged by the held-out rows, or by all rows if pretrained. With fewer than
            19 such rows it is the largest of their errors.

    Attributes:
        offset_: `decision_function` is `score_samples` less this threshold.
    """

    offset_: float
    _activation = "tanh"

    def __init__(
        self,
        spec: Any = None,
        *,
        contamination: Any = "auto",
        n_components: Any = None,
        standardize: Any = "auto",
        pretrained: Any = False,
        max_epochs: Any = None,
        batch_size: Any = None,
        learning_rate: Any = None,
        validation_fraction: Any = 0.2,
        random_state: Any = None,
        device: Any = "auto",
        verbose: Any = 0,
    ) -> None:
        super().__init__(
            spec, n_components=n_components, standardize=standardize, pretrained=pretrained,
            max_epochs=max_epochs, batch_size=batch_size, learning_rate=learning_rate,
            validation_fraction=validation_fraction, random_state=random_state, device=device,
            verbose=verbose,
        )  # fmt: skip
        self.contamination = contamination

    def fit(self: E, X: Any, y: Any = None) -> E:
        """Trains the autoencoder on X, or loads it, and sets the threshold by the errors of X.

        Args:
            X: (n, features), as for `AutoencoderTransformer.fit`.
            y: not used.

        Raises:
            ValueError: invalid X, parameters or spec.
            TrainingError: the loss is no longer finite, or the device is not available.
        """
        share = self.contamination
        is_share = _is(share, (float, np.floating)) and 0 < float(share) <= 0.5
        if not is_share and not (isinstance(share, str) and share == "auto"):
            raise DataError(f"contamination: expected 'auto' or a share in (0, 0.5], found {share!r}")
        held_out = self._fit(X, hold_out=not is_share)
        if is_share:
            scores: Any = self.score_samples(X)
            self.offset_ = float(np.percentile(scores, 100.0 * float(share)))
        else:
            self.offset_ = -_conformal_limit(self._errors_of(held_out))
        return self

    def score_samples(self, X: Any) -> Floats:
        """Minus the mean squared error of each row: a higher score is more usual.

        The units are those of `AutoencoderTransformer.score`.

        Args:
            X: (n, features), as in `fit`.

        Returns:
            float64, (n,), at most 0.

        Raises:
            ValueError: invalid X.
        """
        return -self._errors_of(self._checked(X))

    def decision_function(self, X: Any) -> Floats:
        """`score_samples` less `offset_`, (n,): negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> "NDArray[np.int64]":
        """-1 for outliers, whose score is below `offset_`, and 1 for other rows, (n,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)


def _is(value: object, types: tuple[type, ...]) -> bool:
    return isinstance(value, types) and not isinstance(value, bool | np.bool_)


def _numbers(x: Tensor, value_range: tuple[float, float] | None) -> Tensor:
    """Values as the network's preprocessing takes them: bytes if they are scaled to a range, else floats.

    Raises:
        DataError: whole numbers other than bytes for an input with a range.
    """
    if x.is_floating_point() or (x.dtype == torch.uint8 and value_range is not None):
        return x
    if value_range is None or x.dtype == torch.bool:
        return x.double()
    low, high = value_range
    expected = f"bytes (uint8, 0 to 255) or floating point from {low:g} to {high:g}"
    raise DataError(f"X: expected {expected}, found {str(x.dtype).removeprefix('torch.')}")


def _conformal_limit(errors: Floats) -> float:
    """The error that at most a share `FALSE_ALARMS` of new usual rows exceeds on average (Vovk et al. 2005).

    Of too few errors for that, it is the largest, and the share is 1 / (n + 1).
    """
    position = math.ceil((len(errors) + 1) * (1 - FALSE_ALARMS) - 1e-9)
    return float(np.sort(errors)[min(position, len(errors)) - 1])
