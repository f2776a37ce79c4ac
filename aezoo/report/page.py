"""`write_report`: one HTML file, without any request, that shows what each latent of an autoencoder does."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from aezoo.evaluation.evaluate import load_split
from aezoo.files import write_atomically
from aezoo.inference.network import encode, loaded
from aezoo.inference.outputs import check_output, write_errors
from aezoo.inference.sources import BATCH_SIZE, Source, open_source
from aezoo.model.autoencoder import Autoencoder
from aezoo.model.summary import format_shape
from aezoo.progress import ItemProgress
from aezoo.report.analysis import KEPT, QUANTILES, Units, analyse, as_list, atoms, samples_at, walks
from aezoo.report.drawing import Drawing, escape

StrPath = str | os.PathLike[str]
DETAILS = 512
"""Latents that are shown with pictures at most, the most important ones."""
FEWEST_DETAILS = 24
PICTURE_VALUES = 12_000_000
"""Values of all pictures together, about."""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
HEADS = ("latent", "density", "mean", "sd", "lowest", "highest", "change", "loss")


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        path: the file.
        n: number of samples.
        latents: number of latents, or of channels of a convolutional code.
        detailed: how many of them are shown with pictures.
        dead: how many are zero for every sample.
        bytes: size of the file.
    """

    path: Path
    n: int
    latents: int
    detailed: int
    dead: int
    bytes: int


def write_report(
    ae: Autoencoder | str,
    out: StrPath,
    data: object = None,
    *,
    key: str | None = None,
    skip_corrupt: bool = False,
    force: bool = False,
    progress: bool = False,
) -> Report:
    """Writes an HTML page that explains an autoencoder, latent by latent.

    For every latent, or every channel of a convolutional code: how often it is active, what the output loses
    without it, what it adds to the output, the samples that activate it most, and a walk along it. All
    latents are in a table; the most important ones, at most 512 and fewer for large outputs, have pictures.
    The page needs no other file and no network connection, and its pictures need no JavaScript. The same
    network and samples give the same bytes.

    Args:
        ae: an autoencoder, or what `aezoo.load` takes.
        out: a `.html` file.
        data: as for `aezoo.encode_to_file`; by default the validation split of the recipe's dataset.
        key: name of the array in a file that has several.
        skip_corrupt: whether to leave out images that cannot be read.
        force: whether to replace a file.
        progress: whether to report progress on standard error.

    Raises:
        DataError: no data are given and the recipe names no dataset, or the data do not fit.
        CheckpointError: the file exists or cannot be written. Nothing was written.
    """
    ae, path = loaded(ae), Path(out).expanduser()
    check_output(path, force=force, suffixes=(".html",))
    given = load_split(ae, "validation") if data is None else data
    source = open_source(ae, given, key=key, skip_corrupt=skip_corrupt)
    if data is None:
        dataset = getattr(getattr(ae.spec, "recipe", None), "dataset", None)
        source.text = f"{dataset.kind_name}:validation" if dataset is not None else source.text
    with ItemProgress(progress, "report", source.size) as bar:
        units = analyse(ae, source, bar.advance)
    text, detailed = _page(ae, source, units)
    raw = text.encode()
    with write_errors(path):
        write_atomically(path, raw)
    return Report(path, units.n, len(units.density), detailed, len(units.dead), len(raw))


def _page(ae: Autoencoder, source: Source, units: Units) -> tuple[str, int]:
    """The page, and the number of units with pictures."""
    values = math.prod(ae.spec.output.shape)
    most = max(FEWEST_DETAILS, min(DETAILS, PICTURE_VALUES // (values * (len(QUANTILES) + 9))))
    order = units.importance.sort(descending=True, stable=True).indices
    alive = order[units.density[order] > 0][:most]
    inputs, outputs, cards, words = _cards(ae, source, units, alive)
    name = str(getattr(ae.spec, "name", "autoencoder"))
    parts = [
        _head(ae, source, units, name),
        f"<h2>Latents</h2>{_how(ae, units, words, len(alive))}{inputs.legend()}",
        _CONTROLS,
        f'<div id="units">{"".join(cards)}</div>',
        _table(units),
        _dead(units),
        _metrics(ae),
        _layers(ae),
    ]
    assets = files("aezoo.report")
    css = assets.joinpath("page.css").read_text("utf-8") + inputs.css() + outputs.css()
    script = assets.joinpath("page.js").read_text("utf-8")
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)}: latents</title><style>{css}</style></head><body>"
        f"<main>{''.join(parts)}</main>{_numbers(units)}<script>{script}</script></body></html>\n"
    )
    return page, len(alive)


# -- latents ------------------------------------------------------------------------------------------


def _cards(
    ae: Autoencoder, source: Source, units: Units, which: Tensor
) -> tuple[Drawing, Drawing, list[str], str]:
    top = samples_at(source, units.top[which])
    shown = torch.stack([top[number] for number in sorted(top)]) if top else torch.empty(0)
    limits = _limits(shown)
    inputs = Drawing("i", ae.spec.input, limits, ae.columns, ae.scaler)
    outputs = Drawing("o", ae.spec.output, limits, ae.columns, ae.scaler)
    unit = _unit(ae)
    pictures = {number: inputs.sample(top[number], f"sample {number}") for number in sorted(top)}
    codes = None
    if units.sparse and len(which):
        firsts = torch.stack([top[int(number)] for number in units.top[which, 0]])
        codes = torch.cat([encode(ae, part) for part in torch.split(firsts, BATCH_SIZE)])
    made, words = atoms(ae, units, which)
    walked = walks(ae, units, which, codes)
    cards: list[str] = []
    which_samples = _SAMPLES[units.sparse]
    for row, index in enumerate(as_list(which)):
        samples = "".join(
            f"<span>{pictures[number]}<small>{value:.3g}</small></span>"
            for number, value in zip(
                as_list(units.top[index]), as_list(units.activations[index]), strict=True
            )
        )
        steps = "".join(
            f"<span>{outputs.sample(x, f'output at {value:.3g}')}<small>{value:.3g}</small></span>"
            for x, value in zip(walked[row], as_list(units.quantiles[index]), strict=True)
        )
        atom = outputs.difference(made[row], f"what {unit} {index} adds")
        cards.append(
            f'<article id="u{index}" data-index="{index}" data-density="{float(units.density[index]):.6g}" '
            f'data-importance="{float(units.importance[index]):.6g}" data-sd="{float(units.sd[index]):.6g}">'
            f"<header><h3>{unit} {index}</h3>{_facts(units, index)}</header>"
            f'<div class="row"><figure><div class="strip">{atom}</div><figcaption>adds</figcaption></figure>'
            f'<figure><div class="strip">{samples}</div><figcaption>{which_samples}</figcaption></figure>'
            f'<figure><div class="strip">{steps}</div><figcaption>walk</figcaption></figure></div></article>'
        )
    return inputs, outputs, cards, words


_SAMPLES = {True: "samples that activate it most", False: "samples with the largest and the smallest values"}


def _facts(units: Units, index: int) -> str:
    share = 100 * float(units.density[index])
    if units.sparse:
        bar = f'<span class="meter" aria-hidden="true"><b style="width:{share:.3g}%"></b></span>'
        first = f"active {share:.3g} % {bar}"
    else:
        first = f"mean {float(units.mean[index]):.3g}, sd {float(units.sd[index]):.3g}"
    low, high = float(units.low[index]), float(units.high[index])
    facts = [first, f"{low:.3g} to {high:.3g}", f"change {float(units.change[index]):.3g}"]
    if units.loss is not None:
        loss = float(units.loss[index])
        percent = 100 * loss / units.mse if units.mse else 0.0
        share = (
            f" ({percent:+,.0f} %)" if abs(percent) >= 100 else f" ({percent:+.3g} %)" if units.mse else ""
        )
        facts.append(f"loss {loss:+.3g}{share}")
    return "".join(f'<span class="n">{fact}</span>' for fact in facts)


def _limits(x: Tensor) -> tuple[float, float]:
    finite = x[torch.isfinite(x)]
    return (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 1.0)


def _unit(ae: Autoencoder) -> str:
    return "latent" if len(ae.latent_shape) == 1 else "channel"


def _how(ae: Autoencoder, units: Units, words: str, detailed: int) -> str:
    unit = _unit(ae)
    base = "zero" if units.sparse else "its mean"
    walk = "in the code of the sample that activates it most" if units.sparse else "in the mean code"
    colours = "; blue is negative, red is positive" if len(ae.spec.output.shape) == 3 else ""
    among = " among its non-zero values" if units.sparse else ""
    text = [
        f"A {unit} is shown with what it adds ({words}{colours}), samples, and a "
        f"walk: outputs at its quantiles 1, 25, 50, 75 and 99 %{among} (of the first "
        f"{min(units.n, KEPT):,} samples), {walk}.",
        f"<b>change</b>: mean squared change of the output when it is set to {base}; on {units.ablated:,} "
        "samples.",
    ]
    if units.loss is not None:
        text.append(
            f"<b>loss</b>: how much the mean squared error of these samples, {units.mse:.4g}, grows then."
        )
    if unit == "channel":
        text.append(
            "A channel stands for all of its positions; its value for a sample is the one of the largest "
            "magnitude."
        )
    total = len(units.density) - len(units.dead)
    if detailed < total:
        text.append(f"The {detailed:,} most important of {total:,} have pictures; the table has all.")
    return "".join(f"<p>{one}</p>" for one in text)


_CONTROLS = (
    '<div class="bar" id="controls" hidden><label>order <select id="sort">'
    '<option value="importance">importance</option><option value="density">density</option>'
    '<option value="sd">standard deviation</option><option value="index">number</option></select></label>'
    '<label>numbers <input id="find" inputmode="numeric" placeholder="3, 17"></label>'
    '<button id="back" type="button">back</button><button id="next" type="button">next</button>'
    '<span id="where" aria-live="polite"></span></div>'
)


# -- tables -------------------------------------------------------------------------------------------


def _rows(units: Units) -> list[list[float | int | None]]:
    columns = [units.density, units.mean, units.sd, units.low, units.high, units.change]
    columns += [] if units.loss is None else [units.loss]
    rounded = [[_rounded(value) for value in as_list(column)] for column in columns]
    missing = [] if units.loss is not None else [None]
    return [[index, *(column[index] for column in rounded), *missing] for index in range(len(units.density))]


def _rounded(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _table(units: Units) -> str:
    head = "".join(f'<th class="r" scope="col">{name}</th>' for name in HEADS)
    rows = "".join(
        _row(["" if value is None else f"{value:.4g}" for value in row]) for row in _rows(units)[:50]
    )
    return (
        f'<h2>All {len(units.density):,} latents</h2><div class="bar" id="pager" hidden>'
        '<button id="up" type="button">back</button><button id="down" type="button">next</button>'
        '<span id="range" aria-live="polite"></span></div>'
        f'<div class="scroll"><table id="all"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        "</div>"
    )


def _row(cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f'<td class="r">{cell}</td>' for cell in cells) + "</tr>"


def _numbers(units: Units) -> str:
    text = json.dumps({"rows": _rows(units)}, allow_nan=False, separators=(",", ":"))
    return f'<script type="application/json" id="numbers">{text}</script>'


def _dead(units: Units) -> str:
    numbers = as_list(units.dead)
    if not numbers:
        return ""
    return (
        f"<h2>{len(numbers):,} dead</h2><p>Zero for all {units.n:,} samples:</p>"
        f"<details><summary>their numbers</summary><p>{', '.join(map(str, numbers))}</p></details>"
    )


def _head(ae: Autoencoder, source: Source, units: Units, name: str) -> str:
    summary = escape(getattr(ae.spec, "summary", ""))
    shape = f"{format_shape(ae.spec.input.shape)} to {format_shape(ae.latent_shape)} latents"
    kind = "sparse" if units.sparse else "dense"
    active = float(units.density.mean()) * ae.num_latents
    facts: list[tuple[str, str]] = [
        ("network", f"{shape}, {ae.num_parameters:,} parameters"),
        ("samples", f"{escape(source.text)}, {units.n:,}"),
        ("code", f"{kind}: {active:.4g} of {ae.num_latents:,} latents of a sample are not zero on average"),
        ("aezoo", escape(version("aezoo"))),
    ]
    if ae.source.sha256:
        facts.append(("weights", f"<code>{escape(ae.source.sha256)}</code>"))
    rows = "".join(f"<tr><th scope='row'>{label}</th><td>{value}</td></tr>" for label, value in facts)
    return (
        f"<h1>{escape(name)}</h1><p class='soft'>{summary}</p><div class='scroll'><table>{rows}</table></div>"
    )


def _metrics(ae: Autoencoder) -> str:
    rows: list[str] = []
    for name, entry in ae.metrics.items():
        value = entry.get("value")
        shown = f"{value:.6g}" if isinstance(value, int | float) else f"null: {escape(entry.get('reason'))}"
        split, definition = escape(entry.get("split") or ""), escape(entry.get("definition") or "", 600)
        rows.append(
            f"<tr><td>{escape(name)}</td><td class='r'>{shown}</td><td>{split}</td>"
            f"<td><small>{definition}</small></td></tr>"
        )
    if not rows:
        return ""
    head = "".join(f"<th scope='col'>{name}</th>" for name in ("metric", "value", "split", "definition"))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return (
        f"<h2>Published metrics</h2><details><summary>{len(rows)} numbers</summary>"
        f"<div class='scroll'>{table}</div></details>"
    )


def _layers(ae: Autoencoder) -> str:
    rows = "".join(
        f"<tr><td>{escape(row.path)}</td><td>{escape(row.kind)}</td><td>{format_shape(row.output)}</td>"
        f"<td class='r'>{row.parameters:,}</td></tr>"
        for row in ae.summary()
    )
    head = "".join(f"<th scope='col'>{name}</th>" for name in ("layer", "kind", "output", "parameters"))
    return (
        f"<h2>Layers</h2><div class='scroll'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )
