"""aezoo against other libraries: steps of sparse autoencoders, and an epoch of `fc-64`.

Each library runs in a process of its own environment, see `peer_environments.py`, in turn with aezoo and never at the
same time. The scripts in `peers/` say where their mathematics differ.
"""

import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
import training
from measure import Peer, Row, Way, compare
from peer_environments import BENCHMARKS, environment, failure
from sae_steps import (
    DEAD,
    DEAD_BIAS,
    JOBS,
    LARGE,
    LR,
    OPTIMIZER,
    THREADS,
    Job,
    K,
    Trained,
    Weights,
    step_ways,
)
from torch import Tensor

import aezoo
from aezoo.specs.stages import DescentStage
from aezoo.training.optim import build_optimizer

OURS = "aezoo"
NEVER = 2**30
"""More samples than any job sees: no further latent is counted as dead."""
PAST_WARMUP = 1000.0
"""An epoch in which every term of an objective has its full weight."""
STEP = f"forward, loss and backward of a step, without data and optimizer, {THREADS} threads"
STEP_AND_OPTIMIZER = f"forward, loss, backward and Adam of a step, without data, {THREADS} threads"
EPOCH = (
    "the steps of an epoch: batches of pixels in memory, forward, loss, backward, Adam; without validation"
)
Aims = Mapping[tuple[str, str], float]
"""(Peer, name of its way) -> the speedup to reach."""


@contextmanager
def running(*names: str) -> Generator[tuple[dict[str, Peer], Path]]:
    """Context manager that starts the processes of peers, with the training images of MNIST.

    Returns:
        The peers whose environment exists, and the `.npy` file of their images, bytes, (60000, 784).
    """
    mnist = aezoo.DatasetSpec.model_validate("mnist")
    images = torch.cat([mnist.load(split).inputs for split in ("train", "validation")]).view(-1, 784)
    peers: dict[str, Peer] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.npy"
        np.save(file, images.numpy())
        try:
            for name in names:
                if (python := environment(name)) is not None:
                    peers[name] = Peer(python, BENCHMARKS / "peers" / f"{name}.py", str(file))
            yield peers, file
        finally:
            for peer in peers.values():
                peer.close()


def against(title: str, ours: Way, aims: Aims, peers: Mapping[str, Peer], includes: str) -> list[Row]:
    """Compares aezoo's way with those of peers; a row of a peer that could not be installed has the reason."""
    ways: dict[str, Way | None] = {OURS: ours}
    reasons: dict[str, str] = {}
    bases: dict[str, tuple[Literal["overhead", "speedup"], float | None]] = {}
    for (name, way), aim in aims.items():
        # The way "topk-16384, sparse" of sae-lens is the row of "sae-lens, sparse".
        _, comma, option = way.removesuffix(OPTIMIZER).partition(",")
        base = name + comma + option
        bases[base] = ("speedup", aim)
        ways[base] = peers[name].way(way) if name in peers else None
        if name not in peers:
            reasons[base] = failure(name) or "not installed"
    return compare(title, ways, ours=OURS, bases=bases, includes=includes, reasons=reasons)


# -- steps of sparse autoencoders ---------------------------------------------------------------------


def in_aezoo(name: str) -> tuple[Weights, Trained]:
    """The training of a published variant of aezoo-sae, or of a larger one made from it with random weights.

    Returns:
        Its weights before the first step, and the training.
    """
    base = "sae-topk32" if name == LARGE else name
    stage = {"kind": "fit", "epochs": 1, "optimizer": {"kind": "adam", "lr": LR}}
    changes: dict[str, Any] = {"recipe.threads": THREADS, "recipe.numerics": 2, "recipe.stages": [stage]}
    if name == LARGE:
        changes |= {"encoder.2.out_features": JOBS[name].latents, "recipe.penalties": []}
    if name == "sae-topk32":
        changes["recipe.penalties"] = [{"kind": "auxk", "k": DEAD, "dead_after": NEVER}]
    spec = aezoo.get_spec(base).replace(changes)
    ae, objective = aezoo.build(spec).train(), aezoo.Objective(spec.recipe).train()
    if name != LARGE:
        ae.load_state_dict(aezoo.load(name).state_dict(), strict=False)
    if name == "sae-topk32":
        with torch.no_grad():
            cast(Any, ae.encoder[2]).linear.bias[:DEAD] = DEAD_BIAS
        objective.stateful_terms[0].idle = torch.where(torch.arange(ae.num_latents) < DEAD, float(NEVER), 0.0)
    generator = torch.Generator()

    def loss(x: Tensor) -> Tensor:
        x = x.view(-1, *spec.input.shape)
        return objective(ae, aezoo.StepContext(x, x, None, PAST_WARMUP, 0, generator))[0]

    parameters = [*ae.parameters(), *objective.parameters()]
    optimizer = build_optimizer(cast(DescentStage, spec.recipe.stages[0]), parameters)
    return weights_of(ae), Trained(loss, optimizer)


@torch.no_grad()
def weights_of(ae: aezoo.Autoencoder) -> Weights:
    """A copy of the weights of a sparse autoencoder."""
    _, pre_bias, encoder, *others = cast(list[Any], list(ae.encoder))
    decoder = cast(Any, ae.decoder[0])
    gated = hasattr(encoder, "gate_bias")
    found = Weights(
        pre_bias=pre_bias.bias,
        encoder=encoder.linear.weight,
        encoder_bias=encoder.gate_bias if gated else encoder.linear.bias,
        decoder=F.normalize(decoder.linear.weight, dim=0) if gated else decoder.linear.weight,
        decoder_bias=decoder.linear.bias,
    )
    if others and hasattr(others[-1], "log_threshold"):
        found = found._replace(threshold=others[-1].log_threshold.exp())
    if gated:
        found = found._replace(log_scale=encoder.log_scale, magnitude_bias=encoder.magnitude_bias)
    return Weights(*(value.detach().clone() for value in found))


def steps_of(names: Mapping[str, tuple[str, Mapping[tuple[str, str], float]]]) -> list[Row]:
    """Rows of steps, without and with the optimizer, of jobs: name -> (title, aims)."""
    rows: list[Row] = []
    with running("sae-lens", "dictionary-learning") as (peers, images):
        for name, (title, aims) in names.items():
            weights, trained = in_aezoo(name)
            weights.save(images.parent, name)
            ours = step_ways({name: (name, partial(_given, trained))}, images)
            for suffix, includes in (("", STEP), (OPTIMIZER, STEP_AND_OPTIMIZER)):
                with_suffix = {(peer, way + suffix): aim for (peer, way), aim in aims.items()}
                full = title + (", with Adam" if suffix else "")
                rows += against(full, ours[name + suffix], with_suffix, peers, includes)
    return rows


def _given(trained: Trained, job: Job, weights: Weights) -> Trained:
    return trained


def large_steps() -> list[Row]:
    """A step of TopK with many latents."""
    aims = {
        ("sae-lens", LARGE): 5.0,
        ("sae-lens", f"{LARGE}, its defaults"): 5.0,
        ("sae-lens", f"{LARGE}, sparse"): 1.0,
        ("dictionary-learning", LARGE): 1.0,
    }
    job = JOBS[LARGE]
    return steps_of({LARGE: (f"a step of TopK, 784-{job.latents:,}, k {K}, batch {job.batch_size}", aims)})


def variant_steps() -> list[Row]:
    """A step of each variant of aezoo-sae."""
    return steps_of(
        {
            name: (
                f"a step of {name}, batch {job.batch_size}",
                {("sae-lens", name): 1.0, ("dictionary-learning", name): 1.0},
            )
            for name, job in JOBS.items()
            if name != LARGE
        }
    )


# -- an epoch of fc-64 --------------------------------------------------------------------------------


def epoch_fc_64() -> list[Row]:
    """An epoch of `fc-64` on 50,000 images, batch 512."""
    ours = training.in_aezoo("fc-64", training.digits(), 512)
    names = ("pythae", "lightning", "scikit-learn")
    with running(*names) as (peers, _):
        aims = {(name, "epoch"): 1.0 for name in names}
        return against("an epoch of fc-64, 50,000 images, batch 512", ours, aims, peers, EPOCH)


ROWS = (large_steps, variant_steps, epoch_fc_64)
