"""Themes, colours, bytes, and what notebooks show."""

import io
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from aezoo import plots
from aezoo.plots.style import CLASSES, THEMES, class_style, diverging, number, shortened, signed_colours
from tests.plots.pictures import identity, pictures, random, rendered


def test_a_figure_shows_in_a_notebook() -> None:
    figure = plots.images(random(2, 1, 4, 4))
    picture = Image.open(io.BytesIO(figure._repr_png_()))
    assert picture.format == "PNG"
    assert figure._repr_png_() == plots.png(figure)


def test_a_notebook_chooses_the_picture() -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    data, _ = formatters.DisplayFormatter().format(plots.images(random(2, 1, 4, 4)))
    assert data["image/png"].startswith(b"\x89PNG")


@pytest.mark.parametrize("format", ["png", "svg", "pdf"])
def test_the_same_figure_gives_the_same_bytes(format: Any) -> None:
    first, second = (plots.render(plots.layers(identity((1, 6, 6))), format) for _ in range(2))
    assert first == second


def corner(figure: Any) -> tuple[int, ...]:
    return rendered(figure).getpixel((0, 0))  # type: ignore[return-value]


def test_a_theme_sets_the_colours_of_the_figures_in_it() -> None:
    ae, x = identity((4,)), random(3, 4)
    with plots.theme("dark"):
        dark = plots.reconstructions(ae, x)
        with plots.theme("light"):
            inner = plots.reconstructions(ae, x)
    light = plots.reconstructions(ae, x)
    # A figure keeps its theme when it is rendered.
    assert max(corner(dark)) < 64
    assert min(corner(light)) > 192
    assert plots.png(inner) == plots.png(light)
    assert plots.png(dark) != plots.png(light)


def test_the_theme_is_restored_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), plots.theme("dark"):
        raise ZeroDivisionError
    assert min(corner(plots.images(random(1, 1, 4, 4)))) > 192


def test_an_unknown_theme_is_refused() -> None:
    with pytest.raises(ValueError, match="theme: expected light or dark, found 'blue'"), plots.theme("blue"):
        pass


def test_figures_do_not_depend_on_the_users_style() -> None:
    before = plots.png(plots.l0_histogram(random(9, 5)))
    settings = dict(matplotlib.rcParams)
    changed = {
        "axes.grid": True,
        "font.size": 30,
        "text.color": "red",
        "savefig.dpi": 10,
        "image.cmap": "jet",
    }
    with matplotlib.rc_context(changed):
        assert plots.png(plots.l0_histogram(random(9, 5))) == before
    assert dict(matplotlib.rcParams) == settings


@pytest.mark.parametrize("name", THEMES)
def test_maps_are_perceptually_uniform(name: str) -> None:
    theme = THEMES[name]
    rgb = diverging(theme)(np.arange(257))[:, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lms = linear @ np.array([
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]).T  # fmt: skip
    lightness = np.cbrt(lms) @ np.array([0.2104542553, 0.7936177850, -0.0040720468])
    steps = np.diff(lightness)
    expected = (theme.ends - theme.zero) / 128
    # Lightness moves away from zero in equal steps at both sides.
    np.testing.assert_allclose(steps[128:], expected, atol=0.2 * abs(expected))
    np.testing.assert_allclose(steps[:128], -expected, atol=0.2 * abs(expected))
    assert lightness[128] == pytest.approx(theme.zero, abs=0.02)
    assert rgb[0, 2] > rgb[0, 0]
    assert rgb[-1, 0] > rgb[-1, 2]


def test_signed_colours_of_values_that_are_not_finite() -> None:
    found = signed_colours(np.array([np.nan, -np.inf, np.inf, 0.0, -1.0, 1.0]), 1.0)
    assert found[0, 3] == 0
    assert (found[1:, 3] == 255).all()
    np.testing.assert_array_equal(found[1], found[4])
    np.testing.assert_array_equal(found[2], found[5])


def test_classes_have_different_styles() -> None:
    assert len({class_style(index) for index in range(70)}) == 70
    assert len(set(CLASSES)) == 10


@pytest.mark.parametrize("name", THEMES)
def test_text_has_contrast(name: str) -> None:
    def luminance(colour: str) -> float:
        rgb = np.array(matplotlib.colors.to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ np.array([0.2126, 0.7152, 0.0722]))

    theme = THEMES[name]
    back = luminance(theme.background)
    for colour, least in ((theme.ink, 7), (theme.muted, 4.5), (theme.accent, 3), (theme.second, 3)):
        front = luminance(colour)
        assert (max(front, back) + 0.05) / (min(front, back) + 0.05) >= least, colour


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (-2.34, "\N{MINUS SIGN}2.3"),
        (150.4, "150"),
        (1234.5, "1,234"),
        (1e-7, "1e\N{MINUS SIGN}07"),
        (3e38, "3e+38"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_text_from_elsewhere_is_cut_and_escaped() -> None:
    assert shortened("a" * 30, 10) == "aaaaaaaaa…"
    assert shortened("\x1b[31m", 20) == "\\x1b[31m"
    assert "$" in plots.images(random(1, 1, 4, 4), title="$\\bad").get_suptitle()
    assert plots.png(plots.images(random(1, 1, 4, 4), title="$\\bad"))


def test_colours_of_a_map_in_both_themes() -> None:
    ae, x = identity((40,)), torch.zeros(1, 40)
    light = pictures(plots.reconstructions(ae, x))[0]
    with plots.theme("dark"):
        dark = pictures(plots.reconstructions(ae, x))[0]
    assert (light[0, 0] > 0.95).all()
    assert (dark[0, 0, :3] < 0.2).all()
