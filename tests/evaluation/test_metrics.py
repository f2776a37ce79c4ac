"""What each metric says of networks small enough to work it out by hand, and which networks it leaves out."""

import math
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

import aezoo
from aezoo.data.noises import GaussianSpec, MaskingSpec
from aezoo.data.samples import Batch, Samples
from aezoo.evaluation.evaluate import EVAL_SEED, Metric, evaluate
from aezoo.model.autoencoder import Autoencoder, Output
from aezoo.plugins.registry import registry
from tests.examples import METRICS, small

NOISE = ("denoised_mse", "noisy_input_mse", "noisy_target_mse")
LIKELIHOOD = ("log_likelihood", "elbo")


def net(shape: tuple[int, ...], encoder: list[Any], decoder: list[Any], **more: Any) -> Autoencoder:
    """A network without a recipe; `data` or `noises` give it one, `target` another target."""
    recipe = {
        "reconstruction": more.pop("data", "mse"),
        "noises": more.pop("noises", []),
        "stages": [{"kind": "fit", "epochs": 1}],
    }
    parts = {"input": {"shape": list(shape)}, "encoder": encoder, "decoder": decoder} | more
    if more.keys() - {"target"}:
        raise TypeError(f"not known: {sorted(more)}")
    spec = small(**parts, recipe=recipe)
    return aezoo.build(aezoo.VariantSpec.model_validate(spec))


def bare(ae: Autoencoder) -> Autoencoder:
    """The same architecture without its recipe."""
    spec = aezoo.AutoencoderSpec(input=ae.spec.input, encoder=ae.spec.encoder, decoder=ae.spec.decoder)
    return aezoo.build(spec)


def keep(n: int) -> dict[str, Any]:
    """A layer that gives n values back as they are."""
    return {"kind": "topk", "k": n}


def linear(out: int, **options: Any) -> dict[str, Any]:
    return {"kind": "linear", "out_features": out, **options}


def identity(n: int, **more: Any) -> Autoencoder:
    """Gives back its n inputs, which are its latents as well."""
    return net((n,), [keep(n)], [keep(n)], **more)


def found(ae: Autoencoder, x: Tensor, target: Tensor | None = None, **options: Any) -> dict[str, Metric]:
    return evaluate(ae, Samples(x, target), dataset="ours", split="test", **options)


def value(ae: Autoencoder, kind: str, x: Tensor, target: Tensor | None = None) -> float:
    entry = found(ae, x, target)[kind]
    assert entry["value"] is not None, entry["reason"]
    return entry["value"]


def reason(ae: Autoencoder, kind: str, x: Tensor, target: Tensor | None = None) -> str | None:
    entry = found(ae, x, target)[kind]
    assert entry["value"] is None
    return entry["reason"]


def applies(kind: str, ae: Autoencoder) -> bool:
    return registry.get("metric", kind)().applies(ae)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=Generator().manual_seed(seed))


# -- hoyer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latents", "expected"),
    [
        ([[2.0, -2.0, 2.0, 2.0]], 0.0),
        ([[0.0, 0.0, -3.0, 0.0]], 1.0),
        ([[3.0, 4.0, 0.0, 0.0]], 2 - 7 / 5),
        ([[1.0, 1.0, 1.0, 1.0], [0.0, 5.0, 0.0, 0.0]], 0.5),
        # A row of zeros says nothing about how even the others are.
        ([[0.0, 0.0, 0.0, 0.0], [0.0, 5.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], 1.0),
    ],
)
def test_hoyer_is_0_for_sizes_that_are_equal_and_1_for_a_single_one(
    latents: list[list[float]], expected: float
) -> None:
    assert value(identity(4), "hoyer", torch.tensor(latents)) == pytest.approx(expected, abs=1e-14)


def test_hoyer_is_null_where_every_latent_is_zero() -> None:
    assert reason(identity(3), "hoyer", torch.zeros(5, 3)) == "every latent of every sample is zero"


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 40), rows=st.integers(1, 5), scale=st.floats(1e-30, 1e30), seed=st.integers(0, 1000))
def test_hoyer_lies_between_0_and_1_whatever_the_scale_and_the_order(
    n: int, rows: int, scale: float, seed: int
) -> None:
    latents = normal(rows, n, seed=seed)
    expected = value(identity(n), "hoyer", latents)
    assert 0 <= expected <= 1
    order = torch.randperm(n, generator=Generator().manual_seed(seed))
    assert value(identity(n), "hoyer", -scale * latents[:, order]) == pytest.approx(
        expected, rel=1e-5, abs=1e-6
    )


def test_hoyer_is_of_all_the_latents_of_an_image_at_once() -> None:
    latents = torch.zeros(1, 2, 2, 2)
    latents[0, :, 1, 0] = torch.tensor([3.0, 4.0])
    ae = net((2, 2, 2), [keep(8)], [keep(8)])
    root = math.sqrt(8)
    assert value(ae, "hoyer", latents) == pytest.approx((root - 7 / 5) / (root - 1), rel=1e-14)


def test_hoyer_needs_two_latents() -> None:
    assert "hoyer" not in found(identity(1), torch.ones(3, 1))
    assert "hoyer" in found(identity(2), torch.ones(3, 2))


# -- atom_area ----------------------------------------------------------------------------------------


def with_atoms(atoms: Tensor, kind: str = "linear") -> Autoencoder:
    """A decoder of one layer with these atoms, (latents, values)."""
    latents, values = atoms.shape
    decoder = {"kind": kind, "out_features": values, "activation": "sigmoid"}
    ae = net((values,), [linear(latents)], [decoder])
    ae.state_dict()["decoder.0.linear.weight"].copy_(atoms.T)
    return ae


def area(atoms: Tensor, kind: str = "linear") -> float:
    return value(with_atoms(atoms, kind), "atom_area", uniform(2, atoms.shape[1]))


@pytest.mark.parametrize("kind", ["linear", "unit_norm_linear"])
@pytest.mark.parametrize(
    ("atoms", "expected"),
    [
        ([[0.0, 7.0, 0.0, 0.0, 0.0]], 1 / 5),
        ([[-2.0, 2.0, 2.0, -2.0, 2.0]], 1.0),
        ([[1.0, 2.0, 0.0, 0.0, 0.0]], 25 / 17 / 5),
        ([[0.0, 0.0, 0.0, 1.0, 0.0], [3.0, 3.0, 3.0, 3.0, 3.0]], (1 / 5 + 1) / 2),
        # An atom of zeros covers nothing, and is no local one for that.
        ([[0.0, 0.0, 0.0, 0.0, 0.0], [3.0, 3.0, 3.0, 3.0, 3.0]], 1.0),
    ],
)
def test_atom_area_is_the_share_of_the_output_that_an_atom_covers(
    atoms: list[list[float]], expected: float, kind: str
) -> None:
    assert area(torch.tensor(atoms), kind) == pytest.approx(expected, rel=1e-14)


def test_atom_area_is_null_where_every_atom_is_zero() -> None:
    assert reason(with_atoms(torch.zeros(3, 4)), "atom_area", uniform(2, 4)) == "every atom is zero"


def test_atom_area_is_null_where_a_weight_is_not_a_number() -> None:
    atoms = torch.tensor([[1.0, 1.0, 1.0], [math.nan, 0.0, 0.0]])
    assert reason(with_atoms(atoms), "atom_area", uniform(2, 3)) == "the result is nan"


@settings(max_examples=25, deadline=None)
@given(
    values=st.integers(1, 30),
    latents=st.integers(1, 5),
    scale=st.floats(1e-9, 1e9),
    seed=st.integers(0, 1000),
)
def test_atom_area_is_at_least_one_value_and_does_not_depend_on_the_scale(
    values: int, latents: int, scale: float, seed: int
) -> None:
    atoms = normal(latents, values, seed=seed)
    expected = area(atoms)
    assert 1 / values <= expected * (1 + 1e-12)
    assert expected <= 1 + 1e-12
    assert area(-scale * atoms) == pytest.approx(expected, rel=1e-5)


CONV = {"kind": "conv", "out_channels": 1, "kernel_size": 3, "padding": "same"}
TO_IMAGE = {"kind": "unflatten", "shape": [1, 4, 4]}


@pytest.mark.parametrize(
    ("encoder", "decoder", "expected"),
    [
        (["flatten", linear(5)], [linear(16), TO_IMAGE], True),
        (["flatten", linear(5)], [linear(16, bias=False, norm="layer_norm"), TO_IMAGE], True),
        (["flatten", linear(5)], [{"kind": "unit_norm_linear", "out_features": 16}, TO_IMAGE], True),
        ([CONV], ["flatten", linear(16), TO_IMAGE], True),
        (["flatten", linear(5)], [linear(8), linear(16), TO_IMAGE], False),
        (["flatten", linear(5)], [linear(16, repeat=2), TO_IMAGE], False),
        (["flatten", linear(16)], [{"kind": "residual", "layers": [linear(16)]}, TO_IMAGE], False),
        ([CONV], [CONV], False),
        (["flatten", linear(16)], [TO_IMAGE, CONV], False),
        # Weights of pooled latents are not those of one latent.
        ([CONV], [{"kind": "max_pool", "kernel_size": 2}, "flatten", linear(16), TO_IMAGE], False),
        # Which weights a latent meets depends on what the encoder hands over.
        (
            [{"kind": "max_pool", "kernel_size": 1, "switches": "a"}],
            [{"kind": "max_unpool", "kernel_size": 1, "switches": "a"}, "flatten", linear(16), TO_IMAGE],
            False,
        ),
        (["flatten", keep(16)], [TO_IMAGE], False),
    ],
)
def test_atom_area_is_of_decoders_of_one_linear_layer(
    encoder: list[Any], decoder: list[Any], expected: bool
) -> None:
    ae = net((1, 4, 4), encoder, decoder)
    assert ("atom_area" in found(ae, uniform(3, 1, 4, 4))) == expected


# -- noise --------------------------------------------------------------------------------------------

HALF = {"kind": "masking", "share": 0.5}


def test_a_network_that_copies_leaves_the_noise_as_it_is() -> None:
    entries = found(identity(8, noises=[HALF]), torch.ones(6, 8))
    # Half the ones of every sample became zero.
    assert [entries[kind]["value"] for kind in NOISE] == [0.5, 0.5, 0.0]
    assert entries["mse"]["value"] == 0.0


def test_a_network_that_knows_the_clean_sample_leaves_no_noise() -> None:
    ae = net((8,), [keep(8)], [linear(8)], noises=[HALF])
    ae.state_dict()["decoder.0.linear.weight"].zero_()
    ae.state_dict()["decoder.0.linear.bias"].fill_(1.0)
    entries = found(ae, torch.ones(6, 8))
    assert [entries[kind]["value"] for kind in NOISE] == [0.0, 0.5, 0.5]


@settings(max_examples=20, deadline=None)
@given(std=st.floats(0.01, 10), share=st.floats(0.01, 1), rows=st.integers(1, 20), seed=st.integers(0, 1000))
def test_the_input_is_corrupted_by_all_noises_in_their_order(
    std: float, share: float, rows: int, seed: int
) -> None:
    noises = (GaussianSpec(std=std), MaskingSpec(share=share, value=3.0))
    x, generator = normal(rows, 5, seed=seed), Generator().manual_seed(EVAL_SEED)
    noisy = x
    for noise in noises:
        noisy = noise(noisy, generator)
    expected = float((noisy.double() - x.double()).square().mean())
    ae = identity(5, noises=[noise.model_dump() for noise in noises])
    for kind in NOISE[:2]:
        assert value(ae, kind, x) == pytest.approx(expected, rel=1e-12, abs=1e-30)
    assert value(ae, "noisy_target_mse", x) == 0.0


def test_gaussian_noise_costs_its_variance() -> None:
    n, std = 40_000, 0.3
    measured = value(identity(4, noises=[{"kind": "gaussian", "std": std}]), "noisy_input_mse",
                     torch.zeros(n // 4, 4))  # fmt: skip
    # Five standard errors; the variance of a squared normal variable is twice its variance squared.
    assert abs(measured - std**2) < 5 * std**2 * math.sqrt(2 / n)


def test_batches_are_corrupted_one_unlike_the_other() -> None:
    # One mask for every batch would hide the first value of either all samples or none.
    ae = identity(2, noises=[HALF])
    x = torch.tensor([[1.0, 0.0]]).expand(64, 2)
    assert found(ae, x, batch_size=1)["noisy_input_mse"]["value"] not in (0.0, 0.5)


def test_noise_is_the_same_every_time_and_touches_no_global_random_state() -> None:
    ae = net((8,), [linear(3)], [linear(8)], noises=[{"kind": "gaussian", "std": 0.5}, HALF])
    x = normal(20, 8)
    first = found(ae, x)
    assert first["denoised_mse"]["value"] != first["mse"]["value"]
    torch.manual_seed(99)
    random_state = torch.get_rng_state()
    assert found(ae, x) == first
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_denoiser_is_measured_against_its_target_not_its_input() -> None:
    x, target = torch.ones(4, 6), torch.full((4, 6), 3.0)
    entries = found(identity(6, noises=[HALF]), x, target)
    # Half the inputs are 1, half are 0; the targets are 3.
    assert [entries[kind]["value"] for kind in NOISE] == [6.5, 6.5, 0.0]


def test_only_recipes_with_noises_are_measured_with_noise() -> None:
    x = uniform(3, 4)
    with_noise = identity(4, noises=[HALF])
    assert set(NOISE) <= set(found(with_noise, x))
    for ae in (identity(4), bare(with_noise)):
        assert not set(NOISE) & set(found(ae, x))


def test_where_the_target_has_another_shape_the_input_is_compared_with_nothing() -> None:
    ae = net((4,), [linear(2)], [linear(3)], noises=[HALF], target={"shape": [3]})
    assert set(NOISE) & set(found(ae, uniform(3, 4), uniform(3, 3))) == {"denoised_mse"}


# -- checkerboard -------------------------------------------------------------------------------------

POOL, UPSAMPLE = {"kind": "max_pool", "kernel_size": 2}, {"kind": "upsample"}
even = st.integers(1, 8).map(lambda n: 2 * n)


def checkerboard(error: Tensor) -> tuple[float | None, str | None]:
    """What is measured where a network that gives zeros misses by this, (n, channels, height, width)."""
    ae = net(tuple(error.shape[1:]), [POOL], [UPSAMPLE])
    entry = found(ae, torch.zeros_like(error), -error)["checkerboard"]
    return entry["value"], entry["reason"]


def waves(shape: tuple[int, ...], cycles: tuple[float, float]) -> Tensor:
    """A plane wave over an image, with this many cycles down and across it."""
    height, width = shape[-2:]
    down = torch.arange(height, dtype=torch.float64)[:, None] * cycles[0] / height
    across = torch.arange(width, dtype=torch.float64) * cycles[1] / width
    return torch.cos(2 * math.pi * (down + across)).float().expand(shape)


@settings(max_examples=30, deadline=None)
@given(
    height=even,
    width=even,
    channels=st.integers(1, 3),
    scale=st.floats(1e-3, 1e3),
    along=st.sampled_from(["rows", "columns", "both"]),
)
def test_a_pattern_that_alternates_from_pixel_to_pixel_has_the_largest_checkerboard(
    height: int, width: int, channels: int, scale: float, along: str
) -> None:
    down, across = torch.arange(height)[:, None], torch.arange(width)
    step = {"rows": down + 0 * across, "columns": 0 * down + across, "both": down + across}[along]
    error = (scale * (1 - 2 * (step % 2))).float().expand(2, channels, height, width)
    # All the power lies at one of the three frequencies, the mean is over all but frequency 0.
    expected = (height * width - 1) / 3
    assert checkerboard(error) == (pytest.approx(expected, rel=1e-9), None)
    # An error that is the same everywhere, added to it, is no pattern.
    assert checkerboard(error + scale) == (pytest.approx(expected, rel=1e-6), None)


@settings(max_examples=20, deadline=None)
@given(height=even, width=even, rows=st.integers(1, 3), seed=st.integers(0, 1000))
def test_no_error_has_a_larger_one(height: int, width: int, rows: int, seed: int) -> None:
    measured, _ = checkerboard(normal(rows, 2, height, width, seed=seed))
    assert measured is not None
    assert 0 <= measured <= (height * width - 1) / 3 * (1 + 1e-12)


@pytest.mark.parametrize("sizes", [(8, 8), (6, 10), (2, 4)])
def test_white_noise_has_a_checkerboard_of_1(sizes: tuple[int, int]) -> None:
    n = 4000
    measured, _ = checkerboard(normal(n, 2, *sizes))
    assert measured is not None
    # Five standard errors of the mean of 3 x n x 2 squared normal variables; the mean over the other
    # frequencies adds at most as much again.
    assert abs(measured - 1) < 2 * 5 * math.sqrt(2 / (3 * n * 2))


@pytest.mark.parametrize("cycles", [(1, 0), (0, 2), (1, 1), (3, -2)])
def test_a_smooth_error_has_no_checkerboard(cycles: tuple[int, int]) -> None:
    measured, _ = checkerboard(waves((2, 1, 12, 16), cycles))
    assert measured == pytest.approx(0, abs=1e-10)


@settings(max_examples=30, deadline=None)
@given(height=even, width=even, size=st.floats(-10, 10, width=32))
def test_checkerboard_is_null_where_the_error_is_the_same_everywhere(
    height: int, width: int, size: float
) -> None:
    error = torch.full((3, 2, height, width), size)
    assert checkerboard(error) == (None, "the error is the same everywhere")


def test_power_is_summed_over_batches_not_averaged_over_their_ratios() -> None:
    strong, smooth = 3 * waves((1, 1, 4, 4), (2, 2)), waves((1, 1, 4, 4), (1, 0))
    error = torch.cat([strong, smooth])
    ae = net((1, 4, 4), [POOL], [UPSAMPLE])
    # The alternating pattern has power 9, the wave power 1/2.
    expected = 9 / 3 / ((9 + 1 / 2) / 15)
    for size in (1, 2):
        measured = found(ae, torch.zeros_like(error), error, batch_size=size)["checkerboard"]["value"]
        assert measured == pytest.approx(expected, rel=1e-9)


TRANSPOSED = {"kind": "conv_transpose", "out_channels": 1, "kernel_size": 2, "stride": 2}
CONV_1 = {"kind": "conv", "out_channels": 1, "kernel_size": 1}
SWITCHES = {"switches": "a"}
UNPOOL = {"kind": "max_unpool", "kernel_size": 2, **SWITCHES}


@pytest.mark.parametrize(
    ("shape", "encoder", "decoder", "expected"),
    [
        ((1, 4, 6), [POOL], [UPSAMPLE], True),
        ((1, 4, 6), [POOL], [TRANSPOSED], True),
        ((1, 4, 6), [POOL | SWITCHES], [UNPOOL], True),
        ((1, 8, 8), [POOL | {"repeat": 2}], [TRANSPOSED | {"repeat": 2}], True),
        ((1, 4, 6), [CONV_1], [CONV_1], False),
        ((1, 4, 4), ["flatten", linear(3)], [linear(16), TO_IMAGE], False),
        # Only the decoder leaves artefacts in what it gives.
        ((1, 4, 6), [UPSAMPLE], [POOL], False),
        ((1, 9, 9), [{"kind": "max_pool", "kernel_size": 3}], [{"kind": "upsample", "scale_factor": 3}], False),
        ((1, 4, 9), [{"kind": "max_pool", "kernel_size": [1, 3]}], [
            {"kind": "conv_transpose", "out_channels": 1, "kernel_size": [1, 3], "stride": [1, 3]}], False),
        ((1, 9, 4), [{"kind": "max_pool", "kernel_size": [3, 1]}], [
            {"kind": "conv_transpose", "out_channels": 1, "kernel_size": [3, 1], "stride": [3, 1]}], False),
        ((2, 8), [POOL], [UPSAMPLE], False),
    ],
)  # fmt: skip
def test_checkerboards_are_looked_for_in_even_images_of_decoders_that_upsample(
    shape: tuple[int, ...], encoder: list[Any], decoder: list[Any], expected: bool
) -> None:
    assert ("checkerboard" in found(net(shape, encoder, decoder), uniform(3, *shape))) == expected


# -- the bound of variational autoencoders ------------------------------------------------------------

MSE_SUM = {"kind": "mse", "reduction": "sum"}


def variational(
    inputs: int, latents: int, values: int, data: Any, activation: str | None = None
) -> Autoencoder:
    return net(
        (inputs,),
        [linear(2 * latents), "gaussian_sample"],
        [linear(values, activation=activation)],
        data=data,
        target={"shape": [values]},
    )


def blind(ae: Autoencoder) -> Tensor:
    """Makes the decoder give the same whatever is drawn; that is its activation of what is returned."""
    ae.state_dict()["decoder.0.linear.weight"].zero_()
    return ae.state_dict()["decoder.0.linear.bias"].double()


def latents_of(ae: Autoencoder, x: Tensor) -> Normal:
    """The latents' normal distributions."""
    with torch.no_grad():
        aux = ae.eval()(x).aux
    return Normal(aux["mean"].double(), (0.5 * aux["log_var"].double()).exp())


def divergence(ae: Autoencoder, x: Tensor) -> float:
    each = kl_divergence(latents_of(ae, x), Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double()))
    return float(each.flatten(1).sum(1).mean())


sizes = {"latents": st.integers(1, 6), "values": st.integers(1, 9), "rows": st.integers(1, 7)}


@settings(max_examples=25, deadline=None)
@given(**sizes, seed=st.integers(0, 1000))
def test_kl_is_that_of_normal_distributions(latents: int, values: int, rows: int, seed: int) -> None:
    ae, x = variational(3, latents, values, "mse"), 3 * normal(rows, 3, seed=seed)
    measured = value(ae, "kl", x, normal(rows, values))
    assert measured >= 0
    assert measured == pytest.approx(divergence(ae, x), rel=1e-9)


def test_kl_is_summed_over_the_latents_of_an_image() -> None:
    ae = net((4, 2, 3), ["gaussian_sample"], [CONV_1 | {"out_channels": 4}])
    x = torch.zeros(5, 4, 2, 3)
    x[:, :2] = 2.0
    # Means of 2 and variances of 1: each of the 12 latents is 2 nats away.
    assert value(ae, "kl", x) == pytest.approx(24, rel=1e-12)


def test_latents_like_the_prior_cost_nothing() -> None:
    ae = variational(3, 4, 2, MSE_SUM)
    for name in ("weight", "bias"):
        ae.state_dict()[f"encoder.0.linear.{name}"].zero_()
    entries = found(ae, normal(5, 3), normal(5, 2))
    assert entries["kl"]["value"] == 0.0
    assert entries["elbo"]["value"] == entries["log_likelihood"]["value"]


@settings(max_examples=30, deadline=None)
@given(
    **sizes,
    weight=st.floats(1e-3, 1e3),
    reduction=st.sampled_from(["sum", "mean"]),
    seed=st.integers(0, 1000),
)
def test_a_squared_error_stands_for_a_normal_distribution(
    latents: int, values: int, rows: int, weight: float, reduction: str, seed: int
) -> None:
    data = {"kind": "mse", "reduction": reduction, "weight": weight}
    ae = variational(3, latents, values, data)
    x_hat, x, target = blind(ae), normal(rows, 3, seed=seed), normal(rows, values, seed=seed + 1)
    # The weighted term is |x_hat - target|^2 / (2 variance) for this variance.
    variance = 1 / (2 * weight) * (values if reduction == "mean" else 1)
    expected = Normal(x_hat, math.sqrt(variance)).log_prob(target.double()).sum(1).mean()
    entries = found(ae, x, target)
    assert entries["log_likelihood"]["value"] == pytest.approx(float(expected), rel=1e-9, abs=1e-9)
    assert entries["elbo"]["value"] == pytest.approx(float(expected) - divergence(ae, x), rel=1e-9, abs=1e-9)


def test_an_unweighted_sum_stands_for_a_variance_of_one_half() -> None:
    ae = variational(3, 2, 4, MSE_SUM)
    target = blind(ae).float().expand(5, 4)
    assert value(ae, "log_likelihood", normal(5, 3), target) == pytest.approx(
        -2 * math.log(math.pi), rel=1e-12
    )


@settings(max_examples=25, deadline=None)
@given(
    **sizes,
    weight=st.floats(1e-3, 1e3),
    reduction=st.sampled_from(["sum", "mean"]),
    gray=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_a_cross_entropy_stands_for_bernoulli_variables_however_it_is_weighed(
    latents: int, values: int, rows: int, weight: float, reduction: str, gray: bool, seed: int
) -> None:
    data = {"kind": "bce", "reduction": reduction, "weight": weight}
    ae = variational(3, latents, values, data, "sigmoid")
    logits, x, target = blind(ae), normal(rows, 3, seed=seed), uniform(rows, values, seed=seed)
    target = target if gray else target.round()
    bernoulli = Bernoulli(logits=logits, validate_args=False)
    expected = float(bernoulli.log_prob(target.double()).sum(1).mean())
    entries = found(ae, x, target)
    # The network's sigmoid is one of single precision.
    assert entries["log_likelihood"]["value"] == pytest.approx(expected, rel=1e-5)
    assert entries["elbo"]["value"] == pytest.approx(expected - divergence(ae, x), rel=1e-5, abs=1e-5)


def test_being_certain_and_wrong_costs_much_but_not_everything() -> None:
    ae = variational(3, 2, 4, "bce", "sigmoid")
    blind(ae)
    ae.state_dict()["decoder.0.linear.bias"].fill_(1000.0)
    entries = found(ae, normal(5, 3), torch.zeros(5, 4))
    # PyTorch's cross-entropy takes no logarithm for less than -100.
    assert entries["log_likelihood"]["value"] == -400
    assert entries["elbo"]["value"] is not None


@settings(max_examples=20, deadline=None)
@given(data=st.sampled_from(["mse", MSE_SUM, "bce"]), rows=st.integers(1, 7), seed=st.integers(0, 1000))
def test_the_bound_is_the_likelihood_less_the_divergence(data: Any, rows: int, seed: int) -> None:
    ae = variational(3, 2, 4, data, "sigmoid")
    entries = found(ae, normal(rows, 3, seed=seed), uniform(rows, 4, seed=seed))
    likelihood, kl, elbo = (entries[kind]["value"] for kind in ("log_likelihood", "kl", "elbo"))
    assert likelihood is not None
    assert kl is not None
    # Both come from the same draw.
    assert elbo == pytest.approx(likelihood - kl, rel=1e-9, abs=1e-9)


def test_the_likelihood_is_that_of_latents_drawn_for_the_sample() -> None:
    n, mean, std, target = 40_000, 0.5, 1.5, 2.0
    ae = net((1,), [linear(2), "gaussian_sample"], [keep(1)], data=MSE_SUM)
    ae.state_dict()["encoder.0.linear.weight"].zero_()
    ae.state_dict()["encoder.0.linear.bias"].copy_(torch.tensor([mean, 2 * math.log(std)]))
    measured = value(ae, "log_likelihood", torch.zeros(n, 1), torch.full((n, 1), target))
    expected = -((target - mean) ** 2 + std**2) - 0.5 * math.log(math.pi)
    # Five standard errors of a squared normal variable about another point than its mean.
    spread = math.sqrt(2 * std**4 + 4 * std**2 * (target - mean) ** 2)
    assert abs(measured - expected) < 5 * spread / math.sqrt(n)


def test_latents_are_drawn_the_same_every_time_and_from_no_global_random_state() -> None:
    ae = variational(3, 2, 4, "mse")
    x, target = normal(20, 3), normal(20, 4)
    first = found(ae, x, target)
    torch.manual_seed(99)
    random_state = torch.get_rng_state()
    assert found(ae, x, target) == first
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("mse", {"kl", *LIKELIHOOD}),
        ("bce", {"kl", *LIKELIHOOD}),
        ("l1", {"kl"}),
        ("huber", {"kl"}),
        # A term that weighs nothing stands for a distribution of infinite variance.
        ({"kind": "mse", "weight": 0.0}, {"kl"}),
        (None, {"kl"}),
    ],
)
def test_a_bound_takes_a_data_term_that_stands_for_a_likelihood(data: Any, expected: set[str]) -> None:
    ae = net((4,), [linear(4), "gaussian_sample"], [linear(4, activation="sigmoid")], data=data or "mse")
    entries = found(ae if data else bare(ae), uniform(3, 4))
    assert {"kl", *LIKELIHOOD} & set(entries) == expected


def test_a_plain_autoencoder_has_no_bound() -> None:
    ae = net((4,), [linear(2)], [linear(4)])
    assert not {"kl", *LIKELIHOOD} & set(found(ae, uniform(3, 4)))


@pytest.mark.parametrize(
    "encoder",
    [
        [linear(4), "gaussian_sample", linear(2)],
        [linear(4), "gaussian_sample", linear(3)],
        [linear(4), "gaussian_sample", {"kind": "unflatten", "shape": [2, 1]}],
        [linear(2), {"kind": "residual", "layers": [linear(4), "gaussian_sample"]}],
    ],
)
def test_a_bound_takes_latents_that_are_drawn_themselves(encoder: list[Any]) -> None:
    """Here something else is done to what is drawn before the decoder takes it."""
    ae = net((4,), encoder, ["flatten", linear(4)])
    assert not set(LIKELIHOOD) & set(found(ae, uniform(3, 4)))


def test_the_decoder_is_given_what_it_needs_for_what_is_drawn() -> None:
    encoder = [POOL | SWITCHES, CONV_1 | {"out_channels": 2}, "gaussian_sample"]
    ae = net((1, 4, 4), encoder, [UNPOOL], data=MSE_SUM)
    for name in ("weight", "bias"):
        ae.state_dict()[f"encoder.1.conv.{name}"].zero_()
    x, target = uniform(5000, 1, 4, 4), torch.zeros(5000, 1, 4, 4)
    # Each of four windows gets a draw of variance 1 in one of its four places.
    expected = -4 - 8 * math.log(math.pi)
    assert abs(value(ae, "log_likelihood", x, target) - expected) < 5 * math.sqrt(4 * 2 / 5000)


@pytest.mark.parametrize(
    ("data", "activation", "bias", "target"),
    [
        (MSE_SUM, None, math.nan, 0.0),
        ("bce", "sigmoid", math.nan, 0.0),
        # There is no Bernoulli variable with such a mean, and none that gives such a value.
        ("bce", None, 1.5, 0.0),
        ("bce", "sigmoid", 0.0, 1.5),
    ],
)
def test_a_likelihood_that_is_no_number_is_null(
    data: Any, activation: str | None, bias: float, target: float
) -> None:
    ae = variational(3, 2, 4, data, activation)
    blind(ae)
    ae.state_dict()["decoder.0.linear.bias"].fill_(bias)
    entries = found(ae, normal(5, 3), torch.full((5, 4), target))
    for kind in LIKELIHOOD:
        assert (entries[kind]["value"], entries[kind]["reason"]) == (None, "the result is nan")
    assert entries["kl"]["reason"] is None


# -- all of them --------------------------------------------------------------------------------------


def rich(kinds: Literal["denoiser", "variational"]) -> Autoencoder:
    """Networks in training mode to which, together, every metric applies."""
    noises = [{"kind": "gaussian", "std": 0.1}]
    if kinds == "denoiser":
        encoder = ["flatten", linear(5, norm="batch_norm", dropout=0.5)]
        return net((1, 4, 4), encoder, [linear(16), TO_IMAGE], noises=noises)
    encoder = [POOL, {"kind": "dropout", "p": 0.5}, {"kind": "conv", "out_channels": 4, "kernel_size": 1}]
    return net((1, 4, 4), [*encoder, "gaussian_sample"], [TRANSPOSED], noises=noises)


RICH: tuple[Literal["denoiser", "variational"], ...] = ("denoiser", "variational")


def test_every_metric_applies_to_something_and_is_then_measured() -> None:
    measured: dict[str, float | None] = {}
    for kinds in RICH:
        ae = rich(kinds)
        ae.target_mean = torch.zeros(1, 4, 4)
        entries = found(ae, uniform(5, 1, 4, 4))
        assert set(entries) == {kind for kind in METRICS if applies(kind, ae)}
        for kind, entry in entries.items():
            measured[kind] = entry["value"]
            assert entry["definition"] == registry.get("metric", kind).definition
    assert set(measured) == set(METRICS)
    assert None not in measured.values()


@pytest.mark.parametrize("kinds", RICH)
@pytest.mark.parametrize("mode", ["train", "eval", "frozen encoder"])
def test_the_mode_changes_no_value_and_stays_as_it_was(
    kinds: Literal["denoiser", "variational"], mode: str
) -> None:
    ae, x = rich(kinds), uniform(5, 1, 4, 4)
    expected = found(ae.eval(), x)
    weights = {name: tensor.clone() for name, tensor in ae.state_dict().items()}
    ae.train(mode != "eval")
    if mode == "frozen encoder":
        ae.encoder.eval()
    modes = [module.training for module in ae.modules()]
    assert found(ae, x) == expected
    assert [module.training for module in ae.modules()] == modes
    assert all(torch.equal(tensor, weights[name]) for name, tensor in ae.state_dict().items())


@pytest.mark.parametrize("kinds", RICH)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_networks_of_another_precision_are_measured_too(
    kinds: Literal["denoiser", "variational"], dtype: torch.dtype
) -> None:
    ae, x = rich(kinds), uniform(5, 1, 4, 4)
    expected = found(ae, x)
    entries = found(ae.to(dtype), x)
    assert set(entries) == set(expected)
    # A new precision draws other noise, which five samples of sixteen values do not average out.
    assert all(
        entry["value"] is not None for kind, entry in entries.items() if expected[kind]["value"] is not None
    )


@pytest.mark.parametrize("kind", METRICS)
def test_a_definition_is_a_sentence_that_fits_beside_its_value(kind: str) -> None:
    definition = registry.get("metric", kind).definition
    assert definition == " ".join(definition.split())
    assert 20 < len(definition) <= 300


def test_no_two_metrics_have_the_same_definition() -> None:
    definitions = [registry.get("metric", kind).definition for kind in registry.names("metric")]
    assert len(set(definitions)) == len(definitions)


# -- to what a metric applies -------------------------------------------------------------------------


class OneMeter(aezoo.Meter):
    """Measures a one."""

    def update(self, output: Output, rows: Batch) -> None:
        pass

    def value(self) -> float:
        return 1.0


class WideMetric(aezoo.MetricSpec):
    """Applies to networks with more than two latents, and cannot be built for others."""

    kind: Literal["wide"] = "wide"
    definition = "1 for every network that has more than two latents"

    def applies(self, ae: Autoencoder) -> bool:
        return ae.num_latents > 2

    def build(self, ae: Autoencoder) -> aezoo.Meter:
        assert ae.num_latents > 2
        return OneMeter()


class AnyMetric(aezoo.MetricSpec):
    """Does not say to what it applies."""

    kind: Literal["any"] = "any"
    definition = "1 for every network, whatever it is"

    def build(self, ae: Autoencoder) -> aezoo.Meter:
        return OneMeter()


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize(("latents", "expected"), [(2, {"any"}), (3, {"any", "wide"})])
def test_a_metric_of_ones_own_is_left_out_where_it_says_so(latents: int, expected: set[str]) -> None:
    before = set(found(identity(latents), torch.ones(2, latents)))
    aezoo.register(WideMetric)
    aezoo.register(AnyMetric)
    entries = found(identity(latents), torch.ones(2, latents))
    assert set(entries) - before == expected
    assert before <= set(entries)
    assert {entries[kind]["value"] for kind in expected} == {1.0}


@pytest.mark.parametrize("kind", ["mse", "sse", "fvu", "l0", "dead_latents"])
@pytest.mark.parametrize("kinds", RICH)
def test_errors_and_counts_apply_to_every_network(
    kind: str, kinds: Literal["denoiser", "variational"]
) -> None:
    assert applies(kind, rich(kinds))
