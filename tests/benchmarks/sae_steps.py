"""Training steps of sparse autoencoders: the jobs that aezoo and other libraries do, and the clock around them.

Needs PyTorch and NumPy only, because the scripts in `peers/` import it in environments without aezoo.
"""

import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

THREADS = 2
INPUTS = 784
K = 32
PREFIXES = (64, 256)
"""Prefixes of the latents that a Matryoshka autoencoder reconstructs from, besides all of them."""
THRESHOLD, BANDWIDTH = 0.3, 0.1
"""Of JumpReLU: every latent's initial threshold, and the width of the kernel of its gradient estimate."""
SPARSITY = 1.3e-3
"""Coefficient of the L1 penalty of a gated autoencoder."""
DEAD = 64
"""Number of dead latents in the job with an auxiliary loss, which uses as many per sample."""
DEAD_BIAS = -10.0
"""Encoder bias of those latents, with which no image activates them."""
LR = 1e-4


class Job(NamedTuple):
    """Sizes of a job.

    Attributes:
        latents: number of latents.
        batch_size: images per step.
        steps: steps per measurement.
    """

    latents: int
    batch_size: int
    steps: int


LARGE = "topk-16384"
JOBS = {
    LARGE: Job(16_384, 512, 2),
    "sae-topk32": Job(1024, 256, 10),
    "sae-batchtopk32": Job(1024, 256, 10),
    "sae-matryoshka32": Job(1024, 256, 10),
    "sae-jumprelu32": Job(1024, 256, 10),
    "sae-gated": Job(1024, 256, 10),
}
"""One large layer, and the variants of the plugin aezoo-sae."""
OPTIMIZER = "+optimizer"
"""Suffix of a way's name with which each step includes that of the optimizer."""


class Trained(NamedTuple):
    """A network in training.

    Attributes:
        loss: the objective of a batch, (batch, 784) -> ().
        optimizer: of all parameters.
    """

    loss: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer


def step_ways(
    builders: Mapping[str, tuple[str, Callable[[Job], Trained]]], images: Path
) -> dict[str, Callable[[], float]]:
    """Two ways for each builder, which give the seconds of a step, without and with the optimizer.

    Args:
        builders: name of the ways -> (name of the job, function that builds its network).
        images: a `.npy` file of bytes, (n, 784).
    """
    torch.set_num_threads(THREADS)
    ways: dict[str, Callable[[], float]] = {}
    for name, (job, build) in builders.items():
        # Built when it is first used, in the warm-up round.
        built = lru_cache(partial(build, JOBS[job]))
        for suffix in ("", OPTIMIZER):
            ways[name + suffix] = partial(_seconds, built, JOBS[job], images, suffix == OPTIMIZER)
    return ways


def _seconds(built: Callable[[], Trained], job: Job, images: Path, optimize: bool) -> float:
    trained, batches = built(), _batches(images, job.batch_size)
    start = time.perf_counter()
    for number in range(job.steps):
        loss = trained.loss(batches[number % len(batches)])
        trained.optimizer.zero_grad()
        loss.backward()
        if optimize:
            trained.optimizer.step()
    return (time.perf_counter() - start) / job.steps


@lru_cache
def _batches(images: Path, size: int, count: int = 8) -> tuple[Tensor, ...]:
    """Batches of pixels from 0 to 1, float32, (size, 784)."""
    pixels = torch.from_numpy(np.load(images, mmap_mode="r")[: size * count].astype(np.float32)).div_(255)
    return tuple(pixels[start : start + size].clone() for start in range(0, size * count, size))
