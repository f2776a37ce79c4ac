"""Encoding by Ray: the bytes of one process, whatever the input, also if a worker is killed."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image

import aezoo
from aezoo.errors import CheckpointError, DataError, NotSupportedError
from tests.inference.test_inference import image_network, pixels
from tests.zoo.conftest import Run, run

__all__ = ["run"]

N = 70
SIZE = 16
"""Samples in a chunk: the last one is not whole."""
pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray, about itself


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A local cluster that belongs to the user: aezoo must not stop it."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


@pytest.fixture
def ae() -> aezoo.Autoencoder:
    return image_network({"kind": "linear", "out_features": 12}, {"kind": "topk", "k": 3})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, image in enumerate(pixels(N)):
        path = tmp_path / "images" / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(path)
    return tmp_path / "images"


def assert_same(
    ae: aezoo.Autoencoder, data: object, folder: Path, suffix: str = ".npz", **options: Any
) -> None:
    """Encodes in one process and by two workers; the files must have the same bytes, and nothing be left."""
    found: list[bytes] = []
    before = {path.name for path in folder.iterdir()}
    for engine in ("local", "ray"):
        out = folder / f"latents{suffix}"
        workers = {"workers": 2} if engine == "ray" else {}
        result = aezoo.encode_to_file(ae, data, out, engine=engine, batch_size=SIZE, **workers, **options)
        found.append(out.read_bytes() + repr((result.n, result.skipped, result.code_bytes)).encode())
        out.unlink()
        if (stamp := Path(f"{out}.json")).exists():
            found[-1] += stamp.read_bytes()
            stamp.unlink()
    assert found[0] == found[1]
    assert sys.modules["ray"].is_initialized()
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet", ".npy"])
def test_images_give_the_same_bytes(
    cluster: Any, ae: aezoo.Autoencoder, folder: Path, tmp_path: Path, suffix: str
) -> None:
    assert_same(ae, folder, tmp_path, suffix)
    assert_same(ae, folder, tmp_path, suffix, dense=True)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, SIZE, SIZE + 1, N])
def test_arrays_give_the_same_bytes(cluster: Any, ae: aezoo.Autoencoder, tmp_path: Path, n: int) -> None:
    np.save(tmp_path / "x.npy", pixels(n).numpy())
    assert_same(ae, tmp_path / "x.npy", tmp_path)
    assert_same(ae, pixels(n), tmp_path)


@pytest.mark.slow
def test_tables_give_the_same_bytes(cluster: Any, tmp_path: Path) -> None:
    spec = {
        "input": {"shape": [3]}, "encoder": [{"kind": "linear", "out_features": 2}],
        "decoder": [{"kind": "linear", "out_features": 3}],
    }  # fmt: skip
    ae = aezoo.build(aezoo.AutoencoderSpec.model_validate(spec), seed=1)
    ae.columns = ("a", "b", "c")
    values = torch.randn(N, 3, generator=torch.Generator().manual_seed(0)).numpy()
    table = pa.table({name: values[:, i] for i, name in enumerate(ae.columns)})
    # Row groups of unequal sizes, which are not those of the chunks.
    with pa.parquet.ParquetWriter(tmp_path / "x.parquet", table.schema) as writer:
        for start, stop in ((0, 5), (5, 5), (5, 40), (40, N)):
            writer.write_table(table.slice(start, stop - start))
    assert_same(ae, tmp_path / "x.parquet", tmp_path)


@pytest.mark.slow
def test_a_corrupt_image_is_as_in_one_process(
    cluster: Any, ae: aezoo.Autoencoder, folder: Path, tmp_path: Path
) -> None:
    for index in (*range(16, 32), 40):
        (folder / f"{index:04}.png").write_bytes(b"no image")
    # One chunk has no sample at all.
    assert_same(ae, folder, tmp_path, skip_corrupt=True)
    messages: list[str] = []
    for engine in ("local", "ray"):
        with pytest.raises(DataError) as error:
            aezoo.encode_to_file(ae, folder, tmp_path / "l.npz", engine=engine, batch_size=SIZE)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert "0016.png" in messages[0]
    assert not (tmp_path / "l.npz").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def workers() -> list[int]:
    """Processes of Ray's actors."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes()
        except OSError:
            continue
        if text.startswith(b"ray::") and b"MapWorker" in text:
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found in /proc")
def test_a_killed_worker_loses_nothing(cluster: Any, ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill() -> None:
        end = time.monotonic() + 100
        while not killed and time.monotonic() < end:
            time.sleep(0.05)
            for pid in workers()[:1]:
                time.sleep(0.2)
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    x = pixels(2000)
    aezoo.encode_to_file(ae, x, tmp_path / "a.npz", batch_size=4)
    thread = threading.Thread(target=kill)
    thread.start()
    aezoo.encode_to_file(ae, x, tmp_path / "b.npz", batch_size=4, engine="ray", workers=2)
    thread.join()
    assert killed
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.slow
def test_a_cluster_of_its_own_is_stopped(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    if ray.is_initialized():
        ray.shutdown()
    np.save("x.npy", np.zeros((40, 28, 28), np.uint8))
    assert run("encode", "fc-64", "x.npy", "-o", "a.npz", "--quiet")[0] == 0
    code, out, _ = run(
        "encode", "fc-64", "x.npy", "-o", "b.npz", "--quiet", "--engine", "ray", "--workers", "2"
    )
    assert (code, out.splitlines()[0]) == (0, "b.npz: 40 samples")
    assert not ray.is_initialized()
    assert Path("a.npz").read_bytes() == Path("b.npz").read_bytes()


def test_bad_options(ae: aezoo.Autoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "l.npz"
    with pytest.raises(DataError, match="engine='ray'"):
        aezoo.encode_to_file(ae, pixels(3), out, workers=2)
    with pytest.raises(NotSupportedError, match="at least 1"):
        aezoo.encode_to_file(ae, pixels(3), out, engine="ray", workers=0)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(aezoo.MissingExtraError, match=r"pip install 'aezoo\[ray\]'"):
        aezoo.encode_to_file(ae, pixels(3), out, engine="ray")
    out.write_bytes(b"kept")
    with pytest.raises(CheckpointError, match="--force"):
        aezoo.encode_to_file(ae, pixels(3), out, engine="ray")
    assert out.read_bytes() == b"kept"
    assert list(tmp_path.iterdir()) == [out]
