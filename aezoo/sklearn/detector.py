"""`AutoencoderDetector`: outliers and novelties by the error of their reconstruction."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from aezoo.errors import DataError
from aezoo.sklearn import rows
from aezoo.sklearn.estimator import AutoencoderEstimator, base
from aezoo.sklearn.parameters import plain
from aezoo.sklearn.rows import Floats

E = TypeVar("E", bound="AutoencoderDetector")


class AutoencoderDetector(base.OutlierMixin, AutoencoderEstimator):
    """Outlier and novelty detection by the error of an autoencoder's reconstruction.

    Parameters and attributes are those of `AutoencoderTransformer`, and:

    Parameters:
        contamination: share of outliers in X of `fit`, above 0 and at most 0.5, which sets the threshold
            `offset_`; or `auto` for the error that at most 5 % of new usual rows exceed on average (split
            conformal prediction). It is an error of rows that are not trained on; of fewer than 19 such rows
            it is the largest, and the share is 1 / (rows + 1).
        calibration_fraction: share of the rows of X, above 0 and below 1, that is not trained on with
            `contamination="auto"`. If pretrained, all rows are used for the threshold.

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
        calibration_fraction: Any = 0.2,
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
        super().__init__(
            spec, n_components=n_components, standardize=standardize, pretrained=pretrained,
            max_epochs=max_epochs, batch_size=batch_size, learning_rate=learning_rate,
            validation_fraction=validation_fraction, random_state=random_state, device=device,
            verbose=verbose,
        )  # fmt: skip
        self.contamination = contamination
        self.calibration_fraction = calibration_fraction

    def fit(self: E, X: Any, y: Any = None) -> E:
        """Trains the autoencoder on X, or loads it, and sets the threshold by the errors of X.

        Args:
            X: (n, features), as for `AutoencoderTransformer.fit`.
            y: not used.

        Raises:
            ValueError: invalid X, parameters or spec.
            UnknownVariantError, CheckpointError: as for `aezoo.load`, if `spec` is a name or a folder.
            TrainingError: the loss is no longer finite, or the device is not available.
        """
        automatic = plain(self.contamination) == "auto"
        rest = self._fit(X, reserved=plain(self.calibration_fraction) if automatic else 0.0)
        if automatic:
            self.offset_ = -rows.conformal_limit(rows.errors(self.autoencoder_, rest))
        else:
            scores: Any = self.score_samples(X)
            self.offset_ = float(np.percentile(scores, 100.0 * float(self.contamination)))
        return self

    def _check_params(self) -> None:
        super()._check_params()
        share = plain(self.contamination)
        if share != "auto" and not (type(share) is float and 0 < share <= 0.5):
            raise DataError(f"contamination: expected 'auto' or a share in (0, 0.5], found {share!r}")

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
        return -rows.errors(self._fitted(), self._checked(X))

    def decision_function(self, X: Any) -> Floats:
        """`score_samples` less `offset_`, (n,): negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> "NDArray[np.int64]":
        """-1 for outliers, whose score is below `offset_`, and 1 for other rows, (n,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)
