"""Reconstruction terms: formulas, reductions, and values or networks that are rejected."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import aezoo
from tests.examples import LOSSES, small_spec
from tests.losses.networks import SHAPE, SIGMOID, build, context_of, images, loss_of, spec_error

KINDS = [kind for kind in LOSSES if loss_of(kind).role == "reconstruction"]


@pytest.fixture(scope="module")
def ae() -> aezoo.Autoencoder:
    return build(SIGMOID)


def row_loss(loss: aezoo.LossSpec, x_hat: Tensor, target: list[float], ae: aezoo.Autoencoder) -> Tensor:
    """The loss of a batch of one row."""
    output = aezoo.Output(x_hat[None], torch.zeros(1, 8, dtype=torch.float64), {})
    return loss.build()(output, context_of(torch.tensor([target], dtype=torch.float64)), ae)


HUBER: dict[str, Any] = {"kind": "huber"}
CROSS_ENTROPY = -(math.log(0.8) + 0.5 * math.log(0.4) + 0.5 * math.log(0.6)) / 2


@pytest.mark.parametrize(
    ("loss", "x_hat", "target", "expected"),
    [
        pytest.param("mse", [1.0, 2.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0], 5 / 4, id="mse"),
        pytest.param("l1", [1.0, 2.0, -1.0, 0.5], [1.0, 0.0, 0.0, 0.0], 3.5 / 4, id="l1"),
        pytest.param("bce", [0.8, 0.4], [1.0, 0.5], CROSS_ENTROPY, id="bce"),
        pytest.param("bce", [0.0, 1.0], [0.0, 1.0], 0, id="bce-perfect"),
        pytest.param("bce", [0.0, 1.0], [1.0, 0.0], 100, id="bce-limited"),
        pytest.param(HUBER | {"delta": 1.0}, [0.5, -3.0], [0.0, 0.0], (0.125 + 2.5) / 2, id="huber-1-beyond"),
        pytest.param(HUBER | {"delta": 0.25}, [0.5, -3.0], [0.0, 0.0], 0.25 * 3.25 / 2, id="huber-2-beyond"),
        pytest.param(HUBER | {"delta": 9.0}, [0.5, -3.0], [0.0, 0.0], (0.125 + 4.5) / 2, id="huber-0-beyond"),
    ],
)  # fmt: skip
def test_value_is_that_of_the_formula(
    loss: Any, x_hat: list[float], target: list[float], expected: float, ae: aezoo.Autoencoder
) -> None:
    spec = aezoo.LossSpec.model_validate(loss)
    found = row_loss(spec, torch.tensor(x_hat, dtype=torch.float64), target, ae)
    assert float(found) == pytest.approx(expected, rel=1e-15, abs=0)


@pytest.mark.parametrize(("loss", "kink"), [(loss_of("l1"), 0.0), (loss_of("huber", delta=0.25), 0.25)])
def test_gradient_is_correct_on_both_sides_of_a_kink(
    loss: aezoo.LossSpec, kink: float, ae: aezoo.Autoencoder
) -> None:
    def value(x_hat: Tensor) -> Tensor:
        return row_loss(loss, x_hat, [0.0] * 4, ae)

    x_hat = torch.tensor([kink - 0.1, kink + 0.1, -kink - 0.1, -kink + 0.1], dtype=torch.float64)
    assert torch.autograd.gradcheck(value, (x_hat.requires_grad_(),))


@pytest.mark.parametrize("kind", KINDS)
def test_sum_is_the_mean_times_the_number_of_elements(kind: str) -> None:
    ae, x = aezoo.build(small_spec(), dtype=torch.float64), images()
    mean, total = (
        loss_of(kind, reduction=reduction).build()(ae(x), context_of(x), ae) for reduction in ("mean", "sum")
    )
    torch.testing.assert_close(total, math.prod(SHAPE) * mean, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_target_is_compared_and_not_the_noisy_input(kind: str, ae: aezoo.Autoencoder) -> None:
    x, output = images(), aezoo.Output(images(seed=1), images(seed=2), {})
    clean, noisy = context_of(x), context_of(x)._replace(input=1 - x)
    loss = loss_of(kind).build()
    assert loss(output, clean, ae) == loss(output, noisy, ae)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_in_the_reconstruction_gives_a_loss_of_nan(kind: str, ae: aezoo.Autoencoder) -> None:
    # The trainer then names the term, the stage and the epoch.
    x_hat = torch.tensor([0.5, math.nan], dtype=torch.float64)
    assert row_loss(loss_of(kind), x_hat, [0.5, 0.5], ae).isnan()


# -- bce stays in [0, 1] ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x_hat", "target", "words"),
    [
        (1.25, 0.5, "the reconstruction has 0.25 to 1.25"),
        (-0.5, 0.5, "the reconstruction has -0.5 to 0.25"),
        (0.5, 1.25, "the target has 0.25 to 1.25"),
        (0.5, -0.5, "the target has -0.5 to 0.25"),
    ],
)
def test_bce_rejects_values_outside_0_to_1(
    x_hat: float, target: float, words: str, ae: aezoo.Autoencoder
) -> None:
    with pytest.raises(aezoo.DataError) as caught:
        row_loss(loss_of("bce"), torch.tensor([0.25, x_hat], dtype=torch.float64), [0.25, target], ae)
    assert str(caught.value) == (
        f"bce needs values in [0, 1], {words}; end the decoder in a sigmoid and declare a range of [0, 1]"
    )


def bce_spec(limits: list[float] | None = None, **last: Any) -> aezoo.VariantSpec:
    decoder = [{"kind": "linear", "out_features": 36, **last}, {"kind": "unflatten", "shape": [*SHAPE]}]
    spec = small_spec(input={"shape": [*SHAPE], "range": limits}, decoder=decoder)
    return spec.replace({"recipe.reconstruction": {"kind": "bce"}})


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ({}, "-inf to inf"),
        ({"activation": "relu"}, "0 to inf"),
        ({"activation": "tanh"}, "-1 to 1"),
        ({"activation": "sigmoid", "dropout": 0.5}, "0 to 2"),
    ],
    ids=["none", "relu", "tanh", "dropout"],
)
def test_bce_rejects_a_decoder_that_leaves_0_to_1(last: dict[str, Any], words: str) -> None:
    assert spec_error(bce_spec([0, 1], **last)) == (
        f"recipe.reconstruction: bce needs a decoder that stays in [0, 1], its last layers give {words}"
    )


def test_bce_rejects_targets_outside_0_to_1() -> None:
    assert spec_error(bce_spec([-1, 1], activation="sigmoid")) == (
        "recipe.reconstruction: bce needs targets in [0, 1], their range is [-1.0, 1.0]"
    )


@pytest.mark.parametrize("limits", [[0, 1], [0.25, 0.75], None], ids=str)
def test_bce_accepts_a_sigmoid_and_a_range_within_0_to_1(limits: list[float] | None) -> None:
    spec = bce_spec(limits, activation="sigmoid")
    assert spec.recipe.reconstruction.incompatibility(aezoo.build(spec)) is None
