"""Figures: what they draw, and which networks are rejected."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

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


# -- one scale, and samples that are no images -----------------------------------------------------------


def identity(
    shape: tuple[int, ...], factor: float = 1.0, value_range: tuple[float, float] | None = None
) -> aezoo.Autoencoder:
    """A network that multiplies its input by a factor."""
    n = math.prod(shape)
    ae = aezoo.build(aezoo.VariantSpec.model_validate({
        "name": "identity", "summary": "Multiplies by a factor.",
        "input": {"shape": shape, "range": value_range},
        "encoder": ["flatten", {"kind": "linear", "out_features": n}],
        "decoder": [{"kind": "linear", "out_features": n}, {"kind": "unflatten", "shape": shape}],
        "recipe": {"reconstruction": "mse", "batch_size": 2, "stages": [{"kind": "fit", "epochs": 1}]},
    }))  # fmt: skip
    first, last = (module for module in ae.modules() if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        for layer, scale in ((first, 1.0), (last, factor)):
            layer.weight.copy_(scale * torch.eye(n))
            layer.bias.zero_()
    return ae


def pixels_of(figure: Figure, axes: int) -> NDArray[np.float64]:
    """What is drawn inside an axes, (20, 20, 3), from 0 to 255."""
    rendered = Image.open(io.BytesIO(plots.png(figure))).convert("RGB")
    box = figure.axes[axes].get_window_extent()
    inside = (box.x0 + 3, rendered.height - box.y1 + 3, box.x1 - 3, rendered.height - box.y0 - 3)
    return np.asarray(rendered.resize((20, 20), Image.Resampling.BOX, box=inside)).astype(np.float64)


SHAPES = [(1,), (9,), (40,), (1, 50), (2, 50), (1, 6, 6), (2, 6, 6), (3, 6, 6), (4, 6, 6), (5, 6, 6)]


@pytest.mark.parametrize("value_range", [None, (0.0, 1.0)])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_reconstruction_is_drawn_on_the_scale_of_its_input(
    shape: tuple[int, ...], value_range: tuple[float, float] | None
) -> None:
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    for factor, alike in ((1.0, True), (0.01, False), (0.5, False)):
        figure = plots.reconstructions(identity(shape, factor, value_range), x)
        for column in range(3):
            # Bars have the names of columns below the last row only.
            top, bottom = pixels_of(figure, column), pixels_of(figure, 6 + column)
            assert (np.abs(top - bottom).mean() < 4) == alike


def test_all_samples_share_one_scale() -> None:
    x = torch.tensor([[1.0] * 9, [100.0] * 9])
    for axes in (0, 1, 4, 5):
        assert plots.reconstructions(identity((9,)), x).axes[axes].get_ylim() == pytest.approx((-5, 105))
    small, large = drawn(
        plots.images(torch.stack([torch.eye(4)[None], 100 * torch.eye(4)[None]]), value_range=None)
    )
    assert (small.max(), large.max()) == pytest.approx((0.01, 1.0))


def row_labels(figure: Figure) -> list[str]:
    return [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]


def test_targets_have_a_row_if_they_are_not_the_input() -> None:
    ae, x = identity((1, 6, 6)), torch.rand(4, 1, 6, 6)
    plain = ["input", "latents", "reconstruction"]
    assert row_labels(plots.reconstructions(ae, x)) == plain
    assert row_labels(plots.reconstructions(ae, x, target=x.clone())) == plain
    figure = plots.reconstructions(ae, x, target=1 - x, columns=3)
    assert row_labels(figure) == ["input", "target", "latents", "reconstruction"]
    assert len(figure.axes) == 12
    low, high = float(torch.cat([x[:3], 1 - x[:3]]).min()), float(torch.cat([x[:3], 1 - x[:3]]).max())
    expected = (1 - x[1, 0] - low) / (high - low)
    np.testing.assert_allclose(drawn(figure)[4], expected.numpy(), atol=1e-6)


def test_targets_of_another_shape_are_drawn() -> None:
    spec = small(
        target={"shape": [3, 6, 6]},
        decoder=[{"kind": "linear", "out_features": 108}, {"kind": "unflatten", "shape": [3, 6, 6]}],
    )
    ae = aezoo.build(aezoo.VariantSpec.model_validate(spec))
    figure = plots.reconstructions(ae, torch.rand(2, 1, 6, 6), target=torch.rand(2, 3, 6, 6))
    assert [image.ndim for image in drawn(figure)] == [2, 2, 3, 3, 2, 2, 3, 3]
    with pytest.raises(
        aezoo.DataError, match=r"expected targets of shape \[2, 3, 6, 6\], found \[2, 1, 6, 6\]"
    ):
        plots.reconstructions(ae, torch.rand(2, 1, 6, 6), target=torch.rand(2, 1, 6, 6))


def test_short_rows_are_bars_with_the_names_of_the_columns() -> None:
    ae, x = identity((4,)), torch.tensor([[1.0, -2.0, 0.0, 3.0]])
    ae.columns = ("age", "$\\bad", "a name that is long", "\x1b[31mred")
    figure = plots.reconstructions(ae, x)
    axes = figure.axes[2]
    heights = [cast(Rectangle, patch).get_height() for patch in list(axes.patches)]
    assert heights == pytest.approx([1.0, -2.0, 0.0, 3.0])
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == ["age", "$\\bad", "a name that…", "\\x1b[31mred"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["-2", "3"]
    assert plots.png(figure) == plots.png(plots.reconstructions(ae, x))


def test_names_of_columns_may_have_characters_that_the_font_lacks() -> None:
    ae = identity((1,))
    ae.columns = ("温度",)
    assert plots.png(plots.reconstructions(ae, torch.ones(1, 1)))


def test_points_are_drawn_at_their_coordinates_on_one_scale() -> None:
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    figure = plots.reconstructions(identity((2,), 0.5), x, target=x + 1)
    assert [axes.get_title() for axes in figure.axes] == ["input", "target", "latents", "reconstruction"]
    offsets = [np.asarray(axes.collections[0].get_offsets()) for axes in figure.axes]
    for found, expected in zip(offsets, (x, x + 1, x, 0.5 * x), strict=True):
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)
    assert figure.axes[0].get_xlim() == figure.axes[1].get_ylim() == figure.axes[3].get_xlim()


VALUES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "constant": lambda x: torch.full_like(x, 0.5),
    "zero": torch.zeros_like,
    "largest": lambda x: x * 3e38,
    "smallest": lambda x: x * 1e-42,
    "NaN": lambda x: torch.full_like(x, math.nan),
    "some NaN": lambda x: torch.where(x > 0.5, math.nan, x),
    "infinite": lambda x: torch.where(x > 0.5, math.inf, x),
    "minus infinite": lambda x: torch.full_like(x, -math.inf),
    "half": lambda x: x.half(),
    "double": lambda x: x.double(),
    "with a graph": lambda x: x.requires_grad_(),
}  # fmt: skip


DRAWN = [
    (40,), (2, 9), (3, 6, 6),
    *(
        pytest.param(shape, marks=pytest.mark.slow)
        for shape in [(1,), (2,), (1, 1, 1), (1, 6, 6), (5, 1, 6), (2, 3, 4, 5)]
    ),
]  # fmt: skip


@pytest.mark.parametrize("shape", DRAWN)
@pytest.mark.parametrize("values", VALUES)
def test_every_value_and_shape_is_drawn(values: str, shape: tuple[int, ...]) -> None:
    x = VALUES[values](torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)))
    for value_range in (None, (0.0, 1.0)):
        assert plots.png(plots.reconstructions(identity(shape, value_range=value_range), x, target=x * 2))


GRAY = torch.rand(4, 1, 6, 6)
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "no samples": (lambda: plots.reconstructions(identity((1, 6, 6)), GRAY[:0]), "x: expected at least one sample"),
    "bytes": (
        lambda: plots.reconstructions(identity((1, 6, 6)), GRAY.byte()),
        "x: expected floating point, found torch.uint8; ae.transforms",
    ),
    "another shape": (lambda: plots.reconstructions(identity((1, 6, 6)), GRAY[:, :, :5]), "expected input of shape"),
    "fewer targets": (
        lambda: plots.reconstructions(identity((1, 6, 6)), GRAY, target=GRAY[:2]), "expected targets of shape",
    ),
    "no images": (lambda: plots.images(GRAY[:0]), "images: expected at least one sample"),
    "images without channels": (
        lambda: plots.images(GRAY[:, 0]), r"expected images of shape \(batch, channels, height, width\)",
    ),
    "odd walk": (lambda: plots.walk(identity((1, 6, 6)), GRAY[:3]), "expected pairs of samples, found 3"),
    "walk of none": (lambda: plots.walk(identity((1, 6, 6)), GRAY[:0]), "x: expected at least one sample"),
    "one latent": (lambda: plots.embedding(GRAY[:, 0, 0, :1], torch.zeros(4)), "expected latents of shape"),
    "other labels": (lambda: plots.embedding(GRAY.flatten(1), torch.zeros(3)), "expected 4 labels"),
    "NaN latents": (lambda: plots.embedding(GRAY.flatten(1) * math.nan, torch.zeros(4)), "is not finite"),
    "sparse": (lambda: plots.images(GRAY.to_sparse()), "call .to_dense"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_drawn_is_one_line(what: str) -> None:
    draw, words = REFUSED[what]
    with pytest.raises(aezoo.DataError, match=words) as error:
        draw()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("count", [0, -1, True])
def test_counts_are_positive_whole_numbers(count: int) -> None:
    ae = identity((1, 6, 6))
    for name, draw in {
        "columns": lambda: plots.reconstructions(ae, GRAY, columns=count),
        "steps": lambda: plots.walk(ae, GRAY, steps=count),
        "most": lambda: plots.dictionary(ae, most=count),
    }.items():
        with pytest.raises(ValueError, match=f"{name}: expected a whole number of at least 1, found {count}"):
            draw()
    with pytest.raises(ValueError, match="columns: expected a whole number of at least 1"):
        plots.images(GRAY, columns=count)


def test_bytes_are_drawn_like_floating_point() -> None:
    x = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    for value_range in ((0.0, 1.0), (-1.0, 1.0), None):
        (found,) = drawn(plots.images(x, value_range=value_range))
        np.testing.assert_allclose(found, x[0, 0].numpy() / 255, atol=1e-6)


def test_a_trained_network_draws_the_targets_of_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    draw = plots.reconstructions

    def recorded(ae: aezoo.Autoencoder, x: torch.Tensor, **options: Any) -> Figure:
        seen.append({"x": x, **options})
        return draw(ae, x, **options)

    monkeypatch.setattr(plots, "reconstructions", recorded)
    spec = aezoo.VariantSpec.model_validate(small(recipe={
        "reconstruction": "mse", "batch_size": 8, "stages": [{"kind": "fit", "epochs": 1}],
        "noises": [{"kind": "gaussian", "std": 0.5}],
    }))  # fmt: skip
    ae = aezoo.train(spec, torch.rand(40, 1, 6, 6), progress=False)
    aezoo.save(ae, tmp_path / "noisy")
    (call,) = seen
    assert call["x"].shape == call["target"].shape
    assert not torch.equal(call["x"], call["target"])
    assert (tmp_path / "noisy" / "preview.png").is_file()


@pytest.mark.parametrize(
    ("latents", "labels"),
    [
        (torch.rand(1, 9), torch.tensor([3])),
        (torch.rand(5, 3) * 3e38, torch.arange(5)),
        (torch.rand(4, 2).half(), torch.rand(4).bfloat16()),
        (torch.rand(4, 2), torch.tensor([True, False, True, True])),
        (torch.rand(60, 2), torch.arange(60)),
        (torch.rand(15, 2), torch.arange(15)),
    ],
    ids=["one sample", "largest", "half", "bool", "60 classes", "15 classes"],
)
def test_an_embedding_of_any_values_and_labels_is_drawn(latents: torch.Tensor, labels: torch.Tensor) -> None:
    assert plots.png(plots.embedding(latents, labels))
