from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from aezoo.data.datasets import images


@pytest.fixture(autouse=True)
def decoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Runs the test in an empty folder, with an empty cache; returns the folder of decoded images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(images, "in_use", {})
    return tmp_path / "cache" / "aezoo" / "decoded"


@pytest.fixture
def every_warning() -> Iterator[None]:
    """PyTorch issues some warnings once per process, so that an earlier test could have triggered them."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)
