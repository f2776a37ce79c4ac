"""Diagnostics: issued where they apply, nowhere else, and silenced by their code."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import aezoo
from aezoo.model.build import build_on_meta
from aezoo.training.diagnostics import Diagnostic, lint_spec, warn_dead_latents, warn_loss_rising
from tests.examples import small
from tests.training.networks import FLAT, IMAGES, adam, spec_of, stage, train

LINEAR = {"kind": "linear", "out_features": 36}
NARROW = {"kind": "linear", "out_features": 5}


def lint(spec: aezoo.VariantSpec) -> list[Diagnostic]:
    return lint_spec(spec, build_on_meta(spec).shapes)


def codes(**changes: Any) -> list[str]:
    return [diagnostic.code for diagnostic in lint(aezoo.VariantSpec.model_validate(small(**changes)))]


# -- identity-risk ------------------------------------------------------------------------------------


def wide(*encoder: Any, decoder: list[Any] | None = None, **recipe: Any) -> aezoo.VariantSpec:
    """As many latents as inputs; nothing but the arguments constrains them."""
    layers = list(encoder) or [LINEAR]
    return spec_of(encoder=["flatten", *layers], decoder=[*(decoder or []), LINEAR, FLAT], **recipe)


def test_as_many_latents_as_inputs_without_a_constraint_are_an_identity_risk() -> None:
    (diagnostic,) = lint(wide())
    assert (diagnostic.code, diagnostic.path) == ("identity-risk", "encoder")
    assert diagnostic.message.startswith("36 latents for 36 input values and nothing that constrains them")


CONSTRAINED = {
    "narrow": spec_of(),
    "noise": wide(noises=[{"kind": "masking", "share": 0.1}]),
    "topk": wide(LINEAR, {"kind": "topk", "k": 3}),
    "lifetime": wide(LINEAR, {"kind": "lifetime", "rate": 0.1}),
    "dropout": wide(LINEAR | {"dropout": 0.2}),
    "nested dropout": wide({"kind": "residual", "layers": [LINEAR | {"dropout": 0.2}]}),
    "narrow encoder": wide(NARROW, LINEAR),
    "narrow decoder": wide(decoder=[NARROW]),
}


@pytest.mark.parametrize("spec", CONSTRAINED.values(), ids=CONSTRAINED)
def test_constrained_latents_are_no_identity_risk(spec: aezoo.VariantSpec) -> None:
    assert "identity-risk" not in [diagnostic.code for diagnostic in lint(spec)]


def test_another_target_is_no_identity_risk() -> None:
    assert codes(encoder=["flatten", LINEAR], decoder=[LINEAR], target={"shape": [36]}) == []


# -- output-range -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "range_", "fits"),
    [
        ("sigmoid", [0, 1], True), ("sigmoid", [-1, 1], False), ("sigmoid", None, False), ("tanh", [-1, 1], True),
        ("tanh", [0, 1], True), ("tanh", [0, 255], False), ("relu", [0, 255], True), ("relu", [-1, 1], False),
        ("leaky_relu", None, True), ({"kind": "leaky_relu", "negative_slope": 0}, None, False), ("elu", [-1, 5], True),
        ({"kind": "elu", "alpha": 0.5}, [-1, 5], False), ("softplus", [0, 1], True), ("gelu", [-1, 1], False),
        ("silu", [-0.1, 1], True), (None, None, True),
    ],
)  # fmt: skip
def test_an_output_activation_must_reach_the_range_of_the_data(
    activation: Any, range_: list[float] | None, fits: bool
) -> None:
    found = codes(
        input={"shape": [1, 6, 6], "range": range_}, decoder=[LINEAR | {"activation": activation}, FLAT]
    )
    assert found == ([] if fits else ["output-range"])


def test_output_range_names_the_last_activation() -> None:
    decoder = [LINEAR | {"activation": "tanh"}, LINEAR | {"activation": "relu"}, FLAT]
    (diagnostic,) = lint(spec_of(decoder=decoder).replace({"input.range": [-1, 1]}))
    assert diagnostic.path == "decoder.1.activation"
    assert diagnostic.message.startswith(
        "relu gives 0 to inf and cannot reach the data's values in [-1.0, 1.0]"
    )


# -- during training ----------------------------------------------------------------------------------


def test_train_and_validate_warn_about_the_spec(tmp_path: Path) -> None:
    with pytest.warns(aezoo.DiagnosticWarning, match="^identity-risk: encoder: 36 latents"):
        train(wide())
    path = tmp_path / "spec.yaml"
    path.write_text(aezoo.to_yaml(wide()))
    with pytest.warns(aezoo.DiagnosticWarning, match="^identity-risk: encoder: 36 latents"):
        aezoo.validate(path)


def test_train_warns_about_dead_latents() -> None:
    spec = spec_of(encoder=["flatten", {"kind": "linear", "out_features": 8}, {"kind": "topk", "k": 1}])
    text = "^dead-latents: 7 of 8 latents are zero for every training sample"
    with pytest.warns(aezoo.DiagnosticWarning, match=text):
        train(spec, data=torch.ones(40, 1, 6, 6))


@pytest.mark.parametrize(("dead", "warned"), [(None, False), (0.0, False), (20.0, False), (21.0, True)])
def test_up_to_a_fifth_of_the_latents_may_be_dead(dead: float | None, warned: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_dead_latents(dead, 100)
    assert bool(caught) == warned


def loss_warnings(spec: aezoo.VariantSpec) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(spec)
    return [str(w.message) for w in caught if str(w.message).startswith("loss-rising")]


def test_train_warns_about_a_rising_loss() -> None:
    schedule = {"kind": "cosine", "warmup_steps": 12}
    (text,) = loss_warnings(wide(stages=[stage(4, optimizer=adam(0.5), schedule=schedule)]))
    assert text.startswith("loss-rising: stage 0: mse rose over the first 3 epochs (")
    assert text.endswith("lower the learning rate")
    assert loss_warnings(spec_of(stages=[stage(4)])) == []


@pytest.mark.parametrize(
    ("losses", "rising"),
    [([1, 2, 3], True), ([1, 5, 2], True), ([1, 2], False), ([3, 2, 1], False), ([1, 2, 3, 4], False)],
)
def test_the_loss_is_compared_once_in_a_stage(losses: list[float], rising: bool) -> None:
    history = [{"stage": 0, "epoch": i + 1, "train": {"mse": loss}} for i, loss in enumerate(losses)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_loss_rising(history, "mse")
    assert bool(caught) == rising


def test_train_warns_about_targets_that_equal_the_inputs() -> None:
    text = "^noisy-target: every target is equal to its input"
    with pytest.warns(aezoo.DiagnosticWarning, match=text):
        train(spec_of(), data=(IMAGES, IMAGES.clone()))


# -- silence ------------------------------------------------------------------------------------------


def test_the_environment_silences_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for silenced in ("dead-latents", "x, dead-latents", "identity-risk", ""):
            monkeypatch.setenv("AEZOO_SILENCE", silenced)
            warn_dead_latents(9.0, 10)
    assert len(caught) == 2


def test_a_warnings_filter_silences_a_code() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="dead-latents")
        warn_dead_latents(9.0, 10)
        with pytest.raises(aezoo.DiagnosticWarning) as caught:
            Diagnostic("identity-risk", "encoder", "why").warn()
    assert caught.value.code == "identity-risk"
    assert str(caught.value) == "identity-risk: encoder: why"
