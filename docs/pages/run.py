"""Executes the tutorials and writes them as Markdown: `python docs/pages/run.py [NAME ...]`.

A tutorial is a script with cells (`# %%`, `# %% [markdown]`). Its Markdown contains the cells, their output and
links to their pictures. Files that a tutorial writes go to a temporary folder; only the pictures are kept.
"""

import contextlib
import io
import os
import re
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import aezoo

HERE = Path(__file__).resolve().parent


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
                warnings.showwarning = lambda message, category, *_: print(f"{category.__name__}: {message}")
                exec(compile(text, str(script), "exec"), names)  # noqa: S102 - our own pages
            if printed.getvalue():
                page.append(f"```text\n{printed.getvalue().rstrip()}\n```")
            page += [f"![]({picture.name})" for picture in sorted(set(folder.glob("*.png")) - seen)]
    finally:
        os.chdir(before)
    return "\n\n".join(page) + "\n"


def main(names: list[str]) -> None:
    """Executes the tutorials of these names, by default all."""
    for script in [HERE / f"{name}.py" for name in names] or sorted(HERE.glob("*.py")):
        if script.name == Path(__file__).name:
            continue
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            script.with_suffix(".md").write_text(run(script, folder), "utf-8")
            for picture in folder.glob("*.png"):
                shutil.copy(picture, HERE)
        print(script.with_suffix(".md"))


if __name__ == "__main__":
    main(sys.argv[1:])
