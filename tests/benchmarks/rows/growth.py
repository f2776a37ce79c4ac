"""How cost grows: a step's time and memory against batch, latents and k, and a load's time against size."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from loading import large
from measure import slope
from sparse import DENSE, OURS, aezoo_step, dense_step, peak

import aezoo

BASE = {"batch": 512, "latents": 16_384, "k": 32}
SIZES = {
    "batch": (64, 128, 256, 512, 1024, 2048),
    "latents": (1024, 2048, 4096, 8192, 16_384, 32_768),
    "k": (4, 8, 16, 32, 64, 128, 256),
}
WIDTHS = (64, 256, 1000, 4000, 16_000)
Curve = list[tuple[float, float]]
"""Pairs of a size and a median."""


def median(call: Callable[[], object], repeats: int = 5) -> float:
    """Median seconds, after a call for warming up."""
    call()
    seconds: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def curves() -> dict[str, dict[str, Curve]]:
    """Title -> way -> curve."""
    found: dict[str, dict[str, Curve]] = {}
    for name, sizes in SIZES.items():
        for size in sizes:
            n = {**BASE, name: size}
            for way, step in ((OURS, aezoo_step), (DENSE, dense_step)):
                seconds = median(step(784, n["latents"], n["k"], n["batch"]))
                found.setdefault(f"seconds of a step against {name}", {}).setdefault(way, []).append(
                    (size, seconds)
                )
    for name in ("batch", "latents"):
        for size in SIZES[name]:
            n = {**BASE, name: size}
            for way in (OURS, DENSE):
                mib = peak(way, 784, n["latents"], n["k"], n["batch"])
                found.setdefault(f"peak MiB of a step against {name}", {}).setdefault(way, []).append(
                    (size, mib)
                )
    with tempfile.TemporaryDirectory() as place:
        for width in WIDTHS:
            folder = Path(place) / str(width)
            large(width, folder)
            size = (folder / "model.safetensors").stat().st_size / 1e6
            curve = found.setdefault("seconds of a warm load against MB", {}).setdefault("aezoo.load", [])
            curve.append((round(size, 2), median(lambda folder=folder: aezoo.load(folder), 9)))
    return found


def draw(found: dict[str, dict[str, Curve]], path: Path) -> None:
    """Draws the curves on log axes, with their slopes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.4), layout="constrained")
    axes = figure.subplots(2, 3)
    for axis, (title, ways) in zip(axes.flat, found.items(), strict=True):
        for way, curve in ways.items():
            axis.loglog(*zip(*curve, strict=True), marker="o", label=f"{way}, slope {slope(curve):.2f}")
        axis.set_title(title, fontsize=10)
        axis.grid(True, which="both", alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def measure() -> dict[str, dict[str, Curve]]:
    """The curves, with two threads."""
    torch.set_num_threads(2)
    return curves()
