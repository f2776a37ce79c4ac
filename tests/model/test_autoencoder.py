"""What an autoencoder gives, refuses, and shows of itself."""

import copy
import pickle
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import aezoo
from aezoo.errors import NotSupportedError
from tests.examples import small, small_spec

SHAPE = (1, 6, 6)


@pytest.fixture
def ae() -> aezoo.Autoencoder:
    return aezoo.build(small_spec()).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))


# -- running ------------------------------------------------------------------------------------------


def test_forward_is_encode_and_decode(ae: aezoo.Autoencoder, x: Tensor) -> None:
    out = ae(x)
    assert isinstance(out, aezoo.Output)
    assert torch.equal(out.latents, ae.encode(x))
    assert torch.equal(out.x_hat, ae.decode(ae.encode(x)))
    assert (out.x_hat.shape, out.latents.shape, out.aux) == (x.shape, (5, 8), {})
    assert (ae.latent_shape, ae.num_latents) == ((8,), 8)


@pytest.mark.parametrize("shape", [(5, 6, 6), (1, 6, 6), (5, 1, 6, 5), (5, 36), (36,)])
@pytest.mark.parametrize("method", ["forward", "encode"])
def test_an_input_of_another_shape_is_refused_with_the_way_out(
    ae: aezoo.Autoencoder, shape: tuple[int, ...], method: str
) -> None:
    with pytest.raises(ValueError) as caught:
        getattr(ae, method)(torch.zeros(shape))
    assert str(caught.value) == (
        f"expected input of shape (batch, 1 x 6 x 6), found {shape}; "
        "ae.transforms() makes it of images and arrays"
    )


@pytest.mark.parametrize("shape", [(8,), (5, 7), (5, 1, 8)])
def test_latents_of_another_shape_are_refused(ae: aezoo.Autoencoder, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        ae.decode(torch.zeros(shape))
    assert str(caught.value) == f"expected latents of shape (batch, 8), found {shape}"


def test_an_empty_batch_gives_an_empty_batch(ae: aezoo.Autoencoder) -> None:
    assert ae(torch.zeros(0, *SHAPE)).x_hat.shape == (0, *SHAPE)


def test_score_is_minus_the_mean_squared_error_of_each_sample(ae: aezoo.Autoencoder, x: Tensor) -> None:
    expected = torch.stack([-((ae(row[None]).x_hat - row[None]) ** 2).mean() for row in x])
    torch.testing.assert_close(ae.score_samples(x), expected)
    assert not ae.score_samples(x).requires_grad


def test_score_needs_a_target_of_the_inputs_shape() -> None:
    layers = [{"kind": "linear", "out_features": 3}]
    spec = aezoo.AutoencoderSpec.model_validate(
        {"input": {"shape": [4]}, "target": {"shape": [3]}, "encoder": layers, "decoder": layers}
    )
    with pytest.raises(NotSupportedError, match="compares with the input"):
        aezoo.build(spec).score_samples(torch.zeros(2, 4))


def test_sampling_without_a_prior_is_refused(ae: aezoo.Autoencoder) -> None:
    with pytest.raises(NotSupportedError, match="no prior to sample from"):
        ae.sample(3)


class Prior(nn.Module):
    """Emits a name and has a prior, as a sampling layer does."""

    emits = ("mean",)

    def forward(self, h: Tensor, aux: dict[str, Tensor]) -> Tensor:
        aux["mean"] = h
        return 2 * h

    def sample_prior(self, n: int, generator: torch.Generator | None) -> Tensor:
        return torch.randn(n, 36, generator=generator)


class Needy(nn.Module):
    needs = ("mean",)

    def forward(self, h: Tensor, aux: dict[str, Tensor]) -> Tensor:
        return h - aux["mean"]


def layer_of(kind: str, module: type[nn.Module]) -> None:
    """Registers a layer without fields that builds a module."""

    def build(self: aezoo.LayerSpec, in_shape: tuple[int, ...]) -> nn.Module:
        return module()

    fields: dict[str, Any] = {
        "__annotations__": {"kind": Literal[kind]},
        "__module__": __name__, "__qualname__": kind, "kind": kind, "build": build,
    }  # fmt: skip
    aezoo.register(type(kind, (aezoo.LayerSpec,), fields))


@pytest.fixture
def with_aux(fresh_registry: None) -> aezoo.Autoencoder:
    layer_of("prior", Prior)
    layer_of("needy", Needy)
    return aezoo.build(
        small_spec(encoder=["flatten", "prior"], decoder=["needy", {"kind": "unflatten", "shape": SHAPE}])
    )


def test_what_a_layer_emits_reaches_the_one_that_needs_it(with_aux: aezoo.Autoencoder, x: Tensor) -> None:
    out = with_aux(x)
    assert torch.equal(out.aux["mean"], x.flatten(1))
    assert torch.equal(out.latents, 2 * x.flatten(1))
    assert torch.equal(out.x_hat, x)
    assert torch.equal(with_aux.decode(out.latents, out.aux), x)


def test_a_decoder_whose_needs_are_not_met_says_what_to_call(with_aux: aezoo.Autoencoder, x: Tensor) -> None:
    with pytest.raises(ValueError) as caught:
        with_aux.decode(with_aux.encode(x))
    assert str(caught.value) == (
        "this decoder needs 'mean' of the encoder; call decode(out.latents, out.aux) with out = ae(x)"
    )


def test_decoding_leaves_the_callers_aux_as_it_was(with_aux: aezoo.Autoencoder, x: Tensor) -> None:
    aux = {"mean": x.flatten(1)}
    with_aux.decode(torch.zeros(5, 36), aux)
    assert list(aux) == ["mean"]


def test_samples_come_from_the_prior_that_the_encoder_ends_in(fresh_registry: None) -> None:
    layer_of("prior", Prior)
    spec = small_spec(encoder=["flatten", "prior"], decoder=[{"kind": "unflatten", "shape": SHAPE}])
    ae = aezoo.build(spec)
    drawn = ae.sample(3, torch.Generator().manual_seed(1))
    expected = torch.randn(3, 36, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drawn, expected.view(3, *SHAPE))


# -- an nn.Module like any other ----------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda ae: pickle.loads(pickle.dumps(ae))])
def test_a_copy_gives_the_same_and_shares_nothing(ae: aezoo.Autoencoder, x: Tensor, copied: Any) -> None:
    ae.metrics = {"mse": {"value": 0.5}}
    other = copied(ae)
    assert torch.equal(other(x).x_hat, ae(x).x_hat)
    assert (other.spec, other.metrics, other.source) == (ae.spec, ae.metrics, ae.source)
    with torch.no_grad():
        next(other.parameters()).zero_()
    assert not torch.equal(other(x).x_hat, ae(x).x_hat)


def test_it_exports_with_a_batch_of_any_size(ae: aezoo.Autoencoder, x: Tensor) -> None:
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(ae, (x,), dynamic_shapes=({0: batch},)).module()
    for n in (2, 5, 9):
        rows = torch.rand(n, *SHAPE)
        out = exported(rows)
        torch.testing.assert_close(out.x_hat, ae(rows).x_hat)
        torch.testing.assert_close(out.latents, ae(rows).latents)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_runs_in_other_precisions(dtype: torch.dtype, x: Tensor) -> None:
    out = aezoo.build(small_spec(), dtype=dtype)(x.to(dtype))
    assert (out.x_hat.dtype, out.latents.dtype) == (dtype, dtype)


def test_parameters_are_named_by_side_index_and_step(ae: aezoo.Autoencoder) -> None:
    assert [name for name, _ in ae.named_parameters()] == [
        "encoder.1.linear.weight", "encoder.1.linear.bias", "decoder.0.linear.weight", "decoder.0.linear.bias",
    ]  # fmt: skip


# -- showing ------------------------------------------------------------------------------------------


def test_print_shows_every_layer_with_shapes_and_parameters(ae: aezoo.Autoencoder) -> None:
    rows = [line.split() for line in str(ae).splitlines()]
    assert rows[0] == ["small:", "1", "x", "6", "x", "6", "->", "8", "latents,", "620", "parameters"]
    assert rows[1] == ["layer", "kind", "output", "parameters"]
    assert [(row[0], row[-1]) for row in rows[2:]] == [
        ("encoder.0", "0"), ("encoder.1", "296"), ("encoder.2", "0"), ("decoder.0", "324"), ("decoder.1", "0"),
    ]  # fmt: skip


def test_the_notebook_table_escapes_what_a_spec_says(fresh_registry: None) -> None:
    class NotedSpec(aezoo.LayerSpec):
        kind: Literal["noted"] = "noted"
        note: str

        def build(self, in_shape: tuple[int, ...]) -> nn.Module:
            return nn.Identity()

    aezoo.register(NotedSpec)
    data = small()
    data["encoder"].insert(1, {"kind": "noted", "note": "<script>"})
    ae = aezoo.build(aezoo.VariantSpec.model_validate(data))
    page = ae._repr_html_()
    assert page.startswith("<table>")
    assert page.count("<tr>") == 1 + len(ae.summary())
    assert "<td>linear(activation=leaky_relu, out_features=8)</td>" in page
    assert "noted(note=&lt;script&gt;)" in page
    assert "<script>" not in page


def test_a_repeated_layer_has_a_row_for_each() -> None:
    data = small()
    data["encoder"][1]["repeat"] = 3
    table = aezoo.build(aezoo.VariantSpec.model_validate(data)).summary()
    assert [(row.path, row.input, row.output) for row in table][1:4] == [
        ("encoder.1", (36,), (8,)), ("encoder.2", (8,), (8,)), ("encoder.3", (8,), (8,)),
    ]  # fmt: skip


def test_it_promises_the_sparsity_of_the_encoders_last_layer(ae: aezoo.Autoencoder) -> None:
    assert ae.sparsity() == aezoo.Exact(3)
    dense = aezoo.build(small_spec(encoder=["flatten", {"kind": "linear", "out_features": 8}]))
    assert dense.sparsity() is None
