"""Calls public functions with arguments of wrong types and prints, as JSON, how each call ends.

A program of its own, because the tests check the types of every call themselves.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import aezoo

ae: Any = aezoo.load("fc-64")
x = torch.zeros(2, 1, 28, 28)
latents = torch.zeros(2, 64)
samples = aezoo.Samples(x)
folder = Path(tempfile.mkdtemp())
NOT_TENSORS: dict[str, Any] = {
    "array": x.numpy(), "list": [[0.0]], "none": None, "text": "x", "class": Tensor, "samples": samples,
    "mapping": {"x": x}, "scalar": np.float32(1),
}  # fmt: skip
NOT_SPECS: dict[str, Any] = {
    "name": "fc-64", "file": "x/spec.yaml", "path": Path("x"), "mapping": {"name": "x"},
    "class": aezoo.VariantSpec, "none": None, "number": 3, "autoencoder": ae, "list": [],
}  # fmt: skip
NOT_NAMES: dict[str, Any] = {
    "none": None, "number": 3, "bytes": b"fc-64", "class": aezoo.Autoencoder, "list": ["fc-64"],
    "spec": ae.spec, "autoencoder": ae,
}  # fmt: skip

CALLS: dict[str, Callable[[], object]] = {}


def add(name: str, function: Callable[..., object], *arguments: Any, **options: Any) -> None:
    """Adds a call."""
    CALLS[name] = lambda: function(*arguments, **options)


for what, given in NOT_TENSORS.items():
    add(f"tensor decode_sparse {what}", ae.decode_sparse, given)
    for method in ("forward", "encode", "decode", "score_samples"):
        add(f"tensor {method} {what}", getattr(ae, method), given)
for what, given in NOT_SPECS.items():
    add(f"spec build {what}", aezoo.build, given)
    add(f"spec train {what}", aezoo.train, given, x)
    add(f"spec train_to_folder {what}", aezoo.train_to_folder, given)
    add(f"spec train_to_folder with data {what}", aezoo.train_to_folder, given, folder / "x", x)
for what, given in {"zero": 0, "one": 1, "text": "false", "numpy": np.bool_(False)}.items():
    add(f"switch sparse_kernels {what}", lambda given=given: aezoo.sparse_kernels(given).__enter__())
for what, given in NOT_NAMES.items():
    add(f"name load {what}", aezoo.load, given)
    add(f"name get_spec {what}", aezoo.get_spec, given)
    add(f"name demo {what}", aezoo.demo, given, folder / "x.png")
    add(f"name get_entry {what}", aezoo.get_entry, given)
for what, given in {"name": "fc-64", "none": None, "class": aezoo.Autoencoder, "spec": ae.spec}.items():
    add(f"autoencoder save {what}", aezoo.save, given, folder / "y")
    add(f"autoencoder evaluate {what}", aezoo.evaluate, given, samples, dataset="d", split="test")
    add(f"autoencoder run_protocol {what}", aezoo.run_protocol, "probe", given)
for dtype in ("int8", "complex64"):
    add(f"dtype load {dtype}", aezoo.load, "fc-64", dtype=getattr(torch, dtype))
    add(f"dtype build {dtype}", aezoo.build, ae.spec, dtype=getattr(torch, dtype))
add("dtype load text", aezoo.load, "fc-64", dtype="bfloat16")
add("dtype build none", aezoo.build, ae.spec, dtype=None)
for what, given in {"unknown": "banana", "none": None, "number": 1.5}.items():
    add(f"device load {what}", aezoo.load, "fc-64", device=given)
    add(f"device build {what}", aezoo.build, ae.spec, device=given)
add("data decode float64", ae.decode, latents.double())
add("data decode integer", ae.decode, latents.long())
add("data decode meta", ae.decode, latents.to("meta"))
add("data forward float64", ae, x.double())
add("data forward half", ae, x.half())
add("data forward bytes", ae, x.byte())
add("data forward bool", ae, x.bool())
add("data forward complex", ae, x.to(torch.complex64))
add("data forward sparse", ae, x.to_sparse())
add("data forward meta", ae, x.to("meta"))
add("data encode no batch axis", ae.encode, x[0])
add("data decode no batch axis", ae.decode, latents[0])

if __name__ == "__main__":
    found: dict[str, tuple[bool, str]] = {}
    for name, call in CALLS.items():
        try:
            found[name] = (False, f"returned {type(call()).__name__}")
        except Exception as error:
            found[name] = (isinstance(error, aezoo.AezooError), f"{type(error).__name__}: {error}")
    json.dump(found, sys.stdout)
