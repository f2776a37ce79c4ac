"""Sphinx extension: directives that show numbers of variants, read from their folders when the site is built.

A table of published numbers, with links to the pages of the variants:

    ```{aezoo-metrics} pca-32 linear-pca-32
    :metrics: mse fvu principal_angle
    ```

What changes of a recipe do, measured by docs/experiments/trials.py on the validation split:

    ```{aezoo-trials} fc-64
    :metrics: mse dead_latents
    ```
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from aezoo_gallery import preview
from comparison_tables import TUTORIAL
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from variants import ROOT, Variant, variants

TRIALS = ROOT / "docs" / "experiments" / "trials.json"
PREVIEW = re.compile(r"^!\[[^\]]*\]\(\S*/zoo/([\w.-]+)/preview\.png\)$", re.MULTILINE)
MISSING = "-"
"""Shown for a number that was not measured, or that does not apply."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directives."""
    app.add_directive("aezoo-metrics", MetricsDirective)
    app.add_directive("aezoo-trials", TrialsDirective)
    app.connect("source-read", show_previews)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def show_previews(app: Sphinx, name: str, source: list[str]) -> None:
    """Shows previews of variants in the theme of the page, as the gallery does.

    In the repository, these pictures are ordinary images of Markdown.
    """
    if "aezoo_gallery" not in app.extensions:
        return
    gallery = "../" * name.count("/") + "gallery/"

    def themed(match: re.Match[str]) -> str:
        html = preview(variants_by_name()[match[1]]).replace('src="', f'src="{gallery}')
        return f"```{{raw}} html\n<p>{html}</p>\n```"

    source[0] = re.sub(
        r"^!\[[^\]]*\]\(\S*/zoo/([\w.-]+)/preview\.png\)$", themed, source[0], flags=re.MULTILINE
    )


@cache
def variants_by_name() -> dict[str, Variant]:
    """Name -> variant of the zoo or of a plugin in this repository."""
    return {variant.name: variant for variant in variants()}


def number(value: float | None) -> str:
    """A number with four significant digits."""
    if value is None:
        return MISSING
    if value == int(value) and abs(value) >= 1:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def link(name: str) -> str:
    """A name that leads to the page of the variant, if it is one."""
    return f"[`{name}`](/gallery/{name}.md)" if name in variants_by_name() else f"`{name}`"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


class NumbersDirective(SphinxDirective):
    """Arguments and checks that both directives share."""

    option_spec: ClassVar = {"metrics": directives.unchanged_required}

    def variant(self, name: str) -> Variant:
        """A variant; a build error names the page and the line if there is none."""
        try:
            return variants_by_name()[name]
        except KeyError:
            raise self.error(f"{self.name}: no variant {name!r}") from None

    def metrics(self, measured: set[str]) -> list[str]:
        """The metrics to show; a build error if one of them was never measured."""
        wanted = str(self.options.get("metrics", "mse fvu l0 dead_latents")).split()
        if unknown := [metric for metric in wanted if metric not in measured]:
            raise self.error(f"{self.name}: {', '.join(unknown)} was not measured for any of these rows")
        return wanted


class MetricsDirective(NumbersDirective):
    """A table of published metrics: a row for each variant, or for each experiment, which has no weights."""

    required_arguments = 1
    optional_arguments = 100

    def file(self, name: str) -> Path:
        """The metrics.json of a variant or of an experiment."""
        for folder in ("docs/experiments", "plugins/*/experiments"):
            for file in ROOT.glob(f"{folder}/{name}/metrics.json"):
                return file
        return self.variant(name).folder / "metrics.json"

    def run(self) -> list[nodes.Node]:
        """Returns the table and a sentence about it."""
        files = {name: self.file(name) for name in self.arguments}
        for file in files.values():
            self.env.note_dependency(str(file))
        values = {name: json.loads(file.read_text("utf-8")) for name, file in files.items()}
        metrics = self.metrics({metric for entries in values.values() for metric in entries})
        rows = [
            [link(name), *(number(entries.get(metric, {}).get("value")) for metric in metrics)]
            for name, entries in values.items()
        ]
        note = "Measured on the test split; [Metrics](/metrics.md) has the definitions."
        figures = [
            f"{number(TUTORIAL[name][1])} (`{TUTORIAL[name][0]}` of `{name}`)"
            for name in files
            if name in TUTORIAL and "pca" not in variants_by_name()[name].kinds
        ]
        if figures:
            note += f" For comparison, the tutorials' own recipes reach {', '.join(figures)}."
        text = table(["variant", *(f"`{metric}`" for metric in metrics)], rows)
        return self.parse_text_to_nodes(f"{text}\n\n{note}\n")


class TrialsDirective(NumbersDirective):
    """A table of changes to a recipe and what they give."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Returns the table and a sentence about it."""
        self.env.note_dependency(str(TRIALS))
        name = self.variant(self.arguments[0]).name
        trials = json.loads(TRIALS.read_text("utf-8"))
        if name not in trials:
            raise self.error(f"{self.name}: no trials of {name!r}; run docs/experiments/trials.py")
        runs, epochs = trials[name]["runs"], trials[name]["epochs"]
        metrics = self.metrics({metric for values in runs.values() for metric in values})
        rows = [
            [
                f"`{changes}`" if changes else "unchanged",
                *(number(values.get(metric)) for metric in metrics),
            ]
            for changes, values in runs.items()
        ]
        length = f"trained for {' + '.join(map(str, epochs))} epochs" if epochs else "fitted"
        note = f"Measured on the validation split; each {length} on the training split, with the same seed."
        text = table(["change", *(f"`{metric}`" for metric in metrics)], rows)
        return self.parse_text_to_nodes(f"{text}\n\n{note}\n")
