"""L0, dead latents, Hoyer sparseness and the area of atoms."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from aezoo.model.autoencoder import Autoencoder
from tests.evaluation.networks import (
    identity,
    keep,
    linear,
    measure,
    net,
    normal,
    reason,
    uniform,
    value,
    values,
)


def test_latents_of_an_image_are_counted_one_by_one_without_parameters() -> None:
    ae = net((1, 2, 3), [keep(2)], [{"kind": "max_pool", "kernel_size": 1}])
    assert ae.num_parameters == 0
    x = torch.tensor([[1.0, 2, 3, 4, 5, 6], [7, 1, 1, 1, 1, 8]]).view(2, 1, 2, 3)
    found = values(measure(ae, x))
    # 5 and 6, then 7 and 8 are kept: the first, the fifth and the sixth latent are used.
    assert (found["l0"], found["dead_latents"]) == (2.0, 3.0)
    assert found["sse"] == (1 + 4 + 9 + 16 + 4) / 2


# -- hoyer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latents", "expected"),
    [
        ([[2.0, -2.0, 2.0, 2.0]], 0.0),
        ([[0.0, 0.0, -3.0, 0.0]], 1.0),
        ([[3.0, 4.0, 0.0, 0.0]], 2 - 7 / 5),
        ([[1.0, 1.0, 1.0, 1.0], [0.0, 5.0, 0.0, 0.0]], 0.5),
        # Rows of zeros are left out.
        ([[0.0, 0.0, 0.0, 0.0], [0.0, 5.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], 1.0),
    ],
)
def test_hoyer_is_0_for_equal_sizes_and_1_for_a_single_latent(
    latents: list[list[float]], expected: float
) -> None:
    assert value(identity(4), "hoyer", torch.tensor(latents)) == pytest.approx(expected, abs=1e-14)


def test_hoyer_is_null_if_every_latent_is_zero() -> None:
    assert reason(identity(3), "hoyer", torch.zeros(5, 3)) == "every latent of every sample is zero"


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 40), rows=st.integers(1, 5), scale=st.floats(1e-30, 1e30), seed=st.integers(0, 1000))
def test_hoyer_is_between_0_and_1_and_invariant_to_scale_and_order(
    n: int, rows: int, scale: float, seed: int
) -> None:
    latents = normal(rows, n, seed=seed)
    expected = value(identity(n), "hoyer", latents)
    assert 0 <= expected <= 1
    order = torch.randperm(n, generator=Generator().manual_seed(seed))
    changed = value(identity(n), "hoyer", -scale * latents[:, order])
    assert changed == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_hoyer_takes_all_latents_of_an_image_together() -> None:
    latents = torch.zeros(1, 2, 2, 2)
    latents[0, :, 1, 0] = torch.tensor([3.0, 4.0])
    ae = net((2, 2, 2), [keep(8)], [keep(8)])
    root = math.sqrt(8)
    assert value(ae, "hoyer", latents) == pytest.approx((root - 7 / 5) / (root - 1), rel=1e-14)


def test_hoyer_needs_two_latents() -> None:
    assert "hoyer" not in measure(identity(1), torch.ones(3, 1))
    assert "hoyer" in measure(identity(2), torch.ones(3, 2))


# -- atom_area ----------------------------------------------------------------------------------------


def with_atoms(atoms: Tensor, kind: str = "linear") -> Autoencoder:
    """A decoder of one layer with these atoms, (latents, values)."""
    latents, size = atoms.shape
    decoder = {"kind": kind, "out_features": size, "activation": "sigmoid"}
    ae = net((size,), [linear(latents)], [decoder])
    ae.state_dict()["decoder.0.linear.weight"].copy_(atoms.T)
    return ae


def area(atoms: Tensor, kind: str = "linear") -> float:
    return value(with_atoms(atoms, kind), "atom_area", uniform(2, atoms.shape[1]))


@pytest.mark.parametrize("kind", ["linear", "unit_norm_linear"])
@pytest.mark.parametrize(
    ("atoms", "expected"),
    [
        ([[0.0, 7.0, 0.0, 0.0, 0.0]], 1 / 5),
        ([[-2.0, 2.0, 2.0, -2.0, 2.0]], 1.0),
        ([[1.0, 2.0, 0.0, 0.0, 0.0]], 25 / 17 / 5),
        ([[0.0, 0.0, 0.0, 1.0, 0.0], [3.0, 3.0, 3.0, 3.0, 3.0]], (1 / 5 + 1) / 2),
        # Atoms of zeros are left out.
        ([[0.0, 0.0, 0.0, 0.0, 0.0], [3.0, 3.0, 3.0, 3.0, 3.0]], 1.0),
    ],
)
def test_atom_area_is_the_share_of_the_output_that_an_atom_covers(
    atoms: list[list[float]], expected: float, kind: str
) -> None:
    assert area(torch.tensor(atoms), kind) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        ([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], "every atom is zero"),
        ([[1.0, 1.0, 1.0], [math.nan, 0.0, 0.0]], "the result is nan"),
    ],
)
def test_atom_area_is_null_for_zero_or_invalid_weights(atoms: list[list[float]], words: str) -> None:
    assert reason(with_atoms(torch.tensor(atoms)), "atom_area", uniform(2, 3)) == words


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(1, 30), latents=st.integers(1, 5), scale=st.floats(1e-9, 1e9), seed=st.integers(0, 1000)
)
def test_atom_area_is_at_least_one_value_and_invariant_to_scale(
    size: int, latents: int, scale: float, seed: int
) -> None:
    atoms = normal(latents, size, seed=seed)
    expected = area(atoms)
    assert 1 / size <= expected * (1 + 1e-12)
    assert expected <= 1 + 1e-12
    assert area(-scale * atoms) == pytest.approx(expected, rel=1e-5)


TO_IMAGE = {"kind": "unflatten", "shape": [1, 4, 4]}
CONV = {"kind": "conv", "out_channels": 1, "kernel_size": 3, "padding": "same"}


@pytest.mark.parametrize(
    ("encoder", "decoder", "expected"),
    [
        (["flatten", linear(5)], [linear(16), TO_IMAGE], True),
        (["flatten", linear(5)], [linear(16, bias=False, norm="layer_norm"), TO_IMAGE], True),
        (["flatten", linear(5)], [{"kind": "unit_norm_linear", "out_features": 16}, TO_IMAGE], True),
        ([CONV], ["flatten", linear(16), TO_IMAGE], True),
        (["flatten", linear(5)], [linear(8), linear(16), TO_IMAGE], False),
        (["flatten", linear(5)], [linear(16, repeat=2), TO_IMAGE], False),
        (["flatten", linear(16)], [{"kind": "residual", "layers": [linear(16)]}, TO_IMAGE], False),
        ([CONV], [CONV], False),
        (["flatten", linear(16)], [TO_IMAGE, CONV], False),
        # Pooling mixes latents before the weights are applied.
        ([CONV], [{"kind": "max_pool", "kernel_size": 2}, "flatten", linear(16), TO_IMAGE], False),
        # The indices that the encoder emits decide which weights are applied to a latent.
        (
            [{"kind": "max_pool", "kernel_size": 1, "switches": "a"}],
            [{"kind": "max_unpool", "kernel_size": 1, "switches": "a"}, "flatten", linear(16), TO_IMAGE],
            False,
        ),
        (["flatten", keep(16)], [TO_IMAGE], False),
    ],
)
def test_atom_area_applies_to_decoders_of_one_linear_layer(
    encoder: list[Any], decoder: list[Any], expected: bool
) -> None:
    ae = net((1, 4, 4), encoder, decoder)
    assert ("atom_area" in measure(ae, uniform(3, 1, 4, 4))) == expected
