"""Clustering protocol: agreement of clusters of the latents with classes."""

import numpy as np
from typing_extensions import override

from aezoo.evaluation.evaluate import Measurement
from aezoo.evaluation.protocols.protocol import ClassificationProtocol, labels_of, scientific


class Clustering(ClassificationProtocol):
    """Clusters the latents of the training samples, as many as there are classes, by k-means.

    Test samples belong to the cluster of the nearest centre, so that no cluster is fitted to them. The
    accuracy assigns clusters to classes by the Hungarian method, on the test split (Yang et al., CVPR 2010,
    section 4); it is an upper limit, as the other two need no assignment.
    """

    name = "clustering"
    summary = "agreement of k-means clusters of the latents with the classes"
    gives = ("cluster_ari", "cluster_nmi", "cluster_accuracy")
    STARTS = 10

    @override
    def run(self) -> dict[str, Measurement]:
        cluster, metrics = scientific("sklearn.cluster"), scientific("sklearn.metrics")
        train, test = self.training_samples(), self.samples("test")
        classes, truth = np.unique(labels_of(test).numpy(), return_inverse=True)
        k = len(np.unique(labels_of(train).numpy()))
        model = cluster.KMeans(k, n_init=self.STARTS, random_state=0)
        model.fit(self.latents(train).numpy())
        found = model.predict(self.latents(test).numpy())
        counts = np.zeros((k, len(classes)), dtype=np.int64)
        np.add.at(counts, (found, truth), 1)
        rows, columns = scientific("scipy.optimize").linear_sum_assignment(counts, maximize=True)
        how = (
            f"k-means clusters (best of {self.STARTS} starts) of the latents of the {len(train):,} training "
            f"samples, as many as classes ({k}), to which test samples are assigned by the nearest centre"
        )
        return {
            name: self.measurement(float(value), len(test), f"{what} of {how}")
            for name, value, what in (
                (
                    "cluster_ari",
                    metrics.adjusted_rand_score(truth, found),
                    "adjusted Rand index with the classes",
                ),
                (
                    "cluster_nmi",
                    metrics.normalized_mutual_info_score(truth, found),
                    "mutual information with the classes over the mean of both entropies",
                ),
                (
                    "cluster_accuracy",
                    counts[rows, columns].sum() / len(test),
                    "accuracy, with the best one-to-one assignment to classes (Hungarian method),",
                ),
            )
        }
