"""Probe protocol: a linear classifier on the latents (Alain and Bengio, arXiv:1610.01644)."""

from typing_extensions import override

from aezoo.data.samples import Samples
from aezoo.evaluation.evaluate import Measurement
from aezoo.evaluation.protocols.protocol import ClassificationProtocol, labels_of, scientific


class Probe(ClassificationProtocol):
    """Predicts the class from the latents and, for comparison, from the input values."""

    name = "probe"
    summary = "accuracy of logistic regression on the latents, compared with the input values"
    gives = ("probe_accuracy", "probe_accuracy.input")
    SAMPLES = 10_000
    WHICH = "the first"

    @override
    def run(self) -> dict[str, Measurement]:
        linear_model = scientific("sklearn.linear_model")
        pipeline = scientific("sklearn.pipeline")
        preprocessing = scientific("sklearn.preprocessing")
        train, test = self.labelled(), self.samples("test")
        found: dict[str, Measurement] = {}
        for name, features, what in zip(
            self.gives, (self.latents, self.inputs), ("latents", "input values"), strict=True
        ):
            model = pipeline.make_pipeline(
                preprocessing.StandardScaler(), linear_model.LogisticRegression(max_iter=2000)
            )
            model.fit(features(train).numpy(), labels_of(train).numpy())
            value = float(model.score(features(test).numpy(), labels_of(test).numpy()))
            definition = (
                f"accuracy of scikit-learn's LogisticRegression (C = 1) on the standardised {what} of "
                f"{self.WHICH} {len(train):,} training samples"
            )
            found[name] = self.measurement(value, len(test), definition)
        return found

    def labelled(self) -> Samples:
        """The samples to which the classifiers are fitted."""
        return self.samples("train")[: self.SAMPLES]


class FullProbe(Probe):
    """The same, fitted to all training samples."""

    name = "probe-full"
    summary = (
        "accuracy of logistic regression on the latents of all training samples, compared with the inputs"
    )
    gives = ("probe_accuracy.full", "probe_accuracy.full.input")
    WHICH = "all"

    @override
    def labelled(self) -> Samples:
        return self.training_samples()
