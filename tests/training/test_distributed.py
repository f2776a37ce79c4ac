"""Data-parallel training: the losses and weights of one process, resuming, and failures of a rank."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import aezoo
from aezoo.training.distributed import ProcessGroup
from tests.training.networks import FLAT, greedy, linear, spec_of, stage

SCRIPT = Path(__file__).with_name("distributed_script.py")


def spec(
    encoder: list[Any] | None = None, decoder: list[Any] | None = None, **recipe: Any
) -> aezoo.VariantSpec:
    return spec_of(encoder=encoder, decoder=decoder, **{"stages": [stage(3)], **recipe})


def start(arguments: list[Any], rank: int, size: int, port: int) -> subprocess.Popen[str]:
    group = {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "AEZOO_TIMEOUT": "60",
    }  # fmt: skip
    environment = {**os.environ, **(group if size > 1 else {}), "AEZOO_SILENCE": "dead-latents,loss-rising"}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), json.dumps(arguments)],
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(
    folder: Path, spec: aezoo.VariantSpec, size: int, *, fails: int = 0, resume: Path | None = None
) -> list[tuple[int, str]]:
    """Trains in `size` processes and returns exit code and standard error of each."""
    data = json.loads(spec.model_dump_json())
    arguments = [data, str(folder / f"{size}.json"), fails, resume and str(resume)]
    port = free_port()
    processes = [start(arguments, rank, size, port) for rank in range(size)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    return [(process.returncode, err) for process, err in zip(processes, errors, strict=True)]


def train_in(folder: Path, spec: aezoo.VariantSpec, size: int, resume: Path | None = None) -> list[Any]:
    """Losses, weights and number of processes of a training that must succeed."""
    for code, err in run(folder, spec, size, resume=resume):
        assert code == 0, err
    return json.loads((folder / f"{size}.json").read_text())


SPECS = {
    "plain": spec(),
    "noise and refit": spec(noises=[{"kind": "masking", "share": 0.3}], refit=True),
    "mean over the batch": spec(
        ["flatten", linear(8, activation="sigmoid")], penalties=[{"kind": "kl_sparsity", "weight": 0.1}]
    ),
    "share of the batch": spec(["flatten", linear(8, activation=None), {"kind": "lifetime", "rate": 0.2}]),
    "penalties on weights": spec(
        ["flatten", linear(8)],
        penalties=[{"kind": "contractive", "weight": 0.01}, {"kind": "weight_decay", "weight": 0.001}],
    ),
    "greedy and tied": spec(
        ["flatten", linear(12), linear(4, activation=None)],
        [linear(12), linear(36, activation=None), FLAT],
        stages=[greedy(2, tie=True), stage(1)],
    ),
    "fewer rows than processes": spec(batch_size=3),
    "switches": spec(
        [
            {"kind": "conv", "out_channels": 2, "kernel_size": 3, "padding": 1},
            {"kind": "max_pool", "kernel_size": 2, "switches": "a"},
        ],
        [
            {"kind": "max_unpool", "kernel_size": 2, "switches": "a"},
            {"kind": "conv", "out_channels": 1, "kernel_size": 3, "padding": 1},
        ],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_two_processes_give_the_result_of_one(tmp_path: Path, name: str) -> None:
    (losses, weights, one), (losses_2, weights_2, two) = (
        train_in(tmp_path, SPECS[name], size) for size in (1, 2)
    )
    assert (one, two) == (1, 2)
    flat, flat_2 = (
        torch.tensor([value for epoch in found for part in epoch if part for value in part.values()])
        for found in (losses, losses_2)
    )
    torch.testing.assert_close(flat_2, flat, rtol=1e-5, atol=1e-7)
    for key, value in weights.items():
        torch.testing.assert_close(torch.tensor(weights_2[key]), torch.tensor(value), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_global_batch_norm_uses_the_statistics_of_the_whole_batch(tmp_path: Path) -> None:
    def curve(size: int, declared: bool) -> torch.Tensor:
        encoder = ["flatten", linear(8, activation=None, norm="batch_norm")]
        losses = train_in(tmp_path, spec(encoder, global_batch_norm=declared), size)[0]
        return torch.tensor([epoch[0]["mse"] for epoch in losses])

    alone = curve(1, False)
    torch.testing.assert_close(curve(2, True), alone, rtol=1e-4, atol=0)
    assert not torch.allclose(curve(2, False), alone, rtol=1e-4, atol=0)


@pytest.mark.slow
def test_a_killed_rank_ends_the_others_with_one_line(tmp_path: Path) -> None:
    start_time = time.monotonic()
    (code, err), (killed, _) = run(tmp_path, spec(), 2, fails=2)
    assert (code, killed) == (1, 9)
    (line,) = [text for text in err.splitlines() if text.startswith("refused: ")]
    assert line.startswith("refused: another rank failed or timed out: ")
    assert time.monotonic() - start_time < 60


@pytest.mark.slow
def test_a_resumed_training_of_two_processes_gives_the_same_result(tmp_path: Path) -> None:
    # Ranks draw different dropout masks.
    dropout = spec(["flatten", linear(8, activation=None, dropout=0.3)], stages=[stage(6)])
    expected = train_in(tmp_path, dropout, 2)
    (tmp_path / "2.json").unlink()
    resume = tmp_path / "resume"
    run(tmp_path, dropout, 2, fails=3, resume=resume)
    assert resume.is_file()
    assert not (tmp_path / "2.json").exists()
    assert train_in(tmp_path, dropout, 2, resume=resume) == expected
    assert not resume.exists()


TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = [
    "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
    "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_the_command_line_writes_once_under_a_launcher(launcher: list[str], tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", np.random.default_rng(0).random((60, 1, 6, 6), np.float32))
    array = spec(dataset={"kind": "array", "path": "data.npy"})
    (tmp_path / "spec.yaml").write_text(aezoo.to_yaml(array))
    command = [sys.executable, "-m", *launcher, "-m", "aezoo", "train", "spec.yaml", "--out", "mine"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("load it with") == 1
    assert aezoo.load(tmp_path / "mine").training_record["processes"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npy", "mine", "spec.yaml"]


@pytest.mark.parametrize(("rows", "size"), [(16, 2), (7, 2), (1, 2), (5, 4), (2, 3), (9, 1)])
def test_shards_cover_every_row_once(rows: int, size: int) -> None:
    bounds = [ProcessGroup(rank, size).bounds(rows) for rank in range(size)]
    assert [i for low, high in bounds for i in range(low, high)] == list(range(rows))
    shards = [ProcessGroup(rank, size).shard(torch.arange(rows)) for rank in range(size)]
    assert all(len(shard) >= 1 for shard in shards)
    assert max(len(shard) for shard in shards) == -(-rows // size)


def test_a_single_process_runs_the_network_itself() -> None:
    ae = aezoo.build(spec())
    assert ProcessGroup().forward(ae) is ae
    assert ProcessGroup().broadcast(3) == 3
    assert ProcessGroup().is_main
