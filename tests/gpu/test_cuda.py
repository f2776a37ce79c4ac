"""The same results on a GPU as on the CPU, and the same bits when a training is repeated or resumed.

Skipped without CUDA. `make gpu` runs them with the variants and layers of installed plugins, of which the suite
knows nothing. `AEZOO_TEST_DEVICE=cpu` runs them on the CPU, to test the tests.
"""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import aezoo
from aezoo.data.datasets.files import data_root
from aezoo.errors import CheckpointError, UnknownVariantError
from aezoo.evaluation.evaluate import evaluate_variant

DEVICE = os.environ.get("AEZOO_TEST_DEVICE", "cuda")
TRAINED = (
    "fc-64", "sparse-topk16", "sparse-lifetime5", "sparse-kl-strong", "denoise-gaussian", "denoise-mask", "conv-fc",
    "conv-strided", "conv-unpool-max", "conv-unpool-nearest", "conv-upsample", "vae-16", "vae-bce", "contractive",
    "deep-2", "pca-32", "linear-pca-32", "overcomplete-topk", "sae-topk32", "sae-batchtopk32", "sae-jumprelu32",
    "sae-gated", "sae-matryoshka32", "vq",
)  # fmt: skip
pytestmark = [
    pytest.mark.skipif(
        torch.device(DEVICE).type == "cuda" and not torch.cuda.is_available(), reason="there is no GPU"
    ),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(autouse=True)
def full_precision() -> Generator[None]:
    """Products in float32, without TF32."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def loaded(name: str, device: str = "cpu") -> aezoo.Autoencoder:
    try:
        return aezoo.load(name, device=device)
    except (CheckpointError, UnknownVariantError) as error:
        if isinstance(error, UnknownVariantError) or error.code == "missing-file":
            pytest.skip(f"{name} is not in this copy of the zoo")
        raise


def inputs(ae: aezoo.Autoencoder, rows: int = 64) -> Tensor:
    x = torch.rand(rows, *ae.spec.input.shape, generator=torch.Generator().manual_seed(0))
    if ae.spec.input.range is None:
        return 4 * x - 2
    low, high = ae.spec.input.range
    return low + (high - low) * x


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference in units of the largest value."""
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-6))


@pytest.mark.parametrize("name", aezoo.list_variants())
def test_a_variant_computes_the_same(name: str) -> None:
    on_cpu, ae = loaded(name), loaded(name, DEVICE)
    x = inputs(on_cpu)
    with torch.no_grad():
        expected, found = on_cpu(x), ae(x.to(DEVICE))
        assert found.x_hat.device.type == torch.device(DEVICE).type
        decoded = ae.decode(found.latents, found.aux)
    # A selection among almost equal values may be another one on another device.
    rows = (found.latents.cpu() - expected.latents).flatten(1).abs().amax(
        1
    ) <= 1e-4 * expected.latents.abs().max()
    assert float(rows.float().mean()) >= 0.95
    assert relative(found.x_hat.cpu()[rows], expected.x_hat[rows]) <= 1e-4
    assert relative(decoded, found.x_hat) <= 1e-5
    if on_cpu.spec.output.shape == on_cpu.spec.input.shape:
        with torch.no_grad():
            assert relative(ae.score_samples(x.to(DEVICE)).cpu()[rows], on_cpu.score_samples(x)[rows]) <= 1e-3


@pytest.mark.parametrize("name", ["vae-2", "vae-16"])
def test_samples_are_the_same(name: str) -> None:
    assert relative(loaded(name, DEVICE).sample(8, seed=1).cpu(), loaded(name).sample(8, seed=1)) <= 1e-4


@pytest.mark.data
@pytest.mark.parametrize("name", ["fc-64", "sparse-topk16", "vae-16", "sae-topk32", "vq", "conv-fc"])
def test_published_numbers_are_measured(name: str) -> None:
    if not any((data_root() / "MNIST" / "raw").glob("*-ubyte")):
        pytest.skip(f"no MNIST in {data_root()}")
    ae = loaded(name, DEVICE)
    for metric, entry in evaluate_variant(ae).items():
        published = ae.metrics[metric]["value"]
        if published is not None and entry["value"] is not None:
            assert entry["value"] == pytest.approx(published, rel=2e-3, abs=1e-6), metric


# -- training -----------------------------------------------------------------------------------------


def recipe(name: str, **changes: Any) -> aezoo.VariantSpec:
    """The recipe of a variant, with two epochs in each stage and the newest numerics."""
    try:
        spec = aezoo.get_spec(name)
    except (CheckpointError, UnknownVariantError):
        pytest.skip(f"{name} is not in this copy of the zoo")
    stages = {
        f"recipe.stages.{i}.epochs": 2
        for i, stage in enumerate(spec.recipe.stages)
        if hasattr(stage, "epochs")
    }
    return spec.replace(
        {**stages, "recipe.refit": False, "recipe.numerics": 2, "recipe.init_from": None, **changes}
    )


def images(spec: aezoo.VariantSpec) -> Any:
    """800 images of few pixels, with targets where a spec has others."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(800, *spec.input.shape, generator=generator)
    x = x * (torch.rand(800, *(1 for _ in spec.input.shape), generator=generator) > 0.3)
    if spec.output.shape == spec.input.shape:
        return x
    return x, torch.rand(800, *spec.output.shape, generator=generator)


class Stop(aezoo.Callback):
    """Interrupts a training after its first epoch, unless it is resumed."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_epoch_end(self, state: aezoo.TrainingState) -> None:
        if not self.file.exists():
            self.file.touch()
            raise KeyboardInterrupt


def same(a: aezoo.Autoencoder, b: aezoo.Autoencoder) -> list[str]:
    """Names of the tensors that differ."""
    return [name for name, value in a.state_dict().items() if not torch.equal(value, b.state_dict()[name])]


@pytest.mark.parametrize("name", TRAINED)
def test_a_training_repeats_itself(name: str, tmp_path: Path) -> None:
    spec = recipe(name)
    first = aezoo.train(spec, images(spec), device=DEVICE, progress=False)
    assert next(first.parameters()).device.type == torch.device(DEVICE).type
    again = aezoo.train(spec, images(spec), device=DEVICE, progress=False)
    assert same(first, again) == []
    if any(hasattr(stage, "epochs") for stage in spec.recipe.stages):

        def resumable() -> aezoo.Autoencoder:
            return aezoo.train(
                spec, images(spec), device=DEVICE, progress=False, callbacks=[Stop(tmp_path / "stopped")],
                resume=tmp_path / "state",
            )  # fmt: skip

        with pytest.raises(aezoo.TrainingInterrupted):
            resumable()
        assert same(first, resumable()) == []
    aezoo.save(first, tmp_path / "saved")
    assert same(aezoo.load(tmp_path / "saved", device=DEVICE), first) == []


@pytest.mark.parametrize("name", ["fc-64", "conv-fc", "vae-16", "sae-topk32"])
def test_bfloat16_trains_about_as_well(name: str) -> None:
    losses: list[float] = []
    for autocast in (None, "bf16"):
        spec = recipe(name, **{"recipe.autocast": autocast})
        ae = aezoo.train(spec, images(spec), device=DEVICE, progress=False)
        losses.append(ae.history[-1]["validation"]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_the_cpu_and_the_gpu_start_with_the_same_weights() -> None:
    spec = recipe("fc-64")
    assert same(aezoo.build(spec, seed=3), aezoo.build(spec, seed=3, device=DEVICE).cpu()) == []


# -- using it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fc-64", "conv-fc", "sae-topk32"])
def test_files_are_encoded(name: str, tmp_path: Path) -> None:
    import numpy as np

    ae, on_cpu = loaded(name, DEVICE), loaded(name)
    np.save(tmp_path / "x.npy", inputs(ae, 300).numpy())
    aezoo.encode_to_file(ae, tmp_path / "x.npy", tmp_path / "gpu.npy")
    aezoo.encode_to_file(on_cpu, tmp_path / "x.npy", tmp_path / "cpu.npy")
    found, expected = (np.load(tmp_path / f"{where}.npy") for where in ("gpu", "cpu"))
    assert np.isclose(found, expected, atol=1e-4 * np.abs(expected).max()).mean() > 0.99


def test_what_is_on_a_gpu_is_saved_copied_and_exported(tmp_path: Path) -> None:
    ae = loaded("fc-64", DEVICE)
    aezoo.save(ae, tmp_path / "saved")
    assert aezoo.load(tmp_path / "saved").metrics == ae.metrics
    # The metrics belong to the same weights on another device.
    assert ae.cpu().describes_weights("metrics")
    aezoo.export(loaded("fc-64", DEVICE), tmp_path / "net.py", format="python")
    assert (tmp_path / "net.py").exists()


def test_sparse_kernels_are_left_out_on_a_gpu() -> None:
    spec = aezoo.VariantSpec.model_validate({
        "name": "wide", "summary": "A test.", "input": {"shape": [24]},
        "encoder": [{"kind": "linear", "out_features": 1024}, {"kind": "topk", "k": 8}],
        "decoder": [{"kind": "linear", "out_features": 24}],
        "recipe": {"reconstruction": "mse", "stages": [{"kind": "fit", "epochs": 1}]},
    })  # fmt: skip
    x = torch.rand(128, 24)
    on_cpu, ae = aezoo.build(spec), aezoo.build(spec, device=DEVICE)
    assert (ae(x.to(DEVICE)).code is None) is (torch.device(DEVICE).type == "cuda")
    assert relative(ae(x.to(DEVICE)).x_hat.detach().cpu(), on_cpu(x).x_hat.detach()) <= 1e-4
