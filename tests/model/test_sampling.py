"""Layers that draw: what they draw in training, what they give in evaluation, and the prior behind them."""

from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

import aezoo
from aezoo.errors import LayerError
from aezoo.model.build import build_on_meta
from tests.examples import small, small_spec

DECODER = [{"kind": "linear", "out_features": 36}, {"kind": "unflatten", "shape": [1, 6, 6]}]


def sampling(in_shape: tuple[int, ...] = (6,)) -> nn.Module:
    return aezoo.LayerSpec.model_validate("gaussian_sample").build(in_shape)


def variational(**recipe: Any) -> aezoo.VariantSpec:
    """36 values, 4 latents."""
    return small_spec(
        encoder=["flatten", {"kind": "linear", "out_features": 8}, "gaussian_sample"],
        decoder=DECODER,
        recipe=small()["recipe"] | {"threads": 1, "penalties": ["vae_kl"]} | recipe,
    )


def parameters_of(mean: list[float], std: list[float], n: int = 1) -> Tensor:
    """What the layer takes: means, then log variances."""
    row = torch.cat([torch.tensor(mean), 2 * torch.tensor(std).log()])
    return row.expand(n, -1)


def test_training_draws_from_the_normal_distribution_that_it_is_given() -> None:
    torch.manual_seed(0)
    n, mean, std = 20_000, torch.tensor([0.0, -3.0, 5.0]), torch.tensor([1.0, 0.5, 2.0])
    drawn = sampling().train()(parameters_of(mean.tolist(), std.tolist(), n), {})
    # Five standard errors of a mean, and of a standard deviation.
    assert ((drawn.mean(0) - mean).abs() < 5 * std / n**0.5).all()
    assert ((drawn.std(0) - std).abs() < 5 * std / (2 * n) ** 0.5).all()
    assert (drawn.T.corrcoef() - torch.eye(3)).abs().max() < 5 / n**0.5
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("in_shape", [(6,), (6, 5), (4, 3, 2)])
def test_evaluation_gives_the_mean_and_both_emit_the_same(in_shape: tuple[int, ...]) -> None:
    layer = sampling(in_shape)
    h = torch.randn(5, *in_shape, generator=Generator().manual_seed(0))
    half = in_shape[0] // 2
    emitted: dict[bool, dict[str, Tensor]] = {True: {}, False: {}}
    drawn, mean = layer.train()(h, emitted[True]), layer.eval()(h, emitted[False])
    assert torch.equal(mean, h[:, :half])
    assert drawn.shape == mean.shape
    assert not torch.equal(drawn, mean)
    for aux in emitted.values():
        assert list(aux) == ["mean", "log_var"]
        assert torch.equal(aux["mean"], h[:, :half])
        assert torch.equal(aux["log_var"], h[:, half:])


def test_the_gradient_is_that_of_the_reparameterisation() -> None:
    h = parameters_of([0.3, -0.2, 1.0], [0.5, 1.0, 2.0], n=4).clone().requires_grad_()
    torch.manual_seed(0)
    drawn = sampling().train()(h, {})
    drawn.sum().backward()
    assert h.grad is not None
    mean = h.detach()[:, :3]
    assert torch.equal(h.grad[:, :3], torch.ones(4, 3))
    # d z / d log_var = 0.5 std noise = 0.5 (z - mean)
    torch.testing.assert_close(h.grad[:, 3:], 0.5 * (drawn.detach() - mean))


@pytest.mark.parametrize("in_shape", [(5,), (3, 4, 4), (1,)])
def test_an_odd_number_of_parameters_is_refused(in_shape: tuple[int, ...]) -> None:
    with pytest.raises(LayerError) as caught:
        sampling(in_shape)
    assert caught.value.field == "kind"
    assert "means and log variances, not the odd" in caught.value.message


def test_an_odd_number_is_named_by_its_path() -> None:
    with pytest.raises(
        aezoo.SpecError, match=r"^encoder\.1\.kind: .* not the odd \(7,\) that encoder\.0 gives$"
    ):
        aezoo.build(
            small_spec(
                input={"shape": [36]},
                encoder=[{"kind": "linear", "out_features": 7}, "gaussian_sample"],
                decoder=DECODER[:1],
            )
        )


# -- the prior ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("in_shape", "shape"), [((6,), (3,)), ((4, 3, 2), (2, 3, 2))])
def test_the_prior_is_a_standard_normal_of_the_latents_shape(
    in_shape: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    layer: Any = sampling(in_shape)
    drawn = layer.sample_prior(4000, Generator().manual_seed(0))
    assert tuple(drawn.shape) == (4000, *shape)
    assert (drawn.mean(0).abs() < 5 / 4000**0.5).all()
    assert ((drawn.std(0) - 1).abs() < 5 / 8000**0.5).all()


def test_a_generator_decides_what_is_sampled_and_the_global_one_is_left_alone() -> None:
    ae = aezoo.build(variational()).eval()
    before = torch.get_rng_state()
    first, again, other = (ae.sample(3, Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_sampling_without_a_generator_draws_from_the_global_one() -> None:
    ae = aezoo.build(variational()).eval()
    torch.manual_seed(3)
    first = ae.sample(3)
    assert not torch.equal(first, ae.sample(3))
    torch.manual_seed(3)
    assert torch.equal(first, ae.sample(3))


def test_what_is_sampled_is_the_decoded_prior() -> None:
    ae = aezoo.build(variational()).eval()
    prior = torch.randn(5, 4, generator=Generator().manual_seed(7))
    drawn = ae.sample(5, Generator().manual_seed(7))
    assert tuple(drawn.shape) == (5, 1, 6, 6)
    assert not drawn.requires_grad
    assert torch.equal(drawn, ae.decode(prior).detach())


def test_an_autoencoder_samples_in_its_own_precision() -> None:
    drawn = aezoo.build(variational(), dtype=torch.float64).sample(2)
    assert drawn.dtype == torch.float64


def test_an_autoencoder_samples_on_its_own_device() -> None:
    # The meta device stands for any that is not the CPU.
    assert build_on_meta(variational()).sample(2).device.type == "meta"


# -- in a network -------------------------------------------------------------------------------------


def test_what_was_emitted_comes_out_beside_the_latents() -> None:
    ae = aezoo.build(variational())
    x = torch.rand(5, 1, 6, 6, generator=Generator().manual_seed(0))
    out = ae.eval()(x)
    assert torch.equal(out.aux["mean"], out.latents)
    assert tuple(out.aux["log_var"].shape) == (5, 4)
    assert torch.equal(ae.decode(ae.encode(x)), out.x_hat)
    assert not torch.equal(ae.train()(x).latents, out.latents)


def test_a_trained_variational_autoencoder_is_the_same_again_and_evaluates_by_the_mean() -> None:
    x = torch.rand(60, 1, 6, 6, generator=Generator().manual_seed(0))
    first, second = (aezoo.train(variational(), x, device="cpu", progress=False) for _ in range(2))
    assert not first.training
    assert torch.equal(first(x).x_hat, second(x).x_hat)
    assert first.history[-1]["validation"] == second.history[-1]["validation"]
    assert first.history[-1]["train"] == second.history[-1]["train"]
