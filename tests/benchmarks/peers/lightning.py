"""An epoch of Lightning: a module of 784-64-784 with leaky ReLUs, batches of 512 from a `TensorDataset`.

    python lightning.py images.npy      # bytes, (n, 784); reads names of ways from standard input

`Trainer` without logger, checkpoints and progress bar. The epoch is the time between its hooks, without the set-up of
`fit`.
"""

import sys
import time
from pathlib import Path

# In place of this folder, whose files have the names of packages.
sys.path[0] = str(Path(__file__).parents[1])

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from measure import serve
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

IMAGES, BATCH_SIZE, THREADS = 50_000, 512, 2


class Module(lightning.LightningModule):
    """784-64-784, trained by Adam; `seconds` is the time of its last epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(784, 64), nn.LeakyReLU(), nn.Linear(64, 784), nn.LeakyReLU())
        self.seconds = 0.0

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """The squared error of a batch, averaged."""
        (x,) = batch
        return F.mse_loss(self.net(x), x)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)

    def on_train_epoch_start(self) -> None:
        """Starts the clock."""
        self.start = time.perf_counter()

    def on_train_epoch_end(self) -> None:
        """Stops the clock."""
        self.seconds = time.perf_counter() - self.start


def main() -> None:
    """Serves the epoch."""
    torch.set_num_threads(THREADS)
    images = torch.from_numpy(np.load(sys.argv[1])[:IMAGES].astype(np.float32)) / 255
    loader = DataLoader(TensorDataset(images), batch_size=BATCH_SIZE, shuffle=True)
    module = Module()

    def epoch() -> float:
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, loader)
        return module.seconds

    serve({"epoch": epoch})


if __name__ == "__main__":
    main()
