"""Auxiliary top-k loss: when latents count as dead, its formula and gradient, and its effect."""

from typing import Any

import pytest
import torch
from torch import Generator, Tensor

import aezoo
from tests.losses.networks import (
    CONV,
    DECODER,
    SHAPE,
    SIGMOID,
    TOPK,
    VARIATIONAL,
    build,
    context_of,
    images,
    loss_of,
    spec_error,
    spec_of,
    train,
)


def with_dead(*dead: int) -> aezoo.Autoencoder:
    """A network with these latents so low that `topk` never keeps them."""
    ae = build(TOPK)
    linear: Any = ae.encoder[1].get_submodule("linear")
    with torch.no_grad():
        linear.bias[list(dead)] -= 100.0
    return ae


def auxk(**options: Any) -> Any:
    return loss_of("auxk", **options).build()


def step(term: Any, ae: aezoo.Autoencoder, x: Tensor) -> Tensor:
    return term(ae(x), context_of(x), ae)


def test_value_is_zero_until_a_latent_is_dead() -> None:
    ae, x = with_dead(3), images(6)
    term = auxk(dead_after=18)
    assert [bool(step(term, ae, x) > 0) for _ in range(4)] == [False, False, True, True]
    assert float(term.idle[3]) == 24


def test_only_training_samples_are_counted() -> None:
    ae, x = with_dead(3, 5), images(6)
    term = auxk(dead_after=7)
    step(term.eval(), ae, x)
    assert term.idle.tolist() == [0.0] * 8
    step(term.train(), ae, x)
    assert {term.idle[i].item() for i in (3, 5)} == {6.0}
    step(term.eval(), ae, x)
    step(term.train(), ae, x[:4])
    assert {term.idle[i].item() for i in (3, 5)} == {10.0}


def test_count_starts_over_when_a_latent_is_used() -> None:
    ae, x = with_dead(3), images(6)
    term = auxk(dead_after=6)
    assert step(term, ae, x) > 0
    out = ae(x)
    term(out._replace(latents=torch.ones_like(out.latents)), context_of(x), ae)
    assert term.idle.tolist() == [0.0] * 8


def test_value_is_the_error_of_dead_latents_on_the_residual() -> None:
    ae, x = with_dead(1, 3, 6), images(6)
    out = ae(x)
    value = auxk(k=2, dead_after=1)(out, context_of(x), ae)
    idle = (out.latents == 0).all(0).nonzero().flatten()
    pre_acts = ae.encoder[1](x.flatten(1))
    linear: Any = ae.decoder[0].get_submodule("linear")
    expected = torch.zeros(6, 36, dtype=torch.float64)
    for row in range(6):
        best = idle[pre_acts[row, idle].argsort(descending=True)[:2]]
        expected[row] = linear.weight[:, best] @ pre_acts[row, best]
    residual = (x - out.x_hat).flatten(1)
    torch.testing.assert_close(value, (expected - residual).square().mean())


def test_gradient_reaches_dead_latents_only() -> None:
    ae, x = with_dead(3), images(60)
    used = (ae(x).latents != 0).any(0)
    assert not used[3]
    step(auxk(dead_after=1), ae, x).backward()
    linear: Any = ae.encoder[1].get_submodule("linear")
    assert torch.equal((linear.weight.grad != 0).any(1), ~used)
    atoms: Any = ae.decoder[0].get_submodule("linear")
    assert torch.equal((atoms.weight.grad != 0).any(0), ~used)


def test_training_revives_dead_latents() -> None:
    generator = Generator().manual_seed(0)
    atoms, amounts = torch.randn(40, 36, generator=generator), torch.rand(400, 40, generator=generator)
    used_by_a_tenth = torch.rand(400, 40, generator=generator) < 0.1
    x = ((amounts * used_by_a_tenth) @ atoms).view(400, *SHAPE)
    encoder = ["flatten", {"kind": "linear", "out_features": 64}, {"kind": "topk", "k": 2}]
    stages = [{"kind": "fit", "epochs": 30, "optimizer": {"kind": "adam", "lr": 0.01}}]
    dead: list[int] = []
    for used in ([], [{"kind": "auxk", "k": 16, "dead_after": 360}]):
        spec = spec_of(encoder, *used, stages=stages).replace({"input": {"shape": list(SHAPE)}})
        ae = aezoo.train(spec, x, device="cpu", progress=False)
        dead.append(int((ae.encode(x) == 0).all(0).sum()))
    assert dead[0] > 16
    assert dead[1] < dead[0] / 2


@pytest.mark.parametrize("early_stop", [None, {"patience": 1}], ids=["plain", "early-stop"])
def test_training_is_reproducible(early_stop: Any) -> None:
    stages = [{"kind": "fit", "epochs": 3, "early_stop": early_stop}]
    spec = spec_of(TOPK, {"kind": "auxk", "dead_after": 20}, stages=stages, refit=True)
    first, second = train(spec), train(spec)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


POOL = {"kernel_size": 2, "switches": "a"}


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        pytest.param(encoder, DECODER, "auxk revives latents that topk leaves out; end the encoder in topk", id=name)
        for name, encoder in {"none": SIGMOID, "earlier": [*TOPK, "batch_norm"], "vae": VARIATIONAL}.items()
    ]
    + [
        pytest.param(
            [{"kind": "max_pool", **POOL}, {"kind": "topk", "k": 2}],
            [{"kind": "max_unpool", **POOL}, CONV | {"padding": 1, "out_channels": 1}],
            "auxk decodes latents alone, but this decoder needs more", id="aux",
        ),
        pytest.param(
            TOPK, [{"kind": "linear", "out_features": 9, "norm": "batch_norm"}, *DECODER],
            "auxk needs rows that do not depend on one another, but BatchNorm1d makes them dependent", id="rows",
        ),
    ],
)  # fmt: skip
def test_networks_that_do_not_fit_are_rejected(encoder: list[Any], decoder: list[Any], message: str) -> None:
    assert spec_error(spec_of(encoder, "auxk", decoder=decoder)) == f"recipe.penalties.0: {message}"
