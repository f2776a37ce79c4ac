"""Folders of every released version load with the same outputs."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

import aezoo
from tests.capsule.make import OUTPUTS, outputs

HERE = Path(__file__).parent
FOLDERS = sorted(path.parent for path in HERE.glob("*/*/config.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_released_folder_loads_with_the_same_outputs(folder: Path) -> None:
    ae = aezoo.load(folder)
    expected = safetensors.torch.load_file(folder.with_name(f"{folder.name}.{OUTPUTS}"))
    found = outputs(ae, expected["x"])
    for name, tensor in expected.items():
        # Products are summed in another order on another processor.
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)
    assert ae.metrics["mse"]["value"] is not None
    assert ae.training_record


def test_a_version_has_ten_variants_of_two_megabytes_in_all() -> None:
    versions = sorted(path for path in HERE.iterdir() if path.is_dir() and path.name[0].isdigit())
    assert [path.name for path in versions][:1] == ["0.1.0"]
    for version in versions:
        assert len([folder for folder in FOLDERS if folder.parent == version]) == 10
        assert sum(file.stat().st_size for file in version.rglob("*") if file.is_file()) < 2_000_000
