"""The default specs of `aezoo.sklearn` on data sets of scikit-learn, beside PCA and other detectors.

`python tests/benchmarks/sklearn_quality.py` prints the tables of docs/sklearn.md, in about two minutes. The
default specs were chosen on wine and breast_cancer; the other data sets were measured once, afterwards.
"""

import warnings
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aezoo.sklearn import AutoencoderDetector, AutoencoderTransformer, default_spec

CHOSEN_ON = ("wine", "breast_cancer")
NAMES = (*CHOSEN_ON, "iris", "digits", "diabetes")
FOLDS = KFold(5, shuffle=True, random_state=0)


class PcaError:
    """The error of a reconstruction by principal components, as a detector."""

    def __init__(self, k: int) -> None:
        self.scaler, self.pca = StandardScaler(), PCA(k)

    def fit(self, x: Any) -> "PcaError":
        self.pca.fit(self.scaler.fit_transform(x))
        return self

    def score_samples(self, x: Any) -> Any:
        z = self.scaler.transform(x)
        return -((self.pca.inverse_transform(self.pca.transform(z)) - z) ** 2).mean(1)


def reconstruction(x: Any, k: int) -> list[float]:
    """Mean squared error on held-out rows, in standardized units: autoencoder, PCA."""
    found: list[list[float]] = []
    for train, test in FOLDS.split(x):
        ae = AutoencoderTransformer().fit(x[train])
        pca = PcaError(k).fit(x[train])
        found.append([-ae.score(x[test]), -float(pca.score_samples(x[test]).mean())])
    return list(np.mean(found, 0))


def detection(x: Any, y: Any, k: int) -> list[float]:
    """Each class in turn is usual; ROC AUC on held-out rows, and shares that `predict` takes for outliers."""
    found: list[list[float]] = []
    for usual in np.unique(y):
        for train, test in FOLDS.split(x):
            good = x[train][y[train] == usual]
            lof = make_pipeline(StandardScaler(), LocalOutlierFactor(novelty=True))
            fitted = [
                detector.fit(good)
                for detector in (AutoencoderDetector(), PcaError(k), IsolationForest(random_state=0), lof)
            ]
            is_usual = y[test] == usual
            flagged = fitted[0].predict(x[test]) < 0
            aucs = [roc_auc_score(is_usual, detector.score_samples(x[test])) for detector in fitted]
            found.append([*aucs, flagged[is_usual].mean(), flagged[~is_usual].mean()])
    return list(np.mean(found, 0))


def main() -> None:
    """Prints both tables."""
    warnings.simplefilter("ignore")
    loaded = {name: getattr(datasets, f"load_{name}")() for name in NAMES}
    latents = {name: default_spec(d.data.shape[1]).encoder[-1].out_features for name, d in loaded.items()}
    print("| data | rows | features | latents | autoencoder | PCA |\n|---|---|---|---|---|---|")
    for name, data in loaded.items():
        numbers = " | ".join(f"{v:.3f}" for v in reconstruction(data.data, latents[name]))
        print(
            f"| {name} | {' | '.join(map(str, data.data.shape))} | {latents[name]} | {numbers} |", flush=True
        )
    print("\n| data | autoencoder | PCA | IsolationForest | LocalOutlierFactor | false alarms | found |")
    print("|---|---|---|---|---|---|---|")
    for name, data in loaded.items():
        if name != "diabetes":  # its target is a number, not a class
            numbers = " | ".join(f"{v:.3f}" for v in detection(data.data, data.target, latents[name]))
            print(f"| {name} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
