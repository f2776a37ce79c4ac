"""Protocols against the same measurement with PyTorch and scikit-learn alone, data and features included."""

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple, cast
from unittest import mock

import torch
import torch.nn.functional as F
from measure import Row, compare
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Generator, Tensor, nn

import aezoo
from aezoo.data.datasets.files import data_root
from aezoo.data.datasets.torchvision import torchvision_datasets
from aezoo.evaluation.protocols import few_label

AIM = 1.1
LABELS, DRAWS = 100, 4
"""A part of the protocol few-label, whose 56 trainings take too long here."""


class Digits(NamedTuple):
    """Images, float32 from 0 to 1, (n, 784), and their classes, (n,)."""

    x: Tensor
    y: Tensor


def read(*, train: bool) -> Digits:
    """MNIST as torchvision reads it."""
    mnist = torchvision_datasets().MNIST(str(data_root()), train=train)
    return Digits(mnist.data.flatten(1).float().div_(255), mnist.targets)


def parts_of(x: Tensor, size: int = 1000) -> list[Tensor]:
    """The batches of a pass."""
    return list(cast(tuple[Tensor, ...], x.split(size)))


def with_weights(net: nn.Module, part: nn.Module) -> nn.Module:
    """A network by hand with the weights of a part of an autoencoder."""
    names = zip(net.state_dict(), part.state_dict().values(), strict=True)
    net.load_state_dict({name: value.clone() for name, value in names})
    return net


def encoder() -> nn.Module:
    """The encoder of `fc-64` with random weights."""
    return nn.Sequential(nn.Linear(784, 64), nn.LeakyReLU(0.01))


def require_equal(found: dict[str, aezoo.Measurement], expected: dict[str, float]) -> None:
    """Checks that both ways measure the same.

    Raises:
        AssertionError: they do not.
    """
    values = {name: found[name]["value"] for name in expected}
    differing = {
        name: (value, expected[name])
        for name, value in values.items()
        if value is None or abs(value - expected[name]) > 2e-3
    }
    assert not differing, differing


def row(
    title: str, ae: aezoo.Autoencoder, name: str, by_hand: Callable[[], dict[str, float]], rounds: int
) -> list[Row]:
    """The row of a protocol."""
    measured: list[tuple[dict[str, aezoo.Measurement], dict[str, float]]] = []
    found: dict[str, aezoo.Measurement] = {}

    def through_aezoo() -> None:
        found.update(aezoo.run_protocol(name, ae))

    def hand() -> None:
        measured.append((found, by_hand()))

    rows = compare(
        title,
        {"aezoo.run_protocol": through_aezoo, "by hand": hand},
        ours="aezoo.run_protocol",
        bases={"by hand": ("overhead", AIM)},
        includes="reading MNIST, features by a forward pass, fitting, measuring; aezoo also compares the hash of "
        "the data with the training record",
        rounds=rounds,
    )
    require_equal(found, measured[-1][1])
    return rows


# -- probe --------------------------------------------------------------------------------------------


def probe() -> list[Row]:
    """Logistic regression on latents and on input values of 10,000 samples."""
    ae = aezoo.load("fc-64")
    net = with_weights(encoder(), ae.encoder)

    @torch.no_grad()
    def by_hand() -> dict[str, float]:
        train, test = read(train=True), read(train=False)
        train = Digits(train.x[:10_000], train.y[:10_000])
        found: dict[str, float] = {}
        for name in ("probe_accuracy", "probe_accuracy.input"):
            model: Any = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
            latents = name == "probe_accuracy"
            first, second = (
                torch.cat([net(x) if latents else x for x in parts_of(split.x)]).numpy()
                for split in (train, test)
            )
            model.fit(first, train.y.numpy())
            found[name] = float(model.score(second, test.y.numpy()))
        return found

    return row("the protocol probe on fc-64", ae, "probe", by_hand, rounds=5)


# -- one-class ----------------------------------------------------------------------------------------


def one_class() -> list[Row]:
    """ROC AUC of the reconstruction error and of the error of PCA, of a network that was trained on one digit."""
    ae = aezoo.load("anomaly-0")
    layers = [nn.Linear(784, 128), nn.LeakyReLU(0.01), nn.Linear(128, 12)]
    back = [nn.Linear(12, 128), nn.LeakyReLU(0.01), nn.Linear(128, 784), nn.Sigmoid()]
    net = nn.Sequential(
        with_weights(nn.Sequential(*layers), ae.encoder), with_weights(nn.Sequential(*back), ae.decoder)
    )

    @torch.no_grad()
    def by_hand() -> dict[str, float]:
        train, test = read(train=True), read(train=False)
        anomalous = (test.y != 0).numpy()
        error = torch.cat([(net(x) - x).square().mean(1) for x in parts_of(test.x)])
        pca: Any = PCA(32, svd_solver="covariance_eigh").fit(train.x[train.y == 0].numpy())
        x = test.x.numpy()
        pca_error = ((pca.inverse_transform(pca.transform(x)) - x) ** 2).mean(1)
        return {
            "auroc": float(roc_auc_score(anomalous, error.numpy())),
            "auroc.pca": float(roc_auc_score(anomalous, pca_error)),
        }

    return row("the protocol one-class on anomaly-0", ae, "one-class", by_hand, rounds=9)


# -- few-label ----------------------------------------------------------------------------------------


def fine_tuned(start: nn.Module, labelled: Digits, measured: Digits, rate: float, seed: int) -> float:
    """Accuracy on `measured` of an encoder and a linear head that were trained on `labelled`."""
    torch.manual_seed(seed)
    net, head = start, nn.Linear(64, 10)
    with torch.no_grad():
        latents = net(labelled.x)
    shift, scale = latents.mean(0), latents.std(0)
    scale = torch.where(scale > 1e-6, scale, 1.0)
    groups = [{"params": net.parameters(), "lr": rate}, {"params": head.parameters(), "lr": 3e-3}]
    optimizer = torch.optim.Adam(groups, fused=True)
    generator, order = Generator().manual_seed(seed), list[Tensor]()
    for _ in range(few_label.STEPS):
        order = order or parts_of(torch.randperm(len(labelled.y), generator=generator), 100)
        rows = order.pop()
        optimizer.zero_grad()
        F.cross_entropy(head((net(labelled.x[rows]) - shift) / scale), labelled.y[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        predicted = torch.cat([head((net(x) - shift) / scale).argmax(1) for x in parts_of(measured.x)])
    return float((predicted == measured.y).double().mean())


def drawn(train: Digits, n: int, seed: int) -> Digits:
    """A balanced draw of n samples."""
    generator, rows = Generator().manual_seed(seed), list[Tensor]()
    for label in range(10):
        of_class = (train.y == label).nonzero()[:, 0]
        rows.append(of_class[torch.randperm(len(of_class), generator=generator)[: n // 10]])
    index = torch.cat(rows)
    return Digits(train.x[index], train.y[index])


def few_labels() -> list[Row]:
    """Fine-tuning on few labels, from the variant's weights and from random ones."""
    ae = aezoo.load("fc-64")

    def by_hand() -> dict[str, float]:
        everything, test = read(train=True), read(train=False)
        train = Digits(everything.x[:50_000], everything.y[:50_000])
        validation = Digits(everything.x[50_000:], everything.y[50_000:])
        draws = [drawn(train, LABELS, seed) for seed in range(DRAWS + 1)]
        found: dict[str, float] = {}
        for scratch in (False, True):

            def accuracy(rate: float, draw: int, measured: Digits, from_weights: bool = not scratch) -> float:
                start = with_weights(encoder(), ae.encoder) if from_weights else encoder()
                return fine_tuned(start, draws[draw], measured, rate, draw)

            rates = {rate: accuracy(rate, DRAWS, validation) for rate in few_label.LEARNING_RATES}
            best = max(rates, key=lambda rate: rates[rate])
            accuracies = [accuracy(best, draw, test) for draw in range(DRAWS)]
            if not scratch:  # other random weights
                found[f"few_label.{LABELS}"] = statistics.mean(accuracies)
        return found

    with mock.patch.multiple(few_label, LABELS=(LABELS,), DRAWS=DRAWS):
        title = f"the protocol few-label on fc-64, {LABELS} labels, {DRAWS} of its draws"
        return row(title, ae, "few-label", by_hand, rounds=5)


ROWS = (probe, one_class, few_labels)
