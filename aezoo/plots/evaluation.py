"""Figures of measurements: errors by class, ROC curves, and errors against costs."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from aezoo.errors import DataError
from aezoo.plots.arguments import checked_classes, checked_labels, checked_scores, classes_of
from aezoo.plots.panels import MARGIN, TITLE
from aezoo.plots.style import SMALL, WIDTH, current, frame, log_ticks, new_figure, place, shortened, styled

if TYPE_CHECKING:
    from aezoo.plots.figure import Figure

CLASSES = 40
"""Most classes that `class_errors` draws."""


@styled
def class_errors(
    errors: Tensor, labels: Tensor, *, title: str = "error by class", name: str = "mean squared error"
) -> "Figure":
    """Draws the errors of the samples of each class.

    Boxes are quartiles, whiskers the 5th and the 95th percentile, diamonds means. A vertical line is the mean
    of all samples.

    Args:
        errors: (batch,), one number for each sample.
        labels: (batch,), whole numbers, of at most 40 classes.
        title: title of the figure.
        name: of the axis of errors.

    Returns:
        A Matplotlib figure.

    Raises:
        DataError: no samples, values that are not finite, another number of labels, or too many classes.
    """
    x = checked_scores(errors, "errors")
    classes = checked_classes(checked_labels(labels, len(x)))
    known = classes_of(classes)
    if len(known) > CLASSES:
        raise DataError(f"labels: expected at most {CLASSES} classes, found {len(known):,}")
    t = current()
    height = max(0.8, 0.24 * len(known) + 0.1)
    figure = new_figure(TITLE + height + 0.5, title=title)
    axes: Any = place(figure, 0.6, TITLE, WIDTH - 0.6 - 2 * MARGIN, height)
    groups = [x[classes == one].numpy() for one in known]
    axes.boxplot(
        groups, orientation="horizontal", whis=(5, 95), showfliers=False, showmeans=True, widths=0.62,
        patch_artist=True, manage_ticks=False,
        boxprops={"facecolor": t.accent, "edgecolor": t.accent, "alpha": 0.55},
        medianprops={"color": t.ink, "linewidth": 1.4}, whiskerprops={"color": t.accent},
        capprops={"color": t.accent},
        meanprops={"marker": "D", "markerfacecolor": t.second, "markeredgecolor": t.second, "markersize": 4},
    )  # fmt: skip
    axes.axvline(float(x.mean()), color=t.second, linewidth=0.8, linestyle="--", zorder=0)
    axes.set_yticks(range(1, len(known) + 1), [str(int(one)) for one in known])
    axes.set_ylim(len(known) + 0.6, 0.4)
    axes.set_xlabel(shortened(name, 60))
    axes.set_ylabel("class")
    axes.grid(axis="x")
    frame(axes)
    return figure


@styled
def roc(scores: Tensor, labels: Tensor, *, title: str = "ROC curve") -> "Figure":
    """Draws the share of anomalies that are found against the share of false alarms, for every threshold.

    The figure states the area under the curve (AUROC): the probability that an anomaly has a higher score
    than a usual sample, where equal scores count as half.

    Args:
        scores: (batch,), higher for what is more likely an anomaly, such as `-ae.score_samples(x)`.
        labels: (batch,), true or 1 for anomalies, false or 0 for usual samples.
        title: title of the figure.

    Returns:
        A Matplotlib figure.

    Raises:
        DataError: values that are not finite, another number of labels, or only anomalies or none.
    """
    x = checked_scores(scores, "scores")
    anomalous = checked_classes(checked_labels(labels, len(x)))
    if bool(((anomalous != 0) & (anomalous != 1)).any()):
        raise DataError("labels: expected 1 for anomalies and 0 for usual samples, found other numbers")
    positives = int(anomalous.sum())
    if positives in (0, len(x)):
        raise DataError(
            f"labels: expected anomalies and usual samples, found {positives:,} anomalies of {len(x):,}"
        )
    found, alarms, area = roc_points(x, anomalous.bool())
    t = current()
    side = 2.9
    figure = new_figure(TITLE + side + 0.5, title=title)
    axes: Any = place(figure, 0.6, TITLE, WIDTH - 0.6 - 2 * MARGIN, side)
    axes.plot([0, 1], [0, 1], color=t.line, linewidth=1.0, linestyle="--")
    axes.plot(alarms, found, color=t.accent, linewidth=2.0)
    axes.fill_between(alarms, found, color=t.accent, alpha=0.15, linewidth=0)
    axes.text(0.97, 0.1, f"AUROC {area:.3f}", ha="right", fontsize=14, weight="bold")
    axes.text(
        0.97, 0.0, f"{positives:,} anomalies, {len(x) - positives:,} usual samples", ha="right", va="bottom",
        fontsize=SMALL, color=t.muted,
    )  # fmt: skip
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)
    axes.set_xlabel("share of usual samples above the threshold")
    axes.set_ylabel("share of anomalies above it")
    axes.grid()
    frame(axes)
    return figure


def roc_points(scores: Tensor, anomalous: Tensor) -> tuple[Any, Any, float]:
    """Shares of anomalies and of usual samples at or above each threshold, and the area under the curve."""
    order = torch.argsort(scores, descending=True, stable=True)
    sorted_, hits = scores[order].numpy(), anomalous[order].numpy()
    # Equal scores are one threshold.
    last = np.append(sorted_[1:] != sorted_[:-1], True)
    found = np.concatenate([[0.0], np.cumsum(hits)[last] / hits.sum()])
    alarms = np.concatenate([[0.0], np.cumsum(~hits)[last] / (~hits).sum()])
    return found, alarms, float(np.sum((found[1:] + found[:-1]) / 2 * np.diff(alarms)))


@styled
def pareto(names: list[str], errors: list[float], costs: dict[str, list[float]]) -> "Figure":
    """Draws errors against several costs, on logarithmic axes; a line connects what nothing else dominates.

    A point is dominated if another has no larger error and no larger cost, and one of them is smaller.

    Args:
        names: of the points, numbered in the legend.
        errors: error of each point.
        costs: name of a cost -> cost of each point.

    Returns:
        A Matplotlib figure.
    """
    t = current()
    columns = min(2, len(costs))
    rows = math.ceil(len(costs) / columns)
    lines = math.ceil(len(names) / 2)
    left, side, below = 0.78, 2.0, 0.5
    width = (WIDTH - columns * left - MARGIN) / columns
    legend = 0.19 * lines
    figure = new_figure(MARGIN + rows * (side + below) + 0.1 + legend + MARGIN)
    for index, (cost, values) in enumerate(costs.items()):
        row, column = divmod(index, columns)
        axes: Any = place(figure, left + column * (width + left), MARGIN + row * (side + below), width, side)
        front = sorted(non_dominated(list(zip(values, errors, strict=True))))
        axes.plot(*zip(*front, strict=True), color=t.line, linewidth=1.2, zorder=1)
        for number, (x, y) in enumerate(zip(values, errors, strict=True), 1):
            best = (x, y) in front
            face = t.accent if best else t.background
            axes.scatter(x, y, s=95, color=face, edgecolors=t.accent, linewidths=0.9, zorder=2)
            axes.annotate(
                str(number), (x, y), ha="center", va="center", fontsize=7,
                color=t.background if best else t.ink, zorder=3,
            )  # fmt: skip
        for axis, numbers, set_scale in (
            (axes.xaxis, values, axes.set_xscale),
            (axes.yaxis, errors, axes.set_yscale),
        ):
            if all(value > 0 for value in numbers):
                set_scale("log")
                log_ticks(axis)
        axes.set_xlabel(shortened(cost, 32))
        if column == 0:
            axes.set_ylabel("mean squared error")
        frame(axes)
        axes.tick_params(which="both", labelsize=SMALL - 1)
        axes.margins(0.12)
    height = float(figure.get_size_inches()[1])
    for number, name in enumerate(names):
        column, line = divmod(number, lines)
        at = (MARGIN + column * WIDTH / 2) / WIDTH, (legend + MARGIN - 0.19 * line) / height
        figure.text(*at, f"{number + 1}  {shortened(name, 34)}", fontsize=SMALL, va="top")
    return figure


def non_dominated(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points of which no other is at most as large in both values and smaller in one."""
    return [
        point
        for point in points
        if not any(a <= point[0] and b <= point[1] and (a, b) != point for a, b in points)
    ]
