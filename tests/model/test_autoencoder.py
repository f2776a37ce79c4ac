"""Encoding, decoding, scoring and sampling; inputs that are rejected; the autoencoder as an `nn.Module`."""

import copy
import pickle
from contextlib import suppress
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import aezoo
from aezoo.data.transforms import Scaler
from aezoo.errors import CheckpointError, DataError, NotSupportedError
from aezoo.model.autoencoder import eval_mode, get_layer
from tests.examples import small_spec

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
def test_input_of_another_shape_is_rejected(
    ae: aezoo.Autoencoder, shape: tuple[int, ...], method: str
) -> None:
    with pytest.raises(ValueError) as caught:
        getattr(ae, method)(torch.zeros(shape))
    assert str(caught.value) == (
        f"expected input of shape (batch, 1 x 6 x 6), found {shape}; "
        + ("add the batch axis: x[None]" if shape == SHAPE else "ae.transforms() converts images and arrays")
    )


@pytest.mark.parametrize("shape", [(8,), (5, 7), (5, 1, 8)])
def test_latents_of_another_shape_are_rejected(ae: aezoo.Autoencoder, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        ae.decode(torch.zeros(shape))
    hint = "; add the batch axis: latents[None]" if shape == (8,) else ""
    assert str(caught.value) == f"expected latents of shape (batch, 8), found {shape}{hint}"


def test_batch_norm_on_one_sample_in_training_mode_is_explained() -> None:
    layer = {"kind": "linear", "out_features": 8, "norm": "batch_norm"}
    ae = aezoo.build(small_spec(encoder=["flatten", layer]))
    with pytest.raises(DataError, match="at least two samples in training mode, found one"):
        ae(torch.zeros(1, *SHAPE))


def test_absent_device_is_one_line(ae: aezoo.Autoencoder) -> None:
    absent = "mps" if torch.cuda.is_available() else "cuda"
    for use in (
        lambda: aezoo.load("fc-64", device=absent),
        lambda: aezoo.build(small_spec(), device=absent),
    ):
        with pytest.raises(NotSupportedError, match=r"^device (cuda|mps|banana) is not available: [^\n]+$"):
            use()
    if absent == "cuda":
        with pytest.raises(NotSupportedError, match="not available"):
            ae.to(absent)
        with pytest.raises(NotSupportedError, match="not available"):
            ae.cuda()


# -- state_dict ---------------------------------------------------------------------------------------


def test_state_dict_restores_the_statistics_of_the_data(x: Tensor) -> None:
    trained, fresh = aezoo.build(small_spec(), seed=1), aezoo.build(small_spec())
    trained.scaler = Scaler.fit(torch.rand(9, *SHAPE))
    trained.target_mean = torch.rand(SHAPE)
    state = trained.state_dict()
    assert fresh.load_state_dict(state) == ([], [])
    assert torch.equal(fresh.transforms()(x), trained.transforms()(x))
    assert torch.equal(fresh(x).x_hat, trained(x).x_hat)
    assert all(torch.equal(value, state[name]) for name, value in fresh.state_dict().items())
    inside = nn.Sequential(aezoo.build(small_spec()))
    inside.load_state_dict({f"0.{name}": value for name, value in state.items()})
    assert inside[0].scaler is not None


def test_statistics_of_another_shape_are_rejected() -> None:
    ae = aezoo.build(small_spec())
    with pytest.raises(CheckpointError, match=r"1 of another shape, such as target_mean is \(3,\), expected"):
        ae.load_state_dict(ae.state_dict() | {"target_mean": torch.zeros(3)})


def test_state_dict_of_another_network_is_one_line(ae: aezoo.Autoencoder) -> None:
    state = ae.state_dict()
    renamed = {name.replace("linear.", ""): value for name, value in state.items()}
    prefixed = {f"module.{name}": value for name, value in state.items()}
    for given, text in (
        (renamed, "tensors missing, such as .*not expected, such as "),
        (prefixed, "every name begins with 'module.'; remove this prefix"),
        ({}, "tensors missing"),
    ):
        with pytest.raises(CheckpointError, match=text) as caught:
            ae.load_state_dict(given)
        assert (len(str(caught.value).splitlines()), caught.value.code) == (1, "tensor-mismatch")


def test_empty_batch_gives_an_empty_batch(ae: aezoo.Autoencoder) -> None:
    assert ae(torch.zeros(0, *SHAPE)).x_hat.shape == (0, *SHAPE)


def test_score_is_minus_the_mean_squared_error_per_sample(ae: aezoo.Autoencoder, x: Tensor) -> None:
    expected = torch.stack([-((ae(row[None]).x_hat - row[None]) ** 2).mean() for row in x])
    torch.testing.assert_close(ae.score_samples(x), expected)
    assert not ae.score_samples(x).requires_grad


def test_score_requires_a_target_of_the_input_shape() -> None:
    layers = [{"kind": "linear", "out_features": 3}]
    spec = aezoo.AutoencoderSpec.model_validate(
        {"input": {"shape": [4]}, "target": {"shape": [3]}, "encoder": layers, "decoder": layers}
    )
    with pytest.raises(NotSupportedError, match="compares with the input"):
        aezoo.build(spec).score_samples(torch.zeros(2, 4))


def test_sample_with_a_seed_repeats() -> None:
    ae = aezoo.load("vae-16")
    first = ae.sample(3, seed=1)
    assert torch.equal(first, ae.sample(3, seed=1))
    assert torch.equal(first, ae.sample(3, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, ae.sample(3, seed=2))
    for n, options in ((0, {}), (-1, {}), (True, {}), (3, {"seed": -1}), (3, {"seed": True})):
        with pytest.raises(ValueError, match="expected a whole number of at least"):
            ae.sample(n, **options)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="not both"):
        ae.sample(3, torch.Generator(), seed=1)


def test_sampling_without_a_prior_is_rejected(ae: aezoo.Autoencoder) -> None:
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
    """Registers a layer without fields that builds the module."""

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


def test_output_prints_shapes(with_aux: aezoo.Autoencoder, x: Tensor) -> None:
    assert repr(with_aux(x)) == (
        "Output(x_hat=float32(5, 1, 6, 6), latents=float32(5, 36), aux={'mean': float32(5, 36)})"
    )


def test_emitted_tensor_reaches_the_layer_that_needs_it(with_aux: aezoo.Autoencoder, x: Tensor) -> None:
    out = with_aux(x)
    assert torch.equal(out.aux["mean"], x.flatten(1))
    assert torch.equal(out.latents, 2 * x.flatten(1))
    assert torch.equal(out.x_hat, x)
    assert torch.equal(with_aux.decode(out.latents, out.aux), x)


def test_decoding_without_what_the_decoder_needs_is_rejected(with_aux: aezoo.Autoencoder, x: Tensor) -> None:
    with pytest.raises(ValueError) as caught:
        with_aux.decode(with_aux.encode(x))
    assert str(caught.value) == (
        "this decoder needs 'mean' from the encoder; call decode(out.latents, out.aux) with out = ae(x)"
    )


def test_decoding_does_not_change_the_given_aux(with_aux: aezoo.Autoencoder, x: Tensor) -> None:
    aux = {"mean": x.flatten(1)}
    with_aux.decode(torch.zeros(5, 36), aux)
    assert list(aux) == ["mean"]
    # A decoder that emits does not write to it either.
    spec = small_spec(encoder=["flatten"], decoder=["prior", {"kind": "unflatten", "shape": SHAPE}])
    emitted: dict[str, Tensor] = {"other": x}
    aezoo.build(spec).decode(x.flatten(1), emitted)
    assert list(emitted) == ["other"]


def test_samples_come_from_the_prior_of_the_last_encoder_layer(fresh_registry: None) -> None:
    layer_of("prior", Prior)
    spec = small_spec(encoder=["flatten", "prior"], decoder=[{"kind": "unflatten", "shape": SHAPE}])
    ae = aezoo.build(spec)
    drawn = ae.sample(3, torch.Generator().manual_seed(1))
    expected = torch.randn(3, 36, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drawn, expected.view(3, *SHAPE))


# -- an nn.Module like any other ----------------------------------------------------------------------


@pytest.mark.parametrize("pickled", [False, True])
def test_copy_gives_the_same_output_and_shares_no_weights(
    ae: aezoo.Autoencoder, x: Tensor, pickled: bool
) -> None:
    ae.metrics = {"mse": {"value": 0.5}}
    other = pickle.loads(pickle.dumps(ae)) if pickled else copy.deepcopy(ae)
    assert torch.equal(other(x).x_hat, ae(x).x_hat)
    assert (other.spec, other.metrics, other.source) == (ae.spec, ae.metrics, ae.source)
    with torch.no_grad():
        next(other.parameters()).zero_()
    assert not torch.equal(other(x).x_hat, ae(x).x_hat)


def test_export_with_a_dynamic_batch_size(ae: aezoo.Autoencoder, x: Tensor) -> None:
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(ae, (x,), dynamic_shapes=({0: batch},)).module()
    for n in (2, 5, 9):
        rows = torch.rand(n, *SHAPE)
        out = exported(rows)
        torch.testing.assert_close(out.x_hat, ae(rows).x_hat)
        torch.testing.assert_close(out.latents, ae(rows).latents)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype, x: Tensor) -> None:
    out = aezoo.build(small_spec(), dtype=dtype)(x.to(dtype))
    assert (out.x_hat.dtype, out.latents.dtype) == (dtype, dtype)


def test_names_of_parameters(ae: aezoo.Autoencoder) -> None:
    assert [name for name, _ in ae.named_parameters()] == [
        "encoder.1.linear.weight", "encoder.1.linear.bias", "decoder.0.linear.weight", "decoder.0.linear.bias",
    ]  # fmt: skip


def test_sparsity_is_that_of_the_last_encoder_layer(ae: aezoo.Autoencoder) -> None:
    assert ae.sparsity() == aezoo.Exact(3)
    dense = aezoo.build(small_spec(encoder=["flatten", {"kind": "linear", "out_features": 8}]))
    assert dense.sparsity() is None


# -- modes and layers ---------------------------------------------------------------------------------


def test_eval_mode_restores_the_mode_of_every_module(ae: aezoo.Autoencoder) -> None:
    ae.train()
    ae.encoder[1].eval()
    before = [module.training for module in ae.modules()]
    with suppress(KeyError), eval_mode(ae):
        assert not any(module.training for module in ae.modules())
        raise KeyError
    assert [module.training for module in ae.modules()] == before


def test_layers_are_found_by_path(ae: aezoo.Autoencoder) -> None:
    assert get_layer(ae, "encoder.1") is ae.encoder[1]
    assert get_layer(ae, "decoder") is ae.decoder
    assert [get_layer(ae, path) for path in ("encoder.7", "recipe", "")] == [None] * 3
