"""Sphinx extension: writes the gallery, a page for each variant, and their pictures and reports.

Before Sphinx reads its sources, this writes Markdown to `docs/gallery/` and other files to
`docs/_build/extra/gallery/`, which `html_extra_path` copies into the site. Everything comes from the folders
of the variants.
"""

import hashlib
import html
import json
import os
import re
import shutil
from collections.abc import Callable
from functools import cache
from typing import Any

import redraw
import torch
from recipe_words import recipe_in_words
from sphinx.application import Sphinx
from sphinx.util import logging
from torch import Tensor
from variants import ROOT, Variant, variants

import aezoo
from aezoo import plots
from aezoo.errors import DataError, MissingExtraError, NotSupportedError
from aezoo.evaluation.evaluate import load_split
from aezoo.evaluation.metrics.latents import decoder_atoms
from aezoo.files import write_atomically
from aezoo.specs.yaml import to_yaml
from aezoo.text import markdown
from aezoo.training.run import preview_inputs

DOCS = ROOT / "docs"
PAGES = DOCS / "gallery"
EXTRA = DOCS / "_build" / "extra" / "gallery"
CACHE = DOCS / "_build" / "cache"
SAMPLES = 2000
"""Samples of the validation split that pictures of latents show."""
MAIN_METRICS = ("mse", "fvu", "l0", "dead_latents", "parameters")
"""Numbers on every card."""
LABELS = {
    "mse": "MSE",
    "sse": "SSE",
    "fvu": "FVU",
    "l0": "L0",
    "dead_latents": "dead latents",
    "auroc": "AUROC",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "kl": "KL divergence (nats)",
    "parameters": "parameters",
    "latents": "latents",
    "bytes": "size of the weights (bytes)",
    "train_seconds": "training time (s)",
}
logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connects the generator."""
    app.connect("builder-inited", lambda _: write_gallery())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def write_gallery() -> None:
    """Writes all pages, pictures and reports of the gallery; removes those of earlier builds."""
    found = variants()
    EXTRA.mkdir(parents=True, exist_ok=True)
    PAGES.mkdir(exist_ok=True)
    pages = {f"{variant.name}.md": variant_page(variant) for variant in found}
    pages["index.md"] = gallery_page(found)
    for old in set(PAGES.iterdir()) - {PAGES / name for name in pages}:
        old.unlink()
    for name, text in pages.items():
        path = PAGES / name
        # An unchanged page keeps its time, so that Sphinx does not read it again.
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def escape(text: object) -> str:
    """Text for HTML and attributes."""
    return html.escape(str(text))


def number(value: float) -> str:
    """A number with four significant digits."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


# -- the gallery --------------------------------------------------------------------------------------


def gallery_page(found: list[Variant]) -> str:
    """The page with all variants: cards that read without JavaScript, and controls that need it."""
    metrics = sorted({key for variant in found for key in variant.sortable}, key=_metric_order)
    facets = {
        "task": sorted({task for variant in found for task in variant.tasks}),
        "dataset": sorted({variant.dataset for variant in found}),
        "kind": sorted({variant.architecture for variant in found}),
        "plugin": sorted({variant.plugin for variant in found}, key=lambda name: (name != "aezoo", name)),
    }
    selects = "".join(
        _select(facet, facet.capitalize(), {"": "all"} | {value: value for value in values})
        for facet, values in facets.items()
    )
    measured = {key: LABELS.get(key, key) for key in metrics}
    selects += _select("sort", "Sort by", {"": "suggested order", "name": "name"} | measured)
    selects += _select("order", "Order", {"": "smallest first", "down": "largest first"})
    cards = "\n".join(_card(variant) for variant in suggested(found))
    toctree = "\n".join(variant.name for variant in found)
    return f"""# Gallery

All {len(found)} variants in this repository, with the numbers that were measured on their test splits. Errors
of different datasets cannot be compared with one another. A value that was not measured is missing, and sorts
last. [Metrics](../metrics.md) defines the numbers.

```{{raw}} html
<form class="gallery-controls" id="gallery-controls" role="search" hidden>
<div class="wide"><label for="gallery-search">Search</label><input id="gallery-search" name="search"
 type="search" autocomplete="off" placeholder="name, summary, layer, paper"></div>
{selects}
<button type="reset">Reset</button>
<button type="button" id="gallery-link">Copy link</button>
</form>
<p id="gallery-count" role="status"></p>
<ul class="gallery" id="gallery-list">
{cards}
</ul>
<script src="../_static/gallery.js" defer></script>
```

```{{toctree}}
:hidden:

{toctree}
```
"""


def _select(name: str, label: str, options: dict[str, str]) -> str:
    """A labelled choice between values, given with their texts."""
    items = "".join(
        f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in options.items()
    )
    return (
        f'<div><label for="gallery-{name}">{label}</label>'
        f'<select id="gallery-{name}" name="{name}">{items}</select></div>\n'
    )


def suggested(found: list[Variant]) -> list[Variant]:
    """The variants of README's table, then the others by name; last, those that differ only in a class."""
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "README.md").read_text("utf-8"), flags=re.MULTILINE)
    order = {name: place for place, name in enumerate(rows)}

    def place(variant: Variant) -> tuple[int, bool, str]:
        return order.get(variant.name, len(order)), variant.name.startswith("anomaly-"), variant.name

    return sorted(found, key=place)


def _metric_order(key: str) -> tuple[int, str]:
    order = list(LABELS)
    return (order.index(key), key) if key in order else (len(order), key)


def _card(variant: Variant) -> str:
    numbers = variant.sortable
    shown = "".join(
        f'<div data-metric="{key}"><dt>{escape(LABELS[key])}</dt><dd>{number(numbers[key])}</dd></div>'
        for key in MAIN_METRICS
        if key in numbers
    )
    words = " ".join([
        variant.name, variant.entry["summary"], *variant.entry["references"], *sorted(variant.kinds),
        variant.plugin,
    ])  # fmt: skip
    data = {
        "name": variant.name,
        "text": words.lower(),
        "task": "|".join(variant.tasks),
        "dataset": variant.dataset,
        "kind": variant.architecture,
        "plugin": variant.plugin,
        "numbers": json.dumps(numbers),
    }
    attributes = " ".join(f'data-{key}="{escape(value)}"' for key, value in data.items())
    tags = [*variant.tasks, variant.dataset, variant.architecture]
    tags += [] if variant.plugin == "aezoo" else [variant.plugin]
    items = "".join(f"<li>{escape(tag)}</li>" for tag in tags)
    name = escape(variant.name)
    return (
        f'<li class="gallery-card" {attributes}><h2><a href="{name}.html">{name}</a></h2>{preview(variant)}'
        f'<p>{escape(variant.entry["summary"])}</p><ul class="tags">{items}</ul><dl>{shown}</dl></li>'
    )


def preview(variant: Variant) -> str:
    """Puts the preview into the site, in both themes if the data are here; the HTML that shows it."""
    from PIL import Image

    source = variant.folder / "preview.png"
    if not source.is_file():
        return ""
    with Image.open(source) as image:
        width, height = image.size
    name = f"{variant.name}.png"
    shutil.copyfile(source, EXTRA / name)
    dark = made(variant, f"{variant.name}.dark.png", lambda: redraw.preview(variant.folder, "dark"))
    alt = f"Inputs, latents and reconstructions of {escape(variant.name)}"
    pictures = [(name, "preview only-light" if dark else "preview")]
    pictures += [(dark, "preview only-dark")] if dark else []
    return "".join(
        f'<img class="{style}" src="{file}" width="{width}" height="{height}" loading="lazy" alt="{alt}">'
        for file, style in pictures
    )


# -- a page for each variant --------------------------------------------------------------------------


def variant_page(variant: Variant) -> str:
    """The page of a variant."""
    parts = [
        f"# {variant.name}",
        markdown(variant.entry["summary"]),
        _facts(variant),
        raw(preview(variant)),
        f'```python\nimport aezoo\n\nae = aezoo.load("{variant.name}")\nout = ae(ae.transforms()(image))  '
        "# Output(x_hat, latents, aux)\n```",
        "" if variant.plugin == "aezoo" else f"This variant needs the plugin `{variant.plugin}`.",
        "## Layers",
        drawn(variant, "layers", f"Layers of {variant.name}, drawn to shape"),
        _layers(variant),
        "## Training",
        " ".join(recipe_in_words(variant.spec.recipe)),
        drawn(variant, "history", f"Training curves of {variant.name}"),
        _seconds(variant),
        f"````{{dropdown}} The spec\n\n```yaml\n{_spec(variant).rstrip()}\n```\n````",
        "## Metrics",
        _metrics(variant),
        f"`aezoo evaluate {variant.name}` and `aezoo verify {variant.name}` compute them again.",
        _latents(variant),
        "## Files",
        _files(variant),
    ]
    if variant.entry["references"]:
        links = "\n".join(f"- {reference(text)}" for text in variant.entry["references"])
        parts += ["## References", links]
    return "\n\n".join(part for part in parts if part) + "\n"


def _facts(variant: Variant) -> str:
    facts = {
        "Task": ", ".join(variant.tasks),
        "Dataset": variant.dataset,
        "Kind": variant.architecture,
        "Input": shape(variant.entry["input"]),
        "Latents": shape(variant.entry["latents"]),
        "Parameters": f"{variant.entry['parameters']:,}",
    }
    return "\n".join(f":{key}: {value}" for key, value in facts.items())


def shape(sizes: list[int]) -> str:
    """The sizes of a tensor as text."""
    return "x".join(map(str, sizes))


def raw(html: str) -> str:
    """HTML as part of a page; empty for none."""
    return f"```{{raw}} html\n<p>{html}</p>\n```" if html else ""


def drawn(variant: Variant, kind: str, label: str) -> str:
    """Draws a picture in both themes; the part of the page that shows it. Empty if it cannot be drawn."""
    html = ""
    for theme in ("light", "dark"):
        name = f"{variant.name}.{kind}.{theme}.png"
        if made(variant, name, lambda theme=theme: _draw(variant, kind, theme)) is None:
            return ""
        html += f'<img class="only-{theme} preview" loading="lazy" src="{name}" alt="{escape(label)}">'
    return raw(html)


def _draw(variant: Variant, kind: str, theme: str) -> bytes | None:
    with plots.theme(theme):
        if kind == "layers":
            return plots.png(plots.layers(variant.spec))
        if kind == "history":
            history = variant.training.get("history", [])
            return plots.png(plots.history(history)) if history else None
        ae = aezoo.load(variant.name)
        if kind == "samples":
            return plots.png(plots.samples(ae, 60))
        latents, labels = _some_latents(variant, ae)
        if kind == "dictionary":
            return plots.png(plots.dictionary(ae, use=(latents != 0).double().mean(0)))
        assert kind == "embedding"
        return plots.png(plots.embedding(latents, labels, method="none", title=f"{variant.name}: latents"))


def _some_latents(variant: Variant, ae: aezoo.Autoencoder) -> tuple[Tensor, Tensor]:
    """Latents of the first samples of the validation split, (samples, latents), and their labels."""
    samples = load_split(ae, "validation")
    x = preview_inputs(samples, variant.spec, SAMPLES)
    labels = torch.zeros(len(x)) if samples.labels is None else samples.labels[: len(x)]
    with torch.no_grad():
        return ae.encode(x), labels


def made(variant: Variant, name: str, make: Callable[[], bytes | None]) -> str | None:
    """Puts a file into the site, and makes it only if the variant or the code changed since the last build.

    Returns:
        Its name, or None if it cannot be made, as without the data.
    """
    files = json.dumps(variant.entry["files"], sort_keys=True).encode()
    key = hashlib.sha256(files + code_hash() + name.encode()).hexdigest()[:16]
    path = CACHE / f"{key}-{name}"
    if not path.exists():
        try:
            content = make()
        except (DataError, NotSupportedError, MissingExtraError, OSError) as error:
            logger.info("no %s: %s", name, error)
            content = None
        if content is None:
            (EXTRA / name).unlink(missing_ok=True)
            return None
        CACHE.mkdir(parents=True, exist_ok=True)
        for old in CACHE.glob(f"*-{name}"):
            old.unlink()
        write_atomically(path, content)
    shutil.copyfile(path, EXTRA / name)
    return name


@cache
def code_hash() -> bytes:
    """Hash of the code that draws pictures and reports."""
    digest = hashlib.sha256()
    for path in sorted([*ROOT.glob("aezoo/plots/*.py"), *ROOT.glob("aezoo/report/*.*")]):
        digest.update(path.read_bytes())
    return digest.digest()


def _layers(variant: Variant) -> str:
    rows = [
        f"| `{layer['path']}` | `{layer['kind']}` | {shape(layer['output'])} | {layer['parameters']:,} |"
        for layer in variant.entry["layers"]
    ]
    return "\n".join(["| layer | kind | output | parameters |", "|---|---|---|---|", *rows])


def _seconds(variant: Variant) -> str:
    record = variant.training
    if "seconds" not in record:
        return ""
    threads = record.get("threads")
    on = "one thread" if threads == 1 else f"{threads} threads"
    versions = record.get("versions", {})
    where = f"{record.get('platform')}, PyTorch {versions.get('torch', 'unknown')}"
    return f"It took {record['seconds']:,.0f} seconds on {record.get('device')} with {on} ({where})."


def _spec(variant: Variant) -> str:
    path = variant.folder / "spec.yaml"
    return path.read_text("utf-8") if path.is_file() else to_yaml(variant.spec)


def _metrics(variant: Variant) -> str:
    later = {name for name in variant.metrics if name.endswith(".validation") or name == "train_seconds"}
    first = {name: entry for name, entry in variant.metrics.items() if name not in later}
    rest = {name: variant.metrics[name] for name in later}
    more = f":::{{dropdown}} Validation split and training time\n{_metrics_table(rest)}\n:::"
    return f"{_metrics_table(first)}\n\n{more}"


def _metrics_table(metrics: dict[str, Any]) -> str:
    rows: list[str] = []
    for name, entry in sorted(metrics.items()):
        value = f"not measured: {entry['reason']}" if entry["value"] is None else number(entry["value"])
        measured = f"{entry['dataset'] or ''} {entry['split'] or ''}".strip()
        cells = (f"`{name}`", *map(markdown, (value, measured, entry["definition"])))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(["| metric | value | measured on | definition |", "|---|---|---|---|", *rows])


def _latents(variant: Variant) -> str:
    """Pictures of the latents, and the report; without the data, the command that writes it."""
    ae = aezoo.load(variant.name)
    parts = ["## Latents"]
    if decoder_atoms(ae) is not None:
        parts.append(drawn(variant, "dictionary", f"Dictionary of {variant.name}, sorted by use"))
    if ae.latent_shape in ((2,), (3,)):
        parts.append(drawn(variant, "embedding", f"Latents of {variant.name} by class"))
    if "generation" in variant.tasks:
        parts.append(drawn(variant, "samples", f"Samples of {variant.name} from the prior"))
    name = f"{variant.name}.report.html"
    if made(variant, name, lambda: _report(ae)):
        parts.append(
            raw(f'<a href="{name}">The report</a> shows what each latent does, on the validation split.')
        )
    else:
        parts.append(f"`aezoo report {variant.name} -o report.html` shows what each latent does.")
    return "\n\n".join(part for part in parts if part)


def _report(ae: aezoo.Autoencoder) -> bytes:
    path = CACHE / f"report-{os.getpid()}.html"
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        aezoo.write_report(ae, path, force=True)
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)


def _files(variant: Variant) -> str:
    rows = [
        f"| `{name}` | {file['bytes']:,} | `{file['sha256']}` |"
        for name, file in sorted(variant.entry["files"].items())
    ]
    return "\n".join(["| file | bytes | sha256 |", "|---|---|---|", *rows])


def reference(text: str) -> str:
    """A reference as a link where it is an arXiv number or a DOI."""
    scheme, _, rest = text.partition(":")
    sites = {"arxiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}
    address = sites.get(scheme.lower())
    return f"[{text}]({address}{rest})" if address else text
