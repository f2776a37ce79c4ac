"""Probe protocol: a linear classifier on the latents (Alain and Bengio, arXiv:1610.01644)."""

from typing_extensions import override

from aezoo.evaluation.evaluate import Measurement
from aezoo.evaluation.protocols.protocol import ClassificationProtocol, labels_of, scientific


class Probe(ClassificationProtocol):
    """Predicts the class from the latents and, for comparison, from the input values."""

    name = "probe"
    summary = "accuracy of logistic regression on the latents, compared with the input values"
    gives = ("probe_accuracy", "probe_accuracy.input")
    SAMPLES = 10_000

    @override
    def run(self) -> dict[str, Measurement]:
        linear_model = scientific("sklearn.linear_model")
        pipeline = scientific("sklearn.pipeline")
        preprocessing = scientific("sklearn.preprocessing")
        train, test = self.samples("train")[: self.SAMPLES], self.samples("test")
        found: dict[str, Measurement] = {}
        for name, features, what in (
            ("probe_accuracy", self.latents, "latents"),
            ("probe_accuracy.input", self.inputs, "input values"),
        ):
            model = pipeline.make_pipeline(
                preprocessing.StandardScaler(), linear_model.LogisticRegression(max_iter=2000)
            )
            model.fit(features(train).numpy(), labels_of(train).numpy())
            value = float(model.score(features(test).numpy(), labels_of(test).numpy()))
            definition = (
                f"accuracy of scikit-learn's LogisticRegression (C = 1) on the standardised {what} of the "
                f"first {len(train):,} training samples"
            )
            found[name] = self.measurement(value, len(test), definition)
        return found
