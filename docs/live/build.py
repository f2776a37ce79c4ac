"""Builds the files of the live page: `python docs/live/build.py OUT` writes them into the folder OUT.

The folder holds the page's own modules and style sheet as they are in `src/`, ONNX Runtime Web from its npm
package, each network as two ONNX files, `encoder` and `decoder`, the sample digits, and `networks.json` with
what the page says of them. Files of networks are kept between builds in `docs/_build/cache/live/`.
"""

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import aezoo
from aezoo.errors import AezooError, NotSupportedError, optional
from aezoo.files import replace_folder, write_atomically
from aezoo.specs.variant import VariantSpec

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / "_build" / "cache" / "live"
RUNTIME = HERE / "node_modules" / "onnxruntime-web" / "dist"
EXPLORED = (
    "vae-16", "fc-64", "sparse-topk16", "overcomplete-topk", "conv-fc", "conv-strided", "vae-2",
    "denoise-gaussian", "denoise-mask", "denoise-32",
)  # fmt: skip
"""Networks whose latents can be changed, in the order of the chooser."""
DETECTORS = tuple(f"anomaly-{digit}" for digit in range(10))
"""Networks that score images."""
PRE_ACTIVATIONS = "pre_activations"
"""Additional output of an encoder that ends with a top-k layer: the latents before the choice."""


class BuildError(AezooError, RuntimeError):
    """The live page cannot be built on this machine."""


@dataclass(frozen=True)
class Cut:
    """An exported network as the two files that the page runs.

    Attributes:
        encoder: `input` -> `latents`, and `pre_activations` where the encoder ends with a top-k layer.
        decoder: `latents` -> `reconstruction`.
    """

    encoder: bytes
    decoder: bytes


def build(out: Path) -> None:
    """Writes the files of the page into a folder, which is replaced as a whole.

    Args:
        out: the folder.

    Raises:
        BuildError: npm or the extra `onnx` is missing, or npm failed.
        AezooError: a network cannot be exported, or its file does not agree with aezoo.
    """
    install()
    networks = {name: _network(name) for name in (*EXPLORED, *DETECTORS)}
    digits = aezoo.sample_digits()
    assert digits.labels is not None
    runtime = _runtime()
    description = {
        "aezoo": aezoo.__version__,
        "runtime": {
            "name": "ONNX Runtime Web",
            "version": _runtime_version(),
            "file": "vendor/onnxruntime.wasm.gz",
            "bytes": len(runtime["onnxruntime.wasm.gz"]),
        },
        "digits": {
            "file": "digits.bin.gz",
            "dataset": "mnist",
            "split": "test",
            "shape": list(digits.inputs.shape),
            "labels": digits.labels.tolist(),
        },
        "explored": list(EXPLORED),
        "walk": [name for name in EXPLORED if _is_vector(networks[name][0]["latents"])],
        "manifold": next(name for name in EXPLORED if networks[name][0]["latents"] == [2]),
        "sparse": [name for name in EXPLORED if networks[name][0]["k"] is not None],
        "denoisers": [name for name in EXPLORED if networks[name][0]["noise"] is not None],
        "detectors": list(DETECTORS),
        "unusual": _unusual(),
        "networks": {name: entry for name, (entry, _) in networks.items()},
    }

    def fill(folder: Path) -> None:
        shutil.copytree(HERE / "src", folder, dirs_exist_ok=True)
        for name, content in runtime.items():
            _write(folder / "vendor" / name, content)
        for entry, cut in networks.values():
            _write(folder / entry["files"]["encoder"], cut.encoder)
            _write(folder / entry["files"]["decoder"], cut.decoder)
        _write(folder / "digits.bin.gz", gzip.compress(digits.inputs.numpy().tobytes(), mtime=0))
        _write(folder / "networks.json", json.dumps(description, allow_nan=False).encode())

    replace_folder(out, fill)


def install() -> None:
    """Installs the npm packages that `package-lock.json` names, if they are not.

    Raises:
        BuildError: npm is missing or failed.
    """
    wanted = (HERE / "package-lock.json").read_bytes()
    done = HERE / "node_modules" / ".installed"
    if done.is_file() and done.read_bytes() == wanted:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise BuildError("npm was not found, which the live page needs; install Node.js 18 or later with npm")
    result = subprocess.run(  # noqa: S603
        [npm, "ci", "--loglevel=error"], cwd=HERE, capture_output=True, text=True, check=False
    )
    if result.returncode:
        text = " ".join((result.stderr or result.stdout).split())[:300]
        raise BuildError(f"npm ci failed in {HERE} with status {result.returncode}: {text}")
    write_atomically(done, wanted)


def _runtime() -> dict[str, bytes]:
    """The files of ONNX Runtime Web that run on one thread of the CPU, without headers of the server.

    WebAssembly is compressed here, because not every server compresses it.
    """
    try:
        script = (RUNTIME / "ort.wasm.bundle.min.mjs").read_text("utf-8")
        binary = (RUNTIME / "ort-wasm-simd-threaded.wasm").read_bytes()
    except OSError as error:
        raise BuildError(
            f"{error.filename}: expected a file of onnxruntime-web {_runtime_version()}, not found"
        ) from error
    script = re.sub(r"\n//# sourceMappingURL=.*", "", script)
    return {
        "onnxruntime.js": script.encode(),
        "onnxruntime.wasm.gz": gzip.compress(binary, mtime=0),
    }


def _runtime_version() -> str:
    return json.loads((RUNTIME.parent / "package.json").read_text("utf-8"))["version"]


def _network(name: str) -> tuple[dict[str, Any], Cut]:
    """Description and files of a network."""
    ae = aezoo.load(name)
    digits = aezoo.sample_digits().inputs
    if ae.spec.input.shape != (1, *digits.shape[1:]) or ae.spec.output.shape != ae.spec.input.shape:
        raise NotSupportedError(
            f"{name}: the live page expects gray images of 28 x 28 pixels, input and output"
        )
    cut = _cut(name)
    with torch.no_grad():
        latents = ae.encode(ae.transforms()(digits))
    spec = aezoo.get_spec(name)
    files = {part: f"networks/{name}.{part}.onnx" for part in ("encoder", "decoder")}
    k = getattr(spec.resolved().encoder[-1], "k", None)
    return {
        "summary": spec.summary,
        "files": files,
        "bytes": len(cut.encoder) + len(cut.decoder),
        "latents": list(ae.latent_shape),
        "low": _rounded(latents.flatten(1).amin(0)),
        "high": _rounded(latents.flatten(1).amax(0)),
        "k": k,
        "noise": _noise(spec),
        "classes": list(getattr(spec.recipe.dataset, "classes", None) or []) if spec.recipe else [],
        "metrics": {
            key: entry["value"]
            for key, entry in ae.metrics.items()
            if key in ("mse", "mse.validation", "auroc", "l0") and entry["value"] is not None
        },
    }, cut


def _unusual(share: float = 0.95) -> dict[str, float]:
    """How far from every detector's usual error an image must be to stand out.

    For each sample digit, the smallest ratio of its error to the usual error of a detector is found. `share`
    of the digits have a smaller one than `ratio`.
    """
    digits = aezoo.sample_digits().inputs
    ratios: list[Tensor] = []
    for name in DETECTORS:
        ae = aezoo.load(name)
        with torch.no_grad():
            errors = -ae.score_samples(ae.transforms()(digits))
        ratios.append(errors / ae.metrics["mse.validation"]["value"])
    smallest = torch.stack(ratios).amin(0)
    return {"share": share, "ratio": float(smallest.quantile(share))}


def _is_vector(shape: list[int]) -> bool:
    return len(shape) == 1


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.4g}") for value in values.tolist()]


def _noise(spec: VariantSpec) -> dict[str, Any] | None:
    """The noise that a network was trained to remove: its kind, and its standard deviation or share."""
    noises = spec.recipe.noises if spec.recipe else ()
    if not noises:
        return None
    first: Any = noises[0]
    return {"kind": first.kind_name, "amount": getattr(first, "std", None) or getattr(first, "share", None)}


def _cut(name: str) -> Cut:
    """The ONNX file of a network as encoder and decoder, from the cache if nothing changed."""
    entry = hashlib.sha256()
    for content in (
        Path(__file__).read_bytes(),
        aezoo.__version__.encode(),
        aezoo.load(name).fingerprint().encode(),
    ):
        entry.update(hashlib.sha256(content).digest())
    folder = CACHE / f"{name}-{entry.hexdigest()[:16]}"
    if not folder.is_dir():
        cut = _exported(name)

        def fill(made: Path) -> None:
            (made / "encoder.onnx").write_bytes(cut.encoder)
            (made / "decoder.onnx").write_bytes(cut.decoder)

        replace_folder(folder, fill)
    return Cut((folder / "encoder.onnx").read_bytes(), (folder / "decoder.onnx").read_bytes())


def _exported(name: str) -> Cut:
    """Exports a network by `aezoo.export`, which compares it with aezoo, and cuts the file at the latents."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        aezoo.export(name, path, samples=aezoo.sample_digits())
        onnx = optional("onnx", "onnx", "onnx")
        model = onnx.load(path)
    chosen = [node.input[0] for node in model.graph.node if node.op_type == "TopK"]
    del model.metadata_props[:]
    model = onnx.shape_inference.infer_shapes(model)
    extractor = onnx.utils.Extractor(model)
    encoder = extractor.extract_model(["input"], ["latents", *chosen])
    decoder = onnx.utils.Extractor(model).extract_model(["latents"], ["reconstruction"])
    if chosen:
        _rename_output(encoder, chosen[0])
    for part in (encoder, decoder):
        _store_half(onnx, part)
        onnx.checker.check_model(part)
    return Cut(encoder.SerializeToString(), decoder.SerializeToString())


def _rename_output(model: Any, name: str) -> None:
    """Gives an output the name `pre_activations`."""
    for node in model.graph.node:
        node.input[:] = [PRE_ACTIVATIONS if value == name else value for value in node.input]
        node.output[:] = [PRE_ACTIVATIONS if value == name else value for value in node.output]
    for value in model.graph.output:
        value.name = PRE_ACTIVATIONS if value.name == name else value.name
    kept = [value for value in model.graph.value_info if value.name != name]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)


def _store_half(onnx: Any, model: Any) -> None:
    """Stores weights as float16 where that loses nothing; they are converted when the file is opened."""
    for weights in list(model.graph.initializer):
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype != "float32" or values.size < 1000 or (values.astype("float16") != values).any():
            continue
        name = weights.name
        weights.CopyFrom(onnx.numpy_helper.from_array(values.astype("float16"), f"{name}.float16"))
        cast = onnx.helper.make_node("Cast", [f"{name}.float16"], [name], to=onnx.TensorProto.FLOAT)
        model.graph.node.insert(0, cast)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def main(arguments: list[str]) -> int:
    """Runs the script; returns its exit status."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python docs/live/build.py OUT", file=sys.stderr)
        return 2
    try:
        build(Path(arguments[0]))
    except (AezooError, OSError) as error:
        print(f"docs/live/build.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(sys.argv[1:]))
