"""Folders of images: decoding and training, against torchvision's `ImageFolder` in a `DataLoader`."""

import gc
import importlib
import io
import random
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from measure import Row, compare
from torch import Tensor, nn

import aezoo
from aezoo.data.datasets.torchvision import torchvision_datasets

IMAGES, VALIDATION, BATCH_SIZE, EPOCHS, WORKERS = 10_000, 0.1, 128, 2, 2
SIDE = 64
"""Height and width of the network's input."""
AIM = 1.5
PHOTOGRAPHS = (
    ("sklearn.datasets.images", "china.jpg"),
    ("sklearn.datasets.images", "flower.jpg"),
    ("skimage.data", "astronaut.png"),
    ("skimage.data", "chelsea.png"),
    ("skimage.data", "coffee.png"),
    ("skimage.data", "rocket.jpg"),
)
"""Package and name of the photographs that come with scikit-learn and scikit-image."""
CLASSES = ("a", "b")


def write_images(folder: Path, n: int, side: int) -> None:
    """Writes crops of photographs, mirrored or not, as JPEG files of quality 90 in a folder for each class."""
    from PIL import Image

    photographs: list[np.ndarray[Any, Any]] = []
    for package, name in PHOTOGRAPHS:
        try:
            raw = (files(package) / name).read_bytes()
        except (ModuleNotFoundError, FileNotFoundError):  # scikit-image is optional
            continue
        image: Any = Image.open(io.BytesIO(raw)).convert("RGB")
        photographs.append(np.array(image))
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir()
    for i in range(n):
        photograph = photographs[rng.integers(len(photographs))]
        top, left = (
            rng.integers(length - side + 1) for length in cast("tuple[int, ...]", photograph.shape[:2])
        )
        crop = photograph[top : top + side, left : left + side, :: rng.choice((-1, 1))]
        path = folder / CLASSES[i % len(CLASSES)] / f"{i:05}.jpg"
        Image.fromarray(np.ascontiguousarray(crop)).save(path, quality=90)


def spec_of(folder: Path) -> aezoo.VariantSpec:
    """A small convolutional autoencoder, and its training on a folder of images."""
    back = {"kind": "conv_transpose"}
    dataset = {"kind": "images", "path": str(folder), "size": [SIDE, SIDE], "validation": VALIDATION}
    return aezoo.VariantSpec.model_validate(
        {
            "name": "photographs",
            "summary": "A small convolutional autoencoder of photographs.",
            "input": {"shape": [3, SIDE, SIDE], "range": [0, 1]},
            "encoder": [
                {"kind": "conv", "out_channels": 8, "kernel_size": 4, "stride": 4, "activation": "relu"},
                {"kind": "conv", "out_channels": 16, "kernel_size": 2, "stride": 2, "activation": "relu"},
            ],
            "decoder": [
                {**back, "out_channels": 8, "kernel_size": 2, "stride": 2, "activation": "relu"},
                {**back, "out_channels": 3, "kernel_size": 4, "stride": 4, "activation": "sigmoid"},
            ],
            "recipe": {
                "dataset": dataset,
                "reconstruction": "mse",
                "batch_size": BATCH_SIZE,
                "stages": [{"kind": "fit", "epochs": EPOCHS, "optimizer": {"kind": "adam", "lr": 1e-3}}],
                "threads": torch.get_num_threads(),
            },
        }
    )


def network() -> nn.Module:
    """The same network by hand."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.Conv2d(8, 16, 2, stride=2), nn.ReLU(),
        nn.ConvTranspose2d(16, 8, 2, stride=2), nn.ReLU(),
        nn.ConvTranspose2d(8, 3, 4, stride=4), nn.Sigmoid(),
    )  # fmt: skip


def through_a_loader(folder: Path) -> Callable[[], None]:
    """Training as a tutorial does it: `ImageFolder` and a `DataLoader` with worker processes."""
    datasets = torchvision_datasets()
    transforms: Any = importlib.import_module("torchvision.transforms")
    transform = transforms.Compose([transforms.Resize(SIDE), transforms.ToTensor()])

    def train() -> None:
        images = datasets.ImageFolder(str(folder), transform=transform)
        kept = random.sample(range(len(images)), round((1 - VALIDATION) * len(images)))
        loader = torch.utils.data.DataLoader(
            torch.utils.data.Subset(images, kept), batch_size=BATCH_SIZE, shuffle=True,
            num_workers=WORKERS, persistent_workers=True,
        )  # fmt: skip
        net = network()
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        for _ in range(EPOCHS):
            for x, _ in cast("list[tuple[Tensor, Tensor]]", loader):
                optimizer.zero_grad()
                F.mse_loss(net(x), x).backward()
                optimizer.step()

    return train


def train_images() -> list[Row]:
    """Two epochs on 10,000 JPEG files of the network's size, and of twice the size."""
    rows: list[Row] = []
    for side in (SIDE, 2 * SIDE):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_images(folder, IMAGES, side)
            spec = spec_of(folder)

            def through_aezoo(spec: aezoo.VariantSpec = spec) -> None:
                gc.collect()  # decoded images of the round before would be used again
                aezoo.train(spec, progress=False)

            rows += compare(
                f"{EPOCHS} epochs on {IMAGES:,} JPEG files of {side} x {side}, trained at {SIDE} x {SIDE}, "
                f"batch {BATCH_SIZE}",
                {"aezoo.train": through_aezoo, "ImageFolder, DataLoader": through_a_loader(folder)},
                ours="aezoo.train",
                bases={"ImageFolder, DataLoader": ("speedup", AIM)},
                includes=f"decoding, the optimizer; {WORKERS} worker processes of the loader; aezoo also hashes "
                "the files, decodes and validates the tenth that is held out, and measures its metrics",
                rounds=3,
            )
    return rows


ROWS = (train_images,)
