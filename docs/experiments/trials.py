"""Measures the changes that the pages under docs/autoencoders/ suggest.

    python docs/experiments/trials.py [NAME ...]

Each variant is trained for the given number of epochs per stage, unchanged and with each change, without a
refit, and measured on the validation split. docs/experiments/trials.json keeps the numbers, and the directive
`aezoo-trials` (docs/_ext/aezoo_directives.py) shows them. What was measured before is kept.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import aezoo
from aezoo.files import write_atomically
from aezoo.specs.yaml import Document

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "trials.json"
ENDING = ".validation"
NOISE = 0.1
"""Standard deviation of the input noise for `latent_change`, as in the stability protocol."""


@dataclass(frozen=True)
class Trial:
    """A variant, how long it is trained, and the changes to try.

    Attributes:
        epochs: epochs of each stage; empty for a stage in closed form.
        changes: each a tuple of `PATH=VALUE`, as for `aezoo train --set`.
    """

    epochs: tuple[int, ...]
    changes: tuple[tuple[str, ...], ...]


def one(*changes: str) -> tuple[tuple[str, ...], ...]:
    """Changes of one value each."""
    return tuple((change,) for change in changes)


TRIALS = {
    "pca-32": Trial((), one("encoder.1.out_features=16", "encoder.1.out_features=64")),
    "linear-pca-32": Trial((10,), one("decoder.0.activation=sigmoid", "encoder.1.activation=relu")),
    "linear-32": Trial(
        (15,),
        (
            ("recipe.callbacks=[]", "recipe.stages.0.schedule.warmup_steps=0"),
            (
                "recipe.callbacks=[]",
                "recipe.stages.0.schedule.warmup_steps=0",
                "encoder.1.activation=leaky_relu",
            ),
            ("encoder.1.out_features=64",),
        ),
    ),
    "fc-64": Trial(
        (10, 10),
        one("recipe.stages.0.tie=false", "decoder.0.activation=sigmoid", "encoder.1.out_features=128"),
    ),
    "fc-16": Trial(
        (15,), one("encoder.2.activation=relu", "encoder.2.out_features=8", "encoder.2.out_features=32")
    ),
    "deep-64": Trial(
        (5, 10, 15),
        (
            ("recipe.stages.0.reconstruct=input",),
            ("recipe.stages=[{kind: fit, epochs: 35, optimizer: {kind: adam, lr: 1e-3}, schedule: cosine}]",),
        ),
    ),
    "deep-2": Trial((5, 10, 20), one("encoder.4.out_features=3", "encoder.4.out_features=8")),
    "overcomplete-plain": Trial(
        (5,),
        one(
            "recipe.noises=[{kind: masking, share: 0.5}]",
            "recipe.penalties=[{kind: l1_latents, weight: 1e-3}]",
        ),
    ),
    "sparse-l1": Trial(
        (15,),
        one(
            "recipe.penalties.0.weight=3e-4",
            "recipe.penalties.0.weight=3e-3",
            "decoder.0.kind=linear",
            "recipe.callbacks=[]",
        ),
    ),
    "sparse-kl-weak": Trial(
        (20,), one("recipe.penalties.0.weight=0.1", "recipe.penalties.0.rho=0.2", "recipe.penalties=[]")
    ),
    "sparse-topk16": Trial(
        (10, 10),
        one("encoder.2.k=4", "encoder.2.k=32", "encoder.2.by=magnitude", "recipe.stages.0.tie=false"),
    ),
    "overcomplete-topk": Trial((8,), one("recipe.penalties=[]")),
    "sparse-lifetime25": Trial((4, 4), one("encoder.2.rate=0.05", "encoder.2.rate=0.5")),
    "deep-sparse": Trial((2, 4, 4), one("encoder.3.k=8", "encoder.3.k=32")),
    "contractive": Trial((15,), one("recipe.penalties=[]", "recipe.penalties.0.weight=2e-3")),
    "conv-strided": Trial((1,), one("encoder.1.out_channels=2", "encoder.1.out_channels=8")),
    "denoise-gaussian": Trial(
        (8, 8),
        one("recipe.noises.0.std=0.1", "recipe.noises.0.std=0.6", "encoder.1.out_features=256"),
    ),
    "denoise-mask": Trial(
        (4, 4),
        one(
            "recipe.noises.0.share=0.5",
            "recipe.noises=[{kind: salt_pepper, share: 0.25}]",
            "encoder.1.out_features=256",
        ),
    ),
    "vae-16": Trial(
        (10,),
        one(
            "encoder.2.out_features=64", "recipe.penalties.0.free_bits=0.5", "recipe.penalties.0.weight=0.25"
        ),
    ),
    "vae-bce": Trial((5,), one("encoder.2.out_features=8", "encoder.2.out_features=64")),
    "beta-vae": Trial((5,), one("recipe.penalties.0.weight=1", "recipe.penalties.0.weight=10")),
    "vae-2": Trial((6,), one("encoder.2.out_features=8", "recipe.penalties.0.weight=0.25")),
    "anomaly-3": Trial((20,), one("encoder.2.out_features=4", "encoder.2.out_features=64")),
    "swissroll-2": Trial(
        (30,), one("encoder.0.activation=relu", "encoder.4.out_features=1", "recipe.dataset.noise=0.5")
    ),
    "vq": Trial((4,), one("encoder.3.codes=32", "recipe.penalties.0.weight=1.0")),
    "fsq": Trial(
        (10,),
        (("encoder.3.levels=[4, 4, 4]",), ("encoder.2.out_channels=4", "encoder.3.levels=[8, 5, 5, 5]")),
    ),
    "denoise-mixture": Trial(
        (3,), one("recipe.noises.0.of=[corruptions.affine]", "encoder.2.out_features=32")
    ),
    "colorize": Trial((6,), one("encoder.3.out_channels=8", "recipe.noises=[]")),
    "conv-fc": Trial((1,), one("encoder.4={kind: avg_pool, kernel_size: 2}", "encoder.3.out_channels=4")),
    "conv-unpool-nearest": Trial((1,), one("decoder.0.mode=zeros", "encoder.2.out_channels=8")),
    "conv-unpool-max": Trial((1,), one("encoder.2.out_channels=2", "encoder.2.out_channels=8")),
}


def key(changes: tuple[str, ...]) -> str:
    """The name of a change in the results; empty for the unchanged variant."""
    return " ".join(changes)


def changed(name: str, trial: Trial, changes: tuple[str, ...]) -> aezoo.VariantSpec:
    """The spec of a trial."""
    spec = aezoo.get_spec(name)
    values: dict[str, Any] = {f"recipe.stages.{stage}.epochs": n for stage, n in enumerate(trial.epochs)}
    values["recipe.refit"] = False
    for change in changes:
        path, _, value = change.partition("=")
        values[path] = Document(value, "--set").data
    if "recipe.stages" in values:
        values = {path: value for path, value in values.items() if not path.startswith("recipe.stages.")}
    return spec.replace(values)


def measure(ae: aezoo.Autoencoder) -> dict[str, float | None]:
    """The metrics of the validation split, and two numbers that protocols measure on the test split."""
    found = {
        metric.removesuffix(ENDING): entry["value"]
        for metric, entry in ae.metrics.items()
        if metric.endswith(ENDING)
    }
    recipe = ae.spec.recipe
    if ae.spec.name == "contractive":
        found["latent_change"] = latent_change(ae, inputs(recipe.dataset))
    if ae.spec.name.startswith("anomaly-"):
        found["auroc"] = auroc(ae)
    return found


def inputs(dataset: aezoo.DatasetSpec) -> torch.Tensor:
    """The digits of the validation split, (n, 1, 28, 28), in [0, 1]."""
    return dataset.load("validation").inputs.float() / 255


@torch.no_grad()
def latent_change(ae: aezoo.Autoencoder, x: torch.Tensor) -> float:
    """As the stability protocol measures it."""
    noise = NOISE * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    before, after = ae.encode(x).double(), ae.encode(x + noise).double()
    return float((after - before).square().mean().sqrt() / (before - before.mean(0)).square().mean().sqrt())


@torch.no_grad()
def auroc(ae: aezoo.Autoencoder) -> float:
    """As the one-class protocol measures it: the error of other digits against that of the trained ones."""
    from sklearn.metrics import roc_auc_score

    dataset = ae.spec.recipe.dataset.model_copy(update={"classes": None})
    samples = dataset.load("validation")
    anomalous = ~torch.isin(samples.labels, torch.tensor(ae.spec.recipe.dataset.classes))
    return float(roc_auc_score(anomalous.numpy(), -ae.score_samples(inputs(dataset)).numpy()))


def main(names: list[str]) -> None:
    """Trains what has not been measured yet."""
    found: dict[str, Any] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    for name, trial in TRIALS.items():
        if names and name not in names:
            continue
        old = found.get(name, {})
        kept = old.get("runs", {}) if old.get("epochs") == list(trial.epochs) else {}
        runs: dict[str, Any] = {}
        for changes in ((), *trial.changes):
            runs[key(changes)] = kept.get(key(changes)) or measure(
                aezoo.train(changed(name, trial, changes), progress=False)
            )
            found[name] = {"epochs": list(trial.epochs), "runs": runs}
            ordered = {name: found[name] for name in TRIALS if name in found}
            write_atomically(RESULTS, (json.dumps(ordered, indent=1) + "\n").encode())
            print(name, key(changes), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
