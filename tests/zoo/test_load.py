"""What `load` gives: the same bits as were saved, on the requested device, ready to run and to train."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import aezoo
from aezoo.model.sequential import LayerSequence
from aezoo.zoo import verify
from aezoo.zoo.schema import METRICS, TRAINING, WEIGHTS
from tests.examples import small_spec
from tests.hub_server import sha256
from tests.raising import raises
from tests.zoo.folders import ENCODER, Json, architecture, batch, config_of, contents, flip, network, same

# -- there and back -----------------------------------------------------------------------------------


def test_a_round_trip_keeps_every_bit(ae: aezoo.Autoencoder, folder: Path) -> None:
    loaded = aezoo.load(folder)
    assert same(loaded, ae)
    assert "target_mean" in loaded.state_dict()
    ae.eval()
    x = batch()
    assert torch.equal(loaded(x).x_hat, ae(x).x_hat)
    assert torch.equal(loaded.encode(x), ae.encode(x))
    assert loaded.shapes == ae.shapes
    assert loaded.metrics == ae.metrics
    assert loaded.training_record == ae.training_record


def test_a_loaded_network_knows_its_source(folder: Path) -> None:
    source = aezoo.load(folder).source
    hashes = {name: sha256((folder / name).read_bytes()) for name in source.hashes}
    assert source == aezoo.Source("folder", str(folder), hashes[WEIGHTS], index_verified=False)
    assert source.hashes == hashes
    assert set(hashes) == {"config.json", WEIGHTS, METRICS, TRAINING}


def test_a_loaded_network_is_ready_to_run_and_to_train(folder: Path) -> None:
    loaded = aezoo.load(folder)
    assert not any(module.training for module in loaded.modules())
    assert not any(tensor.is_meta for tensor in (*loaded.parameters(), *loaded.buffers()))
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert not any(buffer.requires_grad for buffer in loaded.buffers())
    loaded(batch()).x_hat.sum().backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters())


def test_what_was_not_measured_is_absent(tmp_path: Path) -> None:
    folder = aezoo.save(aezoo.build(small_spec()), tmp_path / "new")
    assert config_of(folder)["fitted"] == []
    (folder / METRICS).unlink()
    loaded = aezoo.load(folder)
    assert (loaded.target_mean, loaded.metrics) == (None, {})


def test_an_architecture_without_a_name_is_loaded(tmp_path: Path) -> None:
    folder = architecture(tmp_path / "bare")
    loaded = aezoo.load(folder)
    assert type(loaded.spec) is aezoo.AutoencoderSpec
    again = aezoo.load(aezoo.save(loaded, tmp_path / "again"))
    assert torch.equal(loaded(batch()).x_hat, again(batch()).x_hat)
    assert contents(tmp_path / "again") == contents(folder)


class Shift(nn.Module):
    """Adds a constant buffer of some type."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("by", torch.ones(3, dtype=dtype))

    def forward(self, h: Tensor) -> Tensor:
        return h + self.by.sum().to(h.dtype)


class ShiftSpec(aezoo.LayerSpec):
    kind: Literal["shift"] = "shift"
    dtype: str = "float32"

    def build(self, in_shape: tuple[int, ...]) -> nn.Module:
        return Shift(getattr(torch, self.dtype))


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize(
    "dtype",
    ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"],
)
def test_a_layer_may_keep_buffers_of_any_real_type(tmp_path: Path, dtype: str) -> None:
    aezoo.register(ShiftSpec)
    ae = network(encoder=[*ENCODER, {"kind": "shift", "dtype": dtype}])
    loaded = aezoo.load(aezoo.save(ae, tmp_path / "shift"))
    by, kept = ae.state_dict()["encoder.3.by"], loaded.state_dict()["encoder.3.by"]
    assert kept.dtype == by.dtype
    assert torch.equal(kept, by)
    assert torch.equal(loaded(batch()).x_hat, ae.eval()(batch()).x_hat)


NORMS = st.sampled_from([None, "batch_norm", "layer_norm"])
ACTIVATIONS = st.sampled_from([None, "relu", "gelu", "tanh"])


def linears(width: int) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({
        "kind": st.just("linear"), "out_features": st.just(width), "bias": st.booleans(), "norm": NORMS,
        "activation": ACTIVATIONS,
    })  # fmt: skip


def convolutions(channels: int) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({
        "kind": st.just("conv"), "out_channels": st.just(channels), "kernel_size": st.sampled_from([1, 3]),
        "padding": st.just("same"), "bias": st.booleans(), "norm": NORMS, "activation": ACTIVATIONS,
    })  # fmt: skip


@st.composite
def architectures(draw: st.DrawFn) -> Json:
    channels, height, width = (draw(st.integers(1, top)) for top in (2, 4, 4))
    shape, size = [channels, height, width], channels * height * width
    inner = [draw(convolutions(draw(st.integers(1, 3)))) for _ in range(draw(st.integers(0, 2)))]
    middle = [draw(linears(draw(st.integers(2, 6)))) for _ in range(draw(st.integers(1, 2)))]
    outer = [draw(convolutions(channels)) for _ in range(draw(st.integers(0, 1)))]
    encoder = [*inner, {"kind": "flatten"}, *middle]
    decoder = [draw(linears(size)), {"kind": "unflatten", "shape": shape}, *outer]
    return {"input": {"shape": shape}, "encoder": encoder, "decoder": decoder}


@given(layers=architectures(), seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_any_network_gives_the_same_bits_after_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory, layers: Json, seed: int
) -> None:
    ae = network(seed, **layers)
    loaded = aezoo.load(aezoo.save(ae, tmp_path_factory.mktemp("any") / "small"))
    before, after = ae.eval()(batch(*ae.spec.input.shape)), loaded(batch(*ae.spec.input.shape))
    assert torch.equal(before.x_hat, after.x_hat)
    assert torch.equal(before.latents, after.latents)


# -- devices and dtypes -------------------------------------------------------------------------------


def test_a_load_uses_device_and_dtype(folder: Path) -> None:
    tensors = aezoo.load(folder, device=torch.device("meta"), dtype=torch.bfloat16).state_dict()
    assert all(tensor.is_meta for tensor in tensors.values())
    assert tensors.pop("encoder.1.norm.num_batches_tracked").dtype == torch.int64
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


def test_a_load_in_double_precision_keeps_the_values(ae: aezoo.Autoencoder, folder: Path) -> None:
    loaded = aezoo.load(folder, dtype=torch.float64)
    for name, tensor in ae.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.double() if tensor.ndim else tensor)
    assert loaded(batch().double()).x_hat.dtype == torch.float64


def test_the_default_dtype_does_not_matter(folder: Path) -> None:
    before = aezoo.load(folder)
    torch.set_default_dtype(torch.float64)
    try:
        after = aezoo.load(folder)
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(after, before)


def test_a_load_runs_layers_on_an_empty_batch_alone_and_leaves_the_random_state(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[tuple[int, ...]] = []
    forward = LayerSequence.forward

    def watch(self: LayerSequence, h: torch.Tensor, aux: Any = None) -> torch.Tensor:
        batches.append(tuple(h.shape))
        return forward(self, h, aux)

    monkeypatch.setattr(LayerSequence, "forward", watch)
    monkeypatch.setattr(verify, "_networks", {})
    before = torch.get_rng_state()
    for _ in range(2):
        assert aezoo.load(folder).num_latents == 5
    # Once for the same config.
    assert batches == [(0, 1, 6, 6), (0, 5)]
    assert torch.equal(torch.get_rng_state(), before)


# -- by name and by folder ----------------------------------------------------------------------------


def test_an_unknown_name_suggests_the_nearest() -> None:
    words = r"no variant 'sparse-topk61' \(did you mean 'sparse-topk16'\?\)"
    for call in (aezoo.load, aezoo.get_spec, aezoo.get_entry):
        with pytest.raises(aezoo.UnknownVariantError, match=words):
            call("sparse-topk61")


@pytest.mark.parametrize("name", ["someone/variant", "zoo/fc-64"])
def test_a_bare_path_is_refused_with_what_would_work(name: str) -> None:
    would_work = rf"write 'hub:{name}' for a repository on the Hub, '\./{name}' for a folder"
    with pytest.raises(aezoo.UnknownVariantError, match=would_work):
        aezoo.load(name)


def test_folders_load_as_path_and_as_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    for place in (folder, Path("small"), str(folder), "./small", f"../{folder.parent.name}/small", "~/small"):
        source = aezoo.load(place).source
        assert (source.kind, source.index_verified) == ("folder", False)


def test_a_loaded_spec_can_be_changed_and_built() -> None:
    spec = aezoo.get_spec("sparse-topk16").replace({"encoder.2.k": 8})
    assert aezoo.build(spec).sparsity() == aezoo.Exact(8)


@pytest.mark.parametrize("file", ["config.json", WEIGHTS, METRICS, TRAINING])
def test_a_name_never_means_other_bytes(root: Path, file: str) -> None:
    assert aezoo.load("small").source.index_verified
    flip(root / "small" / file)
    with raises("hash-mismatch", match="these are not the published bytes"):
        aezoo.load("small")


def test_a_consistent_forgery_is_refused_by_the_index(root: Path) -> None:
    """Other weights with a config that names them are a valid folder, but not this variant."""
    aezoo.save(network(seed=2), root / "small", overwrite=True)
    assert aezoo.load(root / "small").source.kind == "folder"
    with raises("hash-mismatch"):
        aezoo.load("small")
