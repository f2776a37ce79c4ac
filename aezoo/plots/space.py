"""Figures of the space of latents: projections, walks and the decoded plane."""

from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aezoo.errors import DataError, MissingExtraError, NotSupportedError, optional
from aezoo.model.autoencoder import Autoencoder, eval_mode
from aezoo.plots.arguments import (
    check_choice,
    check_count,
    checked,
    checked_labels,
    checked_latents,
    classes_of,
)
from aezoo.plots.data import batch_figure, point_panels
from aezoo.plots.panels import MARGIN, TITLE, as_tiles, draw_grid, kind_of, point_size, style_3d
from aezoo.plots.reconstruction import name_of
from aezoo.plots.style import (
    SMALL,
    TEXT,
    WIDTH,
    class_style,
    current,
    frame,
    limits,
    new_figure,
    number,
    place,
    styled,
)

if TYPE_CHECKING:
    from aezoo.plots.figure import Figure

Method = Literal["auto", "pca", "tsne", "umap", "none"]
METHODS = ("auto", "pca", "tsne", "umap", "none")
CLASSES = 20
"""Most labels that are drawn as classes; more are drawn on a continuous scale."""
NAME_SIZE = 0.22
"""Inches between the names of classes."""


@styled
def embedding(
    latents: Tensor,
    labels: Tensor | None = None,
    *,
    method: Method = "auto",
    dimensions: int = 2,
    seed: int = 0,
    title: str = "",
) -> "Figure":
    """Draws samples as points in two or three dimensions, coloured by label.

    The figure says how the latents were projected, and the axes are named. Classes have colours, markers and
    their names at the median of their points.

    Args:
        latents: (batch, *latent shape), at least as many latents as dimensions.
        labels: (batch,), whole numbers for up to 20 classes, otherwise for a continuous scale.
        method: `pca`, the components of the largest variance; `tsne` (van der Maaten and Hinton, JMLR 9,
            2008), which keeps neighbours together, with PCA as its start; `umap` (arXiv:1802.03426), which
            needs the package umap-learn; `none` for the latents themselves; `auto` for `none` if there are as
            many latents as dimensions, otherwise `pca`.
        dimensions: 2 or 3.
        seed: of t-SNE and UMAP.
        title: title of the figure.

    Returns:
        A Matplotlib figure.

    Raises:
        DataError: no samples, too few latents or samples, values that are not finite, or another number of
            labels.
        MissingExtraError: the method needs a package that is not installed.
        ValueError: another method or number of dimensions.
    """
    check_choice(method, "method", METHODS)
    check_choice(dimensions, "dimensions", (2, 3))
    x = checked_latents(latents)
    if x.shape[1] < dimensions:
        expected = f"(batch, {dimensions} or more)"
        raise DataError(f"expected latents of shape {expected}, found {list(latents.shape)}")
    labels = None if labels is None else checked_labels(labels, len(x))
    if method == "auto":
        method = "none" if x.shape[1] == dimensions else "pca"
    if method == "none" and x.shape[1] != dimensions:
        raise DataError(
            f"method none draws {dimensions} latents, found {x.shape[1]:,}; choose pca, tsne or umap"
        )
    points, names, words = _project(x, method, dimensions, seed)
    title = f"{title} ({words})" if title and words else title or words
    return _scatter(points, labels, names, title)


def _project(
    x: Tensor, method: str, dimensions: int, seed: int
) -> tuple[NDArray[np.float64], list[str], str]:
    """Points, names of the axes, and the method in words."""
    if method == "none":
        return x.numpy(), [f"latent {index}" for index in range(dimensions)], ""
    # Values near the largest float64 would overflow when they are squared.
    scale = float(x.abs().max()) or 1.0
    centred = x / scale - (x / scale).mean(0)
    components = min(dimensions if method == "pca" else 50, *x.shape)
    _, singular, rows = cast("tuple[Tensor, Tensor, Tensor]", torch.linalg.svd(centred, full_matrices=False))
    rows = rows[:components]
    # The sign of a component is arbitrary; its largest weight is made positive.
    rows = rows * rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()
    projected = (centred @ rows.T).numpy()
    if method == "pca":
        shares = singular.square() / (singular.square().sum() or 1.0)
        of = "" if dimensions == 3 else " of variance"
        names = [f"component {i + 1} ({100 * float(shares[i]):.0f} %{of})" for i in range(components)]
        # A single sample has one component.
        missing = dimensions - components
        projected = np.pad(projected, ((0, 0), (0, missing)))
        names += [f"component {components + i + 1} (0 %{of})" for i in range(missing)]
        words = ", % of variance" if dimensions == 3 else ""
        return projected * scale, names, f"PCA of {x.shape[1]:,} latents{words}"
    if len(x) < 5:
        raise DataError(f"{method} needs at least 5 samples, found {len(x)}")
    if method == "tsne":
        manifold = optional("sklearn.manifold", "scikit-learn", "sklearn")
        perplexity = min(30.0, (len(x) - 1) / 3)
        model = manifold.TSNE(dimensions, perplexity=perplexity, init="pca", random_state=seed)
        name, words = "t-SNE", f"t-SNE of {x.shape[1]:,} latents, perplexity {perplexity:.0f}"
    else:
        model = _umap(dimensions, min(15, len(x) - 1), seed)
        name, words = "UMAP", f"UMAP of {x.shape[1]:,} latents"
    if components < dimensions:
        projected = np.pad(projected, ((0, 0), (0, dimensions - components)))
    found = np.asarray(model.fit_transform(projected.astype(np.float32)), np.float64)
    return found, [f"{name} {index + 1}" for index in range(dimensions)], words


def _umap(dimensions: int, neighbours: int, seed: int) -> Any:
    import importlib

    try:
        umap: Any = importlib.import_module("umap")
    except ModuleNotFoundError as error:
        raise MissingExtraError("this needs umap-learn; install it with: pip install umap-learn") from error
    return umap.UMAP(n_components=dimensions, n_neighbors=neighbours, random_state=seed, n_jobs=1)


def _scatter(points: NDArray[np.float64], labels: Tensor | None, names: list[str], title: str) -> "Figure":
    import matplotlib.patheffects as effects

    t = current()
    dimensions = points.shape[1]
    values = torch.zeros(len(points), dtype=torch.long) if labels is None else labels
    known = classes_of(values)
    classes = not values.is_floating_point() and len(known) <= CLASSES
    right = MARGIN if labels is None else 0.55 if classes else 0.85
    deep = dimensions == 3
    left = 0.1 if deep else 0.4
    side = WIDTH - left - right - (0.35 if deep else 0)
    height = min(side, 4.0)
    figure = new_figure(TITLE + height + (0.3 if deep else 0.32), title=title)
    axes: Any = place(figure, left, TITLE + 0.02, side, height, projection="3d" if deep else None)
    size = point_size(len(points))
    if classes:
        middles: list[NDArray[np.float64]] = []
        for index, one in enumerate(known):
            where = (values == one).numpy()
            colour, marker = class_style(index)
            colour = t.accent if labels is None else colour
            axes.scatter(*points[where].T, color=colour, marker=marker, s=size, linewidths=0, label=str(one))
            middles.append(np.median(points[where], 0))
        if labels is not None and not deep:
            for one, middle in zip(known, _apart(np.array(middles), points, side, height), strict=True):
                text = axes.text(*middle, str(one), ha="center", va="center", fontsize=12, weight="bold")
                text.set_path_effects([effects.withStroke(linewidth=2.5, foreground=t.background)])
    else:
        drawn = axes.scatter(*points.T, c=values.double().numpy(), s=size, linewidths=0, cmap="viridis")
        bar: Any = place(figure, WIDTH - right + 0.15, TITLE + 0.05, 0.12, height - 0.1)
        figure.colorbar(drawn, cax=bar)
        frame(bar)
    if classes and labels is not None:
        axes.legend(
            loc="upper right", bbox_to_anchor=((WIDTH - left) / side, 1.0), handletextpad=0.1, borderpad=0.1,
            markerscale=1.5, labelspacing=0.25, fontsize=SMALL,
        )  # fmt: skip
    axes.set_xlabel(names[0], fontsize=TEXT if dimensions == 2 else SMALL)
    axes.set_ylabel(names[1], fontsize=TEXT if dimensions == 2 else SMALL)
    if dimensions == 3:
        axes.set_zlabel(names[2], fontsize=SMALL)
        for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
            axis.labelpad = -12
        style_3d(axes)
    else:
        frame(axes)
        axes.tick_params(labelleft=False, labelbottom=False, length=0)
    return figure


def _apart(
    middles: NDArray[np.float64], points: NDArray[np.float64], width: float, height: float
) -> NDArray[np.float64]:
    """Moves the places of names apart that would overlap, in a figure of a size in inches."""
    low = points.min(0)
    unit = np.where(np.ptp(points, 0) > 0, np.ptp(points, 0), 1.0) / np.array([width, height])
    at = (middles - low) / unit
    for _ in range(60):
        steps = at[:, None] - at[None]
        far = np.linalg.norm(steps, axis=2)
        # Names at the same place are moved apart sideways.
        order = np.arange(len(at))
        steps[far == 0] = np.stack([order[:, None] - order[None], 0 * far], 2)[far == 0]
        push = np.clip(NAME_SIZE - far, 0, None) / 2
        at = at + (steps / np.maximum(np.linalg.norm(steps, axis=2), 1e-9)[..., None] * push[..., None]).sum(
            1
        )
    return at * unit + low


@torch.no_grad()
@styled
def walk(ae: Autoencoder, x: Tensor, *, steps: int = 12, title: str = "") -> "Figure":
    """Draws decoded latents along straight lines between the latents of pairs of samples.

    Args:
        ae: its mode is restored afterwards; its decoder must need only the latents.
        x: (2 n, *input shape); samples 2 i and 2 i + 1 are the ends of row i.
        steps: samples in a row, both ends included.
        title: title of the figure; by default the name of the network.

    Returns:
        A Matplotlib figure.

    Raises:
        DataError: no samples, an odd number of them, or another shape or dtype than the network's.
        NotSupportedError: the decoder needs more than the latents.
    """
    x = checked(x, "x")
    if len(x) % 2:
        raise DataError(f"expected pairs of samples, found {len(x)}, which is odd")
    check_count(steps, "steps")
    _require_free_decoder(ae, "a walk")
    with eval_mode(ae):
        latents = ae.encode(x.to(next(ae.parameters(), x)))
        start, end = latents[0::2], latents[1::2]
        share = torch.linspace(0, 1, steps).to(latents).view(-1, *[1] * (latents.ndim - 1))
        made = torch.cat([ae.decode(a + share * (b - a)) for a, b in zip(start, end, strict=True)]).cpu()
    title = title or f"{name_of(ae)}: walks between the latents of two samples"
    kind = kind_of(made.shape[1:])
    return batch_figure(made, ae.spec.output.range, title, None if kind == "points" else steps, ae.columns)


@torch.no_grad()
@styled
def manifold(ae: Autoencoder, *, side: int = 20, latents: Tensor | None = None, title: str = "") -> "Figure":
    """Draws the decoded plane of two latents.

    By default, the latents are at the quantiles of a standard normal prior (Kingma and Welling,
    arXiv:1312.6114, appendix A). With latents of samples, they are at even steps between the 2nd and the 98th
    percentile of those, which suits networks without a prior. The first latent grows to the right, the second
    one upwards.

    Args:
        ae: has two latents; its mode is restored afterwards.
        side: samples along each axis.
        latents: of samples, (batch, 2).
        title: title of the figure; by default the name of the network.

    Returns:
        A Matplotlib figure.

    Raises:
        NotSupportedError: the network has another number of latents, or its decoder needs more than them.
        DataError: `latents` has another shape or values that are not finite.
    """
    if ae.latent_shape != (2,):
        raise NotSupportedError(f"a manifold needs two latents, found latents of shape {ae.latent_shape}")
    check_count(side, "side")
    _require_free_decoder(ae, "a manifold")
    share = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    if latents is None:
        across = up = torch.distributions.Normal(0.0, 1.0).icdf(share.float()).double()
    else:
        known = checked_latents(latents)
        if known.shape[1] != 2:
            raise DataError(f"latents: expected shape (batch, 2), found {list(latents.shape)}")
        low, high = torch.quantile(known, torch.tensor([0.02, 0.98], dtype=torch.float64), dim=0)
        across, up = (low[i] + (high[i] - low[i]) * share for i in range(2))
    down, right = torch.meshgrid(up.flip(0), across, indexing="ij")
    grid = torch.stack([right.flatten(), down.flatten()], 1)
    with eval_mode(ae):
        made = ae.decode(grid.to(next(ae.parameters(), grid))).cpu()
    title = title or f"{name_of(ae)}: decoded plane of its two latents"
    kind = kind_of(made.shape[1:])
    if kind not in ("images", "maps"):
        if kind != "points":
            raise NotSupportedError(f"a manifold draws images or points, found {list(made.shape[1:])}")
        names = {"latents": grid, "decoded": made}
        return point_panels(names, grid[:, 0].numpy(), ae.columns, title, ("decoded",))
    tiles = as_tiles(made, ae.spec.output.range, limits(made))
    figure, axes = draw_grid(tiles, side, title, tick=0.42, bottom=0.36)
    axes.set_axis_on()
    frame(axes, bare=True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    height, width = axes.images[0].get_array().shape[:2]
    ends = [[number(float(axis[0])), number(float(axis[-1]))] for axis in (across, up)]
    axes.set_xticks([width / side / 2, width - width / side / 2], ends[0])
    axes.set_yticks([height - height / side / 2, height / side / 2], ends[1])
    axes.set_xlabel("latent 0", labelpad=-6)
    axes.set_ylabel("latent 1", labelpad=-6)
    axes.tick_params(length=0)
    return figure


def _require_free_decoder(ae: Autoencoder, what: str) -> None:
    if ae.decoder.needs:
        needs = ", ".join(map(repr, ae.decoder.needs))
        raise NotSupportedError(f"{what} needs a decoder of the latents alone; this one also needs {needs}")
