"""Text from files, servers and plugins, made safe to show."""

import re

MARKUP = re.compile(
    r"[\\`*<>|~]|\](?=[(\[:])|&(?=#?\w+;)|(?<!\w)_|_(?!\w)|^[-+=#]|(?<=^\d)[.)]|(?<=^\d\d)[.)]"
)
PLAIN_CODE = re.compile(r"[^`|\n]+")


def printable(text: object, limit: int | None = None) -> str:
    r"""Returns text in one line, with control characters escaped.

    Line breaks, terminal escape sequences, characters that change the direction of writing and lone
    surrogates are shown as in a Python literal: `\n`, `\x1b`, `\u202e`.

    Args:
        text: anything; `str` is applied to it.
        limit: the most characters to return; longer text ends with `...`.
    """
    characters = str(text)
    if limit is not None and len(characters) > limit:
        characters = f"{characters[: max(0, limit - 3)]}..."
    if characters.isprintable():
        return characters
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in characters)


def markdown(text: object, limit: int | None = None) -> str:
    """Returns text in one line that Markdown shows as it is: no markup, no HTML and no named links.

    Args:
        text: as for `printable`.
        limit: as for `printable`.
    """
    line = " ".join(str(text).split())
    return MARKUP.sub(lambda found: "\\" + found[0], printable(line, limit))


def markdown_code(text: object) -> str:
    """Returns text in one line as a code span of Markdown; as escaped text if it cannot be one."""
    line = printable(" ".join(str(text).split()))
    return f"`{line}`" if PLAIN_CODE.fullmatch(line) else markdown(line)


def markdown_block(text: str, language: str = "") -> str:
    """Returns lines as a code block of Markdown whose fence the text cannot close.

    Args:
        text: its control characters are escaped, line breaks are kept.
        language: of the block, such as `yaml`.
    """
    lines = "\n".join(printable(line) for line in text.strip().split("\n"))
    longest = max((len(run) for run in re.findall("`+", lines)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{lines}\n{fence}"


def type_name(value: object) -> str:
    """What a value is, for an error: `numpy.ndarray`, `list`, `the class VariantSpec`."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    cls = type(value)
    # Python 3.13 defines the classes of pathlib in pathlib._local.
    public = [part for part in cls.__module__.split(".") if not part.startswith("_")]
    return cls.__name__ if public[:1] in ([], ["builtins"], ["aezoo"]) else ".".join([*public, cls.__name__])
