"""A step of a TopK autoencoder: aezoo's sparse kernels against dense layers, and against one dense product."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from measure import Row, compare
from torch import Tensor, nn

import aezoo
from aezoo.model.output import StepContext

OURS, DENSE, PRODUCT = "aezoo", "dense layers by hand", "the encoder's product"
K, ROWS_PER_BATCH = 32, 512
STEP = "forward, loss and backward of a step, without data and optimizer"


def spec_of(features: int, latents: int, k: int = K) -> aezoo.VariantSpec:
    """A TopK autoencoder."""
    return aezoo.VariantSpec.model_validate({
        "name": "wide", "summary": "A benchmark.", "input": {"shape": [features]},
        "encoder": [{"kind": "linear", "out_features": latents}, {"kind": "topk", "k": k}],
        "decoder": [{"kind": "linear", "out_features": features}],
        "recipe": {"reconstruction": "mse", "stages": [{"kind": "fit", "epochs": 1}]},
    })  # fmt: skip


def aezoo_step(
    features: int, latents: int, k: int = K, rows: int = ROWS_PER_BATCH, device: str = "cpu"
) -> Callable[[], None]:
    """A step through `aezoo.Objective`."""
    spec = spec_of(features, latents, k)
    ae, objective = aezoo.build(spec, device=device), aezoo.Objective(spec.recipe)
    x = torch.rand(rows, features, device=device)
    context = StepContext(x, x, None, 0.0, 0, torch.Generator())

    def run() -> None:
        ae.zero_grad()
        objective(ae, context)[0].backward()

    return run


def dense_step(
    features: int, latents: int, k: int = K, rows: int = ROWS_PER_BATCH, device: str = "cpu", *,
    compiled: bool = False,
) -> Callable[[], None]:  # fmt: skip
    """The same by hand."""
    encoder, decoder = nn.Linear(features, latents).to(device), nn.Linear(latents, features).to(device)
    x = torch.rand(rows, features, device=device)

    def loss_of(x: Tensor) -> Tensor:
        h = encoder(x)
        values, index = h.topk(k, dim=1, sorted=False)
        return F.mse_loss(decoder(torch.zeros_like(h).scatter(1, index, values)), x)

    loss = torch.compile(loss_of) if compiled else loss_of

    def run() -> None:
        encoder.zero_grad()
        decoder.zero_grad()
        loss(x).backward()

    return run


def product(features: int, latents: int) -> Callable[[], Tensor]:
    """The one product that finding the largest latents needs."""
    weight, bias, x = torch.rand(latents, features), torch.rand(latents), torch.rand(ROWS_PER_BATCH, features)
    return lambda: F.linear(x, weight, bias)


def steps() -> list[Row]:
    """Two sizes."""
    rows: list[Row] = []
    for features, latents in ((784, 16_384), (384, 65_536)):
        rows += compare(
            f"a step of TopK {features} to {latents:,}, k {K}, batch {ROWS_PER_BATCH}",
            {
                OURS: aezoo_step(features, latents),
                DENSE: dense_step(features, latents),
                PRODUCT: product(features, latents),
            },
            ours=OURS,
            bases={DENSE: ("speedup", 3.0), PRODUCT: ("overhead", 1.8)},
            includes=STEP,
        )
    return rows


BORDER = (
    (784, 512, 16, 256), (784, 512, 32, 64), (784, 1024, 32, 64), (784, 1024, 64, 256), (128, 1024, 16, 128),
    (784, 4096, 256, 256), (64, 4096, 8, 256), (784, 8192, 32, 16),
)  # fmt: skip
"""Features, latents, k and rows around the sizes from which sparse kernels are used."""


def border() -> list[Row]:
    """Where the sparse kernels begin to be faster, by which `aezoo.model.sparse_path` is set."""
    rows: list[Row] = []
    for size in BORDER:
        step = aezoo_step(*size)

        def run(enabled: bool, step: Callable[[], None] = step) -> None:
            with aezoo.sparse_kernels(enabled):
                step()

        features, latents, k, n = size
        rows += compare(
            f"a step of TopK {features} to {latents:,}, k {k}, batch {n}",
            {"sparse kernels": lambda run=run: run(True), "dense layers": lambda run=run: run(False)},
            ours="sparse kernels",
            bases={"dense layers": ("speedup", None)},
            includes=STEP,
            rounds=15,
        )
    return rows


def peak(which: str, features: int, latents: int, k: int = K, rows: int = ROWS_PER_BATCH) -> float:
    """Peak memory of a step in MiB, beyond that before it, in a process of its own."""
    command = [sys.executable, __file__, which, str(features), str(latents), str(k), str(rows)]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=paths)
    return float(done.stdout.split()[-1])


def memory() -> list[Row]:
    """Peak memory of activations and gradients."""
    found = {name: peak(name, 784, 16_384) for name in (OURS, DENSE)}
    row = Row(
        f"peak memory of a step of TopK 784 to 16,384, k {K}, batch {ROWS_PER_BATCH}", OURS, DENSE, "overhead", 0.5,
        "activations and gradients, those of the weights inside; without weights and optimizer",
    )  # fmt: skip
    row.unit, row.seconds = "MB", dict(found)
    row.ratio = found[OURS] / found[DENSE]
    row.interval = (row.ratio, row.ratio)
    return [row]


def _measure_peak(which: str, *size: int) -> None:
    step = aezoo_step(*size) if which == OURS else dense_step(*size)
    # What a first step of a small network allocates once is not counted.
    (aezoo_step if which == OURS else dense_step)(8, 1024, 2, 64)()
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    step()
    print((_status("VmHWM") - before) / 1024)


def _status(name: str) -> int:
    """A number of /proc/self/status, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


ROWS = (steps, memory, border)

if __name__ == "__main__":
    torch.set_num_threads(2)
    _measure_peak(sys.argv[1], *map(int, sys.argv[2:]))
