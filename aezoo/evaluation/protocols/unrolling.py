"""Unrolling protocol: correlation of latents with the position along a swiss roll."""

import math

import torch
from torch import Tensor
from typing_extensions import override

from aezoo.data.datasets.synthetic import SwissRollSpec
from aezoo.evaluation.evaluate import Measurement, dataset_of
from aezoo.evaluation.protocols.protocol import Protocol, fit_pca, labels_of, scientific
from aezoo.model.autoencoder import Autoencoder


class Unrolling(Protocol):
    """Correlates latents and, for comparison, principal components with the angle along the roll."""

    name = "unrolling"
    summary = "rank correlation of a latent with the position along the roll, compared with PCA"
    gives = ("rank_correlation", "rank_correlation.pca")

    @classmethod
    @override
    def incompatibility(cls, ae: Autoencoder) -> str | None:
        if reason := super().incompatibility(ae):
            return reason
        return None if isinstance(dataset_of(ae), SwissRollSpec) else "the dataset is not a swiss roll"

    @override
    def run(self) -> dict[str, Measurement]:
        test = self.samples("test")
        components = min(self.ae.num_latents, math.prod(self.ae.spec.input.shape))
        pca = fit_pca(self.inputs(self.training_samples()), components)
        scores = torch.from_numpy(pca.transform(self.inputs(test).numpy()))
        definition = (
            "largest absolute Spearman correlation of a {} with the angle along the roll, over the test split"
        )
        return {
            name: self.measurement(
                _rank_correlation(columns, labels_of(test)), len(test), definition.format(what)
            )
            for name, columns, what in (
                ("rank_correlation", self.latents(test), "latent"),
                ("rank_correlation.pca", scores, "principal component"),
            )
        }


def _rank_correlation(columns: Tensor, angle: Tensor) -> float:
    """The largest absolute Spearman correlation of a column, (n, columns), with the angle, (n,)."""
    spearmanr = scientific("scipy.stats").spearmanr
    correlations = (
        abs(float(spearmanr(column.numpy(), angle.numpy()).statistic))
        for column in columns.T
        if column.min() < column.max()  # a constant column has no ranks
    )
    return max(correlations, default=math.nan)
