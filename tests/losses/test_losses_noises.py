"""What every loss and every noise keeps to, and what each built-in one computes."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
import torch
import yaml
from torch import Generator, Tensor

import aezoo
from tests.examples import LOSSES, NOISES, small_spec

ROWS, SHAPE = 6, (1, 6, 6)
ELEMENTS = math.prod(SHAPE)


def loss_specs() -> list[Any]:
    specs = [
        aezoo.LossSpec.model_validate({"kind": kind, **o}) for kind, some in LOSSES.items() for o in some
    ]
    return [pytest.param(spec, id=f"{spec.kind_name}-{i}") for i, spec in enumerate(specs)]


def noise_specs() -> list[Any]:
    specs = [aezoo.NoiseSpec.model_validate({"kind": k, **o}) for k, some in NOISES.items() for o in some]
    return [pytest.param(spec, id=f"{spec.kind_name}-{i}") for i, spec in enumerate(specs)]


def shape_for(noise: aezoo.NoiseSpec) -> tuple[int, ...]:
    return (3, 4, 4) if noise.kind_name == "grayscale" else SHAPE


def leaves_nothing_to_chance(noise: aezoo.NoiseSpec) -> bool:
    return noise.kind_name == "grayscale" or (
        noise.kind_name == "masking" and noise.share == 1  # pyright: ignore[reportAttributeAccessIssue]
    )


DATA_TERMS = [kind for kind in LOSSES if aezoo.LossSpec.model_validate(kind).role == "reconstruction"]
each_loss = pytest.mark.parametrize("loss", loss_specs())
each_noise = pytest.mark.parametrize("noise", noise_specs())


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def values(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Well inside [0, 1], where every loss is smooth, and away from every masking value."""
    return 0.6 + 0.3 * torch.rand(shape, generator=seeded(seed), dtype=dtype)


@pytest.fixture(scope="module")
def ae() -> aezoo.Autoencoder:
    return aezoo.build(small_spec(), dtype=torch.float64)


def batch_of(target: Tensor) -> aezoo.StepContext:
    return aezoo.StepContext(target, target, None, 0.0, 0, seeded(0))


def measured(
    loss: aezoo.LossSpec, ae: aezoo.Autoencoder, x_hat: Tensor, target: Tensor, latents: Tensor
) -> Tensor:
    aux = {"mean": latents, "log_var": -latents}
    return loss.build()(aezoo.Output(x_hat, latents, aux), batch_of(target), ae)


def usual(loss: aezoo.LossSpec, ae: aezoo.Autoencoder, repeat: int = 1) -> Tensor:
    """On rows that are repeated as a whole."""
    parts = values(ROWS, *SHAPE, seed=1), values(ROWS, *SHAPE, seed=2), values(ROWS, ae.num_latents, seed=3)
    return measured(loss, ae, *(torch.cat([part] * repeat) for part in parts))


# -- losses -------------------------------------------------------------------------------------------


@each_loss
def test_a_loss_is_a_finite_scalar_of_its_inputs_dtype(loss: aezoo.LossSpec, ae: aezoo.Autoencoder) -> None:
    value = usual(loss, ae)
    assert (value.shape, value.dtype) == ((), torch.float64)
    assert value.isfinite()


@each_loss
def test_a_repeated_batch_has_the_same_loss(loss: aezoo.LossSpec, ae: aezoo.Autoencoder) -> None:
    torch.testing.assert_close(usual(loss, ae, repeat=3), usual(loss, ae), rtol=1e-12, atol=0)


@each_loss
def test_the_gradient_of_a_loss_is_right(loss: aezoo.LossSpec, ae: aezoo.Autoencoder) -> None:
    x_hat = values(2, *SHAPE, seed=1).requires_grad_()
    latents = values(2, ae.num_latents, seed=3).requires_grad_()
    target = values(2, *SHAPE, seed=2)
    assert torch.autograd.gradcheck(lambda a, b: measured(loss, ae, a, target, b), (x_hat, latents))


@pytest.mark.parametrize(
    "kind", [kind for kind in LOSSES if "reduction" in aezoo.LossSpec.of_kind(kind).model_fields]
)
def test_sum_is_as_many_times_the_mean_as_a_row_has_elements(kind: str, ae: aezoo.Autoencoder) -> None:
    mean, total = (
        usual(aezoo.LossSpec.model_validate({"kind": kind, "reduction": reduction}), ae)
        for reduction in ("mean", "sum")
    )
    torch.testing.assert_close(total, ELEMENTS * mean, rtol=1e-12, atol=0)


@each_loss
def test_weight_and_warm_up_are_left_to_the_trainer(loss: aezoo.LossSpec, ae: aezoo.Autoencoder) -> None:
    weighted = loss.replace({"weight": 7.0, "warmup_epochs": 5.0})
    assert usual(weighted, ae) == usual(loss, ae)


@pytest.mark.parametrize(
    ("epoch", "weight"),
    [(0.0, 0.0), (0.5, 0.75), (2.0, 3.0), (9.0, 3.0)],
    ids=["start", "part", "end", "past"],
)
def test_a_weight_grows_linearly_over_its_warm_up(epoch: float, weight: float) -> None:
    warming = aezoo.LossSpec.model_validate({"kind": "mse", "weight": 3.0, "warmup_epochs": 2.0})
    assert warming.weight_at(epoch) == weight
    assert aezoo.LossSpec.model_validate({"kind": "mse", "weight": 3.0}).weight_at(epoch) == 3.0


def one_row(kind: str, x_hat: list[float], target: list[float], ae: aezoo.Autoencoder) -> float:
    parts = (torch.tensor([part], dtype=torch.float64) for part in (x_hat, target, [0.0]))
    return float(measured(aezoo.LossSpec.model_validate(kind), ae, *parts))


def test_mse_is_the_mean_squared_difference_to_the_target(ae: aezoo.Autoencoder) -> None:
    assert one_row("mse", [1.0, 2.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0], ae) == 5 / 4


def test_bce_is_the_mean_cross_entropy_in_nats(ae: aezoo.Autoencoder) -> None:
    expected = -(math.log(0.8) + 0.5 * math.log(0.4) + 0.5 * math.log(0.6)) / 2
    assert one_row("bce", [0.8, 0.4], [1.0, 0.5], ae) == pytest.approx(expected, rel=1e-12)


def test_bce_takes_the_ends_of_the_interval(ae: aezoo.Autoencoder) -> None:
    assert one_row("bce", [0.0, 1.0], [0.0, 1.0], ae) == 0
    assert math.isfinite(one_row("bce", [0.0, 1.0], [1.0, 0.0], ae))


def test_l1_is_the_mean_absolute_difference_to_the_target(ae: aezoo.Autoencoder) -> None:
    assert one_row("l1", [1.0, 2.0, -1.0, 0.5], [1.0, 0.0, 0.0, 0.0], ae) == 3.5 / 4


@pytest.mark.parametrize(
    ("delta", "expected"),
    [(1.0, (0.125 + 2.5) / 2), (0.25, 0.25 * (0.375 + 2.875) / 2), (9.0, (0.125 + 4.5) / 2)],
    ids=["one-beyond", "both-beyond", "none-beyond"],
)
def test_huber_is_half_the_square_up_to_delta_and_linear_beyond(
    delta: float, expected: float, ae: aezoo.Autoencoder
) -> None:
    x_hat, target = (torch.tensor([row], dtype=torch.float64) for row in ([0.5, -3.0], [0.0, 0.0]))
    loss = aezoo.LossSpec.model_validate({"kind": "huber", "delta": delta})
    assert float(measured(loss, ae, x_hat, target, target)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("kind", "at"), [("l1", 0.0), ("huber", 0.25)])
def test_the_gradient_is_right_on_both_sides_of_a_kink(kind: str, at: float, ae: aezoo.Autoencoder) -> None:
    loss = aezoo.LossSpec.model_validate({"kind": kind, **({"delta": at} if at else {})})
    x_hat = torch.tensor([[at - 0.1, at + 0.1, -at - 0.1, -at + 0.1]], dtype=torch.float64).requires_grad_()
    target = torch.zeros(1, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a: measured(loss, ae, a, target, target), (x_hat,))


class Untouched:
    """Data that nobody may look at."""

    def __len__(self) -> int:
        raise AssertionError("the data were asked for")

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("the data were asked for")


def objection_in_training(spec: aezoo.VariantSpec) -> str:
    with pytest.raises(aezoo.SpecError) as caught:
        aezoo.train(spec, Untouched(), device="cpu", progress=False)
    return str(caught.value)


def objection_in_validation(spec: aezoo.VariantSpec, folder: Path) -> str:
    """Without the line, which has to be there."""
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json", exclude_defaults=True), sort_keys=False))
    with pytest.raises(aezoo.SpecError) as caught:
        aezoo.validate(path)
    (problem,) = caught.value.problems
    start = f"{path}:{problem.line}: "
    assert str(caught.value).startswith(start)
    return str(caught.value)[len(start) :]


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
def test_bce_objects_to_a_decoder_that_leaves_0_to_1(
    last: dict[str, Any], words: str, tmp_path: Path
) -> None:
    decoder = [{"kind": "linear", "out_features": ELEMENTS, **last}, {"kind": "unflatten", "shape": [*SHAPE]}]
    spec = small_spec(decoder=decoder).replace({"recipe.reconstruction": {"kind": "bce"}})
    expected = (
        f"recipe.reconstruction: bce needs a decoder that stays in [0, 1], its last layers give {words}"
    )
    assert objection_in_training(spec) == objection_in_validation(spec, tmp_path) == expected


def test_bce_objects_to_targets_that_leave_0_to_1() -> None:
    spec = small_spec(input={"shape": [*SHAPE], "range": [-1, 1]})
    assert objection_in_training(spec.replace({"recipe.reconstruction": {"kind": "bce"}})) == (
        "recipe.reconstruction: bce needs targets in [0, 1], their range is [-1.0, 1.0]"
    )


@pytest.mark.parametrize("limits", [[0, 1], [0.25, 0.75], None], ids=str)
def test_bce_takes_a_sigmoid_and_a_range_within_0_to_1(limits: list[float] | None) -> None:
    spec = small_spec(input={"shape": [*SHAPE], "range": limits})
    assert aezoo.LossSpec.model_validate("bce").incompatibility(aezoo.build(spec)) is None


@pytest.mark.parametrize("kind", DATA_TERMS)
def test_the_data_term_compares_with_the_clean_target(kind: str, ae: aezoo.Autoencoder) -> None:
    x = values(ROWS, *SHAPE)
    clean, noisy = batch_of(x), batch_of(x)._replace(input=1 - x)
    output = aezoo.Output(values(ROWS, *SHAPE, seed=1), values(ROWS, ae.num_latents), {})
    loss = aezoo.LossSpec.model_validate(kind)
    assert loss.build()(output, clean, ae) == loss.build()(output, noisy, ae)


@pytest.mark.parametrize(
    ("x_hat", "target", "words"),
    [
        (1.25, 0.5, "the reconstruction has 0.25 to 1.25"),
        (-0.5, 0.5, "the reconstruction has -0.5 to 0.25"),
        (0.5, 1.25, "the target has 0.25 to 1.25"),
        (0.5, -0.5, "the target has -0.5 to 0.25"),
    ],
)
def test_bce_refuses_values_outside_0_to_1_and_says_whose(
    x_hat: float, target: float, words: str, ae: aezoo.Autoencoder
) -> None:
    with pytest.raises(aezoo.DataError) as caught:
        one_row("bce", [0.25, x_hat], [0.25, target], ae)
    assert str(caught.value) == (
        f"bce needs values in [0, 1], {words}; end the decoder in a sigmoid and declare a range of [0, 1]"
    )


@pytest.mark.parametrize("kind", DATA_TERMS)
def test_a_reconstruction_that_is_nan_has_a_loss_of_nan(kind: str, ae: aezoo.Autoencoder) -> None:
    # The trainer then says which term it was, in which stage and epoch.
    assert math.isnan(one_row(kind, [0.5, math.nan], [0.5, 0.5], ae))


# -- noises -------------------------------------------------------------------------------------------


@each_noise
@pytest.mark.parametrize("shape", [(7,), SHAPE, (2, 12)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_noise_keeps_shape_and_dtype_and_is_not_in_place(
    noise: aezoo.NoiseSpec, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    if noise.kind_name == "grayscale":
        shape = (3, len(shape), shape[-1])
    x = values(ROWS, *shape, dtype=dtype)
    before = x.clone()
    noisy = noise(x, seeded(0))
    assert (noisy.shape, noisy.dtype) == (x.shape, x.dtype)
    assert torch.equal(x, before)
    assert not torch.equal(noisy, before)
    assert noisy.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()


@each_noise
def test_a_noise_takes_rows_that_are_not_contiguous(noise: aezoo.NoiseSpec) -> None:
    x = values(ROWS, 3, 6, 6)
    strided = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(noise(strided, seeded(0)), noise(x, seeded(0)))


@each_noise
def test_the_generator_decides_what_a_noise_draws(noise: aezoo.NoiseSpec) -> None:
    x = values(ROWS, *shape_for(noise))
    generator = seeded(0)
    first = noise(x, generator)
    assert torch.equal(noise(x, seeded(0)), first)
    if not leaves_nothing_to_chance(noise):
        assert not torch.equal(noise(x, generator), first)
        assert not torch.equal(noise(x, seeded(1)), first)


@each_noise
def test_a_noise_leaves_the_global_random_states_alone(noise: aezoo.NoiseSpec) -> None:
    x = values(ROWS, *shape_for(noise))
    before, numpy_before = torch.get_rng_state(), np.random.get_state(legacy=False)
    noise(x, seeded(0))
    assert torch.equal(torch.get_rng_state(), before)
    after = np.random.get_state(legacy=False)
    assert np.array_equal(after["state"]["key"], numpy_before["state"]["key"])
    assert after["state"]["pos"] == numpy_before["state"]["pos"]


@each_noise
def test_rows_are_corrupted_independently(noise: aezoo.NoiseSpec) -> None:
    noisy = noise(values(1, *shape_for(noise)).expand(2, *shape_for(noise)), seeded(0))
    assert torch.equal(noisy[0], noisy[1]) == leaves_nothing_to_chance(noise)


def test_gaussian_adds_noise_of_its_standard_deviation() -> None:
    x = values(500, *SHAPE)
    difference = aezoo.NoiseSpec.model_validate({"kind": "gaussian", "std": 0.3})(x, seeded(0)) - x
    # 18,000 draws: both tolerances are about five standard errors.
    assert float(difference.std()) == pytest.approx(0.3, abs=0.008)
    assert float(difference.mean()) == pytest.approx(0.0, abs=0.012)


def test_gaussian_clips_to_the_declared_range() -> None:
    x = values(ROWS, *SHAPE)
    free, clipped = (
        aezoo.NoiseSpec.model_validate({"kind": "gaussian", "std": 2.0, "clip": clip})(x, seeded(0))
        for clip in (None, [0.25, 1])
    )
    assert float(free.min()) < 0.25
    assert float(free.max()) > 1
    assert torch.equal(clipped, free.clamp(0.25, 1))


def test_a_clip_range_that_does_not_ascend_is_refused() -> None:
    with pytest.raises(
        pydantic.ValidationError, match=r"expected the smaller value first, found \[1\.0, 0\.0\]"
    ):
        aezoo.NoiseSpec.model_validate({"kind": "gaussian", "std": 0.3, "clip": [1, 0]})


@pytest.mark.parametrize(
    ("share", "changed"), [(0.25, 9), (0.5, 18), (0.26, 9), (0.29, 10), (1.0, 36), (0.001, 0)]
)
@pytest.mark.parametrize("value", [0.0, -2.5])
def test_masking_changes_the_exact_share_of_every_row(share: float, changed: int, value: float) -> None:
    x = values(50, *SHAPE)
    noise = aezoo.NoiseSpec.model_validate({"kind": "masking", "share": share, "value": value})
    noisy = noise(x, seeded(0)).flatten(1)
    assert ((noisy == value).sum(1) == changed).all()
    kept = noisy != value
    assert torch.equal(noisy[kept], x.flatten(1)[kept])


def test_masking_finds_every_place_equally_often() -> None:
    noise = aezoo.NoiseSpec.model_validate({"kind": "masking", "share": 0.25})
    masked = (noise(values(4000, 8), seeded(0)) == 0).double().mean(0)
    # Five standard errors of a share of 0.25 in 4,000 rows.
    torch.testing.assert_close(masked, torch.full((8,), 0.25, dtype=torch.float64), atol=0.035, rtol=0)


@pytest.mark.parametrize(
    ("share", "changed"), [(0.25, 9), (0.5, 18), (0.26, 9), (0.29, 10), (1.0, 36), (0.001, 0)]
)
@pytest.mark.parametrize(("pepper", "salt"), [(0.0, 1.0), (-0.5, 2.5)])
def test_salt_and_pepper_change_the_exact_share_of_every_row(
    share: float, changed: int, pepper: float, salt: float
) -> None:
    x = values(50, *SHAPE)
    noise = aezoo.NoiseSpec.model_validate(
        {"kind": "salt_pepper", "share": share, "pepper": pepper, "salt": salt}
    )
    noisy = noise(x, seeded(0)).flatten(1)
    hit = (noisy == pepper) | (noisy == salt)
    assert (hit.sum(1) == changed).all()
    assert torch.equal(noisy[~hit], x.flatten(1)[~hit])


def test_salt_and_pepper_are_in_balance_and_find_every_place_equally_often() -> None:
    noise = aezoo.NoiseSpec.model_validate({"kind": "salt_pepper", "share": 0.25})
    noisy = noise(values(4000, 8), seeded(0))
    # Five standard errors of a share of an eighth in 4,000 rows.
    for extreme in (0, 1):
        share = (noisy == extreme).double().mean(0)
        torch.testing.assert_close(share, torch.full((8,), 0.125, dtype=torch.float64), atol=0.0262, rtol=0)
    # Of 8,000 extremes half are salt, again within five standard errors.
    assert float((noisy == 1).double().sum() / 8000) == pytest.approx(0.5, abs=5 * 0.5 / 8000**0.5)


def test_grayscale_gives_every_channel_the_luma() -> None:
    noise = aezoo.NoiseSpec.model_validate("grayscale")
    colours = torch.eye(3, dtype=torch.float64).view(3, 3, 1, 1)
    assert noise(colours, seeded(0))[:, :, 0, 0].tolist() == [[w] * 3 for w in (0.299, 0.587, 0.114)]
    gray = values(2, 1, 4, 4).expand(2, 3, 4, 4)
    torch.testing.assert_close(noise(gray, seeded(0)), gray, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        ({"kind": "masking", "share": 0.5, "value": -1}, "-1 lies outside the input's range [0.0, 1.0]"),
        (
            {"kind": "salt_pepper", "share": 0.5, "pepper": -0.5},
            "-0.5 lies outside the input's range [0.0, 1.0]",
        ),
        ({"kind": "salt_pepper", "share": 0.5, "salt": 255}, "255 lies outside the input's range [0.0, 1.0]"),
        ({"kind": "gaussian", "std": 0.5, "clip": [-1, 1]}, "-1 lies outside the input's range [0.0, 1.0]"),
        ({"kind": "gaussian", "std": 0.5, "clip": [0, 2]}, "2 lies outside the input's range [0.0, 1.0]"),
        ("grayscale", "grayscale takes colour images of shape (3, height, width), not (1, 6, 6)"),
    ],
    ids=["value", "pepper", "salt", "clip-below", "clip-above", "gray"],
)
def test_a_noise_objects_to_an_input_that_it_does_not_go_with(noise: Any, words: str, tmp_path: Path) -> None:
    spec = small_spec().replace({"recipe.noises": [{"kind": "gaussian", "std": 0.1}, noise]})
    text = f"recipe.noises.1: {words}"
    assert objection_in_training(spec) == objection_in_validation(spec, tmp_path) == text


@pytest.mark.parametrize("shape", [(3,), (3, 8), (4, 8, 8), (3, 2, 8, 8)], ids=str)
def test_grayscale_is_for_colour_images_alone(shape: tuple[int, ...]) -> None:
    given = aezoo.TensorSpec(shape=shape)
    assert "not " + str(shape) in str(aezoo.NoiseSpec.model_validate("grayscale").incompatibility(given))
    assert (
        aezoo.NoiseSpec.model_validate("grayscale").incompatibility(aezoo.TensorSpec(shape=(3, 8, 8))) is None
    )


@each_noise
def test_a_noise_does_not_mind_an_input_without_a_range(noise: aezoo.NoiseSpec) -> None:
    assert noise.incompatibility(aezoo.TensorSpec(shape=shape_for(noise))) is None
