"""Every variant in the zoo, by name: the same bytes, the same numbers, the same contract."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import aezoo
from aezoo.data.datasets.torchvision import MnistSpec
from aezoo.data.samples import Samples
from aezoo.evaluation.evaluate import evaluate_again
from aezoo.evaluation.protocols import PROTOCOLS
from aezoo.specs.schema import spec_sha256
from aezoo.zoo.demo import sample_digits
from aezoo.zoo.index import _index, build_index, write_index
from aezoo.zoo.model_card import card
from tests.raising import raises

VARIANTS = aezoo.list_variants()
every_variant = pytest.mark.parametrize("name", VARIANTS)

# Tensor names are a promise: weights that are published load by them for ever.
GOLDEN: dict[str, list[str]] = json.loads((Path(__file__).parent / "golden_tensors.json").read_text())


def test_the_zoo_has_the_variants_of_its_first_release() -> None:
    assert {"conv-fc", "fc-64", "sparse-topk16", "sparse-topk5"} <= set(VARIANTS)


def some_inputs(ae: aezoo.Autoencoder) -> torch.Tensor:
    """Twenty inputs: digits where they fit, otherwise random ones in the declared range."""
    shape = ae.spec.input.shape
    if shape == (1, 28, 28):
        return ae.transforms()(sample_digits().inputs[:20])
    generator = torch.Generator().manual_seed(0)
    if ae.spec.input.range is None:
        return torch.randn((20, *shape), generator=generator)
    return torch.rand((20, *shape), generator=generator)


@every_variant
def test_a_name_means_the_bytes_that_the_index_vouches_for(name: str) -> None:
    ae = aezoo.load(name)
    entry = aezoo.get_entry(name)
    assert ae.source.kind == "zoo"
    assert ae.source.index_verified
    assert ae.source.sha256 == entry["files"]["model.safetensors"]["sha256"]
    assert not ae.training
    assert not any(tensor.is_meta for tensor in ae.state_dict().values())


@every_variant
def test_tensor_names_never_change(name: str) -> None:
    assert sorted(aezoo.load(name).state_dict()) == GOLDEN[name]


@every_variant
def test_decode_of_encode_is_forward_and_eval_is_deterministic(name: str) -> None:
    ae = aezoo.load(name)
    x = some_inputs(ae)
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
    x = some_inputs(ae)
    others = torch.cat([x[:1], x[1:].flip(0)])
    assert torch.equal(ae(x).x_hat[0], ae(others).x_hat[0])


@every_variant
def test_declared_sparsity_is_the_measured_one(name: str) -> None:
    ae = aezoo.load(name)
    promise = ae.sparsity()
    counts = (ae.encode(some_inputs(ae)).flatten(1) != 0).sum(1)
    if isinstance(promise, aezoo.Exact):
        assert counts.tolist() == [promise.k] * 20
    else:
        assert promise is None
        assert int(counts.max()) <= ae.num_latents


@every_variant
def test_gradient_reaches_every_parameter(name: str) -> None:
    ae = aezoo.load(name).train()
    (ae(some_inputs(ae)).x_hat ** 2).mean().backward()
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


def computed(ae: aezoo.Autoencoder) -> dict[str, dict[str, Any]]:
    """Published numbers that the weights and the data should give again."""
    return {
        name: metric
        for name, metric in ae.metrics.items()
        if metric["source"] == "computed" and not name.endswith(".validation")
    }


def same(found: Any, published: dict[str, Any]) -> None:
    # Sums run in another order on another machine.
    assert found["value"] == pytest.approx(published["value"], rel=1e-5, abs=1e-9)
    assert {key: found[key] for key in found if key != "value"} == {
        key: published[key] for key in published if key != "value"
    }


@pytest.mark.data
@every_variant
def test_every_number_of_a_pass_is_computed_again(name: str) -> None:
    ae = aezoo.load(name)
    published = computed(ae)
    found = evaluate_again(ae, "test")
    assert {"mse", "sse", "fvu", "l0", "dead_latents"} <= set(found) <= set(published)
    for key, metric in found.items():
        same(metric, published[key])
    given = {key for protocol in PROTOCOLS.values() for key in protocol.gives}
    assert set(published) - set(found) <= given


MEASURED = [
    (name, protocol.name)
    for name in VARIANTS
    for protocol in PROTOCOLS.values()
    # Fine-tuning hundreds of classifiers takes longer than all other tests.
    if protocol.name != "few-label" and protocol.gives[0] in aezoo.get_entry(name)["metrics"]
]


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("name", "protocol"), MEASURED)
def test_every_number_of_a_protocol_is_computed_again(name: str, protocol: str) -> None:
    ae = aezoo.load(name)
    found = aezoo.run_protocol(protocol, ae)
    assert set(found) == set(PROTOCOLS[protocol].gives)
    for key, metric in found.items():
        # A probe stops where an optimizer of another library deems it good enough.
        loose = 5e-3 if protocol == "probe" else 1e-4
        assert metric["value"] == pytest.approx(ae.metrics[key]["value"], rel=loose, abs=1e-3)


@pytest.mark.parametrize("name", ["fc-64", "vae-16", "denoise-gaussian", "conv-fc"])
def test_few_labels_were_measured_whole(name: str) -> None:
    metrics = aezoo.load(name).metrics
    for key in PROTOCOLS["few-label"].gives:
        assert metrics[key]["source"] == "protocol"
        assert 0 < metrics[key]["value"] < 1


def test_the_zoo_stays_small(repository: Path) -> None:
    weights = [file.stat().st_size for file in repository.glob("zoo/*/model.safetensors")]
    assert sum(weights) < 40_000_000


def test_the_index_is_current(repository: Path) -> None:
    assert json.loads((repository / "zoo" / "index.json").read_text()) == build_index(repository / "zoo")


@every_variant
def test_the_card_is_current(name: str, repository: Path) -> None:
    folder = repository / "zoo" / name
    assert (folder / "README.md").read_text() == card(folder, address=name, license="mit")


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
    would_work = rf"write 'hub:{name}' for a repository on the Hub, '\./{name}' for a folder"
    with pytest.raises(aezoo.UnknownVariantError, match=would_work):
        aezoo.load(name)


def test_folders_load_as_path_and_as_text(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = repository / "zoo" / "fc-64"
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    for place in (folder, Path("fc-64"), str(folder), "./fc-64", "../zoo/fc-64", "~/fc-64"):
        ae = aezoo.load(place)
        assert ae.source.kind == "folder"
        assert not ae.source.index_verified


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
    monkeypatch.setattr("aezoo.zoo.index.zoo_root", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "metrics.json"])
def test_a_name_never_means_other_bytes(own_zoo: Path, file: str) -> None:
    path = own_zoo / "fc-64" / file
    raw = path.read_bytes()
    # One digit or bit, somewhere in the middle, and still of the same length.
    path.write_bytes(raw[:-300] + bytes([raw[-300] ^ 1]) + raw[-299:])
    with raises("hash-mismatch", match="these are not the published bytes"):
        aezoo.load("fc-64")


def test_a_consistent_forgery_is_refused_by_the_index(own_zoo: Path) -> None:
    """Other weights with a config that names them are a good folder, but not this variant."""
    ae = aezoo.load("fc-64")
    with torch.no_grad():
        next(ae.parameters()).add_(1e-3)
    aezoo.save(ae, own_zoo / "fc-64", overwrite=True)
    assert aezoo.load(own_zoo / "fc-64").source.kind == "folder"
    with raises("hash-mismatch"):
        aezoo.load("fc-64")


def test_a_variant_that_is_not_shipped_says_so(own_zoo: Path) -> None:
    with raises("missing-file", match="conv-fc is not part of this installation"):
        aezoo.load("conv-fc")


def test_writing_the_index_keeps_where_a_variant_was_published(own_zoo: Path) -> None:
    index = json.loads((own_zoo / "index.json").read_text())
    index["variants"]["fc-64"] |= {"repository": "aezoo/fc-64", "commit": "a" * 40}
    (own_zoo / "index.json").write_text(json.dumps(index))
    _index.cache_clear()
    write_index(own_zoo)
    entry = aezoo.get_entry("fc-64")
    assert (entry["repository"], entry["commit"]) == ("aezoo/fc-64", "a" * 40)
    _index.cache_clear()


# -- the demo -----------------------------------------------------------------------------------------


@every_variant
def test_the_demo_measures_and_draws_or_refuses_in_one_line(name: str, tmp_path: Path) -> None:
    picture = tmp_path / "new" / "picture.png"
    if aezoo.get_entry(name)["input"] != [1, 28, 28]:
        with pytest.raises(aezoo.DataError):
            aezoo.demo(name, picture)
        assert not picture.exists()
        return
    found = aezoo.demo(name, picture)
    assert found.picture.read_bytes().startswith(b"\x89PNG")
    assert found.metrics["mse"]["n"] == 300
    if aezoo.get_spec(name).recipe.dataset == MnistSpec():
        published = found.ae.metrics["mse"]["value"]
        assert found.metrics["mse"]["value"] == pytest.approx(published, rel=0.15)


@pytest.mark.data
def test_the_shipped_digits_are_the_first_of_the_test_set() -> None:
    shipped, real = sample_digits(), MnistSpec().load("test")
    assert isinstance(shipped, Samples)
    assert len(shipped) == 300
    assert shipped.labels is not None
    assert real.labels is not None
    assert torch.equal(shipped.inputs, real.inputs[:300, 0])
    assert shipped.labels.tolist() == real.labels[:300].tolist()
