"""Quantization by hand-computed values, published variants, and the contract checks of the installed plugin."""

import itertools
import re
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
    """Two codes at (0, 0) and (1, 1), each with a count of 2."""
    layer = QuantizeSpec(**{"codes": 2, "restart": 0.0, **fields}).build((2,))
    layer.load_state_dict({
        "codebook": torch.tensor([[0.0, 0.0], [1.0, 1.0]]), "counts": torch.tensor([2.0, 2.0]),
        "sums": torch.tensor([[0.0, 0.0], [2.0, 2.0]]), "begun": torch.tensor(1.0),
    })  # fmt: skip
    return layer


def test_installed_plugin_passes_contract_checks() -> None:
    reports = check_plugin("aezoo-vq")
    assert {report.subject.split(" on ")[0] for report in reports} >= {
        "layer vq.quantize", "layer vq.fsq", "loss vq.commitment", "metric vq.perplexity",
    }  # fmt: skip


def test_pytest_option_runs_the_checks_of_the_selected_components(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text("def test_nothing(): pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "--aezoo-plugin", "aezoo-vq", "-k", "fsq", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # The layer, its example, and the variant of this name; not the quantizer, its loss and its metrics.
    assert re.search(r"\b3 passed, \d+ deselected", done.stdout)


def test_the_command_line_names_the_installed_plugins() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "aezoo", "check-plugin", "none"], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (1, "")
    assert "no installed plugin is called 'none'; installed are: " in found.stderr


def test_vectors_are_replaced_by_their_nearest_code() -> None:
    aux: dict[str, Tensor] = {}
    h = torch.tensor([[0.2, 0.1], [0.9, 0.6], [3.0, 3.0]])
    out = quantizer().eval()(h, aux)
    assert torch.allclose(out, torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]))
    assert aux["vq.codes"].tolist() == [0, 1, 1]
    assert torch.allclose(aux["vq.error"], h - out)


def test_images_are_quantized_at_each_position() -> None:
    aux: dict[str, Tensor] = {}
    h = torch.zeros(1, 2, 2, 3)
    h[0, :, 1, 2] = 1.0
    out = quantizer().eval()(h, aux)
    assert torch.equal(out, h)
    assert aux["vq.codes"].tolist() == [[[0, 0, 0], [0, 0, 1]]]


def test_gradient_is_straight_through() -> None:
    h = torch.tensor([[0.2, 0.1]], requires_grad=True)
    (quantizer().eval()(h, {}) * torch.tensor([[3.0, 5.0]])).sum().backward()
    assert torch.equal(h.grad, torch.tensor([[3.0, 5.0]]))


def test_codebook_follows_moving_averages_in_training_only() -> None:
    layer = quantizer(decay=0.5).train()
    layer(torch.tensor([[0.2, 0.0], [0.4, 0.0]]), {})
    # The counts 2 and 2 become 0.5 * 2 + 0.5 * 2 and 0.5 * 2.
    assert torch.allclose(layer.counts, torch.tensor([2.0, 1.0]))
    assert torch.allclose(layer.codebook, torch.tensor([[0.3 / 2, 0.0], [1.0, 1.0]]))
    layer.eval()(torch.tensor([[0.9, 0.0]]), {})
    assert torch.allclose(layer.codebook, torch.tensor([[0.3 / 2, 0.0], [1.0, 1.0]]))


def test_unused_codes_are_reset_to_vectors_of_the_batch() -> None:
    layer = quantizer(decay=0.0, restart=0.1).train()
    layer(torch.full((4, 2), -5.0), {})
    assert torch.allclose(layer.codebook, torch.full((2, 2), -5.0))


def test_codes_are_initialized_to_vectors_of_the_first_batch() -> None:
    layer = QuantizeSpec(codes=3).build((2,)).train()
    x = torch.randn(50, 2, generator=Generator().manual_seed(0)) + 100
    layer(x, {})
    assert float(layer.codebook.min()) > 90


def test_commitment_is_mean_squared_distance_from_the_codes() -> None:
    spec = aezoo.AutoencoderSpec.model_validate({
        "input": {"shape": [2]}, "encoder": [{"kind": "vq.quantize", "codes": 2}],
        "decoder": [{"kind": "linear", "out_features": 2}],
    })  # fmt: skip
    ae = aezoo.build(spec).eval()
    x = torch.randn(5, 2, generator=Generator().manual_seed(0))
    out = ae(x)
    value = CommitmentSpec()(out, aezoo.StepContext(x, x, None, 0.0, 0, Generator()), ae)
    assert float(value) == pytest.approx(float((x - out.latents).square().mean()), rel=1e-5)


def test_commitment_is_incompatible_with_an_encoder_without_codebook() -> None:
    assert "end the encoder in vq.quantize" in str(CommitmentSpec().incompatibility(aezoo.load("fc-64")))


@pytest.mark.parametrize("levels", [(2,), (3,), (8, 5, 5), (4, 2)])
def test_fsq_uses_every_level_and_codes_are_unique(levels: tuple[int, ...]) -> None:
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


def test_fsq_rejects_wrong_number_of_levels() -> None:
    with pytest.raises(aezoo.LayerError, match="2 levels for the 3 channels"):
        FsqSpec(levels=(4, 4)).build((3,))


def test_codebook_use_and_perplexity_count_the_codes() -> None:
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
def test_published_variant_loads_by_name(name: str) -> None:
    ae = aezoo.load(name)
    x = ae.transforms()(aezoo.sample_digits().inputs)
    with torch.no_grad():
        out = ae(x)
    assert out.aux["vq.codes"].shape == (300, 7, 7)
    assert float((out.x_hat - x).square().mean()) == pytest.approx(ae.metrics["mse"]["value"], rel=0.2)
    assert 0 < ae.metrics["vq.codebook_use"]["value"] <= 1


@pytest.mark.parametrize("name", ["vq", "fsq"])
def test_model_card_is_current(name: str) -> None:
    folder = folder_of(name)
    assert (folder / "README.md").read_text() == card(folder, address=name, license="mit")


def test_readme_example_runs() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["codes"].shape == (300, 7, 7)


# -- export -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fsq", "vq"])
def test_variants_are_exported_as_python_bit_for_bit(tmp_path: Path, name: str) -> None:
    digits = aezoo.sample_digits().inputs[:20]
    result = aezoo.export(name, tmp_path / "a.py", format="python", samples=digits)
    assert [value.absolute for value in result.comparison.differences.values()] == [0.0, 0.0]
    assert "aezoo_vq" not in (tmp_path / "a.py").read_text()
