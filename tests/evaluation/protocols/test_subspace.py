"""Principal angle between the span of a linear decoder and the principal components."""

import math

import pytest
import torch

from aezoo.data.samples import Samples
from aezoo.evaluation.protocols import run_protocol
from tests.evaluation.protocols.networks import build, dataset, dense, linear, same_splits

HALF_AXES = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0]))
AXES = Samples(torch.cat([HALF_AXES, -HALF_AXES]))
"""The axes are the principal components, in order."""
FIRST = torch.tensor([[1.0, 0, 0, 0]])
SKEW = math.sqrt(0.5)


@pytest.mark.parametrize(
    ("atoms", "degrees"),
    [
        ([[1.0, 0, 0, 0]], 0.0),
        ([[-7.0, 0, 0, 0]], 0.0),
        ([[1.0, 1, 0, 0], [1, -2, 0, 0]], 0.0),
        ([[0, 1.0, 0, 0]], 90.0),
        ([[0, 0, 1.0, 0], [0, 0, 0, 1]], 90.0),
        ([[1.0, 0, 0, 0], [0, 0, 1, 0]], 90.0),
        ([[SKEW, 0, 0, SKEW]], 45.0),
        ([[1.0, 0, 0, 0], [0, math.sqrt(3), 1, 0]], 30.0),
        ([[1.0, 2, 3, 4], [0, 1, 2, 3], [0, 0, 1, 2], [0, 0, 0, 1]], 0.0),
    ],
)
def test_the_largest_principal_angle_is_measured(atoms: list[list[float]], degrees: float) -> None:
    decoder = torch.tensor(atoms).T
    found = run_protocol("subspace", linear(same_splits(AXES), torch.zeros_like(decoder.T), decoder))
    entry = found["principal_angle"]
    assert entry["value"] == pytest.approx(degrees, abs=1e-4)
    assert (entry["split"], entry["n"]) == ("train", 8)


@pytest.mark.parametrize(("refit", "degrees", "n"), [(False, 0.0, 8), (True, 90.0, 16)])
def test_after_a_refit_components_are_those_of_training_and_validation(
    refit: bool, degrees: float, n: int
) -> None:
    data = dataset(train=AXES, validation=Samples(AXES.inputs.flip(1) * 10), test=AXES)
    entry = run_protocol("subspace", linear(data, FIRST, refit=refit))["principal_angle"]
    assert (entry["value"], entry["n"]) == (pytest.approx(degrees, abs=1e-4), n)


def test_an_image_is_flattened() -> None:
    image = {"kind": "unflatten", "shape": [1, 2, 2]}
    data = same_splits(Samples(AXES.inputs.view(8, 1, 2, 2)))
    ae = build(data, ["flatten", dense(1)], [dense(4), image], input={"shape": [1, 2, 2]})
    ae.load_state_dict({"encoder.1.linear.weight": FIRST, "decoder.0.linear.weight": FIRST.T})
    assert run_protocol("subspace", ae)["principal_angle"]["value"] == pytest.approx(0, abs=1e-4)
