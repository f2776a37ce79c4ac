"""How much of a codebook is used."""

from typing import Any, Literal

import torch
from torch import Tensor

import aezoo


class _Codes(aezoo.Meter):
    """Counts how often each code was given."""

    def __init__(self, ae: aezoo.Autoencoder) -> None:
        sizes = [int(module.codes) for module in ae.encoder.modules() if hasattr(module, "codes")]
        self.counts = torch.zeros(sizes[-1], dtype=torch.float64)

    def update(self, output: aezoo.Output, rows: aezoo.Batch) -> None:
        found = output.aux["vq.codes"].flatten().cpu()
        self.counts += torch.bincount(found, minlength=len(self.counts)).double()

    def share(self) -> Tensor:
        """How often each was given, of all positions of all samples."""
        if self.counts.sum() == 0:
            raise aezoo.NotMeasured("no samples")
        return self.counts / self.counts.sum()


class _Use(_Codes):
    def value(self) -> float:
        return float((self.share() > 0).double().mean())


class _Perplexity(_Codes):
    def value(self) -> float:
        share = self.share()
        used = share[share > 0]
        return float((-(used * used.log()).sum()).exp())


class _OfCodes(aezoo.MetricSpec):
    better = "higher"

    def applies(self, ae: aezoo.Autoencoder) -> bool:
        """To encoders that give codes."""
        return "vq.codes" in ae.encoder.emits


class CodebookUseMetric(_OfCodes):
    """Share of the codes that are ever used."""

    kind: Literal["vq.codebook_use"] = "vq.codebook_use"
    definition = "codes that at least one position of one sample is given, over all codes"

    def build(self, ae: aezoo.Autoencoder) -> Any:
        """Makes the meter."""
        return _Use(ae)


class PerplexityMetric(_OfCodes):
    """How many codes would be as hard to tell apart if all were used alike."""

    kind: Literal["vq.perplexity"] = "vq.perplexity"
    definition = "exp of the entropy, in nats, of how often each code is given over all positions and samples"

    def build(self, ae: aezoo.Autoencoder) -> Any:
        """Makes the meter."""
        return _Perplexity(ae)
