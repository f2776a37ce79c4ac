"""Convolution, pooling and upsampling against PyTorch's functions; switches between encoder and decoder."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import aezoo
from aezoo.errors import LayerError
from tests.examples import small_spec
from tests.model.layers.modules import build_layer, normal


@pytest.mark.parametrize("in_shape", [(2, 9), (2, 9, 8), (1, 6, 5, 7)])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_same_padding_equals_pytorch(in_shape: tuple[int, ...], kernel_size: int, dilation: int) -> None:
    options = {"out_channels": 2, "kernel_size": kernel_size, "dilation": dilation, "padding": "same"}
    layer, h = build_layer("conv", in_shape, **options), normal(in_shape)
    convolve = getattr(nn.functional, f"conv{len(in_shape) - 1}d")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # uneven padding takes a copy
        expected = convolve(h, *layer.parameters(), padding="same", dilation=dilation)
    torch.testing.assert_close(layer(h), expected)


# -- pooling and unpooling ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("in_shape", "options"),
    [
        pytest.param((2, 9), {"kernel_size": 3}, id="series"),
        pytest.param((2, 6, 4), {"kernel_size": 2}, id="image"),
        pytest.param((2, 6, 8), {"kernel_size": [3, 2]}, id="uneven"),
        pytest.param((1, 7, 5), {"kernel_size": 2, "size": [7, 5]}, id="rest"),
        pytest.param((2, 9, 9), {"kernel_size": 2, "stride": 3, "size": 9}, id="gaps"),
        pytest.param((2, 6, 6), {"kernel_size": 2, "padding": 1}, id="padded"),
        pytest.param((1, 4, 6, 2), {"kernel_size": 2}, id="volume"),
        pytest.param((1, 5, 4, 3), {"kernel_size": 2, "size": [5, 4, 3]}, id="volume-rest"),
    ],
)
def test_max_unpool_puts_each_maximum_back_where_it_was(
    in_shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    pooling = {name: value for name, value in options.items() if name != "size"}
    pool = build_layer("max_pool", in_shape, switches="a", **pooling)
    h = normal(in_shape)
    aux: dict[str, Tensor] = {}
    pooled = pool(h, aux)
    expected, indices = getattr(nn.functional, f"max_pool{len(in_shape) - 1}d")(
        h, options["kernel_size"], options.get("stride"), options.get("padding", 0), return_indices=True
    )
    assert torch.equal(pooled, expected)
    assert torch.equal(aux["a.indices"], indices)
    back = build_layer("max_unpool", tuple(pooled.shape[1:]), switches="a", **options)(pooled, aux)
    assert back.shape == h.shape
    # The positions that were filled: one per window, each with the value that was there.
    filled = torch.zeros_like(h).flatten(2).scatter(2, indices.flatten(2), 1.0).view_as(h)
    assert torch.equal(back, h * filled)
    assert int(filled.sum()) == pooled.numel()


@pytest.mark.parametrize("kernel_size", [3, [2, 3]])
def test_switches_of_overlapping_windows_are_rejected(kernel_size: Any) -> None:
    pooling = {"kernel_size": kernel_size, "stride": 2}
    with pytest.raises(LayerError, match="windows that overlap cannot be unpooled") as caught:
        build_layer("max_pool", (1, 9, 9), switches="a", **pooling)
    assert caught.value.field == "switches"
    build_layer("max_pool", (1, 9, 9), **pooling)


POOL = {"kind": "max_pool", "kernel_size": 2, "switches": "a"}
UNPOOL = {"kind": "max_unpool", "kernel_size": 2, "switches": "a"}
CONV = {"kind": "conv", "out_channels": 1, "kernel_size": 1}


def pooling_spec(encoder: list[Any], decoder: list[Any], size: int = 6) -> aezoo.VariantSpec:
    return small_spec(input={"shape": [1, size, size], "range": [0, 1]}, encoder=encoder, decoder=decoder)


def test_unpooling_decoder_needs_the_encoders_aux() -> None:
    ae = aezoo.build(pooling_spec([POOL], [UNPOOL]))
    out = ae(torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(ValueError, match=r"^this decoder needs 'a\.indices', 'a\.sizes' from the encoder; "):
        ae.decode(out.latents)
    assert torch.equal(ae.decode(out.latents, out.aux), out.x_hat)
    assert int((out.x_hat != 0).sum()) == out.latents.numel()


@pytest.mark.parametrize(
    ("encoder", "decoder", "size", "message"),
    [
        pytest.param([POOL | {"switches": "b"}], [UNPOOL], 6,
                     "decoder.0: max_unpool needs 'a.indices', which no earlier layer emits", id="other-name"),
        pytest.param([UNPOOL, POOL], [UNPOOL], 6,
                     "encoder.0: max_unpool needs 'a.indices', which no earlier layer emits", id="later"),
        pytest.param([{"kind": "residual", "layers": [UNPOOL, POOL]}], [UNPOOL], 6,
                     "encoder.0.layers.0: max_unpool needs 'a.indices', which no earlier layer emits", id="nested"),
        pytest.param([POOL, POOL], [UNPOOL, UNPOOL], 6,
                     "encoder.1: max_pool emits 'a.indices', which an earlier layer emits too", id="twice"),
        pytest.param([POOL], [CONV | {"out_channels": 3}, UNPOOL, CONV], 6,
                     "decoder.1: max_unpool does not take the shape (3, 3, 3) that decoder.0 gives", id="channels"),
        pytest.param([POOL], [UNPOOL], 7, "decoder.0: ", id="rest"),
        # 7 becomes 3, which unpools to 6: some switches point outside.
        pytest.param([POOL], [UNPOOL, CONV | {"kind": "conv_transpose", "kernel_size": 2}], 7,
                     "decoder.0: max_unpool ", id="smaller"),
        # 7 becomes 4, which unpools to 8: every switch has a position, but nearly always a wrong one.
        pytest.param([POOL | {"ceil_mode": True}], [UNPOOL, CONV | {"kernel_size": 2}], 7,
                     "decoder.0: max_unpool ", id="larger"),
    ],
)  # fmt: skip
def test_switches_that_do_not_fit_are_rejected_at_build(
    encoder: list[Any], decoder: list[Any], size: int, message: str
) -> None:
    with pytest.raises(aezoo.SpecError) as caught:
        aezoo.build(pooling_spec(encoder, decoder, size))
    assert str(caught.value).startswith(message)


def test_unpooling_with_a_size_restores_what_the_pooling_left_out() -> None:
    assert aezoo.build(pooling_spec([POOL], [UNPOOL | {"size": 7}], size=7)).num_latents == 9


def test_unpooling_network_is_trained_and_measured() -> None:
    conv = CONV | {"kernel_size": 3, "padding": "same"}
    spec = pooling_spec([conv, POOL], [UNPOOL, conv]).replace({"recipe.threads": 1})
    x = torch.rand(40, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    ae = aezoo.train(spec, x, device="cpu", progress=False)
    assert ae.history[-1]["validation"]["mse"] < ae.history[0]["validation"]["mse"]


# -- upsampling ---------------------------------------------------------------------------------------


def test_upsampling_with_zeros_puts_values_into_first_corners() -> None:
    h = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    image = build_layer("upsample", (1, 2, 2), mode="zeros")(h)
    assert image[0, 0].tolist() == [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    series = build_layer("upsample", (1, 2), mode="zeros", scale_factor=3.0)(torch.tensor([[[5.0, 6.0]]]))
    assert series[0, 0].tolist() == [5, 0, 0, 6, 0, 0]
    volume = build_layer("upsample", (1, 1, 1, 2), mode="zeros")(torch.tensor([[[[[7.0, 8.0]]]]]))
    assert tuple(volume.shape) == (1, 1, 2, 2, 4)
    assert volume.sum() == 15
    assert volume[0, 0, 0, 0].tolist() == [7, 0, 8, 0]
