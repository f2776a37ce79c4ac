"""Stability protocol: change of the latents under small input noise."""

import torch
from torch import Generator, Tensor
from typing_extensions import override

from aezoo.evaluation.evaluate import EVAL_BATCH_SIZE, Measurement
from aezoo.evaluation.metric import EVAL_SEED
from aezoo.evaluation.protocols.protocol import Protocol, samples_of
from aezoo.model.autoencoder import Autoencoder, eval_mode


class Stability(Protocol):
    """Compares the latents of each input with those of the input plus Gaussian noise."""

    name = "stability"
    summary = "change of the latents under small input noise, relative to their spread over samples"
    gives = ("latent_change",)
    STD = 0.1

    @override
    def run(self, ae: Autoencoder) -> dict[str, Measurement]:
        generator = Generator().manual_seed(EVAL_SEED)
        samples = samples_of(ae, "test")
        weight = next(ae.parameters(), torch.empty(0))

        def encode(x: Tensor) -> Tensor:
            return ae.encode(x.to(weight)).flatten(1).cpu().double()

        clean: list[Tensor] = []
        noisy: list[Tensor] = []
        with eval_mode(ae), torch.no_grad():
            for batch in samples.batches(ae.spec, EVAL_BATCH_SIZE):
                noise = self.STD * torch.randn(batch.input.shape, generator=generator)
                clean.append(encode(batch.input))
                noisy.append(encode(batch.input + noise))
        before, after = torch.cat(clean), torch.cat(noisy)
        spread = (before - before.mean(0)).square().mean().sqrt()
        value = float((after - before).square().mean().sqrt() / spread)
        definition = (
            f"root mean square change of the latents under Gaussian input noise of standard deviation "
            f"{self.STD:g}, over the root mean square distance of the latents from their mean"
        )
        return {"latent_change": self.measurement(ae, value, len(samples), definition)}
