"""Claims of the tutorials that inspired some variants, each with the measurements that test it."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

Lookup = Callable[[str, str], float]
"""(variant, metric) -> value."""
Cells = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Claim:
    """A claim of the tutorials.

    Attributes:
        text: the claim.
        commands: what measures the numbers.
        cells: (variant, metric) of each number.
        holds: whether the numbers agree with the claim.
        remark: how to read the numbers.
    """

    text: str
    commands: tuple[str, ...]
    cells: Cells
    holds: Callable[[Lookup], bool]
    remark: str = ""


def _train(experiment: str) -> str:
    return f"aezoo train docs/experiments/{experiment}/spec.yaml"


EVALUATE = "aezoo evaluate NAME"
WEAK_AND_STRONG = {
    "top-k": ("sparse-topk16", "sparse-topk5"),
    "lifetime": ("sparse-lifetime25", "sparse-lifetime5"),
    "KL": ("sparse-kl-weak", "sparse-kl-strong"),
}
"""Sparsity method -> a variant with a weak and one with a strong constraint."""

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "Stronger sparsity penalties leave fewer active latents.",
        (EVALUATE, f"{EVALUATE} --protocol activity"),
        tuple(
            product(
                (
                    "fc-64", "sparse-kl-weak", "sparse-kl-strong", "sparse-l1", "sparse-topk16",
                    "sparse-topk5", "sparse-lifetime25", "sparse-lifetime5",
                ),
                ("active_latents", "hoyer"),
            )
        ),
        lambda n: all(
            n(strong, "active_latents") < n(weak, "active_latents") and n(strong, "hoyer") > n(weak, "hoyer")
            for weak, strong in (*WEAK_AND_STRONG.values(), ("fc-64", "sparse-l1"))
        ),
        "All have 64 latents. A sigmoid is never exactly 0, so few latents of the KL variants are below "
        "1 % of their largest value; Hoyer's sparseness still separates these variants.",
    ),
    *(
        Claim(
            f"Stronger {method} sparsity leaves more global atoms.",
            (EVALUATE,),
            (("fc-64", "atom_area"), (weak, "atom_area"), (strong, "atom_area")),
            lambda n, weak=weak, strong=strong: n(strong, "atom_area") > n(weak, "atom_area"),
            "`atom_area` is the participation ratio of an atom's squared weights over the pixels.",
        )
        for method, (weak, strong) in WEAK_AND_STRONG.items()
    ),
    Claim(
        "Unconstrained codes are dense, and their values similar in size.",
        (EVALUATE, f"{EVALUATE} --protocol activity"),
        (
            ("fc-64", "active_latents"), ("fc-64", "hoyer"), ("sparse-topk16", "hoyer"),
            ("sparse-lifetime5", "hoyer"),
        ),
        lambda n: (
            n("fc-64", "active_latents") > 60 and n("fc-64", "hoyer") < 0.5 * n("sparse-topk16", "hoyer")
        ),
        "All have 64 latents. The Hoyer sparseness of normally distributed latents would be about 0.23.",
    ),
    Claim(
        "Greedy layer-wise training helps sparse deep networks.",
        (EVALUATE,),
        tuple(product(("deep-sparse", "deep-sparse-joint"), ("dead_latents", "mse"))),
        lambda n: (
            n("deep-sparse", "dead_latents") <= n("deep-sparse-joint", "dead_latents")
            and n("deep-sparse", "mse") < n("deep-sparse-joint", "mse")
        ),
        "Both have the same network, k and number of epochs. The greedy recipe also ties weights before it "
        "fine-tunes.",
    ),
    Claim(
        "Latents after a ReLU die.",
        ("aezoo evaluate linear-32", _train("linear-32-plain"), _train("linear-32-leaky")),
        tuple(product(("linear-32-plain", "linear-32-leaky", "linear-32"), ("dead_latents", "mse"))),
        lambda n: n("linear-32-plain", "dead_latents") > n("linear-32-leaky", "dead_latents"),
        "All have 32 latents. `linear-32` itself uses a learning-rate warm-up and resamples dead latents.",
    ),
    Claim(
        "A high learning rate hurts lifetime sparsity.",
        (_train("sparse-lifetime5-fast"), _train("fc-64-fast")),
        tuple((name, "mse") for name in ("sparse-lifetime5", "sparse-lifetime5-fast", "fc-64", "fc-64-fast")),
        lambda n: n("sparse-lifetime5-fast", "mse") > 1.05 * n("sparse-lifetime5", "mse"),
        "The learning rates are ten times those of the variants. `fc-64` shows the effect without sparsity.",
    ),
    Claim(
        "A linear autoencoder finds the subspace of the principal components.",
        ("aezoo evaluate linear-pca-32 --protocol subspace",),
        (("linear-pca-32", "principal_angle"), ("linear-pca-32", "mse"), ("pca-32", "mse")),
        lambda n: n("linear-pca-32", "principal_angle") < 5,
        "`principal_angle` is the largest of 32 principal angles, in degrees.",
    ),
    Claim(
        "Codes separate the classes.",
        (f"{EVALUATE} --protocol probe",),
        (
            ("fc-64", "probe_accuracy.input"),
            *((name, "probe_accuracy")
              for name in ("fc-64", "deep-64", "denoise-gaussian", "vae-16", "deep-2", "pca-32")),
        ),
        lambda n: n("fc-64", "probe_accuracy") > n("fc-64", "probe_accuracy.input"),
        "Accuracy of logistic regression on the latents of 10,000 training samples; "
        "`probe_accuracy.input` is its accuracy on the 784 pixels.",
    ),
    Claim(
        "A bottleneck removes noise.",
        (f"{EVALUATE} --protocol noise",),
        (
            ("fc-64", "gaussian.noisy_input_mse"),
            *((name, "gaussian.denoised_mse")
              for name in ("fc-64", "fc-16", "overcomplete-plain", "denoise-gaussian")),
        ),
        lambda n: (
            n("fc-64", "gaussian.denoised_mse") < n("fc-64", "gaussian.noisy_input_mse")
            and n("overcomplete-plain", "gaussian.denoised_mse") > n("fc-64", "gaussian.denoised_mse")
        ),
        "Gaussian noise of variance 0.1, on which only `denoise-gaussian` was trained.",
    ),
)  # fmt: skip
