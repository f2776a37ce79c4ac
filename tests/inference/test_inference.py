"""Encoding, decoding, reconstructing and scoring: every input gives the same rows, every output states its source."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Generator, Tensor

import aezoo
from aezoo.errors import CheckpointError, DataError
from aezoo.inference.outputs import read_stamp
from aezoo.inference.run import Result
from aezoo.inference.sources import BATCH_SIZE, open_source
from aezoo.model.autoencoder import eval_mode
from tests.data.networks import tiny_variant, train_quietly

N = BATCH_SIZE + 44
"""Rows: a whole chunk and a part of one."""
RECIPE = {"reconstruction": "mse", "threads": 1, "stages": [{"kind": "fit", "epochs": 1}]}
LATENTS = (".npy", ".npz", ".safetensors", ".parquet")


def pixels(n: int = N, channels: int = 1) -> Tensor:
    return torch.randint(0, 256, (n, channels, 6, 6), dtype=torch.uint8, generator=Generator().manual_seed(1))


def image_network(*layers: dict[str, Any], channels: int = 1) -> aezoo.Autoencoder:
    spec = aezoo.VariantSpec.model_validate({
        "name": "pictures", "summary": "A network for tests.",
        "input": {"shape": [channels, 6, 6], "range": [0, 1]},
        "encoder": [{"kind": "flatten"}, *(layers or [{"kind": "linear", "out_features": 4}])],
        "decoder": [
            {"kind": "linear", "out_features": 36 * channels, "activation": "sigmoid"},
            {"kind": "unflatten", "shape": [channels, 6, 6]},
        ],
        "recipe": RECIPE,
    })  # fmt: skip
    return aezoo.build(spec, seed=1)


@pytest.fixture
def ae() -> aezoo.Autoencoder:
    return image_network()


@pytest.fixture
def sparse() -> aezoo.Autoencoder:
    return image_network({"kind": "linear", "out_features": 12}, {"kind": "topk", "k": 3})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The images of `pixels`, below two subfolders."""
    for index, image in enumerate(pixels()):
        path = tmp_path / "images" / "ab"[index % 2] / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(path)
    return tmp_path / "images"


def latents_of(ae: aezoo.Autoencoder, x: Tensor) -> Tensor:
    """In the batches in which files are encoded, since the last bits depend on them."""
    with eval_mode(ae), torch.no_grad():
        return torch.cat([ae.encode(part) for part in x.split(BATCH_SIZE)])


def read(path: Path, key: str = "latents") -> Tensor:
    if path.suffix == ".npy":
        return torch.from_numpy(np.load(path))
    if path.suffix == ".npz":
        return torch.from_numpy(np.load(path)[key])
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)[key]
    table = pa.parquet.read_table(path)
    return torch.tensor(table[key].to_pylist())


# -- encode -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", LATENTS)
def test_latents_are_those_of_the_network(ae: aezoo.Autoencoder, suffix: str, tmp_path: Path) -> None:
    out = tmp_path / "new" / f"latents{suffix}"
    result = aezoo.encode_to_file(ae, pixels(), out)
    assert result == Result(out, N, {}, 36.0, 16.0)
    assert result.ratio == 36 / 16
    assert torch.equal(read(out), latents_of(ae, ae.transforms()(pixels())))
    stamp = read_stamp(out)
    assert stamp is not None
    assert (stamp["n"], stamp["fingerprint"], stamp["variant"]) == (N, ae.fingerprint(), "pictures")
    extra = {f"{out.name}.json"} if suffix == ".npy" else set[str]()
    assert {path.name for path in out.parent.iterdir()} == {out.name} | extra


def saved_arrays(place: Path, x: Tensor) -> dict[str, Any]:
    """The same samples in every form that an input may have."""
    array = x.numpy()
    np.save(place / "x.npy", array)
    np.save(place / "fortran.npy", np.asfortranarray(array))
    np.savez(place / "x.npz", x=array)
    np.savez_compressed(place / "c.npz", x=array)
    np.savez(place / "f.npz", x=np.asfortranarray(array))
    safetensors.torch.save_file({"x": x}, place / "x.safetensors")
    names = ("x.npy", "fortran.npy", "x.npz", "c.npz", "f.npz", "x.safetensors")
    return {name: place / name for name in names} | {
        "text": str(place / "x.npy"), "tensor": x, "array": array, "channels last": np.moveaxis(array, 1, -1),
        "without channels": array[:, 0], "samples": aezoo.Samples(x), "list": list(x),
    }  # fmt: skip


def test_every_form_of_an_input_gives_the_same_bytes(
    ae: aezoo.Autoencoder, folder: Path, tmp_path: Path
) -> None:
    x = pixels()
    expected = latents_of(ae, ae.transforms()(x))
    for name, data in saved_arrays(tmp_path, x).items():
        aezoo.encode_to_file(ae, data, tmp_path / "out.npy", force=True)
        assert torch.equal(read(tmp_path / "out.npy"), expected), name
    paths = sorted(folder.rglob("*.png"))
    rows = [int(path.stem) for path in paths]
    for data in (folder, str(folder), paths, list(map(str, paths))):
        aezoo.encode_to_file(ae, data, tmp_path / "out.npz", force=True)
        assert torch.equal(read(tmp_path / "out.npz"), latents_of(ae, ae.transforms()(x[rows])))
        assert len(np.load(tmp_path / "out.npz")["names"]) == N
    names = np.load(tmp_path / "out.npz")["names"]
    assert list(names) == [path.name for path in paths]


@pytest.mark.parametrize("data", ["one.png", "array"])
def test_one_sample_is_a_batch_of_one(ae: aezoo.Autoencoder, data: str, tmp_path: Path) -> None:
    image = pixels(1)[0, 0]
    Image.fromarray(image.numpy()).save(tmp_path / "one.png")
    given = tmp_path / data if data.endswith("png") else image
    assert aezoo.encode_to_file(ae, given, tmp_path / "out.npy").n == 1
    assert torch.equal(read(tmp_path / "out.npy"), latents_of(ae, ae.transforms()(image)))


@pytest.mark.parametrize("suffix", LATENTS)
def test_sparse_codes_are_pairs_that_decode_to_the_same_bits(
    sparse: aezoo.Autoencoder, suffix: str, tmp_path: Path
) -> None:
    out, back = tmp_path / f"codes{suffix}", tmp_path / "back.npy"
    result = aezoo.encode_to_file(sparse, pixels(), out)
    assert result.code_bytes == (4 * 12 if suffix == ".npy" else 8 * 3)
    if suffix != ".npy":
        indices, values = read(out, "indices"), read(out, "values")
        assert indices.shape == values.shape == (N, 3)
        assert bool((indices.diff(dim=1) > 0).all())
    aezoo.decode_to(sparse, out, back)
    with eval_mode(sparse), torch.no_grad():
        expected = torch.cat([sparse(x).x_hat for x in sparse.transforms()(pixels()).split(BATCH_SIZE)])
    assert torch.equal(read(back), expected)
    aezoo.encode_to_file(sparse, pixels(), out, dense=True, force=True)
    assert torch.equal(read(out), latents_of(sparse, sparse.transforms()(pixels())))


def test_rows_with_fewer_latents_than_k_end_in_zeros(tmp_path: Path) -> None:
    ae = image_network({"kind": "linear", "out_features": 5, "activation": "relu"}, {"kind": "topk", "k": 4})
    with torch.no_grad():
        ae.encoder[1].linear.bias.fill_(-0.5)  # pyright: ignore
    out = tmp_path / "codes.npz"
    aezoo.encode_to_file(ae, pixels(), out)
    expected = latents_of(ae, ae.transforms()(pixels()))
    counts = (expected != 0).sum(1)
    assert counts.min() < 4
    values = read(out, "values")
    for row, count in zip(values, counts, strict=True):
        assert bool((row[:count] != 0).all())
        assert bool((row[count:] == 0).all())
    aezoo.decode_to(ae, out, tmp_path / "back.npy")
    with torch.no_grad():
        decoded = torch.cat([ae.decode(part) for part in expected.split(BATCH_SIZE)])
    assert torch.equal(read(tmp_path / "back.npy"), decoded)


@pytest.mark.data
def test_a_split_of_a_dataset_is_encoded(tmp_path: Path) -> None:
    ae = aezoo.load("sparse-topk16")
    assert aezoo.encode_to_file("sparse-topk16", "mnist:test", tmp_path / "x.npz").n == 10_000
    found = (read(tmp_path / "x.npz", "values") != 0).sum(1).double().mean()
    assert float(found) == pytest.approx(ae.metrics["l0"]["value"])


# -- tables and series --------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path) -> tuple[aezoo.Autoencoder, Path]:
    """A network of three standardized columns, and a CSV with these and others in another order."""
    generator = np.random.default_rng(2)
    columns = {
        "c": generator.normal(1e6, 3, N),
        "text": np.array(["x, y"] * N),
        "a": generator.normal(size=N),
        # A fraction after the first block.
        "b": np.concatenate([np.arange(N - 1), [0.5]]),
    }
    path = tmp_path / "table.csv"
    pa.csv.write_csv(pa.table(columns), path)
    pa.parquet.write_table(pa.table(columns), tmp_path / "table.parquet")
    dataset = {"kind": "table", "path": str(path), "columns": ["a", "b", "c"]}
    return train_quietly(tiny_variant((3,), dataset=dataset)), path


def test_a_table_is_read_by_name_in_original_units(
    table: tuple[aezoo.Autoencoder, Path], tmp_path: Path
) -> None:
    ae, path = table
    raw = pa.parquet.read_table(tmp_path / "table.parquet")
    expected = latents_of(ae, ae.transforms()({name: raw[name].to_numpy() for name in ae.columns}))
    for data in (path, path.with_suffix(".parquet"), {name: raw[name].to_numpy() for name in "cba"}):
        aezoo.encode_to_file(ae, data, tmp_path / "out.parquet", force=True)
        assert torch.equal(read(tmp_path / "out.parquet"), expected)
    assert pa.parquet.read_table(tmp_path / "out.parquet")["row"].to_pylist() == list(range(N))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_reconstructions_of_a_table_have_its_units_and_names(
    table: tuple[aezoo.Autoencoder, Path], suffix: str, tmp_path: Path
) -> None:
    ae, path = table
    out = tmp_path / f"out{suffix}"
    aezoo.reconstruct_to(ae, path, out)
    raw = pa.parquet.read_table(tmp_path / "table.parquet")
    x = ae.transforms()({name: raw[name].to_numpy() for name in ae.columns})
    with eval_mode(ae), torch.no_grad():
        x_hat = torch.cat([ae(part).x_hat for part in x.split(BATCH_SIZE)])
    expected = ae.transforms().inverse(x_hat)
    if suffix == ".npy":
        found = np.load(out)
    else:
        read_table = pa.csv.read_csv if suffix == ".csv" else pa.parquet.read_table
        found = np.stack([read_table(out)[name].to_numpy() for name in ae.columns], axis=1)
    np.testing.assert_array_equal(found.astype(np.float32), expected.numpy().astype(np.float32))
    assert abs(float(found[:, 2].mean()) - 1e6) < 100


def test_a_series_is_cut_into_windows_as_in_training(tmp_path: Path) -> None:
    series = np.random.default_rng(0).normal(5, 2, (400, 2)).astype(np.float32)
    np.save(tmp_path / "series.npy", series)
    dataset = {"kind": "windows", "path": str(tmp_path / "series.npy"), "length": 8, "stride": 4}
    ae = train_quietly(tiny_variant((2, 8), dataset=dataset))
    result = aezoo.encode_to_file(ae, tmp_path / "series.npy", tmp_path / "out.npy")
    assert result.n == (400 - 8) // 4 + 1
    window = series[12:20].T[None]
    assert torch.allclose(
        read(tmp_path / "out.npy")[3], latents_of(ae, ae.transforms()(window))[0], atol=1e-5
    )


# -- images out ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_keep_their_names(channels: int, tmp_path: Path) -> None:
    ae = image_network(channels=channels)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    names = ["a/x.png", "a/x.bmp", "b/x.png", "c.tiff"]
    values = pixels(4, channels)
    for name, image in zip(names, values, strict=True):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        array = image[0].numpy() if channels == 1 else image.permute(1, 2, 0).numpy()
        Image.fromarray(np.ascontiguousarray(array), mode).save(path)
    aezoo.reconstruct_to(ae, tmp_path / "in", tmp_path / "out")
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")}
    assert written == {"a/x.png", "a/x.bmp.png", "b/x.png", "c.png"} or written == {
        "a/x.png", "a/x.png.png", "b/x.png", "c.png",
    }  # fmt: skip
    manifest = json.loads((tmp_path / "out" / "aezoo.json").read_text())
    assert (manifest["content"], manifest["n"]) == ("reconstructions", 4)
    with eval_mode(ae), torch.no_grad():
        x_hat = ae(ae.transforms()(tmp_path / "in" / "c.tiff")).x_hat
    found = ae.transforms()(tmp_path / "out" / "c.png")
    assert float((found - x_hat).abs().max()) <= 0.5 / 255 + 1e-6


def test_the_ends_of_the_range_are_black_and_white(tmp_path: Path) -> None:
    spec = aezoo.VariantSpec.model_validate({
        "name": "ends", "summary": "A network for tests.",
        "input": {"shape": [1, 2, 2], "range": [-1, 1]},
        "encoder": [{"kind": "flatten"}],
        "decoder": [{"kind": "unflatten", "shape": [1, 2, 2]}],
        "recipe": RECIPE,
    })  # fmt: skip
    ae = aezoo.build(spec)
    aezoo.decode_to(ae, torch.tensor([[-1.0, 1.0, -7.0, 7.0]]), tmp_path / "out")
    assert np.asarray(Image.open(tmp_path / "out" / "0000000.png")).tolist() == [[0, 255], [0, 255]]


# -- scores -------------------------------------------------------------------------------------------


def test_scores_are_mean_squared_errors(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    aezoo.score_to_file(ae, pixels(), out, explain=True)
    table = pa.csv.read_csv(out)
    x = ae.transforms()(pixels())
    with eval_mode(ae), torch.no_grad():
        x_hat = torch.cat([ae(part).x_hat for part in x.split(BATCH_SIZE)])
    squared = (x_hat - x).flatten(1).square()
    np.testing.assert_allclose(table["error"].to_numpy(), squared.mean(1).numpy(), rtol=1e-6)
    assert table["value"].to_pylist() == squared.argmax(1).tolist()
    assert table["where"][0].as_py() == f"0 {squared[0].argmax() // 6} {squared[0].argmax() % 6}"
    np.testing.assert_allclose(
        table["share"].to_numpy(), (squared.amax(1) / squared.sum(1)).numpy(), rtol=1e-5
    )


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.25])
def test_a_threshold_gives_the_accepted_rate_of_false_alarms(
    ae: aezoo.Autoencoder, rate: float, tmp_path: Path
) -> None:
    good, new = pixels(1000), torch.randint(0, 256, (4000, 1, 6, 6), dtype=torch.uint8)
    result = aezoo.score_to_file(ae, new, tmp_path / "s.npz", calibrate=good, threshold=rate)
    assert result.threshold is not None
    assert result.false_alarm_rate is not None
    assert result.false_alarm_rate <= rate
    flags = np.load(tmp_path / "s.npz")["anomalous"]
    assert flags.dtype == bool
    assert int(flags.sum()) == result.anomalous
    # Six standard deviations of a rate that is estimated twice.
    assert abs(flags.mean() - rate) < 6 * math.sqrt(rate * (1 - rate) * (1 / 1000 + 1 / 4000))
    stamp = read_stamp(tmp_path / "s.npz")
    assert stamp is not None
    assert stamp["threshold"]["calibration_n"] == 1000


def test_the_limit_is_the_one_of_split_conformal_prediction(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    good = pixels(19)
    errors = -ae.eval().score_samples(ae.transforms()(good)).sort(descending=True).values
    result = aezoo.score_to_file(ae, good, tmp_path / "s.csv", calibrate=good, threshold=0.1)
    assert result.threshold == pytest.approx(float(errors[17]))  # ceil(20 * 0.9) = 18
    with pytest.raises(DataError, match=r"needs at least 99 calibration samples, .* has 19"):
        aezoo.score_to_file(ae, good, tmp_path / "t.csv", calibrate=good, threshold=0.01)
    assert not (tmp_path / "t.csv").exists()


# -- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "data", "out", "words"),
    [
        ({}, "nothing.npy", "o.npy", "there is no file nothing.npy"),
        ({}, "nothing", "o.npy", "there is no file nothing"),
        ({}, "mnist:tset", "o.npy", "mnist:tset: expected train, validation, test after the colon"),
        ({}, "nosuch:test", "o.npy", "there is no file nosuch:test, and unknown dataset 'nosuch'"),
        ({}, "table:test", "o.npy", "table needs settings"),
        ({}, torch.zeros(3, 1, 5, 5), "o.npy", "expected samples of shape [1, 6, 6], found [3, 1, 5, 5]"),
        ({}, torch.full((3, 1, 6, 6), 2.0), "o.npy", "expected values in [0.0, 1.0], found 2 to 2"),
        ({}, torch.full((3, 1, 6, 6), math.nan), "o.npy", "is not finite"),
        ({}, torch.zeros(0, 1, 6, 6), "o.npy", "no samples"),
        ({}, [], "o.npy", "sample"),
        ({}, "good", "o.csv", "expected .npy, .npz, .safetensors, .parquet, found '.csv'"),
        ({}, "good", "o", "found 'no suffix'"),
        ({"batch_size": 0}, "good", "o.npy", "batch_size must be at least 1, found 0"),
        ({}, "two.npz", "o.npy", "two.npz"),
        ({}, "broken.npy", "o.npy", "broken.npy cannot be read"),
        ({}, "broken.npz", "o.npy", "broken.npz cannot be read"),
        ({}, "broken.safetensors", "o.npy", "broken.safetensors cannot be read"),
        ({}, "broken.csv", "o.npy", "broken.csv"),
        ({}, "number.npy", "o.npy", "number.npy"),
        ({}, "objects.npy", "o.npy", "objects.npy cannot be read"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_writes_nothing(
    ae: aezoo.Autoencoder,
    changed: dict[str, Any],
    data: Any,
    out: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("two.npz", a=np.zeros((2, 1, 6, 6), np.uint8), b=np.zeros((2, 1, 6, 6), np.uint8))
    np.save("number.npy", np.float32(1))
    np.save("objects.npy", np.array([None]), allow_pickle=True)
    for suffix in ("npy", "npz", "safetensors", "csv"):
        Path(f"broken.{suffix}").write_bytes(b"\x93NUMPY\x00broken,\xff\n1")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(aezoo.AezooError) as caught:
        aezoo.encode_to_file(ae, pixels() if data == "good" else data, out, **changed)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


CALLS: dict[str, Callable[..., Any]] = {
    "encode": lambda ae, out, **o: aezoo.encode_to_file(ae, pixels(3), out, **o),
    "decode": lambda ae, out, **o: aezoo.decode_to(ae, torch.zeros(3, 4), out, **o),
    "reconstruct": lambda ae, out, **o: aezoo.reconstruct_to(ae, pixels(3), out, **o),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_output_that_exists_is_kept_without_force(
    ae: aezoo.Autoencoder, call: str, tmp_path: Path
) -> None:
    out = tmp_path / "o.npz"
    out.write_bytes(b"mine")
    with pytest.raises(CheckpointError, match="exists; pass force=True"):
        CALLS[call](ae, out)
    assert out.read_bytes() == b"mine"
    CALLS[call](ae, out, force=True)
    assert np.load(out).files
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises((CheckpointError, DataError)):
        CALLS[call](ae, tmp_path / "folder.npz" if call == "encode" else out / "below.npy")


@pytest.mark.parametrize("call", ["decode", "reconstruct"])
def test_only_a_folder_of_its_own_is_replaced(ae: aezoo.Autoencoder, call: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    CALLS[call](ae, out)
    with pytest.raises(CheckpointError, match="exists; pass force=True"):
        CALLS[call](ae, out)
    CALLS[call](ae, out, force=True)
    (out / "mine.txt").write_text("kept")
    with pytest.raises(CheckpointError, match="holds other files"):
        CALLS[call](ae, out, force=True)
    assert (out / "mine.txt").read_text() == "kept"


@pytest.mark.skipif(os.geteuid() == 0 and not hasattr(os, "posix_fallocate"), reason="root writes anywhere")
def test_a_full_disk_is_one_line_and_leaves_nothing(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    # /dev/full is no place for a file; a folder that is a file is refused likewise.
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not be written"):
        aezoo.encode_to_file(ae, pixels(3), tmp_path / "file" / "o.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_corrupt_image_is_named_or_skipped(ae: aezoo.Autoencoder, folder: Path, tmp_path: Path) -> None:
    (folder / "a" / "0100.png").write_bytes(b"\x89PNG no more")
    out = tmp_path / "out.npz"
    with pytest.raises(DataError, match=r"0100\.png: .*; skip_corrupt=True \(--skip-corrupt\) leaves it out"):
        aezoo.encode_to_file(ae, folder, out)
    assert not out.exists()
    result = aezoo.encode_to_file(ae, folder, out, skip_corrupt=True)
    assert (result.n, list(result.skipped)) == (N - 1, ["a/0100.png"])
    stamp = read_stamp(out)
    assert stamp is not None
    assert list(stamp["skipped"]) == ["a/0100.png"]
    assert "a/0100.png" not in np.load(out)["names"]
    aezoo.reconstruct_to(ae, folder, tmp_path / "images-out", skip_corrupt=True)
    assert len(list((tmp_path / "images-out").rglob("*.png"))) == N - 1
    for path in folder.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=rf"none of the {N} images in .* can be read"):
        aezoo.encode_to_file(ae, folder, tmp_path / "none.npz", skip_corrupt=True)


def test_latents_of_other_weights_are_refused(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    for suffix in LATENTS:
        aezoo.encode_to_file(ae, pixels(3), tmp_path / f"l{suffix}")
    other = image_network()
    with torch.no_grad():
        next(other.parameters()).add_(0.1)
    for suffix in LATENTS:
        with pytest.raises(DataError, match=r"holds latents of pictures, whose weights are not those"):
            aezoo.decode_to(other, tmp_path / f"l{suffix}", tmp_path / "o.npy")
        aezoo.decode_to(ae, tmp_path / f"l{suffix}", tmp_path / "o.npy", force=True)
    aezoo.score_to_file(ae, pixels(3), tmp_path / "s.npz")
    with pytest.raises(DataError, match="holds scores, not latents"):
        aezoo.decode_to(ae, tmp_path / "s.npz", tmp_path / "o.npy", force=True)


def test_a_network_that_makes_no_images_writes_a_file(
    table: tuple[aezoo.Autoencoder, Path], tmp_path: Path
) -> None:
    ae, path = table
    with pytest.raises(DataError, match=r"this network's outputs are no images; write a file instead: \.npy"):
        aezoo.reconstruct_to(ae, path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_memory_does_not_grow_with_the_file(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    """A file is read and written a chunk at a time."""
    size = 64 * BATCH_SIZE
    np.save(tmp_path / "x.npy", np.zeros((size, 1, 6, 6), np.uint8))
    source = open_source(ae, tmp_path / "x.npy")
    largest = 0
    for chunk in source.chunks():
        largest = max(largest, len(chunk.x))
    assert (source.size, largest) == (size, BATCH_SIZE)


@pytest.mark.parametrize("variant", ["vae-2", "colorize", "conv-strided", "swissroll-2", "conv-unpool-max"])
def test_every_sort_of_variant_is_encoded(variant: str, tmp_path: Path) -> None:
    ae = aezoo.load(variant)
    x = torch.rand(5, *ae.spec.input.shape, generator=Generator().manual_seed(0))
    data = x if ae.scaler is None else ae.transforms().inverse(x)
    aezoo.encode_to_file(ae, data, tmp_path / "l.npz")
    if ae.decoder.needs:
        with pytest.raises(DataError, match="this decoder needs"):
            aezoo.decode_to(ae, tmp_path / "l.npz", tmp_path / "o.npy")
    else:
        aezoo.decode_to(ae, tmp_path / "l.npz", tmp_path / "o.npy")
    aezoo.reconstruct_to(ae, data, tmp_path / "r.npz")
    assert np.load(tmp_path / "r.npz")["reconstructions"].shape == (5, *ae.spec.output.shape)
