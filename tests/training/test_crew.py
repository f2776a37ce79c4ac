"""Several processes on shares of every batch: the same losses as one, and a clear end when one dies."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import aezoo
from aezoo.training.distributed import ProcessGroup
from tests.examples import small

BACK = {"kind": "unflatten", "shape": [1, 6, 6]}
SCRIPT = """
import json, os, sys
import torch
import aezoo

spec, out, dies, resume = json.loads(sys.argv[1])
rank = int(os.environ.get("RANK", "0"))


class Dies(aezoo.Callback):
    def on_epoch_end(self, state):
        if rank == 1 and state.epoch == dies:
            os._exit(9)
        if rank == 0 and dies and state.epoch == -dies:
            raise KeyboardInterrupt


x = torch.rand(101, 1, 6, 6, generator=torch.Generator().manual_seed(0))
try:
    ae = aezoo.train(
        aezoo.VariantSpec.model_validate(spec), x, callbacks=[Dies()], progress=False, resume=resume
    )
except aezoo.TrainingError as error:
    sys.exit(f"refused: {error}")
if rank == 0:
    losses = [[h["train"], h.get("validation")] for h in ae.history]
    weights = {name: tensor.tolist() for name, tensor in ae.state_dict().items()}
    with open(out, "w") as file:
        json.dump([losses, weights, ae.training_record["processes"]], file)
"""


def linear(features: int, **options: Any) -> dict[str, Any]:
    return {"kind": "linear", "out_features": features, **options}


def spec_of(
    encoder: list[Any] | None = None, decoder: list[Any] | None = None, **recipe: Any
) -> dict[str, Any]:
    data = small()
    data["encoder"], data["decoder"] = encoder or data["encoder"], decoder or data["decoder"]
    stages = [{"kind": "fit", "epochs": 3}]
    data["recipe"] = {
        "reconstruction": "mse", "batch_size": 16, "threads": 1, "stages": stages, **recipe
    }  # fmt: skip
    return data


def start(
    folder: Path,
    spec: dict[str, Any],
    rank: int,
    size: int,
    port: int,
    dies: int = 0,
    resume: str | None = None,
) -> subprocess.Popen[str]:
    (folder / "one.py").write_text(SCRIPT)
    crew = {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "AEZOO_TIMEOUT": "60", "AEZOO_SILENCE": "dead-latents,loss-rising",
    }  # fmt: skip
    argument = json.dumps([spec, str(folder / f"{size}.json"), dies, resume])
    environment = {**os.environ, **(crew if size > 1 else {}), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, str(folder / "one.py"), argument],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def together(folder: Path, spec: dict[str, Any], size: int, **options: Any) -> list[tuple[int, str]]:
    """Exit code and standard error of every process."""
    port = free_port()
    processes = [start(folder, spec, rank, size, port, **options) for rank in range(size)]
    ended: list[tuple[int, str]] = []
    for process in processes:
        _, err = process.communicate(timeout=120)
        ended.append((process.returncode, err))
    return ended


CASES = {
    "plain": spec_of(),
    "noise and refit": spec_of(noises=[{"kind": "masking", "share": 0.3}], refit=True),
    "a mean over the batch": spec_of(
        ["flatten", linear(8, activation="sigmoid")], penalties=[{"kind": "kl_sparsity", "weight": 0.1}]
    ),
    "a share of the batch": spec_of(["flatten", linear(8), {"kind": "lifetime", "rate": 0.2}]),
    "penalties on weights": spec_of(
        ["flatten", linear(8, activation="tanh")],
        penalties=[{"kind": "contractive", "weight": 0.01}, {"kind": "weight_decay", "weight": 0.001}],
    ),
    "greedy and tied": spec_of(
        ["flatten", linear(12, activation="tanh"), linear(4)],
        [linear(12, activation="tanh"), linear(36), BACK],
        stages=[{"kind": "greedy", "epochs": 2, "tie": True}, {"kind": "fit", "epochs": 1}],
    ),
    "fewer rows than processes": spec_of(batch_size=3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_learn_what_one_does(tmp_path: Path, name: str) -> None:
    assert together(tmp_path, CASES[name], 1)[0][0] == 0
    assert [code for code, _ in together(tmp_path, CASES[name], 2)] == [0, 0]
    (losses, weights, alone), (their_losses, their_weights, two) = (
        json.loads((tmp_path / f"{size}.json").read_text()) for size in (1, 2)
    )
    assert (alone, two) == (1, 2)
    flat, theirs = (
        [value for parts in found for part in parts if part for value in part.values()]
        for found in (losses, their_losses)
    )
    torch.testing.assert_close(torch.tensor(theirs), torch.tensor(flat), rtol=1e-5, atol=1e-7)
    for key, value in weights.items():
        expected = torch.tensor(value)
        torch.testing.assert_close(torch.tensor(their_weights[key]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_batch_norm_spans_the_batch_where_that_is_declared(tmp_path: Path) -> None:
    curves: dict[bool, Any] = {}
    for declared in (True, False):
        spec = spec_of(["flatten", linear(8, norm="batch_norm")], global_batch_norm=declared)
        assert [code for code, _ in together(tmp_path, spec, 2)] == [0, 0]
        curves[declared] = torch.tensor(
            [h[0]["mse"] for h in json.loads((tmp_path / "2.json").read_text())[0]]
        )
    assert together(tmp_path, spec, 1)[0][0] == 0
    alone = torch.tensor([h[0]["mse"] for h in json.loads((tmp_path / "1.json").read_text())[0]])
    torch.testing.assert_close(curves[True], alone, rtol=1e-4, atol=0)
    assert not torch.allclose(curves[False], alone, rtol=1e-4, atol=0)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others_in_one_line(tmp_path: Path) -> None:
    clock = time.monotonic()
    (code, err), (died, _) = together(tmp_path, spec_of(), 2, dies=2)
    assert died == 9
    assert code == 1
    (line,) = [text for text in err.splitlines() if text.startswith("refused: ")]
    assert line.startswith("refused: another process of this training failed or timed out: ")
    assert time.monotonic() - clock < 60


@pytest.mark.slow
def test_a_training_of_two_goes_on_after_it_was_cut_off(tmp_path: Path) -> None:
    # Each process drops for itself.
    encoder = ["flatten", linear(8, dropout=0.3)]
    spec = spec_of(encoder, stages=[{"kind": "fit", "epochs": 6}])
    assert [code for code, _ in together(tmp_path, spec, 2)] == [0, 0]
    whole = json.loads((tmp_path / "2.json").read_text())
    (tmp_path / "2.json").unlink()
    kept = str(tmp_path / "kept")
    together(tmp_path, spec, 2, dies=3, resume=kept)
    assert Path(kept).is_file()
    assert not (tmp_path / "2.json").exists()
    assert [code for code, _ in together(tmp_path, spec, 2, resume=kept)] == [0, 0]
    assert json.loads((tmp_path / "2.json").read_text()) == whole
    assert not Path(kept).exists()


TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = [
    "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
    "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_the_command_line_under_a_launcher_writes_once(launcher: list[str], tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "data.npy", np.random.default_rng(0).random((60, 1, 6, 6), np.float32))
    spec = spec_of(dataset={"kind": "array", "path": "data.npy"})
    (tmp_path / "spec.yaml").write_text(json.dumps(spec))
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
def test_every_row_is_run_once(rows: int, size: int) -> None:
    bounds = [ProcessGroup(rank, size).bounds(rows) for rank in range(size)]
    assert [i for low, high in bounds for i in range(low, high)] == list(range(rows))
    x = torch.arange(rows)
    shards = [ProcessGroup(rank, size).shard(x) for rank in range(size)]
    assert all(len(part) >= 1 for part in shards)
    assert max(len(part) for part in shards) == -(-rows // size)


def test_a_crew_of_one_runs_the_network_itself() -> None:
    ae = aezoo.build(aezoo.VariantSpec.model_validate(small()))
    assert ProcessGroup().forward(ae) is ae
    assert ProcessGroup().broadcast(3) == 3
    assert ProcessGroup().is_main
