"""One contract for every registered layer, and what each layer is for."""

import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import aezoo
from aezoo.errors import LayerError
from aezoo.model.sequential import Exact, LayerSequence, ShapeTrace, declared, logging_shapes
from aezoo.plugins.registry import registry
from aezoo.specs.components import ActivationSpec, output_bounds
from tests.examples import BY_FAMILY, LAYER_CASES, small_spec

cases = pytest.mark.parametrize(
    ("layers", "in_shape"),
    LAYER_CASES,
    ids=[f"{layers[-1].kind_name}-{i}" for i, (layers, _) in enumerate(LAYER_CASES)],
)


@pytest.mark.parametrize("family", BY_FAMILY)
def test_every_kind_has_an_example(family: str) -> None:
    assert set(BY_FAMILY[family]) == set(registry.names(family))


Specs = tuple[aezoo.LayerSpec, ...]


def build(layers: Specs, in_shape: tuple[int, ...]) -> tuple[LayerSequence, ShapeTrace]:
    """The layers as a stack on the CPU, and the shapes that meta found for them."""
    log = ShapeTrace()
    with logging_shapes(log), torch.device("meta"):
        LayerSequence.build(layers, in_shape, "layers")
    log.replay = True
    with logging_shapes(log):
        torch.manual_seed(0)
        return LayerSequence.build(layers, in_shape, "layers"), log


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
        second = LayerSequence.build(layers, in_shape, "layers")
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
    (spec,), in_shape = next(case for case in LAYER_CASES if case[0][-1].kind_name == "residual")
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


# -- pooling and what undoes it -----------------------------------------------------------------------

POOLING = [
    pytest.param((2, 9), {"kernel_size": 3}, id="series"),
    pytest.param((2, 6, 4), {"kernel_size": 2}, id="image"),
    pytest.param((2, 6, 8), {"kernel_size": [3, 2]}, id="uneven"),
    pytest.param((1, 7, 5), {"kernel_size": 2, "size": [7, 5]}, id="rest"),
    pytest.param((2, 9, 9), {"kernel_size": 2, "stride": 3, "size": 9}, id="gaps"),
    pytest.param((2, 6, 6), {"kernel_size": 2, "padding": 1}, id="padded"),
    pytest.param((1, 4, 6, 2), {"kernel_size": 2}, id="volume"),
    pytest.param((1, 5, 4, 3), {"kernel_size": 2, "size": [5, 4, 3]}, id="volume-rest"),
]


def pool_and_unpool(in_shape: tuple[int, ...], options: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    pooling = {name: value for name, value in options.items() if name != "size"}
    pool = single("max_pool", in_shape, switches="a", **pooling)
    smaller = pool(torch.rand(1, *in_shape), {}).shape[1:]
    return pool, single("max_unpool", tuple(smaller), switches="a", **options)


@pytest.mark.parametrize(("in_shape", "options"), POOLING)
def test_max_unpool_puts_each_maximum_back_where_it_was(
    in_shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    pool, unpool = pool_and_unpool(in_shape, options)
    h, aux = batch(in_shape), {}
    pooled = pool(h, aux)
    axes = len(in_shape) - 1
    expected, indices = getattr(nn.functional, f"max_pool{axes}d")(
        h, options["kernel_size"], options.get("stride"), options.get("padding", 0), return_indices=True
    )
    assert torch.equal(pooled, expected)
    assert torch.equal(aux["a.indices"], indices)
    back = unpool(pooled, aux)
    assert back.shape == h.shape
    # Where something was put it is what was there; as many places as there were windows, each once.
    placed = torch.zeros_like(h).flatten(2).scatter(2, indices.flatten(2), 1.0).view_as(h)
    assert torch.equal(back, h * placed)
    assert int(placed.sum()) == pooled.numel()


@pytest.mark.parametrize(
    ("pooling", "words"),
    [
        ({"kernel_size": 3, "stride": 2}, "windows that overlap cannot be undone"),
        ({"kernel_size": [2, 3], "stride": 2}, "windows that overlap cannot be undone"),
    ],
)
def test_switches_of_windows_that_overlap_are_refused(pooling: dict[str, Any], words: str) -> None:
    with pytest.raises(LayerError) as caught:
        single("max_pool", (1, 9, 9), switches="a", **pooling)
    assert caught.value.field == "switches"
    assert words in caught.value.message
    single("max_pool", (1, 9, 9), **pooling)


POOL = {"kind": "max_pool", "kernel_size": 2, "switches": "a"}
UNPOOL = {"kind": "max_unpool", "kernel_size": 2, "switches": "a"}


def pooling_spec(encoder: list[Any], decoder: list[Any], size: int = 6) -> aezoo.VariantSpec:
    return small_spec(input={"shape": [1, size, size], "range": [0, 1]}, encoder=encoder, decoder=decoder)


def test_a_decoder_that_unpools_needs_what_the_encoder_emitted() -> None:
    ae = aezoo.build(pooling_spec([POOL], [UNPOOL]))
    x = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    out = ae(x)
    with pytest.raises(ValueError) as caught:
        ae.decode(out.latents)
    text = str(caught.value)
    assert text.startswith("this decoder needs 'a.indices'")
    assert text.endswith(" of the encoder; call decode(out.latents, out.aux) with out = ae(x)")
    assert torch.equal(ae.decode(out.latents, out.aux), out.x_hat)
    assert torch.equal(out.x_hat != 0, out.x_hat == x)


@pytest.mark.parametrize(
    ("encoder", "decoder", "text"),
    [
        ([{**POOL, "switches": "b"}], [UNPOOL],
         "decoder.0: max_unpool needs 'a.indices', which no layer before emits"),
        ([UNPOOL, POOL], [UNPOOL], "encoder.0: max_unpool needs 'a.indices', which no layer before emits"),
        ([{"kind": "residual", "layers": [UNPOOL, POOL]}], [UNPOOL],
         "encoder.0.layers.0: max_unpool needs 'a.indices', which no layer before emits"),
        ([POOL, POOL], [UNPOOL, UNPOOL],
         "encoder.1: max_pool emits 'a.indices', which a layer before emits too"),
    ],
    ids=["other-name", "behind", "nested", "twice"],
)  # fmt: skip
def test_switches_that_are_missing_or_doubled_are_named_at_build(
    encoder: list[Any], decoder: list[Any], text: str
) -> None:
    with pytest.raises(aezoo.SpecError) as caught:
        aezoo.build(pooling_spec(encoder, decoder))
    assert str(caught.value) == text


def test_switches_of_other_channels_are_refused_at_build() -> None:
    widened = [{"kind": "conv", "out_channels": 3, "kernel_size": 1}, UNPOOL]
    with pytest.raises(aezoo.SpecError, match=r"^decoder\.1: max_unpool does not take the shape \(3, 3, 3\)"):
        aezoo.build(pooling_spec([POOL], [*widened, {"kind": "conv", "out_channels": 1, "kernel_size": 1}]))


def test_a_rest_that_is_not_given_back_is_refused_at_build() -> None:
    with pytest.raises(aezoo.SpecError, match=r"^decoder\.0: "):
        aezoo.build(pooling_spec([POOL], [UNPOOL], size=7))
    assert aezoo.build(pooling_spec([POOL], [UNPOOL | {"size": 7}], size=7)).num_latents == 9


@pytest.mark.parametrize(
    ("pool", "after"),
    [
        # 7 becomes 3, which unpools to 6, where some switches point outside.
        (POOL, {"kind": "conv_transpose", "out_channels": 1, "kernel_size": 2}),
        # 7 becomes 4, which unpools to 8, where every switch has a place, and nearly each the wrong one.
        (POOL | {"ceil_mode": True}, {"kind": "conv", "out_channels": 1, "kernel_size": 2}),
    ],
    ids=["smaller", "larger"],
)
def test_switches_of_another_size_than_is_unpooled_are_refused_at_build(
    pool: dict[str, Any], after: dict[str, Any]
) -> None:
    with pytest.raises(aezoo.SpecError, match=r"^decoder\.0: max_unpool "):
        aezoo.build(pooling_spec([pool], [UNPOOL, after], size=7))


@pytest.mark.parametrize("training", [True, False])
def test_pooling_and_unpooling_inside_of_a_residual_reaches_both_sides(training: bool) -> None:
    inner = [{**POOL, "switches": "b"}, {**UNPOOL, "switches": "b"}]
    encoder = [{"kind": "residual", "layers": inner}, POOL]
    decoder = [
        UNPOOL,
        {"kind": "residual", "layers": [{**POOL, "switches": "c"}, {**UNPOOL, "switches": "c"}]},
    ]
    ae = aezoo.build(pooling_spec(encoder, decoder)).train(training)
    x = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    out = ae(x)
    assert set(out.aux) >= {"a.indices", "b.indices", "c.indices"}
    # Maxima double at each of both residuals; everything else is gone.
    assert torch.equal(out.x_hat, torch.where(out.x_hat != 0, 4 * x, 0.0))
    assert int((out.x_hat != 0).sum()) == 27


def test_a_network_that_unpools_is_trained_and_measured() -> None:
    conv = {"kind": "conv", "out_channels": 1, "kernel_size": 3, "padding": "same"}
    spec = pooling_spec([conv, POOL], [UNPOOL, conv]).replace({"recipe.threads": 1})
    x = torch.rand(40, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    ae = aezoo.train(spec, x, device="cpu", progress=False)
    assert ae.history[-1]["validation"]["mse"] < ae.history[0]["validation"]["mse"]


def test_upsampling_with_zeros_puts_values_into_first_corners() -> None:
    layer = single("upsample", (1, 2, 2), mode="zeros")
    h = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert layer(h)[0, 0].tolist() == [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    series = single("upsample", (1, 2), mode="zeros", scale_factor=3.0)
    assert series(torch.tensor([[[5.0, 6.0]]]))[0, 0].tolist() == [5, 0, 0, 6, 0, 0]
    volume = single("upsample", (1, 1, 1, 2), mode="zeros")(torch.tensor([[[[[7.0, 8.0]]]]]))
    assert tuple(volume.shape) == (1, 1, 2, 2, 4)
    assert volume.sum() == 15
    assert volume[0, 0, 0, 0].tolist() == [7, 0, 8, 0]


def test_zeros_between_need_a_whole_factor() -> None:
    with pytest.raises(LayerError, match=r"1\.5 is not whole, which zeros between need") as caught:
        single("upsample", (1, 4, 4), mode="zeros", scale_factor=1.5)
    assert caught.value.field == "scale_factor"


# -- unit_norm_linear ---------------------------------------------------------------------------------


def lengths(linear: nn.Module) -> torch.Tensor:
    weight: Any = linear.weight
    return weight.detach().double().norm(dim=0)


def unit_norm(in_features: int = 7, out_features: int = 5, **options: Any) -> Any:
    layer = single("unit_norm_linear", (in_features,), out_features=out_features, **options)
    return layer.get_submodule("linear")


def test_atoms_have_length_1_when_built() -> None:
    linear = unit_norm()
    assert tuple(linear.weight.shape) == (5, 7)
    torch.testing.assert_close(lengths(linear), torch.ones(7, dtype=torch.float64), rtol=1e-6, atol=0)


def test_each_latent_weighs_an_atom_of_length_1_whatever_the_weights_length() -> None:
    linear = unit_norm(bias=False).double()
    expected = linear(torch.eye(7, dtype=torch.float64))
    with torch.no_grad():
        linear.weight *= torch.arange(1.0, 8.0)
    torch.testing.assert_close(linear(torch.eye(7, dtype=torch.float64)), expected)
    torch.testing.assert_close(expected.norm(dim=1), torch.ones(7, dtype=torch.float64))
    linear.after_step()
    torch.testing.assert_close(linear.weight.T, expected)


def test_the_gradient_has_no_part_along_an_atom() -> None:
    linear = unit_norm().double()
    (linear(batch((7,)).double()) ** 2).sum().backward()
    along = (linear.weight.grad * linear.weight.detach()).sum(0)
    assert linear.weight.grad.norm(dim=0).min() > 0.1
    assert along.abs().max() < 1e-12


def test_an_atom_of_length_0_stays_finite() -> None:
    linear = unit_norm()
    with torch.no_grad():
        linear.weight[:, 2] = 0.0
    linear.after_step()
    linear(batch((7,))).sum().backward()
    assert linear.weight.isfinite().all()
    assert linear.weight.grad.isfinite().all()


@pytest.mark.parametrize("tie", [False, True])
def test_atoms_have_length_1_after_training(tie: bool) -> None:
    spec = small_spec(
        decoder=[{"kind": "unit_norm_linear", "out_features": 36}, {"kind": "unflatten", "shape": [1, 6, 6]}]
    ).replace(
        {
            "recipe.threads": 1,
            "recipe.stages.0.tie": tie,
            "recipe.stages.0.optimizer": {"kind": "adam", "lr": 0.1},
        }
    )
    x = torch.rand(60, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    linear = aezoo.train(spec, x, device="cpu", progress=False).decoder[0].get_submodule("linear")
    before = aezoo.build(spec).decoder[0].get_submodule("linear")
    assert not torch.allclose(linear.weight, before.weight, atol=0.05)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(lengths(linear), torch.ones(8, dtype=torch.float64), rtol=1e-6, atol=0)


def test_unit_norm_linear_takes_a_vector() -> None:
    with pytest.raises(LayerError, match=r"unit_norm_linear takes a vector, not the \(2, 3\)"):
        single("unit_norm_linear", (2, 3), out_features=3)


# -- dropout and normalisation ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "in_shape", "pytorchs"),
    [
        ("batch_norm", (7,), lambda: nn.BatchNorm1d(7)),
        ("batch_norm", (3, 8), lambda: nn.BatchNorm1d(3)),
        ("batch_norm", (3, 4, 4), lambda: nn.BatchNorm2d(3)),
        ("batch_norm", (3, 2, 4, 4), lambda: nn.BatchNorm3d(3)),
        ("layer_norm", (7,), lambda: nn.LayerNorm(7)),
        ("layer_norm", (3, 8), lambda: nn.GroupNorm(1, 3)),
        ("layer_norm", (3, 4, 4), lambda: nn.GroupNorm(1, 3)),
    ],
    ids=lambda value: "" if callable(value) else str(value),
)
def test_a_normalisation_is_pytorchs(
    kind: str, in_shape: tuple[int, ...], pytorchs: Callable[[], nn.Module]
) -> None:
    layer, expected = single(kind, in_shape), pytorchs()
    for seed in (0, 1):
        h = 3 * batch(in_shape, seed=seed) + 1
        assert torch.equal(layer.train()(h), expected.train()(h))
        assert torch.equal(layer.eval()(h), expected.eval()(h))


def test_layer_norm_is_over_all_values_of_a_sample() -> None:
    out = single("layer_norm", (3, 4, 4))(5 * batch((3, 4, 4)) + 2).flatten(1)
    torch.testing.assert_close(out.mean(1), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std(1, correction=0), torch.ones(6), atol=1e-4, rtol=0)


def test_batch_norm_has_at_most_3_axes() -> None:
    with pytest.raises(LayerError, match="features, or channels and 1 to 3 axes"):
        single("batch_norm", (1, 2, 2, 2, 2))


@pytest.mark.parametrize("p", [0.1, 0.75])
def test_dropout_drops_its_share_in_training_alone(p: float) -> None:
    layer, h = single("dropout", (5000,), p=p), torch.ones(4, 5000)
    torch.manual_seed(0)
    out = layer.train()(h)
    torch.manual_seed(0)
    assert torch.equal(out, nn.functional.dropout(h, p))
    assert float((out == 0).float().mean()) == pytest.approx(p, abs=5 * (p * (1 - p) / 20_000) ** 0.5)
    assert torch.equal(layer.eval()(h), h)


# -- what layers can give -----------------------------------------------------------------------------


def layers_of(*data: Any) -> Specs:
    return tuple(aezoo.LayerSpec.model_validate(layer) for layer in data)


ACTIVATIONS: list[Any] = [
    "relu", "leaky_relu", {"kind": "leaky_relu", "negative_slope": 0.0}, {"kind": "elu", "alpha": 0.3}, "gelu",
    {"kind": "gelu", "approximate": "tanh"}, "silu", {"kind": "softplus", "beta": 3.0}, "sigmoid", "tanh",
]  # fmt: skip


def test_every_activation_is_among_those_whose_reach_is_checked() -> None:
    kinds = {one if isinstance(one, str) else one["kind"] for one in ACTIVATIONS}
    assert kinds == set(ActivationSpec.kinds())


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_the_reach_of_an_activation_is_what_it_gives(activation: Any) -> None:
    spec = ActivationSpec.model_validate(activation)
    low, high = spec.output_bounds()
    values = spec.build()(torch.linspace(-60, 60, 1_200_001, dtype=torch.float64))
    assert low <= values.min()
    assert values.max() <= high
    # And little more, so that nothing is refused for a bound that is never met.
    assert math.isinf(low) or values.min() - low < 1e-3
    assert math.isinf(high) or high - values.max() < 1e-3


LINEAR = {"kind": "linear", "out_features": 4}
SIGMOID = LINEAR | {"activation": "sigmoid"}


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
        ([{"kind": "conv", "out_channels": 1, "kernel_size": 1, "activation": "tanh"}, POOL, UNPOOL], (-1, 1)),
        (["flatten"], (-math.inf, math.inf)),
        ([], (-math.inf, math.inf)),
    ],
)  # fmt: skip
def test_the_reach_of_layers_is_the_last_activations_until_something_leads_out_of_it(
    layers: list[Any], expected: tuple[float, float]
) -> None:
    assert output_bounds(layers_of(*layers)) == expected


@cases
@pytest.mark.parametrize("given", [(0.25, 0.75), (-2.0, -1.0), (-1.0, 3.0)])
def test_a_layer_stays_within_what_it_says_for_what_it_is_given(
    layers: Specs, in_shape: tuple[int, ...], given: tuple[float, float]
) -> None:
    stack, _ = build(layers, in_shape)
    bounds = given
    for layer in layers:
        bounds = layer.output_bounds(bounds)
    h = given[0] + (given[1] - given[0]) * torch.rand(
        6, *in_shape, generator=torch.Generator().manual_seed(0)
    )
    for training in (True, False):
        out = stack.train(training)(h, {})
        assert bounds[0] - 1e-6 <= float(out.detach().min())
        assert float(out.detach().max()) <= bounds[1] + 1e-6
