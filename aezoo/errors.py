"""Every error that aezoo raises on purpose.

Each says in one line what was wrong, where, and what was expected. A file with several mistakes gives
one line for each. The command line prints the text and exits with 1, without a traceback.
"""

import importlib
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any


class AezooError(Exception):
    """Base of all of them."""


@dataclass(frozen=True)
class Problem:
    """One mistake in a spec.

    Attributes:
        path: dotted path of the value, such as `encoder.2.k`; empty for the whole document.
        message: what was expected and what was found.
        line: line in the file, counted from 1, where one is known.
    """

    path: str
    message: str
    line: int | None = None


class SpecError(AezooError, ValueError):
    """A spec that cannot be used; `problems` holds every mistake found, `source` the file, if any."""

    def __init__(self, problems: Iterable[Problem], source: str | None = None) -> None:
        self.problems = tuple(problems)
        self.source = source
        super().__init__(self.problems, source)

    def __str__(self) -> str:
        return "\n".join(self._line(problem) for problem in self.problems)

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
    """Raised by `LayerSpec.build` for a field that does not fit the layer's input.

    The stack adds the layer's path and where the input comes from. Write the message so that it ends
    with the input: `LayerError("k", "80 is more than the 64 features")` reads in the end
    `encoder.2.k: 80 is more than the 64 features that encoder.1 gives`.
    """

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(field, message)

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class RegistryError(AezooError, ValueError):
    """A kind that nobody has, that two claim, or a class that cannot be registered."""


class PluginNameError(AezooError, ValueError):
    """A name that no new plugin can have."""


class PluginWarning(UserWarning):
    """A plugin that could not be loaded; everything else goes on working."""


class AdviceWarning(UserWarning):
    """Something that works, but probably not as hoped. Its text begins with a code that stays the same.

    Silence one with `warnings.filterwarnings("ignore", message="identity-risk")`, or several with the
    environment: `AEZOO_SILENCE=identity-risk,dead-latents`.

    Attributes:
        code: such as `identity-risk`.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(f"{code}: {message}")


def advise(code: str, message: str) -> None:
    """Warns with an `AdviceWarning`, unless `AEZOO_SILENCE` names its code."""
    silenced = os.environ.get("AEZOO_SILENCE", "").split(",")
    if code not in (word.strip() for word in silenced):
        warnings.warn(AdviceWarning(code, message), stacklevel=3)


class DataError(AezooError, ValueError):
    """Data that is missing, or does not fit what a variant expects."""


class MissingExtraError(AezooError, ImportError):
    """A package that is not installed because it is optional."""


def optional(module: str, package: str, extra: str) -> Any:
    """A module of an optional package.

    Raises:
        MissingExtraError: the package is not installed; says what to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        text = f"this needs {package}; install it with: pip install 'aezoo[{extra}]'"
        raise MissingExtraError(text) from error


class TrainingError(AezooError, RuntimeError):
    """A training that cannot start or cannot go on.

    Attributes:
        ae: the last good state of what was being trained, where there is one.
    """

    ae: Any = None


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during a training; nothing that was learnt is lost.

    Attributes:
        ae: what had been trained so far, in evaluation mode, not measured.
    """

    ae: Any = None


class UnknownVariantError(AezooError, LookupError):
    """No variant has that name."""


class NotSupportedError(AezooError, TypeError):
    """The autoencoder has no such ability, such as `sample` without a prior."""


class CheckpointError(AezooError):
    """A folder that cannot be loaded; nothing of it was used."""


class MissingFileError(CheckpointError):
    """A file of the folder is absent."""


class ConfigError(CheckpointError):
    """`config.json` is too large, not strict JSON, or not what aezoo writes."""


class NotAVariantError(ConfigError):
    """A folder or repository that holds something else than what aezoo writes."""


class SchemaVersionError(CheckpointError):
    """Written by a newer aezoo than this one."""


class MissingPluginError(CheckpointError):
    """The folder needs a plugin that is not installed here."""


class NotSafetensorsError(CheckpointError):
    """The weights are not a safetensors file: a pickle, or something else."""


class TruncatedError(CheckpointError):
    """The weights have another size than the config declares."""


class HashError(CheckpointError):
    """The bytes are not the ones that were published under this name."""


class TensorError(CheckpointError):
    """A tensor is missing, unexpected, or has another shape, dtype or place than the spec says."""


class NotFiniteError(CheckpointError):
    """A weight is NaN or infinite."""


class HubError(AezooError):
    """The Hub could not give or take something; what is here is as it was."""


class NoRepositoryError(HubError):
    """There is no such repository, or it is private and the token, if any, may not read it."""


class GatedError(HubError):
    """The repository asks for conditions to be accepted first."""


class NoRevisionError(HubError):
    """The repository has no such branch, tag or commit."""


class NotCachedError(HubError):
    """Offline, and the file is not in the cache."""


class UnreachableError(HubError):
    """No answer from the Hub, or from the proxy on the way to it."""


class ServerError(HubError):
    """The Hub answered that it could not."""


class RateLimitError(ServerError):
    """Too many requests for now."""


class RefusedError(HubError):
    """The token is missing, expired, or may not do this."""


class CutShortError(HubError):
    """A download or upload that ended before all of it was through."""


class CacheError(HubError):
    """The cache cannot be written: the disk is full, or it is read-only."""


class PublishedError(HubError):
    """What a name means was published already, and would change."""
