"""Every built-in layer: the contract of `aezoo.testing`, independent rows, and declared bounds."""

import math
from typing import Any

import pytest
import torch

import aezoo
from aezoo.errors import LayerError
from aezoo.specs.components import output_bounds
from aezoo.testing import check_layer
from tests.examples import LAYER_CASES
from tests.model.layers.modules import layer_specs, normal
from tests.parts import in_parts

Specs = tuple[aezoo.LayerSpec, ...]
Shape = tuple[int, ...]

cases = pytest.mark.parametrize(
    ("layers", "in_shape"),
    LAYER_CASES,
    ids=[f"{layers[-1].kind_name}-{i}" for i, (layers, _) in enumerate(LAYER_CASES)],
)


def build(layers: Specs, in_shape: Shape) -> aezoo.LayerSequence:
    torch.manual_seed(0)
    return aezoo.LayerSequence.build(layers, in_shape, "layers")


@pytest.mark.parametrize(("layers", "in_shape"), in_parts(LAYER_CASES, 3))
def test_layer_keeps_the_contract(layers: Specs, in_shape: Shape) -> None:
    assert check_layer(layers[-1], in_shape, before=layers[:-1]).passed


@cases
def test_rows_are_bitwise_independent_in_evaluation(layers: Specs, in_shape: Shape) -> None:
    sequence = build(layers, in_shape).eval()
    x = normal(in_shape)
    others = torch.cat([x[:1], normal(in_shape, rows=5, seed=3)])
    assert torch.equal(sequence(x)[0], sequence(others)[0])


# -- bounds -------------------------------------------------------------------------------------------


@cases
@pytest.mark.parametrize("given", [(0.25, 0.75), (-2.0, -1.0), (-1.0, 3.0)])
def test_outputs_lie_within_the_declared_bounds(
    layers: Specs, in_shape: Shape, given: tuple[float, float]
) -> None:
    sequence = build(layers, in_shape)
    low, high = given
    for layer in layers:
        low, high = layer.output_bounds((low, high))
    uniform = torch.rand(6, *in_shape, generator=torch.Generator().manual_seed(0))
    for training in (True, False):
        out = sequence.train(training)(given[0] + (given[1] - given[0]) * uniform).detach()
        assert low - 1e-6 <= float(out.min())
        assert float(out.max()) <= high + 1e-6


LINEAR = {"kind": "linear", "out_features": 4}
SIGMOID = LINEAR | {"activation": "sigmoid"}
POOLING = {"kernel_size": 2, "switches": "a"}


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([SIGMOID], (0, 1)),
        ([LINEAR], (-math.inf, math.inf)),
        ([SIGMOID, LINEAR], (-math.inf, math.inf)),
        ([LINEAR | {"activation": "relu"}, {"kind": "unflatten", "shape": [4]}], (0, math.inf)),
        ([SIGMOID | {"dropout": 0.75}], (0, 4)),
        ([LINEAR | {"activation": "tanh", "dropout": 0.5}, "flatten"], (-2, 2)),
        ([LINEAR | {"activation": "relu", "dropout": 0.5}], (0, math.inf)),
        ([SIGMOID, {"kind": "dropout", "p": 0.5}], (0, 2)),
        ([SIGMOID | {"dropout": 0.5}, {"kind": "topk", "k": 2}], (0, 2)),
        ([SIGMOID, "layer_norm"], (-math.inf, math.inf)),
        ([SIGMOID, "batch_norm"], (-math.inf, math.inf)),
        ([SIGMOID, "gaussian_sample"], (-math.inf, math.inf)),
        ([SIGMOID, {"kind": "topk", "k": 2}, "flatten"], (0, 1)),
        ([SIGMOID, {"kind": "lifetime", "rate": 0.5}], (0, 1)),
        ([SIGMOID, {"kind": "unit_norm_linear", "out_features": 2}], (-math.inf, math.inf)),
        ([SIGMOID, {"kind": "residual", "layers": [SIGMOID]}], (-math.inf, math.inf)),
        ([{"kind": "residual", "layers": [LINEAR], "activation": "sigmoid"}], (0, 1)),
        ([{"kind": "conv", "out_channels": 1, "kernel_size": 1, "activation": "tanh"},
          {"kind": "max_pool", **POOLING}, {"kind": "max_unpool", **POOLING}], (-1, 1)),
        (["flatten"], (-math.inf, math.inf)),
        ([], (-math.inf, math.inf)),
    ],
)  # fmt: skip
def test_bounds_of_a_sequence(layers: list[Any], expected: tuple[float, float]) -> None:
    assert output_bounds(layer_specs(*layers)) == expected


# -- errors -------------------------------------------------------------------------------------------

CONV = {"kind": "conv", "out_channels": 2, "kernel_size": 3}
TRANSPOSED = CONV | {"kind": "conv_transpose"}


@pytest.mark.parametrize(
    ("data", "in_shape", "message"),
    [
        ({"kind": "topk", "k": 8}, (7,), "k: 8 is more than the 7 features"),
        (LINEAR, (1, 2), "kind: linear takes a vector (put `flatten` before it), not the (1, 2)"),
        ({"kind": "unit_norm_linear", "out_features": 3}, (2, 3), "kind: unit_norm_linear takes a vector, not the (2, 3)"),
        ({"kind": "unflatten", "shape": [2, 2]}, (5,), "shape: [2, 2] holds 4 values, not the 5"),
        ({"kind": "unflatten", "shape": [2, 2]}, (2, 2), "kind: unflatten takes a vector, not the (2, 2)"),
        (CONV | {"kernel_size": 9}, (1, 8, 8), "kernel_size: 9 x 9 is more than the (padded) 8 x 8"),
        (CONV | {"kernel_size": [3, 3]}, (1, 8), "kernel_size: 2 sizes do not fit the 1 axes"),
        (CONV, (8,), "kind: conv takes channels and 1 to 3 axes, not the (8,)"),
        (CONV | {"groups": 2}, (3, 8), "groups: 2 does not divide the 3 channels"),
        (CONV | {"groups": 2, "out_channels": 3}, (2, 8), "groups: 2 does not divide out_channels 3"),
        (CONV | {"stride": 2, "padding": "same"}, (2, 8), "padding: 'same' requires stride 1"),
        (CONV | {"padding": 4, "padding_mode": "reflect"}, (2, 4), "padding: 4 is too much reflect padding for the 4"),
        (CONV | {"padding": 5, "padding_mode": "circular"}, (2, 4), "padding: 5 is too much circular padding for the 4"),
        (TRANSPOSED | {"output_padding": 1}, (2, 8), "output_padding: 1 is not less than stride or dilation"),
        (TRANSPOSED | {"padding": 2}, (2, 2), "padding: 2 leaves no output for the 2"),
        ({"kind": "max_pool", "kernel_size": 9}, (1, 8, 8), "kernel_size: 9 x 9 is more than the (padded) 8 x 8"),
        ({"kind": "avg_pool", "kernel_size": 2, "padding": 2}, (1, 8, 8), "padding: 2 x 2 is more than half the kernel 2 x 2"),
        ({"kind": "upsample", "scale_factor": 0.1}, (1, 8, 8), "scale_factor: 0.1 leaves nothing of the 8 x 8"),
        ({"kind": "upsample", "scale_factor": 1.5, "mode": "zeros"}, (1, 4, 4),
         "scale_factor: 1.5 is not a whole number, which mode `zeros` requires"),
        ({"kind": "residual", "layers": [{"kind": "linear", "out_features": 3}]}, (5,), "layers: they give (3,), not the (5,)"),
        ({"kind": "batch_norm"}, (1, 2, 2, 2, 2), "kind: batch_norm takes features, or channels and 1 to 3 axes, not the (1, 2, 2, 2, 2)"),
        ({"kind": "gaussian_sample"}, (5,), "kind: gaussian_sample takes means and log variances, not the odd (5,)"),
        ({"kind": "gaussian_sample"}, (3, 4, 4), "kind: gaussian_sample takes means and log variances, not the odd (3, 4, 4)"),
        ({"kind": "gaussian_sample"}, (1,), "kind: gaussian_sample takes means and log variances, not the odd (1,)"),
    ],
)  # fmt: skip
def test_field_that_does_not_fit_the_input_is_named(data: Any, in_shape: Shape, message: str) -> None:
    with pytest.raises(LayerError) as caught:
        aezoo.LayerSpec.model_validate(data).build(in_shape)
    assert str(caught.value) == message
