"""Warm loads, and what a start costs: `import aezoo`, `aezoo list`, `aezoo show`."""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from measure import Row, compare
from torch import nn

import aezoo
from aezoo.zoo.index import zoo_root

HAND = "read, hash, parse, assign by hand"
INCLUDES = "every check of the load, in a process that has loaded the variant before"


def by_hand(
    folder: Path, network: Callable[[], nn.Sequential], names: dict[str, str]
) -> Callable[[], nn.Sequential]:
    """The least that a verified load must do.

    Args:
        folder: of the variant.
        network: builds the network; on the meta device here.
        names: name of a layer in it -> its name in the file.
    """

    def load() -> nn.Sequential:
        raw = (folder / "model.safetensors").read_bytes()
        hashlib.sha256(raw).hexdigest()
        tensors = safetensors.torch.load(raw)
        with torch.device("meta"):
            net = network()
        state = {f"{n}.{k}": tensors[f"{name}.{k}"] for n, name in names.items() for k in ("weight", "bias")}
        net.load_state_dict(state, assign=True)
        return net

    return load


def warm_load() -> list[Row]:
    """fc-64, 0.4 MB, by name, as a folder, and from the cache of the Hub's client."""
    sys.path.insert(0, str(Path(__file__).parents[3]))
    from tests.hub_server import HubServer

    folder = zoo_root() / "fc-64"

    def network() -> nn.Sequential:
        return nn.Sequential(nn.Linear(784, 64), nn.LeakyReLU(), nn.Linear(64, 784), nn.LeakyReLU())

    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as cache, HubServer() as hub:
        os.environ.update(HF_ENDPOINT=hub.url, HF_HUB_CACHE=cache, NO_PROXY="127.0.0.1")
        commit = hub.add("ann/fc-64", {path.name: path.read_bytes() for path in folder.iterdir()})
        for way, what in (
            ("aezoo.load by name", "fc-64"),
            ("aezoo.load of the folder", folder),
            ("aezoo.load from the Hub's cache", f"hub:ann/fc-64@{commit}"),
        ):
            rows += compare(
                "a warm load of fc-64, 0.4 MB",
                {
                    way: lambda what=what: aezoo.load(what),
                    HAND: by_hand(folder, network, {"0": "encoder.1.linear", "2": "decoder.0.linear"}),
                },
                ours=way,
                bases={HAND: ("overhead", 1.5)},
                includes=INCLUDES,
                rounds=60,
            )
    return rows


def large(width: int, folder: Path) -> Callable[[], nn.Sequential]:
    """Saves an untrained network of `width` latents, and returns a function that builds it by hand."""
    spec = aezoo.AutoencoderSpec.model_validate({
        "input": {"shape": [784]}, "encoder": [{"kind": "linear", "out_features": width}],
        "decoder": [{"kind": "linear", "out_features": 784}],
    })  # fmt: skip
    aezoo.save(aezoo.build(spec), folder)
    return lambda: nn.Sequential(nn.Linear(784, width), nn.Linear(width, 784))


def warm_load_large() -> list[Row]:
    """25 MB."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "large"
        network = large(4000, folder)
        return compare(
            "a warm load of 25 MB",
            {
                "aezoo.load of the folder": lambda: aezoo.load(folder),
                HAND: by_hand(folder, network, {"0": "encoder.0.linear", "1": "decoder.0.linear"}),
            },
            ours="aezoo.load of the folder",
            bases={HAND: ("overhead", 1.2)},
            includes=INCLUDES,
            rounds=15,
        )


def start() -> list[Row]:
    """Seconds beyond `python -c pass`."""
    script = Path(sys.executable).with_name("aezoo")
    commands = {
        "import aezoo": [sys.executable, "-c", "import aezoo"],
        "aezoo list": [str(script), "list"],
        "aezoo show fc-64": [str(script), "show", "fc-64"],
    }

    def run(command: list[str]) -> Callable[[], float]:
        def way() -> float:
            begin = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            return time.perf_counter() - begin

        return way

    empty = run([sys.executable, "-c", "pass"])
    rows: list[Row] = []
    for name, command in commands.items():
        rows += compare(
            name,
            {name: run(command), "python -c pass": empty},
            ours=name,
            bases={"python -c pass": ("overhead", None)},
            includes="a whole process; the aim is at most 0.1 s (import) and 0.3 s (commands) more",
        )
    return rows


ROWS = (warm_load, warm_load_large, start)
