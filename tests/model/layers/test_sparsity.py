"""`topk` and `lifetime`: which latents are kept."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aezoo.model.sequential import Exact
from tests.model.layers.modules import build_layer, normal


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    share=st.floats(0, 1),
    by=st.sampled_from(["value", "magnitude"]),
    seed=st.integers(0, 1000),
    training=st.booleans(),
)
def test_topk_keeps_exactly_the_largest(
    sizes: list[int], share: float, by: str, seed: int, training: bool
) -> None:
    h = normal(tuple(sizes), rows=4, seed=seed)
    features = h[0].numel()
    k = max(1, round(share * features))
    layer = build_layer("topk", tuple(sizes), k=k, by=by)
    kept = layer.train(training)(h).flatten(1)
    assert layer.sparsity() == Exact(k)
    for row, out in zip(h.flatten(1), kept, strict=True):
        key = row.abs() if by == "magnitude" else row
        threshold = key.sort(descending=True).values[k - 1]
        assert torch.equal(out, torch.where(key >= threshold, row, 0.0))
        assert int((out != 0).sum()) == k


def test_topk_is_signed_by_default() -> None:
    h = torch.tensor([[-5.0, 1.0, 2.0]])
    assert build_layer("topk", (3,), k=2)(h).tolist() == [[0.0, 1.0, 2.0]]
    assert build_layer("topk", (3,), k=2, by="magnitude")(h).tolist() == [[-5.0, 0.0, 2.0]]


@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 2, 2)])
def test_topk_passes_first_and_second_order_gradcheck(shape: tuple[int, ...]) -> None:
    layer = build_layer("topk", shape, k=3)
    # Values far apart, so that a finite difference does not change which ones are kept.
    values = torch.randperm(4 * torch.Size(shape).numel(), generator=torch.Generator().manual_seed(0))
    h = values.double().view(4, *shape).requires_grad_()
    assert torch.autograd.gradcheck(layer, (h,))

    def cubed(h: Tensor) -> Tensor:
        return layer(h) ** 3

    assert torch.autograd.gradgradcheck(cubed, (h,))


@pytest.mark.parametrize(("rows", "kept"), [(20, 5), (8, 2), (4, 1), (1, 1)])
def test_lifetime_keeps_the_same_share_of_a_short_batch(rows: int, kept: int) -> None:
    h = normal((7,), rows=rows)
    out = build_layer("lifetime", (7,), rate=0.25).train()(h)
    assert (out != 0).sum(0).tolist() == [kept] * 7
    for column, given_column in zip(out.T, h.T, strict=True):
        assert torch.equal(column[column != 0].sort().values, given_column.sort().values[-kept:])


def test_lifetime_is_the_identity_in_evaluation() -> None:
    h = normal((7,))
    assert torch.equal(build_layer("lifetime", (7,), rate=0.25).eval()(h), h)
