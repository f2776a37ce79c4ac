"""Sphinx extension: builds the files of the live page into the site."""

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
    app.connect("builder-inited", build)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def build(app: Sphinx) -> None:
    """Builds the files, for builders of HTML only.

    Raises:
        ExtensionError: npm or an extra is missing, or a network cannot be exported.
    """
    if app.builder.format != "html":
        return
    spec = importlib.util.spec_from_file_location("live_build", DOCS / "live" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    try:
        module.build(APP)
    except AezooError as error:
        raise ExtensionError(f"the live page cannot be built: {error}") from error
