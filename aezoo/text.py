"""Text from files, servers and plugins, made safe to show."""


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


def type_name(value: object) -> str:
    """What a value is, for an error: `numpy.ndarray`, `list`, `the class VariantSpec`."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    cls = type(value)
    package = cls.__module__.partition(".")[0]
    return cls.__name__ if package in ("builtins", "aezoo") else f"{cls.__module__}.{cls.__name__}"
