"""Figures of what networks give: reconstructions, samples, and several networks side by side."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import aezoo
from aezoo import plots
from tests.examples import small
from tests.plots.pictures import SHAPES, captions, cut, digits, identity, pictures, random, slow_except, texts

ROWS = [(40,), (1, 6, 6), (2, 6, 6), (3, 6, 6), (5, 1, 6), (2, 3, 4, 5)]


@pytest.mark.parametrize("value_range", [None, (0.0, 1.0)])
@pytest.mark.parametrize("shape", slow_except(ROWS, (1, 6, 6), (5, 1, 6)))
def test_a_reconstruction_is_drawn_on_the_scale_of_its_input(
    shape: tuple[int, ...], value_range: tuple[float, float] | None
) -> None:
    x = random(3, *shape)
    for factor, alike in ((1.0, True), (0.01, False), (0.5, False)):
        figure = plots.reconstructions(identity(shape, factor, value_range), x)
        given, made = pictures(figure, 0), pictures(figure, 2)
        assert len(given) == len(made) == 3
        for one, other in zip(given, made, strict=True):
            assert (np.abs(one - other).max() < 0.01) == alike


def test_the_pictures_of_images_are_their_pixels() -> None:
    ae, x = identity((3, 6, 6), 0.5, (0.0, 1.0)), random(4, 3, 6, 6)
    figure = plots.reconstructions(ae, x)
    for found, expected in zip(pictures(figure, 0), x, strict=True):
        np.testing.assert_allclose(found[..., :3], expected.movedim(0, -1).numpy(), atol=0.003)
    for found, expected in zip(pictures(figure, 2), x, strict=True):
        np.testing.assert_allclose(found[..., :3], expected.movedim(0, -1).numpy() / 2, atol=0.003)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("n", "noisy", "target"), [pytest.param(1, False, False, marks=pytest.mark.slow), (5, True, True)]
)
def test_no_text_is_cut(shape: tuple[int, ...], n: int, noisy: bool, target: bool) -> None:
    ae, x = identity(shape), random(n, *shape)
    figure = plots.reconstructions(
        ae, x, noisy=x * 0.9 if noisy else None, target=x * 0.8 if target else None
    )
    words = texts(figure)
    assert "reconstruction" in words
    assert ("with noise" in words) == noisy
    assert ("target" in words) == target
    assert cut(figure) == []


def test_targets_and_noise_have_rows_if_they_differ_from_the_input() -> None:
    ae, x = identity((1, 6, 6)), random(4, 1, 6, 6)
    plain = ["input", "latents: 0 to 1", "reconstruction"]
    assert captions(plots.reconstructions(ae, x)) == plain
    assert captions(plots.reconstructions(ae, x, target=x.clone(), noisy=x.clone())) == plain
    figure = plots.reconstructions(ae, x, target=1 - x, noisy=x / 2, columns=3)
    assert captions(figure) == ["input", "with noise", "target", "latents: 0 to 0.5", "reconstruction"]
    # The network gets the noisy input.
    assert [len(pictures(figure, row)) for row in range(5)] == [3] * 5
    for one, other in zip(pictures(figure, 1), pictures(figure, 4), strict=True):
        np.testing.assert_allclose(one, other, atol=0.005)


def test_targets_of_another_shape_are_drawn() -> None:
    spec = small(
        target={"shape": [3, 6, 6]},
        decoder=[{"kind": "linear", "out_features": 108}, {"kind": "unflatten", "shape": [3, 6, 6]}],
    )
    ae = aezoo.build(aezoo.VariantSpec.model_validate(spec))
    figure = plots.reconstructions(ae, random(2, 1, 6, 6), target=random(2, 3, 6, 6))
    assert len(figure.axes) == 4
    assert captions(figure)[1] == "target"
    assert np.ptp(pictures(figure, 1)[0][..., :3], axis=2).max() > 0.1
    assert np.ptp(pictures(figure, 0)[0][..., :3], axis=2).max() == 0
    with pytest.raises(
        aezoo.DataError, match=r"expected targets of shape \[2, 3, 6, 6\], found \[2, 1, 6, 6\]"
    ):
        plots.reconstructions(ae, random(2, 1, 6, 6), target=random(2, 1, 6, 6))


@pytest.mark.parametrize("shape", [(40,), (4,), (2, 9)])
def test_targets_of_another_kind_are_drawn_as_maps(shape: tuple[int, ...]) -> None:
    spec = small(
        input={"shape": shape}, target={"shape": [1, 6, 6]}, encoder=["flatten", {"kind": "linear", "out_features": 3}],
        decoder=[{"kind": "linear", "out_features": 36}, {"kind": "unflatten", "shape": [1, 6, 6]}],
    )  # fmt: skip
    ae = aezoo.build(aezoo.VariantSpec.model_validate(spec))
    figure = plots.reconstructions(ae, random(3, *shape), target=random(3, 1, 6, 6))
    assert len(figure.axes) == 4
    assert plots.png(figure)


def test_short_rows_are_bars_with_the_names_of_the_columns() -> None:
    columns = ("age", "$\\bad", "a name that is long enough", "\x1b[31mred")
    ae, x = identity((4,), 0.5, columns=columns), torch.tensor([[1.0, -2.0, 0.0, 3.0]])
    axes = plots.reconstructions(ae, x).axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([1.0, -2.0, 0.0, 3.0])
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [0.5, -1.0, 0.0, 1.5])
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["age", "$\\bad", "a name that is lo…", "\\x1b[31mred"]
    assert plots.png(plots.reconstructions(ae, x)) == plots.png(plots.reconstructions(ae, x))


def test_series_are_lines_with_the_reconstruction_on_the_input() -> None:
    x = random(3, 2, 20)
    axes = plots.reconstructions(identity((2, 20), 0.5), x).axes[0]
    assert len(axes.lines) == 4
    np.testing.assert_allclose(axes.lines[2].get_ydata(), 0.5 * x[0, 0].numpy(), rtol=1e-5)


def test_names_of_columns_may_have_characters_that_the_font_lacks() -> None:
    assert plots.png(plots.reconstructions(identity((1,), columns=("温度",)), torch.ones(1, 1)))


def test_points_are_drawn_at_their_coordinates_on_one_scale() -> None:
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    figure = plots.reconstructions(identity((2,), 0.5), x, target=x + 1)
    assert captions(figure) == ["input", "target", "latents", "reconstruction"]
    offsets = [np.asarray(axes.collections[0].get_offsets()) for axes in figure.axes]
    for found, expected in zip(offsets, (x, x + 1, x, 0.5 * x), strict=True):
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)
    first, target, _, made = figure.axes
    assert first.get_xlim() == target.get_xlim() == made.get_xlim()
    width = np.ptp(first.get_xlim())
    assert width == pytest.approx(np.ptp(first.get_ylim()))


def test_points_with_more_latents_than_can_be_drawn() -> None:
    spec = small(
        input={"shape": [3]},
        encoder=[{"kind": "linear", "out_features": 5}],
        decoder=[{"kind": "linear", "out_features": 3}],
    )
    ae = aezoo.build(aezoo.VariantSpec.model_validate(spec))
    figure = plots.reconstructions(ae, random(9, 3))
    assert captions(figure) == ["input", "reconstruction"]
    assert "5 latents, not drawn" in figure.get_suptitle()


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


@pytest.mark.parametrize("shape", slow_except(SHAPES, (9,), (3, 6, 6)))
@pytest.mark.parametrize("values", VALUES)
def test_every_value_and_shape_is_drawn(values: str, shape: tuple[int, ...]) -> None:
    x = VALUES[values](random(2, *shape))
    assert plots.png(plots.reconstructions(identity(shape), x, target=x * 2))


GRAY = random(4, 1, 6, 6)
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
    "fewer noisy ones": (
        lambda: plots.reconstructions(identity((1, 6, 6)), GRAY, noisy=GRAY[:2]), r"noisy: expected the shape of x",
    ),
    "no rows": (lambda: plots.comparison({}), "rows: expected at least one, found none"),
    "rows of two shapes": (lambda: plots.comparison({"a": GRAY, "b": GRAY[:2]}), r"rows: expected shape \[4, 1, 6, 6\]"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_drawn_is_one_line(what: str) -> None:
    draw, words = REFUSED[what]
    with pytest.raises(aezoo.DataError, match=words) as error:
        draw()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("count", [0, -1, True])
def test_counts_are_positive_whole_numbers(count: int) -> None:
    ae = aezoo.load("vae-2")
    for name, draw in {
        "columns": lambda: plots.reconstructions(identity((1, 6, 6)), GRAY, columns=count),
        "n": lambda: plots.samples(ae, count),
        "steps": lambda: plots.walk(ae, digits(2), steps=count),
        "side": lambda: plots.manifold(ae, side=count),
        "most": lambda: plots.dictionary(aezoo.load("fc-64"), most=count),
    }.items():
        with pytest.raises(ValueError, match=f"{name}: expected a whole number of at least 1, found {count}"):
            draw()


def test_the_mode_of_the_network_is_restored() -> None:
    ae = identity((1, 6, 6)).train()
    plots.reconstructions(ae, GRAY)
    assert ae.training


# -- samples and comparisons --------------------------------------------------------------------------


def test_samples_are_those_of_the_seed() -> None:
    ae = aezoo.load("vae-16")
    figure = plots.samples(ae, 4, seed=3)
    (image,) = figure.axes[0].images
    found = np.asarray(image.get_array())[:28, :28, 0]
    expected = ae.sample(4, seed=3)[0, 0].clamp(0, 1).numpy()
    np.testing.assert_allclose(found / 255, expected, atol=0.003)
    assert plots.png(figure) == plots.png(plots.samples(ae, 4, seed=3))
    assert plots.png(figure) != plots.png(plots.samples(ae, 4, seed=4))


def test_samples_need_a_prior() -> None:
    with pytest.raises(aezoo.NotSupportedError, match="has no prior"):
        plots.samples(aezoo.load("fc-64"))


@pytest.mark.parametrize("shape", slow_except(SHAPES, (9,), (2, 9), (3, 6, 6)))
def test_a_comparison_of_samples_of_every_shape(shape: tuple[int, ...]) -> None:
    rows = {"one": random(5, *shape), "$two\\": random(5, *shape) / 2}
    figure = plots.comparison(rows, columns=("abc",) * shape[0], notes={"one": "mse 0.1"})
    assert "one: mse 0.1" in texts(figure)
    assert cut(figure) == []
    assert plots.png(figure)


# -- previews -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("noises", [[], [{"kind": "gaussian", "std": 0.5}]])
def test_a_trained_network_draws_the_noise_of_its_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noises: list[Any]
) -> None:
    seen: list[dict[str, Any]] = []
    draw = plots.reconstructions

    def recorded(ae: aezoo.Autoencoder, x: torch.Tensor, **options: Any) -> Any:
        seen.append({"x": x, **options})
        return draw(ae, x, **options)

    monkeypatch.setattr(plots, "reconstructions", recorded)
    spec = aezoo.VariantSpec.model_validate(small(recipe={
        "reconstruction": "mse", "batch_size": 8, "stages": [{"kind": "fit", "epochs": 1}], "noises": noises,
    }))  # fmt: skip
    ae = aezoo.train(spec, torch.rand(40, 1, 6, 6), progress=False)
    with plots.theme("dark"):
        aezoo.save(ae, tmp_path / "noisy")
    (call,) = seen
    assert torch.equal(call["x"], call["target"])
    assert (call["noisy"] is None) == (not noises)
    assert not noises or not torch.equal(call["noisy"], call["x"])
    # Previews are always light.
    expected = draw(ae, call["x"], target=call["target"], noisy=call["noisy"])
    assert (tmp_path / "noisy" / "preview.png").read_bytes() == plots.png(expected)
