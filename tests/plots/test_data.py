"""Figures of samples: images, points, bars and lines."""

import math

import numpy as np
import pytest
import torch

import aezoo
from aezoo import plots
from tests.plots.pictures import cut, random, texts


def mosaic_of(figure: object, width: int) -> np.ndarray:
    (image,) = figure.axes[0].images  # type: ignore[attr-defined]
    return np.asarray(image.get_array())


def test_images_are_drawn_in_order_with_a_short_last_row() -> None:
    x = random(7, 3, 30, 40)
    found = mosaic_of(plots.images(x, columns=3, title="seven"), 3)
    for index, image in enumerate(x):
        row, column = divmod(index, 3)
        top, left = row * 33, column * 43
        tile = found[top : top + 30, left : left + 40]
        np.testing.assert_allclose(tile[..., :3] / 255, image.movedim(0, -1).numpy(), atol=0.003)
        assert (tile[..., 3] == 255).all()
    # Gaps and unused places are transparent.
    assert (found[30:33, ..., 3] == 0).all()
    assert (found[66:, 43:, 3] == 0).all()


def test_images_are_scaled_to_the_value_range() -> None:
    x = torch.tensor([-1.0, 0.0, 1.0, 3.0]).view(1, 1, 2, 2)
    for value_range, expected in (((-1.0, 1.0), [[0, 128], [255, 255]]), (None, [[0, 64], [128, 255]])):
        found = mosaic_of(plots.images(x, value_range=value_range), 1)
        np.testing.assert_array_equal(found[::12, ::12, 0], expected)


def test_bytes_are_drawn_like_floating_point() -> None:
    x = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    for value_range in ((0.0, 1.0), (-1.0, 1.0), None):
        found = mosaic_of(plots.images(x, value_range=value_range), 1)
        np.testing.assert_array_equal(found[::2, ::2, 0], x[0, 0].numpy())


def test_values_that_are_not_numbers_are_transparent() -> None:
    x = torch.tensor([math.nan, 0.0, 1.0, math.inf]).view(1, 1, 2, 2)
    found = mosaic_of(plots.images(x), 1)[::12, ::12]
    np.testing.assert_array_equal(found[..., 3], [[0, 255], [255, 255]])
    np.testing.assert_array_equal(found[1, :, 0], [255, 255])


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("labels", [None, "classes", "numbers"])
def test_points_have_their_coordinates(size: int, labels: str | None) -> None:
    x, x_hat = random(40, size), random(40, size) / 2
    known = {None: None, "classes": torch.arange(40) % 3, "numbers": random(40)}[labels]
    figure = plots.points(x, x_hat, labels=known, names=["a", "b", "c"][:size], title="points")
    offsets = [axes.collections[0].get_offsets() for axes in figure.axes]
    for found, expected in zip(offsets, (x, x_hat), strict=True):
        if size == 2:
            np.testing.assert_allclose(np.asarray(found), expected.numpy(), rtol=1e-6)
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    assert figure.axes[0].get_xlabel() == "a"
    assert (len(figure.legends) == 1) == (labels == "classes")
    assert plots.png(figure)
    assert cut(figure) == []


def test_bars_have_names_and_markers() -> None:
    x = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    figure = plots.bars(x, x * 2, names=("age", "$\\bad"))
    first, second = figure.axes
    assert [bar.get_width() for bar in first.patches] == [1.0, -2.0]
    np.testing.assert_array_equal(second.lines[0].get_xdata(), [1.0, 6.0])
    assert [label.get_text() for label in first.get_yticklabels()] == ["age", "$\\bad"]
    assert first.get_xlim() == second.get_xlim()
    assert "reconstruction" in texts(figure)
    assert cut(figure) == []


@pytest.mark.parametrize("shape", [(4, 20), (3, 2, 20), (1, 1, 1)])
def test_lines_are_the_values(shape: tuple[int, ...]) -> None:
    x = random(*shape)
    figure = plots.lines(x, x / 2, columns=2)
    channels = 1 if x.ndim == 2 else x.shape[1]
    for axes, one in zip(figure.axes, x.reshape(len(x), channels, -1), strict=True):
        assert len(axes.lines) == 2 * channels
        np.testing.assert_allclose(axes.lines[0].get_ydata(), one[0].numpy(), rtol=1e-6)
        np.testing.assert_allclose(axes.lines[channels].get_ydata(), one[0].numpy() / 2, rtol=1e-6)
    assert cut(figure) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, 3e38, 1e-42])
def test_every_value_is_drawn(value: float) -> None:
    x = torch.full((2, 2), value)
    x[0, 0] = 0.5
    for figure in (plots.points(x, x), plots.bars(x, x), plots.lines(x, x), plots.images(x[None, None])):
        assert plots.png(figure)


X = random(4, 3)
REFUSED = {
    "images without channels": (lambda: plots.images(random(4, 6, 6)), r"expected images of shape \(batch, channels, height, width\)"),
    "no images": (lambda: plots.images(random(0, 1, 6, 6)), "images: expected at least one sample"),
    "sparse images": (lambda: plots.images(random(2, 1, 6, 6).to_sparse()), "call .to_dense"),
    "points of four values": (lambda: plots.points(random(4, 4)), r"expected points of shape \(batch, 2\) or \(batch, 3\), found \[4, 4\]"),
    "whole numbers": (lambda: plots.bars(X.long()), "x: expected floating point, found torch.int64"),
    "other points": (lambda: plots.points(X, X[:2]), r"x_hat: expected the shape of x, \[4, 3\], found \[2, 3\]"),
    "fewer labels": (lambda: plots.points(X, labels=torch.zeros(2)), "expected 4 labels, one for each sample"),
    "too many bars": (lambda: plots.bars(random(2, 65)), r"expected rows of shape \(batch, 1 to 64\), found \[2, 65\]"),
    "images as lines": (lambda: plots.lines(random(2, 1, 6, 6)), "expected series of shape"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_drawn_is_one_line(what: str) -> None:
    draw, words = REFUSED[what]
    with pytest.raises(aezoo.DataError, match=words) as error:
        draw()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("count", [0, -1, True])
def test_columns_are_a_positive_whole_number(count: int) -> None:
    for draw, x in (
        (plots.images, random(2, 1, 4, 4)),
        (plots.bars, random(2, 4)),
        (plots.lines, random(2, 4)),
    ):
        with pytest.raises(
            ValueError, match=f"columns: expected a whole number of at least 1, found {count}"
        ):
            draw(x, columns=count)
