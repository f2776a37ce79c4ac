"""The built site in headless Chromium, served on loopback below a path of its own as on a page of a project."""

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SITE = Path(__file__).resolve().parent.parent.parent / "docs" / "_build" / "html"
BELOW = "/some/where"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def missing(text: str) -> None:
    """Skips the tests; in CI, where everything must be there, they fail."""
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        missing("no Chromium; install Debian's package chromium")
    assert path is not None
    return path


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the built site, which ends in a slash."""
    if not (SITE / "index.html").is_file():
        missing("the site is not built; run make docs")
    root = tmp_path_factory.mktemp("served")
    below = root / BELOW.strip("/")
    below.parent.mkdir(parents=True)
    below.symlink_to(SITE)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(root))
    )
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}{BELOW}/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    """A browser for all tests."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield found
        found.close()


class Pages:
    """Opens pages of the site and notes what must not happen on them.

    Attributes:
        problems: errors of scripts, of the console and of requests, and requests to other hosts.
    """

    def __init__(self, browser: Any, site: str) -> None:
        self.browser, self.site = browser, site
        self.problems: list[str] = []
        self._contexts: list[Any] = []

    def open(self, path: str, *, width: int = 1280, height: int = 900, **options: Any) -> Any:
        """Opens a page of the site.

        Args:
            path: below the site, with a query if any.
            width: of the window in pixels.
            height: of the window in pixels.
            options: further options of the browser's context.
        """
        context = self.browser.new_context(viewport={"width": width, "height": height}, **options)
        self._contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))
        page.on("console", self._console)
        page.on("request", self._request)
        # Chromium reports scripts as failed where it does not run them.
        if options.get("java_script_enabled", True):
            page.on("requestfailed", self._failed)
        page.on(
            "response",
            lambda response: (
                response.status >= 400 and self.problems.append(f"{response.status}: {response.url}")
            ),
        )
        page.goto(self.site + path)
        return page

    def close(self) -> None:
        """Closes every page."""
        for context in self._contexts:
            context.close()

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.problems.append(f"console: {message.text}")

    def _failed(self, request: Any) -> None:
        # A page that is left stops what it still loads.
        if request.failure != "net::ERR_ABORTED":
            self.problems.append(f"failed: {request.url} {request.failure}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.site, "data:", "blob:")):
            self.problems.append(f"leaves the site: {request.url}")


@pytest.fixture
def pages(browser: Any, site: str) -> Iterator[Pages]:
    """Opens pages; fails a test at whose end a page had an error or asked another host."""
    found = Pages(browser, site)
    yield found
    found.close()
    assert found.problems == []
