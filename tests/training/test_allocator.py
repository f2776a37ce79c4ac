"""Freed memory is kept during training, unless the environment says otherwise."""

import ctypes
import subprocess
import sys

import pytest

from aezoo.training import allocator

GLIBC = hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
CODE = "from aezoo.training.allocator import keep_freed_memory as keep; print(keep())"


@pytest.mark.skipif(not GLIBC, reason="another C library")
@pytest.mark.parametrize(
    ("name", "expected"), [("AEZOO_NOTHING", "True"), ("MALLOC_TRIM_THRESHOLD_", "False")]
)
def test_the_environment_decides(name: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, "1000000")
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    allocator.keep_freed_memory.cache_clear()
    try:
        assert not allocator.keep_freed_memory()
        allocator.release_freed_memory()
    finally:
        allocator.keep_freed_memory.cache_clear()
