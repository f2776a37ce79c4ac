"""What `save` writes, what it refuses, and that a folder is written completely or not at all."""

import errno
import itertools
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import aezoo
from aezoo.specs.schema import spec_sha256
from aezoo.training.weight_tying import tied
from aezoo.zoo.folders import check_target
from aezoo.zoo.schema import CARD, CONFIG, METRICS, PREVIEW, SPEC, TRAINING, WEIGHTS
from tests.examples import small_spec
from tests.hub_server import sha256
from tests.raising import raises
from tests.zoo.folders import BIAS, ENCODER, WEIGHT, batch, config_of, contents, metric, network, unpack

# -- what is written ----------------------------------------------------------------------------------


def test_tensors_have_these_names_and_types(folder: Path) -> None:
    # Published weights carry these names: changing one makes every older folder unreadable.
    header, _ = unpack(folder)
    found = {name: (e["dtype"], e["shape"]) for name, e in header.items() if name != "__metadata__"}
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
    assert unpack(folder)[0]["__metadata__"] == {"aezoo": f'{{"name":"small","spec_sha256":"{digest}"}}'}
    assert config_of(folder)["spec_sha256"] == digest


def test_the_config_describes_the_folder(ae: aezoo.Autoencoder, folder: Path) -> None:
    config, raw = config_of(folder), (folder / WEIGHTS).read_bytes()
    assert config["schema_version"] == 1
    assert config["weights"] == {"file": WEIGHTS, "sha256": sha256(raw), "bytes": len(raw)}
    assert config["latents"] == 5
    assert config["parameters"] == 36 * 5 + 5 + 5 + 5 + 5 * 36 + 36
    assert config["shapes"]["encoder.2"] == {"input": [5], "output": [5]}
    assert config["shapes"]["decoder.1"] == {"input": [36], "output": [1, 6, 6]}
    assert config["plugins"] == config["unpackaged"] == []
    assert config["fitted"] == ["target_mean"]
    assert config["spec"] == json.loads(ae.spec.resolved().model_dump_json())


def test_the_folder_holds_spec_metrics_and_training_record(ae: aezoo.Autoencoder, folder: Path) -> None:
    assert set(contents(folder)) == {CONFIG, METRICS, WEIGHTS, SPEC, TRAINING, CARD}
    assert aezoo.read_spec(folder / SPEC) == ae.spec
    assert json.loads((folder / METRICS).read_text()) == ae.metrics
    assert json.loads((folder / TRAINING).read_text()) == ae.training_record


def test_saving_again_gives_the_same_bytes(ae: aezoo.Autoencoder, folder: Path, tmp_path: Path) -> None:
    # The card names the folder.
    assert contents(aezoo.save(ae, tmp_path / "a" / "small")) == contents(folder)
    assert contents(aezoo.save(aezoo.load(folder), tmp_path / "b" / "small")) == contents(folder)


def test_saving_leaves_the_network_as_it_was(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in ae.state_dict().items()}
    aezoo.save(ae, tmp_path / "small")
    assert ae.training
    assert all(torch.equal(ae.state_dict()[name], tensor) for name, tensor in before.items())


def test_repeated_layers_are_expanded(tmp_path: Path) -> None:
    encoder = [ENCODER[0], {"kind": "linear", "out_features": 36, "repeat": 2}, {"kind": "topk", "k": 3}]
    folder = aezoo.save(network(encoder=encoder), tmp_path / "deep")
    spec = config_of(folder)["spec"]
    assert [layer["kind"] for layer in spec["encoder"]] == ["flatten", "linear", "linear", "topk"]
    assert {layer["repeat"] for layer in spec["encoder"]} == {1}
    # The hand-written form keeps its repeat, and both mean the same.
    assert aezoo.read_spec(folder / SPEC) == small_spec(encoder=encoder)
    assert aezoo.load(folder).spec == small_spec(encoder=encoder).resolved()


def test_permissions_follow_the_umask(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        folder = aezoo.save(ae, tmp_path / "small")
    finally:
        os.umask(umask)
    assert folder.stat().st_mode & 0o777 == 0o750
    assert (folder / CONFIG).stat().st_mode & 0o777 == 0o640


def test_shared_weights_are_saved_as_independent_ones(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    layer: Any = ae.encoder[1]
    layer.norm.bias = layer.linear.bias
    folder = aezoo.save(ae, tmp_path / "shared")
    header, _ = unpack(folder)
    places = sorted(e["data_offsets"] for name, e in header.items() if name != "__metadata__")
    assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(places))
    loaded = aezoo.load(folder)
    alike: Any = loaded.encoder[1]
    assert torch.equal(alike.norm.bias, alike.linear.bias)
    with torch.no_grad():
        alike.norm.bias += 1
    assert torch.equal(alike.linear.bias, layer.linear.bias)
    assert config_of(folder)["parameters"] == loaded.num_parameters


def test_views_are_saved_contiguously(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    encoder: Any = ae.encoder[1]
    decoder: Any = ae.decoder[0]
    decoder.linear.weight = nn.Parameter(encoder.linear.weight.detach().t())
    loaded = aezoo.load(aezoo.save(ae, tmp_path / "view"))
    weight = loaded.state_dict()["decoder.0.linear.weight"]
    assert weight.is_contiguous()
    assert torch.equal(weight, encoder.linear.weight.t())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_any_precision_is_stored_as_float32(
    ae: aezoo.Autoencoder, tmp_path: Path, dtype: torch.dtype
) -> None:
    loaded = aezoo.load(aezoo.save(ae.to(dtype), tmp_path / "other"))
    for name, tensor in ae.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.float() if tensor.ndim else tensor), name
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


# -- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", [WEIGHT, "encoder.1.norm.running_var", "target_mean"])
def test_a_weight_that_is_not_finite_is_not_saved(
    ae: aezoo.Autoencoder, tmp_path: Path, name: str, value: float
) -> None:
    ae.state_dict()[name].view(-1)[:2] = value
    with raises("not-finite", match=f"{name} has 2 values that are NaN or infinite"):
        aezoo.save(ae, tmp_path / "small")
    assert list(tmp_path.iterdir()) == []


def test_a_weight_too_large_for_float32_is_not_saved(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    ae.double().state_dict()[BIAS][0] = 1e39
    with raises("not-finite", match=f"{BIAS} has 1 value"):
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
    ("change", "words"),
    [
        (other_width, r"'decoder\.0\.linear\.bias' is float32 \[35\], the spec gives float32 \[36\]"),
        (one_more, r"'encoder\.2\.extra' is not in the spec"),
        (one_less, r"'decoder\.0\.linear\.bias' is missing"),
    ],
)
def test_a_network_that_does_not_match_its_spec_is_not_saved(
    ae: aezoo.Autoencoder, tmp_path: Path, change: Callable[[aezoo.Autoencoder], None], words: str
) -> None:
    change(ae)
    with raises("tensor-mismatch", match=f"{words}; not saved"):
        aezoo.save(ae, tmp_path / "small")
    assert list(tmp_path.iterdir()) == []


def test_a_network_is_not_saved_while_its_weights_are_tied(tmp_path: Path) -> None:
    # A callback may save within a tied stage, in which the decoder owns no weights.
    ae = network(encoder=[ENCODER[0], {"kind": "linear", "out_features": 5}])
    with tied(ae):
        ae(batch())
        with raises("tensor-mismatch", match=r"decoder\.0\.linear\.weight"):
            aezoo.save(ae, tmp_path / "small")
    assert aezoo.load(aezoo.save(ae, tmp_path / "small")).num_latents == 5


@pytest.mark.parametrize("name", ["../outside", CONFIG, "notes.txt"])
def test_only_pictures_and_cards_may_be_passed(ae: aezoo.Autoencoder, tmp_path: Path, name: str) -> None:
    with raises("target", match="expected preview.png, README.md or estimator.json, found .*; not saved"):
        aezoo.save(ae, tmp_path / "small", files={name: b""})
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_is_not_json_is_refused_before_anything_is_written(
    ae: aezoo.Autoencoder, tmp_path: Path
) -> None:
    ae.metrics = {"mse": {"value": math.nan}}
    with raises("write-failed", match=r"cannot be written as JSON.*not saved"):
        aezoo.save(ae, tmp_path / "small")
    assert list(tmp_path.iterdir()) == []


# -- the target ---------------------------------------------------------------------------------------


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_current_folder_is_refused_before_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ae: aezoo.Autoencoder
) -> None:
    # A folder is swapped with the old one, which cannot be done to the current one.
    (tmp_path / SPEC).write_text(aezoo.to_yaml(ae.spec))
    monkeypatch.chdir(tmp_path)
    with raises("target", match="is the current folder"):
        check_target(Path(), overwrite=False)
    with raises("target", match="is the current folder"):
        aezoo.save(ae, ".")
    assert names(tmp_path) == [SPEC]


@pytest.mark.parametrize("without", [None, CONFIG])
def test_a_trained_variant_is_replaced_only_on_request(folder: Path, without: str | None) -> None:
    if without:
        (folder / without).unlink()
    before, other = contents(folder), network(summary="Another one.")
    with raises("target", match=r"already holds a trained variant; pass overwrite=True"):
        aezoo.save(other, folder)
    assert contents(folder) == before
    (folder / SPEC).unlink()
    assert aezoo.save(other, folder, overwrite=True) == folder
    assert aezoo.load(folder).spec == other.spec.resolved()
    assert aezoo.read_spec(folder / SPEC) == other.spec
    assert names(folder.parent) == [folder.name]


@pytest.mark.parametrize("foreign", ["notes.txt", "model.bin", ".git"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_foreign_files_is_refused(
    ae: aezoo.Autoencoder, tmp_path: Path, foreign: str, overwrite: bool
) -> None:
    (tmp_path / foreign).write_text("mine")
    with raises("target", match=rf"holds '{foreign}', which is not part of a variant"):
        aezoo.save(ae, tmp_path, overwrite=overwrite)
    assert contents(tmp_path) == {foreign: b"mine"}


def test_a_hand_written_spec_and_card_are_kept_byte_for_byte(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    spec = f"# Five latents are enough.\n{aezoo.to_yaml(ae.spec)}\n# The end.\n".encode()
    kept = {SPEC: spec, CARD: b"# Small\n"}
    for name, data in kept.items():
        (tmp_path / name).write_bytes(data)
    for overwrite in (False, True):
        assert kept.items() <= contents(aezoo.save(ae, tmp_path, overwrite=overwrite)).items()


def test_pictures_and_cards_belong_to_the_weights(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    folder = aezoo.save(ae, tmp_path / "small", files={PREVIEW: b"old", CARD: b"old"})
    assert contents(folder)[PREVIEW] == b"old"
    aezoo.save(ae, folder, overwrite=True, files={CARD: b"new"})
    assert contents(folder)[CARD] == b"new"
    assert PREVIEW not in contents(folder)


def test_a_file_in_the_way_is_refused(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    target = tmp_path / "small"
    target.write_text("a file")
    with raises("target", match="small is a file, a folder is expected"):
        aezoo.save(ae, target, overwrite=True)
    with raises("write-failed", match="could not be written: "):
        aezoo.save(ae, target / "inside")
    assert target.read_text() == "a file"


def test_parents_are_created(ae: aezoo.Autoencoder, tmp_path: Path) -> None:
    folder = aezoo.save(ae, str(tmp_path / "a" / "b" / "small"))
    assert folder == tmp_path / "a" / "b" / "small"
    assert aezoo.load(folder).num_latents == 5


# -- completely or not at all -------------------------------------------------------------------------


def full_disk(after: int) -> Callable[[Path, bytes], None]:
    """Writes `after` files, and half of one more."""
    written: list[Path] = []

    def write(path: Path, data: bytes) -> None:
        written.append(path)
        if len(written) > after:
            path.write_bytes(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_bytes(data)

    return write


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_full_disk_leaves_the_old_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    before = contents(folder)
    (folder / SPEC).unlink()
    del before[SPEC]
    monkeypatch.setattr("aezoo.zoo.folders.write_durably", full_disk(after))
    with raises("write-failed", match="could not be written: No space left on device") as caught:
        aezoo.save(network(name="other"), folder, overwrite=True)
    assert str(folder) in str(caught.value)
    assert contents(folder) == before
    assert names(folder.parent) == [folder.name]
    assert aezoo.load(folder).metrics == {"mse": metric()}


def test_a_full_disk_leaves_no_part_of_a_new_folder(
    ae: aezoo.Autoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aezoo.zoo.folders.write_durably", full_disk(after=1))
    with raises("write-failed", match="No space left"):
        aezoo.save(ae, tmp_path / "new")
    assert names(tmp_path) == []


@pytest.mark.parametrize("failing", [1, 2], ids=["old folder out", "new folder in"])
def test_a_swap_that_fails_restores_the_old_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    rename, calls = Path.rename, []

    def unwilling(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == failing:
            raise OSError(errno.EBUSY, "Device or resource busy")
        return rename(self, target)

    before = contents(folder)
    monkeypatch.setattr("aezoo.files.exchange", lambda a, b: False)  # as on systems that cannot
    monkeypatch.setattr(Path, "rename", unwilling)
    with raises("write-failed", match="could not be written: Device or resource busy"):
        aezoo.save(network(name="other"), folder, overwrite=True)
    assert contents(folder) == before
    assert names(folder.parent) == [folder.name]
