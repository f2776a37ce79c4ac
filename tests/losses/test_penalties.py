"""Penalties: each against its formula, and the networks that it rejects."""

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence

import aezoo
from aezoo.losses.penalties import jacobian_norm, one_layer_norm
from aezoo.model.build import build_on_meta
from tests.losses.networks import (
    CONV,
    DECODER,
    LINEAR,
    SIGMOID,
    TOPK,
    VARIATIONAL,
    build,
    context_of,
    images,
    loss_of,
    spec_error,
    spec_of,
    train,
    value_of,
)


def on_latents(loss: aezoo.LossSpec, latents: Tensor, **aux: Tensor) -> Tensor:
    """The penalty on given latents."""
    x = images(len(latents))
    return loss.build()(aezoo.Output(x, latents, aux), context_of(x), build(SIGMOID))


# -- l1_latents ---------------------------------------------------------------------------------------


def test_l1_sums_over_latents_and_averages_over_rows() -> None:
    latents = torch.tensor([[1.0, -2.0, 0.0], [0.0, 0.0, 4.0]], dtype=torch.float64)
    assert on_latents(loss_of("l1_latents"), latents) == 3.5
    assert on_latents(loss_of("l1_latents"), latents.view(2, 3, 1)) == 3.5


# -- kl_sparsity --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.05, 0.2, 0.9])
def test_kl_sparsity_is_the_divergence_of_two_bernoulli_distributions(rho: float) -> None:
    latents = torch.rand(10, 4, generator=Generator().manual_seed(0), dtype=torch.float64)
    wanted = Bernoulli(torch.full((4,), rho, dtype=torch.float64))
    expected = kl_divergence(wanted, Bernoulli(latents.mean(0))).mean()
    torch.testing.assert_close(on_latents(loss_of("kl_sparsity", rho=rho), latents), expected)


def test_kl_sparsity_is_zero_if_each_latent_has_mean_rho() -> None:
    latents = torch.tensor([[0.0, 0.25], [0.5, 0.25]], dtype=torch.float64)
    assert float(on_latents(loss_of("kl_sparsity", rho=0.25), latents)) == pytest.approx(0, abs=1e-15)
    # The transpose has the same mean over each row's latents, but not over the batch.
    assert on_latents(loss_of("kl_sparsity", rho=0.25), latents.T.contiguous()) > 0.01


@pytest.mark.parametrize("saturated", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_kl_sparsity_of_saturated_latents_has_a_finite_value_and_gradient(
    saturated: float, dtype: torch.dtype
) -> None:
    latents = torch.full((3, 2), saturated, dtype=dtype, requires_grad=True)
    value = on_latents(loss_of("kl_sparsity"), latents)
    value.backward()
    assert 0.5 < value < 20
    assert latents.grad is not None
    assert latents.grad.isfinite().all()


@pytest.mark.parametrize(("low", "high"), [(-0.25, 0.5), (0.25, 1.5)])
def test_kl_sparsity_rejects_latents_outside_0_to_1_or_clamps_them(low: float, high: float) -> None:
    latents = torch.tensor([[low, 0.5], [high, 0.5]], dtype=torch.float64)
    with pytest.raises(aezoo.DataError) as caught:
        on_latents(loss_of("kl_sparsity"), latents)
    assert str(caught.value) == f"kl_sparsity needs latents in [0, 1], found {low:g} to {high:g}"
    clamped = on_latents(loss_of("kl_sparsity", outside="clamp"), latents)
    assert clamped == on_latents(loss_of("kl_sparsity"), latents.clamp(0, 1))


def test_kl_sparsity_of_nan_is_nan() -> None:
    # The trainer then names the term, the stage and the epoch.
    assert on_latents(loss_of("kl_sparsity"), torch.full((2, 2), math.nan, dtype=torch.float64)).isnan()


@pytest.mark.parametrize(
    ("last", "found"),
    [
        ({"activation": "relu"}, "0 to inf"),
        ({"activation": "tanh"}, "-1 to 1"),
        ({}, "-inf to inf"),
        ({"activation": "sigmoid", "dropout": 0.5}, "0 to 2"),
    ],
    ids=["relu", "tanh", "none", "dropout"],
)
def test_kl_sparsity_rejects_an_encoder_that_leaves_0_to_1(last: dict[str, Any], found: str) -> None:
    encoder = ["flatten", LINEAR | last]
    assert spec_error(spec_of(encoder, "kl_sparsity")) == (
        f"recipe.penalties.0: kl_sparsity needs latents in [0, 1], the encoder gives {found}; "
        "end it in a sigmoid, or declare `outside: clamp`"
    )
    assert loss_of("kl_sparsity", outside="clamp").incompatibility(build_on_meta(spec_of(encoder))) is None


def test_kl_sparsity_accepts_a_sigmoid_followed_by_topk() -> None:
    encoder = [*SIGMOID, {"kind": "topk", "k": 2}]
    assert loss_of("kl_sparsity").incompatibility(build_on_meta(spec_of(encoder))) is None


def test_kl_sparsity_trains_latents_to_mean_rho() -> None:
    stages = [{"kind": "fit", "epochs": 40, "optimizer": {"kind": "adam", "lr": 0.05}}]
    ae = train(spec_of(SIGMOID, loss_of("kl_sparsity", rho=0.1, weight=10.0), stages=stages))
    active = ae.encode(images(60, dtype=torch.float32)).mean(0)
    assert (active - 0.1).abs().max() < 0.05


# -- vae_kl -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4,), (2, 3, 3)], ids=str)
def test_vae_kl_is_the_divergence_from_a_standard_normal(shape: tuple[int, ...]) -> None:
    generator = Generator().manual_seed(0)
    mean, log_var = (torch.randn(5, *shape, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0)).flatten(1).sum(1).mean()
    torch.testing.assert_close(on_latents(loss_of("vae_kl"), mean, mean=mean, log_var=log_var), expected)


def test_vae_kl_of_the_prior_is_zero() -> None:
    zeros = torch.zeros(3, 4, dtype=torch.float64)
    assert on_latents(loss_of("vae_kl"), zeros, mean=zeros, log_var=zeros) == 0


def test_free_bits_are_per_latent_and_stop_the_gradient() -> None:
    # Divergences of 2, 0.125 and 0 nats in every row.
    mean = torch.tensor([[2.0, 0.5, 0.0]] * 3, dtype=torch.float64, requires_grad=True)
    value = on_latents(loss_of("vae_kl", free_bits=0.5), mean, mean=mean, log_var=torch.zeros_like(mean))
    assert value == 2 + 0.5 + 0.5
    value.backward()
    assert mean.grad is not None
    assert (mean.grad[:, 0] > 0).all()
    assert torch.equal(mean.grad[:, 1:], torch.zeros(3, 2, dtype=torch.float64))


def test_free_bits_apply_to_the_mean_over_the_batch() -> None:
    mean = torch.tensor([[2.0], [0.0]], dtype=torch.float64)
    assert on_latents(loss_of("vae_kl", free_bits=0.5), mean, mean=mean, log_var=torch.zeros_like(mean)) == 1


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_weight_of_vae_kl_is_beta(beta: float) -> None:
    recipe = spec_of(VARIATIONAL, loss_of("vae_kl", weight=beta)).recipe
    loss, terms = aezoo.Objective(recipe)(build(VARIATIONAL), context_of(images()))
    torch.testing.assert_close(loss.detach(), terms["mse"] + beta * terms["vae_kl"])


@pytest.mark.parametrize("encoder", [SIGMOID, TOPK], ids=["sigmoid", "topk"])
def test_vae_kl_rejects_an_encoder_without_distributions(encoder: list[Any]) -> None:
    assert spec_error(spec_of(encoder, "l1_latents", "vae_kl")) == (
        "recipe.penalties.1: vae_kl needs an encoder that emits 'mean' and 'log_var'; end it in gaussian_sample"
    )


def test_vae_kl_accepts_layers_after_the_sampling() -> None:
    ae = build_on_meta(spec_of([*VARIATIONAL, {"kind": "linear", "out_features": 3}]))
    assert loss_of("vae_kl").incompatibility(ae) is None


# -- contractive --------------------------------------------------------------------------------------

ACTIVATIONS: list[Any] = [
    None, "relu", {"kind": "leaky_relu", "negative_slope": 0.2}, {"kind": "elu", "alpha": 0.5}, "gelu",
    {"kind": "gelu", "approximate": "tanh"}, "silu", {"kind": "softplus", "beta": 2.0}, "sigmoid", "tanh",
]  # fmt: skip
DEEP: dict[str, list[Any]] = {
    "two-layers": ["flatten", {"kind": "linear", "out_features": 7, "activation": "tanh"}, SIGMOID[1]],
    "layer-norm": ["flatten", LINEAR | {"norm": "layer_norm"}],
    "topk": ["flatten", LINEAR, {"kind": "topk", "k": 3}],
    "unit-norm": ["flatten", {"kind": "unit_norm_linear", "out_features": 8, "activation": "silu"}],
    "conv": [CONV | {"activation": "gelu"}, {"kind": "max_pool", "kernel_size": 2}, *SIGMOID],
    "conv-latents": [CONV | {"activation": "sigmoid"}, {"kind": "avg_pool", "kernel_size": 2}],
    "residual": ["flatten", {"kind": "residual", "layers": [
        {"kind": "linear", "out_features": 36, "activation": "tanh"}]}],
}  # fmt: skip


def jacobian_by_rows(ae: aezoo.Autoencoder, x: Tensor) -> Tensor:
    """The mean squared norm by the definition, one row at a time."""

    def latents(row: Tensor) -> Tensor:
        return ae.encode(row[None]).flatten()

    jacobians: list[Any] = [torch.autograd.functional.jacobian(latents, row, create_graph=True) for row in x]
    return torch.stack([jacobian.square().sum() for jacobian in jacobians]).mean()


def contractive(ae: aezoo.Autoencoder, x: Tensor) -> Tensor:
    return value_of(loss_of("contractive"), ae, x)


def assert_same(value: Tensor, expected: Tensor, ae: aezoo.Autoencoder) -> None:
    """Compares values and gradients of the encoder."""
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
    # A bias that the norm does not depend on may be missing from one graph and have zeros in the other.
    one, other = (
        torch.autograd.grad(v, list(ae.encoder.parameters()), retain_graph=True, allow_unused=True,
                            materialize_grads=True)
        for v in (value, expected)
    )  # fmt: skip
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_closed_form_of_one_layer_is_the_norm_of_its_jacobian(activation: Any, bias: bool) -> None:
    layer = {"kind": "linear", "out_features": 5, "activation": activation, "bias": bias}
    ae, x = build(["flatten", layer]), 2 * images(4) - 1
    closed = one_layer_norm(ae, x)
    assert closed is not None
    assert torch.equal(contractive(ae, x), closed)
    assert_same(closed, jacobian_by_rows(ae, x), ae)
    assert_same(closed, jacobian_norm(ae, x), ae)


@pytest.mark.parametrize("encoder", DEEP.values(), ids=DEEP)
def test_other_encoders_are_penalized_by_the_norm_of_their_jacobian(encoder: list[Any]) -> None:
    ae, x = build(encoder, decoder=["flatten", *DECODER]), images(3)
    assert one_layer_norm(ae, x) is None
    assert_same(contractive(ae, x), jacobian_by_rows(ae, x), ae)


@pytest.mark.parametrize("latents", [2, 3, 4, 7])
def test_jacobian_does_not_depend_on_the_chunks(latents: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = {"kind": "linear", "out_features": latents, "norm": "layer_norm", "activation": "tanh"}
    ae, x = build(["flatten", layer]), images(3)
    expected = contractive(ae, x)
    monkeypatch.setattr("aezoo.losses.penalties.LATENTS_AT_ONCE", 3)
    assert_same(contractive(ae, x), expected, ae)
    assert_same(contractive(ae, x), jacobian_by_rows(ae, x), ae)


@pytest.mark.parametrize("encoder", [SIGMOID, DEEP["two-layers"]], ids=["closed", "general"])
def test_contractive_has_the_same_value_without_gradients(encoder: list[Any]) -> None:
    ae, x = build(encoder), images()
    expected = contractive(ae, x)
    with torch.no_grad():
        value = contractive(ae, x)
    assert torch.equal(value, expected.detach())
    assert not value.requires_grad
    # If the encoder is frozen, only the input carries gradients.
    ae.requires_grad_(False)
    torch.testing.assert_close(contractive(ae, x).detach(), expected.detach(), rtol=1e-12, atol=0)


def test_contractive_uses_the_noisy_input() -> None:
    ae, x = build(SIGMOID), images()
    noisy = context_of(x)._replace(input=1 - x)
    value = loss_of("contractive").build()(ae(1 - x), noisy, ae)
    assert torch.equal(value, contractive(ae, 1 - x))
    assert not torch.equal(value, contractive(ae, x))


def test_training_with_contractive_reduces_the_norm() -> None:
    stages = [{"kind": "fit", "epochs": 30, "optimizer": {"kind": "adam", "lr": 0.01}}]
    plain, flat = (
        train(spec_of(SIGMOID, loss_of("contractive", weight=weight), stages=stages)) for weight in (0.0, 1.0)
    )
    terms = [ae.history[-1]["validation"]["contractive"] for ae in (plain, flat)]
    assert terms[1] < 0.2 * terms[0]


@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        (["flatten", LINEAR | {"norm": "batch_norm"}], "BatchNorm1d"),
        (["flatten", "batch_norm", SIGMOID[1]], "BatchNorm1d"),
        ([CONV | {"norm": "batch_norm"}, *SIGMOID], "BatchNorm2d"),
        ([*SIGMOID, {"kind": "lifetime", "rate": 0.5}], "Lifetime"),
        (["flatten", {"kind": "residual", "layers": [{"kind": "batch_norm"}]}, SIGMOID[1]], "BatchNorm1d"),
    ],
    ids=["norm", "layer", "conv", "lifetime", "nested"],
)
def test_contractive_rejects_rows_that_depend_on_one_another(encoder: list[Any], name: str) -> None:
    assert spec_error(spec_of(encoder, "contractive")) == (
        "recipe.penalties.0: contractive needs rows that do not depend on one another, "
        f"but {name} makes them dependent"
    )


# -- weight_decay -------------------------------------------------------------------------------------


def test_weight_decay_sums_squares_of_weights_without_biases_and_norms() -> None:
    ae = build([CONV | {"norm": "layer_norm"}, "flatten", LINEAR])
    value = value_of(loss_of("weight_decay"), ae, images(2))
    weights = [m.weight for m in ae.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weights) == 3
    torch.testing.assert_close(value, torch.stack([w.square().sum() for w in weights]).sum())
    value.backward()
    touched = {name for name, p in ae.named_parameters() if p.grad is not None}
    assert touched == {"encoder.0.conv.weight", "encoder.2.linear.weight", "decoder.0.linear.weight"}
    for weight in weights:
        torch.testing.assert_close(weight.grad, 2 * weight.detach())


@pytest.mark.parametrize(
    ("on", "touched"),
    [
        (["encoder"], {"encoder.1", "encoder.2"}),
        (["encoder.1"], {"encoder.1"}),
        (["decoder.0", "encoder.2"], {"encoder.2", "decoder.0"}),
    ],
    ids=["side", "layer", "layers"],
)
def test_weight_decay_applies_to_chosen_layers_only(on: list[str], touched: set[str]) -> None:
    ae = build(["flatten", *({"kind": "linear", "out_features": n} for n in (9, 8))])
    value_of(loss_of("weight_decay", on=on), ae, images(2)).backward()
    found = {name for name, p in ae.named_parameters() if p.grad is not None}
    assert {name.rpartition(".linear")[0] for name in found} == touched


def test_weight_decay_counts_a_weight_once() -> None:
    ae = build(SIGMOID)
    once, twice = (
        value_of(loss_of("weight_decay", on=on), ae, images(3))
        for on in (["encoder"], ["encoder", "encoder.1", "encoder"])
    )
    assert float(once.detach()) == float(twice.detach()) > 0


@pytest.mark.parametrize("path", ["encoder.7", "encoder.0", "recipe", "decoder.1", ""])
def test_weight_decay_rejects_a_path_without_weights(path: str) -> None:
    text = spec_error(spec_of(SIGMOID, loss_of("weight_decay", on=["encoder", path])))
    assert text == f"recipe.penalties.0: weight_decay finds no weights at {path!r}"
