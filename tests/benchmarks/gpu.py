"""Checks and times of aezoo on one NVIDIA GPU: `make gpu`.

    python tests/benchmarks/gpu.py --out gpu.json --seconds 420
    python tests/benchmarks/gpu.py --device cpu --small            # the same script, tried without a GPU

It runs from a checkout, installed or not, and needs no network. The environment comes first, then the tests of
`tests/test_cuda.py`, then times: loading, epochs and steps, inside `aezoo.train` and in loops by hand. A check
that fails is recorded with the end of its traceback, and the others go on; those that the time limit leaves out
are recorded with that reason. The report is written after every check, so that a run that is killed leaves one.

Images are MNIST's if `AEZOO_DATA` names a folder that has them, as files or as `.gz`; otherwise they are made up,
and published metrics are not compared.
"""

import argparse
import gzip
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import traceback
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
RESERVE = 5
"""Seconds at the end in which no check is started."""

Values = dict[str, Any]


# -- the checkout, importable -------------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """Makes the checkout importable, here and in the processes that are started.

    Args:
        folder: temporary; for the metadata of what is not installed, and for unpacked data.
    """
    paths = [str(ROOT), *map(str, PLUGINS)]
    for project in (ROOT, *PLUGINS):
        write_metadata(project, folder)
    paths.append(str(folder))
    sys.path[:0] = [path for path in paths if path not in sys.path]
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *(path for path in known if path)])
    os.environ.setdefault("AEZOO_SILENCE", "dead-latents,loss-rising,identity-risk")
    unpack_data(folder)


def write_metadata(project: Path, folder: Path) -> None:
    """Writes name, version and entry points of a project that is not installed, as an installer would."""
    data = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    try:
        importlib.metadata.version(data["name"])
        return
    except importlib.metadata.PackageNotFoundError:
        pass
    info = folder / f"{data['name'].replace('-', '_')}-{data['version']}.dist-info"
    info.mkdir()
    header = f"Metadata-Version: 2.1\nName: {data['name']}\nVersion: {data['version']}\n"
    (info / "METADATA").write_text(header)
    groups = {group: points for group, points in data.get("entry-points", {}).items() if group != "pytest11"}
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in groups.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


def unpack_data(folder: Path) -> None:
    """Makes a folder of MNIST that torchvision reads, where `AEZOO_DATA` has it packed or the test split only."""
    given = os.environ.get("AEZOO_DATA")
    if given is None:
        # The default folder may hold part of a data set; a download is not possible on such a machine.
        os.environ["AEZOO_DATA"] = str(folder / "no data")
        return
    raw = Path(given).absolute() / "MNIST" / "raw"
    found = {path.name.removesuffix(".gz"): path for path in sorted(raw.glob("*-ubyte*"), reverse=True)}
    parts = [f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
    if parts[2] not in found or all((raw / name).is_file() for name in parts):
        return
    target = folder / "data" / "MNIST" / "raw"
    target.mkdir(parents=True)
    for name in parts:
        path = found.get(name)
        if path is None:
            (target / name).touch()  # torchvision only looks whether it is there
        elif path.suffix == ".gz":
            with gzip.open(path) as source, (target / name).open("wb") as out:
                shutil.copyfileobj(source, out)
        else:
            (target / name).symlink_to(path)
    os.environ["AEZOO_DATA"] = str(folder / "data")


# -- the report ---------------------------------------------------------------------------------------


class Report:
    """What was found; written after every check.

    Args:
        out: the JSON file.
        seconds: time limit of the whole run.
        only: names of the checks to run; empty for all.
    """

    def __init__(self, out: Path, seconds: float, only: list[str]) -> None:
        self.out, self.only = out, only
        self.start = time.monotonic()
        self.end = self.start + seconds
        self.data: Values = {"checks": []}

    @property
    def left(self) -> float:
        """Seconds until the limit."""
        return self.end - time.monotonic() - RESERVE

    def check(self, name: str, function: Callable[[Values], object], *, at_most: float = 110.0) -> None:
        """Runs a check, for `at_most` seconds, and records the values that it adds, and its failure."""
        if self.only and not any(name.startswith(word) for word in self.only):
            return
        record: Values = {"name": name}
        values = Values()
        start = time.monotonic()
        if self.left < 3:
            record |= {"status": "skipped", "reason": "the time limit of the run", "seconds": 0.0}
        else:
            try:
                with time_limit(min(at_most, self.left)):
                    function(values)
                record["status"] = "passed"
                if failed := values.get("failed"):
                    record |= {"status": "failed", "reason": f"{failed} failed"}
            except Skip as reason:
                record |= {"status": "skipped", "reason": str(reason)}
            except Exception as error:
                text = "".join(traceback.format_exception(error))
                reason = f"{type(error).__name__}: {error}"
                record |= {"status": "failed", "reason": reason[:500], "traceback": text[-3000:]}
            record |= {"values": values, "seconds": round(time.monotonic() - start, 2)}
        self.data["checks"].append(record)
        self.write()
        print(f"{record['status']:8}{record['seconds']:8.1f} s  {name}", flush=True)
        for line in [record["reason"]] if "reason" in record else []:
            print(f"    {line.splitlines()[0][:160]}", flush=True)
        for key, value in values.items():
            if key != "tests":
                print(f"    {key}: {shown(value)}", flush=True)

    def write(self) -> None:
        self.data["seconds"] = round(time.monotonic() - self.start, 1)
        new = self.out.with_name(f"{self.out.name}.new")
        new.write_text(json.dumps(self.data, indent=1, default=str) + "\n")
        new.replace(self.out)

    def watch(self) -> None:
        """Ends the process if a check hangs where no signal reaches it."""

        def end() -> None:
            print("the time limit was exceeded; the report has what was found", flush=True)
            self.write()
            os._exit(3)

        timer = threading.Timer(self.end - time.monotonic() + 10, end)
        timer.daemon = True
        timer.start()


class Skip(Exception):
    """Raised by a check that cannot run here; the message is the reason."""


def shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict) and value.keys() == {"median", "least", "most", "n"}:
        return f"{value['median']:.4g} ({value['least']:.4g} to {value['most']:.4g})"
    if isinstance(value, dict):
        return ", ".join(f"{k} {shown(v)}" for k, v in value.items() if k != "traceback")
    return str(value)[:300]


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Context manager that raises TimeoutError in the main thread; limits can be nested."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds:.0f} seconds")

    start = time.monotonic()
    before = signal.signal(signal.SIGALRM, stop)
    outer = signal.setitimer(signal.ITIMER_REAL, seconds)[0]
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, max(0.01, outer - (time.monotonic() - start)) if outer else 0)


# -- the environment and the tests --------------------------------------------------------------------


def environment(found: Values, device: str) -> None:
    """Versions, the GPU, its driver, and the settings that numbers depend on."""
    import torch

    names = (
        "aezoo", "torch", "torchvision", "triton", "numpy", "pydantic", "safetensors", "huggingface-hub", "pytest",
        "beartype", "scikit-learn", "onnx", "onnxruntime", "sae-lens",
    )  # fmt: skip
    versions: Values = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    found |= {
        "python": platform.python_version(), "platform": platform.platform(), "cores": os.cpu_count(),
        "versions": versions, "data": os.environ["AEZOO_DATA"] if has_mnist() else "made up",
    }  # fmt: skip
    if device == "cuda":
        gpu: Any = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": gpu.name, "memory_GiB": gpu.total_memory / 2**30, "multiprocessors": gpu.multi_processor_count,
            "capability": f"{gpu.major}.{gpu.minor}", "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(), "cudnn.allow_tf32": torch.backends.cudnn.allow_tf32,
            "matmul_precision": torch.get_float32_matmul_precision(),
        }  # fmt: skip
        query = ["nvidia-smi", "--query-gpu=driver_version,clocks.sm,power.limit", "--format=csv,noheader"]
        try:
            done = subprocess.run(query, capture_output=True, text=True, timeout=20)
            found["driver, clock, power"] = done.stdout.strip()
        except OSError as error:
            found["driver, clock, power"] = str(error)


def has_mnist(split: str = "t10k") -> bool:
    raw = Path(os.environ["AEZOO_DATA"]) / "MNIST" / "raw"
    return (raw / f"{split}-images-idx3-ubyte").is_file()


def plugins(found: Values) -> None:
    """Whether the plugins of the checkout are found and can be loaded."""
    import aezoo

    found |= {info.name: str(info.error or "loaded") for info in aezoo.list_plugins()}
    if failed := sum(text != "loaded" for text in found.values()):
        found["failed"] = failed


def tests(found: Values, device: str, seconds: float, folder: Path, small: bool) -> None:
    """Runs the tests of a GPU in a process of their own; without `conftest.py`, which leaves plugins out."""
    xml = folder / "tests.xml"
    command = [
        sys.executable, "-m", "pytest", "--noconftest", "-p", "no:cacheprovider", "-q", "-W", "default",
        "--no-header", "--tb=short", "--disable-warnings", f"--junitxml={xml}", "-o", "junit_family=xunit1",
        "tests/test_cuda.py", "tests/training/test_train.py::test_every_available_device_trains",
    ]  # fmt: skip
    if small:
        command += ["-k", "fc-64 or linear or available"]
    if importlib.util.find_spec("xdist") is not None:
        # Their own order: the long ones are not last.
        command += ["-n", str(max(1, min(6, (os.cpu_count() or 2) // 2))), "--dist", "worksteal"]
    environment = {
        **os.environ, "AEZOO_TEST_DEVICE": device, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2",
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    log = folder / "tests.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            code: int | None = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            # As by Ctrl-C, after which pytest writes what it has.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=8)
            except subprocess.TimeoutExpired:
                process.kill()
            code = None
    text = log.read_text(errors="replace")
    if not xml.is_file():
        raise RuntimeError(f"pytest ended with {code} and wrote no report: {text[-2500:]}")
    ran = list(cases(xml))
    found |= {word: sum(case["status"] == word for case in ran) for word in ("passed", "failed", "skipped")}
    for case in ran:
        if case["status"] == "failed":
            print(f"    FAILED {case['name']}: {case['text'].splitlines()[0][:200]}", flush=True)
    slowest = sorted(ran, key=lambda case: -case["seconds"])[:5]
    found |= {"exit": code, "slowest": {case["name"]: case["seconds"] for case in slowest}, "tests": ran}
    if code is None:
        raise TimeoutError(f"after {seconds:.0f} seconds, not all tests had run")
    if code not in (0, 1):
        found["output"] = text[-2000:]


def cases(xml: Path) -> Iterator[Values]:
    """The tests of a JUnit report: name, status, seconds, recorded properties, and the end of a failure."""
    for case in ET.parse(xml).getroot().iter("testcase"):
        record: Values = {"name": case.get("name"), "status": "passed", "seconds": float(case.get("time", 0))}
        for child in case:
            if child.tag in ("failure", "error"):
                text = f"{str(child.get('message'))[:500]}\n{str(child.text)[-2500:]}"
                record |= {"status": "failed", "text": text}
            elif child.tag == "skipped":
                record |= {"status": "skipped", "text": str(child.get("message"))}
            elif child.tag == "properties":
                record["measured"] = {item.get("name"): item.get("value") for item in child}
        yield record


# -- times --------------------------------------------------------------------------------------------


class Times:
    """Times on one device.

    Args:
        device: `cuda` or `cpu`.
        small: whether to shrink everything, to try the script.
    """

    def __init__(self, device: str, small: bool) -> None:
        import torch

        self.device, self.small = torch.device(device), small
        self.rounds = 3 if small else 20
        self.compiles = device == "cuda" or not small

    # -- measuring

    def wait(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def median(self, function: Callable[[], object], rounds: int | None = None, warmup: int = 3) -> Values:
        """Median and range of the milliseconds of a call: by events on a GPU, by the clock on the CPU."""
        import torch

        times: list[float] = []
        for number in range((rounds or self.rounds) + warmup):
            self.wait()
            begin = time.perf_counter()
            if self.device.type == "cuda":
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                function()
                end.record()
                end.synchronize()
                took = start.elapsed_time(end)
            else:
                function()
                took = 1000 * (time.perf_counter() - begin)
            if number >= warmup:
                times.append(took)
        return spread(times)

    def inside_train(self, spec: Any, data: Any, steps: int, **options: Any) -> Values:
        """Milliseconds of an epoch and of a step inside `aezoo.train`, and its peak memory.

        Validation and what happens before and after the epochs are not part of the time; drawing the order of
        the samples, reading batches and summing the losses are.
        """
        import torch

        import aezoo
        from aezoo.training.loop import StageRunner

        times: list[float] = []
        peaks: list[float] = []
        original = StageRunner.train_epoch

        def train_epoch(runner: Any) -> Any:
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            self.wait()
            begin = time.perf_counter()
            found = original(runner)
            self.wait()
            times.append(1000 * (time.perf_counter() - begin))
            if self.device.type == "cuda":
                peaks.append(torch.cuda.max_memory_allocated() / 2**20)
            return found

        StageRunner.train_epoch = train_epoch  # type: ignore[method-assign]
        try:
            begin = time.perf_counter()
            aezoo.train(spec, data, device=self.device, progress=False, **options)
            whole = time.perf_counter() - begin
        finally:
            StageRunner.train_epoch = original  # type: ignore[method-assign]
        return self.epochs(times, steps, peaks) | {"whole_train_s": round(whole, 2)}

    def by_hand(
        self, step: Callable[[Any], Any], x: Any, batch: int, prepare: Callable[[Any], Any]
    ) -> Values:
        """The same of a loop by hand over data that are on the device."""
        import torch

        generator = torch.Generator().manual_seed(0)
        times: list[float] = []
        peaks: list[float] = []
        for _ in range(self.rounds + 2):
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            self.wait()
            begin = time.perf_counter()
            total = torch.zeros((), device=self.device)
            for rows in torch.randperm(len(x), generator=generator).to(self.device).split(batch):
                total += step(prepare(x[rows])).detach() * len(rows)
            float(total)
            self.wait()
            times.append(1000 * (time.perf_counter() - begin))
            if self.device.type == "cuda":
                peaks.append(torch.cuda.max_memory_allocated() / 2**20)
        return self.epochs(times, -(-len(x) // batch), peaks)

    def epochs(self, times: list[float], steps: int, peaks: list[float]) -> Values:
        found = spread(times[2:]) if len(times) > 2 else spread(times)
        values = {"epoch_ms": found, "step_ms": found["median"] / steps}
        return values | ({"peak_MiB": max(peaks[2:] or peaks)} if peaks else {})

    # -- networks and data

    def rows(self, n: int, shape: tuple[int, ...]) -> Any:
        """Made-up data on the CPU: bytes for images, otherwise normal values."""
        import torch

        generator = torch.Generator().manual_seed(0)
        if len(shape) == 3:
            return torch.randint(0, 256, (n, *shape), generator=generator, dtype=torch.uint8)
        return torch.randn(n, *shape, generator=generator)

    def splits(self, n: int, shape: tuple[int, ...]) -> Any:
        """Training data of exactly `n` rows, and a few for validation."""
        import aezoo
        from aezoo.data.inputs import Splits

        train, validation = aezoo.Samples(self.rows(n, shape)), aezoo.Samples(self.rows(500, shape))
        return Splits("made up", train, validation, "made up")

    def spec(self, name: str, batch: int | None = None, **recipe: Any) -> Any:
        """The recipe of a published variant with one stage, as many epochs as are measured."""
        import aezoo

        stage = {"kind": "fit", "epochs": self.rounds + 2, "optimizer": {"kind": "adam", "lr": 0.001}}
        changes = {"stages": [stage], "refit": False, "dataset": None, **recipe}
        changes |= {"batch_size": batch} if batch else {}
        return aezoo.get_spec(name).replace({f"recipe.{key}": value for key, value in changes.items()})

    def sparse_spec(self, features: int, latents: int, k: int, batch: int, **recipe: Any) -> Any:
        """A top-k autoencoder of vectors."""
        import aezoo

        stage = {"kind": "fit", "epochs": self.rounds + 2, "optimizer": {"kind": "adam", "lr": 0.0001}}
        linear = {"kind": "linear", "out_features": latents}
        return aezoo.VariantSpec.model_validate(
            {
                "name": "wide", "summary": "A wide sparse autoencoder.", "input": {"shape": [features]},
                "encoder": [linear, {"kind": "topk", "k": k}],
                "decoder": [{"kind": "linear", "out_features": features}],
                "recipe": {"reconstruction": "mse", "batch_size": batch, "stages": [stage], "threads": 1, **recipe},
            }
        )  # fmt: skip

    def stepper(
        self, net: Any, loss: Callable[[Any], Any], compile: str | None = None
    ) -> Callable[[Any], Any]:
        """A step of fused Adam; `compile` is a mode of `torch.compile` for the loss."""
        import torch

        fused = self.device.type in ("cpu", "cuda")
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=fused)
        run = loss if compile is None else torch.compile(loss, mode=compile, dynamic=False)

        def step(x: Any) -> Any:
            value = run(x)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            return value.detach().clone() if compile == "reduce-overhead" else value

        return step

    def dense_sparse(
        self, features: int, latents: int, k: int, compile: str | None = None
    ) -> Callable[[Any], Any]:
        """The step of a top-k autoencoder as it is usually written: dense products around a scatter.

        `compile` is None, a mode of `torch.compile`, or `bf16` for autocast without compiling.
        """
        import torch
        import torch.nn.functional as F
        from torch import nn

        net = nn.ModuleDict(
            {"encoder": nn.Linear(features, latents), "decoder": nn.Linear(latents, features)}
        )
        net.to(self.device)

        def loss(x: Any) -> Any:
            values, kept = net["encoder"](x).topk(k, dim=1, sorted=False)
            code = torch.zeros(len(x), latents, device=x.device, dtype=values.dtype).scatter(1, kept, values)
            return F.mse_loss(net["decoder"](code), x)

        def half(x: Any) -> Any:
            with torch.autocast(x.device.type, dtype=torch.bfloat16):
                return loss(x)

        return self.stepper(net, half) if compile == "bf16" else self.stepper(net, loss, compile)

    # -- what is measured

    def loading(self, found: Values) -> None:
        """`aezoo.load` onto the device, against reading and assigning by hand, without verification."""
        import safetensors.torch
        import torch

        import aezoo
        from aezoo.zoo.index import zoo_root

        for name in ("fc-64", "conv-fc", "vae-16"):
            folder = zoo_root() / name
            if not folder.is_dir():
                continue
            net = aezoo.build(aezoo.get_spec(name))

            def hand(folder: Path = folder, net: Any = net) -> None:
                state = safetensors.torch.load((folder / "model.safetensors").read_bytes())
                net.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
                for value in state.values():
                    value.to(self.device)

            found[name] = {
                "aezoo_ms": self.median(lambda name=name: aezoo.load(name, device=self.device)),
                "read_ms": self.median(hand),
            }
        if self.device.type == "cuda":
            begin = time.perf_counter()
            torch.zeros(1, device=self.device)
            found["a tensor on the device_ms"] = 1000 * (time.perf_counter() - begin)

    def epoch(self, found: Values, name: str, batch: int) -> None:
        """An epoch of a variant's network: inside `aezoo.train`, by hand, and by hand compiled."""
        import torch.nn.functional as F

        import aezoo

        n = 2048 if self.small else 50_176
        spec = self.spec(name, batch)
        shape = spec.input.shape
        found |= {"rows": n, "batch": batch}
        found["aezoo.train"] = self.inside_train(spec, self.splits(n, shape), -(-n // batch))
        x = self.rows(n, shape).to(self.device)
        ways: dict[str, str | None] = {"by hand": None}
        if self.compiles:
            ways |= {"by hand, compiled": "default", "by hand, CUDA graphs": "reduce-overhead"}
        for way, mode in ways.items():
            if mode == "reduce-overhead" and self.device.type != "cuda":
                continue
            plain = plain_layers(aezoo.build(spec, device=self.device))

            def loss(x: Any, plain: Any = plain) -> Any:
                return F.mse_loss(plain(x), x)

            found[way] = attempt(
                lambda plain=plain, loss=loss, mode=mode: self.by_hand(
                    self.stepper(plain, loss, mode), x, batch, lambda rows: rows.float().div_(255)
                )
            )
            found |= ratios(found)

    def sparse_step(self, found: Values, features: int, latents: int, k: int, batch: int) -> None:
        """A step of a top-k autoencoder: inside `aezoo.train`, and dense by hand, compiled or not."""
        n = batch * (4 if self.small else 20)
        found["steps"] = n // batch
        spec = self.sparse_spec(features, latents, k, batch)
        data = self.splits(n, (features,))
        found["aezoo.train"] = self.inside_train(spec, data, n // batch)
        if self.device.type == "cuda":
            half = self.sparse_spec(features, latents, k, batch, autocast="bf16")
            found["aezoo.train, bf16"] = attempt(lambda: self.inside_train(half, data, n // batch))
        x = data.train.inputs.to(self.device)
        ways: dict[str, str | None] = {"dense by hand": None, "dense by hand, bf16": "bf16"}
        ways |= {"dense by hand, compiled": "default"} if self.compiles else {}
        for way, mode in ways.items():
            found[way] = attempt(
                lambda mode=mode: self.by_hand(
                    self.dense_sparse(features, latents, k, mode), x, batch, lambda rows: rows
                )
            )
            self.free()
            found |= ratios(found)
        found["SAELens"] = attempt(lambda: self.sae_lens(features, latents, k, x, batch))
        found |= ratios(found)

    def sae_lens(self, features: int, latents: int, k: int, x: Any, batch: int) -> Values:
        """The same step by SAELens, if it is installed."""
        if importlib.util.find_spec("sae_lens") is None:
            raise Skip("sae-lens is not installed")
        import torch
        from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig  # pyright: ignore
        from sae_lens.saes.sae import TrainStepInput  # pyright: ignore

        sae = TopKTrainingSAE(
            TopKTrainingSAEConfig(d_in=features, d_sae=latents, k=k, device=str(self.device))
        )
        dead = torch.zeros(latents, dtype=torch.bool, device=self.device)
        optimizer = torch.optim.Adam(sae.parameters(), lr=1e-4, fused=True)

        def step(rows: Any) -> Any:
            given = TrainStepInput(sae_in=rows, coefficients={}, dead_neuron_mask=dead, n_training_steps=0)
            loss = sae.training_forward_pass(given).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return self.by_hand(step, x, batch, lambda rows: rows)

    def scan(self, found: Values) -> None:
        """Step time and peak memory inside `aezoo.train`, and of the dense step, by batch, width and k."""
        base = {"latents": 2048 if self.small else 16_384, "k": 32, "batch": 512}
        points = [
            base, base | {"batch": 128}, base | {"batch": 2048}, base | {"latents": base["latents"] // 4},
            base | {"latents": base["latents"] * 2}, base | {"k": 8}, base | {"k": 128},
        ]  # fmt: skip
        for point in points[:2] if self.small else points:
            n = point["batch"] * (4 if self.small else 10)
            spec = self.sparse_spec(784, point["latents"], point["k"], point["batch"])
            data = self.splits(n, (784,))
            inside = self.inside_train(spec, data, n // point["batch"])
            x = data.train.inputs.to(self.device)
            hand = self.by_hand(
                self.dense_sparse(784, point["latents"], point["k"]), x, point["batch"], lambda rows: rows
            )
            self.free()
            keys = ("step_ms", "peak_MiB")
            found["batch {batch}, latents {latents}, k {k}".format(**point)] = {
                f"{way} {key}": values[key]
                for way, values in (("aezoo", inside), ("dense", hand))
                for key in keys
                if key in values
            }

    def determinism(self, found: Values) -> None:
        """What algorithms that give the same bits in every run cost: cuDNN's, and PyTorch's own mode."""
        import torch
        import torch.nn.functional as F

        import aezoo

        cudnn = torch.backends.cudnn
        n, batch = (1024, 128) if self.small else (12_800, 128)
        x = self.rows(n, (1, 28, 28)).to(self.device)
        flags = cudnn.deterministic
        try:
            for chosen in (False, True):
                cudnn.deterministic = chosen
                for name in ("conv-fc", "conv-strided"):
                    plain = plain_layers(aezoo.build(aezoo.get_spec(name), device=self.device))
                    step = self.stepper(plain, lambda x, plain=plain: F.mse_loss(plain(x), x))
                    label = "deterministic" if chosen else "any algorithm"
                    values = self.by_hand(step, x, batch, lambda rows: rows.float() / 255)
                    found[f"{name}, {label}, step_ms"] = values["step_ms"]
        finally:
            cudnn.deterministic = flags
        width = 1024 if self.small else 16_384
        spec, data = self.sparse_spec(784, width, 32, 512), self.splits(512 * 4, (784,))
        found["top-k, step_ms"] = self.inside_train(spec, data, 4)["step_ms"]
        mode = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            values = attempt(lambda: self.inside_train(spec, data, 4))
            found["top-k, use_deterministic_algorithms, step_ms"] = values.get("step_ms", values)
        finally:
            torch.use_deterministic_algorithms(mode[0], warn_only=mode[1])

    def inference(self, found: Values) -> None:
        """Samples in a second: `ae(x)` on the device, and encoding an array to a file."""
        import torch

        import aezoo

        n = 512 if self.small else 10_000
        with tempfile.TemporaryDirectory() as folder:
            for name in ("fc-64", "conv-fc", "sparse-topk16"):
                ae = aezoo.load(name, device=self.device)
                data = self.rows(n, (1, 28, 28))
                x = data.to(self.device).float() / 255
                plain = plain_layers(ae)
                out = Path(folder) / f"{name}.npy"
                with torch.no_grad():
                    found[name] = {
                        "forward_ms": self.median(lambda ae=ae, x=x: ae(x))["median"],
                        "by hand_ms": self.median(lambda plain=plain, x=x: plain(x))["median"],
                    }
                taken = self.median(
                    lambda ae=ae, out=out, data=data: aezoo.encode_to_file(ae, data, out, force=True), 5, 1
                )
                found[name]["encode_to_file, samples a second"] = n / taken["median"] * 1000

    def free(self) -> None:
        import gc

        import torch

        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def plain_layers(ae: Any) -> Any:
    """The layers of an autoencoder that pass nothing to one another, as an `nn.Sequential`."""
    from torch import nn

    return nn.Sequential(*ae.encoder, *ae.decoder)


def attempt(function: Callable[[], Values], at_most: float = 45.0) -> Values:
    """The values of one way; one that fails, cannot run or takes too long leaves the others as they are."""
    try:
        with time_limit(at_most):
            return function()
    except Skip as reason:
        return {"skipped": str(reason)}
    except Exception as error:
        return {
            "error": f"{type(error).__name__}: {error}"[:400],
            "traceback": traceback.format_exc()[-1500:],
        }


def ratios(found: Values) -> Values:
    """The step of `aezoo.train` over that of every other way."""
    ours = found.get("aezoo.train", {}).get("step_ms")
    others = {
        name: way["step_ms"] for name, way in found.items() if isinstance(way, dict) and way.get("step_ms")
    }
    return (
        {"aezoo.train over": {k: ours / v for k, v in others.items() if k != "aezoo.train"}} if ours else {}
    )


def spread(times: list[float]) -> Values:
    return {"median": statistics.median(times), "least": min(times), "most": max(times), "n": len(times)}


# -- the run ------------------------------------------------------------------------------------------


def main() -> None:
    """Runs all checks and prints a summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="the report")
    parser.add_argument("--seconds", type=float, default=420, help="time limit of the whole run")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="small sizes, to try the script itself")
    parser.add_argument("--data", choices=("auto", "synthetic"), default="auto", help="images")
    parser.add_argument("--only", nargs="*", default=[], help="beginnings of the names of checks")
    options = parser.parse_args()
    if options.data == "synthetic":
        os.environ.pop("AEZOO_DATA", None)
    options.out = options.out.absolute()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    report = Report(options.out, options.seconds, options.only)
    report.watch()
    with tempfile.TemporaryDirectory(prefix="aezoo-gpu-") as place:
        folder = Path(place)
        prepare(folder)
        run(report, options.device, options.small, folder)
    failed = [check["name"] for check in report.data["checks"] if check["status"] == "failed"]
    skipped = [check["name"] for check in report.data["checks"] if check["status"] == "skipped"]
    report.data["failed"], report.data["skipped"] = failed, skipped
    report.write()
    print(
        f"\n{len(report.data['checks'])} checks, {len(failed)} failed {failed}, {len(skipped)} skipped {skipped}"
    )
    print(f"{report.data['seconds']:.0f} seconds; the report is {options.out}")
    sys.exit(1 if failed else 0)


def run(report: Report, device: str, small: bool, folder: Path) -> None:
    """All checks, the most important first."""
    report.check("environment", lambda found: environment(found, device))
    try:
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            sys.exit("there is no NVIDIA GPU; --device cpu tries the script without one")
        torch.set_num_threads(min(4, os.cpu_count() or 1))
        times = Times(device, small)
    except ImportError as error:
        sys.exit(f"PyTorch cannot be imported: {error}")
    report.check("plugins", plugins)
    limit = max(20.0, 0.45 * report.left)
    report.check("tests", lambda found: tests(found, device, limit, folder, small), at_most=limit + 15)
    report.check("time: epoch of fc-64", lambda found: times.epoch(found, "fc-64", 512))
    shape = (784, 2048, 32, 128) if small else (784, 16_384, 32, 512)
    report.check(f"time: sparse step {shape}", lambda found: times.sparse_step(found, *shape))
    report.check("time: loading", times.loading, at_most=30)
    report.check("time: inference", times.inference, at_most=40)
    wide = (384, 4096, 32, 128) if small else (384, 65_536, 32, 512)
    report.check(f"time: sparse step {wide}", lambda found: times.sparse_step(found, *wide))
    report.check("time: epoch of conv-fc", lambda found: times.epoch(found, "conv-fc", 128))
    report.check("time: batch, width, k", times.scan, at_most=70)
    report.check("time: determinism", times.determinism, at_most=60)


if __name__ == "__main__":
    main()
