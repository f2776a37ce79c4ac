"""Steps of SAELens' training classes.

    python sae-lens.py images.npy       # bytes, (n, 784); reads names of ways from standard input

Each step is `training_forward_pass`, as in `SAETrainer`, and the trainer's optimizer, without the clipping of
gradients and the statistics of its step, which aezoo's recipes do not have.

All classes: the bias that is subtracted from the input is that of the decoder, in aezoo it has parameters of its
own. Squared errors are summed over pixels, in aezoo averaged. `rescale_acts_by_decoder_norm`, SAELens' default, is
off, since aezoo does not rescale; it makes a step slower. The ways "its defaults" rescale.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

# In place of this folder, whose files have the names of packages.
sys.path[0] = str(Path(__file__).parents[1])

import sae_lens
import torch
from measure import serve
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import TrainStepInput
from sae_steps import (
    BANDWIDTH,
    DEAD,
    INPUTS,
    LARGE,
    LR,
    PREFIXES,
    SPARSITY,
    Job,
    K,
    Trained,
    Weights,
    assign,
    step_ways,
)
from torch import Tensor


def trained(sae: Any, job: Job, dead: Tensor | None = None, **coefficients: float) -> Trained:
    """The training of a network; `dead` is a mask of latents for the auxiliary loss, (latents,)."""
    config = SAETrainerConfig(10**9, job.batch_size, lr=LR, lr_end=LR)
    trainer = sae_lens.SAETrainer(config, sae, iter(()))
    sae.train()

    def loss(x: Tensor) -> Tensor:
        step = TrainStepInput(x, coefficients, dead, n_training_steps=1, is_logging_step=False)
        return sae.training_forward_pass(step).loss

    return Trained(loss, trainer.optimizer)


def options(job: Job, **more: Any) -> dict[str, Any]:
    """Arguments of every configuration."""
    return {"d_in": INPUTS, "d_sae": job.latents, "apply_b_dec_to_input": True, **more}


def assign_layers(sae: Any, weights: Weights) -> None:
    """Sets the weights and the biases of both layers; those of the encoder without gates."""
    assign({sae.W_enc: weights.encoder.T, sae.W_dec: weights.decoder.T, sae.b_dec: weights.decoder_bias})
    if hasattr(sae, "b_enc"):
        assign({sae.b_enc: weights.encoder_bias})


def topk(
    job: Job, weights: Weights, *, auxiliary: bool = False, sparse: bool = False, rescale: bool = False
) -> Trained:
    """TopK: the kept values pass a ReLU, in aezoo they do not.

    The auxiliary loss uses half as many latents as there are pixels, and at most the dead ones, so that DEAD of them
    make it as large as in aezoo.
    """
    config = sae_lens.TopKTrainingSAEConfig(
        **options(job, k=K, rescale_acts_by_decoder_norm=rescale, use_sparse_activations=sparse),
        aux_loss_coefficient=1 / 32,
    )
    sae = sae_lens.TopKTrainingSAE(config)
    assign_layers(sae, weights.with_shared_bias())
    return trained(sae, job, torch.arange(job.latents) < DEAD if auxiliary else None)


def batch_topk(job: Job, weights: Weights) -> Trained:
    """BatchTopK."""
    config = sae_lens.BatchTopKTrainingSAEConfig(
        **options(job, k=float(K), rescale_acts_by_decoder_norm=False)
    )
    sae = sae_lens.BatchTopKTrainingSAE(config)
    assign_layers(sae, weights.with_shared_bias())
    return trained(sae, job)


def matryoshka(job: Job, weights: Weights) -> Trained:
    """Matryoshka: keeps the largest values of the batch, in aezoo's variant those of each sample."""
    config = sae_lens.MatryoshkaBatchTopKTrainingSAEConfig(
        **options(job, k=float(K), rescale_acts_by_decoder_norm=False),
        matryoshka_widths=[*PREFIXES, job.latents],
    )
    sae = sae_lens.MatryoshkaBatchTopKTrainingSAE(config)
    assign_layers(sae, weights.with_shared_bias())
    return trained(sae, job)


def jumprelu(job: Job, weights: Weights) -> Trained:
    """JumpReLU: thresholds are parameters, in aezoo their logarithms are; its penalty is that of each sample."""
    config = sae_lens.JumpReLUTrainingSAEConfig(
        **options(job),
        jumprelu_bandwidth=BANDWIDTH,
        jumprelu_sparsity_loss_mode="quadratic",
        target_l0=float(K),
    )
    sae = sae_lens.JumpReLUTrainingSAE(config)
    assign_layers(sae, weights.with_shared_bias())
    assign({sae.threshold: weights.threshold})
    return trained(sae, job, l0=0.1)


def gated(job: Job, weights: Weights) -> Trained:
    """Gated: the decoder is not normalized, its norms weight the penalty; the auxiliary error trains the decoder.

    The encoder's product is computed three times, in aezoo once.
    """
    sae = sae_lens.GatedTrainingSAE(sae_lens.GatedTrainingSAEConfig(**options(job)))
    shared = weights.with_shared_bias()
    assign_layers(sae, shared)
    assign({sae.b_gate: shared.encoder_bias, sae.r_mag: shared.log_scale, sae.b_mag: shared.magnitude_bias})
    return trained(sae, job, l1=SPARSITY)


if __name__ == "__main__":
    serve(
        step_ways(
            {
                LARGE: (LARGE, topk),
                f"{LARGE}, sparse": (LARGE, partial(topk, sparse=True)),
                f"{LARGE}, its defaults": (LARGE, partial(topk, rescale=True)),
                "sae-topk32": ("sae-topk32", partial(topk, auxiliary=True)),
                "sae-batchtopk32": ("sae-batchtopk32", batch_topk),
                "sae-matryoshka32": ("sae-matryoshka32", matryoshka),
                "sae-jumprelu32": ("sae-jumprelu32", jumprelu),
                "sae-gated": ("sae-gated", gated),
            },
            Path(sys.argv[1]),
        )
    )
