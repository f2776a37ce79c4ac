"""What latents are worth: how many are active, how they react to noise, what can be read off them."""

import math
from typing import Any, cast

import torch
from torch import Generator, Tensor

from aezoo.data.datasets.synthetic import SwissRollSpec
from aezoo.errors import optional
from aezoo.evaluation.evaluate import BATCH, EVAL_SEED, Metric
from aezoo.evaluation.protocols.protocol import (
    Protocol,
    dataset_of,
    entry,
    fitted_on,
    inputs_of,
    labels_of,
    latents_of,
    samples_of,
    without_dataset,
)
from aezoo.model.autoencoder import Autoencoder, eval_mode


class Activity(Protocol):
    """Counts latents that are more than nearly off."""

    name = "activity"
    summary = "latents above 1 % of the largest value that each had on the training split"
    gives = ("active_latents",)
    SHARE = 0.01

    def incompatibility(self, ae: Autoencoder) -> str | None:
        """A recipe without a dataset."""
        return without_dataset(ae)

    def run(self, ae: Autoencoder) -> dict[str, Metric]:
        """`active_latents`."""
        largest = latents_of(ae, fitted_on(ae)).abs().amax(0)
        found = latents_of(ae, samples_of(ae, "test")).abs()
        value = float((found > self.SHARE * largest).sum(1).double().mean())
        definition = (
            "latents whose absolute value is above 1 % of the largest that they had for a training sample, "
            "counted for each sample, mean over samples"
        )
        return {"active_latents": entry(ae, value, len(found), definition)}


class Stability(Protocol):
    """Measures how much latents change when their input changes a little."""

    name = "stability"
    summary = "change of the latents under small input noise, relative to their spread over samples"
    gives = ("latent_change",)
    STD = 0.1

    def incompatibility(self, ae: Autoencoder) -> str | None:
        """A recipe without a dataset."""
        return without_dataset(ae)

    def run(self, ae: Autoencoder) -> dict[str, Metric]:
        """`latent_change`."""
        generator = Generator().manual_seed(EVAL_SEED)
        samples = samples_of(ae, "test")
        weight = next(ae.parameters(), torch.empty(0))
        clean: list[Tensor] = []
        changed: list[Tensor] = []
        with eval_mode(ae), torch.no_grad():
            for rows in samples.batches(ae.spec, BATCH):
                noise = self.STD * torch.randn(rows.input.shape, generator=generator)
                clean.append(ae.encode(rows.input.to(weight)).flatten(1).cpu().double())
                changed.append(ae.encode((rows.input + noise).to(weight)).flatten(1).cpu().double())
        before, after = torch.cat(clean), torch.cat(changed)
        spread = (before - before.mean(0)).square().mean().sqrt()
        value = float((after - before).square().mean().sqrt() / spread)
        definition = (
            f"root mean square change of the latents under Gaussian input noise of standard deviation "
            f"{self.STD:g}, "
            "over the root mean square distance of the latents from their mean"
        )
        return {"latent_change": entry(ae, value, len(samples), definition)}


class Probe(Protocol):
    """Reads the class off the latents with a linear classifier (Alain and Bengio, arXiv:1610.01644)."""

    name = "probe"
    summary = "accuracy of logistic regression on the latents, beside the same on the input values"
    gives = ("probe_accuracy", "probe_accuracy.input")
    ROWS = 10_000

    def incompatibility(self, ae: Autoencoder) -> str | None:
        """A recipe without a dataset that has classes."""
        if reason := without_dataset(ae):
            return reason
        labels = dataset_of(ae).load("validation").labels
        if labels is None or labels.is_floating_point():
            return "the dataset has no classes"
        classes = set(cast(list[int], labels.tolist()))
        return None if len(classes) > 1 else "the dataset has a single class"

    def run(self, ae: Autoencoder) -> dict[str, Metric]:
        """`probe_accuracy` and `probe_accuracy.input`."""
        linear_model = optional("sklearn.linear_model", "scikit-learn", "sklearn")
        pipeline = optional("sklearn.pipeline", "scikit-learn", "sklearn")
        preprocessing = optional("sklearn.preprocessing", "scikit-learn", "sklearn")
        train, test = samples_of(ae, "train")[: self.ROWS], samples_of(ae, "test")
        found: dict[str, Metric] = {}
        for name, features, what in (
            ("probe_accuracy", latents_of, "latents"),
            ("probe_accuracy.input", inputs_of, "input values"),
        ):
            model = pipeline.make_pipeline(
                preprocessing.StandardScaler(), linear_model.LogisticRegression(max_iter=2000)
            )
            model.fit(features(ae, train).numpy(), labels_of(train).numpy())
            value = float(model.score(features(ae, test).numpy(), labels_of(test).numpy()))
            definition = (
                f"accuracy of scikit-learn's LogisticRegression (C = 1) on the standardised {what} of the "
                f"first {len(train):,} training samples"
            )
            found[name] = entry(ae, value, len(test), definition)
        return found


class Unrolling(Protocol):
    """Compares latents with the parameter along a swiss roll."""

    name = "unrolling"
    summary = "rank correlation of a latent with where along the roll a point lies, beside PCA's"
    gives = ("rank_correlation", "rank_correlation.pca")

    def incompatibility(self, ae: Autoencoder) -> str | None:
        """Any dataset but a swiss roll."""
        if reason := without_dataset(ae):
            return reason
        return None if isinstance(dataset_of(ae), SwissRollSpec) else "the dataset is no swiss roll"

    def run(self, ae: Autoencoder) -> dict[str, Metric]:
        """`rank_correlation` and `rank_correlation.pca`."""
        decomposition = optional("sklearn.decomposition", "scikit-learn", "sklearn")
        train, test = fitted_on(ae), samples_of(ae, "test")
        where = labels_of(test)
        values = min(ae.num_latents, int(torch.tensor(ae.spec.input.shape).prod()))
        pca: Any = decomposition.PCA(values, svd_solver="covariance_eigh").fit(inputs_of(ae, train).numpy())
        scores = torch.from_numpy(pca.transform(inputs_of(ae, test).numpy()))
        definition = (
            "largest absolute Spearman correlation of a {} with the angle along the roll, over the test split"
        )
        return {
            "rank_correlation": entry(
                ae, _rank_correlation(latents_of(ae, test), where), len(test), definition.format("latent")
            ),
            "rank_correlation.pca": entry(
                ae, _rank_correlation(scores, where), len(test), definition.format("principal component")
            ),
        }


def _rank_correlation(columns: Tensor, where: Tensor) -> float:
    stats = optional("scipy.stats", "scikit-learn", "sklearn")
    found = (
        abs(float(stats.spearmanr(column.numpy(), where.numpy()).statistic))
        for column in columns.T
        if column.min() < column.max()  # one that never changes has no rank
    )
    return max(found, default=math.nan)
