"""KL divergence, log likelihood and evidence lower bound."""

import math
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence

import aezoo
from aezoo.losses.reconstruction import MseSpec
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.layers.sampling import GaussianSample
from tests.evaluation.networks import (
    keep,
    linear,
    measure,
    net,
    normal,
    uniform,
    value,
    values,
    without_recipe,
)

MSE_SUM = {"kind": "mse", "reduction": "sum"}
LIKELIHOOD = {"log_likelihood", "elbo"}
ALL = {"kl", *LIKELIHOOD}


def variational(latents: int, size: int, loss: Any, activation: str | None = None) -> Autoencoder:
    """A network from three values to a target of `size` values."""
    encoder = [linear(2 * latents), "gaussian_sample"]
    return net((3,), encoder, [linear(size, activation=activation)], loss=loss, target={"shape": [size]})


def conv(channels: int) -> dict[str, Any]:
    return {"kind": "conv", "out_channels": channels, "kernel_size": 1}


def make_constant(ae: Autoencoder) -> Tensor:
    """Makes the decoder ignore its latents; returns its output before the activation."""
    ae.state_dict()["decoder.0.linear.weight"].zero_()
    return ae.state_dict()["decoder.0.linear.bias"].double()


def divergence(ae: Autoencoder, x: Tensor) -> float:
    """The KL divergence that PyTorch computes."""
    with torch.no_grad():
        aux = ae.eval()(x).aux
    latents = Normal(aux["mean"].double(), (0.5 * aux["log_var"].double()).exp())
    each = kl_divergence(latents, Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double()))
    return float(each.flatten(1).sum(1).mean())


sizes = {"latents": st.integers(1, 6), "size": st.integers(1, 9), "rows": st.integers(1, 7)}
weights = {"weight": st.floats(1e-3, 1e3), "reduction": st.sampled_from(["sum", "mean"])}
seeds = st.integers(0, 1000)


# -- KL divergence ------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(**sizes, seed=seeds)
def test_kl_is_that_of_normal_distributions(latents: int, size: int, rows: int, seed: int) -> None:
    ae, x = variational(latents, size, "mse"), 3 * normal(rows, 3, seed=seed)
    measured = value(ae, "kl", x, normal(rows, size))
    assert measured >= 0
    assert measured == pytest.approx(divergence(ae, x), rel=1e-9)


def test_kl_is_summed_over_the_latents_of_an_image() -> None:
    ae = net((4, 2, 3), ["gaussian_sample"], [conv(4)])
    x = torch.zeros(5, 4, 2, 3)
    x[:, :2] = 2.0
    # With a mean of 2 and a variance of 1, each of the 12 latents adds 2 nats.
    assert value(ae, "kl", x) == pytest.approx(24, rel=1e-12)


def test_kl_is_0_for_latents_distributed_as_the_prior() -> None:
    ae = variational(4, 2, MSE_SUM)
    for name in ("weight", "bias"):
        ae.state_dict()[f"encoder.0.linear.{name}"].zero_()
    found = values(measure(ae, normal(5, 3), normal(5, 2)))
    assert found["kl"] == 0.0
    assert found["elbo"] == found["log_likelihood"]


# -- likelihood ---------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(**sizes, **weights, seed=seeds)
def test_mse_implies_a_normal_distribution(
    latents: int, size: int, rows: int, weight: float, reduction: str, seed: int
) -> None:
    ae = variational(latents, size, {"kind": "mse", "reduction": reduction, "weight": weight})
    x_hat, x, target = make_constant(ae), normal(rows, 3, seed=seed), normal(rows, size, seed=seed + 1)
    # The weighted loss is |x_hat - target|^2 / (2 variance) for this variance.
    variance = 1 / (2 * weight) * (size if reduction == "mean" else 1)
    expected = float(Normal(x_hat, math.sqrt(variance)).log_prob(target.double()).sum(1).mean())
    found = values(measure(ae, x, target))
    assert found["log_likelihood"] == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert found["elbo"] == pytest.approx(expected - divergence(ae, x), rel=1e-9, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(**sizes, **weights, gray=st.booleans(), seed=seeds)
def test_bce_implies_bernoulli_variables_for_any_weight(
    latents: int, size: int, rows: int, weight: float, reduction: str, gray: bool, seed: int
) -> None:
    ae = variational(latents, size, {"kind": "bce", "reduction": reduction, "weight": weight}, "sigmoid")
    logits, x, target = make_constant(ae), normal(rows, 3, seed=seed), uniform(rows, size, seed=seed)
    target = target if gray else target.round()
    expected = float(Bernoulli(logits=logits, validate_args=False).log_prob(target.double()).sum(1).mean())
    found = values(measure(ae, x, target))
    # The network computes its sigmoid in single precision.
    assert found["log_likelihood"] == pytest.approx(expected, rel=1e-5)
    assert found["elbo"] == pytest.approx(expected - divergence(ae, x), rel=1e-5, abs=1e-5)


def test_a_certain_and_wrong_prediction_has_a_finite_likelihood() -> None:
    ae = variational(2, 4, "bce", "sigmoid")
    make_constant(ae)
    ae.state_dict()["decoder.0.linear.bias"].fill_(1000.0)
    found = values(measure(ae, normal(5, 3), torch.zeros(5, 4)))
    # PyTorch's cross-entropy clamps logarithms at -100.
    assert found["log_likelihood"] == -400
    assert found["elbo"] is not None


@settings(max_examples=20, deadline=None)
@given(loss=st.sampled_from(["mse", MSE_SUM, "bce"]), rows=st.integers(1, 7), seed=seeds)
def test_elbo_is_the_log_likelihood_minus_kl(loss: Any, rows: int, seed: int) -> None:
    ae = variational(2, 4, loss, "sigmoid")
    found = values(measure(ae, normal(rows, 3, seed=seed), uniform(rows, 4, seed=seed)))
    assert found["log_likelihood"] is not None
    assert found["kl"] is not None
    # Both are computed from the same draw.
    assert found["elbo"] == pytest.approx(found["log_likelihood"] - found["kl"], rel=1e-9, abs=1e-9)


def test_latents_are_drawn_from_the_distribution_of_the_sample() -> None:
    n, mean, std, target = 40_000, 0.5, 1.5, 2.0
    ae = net((1,), [linear(2), "gaussian_sample"], [keep(1)], loss=MSE_SUM)
    ae.state_dict()["encoder.0.linear.weight"].zero_()
    ae.state_dict()["encoder.0.linear.bias"].copy_(torch.tensor([mean, 2 * math.log(std)]))
    measured = value(ae, "log_likelihood", torch.zeros(n, 1), torch.full((n, 1), target))
    expected = -((target - mean) ** 2 + std**2) - 0.5 * math.log(math.pi)
    # Five standard errors of a squared normal variable about another point than its mean.
    spread = math.sqrt(2 * std**4 + 4 * std**2 * (target - mean) ** 2)
    assert abs(measured - expected) < 5 * spread / math.sqrt(n)


def test_the_decoder_gets_the_aux_values_that_it_needs() -> None:
    window = {"kernel_size": 2, "switches": "a"}
    encoder = [{"kind": "max_pool", **window}, conv(2), "gaussian_sample"]
    ae = net((1, 4, 4), encoder, [{"kind": "max_unpool", **window}], loss=MSE_SUM)
    for name in ("weight", "bias"):
        ae.state_dict()[f"encoder.1.conv.{name}"].zero_()
    x, target = uniform(5000, 1, 4, 4), torch.zeros(5000, 1, 4, 4)
    # Each of the four windows has a draw of variance 1 in one of its four pixels.
    expected = -4 - 8 * math.log(math.pi)
    assert abs(value(ae, "log_likelihood", x, target) - expected) < 5 * math.sqrt(4 * 2 / 5000)


@pytest.mark.parametrize(
    ("loss", "activation", "bias", "target"),
    [
        (MSE_SUM, None, math.nan, 0.0),
        ("bce", "sigmoid", math.nan, 0.0),
        # A Bernoulli variable has neither such a mean nor such a value.
        ("bce", None, 1.5, 0.0),
        ("bce", "sigmoid", 0.0, 1.5),
    ],
)
def test_an_undefined_likelihood_is_null(
    loss: Any, activation: str | None, bias: float, target: float
) -> None:
    ae = variational(2, 4, loss, activation)
    make_constant(ae)
    ae.state_dict()["decoder.0.linear.bias"].fill_(bias)
    found = measure(ae, normal(5, 3), torch.full((5, 4), target))
    for kind in LIKELIHOOD:
        assert (found[kind]["value"], found[kind]["reason"]) == (None, "the result is nan")
    assert found["kl"]["reason"] is None


# -- which networks they apply to ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("mse", ALL),
        ("bce", ALL),
        ("l1", {"kl"}),
        ("huber", {"kl"}),
        # A loss without weight implies an infinite variance.
        ({"kind": "mse", "weight": 0.0}, {"kl"}),
        (None, {"kl"}),
    ],
)
def test_a_likelihood_needs_a_loss_that_implies_one(loss: Any, expected: set[str]) -> None:
    ae = net((4,), [linear(4), "gaussian_sample"], [linear(4, activation="sigmoid")], loss=loss or "mse")
    assert ALL & set(measure(ae if loss else without_recipe(ae), uniform(3, 4))) == expected


class LearnedPrior(aezoo.LayerSpec):
    """Normal distributions with a prior of their own; `declared` is whether the module declares it."""

    kind: Literal["learned_prior"] = "learned_prior"
    declared: bool = True
    inherits: bool = False

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        cls: type[nn.Module] = Undeclared
        if self.inherits:
            cls = Inherited
        elif self.declared:
            cls = Declared
        return cls((in_shape[0] // 2,))


class Undeclared(nn.Module):
    emits = ("mean", "log_var")

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.prior_mean = nn.Parameter(torch.full(shape, 3.0))

    def forward(self, h: Tensor, aux: dict[str, Tensor]) -> Tensor:
        aux["mean"], aux["log_var"] = h.chunk(2, 1)
        return aux["mean"]

    def sample_prior(self, n: int, generator: torch.Generator | None) -> Tensor:
        return self.prior_mean + torch.randn((n, *self.prior_mean.shape), generator=generator)


class Declared(Undeclared):
    def sample_posterior(self, aux: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        return aux["mean"] + (0.5 * aux["log_var"]).exp() * torch.randn(
            aux["mean"].shape, generator=generator
        )

    def kl_divergence(self, aux: dict[str, Tensor]) -> Tensor:
        posterior = Normal(aux["mean"], (0.5 * aux["log_var"]).exp())
        return kl_divergence(posterior, Normal(self.prior_mean.double(), torch.tensor(1.0).double())).sum(1)


class Inherited(GaussianSample):
    """Another prior, with the KL divergence from the old one."""

    def sample_prior(self, n: int, generator: torch.Generator | None) -> Tensor:
        return 3.0 + super().sample_prior(n, generator)


def test_the_prior_that_a_layer_declares_is_measured() -> None:
    ae = net((4,), [linear(4), LearnedPrior()], [linear(4)], loss=MSE_SUM)
    x = normal(9, 4)
    with torch.no_grad():
        aux = ae(x).aux
    posterior = Normal(aux["mean"].double(), (0.5 * aux["log_var"].double()).exp())
    expected = float(kl_divergence(posterior, Normal(torch.tensor(3.0).double(), 1.0)).sum(1).mean())
    found = values(measure(ae, x))
    assert found["kl"] == pytest.approx(expected, rel=1e-6)
    assert found["elbo"] == pytest.approx(found["log_likelihood"] - expected, rel=1e-6)


@pytest.mark.parametrize(
    ("layer", "reason", "measured"),
    [
        (LearnedPrior(declared=False), "Undeclared declares no kl_divergence", set()),
        (
            LearnedPrior(inherits=True),
            "Inherited has a sample_prior of its own, but inherits kl_divergence",
            set(),
        ),
    ],
    ids=["undeclared", "inherited"],
)
def test_a_prior_that_is_not_declared_has_no_numbers(
    layer: LearnedPrior, reason: str, measured: set[str]
) -> None:
    ae = net((4,), [linear(4), layer], [linear(4)], loss=MSE_SUM)
    found = measure(ae, normal(5, 4))
    assert {name for name in ALL if found[name]["value"] is not None} == measured
    assert found["kl"]["reason"] == reason
    assert all(found[name]["reason"] for name in ALL)


def test_a_subclass_of_mse_implies_no_likelihood() -> None:
    class Scaled(MseSpec):
        kind: Literal["scaled_mse"] = "scaled_mse"  # type: ignore[assignment]

    ae = net((4,), [linear(4), "gaussian_sample"], [linear(4)], loss=Scaled())
    assert ALL & set(measure(ae, normal(5, 4))) == {"kl"}


def test_a_deterministic_autoencoder_has_none_of_them() -> None:
    assert not ALL & set(measure(net((4,), [linear(2)], [linear(4)]), uniform(3, 4)))


@pytest.mark.parametrize(
    "encoder",
    [
        [linear(4), "gaussian_sample", linear(2)],
        [linear(4), "gaussian_sample", linear(3)],
        [linear(4), "gaussian_sample", {"kind": "unflatten", "shape": [2, 1]}],
        [linear(2), {"kind": "residual", "layers": [linear(4), "gaussian_sample"]}],
    ],
)
def test_a_likelihood_needs_latents_that_the_last_layer_draws(encoder: list[Any]) -> None:
    ae = net((4,), encoder, ["flatten", linear(4)])
    assert not LIKELIHOOD & set(measure(ae, uniform(3, 4)))
