"""Every layer and every published variant is exported, and gives what aezoo gives."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import aezoo
from aezoo.model.autoencoder import eval_mode
from tests.examples import LAYERS
from tests.exporting.networks import SUFFIX, load_python, network, pixels
from tests.parts import in_parts

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
ZOO = Path(__file__).parents[2] / "zoo"
VARIANTS = sorted(path.parent.name for path in ZOO.glob("*/config.json"))
PLUGINS = sorted(Path(__file__).parents[2].glob("plugins/*/*/zoo/*/config.json"))
EXAMPLES = [
    (format, kind, i)
    for i in range(6)
    for format in SUFFIX
    for kind in sorted(LAYERS)
    if i < len(LAYERS[kind])
]  # fmt: skip


def assert_same_bits(ae: aezoo.Autoencoder, path: Path) -> None:
    """The exported source gives the bits of aezoo: encode, decode and forward; and has the same tensors."""
    model = load_python(path)["load"]()
    assert list(model.state_dict()) == list(ae.state_dict())
    raw = pixels(5, *ae.spec.input.shape)
    x = ae.transforms()(raw if ae.scaler is None else raw.float())
    with eval_mode(ae), torch.no_grad():
        expected = ae(x)
        assert torch.equal(model.preprocess(raw if ae.scaler is None else raw.float()), x)
        aux: dict[str, Tensor] = {}
        shares = "aux" in inspect.signature(model.encode).parameters
        latents = model.encode(x, aux) if shares else model.encode(x)
        assert torch.equal(latents, ae.encode(x))
        assert torch.equal(model.decode(latents, aux) if shares else model.decode(latents), expected.x_hat)
        assert all(map(torch.equal, model(x), (expected.x_hat, expected.latents)))


def assert_readable(path: Path) -> None:
    """The source is formatted as ruff does it, and ruff finds nothing in it."""
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["format", "--check", "--line-length", "100"], ["check"]):
        done = subprocess.run([ruff, *command, "--isolated", path], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert max(map(len, path.read_text("utf-8").splitlines())) <= 100


@pytest.mark.data
@pytest.mark.parametrize(("format", "name"), in_parts([(f, n) for f in SUFFIX for n in VARIANTS], 41))
def test_a_published_variant_is_exported(tmp_path: Path, format: Any, name: str) -> None:
    ae = aezoo.load(name)
    result = aezoo.export(ae, tmp_path / f"a{SUFFIX[format]}", format=format, with_score=True)
    metrics = result.comparison.metrics
    assert len(result.comparison.undecided) < 0.001 * result.comparison.n
    assert metrics["mse"]["published"] == ae.metrics["mse"]["value"]
    assert metrics["mse"]["file"] == pytest.approx(ae.metrics["mse"]["value"], rel=1e-5)
    assert metrics["mse"]["aezoo"] == pytest.approx(ae.metrics["mse"]["value"], rel=1e-5)
    if format == "python":
        assert (tmp_path / "a.safetensors").read_bytes() == Path(
            str(ae.source.path), "model.safetensors"
        ).read_bytes()
        assert_same_bits(ae, tmp_path / "a.py")
        assert_readable(tmp_path / "a.py")
    if "l0" in metrics:
        # A runtime may round a sigmoid of 1e-9 to zero, which L0 counts.
        assert metrics["l0"]["file"] == pytest.approx(ae.metrics["l0"]["value"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("format", SUFFIX)
@pytest.mark.parametrize("name", [path.parent.name for path in PLUGINS])
def test_a_variant_of_a_plugin_is_exported(tmp_path: Path, format: str, name: str) -> None:
    """In a process with plugins, which the other tests do without."""
    environment = {key: value for key, value in os.environ.items() if key != "AEZOO_PLUGINS"}
    command = [sys.executable, "-m", "aezoo"]
    known = subprocess.run([*command, "list", "--json"], env=environment, capture_output=True, check=True)
    if name not in json.loads(known.stdout):
        pytest.skip("the plugin is not installed")
    out = tmp_path / f"a{SUFFIX[format]}"
    options = ["--format", format, "-o", str(out), "--with-score", "--json"]
    done = subprocess.run(
        [*command, "export", name, *options], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    comparison = json.loads(done.stdout)["comparison"]
    assert comparison["undecided"]["n"] <= 0.001 * comparison["n"]
    mse = comparison["metrics"]["mse"]
    assert mse["file"] == pytest.approx(mse["published"], rel=1e-5)


@pytest.mark.parametrize(("format", "kind", "index"), in_parts(EXAMPLES, 23))
def test_a_layer_is_exported(tmp_path: Path, format: Any, kind: str, index: int) -> None:
    options, shape = LAYERS[kind][index]
    layers: list[dict[str, Any]] = [{"kind": kind, **options}]
    if kind == "max_unpool":
        pooling = {key: value for key, value in options.items() if key != "size"}
        layers.insert(0, {**pooling, "kind": "max_pool"})
    # The target has the shape of the layer's output, which the last layer does not change.
    spec = {
        "input": {"shape": shape, "range": [0, 1]},
        "encoder": layers,
        "decoder": [{"kind": "dropout", "p": 0.5}],
    }
    out = probed_shape(spec)
    ae = network(*layers, decoder=spec["decoder"], shape=shape, target={"shape": out})
    path = tmp_path / f"a{SUFFIX[format]}"
    result = aezoo.export(ae, path, format=format, samples=pixels(12, *shape))
    assert result.comparison.undecided == []
    if format == "python":
        assert_same_bits(ae, path)
        assert_readable(path)


def probed_shape(spec: dict[str, Any]) -> tuple[int, ...]:
    """The shape that layers give, from the error for a wrong target."""
    try:
        aezoo.build(aezoo.AutoencoderSpec.model_validate({**spec, "target": {"shape": [99999]}}))
    except aezoo.SpecError as error:
        text = str(error).partition("gives (")[2].partition(")")[0]
        return tuple(int(size) for size in text.split(",") if size.strip())
    raise AssertionError(spec)
