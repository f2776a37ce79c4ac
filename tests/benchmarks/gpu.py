"""Tests and absolute times on a CUDA GPU, in at most eight minutes: `make gpu`.

Runs `tests/gpu` and then each timing. A timing that fails leaves its own row empty; what would begin after the
deadline is skipped. The results go to a JSON file, which `bench.py` puts into docs/benchmarks.md.
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import traceback
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo.training.train import deterministic_cuda

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "benchmarks"), str(ROOT / "tests" / "benchmarks" / "rows")]
from sparse import aezoo_step, dense_step  # noqa: E402

REPEATS = 20
TRAINING_IMAGES = 50_000
Timings = dict[str, float | None]


class Timer:
    """Measures calls on a device, in milliseconds: the median of `REPEATS` after three for warming up."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, call: Callable[[], object], repeats: int = REPEATS) -> float:
        for _ in range(3):
            call()
        return statistics.median(self.once(call) for _ in range(repeats))

    def once(self, call: Callable[[], object]) -> float:
        """The milliseconds of one call, until the device has finished."""
        self.wait()
        start = time.perf_counter()
        call()
        self.wait()
        return (time.perf_counter() - start) * 1e3

    def wait(self) -> None:
        """Waits until the device has finished."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def environment(device: torch.device) -> dict[str, Any]:
    """What the numbers depend on."""
    found = {"torch": str(torch.__version__), "python": platform.python_version(), "aezoo": aezoo.__version__}
    if device.type == "cuda":
        properties = cast(Any, torch.cuda).get_device_properties(device)
        found |= {
            "gpu": properties.name,
            "memory": f"{properties.total_memory / 2**30:.0f} GiB",
            "cuda": str(torch.version.cuda),
            "tf32": torch.get_float32_matmul_precision(),
        }
    return found


# -- an epoch -----------------------------------------------------------------------------------------


class Stopwatch(aezoo.Callback):
    """Measures the steps of each epoch."""

    def __init__(self, timer: Timer) -> None:
        self.timer, self.start, self.seconds = timer, 0.0, list[float]()

    def on_epoch_start(self, state: aezoo.TrainingState) -> None:
        self.timer.wait()
        self.start = time.perf_counter()

    def on_epoch_end(self, state: aezoo.TrainingState) -> None:
        self.timer.wait()
        record = state.history[-1]
        self.seconds.append(record["seconds"] * 1e3)


def epoch(name: str, timer: Timer, rows: int, bare: Callable[[], nn.Module]) -> Timings:
    """An epoch inside `aezoo.train`, by a bare loop, and by a compiled bare loop; data on the device."""
    spec = aezoo.get_spec(name)
    images = torch.randint(0, 256, (rows, *spec.input.shape), dtype=torch.uint8)
    stage = {"kind": "fit", "epochs": 5, "optimizer": {"kind": "adam", "lr": 0.001}}
    spec = spec.replace(
        {"recipe.stages": [stage], "recipe.batch_size": 512, "recipe.refit": False, "recipe.numerics": 2}
    )
    watch = Stopwatch(timer)
    aezoo.train(spec, images, device=timer.device, progress=False, callbacks=[watch])
    found: Timings = {"aezoo.train, validation inside": statistics.median(watch.seconds[1:])}
    resident = images[: rows * 9 // 10].to(timer.device)
    for label, compiled in (("bare loop", False), ("bare loop, compiled", True)):
        found[label] = timer(bare_epoch(bare().to(timer.device), resident, compiled), repeats=5)
    return found


def bare_epoch(net: nn.Module, images: Tensor, compiled: bool) -> Callable[[], None]:
    """An epoch of steps of fused Adam on data in memory."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)

    def loss_of(rows: Tensor) -> Tensor:
        x = images[rows].float().div_(255)
        return F.mse_loss(net(x), x)

    loss = torch.compile(loss_of) if compiled else loss_of

    def run() -> None:
        order = torch.randperm(len(images), device=images.device)
        for start in range(0, len(images) // 512 * 512, 512):
            optimizer.zero_grad()
            loss(order[start : start + 512]).backward()
            optimizer.step()

    return run


def fc_64() -> nn.Module:
    """The network of `fc-64`."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 64), nn.LeakyReLU(), nn.Linear(64, 784), nn.LeakyReLU(),
        nn.Unflatten(1, (1, 28, 28)),
    )  # fmt: skip


class Plain(nn.Module):
    """The layers of an autoencoder of aezoo, run one after the other."""

    def __init__(self, name: str) -> None:
        super().__init__()
        ae = aezoo.build(aezoo.get_spec(name))
        self.layers = nn.Sequential(*ae.encoder, *ae.decoder)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


# -- a step of a sparse autoencoder -------------------------------------------------------------------


def sae_lens_step(features: int, latents: int, k: int, rows: int, timer: Timer) -> Callable[[], None]:
    """The same by SAELens; an ImportError without it."""
    lens: Any = importlib.import_module("sae_lens")
    step_input: Any = importlib.import_module("sae_lens.saes.sae").TrainStepInput
    config = lens.TopKTrainingSAEConfig(
        d_in=features, d_sae=latents, k=k, apply_b_dec_to_input=True, rescale_acts_by_decoder_norm=False,
        device=str(timer.device),
    )  # fmt: skip
    sae = lens.TopKTrainingSAE(config).to(timer.device)
    x = torch.rand(rows, features, device=timer.device)
    step: Any = step_input(x, {}, None, n_training_steps=1, is_logging_step=False)

    def run() -> None:
        sae.zero_grad()
        sae.training_forward_pass(step).loss.backward()

    return run


def sparse_step(features: int, latents: int, timer: Timer) -> Timings:
    """A step of a TopK autoencoder, k 32, batch 512."""
    size = (features, latents, 32, 512)
    found: Timings = {"aezoo": timer(aezoo_step(*size, str(timer.device)))}
    for label, compiled in (("by hand", False), ("by hand, compiled", True)):
        found[label] = timer(dense_step(*size, str(timer.device), compiled=compiled))
    if timer.device.type == "cuda":
        with deterministic_cuda():
            found["aezoo, as in aezoo.train"] = timer(aezoo_step(*size, str(timer.device)))
    try:
        found["SAELens"] = timer(sae_lens_step(*size, timer))
    except Exception as error:
        found["SAELens"] = None
        print(f"SAELens: {type(error).__name__}: {error}"[:300], flush=True)
    weight, x = (torch.rand(n, features, device=timer.device) for n in (latents, 512))
    found["the encoder's product"] = timer(lambda: x @ weight.t())
    with aezoo.sparse_kernels(True):
        found["aezoo, sparse kernels"] = timer(aezoo_step(*size, str(timer.device)))
    return found


def growth(timer: Timer, small: bool) -> dict[str, list[list[float]]]:
    """Milliseconds and peak MiB of a step against batch, latents and k: lists of [size, ms, MiB]."""
    base = {"rows": 512, "latents": 16_384, "k": 32}
    sizes = {
        "rows": (64, 128, 256, 512, 1024, 2048, 4096),
        "latents": (1024, 2048, 4096, 8192, 16_384, 32_768, 65_536),
        "k": (4, 8, 16, 32, 64, 128, 256),
    }
    found: dict[str, list[list[float]]] = {}
    for name, values in sizes.items():
        for value in values[:2] if small else values:
            n = {**base, name: value} if not small else {"rows": 64, "latents": 512, "k": 8} | {name: value}
            run = aezoo_step(784, n["latents"], n["k"], n["rows"], str(timer.device))
            ms, peak = timer(run, repeats=7), 0.0
            if timer.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
                run()
                peak = torch.cuda.max_memory_allocated() / 2**20
            found.setdefault(name, []).append([value, round(ms, 4), round(peak, 1)])
    return found


def load_times(timer: Timer) -> Timings:
    """A warm load onto the device."""
    return {
        name: timer(lambda name=name: aezoo.load(name, device=timer.device)) for name in ("fc-64", "vae-16")
    }


# -- running ------------------------------------------------------------------------------------------


def run_tests(device: str, seconds: float) -> dict[str, Any]:
    """The outcome of `tests/gpu`, with the plugins that are installed."""
    report = Path.cwd() / ".gpu-tests.xml"
    command = [
        sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "--confcutdir", "tests/gpu", "-p", "no:cacheprovider",
        "--junitxml", str(report), "tests/gpu",
    ]  # fmt: skip
    found: dict[str, Any] = {}
    try:
        done = subprocess.run(
            command, cwd=ROOT, timeout=seconds, capture_output=True, text=True,
            env={**os.environ, "AEZOO_TEST_DEVICE": device},
        )  # fmt: skip
        found["tail"] = done.stdout[-6000:]
    except subprocess.TimeoutExpired as error:
        return {"error": f"not finished after {seconds:.0f} s", "tail": str(error.stdout)[-3000:]}
    if report.exists():
        (suite,) = ET.parse(report).getroot().iter("testsuite")
        found |= {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
        found["failed"] = [
            f"{case.get('name')}: {problem.get('message', '')[:300]}"
            for case in suite.iter("testcase")
            for problem in (*case.iter("failure"), *case.iter("error"))
        ]
        report.unlink()
    return found


def main() -> None:
    """Runs everything and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=420)
    parser.add_argument("--out", type=Path, default=ROOT / "tests/benchmarks/results/gpu.json")
    parser.add_argument("--small", action="store_true", help="small sizes, to try the script on a CPU")
    parser.add_argument("--no-tests", action="store_true")
    options = parser.parse_args()
    start = time.monotonic()
    timer = Timer(torch.device(options.device))
    rows = 2000 if options.small else TRAINING_IMAGES * 10 // 9
    widths = (256, 512) if options.small else (16_384, 65_536)
    jobs: dict[str, Callable[[], Any]] = {
        "tests": lambda: run_tests(options.device, options.seconds - (time.monotonic() - start)),
        "an epoch of fc-64, batch 512": lambda: epoch("fc-64", timer, rows, fc_64),
        "an epoch of conv-fc, batch 512": lambda: epoch("conv-fc", timer, rows, lambda: Plain("conv-fc")),
        "a step of TopK 784 to 16,384": lambda: sparse_step(784, widths[0], timer),
        "a step of TopK 384 to 65,536": lambda: sparse_step(384, widths[1], timer),
        "a warm load": lambda: load_times(timer),
        "growth": lambda: growth(timer, options.small),
    }
    if options.no_tests:
        del jobs["tests"]
    found: dict[str, Any] = {"environment": environment(timer.device)}
    for name, job in jobs.items():
        began = time.monotonic()
        if began - start > options.seconds:
            found[name] = {"error": "skipped: the time is over"}
            continue
        try:
            found[name] = job()
        except Exception as error:
            found[name] = {
                "error": f"{type(error).__name__}: {error}"[:500],
                "tail": traceback.format_exc()[-1500:],
            }
        print(f"{name}: {time.monotonic() - began:.1f} s", json.dumps(found[name])[:4000], flush=True)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
