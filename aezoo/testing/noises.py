"""Contract checks of input corruptions."""

import copy
from typing import Any

import torch
from torch import Generator, Tensor

from aezoo.specs.components import NoiseSpec
from aezoo.specs.tensor import TensorSpec
from aezoo.testing.contract import CheckList, Report
from aezoo.testing.determinism import changed_rng, equal, rng_states, seeded
from aezoo.testing.specs import run_checks

BATCH_SIZE = 6
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

    def x(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """A clean batch in [0, 1]."""
        generator = Generator().manual_seed(1)
        return torch.rand((BATCH_SIZE, *self.shape), generator=generator, dtype=dtype)

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
    out = noise.apply(x)
    if not equal(x, noise.x()):
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
