"""The commands encode, decode, reconstruct and score: what they print, and exit codes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.zoo.conftest import Run, run

__all__ = ["run"]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images of another size than the network's, one of which is damaged."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(2):
        values = np.random.default_rng(index).integers(0, 256, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"p{index}.jpg")
    (folder / "bad\x1b[31m.png").write_bytes(b"no image")
    return folder


def test_a_folder_goes_through_all_four(photos: Path, run: Run) -> None:
    code, out, err = run("encode", "sparse-topk16", photos, "-o", "l.npz")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "\x1b" not in err
    skip = ("--skip-corrupt", "--quiet")
    code, out, err = run("encode", "sparse-topk16", photos, "-o", "l.npz", *skip)
    assert (code, out) == (
        0,
        "l.npz: 2 samples, 1 skipped\nlatents: 128 bytes per sample for 784, 6.125 times smaller\n",
    )
    assert err.startswith("skipped bad")
    assert "\x1b" not in err
    assert run("decode", "sparse-topk16", "l.npz", "-o", "decoded", "--quiet")[:2] == (
        0,
        "decoded: 2 samples\n",
    )
    assert sorted(path.name for path in Path("decoded").iterdir()) == ["aezoo.json", "p0.png", "p1.png"]
    code, out, _ = run("reconstruct", "denoise-gaussian", "decoded", "-o", "clean", "--json")
    assert (code, json.loads(out)["n"]) == (0, 2)
    with Image.open("clean/p0.png") as image:
        assert image.size == (28, 28)
    code, out, _ = run("score", "fc-64", photos, "-o", "s.csv", *skip)
    assert (code, out) == (0, "s.csv: 2 samples, 1 skipped\n")
    lines = Path("s.csv").read_text().splitlines()
    assert lines[0] == "name,error"
    assert [line.partition(",")[0] for line in lines[1:]] == ["p0.jpg", "p1.jpg"]


def test_a_threshold_is_reported(photos: Path, run: Run) -> None:
    values = np.random.default_rng(0).integers(0, 256, (99, 28, 28), dtype=np.uint8)
    np.save("good.npy", values)
    given = ("--threshold", "0.1", "--calibrate", "good.npy")
    code, out, _ = run("score", "fc-64", "good.npy", "-o", "s.parquet", *given)
    assert code == 0
    assert out.startswith("s.parquet: 99 samples\nanomalous: 9 with an error above ")
    assert out.endswith("; of the calibration samples, 0.09091 are\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("encode", "fc-64", "nothing", "-o", "x.npy"),
        ("encode", "nosuch", "photos", "-o", "x.npy"),
        ("decode", "fc-64", "nothing.npz", "-o", "x"),
        ("reconstruct", "swissroll-2", "photos", "-o", "x"),
        ("score", "colorize", "photos", "-o", "x.csv"),
        ("score", "fc-64", "photos", "-o", "x.csv", "--threshold", "0.1"),
    ],
)
def test_mistakes_are_one_line(photos: Path, run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "Traceback" not in err
    assert sorted(path.name for path in photos.parent.iterdir()) == ["photos"]


def test_a_wrong_usage_exits_with_2(photos: Path, run: Run) -> None:
    assert run("encode", "fc-64", "-o", "x.npy")[0] == 2
    assert run("encode", "fc-64", "photos")[0] == 2


def test_a_damaged_image_may_be_left_out_of_a_report_and_of_a_comparison(photos: Path, run: Run) -> None:
    np.save("fit.npy", np.random.default_rng(0).integers(0, 256, (99, 28, 28), dtype=np.uint8))
    compare = ("compare", "fc-64", "--on", photos, "--fit", "fit.npy", "--quiet")
    report = ("report", "fc-64", "--on", photos, "-o", "r.html", "--quiet")
    for command in (compare, report):
        code, out, err = run(*command)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert "--skip-corrupt" in err
        assert run(*command, "--skip-corrupt")[0] == 0
    assert "2 samples" in run(*compare, "--skip-corrupt")[1]
    for path in photos.glob("*.jpg"):
        path.write_bytes(b"no image")
    for command in (compare, (*report, "--force")):
        code, out, err = run(*command, "--skip-corrupt")
        assert (code, out, err.count("\n")) == (1, "", 1)
