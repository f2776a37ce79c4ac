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
BANDWIDTH = 0.1
"""Width of the kernel of JumpReLU's gradient estimate."""
SPARSITY = 1.3e-3
"""Coefficient of the L1 penalty of a gated autoencoder."""
DEAD = 64
"""Number of dead latents in the job with an auxiliary loss, which uses as many per sample."""
DEAD_BIAS = -10.0
"""Encoder bias of those latents, with which no image activates them."""
LR = 1e-6
"""So small that the weights stay those of a trained network."""


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


class Weights(NamedTuple):
    """The weights with which every library begins a job, so that all compute the same function.

    The code is `keep(encoder @ (x - pre_bias) + encoder_bias)` and the reconstruction `decoder @ code +
    decoder_bias`.

    Attributes:
        pre_bias: (784,).
        encoder: (latents, 784).
        encoder_bias: (latents,); of a gated encoder, that of the gate.
        decoder: (784, latents); of a gated autoencoder, with columns of norm 1.
        decoder_bias: (784,).
        threshold: of JumpReLU, (latents,); otherwise empty.
        log_scale: of the magnitudes of a gated encoder, (latents,); otherwise empty.
        magnitude_bias: of a gated encoder, (latents,); otherwise empty.
    """

    pre_bias: Tensor
    encoder: Tensor
    encoder_bias: Tensor
    decoder: Tensor
    decoder_bias: Tensor
    threshold: Tensor = torch.zeros(0)
    log_scale: Tensor = torch.zeros(0)
    magnitude_bias: Tensor = torch.zeros(0)

    def with_shared_bias(self) -> "Weights":
        """Weights of the same function in which the decoder's bias is what is subtracted from the input."""
        return self.with_pre_bias(self.decoder_bias)

    def with_pre_bias(self, bias: Tensor) -> "Weights":
        """Weights of the same function in which `bias` is subtracted from the input, (784,)."""
        shift = self.encoder @ (bias - self.pre_bias)
        magnitude_bias = self.magnitude_bias
        if len(magnitude_bias):
            magnitude_bias = magnitude_bias + self.log_scale.exp() * shift
        return self._replace(
            pre_bias=bias, encoder_bias=self.encoder_bias + shift, magnitude_bias=magnitude_bias
        )

    def save(self, folder: Path, job: str) -> None:
        """Writes the weights of a job."""
        np.savez(folder / f"{job}.npz", **{name: value.numpy() for name, value in self._asdict().items()})

    @classmethod
    def load(cls, folder: Path, job: str) -> "Weights":
        """Reads the weights of a job."""
        with np.load(folder / f"{job}.npz") as arrays:
            return cls(**{name: torch.from_numpy(arrays[name]) for name in arrays.files})


@torch.no_grad()
def assign(values: Mapping[Tensor, Tensor]) -> None:
    """Copies values into parameters: parameter -> value of the same shape."""
    for parameter, value in values.items():
        parameter.copy_(value)


def step_ways(
    builders: Mapping[str, tuple[str, Callable[[Job, Weights], Trained]]], images: Path
) -> dict[str, Callable[[], float]]:
    """Two ways for each builder, which give the seconds of a step, without and with the optimizer.

    Args:
        builders: name of the ways -> (name of the job, function that builds its network).
        images: a `.npy` file of bytes, (n, 784); beside it are the weights of each job.
    """
    torch.set_num_threads(THREADS)
    ways: dict[str, Callable[[], float]] = {}
    for name, (job, build) in builders.items():
        # Built when it is first used, in the warm-up round.
        built = lru_cache(partial(_built, job, build, images.parent))
        for suffix in ("", OPTIMIZER):
            ways[name + suffix] = partial(_seconds, built, JOBS[job], images, suffix == OPTIMIZER)
    return ways


def _built(job: str, build: Callable[[Job, Weights], Trained], folder: Path) -> Trained:
    return build(JOBS[job], Weights.load(folder, job))


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
