"""Contract checks of input corruptions."""

import copy
from typing import Any

import torch
from torch import Generator, Tensor

from aezoo.specs.components import NoiseSpec
from aezoo.specs.tensor import TensorSpec
from aezoo.testing.contract import CheckList, Report
from aezoo.testing.determinism import changed_rng, equal, rng_states, seeded
from aezoo.testing.observation import another_day, rows_differ
from aezoo.testing.specs import run_checks

BATCH_SIZE = 6
MANY = 257
SHAPES: tuple[tuple[int, ...], ...] = ((1, 8, 8), (3, 8, 8), (16,), (2, 16))
NOISE_CHECKS: CheckList["NoiseFixture"] = CheckList()


def check_noise(spec: NoiseSpec, *, shape: tuple[int, ...] | None = None) -> Report:
    """Checks a noise against the contract.

    Args:
        spec: the noise.
        shape: shape of one sample, without the batch axis; by default the first supported one of a few.

    Returns:
        The results, exemptions included.

    Raises:
        ContractError: a check failed; the message says for each what was expected and found.
    """
    return run_checks(spec, f"noise {spec.kind_name}", NOISE_CHECKS, NoiseFixture(spec, shape))


class NoiseFixture:
    """The noise under test and an input shape that it supports.

    Attributes:
        spec: the noise.
        shapes: shapes to try.
        shape: the first of them that the noise supports, once the check `incompatibility` has run.
    """

    def __init__(self, spec: NoiseSpec, shape: tuple[int, ...] | None) -> None:
        self.spec = spec
        self.shapes = SHAPES if shape is None else (shape,)
        self.shape = self.shapes[0]

    def x(self, dtype: torch.dtype = torch.float32, rows: int = BATCH_SIZE) -> Tensor:
        """A clean batch in [0, 1]."""
        generator = Generator().manual_seed(1)
        return torch.rand((rows, *self.shape), generator=generator, dtype=dtype)

    def equal_rows(self, rows: int) -> Tensor:
        """A clean batch of equal rows."""
        return self.x()[:1].expand(rows, *self.shape).clone()

    def is_random(self) -> bool:
        """Whether the noise depends on the generator."""
        return any(not equal(self.apply(), self.apply(seed=seed)) for seed in (3, 4, 5, 6))

    def apply(self, x: Tensor | None = None, seed: int = 2) -> Tensor:
        """The corrupted batch, by a fresh copy of the noise."""
        return copy.deepcopy(self.spec)(self.x() if x is None else x, Generator().manual_seed(seed))


@NOISE_CHECKS.add("incompatibility", "None or a reason from incompatibility()", required=True)
def incompatibility(noise: NoiseFixture) -> str | None:
    """A recipe with a noise that the input does not suit is rejected before any training, with this reason.

    Failure: `no shape that it supports (takes images (channels, height, width)); pass shape=`
    Fix: return a reason for inputs that the noise does not support, and None otherwise.
    """
    reasons: list[str] = []
    for value_range in ((0.0, 1.0), None):
        for shape in noise.shapes:
            found: Any = noise.spec.incompatibility(TensorSpec(shape=shape, range=value_range))
            if found is None:
                noise.shape = shape
                return None
            if not isinstance(found, str):
                return f"{found!r}"
            reasons.append(found)
    return f"no shape that it supports ({reasons[0]}); pass shape="


@NOISE_CHECKS.add("same-shape", "the shape and dtype of the clean batch")
def same_shape(noise: NoiseFixture) -> str | None:
    """The network is built for the shape of the clean input.

    Failure: `(6, 64) torch.float32 for (6, 1, 8, 8) torch.float32`
    Fix: draw with `dtype=x.dtype` and return a tensor of the shape of `x`.
    """
    for dtype in (torch.float32, torch.float64):
        x = noise.x(dtype)
        out = noise.apply(x)
        if out.shape != x.shape or out.dtype != dtype:
            return f"{tuple(out.shape)} {out.dtype} for {tuple(x.shape)} {dtype}"
    return None


@NOISE_CHECKS.add("finite", "finite values for random, black and white inputs")
def finite(noise: NoiseFixture) -> str | None:
    """One NaN in a batch spoils the whole training.

    Failure: `NaN or infinity for zeros`
    Fix: do not divide by statistics of the batch, which may be 0.
    """
    x = noise.x()
    for name, batch in (("random values", x), ("zeros", torch.zeros_like(x)), ("ones", torch.ones_like(x))):
        if not torch.isfinite(noise.apply(batch)).all():
            return f"NaN or infinity for {name}"
    return None


@NOISE_CHECKS.add("batch-intact", "a clean batch that is left unchanged")
def batch_intact(noise: NoiseFixture) -> str | None:
    """The clean batch is the target of the reconstruction.

    Failure: `a clean batch that changed`
    Fix: use `x + ...` instead of `x.add_(...)`, and return a new tensor instead of a view of `x`.
    """
    x = noise.x()
    version = x._version
    out = noise.apply(x)
    if x._version != version or not equal(x, noise.x()):
        return "a clean batch that changed"
    out.add_(1)
    return None if equal(x, noise.x()) else "a result that shares memory with the clean batch"


@NOISE_CHECKS.add("generator", "random numbers from the given generator alone")
def generator(noise: NoiseFixture) -> str | None:
    """The recipe's seed reaches noises through the generator; the global random state belongs to the network.

    Failure: `PyTorch's global random state changed`
    Fix: pass `generator=generator` to the functions that draw; make no generator of its own.
    """
    with seeded(3):
        before = rng_states()
        first = noise.apply()
        if changed := changed_rng(before):
            return changed
    with seeded(4):
        if not equal(first, noise.apply()):
            return "different noise under another global seed"
    if not equal(first, noise.apply(seed=8)):
        return None
    # Noise that ignores the generator's seed must be deterministic: equal rows stay equal.
    out = noise.apply(noise.x()[:1].expand(BATCH_SIZE, *noise.shape).clone())
    return None if equal(out, out[:1].expand_as(out)) else "random numbers with a seed of its own"


@NOISE_CHECKS.add("generator-advances", "a generator that is never reseeded")
def generator_advances(noise: NoiseFixture) -> str | None:
    """A generator that is set to a seed gives every batch of the training the same noise.

    Failure: `a generator whose seed was set`
    Fix: do not call `generator.manual_seed`.
    """
    states: list[Tensor] = []
    for seed in (5, 6):
        given = Generator().manual_seed(seed)
        copy.deepcopy(noise.spec)(noise.x(), given)
        states.append(given.get_state())
    return "a generator whose seed was set" if torch.equal(*states) else None


@NOISE_CHECKS.add("repeatable", "the same noise from the same generator")
def repeatable(noise: NoiseFixture) -> str | None:
    """A resumed training restores the generator, but nothing that a noise keeps to itself.

    Failure: `different noise after an earlier call`
    Fix: keep no counters or caches on the spec or its class.
    """
    spec = copy.deepcopy(noise.spec)
    outputs = [spec(noise.x(), Generator().manual_seed(seed)) for seed in (2, 7, 2)]
    return None if equal(outputs[0], outputs[2]) else "different noise after an earlier call"


@NOISE_CHECKS.add("row-draws", "random numbers of its own for every row")
def row_draws(noise: NoiseFixture) -> str | None:
    """With one draw for a whole batch, the noise of a sample depends on the batch that it is in.

    Failure: `the same random numbers for every row`
    Fix: draw with the shape of the batch, `len(x)` included.
    """
    if not noise.is_random():
        return None
    outputs = [noise.apply(noise.equal_rows(32), seed=seed) for seed in range(2, 8)]
    same = all(rows_differ({"rows": o}, {"rows": o[:1].expand_as(o)}) is None for o in outputs)
    return "the same random numbers for every row" if same else None


@NOISE_CHECKS.add("every-row", "noise of the same size on every row of a batch of any size")
def every_row(noise: NoiseFixture) -> str | None:
    """Batches have any number of rows, and each is corrupted alike.

    Failure: `a mean change of 0.1 in the first 64 rows, and of 0 in the others`
    Fix: take the number of rows from the batch.
    """
    for rows in (1, 2, 3, 65):
        x = noise.x(rows=rows)
        if noise.apply(x).shape != x.shape:
            return f"{len(noise.apply(x))} rows for {rows}"
    x = noise.x(rows=MANY)
    if not noise.is_random():
        whole = noise.apply(x)
        parts = torch.cat([noise.apply(x[row : row + 1]) for row in range(MANY)])
        same = rows_differ({"rows": whole}, {"rows": parts}) is None
        return None if same else f"another result for rows alone than among {MANY}"
    x = noise.equal_rows(MANY)
    change = torch.stack([(noise.apply(x, seed) - x).abs().flatten(1).mean(1) for seed in range(2, 12)])
    blocks = [change[:, a:b].mean() for a, b in ((0, 64), (64, 128), (128, MANY))]
    least, most = float(min(blocks)), float(max(blocks))
    if most > 3 * least:
        return f"a mean change of {least:.4g} to {most:.4g} in different rows"
    for rows in (1, 2):
        few = x[:rows]
        alone = torch.stack([(noise.apply(few, seed) - few).abs().mean() for seed in range(2, 102)]).mean()
        if float(alone) > 3 * most or float(alone) * 3 < least:
            text = f"a mean change of {float(alone):.4g} in a batch of {rows} rows"
            return f"{text}, and of {most:.4g} in one of {MANY}"
    return None


@NOISE_CHECKS.add("odd-rows", "finite values with blank, saturated and broken rows")
def odd_rows(noise: NoiseFixture) -> str | None:
    """One blank image in a batch is ordinary, and a broken one must not spoil the others.

    Failure: `NaN or infinity with a row of zeros`
    Fix: do not divide by statistics of a row or of the batch, which may be 0.
    """
    for name, value in (("zeros", 0.0), ("ones", 1.0), ("equal values", 0.5), ("large values", 1e4)):
        x = noise.x()
        x[1] = value
        if not torch.isfinite(noise.apply(x)).all():
            return f"NaN or infinity with a row of {name}"
    broken = noise.x()
    broken[1] = float("nan")
    try:
        others = noise.apply(broken)[[0, 2, 3, 4, 5]]
    except Exception:
        # Refusing NaN with an error is fine.
        return None
    return None if torch.isfinite(others).all() else "NaN or infinity in other rows than one that is NaN"


@NOISE_CHECKS.add("layout", "the same noise for a batch whose memory is not contiguous")
def layout(noise: NoiseFixture) -> str | None:
    """Transposed, sliced and expanded tensors are ordinary inputs.

    Failure: `RuntimeError: view size is not compatible with input tensor's size and stride`
    Fix: use `reshape` or `flatten` instead of `view`.
    """
    x = noise.x()
    turned = x.movedim(0, -1).contiguous().movedim(-1, 0)
    same = rows_differ({"rows": noise.apply(x)}, {"rows": noise.apply(turned)}) is None
    return None if same else "different noise"


@NOISE_CHECKS.add("independent", "noises that do not affect one another")
def independent(noise: NoiseFixture) -> str | None:
    """Several trainings run in one process.

    Failure: `different noise after another noise was used`
    Fix: keep nothing on the class or in the module's globals.
    """
    first = noise.apply()
    other = copy.deepcopy(noise.spec)
    for seed in range(20, 24):
        other(noise.x(rows=9), Generator().manual_seed(seed))
    return None if equal(first, noise.apply()) else "different noise after another noise was used"


@NOISE_CHECKS.add("clock", "noise that does not depend on the clock")
def clock(noise: NoiseFixture) -> str | None:
    """The same spec, seed and batch give the same noise on every day and at every hour.

    Failure: `different noise on another day`
    Fix: depend on neither `time` nor `datetime`.
    """
    first = noise.apply()
    with another_day(type(noise.spec)):
        second = noise.apply()
    return None if equal(first, second) else "different noise on another day"
