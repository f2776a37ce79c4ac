"""Executes the pages that are scripts and writes them as Markdown: `python docs/run_pages.py [NAME ...]`.

Such a page is a script with cells (`# %%`, `# %% [markdown]`) in one of `FOLDERS`. Its Markdown contains the
cells, their output and links to their pictures. Files that a script writes go to a temporary folder; only the
pictures are kept. The site also offers each script as a notebook (`notebook`).
"""

import contextlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import aezoo

HERE = Path(__file__).resolve().parent
FOLDERS = ("start", "howto", "comparisons")


def scripts() -> list[Path]:
    """The scripts of all pages, sorted by folder and name."""
    return [path for folder in FOLDERS for path in sorted((HERE / folder).glob("*.py"))]


def cells(script: Path) -> list[tuple[bool, str]]:
    """Returns the cells of a script as (is prose, text)."""
    parts = re.split(r"^# %%(.*)\n", script.read_text("utf-8"), flags=re.MULTILINE)[1:]
    found: list[tuple[bool, str]] = []
    for head, body in zip(parts[::2], parts[1::2], strict=True):
        prose = "[markdown]" in head
        text = re.sub(r"^# ?", "", body, flags=re.MULTILINE) if prose else body
        found.append((prose, text.strip()))
    return found


def run(script: Path, folder: Path) -> str:
    """Executes a script in a folder and returns it as Markdown.

    A warning is an error, except a `DiagnosticWarning`, which is printed as readers would see it.
    """
    page: list[str] = []
    names: dict[str, object] = {"__name__": "__main__"}
    before = Path.cwd()
    os.chdir(folder)
    try:
        for prose, text in cells(script):
            if prose:
                page.append(text)
                continue
            page.append(f"```python\n{text}\n```")
            seen = set(folder.glob("*.png"))
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed), warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.simplefilter("default", aezoo.DiagnosticWarning)
                warnings.filterwarnings("ignore", module=r"ray\b")  # about itself
                warnings.showwarning = lambda message, category, *_: print(f"{category.__name__}: {message}")
                exec(compile(text, str(script), "exec"), names)  # noqa: S102 - our own pages
            if printed.getvalue():
                page.append(f"```text\n{printed.getvalue().rstrip()}\n```")
            page += [f"![]({picture.name})" for picture in sorted(set(folder.glob("*.png")) - seen)]
    finally:
        os.chdir(before)
    return "\n\n".join(page) + "\n"


INSTALL = re.compile(r"^Install: `(pip install [^`]+)`", re.MULTILINE)
"""The line of a page that says what it needs."""


def notebook(script: Path) -> str:
    """A script as a Jupyter notebook (format 4.5), without output.

    The title is followed by a cell that installs what the page needs, as a comment. A cell that saves figures
    shows them as well. Links to other pages have no target outside the site and become text.
    """
    made: list[dict[str, Any]] = []

    def add(kind: str, text: str) -> None:
        cell = {"cell_type": kind, "id": f"cell-{len(made)}", "metadata": {}}
        cell |= {"execution_count": None, "outputs": []} if kind == "code" else {}
        made.append({**cell, "source": text.splitlines(keepends=True)})

    for number, (prose, text) in enumerate(cells(script)):
        if prose:
            add("markdown", re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]+\)", r"\1", text))
        else:
            pictures = dict.fromkeys(re.findall(r'savefig\(\s*f?"([\w{}-]+\.png)"', text))
            # By full names, which cannot hide a name of the page. A name with a value stands for many files.
            shows = [
                f"for picture in sorted(glob.glob({re.sub(r'{.*?}', '*', name)!r})):\n"
                "    IPython.display.display(IPython.display.Image(picture))"
                if "{" in name
                else f"IPython.display.display(IPython.display.Image({name!r}))"
                for name in pictures
            ]
            imports = ["import glob", ""] if any("{" in name for name in pictures) else []
            more = ["", *imports, "import IPython.display", "", *shows]
            add("code", "\n".join([text, *(more if pictures else [])]))
        if number == 0:
            install = INSTALL.search(text)
            command = install[1] if install else "pip install aezoo"
            add("code", f"# Remove the # of the next line to install what this notebook needs.\n# %{command}")
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    whole = {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def main(names: list[str]) -> None:
    """Executes the scripts of these names, by default all."""
    for script in scripts():
        if names and script.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            script.with_suffix(".md").write_text(run(script, folder), "utf-8")
            for picture in folder.glob("*.png"):
                shutil.copy(picture, script.parent)
        print(script.with_suffix(".md"))


if __name__ == "__main__":
    main(sys.argv[1:])
