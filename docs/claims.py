"""Claims of the tutorials that inspired some variants, each with the rule and the numbers that test it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import comb
from typing import NamedTuple

MARGIN = 0.1
"""Relative difference below which two measurements alone do not decide a comparison."""
SIGNIFICANCE = 0.05
"""Largest p value of a sign test over seeds that decides a comparison."""
Lookup = Callable[[str, str], float | None]
"""(variant, metric) -> value; None if it was not measured."""
SeedLookup = Callable[[str, str], dict[str, float]]
"""(variant, metric) -> value for each seed; empty if no seeds were measured."""


class Cell(NamedTuple):
    """A measured number."""

    variant: str
    metric: str


class Quotient(NamedTuple):
    """One measured number divided by another."""

    numerator: Cell
    denominator: Cell


Quantity = Cell | Quotient | float
"""A measured number, a quotient of two, or a constant."""


class Comparison(NamedTuple):
    """A quantity that should be smaller than another."""

    smaller: Quantity
    larger: Quantity


@dataclass(frozen=True)
class Claim:
    """A claim of the tutorials.

    Attributes:
        text: the claim.
        rule: what must be true of the numbers, in words.
        comparisons: the same as comparisons of numbers; every number of the claim's table is in one of them.
        commands: what measures the numbers.
        remark: how to read the numbers.
        rows: variants in the order of the table; by default that of the comparisons.
    """

    text: str
    rule: str
    comparisons: tuple[Comparison, ...]
    commands: tuple[str, ...]
    remark: str = ""
    rows: tuple[str, ...] = ()

    @property
    def variants(self) -> tuple[str, ...]:
        """The rows of the table."""
        return self.rows or tuple(dict.fromkeys(cell.variant for cell in self.cells))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The columns of the table."""
        return tuple(dict.fromkeys(cell.metric for cell in self.cells))

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every measured number, in the order of the comparisons."""
        found: list[Cell] = []
        for side in (side for comparison in self.comparisons for side in comparison):
            found += [side] if isinstance(side, Cell) else side if isinstance(side, Quotient) else []
        return tuple(dict.fromkeys(found))


def decide(comparison: Comparison, value: Lookup, seeds: SeedLookup) -> bool | None:
    """Returns whether a comparison holds; None if the difference is too small to tell.

    Raises:
        ValueError: a number was not measured.
    """
    smaller, larger = (_value(side, value) for side in comparison)
    constant = isinstance(comparison.smaller, int | float) or isinstance(comparison.larger, int | float)
    if constant or abs(larger - smaller) > MARGIN * max(abs(smaller), abs(larger)):
        return smaller < larger
    if not (isinstance(comparison.smaller, Cell) and isinstance(comparison.larger, Cell)):
        return None
    first, second = seeds(*comparison.smaller), seeds(*comparison.larger)
    pairs = [(first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())]
    wins, losses = sum(a < b for a, b in pairs), sum(a > b for a, b in pairs)
    if sign_test(max(wins, losses), wins + losses) > SIGNIFICANCE:
        return None
    return wins > losses


def sign_test(successes: int, trials: int) -> float:
    """The one-sided p value of a sign test: so many successes or more in trials of probability 1/2."""
    return sum(comb(trials, n) for n in range(successes, trials + 1)) / 2**trials


def verdict(claim: Claim, value: Lookup, seeds: SeedLookup) -> str:
    """Whether a claim holds, as a sentence."""
    results = [decide(comparison, value, seeds) for comparison in claim.comparisons]
    held, open_ = results.count(True), results.count(None)
    if held == len(results):
        return "Holds."
    counts = f"{held} of {len(results)} comparisons hold"
    if open_:
        counts += f", {open_} {'is' if open_ == 1 else 'are'} undecided"
    if not held and not open_:
        return "Does not hold."
    return f"Undecided: {counts}." if held + open_ == len(results) else f"Does not hold throughout: {counts}."


def _value(side: Quantity, value: Lookup) -> float:
    if isinstance(side, Quotient):
        return _value(side.numerator, value) / _value(side.denominator, value)
    found = value(*side) if isinstance(side, Cell) else side
    if found is None:
        raise ValueError(f"{side} was not measured")
    return found


def falls(metric: str, *variants: str) -> tuple[Comparison, ...]:
    """A metric is smaller for each variant than for the one before."""
    return tuple(
        Comparison(Cell(after, metric), Cell(before, metric)) for before, after in pairwise(variants)
    )


def rises(metric: str, *variants: str) -> tuple[Comparison, ...]:
    """A metric is larger for each variant than for the one before."""
    return falls(metric, *reversed(variants))


def each(
    chains: Iterable[tuple[str, ...]], rule: Callable[..., tuple[Comparison, ...]], metric: str
) -> tuple[Comparison, ...]:
    """The comparisons of several sequences of variants, each once."""
    return tuple(dict.fromkeys(comparison for chain in chains for comparison in rule(metric, *chain)))


def _train(experiment: str) -> str:
    return f"aezoo train docs/experiments/{experiment}/spec.yaml"


EVALUATE = "aezoo evaluate NAME"
STRONGER = {
    "top-k": ("fc-64", "sparse-topk16", "sparse-topk5"),
    "lifetime": ("fc-64", "sparse-lifetime25", "sparse-lifetime5"),
    "KL": ("fc-64", "sparse-kl-weak", "sparse-kl-strong"),
}
"""Sparsity method -> variants without, with a weak and with a strong constraint."""
ENCODERS = ("fc-64", "deep-64", "denoise-gaussian", "vae-16", "deep-2", "pca-32")
DENOISED, NOISY = "gaussian.denoised_mse", Cell("fc-64", "gaussian.noisy_input_mse")

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "Stronger sparsity penalties leave fewer active latents.",
        "For every method, from no sparsity over weak to strong sparsity, `active_latents` falls and `hoyer` "
        "rises.",
        tuple(
            comparison
            for rule, metric in ((falls, "active_latents"), (rises, "hoyer"))
            for comparison in each((*STRONGER.values(), ("fc-64", "sparse-l1")), rule, metric)
        ),
        (EVALUATE, f"{EVALUATE} --protocol activity"),
        "All have 64 latents. A sigmoid is never exactly 0, so few latents of the KL variants are below "
        "1 % of their largest value; Hoyer's sparseness separates these variants.",
        tuple(dict.fromkeys([*(name for chain in STRONGER.values() for name in chain), "sparse-l1"])),
    ),
    *(
        Claim(
            f"Stronger {method} sparsity leaves more global atoms.",
            "From no sparsity over weak to strong sparsity, `atom_area` rises.",
            rises("atom_area", *chain),
            (EVALUATE,),
            "`atom_area` is the participation ratio of an atom's squared weights over the pixels.",
            chain,
        )
        for method, chain in STRONGER.items()
    ),
    Claim(
        "Unconstrained codes are dense, and their values similar in size.",
        "`fc-64` has more than 60 active latents, and less than half the `hoyer` sparseness of the others.",
        (
            Comparison(60, Cell("fc-64", "active_latents")),
            *(
                Comparison(Quotient(Cell("fc-64", "hoyer"), Cell(name, "hoyer")), 0.5)
                for name in ("sparse-topk16", "sparse-topk5", "sparse-lifetime25", "sparse-lifetime5")
            ),
        ),
        (EVALUATE, f"{EVALUATE} --protocol activity"),
        "All have 64 latents. The Hoyer sparseness of normally distributed latents would be about 0.23.",
    ),
    Claim(
        "Greedy layer-wise training helps sparse deep networks.",
        "With greedy training, `dead_latents` and `mse` are smaller.",
        (
            *falls("dead_latents", "deep-sparse-joint", "deep-sparse"),
            *falls("mse", "deep-sparse-joint", "deep-sparse"),
        ),
        (EVALUATE, "python docs/experiments/seeds.py deep-sparse deep-sparse-joint"),
        "Both have the same network, k and number of epochs. The greedy recipe also ties weights before it "
        "fine-tunes.",
    ),
    Claim(
        "Latents after a ReLU die.",
        "With a ReLU, more latents die, and `mse` is larger, than with a leaky ReLU or with a warm-up and "
        "resampling.",
        tuple(
            comparison
            for metric in ("dead_latents", "mse")
            for comparison in each(
                [("linear-32-plain", name) for name in ("linear-32-leaky", "linear-32")], falls, metric
            )
        ),
        ("aezoo evaluate linear-32", _train("linear-32-plain"), _train("linear-32-leaky")),
        "All have 32 latents. `linear-32` itself uses a learning-rate warm-up and resamples dead latents.",
        ("linear-32-plain", "linear-32-leaky", "linear-32"),
    ),
    Claim(
        "A high learning rate hurts lifetime sparsity.",
        "At ten times the learning rate, `mse` is larger.",
        rises("mse", "sparse-lifetime5", "sparse-lifetime5-fast"),
        (_train("sparse-lifetime5-fast"),),
    ),
    Claim(
        "A high learning rate hurts lifetime sparsity more than other training.",
        "At ten times the learning rate, `mse` grows by a larger factor with lifetime sparsity than without.",
        (
            Comparison(
                Quotient(Cell("fc-64-fast", "mse"), Cell("fc-64", "mse")),
                Quotient(Cell("sparse-lifetime5-fast", "mse"), Cell("sparse-lifetime5", "mse")),
            ),
        ),
        (_train("sparse-lifetime5-fast"), _train("fc-64-fast")),
        rows=("sparse-lifetime5", "sparse-lifetime5-fast", "fc-64", "fc-64-fast"),
    ),
    Claim(
        "A linear autoencoder finds the subspace of the principal components.",
        "`principal_angle` is below 5 degrees, and `mse` less than 1 % above that of PCA.",
        (
            Comparison(Cell("linear-pca-32", "principal_angle"), 5),
            Comparison(Quotient(Cell("linear-pca-32", "mse"), Cell("pca-32", "mse")), 1.01),
        ),
        ("aezoo evaluate linear-pca-32 --protocol subspace",),
        "`principal_angle` is the largest of 32 principal angles, in degrees.",
    ),
    Claim(
        "Codes separate the classes.",
        "`probe_accuracy` is above the accuracy on the 784 pixels.",
        tuple(
            Comparison(Cell("fc-64", "probe_accuracy.input"), Cell(name, "probe_accuracy"))
            for name in ENCODERS
        ),
        (f"{EVALUATE} --protocol probe",),
        "Accuracy of logistic regression on the latents of 10,000 training samples; "
        "`probe_accuracy.input` is its accuracy on the pixels.",
    ),
    Claim(
        "A bottleneck removes noise.",
        "The narrower the code, the smaller `gaussian.denoised_mse`; all are below the error of the noisy "
        "input.",
        (
            *falls(DENOISED, "overcomplete-plain", "fc-64", "fc-16"),
            *(
                Comparison(Cell(name, DENOISED), NOISY)
                for name in ("overcomplete-plain", "fc-64", "fc-16", "denoise-gaussian")
            ),
        ),
        (f"{EVALUATE} --protocol noise",),
        "Gaussian noise of variance 0.1, on which only `denoise-gaussian` was trained.",
        ("overcomplete-plain", "fc-64", "fc-16", "denoise-gaussian"),
    ),
)
