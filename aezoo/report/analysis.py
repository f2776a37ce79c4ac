"""What each latent of an autoencoder does on some samples: when it is active, and what the output owes to it.

A unit is one latent of a vector, or one channel of a convolutional code. The activation of a sample by a
channel is its value of the largest magnitude over all positions.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from aezoo.errors import NotSupportedError
from aezoo.evaluation.metrics.latents import decoder_atoms
from aezoo.inference.sources import Source
from aezoo.model.autoencoder import Autoencoder, eval_mode
from aezoo.model.sequential import Aux

TOP = 8
"""Samples that are shown for a unit."""
KEPT = 2048
"""First samples of which all activations are kept, for quantiles."""
ABLATED_ROWS = 100_000
"""Outputs that are computed at most to measure what the output loses without each unit."""
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
ROWS = 512
"""Outputs that are computed at once."""
SPARSE_SHARE = 0.99
"""Share of non-zero latents below which a code counts as sparse."""


@dataclass
class Units:
    """Numbers of every unit; tensors are (units,) unless stated otherwise.

    Attributes:
        n: number of samples.
        sparse: whether the code is sparse: removing a unit then means zero, otherwise its mean.
        density: share of the values, over samples and positions, that are not exactly zero.
        mean: mean of the values.
        sd: standard deviation of the values.
        low: smallest value.
        high: largest value.
        mean_active: mean of the values that are not zero; 0 if there are none.
        top: numbers of the samples that activate the unit most, (units, k); of a dense code, half of them are
            those that activate it least.
        activations: of those samples, (units, k).
        quantiles: at `QUANTILES`, of a sparse code among the values that are not zero, (units, 5).
        change: mean squared change of the output without the unit.
        loss: increase of the mean squared error without the unit; None if the target is not the input.
        mse: mean squared error of the samples for `loss`; None as for `loss`.
        ablated: number of samples for `change` and `loss`.
        mean_code: mean latents, (*latent shape).
    """

    n: int
    sparse: bool
    density: Tensor
    mean: Tensor
    sd: Tensor
    low: Tensor
    high: Tensor
    mean_active: Tensor
    top: Tensor
    activations: Tensor
    quantiles: Tensor
    change: Tensor
    loss: Tensor | None
    mse: float | None
    ablated: int
    mean_code: Tensor
    reference: Aux = field(default_factory=dict[str, Tensor], repr=False)

    @property
    def dead(self) -> Tensor:
        """Numbers of the units that were zero for every sample."""
        return (self.density == 0).nonzero().flatten()

    @property
    def importance(self) -> Tensor:
        """By which units are ordered: the loss, or the change where there is no loss."""
        return self.change if self.loss is None else self.loss


def analyse(ae: Autoencoder, source: Source, advance: Callable[[int], object] = lambda _: None) -> Units:
    """Measures every unit, in two passes.

    Args:
        ae: in any mode, which is restored.
        source: the samples, as the network takes them.
        advance: called with the number of samples that were read.

    Raises:
        NotSupportedError: there is no sample.
    """
    found = _Statistics(ae.latent_shape)
    with eval_mode(ae), torch.no_grad():
        for chunk in source.chunks():
            if len(chunk.x):
                found.add(ae.encode(chunk.x.to(next(ae.parameters(), chunk.x))).float().cpu())
                advance(len(chunk.x))
        if found.n == 0:
            raise NotSupportedError(f"{source.text} has no samples")
        units = found.units()
        _ablate(ae, source, units)
    return units


def as_list(x: Tensor) -> list[Any]:
    """The values of a vector."""
    return cast(list[Any], x.tolist())


def _split(x: Tensor, size: int) -> tuple[Tensor, ...]:
    return cast(tuple[Tensor, ...], x.split(size))


class _Statistics:
    """Streams over latents and keeps sums, extremes, the top samples and the first activations."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, count = shape, shape[0]
        self.n = 0
        self.active, self.sum, self.squares = (torch.zeros(count, dtype=torch.float64) for _ in range(3))
        self.low, self.high = torch.full((count,), math.inf), torch.full((count,), -math.inf)
        self.code = torch.zeros(shape, dtype=torch.float64)
        self.best = _Best(count, largest=True), _Best(count, largest=False)
        self.kept: list[Tensor] = []

    def add(self, latents: Tensor) -> None:
        values = latents.flatten(2) if latents.ndim > 2 else latents[:, :, None]
        self.active += (values != 0).sum((0, 2))
        self.sum += values.double().sum((0, 2))
        self.squares += values.double().square().sum((0, 2))
        self.low = torch.minimum(self.low, values.amin((0, 2)))
        self.high = torch.maximum(self.high, values.amax((0, 2)))
        self.code += latents.double().sum(0)
        activations = activations_of(latents)
        for best in self.best:
            best.add(activations, self.n)
        if (room := KEPT - self.n) > 0:
            self.kept.append(activations[:room])
        self.n += len(latents)

    def units(self) -> Units:
        positions = math.prod(self.shape[1:])
        count = self.n * positions
        mean = self.sum / count
        density = self.active / count
        sparse = float(density.mean()) < SPARSE_SHARE
        kept = torch.cat(self.kept).T.double()
        if sparse:
            kept = torch.where(kept == 0, math.nan, kept)
        at = torch.tensor(QUANTILES, dtype=torch.float64)
        quantiles = torch.cat([torch.nanquantile(part, at, dim=1).T for part in _split(kept, 1024)])
        top, least = self.best
        if sparse:
            order, values = top.index, top.value
        else:
            half = (top.index.shape[1] + 1) // 2
            rest = top.index.shape[1] - half
            order = torch.cat([top.index[:, :half], least.index[:, :rest].flip(1)], 1)
            values = torch.cat([top.value[:, :half], least.value[:, :rest].flip(1)], 1)
        zeros = torch.zeros_like(mean)
        return Units(
            n=self.n, sparse=sparse, density=density, mean=mean,
            sd=(self.squares / count - mean.square()).clamp(min=0).sqrt(),
            low=self.low, high=self.high, mean_active=self.sum / self.active.clamp(min=1),
            top=order, activations=values, quantiles=quantiles.nan_to_num(), change=zeros, loss=None,
            mse=None, ablated=0, mean_code=(self.code / self.n).float(),
        )  # fmt: skip


class _Best:
    """The samples with the largest, or the smallest, activation of each unit."""

    def __init__(self, count: int, *, largest: bool) -> None:
        self.sign = 1.0 if largest else -1.0
        self.value, self.index = torch.empty(count, 0), torch.empty(count, 0, dtype=torch.long)

    def add(self, activations: Tensor, start: int) -> None:
        index = torch.arange(start, start + len(activations)).expand(len(self.value), -1)
        values = torch.cat([self.value, activations.T], 1)
        indices = torch.cat([self.index, index], 1)
        # Stable, so that of equal samples the first ones are kept.
        order = (self.sign * values).sort(dim=1, descending=True, stable=True).indices[:, :TOP]
        self.value, self.index = values.gather(1, order), indices.gather(1, order)


def activations_of(latents: Tensor) -> Tensor:
    """Activations, (n, units), of latents, (n, *latent shape)."""
    if latents.ndim == 2:
        return latents
    flat = latents.flatten(2)
    return flat.gather(2, flat.abs().argmax(2, keepdim=True)).squeeze(2)


def _ablate(ae: Autoencoder, source: Source, units: Units) -> None:
    """Measures what the output loses without each unit, on the first samples."""
    count = len(units.density)
    # An inactive unit of a sparse code changes nothing when it is set to zero.
    per_sample = max(1.0, float(units.density.sum()) if len(ae.latent_shape) == 1 else count)
    limit = max(1, min(KEPT // 2, int(ABLATED_ROWS / per_sample)))
    same_shape = ae.spec.output == ae.spec.input
    change, loss = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    base, done, total = units.mean_code.clone(), 0, 0.0
    if units.sparse:
        base.zero_()
    for x in _first(source, limit):
        given = x.to(next(ae.parameters(), x))
        out = ae(given)
        if not units.reference and ae.decoder.needs:
            units.reference = _rows(ae, out.aux, len(x), torch.tensor([0]))
        removed = base.to(out.latents)
        differs = (out.latents != removed).reshape(*out.latents.shape[:2], -1).any(2)
        error = (out.x_hat - given).flatten(1) if same_shape else None
        total += 0.0 if error is None else float(error.double().square().mean(1).sum())
        for pairs in _split(differs.nonzero(), ROWS):
            rows, which = pairs[:, 0], pairs[:, 1]
            latents = out.latents[rows].clone()
            latents[torch.arange(len(rows), device=which.device), which] = removed[which]
            x_hat = ae.decode(latents, _rows(ae, out.aux, len(x), rows)).flatten(1)
            step = (x_hat - out.x_hat[rows].flatten(1)).double()
            change.index_add_(0, which.cpu(), step.square().mean(1).cpu())
            if error is not None:
                rest = (2 * error[rows].double() * step + step.square()).mean(1)
                loss.index_add_(0, which.cpu(), rest.cpu())
        done += len(x)
    units.change, units.ablated = change / done, done
    if same_shape:
        units.loss, units.mse = loss / done, total / done


def _rows(ae: Autoencoder, aux: Aux, n: int, rows: Tensor) -> Aux:
    """What the decoder needs of some rows of n samples; what has no row for each sample stays as it is."""
    needed = {name: aux[name] for name in ae.decoder.needs}
    return {name: value[rows] if len(value) == n else value for name, value in needed.items()}


def _first(source: Source, limit: int) -> Iterator[Tensor]:
    left = limit
    for chunk in source.chunks():
        for part in _split(chunk.x[:left], ROWS):
            if len(part):
                yield part
        left -= len(chunk.x)
        if left <= 0:
            return


@torch.no_grad()
def atoms(ae: Autoencoder, units: Units, which: Tensor) -> tuple[Tensor, str]:
    """What each unit adds to the output, (units, *target shape), and how that was computed, in words."""
    weights = decoder_atoms(ae)
    if weights is not None:
        return weights[which].cpu().float(), "the weights from the latent to the output"
    base = torch.zeros_like(units.mean_code) if units.sparse else units.mean_code
    size = units.mean_active if units.sparse else units.sd
    how = "the mean of its non-zero values" if units.sparse else "one standard deviation"
    start = "from a code of zeros" if units.sparse else "from the mean code"
    with eval_mode(ae):
        before = _decode(ae, units, base[None])
        parts = [
            _decode(ae, units, _set(base, index, (base[index].mean() + size[index]).float())[None]) - before
            for index in as_list(which)
        ]
    return torch.cat(parts), f"the change of the output when the latent is raised {start} by {how}"


@torch.no_grad()
def walks(ae: Autoencoder, units: Units, which: Tensor, codes: Tensor | None) -> Tensor:
    """Outputs at the quantiles of each unit, (units, 5, *target shape).

    Args:
        ae: the network.
        units: its numbers.
        which: numbers of the units.
        codes: latents in which each unit is changed, (units, *latent shape); None for the mean code.
    """
    made: list[Tensor] = []
    with eval_mode(ae):
        for row, index in enumerate(as_list(which)):
            code = units.mean_code if codes is None else codes[row]
            values = units.quantiles[index].float()
            made.append(_decode(ae, units, torch.stack([_set(code, index, value) for value in values])))
    return torch.stack(made) if made else torch.empty(0, len(QUANTILES), *ae.spec.output.shape)


def _set(code: Tensor, index: int, value: Tensor) -> Tensor:
    changed = code.clone()
    changed[index] = value
    return changed


def _decode(ae: Autoencoder, units: Units, latents: Tensor) -> Tensor:
    like = next(ae.parameters(), latents)
    # A decoder that needs more than the latents gets what the first sample gave.
    aux = {
        name: value.expand(len(latents), *value.shape[1:]) if len(value) == 1 else value
        for name, value in units.reference.items()
    }
    return ae.decode(latents.to(like), aux).float().cpu()


def samples_at(source: Source, numbers: Tensor) -> dict[int, Tensor]:
    """The samples with these numbers, as the network takes them."""
    wanted, found, start = set(as_list(numbers.flatten())), dict[int, Tensor](), 0
    for chunk in source.chunks():
        for row in range(len(chunk.x)):
            if start + row in wanted:
                found[start + row] = chunk.x[row].clone()
        start += len(chunk.x)
        if len(found) == len(wanted):
            break
    return found
