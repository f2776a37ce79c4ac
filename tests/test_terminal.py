"""Output of the command line: tables of any width, and streams that are ASCII, full or closed."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aezoo import terminal

HEAD = ("name", "parameters", "MSE", "summary")
ROWS = [
    ("sparse-topk16", "1,024", "0.01276", "Fully connected, with the sixteen largest latents kept"),
    ("vae", "118,016", "-", "A variational autoencoder"),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, columns: int | None, drop: tuple[str, ...] = ()) -> list[str]:
    """The lines of the table, on a terminal or, without a width, in a pipe."""
    out = io.StringIO() if columns is None else Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", str(columns or 20))
    terminal.print_table(HEAD, ROWS, drop)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 200])
def test_a_table_loses_columns_but_no_digit(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, columns, drop=("MSE", "parameters"))
    text = "\n".join(lines)
    head = lines[0].split()
    assert head[0] == "name"
    assert head[-1] == "summary"
    for column, values in (("parameters", ("1,024", "118,016")), ("MSE", ("0.01276",))):
        assert all((value in text) is (column in head) for value in values)
    assert ("MSE" in head) <= ("parameters" in head), "the first one is dropped first"
    # Words of the last column are wrapped, and all of them are there.
    assert " ".join(text.split()).count("largest") == 1
    assert ("MSE" in head) is (columns >= 80)


def test_a_table_in_a_pipe_has_a_line_for_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, None, drop=("MSE", "parameters", "summary"))
    assert [line.split()[0] for line in lines] == ["name", "sparse-topk16", "vae"]
    assert lines[1].endswith("Fully connected, with the sixteen largest latents kept")
    assert lines[2].split()[1:3] == ["118,016", "-"]


def test_control_characters_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_table(("a\x1b[31m",), [("b\nc\x07",)])
    terminal.print_line("d\re")
    terminal.print_lines("f\ng\x9b")
    assert capsys.readouterr().out == "a\\x1b[31m\nb\\nc\\x07\nd\\re\nf\ng\\x9b\n"


def run(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    aezoo = f"{sys.executable} -m aezoo"
    return subprocess.run(
        ["bash", "-c", command.replace("aezoo", aezoo, 1)], env=os.environ | environment, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("command", ["list", "schema", "--help", "show fc-16 --json"])
def test_a_full_device_is_one_line(command: str) -> None:
    done = run(f"aezoo {command} > /dev/full")
    assert done.returncode == 1
    assert done.stderr.removeprefix("standard output: ") == "No space left on device\n"


def test_a_closed_pipe_ends_the_command_silently() -> None:
    done = run("aezoo schema | head -1; echo ${PIPESTATUS[0]}")
    assert done.stdout.splitlines()[0] == "{"
    assert done.stdout.splitlines()[-1] in ("0", "1")
    assert done.stderr == ""


def test_an_ascii_terminal_shows_everything() -> None:
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = run("aezoo show fc-16", **ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    done = run("aezoo show fc-16 --json", **ascii_only)
    assert json.loads(done.stdout)["latents"] == [16]
