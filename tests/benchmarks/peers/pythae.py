"""An epoch of pythae's `BaseTrainer`: 784-64-784 with leaky ReLUs, batches of 512.

    python pythae.py images.npy     # bytes, (n, 784); reads names of ways from standard input

The epoch is `train_step`, with the trainer's progress bar; its checkpoints and validation are outside. The error is
summed over pixels, in aezoo averaged.
"""

import sys
import tempfile
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

# In place of this folder, whose files have the names of packages.
sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
import torch
from measure import serve
from pythae.data.datasets import BaseDataset
from pythae.models import AE, AEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor, nn

IMAGES, BATCH_SIZE, THREADS = 50_000, 512, 2


class Encoder(BaseEncoder):
    """784-64."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(784, 64), nn.LeakyReLU())

    def forward(self, x: Tensor) -> ModelOutput:
        """(batch, 784) -> (batch, 64)."""
        return ModelOutput(embedding=self.layers(x))


class Decoder(BaseDecoder):
    """64-784."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 784), nn.LeakyReLU())

    def forward(self, z: Tensor) -> ModelOutput:
        """(batch, 64) -> (batch, 784)."""
        return ModelOutput(reconstruction=self.layers(z))


@lru_cache
def trainer(folder: str) -> BaseTrainer:
    """A trainer with the images in memory, as floats; it writes its records to a folder."""
    torch.set_num_threads(THREADS)
    images = torch.from_numpy(np.load(sys.argv[1])[:IMAGES].astype(np.float32)) / 255
    model = AE(AEConfig(input_dim=(784,), latent_dim=64), Encoder(), Decoder())
    config = BaseTrainerConfig(
        output_dir=folder,
        num_epochs=1,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=1e-3,
        no_cuda=True,
    )
    made: Any = BaseTrainer(model, BaseDataset(images, torch.zeros(len(images))), training_config=config)
    made.prepare_training()
    return made


def epoch(folder: str) -> float:
    """Seconds of an epoch."""
    made = trainer(folder)
    start = time.perf_counter()
    made.train_step(epoch=1)
    return time.perf_counter() - start


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        serve({"epoch": partial(epoch, folder)})
