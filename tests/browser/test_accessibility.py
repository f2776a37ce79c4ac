"""Accessibility by axe-core, and pages that answer without a network or a server's root."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import SITE, Pages, missing

pytestmark = pytest.mark.slow

AXE = SITE.parent.parent / "live" / "node_modules" / "axe-core" / "axe.min.js"
PAGES = [
    "index.html",
    "start/install.html",
    "start/first_autoencoder.html",
    "howto/index.html",
    "autoencoders/index.html",
    "gallery/index.html",
    "gallery/sparse-topk16.html",
    "live/index.html",
    "reference/api/train.html",
    "reference/spec.html",
    "zoo.html",
    "search.html",
]


def findings(page: Any) -> list[str]:
    """Serious and critical findings of axe-core, one line for each element."""
    if not AXE.is_file():
        missing("axe-core is not installed; run make docs")
    page.add_script_tag(path=str(AXE))
    result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{found['id']}: {found['help']}: {node['html'][:150]}"
        for found in result["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_no_serious_finding(pages: Pages, path: str, scheme: Any) -> None:
    page = pages.open(path, color_scheme=scheme)
    assert findings(page) == []


def test_axe_finds_what_it_should(pages: Pages) -> None:
    page = pages.open("gallery/index.html")
    page.evaluate("document.querySelector('.gallery-card img').removeAttribute('alt')")
    assert any(line.startswith("image-alt") for line in findings(page))


def every_page() -> list[str]:
    """Pages of the site, some of each folder, or all of them in CI."""
    found = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
    found = [path for path in found if not path.startswith("_") and ".report." not in path]
    if os.environ.get("CI"):
        return found
    folders: dict[Path, list[str]] = {}
    for path in found:
        folders.setdefault(Path(path).parent, []).append(path)
    return [path for paths in folders.values() for path in paths[:5]]


def test_no_page_has_an_error_or_asks_another_host(pages: Pages) -> None:
    for path in every_page():
        page = pages.open(path)
        assert page.locator("h1").count() >= 1, path
        page.context.close()
