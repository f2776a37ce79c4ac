"""Measures aezoo side by side with what people use, and writes docs/benchmarks.md: `make bench`.

    python tests/benchmarks/bench.py [WORD ...]

Every function in the `ROWS` of a module in `rows/` runs in a process of its own. Words choose the functions whose
`module.function` contains one of them; rows that are not measured again keep the result of the last run, which is in
`results/cpu.json`.
"""

import importlib
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS, GPU, PAGE = (
    HERE / "results" / "cpu.json",
    HERE / "results" / "gpu.json",
    ROOT / "docs" / "benchmarks.md",
)
PICTURE = ROOT / "docs" / "benchmarks-growth.png"
MODULES = ("training", "sparse", "peers", "encode", "loading", "protocols", "data")
THREADS = 2
LIMIT = 600
"""Seconds after which the process of a function is ended."""
GROWTH = "growth.measure"


def functions() -> list[str]:
    """`module.function` of every comparison, without importing the modules."""
    names: list[str] = []
    for module in MODULES:
        text = (HERE / "rows" / f"{module}.py").read_text()
        (line,) = [line for line in text.splitlines() if line.startswith("ROWS = (")]
        names += [f"{module}.{name.strip()}" for name in line[8:].rstrip(")").split(",") if name.strip()]
    return [*names, GROWTH]


def run_here(name: str) -> object:
    """Runs one function in this process, and returns its rows as plain data."""
    sys.path[:0] = [str(HERE), str(HERE / "rows"), str(ROOT)]
    import torch

    torch.set_num_threads(THREADS)
    module, _, function = name.partition(".")
    found = getattr(importlib.import_module(module), function)()
    return found if name == GROWTH else [row.as_json() for row in found]


def run(name: str) -> dict[str, Any]:
    """Runs one function in a process of its own."""
    start, load = time.monotonic(), os.getloadavg()[0]
    record: dict[str, Any] = {"date": datetime.now(UTC).date().isoformat(), "load_before": round(load, 1)}
    command = [sys.executable, "-W", "ignore", __file__, "--run", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        record["rows"] = json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        record["error"] = f"not finished after {LIMIT} s"
    except (ValueError, IndexError):
        record["error"] = (done.stderr.strip().splitlines() or ["no output"])[-1][:300]
    record["minutes"] = round((time.monotonic() - start) / 60, 1)
    return record


def environment() -> dict[str, str]:
    """What the numbers depend on."""
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")),
        platform.processor(),
    )  # fmt: skip
    return {
        "machine": f"{model}, {os.cpu_count()} cores", "threads": str(THREADS), "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "scikit-learn", "aezoo")},
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
    }  # fmt: skip


# -- the page -----------------------------------------------------------------------------------------

HEAD = """# Benchmarks

Written by `make bench`, which measures aezoo side by side with what people use. The ways of a row run in turn, in an
order that changes with every round, after a round for warming up. A ratio is taken within each round; the table has
their median, and a 95 % bootstrap interval of it in brackets. **Overhead** is our time over that of the other way
(lower is better, 1 is equal), **speedup** its time over ours (higher is better). *Aim* is what was to be reached
before anything was measured; **no** marks a row whose interval does not reach it. No absolute time is a test. Other
libraries run in environments of their own (`tests/benchmarks/peers/`); one that cannot be installed is null.

"""


def page(results: dict[str, Any]) -> str:
    """docs/benchmarks.md."""
    lines = [HEAD, "| machine | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in results["environment"].items()]
    for module in MODULES:
        doc = (HERE / "rows" / f"{module}.py").read_text().split('"""')[1].strip().split("\n\n")[0]
        lines += ["", f"## {' '.join(doc.split())}", ""]
        lines += [
            "| what | against | ratio | aim | ours | theirs | measured time |",
            "|---|---|---|---|---|---|---|",
        ]
        for name in functions():
            if name.startswith(f"{module}."):
                lines += rows_of(name, results["runs"].get(name, {"error": "not measured"}))
    lines += ["", *growth_section(results["runs"].get(GROWTH, {}))]
    lines += ["", *gpu_section()]
    lines += ["", NOTES.strip(), ""]
    return "\n".join(lines)


def rows_of(name: str, record: dict[str, Any]) -> list[str]:
    """The lines of one function."""
    if "error" in record:
        return [f"| `{name}` | | null | | | | {record['error']} |"]
    lines: list[str] = []
    for row in record["rows"]:
        ratio = f"null: {row['reason']}"
        if row["ratio"] is not None:
            low, high = row["interval"]
            spread = "" if low == high else f" [{low:.2f}, {high:.2f}]"
            ratio = f"{row['kind']} **{row['ratio']:.2f}**{spread}"
        aim = "" if row["aim"] is None else f"{'≤' if row['kind'] == 'overhead' else '≥'} {row['aim']:g}"
        if row["reached"] is False:
            aim += " **no**"
        ours, theirs = (amount(row["seconds"].get(way), row["unit"]) for way in (row["ours"], row["base"]))
        lines.append(
            f"| {row['title']}: {row['ours']} | {row['base']} | {ratio} | {aim} | {ours} | {theirs} | {row['includes']} |"
        )
    return lines


def amount(value: float | None, unit: str) -> str:
    """A number with its unit."""
    if value is None:
        return "null"
    if unit == "MB":
        return f"{value:.0f} MiB"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def growth_section(record: dict[str, Any]) -> list[str]:
    """The curves, as a picture and as slopes."""
    lines = ["## How cost grows", ""]
    if "rows" not in record:
        return [*lines, f"null: {record.get('error', 'not measured')}"]
    from measure import slope

    lines += [
        "A step (forward, loss, backward) of TopK 784 to 16,384, k 32, batch 512, with one of the sizes changed, and a",
        "warm load. The slope is the exponent of a power law fitted to the larger half of the sizes.", "",
        f"![Curves on log axes]({PICTURE.name})", "", "| what | way | smallest | largest | slope |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for title, ways in record["rows"].items():
        for way, curve in ways.items():
            ends = (f"{size:g}: {value:.4g}" for size, value in (curve[0], curve[-1]))
            lines.append(f"| {title} | {way} | {' | '.join(ends)} | {slope(curve):.2f} |")
    return lines


def gpu_section() -> list[str]:
    """What `make gpu` found."""
    lines = ["## On a GPU", ""]
    if not GPU.exists():
        return [*lines, "null: `make gpu` has not been run on a machine with a CUDA GPU."]
    found: dict[str, Any] = json.loads(GPU.read_text())
    where = ", ".join(f"{name} {value}" for name, value in found.pop("environment").items())
    tests = found.pop("tests", {})
    passed = (
        tests.get("tests", 0) - tests.get("failures", 0) - tests.get("errors", 0) - tests.get("skipped", 0)
    )
    growth = found.pop("growth", {})
    lines += [
        f"Absolute times by `make gpu` ({where}). Of the {tests.get('tests', 0)} tests of `tests/gpu`, {passed} passed,",
        f"{tests.get('failures', 0) + tests.get('errors', 0)} failed and {tests.get('skipped', 0)} were skipped (variants",
        "that were not in that copy of the zoo). They compare every variant with the CPU, repeat and resume trainings to",
        "the bit, and train in bfloat16.", "", "| what | way | ms |", "|---|---|---|",
    ]  # fmt: skip
    for title, ways in found.items():
        lines += [
            f"| {title} | {way} | {'null' if ms is None else f'{ms:.3g}'} |" for way, ms in ways.items()
        ]
    lines += [
        "",
        "| a step of TopK 784 to 16,384 on the GPU against | sizes | ms | peak MiB |",
        "|---|---|---|---|",
    ]
    for name, curve in growth.items():
        columns = (", ".join(f"{point[i]:g}" for point in curve) for i in range(3))
        lines.append(f"| {name} | {' | '.join(columns)} |")
    return lines


NOTES = """
## Where the time goes

- **A step of a wide TopK autoencoder** is the encoder's product (two thirds to three quarters of the step), the two
  weight gradients (a sixth; most of it is writing fresh memory), and the selection of the k largest (a twentieth). The
  reconstruction and the gradient of the kept values take less than a hundredth.
- **An epoch of `fc-64`** is matrix products and Adam; what aezoo adds in Python is about 50 µs per step. Rows are copied
  whole (`index_select`), which is eight times as fast as indexing.
- **bfloat16** (`recipe.autocast: bf16`) is declared in a recipe; the first table has its gain on this CPU. Losses stay
  within 5 % (`tests/gpu`, which also runs on a CPU). **`torch.compile`** gains nothing over aezoo's loop here, nor over a
  bare loop on the GPU above, and is not an option of recipes; a network can be compiled as a whole graph.
- **A warm load** is reading, hashing and parsing. The checks that depend on the bytes of `config.json` alone are done
  once in a process, and the network is copied from a prototype.
- **Memory of a wide step**: of aezoo's peak, the gradients of the two weights are nine tenths, which any equal
  mathematics needs; the curves above show how the rest grows with the batch.
- **`encode_to_file`** hashes the inputs for its stamp, which for a network as small as `fc-64` takes longer than encoding.

## On your machine

- **Freed memory.** glibc returns every large tensor to the system, and the next step pays for fresh pages. `aezoo.train`
  and `aezoo.Objective` tell it to keep them (`aezoo/training/allocator.py`). In a program without either, start Python
  with `MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=1073741824`; the bits are the same.
- **A busy machine.** Threads of PyTorch wait for one another by spinning. Where other programs use the cores, set
  `OMP_WAIT_POLICY=PASSIVE`, or train with one thread.
- **Denormal numbers** are rounded to zero in `aezoo.train` (`recipe.numerics: 2`) and `aezoo.evaluate`; in a loop of your
  own, call `torch.set_flush_denormal(True)` before the first parallel operation.
"""


def main(words: list[str]) -> None:
    """Measures, prints and writes the page."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": {}}
    sys.path[:0] = [str(HERE), str(HERE / "rows"), str(ROOT)]
    for name in functions():
        if words and not any(word in name for word in words):
            continue
        results["environment"] = environment()
        results["runs"][name] = record = run(name)
        print(f"\n{name}, {record['minutes']} min", flush=True)
        print("\n".join(rows_of(name, record) if name != GROWTH else growth_section(record)), flush=True)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    if "rows" in results["runs"].get(GROWTH, {}):
        from growth import draw

        draw(results["runs"][GROWTH]["rows"], PICTURE)
    PAGE.write_text(page(results))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        print(json.dumps(run_here(sys.argv[2])))
    else:
        main(sys.argv[1:])
