"""Advice: given where it is due, nowhere else, and silenced by its code."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import aezoo
from aezoo.model.build import build_on_meta
from aezoo.training.diagnostics import Diagnostic, lint_spec, warn_dead_latents, warn_loss_rising
from tests.examples import small, small_spec

LINEAR = {"kind": "linear", "out_features": 36}
BACK = {"kind": "unflatten", "shape": [1, 6, 6]}


def wide(**recipe: Any) -> dict[str, Any]:
    """As many latents as inputs, and nothing that constrains them."""
    data = small(encoder=["flatten", LINEAR], decoder=[LINEAR, BACK])
    return data | {"recipe": data["recipe"] | recipe}


def codes(data: dict[str, Any]) -> list[str]:
    spec = aezoo.VariantSpec.model_validate(data)
    return [piece.code for piece in lint_spec(spec, build_on_meta(spec).shapes)]


def digits(n: int = 60) -> Tensor:
    return torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def plain() -> Any:
    """A recipe of one stage, of which fields may be changed."""

    def make(epochs: int = 1, lr: float = 1e-3) -> dict[str, Any]:
        stage = {"kind": "fit", "epochs": epochs, "optimizer": {"kind": "adam", "lr": lr}}
        return small()["recipe"] | {"stages": [stage], "threads": 1}

    return make


# -- the identity -------------------------------------------------------------------------------------


def test_as_many_latents_as_inputs_and_nothing_that_constrains_them_is_named() -> None:
    spec = aezoo.VariantSpec.model_validate(wide())
    (piece,) = lint_spec(spec, build_on_meta(spec).shapes)
    assert (piece.code, piece.path) == ("identity-risk", "encoder")
    assert piece.message.startswith("36 latents for 36 input values and nothing that constrains them")


@pytest.mark.parametrize(
    "data",
    [
        small(),
        wide(noises=[{"kind": "masking", "share": 0.1}]),
        wide() | {"encoder": ["flatten", LINEAR, {"kind": "topk", "k": 3}]},
        wide() | {"encoder": ["flatten", LINEAR, {"kind": "lifetime", "rate": 0.1}]},
        wide() | {"encoder": ["flatten", LINEAR | {"dropout": 0.2}]},
        wide() | {"encoder": ["flatten", {"kind": "residual", "layers": [LINEAR | {"dropout": 0.2}]}]},
        wide() | {"encoder": ["flatten", {"kind": "linear", "out_features": 5}, LINEAR]},
        wide() | {"decoder": [{"kind": "linear", "out_features": 5}, LINEAR, BACK]},
    ],
    ids=[
        "narrow",
        "noise",
        "topk",
        "lifetime",
        "dropout",
        "nested dropout",
        "narrow before",
        "narrow behind",
    ],
)
def test_whatever_constrains_the_latents_is_enough(data: dict[str, Any]) -> None:
    assert "identity-risk" not in codes(data)


def test_another_target_is_no_identity() -> None:
    target = {"target": {"shape": [36]}, "decoder": [LINEAR]}
    assert codes(wide() | target) == []


@pytest.mark.parametrize("kind", ["topk", "lifetime"])
def test_sparsity_layers_say_that_they_constrain(kind: str) -> None:
    assert aezoo.LayerSpec.of_kind(kind).limits_information  # pyright: ignore[reportAttributeAccessIssue]


# -- the output's range -------------------------------------------------------------------------------


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
def test_an_output_activation_that_cannot_reach_the_data_is_named(
    activation: Any, range_: list[float] | None, fits: bool
) -> None:
    data = small(
        input={"shape": [1, 6, 6], "range": range_}, decoder=[LINEAR | {"activation": activation}, BACK]
    )
    assert codes(data) == ([] if fits else ["output-range"])


@pytest.mark.parametrize("kind", aezoo.ActivationSpec.kinds())
def test_an_activation_stays_within_its_reach_and_uses_it(kind: str) -> None:
    spec: Any = aezoo.ActivationSpec.model_validate(kind)
    low, high = spec.output_bounds()
    out = spec.build()(torch.linspace(-50, 50, 20_001, dtype=torch.float64))
    assert low <= float(out.min()) < max(low, -0.5) + 0.01
    assert min(high, 1) - 0.01 < float(out.max()) <= high


def test_the_path_is_that_of_the_last_layer_with_weights() -> None:
    spec = small_spec(decoder=[LINEAR | {"activation": "tanh"}, LINEAR | {"activation": "relu"}, BACK],
                      input={"shape": [1, 6, 6], "range": [-1, 1]})  # fmt: skip
    (piece,) = lint_spec(spec, build_on_meta(spec).shapes)
    assert piece.path == "decoder.1.activation"
    assert piece.message.startswith("relu gives 0 to inf and cannot reach the data's values in [-1.0, 1.0]")


# -- while training -----------------------------------------------------------------------------------


def test_training_and_validating_say_what_they_find(tmp_path: Path, plain: Any) -> None:
    spec = aezoo.VariantSpec.model_validate(wide() | {"recipe": plain()})
    with pytest.warns(aezoo.DiagnosticWarning, match="^identity-risk: encoder: 36 latents"):
        aezoo.train(spec, digits(), progress=False)
    path = tmp_path / "spec.yaml"
    path.write_text(aezoo.to_yaml(spec))
    with pytest.warns(aezoo.DiagnosticWarning, match="^identity-risk: encoder: 36 latents"):
        aezoo.validate(path)


def test_dead_latents_are_counted_and_what_helps_is_said(plain: Any) -> None:
    data = small(recipe=plain())
    data["encoder"][2] = {"kind": "topk", "k": 1}
    spec = aezoo.VariantSpec.model_validate(data)
    ones = torch.ones(40, 1, 6, 6)
    with pytest.warns(
        aezoo.DiagnosticWarning, match="^dead-latents: 7 of 8 latents are zero for every training sample"
    ):
        aezoo.train(spec, ones, progress=False)


@pytest.mark.parametrize(("dead", "warned"), [(None, False), (0.0, False), (20.0, False), (21.0, True)])
def test_a_fifth_of_the_latents_may_be_dead(dead: float | None, warned: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_dead_latents(dead, 100)
    assert bool(caught) == warned


def test_a_loss_that_rises_from_the_start_points_at_the_learning_rate(plain: Any) -> None:
    recipe = plain(epochs=4, lr=0.5)
    recipe["stages"][0]["schedule"] = {"kind": "cosine", "warmup_steps": 12}
    spec = small_spec(recipe=recipe, decoder=[LINEAR, BACK], encoder=["flatten", LINEAR])
    with pytest.warns(aezoo.DiagnosticWarning) as caught:
        aezoo.train(spec, digits(), progress=False)
    (text,) = [str(w.message) for w in caught if str(w.message).startswith("loss-rising")]
    assert text.startswith("loss-rising: stage 0: mse rose over the first 3 epochs (")
    assert text.endswith("lower the learning rate")


@pytest.mark.parametrize(
    ("losses", "risen"),
    [([1, 2, 3], True), ([1, 5, 2], True), ([1, 2], False), ([3, 2, 1], False), ([1, 2, 3, 4], False)],
)
def test_the_loss_is_looked_at_once_in_a_stage(losses: list[float], risen: bool) -> None:
    history = [{"stage": 0, "epoch": i + 1, "train": {"mse": loss}} for i, loss in enumerate(losses)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_loss_rising(history, "mse")
    assert bool(caught) == risen


def test_a_loss_that_falls_is_fine(plain: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        aezoo.train(small_spec(recipe=plain(epochs=4)), digits(), progress=False)
    assert not [w for w in caught if "loss-rising" in str(w.message)]


def test_targets_that_are_no_different_from_the_inputs_are_named(plain: Any) -> None:
    spec = small_spec(recipe=plain())
    with pytest.warns(aezoo.DiagnosticWarning, match="^noisy-target: every target is equal to its input"):
        aezoo.train(spec, (digits(), digits()), progress=False)


@pytest.mark.parametrize("noises", [[], [{"kind": "masking", "share": 0.5}]])
def test_an_objective_is_told_when_its_target_is_the_noisy_input(noises: list[Any], plain: Any) -> None:
    recipe = aezoo.RecipeSpec.model_validate(plain() | {"noises": noises})
    ae, x = aezoo.build(small_spec()), digits(4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        aezoo.Objective(recipe)(ae, aezoo.StepContext(x, x, None, 0.0, 0, torch.Generator()))
        aezoo.Objective(recipe)(ae, aezoo.StepContext(x, x.clone(), None, 0.0, 0, torch.Generator()))
    assert [str(w.message).partition(":")[0] for w in caught] == ["noisy-target"] * bool(noises)


# -- silence ------------------------------------------------------------------------------------------


def test_a_code_is_silenced_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for silenced in ("dead-latents", "x, dead-latents", "identity-risk", ""):
            monkeypatch.setenv("AEZOO_SILENCE", silenced)
            warn_dead_latents(9.0, 10)
    assert len(caught) == 2


def test_a_code_is_silenced_by_pythons_own_filter() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="dead-latents")
        warn_dead_latents(9.0, 10)
        with pytest.raises(aezoo.DiagnosticWarning) as caught:
            Diagnostic("identity-risk", "encoder", "why").give()
    assert caught.value.code == "identity-risk"
    assert str(caught.value) == "identity-risk: encoder: why"
