"""Colours, sizes and themes of all figures.

Matplotlib is imported when a figure is drawn, because importing it takes long.
"""

import functools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aezoo.text import printable

if TYPE_CHECKING:
    from matplotlib.colors import ListedColormap

    from aezoo.plots.figure import Figure

P = ParamSpec("P")
WIDTH = 5.6
"""Width of most figures in inches. Text of 10 points is then legible in a picture of 400 pixels."""
DPI = 180
TEXT, SMALL = 10.0, 9.0
"""Sizes of text in points."""
MARKERS = "os^DvPX"


@dataclass(frozen=True)
class Theme:
    """Colours of a figure, as Matplotlib takes them.

    Attributes:
        name: light or dark.
        background: of the figure.
        ink: of text and of what the eye should see first.
        muted: of what is secondary, such as an input beside its reconstruction.
        line: of frames and grids.
        accent: of what a figure is about.
        second: of what is compared with it.
        zero: lightness of zero in maps of signed values, in OKLab.
        ends: lightness of the largest values.
    """

    name: str
    background: str
    ink: str
    muted: str
    line: str
    accent: str
    second: str
    zero: float
    ends: float


THEMES = {
    "light": Theme("light", "#ffffff", "#1f2933", "#6b7784", "#c5ccd3", "#1f77b4", "#d55e00", 0.985, 0.42),
    "dark": Theme("dark", "#14181e", "#e8ebee", "#98a3ae", "#4a5561", "#56b4e9", "#ff9e4a", 0.22, 0.80),
}
CLASSES = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
"""Ten colours that people with any colour vision can tell apart (Petroff, arXiv:2107.02270)."""
_current: ContextVar[Theme] = ContextVar("theme", default=THEMES["light"])


@contextmanager
def theme(name: Literal["light", "dark"] | str) -> Generator[None]:
    """Context manager that sets the colours of the figures that are drawn in it.

    A figure keeps the theme that it was drawn in.

    Args:
        name: `light`, the default, or `dark`.

    Raises:
        ValueError: another name.
    """
    if name not in THEMES:
        raise ValueError(f"theme: expected light or dark, found {name!r}")
    token = _current.set(THEMES[name])
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Theme:
    """The theme in which figures are drawn."""
    return _current.get()


@contextmanager
def _matplotlib_style() -> Generator[None]:
    """Sets Matplotlib's parameters, so that figures do not depend on those of the user."""
    import matplotlib.style

    t = current()
    ours: dict[str, Any] = {
        "figure.facecolor": t.background, "figure.dpi": DPI, "axes.facecolor": t.background,
        "axes.edgecolor": t.line, "axes.linewidth": 0.6, "axes.labelcolor": t.ink, "axes.labelsize": TEXT,
        "axes.titlesize": TEXT, "axes.titlecolor": t.ink, "axes.titlepad": 3.0, "axes.grid.axis": "both",
        "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
        "text.color": t.ink, "text.parse_math": False, "font.size": TEXT, "figure.titlesize": 11.0,
        "legend.frameon": False, "legend.fontsize": SMALL, "legend.handlelength": 1.4,
        "lines.linewidth": 1.4, "grid.color": t.line, "grid.linewidth": 0.5, "savefig.facecolor": "auto",
    }  # fmt: skip
    with matplotlib.style.context(["default", ours]):
        yield


def styled(draw: "Callable[P, Figure]") -> "Callable[P, Figure]":
    """Decorates a function that draws a figure: it then draws in the current theme."""

    @functools.wraps(draw)
    def call(*args: P.args, **kwargs: P.kwargs) -> "Figure":
        with _matplotlib_style():
            return draw(*args, **kwargs)

    return cast("Callable[P, Figure]", call)


def new_figure(height: float, width: float = WIDTH, title: str = "") -> "Figure":
    """An empty figure of a size in inches, with a title at the upper left."""
    from aezoo.plots.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI)
    if title:
        figure.suptitle(
            shortened(title, int(width * 13.5)), x=0.08 / width, y=1 - 0.07 / height, ha="left", va="top"
        )
    return figure


def place(figure: "Figure", left: float, top: float, width: float, height: float, **options: Any) -> Any:
    """Adds axes at a place in inches, from the upper left corner of a figure."""
    across, down = figure.get_size_inches()
    return figure.add_axes(
        (left / across, 1 - (top + height) / down, width / across, height / down), **options
    )


def frame(axes: Any, *, bare: bool = False) -> None:
    """Sets the colours of an axes' ticks, or removes them."""
    t = current()
    if bare:
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(True)
    # Matplotlib makes ticks when it draws them, with the parameters of that time.
    axes.tick_params(
        which="both", color=t.line, labelcolor=t.ink, labelsize=SMALL, width=0.6, length=2.5, pad=2
    )


def shortened(text: object, limit: int) -> str:
    """Text in one line of at most so many characters."""
    line = printable(text)
    return line if len(line) <= limit else f"{line[: max(1, limit - 1)]}\N{HORIZONTAL ELLIPSIS}"


def number(value: float) -> str:
    """A number as short text, with a minus sign."""
    text = f"{value:.2g}" if abs(value) < 99.5 or abs(value) >= 99_999.5 else f"{value:,.0f}"
    return "0" if value == 0 else text.replace("-", "\N{MINUS SIGN}")


def _plain(value: float, _: object) -> str:
    return number(value)


def log_ticks(axis: Any) -> None:
    """Plain numbers at powers of ten on a logarithmic axis; on a short one, also at 2 and 5 times these."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.axes.autoscale_view()
    low, high = sorted(map(float, axis.get_view_interval()))
    short = high < 60 * low
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if short else (1.0,), numticks=8 if short else 5))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_plain))


# -- colours of values --------------------------------------------------------------------------------


def diverging(theme: Theme) -> "ListedColormap":
    """Blue for negative, orange-red for positive values; zero is close to the background.

    Lightness in OKLab changes by the same amount with every step, so that equal differences look equal. In
    the dark theme, larger values are lighter.
    """
    return _diverging(theme.name, theme.zero, theme.ends)


@functools.cache
def _diverging(name: str, zero: float, ends: float) -> "ListedColormap":
    from matplotlib.colors import ListedColormap

    at = np.linspace(-1, 1, 257)[:, None]
    hues = np.where(at < 0, np.array([[-0.034, -0.151]]), np.array([[0.151, 0.083]]))
    if ends > zero:
        hues = np.where(at < 0, np.array([[-0.052, -0.096]]), np.array([[0.089, 0.076]]))
    lab = np.concatenate([zero + (ends - zero) * abs(at), hues * abs(at)], 1)
    return ListedColormap(_srgb(lab), name=f"aezoo_{name}")


def _srgb(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """OKLab to sRGB (Ottosson, "A perceptual color space for image processing", 2020), (n, 3)."""
    to_lms = np.array([
        [1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]
    ])  # fmt: skip
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip((lab @ to_lms.T) ** 3 @ to_rgb.T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def signed_colours(values: NDArray[Any], spread: float) -> NDArray[np.uint8]:
    """RGBA of signed values, (..., 4); what is not a number is transparent."""
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.clip(values.astype(np.float64) / spread, -1, 1) * 0.5 + 0.5
    return _rgba(diverging(current()), scaled)


def _rgba(cmap: Any, scaled: NDArray[np.float64]) -> NDArray[np.uint8]:
    nan = np.isnan(scaled)
    # 257 colours: the middle one is exactly zero.
    index = np.rint(np.where(nan, 0, scaled) * (cmap.N - 1)).astype(np.int64)
    found = cmap(index, bytes=True)
    found[nan] = 0
    return found


def class_style(number: int) -> tuple[str, str]:
    """Colour and marker of a class; the pairs of 70 classes differ."""
    return CLASSES[number % len(CLASSES)], MARKERS[number % len(MARKERS)]


# -- ranges of values ---------------------------------------------------------------------------------


def limits(*tensors: Tensor) -> tuple[float, float]:
    """The smallest and the largest finite value; 0 and 1 if there is none."""
    finite = [x[torch.isfinite(x)].double() for x in tensors]
    values = torch.cat([x for x in finite if x.numel()] or [torch.tensor([0.0, 1.0], dtype=torch.float64)])
    return float(values.min()), float(values.max())


def spread(*tensors: Tensor) -> float:
    """The largest finite absolute value; 1 if there is none, or all are 0."""
    return max(map(abs, limits(*tensors))) or 1.0


def with_margin(low: float, high: float) -> tuple[float, float]:
    """A range and 5 % at both ends."""
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin
