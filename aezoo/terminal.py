"""Output of the command line: tables as wide as the terminal, and streams that are ASCII, full or closed."""

import errno
import io
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress

from aezoo.text import printable

GAP = "  "
"""Between two columns."""
MIN_TEXT = 40
"""Width of the last column below which other columns are left out before it is wrapped further."""
MIN_WRAP = 20
"""Smallest width to which the last column is wrapped."""
NUMBER = re.compile(r"-?[\d,.]+(e[-+]?\d+)?|-?inf|nan|null|-")


def print_line(text: object) -> None:
    """Prints one line, with control characters escaped."""
    _write(printable(text))


def print_lines(text: str) -> None:
    """Prints text of several lines, with all other control characters escaped."""
    _write("\n".join(map(printable, text.removesuffix("\n").split("\n"))))


def print_json(data: object) -> None:
    """Prints data as JSON in ASCII, which every terminal can show."""
    _write(json.dumps(data, indent=2))


def print_error(text: object) -> None:
    """Prints to standard error. What cannot be written there is lost: it is no reason to end a training."""
    with suppress(OSError, ValueError):  # ValueError: the stream is closed
        print(text, file=sys.stderr, flush=True)


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]], drop: Sequence[str] = ()) -> None:
    """Prints rows in aligned columns, with control characters escaped.

    On a terminal that is too narrow, the columns in `drop` are left out, the first one first, and the last
    column is wrapped if it is text. A value is never cut. If the output is not a terminal, every row is one
    line with all columns.

    Args:
        head: names of the columns.
        rows: cells, shown with `str`.
        drop: columns that may be left out.
    """
    cells = [list(map(printable, head)), *([printable(cell) for cell in row] for row in rows)]
    columns = list(zip(*cells, strict=True))
    width = terminal_width()
    for name in drop:
        if width is None or _total(columns) <= width:
            break
        columns = [column for column in columns if column[0] != name]
    _write("\n".join(_aligned(columns, width)))


def terminal_width() -> int | None:
    """Width of the terminal in characters; None if standard output is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout and sys.stdout.isatty() else None


def _total(columns: Sequence[Sequence[str]]) -> int:
    *first, last = (max(map(len, column)) for column in columns)
    return sum(first) + len(GAP) * len(first) + min(last, MIN_TEXT)


def _aligned(columns: Sequence[Sequence[str]], width: int | None) -> Generator[str]:
    widths = [max(map(len, column)) for column in columns]
    numeric = [all(map(NUMBER.fullmatch, column[1:])) for column in columns]
    indent = sum(widths[:-1]) + len(GAP) * (len(columns) - 1)
    for row in zip(*columns, strict=True):
        last = [row[-1]]
        if width is not None and not numeric[-1]:
            # A word that is longer, such as a hash, stays whole.
            last = textwrap.wrap(
                row[-1], max(MIN_WRAP, width - indent), break_long_words=False, break_on_hyphens=False
            ) or [""]
        cells = [*row[:-1], last[0]]
        yield GAP.join(
            cell.rjust(w) if right else cell.ljust(w)
            for cell, w, right in zip(cells, widths, numeric, strict=True)
        ).rstrip()
        yield from (" " * indent + line for line in last[1:])


@contextmanager
def safe_streams() -> Generator[None]:
    """Context manager for a whole command: output that cannot be encoded or written gives no traceback.

    Characters that the encoding of a stream lacks are escaped. An error of the operating system, such as a
    full device, is printed as one line, and the program exits with status 1. It exits silently if the reader
    of a pipe has gone.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            yield
        finally:
            # The parser of the command line prints help without flushing.
            if sys.stdout and not sys.stdout.closed:
                _to_stdout(sys.stdout.flush)
    except OSError as error:
        _discard_output()
        if error.errno != errno.EPIPE:
            where = f"{error.filename}: " if error.filename else ""
            print_error(printable(f"{where}{error.strerror or error}"))
        raise SystemExit(1) from None


def _write(text: str) -> None:
    _to_stdout(lambda: print(text, flush=True))


def _to_stdout(write: Callable[[], None]) -> None:
    try:
        write()
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def _discard_output() -> None:
    """Keeps the interpreter from reporting, at its end, that buffered output cannot be written."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
