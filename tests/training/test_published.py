"""Retraining a published variant from its spec gives the published bytes; run by `make retrain`."""

import hashlib
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import safetensors
import safetensors.torch

VARIANTS = (
    "zoo/pca-32", "zoo/fc-64", "zoo/vae-2", "plugins/aezoo-sae/aezoo_sae/zoo/sae-jumprelu32",
)  # fmt: skip


@pytest.mark.retrain
@pytest.mark.data
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: Path(variant).name)
def test_retraining_gives_the_published_bytes(variant: str, repository: Path, tmp_path: Path) -> None:
    published, folder = repository / variant, tmp_path / "again"
    recorded = json.loads((published / "training.json").read_text("utf-8"))["versions"]["torch"]
    if recorded != version("torch"):
        pytest.skip(f"published weights were trained with torch {recorded}; bits depend on the version")
    # In a process of its own, in which plugins are loaded.
    environment = {name: value for name, value in os.environ.items() if name != "AEZOO_PLUGINS"}
    command = [sys.executable, "-m", "aezoo", "train", published / "spec.yaml", "--out", folder]
    done = subprocess.run(
        [*command, "--device", "cpu"], env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    weights = published / "model.safetensors"
    with safetensors.safe_open(weights, "pt") as file:
        # The hash of the spec in it changes when specs gain a field, as they did since fc-64 was published.
        metadata = file.metadata()
    again = safetensors.torch.save(safetensors.torch.load_file(folder / "model.safetensors"), metadata)
    assert hashlib.sha256(again).hexdigest() == hashlib.sha256(weights.read_bytes()).hexdigest()
