"""Gaussian latents: draws in training, means in evaluation, and samples from the prior."""

from typing import Any

import pytest
import torch
from torch import Generator, Tensor

import aezoo
from aezoo.model.build import build_on_meta
from tests.examples import small, small_spec
from tests.model.layers.modules import build_layer, normal

DECODER = [{"kind": "linear", "out_features": 36}, {"kind": "unflatten", "shape": [1, 6, 6]}]


def sampling(in_shape: tuple[int, ...] = (6,)) -> Any:
    return build_layer("gaussian_sample", in_shape)


def variational() -> aezoo.VariantSpec:
    """36 values, 4 latents."""
    return small_spec(
        encoder=["flatten", {"kind": "linear", "out_features": 8}, "gaussian_sample"],
        decoder=DECODER,
        recipe=small()["recipe"] | {"threads": 1, "penalties": ["vae_kl"]},
    )


def distribution(mean: Tensor, std: Tensor, rows: int) -> Tensor:
    """The layer's input: means, then log variances."""
    return torch.cat([mean, 2 * std.log()]).repeat(rows, 1)


def test_training_draws_from_the_given_normal_distribution() -> None:
    torch.manual_seed(0)
    n, mean, std = 20_000, torch.tensor([0.0, -3.0, 5.0]), torch.tensor([1.0, 0.5, 2.0])
    drawn = sampling().train()(distribution(mean, std, n), {})
    # Five standard errors of a mean, and of a standard deviation.
    assert ((drawn.mean(0) - mean).abs() < 5 * std / n**0.5).all()
    assert ((drawn.std(0) - std).abs() < 5 * std / (2 * n) ** 0.5).all()
    assert (drawn.T.corrcoef() - torch.eye(3)).abs().max() < 5 / n**0.5
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("in_shape", [(6,), (6, 5), (4, 3, 2)])
def test_evaluation_gives_the_mean(in_shape: tuple[int, ...]) -> None:
    layer, h = sampling(in_shape), normal(in_shape, rows=5)
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


def test_gradient_is_that_of_the_reparameterization() -> None:
    mean, std = torch.tensor([0.3, -0.2, 1.0]), torch.tensor([0.5, 1.0, 2.0])
    h = distribution(mean, std, rows=4).requires_grad_()
    torch.manual_seed(0)
    drawn = sampling().train()(h, {})
    drawn.sum().backward()
    assert h.grad is not None
    assert torch.equal(h.grad[:, :3], torch.ones(4, 3))
    # d z / d log_var = 0.5 std noise = 0.5 (z - mean)
    torch.testing.assert_close(h.grad[:, 3:], 0.5 * (drawn.detach() - h.detach()[:, :3]))


# -- the prior ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("in_shape", "shape"), [((6,), (3,)), ((4, 3, 2), (2, 3, 2))])
def test_prior_is_a_standard_normal_of_the_latent_shape(
    in_shape: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    drawn = sampling(in_shape).sample_prior(4000, Generator().manual_seed(0))
    assert tuple(drawn.shape) == (4000, *shape)
    assert (drawn.mean(0).abs() < 5 / 4000**0.5).all()
    assert ((drawn.std(0) - 1).abs() < 5 / 8000**0.5).all()


def test_sample_decodes_draws_from_the_prior() -> None:
    ae = aezoo.build(variational()).eval()
    drawn = ae.sample(5, Generator().manual_seed(7))
    assert tuple(drawn.shape) == (5, 1, 6, 6)
    assert not drawn.requires_grad
    prior = torch.randn(5, 4, generator=Generator().manual_seed(7))
    assert torch.equal(drawn, ae.decode(prior).detach())


def test_sample_with_a_generator_leaves_the_global_state_unchanged() -> None:
    ae = aezoo.build(variational()).eval()
    before = torch.get_rng_state()
    first, same, other = (ae.sample(3, Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_sample_without_a_generator_uses_the_global_one() -> None:
    ae = aezoo.build(variational()).eval()
    torch.manual_seed(3)
    first = ae.sample(3)
    assert not torch.equal(first, ae.sample(3))
    torch.manual_seed(3)
    assert torch.equal(first, ae.sample(3))


def test_sample_has_the_dtype_and_device_of_the_autoencoder() -> None:
    assert aezoo.build(variational(), dtype=torch.float64).sample(2).dtype == torch.float64
    # The meta device stands for any device other than the CPU.
    assert build_on_meta(variational()).sample(2).device.type == "meta"


# -- in a network -------------------------------------------------------------------------------------


def test_emitted_distribution_is_in_the_output() -> None:
    ae = aezoo.build(variational())
    x = torch.rand(5, 1, 6, 6, generator=Generator().manual_seed(0))
    out = ae.eval()(x)
    assert torch.equal(out.aux["mean"], out.latents)
    assert tuple(out.aux["log_var"].shape) == (5, 4)
    assert torch.equal(ae.decode(ae.encode(x)), out.x_hat)
    assert not torch.equal(ae.train()(x).latents, out.latents)


def test_training_of_a_variational_autoencoder_is_reproducible() -> None:
    x = torch.rand(60, 1, 6, 6, generator=Generator().manual_seed(0))
    first, second = (aezoo.train(variational(), x, device="cpu", progress=False) for _ in range(2))
    assert not first.training
    assert torch.equal(first(x).x_hat, second(x).x_hat)
    for split in ("train", "validation"):
        assert first.history[-1][split] == second.history[-1][split]


def test_latents_can_be_changed_in_place() -> None:
    ae = aezoo.load("vae-2")
    latents = ae.encode(torch.zeros(3, 1, 28, 28))
    latents[0, 1] = 2.0
    assert ae.decode(latents).requires_grad
