"""Writes docs/zoo.md, docs/claims.md and docs/plugin_zoo.md from the folders, docs/metrics.md from the code.

Run it by `python docs/generate.py`. No number stands in this file but those of others that ours are compared
with.
"""

import inspect
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
ZOO = HERE.parent / "zoo"
EXPERIMENTS = HERE / "experiments"
PLUGINS = HERE.parent / "plugins"

# -- reading folders ----------------------------------------------------------------------------------


@cache
def read(name: str, file: str) -> Any:
    """A JSON file of a variant, or of an experiment."""
    return json.loads((folder_of(name) / file).read_text("utf-8"))


@cache
def folder_of(name: str) -> Path:
    """Where a variant or an experiment lies, aezoo's own or a plugin's."""
    roots = [ZOO, EXPERIMENTS, *PLUGINS.glob("*/*/zoo"), *PLUGINS.glob("*/experiments")]
    return next(root / name for root in roots if (root / name / "metrics.json").is_file())


@cache
def index() -> dict[str, Any]:
    """Every variant's entry."""
    return json.loads((ZOO / "index.json").read_text("utf-8"))["variants"]


def number(name: str, metric: str) -> float | None:
    """A measured number; None where it was not measured."""
    entry = read(name, "metrics.json").get(metric)
    return None if entry is None else entry["value"]


def abbreviate(value: float | None) -> str:
    """A number as it is printed."""
    if value is None:
        return ""
    if value == int(value) and abs(value) >= 1:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; columns in which nothing stands are left out."""
    kept = [i for i in range(len(head)) if i == 0 or any(row[i] for row in rows)]
    lines = [[head[i] for i in kept], ["---"] * len(kept), *([row[i] for i in kept] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


# -- the zoo ------------------------------------------------------------------------------------------

# What the tutorials' own recipes, whose schedules watched the test set, came to there: (metric, value).
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
YARDSTICK = {"fashion_mnist": 0.01037, "mnist": 0.00905}
"""Test MSE of PCA with 64 components."""


@dataclass(frozen=True)
class Section:
    """Variants that are compared with one another.

    Attributes:
        title: the heading.
        text: what the table shows.
        variants: its rows.
        metrics: its columns.
    """

    title: str
    text: str
    variants: tuple[str, ...]
    metrics: tuple[str, ...]


ANOMALY = tuple(f"anomaly-{digit}" for digit in range(10))
SECTIONS = (
    Section(
        "Principal components, and a network that finds them",
        "`principal_angle` is the largest angle, in degrees, between the span of the decoder's weights and "
        "that of the principal components (`--protocol subspace`).",
        ("pca-32", "linear-pca-32", "linear-32"),
        ("mse", "fvu", "principal_angle", "dead_latents"),
    ),
    Section(
        "Sparse codes",
        "`active_latents` counts latents above 1 % of the largest value that each had in training "
        "(`--protocol activity`); `hoyer` is 0 for latents of one size and 1 for a single one; `atom_area` "
        "is the share of the image that an atom covers. The lifetime variants are sparse in training only.",
        (
            "fc-64", "sparse-topk16", "sparse-topk5", "sparse-l1", "sparse-kl-weak", "sparse-kl-strong",
            "sparse-lifetime25", "sparse-lifetime5", "deep-sparse", "deep-sparse-joint", "overcomplete-plain",
            "overcomplete-topk",
        ),
        ("mse", "l0", "active_latents", "dead_latents", "hoyer", "atom_area"),
    ),
    Section(
        "Denoisers",
        "`denoised_mse` is from the noisy input to the clean image; `noisy_input_mse` is what doing nothing "
        "costs, `noisy_target_mse` how far the output lies from its noisy input, and `mse` what becomes of "
        "an input without noise. `gaussian.denoised_mse` is for Gaussian noise of variance 0.1, which all "
        "but one were not trained on (`--protocol noise`).",
        ("denoise-gaussian", "denoise-mask", "denoise-32", "fc-64", "overcomplete-plain"),
        ("denoised_mse", "noisy_input_mse", "noisy_target_mse", "mse", "gaussian.denoised_mse"),
    ),
    Section(
        "Down and up again",
        "Four ways up from the same 4 x 7 x 7 latents, at the same number of parameters and by the same "
        "recipe. `checkerboard` is the error's power at the sampling frequency over its mean power. "
        "`conv-unpool-max` is told by its encoder where each maximum lay, so that its 196 latents are not "
        "all that it decodes.",
        ("conv-strided", "conv-unpool-nearest", "conv-upsample", "conv-unpool-max"),
        ("mse", "fvu", "checkerboard", "train_seconds"),
    ),
    Section(
        "Variational",
        "In nats. `elbo` = `log_likelihood` - `kl`, with beta 1 whatever the recipe weighs it by. vae-bce's "
        "likelihood is a Bernoulli one, the others' a normal one of variance 1/2, so the two do not compare.",
        ("vae-16", "beta-vae", "vae-2", "vae-bce", "vae-16.fashion"),
        ("elbo", "log_likelihood", "kl", "mse"),
    ),
    Section(
        "Latents that hold still",
        "`latent_change` is the change of the latents under Gaussian input noise of standard deviation 0.1, "
        "over their spread (`--protocol stability`).",
        ("contractive", "fc-64", "sparse-kl-strong", "denoise-gaussian", "vae-16"),
        ("latent_change", "mse"),
    ),
    Section(
        "Anomalies",
        "Each network saw one digit; `auroc` is how well its reconstruction error tells the other nine from "
        "it on the whole test set (`--protocol one-class`), `auroc.pca` what 32 principal components of the "
        "same digit do, and `mse` the error on the digit itself.",
        ANOMALY,
        ("auroc", "auroc.pca", "mse"),
    ),
    Section(
        "Few labels",
        "Accuracy after fine-tuning with 100 and 1,000 balanced labels, mean and standard deviation over "
        "ten draws, from the variant's weights and from random ones (`--protocol few-label`).",
        ("fc-64", "denoise-gaussian", "conv-fc", "vae-16"),
        (
            "few_label.100", "few_label.100.std", "few_label.100.scratch", "few_label.100.scratch.std",
            "few_label.1000", "few_label.1000.std", "few_label.1000.scratch", "few_label.1000.scratch.std",
        ),
    ),
    Section(
        "A rolled-up sheet, and colour",
        "`rank_correlation` is between the better latent and the place along the roll, beside the best "
        "principal component's (`--protocol unrolling`). For `colorize`, the noisy input is the gray patch.",
        ("swissroll-2", "colorize"),
        (
            "mse", "fvu", "rank_correlation", "rank_correlation.pca", "denoised_mse", "noisy_input_mse",
        ),
    ),
)  # fmt: skip


def zoo_page() -> str:
    """docs/zoo.md."""
    head = [
        "variant", "what", "dataset", "parameters", "latents", "MSE per pixel", "SSE per image", "FVU", "L0",
        "dead latents", "epochs", "seconds", "to compare",
    ]  # fmt: skip
    rows: list[list[str]] = []
    for name, entry in index().items():
        record = read(name, "training.json")
        stages = [record_ for record_ in record["history"] if record_["round"] == "choose"]
        latents = 1
        for size in entry["latents"]:
            latents *= size
        measured = [
            abbreviate(number(name, metric)) for metric in ("mse", "sse", "fvu", "l0", "dead_latents")
        ]
        rows.append([
            f"[`{name}`](../zoo/{name}/spec.yaml)", entry["summary"], entry["dataset"],
            f"{entry['parameters']:,}", f"{latents:,}", *measured, str(len(stages)),
            abbreviate(number(name, "train_seconds")), compared(name),
        ])  # fmt: skip
    parts = [
        "# The zoo",
        "Written by `python docs/generate.py` from the folders under `zoo/`; a test holds it current. Every "
        "number is of the test split, measured once, after everything had been chosen on the validation "
        "split; `aezoo evaluate NAME` computes it again, and each folder's `metrics.json` defines it. "
        "Errors are from the input without noise. Epochs are those of the round that chooses: a recipe with "
        "`refit` then trains as many again. Seconds are of both, on one thread of a shared machine. The "
        "last column has the figure that the tutorials' own recipes reach on the test set (their schedules "
        "watched it) or, for Fashion-MNIST, that of PCA with 64 components.",
        table(head, rows),
    ]
    for section in SECTIONS:
        columns = [m for m in section.metrics if any(number(v, m) is not None for v in section.variants)]
        body = [
            [f"`{variant}`", *(abbreviate(number(variant, metric)) for metric in columns)]
            for variant in section.variants
        ]
        if section.variants == ANOMALY:
            body.append(["mean", *(abbreviate(mean(section.variants, metric)) for metric in columns)])
        head = ["variant", *(f"`{column}`" for column in columns)]
        parts += [f"## {section.title}", section.text, table(head, body)]
    return "\n\n".join(parts) + "\n"


def mean(names: tuple[str, ...], metric: str) -> float:
    """The mean of a metric over variants."""
    values = [value for name in names if (value := number(name, metric)) is not None]
    return sum(values) / len(names) if len(values) == len(names) else float("nan")


def compared(name: str) -> str:
    """The figure to compare, and whether it was reached."""
    if name in TUTORIAL:
        metric, value = TUTORIAL[name]
        source = "tutorial" if name != "pca-32" else "PCA"
    elif name.endswith(".fashion"):
        metric, value, source = "mse", YARDSTICK["fashion_mnist"], "PCA-64"
    else:
        return ""
    own = number(name, metric)
    assert own is not None
    what = "" if metric == "mse" else f"`{metric}` {abbreviate(own)}; "
    # To the digits that are known of the other.
    digits = len(f"{value:.5f}".rstrip("0").partition(".")[2])
    verdict = "reached" if round(own, digits) <= value else f"missed by {own / value - 1:.1%}"
    return f"{what}{source} {value:g}: {verdict}"


# -- the claims ---------------------------------------------------------------------------------------

Lookup = Callable[[str, str], float]


@dataclass(frozen=True)
class Registration:
    """Something that the tutorials say.

    Attributes:
        text: the claim.
        commands: what computes the numbers again.
        cells: (variant, metric) of each number.
        holds: whether the numbers bear it out.
        remark: what they say beside that.
    """

    text: str
    commands: tuple[str, ...]
    cells: tuple[tuple[str, str], ...]
    holds: Callable[[Lookup], bool]
    remark: str = ""


CLAIMS: tuple[Registration, ...] = (
    Registration(
        "Stronger sparsity penalties leave fewer active latents.",
        ("aezoo evaluate NAME", "aezoo evaluate NAME --protocol activity"),
        tuple(
            (name, metric)
            for name in (
                "fc-64",
                "sparse-kl-weak",
                "sparse-kl-strong",
                "sparse-l1",
                "sparse-topk16",
                "sparse-topk5",
                "sparse-lifetime25",
                "sparse-lifetime5",
            )
            for metric in ("active_latents", "hoyer")
        ),
        lambda n: all(
            n(strong, "active_latents") < n(weak, "active_latents") and n(strong, "hoyer") > n(weak, "hoyer")
            for weak, strong in (
                ("sparse-kl-weak", "sparse-kl-strong"),
                ("sparse-topk16", "sparse-topk5"),
                ("sparse-lifetime25", "sparse-lifetime5"),
                ("fc-64", "sparse-l1"),
            )
        ),
        "Of 64 latents. A sigmoid is never quite off, so that few latents of the KL variants are below 1 % "
        "of their largest value; Hoyer's sparseness tells them apart all the same.",
    ),
    *(
        Registration(
            f"Stronger {what} leaves more global atoms.",
            ("aezoo evaluate NAME",),
            (("fc-64", "atom_area"), (weak, "atom_area"), (strong, "atom_area")),
            lambda n, weak=weak, strong=strong: n(strong, "atom_area") > n(weak, "atom_area"),
            "`atom_area` is the participation ratio of the squared weights of an atom over the image.",
        )
        for what, weak, strong in (
            ("top-k sparsity", "sparse-topk16", "sparse-topk5"),
            ("lifetime sparsity", "sparse-lifetime25", "sparse-lifetime5"),
            ("KL sparsity", "sparse-kl-weak", "sparse-kl-strong"),
        )
    ),
    Registration(
        "Unconstrained codes are dense, and their values similar in size.",
        ("aezoo evaluate NAME", "aezoo evaluate NAME --protocol activity"),
        (
            ("fc-64", "active_latents"),
            ("fc-64", "hoyer"),
            ("sparse-topk16", "hoyer"),
            ("sparse-lifetime5", "hoyer"),
        ),
        lambda n: (
            n("fc-64", "active_latents") > 60 and n("fc-64", "hoyer") < 0.5 * n("sparse-topk16", "hoyer")
        ),
        "Of 64 latents. Normally distributed ones would have a Hoyer sparseness of about 0.23.",
    ),
    Registration(
        "Greedy layer-wise training helps sparse deep networks.",
        ("aezoo evaluate NAME",),
        (
            ("deep-sparse", "dead_latents"),
            ("deep-sparse-joint", "dead_latents"),
            ("deep-sparse", "mse"),
            ("deep-sparse-joint", "mse"),
        ),
        lambda n: (
            n("deep-sparse", "dead_latents") <= n("deep-sparse-joint", "dead_latents")
            and n("deep-sparse", "mse") < n("deep-sparse-joint", "mse")
        ),
        "The same network, k and number of epochs; the greedy recipe also ties weights before it fine-tunes.",
    ),
    Registration(
        "Codes behind a ReLU die.",
        (
            "aezoo evaluate linear-32",
            "aezoo train docs/experiments/linear-32-plain/spec.yaml",
            "aezoo train docs/experiments/linear-32-leaky/spec.yaml",
        ),
        (
            ("linear-32-plain", "dead_latents"),
            ("linear-32-leaky", "dead_latents"),
            ("linear-32", "dead_latents"),
            ("linear-32-plain", "mse"),
            ("linear-32-leaky", "mse"),
            ("linear-32", "mse"),
        ),
        lambda n: n("linear-32-plain", "dead_latents") > n("linear-32-leaky", "dead_latents"),
        "Of 32 latents. `linear-32` itself warms its learning rate up and brings dead latents back to life.",
    ),
    Registration(
        "A high learning rate hurts lifetime sparsity.",
        (
            "aezoo train docs/experiments/sparse-lifetime5-fast/spec.yaml",
            "aezoo train docs/experiments/fc-64-fast/spec.yaml",
        ),
        (
            ("sparse-lifetime5", "mse"),
            ("sparse-lifetime5-fast", "mse"),
            ("fc-64", "mse"),
            ("fc-64-fast", "mse"),
        ),
        lambda n: n("sparse-lifetime5-fast", "mse") > 1.05 * n("sparse-lifetime5", "mse"),
        "Ten times the learning rates; `fc-64` shows what that alone does.",
    ),
    Registration(
        "A linear autoencoder finds the subspace of the principal components.",
        ("aezoo evaluate linear-pca-32 --protocol subspace",),
        (("linear-pca-32", "principal_angle"), ("linear-pca-32", "mse"), ("pca-32", "mse")),
        lambda n: n("linear-pca-32", "principal_angle") < 5,
        "Largest of 32 principal angles, in degrees.",
    ),
    Registration(
        "Codes separate the classes.",
        ("aezoo evaluate NAME --protocol probe",),
        (
            ("fc-64", "probe_accuracy.input"),
            ("fc-64", "probe_accuracy"),
            ("deep-64", "probe_accuracy"),
            ("denoise-gaussian", "probe_accuracy"),
            ("vae-16", "probe_accuracy"),
            ("deep-2", "probe_accuracy"),
            ("pca-32", "probe_accuracy"),
        ),
        lambda n: n("fc-64", "probe_accuracy") > n("fc-64", "probe_accuracy.input"),
        "Accuracy of logistic regression on 10,000 training samples' codes; the first number is its "
        "accuracy on the 784 pixels.",
    ),
    Registration(
        "A bottleneck removes noise.",
        ("aezoo evaluate NAME --protocol noise",),
        (
            ("fc-64", "gaussian.noisy_input_mse"),
            ("fc-64", "gaussian.denoised_mse"),
            ("fc-16", "gaussian.denoised_mse"),
            ("overcomplete-plain", "gaussian.denoised_mse"),
            ("denoise-gaussian", "gaussian.denoised_mse"),
        ),
        lambda n: (
            n("fc-64", "gaussian.denoised_mse") < n("fc-64", "gaussian.noisy_input_mse")
            and n("overcomplete-plain", "gaussian.denoised_mse") > n("fc-64", "gaussian.denoised_mse")
        ),
        "Gaussian noise of variance 0.1. Of these networks, only `denoise-gaussian` was trained on it.",
    ),
)


# -- the plugins' variants ----------------------------------------------------------------------------

SPARSE = ("mse", "fvu", "l0", "dead_latents", "hoyer", "atom_area")
CORRUPTIONS = ("shot", "impulse", "blur", "occlusion", "brightness", "affine", "stripes")


def plugin_zoo_page() -> str:
    """docs/plugin_zoo.md."""
    sparse = [f"sae-{name}" for name in ("topk", "batchtopk", "jumprelu", "gated", "matryoshka")]
    kept = "sae-gated"
    wider = [f"{name}-4096" if name == kept else f"{name}32-4096" for name in sparse]
    better = [n for n in wider if (number(n, "fvu") or 0) < (number(n.removesuffix("-4096"), "fvu") or 0)]
    wide = "At 4,096 latents, with the learning rate and the number of steps that were chosen at 1,024, "
    only = f"only {', '.join(f'`{name}`' for name in better)} has" if better else "none has"
    wide += f"{only} a lower FVU than its narrower one, and far more latents die:"
    head = ["corruption", "MSE of the denoised image per pixel"]
    parts = [
        "# The plugins' variants",
        "Written by `python docs/generate.py` from the folders of the plugins; a test holds it current. "
        "Numbers "
        "are of MNIST's test images, measured once, after everything had been chosen on the validation "
        "split; "
        "`aezoo evaluate NAME` computes them again where the plugin is installed.",
        "## aezoo-sae",
        "Dictionaries wider than their input, each trained with the same budget: 30 epochs of the 50,000 "
        "training "
        "images, batches of 256, Adam at 0.002 down to 0 along a cosine; biases begin at the data's "
        "geometric "
        "median, encoders as their decoder's transpose. `sae-topk32` is plain top-k, to compare with. L0 is "
        "what "
        "each came to in evaluation: top-k and Matryoshka keep k by construction, BatchTopK k on average "
        "over "
        "training batches, JumpReLU is pulled towards k by a penalty, and the gated encoder has a weight "
        "that was "
        "chosen to come near. The last column is the share of latents that are never active on the test set.",
        sparse_table([name if name == kept else f"{name}32" for name in sparse]),
        "The same at k = 16 and at 4,096 latents: recipes and numbers without weights, under "
        "`plugins/aezoo-sae/experiments/`. At k = 16:",
        sparse_table([f"{name}16" for name in sparse]),
        wide,
        sparse_table(wider),
        "## aezoo-vq",
        "49 discrete codes an image. `vq.codebook_use` is the share of the codes that are ever used, "
        "`vq.perplexity` how many codes would be as hard to tell apart if all were used alike.",
        measured_table(("vq", "fsq"), ("mse", "fvu", "vq.codebook_use", "vq.perplexity", "checkerboard")),
        "## aezoo-corruptions",
        "One denoiser, `denoise-mixture`, trained on all seven corruptions, one of them drawn for each "
        "image. From "
        "the mixture, whose images lie "
        f"{abbreviate(number('denoise-mixture', 'noisy_input_mse'))} from the clean ones, it comes to "
        f"{abbreviate(number('denoise-mixture', 'denoised_mse'))}; from an image without corruption, to "
        f"{abbreviate(number('denoise-mixture', 'mse'))}. From each corruption alone:",
        table(
            head,
            [
                [name, abbreviate(number("denoise-mixture", f"corruptions.{name}_mse"))]
                for name in CORRUPTIONS
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def measured_table(names: Sequence[str], metrics: tuple[str, ...]) -> str:
    """A table of variants and their numbers."""
    head = ["variant", *(f"`{metric}`" for metric in metrics)]
    return table(
        head, [[f"`{name}`", *(abbreviate(number(name, metric)) for metric in metrics)] for name in names]
    )


def sparse_table(names: Sequence[str]) -> str:
    """A table of sparse autoencoders, with the share of dead latents."""
    rows: list[list[str]] = []
    for name in names:
        spec = yaml.safe_load((folder_of(name) / "spec.yaml").read_text("utf-8"))
        width = next(layer["out_features"] for layer in spec["encoder"] if "out_features" in layer)
        dead = number(name, "dead_latents")
        share = "" if dead is None else f"{dead / width:.1%}"
        rows.append(
            [f"`{name}`", f"{width:,}", *(abbreviate(number(name, metric)) for metric in SPARSE), share]
        )
    return table(["variant", "latents", *(f"`{metric}`" for metric in SPARSE), "dead share"], rows)


def claims_page() -> str:
    """docs/claims.md."""
    parts = [
        "# What the tutorials claim, measured",
        "Written by `python docs/generate.py` from the folders under `zoo/` and `docs/experiments/`; a test "
        "holds it current. Numbers are of MNIST's test set; each folder's `metrics.json` defines them.",
    ]
    for claim in CLAIMS:
        rows: dict[str, dict[str, float | None]] = {}
        for name, metric in claim.cells:
            rows.setdefault(name, {})[metric] = number(name, metric)
        metrics = list(dict.fromkeys(metric for _, metric in claim.cells))
        body = [[f"`{name}`", *(abbreviate(cells.get(m)) for m in metrics)] for name, cells in rows.items()]
        parts += [
            f"## {claim.text}",
            f"**{verdict(claim)}** {claim.remark}".rstrip(),
            table(["", *(f"`{metric}`" for metric in metrics)], body),
            "```sh\n" + "\n".join(claim.commands) + "\n```",
        ]
    return "\n\n".join(parts) + "\n"


def verdict(claim: Registration) -> str:
    """Whether a claim holds, in words."""
    if any(number(name, metric) is None for name, metric in claim.cells):
        return "Not measured."
    return "Holds." if claim.holds(lambda name, metric: number(name, metric) or 0.0) else "Does not hold."


# -- the metrics --------------------------------------------------------------------------------------


def metrics_page() -> str:
    """docs/metrics.md."""
    from aezoo.evaluation.protocols import PROTOCOLS
    from aezoo.plugins.registry import registry

    specs: list[Any] = [registry.get("metric", kind) for kind in registry.names("metric")]
    rows = [
        [f"`{spec.kind_name}`", spec.definition, "" if spec.better == "neither" else spec.better]
        for spec in specs
        if registry.contributor("metric", spec.kind_name).name == "aezoo"
    ]
    protocols = [
        [f"`{name}`", protocol.summary, ", ".join(f"`{key}`" for key in protocol.gives)]
        for name, protocol in PROTOCOLS.items()
    ]
    parts = [
        "# Metrics and protocols",
        "Written by `python docs/generate.py` from the code; a test holds it current.",
        "`aezoo evaluate NAME` measures every metric that applies to a variant in one pass over its test "
        "split, in evaluation mode, and shows the published numbers beside it. In `metrics.json`, those of "
        "the validation split end in `.validation`; after a refit, whose weights have seen that split, they "
        "are the first round's.",
        table(["metric", "definition", "better"], rows),
        "`aezoo evaluate NAME --protocol PROTOCOL` measures what takes more than one pass. `--record` "
        "writes what was measured into the `metrics.json` of a folder of your own. What is drawn is seeded, "
        "and what must be chosen is chosen on the validation split.",
        table(["protocol", "what is measured", "gives"], protocols),
    ]
    return "\n\n".join(parts) + "\n"


# -- plugins ------------------------------------------------------------------------------------------

FAMILIES = {
    "layer": "LayerSpec", "loss": "LossSpec", "noise": "NoiseSpec", "dataset": "DatasetSpec",
    "callback": "CallbackSpec", "metric": "Metric",
}  # fmt: skip


def plugins_page() -> str:
    """docs/plugins.md."""
    import aezoo
    from aezoo.plugins import hookspecs
    from aezoo.plugins.hookspecs import HOOKS, PLUGIN_API
    from aezoo.testing import EXAMINATIONS

    parts = [
        "# Plugins: the contract",
        "Written by `python docs/generate.py` from the docstrings of `aezoo/hookspecs.py`, of the families "
        "and of `aezoo/testing/`; a test holds it current. [The tutorial](tutorial-plugin.md) begins with "
        "twelve lines.",
        f"This aezoo has contract {PLUGIN_API}. A plugin says with `AEZOO_PLUGIN_API` which one it "
        f"was "
        "written for; one for a newer contract is refused, with the version that it needs. Nothing is "
        "injected into a class that its spec does not declare.",
        inspect.cleandoc(hookspecs.__doc__ or ""),
        "A plugin that fails is named once, with its distribution, its version and the reason, and left out "
        "as a whole; everything else goes on working. `AEZOO_PLUGINS` (a comma list; empty for none) "
        "narrows what is loaded, and `aezoo --no-plugins COMMAND` leaves all out. Trained variants are "
        "data: an entry point of group `aezoo.variants` names a package whose `zoo` folder is read without "
        "importing it.",
    ]
    for family, hook in HOOKS.items():
        cls: Any = getattr(aezoo, FAMILIES[family])
        parts += [
            f"## `{hook}`",
            inspect.cleandoc(getattr(hookspecs, hook).__doc__),
            f"```text\n{inspect.cleandoc(cls.__doc__)}\n```",
        ]
    parts += [
        "# Plugins: the checks",
        "`aezoo.testing` has `check_layer(spec, in_shape)`, `check_loss(spec)`, `check_noise(spec)`, "
        "`check_dataset(spec)`, `check_callback(spec)`, `check_variant(name)` and "
        "`check_plugin(distribution)`. `aezoo check-plugin NAME` and `pytest --aezoo-plugin NAME` run the "
        "last one, which tries every kind out by the `examples` of its class (a layer's on `example_shape`, "
        "a loss's behind `example_encoder`). A class that cannot keep something says so in `exempt`, check "
        "-> reason, and the report prints it; one whose backward pass is not meant to be the derivative "
        "sets `surrogate_gradient = True`.",
    ]
    seen: set[str] = set()
    for what, checks in EXAMINATIONS.items():
        parts.append(f"## Checks of {what}")
        for name, expected in checks.items():
            # Some are of several families; a heading is a place to point to, once.
            head = f"### {name}" if name not in seen else f"**{name}**"
            seen.add(name)
            parts.append(f"{head}\n\nExpects {expected}.")
    return "\n\n".join(parts) + "\n"


PAGES = {
    "plugins.md": plugins_page,
    "zoo.md": zoo_page,
    "plugin_zoo.md": plugin_zoo_page,
    "claims.md": claims_page,
    "metrics.md": metrics_page,
}


def main() -> None:
    """Writes every page."""
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), "utf-8")
        print(HERE / name)


if __name__ == "__main__":
    sys.exit(main())
