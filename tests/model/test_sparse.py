"""Sparse kernels: the same function as the dense layers, and no use where they do not apply."""

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

import aezoo
from aezoo.model import sparse_path
from aezoo.model.output import Output, SparseOutput, StepContext
from aezoo.model.sparse import SparseCode, SparsePattern

D, N = 24, 64
TOPK = {"kind": "topk", "k": 3}
CASES: dict[str, tuple[list[Any], list[Any], dict[str, Any]]] = {
    "plain": ([{"kind": "linear", "out_features": N}, TOPK], [], {}),
    "no bias": (
        [{"kind": "linear", "out_features": N, "bias": False}, TOPK],
        [{"kind": "linear", "out_features": D, "bias": False}],
        {},
    ),
    "deep, by magnitude": (
        [
            {"kind": "linear", "out_features": 32, "activation": "tanh"},
            {"kind": "linear", "out_features": N, "activation": "leaky_relu"},
            {"kind": "topk", "k": 5, "by": "magnitude"},
        ],
        [
            {"kind": "unit_norm_linear", "out_features": 16, "activation": "gelu"},
            {"kind": "linear", "out_features": D},
        ],
        {},
    ),
    "all kept": ([{"kind": "linear", "out_features": N}, {"kind": "topk", "k": N}], [], {}),
    "relu, of which most are zero": (
        [{"kind": "linear", "out_features": N, "activation": "relu"}, {"kind": "topk", "k": 40}],
        [],
        {},
    ),
    "a penalty on latents": (
        [{"kind": "linear", "out_features": N}, TOPK],
        [],
        {"penalties": [{"kind": "l1_latents", "weight": 0.1}]},
    ),
    "second derivatives": (
        [{"kind": "linear", "out_features": N, "activation": "sigmoid"}, TOPK],
        [],
        {"penalties": [{"kind": "contractive", "weight": 0.1}]},
    ),
    "auxk": (
        [{"kind": "linear", "out_features": N, "activation": "relu"}, TOPK],
        [],
        {"penalties": [{"kind": "auxk", "k": 4, "dead_after": 8, "weight": 0.5}]},
    ),
}


def spec_of(encoder: list[Any], decoder: list[Any], features: int = D, **recipe: object) -> aezoo.VariantSpec:
    data = {
        "name": "sparse", "summary": "A test.", "input": {"shape": [features]}, "encoder": encoder,
        "decoder": decoder or [{"kind": "linear", "out_features": features}],
        "recipe": {"reconstruction": "mse", "stages": [{"kind": "fit", "epochs": 1}], **recipe},
    }  # fmt: skip
    return aezoo.VariantSpec.model_validate(data)


def wide(n: int = 1024, k: int = 8, features: int = D, **recipe: object) -> aezoo.VariantSpec:
    return spec_of([{"kind": "linear", "out_features": n}, {"kind": "topk", "k": k}], [], features, **recipe)


def batch(rows: int = 9, features: int = D, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(rows, features, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def trained(spec: aezoo.VariantSpec, enabled: bool) -> tuple[aezoo.Autoencoder, list[float]]:
    """The network with the gradients of three steps, whose losses are returned."""
    ae = aezoo.build(spec, dtype=torch.float64)
    objective = aezoo.Objective(spec.recipe)
    losses: list[float] = []
    with aezoo.sparse_kernels(enabled):
        for step in range(3):
            x = batch(seed=step)
            loss, _ = objective(ae, StepContext(x, x, None, 0.0, step, torch.Generator()))
            loss.backward()
            losses.append(loss.item())
    return ae, losses


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_dense_layers(case: str) -> None:
    encoder, decoder, recipe = CASES[case]
    spec = spec_of(encoder, decoder, **recipe)
    (dense, expected), (sparse, losses) = trained(spec, False), trained(spec, True)
    assert losses == pytest.approx(expected, rel=1e-12)
    for (name, a), (_, b) in zip(dense.named_parameters(), sparse.named_parameters(), strict=True):
        assert a.grad is not None, name
        assert b.grad is not None, name
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_input_gradients_are_those_of_dense_layers(case: str) -> None:
    encoder, decoder, _ = CASES[case]
    ae = aezoo.build(spec_of(encoder, decoder), dtype=torch.float64).eval()
    found: list[tuple[Tensor, ...]] = []
    for enabled in (False, True):
        x = batch().requires_grad_()
        with aezoo.sparse_kernels(enabled):
            out = ae(x)
            (gradient,) = torch.autograd.grad(out.x_hat.square().sum() + out.latents.sin().sum(), x)
            assert isinstance(out, SparseOutput) is enabled
            found.append((out.x_hat, out.latents, gradient, ae.encode(x)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_decoding_the_code_is_the_forward_pass(case: str) -> None:
    encoder, decoder, _ = CASES[case]
    ae = aezoo.build(spec_of(encoder, decoder)).eval()
    with aezoo.sparse_kernels(True), torch.no_grad():
        x = batch(dtype=torch.float32)
        out = ae(x)
        assert torch.equal(ae.encode(x), out.latents)
        assert torch.equal(ae.decode(ae.encode(x)), out.x_hat)
        assert out.code is not None
        assert torch.equal(ae.decode_sparse(out.code), out.x_hat)


def test_blocks_of_rows_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ae = aezoo.build(spec_of(*CASES["plain"][:2]), dtype=torch.float64)
    with aezoo.sparse_kernels(True):
        whole = ae(batch(50))
        monkeypatch.setattr(sparse_path, "BLOCK_VALUES", 7 * N)
        blocks = ae(batch(50))
    torch.testing.assert_close(whole.latents, blocks.latents)
    torch.testing.assert_close(whole.x_hat, blocks.x_hat)


def test_an_empty_batch_and_a_single_row() -> None:
    ae = aezoo.build(spec_of(*CASES["plain"][:2]))
    with aezoo.sparse_kernels(True):
        assert ae(torch.empty(0, D)).latents.shape == (0, N)
        assert ae(torch.ones(1, D)).x_hat.shape == (1, D)


def test_nan_is_not_hidden() -> None:
    ae = aezoo.build(spec_of(*CASES["plain"][:2]))
    x = torch.ones(4, D)
    x[2, 3] = torch.nan
    with aezoo.sparse_kernels(True):
        bad = ae(x).x_hat.isnan().any(1)
    assert bad.tolist() == [False, False, True, False]


# -- derivatives --------------------------------------------------------------------------------------


def small() -> aezoo.Autoencoder:
    spec = spec_of(
        [{"kind": "linear", "out_features": 10, "activation": "tanh"}, {"kind": "topk", "k": 3}], [], 5
    )
    return aezoo.build(spec, dtype=torch.float64)


def test_first_and_second_derivatives() -> None:
    ae = small()
    parameters = [p.detach().clone().requires_grad_() for p in ae.parameters()]
    names = [name for name, _ in ae.named_parameters()]

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(ae, dict(zip(names, values, strict=True)), (x,)).x_hat

    x = batch(4, 5).requires_grad_()
    with aezoo.sparse_kernels(True):
        assert run(x, *parameters).grad_fn is not None
        assert torch.autograd.gradcheck(run, (x, *parameters))
        assert torch.autograd.gradgradcheck(run, (x, *parameters))


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_transforms_and_modes_use_the_dense_layers() -> None:
    ae, x = small(), batch(4, 5)

    def x_hat(x: Tensor) -> Tensor:
        return ae(x).x_hat

    expected = torch.autograd.functional.jacobian(x_hat, x)
    with aezoo.sparse_kernels(True):
        rows = torch.autograd.functional.jacobian(x_hat, x, vectorize=True)
        forward = torch.func.jacfwd(x_hat)(x)
        reverse = torch.func.jacrev(x_hat)(x)
        _, tangent = torch.autograd.functional.jvp(x_hat, x, torch.ones_like(x))
        vmapped = torch.func.vmap(lambda row: x_hat(row[None])[0])(x)
    for found in (rows, forward, reverse):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(cast(Tensor, tangent), expected.sum((2, 3)))
    torch.testing.assert_close(vmapped, x_hat(x))


def test_a_gradient_of_latents_that_are_zero_is_kept() -> None:
    ae = small()
    latents = torch.zeros(3, 10, dtype=torch.float64, requires_grad=True)
    with aezoo.sparse_kernels(True):
        (gradient,) = torch.autograd.grad(ae.decode(latents).sum(), latents)
    assert bool((gradient != 0).all())


# -- where they are used ------------------------------------------------------------------------------


def is_sparse(ae: aezoo.Autoencoder, x: Tensor) -> bool:
    return isinstance(ae(x), SparseOutput)


def test_sizes_decide() -> None:
    assert is_sparse(aezoo.build(wide()), torch.rand(64, D))
    assert not is_sparse(aezoo.build(wide()), torch.rand(32, D))
    assert not is_sparse(aezoo.build(wide(n=512)), torch.rand(512, D))
    assert not is_sparse(aezoo.build(wide(k=65)), torch.rand(64, D))
    with aezoo.sparse_kernels(False):
        assert not is_sparse(aezoo.build(wide()), torch.rand(64, D))


def test_the_recipe_declares_them() -> None:
    x = torch.rand(64, D)
    first, second = aezoo.build(wide(numerics=1)), aezoo.build(wide())
    assert not is_sparse(first, x)
    torch.testing.assert_close(first(x).x_hat, second(x).x_hat)
    # An architecture alone has no published bits.
    assert is_sparse(aezoo.build(aezoo.AutoencoderSpec(**cast(Any, dict(iter(architecture()))))), x)


def architecture() -> Iterator[tuple[str, object]]:
    spec = wide()
    yield from ((name, getattr(spec, name)) for name in ("input", "encoder", "decoder"))


@pytest.mark.parametrize(
    "where",
    ["encoder", "encoder.0", "encoder.0.linear", "encoder.1", "decoder", "decoder.0", "decoder.0.linear"],
)
def test_hooks_are_called(where: str) -> None:
    ae, x = aezoo.build(wide()), torch.rand(64, D)
    called: list[int] = []
    ae.get_submodule(where).register_forward_hook(lambda *_: called.append(1))
    ae(x)
    assert called


def test_a_global_hook_is_called() -> None:
    ae, called = aezoo.build(wide()), list[str]()
    handle = nn.modules.module.register_module_forward_hook(lambda m, *_: called.append(type(m).__name__))
    try:
        ae(torch.rand(64, D))
    finally:
        handle.remove()
    assert "TopK" in called


def test_a_changed_layer_is_not_replaced() -> None:
    x = torch.rand(64, D)
    ae = aezoo.build(wide())
    setattr(ae.encoder, "0", nn.Sequential(nn.Linear(D, 1024), nn.BatchNorm1d(1024)))
    assert not is_sparse(ae, x)
    ae = aezoo.build(wide())
    ae.decoder[0].linear = nn.utils.parametrizations.weight_norm(nn.Linear(1024, D))
    assert not is_sparse(ae, x)


def test_other_precisions_use_the_dense_layers() -> None:
    x = torch.rand(64, D)
    ae = aezoo.build(wide())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_sparse(ae, x)
    assert not is_sparse(ae, x.to_sparse())
    assert not is_sparse(ae.to(torch.bfloat16), x.bfloat16())
    assert is_sparse(ae.double(), x.double())


# -- output and weights -------------------------------------------------------------------------------


def test_an_output_is_a_tuple_of_dense_tensors() -> None:
    ae, x = aezoo.build(wide()).eval(), torch.rand(64, D)
    with torch.no_grad():
        out = ae(x)
    x_hat, latents, aux = out
    assert latents.shape == (64, 1024)
    assert aux == {}
    assert out[1] is latents
    assert out[0] is x_hat
    assert out[-2] is latents
    assert (len(out), len(out[:2])) == (3, 2)
    assert out._replace(x_hat=latents).latents is latents
    assert out._asdict()["latents"] is latents
    assert "latents=float32(64, 1024)" in repr(out)
    again = pickle.loads(pickle.dumps(out))
    assert type(again) is Output
    assert torch.equal(again.latents, latents)
    assert torch.equal(copy.deepcopy(out).latents, latents)
    mapped = tree_map(lambda value: 2 * value, out)
    assert type(mapped) is Output
    assert torch.equal(mapped.latents, 2 * latents)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_latents_keep_their_gradient_wherever_they_are_read_first(mode: Any) -> None:
    ae = aezoo.build(wide())
    out = ae(torch.rand(64, D))
    with mode():
        assert int((out.latents != 0).sum()) > 0
    out.latents.abs().mean().backward()
    assert ae.encoder[0].linear.weight.grad.abs().sum() > 0


def test_every_operation_of_a_tuple_sees_the_latents() -> None:
    out = aezoo.build(wide())(torch.rand(64, D))
    for made in ((*out, 1), out + (1,), (0,) + out, out * 2, 2 * out):  # noqa: RUF005
        assert any(value is out.latents for value in made)
        assert sum(getattr(value, "shape", None) == (64, D) for value in made) in (1, 2)


def test_a_weight_may_change_before_the_backward_pass() -> None:
    ae = aezoo.build(wide())
    out = ae(torch.rand(64, D))
    with torch.no_grad():
        ae.encoder[0].linear.weight.mul_(1.0)
    out.x_hat.sum().backward()


def test_a_subclass_that_overrides_forward_is_called() -> None:
    ae, x = aezoo.build(wide()), torch.rand(64, D)

    class Twice(type(ae.encoder[1])):
        def forward(self, h: Tensor) -> Tensor:
            return 2 * super().forward(h)

    expected = ae(x).latents
    ae.encoder[1].__class__ = Twice
    assert torch.allclose(ae(x).latents, 2 * expected)


COMPILED = """
import torch, aezoo
wide = aezoo.AutoencoderSpec.model_validate({
    "input": {"shape": [24]}, "encoder": [{"kind": "linear", "out_features": 1024}, {"kind": "topk", "k": 8}],
    "decoder": [{"kind": "linear", "out_features": 24}],
})
for spec in (wide, aezoo.get_spec("fc-16").replace({"recipe.numerics": 2})):
    ae, x = aezoo.build(spec), torch.rand(80, *spec.input.shape)
    compiled = torch.compile(ae, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(x).x_hat, ae(x).x_hat, atol=1e-6)
    assert torch.allclose(torch.export.export(ae.eval(), (x,), strict=True).module()(x).x_hat, ae(x).x_hat, atol=1e-6)
"""


def test_compiled_graphs_are_whole() -> None:
    # In a process of its own, because the checks of types in the tests cannot be compiled.
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILED], env=paths, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def bad_codes() -> dict[str, tuple[Any, str]]:
    pattern = SparsePattern.of_rows(torch.arange(320).view(80, 4), 1024)
    values = torch.rand(320)
    return {
        "wide": (SparseCode(values, pattern._replace(size=2048)), "a pattern of 2,048 columns"),
        "narrow": (SparseCode(values, pattern._replace(size=99)), "a pattern of 99 columns"),
        "double": (SparseCode(values.double(), pattern), "dtype is torch.float64"),
        "few": (SparseCode(values[:3], pattern), "expected 320 values"),
        "column": (SparseCode(values, pattern._replace(columns=pattern.columns + 900)), "columns from 0 to 1,023"),
    }  # fmt: skip


@pytest.mark.parametrize("case", list(bad_codes()))
def test_a_code_that_does_not_fit_is_refused_in_one_line(case: str) -> None:
    code, message = bad_codes()[case]
    with pytest.raises(aezoo.DataError, match=message) as caught:
        aezoo.build(wide()).decode_sparse(code)
    assert "\n" not in str(caught.value)


def test_latents_are_made_when_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    dense = SparseCode.dense
    monkeypatch.setattr(SparseCode, "dense", lambda code: (made.append(1), dense(code))[1])
    spec = wide()
    ae, x = aezoo.build(spec), torch.rand(64, D)
    out = ae(x)
    loss, _ = aezoo.Objective(spec.recipe)(ae, StepContext(x, x, None, 0.0, 0, torch.Generator()))
    loss.backward()
    assert not made
    assert out.latents is out.latents
    assert len(made) == 1


def test_weights_are_stored_column_by_column_and_saved_as_usual(tmp_path: Path) -> None:
    first, second = aezoo.build(wide(numerics=1)), aezoo.build(wide())
    weight = second.decoder[0].linear.weight
    assert weight.t().is_contiguous()
    assert weight.shape == (D, 1024)
    assert torch.equal(weight, first.decoder[0].linear.weight)
    aezoo.save(second, tmp_path / "saved")
    loaded = aezoo.load(tmp_path / "saved")
    assert torch.equal(loaded.decoder[0].linear.weight, weight)
    # Loaded weights are stored as PyTorch does; large batches are worth a transposed copy.
    assert loaded.decoder[0].linear.weight.is_contiguous()
    assert not is_sparse(loaded, torch.rand(255, D))
    x = torch.rand(256, D)
    assert is_sparse(loaded, x)
    assert torch.equal(loaded(x).x_hat, second.eval()(x).x_hat)


def test_a_trained_network_has_usual_weights() -> None:
    ae = aezoo.train(wide(), torch.rand(300, D), progress=False)
    assert all(parameter.is_contiguous() for parameter in ae.parameters())
    torch.nn.utils.parameters_to_vector(ae.parameters())


def test_a_training_repeats_itself_and_agrees_with_dense_layers(tmp_path: Path) -> None:
    x = torch.rand(600, D, generator=torch.Generator().manual_seed(0))

    def run(numerics: int, **options: Any) -> aezoo.Autoencoder:
        spec = wide(
            numerics=numerics, batch_size=100, threads=1,
            penalties=[{"kind": "auxk", "k": 4, "dead_after": 300}],
            stages=[{"kind": "fit", "epochs": 2}, {"kind": "fit", "tie": True, "epochs": 1}, {"kind": "fit", "epochs": 1}],
        )  # fmt: skip
        return aezoo.train(spec, x, progress=False, **options)

    class Stop(aezoo.Callback):
        def on_epoch_end(self, state: aezoo.TrainingState) -> None:
            if len(state.history) == 2 and not (tmp_path / "stopped").exists():
                (tmp_path / "stopped").touch()
                raise KeyboardInterrupt

    sparse, again, dense = run(2), run(2), run(1)
    with pytest.raises(aezoo.TrainingInterrupted):
        run(2, callbacks=[Stop()], resume=tmp_path / "state")
    resumed = run(2, callbacks=[Stop()], resume=tmp_path / "state")
    for name, value in sparse.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        assert torch.equal(value, resumed.state_dict()[name])
    found, expected = (ae.history[-1]["validation"]["mse"] for ae in (sparse, dense))
    assert found == pytest.approx(expected, rel=1e-3)


PAIRS: dict[str, dict[str, Any]] = {
    "refit, early stop": {
        "refit": True, "stages": [{"kind": "fit", "epochs": 3, "early_stop": {"patience": 1}}],
    },
    "freeze": {"stages": [{"kind": "fit", "epochs": 2, "freeze": ["decoder"]}]},
    "frozen encoder": {"stages": [{"kind": "fit", "epochs": 2, "freeze": ["encoder"]}]},
    "noise": {"noises": [{"kind": "gaussian", "std": 0.1}]},
    "float16, cosine": {
        "weights_dtype": "float16", "stages": [{"kind": "fit", "epochs": 2, "schedule": "cosine"}],
    },
    "greedy": {"stages": [{"kind": "greedy", "epochs": 1}, {"kind": "fit", "epochs": 1}]},
    "sgd": {"stages": [{"kind": "fit", "epochs": 2, "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.9}}]},
    "warm-up of a penalty": {"penalties": [{"kind": "l1_latents", "weight": 0.01, "warmup_epochs": 1.0}]},
}  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
def test_every_feature_of_a_recipe_trains_as_with_dense_layers(pair: str) -> None:
    x = torch.rand(400, D, generator=torch.Generator().manual_seed(0))
    first, second = (
        aezoo.train(wide(numerics=n, batch_size=90, threads=1, **PAIRS[pair]), x, progress=False)
        for n in (1, 2)
    )
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=2e-5, msg=name)
    assert second.metrics["mse.validation"]["value"] == pytest.approx(
        first.metrics["mse.validation"]["value"], rel=1e-4
    )


# -- codes --------------------------------------------------------------------------------------------


def code(latents: Tensor) -> SparseCode:
    pattern = SparsePattern.of_mask(latents != 0)
    return SparseCode(latents[latents != 0], pattern)


def test_patterns_and_codes() -> None:
    latents = torch.tensor([[0.0, 2.0, 0.0, 3.0], [0.0, 0.0, 0.0, 0.0], [4.0, 0.0, 5.0, 6.0]])
    found = code(latents)
    assert torch.equal(found.dense(), latents)
    assert found.pattern.offsets.tolist() == [0, 2, 2, 5]
    assert found.pattern.rows.tolist() == [0, 0, 2, 2, 2]
    assert found.used_latents().tolist() == [True, True, True, True]
    for n in range(5):
        expected = latents.clone()
        expected[:, n:] = 0
        assert torch.equal(found.prefix(n).dense(), expected)
    flat = torch.tensor([11, 3, 1, 8, 10])
    assert torch.equal(SparsePattern.of_flat(flat, 3, 4).columns, found.pattern.columns)
    assert SparsePattern.of_rows(torch.tensor([[3, 1], [2, 0]]), 4).columns.tolist() == [1, 3, 0, 2]
    stacked = SparsePattern.stack([found.pattern, found.pattern])
    assert stacked.offsets.tolist() == [0, 2, 2, 5, 7, 7, 10]
