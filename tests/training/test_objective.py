"""`Objective`: the weighted sum of a recipe's loss terms."""

import warnings
from typing import Any

import pytest
import torch
from torch import Generator

import aezoo
from tests.training.networks import DENSE, images, spec_of
from tests.training.probes import Penalty, constant


@pytest.mark.parametrize(("epoch", "share"), [(0.0, 0.0), (0.5, 0.125), (3.0, 0.75), (4.0, 1.0), (9.0, 1.0)])
def test_objective_is_the_weighted_sum_of_unweighted_terms(epoch: float, share: float) -> None:
    spec = spec_of(
        reconstruction={"kind": "mse", "weight": 0.5},
        penalties=[Penalty(of=constant(7.0), weight=2.0), Penalty(of=constant(3.0), weight=10.0, warmup_epochs=4.0)],
    )  # fmt: skip
    ae, x = aezoo.build(spec), images(5)
    total, terms = aezoo.Objective(spec.recipe)(ae, aezoo.StepContext(x, x, None, epoch, 0, Generator()))
    mse = (ae(x).x_hat - x).square().mean()
    assert list(terms) == ["mse", "extra", "extra.2"]
    torch.testing.assert_close(terms["mse"], mse)
    assert [terms[name].item() for name in ("extra", "extra.2")] == [7.0, 3.0]
    torch.testing.assert_close(total, 0.5 * mse + 2.0 * 7.0 + 10.0 * share * 3.0)
    total.backward()
    assert all(p.grad is not None for p in ae.parameters())


def test_objective_uses_the_clean_target_and_the_mode_of_the_module() -> None:
    spec = spec_of(encoder=["flatten", DENSE | {"dropout": 0.9}])
    ae, x, objective = aezoo.build(spec), images(5), aezoo.Objective(spec.recipe)
    noisy = aezoo.StepContext(torch.zeros_like(x), x, None, 0.0, 0, Generator())
    ae.eval()
    first, second = (objective(ae, noisy)[0] for _ in range(2))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, (ae(torch.zeros_like(x)).x_hat - x).square().mean())
    ae.train()
    assert not torch.equal(objective(ae, noisy)[0], objective(ae, noisy)[0])


def test_losses_are_computed_in_float32_under_autocast() -> None:
    spec, x = spec_of(autocast="bf16", reconstruction={"kind": "bce"}), images(4)
    context = aezoo.StepContext(x, x, None, 0.0, 0, Generator())
    loss, terms = aezoo.Objective(spec.recipe)(aezoo.build(spec), context)
    assert {loss.dtype, terms["bce"].dtype} == {torch.float32}


@pytest.mark.parametrize("noises", [[], [{"kind": "masking", "share": 0.5}]])
def test_objective_warns_if_the_target_is_the_noisy_input(noises: list[Any]) -> None:
    spec, x = spec_of(noises=noises), images(4)
    ae, objective = aezoo.build(spec), aezoo.Objective(spec.recipe)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        objective(ae, aezoo.StepContext(x, x, None, 0.0, 0, Generator()))
        objective(ae, aezoo.StepContext(x, x.clone(), None, 0.0, 0, Generator()))
    assert [str(w.message).partition(":")[0] for w in caught] == ["noisy-target"] * bool(noises)
