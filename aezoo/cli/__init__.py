"""The command line. Each command calls one public function and prints its result.

Exit codes: 0 done, 1 refused with one clear line, 2 wrong usage.
"""

import os
import warnings
from typing import Annotated, Any

import typer

from aezoo.cli.application import app
from aezoo.errors import AezooError, DiagnosticWarning
from aezoo.terminal import print_error, print_line, safe_streams
from aezoo.text import printable

# The order of the commands in `aezoo --help`.
from aezoo.cli import zoo, inference, exporting, training, plugins, hub  # isort: skip

__all__ = ["app", "exporting", "hub", "inference", "main", "plugins", "training", "zoo"]

INTERRUPTED = 130


def main() -> None:
    """Runs the command line. An `AezooError` is printed as one line, with exit code 1."""
    with safe_streams(), warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            app(prog_name="aezoo")
        except AezooError as error:
            print_error(error)
            raise SystemExit(1) from None
        except SystemExit as done:
            # Typer prints nothing on Ctrl-C.
            if done.code == INTERRUPTED:
                print_error("interrupted")
            raise


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    word = "warning" if issubclass(category, UserWarning) else category.__name__
    word = "advice" if issubclass(category, DiagnosticWarning) else word
    print_error(f"{word}: {printable(message)}")


def _version(wanted: bool | None) -> None:
    if wanted:
        from importlib.metadata import version

        print_line(version("aezoo"))
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool | None,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = None,
    no_plugins: Annotated[
        bool,
        typer.Option(
            "--no-plugins", help="Ignore installed plugins, to find out whether one causes a problem."
        ),
    ] = False,
) -> None:
    """A model zoo of autoencoders: declarative specs, trained weights, numbers you can recompute."""
    if no_plugins:
        os.environ["AEZOO_PLUGINS"] = ""
