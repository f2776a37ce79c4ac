"""Few labels: what an encoder that saw many samples without labels is worth where few have one.

Ten draws of balanced labels, a linear head, the encoder trained along, against the same network from random
weights. What must be chosen is chosen on the validation split, by a draw of its own.
"""

import statistics
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from aezoo.errors import DataError
from aezoo.evaluation.evaluate import BATCH, Metric
from aezoo.evaluation.protocols.latents import Probe
from aezoo.evaluation.protocols.protocol import Protocol, entry, inputs_of, labels_of, samples_of
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.build import build, build_on_meta
from aezoo.specs.components import Split

LABELS = (100, 1000)
DRAWS = 10
STEPS = 300
ROWS = 100
"""Labelled samples in a step."""
HEAD_RATE = 3e-3
RATES = (1e-4, 3e-4, 1e-3, 3e-3)
"""Learning rates of the encoder, of which the best on the validation split is taken."""


class Labelled(NamedTuple):
    """Inputs (n, *shape) and classes (n,)."""

    x: Tensor
    y: Tensor


class FewLabel(Protocol):
    """Fine-tunes a classifier on few labels."""

    name = "few-label"
    summary = f"accuracy after fine-tuning on {LABELS[0]} and {LABELS[1]:,} labels, against random weights"
    gives = tuple(
        f"few_label.{n}{start}{what}" for n in LABELS for start in ("", ".scratch") for what in ("", ".std")
    )

    def incompatibility(self, ae: Autoencoder) -> str | None:
        """A dataset without classes."""
        return Probe().incompatibility(ae)

    def run(self, ae: Autoencoder) -> dict[str, Metric]:
        """`few_label.N`, `few_label.N.scratch` and the standard deviation of each over draws."""
        train, validation, test = (_labelled(ae, split) for split in ("train", "validation", "test"))
        found: dict[str, Metric] = {}
        for n in LABELS:
            for scratch in (False, True):
                # The draw that chooses is none of the ten that are measured.
                chosen = _drawn(train, n, DRAWS)
                rate = max(RATES, key=lambda r: _accuracy(ae, chosen, validation, r, DRAWS, scratch))
                accuracies = [
                    _accuracy(ae, _drawn(train, n, draw), test, rate, draw, scratch) for draw in range(DRAWS)
                ]
                start = "random weights" if scratch else "the variant's weights"
                definition = (
                    f"accuracy of a linear head on the latents after {STEPS} steps on {len(chosen.y):,} "
                    f"balanced labels, encoder trained along from {start} (its learning rate, {rate:g}, "
                    f"chosen on the validation split), "
                    "{} over " + f"{DRAWS} draws"
                )
                name = f"few_label.{n}" + (".scratch" if scratch else "")
                found[name] = entry(
                    ae, statistics.mean(accuracies), len(test.y), definition.format("mean"), "protocol"
                )
                found[f"{name}.std"] = entry(
                    ae, statistics.stdev(accuracies), len(test.y), definition.format("standard deviation"),
                    "protocol",
                )  # fmt: skip
        return found


def _labelled(ae: Autoencoder, split: Split) -> Labelled:
    samples = samples_of(ae, split)
    return Labelled(inputs_of(ae, samples).unflatten(1, ae.spec.input.shape), labels_of(samples))


def _drawn(train: Labelled, n: int, seed: int) -> Labelled:
    """A balanced draw of n labelled samples."""
    generator = Generator().manual_seed(seed)
    classes = sorted(set(cast(list[int], train.y.tolist())))
    each = n // len(classes)
    if each == 0:
        raise DataError(f"{n} labels are too few for {len(classes)} classes")
    places: list[Tensor] = []
    for label in classes:
        there = torch.nonzero(train.y == label)[:, 0]
        if len(there) < each:
            raise DataError(f"{each} labels of each class are to be drawn, class {label} has {len(there)}")
        places.append(there[torch.randperm(len(there), generator=generator)[:each]])
    index = torch.cat(places)
    return Labelled(train.x[index], train.y[index])


def _accuracy(
    ae: Autoencoder, labelled: Labelled, measured: Labelled, rate: float, seed: int, scratch: bool
) -> float:
    """Accuracy on `measured` of a classifier trained on `labelled`."""
    generator = Generator().manual_seed(seed)
    network = build(ae.spec, seed=seed) if scratch else _copy(ae)
    # Sampling layers give the mean, and nothing is dropped; gradients flow all the same.
    network.eval()
    # Labels need not count from 0, and a split need not have all of them.
    both = cast(list[int], torch.cat([labelled.y, measured.y]).tolist())
    classes = torch.tensor(sorted(set(both)))
    places = torch.searchsorted(classes, labelled.y)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        head = nn.Linear(network.num_latents, len(classes))
    with torch.no_grad():
        start = network.encode(labelled.x).flatten(1)
    shift, scale = start.mean(0), start.std(0)
    # A latent that no labelled sample changes must not be blown up where another one does.
    scale = torch.where(scale > 1e-6, scale, 1.0)

    def logits(x: Tensor) -> Tensor:
        return head((network.encode(x).flatten(1) - shift) / scale)

    groups = [
        {"params": list(network.encoder.parameters()), "lr": rate},
        {"params": list(head.parameters()), "lr": HEAD_RATE},
    ]
    optimizer = torch.optim.Adam(groups, fused=True)
    order: list[Tensor] = []
    for _ in range(STEPS):
        if not order:
            order = _batches(torch.randperm(len(labelled.y), generator=generator), ROWS)
        rows = order.pop()
        optimizer.zero_grad()
        F.cross_entropy(logits(labelled.x[rows]), places[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        right = sum(
            int((classes[logits(x).argmax(1)] == y).sum())
            for x, y in zip(_batches(measured.x, BATCH), _batches(measured.y, BATCH), strict=True)
        )
    return right / len(measured.y)


def _batches(x: Tensor, size: int) -> list[Tensor]:
    return [x[start : start + size] for start in range(0, len(x), size)]


def _copy(ae: Autoencoder) -> Autoencoder:
    other = build_on_meta(ae.spec, ae.shapes)
    state = {
        name: tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else None, copy=True)
        for name, tensor in ae.encoder.state_dict().items()
    }
    other.encoder.load_state_dict(state, strict=True, assign=True)
    return other
