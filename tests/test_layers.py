"""One contract for every registered layer, and what each layer is for."""

import math
import pickle
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import aezoo
from aezoo.errors import LayerError
from aezoo.registry import registry
from aezoo.stack import Exact, ShapeLog, Stack, declared, logging_shapes
from tests.examples import BY_FAMILY, LAYER_CASES

cases = pytest.mark.parametrize(
    ("layers", "in_shape"),
    LAYER_CASES,
    ids=[f"{layers[-1].declared_kind}-{i}" for i, (layers, _) in enumerate(LAYER_CASES)],
)


@pytest.mark.parametrize("family", BY_FAMILY)
def test_every_kind_has_an_example(family: str) -> None:
    assert set(BY_FAMILY[family]) == set(registry.names(family))


Specs = tuple[aezoo.LayerSpec, ...]


def build(layers: Specs, in_shape: tuple[int, ...]) -> tuple[Stack, ShapeLog]:
    """The layers as a stack on the CPU, and the shapes that meta found for them."""
    log = ShapeLog()
    with logging_shapes(log), torch.device("meta"):
        Stack.build(layers, in_shape, "layers")
    log.replay = True
    with logging_shapes(log):
        torch.manual_seed(0)
        return Stack.build(layers, in_shape, "layers"), log


def single(kind: str, in_shape: tuple[int, ...], **options: Any) -> nn.Module:
    """One built layer."""
    return aezoo.LayerSpec.model_validate({"kind": kind, **options}).build(in_shape)


def batch(in_shape: tuple[int, ...], n: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, *in_shape, generator=torch.Generator().manual_seed(seed))


@cases
def test_shapes_on_meta_are_the_real_ones(layers: Specs, in_shape: tuple[int, ...]) -> None:
    stack, log = build(layers, in_shape)
    h, aux = batch(in_shape), {}
    for index, layer in enumerate(stack):
        shape = log.shapes[f"layers.{index}"]
        assert tuple(h.shape[1:]) == shape.input
        h = layer(h, aux) if any(declared(layer)) else layer(h)
        assert tuple(h.shape[1:]) == shape.output
    assert tuple(h.shape) == (6, *(stack.out_shape or ()))


@cases
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_gradient_reaches_every_parameter_and_the_input(
    layers: Specs, in_shape: tuple[int, ...], mode: str
) -> None:
    stack, _ = build(layers, in_shape)
    stack.train(mode == "train")
    h = batch(in_shape).requires_grad_()
    (stack(h, {}) * batch(stack.out_shape or (), seed=1)).sum().backward()
    assert h.grad is not None
    assert h.grad.abs().sum() > 0
    for name, parameter in stack.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@cases
def test_state_and_spec_round_trip(layers: Specs, in_shape: tuple[int, ...]) -> None:
    spec = layers[-1]
    assert aezoo.LayerSpec.model_validate_json(spec.model_dump_json()) == spec
    assert aezoo.LayerSpec.model_validate(spec.model_dump(mode="json", exclude_defaults=True)) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec
    first, log = build(layers, in_shape)
    first(batch(in_shape), {})  # lets buffers move away from where they start
    with logging_shapes(log), torch.device("meta"):
        second = Stack.build(layers, in_shape, "layers")
    second.load_state_dict(first.state_dict(), assign=True)
    first.eval(), second.eval()
    h = batch(in_shape, seed=2)
    assert torch.equal(first(h, {}), second(h, {}))


@cases
def test_rows_are_independent_in_eval(layers: Specs, in_shape: tuple[int, ...]) -> None:
    stack, _ = build(layers, in_shape)
    stack.eval()
    h = batch(in_shape)
    others = torch.cat([h[:1], batch(in_shape, n=5, seed=3)])
    assert torch.equal(stack(h, {})[0], stack(others, {})[0])


@cases
def test_eval_is_deterministic_and_leaves_input_and_random_state_alone(
    layers: Specs, in_shape: tuple[int, ...]
) -> None:
    stack, _ = build(layers, in_shape)
    stack.eval()
    h = batch(in_shape)
    before, random_state = h.clone(), torch.get_rng_state()
    first = stack(h, {})
    assert torch.equal(first, stack(h, {}))
    assert torch.equal(h, before)
    assert torch.equal(random_state, torch.get_rng_state())


@cases
def test_input_is_not_written_to_in_training(layers: Specs, in_shape: tuple[int, ...]) -> None:
    stack, _ = build(layers, in_shape)
    h = batch(in_shape)
    before = h.clone()
    stack.train()(h, {})
    assert torch.equal(h, before)


@cases
def test_repeat_gives_layers_of_their_own(layers: Specs, in_shape: tuple[int, ...]) -> None:
    stack, _ = build(layers, in_shape)
    assert len(stack) == sum(spec.repeat for spec in layers)
    pointers = [p.data_ptr() for p in stack.parameters()]
    assert len(set(pointers)) == len(pointers)


# -- topk ---------------------------------------------------------------------------------------------


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
    h = batch(tuple(sizes), n=4, seed=seed)
    features = h[0].numel()
    k = max(1, round(share * features))
    layer = aezoo.LayerSpec.model_validate({"kind": "topk", "k": k, "by": by}).build(tuple(sizes))
    kept = layer.train(training)(h).flatten(1)
    assert layer.sparsity() == Exact(k)  # pyright: ignore[reportAttributeAccessIssue]
    for row, out in zip(h.flatten(1), kept, strict=True):
        key = row.abs() if by == "magnitude" else row
        threshold = key.sort(descending=True).values[k - 1]
        assert torch.equal(out, torch.where(key >= threshold, row, 0.0))
        assert int((out != 0).sum()) == k


def test_topk_is_signed_by_default() -> None:
    h = torch.tensor([[-5.0, 1.0, 2.0]])
    signed = aezoo.LayerSpec.model_validate({"kind": "topk", "k": 2}).build((3,))
    assert signed(h).tolist() == [[0.0, 1.0, 2.0]]
    magnitude = aezoo.LayerSpec.model_validate({"kind": "topk", "k": 2, "by": "magnitude"}).build((3,))
    assert magnitude(h).tolist() == [[-5.0, 0.0, 2.0]]


@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 2, 2)])
def test_topk_passes_first_and_second_order_gradcheck(shape: tuple[int, ...]) -> None:
    layer = aezoo.LayerSpec.model_validate({"kind": "topk", "k": 3}).build(shape)
    # Values far apart: a finite difference must not change which ones are kept.
    values = torch.randperm(4 * torch.Size(shape).numel(), generator=torch.Generator().manual_seed(0))
    h = values.double().view(4, *shape).requires_grad_()
    assert torch.autograd.gradcheck(layer, (h,))
    assert torch.autograd.gradgradcheck(lambda h: layer(h) ** 3, (h,))


# -- lifetime -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "kept"), [(20, 5), (8, 2), (4, 1), (1, 1)])
def test_lifetime_keeps_the_same_share_of_a_short_batch(rows: int, kept: int) -> None:
    layer = aezoo.LayerSpec.model_validate({"kind": "lifetime", "rate": 0.25}).build((7,))
    h = batch((7,), n=rows)
    out = layer.train()(h)
    assert (out != 0).sum(0).tolist() == [kept] * 7
    assert all(
        torch.equal(c[c != 0].sort().values, r.sort().values[-kept:]) for c, r in zip(out.T, h.T, strict=True)
    )


def test_lifetime_is_the_identity_in_eval() -> None:
    layer = aezoo.LayerSpec.model_validate({"kind": "lifetime", "rate": 0.25}).build((7,))
    h = batch((7,))
    assert torch.equal(layer.eval()(h), h)


# -- the others ---------------------------------------------------------------------------------------


def test_residual_adds_its_input() -> None:
    (spec,), in_shape = next(case for case in LAYER_CASES if case[0][-1].declared_kind == "residual")
    stack, _ = build((spec.replace({"repeat": 1}),), in_shape)
    h = batch(in_shape)
    block = stack[0]
    assert torch.equal(stack(h, {}), h + block.inner(h, {}))  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("in_shape", [(2, 9), (2, 9, 8), (1, 6, 5, 7)])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_same_keeps_the_size_and_is_pytorchs(
    in_shape: tuple[int, ...], kernel_size: int, dilation: int
) -> None:
    data = {
        "kind": "conv",
        "out_channels": 2,
        "kernel_size": kernel_size,
        "dilation": dilation,
        "padding": "same",
    }
    layer = aezoo.LayerSpec.model_validate(data).build(in_shape)
    convolve = {2: nn.functional.conv1d, 3: nn.functional.conv2d, 4: nn.functional.conv3d}[len(in_shape)]
    h = batch(in_shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that an uneven padding costs a copy
        expected = convolve(h, *layer.parameters(), padding="same", dilation=dilation)
    torch.testing.assert_close(layer(h), expected)


def test_steps_behind_the_weights_come_in_order() -> None:
    spec = aezoo.LayerSpec.model_validate(
        {"kind": "linear", "out_features": 3, "norm": "layer_norm", "activation": "relu", "dropout": 0.1}
    )
    steps = [type(module) for module in spec.build((2,))]  # pyright: ignore[reportGeneralTypeIssues]
    assert steps == [nn.Linear, nn.LayerNorm, nn.ReLU, nn.Dropout]


@pytest.mark.parametrize(
    ("data", "in_shape", "field", "words"),
    [
        ({"kind": "topk", "k": 8}, (7,), "k", "8 is more than the 7 features"),
        ({"kind": "linear", "out_features": 3}, (1, 2), "kind", "linear takes a vector"),
        ({"kind": "unflatten", "shape": [2, 2]}, (5,), "shape", "holds 4 values, not the 5"),
        ({"kind": "unflatten", "shape": [2, 2]}, (2, 2), "kind", "unflatten takes a vector"),
        ({"kind": "conv", "out_channels": 2, "kernel_size": 9}, (1, 8, 8), "kernel_size", "9 x 9 is more than"),
        ({"kind": "conv", "out_channels": 2, "kernel_size": [3, 3]}, (1, 8), "kernel_size", "2 sizes do not fit the 1"),
        ({"kind": "conv", "out_channels": 2, "kernel_size": 3}, (8,), "kind", "channels and 1 to 3 axes"),
        ({"kind": "conv", "out_channels": 4, "kernel_size": 1, "groups": 2}, (3, 8), "groups", "2 does not divide the 3"),
        ({"kind": "conv", "out_channels": 3, "kernel_size": 1, "groups": 2}, (2, 8), "groups", "out_channels 3"),
        ({"kind": "conv", "out_channels": 3, "kernel_size": 3, "stride": 2, "padding": "same"}, (2, 8), "padding", "stride 1"),
        ({"kind": "max_pool", "kernel_size": 9}, (1, 8, 8), "kernel_size", "9 x 9 is more than"),
        ({"kind": "avg_pool", "kernel_size": 2, "padding": 2}, (1, 8, 8), "padding", "more than half the kernel"),
        ({"kind": "upsample", "scale_factor": 0.1}, (1, 8, 8), "scale_factor", "leaves nothing"),
        (
            {"kind": "residual", "layers": [{"kind": "linear", "out_features": 3}]},
            (5,), "layers", "they make (3,) of it, not the (5,)",
        ),
    ],
)  # fmt: skip
def test_a_field_that_does_not_fit_the_input_is_named(
    data: dict[str, object], in_shape: tuple[int, ...], field: str, words: str
) -> None:
    spec = aezoo.LayerSpec.model_validate(data)
    with pytest.raises(LayerError) as error:
        spec.build(in_shape)
    assert error.value.field == field
    assert words in error.value.message
