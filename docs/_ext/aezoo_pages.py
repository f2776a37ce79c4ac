"""Sphinx extension: what the pages need beyond Markdown that also reads in the repository.

- Links to files of variants, to the README and into the source tree lead to pages of the site.
- A page that is a script gets a link to itself as a notebook.
- Docstrings, which are written to be read as text, are made valid reStructuredText.
"""

import re
from pathlib import Path
from typing import Any

from run_pages import notebook, scripts
from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent.parent
EXTRA = DOCS / "_build" / "extra"
kept: dict[str, list[str]] = {}
"""Docstrings of attributes on their way around Napoleon."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Connects the changes."""
    app.connect("builder-inited", lambda _: write_notebooks())
    app.connect("source-read", change)
    # Before Napoleon, which has the default priority of 500.
    app.connect("autodoc-process-docstring", change_docstring, priority=100)
    app.connect("autodoc-process-docstring", keep_attribute, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def write_notebooks() -> None:
    """Writes a notebook for each page that is a script, at the address of its page."""
    for script in scripts():
        path = EXTRA / script.relative_to(DOCS).with_suffix(".ipynb")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(notebook(script), "utf-8")


def change(app: Sphinx, name: str, source: list[str]) -> None:
    """Changes the text of a page before it is parsed."""
    # MyST's own `include` would leave the links of the included file as they are.
    text = re.sub(
        r"```{include} (\S+)\n```", lambda match: _included((DOCS / name).parent / match[1]), source[0]
    )
    text = re.sub(
        r"\]\((?:\.\./)+(?:plugins/[\w-]+/\w+/)?zoo/([\w.-]+)/(?:spec\.yaml|README\.md)\)",
        r"](/gallery/\1.md)",
        text,
    )
    text = re.sub(r"\]\((?:\.\./)+README\.md(?:#[\w-]+)?\)", "](/index.md)", text)
    text = re.sub(r"\]\((?:\.\./)+CONTRIBUTING\.md\)", "](/contributing.md)", text)
    text = re.sub(r"\]\((?:\.\./)+plugins/aezoo-(\w+)/README\.md\)", r"](/plugins/\1.md)", text)
    if (script := (DOCS / name).with_suffix(".py")) in scripts():
        link = f'<a class="notebook" href="{script.stem}.ipynb" download>Download this page as a notebook</a>'
        text = re.sub(r"\A(# .+\n)", rf"\1\n```{{raw}} html\n<p>{link}</p>\n```\n", text, count=1)
    source[0] = text


def _included(path: Path) -> str:
    """A file from elsewhere in the repository, with links from the top of docs/."""
    text = path.resolve().read_text("utf-8")
    return re.sub(r"\]\((?:\.\./)*docs/", "](/", text)


SECTIONS = ("Args:", "Returns:", "Raises:", "Attributes:", "Yields:", "Example:")


def change_docstring(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Writes code with two backticks, escapes the asterisks of shapes, marks indented text as code."""
    for number, line in enumerate(lines):
        parts = re.split(r"(`[^`]+`)", line)
        parts[::2] = [re.sub(r"(?<=[(, ])\*(?=[A-Za-z])", r"\\*", part) for part in parts[::2]]
        parts[1::2] = [f"`{part}`" for part in parts[1::2]]
        lines[number] = "".join(parts)
        following = lines[number + 1 : number + 3]
        if line.endswith(":") and line.strip() not in SECTIONS and len(following) == 2:
            indent = len(line) - len(line.lstrip())
            if not following[0].strip() and following[1].startswith(" " * (indent + 4)):
                lines[number] += ":"
    if what in ("attribute", "data", "property") and not set(SECTIONS) & {line.strip() for line in lines}:
        kept[name] = lines.copy()


def keep_attribute(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Undoes what Napoleon makes of an attribute's sentence: it takes text before a colon for a type."""
    if name in kept:
        lines[:] = kept.pop(name)
