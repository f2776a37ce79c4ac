"""The base class of all protocols."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import override

from aezoo.data.samples import Samples
from aezoo.errors import DataError, optional
from aezoo.evaluation.evaluate import (
    Measurement,
    batches_for,
    dataset_of,
    finite_or_reason,
    load_for,
    load_split,
)
from aezoo.evaluation.metric import recipe_of
from aezoo.model.autoencoder import Autoencoder, eval_mode
from aezoo.specs.components import Split


class Protocol(ABC):
    """A measurement that takes more than one pass over a split.

    Args:
        ae: the network to measure, with which the protocol is compatible.

    Attributes:
        name: name on the command line.
        summary: what is measured, in one line.
        gives: names of the values that `run` returns.
        source: `computed` if the values follow from weights and data, `protocol` if training is needed.
        split: the split that is measured.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    gives: ClassVar[tuple[str, ...]]
    source: ClassVar[Literal["computed", "protocol"]] = "computed"
    split: ClassVar[Split] = "test"

    def __init__(self, ae: Autoencoder) -> None:
        self.ae = ae

    @classmethod
    def incompatibility(cls, ae: Autoencoder) -> str | None:
        """Why the protocol does not apply to a network; None if it does. Its recipe must name a dataset."""
        recipe = recipe_of(ae)
        return "the recipe names no dataset" if recipe is None or recipe.dataset is None else None

    @abstractmethod
    def run(self) -> dict[str, Measurement]:
        """Measures the network. Everything drawn is seeded.

        Returns:
            Name of the value -> entry of `metrics.json`.
        """

    def measurement(self, value: float, n: int, definition: str) -> Measurement:
        """An entry of `metrics.json` for a value of `n` samples; null if the value is not finite."""
        number, reason = finite_or_reason(value)
        return Measurement(
            value=number, reason=reason, source=self.source, dataset=str(dataset_of(self.ae).kind_name),
            split=self.split, n=n, definition=definition,
        )  # fmt: skip

    def samples(self, split: Split) -> Samples:
        """A split of the recipe's dataset.

        Raises:
            DataError: there is no such split, it is not available, or it does not fit the spec.
        """
        return load_split(self.ae, split)

    def training_samples(self) -> Samples:
        """All samples that the weights were trained on: after a refit, also those of the validation split."""
        train, recipe = self.samples("train"), recipe_of(self.ae)
        return train.concat(self.samples("validation")) if recipe is not None and recipe.refit else train

    def latents(self, samples: Samples) -> Tensor:
        """Latents in evaluation mode, (n, latents), float32 on the CPU."""
        with eval_mode(self.ae), torch.no_grad():
            batches = batches_for(self.ae, samples)
            return torch.cat([self.ae.encode(batch.input).flatten(1).cpu().float() for batch in batches])

    def inputs(self, samples: Samples) -> Tensor:
        """Scaled inputs, (n, values)."""
        # Batches would be copied again when they are put together.
        return samples.batch(slice(len(samples)), self.ae.spec).input.flatten(1)


class ClassificationProtocol(Protocol):
    """A protocol that needs a dataset with at least two classes."""

    @classmethod
    @override
    def incompatibility(cls, ae: Autoencoder) -> str | None:
        if reason := super().incompatibility(ae):
            return reason
        labels = load_for(ae, dataset_of(ae), "validation").labels
        if labels is None or labels.is_floating_point():
            return "the dataset has no classes"
        return None if int(labels.max()) > int(labels.min()) else "the dataset has a single class"


def labels_of(samples: Samples) -> Tensor:
    """Labels, (n,).

    Raises:
        DataError: there are none.
    """
    if samples.labels is None:
        raise DataError("the dataset has no labels")
    return samples.labels if samples.index is None else samples.labels[samples.index]


def fit_pca(x: Tensor, components: int) -> Any:
    """Fits scikit-learn's PCA to the rows of x, (n, values)."""
    # The default solver approximates large problems by random projections.
    pca = scientific("sklearn.decomposition").PCA(components, svd_solver="covariance_eigh")
    return pca.fit(x.numpy())


def scientific(module: str) -> Any:
    """Imports a module of scikit-learn, or of SciPy, which comes with it.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    return optional(module, "scikit-learn", "sklearn")
