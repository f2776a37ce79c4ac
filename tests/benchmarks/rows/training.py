"""Training an epoch: `aezoo.train` against loops that are written by hand."""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from measure import Row, compare
from torch import Tensor, nn

import aezoo
from aezoo.data.datasets.files import data_root
from aezoo.data.datasets.torchvision import torchvision_datasets

THREADS = 2
STEPS = "the steps of an epoch, the optimizer inside, validation outside"
OURS, TUTORIAL = "aezoo.train", "tutorial: DataLoader, ToTensor"


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
            OURS: in_aezoo("fc-64", images, 512),
            "loop over slices": by_hand(fc_64(), images, 512),
            TUTORIAL: FromLoader(fc_64(), 512, lambda net, x: net(x)),
        },
        ours=OURS,
        bases={"loop over slices": ("overhead", 1.05), TUTORIAL: ("speedup", 7.0)},
        includes=STEPS,
    )


def epoch_denoise_gaussian() -> list[Row]:
    """`denoise-gaussian`, batch 256; the tutorial's noise is drawn by a transform of each image."""

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        # Drawn image by image, as `transforms.Lambda` does.
        noisy = torch.stack([(row + 0.316 * torch.randn_like(row)).clamp(0, 1) for row in x])
        return net(noisy)

    return compare(
        "an epoch of denoise-gaussian, batch 256",
        {OURS: in_aezoo("denoise-gaussian", digits(), 256), TUTORIAL: FromLoader(fc_64(), 256, forward)},
        ours=OURS,
        bases={TUTORIAL: ("speedup", 12.0)},
        includes=f"{STEPS}; the tutorial draws the noise of each image by itself",
        rounds=5,
    )


def epoch_sparse_topk16() -> list[Row]:
    """`sparse-topk16`, batch 128; the tutorial sorts every latent and masks row by row."""
    encoder, decoder = fc_64()[:2], fc_64()[2:]

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        h = encoder(x)
        mask = torch.zeros_like(h)
        for row, kept in enumerate(h.argsort(dim=1, descending=True)[:, :16]):
            mask[row, kept] = 1
        return decoder(h * mask)

    return compare(
        "an epoch of sparse-topk16, batch 128",
        {
            OURS: in_aezoo("sparse-topk16", digits(), 128),
            TUTORIAL: FromLoader(nn.ModuleList([encoder, decoder]), 128, forward),
        },
        ours=OURS,
        bases={TUTORIAL: ("speedup", 8.0)},
        includes=f"{STEPS}; the tutorial makes its mask row by row",
        rounds=5,
    )


def conv_fc() -> nn.Sequential:
    """The network of `conv-fc`."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 28, 28))]
    for channels in (1, 8, 8, 8):
        layers += [nn.Conv2d(channels, 8, 6), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 784), nn.LeakyReLU())


def epoch_conv_fc() -> list[Row]:
    """`conv-fc` on 10,000 images, batch 128, against a bare loop in two memory formats."""
    images = digits()[:10_000]

    def channels_last(net: nn.Module, x: Tensor) -> Tensor:
        # The unflattened images are given in the other memory format.
        first, *others = cast(nn.Sequential, net)
        h = first(x).contiguous(memory_format=torch.channels_last)
        for layer in others:
            h = layer(h)
        return F.mse_loss(h, x)

    last = cast(nn.Sequential, conv_fc().to(memory_format=torch.channels_last))  # pyright: ignore
    return compare(
        "an epoch of conv-fc on 10,000 images, batch 128",
        {
            OURS: in_aezoo("conv-fc", images, 128),
            "loop over slices": by_hand(conv_fc(), images, 128),
            "loop over slices, channels last": by_hand(last, images, 128, channels_last),
        },
        ours=OURS,
        bases={
            "loop over slices": ("overhead", 1.05),
            "loop over slices, channels last": ("overhead", 1.05),
        },
        includes=STEPS,
        rounds=5,
    )


def epoch_options() -> list[Row]:
    """What was tried: `recipe.autocast: bf16`, and `torch.compile` in a bare loop; neither is a default."""
    images = digits()
    net = fc_64()
    compiled = cast(
        Callable[[nn.Module, Tensor], Tensor], torch.compile(lambda net, x: F.mse_loss(net(x), x))
    )
    return compare(
        "an epoch of fc-64, batch 512",
        {
            OURS: in_aezoo("fc-64", images, 512),
            "aezoo.train, autocast: bf16": in_aezoo("fc-64", images, 512, **{"recipe.autocast": "bf16"}),
            "loop over slices, torch.compile": by_hand(net, images, 512, compiled),
        },
        ours=OURS,
        bases={
            "aezoo.train, autocast: bf16": ("speedup", None),
            "loop over slices, torch.compile": ("speedup", None),
        },
        includes=STEPS,
        rounds=5,
    )


ROWS = (epoch_fc_64, epoch_denoise_gaussian, epoch_sparse_topk16, epoch_conv_fc, epoch_options)
