"""Arguments of wrong types: every public function refuses them with one line of aezoo's own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def endings() -> dict[str, tuple[bool, str]]:
    """Call -> whether it ended in an `AezooError`, and the error."""
    program = Path(__file__).with_name("wrong_arguments.py")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_wrong_argument_is_refused_in_one_line(endings: dict[str, tuple[bool, str]]) -> None:
    assert len(endings) > 100
    assert {call: text for call, (refused, text) in endings.items() if not refused or "\n" in text} == {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            "tensor forward array",
            "DataError: expected a tensor as input, found numpy.ndarray; ae.transforms()",
        ),
        (
            "tensor decode list",
            "DataError: expected a tensor as latents, found list; ae.encode(x) returns them",
        ),
        ("spec train name", "SpecError: expected an instance of VariantSpec, found 'fc-64'; aezoo.get_spec"),
        ("spec build path", "SpecError: expected an instance of AutoencoderSpec, found pathlib.PosixPath; "),
        (
            "spec build class",
            "SpecError: expected an instance of AutoencoderSpec, found the class VariantSpec",
        ),
        ("name load spec", "UnknownVariantError: expected the name of a variant as text, found VariantSpec"),
        ("autoencoder save name", "NotSupportedError: expected an Autoencoder, found str; aezoo.load"),
        ("dtype load text", "NotSupportedError: expected a floating-point dtype such as torch.float32"),
        ("device load unknown", "NotSupportedError: device banana is not available"),
        ("data forward float64", "DataError: the input is torch.float64, the weights are torch.float32"),
        (
            "data forward bytes",
            "DataError: expected a floating-point tensor, found torch.uint8; ae.transforms()",
        ),
        ("data forward meta", "DataError: the input is on meta, the weights are on cpu; move one with .to"),
        (
            "data forward sparse",
            "DataError: expected a dense tensor, found torch.sparse_coo; pass x.to_dense()",
        ),
        (
            "data encode no batch axis",
            "DataError: expected input of shape (batch, 1 x 28 x 28), found (1, 28, 28)",
        ),
    ],
)
def test_the_line_says_what_is_expected(
    endings: dict[str, tuple[bool, str]], call: str, message: str
) -> None:
    assert endings[call][1].startswith(message)
