"""Weight tying during a stage, and independent weights after it."""

from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor

import aezoo
from aezoo.training.weight_tying import mirrored_weights, tied
from tests.training.networks import (
    DENSE,
    FLAT,
    IMAGES,
    Layers,
    assert_independent,
    conv,
    linear,
    spec_of,
    stage,
    state_of,
    train,
)
from tests.training.probes import Calls, CutOff, DataTerm, on, on_validation

MIRRORED: dict[str, Layers] = {
    "linear": {},
    "two layers": {
        "encoder": ["flatten", DENSE, linear(5)],
        "decoder": [DENSE | {"bias": False}, linear(36), FLAT],
    },
    "conv": {
        "encoder": [conv(4, activation="tanh"), conv(2, activation="tanh")],
        "decoder": [
            conv(4, "conv_transpose", activation="tanh"),
            conv(1, "conv_transpose", activation="tanh"),
        ],
    },
    "strided": {
        "encoder": [conv(3, kernel_size=2, stride=2, padding=0), "flatten", DENSE],
        "decoder": [
            linear(27),
            {"kind": "unflatten", "shape": [3, 3, 3]},
            conv(1, "conv_transpose", kernel_size=2, stride=2, padding=0),
        ],
    },
    "residual": {
        "encoder": ["flatten", {"kind": "residual", "layers": [linear(36)]}, DENSE],
        "decoder": [linear(36), {"kind": "residual", "layers": [linear(36)]}, FLAT],
    },
}
each_mirrored = pytest.mark.parametrize("layers", MIRRORED.values(), ids=MIRRORED)


def differences(ae: aezoo.Autoencoder) -> list[float]:
    """The largest difference of each decoder weight from the transpose of its encoder weight.

    A transposed convolution stores its weight in the layout of the convolution.
    """
    with torch.no_grad():
        return [
            (d.weight - (e.weight.t() if e.weight.ndim == 2 else e.weight)).abs().max().item()
            for e, d in mirrored_weights(ae)
        ]


@each_mirrored
def test_decoder_weights_are_transposed_encoder_weights_while_tied(layers: Layers) -> None:
    found: list[float] = []
    spec = spec_of(**layers, stages=[stage(tie=True)])
    ae = train(spec, Calls(lambda name, state: found.extend(differences(state.ae))))
    assert set(found) == {0.0}
    for (trained, _), (initial, _) in zip(
        mirrored_weights(ae), mirrored_weights(aezoo.build(spec)), strict=True
    ):
        assert not torch.equal(trained.weight, initial.weight)


@each_mirrored
def test_weights_are_independent_after_a_tied_stage_and_outputs_unchanged(layers: Layers) -> None:
    outputs: list[Tensor] = []

    def look(state: aezoo.TrainingState) -> None:
        with torch.no_grad():
            outputs.append(state.ae.eval()(IMAGES).x_hat)

    spec = spec_of(**layers, stages=[stage(tie=True)])
    ae = train(spec, on("on_epoch_end", look))
    with torch.no_grad():
        torch.testing.assert_close(ae(IMAGES).x_hat, outputs[-1], atol=1e-6, rtol=0)
    initial = aezoo.build(spec)
    assert list(state_of(ae)) == list(state_of(initial))
    assert [n for n, _ in ae.named_parameters()] == [n for n, _ in initial.named_parameters()]
    assert_independent(ae)


def test_biases_are_not_tied() -> None:
    spec = spec_of(stages=[stage(tie=True)])
    before, after = state_of(aezoo.build(spec)), state_of(train(spec))
    for name in ("encoder.1.linear.bias", "decoder.0.linear.bias"):
        assert not torch.equal(before[name], after[name]), name


def test_a_stage_after_a_tied_stage_trains_both_sides() -> None:
    assert min(differences(train(spec_of(stages=[stage(tie=True), stage()])))) > 0


def test_early_stopping_of_a_tied_stage_restores_both_sides() -> None:
    weights: list[Tensor] = []
    ae = train(
        spec_of(
            reconstruction=on_validation(DataTerm, 1.0, 2.0, 3.0),
            stages=[stage(3, tie=True, early_stop={"patience": 2})],
        ),
        on("on_epoch_end", lambda state: weights.append(state_of(state.ae)["encoder.1.linear.weight"])),
    )
    ((encoder, decoder),) = mirrored_weights(ae)
    assert torch.equal(encoder.weight, weights[0])
    assert torch.equal(decoder.weight, weights[0].t())


COUNTS = "as many weighted layers on each side, found"
REJECTED: dict[str, tuple[list[Any], list[Any], str]] = {
    "counts": (
        ["flatten", DENSE, DENSE], [linear(36), FLAT], f"{COUNTS} 2 in the encoder, 1 in the decoder",
    ),
    "none": (
        ["flatten", "batch_norm"], [FLAT], f"{COUNTS} 0 in the encoder, 0 in the decoder",
    ),
    "shapes": (
        ["flatten", linear(7), DENSE], [DENSE, linear(36), FLAT],
        "mirrored layers, found weights of (7, 36) and (36, 8)",
    ),
    # Weights of the same shape, where the second is not the transpose of the first.
    "conv and conv": ([conv(1)], [conv(1)], "mirrored layers, found "),
    "transposed twice": (
        [conv(1, "conv_transpose")], [conv(1, "conv_transpose")], "mirrored layers, found ",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("encoder", "decoder", "words"), REJECTED.values(), ids=REJECTED)
def test_sides_that_do_not_mirror_each_other_cannot_be_tied(
    encoder: list[Any], decoder: list[Any], words: str
) -> None:
    spec = spec_of(encoder=encoder, decoder=decoder, stages=[stage(), stage(tie=True)])
    with pytest.raises(aezoo.SpecError) as caught:
        train(spec, data=object())  # checked before data are read
    assert str(caught.value).startswith(f"recipe.stages.1.tie: tie needs {words}")


@pytest.mark.parametrize("forwards", [0, 1])
@each_mirrored
def test_an_exception_while_tied_leaves_a_whole_network(layers: Layers, forwards: int) -> None:
    ae = aezoo.build(spec_of(**layers)).eval()
    names = set(ae.state_dict())
    with suppress(CutOff), tied(ae):
        for _ in range(forwards):
            ae(IMAGES)
        raise CutOff
    assert set(ae.state_dict()) == names
    assert set(differences(ae)) == {0.0}
    ae(IMAGES).x_hat.sum().backward()
    assert all(parameter.grad is not None for parameter in ae.parameters())
