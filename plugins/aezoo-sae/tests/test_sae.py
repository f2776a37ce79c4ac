"""Layers, losses and callbacks by hand-computed values, published variants, and the contract checks."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from aezoo_sae import (
    BatchTopKSpec,
    GatedLinearSpec,
    GatedLossSpec,
    JumpReLUSpec,
    L0Spec,
    MatryoshkaSpec,
    PreBiasSpec,
)
from aezoo_sae.callbacks import geometric_median
from aezoo_sae.layers import largest, step
from torch import Generator, Tensor

import aezoo
from aezoo.testing import check_plugin
from aezoo.zoo.load import folder_of
from aezoo.zoo.model_card import card


def network(*encoder: Any, recipe: dict[str, Any] | None = None) -> aezoo.VariantSpec:
    return aezoo.VariantSpec.model_validate({
        "name": "small", "summary": "A small network for tests.", "input": {"shape": [6]},
        "encoder": encoder, "decoder": [{"kind": "linear", "out_features": 6}],
        "recipe": {
            "reconstruction": "mse", "batch_size": 16, "threads": 1,
            "stages": [{"kind": "fit", "epochs": 2}], **(recipe or {}),
        },
    })  # fmt: skip


STAGES = [{"kind": "fit", "epochs": 1, "optimizer": {"kind": "sgd", "lr": 1e-12}}]
"""A training that leaves the initial weights almost unchanged."""


def context(x: Tensor) -> aezoo.StepContext:
    return aezoo.StepContext(x, x, None, 0.0, 0, Generator())


def test_installed_plugin_passes_contract_checks() -> None:
    reports = check_plugin("aezoo-sae")
    assert {report.subject.split(" on ")[0] for report in reports} >= {
        "layer sae.batch_topk", "layer sae.jumprelu", "layer sae.gated_linear", "layer sae.pre_bias",
        "loss sae.l0", "loss sae.gated", "loss sae.matryoshka", "callback sae.geometric_median",
        "callback sae.transposed_start",
    }  # fmt: skip


# -- sparse kernels -----------------------------------------------------------------------------------

N = 32
KERNELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "batch_topk": ({"kind": "sae.batch_topk", "k": 3}, {}),
    "jumprelu": (
        {"kind": "sae.jumprelu", "threshold": 0.3, "bandwidth": 0.5},
        {"penalties": [{"kind": "sae.l0", "target": 3.0, "weight": 0.1}]},
    ),
    "matryoshka": (
        {"kind": "sae.batch_topk", "k": 5},
        {"reconstruction": {"kind": "sae.matryoshka", "prefixes": [4, 16]}},
    ),
}


@pytest.mark.parametrize("case", KERNELS)
def test_sparse_kernels_compute_what_the_layers_do(case: str) -> None:
    layer, recipe = KERNELS[case]
    linear = {"kind": "linear", "out_features": N}
    spec = network("sae.pre_bias", linear, layer, recipe={"reconstruction": "mse", **recipe})
    found: list[list[Tensor]] = []
    for enabled in (False, True):
        ae = aezoo.build(spec, dtype=torch.float64)
        objective = aezoo.Objective(spec.recipe)
        with aezoo.sparse_kernels(enabled):
            for seed in range(3):
                x = torch.randn(9, 6, generator=Generator().manual_seed(seed), dtype=torch.float64)
                loss, _ = objective(ae, context(x))
                loss.backward()
            assert (ae(x).code is not None) is enabled
            ae.eval()
            out = ae(x)
            assert torch.equal(ae.decode(out.latents.detach()), out.x_hat)
        gradients = [p.grad for p in ae.parameters() if p.grad is not None]
        found.append([loss, out.x_hat, out.latents, *gradients, *ae.buffers()])
    assert len(found[0]) == len(found[1])
    for dense, sparse in zip(*found, strict=True):
        torch.testing.assert_close(sparse, dense, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n", [1, 100, 20_000, 2**20])
def test_largest_values_are_found_among_many(n: int) -> None:
    x = torch.randn(2**20, generator=Generator().manual_seed(0))
    assert torch.equal(largest(x, n).sort().values, x.topk(n).indices.sort().values)
    # A sample that represents the values badly changes the time, not the result.
    assert torch.equal(x.sort().values[largest(x.sort().values, n)].sort().values, x.topk(n).values.flip(0))


# -- BatchTopK ----------------------------------------------------------------------------------------


def test_batch_topk_keeps_the_largest_of_the_whole_batch() -> None:
    layer = BatchTopKSpec(k=1).build((3,)).train()
    h = torch.tensor([[5.0, 4.0, 0.5], [-9.0, 0.1, 0.2]])
    assert torch.equal(layer(h), torch.tensor([[5.0, 4.0, 0.0], [0.0, 0.0, 0.0]]))


def test_batch_topk_uses_running_threshold_in_evaluation() -> None:
    layer = BatchTopKSpec(k=1, decay=0.5).build((3,)).train()
    # The smallest values kept are 4 and 2; their plain mean is used for the first batches.
    layer(torch.tensor([[5.0, 4.0, 0.5], [-9.0, 0.1, 0.2]]))
    layer(torch.tensor([[2.0, 3.0, 0.5], [-9.0, 0.1, 0.2]]))
    assert float(layer.threshold) == 3.0
    layer(torch.tensor([[1.0, 3.0, 0.5], [-9.0, 0.1, 0.2]]))
    assert float(layer.threshold) == 2.0
    layer.eval()
    assert torch.equal(layer(torch.tensor([[2.5, 2.0, 9.0]])), torch.tensor([[2.5, 0.0, 9.0]]))


def test_batch_topk_never_keeps_negative_values() -> None:
    layer = BatchTopKSpec(k=2).build((3,)).train()
    assert torch.equal(layer(torch.tensor([[-1.0, -2.0, 3.0]])), torch.tensor([[0.0, 0.0, 3.0]]))
    assert torch.equal(layer(-torch.ones(2, 3)), torch.zeros(2, 3))


def test_batch_topk_rejects_k_above_the_number_of_features() -> None:
    with pytest.raises(aezoo.LayerError, match="9 is more than the 3 features"):
        BatchTopKSpec(k=9).build((3,))


# -- JumpReLU -----------------------------------------------------------------------------------------


def test_jumprelu_keeps_values_above_the_threshold() -> None:
    layer = JumpReLUSpec(threshold=0.5).build((3,))
    aux: dict[str, Tensor] = {}
    h = torch.tensor([[0.4, 0.6, -3.0]])
    assert torch.allclose(layer(h, aux), torch.tensor([[0.0, 0.6, 0.0]]))
    assert torch.equal(aux["sae.pre_acts"], h)
    assert torch.allclose(aux["sae.threshold"], torch.full((1, 3), 0.5))


def test_jumprelu_threshold_gradient_matches_the_paper() -> None:
    """Equations 11 and 12 of arXiv:2407.14435, with a rectangular kernel."""
    h = torch.tensor([[0.45], [0.55], [0.9]])
    threshold = torch.tensor([0.5], requires_grad=True)
    step(h, threshold, 0.2).sum().backward()
    # Two of the three are within half a bandwidth of the threshold; each adds 1 / bandwidth.
    assert torch.allclose(threshold.grad, torch.tensor([-2 / 0.2]))
    layer = JumpReLUSpec(threshold=0.5, bandwidth=0.2).build((1,))
    out = layer(h.requires_grad_(), {})
    out.sum().backward()
    assert torch.equal(h.grad, torch.tensor([[0.0], [1.0], [1.0]]))
    # -threshold / bandwidth for each of the two, times the threshold because it is learned as a logarithm.
    assert torch.allclose(layer.log_threshold.grad, torch.tensor([-2 * 0.5 / 0.2 * 0.5]))


def test_l0_penalty_compares_l0_with_its_target() -> None:
    ae = aezoo.build(network({"kind": "linear", "out_features": 6}, "sae.jumprelu"))
    x = torch.randn(8, 6, generator=Generator().manual_seed(0))
    out = ae(x)
    active = float((out.latents > 0).sum(1).float().mean())
    value = L0Spec(target=2.0)(out, context(x), ae)
    assert float(value.detach()) == pytest.approx((active / 2 - 1) ** 2)
    value.backward()
    gradients = {name: p.grad is not None and bool(p.grad.any()) for name, p in ae.named_parameters()}
    assert {name for name, some in gradients.items() if some} <= {"encoder.1.log_threshold"}


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(L0Spec(target=2.0), "sae.jumprelu"), (GatedLossSpec(sparsity=0.1), "sae.gated_linear")],
)
def test_incompatibility_names_the_required_encoder(loss: aezoo.LossSpec, expected: str) -> None:
    ae = aezoo.build(network({"kind": "linear", "out_features": 6}))
    assert expected in str(loss.incompatibility(ae))


# -- gated --------------------------------------------------------------------------------------------


def gated() -> Any:
    layer = GatedLinearSpec(out_features=2).build((2,))
    layer.load_state_dict({
        "linear.weight": torch.eye(2), "gate_bias": torch.tensor([0.0, -1.0]),
        "magnitude_bias": torch.tensor([0.5, 0.5]), "log_scale": torch.log(torch.tensor([2.0, 2.0])),
    })  # fmt: skip
    return layer


def test_gated_linear_multiplies_gate_and_magnitude() -> None:
    aux: dict[str, Tensor] = {}
    out = gated()(torch.tensor([[3.0, 0.9], [-3.0, 1.5]]), aux)
    assert torch.allclose(out, torch.tensor([[6.5, 0.0], [0.0, 3.5]]))
    assert torch.allclose(aux["sae.gate"], torch.tensor([[3.0, -0.1], [-3.0, 0.5]]))


def test_gated_loss_trains_the_gate_and_not_the_decoder() -> None:
    ae = aezoo.build(network({"kind": "sae.gated_linear", "out_features": 12}))
    x = torch.randn(8, 6, generator=Generator().manual_seed(0))
    out = ae(x)
    gate = out.aux["sae.gate"].relu()
    value = GatedLossSpec(sparsity=0.1)(out, context(x), ae)
    expected = 0.1 * gate.sum(1).mean() + (ae.decode(gate) - x).square().mean()
    assert float(value.detach()) == pytest.approx(float(expected.detach()))
    value.backward()
    assert dict(ae.named_parameters())["encoder.0.gate_bias"].grad.any()
    assert all(p.grad is None or not p.grad.any() for p in ae.decoder.parameters())


# -- Matryoshka and initialization --------------------------------------------------------------------


def test_matryoshka_averages_the_errors_of_all_prefixes() -> None:
    ae = aezoo.build(network({"kind": "linear", "out_features": 6}))
    x = torch.randn(8, 6, generator=Generator().manual_seed(0))
    out = ae(x)
    errors = []
    for prefix in (2, 4, 6):
        kept = torch.cat([out.latents[:, :prefix], torch.zeros(8, 6 - prefix)], 1)
        errors.append((ae.decode(kept) - x).square().mean())
    value = MatryoshkaSpec(prefixes=(2, 4))(out, context(x), ae)
    assert float(value.detach()) == pytest.approx(float(sum(errors).detach() / 3))


@pytest.mark.parametrize("prefixes", [(4, 2), (2, 2), (6,), (9,)])
def test_matryoshka_rejects_prefixes_that_do_not_ascend(prefixes: tuple[int, ...]) -> None:
    ae = aezoo.build(network({"kind": "linear", "out_features": 6}))
    assert "prefixes must ascend to fewer than the 6" in str(
        MatryoshkaSpec(prefixes=prefixes).incompatibility(ae)
    )


def test_geometric_median_of_a_triangle_balances_its_corners() -> None:
    corners = torch.tensor([[0.0, 0.0], [4.0, 0.0], [1.0, 3.0]], dtype=torch.float64)
    found = geometric_median(corners, steps=1000, tolerance=1e-12)
    pulls = (corners - found) / (corners - found).norm(dim=1, keepdim=True)
    assert torch.allclose(pulls.sum(0), torch.zeros(2, dtype=torch.float64), atol=1e-6)


def test_geometric_median_is_robust_to_an_outlier() -> None:
    x = torch.cat([torch.randn(99, 3, generator=Generator().manual_seed(0)), torch.full((1, 3), 1e4)])
    assert float(geometric_median(x).abs().max()) < 0.5 < float(x.mean(0).min())


def test_biases_are_initialized_to_the_median_once() -> None:
    spec = network(
        "sae.pre_bias", {"kind": "linear", "out_features": 12}, {"kind": "topk", "k": 3},
        recipe={"callbacks": ["sae.geometric_median"], "stages": [*STAGES, *STAGES]},
    )  # fmt: skip
    x = 3 + torch.randn(64, 6, generator=Generator().manual_seed(0))
    ae = aezoo.train(spec, x, progress=False, device="cpu")
    state = ae.state_dict()
    assert torch.allclose(state["encoder.0.bias"], state["decoder.0.linear.bias"], atol=1e-5)
    assert torch.allclose(state["encoder.0.bias"], torch.full((6,), 3.0), atol=0.5)


def test_encoder_is_initialized_to_the_normalized_transpose() -> None:
    spec = network(
        "sae.pre_bias", {"kind": "sae.gated_linear", "out_features": 12},
        recipe={"callbacks": ["sae.transposed_start"], "stages": STAGES,
                "penalties": [{"kind": "sae.gated", "sparsity": 0.0}]},
    )  # fmt: skip
    state = aezoo.train(spec, torch.randn(64, 6), progress=False, device="cpu").state_dict()
    rows, columns = state["encoder.1.linear.weight"], state["decoder.0.linear.weight"]
    assert torch.allclose(rows.norm(dim=1), torch.ones(12), atol=1e-5)
    assert torch.allclose(rows, torch.nn.functional.normalize(columns, dim=0).T, atol=1e-5)


def test_transposed_start_rejects_layers_of_other_shapes() -> None:
    deep = network(
        {"kind": "linear", "out_features": 9}, {"kind": "linear", "out_features": 12},
        recipe={"callbacks": ["sae.transposed_start"], "stages": STAGES},
    )  # fmt: skip
    with pytest.raises(
        aezoo.SpecError,
        match=r"recipe.callbacks.0: sae.transposed_start needs linear layers of transposed shapes",
    ):
        aezoo.train(deep, torch.randn(64, 6), progress=False, device="cpu")


def test_pre_bias_is_subtracted() -> None:
    layer = PreBiasSpec().build((2,))
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([1.0, -1.0]))
    assert torch.equal(layer(torch.zeros(1, 2)), torch.tensor([[-1.0, 1.0]]))


VARIANTS = aezoo.list_variants("sae-*")
PUBLISHED = {"sae-topk32", "sae-batchtopk32", "sae-jumprelu32", "sae-gated", "sae-matryoshka32"}


def test_all_variants_are_listed() -> None:
    assert set(VARIANTS) == PUBLISHED
    assert sum(aezoo.get_entry(name)["files"]["model.safetensors"]["bytes"] for name in VARIANTS) < 20_000_000


@pytest.mark.parametrize("name", VARIANTS)
def test_published_variant_matches_its_metrics(name: str) -> None:
    ae = aezoo.load(name)
    assert ae.source.index_verified
    assert ae.num_latents == 1024
    x = ae.transforms()(aezoo.sample_digits().inputs)
    with torch.no_grad():
        latents = ae.encode(x)
        mse = float((ae.decode(latents) - x).square().mean())
    l0 = float((latents != 0).sum(1).float().mean())
    assert mse == pytest.approx(ae.metrics["mse"]["value"], rel=0.1)
    assert l0 == pytest.approx(ae.metrics["l0"]["value"], rel=0.1)
    assert ae.metrics["l0"]["value"] == pytest.approx(32, rel=0.1)
    assert ae.metrics["dead_latents"]["value"] <= 0.05 * ae.num_latents


@pytest.mark.parametrize("name", VARIANTS)
def test_model_card_is_current(name: str) -> None:
    folder = folder_of(name)
    assert (folder / "README.md").read_text() == card(folder, address=name, license="mit")


def test_readme_example_runs() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["latents"].shape == (300, 1024)


# -- export -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sae-batchtopk32", "sae-gated", "sae-jumprelu32"])
def test_variants_are_exported_as_python_bit_for_bit(tmp_path: Path, name: str) -> None:
    digits = aezoo.sample_digits().inputs[:20]
    result = aezoo.export(name, tmp_path / "a.py", format="python", samples=digits)
    assert [value.absolute for value in result.comparison.differences.values()] == [0.0, 0.0]
    assert "aezoo_sae" not in (tmp_path / "a.py").read_text()
