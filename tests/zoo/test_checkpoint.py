"""Folders: saved whole or not at all, loaded bit for bit or refused by the error that says why."""

import contextlib
import errno
import hashlib
import itertools
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import aezoo
from aezoo import files
from aezoo.errors import CheckpointError
from aezoo.jsonio import canonical_json
from aezoo.model.sequential import LayerSequence
from aezoo.plugins.registry import PluginInfo, Registration, registry
from aezoo.specs.schema import spec_sha256
from aezoo.training.weight_tying import tied
from aezoo.zoo.save import check_target
from aezoo.zoo.verify import load_folder, load_spec
from tests.examples import small, small_spec
from tests.raising import raises

Json = dict[str, Any]
ENCODER: list[Json] = [
    {"kind": "flatten"},
    # StepContext normalisation has integers among its buffers.
    {"kind": "linear", "out_features": 5, "norm": "batch_norm", "activation": "relu"},
    {"kind": "topk", "k": 3},
]
METRIC: Json = {
    "value": 0.25, "reason": None, "source": "computed", "dataset": "noise", "split": "test", "n": 7,
    "definition": "mean squared error",
}  # fmt: skip


def batch(*shape: int) -> Tensor:
    return torch.rand(4, *(shape or (1, 6, 6)), generator=torch.Generator().manual_seed(3))


def network(encoder: list[Json] = ENCODER, **changes: Any) -> aezoo.Autoencoder:
    """One whose buffers differ from those of a new one, as after a training."""
    ae = aezoo.build(small_spec(encoder=encoder, **changes), seed=1)
    with torch.no_grad():
        ae(batch())
    ae.target_mean = batch().mean(0)
    ae.metrics = {"mse": dict(METRIC)}
    ae.training_record = {"seed": 1, "history": [{"epoch": 1, "loss": 0.5}]}
    return ae


@pytest.fixture
def ae() -> aezoo.Autoencoder:
    return network()


@pytest.fixture
def folder(ae: aezoo.Autoencoder, tmp_path: Path) -> Path:
    return aezoo.save(ae, tmp_path / "small")


def config_of(folder: Path) -> Json:
    return json.loads((folder / "config.json").read_text())


def edit(folder: Path, change: Callable[[Json], object], seal: bool = True) -> None:
    """Changes `config.json`; `seal` makes `spec_sha256` fit, so that a later check has to refuse."""
    config = config_of(folder)
    change(config)
    if seal:
        config["spec_sha256"] = hashlib.sha256(canonical_json(config["spec"]).encode()).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def header_of(folder: Path) -> Json:
    raw = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(folder: Path, code: str, file: str = "config.json", **options: Any) -> str:
    """What the refusal says; it names the file."""
    with raises(code) as caught:
        load_folder(folder, **options)
    assert str(folder / file) in str(caught.value)
    return str(caught.value)


# -- there and back -----------------------------------------------------------------------------------


def test_a_round_trip_keeps_every_bit(ae: aezoo.Autoencoder, folder: Path) -> None:
    loaded = aezoo.load(folder)
    before, after = ae.state_dict(), loaded.state_dict()
    assert list(after) == list(before)
    assert "target_mean" in after
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name], tensor), name
    ae.eval()
    x = batch()
    assert torch.equal(loaded(x).x_hat, ae(x).x_hat)
    assert torch.equal(loaded.encode(x), ae.encode(x))
    assert loaded.spec == ae.spec.resolved()
    assert loaded.shapes == ae.shapes
    assert loaded.metrics == ae.metrics


def test_a_loaded_network_says_where_it_came_from(folder: Path) -> None:
    source = aezoo.load(folder).source
    weights = folder / "model.safetensors"
    assert source == aezoo.Source("folder", str(folder), sha256(weights), index_verified=False)
    index_verified = load_folder(folder, expected={"model.safetensors": sha256(weights)}).source
    assert index_verified == aezoo.Source("folder", str(folder), sha256(weights), index_verified=True)


def test_a_loaded_network_is_ready_to_run_and_to_train(folder: Path) -> None:
    loaded = aezoo.load(folder)
    assert not any(module.training for module in loaded.modules())
    assert not any(tensor.is_meta for tensor in (*loaded.parameters(), *loaded.buffers()))
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert not any(buffer.requires_grad for buffer in loaded.buffers())
    loaded(batch()).x_hat.sum().backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters())


def test_a_network_without_a_mean_comes_back_without_one(tmp_path: Path) -> None:
    folder = aezoo.save(aezoo.build(small_spec()), tmp_path / "new")
    assert config_of(folder)["fitted"] == []
    assert aezoo.load(folder).target_mean is None
    assert aezoo.load(folder).metrics == {}


def test_a_mean_is_recorded_as_fitted(ae: aezoo.Autoencoder, folder: Path) -> None:
    assert config_of(folder)["fitted"] == ["target_mean"]
    mean = aezoo.load(folder).target_mean
    assert mean is not None
    assert ae.target_mean is not None
    assert torch.equal(mean, ae.target_mean)


@pytest.mark.parametrize(
    ("fitted", "error", "file", "words"),
    [
        ([], "tensor-mismatch", "model.safetensors", "'target_mean' is none that the spec asks for"),
        (["target_mean", "variance"], "invalid-config", "config.json", "fitted.1: expected 'target_mean'"),
    ],
    ids=["too little", "too much"],
)
def test_what_was_fitted_must_be_said(
    folder: Path, fitted: list[str], error: str, file: str, words: str
) -> None:
    edit(folder, lambda config: config.update(fitted=fitted))
    assert words in refused(folder, error, file)


def test_a_mean_that_is_promised_must_be_there(tmp_path: Path) -> None:
    folder = aezoo.save(aezoo.build(small_spec()), tmp_path / "new")
    edit(folder, lambda config: config.update(fitted=["target_mean"]))
    assert "'target_mean' is missing" in refused(folder, "tensor-mismatch", "model.safetensors")


def test_saving_twice_gives_the_same_bytes(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    assert contents(aezoo.save(ae, tmp_path / "a")) == contents(aezoo.save(ae, tmp_path / "b"))


def test_a_folder_loaded_and_saved_again_is_the_same(folder: Path, tmp_path: Path) -> None:
    again = aezoo.save(aezoo.load(folder), tmp_path / "again")
    assert contents(again) == contents(folder)


def test_saving_leaves_the_network_as_it_was(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in ae.state_dict().items()}
    aezoo.save(ae, tmp_path / "small")
    assert ae.training
    assert all(torch.equal(ae.state_dict()[name], tensor) for name, tensor in before.items())


def test_repeated_layers_are_written_out(tmp_path: Path) -> None:
    encoder = [ENCODER[0], {"kind": "linear", "out_features": 36, "repeat": 2}, {"kind": "topk", "k": 3}]
    folder = aezoo.save(network(encoder), tmp_path / "deep")
    spec = config_of(folder)["spec"]
    assert [layer["kind"] for layer in spec["encoder"]] == ["flatten", "linear", "linear", "topk"]
    assert {layer["repeat"] for layer in spec["encoder"]} == {1}
    # The hand-written form keeps its repeat, and both mean the same.
    assert aezoo.read_spec(folder / "spec.yaml") == small_spec(encoder=encoder)
    assert aezoo.load(folder).spec == small_spec(encoder=encoder).resolved()


def test_an_architecture_without_a_name_comes_back(tmp_path: Path) -> None:
    data = {key: value for key, value in small().items() if key in ("input", "encoder", "decoder")}
    ae = aezoo.build(aezoo.AutoencoderSpec.model_validate(data))
    folder = aezoo.save(ae, tmp_path / "bare")
    loaded = aezoo.load(folder)
    assert type(loaded.spec) is aezoo.AutoencoderSpec
    assert torch.equal(loaded(batch()).x_hat, ae.eval()(batch()).x_hat)
    with raises("invalid-config", match="an architecture without a name and a recipe"):
        load_spec(folder)


def test_the_spec_can_be_had_without_the_weights(ae: aezoo.Autoencoder, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert load_spec(folder) == ae.spec.resolved()
    assert load_spec(folder, {"config.json": sha256(folder / "config.json")}) == ae.spec.resolved()
    with raises("hash-mismatch", match="0000"):
        load_spec(folder, {"config.json": "0" * 64})


# -- what is written ----------------------------------------------------------------------------------


def test_tensors_have_these_names_and_types(folder: Path) -> None:
    # Published weights carry these names: changing one makes every older folder unreadable.
    found = {
        name: (entry["dtype"], entry["shape"])
        for name, entry in header_of(folder).items()
        if name != "__metadata__"
    }
    assert found == {
        "encoder.1.linear.weight": ("F32", [5, 36]),
        "encoder.1.linear.bias": ("F32", [5]),
        "encoder.1.norm.weight": ("F32", [5]),
        "encoder.1.norm.bias": ("F32", [5]),
        "encoder.1.norm.running_mean": ("F32", [5]),
        "encoder.1.norm.running_var": ("F32", [5]),
        "encoder.1.norm.num_batches_tracked": ("I64", []),
        "decoder.0.linear.weight": ("F32", [36, 5]),
        "decoder.0.linear.bias": ("F32", [36]),
        "target_mean": ("F32", [1, 6, 6]),
    }


def test_the_weights_name_their_spec_in_one_metadata_key(ae: aezoo.Autoencoder, folder: Path) -> None:
    digest = spec_sha256(ae.spec)
    assert header_of(folder)["__metadata__"] == {"aezoo": f'{{"name":"small","spec_sha256":"{digest}"}}'}
    assert config_of(folder)["spec_sha256"] == digest


def test_the_config_says_what_was_written(ae: aezoo.Autoencoder, folder: Path) -> None:
    config = config_of(folder)
    raw = (folder / "model.safetensors").read_bytes()
    assert config["schema_version"] == 1
    assert config["weights"] == {
        "file": "model.safetensors", "sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw),
    }  # fmt: skip
    assert config["latents"] == 5
    assert config["parameters"] == 36 * 5 + 5 + 5 + 5 + 5 * 36 + 36
    assert config["shapes"]["encoder.2"] == {"input": [5], "output": [5]}
    assert config["shapes"]["decoder.1"] == {"input": [36], "output": [1, 6, 6]}
    assert config["plugins"] == config["unpackaged"] == []
    assert config["spec"] == json.loads(ae.spec.resolved().model_dump_json())


def test_the_folder_holds_what_belongs_to_the_variant(ae: aezoo.Autoencoder, folder: Path) -> None:
    assert sorted(contents(folder)) == [
        "config.json", "metrics.json", "model.safetensors", "spec.yaml", "training.json",
    ]  # fmt: skip
    assert aezoo.read_spec(folder / "spec.yaml") == ae.spec
    assert json.loads((folder / "metrics.json").read_text()) == ae.metrics
    assert json.loads((folder / "training.json").read_text()) == ae.training_record


def test_others_may_read_the_folder_as_far_as_the_umask_lets_them(
    ae: aezoo.Autoencoder, tmp_path: Path
) -> None:
    umask = os.umask(0o027)
    try:
        folder = aezoo.save(ae, tmp_path / "small")
    finally:
        os.umask(umask)
    assert folder.stat().st_mode & 0o777 == 0o750
    assert (folder / "config.json").stat().st_mode & 0o777 == 0o640


def test_shared_weights_are_saved_as_independent_ones(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    layer: Any = ae.encoder[1]
    layer.norm.bias = layer.linear.bias
    folder = aezoo.save(ae, tmp_path / "shared")
    places = sorted(
        entry["data_offsets"] for name, entry in header_of(folder).items() if name != "__metadata__"
    )
    assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(places))
    loaded = aezoo.load(folder)
    alike: Any = loaded.encoder[1]
    assert torch.equal(alike.norm.bias, alike.linear.bias)
    with torch.no_grad():
        alike.norm.bias += 1
    assert torch.equal(alike.linear.bias, layer.linear.bias)
    assert config_of(folder)["parameters"] == loaded.num_parameters


def test_views_and_transposed_weights_are_saved_contiguously(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    encoder: Any = ae.encoder[1]
    decoder: Any = ae.decoder[0]
    decoder.linear.weight = nn.Parameter(encoder.linear.weight.detach().t())
    loaded = aezoo.load(aezoo.save(ae, tmp_path / "view"))
    weight = loaded.state_dict()["decoder.0.linear.weight"]
    assert weight.is_contiguous()
    assert torch.equal(weight, encoder.linear.weight.t())


def test_loaded_tensors_lie_apart_in_memory(folder: Path) -> None:
    places = sorted((t.data_ptr(), t.data_ptr() + t.nbytes) for t in aezoo.load(folder).state_dict().values())
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(places))


# -- devices and number types -------------------------------------------------------------------------


def test_a_load_puts_the_weights_where_they_should_go(folder: Path) -> None:
    loaded = aezoo.load(folder, device=torch.device("meta"), dtype=torch.bfloat16)
    tensors = loaded.state_dict()
    assert all(tensor.is_meta for tensor in tensors.values())
    assert tensors.pop("encoder.1.norm.num_batches_tracked").dtype == torch.int64
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


def test_a_load_in_double_precision_keeps_the_values(ae: aezoo.Autoencoder, folder: Path) -> None:
    loaded = aezoo.load(folder, dtype=torch.float64)
    for name, tensor in ae.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.double() if tensor.ndim else tensor)
    assert loaded(batch().double()).x_hat.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_any_precision_is_stored_as_float32(
    ae: aezoo.Autoencoder, tmp_path: Path, dtype: torch.dtype
) -> None:
    loaded = aezoo.load(aezoo.save(ae.to(dtype), tmp_path / "other"))
    for name, tensor in ae.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.float() if tensor.ndim else tensor), name
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_a_default_precision_of_ones_own_changes_nothing(folder: Path) -> None:
    before = aezoo.load(folder).state_dict()
    torch.set_default_dtype(torch.float64)
    try:
        after = aezoo.load(folder).state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name], tensor)


class Shift(nn.Module):
    """Adds a constant buffer of some type."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("by", torch.ones(3, dtype=dtype))

    def forward(self, h: Tensor) -> Tensor:
        return h + self.by.sum().to(h.dtype)


class ShiftSpec(aezoo.LayerSpec):
    """A layer that belongs to no distribution."""

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
    ae = network([*ENCODER, {"kind": "shift", "dtype": dtype}])
    loaded = aezoo.load(aezoo.save(ae, tmp_path / "shift"))
    by, kept = ae.state_dict()["encoder.3.by"], loaded.state_dict()["encoder.3.by"]
    assert kept.dtype == by.dtype
    assert torch.equal(kept, by)
    assert torch.equal(loaded(batch()).x_hat, ae.eval()(batch()).x_hat)


# -- what save refuses --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["encoder.1.linear.weight", "encoder.1.norm.running_var", "target_mean"])
def test_a_weight_that_is_no_number_is_not_saved(
    ae: aezoo.Autoencoder, tmp_path: Path, name: str, value: float
) -> None:
    ae.state_dict()[name].view(-1)[:2] = value
    with raises("not-finite", match=f"{name} has 2 values that are NaN or infinite"):
        aezoo.save(ae, tmp_path / "small")
    assert list(tmp_path.iterdir()) == []


def test_a_weight_too_large_for_float32_is_not_saved(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    ae.double().state_dict()["decoder.0.linear.bias"][0] = 1e39
    with raises("not-finite", match=r"decoder\.0\.linear\.bias has 1 value"):
        aezoo.save(ae, tmp_path / "small")


def other_width(ae: aezoo.Autoencoder) -> None:
    layer: Any = ae.decoder[0]
    layer.linear.bias = nn.Parameter(torch.zeros(35))


def one_more(ae: aezoo.Autoencoder) -> None:
    ae.encoder[2].register_buffer("extra", torch.zeros(2))


def one_less(ae: aezoo.Autoencoder) -> None:
    layer: Any = ae.decoder[0]
    layer.linear.bias = None


@pytest.mark.parametrize(
    ("change", "tensor"),
    [
        (other_width, "decoder.0.linear.bias"),
        (one_more, "encoder.2.extra"),
        (one_less, "decoder.0.linear.bias"),
    ],
)
def test_a_network_that_left_its_spec_is_not_saved(
    ae: aezoo.Autoencoder, tmp_path: Path, change: Callable[[aezoo.Autoencoder], None], tensor: str
) -> None:
    # Its folder could never be loaded.
    change(ae)
    with raises("tensor-mismatch", match=tensor):
        aezoo.save(ae, tmp_path / "small")
    assert list(tmp_path.iterdir()) == []


def test_a_network_whose_weights_are_tied_is_not_saved_without_them(tmp_path: Path) -> None:
    # A callback may save in the middle of a tied stage, while the decoder owns no weights.
    ae = network([ENCODER[0], {"kind": "linear", "out_features": 5}])
    with tied(ae):
        ae(batch())
        with raises("tensor-mismatch", match=r"decoder\.0\.linear\.weight"):
            aezoo.save(ae, tmp_path / "small")
    assert aezoo.load(aezoo.save(ae, tmp_path / "small")).num_latents == 5


# -- nothing is half written --------------------------------------------------------------------------


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def full_disk(after: int) -> Callable[[Path, bytes], None]:
    """Writes `after` files, and the half of one more."""
    written: list[Path] = []

    def write(path: Path, data: bytes) -> None:
        written.append(path)
        if len(written) > after:
            path.write_bytes(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_bytes(data)

    return write


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_full_disk_leaves_the_old_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    before = contents(folder)
    (folder / "spec.yaml").unlink()
    del before["spec.yaml"]
    monkeypatch.setattr("aezoo.zoo.save.write_durably", full_disk(after))
    with pytest.raises(CheckpointError, match="could not be written: No space left on device") as caught:
        aezoo.save(network(name="other"), folder, overwrite=True)
    assert str(folder) in str(caught.value)
    assert contents(folder) == before
    assert names(folder.parent) == [folder.name]
    assert aezoo.load(folder).metrics == {"mse": METRIC}


def test_a_full_disk_leaves_no_half_of_a_new_folder(
    ae: aezoo.Autoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aezoo.zoo.save.write_durably", full_disk(after=1))
    with pytest.raises(CheckpointError, match="No space left"):
        aezoo.save(ae, tmp_path / "new")
    assert names(tmp_path) == []


@pytest.mark.parametrize("failing", [1, 2], ids=["away with the old", "in with the new"])
def test_a_swap_that_fails_puts_the_old_folder_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    rename, calls = Path.rename, []

    def unwilling(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == failing:
            raise OSError(errno.EBUSY, "Device or resource busy")
        return rename(self, target)

    before = contents(folder)
    monkeypatch.setattr(Path, "rename", unwilling)
    with pytest.raises(CheckpointError, match="could not be written: Device or resource busy"):
        aezoo.save(network(name="other"), folder, overwrite=True)
    assert contents(folder) == before
    assert names(folder.parent) == [folder.name]


def test_the_current_folder_is_refused_before_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ae: aezoo.Autoencoder
) -> None:
    # A folder is put in the place of the old one, which cannot be done to the one we stand in.
    (tmp_path / "spec.yaml").write_text(aezoo.to_yaml(ae.spec))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="is the current folder"):
        check_target(Path(), overwrite=False)
    with pytest.raises(CheckpointError, match="is the current folder"):
        aezoo.save(ae, ".")
    assert names(tmp_path) == ["spec.yaml"]


def test_a_trained_variant_is_replaced_only_on_request(folder: Path) -> None:
    before = contents(folder)
    other = network(summary="Another one.")
    with pytest.raises(CheckpointError, match=r"already holds a trained variant; pass overwrite=True"):
        aezoo.save(other, folder)
    assert contents(folder) == before
    (folder / "spec.yaml").unlink()
    assert aezoo.save(other, folder, overwrite=True) == folder
    assert aezoo.load(folder).spec == other.spec.resolved()
    assert aezoo.read_spec(folder / "spec.yaml") == other.spec
    assert names(folder.parent) == [folder.name]


def test_weights_without_a_config_are_not_replaced_either(folder: Path) -> None:
    (folder / "config.json").unlink()
    before = contents(folder)
    with pytest.raises(CheckpointError, match="overwrite=True"):
        aezoo.save(network(), folder)
    assert contents(folder) == before


@pytest.mark.parametrize("foreign", ["notes.txt", "model.bin", ".git"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_something_else_in_it_is_refused(
    ae: aezoo.Autoencoder, tmp_path: Path, foreign: str, overwrite: bool
) -> None:
    (tmp_path / foreign).write_text("mine")
    with pytest.raises(CheckpointError, match=rf"holds '{foreign}', which is no part of a variant"):
        aezoo.save(ae, tmp_path, overwrite=overwrite)
    assert contents(tmp_path) == {foreign: b"mine"}


def test_a_hand_written_spec_and_card_are_kept_byte_for_byte(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    spec = f"# Five latents are enough.\n{aezoo.to_yaml(ae.spec)}\n# The end.\n".encode()
    kept = {"spec.yaml": spec, "README.md": b"# Small\n"}
    for name, data in kept.items():
        (tmp_path / name).write_bytes(data)
    for overwrite in (False, True):
        found = contents(aezoo.save(ae, tmp_path, overwrite=overwrite))
        assert kept.items() <= found.items()


def test_more_files_go_with_the_folder_and_old_pictures_do_not_stay(
    ae: aezoo.Autoencoder, tmp_path: Path
) -> None:
    folder = aezoo.save(ae, tmp_path / "small", files={"preview.png": b"old", "README.md": b"old"})
    assert contents(folder)["preview.png"] == b"old"
    aezoo.save(ae, folder, overwrite=True, files={"README.md": b"new"})
    assert contents(folder)["README.md"] == b"new"
    assert "preview.png" not in contents(folder)


def test_a_file_in_the_way_is_refused(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    target = tmp_path / "small"
    target.write_text("a file")
    with pytest.raises(CheckpointError, match="small is a file, a folder is expected"):
        aezoo.save(ae, target, overwrite=True)
    with pytest.raises(CheckpointError, match="could not be written: "):
        aezoo.save(ae, target / "inside")
    assert target.read_text() == "a file"


def test_parents_are_made(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    folder = aezoo.save(ae, str(tmp_path / "a" / "b" / "small"))
    assert folder == tmp_path / "a" / "b" / "small"
    assert aezoo.load(folder).num_latents == 5


def test_a_file_is_replaced_in_one_step_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "index.json"
    files.write_atomically(path, b"old")
    assert path.stat().st_mode & 0o777 == 0o644
    with monkeypatch.context() as patch:

        def full(handle: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device"):
            files.write_atomically(path, b"something new")
    assert contents(tmp_path) == {"index.json": b"old"}
    with path.open("rb") as reader:
        files.write_atomically(path, b"new")
        assert reader.read() == b"old"
    assert contents(tmp_path) == {"index.json": b"new"}


# -- loading without running anything -----------------------------------------------------------------


def test_a_load_runs_no_layer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a forward pass")

    monkeypatch.setattr(nn.Module, "__call__", refuse)
    monkeypatch.setattr(LayerSequence, "forward", refuse)
    assert aezoo.load(folder).num_latents == 5


def test_a_load_leaves_the_random_state_alone(folder: Path) -> None:
    before = torch.get_rng_state()
    aezoo.load(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_too_many_parameters_are_refused_before_the_weights_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "model.safetensors").unlink()
    words = "411 parameters are more than the 410 allowed"
    assert words in refused(folder, "invalid-config", max_parameters=410)
    with raises("invalid-config", match=words):
        aezoo.load(folder, max_parameters=410)
    monkeypatch.setenv("AEZOO_MAX_PARAMETERS", "410")
    assert words in refused(folder, "invalid-config")


def test_a_network_too_large_for_any_memory_is_refused_at_once(folder: Path) -> None:
    def widen(config: Json) -> None:
        width = 2_000_000_000
        config["spec"]["encoder"][1]["out_features"] = width
        config["shapes"]["encoder.1"]["output"] = [width]
        config["shapes"]["encoder.2"] = {"input": [width], "output": [width]}
        config["shapes"]["decoder.0"]["input"] = [width]

    edit(folder, widen)
    assert "parameters are more than the 1,000,000,000 allowed" in refused(folder, "invalid-config")


# -- a config that is none ----------------------------------------------------------------------------


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with raises("missing-file", match="nowhere is no folder"):
        aezoo.load(tmp_path / "nowhere")


def test_a_config_that_is_missing(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert "is missing" in refused(folder, "missing-file")


def test_a_config_that_cannot_be_read(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    assert "cannot be read" in refused(folder, "missing-file")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw.ljust(4_000_001), "is larger than 4,000,000 bytes"),
        (lambda raw: raw[:-10], "is not JSON"),
        (lambda raw: b"name: small", "is not JSON"),
        (lambda raw: b"\xff" + raw, "is not JSON"),
        (lambda raw: b"[" + raw + b"]", "expected an object, found list"),
        (lambda raw: b'{"latents": 5,' + raw[1:], "the key 'latents' stands there twice"),
        (lambda raw: raw.replace(b'"latents": 5', b'"latents": NaN'), "NaN is no JSON number"),
        (lambda raw: raw.replace(b'"weight": 1.0', b'"weight": Infinity'), "Infinity is no JSON number"),
        (lambda raw: raw.replace(b'"weight": 1.0', b'"weight": 1e999'), "1e999 is no JSON number"),
        # Half of a character that takes two in UTF-16, which UTF-8 cannot spell.
        (lambda raw: raw.replace(b"A small", rb"\ud800 small"), "surrogates"),
    ],
    ids=[
        "large", "cut", "yaml", "latin", "list", "twice", "nan", "infinity", "overflow", "surrogate",
    ],
)  # fmt: skip
def test_a_config_that_is_not_strict_json(folder: Path, change: Callable[[bytes], bytes], words: str) -> None:
    raw = (folder / "config.json").read_bytes()
    assert change(raw) != raw
    (folder / "config.json").write_bytes(change(raw))
    assert words in refused(folder, "invalid-config")


def test_a_config_as_large_as_allowed_is_read(folder: Path) -> None:
    raw = (folder / "config.json").read_bytes()
    (folder / "config.json").write_bytes(raw.ljust(4_000_000))
    assert aezoo.load(folder).num_latents == 5


@pytest.mark.parametrize("version", [None, True, 0, -1, 1.0, "1", [1]])
def test_a_schema_version_that_is_no_number(folder: Path, version: object) -> None:
    edit(folder, lambda config: config.update(schema_version=version))
    text = refused(folder, "invalid-config")
    assert f"schema_version: expected a whole number, found {version!r}" in text


def test_a_schema_version_that_is_missing(folder: Path) -> None:
    edit(folder, lambda config: config.pop("schema_version"))
    assert "schema_version: expected a whole number, found None" in refused(folder, "invalid-config")


def test_a_folder_of_a_newer_aezoo(folder: Path) -> None:
    # A newer config may hold anything; the version is what a person needs to hear of.
    edit(folder, lambda config: config.update(schema_version=2, novelty=True, weights=None))
    text = refused(folder, "schema-version")
    assert "has schema version 2, this aezoo reads up to 1; upgrade aezoo" in text


def set_k(config: Json, k: object = 2) -> None:
    config["spec"]["encoder"][2]["k"] = k


def test_a_spec_that_was_changed(folder: Path) -> None:
    recorded = config_of(folder)["spec_sha256"]
    edit(folder, set_k, seal=False)
    text = refused(folder, "invalid-config")
    assert f"spec_sha256 says {recorded}" in text
    assert hashlib.sha256(canonical_json(config_of(folder)["spec"]).encode()).hexdigest() in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(author="me"), "author: unknown key; known are schema_version"),
        (lambda c: c.update(parameter=1), "parameter: unknown key (did you mean 'parameters'?)"),
        (lambda c: c["weights"].update(url="x"), "weights.url: unknown key; known are file, sha256, bytes"),
        (lambda c: c["weights"].update(file="../other.safetensors"), "weights.file: expected 'model."),
        (lambda c: c["weights"].update(bytes=True), "weights.bytes: expected an integer, found True"),
        (lambda c: c["weights"].update(bytes=0), "weights.bytes: expected greater than or equal to 1"),
        (lambda c: c["weights"].update(sha256="0" * 63), "weights.sha256"),
        (lambda c: c["weights"].update(sha256="0" * 64 + "\n"), "weights.sha256"),
        (lambda c: c.pop("weights"), "weights: missing"),
        (lambda c: c.update(shapes=[]), "shapes: "),
        (lambda c: c["shapes"]["encoder.1"].update(output=[0]), "shapes.encoder.1.output.0: "),
        (lambda c: c["spec"].update(author="me"), "author: unknown key"),
        (lambda c: c["spec"].update(name="Small Net"), "'Small Net' is no variant name"),
        (lambda c: set_k(c, 0), "encoder.2.k: expected greater than or equal to 1, found 0"),
        (lambda c: set_k(c, "3"), "encoder.2.k: expected an integer, found '3'"),
        (lambda c: set_k(c, 6), "encoder.2.k: 6 is more than the 5 features"),
        (
            lambda c: c["spec"]["encoder"][2].update(kind="topkk"),
            "encoder.2.kind: unknown layer 'topkk' (did you mean 'topk'?)",
        ),
    ],
)
def test_a_config_that_aezoo_never_writes(folder: Path, change: Callable[[Json], object], words: str) -> None:
    edit(folder, change)
    assert words in refused(folder, "invalid-config")


@pytest.mark.parametrize("spec", [None, [], "small"])
def test_a_config_without_a_spec(folder: Path, spec: object) -> None:
    edit(folder, lambda config: config.update(spec=spec))
    assert "spec: expected an object" in refused(folder, "invalid-config")


def test_a_spec_nested_too_deeply(folder: Path) -> None:
    def nest(config: Json) -> None:
        layer: Json = {"kind": "topk", "k": 3, "repeat": 1, "by": "value"}
        for _ in range(300):
            layer = {"kind": "residual", "layers": [layer], "repeat": 1, "activation": None}
        config["spec"]["encoder"][2] = layer

    edit(folder, nest)
    assert "nested" in refused(folder, "invalid-config")


def test_sizes_that_no_memory_holds(folder: Path) -> None:
    # Pooling has no parameters, so that their number refuses nothing here.
    shape = [2_147_483_647] * 3
    pool = {"kind": "max_pool", "kernel_size": 1, "stride": None, "padding": 0, "ceil_mode": False}

    def enlarge(config: Json) -> None:
        config["spec"]["input"]["shape"] = shape
        config["spec"]["encoder"] = config["spec"]["decoder"] = [{**pool, "repeat": 1}]
        config["shapes"] = {path: {"input": shape, "output": shape} for path in ("encoder.0", "decoder.0")}

    edit(folder, enlarge)
    assert "shape" in refused(folder, "invalid-config")


def change_shape(path: str, **shapes: list[int]) -> Callable[[Json], None]:
    def change(config: Json) -> None:
        config["shapes"][path] = config["shapes"].get(path, {"input": [5], "output": [5]}) | shapes

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_shape("encoder.0", input=[36]), "encoder.0: recorded shapes do not follow from (1, 6, 6)"),
        (change_shape("encoder.1", output=[6]), "encoder.2: recorded shapes do not follow from (6,)"),
        (change_shape("encoder.2", output=[4]), "decoder.0: recorded shapes do not follow from (4,)"),
        (change_shape("decoder.0", output=[35]), "decoder.1.shape: [1, 6, 6] holds 36 values, not the 35"),
        (change_shape("decoder.1", output=[36]), "decoder.1: gives (36,), which is not the input's shape"),
        (lambda c: c["shapes"].pop("encoder.2"), "encoder.2: recorded shapes do not follow from (5,)"),
        (lambda c: c.update(shapes={}), "encoder.0: recorded shapes do not follow from (1, 6, 6)"),
        (change_shape("encoder.3"), "encoder.3"),
        (change_shape("encoder.1.layers.0"), "encoder.1.layers.0"),
        (lambda c: c.update(latents=64), "latents: 64"),
        (lambda c: c.update(parameters=5), "parameters: 5"),
    ],
)
def test_recorded_sizes_that_do_not_follow_from_the_spec(
    folder: Path, change: Callable[[Json], None], words: str
) -> None:
    edit(folder, change)
    assert words in refused(folder, "invalid-config")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (b"[]", "expected an object, found list"),
        (b'{"mse": NaN}', "NaN is no JSON number"),
        (b"mse: 1", "is not JSON"),
        (b'{"mse": 0.25}', "mse: "),
    ],
)
def test_metrics_that_are_none(folder: Path, written: bytes, words: str) -> None:
    (folder / "metrics.json").write_bytes(written)
    assert words in refused(folder, "invalid-config", "metrics.json")


def test_metrics_that_nobody_measured(folder: Path) -> None:
    (folder / "metrics.json").unlink()
    assert aezoo.load(folder).metrics == {}


# -- the hashes of an index ---------------------------------------------------------------------------

PUBLISHED = ("config.json", "model.safetensors", "metrics.json")


def test_the_published_bytes_are_loaded(folder: Path) -> None:
    expected = {path.name: sha256(path) for path in folder.iterdir()}
    assert load_folder(folder, expected=expected).source.index_verified


@pytest.mark.parametrize("name", PUBLISHED)
def test_other_bytes_than_the_published_ones(folder: Path, name: str) -> None:
    expected = {file: sha256(folder / file) for file in PUBLISHED} | {name: "0" * 64}
    # Weights are compared by what the config says of them, before they are read.
    file = "config.json" if name == "model.safetensors" else name
    text = refused(folder, "hash-mismatch", file, expected=expected)
    assert "0" * 64 in text
    assert sha256(folder / name) in text


def test_weights_and_config_exchanged_together_are_found(folder: Path, tmp_path: Path) -> None:
    published = {"model.safetensors": sha256(folder / "model.safetensors")}
    torch.manual_seed(0)
    other = aezoo.save(aezoo.build(small_spec(encoder=ENCODER), seed=2), tmp_path / "other")
    assert aezoo.load(other).num_latents == 5
    assert "the index vouches for" in refused(other, "hash-mismatch", expected=published)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_must_be_there(folder: Path, name: str) -> None:
    expected = {file: sha256(folder / file) for file in PUBLISHED}
    (folder / name).unlink()
    assert "is missing" in refused(folder, "missing-file", name, expected=expected)


# -- plugins ------------------------------------------------------------------------------------------

PLUGIN = {"name": "sae", "distribution": "aezoo-sae", "version": "1.2.0"}


def test_a_plugin_that_is_absent_is_named_before_the_spec_is_read(folder: Path) -> None:
    def need(config: Json) -> None:
        config["plugins"] = [PLUGIN]
        config["spec"]["encoder"][2] = {"kind": "sae.batch_topk", "k": 3}

    edit(folder, need)
    text = refused(folder, "missing-plugin")
    assert "needs the plugin 'sae'; install aezoo-sae==1.2.0" in text


class PluginShiftSpec(ShiftSpec):
    """As a plugin brings it."""

    kind: Literal["sae.shift"] = "sae.shift"


@pytest.fixture
def plugin(fresh_registry: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution that brings one layer."""
    registry._claims["layer", "sae.shift"] = [Registration(PluginShiftSpec, "sae")]
    who = PluginInfo("sae", "aezoo-sae", "1.2.0", 1, (("layer", "sae.shift"),))
    monkeypatch.setattr(registry, "_plugins", [*registry._plugins, who])


@pytest.mark.usefixtures("plugin")
def test_the_plugins_of_a_spec_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nested = {"kind": "residual", "layers": [{"kind": "sae.shift"}]}
    folder = aezoo.save(network([*ENCODER, nested]), tmp_path / "sae")
    assert config_of(folder)["plugins"] == [PLUGIN]
    assert config_of(folder)["unpackaged"] == []
    assert aezoo.load(folder).num_latents == 5
    monkeypatch.setattr(registry, "_plugins", registry._plugins[:-1])
    del registry._claims["layer", "sae.shift"]
    assert "install aezoo-sae==1.2.0" in refused(folder, "missing-plugin")


def test_a_plugin_that_is_broken_is_not_to_be_installed_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = PluginInfo("sae", "aezoo-sae", "1.2.0", None, (), "ImportError: No module named 'einops'")
    monkeypatch.setattr(registry, "_plugins", [*registry._plugins, broken])
    edit(folder, lambda config: config.update(plugins=[PLUGIN]))
    text = refused(folder, "missing-plugin")
    assert "No module named 'einops'" in text
    assert "install" not in text


class EnergySpec(aezoo.LossSpec):
    """A penalty that belongs to no distribution."""

    kind: Literal["energy"] = "energy"

    def __call__(self, output: aezoo.Output, batch: aezoo.StepContext, ae: aezoo.Autoencoder) -> Tensor:
        return output.latents.square().mean()


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize(
    ("cls", "what"), [(ShiftSpec, "layer 'shift'"), (EnergySpec, "loss 'energy'")], ids=["layer", "loss"]
)
def test_a_kind_of_ones_own_must_be_registered_before_loading(
    tmp_path: Path, cls: type[aezoo.Spec], what: str
) -> None:
    aezoo.register(ShiftSpec)
    aezoo.register(EnergySpec)
    recipe = small()["recipe"] | {"penalties": ["energy"]}
    folder = aezoo.save(network([*ENCODER, {"kind": "shift"}], recipe=recipe), tmp_path / "own")
    assert config_of(folder)["unpackaged"] == ["layer:shift", "loss:energy"]
    assert config_of(folder)["plugins"] == []
    assert aezoo.load(folder).num_latents == 5
    del registry._claims[cls.family, cls.kind_name]
    text = refused(folder, "missing-plugin")
    assert f"needs the {what}, which was registered in a notebook or script" in text
    assert "register it before loading" in text
    aezoo.register(cls)
    assert aezoo.load(folder).num_latents == 5


@pytest.mark.parametrize("name", ["layer", "activation:relu", "module:os", ":topk", "layer:topk.x"])
def test_an_unpackaged_kind_that_is_none(folder: Path, name: str) -> None:
    edit(folder, lambda config: config.update(unpackaged=[name]))
    assert "register it before loading" in refused(folder, "missing-plugin")


# -- any network --------------------------------------------------------------------------------------

ACTIVATIONS = st.sampled_from([None, "relu", "gelu", "tanh"])
NORMS = st.sampled_from([None, "batch_norm", "layer_norm"])


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
def specs(draw: st.DrawFn) -> aezoo.VariantSpec:
    channels, height, width = (draw(st.integers(1, top)) for top in (2, 4, 4))
    shape = [channels, height, width]
    inner = [draw(convolutions(draw(st.integers(1, 3)))) for _ in range(draw(st.integers(0, 2)))]
    middle = [draw(linears(draw(st.integers(2, 6)))) for _ in range(draw(st.integers(1, 2)))]
    outer = [draw(convolutions(channels)) for _ in range(draw(st.integers(0, 1)))]
    size = channels * height * width
    return small_spec(
        input={"shape": shape},
        encoder=[*inner, {"kind": "flatten"}, *middle],
        decoder=[draw(linears(size)), {"kind": "unflatten", "shape": shape}, *outer],
    )


@given(spec=specs(), seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_any_network_gives_the_same_bits_after_a_round_trip(spec: aezoo.VariantSpec, seed: int) -> None:
    ae = aezoo.build(spec, seed=seed)
    x = batch(*spec.input.shape)
    with torch.no_grad():
        ae(x)
    with tempfile.TemporaryDirectory() as parent:
        loaded = aezoo.load(aezoo.save(ae, Path(parent) / "any"))
    before, after = ae.eval()(x), loaded(x)
    assert torch.equal(before.x_hat, after.x_hat)
    assert torch.equal(before.latents, after.latents)


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterable[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from leaves(value, (*path, key))


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return aezoo.save(network(), tmp_path_factory.mktemp("any") / "small")


JUNK = st.sampled_from(
    [None, True, False, -1, 0, 1, 2**31, 2**63, 1.5, 1e300, "", "linear", "layer:x", [], [0], [2**40], {}]
)


@given(data=st.data(), junk=JUNK, seal=st.booleans())
@settings(max_examples=150, deadline=None)
def test_junk_anywhere_in_a_config_loads_or_is_refused_by_a_checkpoint_error(
    victim: Path, data: st.DataObject, junk: object, seal: bool
) -> None:
    whole = (victim / "config.json").read_bytes()
    *parents, last = data.draw(st.sampled_from(list(leaves(config_of(victim)))))

    def change(config: Json) -> None:
        node: Any = config
        for key in parents:
            node = node[key]
        node[last] = junk

    try:
        with contextlib.suppress(CheckpointError):
            edit(victim, change, seal)
            assert aezoo.load(victim)(batch()).x_hat.shape == (4, 1, 6, 6)
    finally:
        (victim / "config.json").write_bytes(whole)


@pytest.mark.parametrize("name", ["../outside", "config.json", "notes.txt"])
def test_only_pictures_and_cards_are_given_beside_the_weights(
    ae: aezoo.Autoencoder, tmp_path: Path, name: str
) -> None:
    with pytest.raises(CheckpointError, match="may be given; not saved"):
        aezoo.save(ae, tmp_path / "small", files={name: b""})
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_is_not_json_is_refused_before_anything_is_written(
    ae: aezoo.Autoencoder, tmp_path: Path
) -> None:
    ae.metrics = {"mse": {"value": math.nan}}
    with pytest.raises(CheckpointError, match=r"cannot be written as JSON.*not saved"):
        aezoo.save(ae, tmp_path / "small")
    assert list(tmp_path.iterdir()) == []


# -- folders made to harm -----------------------------------------------------------------------------


def linear(width: int, **fields: Any) -> Json:
    data = {"kind": "linear", "out_features": width, **fields}
    return aezoo.LayerSpec.model_validate(data).model_dump(mode="json")


def ten_thousand_layers(config: Json) -> None:
    config["spec"]["encoder"] = [config["spec"]["encoder"][0], *[linear(36)] * 10_000]


def a_million_layers(config: Json) -> None:
    inner = linear(36, repeat=1000)
    config["spec"]["encoder"][1] = {"kind": "residual", "layers": [inner], "repeat": 1000, "activation": None}


def layers_without_end(config: Json) -> None:
    layer = linear(36, repeat=1000)
    for _ in range(9):
        layer = {"kind": "residual", "layers": [layer], "repeat": 1000, "activation": None}
    config["spec"]["encoder"][1] = layer


def shapes_without_end(config: Json) -> None:
    config["shapes"] |= {f"encoder.{i}": {"input": [5], "output": [5]} for i in range(3, 20_000)}


def a_million_million_parameters(config: Json) -> None:
    width = 2**31 - 1
    config["spec"]["encoder"][1:] = [linear(width)]
    config["spec"]["decoder"][0] = linear(width)
    config["spec"]["decoder"].insert(1, linear(36))
    config["shapes"] = {
        "encoder.0": {"input": [1, 6, 6], "output": [36]},
        "encoder.1": {"input": [36], "output": [width]},
        "decoder.0": {"input": [width], "output": [width]},
        "decoder.1": {"input": [width], "output": [36]},
        "decoder.2": {"input": [36], "output": [1, 6, 6]},
    }


def weights_larger_than_any_disk(config: Json) -> None:
    config["weights"]["bytes"] = 2**53


HOSTILE: dict[str, tuple[Callable[[Json], None], str]] = {
    "10,000 layers": (ten_thousand_layers, "encoder: expected 1 to 1000 entries, found 10001"),
    "10**6 layers": (a_million_layers, "1,001,002 layers"),
    "10**30 layers": (layers_without_end, "1,001,000 layers"),
    "20,000 shapes": (shapes_without_end, "shapes are recorded for a layer that the spec does not have"),
    "10**18 parameters": (a_million_million_parameters, "linear cannot be built"),
    "2**53 bytes": (weights_larger_than_any_disk, "weights.bytes: 9,007,199,254,740,992 is recorded"),
}


@pytest.mark.parametrize(("change", "words"), HOSTILE.values(), ids=HOSTILE)
def test_a_config_that_asks_for_more_than_there_is(
    folder: Path, change: Callable[[Json], None], words: str
) -> None:
    edit(folder, change)
    begin = time.process_time()
    assert words in refused(folder, "invalid-config")
    assert time.process_time() - begin < 5


MEASURE = """
import resource, sys, aezoo
aezoo.load(sys.argv[1])  # whatever is imported on first use takes its memory here
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for folder in sys.argv[2:]:
    try:
        aezoo.load(folder)
    except aezoo.CheckpointError as error:
        print(error.code)
unit = 2**20 if sys.platform == "darwin" else 2**10
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // unit)
"""


def test_hostile_folders_are_refused_without_taking_memory(
    ae: aezoo.Autoencoder, folder: Path, tmp_path: Path
) -> None:
    # In a process of its own: what this one once took hides what it takes now.
    folders: list[Path] = []
    for name, (change, _) in HOSTILE.items():
        folders.append(aezoo.save(ae, tmp_path / name.replace(" ", "-")))
        edit(folders[-1], change)
    huge = aezoo.save(ae, tmp_path / "huge")
    # It takes no room on the disk, but would in memory.
    os.truncate(huge / "model.safetensors", 2**29)
    edit(huge, lambda config: config["weights"].update(bytes=2**29))
    command = [sys.executable, "-c", MEASURE, *map(str, (folder, *folders, huge))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    *errors, megabytes = done.stdout.split()
    assert errors == ["invalid-config"] * (len(HOSTILE) + 1)
    assert int(megabytes) < 100


@pytest.mark.parametrize("name", ["../small", "small/../../x", "/etc/passwd", "..", "a\\b", "~root", "C:"])
def test_a_name_that_leads_elsewhere(folder: Path, name: str) -> None:
    edit(folder, lambda config: config["spec"].update(name=name))
    assert "name: " in refused(folder, "invalid-config")


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "sub/model.safetensors", "", "."])
def test_weights_are_nowhere_but_in_the_folder(folder: Path, name: str) -> None:
    edit(folder, lambda config: config["weights"].update(file=name))
    assert "weights.file: expected 'model.safetensors'" in refused(folder, "invalid-config")


def test_nothing_that_a_recipe_names_is_opened_by_a_load(tmp_path: Path) -> None:
    # A pipe, whose reader would wait for ever.
    os.mkfifo(tmp_path / "pipe")
    pipe = str(tmp_path / "pipe")
    recipe = small()["recipe"] | {"dataset": {"kind": "array", "path": pipe}, "init_from": pipe}
    loaded = aezoo.load(aezoo.save(network(recipe=recipe), tmp_path / "small"))
    assert loaded.spec.recipe.init_from == pipe  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["config.json", "metrics.json", "training.json"])
def test_a_link_leads_to_the_same_bytes_or_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    # Caches of downloads link to files outside of the folder: the bytes count, not where they lie.
    path, blob = folder / name, tmp_path / "blob"
    before = aezoo.load(folder)
    expected = {name: sha256(path)}
    path.rename(blob)
    path.symlink_to(blob)
    after = load_folder(folder, expected=expected)
    assert (after.spec, after.metrics, after.training_record) == (
        before.spec, before.metrics, before.training_record,
    )  # fmt: skip
    blob.write_bytes(b"{}")
    assert "not the published bytes" in refused(folder, "hash-mismatch", name, expected=expected)
