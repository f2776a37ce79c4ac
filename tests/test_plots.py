"""Figures: what they draw, and which networks are rejected."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

import aezoo
from aezoo import plots
from tests.examples import small


def drawn(figure: Figure) -> list[NDArray[np.float64]]:
    """The images of a figure, in the order of its axes."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def digits(n: int) -> torch.Tensor:
    return aezoo.load("fc-64").transforms()(aezoo.sample_digits().inputs[:n])


def test_images_are_drawn_in_order_with_a_short_last_row() -> None:
    x = torch.rand(7, 3, 4, 5)
    figure = plots.images(x, columns=3, title="seven")
    found = drawn(figure)
    assert len(found) == 7
    assert len(figure.axes) == 9
    for one, image in zip(found, x, strict=True):
        np.testing.assert_allclose(one, image.movedim(0, -1).numpy(), rtol=1e-6)


def test_images_are_scaled_to_the_value_range() -> None:
    x = torch.tensor([-1.0, 0.0, 1.0, 3.0]).view(1, 1, 2, 2)
    (found,) = drawn(plots.images(x, value_range=(-1.0, 1.0)))
    np.testing.assert_allclose(found, [[0, 0.5], [1, 1]])
    (found,) = drawn(plots.images(x, value_range=None))
    np.testing.assert_allclose(found, [[0, 0.25], [0.5, 1]])


def test_a_dictionary_draws_the_decoders_weights() -> None:
    ae = aezoo.load("sparse-topk16")
    found = drawn(plots.dictionary(ae, columns=8, most=20))
    assert len(found) == 20
    weight = dict(ae.named_parameters())["decoder.0.linear.weight"].detach()
    np.testing.assert_array_equal(found[3], weight[:, 3].view(28, 28).numpy())


def test_a_dictionary_needs_a_decoder_of_one_layer() -> None:
    spec = small(decoder=[
        {"kind": "linear", "out_features": 9}, {"kind": "linear", "out_features": 36},
        {"kind": "unflatten", "shape": [1, 6, 6]},
    ])  # fmt: skip
    ae = aezoo.build(aezoo.VariantSpec.model_validate(spec))
    with pytest.raises(aezoo.NotSupportedError, match="only decoders of one linear layer"):
        plots.dictionary(ae)


def test_a_walk_starts_and_ends_at_reconstructions() -> None:
    ae = aezoo.load("fc-64")
    x = digits(4)
    found = drawn(plots.walk(ae, x, steps=5))
    assert len(found) == 10
    for index, sample in ((0, 0), (4, 1), (5, 2), (9, 3)):
        expected = ae(x[sample : sample + 1]).x_hat[0, 0].detach().clamp(0, 1)
        np.testing.assert_allclose(found[index], expected.numpy(), atol=1e-5)


def two_latents() -> aezoo.Autoencoder:
    return aezoo.build(aezoo.VariantSpec.model_validate(small(
        encoder=[{"kind": "flatten"}, {"kind": "linear", "out_features": 4}, {"kind": "gaussian_sample"}],
    )))  # fmt: skip


def test_a_manifold_draws_the_quantiles_of_the_prior() -> None:
    ae = two_latents().train()
    found = drawn(plots.manifold(ae, side=3))
    assert ae.training
    assert len(found) == 9
    # The image in the middle is at the prior's median, the first one is at the upper left.
    third = float(torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(1 / 6)))
    for index, latents in ((4, [0.0, 0.0]), (0, [third, -third])):
        expected = ae.eval().decode(torch.tensor([latents]))[0, 0].detach()
        np.testing.assert_allclose(found[index], expected.numpy(), atol=1e-5)


def test_a_manifold_needs_two_latents() -> None:
    with pytest.raises(aezoo.NotSupportedError, match=r"needs two latents, found latents of shape \(64,\)"):
        plots.manifold(aezoo.load("fc-64"))


@pytest.mark.parametrize("labels", [torch.tensor([0, 1, 2, 1]), torch.tensor([0.1, 0.2, 0.3, 0.4])])
def test_an_embedding_draws_each_sample_at_its_latents(labels: torch.Tensor) -> None:
    latents = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 8.0]])
    figure = plots.embedding(latents, labels, title="plane")
    (points,) = figure.axes[0].collections
    np.testing.assert_allclose(np.asarray(points.get_offsets()), latents.numpy())
    np.testing.assert_allclose(np.asarray(points.get_array()), labels.numpy())
    classes = not labels.is_floating_point()
    assert (figure.axes[0].get_legend() is not None) == classes
    assert len(figure.axes) == (1 if classes else 2)


def test_an_embedding_of_many_latents_draws_principal_components() -> None:
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn((50, 2), generator=generator) * torch.tensor([3.0, 1.0])
    latents = torch.cat([plane, torch.zeros(50, 3)], 1)[:, torch.tensor([4, 0, 2, 1, 3])] + 7
    (points,) = plots.embedding(latents, torch.zeros(50, dtype=torch.long)).axes[0].collections
    found = torch.as_tensor(np.asarray(points.get_offsets()))
    # The plane may be rotated or mirrored, which keeps distances.
    torch.testing.assert_close(
        torch.cdist(found, found).float(), torch.cdist(plane, plane), atol=1e-3, rtol=1e-3
    )
