"""Sphinx extension: builds the files of the live page, which `html_extra_path` copies into the site."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from aezoo.errors import AezooError

DOCS = Path(__file__).resolve().parent.parent
APP = DOCS / "_build" / "extra" / "live" / "app"


def setup(app: Sphinx) -> dict[str, Any]:
    """Connects the build."""
    app.connect("builder-inited", lambda _: write_live())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def write_live() -> None:
    """Writes the files of the page.

    Raises:
        ExtensionError: npm or the extra `onnx` is missing, or a network does not agree with aezoo.
    """
    # Not by name: there is a package called `build`.
    location = importlib.util.spec_from_file_location("live_build", DOCS / "live" / "build.py")
    assert location is not None
    assert location.loader is not None
    module = importlib.util.module_from_spec(location)
    sys.modules[location.name] = module
    location.loader.exec_module(module)
    try:
        module.build(APP)
    except AezooError as error:
        raise ExtensionError(f"the live page: {error}") from error
