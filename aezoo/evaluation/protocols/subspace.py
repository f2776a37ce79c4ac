"""Subspace protocol: the span of a linear decoder and the principal components (Baldi and Hornik, 1989)."""

import math

from typing_extensions import override

from aezoo.evaluation.evaluate import Measurement
from aezoo.evaluation.metrics.latents import decoder_atoms
from aezoo.evaluation.protocols.protocol import Protocol, fit_pca, scientific
from aezoo.model.autoencoder import Autoencoder


class Subspace(Protocol):
    """Measures the angle between the decoder's span and that of as many principal components."""

    name = "subspace"
    summary = "largest principal angle between the decoder's span and that of the principal components"
    gives = ("principal_angle",)
    split = "train"

    @classmethod
    @override
    def incompatibility(cls, ae: Autoencoder) -> str | None:
        if reason := super().incompatibility(ae):
            return reason
        steps = {name for layer in ae.decoder for name, _ in layer.named_children()}
        weighted = {name.split(".")[-2] for name, _ in ae.decoder.named_parameters()}
        if decoder_atoms(ae) is None or "activation" in steps or weighted != {"linear"}:
            return "the decoder is not one linear layer without an activation"
        if ae.spec.target is not None:
            return "the target is not the input"
        if ae.num_latents > math.prod(ae.spec.input.shape):
            return f"{ae.num_latents} latents are more than the input has values"
        return None

    @override
    def run(self) -> dict[str, Measurement]:
        atoms = decoder_atoms(self.ae)
        assert atoms is not None
        samples = self.training_samples()
        pca = fit_pca(self.inputs(samples).double(), len(atoms))
        span = atoms.flatten(1).T.cpu().double().numpy()
        angles = scientific("scipy.linalg").subspace_angles(span, pca.components_.T)
        definition = (
            "largest principal angle, in degrees, between the span of the decoder's weights and that of as "
            "many principal components of what it was fitted to"
        )
        value = math.degrees(float(angles.max()))
        return {"principal_angle": self.measurement(value, len(samples), definition)}
