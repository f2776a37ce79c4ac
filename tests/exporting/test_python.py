"""Exported Python files: what protects the weights, which layers are refused, and how plugins provide source."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import aezoo
from aezoo.errors import CheckpointError, NotSupportedError
from aezoo.exporting import run
from tests.exporting.networks import load_python, network, pixels, run_python


def test_a_file_runs_in_a_process_without_aezoo(tmp_path: Path) -> None:
    aezoo.export("conv-unpool-max", tmp_path / "a.py", format="python", samples=aezoo.sample_digits())
    script = "import sys, runpy; sys.modules['aezoo'] = None; runpy.run_path('a.py', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "torch.Size([2, 4, 7, 7]) torch.Size([2, 1, 28, 28])\n"


def test_other_weights_are_refused_when_they_are_loaded(tmp_path: Path) -> None:
    aezoo.export(network(), tmp_path / "a.py", format="python", samples=pixels(3))
    names = load_python(tmp_path / "a.py")
    weights = tmp_path / "a.safetensors"
    moved = weights.rename(tmp_path / "b.safetensors")
    assert names["load"](moved).training is False
    content = moved.read_bytes()
    moved.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="expected the sha256"):
        names["load"](moved)


def test_weights_that_exist_are_kept_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_text("old")
    with pytest.raises(CheckpointError, match=r"a\.safetensors exists"):
        aezoo.export(network(), tmp_path / "a.py", format="python", samples=pixels(3))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.safetensors": "old"}
    aezoo.export(network(), tmp_path / "a.py", format="python", samples=pixels(3), force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.py", "a.py.json", "a.safetensors"]


def test_weights_that_were_changed_are_written_as_they_are(tmp_path: Path) -> None:
    ae = aezoo.load("fc-64")
    with torch.no_grad():
        ae.get_parameter("decoder.0.linear.bias").zero_()
    digits = aezoo.sample_digits()
    result = aezoo.export(ae, tmp_path / "a.py", format="python", samples=digits)
    assert result.record["weights_sha256"] is None
    assert "Measured" not in (tmp_path / "a.py").read_text()
    raw = digits.inputs[:3, None]
    assert torch.equal(run_python(tmp_path / "a.py", raw)["latents"], ae.encode(ae.transforms()(raw)))


def test_text_of_a_spec_is_never_run(tmp_path: Path) -> None:
    ae = network()
    words = 'A "network".""" + str(1 / 0) + """\\ \n\x1b[31m \\N{nothing} '
    ae.spec = ae.spec.replace({"summary": words, "references": ['"""1/0"', "\\"]})  # pyright: ignore
    aezoo.export(ae, tmp_path / "a.py", format="python", samples=pixels(3))
    assert "A \"network\".''' + str(1 / 0) + '''" in load_python(tmp_path / "a.py")["__doc__"]


class Scale(nn.Module):
    """A layer of a plugin."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, h: Tensor) -> Tensor:
        return h * self.factor


SOURCE = """
class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, h: Tensor) -> Tensor:
        return h * self.factor
"""


class DescribedScale(Scale):
    def to_python(self) -> aezoo.PythonLayer:
        return aezoo.PythonLayer(f"Scale({self.factor})", (SOURCE,))


class MarkedScale(Scale):
    def to_python(self) -> aezoo.PythonLayer:
        source = SOURCE.replace("h: Tensor)", "h: Tensor, aux: dict[str, Tensor])")
        return aezoo.PythonLayer(f"Scale({self.factor})", (source,), aux=True)


def with_layer(layer: nn.Module) -> aezoo.Autoencoder:
    ae = network()
    ae.encoder.add_module("1", nn.Sequential(ae.encoder[1], layer))
    return ae


def test_a_layer_without_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotSupportedError, match=r"encoder\.1\.1: .*test_python\.Scale has no source form"):
        aezoo.export(with_layer(Scale(2.0)), tmp_path / "a.py", format="python", samples=pixels(3))
    assert list(tmp_path.iterdir()) == []


def test_a_layer_can_provide_its_source(tmp_path: Path) -> None:
    ae = with_layer(DescribedScale(2.0))
    aezoo.export(ae, tmp_path / "a.py", format="python", samples=pixels(3))
    found = run_python(tmp_path / "a.py", pixels(5))["latents"]
    assert torch.equal(found, ae.encode(ae.transforms()(pixels(5))))


def test_a_layer_whose_source_takes_aux(tmp_path: Path) -> None:
    ae = network()
    ae.encoder.add_module("1", MarkedScale(2.0))
    ae.encoder.out_shape = (36,)
    ae.decoder.add_module("0", nn.Linear(36, 36))
    aezoo.export(ae, tmp_path / "a.py", format="python", samples=pixels(3))
    assert float(run_python(tmp_path / "a.py", pixels(1))["latents"].max()) > 1


def test_a_network_with_a_hook_is_refused(tmp_path: Path) -> None:
    ae = network()
    ae.encoder[1].register_forward_hook(lambda *_: None)
    with pytest.raises(NotSupportedError, match=r"encoder\.1 \(Sequential\) has hooks"):
        aezoo.export(ae, tmp_path / "a.py", format="python", samples=pixels(3))


@pytest.mark.parametrize("options", [{}, {"encoder_only": True}, {"with_score": True}])
def test_a_table_keeps_its_columns_in_the_source(tmp_path: Path, options: dict[str, Any]) -> None:
    ae = aezoo.load("swissroll-2")
    ae.columns = ("x", 'it\'s "y"', "z")
    samples = aezoo.load("swissroll-2").transforms().inverse(torch.randn(9, 3))
    aezoo.export(ae, tmp_path / "a.py", format="python", samples=samples.numpy(), **options)
    assert load_python(tmp_path / "a.py")["COLUMNS"] == ae.columns


def test_a_full_disk_keeps_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.py"
    aezoo.export(network(), path, format="python", samples=pixels(3))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(data: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run, "pretty_json", full)
    with pytest.raises(CheckpointError, match=r"a\.py could not be written: No space left on device"):
        aezoo.export(network(), path, format="python", samples=pixels(3), encoder_only=True, force=True)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
