"""Recipes that cannot train a network are rejected before data are read, and by `validate` with the line."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import aezoo
from tests.examples import small
from tests.training.networks import DEEP, FLAT, LINEAR, conv, greedy, linear, stage, train

PCA = {"kind": "pca"}
NO_OVERLAP = {"kernel_size": 1, "switches": "a"}
SWITCHES = {
    "encoder": [conv(2), {"kind": "max_pool", **NO_OVERLAP}, conv(3)],
    "decoder": [conv(2), {"kind": "max_unpool", **NO_OVERLAP}, conv(1)],
}
CONV = {"encoder": [conv(3)], "decoder": [conv(1)]}
COLOR = {
    "input": {"shape": [3, 6, 6], "range": [0, 1]},
    "encoder": ["flatten", linear(12), linear(5)],
    "decoder": [linear(12), linear(108), {"kind": "unflatten", "shape": [3, 6, 6]}],
}
PCA_ENCODER = "pca needs an encoder of one linear layer with a bias and without an activation"
PCA_DECODER = "pca needs a decoder of one linear layer with a bias and without an activation"

REJECTED: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "freeze, unknown": (
        DEEP, {"stages": [stage(freeze=["encoder.7"])]},
        "recipe.stages.0.freeze.0", "there is no layer 'encoder.7'",
    ),
    "freeze, the second unknown": (
        DEEP, {"stages": [stage(), stage(freeze=["encoder.1", "target_mean"])]},
        "recipe.stages.1.freeze.1", "there is no layer 'target_mean'",
    ),
    "freeze, everything": (
        DEEP, {"stages": [stage(freeze=["encoder", "decoder.0", "decoder.1"])]},
        "recipe.stages.0.freeze", "freezes all weights, so nothing is left to train",
    ),
    "freeze, tied": (
        DEEP, {"stages": [stage(tie=True, freeze=["decoder.0"])]},
        "recipe.stages.0.freeze", "decoder.0 is tied in this stage, so it cannot be frozen",
    ),
    "greedy, counts": (
        DEEP | {"decoder": [linear(36), FLAT]}, {"stages": [stage(), greedy()]}, "recipe.stages.1",
        "greedy needs as many weighted layers on each side, found 2 in the encoder, 1 in the decoder",
    ),
    "greedy, sizes": (
        DEEP | {"decoder": [linear(11), linear(36), FLAT]}, {"stages": [greedy()]}, "recipe.stages.0",
        "greedy needs a decoder that mirrors the encoder; none of its last 1 layers takes (12,)",
    ),
    "greedy, switches": (
        SWITCHES, {"stages": [greedy()]},
        "recipe.stages.0", "pair 2 needs 'a.indices', which lies outside it; reconstruct: input reaches it",
    ),
    "greedy, tie": (
        CONV, {"stages": [greedy(tie=True)]},
        "recipe.stages.0.tie", "tie needs mirrored layers, found Conv2d and Conv2d",
    ),
    "greedy, a loss": (
        DEEP, {"stages": [greedy()], "penalties": [{"kind": "weight_decay", "on": ["encoder.2"]}]},
        "recipe.stages.0", "pair 1: recipe.penalties.0: weight_decay finds no weights at 'encoder.2'",
    ),
    "greedy, a noise": (
        COLOR, {"stages": [greedy()], "noises": ["grayscale"]}, "recipe.stages.0",
        "pair 2: recipe.noises.0: grayscale takes colour images of shape (3, height, width), not (12,)",
    ),
    "noise": (
        DEEP, {"noises": [{"kind": "masking", "share": 0.1}, {"kind": "masking", "share": 0.1, "value": 2.0}]},
        "recipe.noises.1", "2 lies outside the input's range [0",
    ),
    "reconstruction": (
        LINEAR, {"reconstruction": "bce"},
        "recipe.reconstruction", "bce needs a decoder that stays in [0, 1], its last layers give -inf to inf",
    ),
    "penalty": (
        DEEP, {"penalties": ["l1_latents", "auxk"]},
        "recipe.penalties.1", "auxk revives latents that topk leaves out; end the encoder in topk",
    ),
    "nothing to train": (
        {"encoder": ["flatten"], "decoder": [FLAT]}, {},
        "recipe.stages", "there are no weights to train",
    ),
    "pca, activation": (
        LINEAR | {"encoder": ["flatten", linear(4)]}, {"stages": [stage(), PCA]},
        "recipe.stages.1", PCA_ENCODER,
    ),
    "pca, a layer after it": (
        LINEAR | {"encoder": [*LINEAR["encoder"], {"kind": "topk", "k": 2}]}, {"stages": [stage(), PCA]},
        "recipe.stages.1", PCA_ENCODER,
    ),
    "pca, no bias": (
        LINEAR | {"encoder": ["flatten", linear(4, activation=None, bias=False)]}, {"stages": [stage(), PCA]},
        "recipe.stages.1", PCA_ENCODER,
    ),
    "pca, two layers": (
        LINEAR | {"decoder": [linear(8, activation=None), *LINEAR["decoder"]]}, {"stages": [stage(), PCA]},
        "recipe.stages.1", PCA_DECODER,
    ),
    "pca, unit norm": (
        LINEAR | {"decoder": [{"kind": "unit_norm_linear", "out_features": 36}, FLAT]},
        {"stages": [stage(), PCA]}, "recipe.stages.1", PCA_DECODER,
    ),
    "pca, too many": (
        LINEAR | {"encoder": ["flatten", linear(40, activation=None)]}, {"stages": [stage(), PCA]},
        "recipe.stages.1", "pca gives at most as many components as values, found 36 -> 40 -> 36",
    ),
    "pca, target": (
        LINEAR | {"target": {"shape": [1, 6, 6], "range": [0, 1]}}, {"stages": [stage(), PCA]},
        "recipe.stages.1", "pca reconstructs the input, but the spec declares another target",
    ),
}  # fmt: skip
each_rejected = pytest.mark.parametrize(
    ("changes", "recipe", "path", "words"), REJECTED.values(), ids=REJECTED
)


def problems_of(changes: dict[str, Any], **recipe: Any) -> list[tuple[str, str]]:
    """Path and message of every problem that `train` reports before data are read."""
    data = small(**LINEAR) | changes | {"recipe": small()["recipe"] | recipe}
    with pytest.raises(aezoo.SpecError) as caught:
        train(aezoo.VariantSpec.model_validate(data), data=object())
    return [(problem.path, problem.message) for problem in caught.value.problems]


@each_rejected
def test_train_rejects_the_recipe_before_data_are_read(
    changes: dict[str, Any], recipe: dict[str, Any], path: str, words: str
) -> None:
    ((found, message),) = problems_of(changes, **recipe)
    assert found == path
    assert words in message


@each_rejected
def test_validate_reports_the_line(
    changes: dict[str, Any], recipe: dict[str, Any], path: str, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(small(**changes, recipe=small()["recipe"] | recipe), sort_keys=False))
    with pytest.raises(aezoo.SpecError) as caught:
        aezoo.validate(file)
    (problem,) = caught.value.problems
    assert str(caught.value).startswith(f"{file}:{problem.line}: {path}: ")
    assert problem.line is not None
    line = file.read_text().splitlines()[problem.line - 1]
    # The line of the value itself or, in a list, of its entry.
    last = [part for part in path.split(".") if not part.isdecimal()][-1]
    assert last in line or line.lstrip().startswith("- ")


def test_all_problems_are_reported_at_once() -> None:
    found = problems_of(
        DEEP,
        noises=["grayscale"],
        penalties=["auxk"],
        stages=[stage(freeze=["nowhere"]), PCA, greedy(), stage(freeze=["encoder", "decoder"])],
    )
    assert [path for path, _ in found] == [
        "recipe.noises.0", "recipe.penalties.0", "recipe.stages.0.freeze.0", "recipe.stages.1",
        "recipe.stages.2", "recipe.stages.3.freeze",
    ]  # fmt: skip
