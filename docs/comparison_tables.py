"""The comparisons of docs/zoo.md, and published figures to compare the variants with."""

from dataclasses import dataclass

TUTORIAL = {
    "linear-32": ("mse", 0.01253),
    "fc-16": ("mse", 0.0203),
    "fc-64": ("mse", 0.00522),
    "conv-fc": ("mse", 0.00502),
    "deep-64": ("mse", 0.00474),
    "deep-2": ("mse", 0.0366),
    "sparse-topk16": ("mse", 0.01328),
    "sparse-topk5": ("mse", 0.02329),
    "sparse-kl-weak": ("mse", 0.00514),
    "sparse-kl-strong": ("mse", 0.00985),
    "sparse-lifetime25": ("mse", 0.01200),
    "sparse-lifetime5": ("mse", 0.02377),
    "denoise-gaussian": ("denoised_mse", 0.01009),
    "denoise-mask": ("denoised_mse", 0.01109),
    "denoise-32": ("denoised_mse", 0.0152),
    "pca-32": ("mse", 0.01683),
}
"""Variant -> (metric, test-set value that the tutorials' own recipe reaches).

The learning-rate schedules of the tutorials monitor the test set.
"""
PCA_64 = {"fashion_mnist": 0.01037}
"""Dataset -> test MSE of principal component analysis with 64 components."""


@dataclass(frozen=True)
class Comparison:
    """A table that compares variants with one another.

    Attributes:
        title: the heading.
        text: a description of the metrics.
        variants: the rows.
        metrics: the columns.
        mean: whether a last row has the means.
    """

    title: str
    text: str
    variants: tuple[str, ...]
    metrics: tuple[str, ...]
    mean: bool = False


COMPARISONS = (
    Comparison(
        "Principal components and linear autoencoders",
        "`principal_angle` is the largest angle, in degrees, between the span of the decoder's weights and "
        "the span of the principal components (`--protocol subspace`).",
        ("pca-32", "linear-pca-32", "linear-32"),
        ("mse", "fvu", "principal_angle", "dead_latents"),
    ),
    Comparison(
        "Sparse codes",
        "`active_latents` is the mean number of latents above 1 % of the largest value that each has on the "
        "training split (`--protocol activity`). `hoyer` is 0 if all latents have the same magnitude and 1 "
        "if only one is non-zero. `atom_area` is the share of the image that an atom covers. The lifetime "
        "variants are sparse during training only.",
        (
            "fc-64", "sparse-topk16", "sparse-topk5", "sparse-l1", "sparse-kl-weak", "sparse-kl-strong",
            "sparse-lifetime25", "sparse-lifetime5", "deep-sparse", "deep-sparse-joint", "overcomplete-plain",
            "overcomplete-topk",
        ),
        ("mse", "l0", "active_latents", "dead_latents", "hoyer", "atom_area"),
    ),
    Comparison(
        "Denoising",
        "Mean squared errors per pixel: `denoised_mse` between the reconstruction of the noisy input and "
        "the clean image, `noisy_input_mse` between the noisy input and the clean image (the error without "
        "a denoiser), `noisy_target_mse` between the reconstruction and its noisy input, and `mse` for "
        "inputs without noise. `gaussian.denoised_mse` is for Gaussian noise of variance 0.1, on which only "
        "`denoise-gaussian` was trained (`--protocol noise`).",
        ("denoise-gaussian", "denoise-mask", "denoise-32", "fc-64", "overcomplete-plain"),
        ("denoised_mse", "noisy_input_mse", "noisy_target_mse", "mse", "gaussian.denoised_mse"),
    ),
    Comparison(
        "Downsampling and upsampling",
        "Four decoders for the same 4 x 7 x 7 latents, with the same number of parameters and the same "
        "recipe. `checkerboard` is the power of the error at the sampling frequency divided by its mean "
        "power. The decoder of `conv-unpool-max` also receives the positions of the maxima from its "
        "encoder, so the 196 latents are not its only input.",
        ("conv-strided", "conv-unpool-nearest", "conv-upsample", "conv-unpool-max"),
        ("mse", "fvu", "checkerboard", "train_seconds"),
    ),
    Comparison(
        "Variational autoencoders",
        "In nats. `elbo` is `log_likelihood` - `kl`, with beta = 1 for every variant. The likelihood of "
        "`vae-bce` is a Bernoulli distribution, that of the others a normal distribution of variance 1/2, so "
        "their values cannot be compared.",
        ("vae-16", "beta-vae", "vae-2", "vae-bce", "vae-16.fashion"),
        ("elbo", "log_likelihood", "kl", "mse"),
    ),
    Comparison(
        "Stability of the latents",
        "`latent_change` is the change of the latents under Gaussian input noise of standard deviation 0.1, "
        "relative to their spread over the samples (`--protocol stability`).",
        ("contractive", "fc-64", "sparse-kl-strong", "denoise-gaussian", "vae-16"),
        ("latent_change", "mse"),
    ),
    Comparison(
        "Anomaly detection",
        "Each variant was trained on one digit. `auroc` is the area under the ROC curve when its "
        "reconstruction error separates that digit from the other nine, on the whole test set (`--protocol "
        "one-class`); `auroc.pca` is the same for 32 principal components of the digit; `mse` is the error "
        "on the digit itself.",
        tuple(f"anomaly-{digit}" for digit in range(10)),
        ("auroc", "auroc.pca", "mse"),
        mean=True,
    ),
    Comparison(
        "Classification with few labels",
        "Accuracy after fine-tuning on 100 and 1,000 balanced labels, mean and standard deviation over "
        "ten draws, starting from the variant's weights and from random weights (`scratch`) (`--protocol "
        "few-label`).",
        ("fc-64", "denoise-gaussian", "conv-fc", "vae-16"),
        (
            "few_label.100", "few_label.100.std", "few_label.100.scratch", "few_label.100.scratch.std",
            "few_label.1000", "few_label.1000.std", "few_label.1000.scratch", "few_label.1000.scratch.std",
        ),
    ),
    Comparison(
        "Swiss roll and colorization",
        "`rank_correlation` is the rank correlation between the better latent and the position along the "
        "roll; `rank_correlation.pca` is the same for the better principal component (`--protocol "
        "unrolling`). The noisy input of `colorize` is the gray patch.",
        ("swissroll-2", "colorize"),
        (
            "mse", "fvu", "rank_correlation", "rank_correlation.pca", "denoised_mse", "noisy_input_mse",
        ),
    ),
)  # fmt: skip
