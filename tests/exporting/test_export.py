"""Exported files: what they hold, what they give for every batch, and when an export is refused."""

import copy
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.csv
import pytest
import torch
from torch import Tensor, nn

import aezoo
from aezoo.errors import CheckpointError, DataError, MissingExtraError, NotSupportedError
from aezoo.exporting import onnx_format, run, torch_format
from aezoo.exporting.comparison import LEAST_ROWS
from aezoo.exporting.inputs import batch_sizes
from aezoo.exporting.portable import CeilAvgPool
from aezoo.model.autoencoder import eval_mode
from tests.data.networks import tiny_variant, train_quietly
from tests.exporting.networks import DENSE, RUN, SUFFIX, network, pixels, run_onnx, run_torch
from tests.parts import in_parts

FORMATS = ["onnx", "torch", "python"]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def outputs_of(ae: aezoo.Autoencoder, raw: Any) -> dict[str, Tensor]:
    """What the public functions give for raw data."""
    x = ae.transforms()(raw)
    with eval_mode(ae), torch.no_grad():
        out = ae(x.to(next(ae.parameters()).dtype))
        score = ae.score_samples(x) if ae.spec.output.shape == ae.spec.input.shape else None
        found = {"latents": out.latents, "reconstruction": ae.transforms().inverse(out.x_hat), "score": score}
    return {name: value for name, value in found.items() if value is not None}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        torch.testing.assert_close(found[name], values, rtol=tolerance, atol=tolerance)


# -- what files give ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("limits", "format"), in_parts(itertools.product([[-1.5, 3], [0, 1]], FORMATS), 2))
def test_a_file_gives_what_aezoo_gives_for_batches_of_any_size(
    tmp_path: Path, format: Any, limits: list[float]
) -> None:
    ae = network(*DENSE, range=limits)
    path = tmp_path / f"small{SUFFIX[format]}"
    result = aezoo.export(ae, path, format=format, with_score=True, samples=pixels(20))
    assert result.record["input"]["dtype"] == "uint8"
    for n in (1, 2, 7, 300):
        assert_close(RUN[format](path, pixels(n)), outputs_of(ae, pixels(n)))


def test_batches_of_1_2_7_and_300_are_compared() -> None:
    assert list(batch_sizes(LEAST_ROWS)) == [1, 2, 7, 300]
    assert sum(batch_sizes(1234)) == 1234


@pytest.mark.parametrize("format", in_parts(FORMATS[::-1], 2))
def test_the_encoder_alone(tmp_path: Path, format: Any) -> None:
    ae = network()
    path = tmp_path / f"small{SUFFIX[format]}"
    aezoo.export(ae, path, format=format, encoder_only=True, samples=pixels(3))
    found = RUN[format](path, pixels(5))
    assert_close(found, {"latents": outputs_of(ae, pixels(5))["latents"]})


def test_a_network_in_training_mode_is_exported_as_it_evaluates_and_not_changed(tmp_path: Path) -> None:
    layers = [
        {"kind": "flatten"},
        {"kind": "linear", "out_features": 8, "norm": "batch_norm", "dropout": 0.5},
        {"kind": "dropout", "p": 0.9},
        {"kind": "gaussian_sample"},
    ]
    ae = network(*layers).train()
    ae(torch.rand(50, 1, 6, 6))
    before = copy.deepcopy(ae.state_dict())
    aezoo.export(ae, tmp_path / "a.onnx", with_score=True, samples=pixels(3))
    assert_close(run_onnx(tmp_path / "a.onnx", pixels(7)), outputs_of(ae, pixels(7)))
    assert all(module.training for module in ae.modules())
    assert all(parameter.requires_grad for parameter in ae.parameters())
    assert before.keys() == ae.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in ae.state_dict().items())


@pytest.mark.parametrize(
    ("format", "dtype"),
    in_parts(itertools.product(FORMATS, [torch.float16, torch.bfloat16, torch.float64]), 4),
)
def test_weights_of_another_precision(tmp_path: Path, format: Any, dtype: torch.dtype) -> None:
    ae = network().to(dtype)
    path = tmp_path / f"a{SUFFIX[format]}"
    result = aezoo.export(ae, path, format=format, samples=pixels(3))
    assert result.record["weights_dtype"] == str(dtype).removeprefix("torch.")
    expected = outputs_of(copy.deepcopy(ae).float(), pixels(7))
    del expected["score"]
    assert_close(RUN[format](path, pixels(7)), expected)
    assert next(ae.parameters()).dtype == dtype


@pytest.mark.parametrize(("offset", "format"), in_parts(itertools.product([1.7e9, 0.0], FORMATS), 2))
def test_tables_are_standardized_in_the_file(tmp_path: Path, format: Any, offset: float) -> None:
    """With timestamps, whose scaling is kept in float64, and without."""
    random = np.random.default_rng(0)
    table = pa.table({"time": offset + random.normal(size=200) * 3, "price": random.normal(size=200)})
    ae = train_table(tmp_path, table)
    wide = torch.float64 if offset else torch.float32
    assert ae.scaler is not None
    assert ae.scaler.shift.dtype == wide
    path = tmp_path / f"a{SUFFIX[format]}"
    result = aezoo.export(ae, path, format=format, with_score=True, samples=table.select(["price", "time"]))
    assert result.record["input"]["columns"] == ["time", "price"]
    assert result.record["input"]["dtype"] == str(wide).removeprefix("torch.")
    raw = torch.from_numpy(np.stack([table["time"], table["price"]], 1)).to(wide)
    found, expected = RUN[format](path, raw), outputs_of(ae, raw)
    assert found["reconstruction"].dtype == wide
    difference = (found["reconstruction"] - expected["reconstruction"]) / ae.scaler.scale
    assert float(difference.abs().max()) < 1e-5
    assert_close({**found, "reconstruction": expected["reconstruction"]}, expected)


def train_table(folder: Path, table: Any) -> aezoo.Autoencoder:
    pyarrow.csv.write_csv(table, folder / "data.csv")
    spec = tiny_variant(
        (2,), dataset={"kind": "table", "path": str(folder / "data.csv"), "scale": "standard"}
    )
    return train_quietly(spec)


def test_windows_of_a_series(tmp_path: Path) -> None:
    np.save(tmp_path / "series.npy", 50 + 7 * np.random.default_rng(0).normal(size=(300, 2)))
    dataset = {
        "kind": "windows",
        "path": str(tmp_path / "series.npy"),
        "length": 8,
        "scale": "standard",
        "test": 0.2,
    }
    ae = train_quietly(tiny_variant((2, 8), dataset=dataset))
    result = aezoo.export(ae, tmp_path / "a.pt2", format="torch", with_score=True)
    assert result.comparison.data == "windows:test"
    raw = 50 + 7 * torch.randn(7, 2, 8)
    assert_close(run_torch(tmp_path / "a.pt2", raw), outputs_of(ae, raw), 1e-4)


def test_floating_point_samples_give_a_file_for_floating_point(tmp_path: Path) -> None:
    ae = network()
    x = torch.rand(5, 1, 6, 6)
    result = aezoo.export(ae, tmp_path / "a.pt2", format="torch", samples=x)
    assert result.record["input"]["dtype"] == "float32"
    expected = outputs_of(ae, x)
    del expected["score"]
    assert_close(run_torch(tmp_path / "a.pt2", x), expected)


def test_targets_other_than_the_input(tmp_path: Path) -> None:
    target = {"shape": [2], "range": [0, 1]}
    ae = network(*DENSE, decoder=[{"kind": "linear", "out_features": 2}], target=target)
    with pytest.raises(NotSupportedError, match="a score compares with the input"):
        aezoo.export(ae, tmp_path / "a.pt2", format="torch", with_score=True, samples=pixels(3))
    assert (
        "mse"
        not in aezoo.export(ae, tmp_path / "a.pt2", format="torch", samples=pixels(3)).comparison.metrics
    )
    samples = aezoo.Samples(pixels(3), torch.zeros(3, 2))
    result = aezoo.export(ae, tmp_path / "a.pt2", format="torch", samples=samples, force=True)
    mse = outputs_of(ae, pixels(3))["reconstruction"].square().mean()
    assert result.comparison.metrics["mse"]["aezoo"] == pytest.approx(float(mse))


def test_the_default_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"there are none: the recipe names no dataset.*--samples"):
        aezoo.export(network(), format="python")
    ae = train_quietly(tiny_variant((4,)), torch.rand(100, 4))
    result = aezoo.export(ae, format="torch")
    assert (result.path, result.comparison.data) == (Path("tiny.pt2"), "the validation samples in memory")


# -- records ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_the_record_is_in_the_file_and_next_to_it(tmp_path: Path, format: Any) -> None:
    ae = aezoo.load("sparse-topk16")
    path = tmp_path / f"a{SUFFIX[format]}"
    result = aezoo.export(ae, path, format=format, samples=aezoo.sample_digits())
    record = json.loads((tmp_path / f"{path.name}.json").read_text())
    assert record == result.record
    assert record["variant"] == "sparse-topk16"
    assert record["weights_sha256"] == ae.source.sha256
    assert record["fingerprint"] == ae.fingerprint()
    config = json.loads((Path(str(ae.source.path)) / "config.json").read_text())
    assert record["spec_sha256"] == config["spec_sha256"]
    metrics = record["comparison"]["metrics"]
    assert metrics["l0"] == {"aezoo": 16.0, "file": 16.0, "published": None}
    measured = aezoo.evaluate(ae, aezoo.sample_digits(), dataset="digits", split="test")
    assert metrics["mse"]["aezoo"] == pytest.approx(measured["mse"]["value"])
    assert metrics["mse"]["file"] == pytest.approx(measured["mse"]["value"], rel=1e-5)
    if format == "onnx":
        kept = {p.key: p.value for p in onnx.load(path).metadata_props}
        assert kept["aezoo.weights_sha256"] == ae.source.sha256
        assert json.loads(kept["aezoo.comparison"]) == record["comparison"]
    elif format == "torch":
        extra = {"aezoo.json": ""}
        torch.export.load(path, extra_files=extra)
        assert json.loads(extra["aezoo.json"]) == record


def test_an_onnx_file_is_valid_and_names_its_batch_axis(tmp_path: Path) -> None:
    aezoo.export(network(), tmp_path / "a.onnx", samples=pixels(3))
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model, full_check=True)
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [opset.version for opset in model.opset_import if opset.domain == ""] == [18]
    assert "encoder.1.linear.weight" in {tensor.name for tensor in model.graph.initializer}


# -- refusals -----------------------------------------------------------------------------------------


def wrong(change: Any) -> Any:
    """Opens a file whose outputs are changed."""

    def open_wrong(content: Any) -> Any:
        runner = torch_format.open_torch(content)
        return lambda batch: change(dict(runner(batch)), batch)

    return open_wrong


def shifted(found: dict[str, Any], batch: Any) -> dict[str, Any]:
    found["reconstruction"] = found["reconstruction"].copy()
    found["reconstruction"][-1, 0, 2, 3] += 0.002
    return found


def not_a_number(found: dict[str, Any], batch: Any) -> dict[str, Any]:
    found["latents"] = np.full_like(found["latents"], np.nan)
    return found


def batch_of_one_only(found: dict[str, Any], batch: Any) -> dict[str, Any]:
    return {name: value[:1] for name, value in found.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shifted, r"reconstruction of sample \d+ of Tensor differs by 0.002 between aezoo and PyTorch"),
        (not_a_number, "latents of sample 0 of Tensor differs by inf"),
        (batch_of_one_only, "gives latents of 1 x 12 for a batch of 2"),
        (lambda found, _: {"latents": found["latents"]}, "gives latents, expected latents, reconstruction"),
    ],
)
def test_a_file_that_differs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, message: str
) -> None:
    monkeypatch.setattr(run, "open_torch", wrong(change))
    (tmp_path / "a.pt2").write_text("old")
    with pytest.raises(DataError, match=message) as error:
        aezoo.export(network(), tmp_path / "a.pt2", format="torch", samples=pixels(20), force=True)
    assert "\n" not in str(error.value)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.pt2": "old"}


def test_values_above_1_count_relative_to_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ae = network()
    with torch.no_grad():
        ae.get_parameter("decoder.0.linear.bias").add_(1000)
    monkeypatch.setattr(run, "open_torch", wrong(shifted))
    result = aezoo.export(ae, tmp_path / "a.pt2", format="torch", samples=pixels(20))
    difference = result.comparison.differences["reconstruction"]
    assert difference.absolute == pytest.approx(0.002, rel=0.1)
    assert difference.relative == pytest.approx(2e-6, rel=0.1)


def tied() -> aezoo.Autoencoder:
    """Keeps one of two latents, which are equal where the first two pixels are, and whose atoms differ."""
    ae = network({"kind": "flatten"}, {"kind": "linear", "out_features": 2}, {"kind": "topk", "k": 1})
    weight, bias = ae.get_parameter("encoder.1.linear.weight"), ae.get_parameter("encoder.1.linear.bias")
    with torch.no_grad():
        weight[1], bias[1] = weight[0], bias[0]
        weight[1, :2] += torch.tensor([0.1, -0.1])
    return ae


def other_latent(ae: aezoo.Autoencoder) -> Any:
    """A file that keeps the other one of two latents that tie."""

    def change(_: dict[str, Any], batch: Any) -> dict[str, Any]:
        with eval_mode(ae), torch.no_grad():
            latents = ae.encode(ae.transforms()(batch))
            ties = torch.from_numpy(batch[:, 0, 0, 0] == batch[:, 0, 0, 1])
            latents[ties] = latents[ties].flip(1)
            return {"latents": latents.numpy(), "reconstruction": ae.decode(latents).numpy()}

    return change


def test_ties_are_reported_with_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ae = tied()
    raw = pixels(400)
    raw[:, 0, 0, 0], raw[:, 0, 0, 1] = 200, 100
    raw[5, 0, 0, 1] = 200
    monkeypatch.setattr(run, "open_torch", wrong(other_latent(ae)))
    result = aezoo.export(ae, tmp_path / "a.pt2", format="torch", samples=raw)
    jump = float(ae.encode(ae.transforms()(raw[5:6])).detach().abs().max())
    assert result.comparison.undecided == [{"sample": 5, "latents": pytest.approx(jump)}]
    assert result.record["comparison"]["undecided"]["n"] == 1
    assert all(difference.relative == 0 for difference in result.comparison.differences.values())


def test_too_many_ties_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ae = tied()
    raw = pixels(400)
    raw[:, 0, 0, 1] = raw[:, 0, 0, 0]
    monkeypatch.setattr(run, "open_torch", wrong(other_latent(ae)))
    with pytest.raises(
        DataError, match=r"for more than 4 of 400 samples of Tensor, such as 0, rounding decides"
    ):
        aezoo.export(ae, tmp_path / "a.pt2", format="torch", samples=raw)
    assert list(tmp_path.iterdir()) == []


def test_a_latent_that_is_no_tie_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(found: dict[str, Any], batch: Any) -> dict[str, Any]:
        latents = torch.from_numpy(found["latents"]).flip(1)
        with torch.no_grad():
            return {"latents": latents.numpy(), "reconstruction": ae.decode(latents).numpy()}

    ae = tied()
    raw = pixels(20)
    raw[:, 0, 0, 0], raw[:, 0, 0, 1] = 200, 199
    monkeypatch.setattr(run, "open_torch", wrong(change))
    with pytest.raises(DataError, match=r"latents of sample .* differs by"):
        aezoo.export(ae, tmp_path / "a.pt2", format="torch", samples=raw)


class Branching(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return h if float(h.sum()) > 0 else -h


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_a_layer_that_cannot_be_traced_is_named(tmp_path: Path, format: Any) -> None:
    ae = network()
    ae.encoder.add_module("1", nn.Sequential(ae.encoder[1], Branching()))
    with pytest.raises(NotSupportedError, match=r"encoder\.1 \(linear\) cannot be exported") as error:
        aezoo.export(ae, tmp_path / f"a{SUFFIX[format]}", format=format, samples=pixels(3))
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tflite"}, "format: expected onnx, torch, python, found 'tflite'"),
        ({"encoder_only": True, "with_score": True}, "give one of them"),
        ({"out": "a.pt"}, "expected .onnx, found '.pt'"),
        ({"samples": torch.zeros(3, 2)}, "expected samples of shape"),
        ({"samples": torch.zeros(3, 1, 6, 6, dtype=torch.complex64)}, "complex"),
        ({"samples": torch.full((3, 1, 6, 6), torch.nan)}, "not finite"),
        ({"samples": torch.zeros(0, 1, 6, 6)}, "no samples"),
        ({"samples": "nosuch.npy"}, "nosuch.npy"),
    ],
)
def test_wrong_arguments_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message) as error:
        aezoo.export(network(), **{"out": "a.onnx", "samples": pixels(3), **options})
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    path.write_text("old")
    with pytest.raises(CheckpointError, match="--force"):
        aezoo.export(network(), path, format="torch", samples=pixels(3))
    assert path.read_text() == "old"
    aezoo.export(network(), path, format="torch", samples=pixels(3), force=True)
    assert "latents" in run_torch(path, pixels(1))


@pytest.mark.parametrize("module", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"this needs {module}; .*aezoo\[onnx\]"):
        aezoo.export(network(), tmp_path / "a.onnx", samples=pixels(3))
    aezoo.export(network(), tmp_path / "a.pt2", format="torch", samples=pixels(3))


def test_weights_that_are_too_large_for_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_format, "MAX_BYTES", 1000)
    with pytest.raises(NotSupportedError, match="an ONNX file holds at most 2; use format torch"):
        aezoo.export(network(), tmp_path / "a.onnx", samples=pixels(3))


def test_a_network_without_weights(tmp_path: Path) -> None:
    with pytest.raises(NotSupportedError, match="meta device"):
        aezoo.export(network().to("meta"), tmp_path / "a.onnx", samples=pixels(3))


# -- poolings that runtimes get wrong -----------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7,), (8,), (5, 6), (9, 7), (5, 4, 7)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 3, 0), (2, 3, 1), (4, 3, 2)]
)
def test_average_pooling_without_ceil_mode(
    shape: tuple[int, ...], kernel: int, stride: int, padding: int
) -> None:
    pool = getattr(nn, f"AvgPool{len(shape)}d")(kernel, stride, padding, ceil_mode=True)
    h = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(CeilAvgPool(pool, len(shape))(h), pool(h))


def test_onnx_files_have_no_ceil_mode(tmp_path: Path) -> None:
    pooling = {"kind": "avg_pool", "kernel_size": 2, "ceil_mode": True}
    ae = network(pooling, {"kind": "flatten"}, shape=(1, 5, 5))
    aezoo.export(ae, tmp_path / "a.onnx", samples=pixels(3, 1, 5, 5))
    nodes = onnx.load(tmp_path / "a.onnx").graph.node
    flags = {a.name: a.i for node in nodes if node.op_type == "AveragePool" for a in node.attribute}
    assert flags.get("ceil_mode", 0) == 0
    assert type(ae.encoder[0]) is nn.AvgPool2d
