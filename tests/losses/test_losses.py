"""Every built-in loss: the contract of `aezoo.testing`, gradients, reductions, and use in a training."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Generator, Tensor

import aezoo
from aezoo.testing import check_loss
from tests.examples import LOSSES, small_spec
from tests.losses.networks import (
    SHAPE,
    SIGMOID,
    TOPK,
    VARIATIONAL,
    build,
    context_of,
    images,
    loss_of,
    spec_of,
    train,
)
from tests.parts import in_parts

EXAMPLES = [
    pytest.param(loss_of(kind, **options), id=f"{kind}-{i}")
    for kind, cases in LOSSES.items()
    for i, options in enumerate(cases)
]
ENCODERS: dict[str, list[Any]] = {
    "l1_latents": TOPK,
    "weight_decay": TOPK,
    "auxk": TOPK,
    "vae_kl": VARIATIONAL,
}
PENALTIES: list[Any] = [
    pytest.param({"kind": kind, **options}, id=kind)
    for kind, options in {
        "l1_latents": {}, "kl_sparsity": {}, "vae_kl": {"warmup_epochs": 1.0}, "contractive": {},
        "weight_decay": {}, "auxk": {"k": 3, "dead_after": 10},
    }.items()
]  # fmt: skip
each_loss = pytest.mark.parametrize("loss", EXAMPLES)
each_penalty = pytest.mark.parametrize("penalty", PENALTIES)


def encoder_for(kind: str | None) -> list[Any]:
    return ENCODERS.get(str(kind), SIGMOID)


def values(*shape: int, seed: int = 0) -> Tensor:
    """Well inside [0, 1], where every loss is smooth."""
    return 0.6 + 0.3 * torch.rand(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("loss", in_parts([example.values[0] for example in EXAMPLES], 2))
def test_loss_keeps_the_contract(loss: aezoo.LossSpec) -> None:
    assert check_loss(loss).passed


@each_loss
def test_value_is_averaged_over_rows_and_unweighted(loss: aezoo.LossSpec) -> None:
    # In evaluation mode nothing is drawn; `auxk` counts rows, and needs latents that count as dead.
    ae = aezoo.build(small_spec(encoder=encoder_for(loss.kind_name)), dtype=torch.float64).eval()
    if loss.kind_name == "auxk":
        loss = loss.replace({"dead_after": 1})
    weighted = loss.replace({"weight": 7.0, "warmup_epochs": 5.0})
    x = images()
    one, three, scaled = (
        term.build()(ae(rows), context_of(rows), ae)
        for term, rows in ((loss, x), (loss, torch.cat([x] * 3)), (weighted, x))
    )
    assert (one.shape, one.dtype) == ((), torch.float64)
    assert one > 0
    torch.testing.assert_close(three, one, rtol=1e-12, atol=0)
    assert scaled == one


@each_loss
def test_gradient_is_correct(loss: aezoo.LossSpec) -> None:
    ae = build(SIGMOID)
    target = values(2, *SHAPE, seed=2)

    def value(x_hat: Tensor, latents: Tensor) -> Tensor:
        output = aezoo.Output(x_hat, latents, {"mean": latents, "log_var": -latents})
        return loss.build()(output, context_of(target), ae)

    inputs = values(2, *SHAPE, seed=1).requires_grad_(), values(2, ae.num_latents, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(value, inputs)


@pytest.mark.parametrize(
    ("epoch", "weight"),
    [(0.0, 0.0), (0.5, 0.75), (2.0, 3.0), (9.0, 3.0)],
    ids=["start", "part", "end", "past"],
)
def test_weight_grows_linearly_over_the_warmup(epoch: float, weight: float) -> None:
    assert loss_of("mse", weight=3.0, warmup_epochs=2.0).weight_at(epoch) == weight
    assert loss_of("mse", weight=3.0).weight_at(epoch) == 3.0


# -- penalties in a training --------------------------------------------------------------------------


@each_penalty
def test_training_records_a_finite_term(penalty: dict[str, Any]) -> None:
    kind = penalty["kind"]
    ae = train(spec_of(encoder_for(kind), penalty, stages=[{"kind": "fit", "epochs": 1}]))
    for split in ("train", "validation"):
        recorded = ae.history[0][split]
        assert list(recorded) == ["loss", "mse", kind]
        assert all(math.isfinite(value) for value in recorded.values())
        assert recorded[kind] >= 0
    if "warmup_epochs" not in penalty:
        recorded = ae.history[0]["validation"]
        total = recorded["mse"] + loss_of(**penalty).weight * recorded[kind]
        assert recorded["loss"] == pytest.approx(total, rel=1e-5)


@each_penalty
def test_backward_gives_finite_gradients_to_parameters_alone(penalty: dict[str, Any]) -> None:
    encoder, x = encoder_for(penalty["kind"]), images()
    ae = build(encoder)
    value = aezoo.Objective(spec_of(encoder, penalty).recipe)(ae, context_of(x))[0]
    assert all(p.grad is None for p in ae.parameters())
    value.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in ae.parameters())
    assert x.grad is None
    assert not x.requires_grad


@each_penalty
def test_terms_are_float32_under_bfloat16_autocast(penalty: dict[str, Any]) -> None:
    spec = spec_of(encoder_for(penalty["kind"]), penalty, autocast="bf16")
    x = images(dtype=torch.float32)
    loss, terms = aezoo.Objective(spec.recipe)(aezoo.build(spec), context_of(x))
    assert {name: term.dtype for name, term in terms.items()} == dict.fromkeys(terms, torch.float32)
    assert loss.dtype == torch.float32


# -- in a document ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"penalties": ["l1_latents", "vae_kl"]}, "recipe.penalties.1", "vae_kl needs an encoder that emits"),
        ({"reconstruction": "bce"}, "recipe.reconstruction", "bce needs a decoder that stays in [0, 1]"),
    ],
)
def test_validate_names_the_line_of_a_loss_that_does_not_fit(
    changes: dict[str, Any], path: str, message: str, tmp_path: Path
) -> None:
    data = spec_of(SIGMOID, **changes).model_dump(mode="json", exclude_defaults=True)
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(data, sort_keys=False))
    with pytest.raises(aezoo.SpecError) as caught:
        aezoo.validate(file)
    (problem,) = caught.value.problems
    assert problem.line is not None
    assert message.partition(" ")[0] in "".join(
        file.read_text().splitlines(keepends=True)[problem.line - 1 :][:2]
    )
    assert str(caught.value).startswith(f"{file}:{problem.line}: {path}: {message}")
