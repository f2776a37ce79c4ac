"""The demonstration measures and draws every variant for digits, and refuses others."""

from pathlib import Path

import pytest
import torch

import aezoo
from aezoo.data.datasets.torchvision import MnistSpec
from aezoo.data.samples import Samples
from aezoo.zoo.demo import sample_digits
from tests.parts import in_parts


@pytest.mark.parametrize("name", in_parts(aezoo.list_variants(), 4))
def test_the_demo_measures_and_draws_or_refuses(name: str, tmp_path: Path) -> None:
    picture = tmp_path / "new" / "picture.png"
    if aezoo.get_entry(name)["input"] != [1, 28, 28]:
        with pytest.raises(aezoo.DataError):
            aezoo.demo(name, picture)
        assert not picture.exists()
        return
    found = aezoo.demo(name, picture)
    assert found.picture.read_bytes().startswith(b"\x89PNG")
    assert found.metrics["mse"]["n"] == 300
    if aezoo.get_spec(name).recipe.dataset == MnistSpec():
        published = found.ae.metrics["mse"]["value"]
        assert found.metrics["mse"]["value"] == pytest.approx(published, rel=0.15)


@pytest.mark.data
def test_the_shipped_digits_are_the_first_of_the_test_set() -> None:
    shipped, real = sample_digits(), MnistSpec().load("test")
    assert isinstance(shipped, Samples)
    assert len(shipped) == 300
    assert shipped.labels is not None
    assert real.labels is not None
    assert torch.equal(shipped.inputs, real.inputs[:300, 0])
    assert shipped.labels.tolist() == real.labels[:300].tolist()
