"""Penalties: each against its formula, what it refuses, and what it does to a training."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Generator, Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence

import aezoo
from aezoo.losses.penalties import jacobian_norm, one_layer_norm
from aezoo.model.build import build_on_meta
from tests.examples import small, small_spec

SHAPE = (1, 6, 6)
SIGMOID = ["flatten", {"kind": "linear", "out_features": 8, "activation": "sigmoid"}]
DECODER = [{"kind": "linear", "out_features": 36}, {"kind": "unflatten", "shape": [1, 6, 6]}]


def penalty(kind: str, **options: Any) -> aezoo.LossSpec:
    return aezoo.LossSpec.model_validate({"kind": kind, **options})


def spec_of(encoder: list[Any], *used: Any, decoder: list[Any] = DECODER, **recipe: Any) -> aezoo.VariantSpec:
    return small_spec(
        encoder=encoder,
        decoder=decoder,
        recipe=small()["recipe"] | {"threads": 1, "penalties": list(used)} | recipe,
    )


def images(n: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(n, *SHAPE, generator=Generator().manual_seed(seed), dtype=dtype)


def batch_of(x: Tensor) -> aezoo.StepContext:
    return aezoo.StepContext(x, x, None, 0.0, 0, Generator().manual_seed(0))


def built(encoder: list[Any], decoder: list[Any] = DECODER) -> aezoo.Autoencoder:
    return aezoo.build(spec_of(encoder, decoder=decoder), dtype=torch.float64)


def on_latents(loss: aezoo.LossSpec, latents: Tensor, **aux: Tensor) -> Tensor:
    """The penalty of latents that no network made."""
    x = images(len(latents))
    return loss.build()(aezoo.Output(x, latents, aux), batch_of(x), built(SIGMOID))


def train(spec: aezoo.VariantSpec, n: int = 60) -> aezoo.Autoencoder:
    return aezoo.train(spec, images(n, dtype=torch.float32), device="cpu", progress=False)


def validation_error(spec: aezoo.VariantSpec) -> str:
    """What `train` says before it looks at the data, of which there are none."""
    with pytest.raises(aezoo.SpecError) as caught:
        aezoo.train(spec, object(), device="cpu", progress=False)
    return str(caught.value)


VARIATIONAL = ["flatten", {"kind": "linear", "out_features": 8}, "gaussian_sample"]
TOPK = ["flatten", {"kind": "linear", "out_features": 8}, {"kind": "topk", "k": 2}]
EACH: list[Any] = [
    pytest.param(encoder, {"kind": kind, **options}, id=kind)
    for kind, encoder, options in (
        ("l1_latents", TOPK, {}),
        ("kl_sparsity", SIGMOID, {}),
        ("vae_kl", VARIATIONAL, {"warmup_epochs": 1.0}),
        ("contractive", SIGMOID, {}),
        ("weight_decay", TOPK, {}),
        ("auxk", TOPK, {"k": 3, "dead_after": 10}),
    )
]


# -- what all of them keep to -------------------------------------------------------------------------


@pytest.mark.parametrize(("encoder", "used"), EACH)
def test_a_training_records_a_finite_term(encoder: list[Any], used: dict[str, Any]) -> None:
    ae = train(spec_of(encoder, used, stages=[{"kind": "fit", "epochs": 1}]))
    for split in ("train", "validation"):
        values = ae.history[0][split]
        assert list(values) == ["loss", "mse", used["kind"]]
        assert all(math.isfinite(value) for value in values.values())
        assert values[used["kind"]] >= 0
    # Half of the warm-up lies, on average, behind; the data are the same in every epoch.
    if "warmup_epochs" not in used:
        weight = aezoo.LossSpec.model_validate(used).weight
        values = ae.history[0]["validation"]
        assert values["loss"] == pytest.approx(values["mse"] + weight * values[used["kind"]], rel=1e-5)


@pytest.mark.parametrize(("encoder", "used"), EACH)
def test_a_repeated_batch_changes_no_penalty(encoder: list[Any], used: dict[str, Any]) -> None:
    # Without draws, which would differ; and auxk counts rows, of which one makes a latent dead here.
    ae = built(encoder).eval()
    loss = aezoo.LossSpec.model_validate(used | ({"dead_after": 1} if used["kind"] == "auxk" else {}))
    one, three = (loss.build()(ae(x), batch_of(x), ae) for x in (images(), torch.cat([images()] * 3)))
    assert one > 0
    torch.testing.assert_close(one, three, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("encoder", "used"), EACH)
def test_its_gradient_is_finite_and_leaves_nothing_behind(encoder: list[Any], used: dict[str, Any]) -> None:
    ae, x = built(encoder), images()
    loss = aezoo.LossSpec.model_validate(used)
    value = aezoo.Objective(spec_of(encoder, loss).recipe)(ae, batch_of(x))[0]
    assert all(p.grad is None for p in ae.parameters())
    value.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in ae.parameters())
    assert x.grad is None
    assert not x.requires_grad


# -- l1_latents ---------------------------------------------------------------------------------------


def test_l1_sums_over_latents_and_averages_over_rows() -> None:
    latents = torch.tensor([[1.0, -2.0, 0.0], [0.0, 0.0, 4.0]], dtype=torch.float64)
    assert on_latents(penalty("l1_latents"), latents) == 3.5
    assert on_latents(penalty("l1_latents"), latents.view(2, 3, 1)) == 3.5


# -- kl_sparsity --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.05, 0.2, 0.9])
def test_kl_sparsity_is_the_divergence_of_two_bernoulli_distributions(rho: float) -> None:
    latents = torch.rand(10, 4, generator=Generator().manual_seed(0), dtype=torch.float64)
    wanted = Bernoulli(torch.full((4,), rho, dtype=torch.float64))
    expected = kl_divergence(wanted, Bernoulli(latents.mean(0))).mean()
    torch.testing.assert_close(on_latents(penalty("kl_sparsity", rho=rho), latents), expected)


def test_kl_sparsity_is_zero_where_each_latent_is_active_as_often_as_wanted() -> None:
    latents = torch.tensor([[0.0, 0.25], [0.5, 0.25]], dtype=torch.float64)
    assert float(on_latents(penalty("kl_sparsity", rho=0.25), latents)) == pytest.approx(0, abs=1e-15)
    # Over the batch, not over a row's latents: their means are as wanted, too, when turned round.
    assert on_latents(penalty("kl_sparsity", rho=0.25), latents.T.contiguous()) > 0.01


@pytest.mark.parametrize("saturated", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_kl_sparsity_of_saturated_latents_is_finite_with_a_finite_gradient(
    saturated: float, dtype: torch.dtype
) -> None:
    latents = torch.full((3, 2), saturated, dtype=dtype, requires_grad=True)
    value = on_latents(penalty("kl_sparsity"), latents)
    value.backward()
    assert 0.5 < value < 20
    assert latents.grad is not None
    assert latents.grad.isfinite().all()


@pytest.mark.parametrize(("low", "high"), [(-0.25, 0.5), (0.25, 1.5)])
def test_kl_sparsity_refuses_latents_outside_0_to_1_or_clamps_them(low: float, high: float) -> None:
    latents = torch.tensor([[low, 0.5], [high, 0.5]], dtype=torch.float64)
    with pytest.raises(aezoo.DataError) as caught:
        on_latents(penalty("kl_sparsity"), latents)
    assert str(caught.value) == f"kl_sparsity needs latents in [0, 1], found {low:g} to {high:g}"
    clamped = penalty("kl_sparsity", outside="clamp")
    assert on_latents(clamped, latents) == on_latents(penalty("kl_sparsity"), latents.clamp(0, 1))


def test_kl_sparsity_of_nan_is_nan_for_the_trainer_to_name() -> None:
    assert on_latents(penalty("kl_sparsity"), torch.full((2, 2), math.nan, dtype=torch.float64)).isnan()


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
def test_kl_sparsity_objects_to_an_encoder_that_leaves_0_to_1(last: dict[str, Any], found: str) -> None:
    encoder = ["flatten", {"kind": "linear", "out_features": 8, **last}]
    assert validation_error(spec_of(encoder, "kl_sparsity")) == (
        f"recipe.penalties.0: kl_sparsity needs latents in [0, 1], the encoder gives {found}; "
        "end it in a sigmoid, or declare `outside: clamp`"
    )
    clamping = penalty("kl_sparsity", outside="clamp")
    assert clamping.incompatibility(build_on_meta(spec_of(encoder))) is None


def test_kl_sparsity_takes_a_sigmoid_whose_latents_are_thinned_out() -> None:
    encoder = [*SIGMOID, {"kind": "topk", "k": 2}]
    assert penalty("kl_sparsity").incompatibility(build_on_meta(spec_of(encoder))) is None


def test_kl_sparsity_makes_latents_as_rare_as_wanted() -> None:
    stages = [{"kind": "fit", "epochs": 40, "optimizer": {"kind": "adam", "lr": 0.05}}]
    ae = train(spec_of(SIGMOID, penalty("kl_sparsity", rho=0.1, weight=10.0), stages=stages))
    active = ae.encode(images(60, dtype=torch.float32)).mean(0)
    assert (active - 0.1).abs().max() < 0.05


# -- vae_kl -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4,), (2, 3, 3)], ids=str)
def test_vae_kl_is_the_divergence_from_a_standard_normal(shape: tuple[int, ...]) -> None:
    generator = Generator().manual_seed(0)
    mean, log_var = (torch.randn(5, *shape, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0)).flatten(1).sum(1).mean()
    torch.testing.assert_close(on_latents(penalty("vae_kl"), mean, mean=mean, log_var=log_var), expected)


def test_vae_kl_of_the_prior_itself_is_zero() -> None:
    zeros = torch.zeros(3, 4, dtype=torch.float64)
    assert on_latents(penalty("vae_kl"), zeros, mean=zeros, log_var=zeros) == 0


def test_free_bits_are_each_latents_own_and_not_pressed_further_down() -> None:
    # Divergences of 2, 0.125 and 0 nats in every row.
    mean = torch.tensor([[2.0, 0.5, 0.0]] * 3, dtype=torch.float64, requires_grad=True)
    value = on_latents(penalty("vae_kl", free_bits=0.5), mean, mean=mean, log_var=torch.zeros_like(mean))
    assert value == 2 + 0.5 + 0.5
    value.backward()
    assert mean.grad is not None
    assert (mean.grad[:, 0] > 0).all()
    assert torch.equal(mean.grad[:, 1:], torch.zeros(3, 2, dtype=torch.float64))


def test_free_bits_go_by_the_mean_over_the_batch() -> None:
    mean = torch.tensor([[2.0], [0.0]], dtype=torch.float64)
    assert on_latents(penalty("vae_kl", free_bits=0.5), mean, mean=mean, log_var=torch.zeros_like(mean)) == 1


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_the_weight_of_vae_kl_is_its_beta(beta: float) -> None:
    ae = built(VARIATIONAL)
    recipe = spec_of(VARIATIONAL, {"kind": "vae_kl", "weight": beta}).recipe
    loss, terms = aezoo.Objective(recipe)(ae, batch_of(images()))
    torch.testing.assert_close(loss.detach(), terms["mse"] + beta * terms["vae_kl"])


@pytest.mark.parametrize("encoder", [SIGMOID, TOPK], ids=["sigmoid", "topk"])
def test_vae_kl_objects_to_an_encoder_without_distributions(encoder: list[Any]) -> None:
    assert validation_error(spec_of(encoder, "l1_latents", "vae_kl")) == (
        "recipe.penalties.1: vae_kl needs an encoder that emits 'mean' and 'log_var'; end it in gaussian_sample"
    )


def test_vae_kl_finds_what_a_nested_layer_emits() -> None:
    ae = build_on_meta(spec_of([*VARIATIONAL, {"kind": "linear", "out_features": 3}]))
    assert penalty("vae_kl").incompatibility(ae) is None


@pytest.mark.parametrize(("encoder", "used"), EACH)
def test_every_term_is_summed_in_float32_when_layers_run_in_bfloat16(
    encoder: list[Any], used: dict[str, Any]
) -> None:
    spec = spec_of(encoder, used, autocast="bf16")
    x = images(dtype=torch.float32)
    loss, terms = aezoo.Objective(spec.recipe)(aezoo.build(spec), batch_of(x))
    assert {name: term.dtype for name, term in terms.items()} == dict.fromkeys(terms, torch.float32)
    assert loss.dtype == torch.float32


# -- contractive --------------------------------------------------------------------------------------

ACTIVATIONS: list[Any] = [
    None, "relu", {"kind": "leaky_relu", "negative_slope": 0.2}, {"kind": "elu", "alpha": 0.5}, "gelu",
    {"kind": "gelu", "approximate": "tanh"}, "silu", {"kind": "softplus", "beta": 2.0}, "sigmoid", "tanh",
]  # fmt: skip
CONV = {"kind": "conv", "out_channels": 2, "kernel_size": 3}
DEEP: list[Any] = [
    pytest.param(encoder, id=name)
    for name, encoder in {
        "two-layers": ["flatten", {"kind": "linear", "out_features": 7, "activation": "tanh"}, SIGMOID[1]],
        "layer-norm": ["flatten", {"kind": "linear", "out_features": 8, "norm": "layer_norm"}],
        "topk": ["flatten", {"kind": "linear", "out_features": 8}, {"kind": "topk", "k": 3}],
        "unit-norm": ["flatten", {"kind": "unit_norm_linear", "out_features": 8, "activation": "silu"}],
        "conv": [CONV | {"activation": "gelu"}, {"kind": "max_pool", "kernel_size": 2}, "flatten", *SIGMOID[1:]],
        "conv-latents": [CONV | {"activation": "sigmoid"}, {"kind": "avg_pool", "kernel_size": 2}],
        "residual": ["flatten", {"kind": "residual", "layers": [
            {"kind": "linear", "out_features": 36, "activation": "tanh"}]}],
    }.items()
]  # fmt: skip


def decoder_for(encoder: list[Any]) -> list[Any]:
    latents = build_on_meta(spec_of(encoder, decoder=[{"kind": "flatten"}, *DECODER])).latent_shape
    return DECODER if len(latents) == 1 else ["flatten", *DECODER]


def brute_force(ae: aezoo.Autoencoder, x: Tensor) -> Tensor:
    """Row by row, as the formula stands."""
    norms: list[Tensor] = []
    for row in x:
        jacobian: Any = torch.autograd.functional.jacobian(
            lambda one: ae.encode(one[None]).flatten(), row, create_graph=True
        )
        norms.append(jacobian.square().sum())
    return torch.stack(norms).mean()


def contractive(ae: aezoo.Autoencoder, x: Tensor) -> Tensor:
    return penalty("contractive").build()(ae(x), batch_of(x), ae)


def assert_same(value: Tensor, expected: Tensor, ae: aezoo.Autoencoder) -> None:
    """Values and gradients of the encoder."""
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
    # A bias on which a norm does not depend may be no part of one graph, and get zeros from the other.
    one, other = (
        torch.autograd.grad(v, list(ae.encoder.parameters()), retain_graph=True, allow_unused=True,
                            materialize_grads=True)
        for v in (value, expected)
    )  # fmt: skip
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_the_closed_form_of_one_layer_is_the_norm_of_its_jacobian(activation: Any, bias: bool) -> None:
    layer = {"kind": "linear", "out_features": 5, "activation": activation, "bias": bias}
    ae, x = built(["flatten", layer]), 2 * images(4) - 1
    closed = one_layer_norm(ae, x)
    assert closed is not None
    assert torch.equal(contractive(ae, x), closed)
    assert_same(closed, brute_force(ae, x), ae)
    assert_same(closed, jacobian_norm(ae, x), ae)


@pytest.mark.parametrize("encoder", DEEP)
def test_any_other_encoder_is_penalised_by_the_norm_of_its_jacobian(encoder: list[Any]) -> None:
    ae, x = built(encoder, decoder_for(encoder)), images(3)
    assert one_layer_norm(ae, x) is None
    assert_same(contractive(ae, x), brute_force(ae, x), ae)


@pytest.mark.parametrize("latents", [2, 3, 4, 7])
def test_latents_are_taken_in_turns_without_a_seam(latents: int, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = [
        "flatten",
        {"kind": "linear", "out_features": latents, "norm": "layer_norm", "activation": "tanh"},
    ]
    ae, x = built(encoder), images(3)
    expected = contractive(ae, x)
    monkeypatch.setattr("aezoo.losses.penalties.LATENTS_AT_ONCE", 3)
    assert_same(contractive(ae, x), expected, ae)
    assert_same(contractive(ae, x), brute_force(ae, x), ae)


@pytest.mark.parametrize("encoder", [SIGMOID, DEEP[0].values[0]], ids=["closed", "general"])
def test_contractive_is_the_same_where_no_gradient_is_wanted(encoder: list[Any]) -> None:
    ae, x = built(encoder), images()
    expected = contractive(ae, x)
    with torch.no_grad():
        value = contractive(ae, x)
    assert torch.equal(value, expected.detach())
    assert not value.requires_grad
    # A frozen encoder leaves nothing that carries gradients but the input's.
    ae.requires_grad_(False)
    torch.testing.assert_close(contractive(ae, x).detach(), expected.detach(), rtol=1e-12, atol=0)


def test_contractive_reads_the_input_with_its_noise() -> None:
    ae, x = built(SIGMOID), images()
    noisy = batch_of(x)._replace(input=1 - x)
    value = penalty("contractive").build()(ae(1 - x), noisy, ae)
    assert torch.equal(value, contractive(ae, 1 - x))
    assert not torch.equal(value, contractive(ae, x))


def test_contractive_flattens_what_it_is_trained_on() -> None:
    stages = [{"kind": "fit", "epochs": 30, "optimizer": {"kind": "adam", "lr": 0.01}}]
    plain, flat = (
        train(spec_of(SIGMOID, penalty("contractive", weight=weight), stages=stages)) for weight in (0.0, 1.0)
    )
    terms = [ae.history[-1]["validation"]["contractive"] for ae in (plain, flat)]
    assert terms[1] < 0.2 * terms[0]


@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        (["flatten", {"kind": "linear", "out_features": 8, "norm": "batch_norm"}], "BatchNorm1d"),
        (["flatten", "batch_norm", *SIGMOID[1:]], "BatchNorm1d"),
        ([CONV | {"norm": "batch_norm"}, "flatten", SIGMOID[1]], "BatchNorm2d"),
        ([*SIGMOID, {"kind": "lifetime", "rate": 0.5}], "Lifetime"),
        (["flatten", {"kind": "residual", "layers": [{"kind": "batch_norm"}]}, SIGMOID[1]], "BatchNorm1d"),
    ],
    ids=["norm", "layer", "conv", "lifetime", "nested"],
)
def test_contractive_objects_to_rows_that_depend_on_one_another(encoder: list[Any], name: str) -> None:
    text = validation_error(spec_of(encoder, "contractive"))
    assert text.startswith("recipe.penalties.0: contractive needs rows that do not depend on one another, ")
    assert name in text


# -- weight_decay -------------------------------------------------------------------------------------


def test_weight_decay_sums_the_squares_of_weights_and_leaves_biases_and_norms_alone() -> None:
    encoder = [CONV | {"norm": "layer_norm"}, "flatten", {"kind": "linear", "out_features": 8}]
    ae = built(encoder)
    x = images(2)
    value = penalty("weight_decay").build()(ae(x), batch_of(x), ae)
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
def test_weight_decay_is_for_chosen_layers_only(on: list[str], touched: set[str]) -> None:
    ae = built(["flatten", *({"kind": "linear", "out_features": n} for n in (9, 8))])
    x = images(2)
    penalty("weight_decay", on=on).build()(ae(x), batch_of(x), ae).backward()
    assert {
        name.rpartition(".linear")[0] for name, p in ae.named_parameters() if p.grad is not None
    } == touched


def test_weight_decay_counts_a_weight_once_however_often_it_is_named() -> None:
    spec = spec_of(SIGMOID, penalty("weight_decay"))
    ae, x = aezoo.build(spec), torch.rand(3, *spec.input.shape)
    once, twice = (
        penalty("weight_decay", on=on).build()(ae(x), batch_of(x), ae)
        for on in (["encoder"], ["encoder", "encoder.1", "encoder"])
    )
    assert float(once.detach()) == float(twice.detach()) > 0


@pytest.mark.parametrize("path", ["encoder.7", "encoder.0", "recipe", "decoder.1", ""])
def test_weight_decay_objects_to_a_layer_without_weights(path: str) -> None:
    text = validation_error(spec_of(SIGMOID, penalty("weight_decay", on=["encoder", path])))
    assert text == f"recipe.penalties.0: weight_decay has nothing to do on {path!r}"


# -- auxk ---------------------------------------------------------------------------------------------


def with_dead(ae: aezoo.Autoencoder, *dead: int) -> aezoo.Autoencoder:
    """Latents so far down that topk never takes them; the others differ."""
    linear: Any = ae.encoder[1].get_submodule("linear")
    with torch.no_grad():
        linear.bias[list(dead)] -= 100.0
    return ae


def auxk(**options: Any) -> Any:
    return penalty("auxk", **options).build()


def step(term: Any, ae: aezoo.Autoencoder, x: Tensor) -> Tensor:
    return term(ae(x), batch_of(x), ae)


def test_auxk_is_zero_until_a_latent_was_silent_for_long_enough() -> None:
    ae, x = with_dead(built(TOPK), 3), images(6)
    term = auxk(dead_after=18)
    assert [bool(step(term, ae, x) > 0) for _ in range(4)] == [False, False, True, True]
    assert float(term.idle[3]) == 24


def test_auxk_counts_rows_of_training_only() -> None:
    ae, x = with_dead(built(TOPK), 3, 5), images(6)
    term = auxk(dead_after=7)
    step(term.eval(), ae, x)
    assert term.idle.tolist() == [0.0] * 8
    step(term.train(), ae, x)
    assert {term.idle[i].item() for i in (3, 5)} == {6.0}
    step(term.eval(), ae, x)
    step(term.train(), ae, x[:4])
    assert {term.idle[i].item() for i in (3, 5)} == {10.0}


def test_auxk_forgets_a_latent_that_is_used_again() -> None:
    ae, x = with_dead(built(TOPK), 3), images(6)
    term = auxk(dead_after=6)
    assert step(term, ae, x) > 0
    out = ae(x)
    term(out._replace(latents=torch.ones_like(out.latents)), batch_of(x), ae)
    assert term.idle.tolist() == [0.0] * 8


def test_auxk_is_the_dead_latents_error_on_what_the_others_left_over() -> None:
    ae, x = with_dead(built(TOPK), 1, 3, 6), images(6)
    out = ae(x)
    value = auxk(k=2, dead_after=1)(out, batch_of(x), ae)
    idle = (out.latents == 0).all(0).nonzero().flatten()
    pre_acts = ae.encoder[1](x.flatten(1))
    weight = ae.decoder[0].get_submodule("linear").weight
    expected = torch.zeros(6, 36, dtype=torch.float64)
    for row in range(6):
        best = idle[pre_acts[row, idle].argsort(descending=True)[:2]]
        expected[row] = weight[:, best] @ pre_acts[row, best]
    left_over = (x - out.x_hat).flatten(1)
    torch.testing.assert_close(value, (expected - left_over).square().mean())


def test_the_gradient_of_auxk_reaches_dead_latents_only() -> None:
    ae, x = with_dead(built(TOPK), 3), images(60)
    # All rows' counts at once: only what never fires is dead.
    used = (ae(x).latents != 0).any(0)
    assert not used[3]
    step(auxk(dead_after=1), ae, x).backward()
    linear: Any = ae.encoder[1].get_submodule("linear")
    assert torch.equal((linear.weight.grad != 0).any(1), ~used)
    atoms: Any = ae.decoder[0].get_submodule("linear")
    assert torch.equal((atoms.weight.grad != 0).any(0), ~used)


def test_auxk_revives_dead_latents() -> None:
    generator = Generator().manual_seed(0)
    atoms, amounts = torch.randn(40, 36, generator=generator), torch.rand(400, 40, generator=generator)
    used_by_a_tenth = torch.rand(400, 40, generator=generator) < 0.1
    x = ((amounts * used_by_a_tenth) @ atoms).view(400, *SHAPE)
    encoder = ["flatten", {"kind": "linear", "out_features": 64}, {"kind": "topk", "k": 2}]
    stages = [{"kind": "fit", "epochs": 30, "optimizer": {"kind": "adam", "lr": 0.01}}]
    dead: list[int] = []
    for used in ([], [{"kind": "auxk", "k": 16, "dead_after": 360}]):
        spec = spec_of(encoder, *used, stages=stages).replace({"input": {"shape": list(SHAPE)}})
        ae = aezoo.train(spec, x, device="cpu", progress=False)
        dead.append(int((ae.encode(x) == 0).all(0).sum()))
    assert dead[0] > 16
    assert dead[1] < dead[0] / 2


@pytest.mark.parametrize(
    "encoder", [SIGMOID, [*TOPK, "batch_norm"], VARIATIONAL], ids=["no", "behind", "vae"]
)
def test_auxk_objects_to_an_encoder_that_does_not_end_in_topk(encoder: list[Any]) -> None:
    assert validation_error(spec_of(encoder, "auxk")) == (
        "recipe.penalties.0: auxk revives latents that topk leaves out; end the encoder in topk"
    )


def test_auxk_objects_to_a_decoder_that_needs_more_than_latents() -> None:
    pool = {"kernel_size": 2, "switches": "a"}
    spec = spec_of(
        [{"kind": "max_pool", **pool}, {"kind": "topk", "k": 2}], "auxk",
        decoder=[{"kind": "max_unpool", **pool}, CONV | {"padding": 1, "out_channels": 1}],
    )  # fmt: skip
    assert validation_error(spec) == (
        "recipe.penalties.0: auxk decodes latents alone, but this decoder needs more"
    )


def test_auxk_objects_to_rows_that_the_decoder_lets_depend_on_one_another() -> None:
    decoder = [{"kind": "linear", "out_features": 9, "norm": "batch_norm"}, *DECODER]
    text = validation_error(spec_of(TOPK, "auxk", decoder=decoder))
    assert text.startswith("recipe.penalties.0: auxk ")
    assert "BatchNorm1d" in text


@pytest.mark.parametrize("early_stop", [None, {"patience": 1}], ids=["plain", "early-stop"])
def test_a_training_with_auxk_is_the_same_again(early_stop: Any) -> None:
    stages = [{"kind": "fit", "epochs": 3, "early_stop": early_stop}]
    spec = spec_of(TOPK, {"kind": "auxk", "dead_after": 20}, stages=stages, refit=True)
    first, second = train(spec), train(spec)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


# -- in a document ------------------------------------------------------------------------------------


def test_validate_names_the_line_of_a_penalty_that_does_not_fit(tmp_path: Path) -> None:
    data = spec_of(SIGMOID, "l1_latents", "vae_kl").model_dump(mode="json", exclude_defaults=True)
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    with pytest.raises(aezoo.SpecError) as caught:
        aezoo.validate(path)
    (problem,) = caught.value.problems
    assert problem.path == "recipe.penalties.1"
    assert problem.line is not None
    assert "vae_kl" in path.read_text().splitlines()[problem.line - 1]
    assert str(caught.value).startswith(f"{path}:{problem.line}: recipe.penalties.1: vae_kl needs an encoder")
