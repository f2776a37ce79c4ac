"""Fenced code blocks of Markdown files, and a session that executes them in order."""

import contextlib
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aezoo import cli

FENCE = re.compile(
    r"(?:^<!-- not run: ([^\n]+) -->\n)?^```(\{?[\w-]*\}?)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    Attributes:
        language: what follows the opening fence: a language, or a directive and its argument.
        text: the contents.
        not_run: the reason in a comment `<!-- not run: REASON -->` above the block; None if there is none.
    """

    language: str
    text: str
    not_run: str | None

    @property
    def commands(self) -> list[list[str]]:
        """The commands of a shell block as lists of words, without comments."""
        lines = (shlex.split(line, comments=True) for line in self.text.splitlines())
        return [line for line in lines if line]


def blocks(path: Path, language: str | None = None) -> list[Block]:
    """The code blocks of a file, in order; only those of one language if it is given."""
    found = [
        Block(language, text, reason or None) for reason, language, text in FENCE.findall(path.read_text())
    ]
    return [block for block in found if language in (None, block.language)]


class Session:
    """Executes blocks one after the other, as a reader would.

    Args:
        folder: working directory.
        monkeypatch: changes the working directory and `sys.argv` until the end of the test.
        overrides: `--set` options that are added to every `aezoo train`.
    """

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...] = ()
    ) -> None:
        self.folder, self.monkeypatch, self.overrides = folder, monkeypatch, overrides
        self.names: dict[str, Any] = {"__name__": "__main__"}
        monkeypatch.chdir(folder)

    def execute(self, block: Block) -> None:
        """Runs Python and shell blocks; writes YAML to the file that its first line names."""
        if block.language == "python":
            exec(compile(block.text, "<markdown>", "exec"), self.names)
        elif block.language == "sh":
            for command in block.commands:
                self.run(command)
        elif block.language == "yaml":
            name = block.text.partition("\n")[0].removeprefix("# ")
            (self.folder / name).write_text(block.text)

    def run(self, command: list[str]) -> None:
        """Runs a command of aezoo, with `> FILE` at its end or without."""
        program, *arguments = command
        assert program == "aezoo", f"{program} cannot be run; mark its block with <!-- not run: REASON -->"
        output = None
        if ">" in arguments:
            *arguments, _, output = arguments
        if arguments[0] == "train":
            arguments += [word for override in self.overrides for word in ("--set", override)]
        self.monkeypatch.setattr(sys, "argv", ["aezoo", *arguments])
        with contextlib.ExitStack() as stack:
            if output is not None:
                file = stack.enter_context((self.folder / output).open("w"))
                stack.enter_context(contextlib.redirect_stdout(file))
            with pytest.raises(SystemExit) as done:
                cli.main()
        assert not done.value.code, command
