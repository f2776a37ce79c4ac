"""Comparison of an exported file with aezoo: the largest difference of each output, and the metrics of both.

Differences are in the network's units: a reconstruction in the units of the data is standardized first, so
that one tolerance fits amounts in millions and shares below one. A difference counts relative to the largest
absolute value of that output for that sample, or absolutely where this value is below 1.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aezoo.errors import DataError
from aezoo.exporting.inputs import ComparedData, batch_sizes
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.summary import format_shape

TOLERANCE = 1e-4
"""Largest difference of an output that is accepted."""
LEAST_ROWS = 310
"""Rows that are run at least, so that a file meets batches of 1, 2, 7 and 300; few samples are repeated."""
ROUNDING = 3e-6
"""Standard deviation of a change that rounding could make, relative to the largest value of a layer."""
DRAWS = 64
"""Changed copies of a sample that are run to find out whether rounding decides its latents."""
MAX_UNDECIDED = 0.01
"""Share of samples that rounding may decide."""

Runner = Callable[[NDArray[Any]], Mapping[str, NDArray[Any]]]
"""Runs an exported file on a batch of raw data: outputs by name."""
Outputs = dict[str, Tensor]


@dataclass
class Difference:
    """The largest difference of an output.

    Attributes:
        absolute: in the network's units.
        relative: what counts: relative to the largest value of the sample's output, if that is above 1.
        sample: number of the sample, from 0; None without any difference.
        in_data_units: the largest difference as the file gives the output, which standardized data change.
    """

    absolute: float = 0.0
    relative: float = 0.0
    sample: int | None = None
    in_data_units: float = 0.0


@dataclass
class Comparison:
    """The result of a comparison.

    Attributes:
        data: what was compared on.
        n: number of samples.
        runtime: what ran the file.
        differences: by output; without samples that rounding decides.
        undecided: samples for which aezoo gives the file's outputs as well if its values change by as little
            as rounding does: a tie of a top-k, a value at a threshold, two equally near codes. `latents` is
            the largest difference of a latent.
        metrics: name -> `aezoo`, `file` and `published`, the value in `ae.metrics` if it is of these samples.
    """

    data: str
    n: int
    runtime: str
    differences: dict[str, Difference] = field(default_factory=dict[str, Difference])
    undecided: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    metrics: dict[str, dict[str, float | None]] = field(default_factory=dict[str, dict[str, float | None]])

    def as_dict(self) -> dict[str, Any]:
        """The comparison as it is written in JSON."""
        return {
            "data": self.data, "n": self.n, "runtime": self.runtime, "tolerance": TOLERANCE,
            "batch_sizes": sorted(set(batch_sizes(max(self.n, LEAST_ROWS)))),
            "differences": {name: vars(value) for name, value in self.differences.items()},
            "undecided": {
                "n": len(self.undecided), "change": ROUNDING, "samples": self.undecided[:100],
            },
            "metrics": self.metrics,
        }  # fmt: skip


class Reference:
    """What aezoo computes, by its public functions.

    Args:
        ae: on the CPU, in evaluation mode, float32 or float64.
        outputs: what a file gives.
    """

    def __init__(self, ae: Autoencoder, outputs: tuple[str, ...]) -> None:
        self.ae, self.outputs = ae, outputs
        self.transforms = ae.transforms()
        self.weight = next((p for p in ae.parameters() if p.is_floating_point()), torch.empty(0))

    def inputs(self, raw: Tensor) -> Tensor:
        """Raw data as the network takes them."""
        return self.transforms(raw).to(self.weight.dtype)

    @torch.no_grad()
    def run(self, x: Tensor) -> Outputs:
        """The outputs in the network's units."""
        if self.outputs == ("latents",):
            return {"latents": self.ae.encode(x)}
        output = self.ae(x)
        found: Outputs = {"latents": output.latents, "reconstruction": output.x_hat}
        if "score" in self.outputs:
            found["score"] = self.ae.score_samples(x)
        return found

    @torch.no_grad()
    def run_with_noise(self, x: Tensor) -> Outputs:
        """The outputs of copies of one sample, of which each is computed with rounding errors of its own.

        Args:
            x: (1, *input shape).

        Returns:
            The outputs of `DRAWS` copies. The inputs and the result of every module are changed by normal
            noise with the standard deviation `ROUNDING`, relative to the largest value of each copy.
        """
        generator = torch.Generator().manual_seed(0)

        def changed(values: Tensor) -> Tensor:
            noise = torch.randn(values.shape, generator=generator, dtype=values.dtype)
            size = values.abs().flatten(1).amax(1).view(-1, *[1] * (values.ndim - 1))
            return values + ROUNDING * size * noise

        def hook(_module: nn.Module, _given: object, result: object) -> object:
            rows = isinstance(result, Tensor) and result.is_floating_point() and len(result) == DRAWS
            return changed(result) if rows and isinstance(result, Tensor) and result.ndim > 1 else result

        with ExitStack() as hooks:
            for module in self.ae.modules():
                if not any(True for _ in module.children()):
                    hooks.callback(module.register_forward_hook(hook).remove)
            return self.run(changed(x.expand(DRAWS, *x.shape[1:])))

    def in_data_units(self, outputs: Outputs) -> Outputs:
        """The outputs as a file gives them."""
        if "reconstruction" not in outputs:
            return outputs
        return outputs | {"reconstruction": self.transforms.inverse(outputs["reconstruction"].float())}

    def in_network_units(self, given: Outputs) -> Outputs:
        """Outputs of a file in the network's units."""
        scaler = self.ae.scaler
        if scaler is None or "reconstruction" not in given:
            return given
        values = (given["reconstruction"].double() - scaler.shift.double()) / scaler.scale.double()
        return given | {"reconstruction": values}


def compare(
    reference: Reference, run: Runner, data: ComparedData, runtime: str, published: Mapping[str, Any]
) -> Comparison:
    """Runs samples through aezoo and through a file, and measures the differences.

    Args:
        reference: aezoo's side.
        run: the file's side.
        data: the samples.
        runtime: what runs the file, for the record.
        published: `ae.metrics`.

    Raises:
        DataError: a difference is above the tolerance; the message names the output and the sample.
    """
    n = len(data.raw)
    comparison = Comparison(data.text, n, runtime, {name: Difference() for name in reference.outputs})
    sums = _Sums(data)
    start = 0
    for size in batch_sizes(max(n, LEAST_ROWS)):
        rows = torch.arange(start, start + size) % n
        raw = data.raw[rows]
        x = reference.inputs(raw)
        expected = reference.run(x)
        in_file_units = _file_outputs(run, raw, reference.in_data_units(expected))
        found = reference.in_network_units(in_file_units)
        excess = _relative(expected, found).amax(0) > TOLERANCE
        decided = torch.ones(size, dtype=torch.bool)
        for row in map(int, excess.nonzero().flatten()):
            one = {name: values[row : row + 1] for name, values in found.items()}
            if not _rounding_decides(reference, x[row : row + 1], one):
                break  # refused below
            decided[row] = False
            if start + row < n:
                jump = float((found["latents"][row].double() - expected["latents"][row]).abs().max())
                comparison.undecided.append({"sample": int(rows[row]), "latents": jump})
            if len(comparison.undecided) > _most_undecided(n):
                break
        _largest(comparison.differences, expected, found, rows, decided)
        for name, values in reference.in_data_units(expected).items():
            largest = _absolute(values, in_file_units[name])[decided]
            known = comparison.differences[name]
            known.in_data_units = max(known.in_data_units, float(largest.max()) if len(largest) else 0.0)
        _refuse(comparison)
        if start < n:
            sums.add(rows[: n - start], expected, found)
        start += size
    comparison.metrics = sums.metrics(reference.ae, published if data.published else {})
    return comparison


def _file_outputs(run: Runner, raw: Tensor, expected: Outputs) -> Outputs:
    """Runs a file, and checks the names, shapes and dtypes of what it gives."""
    given = {name: torch.from_numpy(np.array(values)) for name, values in run(raw.numpy()).items()}
    if list(given) != list(expected):
        raise DataError(f"the exported file gives {', '.join(given)}, expected {', '.join(expected)}")
    for name, values in expected.items():
        if given[name].shape != values.shape:
            raise DataError(
                f"the exported file gives {name} of {format_shape(tuple(given[name].shape))} for a batch of "
                f"{len(raw)}, expected {format_shape(tuple(values.shape))}; not exported"
            )
    return {name: given[name] for name in expected}


def _absolute(a: Tensor, b: Tensor) -> Tensor:
    """The largest absolute difference of each sample, (n,); infinite where only one of them is a number."""
    a, b = a.double().flatten(1) if a.ndim > 1 else a.double()[:, None], b.double().reshape(len(b), -1)
    difference = torch.where((a == b) | (a.isnan() & b.isnan()), 0.0, (a - b).abs())
    return difference.nan_to_num(nan=torch.inf).amax(1)


def _relative(expected: Outputs, found: Outputs) -> Tensor:
    """The difference of each output and sample that counts, (outputs, n)."""
    parts: list[Tensor] = []
    for name, values in expected.items():
        size = values.double().reshape(len(values), -1).abs().amax(1).nan_to_num(nan=1.0, posinf=1.0)
        parts.append(_absolute(values, found[name]) / size.clamp(min=1.0))
    return torch.stack(parts)


def _largest(
    known: dict[str, Difference], expected: Outputs, found: Outputs, rows: Tensor, decided: Tensor
) -> None:
    relative = _relative(expected, found)
    for index, name in enumerate(expected):
        counts = torch.where(decided, relative[index], -1.0)
        row = int(counts.argmax())
        if float(counts[row]) > known[name].relative:
            absolute = float(_absolute(expected[name], found[name])[row])
            in_data_units = known[name].in_data_units
            known[name] = Difference(absolute, float(counts[row]), int(rows[row]), in_data_units)


def _rounding_decides(reference: Reference, x: Tensor, found: Outputs) -> bool:
    """Whether aezoo gives a file's outputs for a sample, too, with other rounding errors."""
    drawn = reference.run_with_noise(x)
    repeated = {name: values.expand(DRAWS, *values.shape[1:]) for name, values in found.items()}
    return bool((_relative(drawn, repeated).amax(0) <= TOLERANCE).any())


def _most_undecided(n: int) -> int:
    """How many of `n` samples rounding may decide."""
    return max(1, int(MAX_UNDECIDED * n))


def _refuse(comparison: Comparison) -> None:
    """Raises an error for too many undecided samples, and for a difference above the tolerance."""
    if len(comparison.undecided) > _most_undecided(comparison.n):
        first = comparison.undecided[0]
        raise DataError(
            f"not exported: for more than {_most_undecided(comparison.n):,} of {comparison.n:,} samples of "
            f"{comparison.data}, such as {first['sample']}, rounding decides which latents are kept; their "
            f"latents differ by up to {max(item['latents'] for item in comparison.undecided):.3g}"
        )
    for name, difference in comparison.differences.items():
        if difference.relative > TOLERANCE:
            raise DataError(
                f"not exported: {name} of sample {difference.sample} of {comparison.data} differs by "
                f"{difference.absolute:.3g} between aezoo and {comparison.runtime}"
                f"{_of_size(difference)}, more than {TOLERANCE:g}"
            )


def _of_size(difference: Difference) -> str:
    if difference.absolute == difference.relative:
        return ""
    return f" ({difference.relative:.3g} of the largest value)"


class _Sums:
    """Squared errors and non-zero latents of both sides, summed in double precision."""

    def __init__(self, data: ComparedData) -> None:
        self.data = data
        self.totals: dict[tuple[str, str], float] = {}
        self.counts: dict[str, int] = {}

    def add(self, rows: Tensor, expected: Outputs, found: Outputs) -> None:
        for side, outputs in (("aezoo", expected), ("file", found)):
            latents = outputs["latents"][: len(rows)]
            self._add("l0", side, float((latents != 0).sum()), len(rows))
            if self.data.targets is not None and "reconstruction" in outputs:
                target = self.data.targets[rows].double()
                error = (outputs["reconstruction"][: len(rows)].double() - target).square()
                self._add("mse", side, float(error.sum()), error.numel())

    def _add(self, name: str, side: str, value: float, count: int) -> None:
        self.totals[name, side] = self.totals.get((name, side), 0.0) + value
        self.counts[name] = self.counts.get(name, 0) + (count if side == "file" else 0)

    def metrics(self, ae: Autoencoder, published: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
        """MSE in the network's units, where targets are known, and L0, where latents are zero."""
        found: dict[str, dict[str, float | None]] = {}
        for name in sorted(self.counts, reverse=True):
            values = {side: self.totals[name, side] / self.counts[name] for side in ("aezoo", "file")}
            if name == "l0" and ae.sparsity() is None and min(values.values()) == ae.num_latents:
                continue
            known: Any = published.get(name, {}).get("value")
            finite = {side: value if np.isfinite(value) else None for side, value in values.items()}
            found[name] = {**finite, "published": known}
        return found
