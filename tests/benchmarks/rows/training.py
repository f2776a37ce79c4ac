"""Training an epoch: `aezoo.train` against loops that are written by hand."""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from measure import Row, compare
from torch import Tensor, nn

import aezoo
from aezoo.data.datasets.files import data_root
from aezoo.data.datasets.torchvision import torchvision_datasets

THREADS = 2
STEPS = "the steps of an epoch, the optimizer inside, validation outside"
SIZES = "784-64-784, 50,000 images"


class Stopwatch(aezoo.Callback):
    """Measures the steps of an epoch, from the first to the end of the last."""

    def __init__(self) -> None:
        self.start = self.seconds = 0.0

    def on_epoch_start(self, state: aezoo.TrainingState) -> None:
        self.start = time.perf_counter()

    def after_step(self, state: aezoo.TrainingState) -> None:
        self.seconds = time.perf_counter() - self.start


@lru_cache
def digits() -> Tensor:
    """Training images of MNIST, uint8, (50000, 784)."""
    return aezoo.DatasetSpec.model_validate("mnist").load("train").inputs.view(-1, 784)


def in_aezoo(name: str, images: Tensor, batch_size: int, **changes: object) -> Callable[[], float]:
    """An epoch inside `aezoo.train`, in seconds."""
    stage = {"kind": "fit", "epochs": 1, "optimizer": {"kind": "adam", "lr": 0.001}}
    spec = aezoo.get_spec(name).replace(
        {"recipe.stages": [stage], "recipe.batch_size": batch_size, "recipe.refit": False,
         "recipe.threads": THREADS, "recipe.numerics": 2, "recipe.callbacks": [], **changes}
    )  # fmt: skip
    data = images.view(-1, *spec.input.shape)
    # A tenth is held out for validation: the rows that are trained on are as many as by hand.
    samples = torch.cat([data, data[: len(data) // 9]])

    def run() -> float:
        watch = Stopwatch()
        aezoo.train(spec, samples, progress=False, callbacks=[watch])
        return watch.seconds

    return run


def by_hand(
    net: nn.Module, images: Tensor, batch_size: int, loss: Callable[[nn.Module, Tensor], Tensor] | None = None
) -> Callable[[], float]:
    """An epoch on slices of a tensor in memory, with PyTorch's fused Adam."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)

    def run() -> float:
        start = time.perf_counter()
        for rows in torch.randperm(len(images)).split(batch_size):
            x = images[rows].float().div_(255)
            value = F.mse_loss(net(x), x) if loss is None else loss(net, x)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        return time.perf_counter() - start

    return run


def fc_64() -> nn.Sequential:
    """The network of `fc-64`."""
    return nn.Sequential(nn.Linear(784, 64), nn.LeakyReLU(), nn.Linear(64, 784), nn.LeakyReLU())


class FromLoader:
    """An epoch as tutorials write it: a `DataLoader` of torchvision's MNIST with `ToTensor`."""

    def __init__(
        self, net: nn.Module, batch_size: int, forward: Callable[[nn.Module, Tensor], Tensor]
    ) -> None:
        datasets = torchvision_datasets()
        from torchvision.transforms import ToTensor

        train = torch.utils.data.Subset(datasets.MNIST(str(data_root()), transform=ToTensor()), range(50_000))
        self.loader: Any = torch.utils.data.DataLoader(train, batch_size=batch_size, shuffle=True)
        self.net, self.forward = net, forward
        self.optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def __call__(self) -> float:
        start = time.perf_counter()
        for images, _ in self.loader:
            x = images.flatten(1)
            self.optimizer.zero_grad()
            F.mse_loss(self.forward(self.net, x), x).backward()
            self.optimizer.step()
        return time.perf_counter() - start


def epoch_fc_64() -> list[Row]:
    """`fc-64`, batch 512."""
    images = digits()
    return compare(
        "an epoch of fc-64, batch 512",
        {
            "aezoo.train": in_aezoo("fc-64", images, 512),
            "loop over slices": by_hand(fc_64(), images, 512),
            "tutorial: DataLoader, ToTensor": FromLoader(fc_64(), 512, lambda net, x: net(x)),
        },
        ours="aezoo.train",
        bases={"loop over slices": ("overhead", 1.05), "tutorial: DataLoader, ToTensor": ("speedup", 7.0)},
        includes=STEPS,
    )


ROWS = (epoch_fc_64,)
