"""The command export: what it prints, what it writes, and exit codes."""

import json
from pathlib import Path

import numpy as np
import pytest

import aezoo
from tests.zoo.conftest import Run, run

__all__ = ["run"]


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    np.save("digits.npy", aezoo.sample_digits().inputs.numpy())
    return "digits.npy"


def test_a_file_is_written_and_described(digits: str, run: Run) -> None:
    given = ("export", "sparse-topk16", "--samples", digits, "--format", "torch")
    code, out, err = run(*given)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "sparse-topk16.pt2: compared with aezoo on 300 samples (digits.npy)",
        "largest difference: latents 0, reconstruction 0",
        "mse: 0.0127634 by aezoo, 0.0127634 by the file",
        "l0: 16 by aezoo, 16 by the file",
    ]
    assert sorted(path.name for path in Path().iterdir()) == [
        "digits.npy",
        "sparse-topk16.pt2",
        "sparse-topk16.pt2.json",
    ]
    code, out, err = run(*given)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert run(*given, "--force")[0] == 0


def test_python_names_the_weights(digits: str, run: Run) -> None:
    code, out, _ = run(
        "export", "fc-64", "--samples", digits, "--format", "python", "-o", "net.py", "--encoder-only"
    )
    assert code == 0
    assert out.splitlines()[0] == "net.py, net.safetensors: compared with aezoo on 300 samples (digits.npy)"


def test_json_has_the_record(digits: str, run: Run) -> None:
    given = (
        "export",
        "fc-64",
        "--samples",
        digits,
        "--with-score",
        "-o",
        "a.py",
        "--json",
        "--format",
        "python",
    )
    code, out, _ = run(*given)
    assert code == 0
    assert json.loads(out) == {"path": "a.py", **json.loads(Path("a.py.json").read_text())}


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "nosuch"),
        ("export", "fc-64", "--samples", "nosuch.npy"),
        ("export", "fc-64", "--samples", "digits.npy", "-o", "fc-64.txt"),
        ("export", "fc-64", "--samples", "digits.npy", "--encoder-only", "--with-score"),
        ("export", "fc-64", "--samples", "digits.npy", "-o", "digits.npy/a.onnx"),
    ],
)
def test_mistakes_are_one_line(digits: str, run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert [path.name for path in Path().iterdir()] == ["digits.npy"]


def test_a_wrong_format_is_wrong_usage(digits: str, run: Run) -> None:
    assert run("export", "fc-64", "--format", "tflite")[0] == 2
