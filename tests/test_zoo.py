"""Every variant in the zoo, by name: the same bytes, the same numbers, the same contract."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import aezoo
from aezoo import zoo
from aezoo.demonstration import sample_digits
from aezoo.documents import spec_sha256
from aezoo.errors import HashError, MissingFileError, NotSupportedError
from aezoo.evaluation import evaluate_again
from aezoo.samples import Samples

VARIANTS = aezoo.list_variants()
every_variant = pytest.mark.parametrize("name", VARIANTS)

# Tensor names are a promise: weights that are published load by them for ever.
GOLDEN = {
    "conv-fc": [
        *(f"encoder.{i}.conv.{part}" for i in range(4) for part in ("weight", "bias")),
        "decoder.0.linear.weight",
        "decoder.0.linear.bias",
    ],
    "fc-64": [
        f"{layer}.linear.{part}" for layer in ("encoder.1", "decoder.0") for part in ("weight", "bias")
    ],
}
GOLDEN["sparse-topk16"] = GOLDEN["sparse-topk5"] = GOLDEN["fc-64"]


def test_the_zoo_has_the_variants_of_its_first_release() -> None:
    assert {"conv-fc", "fc-64", "sparse-topk16", "sparse-topk5"} <= set(VARIANTS)


def digits(ae: aezoo.Autoencoder) -> torch.Tensor:
    return ae.transforms()(sample_digits().inputs[:20])


@every_variant
def test_a_name_means_the_bytes_that_the_index_vouches_for(name: str) -> None:
    ae = aezoo.load(name)
    entry = aezoo.get_entry(name)
    assert ae.source.kind == "zoo"
    assert ae.source.vouched
    assert ae.source.sha256 == entry["files"]["model.safetensors"]["sha256"]
    assert not ae.training
    assert not any(tensor.is_meta for tensor in ae.state_dict().values())


@every_variant
def test_tensor_names_never_change(name: str) -> None:
    assert sorted(aezoo.load(name).state_dict()) == sorted(["target_mean", *GOLDEN[name]])


@every_variant
def test_decode_of_encode_is_forward_and_eval_is_deterministic(name: str) -> None:
    ae = aezoo.load(name)
    x = digits(ae)
    before, random_state = x.clone(), torch.get_rng_state()
    out = ae(x)
    assert torch.equal(ae.encode(x), out.latents)
    assert torch.equal(ae.decode(out.latents, out.aux), out.x_hat)
    assert torch.equal(ae(x).x_hat, out.x_hat)
    assert torch.equal(x, before)
    assert torch.equal(random_state, torch.get_rng_state())
    assert out.latents.is_floating_point()


@every_variant
def test_other_rows_leave_a_rows_output_identical(name: str) -> None:
    ae = aezoo.load(name)
    x = digits(ae)
    others = torch.cat([x[:1], x[1:].flip(0)])
    assert torch.equal(ae(x).x_hat[0], ae(others).x_hat[0])


@every_variant
def test_declared_sparsity_is_the_measured_one(name: str) -> None:
    ae = aezoo.load(name)
    promise = ae.sparsity()
    counts = (ae.encode(digits(ae)).flatten(1) != 0).sum(1)
    if isinstance(promise, aezoo.Exact):
        assert counts.tolist() == [promise.k] * 20
    else:
        assert promise is None
        assert int(counts.max()) <= ae.latents


@every_variant
def test_gradient_reaches_every_parameter(name: str) -> None:
    ae = aezoo.load(name).train()
    (ae(digits(ae)).x_hat ** 2).mean().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in ae.parameters())


@every_variant
def test_the_spec_written_by_hand_is_the_one_that_was_trained(name: str, repository: Path) -> None:
    by_hand = aezoo.validate(repository / "zoo" / name / "spec.yaml")
    trained = aezoo.get_spec(name)
    assert by_hand.resolved() == trained
    assert spec_sha256(by_hand) == spec_sha256(trained)
    assert trained == aezoo.load(name).spec


@every_variant
def test_a_folder_holds_everything_that_a_variant_needs(name: str, repository: Path) -> None:
    folder = repository / "zoo" / name
    record = json.loads((folder / "training.json").read_text())
    assert {"seed", "threads", "versions", "data", "seconds", "history", "epochs"} <= set(record)
    assert (folder / "preview.png").read_bytes().startswith(b"\x89PNG")
    metrics = json.loads((folder / "metrics.json").read_text())
    for metric in metrics.values():
        assert set(metric) == {"value", "reason", "source", "dataset", "split", "n", "definition"}
        assert (metric["value"] is None) == (metric["reason"] is not None)


@pytest.mark.data
@every_variant
def test_every_computed_number_is_computed_again(name: str) -> None:
    """On the whole test set. Sums run in another order on another machine: relative 1e-5."""
    ae = aezoo.load(name)
    published = {
        key: m for key, m in ae.metrics.items() if m["split"] == "test" and m["source"] == "computed"
    }
    assert published
    found = evaluate_again(ae, "test")
    for key, metric in published.items():
        assert found[key]["value"] == pytest.approx(metric["value"], rel=1e-5), key
        assert found[key]["n"] == metric["n"] == 10_000


def test_the_index_is_current(repository: Path) -> None:
    assert json.loads((repository / "zoo" / "index.json").read_text()) == zoo.build_index(repository / "zoo")


# -- looking up ---------------------------------------------------------------------------------------


def test_patterns() -> None:
    assert aezoo.list_variants("sparse-*") == [name for name in VARIANTS if name.startswith("sparse-")]
    assert aezoo.list_variants("nothing-*") == []


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(
        aezoo.UnknownVariantError, match=r"no variant 'sparse-topk61' \(did you mean 'sparse-topk16'\?\)"
    ):
        aezoo.load("sparse-topk61")
    with pytest.raises(aezoo.UnknownVariantError):
        aezoo.get_spec("nix")


@pytest.mark.parametrize("name", ["someone/variant", "zoo/fc-64"])
def test_a_bare_path_is_refused_with_what_would_work(name: str) -> None:
    with pytest.raises(aezoo.UnknownVariantError, match=rf"write '\./{name}' for a folder"):
        aezoo.load(name)


def test_the_hub_is_refused_plainly() -> None:
    with pytest.raises(NotSupportedError, match="not from the Hub"):
        aezoo.load("hub:someone/variant")


def test_folders_load_as_path_and_as_text(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = repository / "zoo" / "fc-64"
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    for place in (folder, Path("fc-64"), str(folder), "./fc-64", "../zoo/fc-64", "~/fc-64"):
        ae = aezoo.load(place)
        assert ae.source.kind == "folder"
        assert not ae.source.vouched


def test_device_and_dtype_are_taken() -> None:
    ae = aezoo.load("fc-64", dtype=torch.float64, device="cpu")
    assert {p.dtype for p in ae.parameters()} == {torch.float64}
    assert ae(torch.rand(2, 1, 28, 28, dtype=torch.float64)).x_hat.dtype == torch.float64


def test_get_spec_can_be_changed_and_built() -> None:
    spec = aezoo.get_spec("sparse-topk16").replace({"encoder.2.k": 8})
    assert aezoo.build(spec).sparsity() == aezoo.Exact(8)


@pytest.fixture
def own_zoo(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A copy of one variant that may be spoilt."""
    import shutil

    shutil.copytree(repository / "zoo" / "fc-64", tmp_path / "fc-64")
    shutil.copy(repository / "zoo" / "index.json", tmp_path)
    monkeypatch.setattr(zoo, "zoo_root", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "metrics.json"])
def test_a_name_never_means_other_bytes(own_zoo: Path, file: str) -> None:
    path = own_zoo / "fc-64" / file
    raw = path.read_bytes()
    # One digit or bit, somewhere in the middle, and still of the same length.
    path.write_bytes(raw[:-300] + bytes([raw[-300] ^ 1]) + raw[-299:])
    with pytest.raises(HashError, match="these are not the published bytes"):
        aezoo.load("fc-64")


def test_a_consistent_forgery_is_refused_by_the_index(own_zoo: Path) -> None:
    """Other weights with a config that names them are a good folder, but not this variant."""
    ae = aezoo.load("fc-64")
    with torch.no_grad():
        next(ae.parameters()).add_(1e-3)
    aezoo.save(ae, own_zoo / "fc-64", overwrite=True)
    assert aezoo.load(own_zoo / "fc-64").source.kind == "folder"
    with pytest.raises(HashError):
        aezoo.load("fc-64")


def test_a_variant_that_is_not_shipped_says_so(own_zoo: Path) -> None:
    with pytest.raises(MissingFileError, match="conv-fc is not part of this installation"):
        aezoo.load("conv-fc")


def test_writing_the_index_keeps_where_a_variant_was_published(own_zoo: Path) -> None:
    index = json.loads((own_zoo / "index.json").read_text())
    index["variants"]["fc-64"] |= {"repository": "aezoo/fc-64", "commit": "a" * 40}
    (own_zoo / "index.json").write_text(json.dumps(index))
    zoo._index.cache_clear()
    zoo.write_index(own_zoo)
    entry = aezoo.get_entry("fc-64")
    assert (entry["repository"], entry["commit"]) == ("aezoo/fc-64", "a" * 40)
    zoo._index.cache_clear()


# -- the demo -----------------------------------------------------------------------------------------


@every_variant
def test_the_demo_measures_and_draws(name: str, tmp_path: Path) -> None:
    found = aezoo.demo(name, tmp_path / "new" / "picture.png")
    assert found.picture.read_bytes().startswith(b"\x89PNG")
    assert found.metrics["mse"]["n"] == 300
    published = found.ae.metrics["mse"]["value"]
    assert found.metrics["mse"]["value"] == pytest.approx(published, rel=0.15)


@pytest.mark.data
def test_the_shipped_digits_are_the_first_of_the_test_set() -> None:
    from aezoo.datasets.named import MnistSpec

    shipped, real = sample_digits(), MnistSpec().load("test")
    assert isinstance(shipped, Samples)
    assert len(shipped) == 300
    assert shipped.labels is not None
    assert real.labels is not None
    assert torch.equal(shipped.inputs, real.inputs[:300, 0])
    assert shipped.labels.tolist() == real.labels[:300].tolist()
