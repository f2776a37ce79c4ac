"""Exports an autoencoder to a file, compares the file with aezoo, and only then puts it in place."""

import copy
import hashlib
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from aezoo.errors import CheckpointError, DataError, NotSupportedError
from aezoo.exporting.comparison import Comparison, Reference, Runner, compare
from aezoo.exporting.inputs import ComparedData, compared_data
from aezoo.exporting.onnx_format import onnx_bytes, onnx_model, onnx_runtime, open_onnx, require_onnx
from aezoo.exporting.portable import portable
from aezoo.exporting.program import ExportedNetwork, frozen, input_dtype, trace
from aezoo.exporting.python_format import open_python, python_bytes, weights_bytes
from aezoo.exporting.torch_format import open_torch, torch_bytes, torch_runtime
from aezoo.files import replacing
from aezoo.inference.network import loaded
from aezoo.inference.outputs import check_output, write_errors
from aezoo.jsonio import canonical_json, pretty_json, strict_json
from aezoo.model.autoencoder import Autoencoder
from aezoo.specs.schema import spec_sha256
from aezoo.zoo.schema import CONFIG, WEIGHTS

StrPath = str | os.PathLike[str]
SUFFIX = {"onnx": ".onnx", "torch": ".pt2", "python": ".py"}
"""Format -> suffix of its files."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        record: the content of `FILE.json`, which is also in the file.
        comparison: differences from aezoo, and metrics.
    """

    path: Path
    record: dict[str, Any]
    comparison: Comparison


def export(
    ae: Autoencoder | str,
    out: StrPath | None = None,
    *,
    format: str = "onnx",
    encoder_only: bool = False,
    with_score: bool = False,
    samples: object = None,
    force: bool = False,
) -> Exported:
    """Writes an autoencoder to a file that runs without aezoo, after comparing the file with aezoo.

    A file of the formats `onnx` and `torch` takes a batch of any size under the name `input` and gives
    `latents`, `reconstruction` and `score`, all in evaluation mode and float32:

    - `input`, (batch, *input shape), is raw data: uint8 for images, whose bytes are scaled in the file;
      numbers in their original units where the training data were standardized, which the file standardizes
      in double precision; otherwise what `ae.encode` takes. It is uint8 if all samples of the comparison are
      bytes, and float64 if the network's scaling is.
    - `latents`, (batch, *latent shape), are those of `ae.encode`.
    - `reconstruction`, (batch, *target shape), is in the units that `ae.transforms().inverse` returns.
    - `score`, (batch,), is what `ae.score_samples` returns: minus the mean squared error in the network's
      units. A higher score is more usual.

    Args:
        ae: an autoencoder, or what `aezoo.load` takes. Not changed.
        out: the file; `NAME.onnx`, `NAME.pt2` or `NAME.py` in the working directory by default. `FILE.json`
            is written next to it.
        format: `onnx`, opset 18; `torch`, a program of `torch.export`; or `python`, source of a class with
            the methods `preprocess`, `encode`, `decode` and `forward`, and `NAME.safetensors` next to it.
        encoder_only: whether to give `latents` alone.
        with_score: whether to give `score` as well.
        samples: what to compare on: what `aezoo.encode_to_file` takes, or a `Samples` with targets. By
            default the test split of the network's dataset; if there is none, the validation samples that a
            training in this process left in memory. At most 10,000 samples are used.
        force: whether to replace a file.

    Returns:
        The path, the record, and the comparison.

    Raises:
        DataError: there are no samples, or an output differs by more than 1e-4 (relative to the largest value
            of a sample's output, where that is above 1, and in the network's units). Nothing was written.
        NotSupportedError: the format cannot express a layer, which the message names, or there is no score
            for this target.
        MissingExtraError: a library of the extra `onnx` is not installed.
        CheckpointError: the file exists or cannot be written. Nothing was written.
    """
    if format not in SUFFIX:
        raise DataError(f"format: expected {', '.join(SUFFIX)}, found {format!r}")
    if encoder_only and with_score:
        raise DataError("encoder_only leaves out the decoder, which with_score needs; give one of them")
    ae = loaded(ae)
    if with_score and ae.spec.output.shape != ae.spec.input.shape:
        raise NotSupportedError("a score compares with the input, which is not this target's shape")
    path = Path(out).expanduser() if out is not None else Path(f"{variant_name(ae)}{SUFFIX[format]}")
    check_output(path, force=force, suffixes=(SUFFIX[format],))
    if format == "python":
        check_output(_weights_path(path), force=force, suffixes=(".safetensors",))
    if format == "onnx":
        require_onnx()
    outputs: tuple[str, ...] = ("latents",)
    if not encoder_only:
        outputs = ("latents", "reconstruction", "score") if with_score else ("latents", "reconstruction")
    fixed = frozen(ae)
    data = compared_data(fixed, samples)
    dtype = input_dtype(fixed.transforms(), data.raw.dtype == torch.uint8)
    network = ExportedNetwork(portable(fixed) if format == "onnx" else fixed, dtype, outputs)
    file = (
        _python_file(ae, fixed, network, path)
        if format == "python"
        else _program_file(fixed, network, format)
    )
    record = _record(ae, network, format)
    if file.weights is not None:
        digest = hashlib.sha256(file.weights).hexdigest()
        record |= {"weights_file": _weights_path(path).name, "weights_file_sha256": digest}
    reference = Reference(_reference(ae, fixed), outputs)
    comparison = compare(reference, file.open(file.write(record)), data, file.runtime, _published(ae))
    record["comparison"] = comparison.as_dict()
    _put(path, file, record, data)
    return Exported(path, record, comparison)


def variant_name(ae: Autoencoder) -> str:
    """The name of a variant; `autoencoder` for one without."""
    return str(getattr(ae.spec, "name", "autoencoder"))


def _reference(ae: Autoencoder, fixed: Autoencoder) -> Autoencoder:
    """The network that a file is compared with: in double precision if it is; half precision is widened.

    A network in float16 or bfloat16 gives other numbers on every machine; the file has its weights exactly.
    """
    wide = any(parameter.dtype == torch.float64 for parameter in ae.parameters())
    if not wide:
        return fixed
    return copy.deepcopy(ae).cpu().eval().requires_grad_(False)


@dataclass(frozen=True)
class _File:
    """How a format is written and run.

    Attributes:
        write: a record -> the content of the file.
        open: the file, or its content -> what runs it.
        runtime: name and version of what runs it.
        weights: content of the weights file next to it, if there is one.
    """

    write: Callable[[dict[str, Any]], bytes]
    open: Callable[[Path | bytes], Runner]
    runtime: str
    weights: bytes | None = None


def _program_file(fixed: Autoencoder, network: ExportedNetwork, format: str) -> _File:
    program = trace(network, fixed)

    if format == "onnx":
        model = onnx_model(program, network.outputs)

        def onnx(record: dict[str, Any]) -> bytes:
            return onnx_bytes(model, _properties(record))

        return _File(onnx, open_onnx, onnx_runtime())

    def torch_program(record: dict[str, Any]) -> bytes:
        return torch_bytes(program, canonical_json(record))

    return _File(torch_program, open_torch, torch_runtime())


def _python_file(ae: Autoencoder, fixed: Autoencoder, network: ExportedNetwork, path: Path) -> _File:
    published: bytes | None = None
    if ae.source.path is not None and ae.source.sha256 is not None and _unchanged(ae):
        with suppress(OSError):
            content = (Path(ae.source.path) / WEIGHTS).read_bytes()
            published = content if hashlib.sha256(content).hexdigest() == ae.source.sha256 else None
    weights = weights_bytes(fixed, published, network.outputs == ("latents",))
    numbers = _numbers(ae)
    source = python_bytes(fixed, weights, _weights_path(path).name, network.outputs, numbers)

    def write(_: dict[str, Any]) -> bytes:
        return source

    def open_file(file: Path | bytes) -> Runner:
        return open_python(file, weights, network.outputs)

    return _File(write, open_file, torch_runtime(), weights)


def _numbers(ae: Autoencoder) -> list[str]:
    """A heading and a line for each number that was measured on the test split; empty without any."""
    found = {
        name: entry
        for name, entry in _published(ae).items()
        if entry.get("source") == "computed" and entry.get("split") == "test" and entry["value"] is not None
    }
    if not found:
        return []
    entry = next(iter(found.values()))
    width = max(map(len, found))
    heading = f"Measured with these weights on the test split of {entry['dataset']} ({entry['n']:,} samples):"
    return [heading, *(f"{name:{width}}  {entry['value']:.6g}" for name, entry in found.items())]


def _weights_path(path: Path) -> Path:
    """The weights of an exported Python file, next to it."""
    return path.with_suffix(".safetensors")


def _properties(record: dict[str, Any]) -> dict[str, str]:
    """ONNX's metadata, which maps names to texts."""
    return {
        f"aezoo.{name}": value if isinstance(value, str) else canonical_json(value)
        for name, value in record.items()
        if value is not None
    }


def _record(ae: Autoencoder, network: ExportedNetwork, format: str) -> dict[str, Any]:
    scaled = "none"
    if network.standardized:
        scaled = "standardized in the file; give numbers in their original units"
    elif network.dtype == torch.uint8:
        low, high = ae.spec.input.range or (0.0, 1.0)
        scaled = f"bytes are scaled from 0..255 to {low:g}..{high:g} in the file"
    shapes = {"latents": ae.latent_shape, "reconstruction": ae.spec.output.shape, "score": ()}
    dtype = next((str(p.dtype).removeprefix("torch.") for p in ae.parameters()), "float32")
    return {
        "format": format, "variant": getattr(ae.spec, "name", None), "version": version("aezoo"),
        "weights_sha256": ae.source.sha256 if _unchanged(ae) else None, "fingerprint": ae.fingerprint(),
        "spec_sha256": _spec_hash(ae), "weights_dtype": dtype, "computes_in": "float32",
        "input": {
            "shape": ["batch", *ae.spec.input.shape], "dtype": str(network.dtype).removeprefix("torch."),
            "scaling": scaled, "columns": list(ae.columns),
        },
        "outputs": {name: {"shape": ["batch", *shapes[name]]} for name in network.outputs},
    }  # fmt: skip


def _unchanged(ae: Autoencoder) -> bool:
    """Whether a network is still the one that its records describe."""
    return ae.describes_weights("metrics") and ae.describes_weights("training_record")


def _published(ae: Autoencoder) -> dict[str, Any]:
    return ae.metrics if _unchanged(ae) else {}


def _spec_hash(ae: Autoencoder) -> str:
    """The hash in the variant's `config.json`; computed for a network that was not loaded or was changed.

    The stored spec may lack fields that a later version added, and then has another hash.
    """
    if ae.source.path is not None and _unchanged(ae):
        config = Path(ae.source.path) / CONFIG
        with suppress(OSError, CheckpointError):
            stored = strict_json(config.read_bytes(), config).get("spec_sha256")
            if isinstance(stored, str):
                return stored
    return spec_sha256(ae.spec.resolved())


def _put(path: Path, file: _File, record: dict[str, Any], data: ComparedData) -> None:
    """Writes the file and what lies next to it, all or none; the file is run once more before."""
    beside = path.with_name(f"{path.name}.json")
    content = file.write(record)
    with ExitStack() as stack:
        stack.enter_context(write_errors(path))
        written = stack.enter_context(replacing(path))
        written.write(content)
        written.flush()
        try:
            file.open(Path(written.name))(data.raw[:1].numpy())
        except NotSupportedError as error:
            raise CheckpointError("write-failed", f"{path} could not be written: {error}") from error
        stack.enter_context(replacing(beside)).write(pretty_json(record))
        if file.weights is not None:
            stack.enter_context(replacing(_weights_path(path))).write(file.weights)
