"""Codebooks in data-parallel training: every process has the codebook of a single process, after every step."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = """
import json, os, sys, warnings
import torch, torch.distributed as dist, aezoo

warnings.simplefilter("ignore")
codebooks, apart = [], [0.0]

class Watch(aezoo.Callback):
    def after_step(self, state):
        mine = state.ae.encoder[1].codebook.detach().clone()
        codebooks.append(mine)
        if dist.is_initialized():
            both = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
            dist.all_gather(both, mine)
            apart.append(float((both[0] - both[1]).abs().max()))

spec = aezoo.VariantSpec.model_validate(json.loads(sys.argv[1]))
generator = torch.Generator().manual_seed(0)
data = torch.randn(320, 3, generator=generator) @ torch.randn(3, 8, generator=generator)
aezoo.train(spec, data, device="cpu", progress=False, callbacks=[Watch()])
if os.environ.get("RANK", "0") == "0":
    print(json.dumps([max(apart), torch.stack(codebooks).tolist()]))
"""


def train(folder: Path, layer: dict[str, Any], size: int) -> tuple[float, torch.Tensor]:
    """Trains in `size` processes; returns how far their codebooks were apart, and that of every step."""
    spec = {
        "name": "q", "summary": "A codebook.", "input": {"shape": [8]},
        "encoder": [{"kind": "linear", "out_features": 4}, layer],
        "decoder": [{"kind": "linear", "out_features": 8}],
        "recipe": {
            "reconstruction": "mse", "penalties": [{"kind": "vq.commitment", "weight": 0.25}],
            "batch_size": 64, "threads": 1, "stages": [{"kind": "fit", "epochs": 2}],
        },
    }  # fmt: skip
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    script = folder / "train.py"
    script.write_text(SCRIPT)
    processes: list[subprocess.Popen[str]] = []
    for rank in range(size):
        group = {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port, "AEZOO_TIMEOUT": "60", "PYTHONPATH": os.pathsep.join(sys.path),
        }  # fmt: skip
        environment = {**os.environ, **(group if size > 1 else {"PYTHONPATH": group["PYTHONPATH"]})}
        processes.append(
            subprocess.Popen(
                [sys.executable, str(script), json.dumps(spec)], env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    outputs = [process.communicate(timeout=120) for process in processes]
    for process, (_, err) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, err
    apart, codebooks = json.loads(outputs[0][0])
    return apart, torch.tensor(codebooks)


@pytest.mark.parametrize("restart", [0.5])
def test_two_processes_have_the_codebook_of_one(restart: float, tmp_path: Path) -> None:
    layer = {"kind": "vq.quantize", "codes": 16, "restart": restart}
    _, alone = train(tmp_path, layer, 1)
    apart, shared = train(tmp_path, layer, 2)
    assert apart == 0
    torch.testing.assert_close(shared, alone, rtol=1e-4, atol=1e-5)
    assert not torch.equal(alone[0], alone[-1])
