"""What latents look like: how many are used, how evenly, and what they stand for."""

import math
from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from aezoo.data.samples import Batch
from aezoo.evaluation.evaluate import Meter, NotMeasured, double
from aezoo.model.autoencoder import Autoencoder, Output
from aezoo.specs.components import MetricSpec


class _Activity(Meter):
    def __init__(self) -> None:
        self.nonzero: Tensor | None = None
        self.rows = 0

    def update(self, output: Output, rows: Batch) -> None:
        counts = double((output.latents != 0).flatten(1).sum(0))
        self.nonzero = counts if self.nonzero is None else self.nonzero + counts
        self.rows += len(output.latents)

    def counts(self) -> Tensor:
        """How many samples each latent was non-zero for."""
        if self.nonzero is None:
            raise NotMeasured("no samples")
        return self.nonzero

    @abstractmethod
    def value(self) -> float: ...


class _L0(_Activity):
    def value(self) -> float:
        return float(self.counts().sum()) / self.rows


class L0Metric(MetricSpec):
    """Latents that are non-zero."""

    kind: Literal["l0"] = "l0"
    definition = "latents that are not exactly zero, summed over a sample, mean over samples"

    def build(self, ae: Autoencoder) -> Meter:
        """Makes the meter."""
        return _L0()


class _DeadLatents(_Activity):
    def value(self) -> float:
        return float((self.counts() == 0).sum())


class DeadLatentsMetric(MetricSpec):
    """Latents that are never used."""

    kind: Literal["dead_latents"] = "dead_latents"
    definition = "latents that are exactly zero for every sample, counted"
    better = "lower"

    def build(self, ae: Autoencoder) -> Meter:
        """Makes the meter."""
        return _DeadLatents()


class _Hoyer(Meter):
    def __init__(self) -> None:
        self.total, self.rows = 0.0, 0

    def update(self, output: Output, rows: Batch) -> None:
        latents = double(output.latents).flatten(1)
        root = math.sqrt(latents.shape[1])
        used = latents[(latents != 0).any(1)]
        each = (root - used.abs().sum(1) / used.square().sum(1).sqrt()) / (root - 1)
        self.total += float(each.sum())
        self.rows += len(used)

    def value(self) -> float:
        if self.rows == 0:
            raise NotMeasured("every latent of every sample is zero")
        return self.total / self.rows


class HoyerMetric(MetricSpec):
    """Sparseness of a code by the ratio of its norms (Hoyer, JMLR 5, 2004, section 3.1).

    0 where all latents have the same size, 1 where only one is not zero.
    """

    kind: Literal["hoyer"] = "hoyer"
    definition = (
        "(sqrt(n) - L1 / L2) / (sqrt(n) - 1) of a sample's n latents, mean over the samples with any "
        "non-zero: 0 for latents of one size, 1 for a single one"
    )

    def applies(self, ae: Autoencoder) -> bool:
        """With two latents or more."""
        return ae.num_latents > 1

    def build(self, ae: Autoencoder) -> Meter:
        """Makes the meter."""
        return _Hoyer()


class _AtomArea(Meter):
    def __init__(self, atoms: Tensor) -> None:
        self.atoms = atoms

    def update(self, output: Output, rows: Batch) -> None:
        """Atoms are the same whatever the rows."""

    def value(self) -> float:
        power = self.atoms.square()
        power = power[(power != 0).any(1)]
        if len(power) == 0:
            raise NotMeasured("every atom is zero")
        return float((power.sum(1).square() / power.square().sum(1)).mean()) / power.shape[1]


class AtomAreaMetric(MetricSpec):
    """How much of the output an atom of the dictionary covers: little if local, much if global."""

    kind: Literal["atom_area"] = "atom_area"
    definition = (
        "(sum a^2)^2 / sum a^4 of an atom's values a over their number, mean over atoms: the share of the "
        "output that the decoder's weights of one latent cover"
    )

    def applies(self, ae: Autoencoder) -> bool:
        """To decoders of one linear layer."""
        return dictionary(ae) is not None

    def build(self, ae: Autoencoder) -> Meter:
        """Makes the meter."""
        atoms = dictionary(ae)
        assert atoms is not None
        return _AtomArea(double(atoms).flatten(1))


@torch.no_grad()
def dictionary(ae: Autoencoder) -> Tensor | None:
    """What each latent adds to the output, before any activation: the decoder's weights.

    Returns:
        (latents, *target shape); None for a decoder of more than one linear layer.
    """
    weighted = [layer for layer in ae.decoder if any(p.ndim > 1 for p in layer.parameters())]
    if len(weighted) != 1 or ae.decoder.needs:
        return None
    linear = dict(weighted[0].named_children()).get("linear")
    sizes = (ae.num_latents, math.prod(ae.spec.output.shape))
    if not isinstance(linear, nn.Linear) or (linear.in_features, linear.out_features) != sizes:
        return None
    return linear.weight.detach().T.reshape(-1, *ae.spec.output.shape)
