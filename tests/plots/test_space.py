"""Figures of the space of latents: projections, walks and the decoded plane."""

import math
from typing import Any

import numpy as np
import pytest
import torch

import aezoo
from aezoo import plots
from tests.examples import small
from tests.plots.pictures import cut, digits, identity, random, slow_except, texts


def offsets(figure: Any) -> np.ndarray:
    """Points of all classes, in order of the classes."""
    return np.concatenate([np.asarray(c.get_offsets()) for c in figure.axes[0].collections])


def test_an_embedding_draws_each_sample_at_its_latents() -> None:
    latents = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 8.0]])
    figure = plots.embedding(latents, torch.tensor([0, 1, 2, 1]), title="plane")
    np.testing.assert_allclose(offsets(figure), latents[[0, 1, 3, 2]].numpy())
    assert figure.axes[0].get_xlabel() == "latent 0"
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["0", "1", "2"]
    assert {text.get_text() for text in figure.axes[0].texts} == {"0", "1", "2"}
    assert cut(figure) == []


def test_an_embedding_by_a_number_has_a_scale() -> None:
    latents = random(4, 2)
    figure = plots.embedding(latents, torch.tensor([0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_allclose(offsets(figure), latents.numpy())
    np.testing.assert_allclose(figure.axes[0].collections[0].get_array(), [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    assert len(figure.axes) == 2
    assert figure.axes[0].get_legend() is None


def test_an_embedding_without_labels() -> None:
    figure = plots.embedding(random(9, 2))
    assert figure.axes[0].get_legend() is None
    assert len(offsets(figure)) == 9


def test_an_embedding_of_many_latents_draws_principal_components() -> None:
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn((50, 2), generator=generator) * torch.tensor([3.0, 1.0])
    latents = torch.cat([plane, torch.zeros(50, 3)], 1)[:, torch.tensor([4, 0, 2, 1, 3])] + 7
    figure = plots.embedding(latents, torch.zeros(50, dtype=torch.long))
    found = torch.as_tensor(offsets(figure))
    # The plane may be rotated or mirrored, which keeps distances.
    torch.testing.assert_close(
        torch.cdist(found, found).float(), torch.cdist(plane, plane), atol=1e-3, rtol=1e-3
    )
    share = plane.var(0).max() / plane.var(0).sum()
    said = int(figure.axes[0].get_xlabel().split("(")[1].split()[0])
    assert said == pytest.approx(100 * float(share), abs=2)
    assert "PCA of 5 latents" in figure.get_suptitle()


@pytest.mark.parametrize("dimensions", slow_except([2, 3], 2))
@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_the_method_is_in_the_figure(method: str, dimensions: int) -> None:
    figures = [
        plots.embedding(random(40, 6), torch.arange(40) % 10, method=method, dimensions=dimensions, title="t")
        for _ in range(2)
    ]
    words = {"pca": ("PCA of 6 latents", "component"), "tsne": ("t-SNE of 6 latents, perplexity 13", "t-SNE")}
    said, axis = words[method]
    assert said in figures[0].get_suptitle()
    names = [getattr(figures[0].axes[0], f"get_{a}label")() for a in "xyz"[:dimensions]]
    for index, name in enumerate(names):
        assert name.startswith(f"{axis} {index + 1}")
    assert plots.png(figures[0]) == plots.png(figures[1])
    assert cut(figures[0]) == []


def test_umap_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(
        aezoo.MissingExtraError, match="needs umap-learn; install it with: pip install umap-learn"
    ):
        plots.embedding(random(9, 4), method="umap")


def test_names_of_classes_at_one_place_are_moved_apart() -> None:
    latents = random(40, 2)
    figure = plots.embedding(latents, torch.arange(40) % 4)
    at = [text.get_position() for text in figure.axes[0].texts]
    figure.draw_without_rendering()
    pixels = figure.axes[0].transData.transform(at)
    gaps = np.linalg.norm(pixels[:, None] - pixels[None], axis=2)[~np.eye(4, dtype=bool)]
    assert gaps.min() > 0.15 * figure.dpi


@pytest.mark.parametrize(
    ("latents", "labels"),
    [
        (torch.rand(1, 9), torch.tensor([3])),
        (torch.rand(1, 2), torch.tensor([3])),
        (torch.zeros(4, 5), torch.arange(4)),
        (torch.rand(5, 3) * 3e38, torch.arange(5)),
        (torch.rand(4, 2).half(), torch.rand(4).bfloat16()),
        (torch.rand(4, 2), torch.tensor([True, False, True, True])),
        (torch.rand(60, 2), torch.arange(60)),
        (torch.rand(15, 2), torch.arange(15)),
        (torch.rand(15, 2, 3, 3), None),
    ],
    ids=[
        "one sample",
        "one point",
        "constant",
        "largest",
        "half",
        "bool",
        "60 classes",
        "15 classes",
        "maps",
    ],
)
def test_an_embedding_of_any_values_and_labels_is_drawn(
    latents: torch.Tensor, labels: torch.Tensor | None
) -> None:
    for dimensions in (2, 3):
        if latents[0].numel() >= dimensions:
            assert plots.png(plots.embedding(latents, labels, dimensions=dimensions))


X = random(4, 6)
REFUSED = {
    "one latent": (lambda: plots.embedding(X[:, :1], torch.zeros(4)), r"expected latents of shape \(batch, 2 or more\)"),
    "two latents in space": (lambda: plots.embedding(X[:, :2], dimensions=3), r"\(batch, 3 or more\), found \[4, 2\]"),
    "no batch": (lambda: plots.embedding(X[0]), r"expected latents of shape \(batch, latents\), found \[6\]"),
    "other labels": (lambda: plots.embedding(X, torch.zeros(3)), "expected 4 labels"),
    "NaN": (lambda: plots.embedding(X * math.nan), "is not finite"),
    "none of six": (lambda: plots.embedding(X, method="none"), "method none draws 2 latents, found 6; choose pca"),
    "few samples": (lambda: plots.embedding(X, method="tsne"), "tsne needs at least 5 samples, found 4"),
    "odd walk": (lambda: plots.walk(identity((1, 6, 6)), random(3, 1, 6, 6)), "expected pairs of samples, found 3"),
    "walk of none": (lambda: plots.walk(identity((1, 6, 6)), random(0, 1, 6, 6)), "x: expected at least one sample"),
    "plane of others": (lambda: plots.manifold(aezoo.load("vae-2"), latents=X), r"latents: expected shape \(batch, 2\)"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_drawn_is_one_line(what: str) -> None:
    draw, words = REFUSED[what]
    with pytest.raises(aezoo.DataError, match=words) as error:
        draw()
    assert "\n" not in str(error.value)


# -- walks and planes ---------------------------------------------------------------------------------


def tiles(figure: Any, columns: int, count: int, side: int = 28) -> list[np.ndarray]:
    """The small pictures of a figure of many."""
    (image,) = figure.axes[0].images
    whole = np.asarray(image.get_array())[..., 0] / 255
    step = (whole.shape[1] + max(1, round(0.08 * side))) // columns
    return [
        whole[
            i // columns * step : i // columns * step + side, i % columns * step : i % columns * step + side
        ]
        for i in range(count)
    ]


def test_a_walk_starts_and_ends_at_reconstructions() -> None:
    ae, x = aezoo.load("fc-64"), digits(4)
    figure = plots.walk(ae, x, steps=5)
    found = tiles(figure, 5, 10)
    for index, sample in ((0, 0), (4, 1), (5, 2), (9, 3)):
        expected = ae(x[sample : sample + 1]).x_hat[0, 0].detach().clamp(0, 1)
        np.testing.assert_allclose(found[index], expected.numpy(), atol=0.003)
    assert cut(figure) == []


@pytest.mark.parametrize("shape", [(2,), (4,), (40,), (2, 20), (5, 3, 3)])
def test_a_walk_of_samples_that_are_no_images(shape: tuple[int, ...]) -> None:
    figure = plots.walk(identity(shape), random(4, *shape), steps=3)
    assert "identity: walks" in texts(figure)
    assert plots.png(figure)


def test_a_walk_needs_a_decoder_of_latents() -> None:
    ae = aezoo.load("conv-unpool-max")
    with pytest.raises(
        aezoo.NotSupportedError, match="a walk needs a decoder of the latents alone; this one also"
    ):
        plots.walk(ae, digits(2))


def two_latents() -> aezoo.Autoencoder:
    return aezoo.build(aezoo.VariantSpec.model_validate(small(
        encoder=[{"kind": "flatten"}, {"kind": "linear", "out_features": 4}, {"kind": "gaussian_sample"}],
    )))  # fmt: skip


def test_a_manifold_draws_the_quantiles_of_the_prior() -> None:
    ae = two_latents().train()
    figure = plots.manifold(ae, side=3)
    assert ae.training
    # The image in the middle is at the prior's median, the first one is at the upper left.
    third = float(torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(1 / 6)))
    made = [ae.eval().decode(torch.tensor([z]))[0, 0].detach() for z in ([0.0, 0.0], [third, -third])]
    (image,) = figure.axes[0].images
    # Pictures of 6 x 6 are enlarged 4 times.
    whole = np.asarray(image.get_array())[::1, ::1, 0] / 255
    low, high = _range(ae)
    step = (whole.shape[1] + 2) // 3
    for (row, column), expected in zip(((1, 1), (0, 0)), made, strict=True):
        tile = whole[row * step : row * step + 24 : 4, column * step : column * step + 24 : 4]
        np.testing.assert_allclose(tile, ((expected - low) / (high - low)).clamp(0, 1).numpy(), atol=0.003)
    assert cut(figure) == []


def _range(ae: aezoo.Autoencoder) -> tuple[float, float]:
    found = ae.spec.output.range
    assert found is not None
    return found


def test_a_manifold_of_known_latents() -> None:
    latents = torch.stack([torch.linspace(0, 100, 101), torch.linspace(-50, 50, 101)], 1)
    figure = plots.manifold(aezoo.load("deep-2"), side=4, latents=latents)
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert shown == ["14", "86"]


def test_a_manifold_of_points() -> None:
    figure = plots.manifold(aezoo.load("swissroll-2"), side=5)
    assert len(figure.axes) == 2
    assert len(np.asarray(figure.axes[0].collections[0].get_offsets())) == 25
    assert cut(figure) == []


def test_a_manifold_needs_two_latents() -> None:
    with pytest.raises(aezoo.NotSupportedError, match=r"needs two latents, found latents of shape \(64,\)"):
        plots.manifold(aezoo.load("fc-64"))


def test_choices_are_checked() -> None:
    with pytest.raises(ValueError, match="dimensions: expected 2, 3, found 4"):
        plots.embedding(X, dimensions=4)
