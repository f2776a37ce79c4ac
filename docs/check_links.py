"""Checks a built site: `python docs/check_links.py docs/_build/html`.

Every link inside the site must lead to a file and, with a fragment, to an element of it; none may begin at
the root of the server, so that the site works from any sub-path; and nothing may be fetched from another host
when a page is viewed. Links to other sites need a network: `make linkcheck` follows them.
"""

import re
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {
    ("img", "src"), ("script", "src"), ("link", "href"), ("iframe", "src"), ("source", "src"),
    ("source", "srcset"), ("video", "src"), ("audio", "src"), ("embed", "src"), ("object", "data"),
    ("form", "action"), ("use", "href"),
}  # fmt: skip
NOT_FETCHED = {"canonical", "author", "license", "prev", "next", "search", "index", "me"}
"""Values of `rel` of a `link` that no browser fetches."""


class Page(HTMLParser):
    """The links and identifiers of a page.

    Attributes:
        links: (tag, attribute, address).
        ids: of its elements.
        styles: text of its style sheets and style attributes.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[tuple[str, str, str]] = []
        self.ids: set[str] = set()
        self.styles: list[str] = []
        self._tag = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects what a tag links to."""
        self._tag = tag
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        self.styles += [values["style"]] if "style" in values else []
        for name, value in values.items():
            if name == "href" and tag == "link" and NOT_FETCHED & set(values.get("rel", "").split()):
                continue
            if (tag, name) in FETCHED or (tag in ("a", "area") and name == "href"):
                self.links.append((tag, name, value))

    def handle_data(self, data: str) -> None:
        """Collects style sheets."""
        if self._tag == "style":
            self.styles.append(data)


@cache
def page(path: Path) -> Page:
    """A page, parsed once."""
    return Page(path.read_text("utf-8", errors="replace"))


def problems(root: Path) -> list[str]:
    """One line for each link of the site that is wrong.

    Args:
        root: folder of the site.
    """
    root = root.resolve()
    found: list[str] = []
    # Pages below _static are templates of the theme.
    for path in sorted(path for path in root.rglob("*.html") if root / "_static" not in path.parents):
        where = path.relative_to(root)
        one = page(path)
        for tag, name, address in one.links:
            problem = _problem(root, path, address, fetched=(tag, name) in FETCHED)
            found += [f'{where}: {tag} {name}="{address}" {problem}'] if problem else []
        for text in one.styles:
            found += [f"{where}: {line}" for line in _style_problems(root, path, text)]
    for path in sorted(root.rglob("*.css")):
        text = path.read_text("utf-8", errors="replace")
        found += [f"{path.relative_to(root)}: {line}" for line in _style_problems(root, path, text)]
    return found


def _style_problems(root: Path, path: Path, text: str) -> list[str]:
    addresses = re.findall(r"url\(\s*['\"]?([^'\")]+)['\"]?\s*\)", text)
    addresses += re.findall(r"@import\s+['\"]([^'\"]+)['\"]", text)
    return [
        f"url({address}) {problem}"
        for address in addresses
        if (problem := _problem(root, path, address, fetched=True))
    ]


def _problem(root: Path, path: Path, address: str, *, fetched: bool) -> str:
    """What is wrong with an address on a page; empty if nothing is."""
    parts = urlsplit(address)
    if parts.scheme in ("data", "blob", "mailto", "javascript"):
        return ""
    if parts.scheme or parts.netloc:
        return "is fetched from another host" if fetched else ""
    if parts.path.startswith("/"):
        return "begins at the root of the server"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.is_relative_to(root):
        return "leaves the site"
    if not target.is_file():
        return "has no file"
    fragment = unquote(parts.fragment)
    if fragment and target.suffix == ".html" and fragment not in page(target).ids:
        return "has no such element"
    return ""


def main(folder: str) -> int:
    """Prints every problem; 1 if there is one."""
    if not (Path(folder) / "index.html").is_file():
        print(f"{folder}: no index.html; expected the folder of a built site", file=sys.stderr)
        return 2
    found = problems(Path(folder))
    for line in found:
        print(line, file=sys.stderr)
    print(f"{len(list(Path(folder).rglob('*.html')))} pages, {len(found)} wrong links")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "docs/_build/html"))
