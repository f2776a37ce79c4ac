"""What the site says of a variant, read from its folder and its spec: task, kind, recipe in words, curves."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import aezoo
from aezoo.specs.variant import VariantSpec

ROOT = Path(__file__).resolve().parent.parent.parent
CONV = ("conv", "max_pool", "avg_pool")


@dataclass(frozen=True)
class Variant:
    """A variant of the zoo or of a plugin in this repository.

    Attributes:
        name: what `aezoo.load` takes.
        folder: with its files.
        entry: what the index says of it.
        plugin: name of the plugin that has it; `aezoo` for the zoo.
    """

    name: str
    folder: Path
    entry: dict[str, Any]
    plugin: str

    @cached_property
    def spec(self) -> VariantSpec:
        """Its spec."""
        return aezoo.get_spec(self.name)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Its metrics.json."""
        return json.loads((self.folder / "metrics.json").read_text("utf-8"))

    @cached_property
    def training(self) -> dict[str, Any]:
        """Its training.json."""
        return json.loads((self.folder / "training.json").read_text("utf-8"))

    @property
    def sortable(self) -> dict[str, float]:
        """Numbers of the test split, and the sizes of the network."""
        found = {
            key: entry["value"]
            for key, entry in self.metrics.items()
            if entry["value"] is not None and not key.endswith(".validation") and key != "train_seconds"
        }
        latents = 1
        for size in self.entry["latents"]:
            latents *= size
        return {
            **found,
            "parameters": self.entry["parameters"],
            "latents": latents,
            "bytes": self.entry["files"]["model.safetensors"]["bytes"],
            **({"train_seconds": seconds} if (seconds := self.training.get("seconds")) is not None else {}),
        }

    @property
    def dataset(self) -> str:
        """What it was trained on."""
        return str(self.entry["dataset"])

    @cached_property
    def kinds(self) -> set[str]:
        """Kinds of layers, losses, stages and noises in its spec."""
        recipe = self.spec.recipe
        parts = [*self.spec.encoder, *self.spec.decoder, *recipe.penalties, *recipe.noises, *recipe.stages]
        return {part.kind_name for part in parts} | {recipe.reconstruction.kind_name}

    @property
    def tasks(self) -> list[str]:
        """What it can be used for, beside compression, which all do."""
        found: list[str] = []
        if self.spec.output.shape != self.spec.input.shape or "grayscale" in self.kinds:
            found.append("colorization")
        elif self.spec.recipe.noises:
            found.append("denoising")
        if "auroc" in self.metrics:
            found.append("anomaly detection")
        if self.kinds & {"gaussian_sample"}:
            found.append("generation")
        if any(kind.startswith("vq.") for kind in self.kinds):
            found.append("quantization")
        if self.sparse:
            found.append("sparse coding")
        return found or ["compression"]

    @property
    def sparse(self) -> bool:
        """Whether its encoder or its loss makes the code sparse."""
        words = ("topk", "lifetime", "l1", "kl_sparsity", "sae.", "gated")
        return any(kind.startswith(word) or word in kind for kind in self.kinds for word in words)

    @property
    def architecture(self) -> str:
        """Convolutional, fully connected, or closed form."""
        if "pca" in self.kinds:
            return "principal components"
        layers = {layer.kind_name for layer in (*self.spec.encoder, *self.spec.decoder)}
        if any(kind.startswith(word) for kind in layers for word in CONV):
            return "convolutional"
        return "fully connected"


def variants() -> list[Variant]:
    """All variants in this repository, those of the zoo first."""
    found: list[Variant] = []
    for root in [ROOT / "zoo", *sorted(ROOT.glob("plugins/*/*/zoo"))]:
        plugin = "aezoo" if root.parent == ROOT else root.parent.name.replace("_", "-")
        index = json.loads((root / "index.json").read_text("utf-8"))["variants"]
        found += [Variant(name, root / name, entry, plugin) for name, entry in sorted(index.items())]
    return found
