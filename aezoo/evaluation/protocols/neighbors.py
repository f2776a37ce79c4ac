"""Neighbours protocol: classification by the nearest training samples."""

from typing_extensions import override

from aezoo.evaluation.evaluate import Measurement
from aezoo.evaluation.protocols.protocol import ClassificationProtocol, labels_of, scientific


class Neighbors(ClassificationProtocol):
    """Predicts the class of the majority of the nearest training samples, by latents and by input values."""

    name = "neighbors"
    summary = "accuracy of 5 nearest neighbours among all training samples, compared with the input values"
    gives = ("knn_accuracy", "knn_accuracy.input")
    NEIGHBORS = 5

    @override
    def run(self) -> dict[str, Measurement]:
        neighbors = scientific("sklearn.neighbors")
        train, test = self.training_samples(), self.samples("test")
        found: dict[str, Measurement] = {}
        for name, features, what in zip(
            self.gives, (self.latents, self.inputs), ("latents", "input values"), strict=True
        ):
            # Trees find the same neighbours, and are slower in many dimensions.
            model = neighbors.KNeighborsClassifier(self.NEIGHBORS, algorithm="brute")
            model.fit(features(train).numpy(), labels_of(train).numpy())
            value = float(model.score(features(test).numpy(), labels_of(test).numpy()))
            definition = (
                f"accuracy of the majority among the {self.NEIGHBORS} training samples, of {len(train):,}, "
                f"whose {what} are nearest in Euclidean distance"
            )
            found[name] = self.measurement(value, len(test), definition)
        return found
