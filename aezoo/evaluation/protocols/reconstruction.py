"""What reconstructions are worth: noise removed, other classes told apart, the subspace they lie in."""

import math
from typing import Any

import torch

from aezoo.data.datasets.torchvision import TorchvisionSplits
from aezoo.data.noises import GaussianSpec
from aezoo.data.samples import Batch, Samples
from aezoo.errors import optional
from aezoo.evaluation.evaluate import BATCH, Metric
from aezoo.evaluation.metrics.denoising import Denoising
from aezoo.evaluation.metrics.latents import dictionary
from aezoo.evaluation.protocols.protocol import (
    Protocol,
    dataset_of,
    entry,
    fitted_on,
    inputs_of,
    labels_of,
    samples_of,
    without_dataset,
)
from aezoo.model.autoencoder import Autoencoder, eval_mode


class Noise(Protocol):
    """Shows a network noise that it need not have been trained on."""

    name = "noise"
    summary = "error from an input with Gaussian noise of variance 0.1 to the clean target"
    gives = ("gaussian.denoised_mse", "gaussian.noisy_input_mse")
    NOISE = GaussianSpec(std=0.1**0.5, clip=(0.0, 1.0))

    def incompatibility(self, ae: Autoencoder) -> str | None:
        """An input that does not lie in [0, 1], or a target that is not the input."""
        if reason := without_dataset(ae):
            return reason
        if ae.spec.input.range != (0, 1) or ae.spec.target is not None:
            return "it is defined for inputs in [0, 1] that are their own target"
        return None

    def run(self, ae: Autoencoder) -> dict[str, Metric]:
        """`gaussian.denoised_mse` and `gaussian.noisy_input_mse`."""
        samples = samples_of(ae, "test")
        weight = next(ae.parameters(), torch.empty(0))
        restored = Denoising(ae, (self.NOISE,), "denoised to clean")
        untouched = Denoising(ae, (self.NOISE,), "noisy to clean")
        with eval_mode(ae), torch.no_grad():
            for rows in samples.batches(ae.spec, BATCH):
                rows = Batch(rows.input.to(weight), rows.target.to(weight.device), rows.labels)
                output = ae(rows.input)
                restored.update(output, rows)
                untouched.update(output, rows)
        what = (
            "squared difference between {} with Gaussian noise of variance 0.1, clipped to [0, 1], and the "
            "clean target, mean over elements and samples"
        )
        n = len(samples)
        return {
            "gaussian.denoised_mse": entry(
                ae, restored.value(), n, what.format("the reconstruction of the input")
            ),
            "gaussian.noisy_input_mse": entry(ae, untouched.value(), n, what.format("the input")),
        }


class OneClass(Protocol):
    """Tells other classes from the ones that were trained on, by the reconstruction error."""

    name = "one-class"
    summary = "area under the ROC curve of the reconstruction error against all other classes, beside PCA's"
    gives = ("auroc", "auroc.pca")
    COMPONENTS = 32

    def incompatibility(self, ae: Autoencoder) -> str | None:
        """A dataset of which every class was trained on."""
        if reason := without_dataset(ae):
            return reason
        dataset = dataset_of(ae)
        if not isinstance(dataset, TorchvisionSplits) or dataset.classes is None:
            return "the network was trained on every class; give the recipe's dataset `classes`"
        labels = dataset.model_copy(update={"classes": None}).load("test").labels
        if labels is not None and bool(torch.isin(labels, torch.tensor(dataset.classes)).all()):
            return "the network was trained on every class of the test split"
        return None

    def run(self, ae: Autoencoder) -> dict[str, Metric]:
        """`auroc` and `auroc.pca`."""
        metrics = optional("sklearn.metrics", "scikit-learn", "sklearn")
        decomposition = optional("sklearn.decomposition", "scikit-learn", "sklearn")
        dataset = dataset_of(ae)
        assert isinstance(dataset, TorchvisionSplits)
        assert dataset.classes is not None
        everything = dataset.model_copy(update={"classes": None}).load("test").validated_for(ae.spec)
        other = ~torch.isin(labels_of(everything), torch.tensor(dataset.classes))
        weight = next(ae.parameters(), torch.empty(0))
        with eval_mode(ae):
            usual = torch.cat([
                ae.score_samples(rows.input.to(weight)).cpu().float()
                for rows in everything.batches(ae.spec, BATCH)
            ])  # fmt: skip
        pca: Any = decomposition.PCA(self.COMPONENTS, svd_solver="covariance_eigh").fit(
            inputs_of(ae, fitted_on(ae)).numpy()
        )
        x = inputs_of(ae, everything).numpy()
        error = ((pca.inverse_transform(pca.transform(x)) - x) ** 2).mean(1)
        definition = (
            "area under the ROC curve of a sample's mean squared reconstruction error by {}, samples of "
            "other classes against those of the classes trained on, on the whole test split"
        )
        n = len(everything)
        pca_words = f"PCA with {self.COMPONENTS} components, fitted to the same samples"
        return {
            "auroc": entry(
                ae, float(metrics.roc_auc_score(other.numpy(), -usual.numpy())), n,
                definition.format("the network"),
            ),
            "auroc.pca": entry(
                ae, float(metrics.roc_auc_score(other.numpy(), error)), n, definition.format(pca_words)
            ),
        }  # fmt: skip


class Subspace(Protocol):
    """Compares what a linear decoder spans with the principal components (Baldi and Hornik, 1989)."""

    name = "subspace"
    summary = "largest principal angle between the decoder's span and that of the principal components"
    gives = ("principal_angle",)

    def incompatibility(self, ae: Autoencoder) -> str | None:
        """A decoder that is not a single linear layer without an activation."""
        if reason := without_dataset(ae):
            return reason
        steps = {name for layer in ae.decoder for name, _ in layer.named_children()}
        weighted = {name.split(".")[-2] for name, _ in ae.decoder.named_parameters()}
        if dictionary(ae) is None or "activation" in steps or weighted != {"linear"}:
            return "the decoder is not one linear layer without an activation"
        if ae.spec.target is not None:
            return "the target is not the input"
        if ae.num_latents > math.prod(ae.spec.input.shape):
            return f"{ae.num_latents} latents are more than the input has values"
        return None

    def run(self, ae: Autoencoder) -> dict[str, Metric]:
        """`principal_angle`."""
        decomposition = optional("sklearn.decomposition", "scikit-learn", "sklearn")
        linalg = optional("scipy.linalg", "scikit-learn", "sklearn")
        atoms = dictionary(ae)
        assert atoms is not None
        samples: Samples = fitted_on(ae)
        pca: Any = decomposition.PCA(len(atoms), svd_solver="covariance_eigh").fit(
            inputs_of(ae, samples).double().numpy()
        )
        angles = linalg.subspace_angles(atoms.flatten(1).T.cpu().double().numpy(), pca.components_.T)
        definition = (
            "largest principal angle, in degrees, between the span of the decoder's weights and that of as "
            "many principal components of what it was fitted to"
        )
        value = float(torch.rad2deg(torch.tensor(float(angles.max()), dtype=torch.float64)))
        return {"principal_angle": entry(ae, value, len(samples), definition, split="train")}
