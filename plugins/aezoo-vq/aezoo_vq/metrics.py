"""Codebook usage and perplexity."""

import torch
from torch import Tensor
from typing_extensions import override

import aezoo
from aezoo_vq.layers import Fsq, Quantize


class _CodeMetric(aezoo.Metric):
    """Counts how often each code is used."""

    better = "higher"

    def __init__(self, ae: aezoo.Autoencoder) -> None:
        super().__init__(ae)
        sizes = [int(module.codes) for module in ae.encoder.modules() if isinstance(module, Quantize | Fsq)]
        self.counts = torch.zeros(sizes[-1], dtype=torch.float64)

    @classmethod
    @override
    def applies(cls, ae: aezoo.Autoencoder) -> bool:
        return any(isinstance(module, Quantize | Fsq) for module in ae.encoder.modules())

    @override
    def update(self, output: aezoo.Output, batch: aezoo.Batch) -> None:
        codes = output.aux["vq.codes"].flatten().cpu()
        self.counts += torch.bincount(codes, minlength=len(self.counts)).double()

    def frequencies(self) -> Tensor:
        """Frequency of each code over all positions of all samples, (codes,)."""
        return self.counts / self.counts.sum()


class CodebookUseMetric(_CodeMetric):
    """Share of the codes that are used at least once."""

    kind = "vq.codebook_use"
    definition = "codes that at least one position of one sample is given, over all codes"

    @override
    def compute(self) -> float:
        return float((self.frequencies() > 0).double().mean())


class PerplexityMetric(_CodeMetric):
    """Perplexity of the code distribution: the number of equally frequent codes with the same entropy."""

    kind = "vq.perplexity"
    definition = "exp of the entropy, in nats, of how often each code is given over all positions and samples"

    @override
    def compute(self) -> float:
        frequencies = self.frequencies()
        used = frequencies[frequencies > 0]
        return float((-(used * used.log()).sum()).exp())
