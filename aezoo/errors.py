"""Exceptions and warnings.

A message is one line: what is wrong, where, and what was expected. A spec with several mistakes gives one
line for each. The command line prints the message and exits with status 1, without a traceback.
"""

import importlib
import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from aezoo.text import printable


class AezooError(Exception):
    """Base class of every exception that aezoo raises.

    The message is one line. Control characters, which names of files and text from elsewhere may contain,
    are escaped.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


@dataclass(frozen=True)
class Problem:
    """One mistake in a spec.

    Attributes:
        path: dotted path of the value, such as `encoder.2.k`; empty for the whole document.
        message: what was expected and what was found.
        line: line in the file, counted from 1; None if unknown.
    """

    path: str
    message: str
    line: int | None = None


class SpecError(AezooError, ValueError):
    """A spec that cannot be used.

    Attributes:
        problems: every mistake found.
        source: name of the file; None if the spec was not read from one.
    """

    def __init__(self, problems: Iterable[Problem], source: str | None = None) -> None:
        self.problems = tuple(problems)
        self.source = source
        super().__init__(self.problems, source)

    def __str__(self) -> str:
        return "\n".join(printable(self._line(problem)) for problem in self.problems)

    def _line(self, problem: Problem) -> str:
        where = [self.source] if self.source else []
        if self.source and problem.line is not None:
            where = [f"{self.source}:{problem.line}"]
        return ": ".join([*where, *([problem.path] if problem.path else []), problem.message])

    def locate(self, source: str, lines: dict[str, int]) -> "SpecError":
        """The same problems with file and line, `lines` mapping dotted paths to line numbers."""

        def line_of(path: str) -> int | None:
            while path not in lines and "." in path:
                path = path.rpartition(".")[0]
            return lines.get(path, lines.get(""))

        return SpecError((replace(p, line=line_of(p.path)) for p in self.problems), source)


class LayerError(AezooError, ValueError):
    """Raised by `LayerSpec.build` if a field does not fit the layer's input.

    The path of the layer and the source of its input are added to the message, which therefore ends with the
    input: `LayerError("k", "80 is more than the 64 features")` becomes
    `encoder.2.k: 80 is more than the 64 features that encoder.1 gives`.

    Attributes:
        field: name of the field, `kind` for the layer as a whole.
        message: what does not fit.
        about_input: whether the message ends with the input; if not, its source is not added.
    """

    def __init__(self, field: str, message: str, about_input: bool = True) -> None:
        self.field = field
        self.message = message
        self.about_input = about_input
        super().__init__(field, message, about_input)

    def __str__(self) -> str:
        return printable(f"{self.field}: {self.message}")


class SettingError(AezooError, ValueError):
    """An environment variable such as `AEZOO_MAX_PARAMETERS` has an invalid value."""


def env_int(name: str, default: int, least: int = 1) -> int:
    """The whole number in an environment variable; `default` if it is not set.

    Raises:
        SettingError: it is something else, or less than `least`.
    """
    text = os.environ.get(name)
    if text is None:
        return default
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) < least:
        found = printable(text, limit=60)
        raise SettingError(f"{name}: expected a whole number of at least {least}, found {found!r}")
    return int(text)


class RegistryError(AezooError, ValueError):
    """An unknown kind, a kind that two plugins claim, or a class or name that cannot be registered."""


class PluginWarning(UserWarning):
    """A plugin could not be loaded; everything else keeps working."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class DiagnosticWarning(UserWarning):
    """Valid, but likely to give poor results. The text begins with a code that does not change.

    Silence one with `warnings.filterwarnings("ignore", message="identity-risk")`, or several with the
    environment variable `AEZOO_SILENCE=identity-risk,dead-latents`.

    Attributes:
        code: such as `identity-risk`.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(printable(f"{code}: {message}"))


def warn_diagnostic(code: str, message: str) -> None:
    """Issues a `DiagnosticWarning`, unless `AEZOO_SILENCE` contains its code."""
    silenced = os.environ.get("AEZOO_SILENCE", "").split(",")
    if code not in (word.strip() for word in silenced):
        warnings.warn(DiagnosticWarning(code, message), stacklevel=3)


class DataError(AezooError, ValueError):
    """Data are missing, or do not match what a variant expects."""


class MissingExtraError(AezooError, ImportError):
    """An optional package is not installed."""


def optional(module: str, package: str, extra: str) -> Any:
    """Imports a module of an optional package.

    Raises:
        MissingExtraError: the package is not installed; the message names the extra to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        text = f"this needs {package}; install it with: pip install 'aezoo[{extra}]'"
        raise MissingExtraError(text) from error


class TrainingError(AezooError, RuntimeError):
    """Training cannot start or cannot continue.

    Attributes:
        ae: the last valid state of the autoencoder; None before the first step.
    """

    ae: Any = None


class TrainingInterrupted(KeyboardInterrupt):
    """Raised on Ctrl-C during training.

    Attributes:
        ae: the autoencoder as trained so far, in evaluation mode, not measured; None before the first step.
    """

    ae: Any = None


class UnknownVariantError(AezooError, LookupError):
    """No variant has this name."""


class NotSupportedError(AezooError, TypeError):
    """An operation that is not supported, such as `sample` without a prior or a device that is absent."""


class CodedError(AezooError):
    """Base class of errors that carry a code.

    Attributes:
        code: what is wrong, one of the values that the subclass lists; does not change between versions.
        message: the same in one line for people.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(code, message)

    def __str__(self) -> str:
        return printable(self.message)


class CheckpointError(CodedError):
    """A variant's folder cannot be loaded or written. Nothing of it was used, and nothing was replaced.

    `code` is one of:

    - `missing-file`: a file is absent or cannot be read.
    - `not-a-variant`: the folder, repository or index was not written by aezoo.
    - `invalid-config`: a JSON file is too large, not strict JSON, or its values are invalid.
    - `schema-version`: written by a newer aezoo.
    - `missing-plugin`: a plugin or a registered kind that the spec uses is not available.
    - `not-safetensors`: the weights are a pickle or another format.
    - `size-mismatch`: the weights have another size than the config records.
    - `hash-mismatch`: the bytes are not the published ones.
    - `tensor-mismatch`: a tensor is missing, unexpected, or has another shape or dtype than the spec gives.
    - `not-finite`: a weight is NaN or infinite.
    - `unsigned`: a public key was given, and there is no signature.
    - `bad-signature`: the signature is not one of these files by the given key.
    - `modified`: the network in the folder was changed after its training.
    - `unfinished`: the folder contains an interrupted training.
    - `target`: the target folder cannot be used as it is.
    - `write-failed`: a file could not be written.
    """


class HubError(CodedError):
    """A Hub request failed; local files are unchanged.

    `code` is one of:

    - `no-repository`: the repository does not exist, or is private and the token may not read it.
    - `gated`: the repository's conditions must be accepted first.
    - `no-revision`: the repository has no such branch, tag or commit.
    - `not-cached`: offline, and the file is not in the cache.
    - `unreachable`: the Hub or the proxy does not answer.
    - `server-error`: the Hub answered with an error of its own.
    - `rate-limit`: too many requests.
    - `unauthorized`: the token is missing, expired, or not permitted to do this.
    - `interrupted`: the transfer ended early.
    - `cache`: the cache cannot be written; the disk is full or read-only.
    - `immutable`: the change would alter released bytes or move a tag.
    - `failed`: anything else.
    """
