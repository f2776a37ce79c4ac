"""One-class protocol: anomaly detection by the reconstruction error."""

import torch
from typing_extensions import override

from aezoo.data.datasets.torchvision import TorchvisionSplits
from aezoo.evaluation.evaluate import Measurement, batches_for, dataset_of, load_for
from aezoo.evaluation.protocols.protocol import Protocol, fit_pca, labels_of, scientific
from aezoo.model.autoencoder import Autoencoder, eval_mode


class OneClass(Protocol):
    """Tells samples of other classes from samples of the classes that the network was trained on."""

    name = "one-class"
    summary = "area under the ROC curve of the reconstruction error, against other classes, compared with PCA"
    gives = ("auroc", "auroc.pca")
    COMPONENTS = 32

    @classmethod
    @override
    def incompatibility(cls, ae: Autoencoder) -> str | None:
        if reason := super().incompatibility(ae):
            return reason
        dataset = dataset_of(ae)
        if not isinstance(dataset, TorchvisionSplits) or dataset.classes is None:
            return "the network was trained on every class; give the recipe's dataset `classes`"
        labels = load_for(ae, dataset.model_copy(update={"classes": None}), "test").labels
        if labels is not None and bool(torch.isin(labels, torch.tensor(dataset.classes)).all()):
            return "the network was trained on every class of the test split"
        return None

    @override
    def run(self) -> dict[str, Measurement]:
        roc_auc_score = scientific("sklearn.metrics").roc_auc_score
        dataset = dataset_of(self.ae)
        assert isinstance(dataset, TorchvisionSplits)
        assert dataset.classes is not None
        test = load_for(self.ae, dataset.model_copy(update={"classes": None}), "test")
        anomalous = ~torch.isin(labels_of(test), torch.tensor(dataset.classes))
        with eval_mode(self.ae):
            batches = batches_for(self.ae, test)
            error = -torch.cat([self.ae.score_samples(batch.input).cpu().float() for batch in batches])
        pca = fit_pca(self.inputs(self.training_samples()), self.COMPONENTS)
        x = self.inputs(test).numpy()
        pca_error = ((pca.inverse_transform(pca.transform(x)) - x) ** 2).mean(1)
        definition = (
            "area under the ROC curve of a sample's mean squared reconstruction error by {}, samples of "
            "other classes against those of the classes trained on, on the whole test split"
        )
        pca_words = f"PCA with {self.COMPONENTS} components, fitted to the same samples"
        found: dict[str, Measurement] = {}
        for name, scores, what in (
            ("auroc", error.numpy(), "the network"),
            ("auroc.pca", pca_error, pca_words),
        ):
            value = float(roc_auc_score(anomalous.numpy(), scores))
            found[name] = self.measurement(value, len(test), definition.format(what))
        return found
