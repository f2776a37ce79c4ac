import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugins.installed import Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty folder on `sys.path`; all plugins are enabled."""
    monkeypatch.delenv("AEZOO_PLUGINS", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    site = Site(tmp_path)
    yield site
    for module in site.modules:
        sys.modules.pop(module, None)
