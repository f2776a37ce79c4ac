"""Few-label protocol: fine-tuning on few labels, compared with random initial weights.

For each number of labels, a linear head on the latents is trained together with the encoder on ten balanced
draws of labelled training samples. The baseline is the same network with random initial weights. The
encoder's learning rate is chosen on the validation split, by another draw.
"""

import copy
import statistics
from functools import partial
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from typing_extensions import override

from aezoo.errors import DataError
from aezoo.evaluation.evaluate import EVAL_BATCH_SIZE, Measurement
from aezoo.evaluation.protocols.protocol import ClassificationProtocol, labels_of
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

    def __init__(self, ae: Autoencoder) -> None:
        super().__init__(ae)
        # Building a network takes as long as tens of its steps.
        self._encoders: dict[int | None, nn.Module] = {}

    @override
    def run(self) -> dict[str, Measurement]:
        train, validation, test = (self._load(split) for split in ("train", "validation", "test"))
        found: dict[str, Measurement] = {}
        for n in LABELS:
            draws = [draw_balanced(train, n, seed) for seed in range(DRAWS + 1)]
            for scratch in (False, True):
                # The last draw chooses the learning rate; the others are measured.
                chosen = partial(self.accuracy, draws[DRAWS], validation, seed=DRAWS, scratch=scratch)
                rate = max(LEARNING_RATES, key=chosen)
                accuracies = [
                    self.accuracy(draws[seed], test, rate, seed=seed, scratch=scratch)
                    for seed in range(DRAWS)
                ]
                start = "random weights" if scratch else "the variant's weights"
                definition = (
                    f"accuracy of a linear head on the latents after {STEPS} steps on {len(draws[0].y):,} "
                    f"balanced labels, encoder trained along from {start} (its learning rate, {rate:g}, "
                    "chosen on the validation split), {} over " + f"{DRAWS} draws"
                )
                name = f"few_label.{n}" + (".scratch" if scratch else "")
                for suffix, value, what in (
                    ("", statistics.mean(accuracies), "mean"),
                    (".std", statistics.stdev(accuracies), "standard deviation"),
                ):
                    found[name + suffix] = self.measurement(value, len(test.y), definition.format(what))
        return found

    def accuracy(
        self, labelled: Labelled, measured: Labelled, rate: float, *, seed: int, scratch: bool
    ) -> float:
        """Trains a classifier on `labelled` and returns its accuracy on `measured`.

        Args:
            labelled: the training samples.
            measured: the validation or test samples.
            rate: learning rate of the encoder.
            seed: seed of random weights and of the order of the samples.
            scratch: whether the encoder starts from random weights.
        """
        encoder = self._encoder(seed if scratch else None)
        # Labels need not count from 0, and a split may lack some of them.
        classes = cast(Tensor, torch.cat([labelled.y, measured.y]).unique())
        targets = torch.searchsorted(classes, labelled.y)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            head = nn.Linear(self.ae.num_latents, len(classes))
        with torch.no_grad():
            latents = encoder(labelled.x).flatten(1)
        shift, scale = latents.mean(0), latents.std(0)
        # A latent that is constant in these samples would be magnified in others.
        scale = torch.where(scale > 1e-6, scale, 1.0)

        def logits(x: Tensor) -> Tensor:
            return head((encoder(x).flatten(1) - shift) / scale)

        groups = [
            {"params": list(encoder.parameters()), "lr": rate},
            {"params": list(head.parameters()), "lr": HEAD_LEARNING_RATE},
        ]
        optimizer = torch.optim.Adam(groups, fused=True)
        generator = Generator().manual_seed(seed)
        batches: list[Tensor] = []
        for _ in range(STEPS):
            batches = batches or _split(_shuffled(len(targets), generator), BATCH_SIZE)
            batch = batches.pop()
            optimizer.zero_grad()
            F.cross_entropy(logits(labelled.x[batch]), targets[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            predicted = [classes[logits(x).argmax(1)] for x in _split(measured.x, EVAL_BATCH_SIZE)]
        return int((torch.cat(predicted) == measured.y).sum()) / len(measured.y)

    def _encoder(self, seed: int | None) -> nn.Module:
        """A copy of the encoder with the random weights of a seed, or with the variant's, which is None."""
        if seed not in self._encoders:
            network = _copy_encoder(self.ae) if seed is None else build(self.ae.spec, seed=seed)
            # Sampling layers then give the mean and dropout is off. Gradients flow all the same.
            self._encoders[seed] = network.eval().encoder
        return copy.deepcopy(self._encoders[seed])

    def _load(self, split: Split) -> Labelled:
        samples = self.samples(split)
        return Labelled(self.inputs(samples).unflatten(1, self.ae.spec.input.shape), labels_of(samples))


def draw_balanced(train: Labelled, n: int, seed: int) -> Labelled:
    """Draws n labelled samples, the same number of each class.

    Raises:
        DataError: there are fewer labels than classes, or too few samples of a class.
    """
    generator = Generator().manual_seed(seed)
    classes = cast(Tensor, train.y.unique())
    each = n // len(classes)
    if each == 0:
        raise DataError(f"{n} labels are too few for {len(classes)} classes")
    drawn: list[Tensor] = []
    for label in classes:
        rows = torch.nonzero(train.y == label)[:, 0]
        if len(rows) < each:
            raise DataError(f"{each} labels of each class are to be drawn, class {label} has {len(rows)}")
        drawn.append(rows[_shuffled(len(rows), generator)[:each]])
    index = torch.cat(drawn)
    return Labelled(train.x[index], train.y[index])


def _shuffled(n: int, generator: Generator) -> Tensor:
    return torch.randperm(n, generator=generator, device="cpu")


def _split(x: Tensor, size: int) -> list[Tensor]:
    return list(cast(tuple[Tensor, ...], x.split(size)))


def _copy_encoder(ae: Autoencoder) -> Autoencoder:
    """A copy on the CPU in float32, of which only the encoder has weights."""
    network = build_on_meta(ae.spec, ae.shapes)
    state = {
        name: tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else None, copy=True)
        for name, tensor in ae.encoder.state_dict().items()
    }
    network.encoder.load_state_dict(state, strict=True, assign=True)
    return network
