"""Steps of dictionary_learning's trainers.

    python dictionary-learning.py images.npy    # bytes, (n, 784); reads names of ways from standard input

Each step is `loss` of a trainer and its optimizer, without the rest of its `update`: clipping of gradients, and
decoder weights that are projected and normalized, which aezoo's recipes do not have.

All classes: the bias that is subtracted from the input is that of the decoder, in aezoo it has parameters of its
own. Squared errors are summed over pixels, in aezoo averaged. Latents that fired are counted in every step.
"""

import sys
import types
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

# In place of this folder, whose files have the names of packages.
sys.path[0] = str(Path(__file__).parents[1])
# The package imports it for activations of language models, and for nothing that a trainer needs.
sys.modules["nnsight"] = types.ModuleType("nnsight")
sys.modules["nnsight"].LanguageModel = object

import torch
from dictionary_learning.trainers import BatchTopKTrainer, GatedSAETrainer, JumpReluTrainer, TopKTrainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
from measure import serve
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

STEP = 1
"""Number of every step: past all warm-up."""


def options(job: Job, **more: Any) -> dict[str, Any]:
    """Arguments of every trainer."""
    return {
        "steps": 10**9, "activation_dim": INPUTS, "dict_size": job.latents, "layer": 0, "lm_name": "", "lr": LR,
        "warmup_steps": 0, "device": "cpu", **more,
    }  # fmt: skip


def trained(trainer: Any) -> Trained:
    """The training by a trainer."""
    trainer.ae.train()
    return Trained(partial(trainer.loss, step=STEP), trainer.optimizer)


def assign_layers(ae: Any, weights: Weights) -> None:
    """Sets the weights and the biases of both layers, which are parameters of `nn.Linear` or of the class."""
    if hasattr(ae, "W_enc"):
        assign({ae.W_enc: weights.encoder.T, ae.W_dec: weights.decoder.T, ae.b_enc: weights.encoder_bias})
    else:
        assign({ae.encoder.weight: weights.encoder, ae.decoder.weight: weights.decoder})
        if ae.encoder.bias is not None:
            assign({ae.encoder.bias: weights.encoder_bias})
    assign({ae.decoder_bias if hasattr(ae, "decoder_bias") else ae.b_dec: weights.decoder_bias})


def topk(job: Job, weights: Weights, *, auxiliary: bool = False) -> Trained:
    """TopK: a ReLU before the selection, also for dead latents; a threshold is kept for evaluation."""
    weight = 1 / 32 if auxiliary else 0.0
    trainer = TopKTrainer(**options(job, k=K, threshold_start_step=0, auxk_alpha=weight))
    assign_layers(trainer.ae, weights.with_shared_bias())
    if auxiliary:
        trainer.num_tokens_since_fired[:DEAD] = trainer.dead_feature_threshold
        trainer.top_k_aux = DEAD
    return trained(trainer)


def batch_topk(job: Job, weights: Weights) -> Trained:
    """BatchTopK."""
    trainer = BatchTopKTrainer(**options(job, k=K, threshold_start_step=0))
    assign_layers(trainer.ae, weights.with_shared_bias())
    return trained(trainer)


def matryoshka(job: Job, weights: Weights) -> Trained:
    """Matryoshka: keeps the largest values of the batch, in aezoo's variant those of each sample."""
    bounds = (0, *PREFIXES, job.latents)
    fractions = [(end - start) / job.latents for start, end in pairwise(bounds)]
    trainer = MatryoshkaBatchTopKTrainer(
        **options(job, k=K, threshold_start_step=0, group_fractions=fractions)
    )
    assign_layers(trainer.ae, weights.with_shared_bias())
    return trained(trainer)


def jumprelu(job: Job, weights: Weights) -> Trained:
    """JumpReLU: thresholds are parameters, in aezoo their logarithms are; nothing is subtracted from the input."""
    trainer = JumpReluTrainer(
        **options(job, bandwidth=BANDWIDTH, target_l0=float(K), sparsity_penalty=0.1, sparsity_warmup_steps=0)
    )
    assign_layers(trainer.ae, weights.with_pre_bias(torch.zeros(INPUTS)))
    assign({trainer.ae.threshold: weights.threshold})
    return trained(trainer)


def gated(job: Job, weights: Weights) -> Trained:
    """Gated: the optimizer normalizes the decoder's weights; aezoo does it in the forward pass."""
    trainer = GatedSAETrainer(**options(job, l1_penalty=SPARSITY, sparsity_warmup_steps=0))
    ae, shared = trainer.ae, weights.with_shared_bias()
    assign_layers(ae, shared)
    assign(
        {ae.gate_bias: shared.encoder_bias, ae.r_mag: shared.log_scale, ae.mag_bias: shared.magnitude_bias}
    )
    return trained(trainer)


if __name__ == "__main__":
    serve(
        step_ways(
            {
                LARGE: (LARGE, topk),
                "sae-topk32": ("sae-topk32", partial(topk, auxiliary=True)),
                "sae-batchtopk32": ("sae-batchtopk32", batch_topk),
                "sae-matryoshka32": ("sae-matryoshka32", matryoshka),
                "sae-jumprelu32": ("sae-jumprelu32", jumprelu),
                "sae-gated": ("sae-gated", gated),
            },
            Path(sys.argv[1]),
        )
    )
