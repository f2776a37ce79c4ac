"""Every variant in the zoo: the same bytes, the same numbers, the same contract."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import aezoo
from aezoo.evaluation.evaluate import evaluate_variant
from aezoo.evaluation.protocols import PROTOCOLS
from aezoo.specs.schema import spec_sha256
from aezoo.zoo.demo import sample_digits
from aezoo.zoo.schema import METRICS, PREVIEW, SPEC, TRAINING, WEIGHTS
from aezoo.zoo.write_index import build_index
from tests.parts import in_parts

VARIANTS = aezoo.list_variants()
every_variant = pytest.mark.parametrize("name", VARIANTS)

# Published weights are loaded by these tensor names, so that they can never change.
GOLDEN: dict[str, list[str]] = json.loads((Path(__file__).parent / "golden_tensors.json").read_text())


def some_inputs(ae: aezoo.Autoencoder) -> torch.Tensor:
    """Twenty inputs: digits if they fit, otherwise random values in the declared range."""
    shape = ae.spec.input.shape
    if shape == (1, 28, 28):
        return ae.transforms()(sample_digits().inputs[:20])
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn if ae.spec.input.range is None else torch.rand
    return draw((20, *shape), generator=generator)


@every_variant
def test_a_name_means_the_bytes_in_the_index(name: str) -> None:
    ae = aezoo.load(name)
    entry = aezoo.get_entry(name)
    assert ae.source.kind == "zoo"
    assert ae.source.index_verified
    assert ae.source.sha256 == entry["files"][WEIGHTS]["sha256"]
    assert not ae.training
    assert not any(tensor.is_meta for tensor in ae.state_dict().values())
    assert sorted(ae.state_dict()) == GOLDEN[name]


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
def test_a_rows_output_does_not_depend_on_other_rows(name: str) -> None:
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
def test_every_parameter_has_a_gradient(name: str) -> None:
    ae = aezoo.load(name).train()
    (ae(some_inputs(ae)).x_hat ** 2).mean().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in ae.parameters())


@every_variant
def test_the_hand_written_spec_is_the_trained_one(name: str, repository: Path) -> None:
    by_hand = aezoo.validate(repository / "zoo" / name / SPEC)
    trained = aezoo.get_spec(name)
    assert by_hand.resolved() == trained
    assert spec_sha256(by_hand) == spec_sha256(trained)
    assert trained == aezoo.load(name).spec


@every_variant
def test_a_folder_is_complete(name: str, repository: Path) -> None:
    folder = repository / "zoo" / name
    record = json.loads((folder / TRAINING).read_text())
    assert {"seed", "threads", "versions", "data", "seconds", "history", "epochs"} <= set(record)
    assert (folder / PREVIEW).read_bytes().startswith(b"\x89PNG")
    for metric in json.loads((folder / METRICS).read_text()).values():
        assert set(metric) == {"value", "reason", "source", "dataset", "split", "n", "definition"}
        assert (metric["value"] is None) == (metric["reason"] is not None)


def computed(ae: aezoo.Autoencoder) -> dict[str, dict[str, Any]]:
    """The published metrics that follow from the weights and the data."""
    return {
        name: metric
        for name, metric in ae.metrics.items()
        if metric["source"] == "computed" and not name.endswith(".validation")
    }


# Every third in each run; `make check` measures the others as well.


@pytest.mark.data
@pytest.mark.parametrize("name", in_parts(VARIANTS, 5))
def test_every_metric_of_a_pass_is_recomputed(name: str) -> None:
    ae = aezoo.load(name)
    published, found = computed(ae), evaluate_variant(ae, "test")
    assert {"mse", "sse", "fvu", "l0", "dead_latents"} <= set(found) <= set(published)
    for key, metric in found.items():
        # Sums run in another order on another machine.
        assert metric["value"] == pytest.approx(published[key]["value"], rel=1e-5, abs=1e-9)
        assert dict(metric) | {"value": None} == published[key] | {"value": None}
    by_protocol = {key for protocol in PROTOCOLS.values() for key in protocol.gives}
    assert set(published) - set(found) <= by_protocol


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
def test_every_metric_of_a_protocol_is_recomputed(name: str, protocol: str) -> None:
    ae = aezoo.load(name)
    found = aezoo.run_protocol(protocol, ae)
    assert set(found) == set(PROTOCOLS[protocol].gives)
    for key, metric in found.items():
        # A probe stops when another library's optimizer considers it converged.
        loose = 5e-3 if protocol == "probe" else 1e-4
        assert metric["value"] == pytest.approx(ae.metrics[key]["value"], rel=loose, abs=1e-3)


@pytest.mark.parametrize("name", ["fc-64", "vae-16", "denoise-gaussian", "conv-fc"])
def test_few_label_was_measured(name: str) -> None:
    metrics = aezoo.load(name).metrics
    for key in PROTOCOLS["few-label"].gives:
        assert metrics[key]["source"] == "protocol"
        assert 0 < metrics[key]["value"] < 1


def test_the_zoo_stays_small(repository: Path) -> None:
    weights = [file.stat().st_size for file in repository.glob(f"zoo/*/{WEIGHTS}")]
    assert sum(weights) < 40_000_000


def test_the_index_is_current(repository: Path) -> None:
    assert json.loads((repository / "zoo" / "index.json").read_text()) == build_index(repository / "zoo")
