"""`AutoencoderTransformer`: encodes and decodes."""

from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from aezoo.data.containers import from_numpy
from aezoo.errors import DataError
from aezoo.inference.network import decode, encode
from aezoo.inference.sources import BATCH_SIZE
from aezoo.sklearn import rows
from aezoo.sklearn.estimator import AutoencoderEstimator, base, validation
from aezoo.sklearn.rows import Floats

E = TypeVar("E", bound="AutoencoderTransformer")


class AutoencoderTransformer(
    base.ClassNamePrefixFeaturesOutMixin, base.TransformerMixin, AutoencoderEstimator
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
        device: `cpu`, `cuda`, `mps`, or `auto` for the fastest available. Pickles and folders are restored on
            the CPU.
        verbose: 0 for no output; 1 shows the progress on standard error.

    Attributes:
        autoencoder_: the trained `Autoencoder`, in evaluation mode.
        n_features_in_: number of features of X.
        feature_names_in_: names of the columns of X, if they are strings.
        n_iter_: number of epochs trained, over all stages and a refit; 0 if pretrained.
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
            UnknownVariantError, CheckpointError: as for `aezoo.load`, if `spec` is a name or a folder.
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
        batches = rows.batches(ae, self._checked(X))
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
        codes = from_numpy(latents).reshape(-1, *ae.latent_shape)
        parts = cast("tuple[Tensor, ...]", codes.split(BATCH_SIZE))
        decoded = torch.cat([decode(ae, part) for part in parts])
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
        return -float(rows.errors(self._fitted(), self._checked(X)).mean())

    @property
    def _n_features_out(self) -> int:
        return self.autoencoder_.num_latents

    def __sklearn_tags__(self) -> Any:
        tags = cast("Any", super().__sklearn_tags__())
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
