"""Principal components in closed form, against scikit-learn."""

from typing import Any, Literal

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Generator

import aezoo
from aezoo.data.inputs import prepare_splits
from tests.training.networks import LINEAR, changed, spec_of, state_of, train
from tests.training.probes import Tiny


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


ROTATION = torch.linalg.qr(normal(36, 36, seed=6))[0]
ROWS = (normal(200, 36, seed=5) @ torch.diag(torch.linspace(2, 0.1, 36)) @ ROTATION + 1).view(-1, 1, 6, 6)
"""Data with well separated components."""


def pca_spec(**recipe: Any) -> aezoo.VariantSpec:
    return spec_of(**LINEAR, stages=[{"kind": "pca"}], **recipe).replace({"input.range": None})


def test_pca_gives_the_result_of_scikit_learn() -> None:
    spec = pca_spec()
    x = prepare_splits(ROWS, spec, 0).train.inputs
    flat = x.flatten(1).double().numpy()
    reference = PCA(4, svd_solver="full").fit(flat)
    x_hat = reference.inverse_transform(reference.transform(flat))
    ae = train(spec, data=ROWS)
    with torch.no_grad():
        out = ae(x)
    expected = float(np.square(x_hat - flat).mean())
    assert float((out.x_hat - x).square().mean()) == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(out.x_hat.flatten(1), torch.from_numpy(x_hat).float(), atol=1e-4, rtol=0)
    latents, variance = out.latents.double(), torch.from_numpy(reference.explained_variance_).double()
    torch.testing.assert_close(latents.var(0), variance, rtol=1e-4, atol=0)
    torch.testing.assert_close(latents.mean(0), torch.zeros(4).double(), atol=1e-5, rtol=0)
    assert ae.history == []
    assert ae.training_record["epochs"] == []


def test_components_are_orthonormal_and_their_largest_weight_is_positive() -> None:
    weight = train(pca_spec(), data=ROWS).encoder[1].get_parameter("linear.weight")
    torch.testing.assert_close(weight @ weight.T, torch.eye(4), atol=1e-6, rtol=0)
    assert (weight.gather(1, weight.abs().argmax(1, keepdim=True)) > 0).all()


class SameSplits(Tiny):
    """Splits that do not depend on the seed."""

    kind: Literal["same_splits"] = "same_splits"
    rows: Any

    def load(self, split: str) -> aezoo.Samples:
        return aezoo.Samples(self.rows)


def test_components_do_not_depend_on_the_initial_weights() -> None:
    first, second = (train(pca_spec(seed=seed), data=SameSplits(rows=ROWS[:180])) for seed in (0, 1))
    assert changed(state_of(first), state_of(second)) == set()


def test_refit_computes_the_components_of_all_rows() -> None:
    ae = train(pca_spec(refit=True), data=ROWS)
    mean = ae.decoder[0].get_parameter("linear.bias")
    torch.testing.assert_close(mean, ROWS.flatten(1).mean(0), atol=1e-5, rtol=0)
