"""Stability protocol: change of the latents under small input noise."""

import torch
from torch import Generator, Tensor
from typing_extensions import override

from aezoo.evaluation.evaluate import EVAL_BATCH_SIZE, Measurement
from aezoo.evaluation.metric import EVAL_SEED
from aezoo.evaluation.protocols.protocol import Protocol
from aezoo.model.autoencoder import eval_mode


class Stability(Protocol):
    """Compares the latents of each input with those of the input plus Gaussian noise."""

    name = "stability"
    summary = "change of the latents under small input noise, relative to their spread over samples"
    gives = ("latent_change",)
    STD = 0.1

    @override
    def run(self) -> dict[str, Measurement]:
        generator = Generator().manual_seed(EVAL_SEED)
        samples = self.samples("test")
        weight = next(self.ae.parameters(), torch.empty(0))
        clean: list[Tensor] = []
        noisy: list[Tensor] = []
        with eval_mode(self.ae), torch.no_grad():
            for batch in samples.batches(self.ae.spec, EVAL_BATCH_SIZE):
                noise = self.STD * torch.randn(batch.input.shape, generator=generator, device="cpu")
                for x, latents in ((batch.input, clean), (batch.input + noise, noisy)):
                    latents.append(self.ae.encode(x.to(weight)).flatten(1).cpu().double())
        before, after = torch.cat(clean), torch.cat(noisy)
        spread = (before - before.mean(0)).square().mean().sqrt()
        value = float((after - before).square().mean().sqrt() / spread)
        definition = (
            f"root mean square change of the latents under Gaussian input noise of standard deviation "
            f"{self.STD:g}, over the root mean square distance of the latents from their mean"
        )
        return {"latent_change": self.measurement(value, len(samples), definition)}
