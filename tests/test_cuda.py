"""On an NVIDIA GPU: loading, metrics, training, resuming, inference, export; skipped without one.

`AEZOO_TEST_DEVICE=cpu` runs the same tests on the CPU, which shows only that they are right themselves. What
was measured, such as the largest difference from the CPU, is recorded as a property of each test, which
`make gpu` writes to its report.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

import aezoo
from aezoo import plots
from aezoo.data.datasets.files import data_root
from aezoo.data.transforms import scale_bytes
from aezoo.evaluation.evaluate import TOLERANCE, changed_values, evaluate_variant
from aezoo.zoo.index import zoo_root

DEVICE = torch.device(os.environ.get("AEZOO_TEST_DEVICE", "cuda"))
CUDA = DEVICE.type == "cuda"
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(CUDA and not torch.cuda.is_available(), reason="there is no NVIDIA GPU"),
]
Record = Callable[[str, object], None]

PLUGINS = {
    "sae-topk32": "aezoo_sae", "sae-batchtopk32": "aezoo_sae", "sae-gated": "aezoo_sae",
    "sae-jumprelu32": "aezoo_sae", "sae-matryoshka32": "aezoo_sae", "vq": "aezoo_vq", "fsq": "aezoo_vq",
    "denoise-mixture": "aezoo_corruptions",
}  # fmt: skip
"""Variants of plugins -> the package."""
DIGITS = [
    "fc-64", "deep-64", "conv-fc", "conv-strided", "conv-unpool-max", "conv-unpool-nearest", "conv-upsample",
    "vae-16", "vae-bce", "beta-vae", "sparse-topk16", "sparse-l1", "sparse-kl-weak", "sparse-lifetime5",
    "overcomplete-topk", "contractive", "denoise-gaussian", "denoise-mask", "pca-32", *PLUGINS,
]  # fmt: skip
LOADED = [*DIGITS, "colorize", "swissroll-2", "fc-64.fashion"]
TRAINED = [
    "fc-64", "conv-fc", "conv-strided", "conv-unpool-max", "conv-unpool-nearest", "conv-upsample", "vae-16",
    "vae-bce", "sparse-topk16", "sparse-l1", "sparse-kl-weak", "sparse-lifetime5", "overcomplete-topk",
    "contractive", "denoise-gaussian", "denoise-mask", "deep-2", "linear-pca-32", *PLUGINS,
]  # fmt: skip
"""Every layer, loss, noise and callback that draws, sorts, scatters or keeps state is in one of them."""
AUTOCAST = [
    "fc-64", "conv-fc", "conv-unpool-max", "conv-upsample", "vae-16", "vae-bce", "sparse-topk16",
    "overcomplete-topk", "contractive", *PLUGINS,
]  # fmt: skip
PUBLISHED = [name for name in DIGITS if name not in ("pca-32", "beta-vae")]


# -- data and small trainings -------------------------------------------------------------------------


def require(name: str) -> None:
    """Skips the test if a variant is not in this checkout, or its plugin is left out."""
    if name not in PLUGINS:
        if not (zoo_root() / name).is_dir():
            pytest.skip(f"{name} is not in this checkout")
        return
    found = importlib.util.find_spec(PLUGINS[name])
    if os.environ.get("AEZOO_PLUGINS") == "" or found is None or found.origin is None:
        pytest.skip("plugins are left out")
    if not (Path(found.origin).parent / "zoo" / name).is_dir():
        pytest.skip(f"{name} is not in this checkout")


def bytes_like(shape: tuple[int, ...], n: int, seed: int) -> Tensor:
    """Smooth random images with dark and bright parts, uint8, (n, *shape)."""
    coarse = torch.rand(n, shape[0], 6, 6, generator=Generator().manual_seed(seed))
    x = F.interpolate(coarse, size=shape[1:], mode="bicubic").sub(0.55).mul(4).clamp(0, 1)
    return (255 * x).round().to(torch.uint8)


def samples_of(spec: aezoo.AutoencoderSpec, n: int, seed: int = 0) -> Any:
    """Made-up data for a network: (n, *input shape), with targets if it needs any."""
    parts: list[Tensor] = []
    for number, tensor in enumerate([spec.input] if spec.target is None else [spec.input, spec.target]):
        if tensor.range is None:
            parts.append(torch.randn(n, *tensor.shape, generator=Generator().manual_seed(seed + number)))
        else:
            parts.append(bytes_like(tensor.shape, n, seed + number))
    return parts[0] if len(parts) == 1 else tuple(parts)


def inputs_of(spec: aezoo.AutoencoderSpec, n: int) -> Tensor:
    """Inputs of a network, float32, on the CPU."""
    data = samples_of(spec, n)
    samples = aezoo.Samples(data[0] if isinstance(data, tuple) else data)
    return samples.batch(slice(0, n), spec).input


def short(name: str, epochs: int = 2, **changes: Any) -> aezoo.VariantSpec:
    """The spec of a variant, whose stages take few epochs, without a dataset."""
    require(name)
    data = json.loads(aezoo.get_spec(name).model_dump_json())
    for stage in data["recipe"]["stages"]:
        if "epochs" in stage:
            stage |= {"epochs": epochs, "early_stop": None} if "early_stop" in stage else {"epochs": epochs}
    return aezoo.VariantSpec.model_validate(data).replace(
        {"recipe.dataset": None, "recipe.refit": False, **{f"recipe.{k}": v for k, v in changes.items()}}
    )


def train(spec: aezoo.VariantSpec, data: object = None, **options: Any) -> aezoo.Autoencoder:
    data = samples_of(spec, 700) if data is None else data
    return aezoo.train(spec, data, device=DEVICE, progress=False, **options)


class Stop(aezoo.Callback):
    """Ends a training at the beginning of an epoch."""

    def __init__(self, after: int | None) -> None:
        self.after = after

    def on_epoch_start(self, state: aezoo.TrainingState) -> None:
        if len(state.history) == self.after:
            raise RuntimeError("stopped")


def differences(a: torch.nn.Module, b: torch.nn.Module) -> dict[str, float]:
    """Tensors that differ -> the largest difference; infinite for other names or shapes."""
    first, second = a.state_dict(), b.state_dict()
    if list(first) != list(second):
        return {"names": float("inf")}
    found: dict[str, float] = {}
    for name, value in first.items():
        other = second[name].to(value.device)
        if value.shape != other.shape:
            found[name] = float("inf")
        elif not torch.equal(value, other):
            found[name] = float((value.double() - other.double()).abs().max())
    return found


def losses_of(ae: aezoo.Autoencoder) -> list[float]:
    return [value for record in ae.history for value in record["train"].values()]


def relative(found: Tensor, expected: Tensor) -> Tensor:
    """The largest difference of each row over the largest value of the row, (n,)."""
    a, b = found.detach().cpu().double().flatten(1), expected.detach().cpu().double().flatten(1)
    return (a - b).abs().amax(1) / b.abs().amax(1).clamp(min=1e-6)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Context manager in which a GPU may, or may not, round float32 to TF32."""
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = allowed
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


# -- loading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOADED)
@torch.no_grad()
def test_a_loaded_variant_gives_what_it_gives_on_the_cpu(name: str, record_property: Record) -> None:
    require(name)
    cpu, ae = aezoo.load(name), aezoo.load(name, device=DEVICE)
    assert {tensor.device.type for tensor in ae.state_dict().values()} == {DEVICE.type}
    assert differences(ae, cpu) == {}
    x = inputs_of(cpu.spec, 256)
    expected = cpu(x)
    for label, allowed, half in (("float32", False, False), ("tf32", True, False), ("bf16", True, True)):
        with tf32(allowed), torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=half):
            out = ae(x.to(DEVICE))
        error = relative(out.x_hat, expected.x_hat)
        record_property(f"{label} largest relative difference", float(error.max()))
        record_property(f"{label} median relative difference", float(error.median()))
        if label == "float32":
            # Rounding may decide which latents or codes a sample keeps.
            assert float((error <= 1e-4).double().mean()) >= 0.98, sorted(error.tolist())[-5:]
            assert set(out.aux) == set(expected.aux)
            if not ae.decoder.needs:
                torch.testing.assert_close(ae.decode(ae.encode(x.to(DEVICE))), out.x_hat)


def test_a_loaded_variant_moves_to_the_gpu_and_back() -> None:
    require("fc-64")
    ae = aezoo.load("fc-64")
    fingerprint = ae.fingerprint()
    ae.to(DEVICE)
    assert ae.fingerprint() == fingerprint
    assert ae.describes_weights("metrics")
    assert differences(ae.cpu(), aezoo.load("fc-64")) == {}


# -- metrics ------------------------------------------------------------------------------------------


def has_test_split() -> bool:
    return any((data_root() / "MNIST" / "raw").glob("t10k-images-idx3-ubyte*"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_metrics_are_found(name: str, record_property: Record) -> None:
    if not has_test_split():
        pytest.skip("AEZOO_DATA has no test split of MNIST")
    require(name)
    ae = aezoo.load(name, device=DEVICE)
    found = evaluate_variant(ae)
    errors = {
        metric: abs(entry["value"] - published) / max(abs(published), 1e-9)
        for metric, entry in found.items()
        if entry["value"] is not None and (published := ae.metrics.get(metric, {}).get("value")) is not None
    }
    assert errors
    worst = max(errors, key=lambda metric: errors[metric])
    record_property("largest relative difference", errors[worst])
    record_property("of the metric", worst)
    record_property("tolerance", TOLERANCE)
    assert changed_values(ae, found) == []


@pytest.mark.parametrize("name", ["fc-64", "conv-fc", "conv-strided", "vae-16", "denoise-gaussian", "vq"])
def test_metrics_of_made_up_data_are_those_of_the_cpu(name: str) -> None:
    require(name)
    cpu, ae = aezoo.load(name), aezoo.load(name, device=DEVICE)
    data = samples_of(cpu.spec, 1500, seed=9)
    flags = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    found, expected = (aezoo.evaluate(each, data, dataset="made up", split="test") for each in (ae, cpu))
    assert (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()) == flags
    for metric, entry in expected.items():
        assert found[metric]["value"] == pytest.approx(entry["value"], rel=1e-4), metric
    # Data on the GPU give the same.
    moved = aezoo.evaluate(ae, data.to(DEVICE), dataset="made up", split="test")
    assert {k: v["value"] for k, v in moved.items()} == {k: v["value"] for k, v in found.items()}


@pytest.mark.parametrize("protocol", ["stability", "activity"])
def test_protocols_run(protocol: str) -> None:
    if not has_test_split():
        pytest.skip("AEZOO_DATA has no test split of MNIST")
    require("fc-64")
    found, expected = (
        aezoo.run_protocol(protocol, aezoo.load("fc-64", device=device)) for device in (DEVICE, "cpu")
    )
    for name, entry in expected.items():
        assert found[name]["value"] == pytest.approx(entry["value"], rel=1e-4), name


# -- training -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRAINED)
def test_a_training_gives_the_same_bits_twice_and_when_it_is_resumed(
    name: str, tmp_path: Path, record_property: Record
) -> None:
    spec = short(name)
    flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    first = train(spec)
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == flags
    assert all(np.isfinite(losses_of(first)))
    path = tmp_path / "state.resume"
    with pytest.raises(RuntimeError, match=r"^stopped$"):
        train(spec, resume=path, callbacks=[Stop(1)])
    resumed = train(spec, resume=path, callbacks=[Stop(None)])
    record_property("last loss", first.history[-1]["train"]["loss"])
    assert differences(resumed, first) == {}
    assert losses_of(resumed) == losses_of(first)
    folder = aezoo.save(first, tmp_path / "saved")
    for device in (DEVICE, "cpu"):
        assert differences(aezoo.load(folder, device=device), first) == {}


@pytest.mark.parametrize("name", ["fc-64", "conv-fc", "sparse-topk16", "vae-16"])
def test_a_training_gives_about_the_losses_of_the_cpu(name: str, record_property: Record) -> None:
    spec = short(name)
    data = samples_of(spec, 700)
    cpu = aezoo.train(spec, data, device="cpu", progress=False)
    found, expected = train(spec, data), cpu
    pairs = list(zip(losses_of(found), losses_of(expected), strict=True))
    error = max(abs(a - b) / max(abs(b), 1e-9) for a, b in pairs)
    record_property("largest relative difference of a loss", error)
    # Latents of a variational autoencoder are drawn on the GPU, from another generator.
    assert error < (0.1 if name == "vae-16" else 0.01)


@pytest.mark.parametrize("name", AUTOCAST)
def test_autocast_gives_about_the_losses_of_float32(name: str, record_property: Record) -> None:
    plain, half = (train(short(name, autocast=autocast)) for autocast in (None, "bf16"))
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    loss, expected = (ae.history[-1]["train"]["loss"] for ae in (half, plain))
    record_property("relative difference of the loss", abs(loss - expected) / expected)
    assert loss == pytest.approx(expected, rel=0.05)


def test_a_refit_and_a_checkpoint(tmp_path: Path) -> None:
    callbacks = [{"kind": "checkpoint", "folder": str(tmp_path / "epochs")}]
    spec = short("sparse-topk16", callbacks=callbacks, refit=True)
    ae = train(spec)
    assert ae.training_record["refit"] is True
    last = max((tmp_path / "epochs").iterdir())
    assert differences(aezoo.load(last, device=DEVICE).encoder, ae.encoder) == {}


def test_data_on_the_gpu_train_as_those_on_the_cpu() -> None:
    spec = short("fc-64")
    data = samples_of(spec, 700)
    assert differences(train(spec, data.to(DEVICE)), train(spec, data)).keys() <= {"target_mean"}


def test_a_default_device_changes_nothing() -> None:
    spec = short("sparse-topk16")
    data = samples_of(spec, 700)
    expected = train(spec, data)
    torch.set_default_device(DEVICE)
    try:
        ae = train(spec, data)
        aezoo.evaluate(ae, data, dataset="made up", split="test")
        assert differences(aezoo.load("sparse-topk16"), aezoo.load("sparse-topk16", device=DEVICE)) == {}
    finally:
        torch.set_default_device(None)
    assert differences(ae, expected) == {}


def test_the_memory_of_a_training_is_freed(record_property: Record) -> None:
    if not CUDA:
        pytest.skip("needs a GPU")
    spec = short("fc-64")
    train(spec)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        train(spec)
    more = torch.cuda.memory_allocated() - before
    record_property("bytes left", more)
    assert more < 2**20


TWO_PROCESSES = """
import json, sys
from datetime import timedelta
import torch, torch.distributed as dist
import aezoo
from tests.test_cuda import samples_of
spec, device, rank, size, port, out = json.loads(sys.argv[1])
if size > 1:
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size, timeout=timedelta(seconds=60)
    )
spec = aezoo.VariantSpec.model_validate(spec)
ae = aezoo.train(spec, samples_of(spec, 300), device=device, progress=False)
if rank == 0:
    with open(out, "w") as file:
        json.dump([record["train"]["loss"] for record in ae.history], file)
"""


@pytest.mark.parametrize("name", ["fc-64", "sparse-lifetime5"])
def test_two_processes_on_one_gpu_give_the_losses_of_one(name: str, tmp_path: Path) -> None:
    spec = json.loads(short(name).model_dump_json())
    device = "cuda:0" if CUDA else "cpu"
    found: dict[int, list[float]] = {}
    for size in (1, 2):
        out, port = str(tmp_path / f"{size}.json"), 29500 + os.getpid() % 2000
        root = str(Path(__file__).parents[1])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *sys.path])}
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", TWO_PROCESSES, json.dumps([spec, device, rank, size, port, out])],
                env=environment, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
            for rank in range(size)
        ]  # fmt: skip
        for process in processes:
            text = process.communicate(timeout=100)[0]
            assert process.returncode == 0, text[-2000:]
        found[size] = json.loads(Path(out).read_text())
    assert found[2] == pytest.approx(found[1], rel=1e-4)


# -- inference, export, pictures ----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors"])
@pytest.mark.parametrize("name", ["fc-64", "sparse-topk16"])
def test_files_of_latents_are_those_of_the_cpu(name: str, suffix: str, tmp_path: Path) -> None:
    require(name)
    cpu, ae = aezoo.load(name), aezoo.load(name, device=DEVICE)
    data = samples_of(cpu.spec, 300)
    files = [tmp_path / f"{label}.{suffix}" for label in ("cpu", "gpu", "moved")]
    for file, network, given in zip(files, (cpu, ae, ae), (data, data, data.to(DEVICE)), strict=True):
        aezoo.encode_to_file(network, given, file)
    expected, found, moved = map(arrays_of, files)
    assert found.keys() == moved.keys() == expected.keys()
    for key, values in expected.items():
        assert np.array_equal(found[key], moved[key])
        if np.issubdtype(values.dtype, np.floating):
            np.testing.assert_allclose(found[key], values, rtol=1e-4, atol=1e-4)
    decoded = tmp_path / "decoded.npy"
    aezoo.decode_to(ae, files[1], decoded)
    aezoo.reconstruct_to(ae, data, tmp_path / "made.npy")
    np.testing.assert_allclose(np.load(decoded), np.load(tmp_path / "made.npy"), rtol=1e-4, atol=1e-4)


def arrays_of(file: Path) -> dict[str, np.ndarray[Any, Any]]:
    if file.suffix == ".npy":
        return {"latents": np.load(file)}
    if file.suffix == ".npz":
        with np.load(file) as archive:
            return {name: archive[name] for name in archive.files if archive[name].dtype.kind in "iuf"}
    return {name: tensor.numpy() for name, tensor in safetensors.torch.load_file(file).items()}


def test_scores_and_reconstructions(tmp_path: Path) -> None:
    require("conv-fc")
    cpu, ae = aezoo.load("conv-fc"), aezoo.load("conv-fc", device=DEVICE)
    data, good = samples_of(cpu.spec, 200), samples_of(cpu.spec, 200, seed=4)
    for label, network in (("cpu", cpu), ("gpu", ae)):
        with tf32(False):
            aezoo.score_to_file(
                network, data, tmp_path / f"{label}.npz", calibrate=good, threshold=0.05, explain=True
            )
    expected, found = (np.load(tmp_path / f"{label}.npz") for label in ("cpu", "gpu"))
    np.testing.assert_allclose(found["error"], expected["error"], rtol=1e-4)
    aezoo.reconstruct_to(ae, data[:20], tmp_path / "images")
    assert len(list((tmp_path / "images").glob("*.png"))) == 20


@pytest.mark.parametrize("format", ["torch", "python", "onnx"])
@pytest.mark.parametrize("name", ["fc-64", "conv-upsample", "sparse-topk16", "vq"])
def test_a_network_on_the_gpu_is_exported(name: str, format: str, tmp_path: Path) -> None:
    require(name)
    if format == "onnx":
        for module in ("onnx", "onnxruntime", "onnxscript"):
            pytest.importorskip(module)
    ae = aezoo.load(name, device=DEVICE)
    before = {tensor.device for tensor in ae.state_dict().values()}
    suffix = {"torch": "pt2", "python": "py", "onnx": "onnx"}[format]
    samples = samples_of(ae.spec, 100)
    exported = aezoo.export(
        ae, tmp_path / f"network.{suffix}", format=format, samples=samples.to(DEVICE), with_score=True
    )
    assert exported.path.is_file()
    assert {tensor.device for tensor in ae.state_dict().values()} == before


def test_a_variational_autoencoder_draws_the_samples_of_the_cpu() -> None:
    require("vae-16")
    cpu, ae = aezoo.load("vae-16"), aezoo.load("vae-16", device=DEVICE)
    drawn = ae.sample(16, seed=3)
    assert drawn.device.type == DEVICE.type
    torch.testing.assert_close(drawn.cpu(), cpu.sample(16, seed=3), rtol=1e-4, atol=1e-5)
    on_device = [ae.sample(4, torch.Generator(DEVICE).manual_seed(1)) for _ in range(2)]
    assert torch.equal(*on_device)
    assert ae.sample(2).shape == (2, 1, 28, 28)


def test_pictures_and_a_report(tmp_path: Path) -> None:
    require("sparse-topk16")
    ae = aezoo.load("sparse-topk16", device=DEVICE)
    x = inputs_of(ae.spec, 40).to(DEVICE)
    for figure in (
        plots.reconstructions(ae, x), plots.dictionary(ae), plots.walk(ae, x[:4]), plots.images(x),
        plots.embedding(ae.encode(x), torch.arange(40, device=DEVICE) % 3),
    ):  # fmt: skip
        assert plots.png(figure)
    aezoo.write_report(ae, tmp_path / "report.html", samples_of(ae.spec, 200))
    require("conv-unpool-max")
    aezoo.write_report(
        aezoo.load("conv-unpool-max", device=DEVICE), tmp_path / "conv.html", samples_of(ae.spec, 60)
    )


def test_networks_are_compared() -> None:
    names = ["fc-64", "sparse-topk16"]
    for name in names:
        require(name)
    data = samples_of(aezoo.get_spec("fc-64"), 300)
    found, expected = (
        aezoo.compare([aezoo.load(name, device=device) for name in names], data, fit=data).rows
        for device in (DEVICE, "cpu")
    )
    assert [row.mse for row in found] == pytest.approx([row.mse for row in expected], rel=1e-4)


def test_the_scikit_learn_estimator() -> None:
    pytest.importorskip("sklearn")
    from aezoo.sklearn import AutoencoderDetector, AutoencoderTransformer

    values = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    transformer = AutoencoderTransformer(n_components=3, max_epochs=2, device=str(DEVICE)).fit(values)
    latents = transformer.transform(values)
    assert latents.shape == (200, 3)
    assert transformer.inverse_transform(latents).shape == (200, 8)
    detector = AutoencoderDetector(n_components=3, max_epochs=2, device=str(DEVICE)).fit(values)
    assert set(detector.predict(values)) <= {-1, 1}


# -- operations that a GPU might do in another way ----------------------------------------------------


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0)])
def test_bytes_are_scaled_as_on_the_cpu(value_range: tuple[float, float]) -> None:
    x = torch.arange(256, dtype=torch.uint8)
    found, expected = scale_bytes(x.to(DEVICE), value_range).cpu(), scale_bytes(x, value_range)
    assert found[[0, -1]].tolist() == list(value_range)
    if value_range == (0.0, 1.0):
        assert torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-7)


@pytest.mark.parametrize("scale", [2.0, 1.5])
@pytest.mark.parametrize(
    ("mode", "shape"), [("linear", (9,)), ("bilinear", (7, 5)), ("trilinear", (3, 4, 5))]
)
def test_linear_upsampling_gives_what_pytorch_gives(mode: str, shape: tuple[int, ...], scale: float) -> None:
    from aezoo.model.layers.conv import LinearUpsample

    layer = LinearUpsample(scale_factor=scale, mode=mode, align_corners=False)
    x = torch.randn(8, 3, *shape, generator=Generator().manual_seed(0))
    gradients: list[Tensor] = []
    for device in ("cpu", DEVICE, DEVICE):
        given = x.to(device).detach().requires_grad_()
        out = layer(given)
        torch.testing.assert_close(
            out.detach().cpu(), F.interpolate(x, scale_factor=scale, mode=mode, align_corners=False)
        )
        out.sin().sum().backward()
        gradients.append(given.grad)
    torch.testing.assert_close(gradients[1].cpu(), gradients[0])
    assert torch.equal(gradients[1], gradients[2])
