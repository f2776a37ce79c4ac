"""The application, and what its commands share: arguments, and numbers as text."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="aezoo",
    help="A model zoo of autoencoders: declarative specs, trained weights, numbers you can recompute.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Variant = Annotated[str, typer.Argument(help="A variant's name, or a folder such as ./mine.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE", help="Run a Python file that registers kinds."),
]
HEADLINE = {"mse": "mse", "fvu": "fvu", "l0": "l0", "dead_latents": "dead latents"}
"""Metrics that `list` and `demo` show -> heading of their column."""


def load_plugin_files(files: list[Path] | None) -> None:
    """Runs the files given with `--plugin`."""
    from aezoo.plugins.registry import load_plugin_file

    for file in files or []:
        load_plugin_file(file)


def as_load_argument(folder: Path) -> str:
    """A folder as `aezoo.load` takes it, which tells folders from names by a leading dot or slash."""
    text = str(folder)
    return text if folder.is_absolute() or text.startswith(".") else f"./{text}"


def shape(sizes: list[int]) -> str:
    """Sizes as text, such as 1x28x28."""
    return "x".join(map(str, sizes))


def number(value: object, digits: int = 4) -> str:
    """A number of a file as text; anything else, which the file may hold as well, as it is."""
    if not isinstance(value, int | float):
        return "null" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if value.is_integer() and abs(value) >= 1 else f"{value:.{digits}g}"
