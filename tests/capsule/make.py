"""Writes the capsule of this version: small variants, and their outputs on fixed inputs.

Run once before each release: `python tests/capsule/make.py`. A capsule that exists never changes, since every
folder that was ever released must load with the same outputs in every later release.
"""

import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import safetensors.torch
import torch
from torch import Generator, Tensor

import aezoo
from aezoo.zoo.load import folder_of
from aezoo.zoo.schema import CONFIG, METRICS, TRAINING, WEIGHTS

VARIANTS = (
    "colorize", "conv-strided", "conv-unpool-max", "conv-unpool-nearest", "conv-upsample", "linear-32",
    "linear-pca-32", "pca-32", "sparse-topk16", "swissroll-2",
)  # fmt: skip
OUTPUTS = "outputs.safetensors"


def fixed_inputs(ae: aezoo.Autoencoder) -> Tensor:
    """Three inputs, (3, *input shape): the ends of the range, and values in between."""
    x = torch.rand(3, *ae.spec.input.shape, generator=Generator().manual_seed(20))
    low, high = ae.spec.input.range or (-2.0, 2.0)
    return torch.lerp(torch.tensor(low), torch.tensor(high), x)


def outputs(ae: aezoo.Autoencoder, x: Tensor) -> dict[str, Tensor]:
    """What a network gives for fixed inputs."""
    with torch.no_grad():
        out = ae(x)
    return {"x": x, "latents": out.latents.contiguous(), "x_hat": out.x_hat.contiguous()}


def main() -> None:
    """Writes the capsule, unless there is one of this version."""
    place = Path(__file__).parent / version("aezoo")
    if place.exists():
        sys.exit(f"{place} exists and never changes")
    for name in VARIANTS:
        (place / name).mkdir(parents=True)
        for file in (CONFIG, WEIGHTS, METRICS, TRAINING):
            shutil.copy2(folder_of(name) / file, place / name / file)
        ae = aezoo.load(name)
        safetensors.torch.save_file(outputs(ae, fixed_inputs(ae)), place / f"{name}.{OUTPUTS}")


if __name__ == "__main__":
    main()
