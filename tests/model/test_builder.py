"""From a spec to a network: seeds, limits, and errors that name the layer and both sizes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import aezoo
from aezoo.model.build import build_on_meta
from aezoo.model.sequential import LayerSequence, LayerShape
from tests.examples import small, small_spec

SHAPE = (1, 6, 6)


def weights(ae: aezoo.Autoencoder) -> list[Tensor]:
    return list(ae.state_dict().values())


def same(a: aezoo.Autoencoder, b: aezoo.Autoencoder) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


# -- seeds --------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_weights_whatever_was_drawn_before() -> None:
    first = aezoo.build(small_spec(), seed=3)
    torch.rand(7)
    assert same(first, aezoo.build(small_spec(), seed=3))
    assert not same(first, aezoo.build(small_spec(), seed=4))


def test_building_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    aezoo.build(small_spec())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_default_device_and_dtype_of_the_process_do_not_matter() -> None:
    plain = aezoo.build(small_spec())
    with torch.device("meta"):
        inside = aezoo.build(small_spec())
    assert same(plain, inside)


def test_a_network_is_built_in_training_mode_in_the_dtype_asked_for() -> None:
    ae = aezoo.build(small_spec(), dtype=torch.float64)
    assert ae.training
    assert {w.dtype for w in weights(ae)} == {torch.float64}
    assert torch.equal(weights(ae)[0].float(), weights(aezoo.build(small_spec()))[0])


# -- limits -------------------------------------------------------------------------------------------


def test_a_skeleton_takes_no_memory_however_large_it_is() -> None:
    huge = small_spec(
        encoder=["flatten", {"kind": "linear", "out_features": 2**30}],
        decoder=[{"kind": "linear", "out_features": 36}, {"kind": "unflatten", "shape": SHAPE}],
    )
    ae = build_on_meta(huge, max_parameters=10**12)
    assert {w.device.type for w in weights(ae)} == {"meta"}
    assert ae.num_parameters == 37 * 2**30 + 36 * 2**30 + 36


@pytest.mark.parametrize("function", [aezoo.build, build_on_meta])
def test_more_parameters_than_allowed_are_refused(function: Callable[..., aezoo.Autoencoder]) -> None:
    assert function(small_spec(), max_parameters=620).num_parameters == 620
    for limit in (619, 0):
        with pytest.raises(aezoo.SpecError) as caught:
            function(small_spec(), max_parameters=limit)
        assert str(caught.value) == (
            f"620 parameters are more than the {limit} allowed; raise max_parameters or AEZOO_MAX_PARAMETERS"
        )


def test_the_environment_sets_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEZOO_MAX_PARAMETERS", "619")
    with pytest.raises(aezoo.SpecError, match="more than the 619 allowed"):
        aezoo.build(small_spec())
    monkeypatch.setenv("AEZOO_MAX_PARAMETERS", "lots")
    with pytest.raises(aezoo.SpecError, match="AEZOO_MAX_PARAMETERS: expected a whole number, found 'lots'"):
        aezoo.build(small_spec())


# -- errors -------------------------------------------------------------------------------------------


def with_layer(side: str, index: int, **fields: Any) -> dict[str, Any]:
    data = small()
    data[side] = list(data[side])
    data[side][index] = {**data[side][index], **fields}
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_layer("encoder", 2, k=80), "encoder.2.k: 80 is more than the 8 features that encoder.1 gives"),
        (
            with_layer("decoder", 1, shape=[1, 5, 5]),
            "decoder.1.shape: [1, 5, 5] holds 25 values, not the 36 that decoder.0 gives",
        ),
        (
            small(encoder=small()["encoder"][1:]),
            "encoder.0.kind: linear takes a vector (put `flatten` before it), not the (1, 6, 6) "
            "that the input has",
        ),
        (
            small(decoder=small()["decoder"][:1]),
            "decoder.0: gives (36,), which is not the input's shape (1, 6, 6)",
        ),
        (
            small(decoder=[{"kind": "unflatten", "shape": [1, 6, 6]}]),
            "decoder.0.shape: [1, 6, 6] holds 36 values, not the 8 that the encoder gives",
        ),
        (
            small(encoder=[{"kind": "upsample", "scale_factor": 1e4}, *small()["encoder"]]),
            "encoder.0: upsample makes 3,600,000,000 values of a sample, more than 2,147,483,648",
        ),
        (
            small(target={"shape": [3, 6, 6]}),
            "decoder.1: gives (1, 6, 6), which is not the target's shape (3, 6, 6)",
        ),
    ],
)
def test_a_size_that_does_not_fit_is_named_with_both_sizes(data: dict[str, Any], message: str) -> None:
    with pytest.raises(aezoo.SpecError) as caught:
        aezoo.build(aezoo.VariantSpec.model_validate(data))
    assert str(caught.value) == message


def test_the_path_is_the_one_in_the_document_however_often_layers_before_repeat(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(
        "name: small\nsummary: s\ninput: {shape: [36]}\nencoder:\n"
        "  - {kind: linear, out_features: 8, repeat: 5}\n  - kind: residual\n    layers:\n"
        "      - {kind: linear, out_features: 8, repeat: 2}\n      - {kind: topk, k: 9}\n"
        "decoder: [{kind: linear, out_features: 36}]\n"
        "recipe: {reconstruction: mse, stages: [{kind: fit, epochs: 1}]}\n"
    )
    with pytest.raises(aezoo.SpecError) as caught:
        aezoo.validate(path)
    assert str(caught.value) == (
        f"{path}:9: encoder.1.layers.1.k: 9 is more than the 8 features that encoder.1.layers.0 gives"
    )


# -- layers that break the contract -------------------------------------------------------------------


class Module(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return h


class PlainTensor(Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.zeros(3)


class Fleeting(Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3), persistent=False)


class LosesRows(Module):
    def forward(self, h: Tensor) -> Tensor:
        return h[:1]


class Raises(Module):
    def forward(self, h: Tensor) -> Tensor:
        raise RuntimeError("no way\nand more")


class Emits(Module):
    emits = ("code",)

    def forward(self, h: Tensor, aux: dict[str, Tensor]) -> Tensor:
        aux["code"] = h
        return h


class EmitsNothing(Emits):
    def forward(self, h: Tensor, aux: dict[str, Tensor]) -> Tensor:
        return h


class Needs(Module):
    needs = ("code",)

    def forward(self, h: Tensor, aux: dict[str, Tensor]) -> Tensor:
        return h + aux["code"]


def cannot() -> nn.Module:
    raise ValueError("nothing to build")


@pytest.fixture
def probe(fresh_registry: None) -> None:
    makers = {
        "plain": PlainTensor, "fleeting": Fleeting, "loses_rows": LosesRows, "raises": Raises,
        "emits": Emits, "emits_nothing": EmitsNothing, "needs": Needs, "cannot": cannot,
    }  # fmt: skip

    class ProbeSpec(aezoo.LayerSpec):
        kind: Literal["probe"] = "probe"
        what: str

        def build(self, in_shape: tuple[int, ...]) -> nn.Module:
            return makers[self.what]()

    aezoo.register(ProbeSpec)


def probes(*names: str) -> dict[str, Any]:
    return small(
        encoder=["flatten", *({"kind": "probe", "what": name} for name in names)],
        decoder=[{"kind": "unflatten", "shape": SHAPE}],
    )


@pytest.mark.usefixtures("probe")
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["plain"], "PlainTensor.mean is a plain tensor; make it a parameter or a persistent buffer"),
        (
            ["fleeting"],
            "Fleeting.mean is a non-persistent buffer; make it a parameter or a persistent buffer",
        ),
        (
            ["loses_rows"],
            "probe makes (1, 36) of a batch of 2 x (36,); a layer keeps the batch axis and gives at least "
            "one value",
        ),
        (["raises"], "probe does not take the shape (36,) that encoder.0 gives: no way"),
        (["cannot"], "probe cannot be built on (36,): nothing to build"),
        (["needs"], "probe needs 'code', which no layer before emits"),
        (["emits", "emits"], "probe emits 'code', which a layer before emits too"),
        (["emits_nothing"], "probe declares that it emits 'code' but does not"),
    ],
)
def test_a_layer_that_breaks_the_contract_is_named(names: list[str], message: str) -> None:
    with pytest.raises(aezoo.SpecError) as caught:
        aezoo.build(aezoo.VariantSpec.model_validate(probes(*names)))
    assert str(caught.value) == f"encoder.{len(names)}: {message}"


@pytest.mark.usefixtures("probe")
def test_what_is_emitted_inside_a_container_is_needed_outside() -> None:
    data = probes("emits", "needs")
    data["encoder"][1:2] = [{"kind": "residual", "layers": [{"kind": "probe", "what": "emits"}]}]
    ae = aezoo.build(aezoo.VariantSpec.model_validate(data))
    x = torch.rand(2, *SHAPE)
    out = ae(x)
    assert torch.equal(out.latents, 3 * x.flatten(1))
    assert isinstance(ae.encoder, LayerSequence)
    assert (ae.encoder.emits, ae.encoder.needs) == (("code",), ())


# -- recorded shapes ----------------------------------------------------------------------------------


def test_recorded_shapes_must_follow_from_the_spec() -> None:
    shapes = aezoo.build(small_spec()).shapes
    assert build_on_meta(small_spec(), shapes).shapes == shapes
    wrong = shapes | {"encoder.1": LayerShape((36,), (9,))}
    with pytest.raises(aezoo.SpecError, match=r"encoder\.2: recorded shapes do not follow from \(9,\)"):
        build_on_meta(small_spec(), wrong)
    missing = {path: shape for path, shape in shapes.items() if path != "decoder.0"}
    with pytest.raises(aezoo.SpecError, match=r"decoder\.0: recorded shapes do not follow"):
        build_on_meta(small_spec(), missing)
    more = shapes | {"decoder.7": LayerShape((1,), (1,))}
    with pytest.raises(aezoo.SpecError, match=r"decoder\.7: shapes are recorded for a layer that the spec"):
        build_on_meta(small_spec(), more)


# -- any stack ----------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    activation=st.sampled_from(aezoo.ActivationSpec.kinds()),
    norm=st.sampled_from([None, "layer_norm", "batch_norm"]),
    seed=st.integers(0, 2**40),
)
def test_any_stack_of_linear_layers_builds_runs_and_learns(
    widths: list[int], activation: str, norm: str | None, seed: int
) -> None:
    layers = [
        {"kind": "linear", "out_features": width, "activation": activation, "norm": norm} for width in widths
    ]
    spec = aezoo.AutoencoderSpec.model_validate(
        {"input": {"shape": [5]}, "encoder": layers, "decoder": [{"kind": "linear", "out_features": 5}]}
    )
    ae = aezoo.build(spec, seed=seed)
    out = ae(torch.randn(4, 5))
    assert (out.latents.shape, out.x_hat.shape) == ((4, widths[-1]), (4, 5))
    out.x_hat.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in ae.parameters())
