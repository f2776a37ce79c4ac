"""Benchmarks of training and loading: `make bench`.

Each comparison runs two or more ways of doing the same thing in turn, for several rounds, and prints the
median of each and the ratio of the medians. The first round is a warm-up.
"""

import hashlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

import aezoo
from aezoo.data.datasets.files import data_root
from aezoo.data.datasets.torchvision import torchvision_datasets
from aezoo.model.autoencoder import StepContext
from aezoo.zoo.index import zoo_root

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.hub_server import HubServer


def compare(title: str, ways: dict[str, Callable[[], object]], rounds: int) -> None:
    """Prints the median seconds of each way, and its ratio to the first way."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    first = next(iter(medians.values()))
    print(f"\n{title}")
    for name, median in medians.items():
        spread = f"{min(times[name][1:]) * 1000:.1f} to {max(times[name][1:]) * 1000:.1f}"
        print(f"  {name:<44} {median * 1000:9.1f} ms  ({spread})  {median / first:6.2f} x")


# -- an epoch of fc-64, batch 512, 50,000 images ------------------------------------------------------


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(784, 64), nn.LeakyReLU(), nn.Linear(64, 784), nn.LeakyReLU())


class Stopwatch(aezoo.Callback):
    """Measures the steps of each epoch, without validation, set-up and the test split."""

    def __init__(self) -> None:
        self.start = 0.0
        self.seconds: list[float] = []

    def before_step(self, state: aezoo.TrainingState) -> None:
        if self.start == 0.0:
            self.start = time.perf_counter()

    def after_step(self, state: aezoo.TrainingState) -> None:
        self.last = time.perf_counter()

    def on_epoch_end(self, state: aezoo.TrainingState) -> None:
        self.seconds.append(self.last - self.start)
        self.start = 0.0


def epoch_of(
    net: nn.Module, losses: Callable[[], Iterator[torch.Tensor]], fused: bool = True
) -> Callable[[], None]:
    """An epoch that takes a step of Adam for each loss."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=fused)

    def epoch() -> None:
        for loss in losses():
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def epoch_through_aezoo(images: torch.Tensor) -> Callable[[], None]:
    """A hand-written epoch on `Samples`, with `aezoo.Objective`."""
    spec = aezoo.get_spec("fc-64").replace({"recipe.threads": torch.get_num_threads()})
    ae, objective, generator = aezoo.build(spec), aezoo.Objective(spec.recipe), torch.Generator()
    samples = aezoo.Samples(images).validated_for(spec)

    def losses() -> Iterator[torch.Tensor]:
        for rows in torch.randperm(len(samples), generator=generator).split(512):
            batch = samples.batch(rows, spec)
            yield objective(ae, StepContext(batch.input, batch.target, None, 0.0, 0, generator))[0]

    return epoch_of(ae, losses)


def epoch_by_hand(images: torch.Tensor) -> Callable[[], None]:
    """A hand-written epoch on slices of a tensor in memory."""
    net, flat = network(), images.view(-1, 784)

    def losses() -> Iterator[torch.Tensor]:
        for rows in torch.randperm(len(flat)).split(512):
            x = flat[rows].float().div_(255)
            yield F.mse_loss(net(x), x)

    return epoch_of(net, losses)


def epoch_through_a_loader() -> Callable[[], None]:
    """An epoch of a tutorial: a `DataLoader` of torchvision's MNIST with `ToTensor`."""
    datasets = torchvision_datasets()
    from torchvision.transforms import ToTensor

    train = torch.utils.data.Subset(datasets.MNIST(str(data_root()), transform=ToTensor()), range(50_000))
    loader = torch.utils.data.DataLoader(train, batch_size=512, shuffle=True)
    net = network()

    def losses() -> Iterator[torch.Tensor]:
        for images, _ in loader:
            x = images.flatten(1)
            yield F.mse_loss(net(x), x)

    return epoch_of(net, losses, fused=False)


def bench_training() -> None:
    images = aezoo.DatasetSpec.model_validate("mnist").load("train").inputs
    watch = Stopwatch()
    stage = {"kind": "fit", "epochs": 1, "optimizer": {"kind": "adam", "lr": 0.001}}
    spec = aezoo.get_spec("fc-64").replace(
        {"recipe.stages": [stage], "recipe.batch_size": 512, "recipe.refit": False,
         "recipe.threads": torch.get_num_threads()}
    )  # fmt: skip
    hand, loader, objective = epoch_by_hand(images), epoch_through_a_loader(), epoch_through_aezoo(images)
    inside: list[float] = []

    def trained() -> None:
        aezoo.train(spec, progress=False, callbacks=[watch])
        inside.append(watch.seconds[-1])

    compare(
        f"an epoch of fc-64 on 50,000 digits, batch 512, {torch.get_num_threads()} threads",
        {
            "hand-written loop over slices": hand,
            "hand-written loop with aezoo.Objective": objective,
            "tutorial: DataLoader, ToTensor": loader,
            "aezoo.train, with reading and measuring": trained,
        },
        rounds=3,
    )
    print(f"  {'of which the steps of the epoch':<44} {statistics.median(inside[1:]) * 1000:9.1f} ms")


# -- a warm load --------------------------------------------------------------------------------------


def load_by_hand() -> nn.Sequential:
    """The least that a verified load must do: read, hash, parse and assign."""
    raw = (zoo_root() / "fc-64" / "model.safetensors").read_bytes()
    hashlib.sha256(raw).hexdigest()
    tensors = safetensors.torch.load(raw)
    with torch.device("meta"):
        net = network()
    names = {"0": "encoder.1.linear", "2": "decoder.0.linear"}
    state = {f"{n}.{k}": tensors[f"{name}.{k}"] for n, name in names.items() for k in ("weight", "bias")}
    net.load_state_dict(state, assign=True)
    return net


def bench_load() -> None:
    folder = zoo_root() / "fc-64"
    with tempfile.TemporaryDirectory() as cache, HubServer() as hub:
        os.environ.update(HF_ENDPOINT=hub.url, HF_HUB_CACHE=cache, NO_PROXY="127.0.0.1")
        commit = hub.add("ann/fc-64", {path.name: path.read_bytes() for path in folder.iterdir()})
        address = f"hub:ann/fc-64@{commit}"
        aezoo.load(address)
        compare(
            "a warm load of fc-64 (0.4 MB)",
            {
                "read, hash, parse, assign by hand": load_by_hand,
                "aezoo.load, verified": lambda: aezoo.load("fc-64"),
                "aezoo.load of the folder": lambda: aezoo.load(folder),
                "aezoo.load from the Hub's cache": lambda: aezoo.load(address),
            },
            rounds=50,
        )


if __name__ == "__main__":
    bench_load()
    bench_training()
