"""Anomaly detection by the reconstruction error."""

import numpy as np
import pytest
import torch

from aezoo.data.samples import Samples
from aezoo.evaluation.protocols import run_protocol
from aezoo.evaluation.protocols.one_class import OneClass
from tests.evaluation.networks import values
from tests.evaluation.protocols.networks import for_images, images, in_torchvision, numpy_random_state


def auroc(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """Share of the pairs in which the anomalous sample has the larger error; a tie counts half."""
    difference = anomalous[:, None] - normal[None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def test_auroc_is_the_share_of_pairs_that_the_error_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OneClass, "COMPONENTS", 1)
    shades = torch.tensor([0, 150, 100, 255, 150], dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 1, 2, 2)
    test = Samples(shades.contiguous(), None, torch.tensor([3, 3, 8, 8, 8]))
    ae = for_images(in_torchvision(monkeypatch, images(40), test) | {"classes": [3]})
    # The network returns zeros, so that the error is the brightness.
    ae.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in ae.state_dict().items()})
    found = run_protocol("one-class", ae)
    # 100 and 150 are larger than 0, 255 is larger than both, and 150 ties with 150.
    assert found["auroc"]["value"] == 4.5 / 6
    assert {entry["n"] for entry in found.values()} == {5}


@pytest.mark.parametrize("refit", [False, True])
def test_the_errors_are_those_of_the_network_and_of_pca(monkeypatch: pytest.MonkeyPatch, refit: bool) -> None:
    monkeypatch.setattr(OneClass, "COMPONENTS", 2)
    train, test = images(80), images(60, seed=1)
    ae = for_images(in_torchvision(monkeypatch, train, test) | {"classes": [3]}, refit=refit)
    found = run_protocol("one-class", ae)
    assert train.labels is not None
    assert test.labels is not None
    fitted = train.inputs[: 80 if refit else 60].flatten(1).double().numpy() / 255
    fitted = fitted[(train.labels[: len(fitted)] == 3).numpy()]
    x, normal = test.inputs.flatten(1).double().numpy() / 255, (test.labels == 3).numpy()
    axes = np.linalg.svd(fitted - fitted.mean(0))[2][:2]
    residual = (x - fitted.mean(0)) - (x - fitted.mean(0)) @ axes.T @ axes
    errors = (residual**2).mean(1)
    assert found["auroc.pca"]["value"] == pytest.approx(auroc(errors[normal], errors[~normal]), abs=1e-12)
    with torch.no_grad():
        errors = (ae(test.inputs / 255).x_hat - test.inputs / 255).square().flatten(1).mean(1).numpy()
    assert found["auroc"]["value"] == pytest.approx(auroc(errors[normal], errors[~normal]), abs=1e-12)
    assert "2 components" in found["auroc.pca"]["definition"]


@pytest.mark.parametrize("name", ["one-class", "subspace"])
def test_pca_of_many_images_is_deterministic(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    # For this many samples, fewer than ten for each value, scikit-learn's default is a random projection.
    data = in_torchvision(monkeypatch, images(1600, side=16), images(200, side=16, seed=1))
    ae = for_images(data | {"classes": [3]}, side=16, latents=8)
    state = numpy_random_state()
    first = values(run_protocol(name, ae))
    assert first == values(run_protocol(name, ae))
    assert numpy_random_state() == state
