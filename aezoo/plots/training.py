"""Figures of a training: its terms, epoch by epoch."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from aezoo.errors import DataError
from aezoo.plots.panels import MARGIN, TITLE
from aezoo.plots.style import SMALL, WIDTH, current, frame, log_ticks, new_figure, place, shortened, styled

if TYPE_CHECKING:
    from aezoo.plots.figure import Figure

MAX_TERMS = 6


@styled
def history(records: Sequence[Mapping[str, Any]], *, title: str = "") -> "Figure":
    """Draws the terms of the objective for every epoch of a training, a panel for each term.

    Lines show the means over the training data and over the validation data. Vertical lines separate the
    stages, the pairs of a greedy stage, and the refit, which has no validation data. If the loss is the data
    term alone, it is drawn once. Axes are logarithmic where all values are positive and span a factor of 5.

    Args:
        records: `ae.history`, or `history` of a `training.json`: for each epoch `stage`, `epoch`, `train`,
            and, if there are any, `validation`, `pair` and `round`.
        title: title of the figure.

    Returns:
        A Matplotlib figure.

    Raises:
        DataError: no epochs, or records without these entries.
    """
    from matplotlib.ticker import MaxNLocator

    records = list(records)
    if not records:
        raise DataError(
            "records: expected at least one epoch, found none; the network was not trained by epochs"
        )
    train = [_terms(record, "train", number) for number, record in enumerate(records)]
    validation = [_terms(record, "validation", number) for number, record in enumerate(records)]
    terms = list(dict.fromkeys(name for epoch in train for name in epoch))
    same = [
        name for name in terms
        if name != "loss" and all(epoch.get("loss") == epoch[name] for epoch in train if name in epoch)
    ]  # fmt: skip
    if "loss" in terms and same and len(terms) == 2:
        terms.remove("loss")
    terms = terms[:MAX_TERMS]
    parts = _parts(records)
    columns = min(2, len(terms))
    rows = math.ceil(len(terms) / columns)
    height, below, head = 1.65 if columns == 1 else 1.35, 0.28, TITLE + 0.22
    figure = new_figure(head + rows * (height + below + 0.22) - 0.02, title=title)
    t = current()
    left = 0.55
    # The last number of an axis stands half to the right of it.
    width = (WIDTH - columns * left - 2 * MARGIN) / columns
    for index, name in enumerate(terms):
        row, column = divmod(index, columns)
        axes: Any = place(
            figure, left + column * (width + left), head + row * (height + below + 0.22), width, height
        )
        values: list[float] = []
        for start, stop, _ in parts:
            for source, colour, label in (
                (train, t.accent, "training"),
                (validation, t.second, "validation"),
            ):
                at = [i + 1 for i in range(start, stop) if name in source[i]]
                found = [source[i][name] for i in range(start, stop) if name in source[i]]
                values += found
                marker = "o" if len(found) == 1 else ""
                if found:
                    axes.plot(at, found, color=colour, label=label, marker=marker, markersize=4)
        for start, _, _ in parts[1:]:
            axes.axvline(start + 0.5, color=t.line, linewidth=0.8, zorder=0)
        # Names of parts that are too short for them would overlap.
        room = width * 13 / max(len(records), 1)
        for start, stop, words in parts if len(parts) > 1 and row == 0 else ():
            wide = (stop - start) * room
            if wide >= 2:
                axes.text(
                    (start + stop + 1) / 2, 0.98, words, transform=axes.get_xaxis_transform(), ha="center",
                    va="top", fontsize=SMALL, color=t.muted, rotation=0 if wide >= len(words) else 90,
                )  # fmt: skip
        finite = [value for value in values if math.isfinite(value)]
        if finite and min(finite) > 0 and max(finite) > 5 * min(finite):
            axes.set_yscale("log")
            log_ticks(axes.yaxis)
        frame(axes)
        axes.set_xlim(0.5, len(records) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_title(shortened(name if name not in same else f"loss = {name}", 28), loc="left")
        if row == rows - 1 or index + columns >= len(terms):
            axes.set_xlabel("epoch")
    _legend(figure, any(validation))
    return figure


def _legend(figure: Any, validated: bool) -> None:
    from matplotlib.lines import Line2D

    t = current()
    handles = [Line2D([], [], color=t.accent, label="training")]
    if validated:
        handles.append(Line2D([], [], color=t.second, label="validation"))
    height = float(figure.get_size_inches()[1])
    figure.legend(
        handles=handles, loc="upper right", bbox_to_anchor=(1 - MARGIN / WIDTH, 1 - 0.05 / height), ncols=2,
        borderaxespad=0, borderpad=0.1,
    )  # fmt: skip


def _terms(record: Mapping[str, Any], part: str, number: int) -> dict[str, float]:
    """The terms of an epoch on one part of the data; empty without that part."""
    terms: object = record.get(part) if isinstance(record, Mapping) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    if terms is None and part == "validation":
        return {}
    if not isinstance(terms, Mapping):
        raise DataError(
            f"records: expected {part!r} with a number for each term in record {number}, found none"
        )
    given = cast(Mapping[str, Any], terms)
    return {str(name): float(value) for name, value in given.items() if isinstance(value, int | float)}


def _parts(records: Sequence[Mapping[str, Any]]) -> list[tuple[int, int, str]]:
    """Runs of epochs of one stage, pair and round: first, end, words."""
    keys = [(record.get("round"), record.get("stage"), record.get("pair")) for record in records]
    starts = [i for i in range(len(keys)) if i == 0 or keys[i] != keys[i - 1]]
    stages = len({key[:2] for key in keys}) > len({key[0] for key in keys})
    found: list[tuple[int, int, str]] = []
    for start, stop in zip(starts, [*starts[1:], len(keys)], strict=True):
        round_, stage, pair = keys[start]
        words = ["refit"] if round_ == "refit" else []
        if stages and isinstance(stage, int):
            words.append(f"stage {stage + 1}")
        if pair is not None:
            words.append(f"pair {pair}")
        found.append((start, stop, ", ".join(words)))
    return found
