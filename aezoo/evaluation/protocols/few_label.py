"""Few-label protocol: fine-tuning on few labels, compared with random initial weights.

For each number of labels, a linear head on the latents is trained together with the encoder on ten balanced
draws of labelled training samples. The baseline is the same network with random initial weights. The
encoder's learning rate is chosen on the validation split, by another draw.
"""

import statistics
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from typing_extensions import override

from aezoo.errors import DataError
from aezoo.evaluation.evaluate import EVAL_BATCH_SIZE, Measurement
from aezoo.evaluation.protocols.protocol import ClassificationProtocol, inputs_of, labels_of, samples_of
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.build import build, build_on_meta
from aezoo.specs.components import Split

LABELS = (100, 1000)
DRAWS = 10
STEPS = 300
BATCH_SIZE = 100
HEAD_LEARNING_RATE = 3e-3
LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3)
"""Candidates for the encoder's learning rate."""


class Labelled(NamedTuple):
    """Inputs, (n, *input shape), and their classes, (n,)."""

    x: Tensor
    y: Tensor


class FewLabel(ClassificationProtocol):
    """Fine-tunes a classifier on few labels."""

    name = "few-label"
    summary = f"accuracy after fine-tuning on {LABELS[0]} and {LABELS[1]:,} labels, against random weights"
    gives = tuple(
        f"few_label.{n}{start}{what}" for n in LABELS for start in ("", ".scratch") for what in ("", ".std")
    )
    source = "protocol"

    @override
    def run(self, ae: Autoencoder) -> dict[str, Measurement]:
        train, validation, test = (_load(ae, split) for split in ("train", "validation", "test"))
        found: dict[str, Measurement] = {}
        for n in LABELS:
            for scratch in (False, True):
                trial = FineTuning(ae, train, n, scratch)
                rates = {rate: trial.accuracy(validation, rate, seed=DRAWS) for rate in LEARNING_RATES}
                rate = max(rates, key=rates.__getitem__)
                accuracies = [trial.accuracy(test, rate, seed) for seed in range(DRAWS)]
                start = "random weights" if scratch else "the variant's weights"
                definition = (
                    f"accuracy of a linear head on the latents after {STEPS} steps on "
                    f"{len(draw_balanced(train, n, seed=DRAWS).y):,} balanced labels, encoder trained along "
                    f"from {start} (its learning rate, {rate:g}, chosen on the validation split), "
                    "{} over " + f"{DRAWS} draws"
                )
                name = f"few_label.{n}" + (".scratch" if scratch else "")
                for suffix, value, what in (
                    ("", statistics.mean(accuracies), "mean"),
                    (".std", statistics.stdev(accuracies), "standard deviation"),
                ):
                    found[name + suffix] = self.measurement(ae, value, len(test.y), definition.format(what))
        return found


@dataclass(frozen=True)
class FineTuning:
    """Fine-tuning on few labels.

    Attributes:
        ae: the network, which is copied.
        train: the samples that labels are drawn from.
        n: number of labels.
        scratch: whether training starts from random weights.
    """

    ae: Autoencoder
    train: Labelled
    n: int
    scratch: bool

    def accuracy(self, measured: Labelled, learning_rate: float, seed: int) -> float:
        """Trains a classifier and measures its accuracy.

        Args:
            measured: the samples that it is measured on.
            learning_rate: of the encoder.
            seed: seed of the labels, of the random weights and of the order of the samples.

        Returns:
            Between 0 and 1.
        """
        labelled = draw_balanced(self.train, self.n, seed)
        encoder = build(self.ae.spec, seed=seed) if self.scratch else _copy_encoder(self.ae)
        # Labels need not count from 0, and a split may lack some of them.
        classes = _distinct(torch.cat([labelled.y, measured.y]))
        classifier = Classifier(encoder, labelled.x, len(classes), seed)
        optimizer = torch.optim.Adam(
            [
                {"params": list(encoder.encoder.parameters()), "lr": learning_rate},
                {"params": list(classifier.head.parameters()), "lr": HEAD_LEARNING_RATE},
            ],
            fused=True,
        )
        targets = torch.searchsorted(classes, labelled.y)
        generator = Generator().manual_seed(seed)
        batches: list[Tensor] = []
        for _ in range(STEPS):
            batches = batches or _split(torch.randperm(len(targets), generator=generator), BATCH_SIZE)
            batch = batches.pop()
            optimizer.zero_grad()
            F.cross_entropy(classifier(labelled.x[batch]), targets[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            predicted = [classes[classifier(x).argmax(1)] for x in _split(measured.x, EVAL_BATCH_SIZE)]
        return int((torch.cat(predicted) == measured.y).sum()) / len(measured.y)


class Classifier(nn.Module):
    """A linear head on standardized latents.

    Args:
        ae: gives the latents.
        x: (n, *input shape), whose latents are used for standardization.
        classes: number of classes.
        seed: seed of the head's weights.
    """

    def __init__(self, ae: Autoencoder, x: Tensor, classes: int, seed: int) -> None:
        super().__init__()
        # In evaluation mode, sampling layers give the mean and dropout is off. Gradients flow all the same.
        self.ae = ae.eval()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.head = nn.Linear(ae.num_latents, classes)
        with torch.no_grad():
            latents = ae.encode(x).flatten(1)
        self.shift, std = latents.mean(0), latents.std(0)
        # A latent that is constant here would be magnified where it is not.
        self.scale = torch.where(std > 1e-6, std, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (batch, classes)."""
        return self.head((self.ae.encode(x).flatten(1) - self.shift) / self.scale)


def draw_balanced(train: Labelled, n: int, seed: int) -> Labelled:
    """Draws n labelled samples, the same number of each class.

    Raises:
        DataError: there are fewer labels than classes, or too few samples of a class.
    """
    generator = Generator().manual_seed(seed)
    classes = _distinct(train.y)
    each = n // len(classes)
    if each == 0:
        raise DataError(f"{n} labels are too few for {len(classes)} classes")
    drawn: list[Tensor] = []
    for label in classes:
        rows = torch.nonzero(train.y == label)[:, 0]
        if len(rows) < each:
            raise DataError(f"{each} labels of each class are to be drawn, class {label} has {len(rows)}")
        drawn.append(rows[torch.randperm(len(rows), generator=generator)[:each]])
    index = torch.cat(drawn)
    return Labelled(train.x[index], train.y[index])


def _distinct(y: Tensor) -> Tensor:
    return cast(Tensor, y.unique())


def _split(x: Tensor, size: int) -> list[Tensor]:
    return list(cast(tuple[Tensor, ...], x.split(size)))


def _load(ae: Autoencoder, split: Split) -> Labelled:
    samples = samples_of(ae, split)
    return Labelled(inputs_of(ae, samples).unflatten(1, ae.spec.input.shape), labels_of(samples))


def _copy_encoder(ae: Autoencoder) -> Autoencoder:
    """A copy on the CPU in float32, of which only the encoder has weights."""
    copy = build_on_meta(ae.spec, ae.shapes)
    state = {
        name: tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else None, copy=True)
        for name, tensor in ae.encoder.state_dict().items()
    }
    copy.encoder.load_state_dict(state, strict=True, assign=True)
    return copy
