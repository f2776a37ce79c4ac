"""Codes by hand, a codebook that follows its vectors, and the contract through the installed plugin."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from aezoo_vq import CommitmentSpec, FsqSpec, QuantizeSpec
from torch import Generator, Tensor

import aezoo
from aezoo.testing import check_plugin
from aezoo.zoo.load import folder_of
from aezoo.zoo.model_card import card


def quantizer(**fields: Any) -> Any:
    """Two codes at (0, 0) and (1, 1), of two vectors each."""
    layer = QuantizeSpec(**{"codes": 2, "restart": 0.0, **fields}).build((2,))
    layer.load_state_dict({
        "codebook": torch.tensor([[0.0, 0.0], [1.0, 1.0]]), "counts": torch.tensor([2.0, 2.0]),
        "sums": torch.tensor([[0.0, 0.0], [2.0, 2.0]]), "begun": torch.tensor(1.0),
    })  # fmt: skip
    return layer


def test_the_installed_plugin_keeps_the_contract() -> None:
    reports = check_plugin("aezoo-vq")
    assert {report.subject.split(" on ")[0] for report in reports} >= {
        "layer vq.quantize", "layer vq.fsq", "loss vq.commitment", "metric vq.perplexity",
    }  # fmt: skip


def test_pytest_and_the_command_line_run_the_same_checks(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text("def test_nothing(): pass\n")
    commands = {
        "passed": [sys.executable, "-m", "pytest", "-q", "--aezoo-plugin", "aezoo-vq", str(tmp_path)],
        "layer vq.fsq on (3, 4, 4): ": [sys.executable, "-m", "aezoo", "check-plugin", "vq"],
    }  # fmt: skip
    for wanted, command in commands.items():
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert wanted in done.stdout
    found = subprocess.run(
        [sys.executable, "-m", "aezoo", "check-plugin", "none"], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (1, "")
    assert "no installed plugin is called 'none'; there are: " in found.stderr


def test_each_vector_becomes_its_nearest_code() -> None:
    aux: dict[str, Tensor] = {}
    h = torch.tensor([[0.2, 0.1], [0.9, 0.6], [3.0, 3.0]])
    out = quantizer().eval()(h, aux)
    assert torch.allclose(out, torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]))
    assert aux["vq.codes"].tolist() == [0, 1, 1]
    assert torch.allclose(aux["vq.error"], h - out)


def test_images_are_quantised_position_by_position() -> None:
    aux: dict[str, Tensor] = {}
    h = torch.zeros(1, 2, 2, 3)
    h[0, :, 1, 2] = 1.0
    out = quantizer().eval()(h, aux)
    assert torch.equal(out, h)
    assert aux["vq.codes"].tolist() == [[[0, 0, 0], [0, 0, 1]]]


def test_the_gradient_passes_straight_through() -> None:
    h = torch.tensor([[0.2, 0.1]], requires_grad=True)
    (quantizer().eval()(h, {}) * torch.tensor([[3.0, 5.0]])).sum().backward()
    assert torch.equal(h.grad, torch.tensor([[3.0, 5.0]]))


def test_the_codebook_follows_its_vectors_by_moving_averages() -> None:
    layer = quantizer(decay=0.5).train()
    layer(torch.tensor([[0.2, 0.0], [0.4, 0.0]]), {})
    # Counts 2 and 2 become 0.5 * 2 + 0.5 * 2 and 0.5 * 2; sums likewise.
    assert torch.allclose(layer.counts, torch.tensor([2.0, 1.0]))
    assert torch.allclose(layer.codebook, torch.tensor([[0.3 / 2, 0.0], [1.0, 1.0]]))
    layer.eval()(torch.tensor([[0.9, 0.0]]), {})
    assert torch.allclose(layer.codebook, torch.tensor([[0.3 / 2, 0.0], [1.0, 1.0]]))


def test_codes_that_stand_for_nothing_begin_anew_at_vectors_of_the_batch() -> None:
    layer = quantizer(decay=0.0, restart=0.1).train()
    layer(torch.full((4, 2), -5.0), {})
    assert torch.allclose(layer.codebook, torch.full((2, 2), -5.0))


def test_the_first_batch_is_where_codes_begin() -> None:
    layer = QuantizeSpec(codes=3).build((2,)).train()
    x = torch.randn(50, 2, generator=Generator().manual_seed(0)) + 100
    layer(x, {})
    assert float(layer.codebook.min()) > 90


def test_commitment_is_the_distance_from_the_codes() -> None:
    spec = aezoo.AutoencoderSpec.model_validate({
        "input": {"shape": [2]}, "encoder": [{"kind": "vq.quantize", "codes": 2}],
        "decoder": [{"kind": "linear", "out_features": 2}],
    })  # fmt: skip
    ae = aezoo.build(spec).eval()
    x = torch.randn(5, 2, generator=Generator().manual_seed(0))
    out = ae(x)
    batch = aezoo.StepContext(x, x, None, 0.0, 0, Generator())
    value = CommitmentSpec()(out, batch, ae)
    assert float(value) == pytest.approx(float((x - out.latents).square().mean()), rel=1e-5)


def test_an_encoder_without_a_codebook_is_objected_to() -> None:
    assert "end the encoder in vq.quantize" in str(CommitmentSpec().incompatibility(aezoo.load("fc-64")))


@pytest.mark.parametrize("levels", [(2,), (3,), (8, 5, 5), (4, 2)])
def test_every_level_is_reached_and_every_code_is_another(levels: tuple[int, ...]) -> None:
    layer = FsqSpec(levels=levels).build((len(levels),))
    grid = torch.linspace(-4, 4, 200)
    h = torch.tensor(list(itertools.islice(itertools.product(*[grid.tolist()] * len(levels)), 0, None, 37)))
    aux: dict[str, Tensor] = {}
    out = layer(h, aux)
    for channel, count in enumerate(levels):
        values = out[:, channel].unique()
        assert len(values) == count
        assert float(values.min()) == -1.0
        assert float(values.max()) <= 1.0
    pairs = {(tuple(row.tolist()), int(code)) for row, code in zip(out, aux["vq.codes"], strict=True)}
    assert len({row for row, _ in pairs}) == len({code for _, code in pairs}) == len(pairs)
    codes = aux["vq.codes"]
    assert 0 <= int(codes.min()) <= int(codes.max()) < layer.codes


def test_levels_must_be_as_many_as_channels() -> None:
    with pytest.raises(aezoo.LayerError, match="2 levels for the 3 channels"):
        FsqSpec(levels=(4, 4)).build((3,))


def test_use_and_perplexity_are_of_the_codes_that_were_given() -> None:
    spec = aezoo.AutoencoderSpec.model_validate({
        "input": {"shape": [1]}, "encoder": [{"kind": "vq.fsq", "levels": [4]}],
        "decoder": [{"kind": "linear", "out_features": 1}],
    })  # fmt: skip
    ae = aezoo.build(spec)
    x = torch.tensor([[-9.0], [-9.0], [9.0], [9.0]])
    found = aezoo.evaluate(ae, aezoo.Samples(x), dataset="ours", split="test")
    assert found["vq.codebook_use"]["value"] == 0.5
    assert found["vq.perplexity"]["value"] == pytest.approx(2.0)


@pytest.mark.parametrize("name", ["vq", "fsq"])
def test_a_variant_is_there_by_name(name: str) -> None:
    ae = aezoo.load(name)
    x = ae.transforms()(aezoo.sample_digits().inputs)
    with torch.no_grad():
        out = ae(x)
    assert out.aux["vq.codes"].shape == (300, 7, 7)
    assert float((out.x_hat - x).square().mean()) == pytest.approx(ae.metrics["mse"]["value"], rel=0.2)
    assert 0 < ae.metrics["vq.codebook_use"]["value"] <= 1


@pytest.mark.parametrize("name", ["vq", "fsq"])
def test_the_card_is_of_the_folder(name: str) -> None:
    folder = folder_of(name)
    assert (folder / "README.md").read_text() == card(folder, address=name, license="mit")
