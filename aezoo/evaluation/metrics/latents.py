"""Statistics of latents (L0, dead latents, Hoyer sparseness) and of the decoder's atoms."""

import math

import torch
from torch import Tensor, nn
from typing_extensions import override

from aezoo.data.samples import Batch
from aezoo.evaluation.metric import MeanMetric, Metric, NotMeasured, double
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.output import Output


class L0Metric(MeanMetric):
    """Number of latents of a sample that are not zero."""

    kind = "l0"
    definition = "latents that are not exactly zero, summed over a sample, mean over samples"

    @override
    def values(self, output: Output, batch: Batch) -> Tensor:
        return (output.latents != 0).flatten(1).sum(1)


class DeadLatentsMetric(Metric):
    """Number of latents that are zero for every sample."""

    kind = "dead_latents"
    definition = "latents that are exactly zero for every sample, counted"
    better = "lower"

    def __init__(self, ae: Autoencoder) -> None:
        super().__init__(ae)
        self.used = torch.zeros(ae.num_latents, dtype=torch.bool, device="cpu")

    @override
    def update(self, output: Output, batch: Batch) -> None:
        self.used |= (output.latents != 0).flatten(1).any(0).cpu()

    @override
    def compute(self) -> float:
        return float((~self.used).sum())


class HoyerMetric(MeanMetric):
    """Sparseness of a code by the ratio of its norms (Hoyer, JMLR 5, 2004, section 3.1).

    From 0 (all latents have the same size) to 1 (a single latent is not zero).
    """

    kind = "hoyer"
    definition = (
        "(sqrt(n) - L1 / L2) / (sqrt(n) - 1) of a sample's n latents, mean over the samples with any "
        "non-zero: 0 for latents of one size, 1 for a single one"
    )

    @classmethod
    @override
    def applies(cls, ae: Autoencoder) -> bool:
        return ae.num_latents > 1

    @override
    def values(self, output: Output, batch: Batch) -> Tensor:
        latents = double(output.latents).flatten(1)
        root = math.sqrt(latents.shape[1])
        latents = latents[(latents != 0).any(1)]
        return (root - latents.abs().sum(1) / latents.square().sum(1).sqrt()) / (root - 1)

    @override
    def compute(self) -> float:
        if self.count == 0:
            raise NotMeasured("every latent of every sample is zero")
        return super().compute()


class AtomAreaMetric(Metric):
    """Share of the output that an atom of the dictionary covers, from small (local) to 1 (global)."""

    kind = "atom_area"
    definition = (
        "(sum a^2)^2 / sum a^4 of an atom's values a over their number, mean over atoms: the share of the "
        "output that the decoder's weights of one latent cover"
    )

    @classmethod
    @override
    def applies(cls, ae: Autoencoder) -> bool:
        return decoder_atoms(ae) is not None

    @override
    def update(self, output: Output, batch: Batch) -> None:
        """Does nothing, since atoms do not depend on the data."""

    @override
    def compute(self) -> float:
        atoms = decoder_atoms(self.ae)
        assert atoms is not None
        power = double(atoms).flatten(1).square()
        power = power[(power != 0).any(1)]
        if len(power) == 0:
            raise NotMeasured("every atom is zero")
        return float((power.sum(1).square() / power.square().sum(1)).mean()) / power.shape[1]


@torch.no_grad()
def decoder_atoms(ae: Autoencoder) -> Tensor | None:
    """The weights with which each latent adds to the output, before any activation.

    Returns:
        (latents, *target shape); None unless the decoder has a single layer with weights, and that is linear.
    """
    weighted = [layer for layer in ae.decoder if any(p.ndim > 1 for p in layer.parameters())]
    if len(weighted) != 1 or ae.decoder.needs:
        return None
    linear = dict(weighted[0].named_children()).get("linear")
    sizes = (ae.num_latents, math.prod(ae.spec.output.shape))
    if not isinstance(linear, nn.Linear) or (linear.in_features, linear.out_features) != sizes:
        return None
    return linear.weight.detach().T.reshape(-1, *ae.spec.output.shape)
