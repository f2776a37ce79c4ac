"""Probe protocol: a linear classifier on the latents (Alain and Bengio, arXiv:1610.01644)."""

from typing_extensions import override

from aezoo.evaluation.evaluate import Measurement
from aezoo.evaluation.protocols.protocol import (
    ClassificationProtocol,
    inputs_of,
    labels_of,
    latents_of,
    samples_of,
    scientific,
)
from aezoo.model.autoencoder import Autoencoder


class Probe(ClassificationProtocol):
    """Predicts the class from the latents and, for comparison, from the input values."""

    name = "probe"
    summary = "accuracy of logistic regression on the latents, compared with the input values"
    gives = ("probe_accuracy", "probe_accuracy.input")
    SAMPLES = 10_000

    @override
    def run(self, ae: Autoencoder) -> dict[str, Measurement]:
        linear_model = scientific("sklearn.linear_model")
        pipeline = scientific("sklearn.pipeline")
        preprocessing = scientific("sklearn.preprocessing")
        train, test = samples_of(ae, "train")[: self.SAMPLES], samples_of(ae, "test")
        found: dict[str, Measurement] = {}
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
            found[name] = self.measurement(ae, value, len(test), definition)
        return found
