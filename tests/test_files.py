"""Files are written completely or not at all, and only regular files are read."""

import os
from pathlib import Path

import pytest

from aezoo.files import read_limited, write_atomically
from tests.zoo.folders import contents, no_space


def test_a_file_is_replaced_in_one_step_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "index.json"
    write_atomically(path, b"old")
    assert path.stat().st_mode & 0o777 == 0o644
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", no_space)
        with pytest.raises(OSError, match="No space left on device"):
            write_atomically(path, b"something new")
    assert contents(tmp_path) == {"index.json": b"old"}
    with path.open("rb") as reader:
        write_atomically(path, b"new")
        assert reader.read() == b"old"
    assert contents(tmp_path) == {"index.json": b"new"}


def test_a_read_is_limited(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        assert read_limited(tmp_path / name, 3) == b"123"
        assert read_limited(tmp_path / name, 2**62) == b"12345"


def test_a_folder_and_a_pipe_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(OSError, match="not a regular file"):
            read_limited(path, 10)
