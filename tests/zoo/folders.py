"""Small trained variants, their files, and changes to them, for the tests of `aezoo.zoo`."""

import errno
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import aezoo
from aezoo.jsonio import canonical_json
from aezoo.zoo.schema import CONFIG, WEIGHTS
from aezoo.zoo.variant_files import VariantFiles
from aezoo.zoo.verify import load
from tests.examples import small_spec
from tests.hub_server import sha256
from tests.raising import raises

Json = dict[str, Any]
ENCODER: list[Json] = [
    {"kind": "flatten"},
    # Batch normalization has an integer among its buffers.
    {"kind": "linear", "out_features": 5, "norm": "batch_norm", "activation": "relu"},
    {"kind": "topk", "k": 3},
]
BIAS, WEIGHT = "encoder.1.linear.bias", "encoder.1.linear.weight"
NORM = "encoder.1.norm.weight"
"""A tensor of the same shape as `BIAS`."""
PICTURE = b"\x89PNG, as far as the tests look"


def metric(value: float | None = 0.25, reason: str | None = None, **changes: Any) -> Json:
    """An entry of `metrics.json`."""
    return {
        "value": value, "reason": reason, "source": "computed", "dataset": "mnist", "split": "test", "n": 7,
        "definition": "mean squared error",
    } | changes  # fmt: skip


def batch(*shape: int) -> Tensor:
    """Four inputs of the small network, or of another shape."""
    return torch.rand(4, *(shape or (1, 6, 6)), generator=torch.Generator().manual_seed(3))


def network(seed: int = 1, **changes: Any) -> aezoo.Autoencoder:
    """A network as after a training: its buffers and records differ from those of a new one."""
    ae = aezoo.build(small_spec(**({"encoder": ENCODER} | changes)), seed=seed)
    with torch.no_grad():
        ae(batch(*ae.spec.input.shape))
    ae.target_mean = batch(*ae.spec.output.shape).mean(0)
    ae.metrics = {"mse": metric(seed / 4)}
    ae.training_record = {"seed": seed}
    return ae


def architecture(folder: Path) -> Path:
    """Save a network without name and recipe."""
    data = small_spec(encoder=ENCODER).model_dump(mode="json")
    spec = {key: data[key] for key in ("input", "encoder", "decoder")}
    return aezoo.save(aezoo.build(aezoo.AutoencoderSpec.model_validate(spec)), folder)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def all_contents(root: Path) -> dict[str, dict[str, bytes]]:
    """The files of every folder in a zoo."""
    return {path.name: contents(path) for path in root.iterdir() if path.is_dir()}


def same(ae: aezoo.Autoencoder, other: aezoo.Autoencoder) -> bool:
    """Whether two networks have the same spec and the same weights, bit for bit."""
    ours, theirs = ae.state_dict(), other.state_dict()
    return (
        ae.spec.resolved() == other.spec.resolved()
        and list(ours) == list(theirs)
        and all(ours[name].dtype == theirs[name].dtype for name in ours)
        and all(torch.equal(ours[name], theirs[name]) for name in ours)
    )


def config_of(folder: Path) -> Json:
    return json.loads((folder / CONFIG).read_text())


def edit_config(folder: Path, change: Callable[[Json], object], *, seal: bool = True) -> None:
    """Change `config.json`; `seal` makes `spec_sha256` fit, so that a later check has to refuse."""
    config = config_of(folder)
    change(config)
    if seal:
        config["spec_sha256"] = sha256(canonical_json(config["spec"]).encode())
    (folder / CONFIG).write_text(json.dumps(config))


def pack(header: Json | bytes, data: bytes) -> bytes:
    """A safetensors file."""
    raw = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def unpack(folder: Path) -> tuple[Json, bytes]:
    """The header and the data of a folder's weights."""
    raw = (folder / WEIGHTS).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def seal_weights(folder: Path, raw: bytes) -> None:
    """Write other weights, and their size and hash into the config, so that only their content is wrong."""
    (folder / WEIGHTS).write_bytes(raw)
    record = {"sha256": sha256(raw), "bytes": len(raw)}
    edit_config(folder, lambda config: config["weights"].update(record))


def refused(
    folder: Path, code: str, file: str = CONFIG, pinned: dict[str, str] | None = None, **options: Any
) -> str:
    """The one line with which loading a folder is refused; it names the file."""
    with raises(code) as caught:
        load(VariantFiles(folder, pinned), **options)
    text = str(caught.value)
    assert text.startswith(str(folder / file))
    assert "\n" not in text
    return text


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def no_space(*_: object) -> None:
    """In place of a function that writes: the disk is full."""
    raise OSError(errno.ENOSPC, "No space left on device")
