"""Rank correlation of latents with the position along a swiss roll."""

from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import aezoo
from aezoo.evaluation.protocols import run_protocol
from aezoo.evaluation.protocols.protocol import labels_of, scientific
from aezoo.evaluation.protocols.unrolling import Unrolling
from tests.evaluation.protocols.networks import ROLL, build, dense, linear


class Radius(nn.Module):
    """Distance of a point from the axis of the roll, after some latents that are always zero."""

    def __init__(self, dead: int) -> None:
        super().__init__()
        self.dead = dead

    def forward(self, h: Tensor) -> Tensor:
        return torch.cat([h.new_zeros(len(h), self.dead), h[:, [0, 2]].norm(dim=1, keepdim=True)], 1)


class RadiusSpec(aezoo.LayerSpec):
    kind: Literal["radius"] = "radius"
    dead: int = 0

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        return Radius(self.dead)


@pytest.mark.parametrize("dead", [0, 2])
def test_the_best_latent_is_taken_and_constant_ones_are_left_out(dead: int) -> None:
    # The distance of a point from the axis is its angle.
    ae = build(ROLL, [RadiusSpec(dead=dead)], [dense(3)], input={"shape": [3]})
    found = run_protocol("unrolling", ae)
    assert found["rank_correlation"]["value"] == pytest.approx(1.0, abs=1e-12)
    assert {entry["n"] for entry in found.values()} == {20}


def test_constant_latents_have_no_rank_correlation() -> None:
    found: dict[str, Any] = run_protocol("unrolling", linear(ROLL, torch.zeros(2, 3)))
    entry = found["rank_correlation"]
    assert (entry["value"], entry["reason"]) == (None, "the result is nan")
    assert found["rank_correlation.pca"]["value"] > 0


@pytest.mark.parametrize("refit", [False, True])
@pytest.mark.parametrize("latents", [1, 2, 5])
def test_principal_components_match_numpy_and_scipy(latents: int, refit: bool) -> None:
    ae = build(ROLL, [dense(latents)], [dense(3)], input={"shape": [3]}, refit=refit)
    protocol, roll = Unrolling(ae), aezoo.DatasetSpec.model_validate(ROLL)
    train, validation, test = (roll.load(split) for split in ("train", "validation", "test"))
    x = protocol.inputs(train.concat(validation) if refit else train).double().numpy()
    _, _, axes = np.linalg.svd(x - x.mean(0))
    scores, angle = protocol.inputs(test).double().numpy() @ axes.T, labels_of(test).numpy()
    spearmanr = scientific("scipy.stats").spearmanr
    expected = [float(abs(spearmanr(scores[:, i], angle).statistic)) for i in range(min(latents, 3))]
    found = run_protocol("unrolling", ae)
    assert found["rank_correlation.pca"]["value"] == pytest.approx(max(expected), abs=1e-9)
