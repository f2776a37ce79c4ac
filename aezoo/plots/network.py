"""A figure of a network: its layers, drawn to shape."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from aezoo.errors import NotSupportedError
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.build import build_on_meta
from aezoo.plots.panels import MARGIN, TITLE
from aezoo.plots.reconstruction import name_of
from aezoo.plots.style import SMALL, WIDTH, current, new_figure, place, shortened, styled
from aezoo.specs.components import LayerSpec
from aezoo.specs.variant import AutoencoderSpec
from aezoo.text import type_name

if TYPE_CHECKING:
    from aezoo.plots.figure import Figure

ROW = 0.27
"""Inches of a layer."""
TIMES = "\N{THIN SPACE}\N{MULTIPLICATION SIGN}\N{THIN SPACE}"
NAMES, SHAPES = 1.95, 1.25
"""Inches for the names and for the shapes of layers."""


class _Block(NamedTuple):
    name: str
    shape: tuple[int, ...]
    colour: str


@styled
def layers(network: AutoencoderSpec | Autoencoder, *, title: str = "") -> "Figure":
    """Draws the layers of a network from the input down to the reconstruction, each drawn to its size.

    The width of a block is the square root of the number of values that the layer gives for one sample, on a
    scale on which the largest layer fills the figure. Beside each block are the layer's kind and options, and
    the shape of what it gives. The latents are the block between encoder and decoder.

    Args:
        network: a spec, which is built without memory for weights, or an autoencoder.
        title: title of the figure; by default the name, latents and parameters of the network.

    Returns:
        A Matplotlib figure; its height grows with the number of layers.

    Raises:
        NotSupportedError: neither a spec nor an autoencoder.
        SpecError: the spec's layers do not fit together.
    """
    if isinstance(network, AutoencoderSpec):
        network = build_on_meta(network)
    if not isinstance(network, Autoencoder):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise NotSupportedError(f"expected a spec or an Autoencoder, found {type_name(network)}")
    t = current()
    blocks = _blocks(network)
    widest = max(math.prod(block.shape) for block in blocks)
    height = ROW * len(blocks)
    title = title or f"{name_of(network)}: {network.num_parameters:,} parameters"
    figure = new_figure(TITLE + height + 0.3, title=title)
    room = WIDTH - NAMES - SHAPES - 2 * MARGIN
    axes: Any = place(figure, MARGIN + NAMES, TITLE, room, height)
    halves = [max(0.012, 0.5 * math.sqrt(math.prod(block.shape) / widest)) for block in blocks]
    for row, (block, half) in enumerate(zip(blocks, halves, strict=True)):
        axes.barh(row, 2 * half, left=-half, height=0.6, color=block.colour, linewidth=0)
        if row + 1 < len(blocks):
            after = halves[row + 1]
            corners = [(-half, row + 0.3), (half, row + 0.3), (after, row + 0.7), (-after, row + 0.7)]
            axes.fill(*zip(*corners, strict=True), color=block.colour, alpha=0.22, linewidth=0)
        latent = block.name == "latents"
        weight = "bold" if latent else "normal"
        common: dict[str, Any] = {"va": "center", "fontsize": SMALL + 0.5, "weight": weight, "clip_on": False}
        start = -0.5 - NAMES / room
        axes.text(start, row, shortened(block.name, 27), ha="left", **common)
        axes.text(
            0.5 + 0.1 / room,
            row,
            TIMES.join(map(str, block.shape)),
            ha="left",
            **common,
        )
    axes.set_xlim(-0.5, 0.5)
    axes.set_ylim(len(blocks) - 0.5, -0.5)
    axes.set_axis_off()
    words = f"width: square root of the number of values; the widest has {widest:,}"
    at = (MARGIN + NAMES + room / 2) / WIDTH, 0.07 / (TITLE + height + 0.3)
    figure.text(*at, words, fontsize=SMALL, color=t.muted, va="bottom", ha="center")
    return figure


def _blocks(ae: Autoencoder) -> list[_Block]:
    t = current()
    spec = ae.spec.resolved()
    found = [_Block("input", ae.spec.input.shape, t.muted)]
    for part, colour in (("encoder", t.accent), ("decoder", t.second)):
        layers_of: tuple[LayerSpec, ...] = getattr(spec, part)
        for index, layer in enumerate(layers_of):
            shape = ae.shapes[f"{part}.{index}"].output
            found.append(_Block(_words(layer), shape, colour))
        if part == "encoder":
            found.append(_Block("latents", ae.latent_shape, t.ink))
    return found


def _words(layer: LayerSpec) -> str:
    """A layer's kind, and what of its options is short."""
    options: dict[str, Any] = layer.model_dump(mode="json", exclude_defaults=True)
    words = [str(layer.kind_name)]
    activation: Any = options.get("activation")
    if isinstance(activation, dict):
        activation = cast(dict[str, Any], activation).get("kind")
    if activation:
        words.append(str(activation))
    elif isinstance(options.get("k"), int):
        words.append(f"k={options['k']}")
    elif isinstance(options.get("kernel_size"), int):
        words.append(str(options["kernel_size"]))
    return ", ".join(words)
