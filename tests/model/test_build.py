"""From a spec to a network: seeds, limits, sizes that do not fit, and known shapes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import aezoo
from aezoo.model.build import build_on_meta, materialize
from aezoo.model.sequential import LayerShape
from tests.examples import small, small_spec

SHAPE = (1, 6, 6)


def weights(ae: aezoo.Autoencoder) -> list[Tensor]:
    return list(ae.state_dict().values())


def same(a: aezoo.Autoencoder, b: aezoo.Autoencoder) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


# -- seeds --------------------------------------------------------------------------------------------


def test_weights_depend_on_the_seed_alone() -> None:
    first = aezoo.build(small_spec(), seed=3)
    torch.rand(7)
    assert same(first, aezoo.build(small_spec(), seed=3))
    assert not same(first, aezoo.build(small_spec(), seed=4))
    with torch.device("meta"):
        assert same(first, aezoo.build(small_spec(), seed=3))


def test_building_leaves_the_global_random_state_unchanged() -> None:
    before = torch.get_rng_state()
    aezoo.build(small_spec())
    assert torch.equal(torch.get_rng_state(), before)


def test_network_is_in_training_mode_and_has_the_given_dtype() -> None:
    ae = aezoo.build(small_spec(), dtype=torch.float64)
    assert ae.training
    assert {w.dtype for w in weights(ae)} == {torch.float64}
    assert torch.equal(weights(ae)[0].float(), weights(aezoo.build(small_spec()))[0])


def test_materialize_gives_the_weights_of_build_without_running_a_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = small_spec(
        encoder=[{"kind": "residual", "layers": ["layer_norm"], "repeat": 2}, *small()["encoder"]]
    )
    expected, meta = aezoo.build(spec, seed=3), build_on_meta(spec)

    def fail(*_: object) -> None:
        pytest.fail("a layer was run")

    monkeypatch.setattr(nn.Module, "__call__", fail)
    for _ in range(2):
        ae = materialize(meta, seed=3)
        assert same(ae, expected)
        assert (ae.spec, ae.shapes, ae.training) == (spec, expected.shapes, True)
    assert {w.device.type for w in weights(meta)} == {"meta"}
    assert all(module.training for module in meta.modules())
    assert {w.dtype for w in weights(materialize(meta, dtype=torch.float64))} == {torch.float64}


# -- limits -------------------------------------------------------------------------------------------


def test_building_on_meta_takes_no_memory() -> None:
    huge = small_spec(
        encoder=["flatten", {"kind": "linear", "out_features": 2**30}],
        decoder=[{"kind": "linear", "out_features": 36}, {"kind": "unflatten", "shape": SHAPE}],
    )
    ae = build_on_meta(huge, max_parameters=10**12)
    assert {w.device.type for w in weights(ae)} == {"meta"}
    assert ae.num_parameters == 37 * 2**30 + 36 * 2**30 + 36


@pytest.mark.parametrize("function", [aezoo.build, build_on_meta])
def test_too_many_parameters_are_rejected(function: Callable[..., aezoo.Autoencoder]) -> None:
    assert function(small_spec(), max_parameters=620).num_parameters == 620
    for limit in (619, 0):
        with pytest.raises(aezoo.SpecError) as caught:
            function(small_spec(), max_parameters=limit)
        assert str(caught.value) == (
            f"620 parameters are more than the {limit} allowed; raise max_parameters or AEZOO_MAX_PARAMETERS"
        )


def test_environment_variable_sets_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEZOO_MAX_PARAMETERS", "619")
    with pytest.raises(aezoo.SpecError, match="more than the 619 allowed"):
        aezoo.build(small_spec())


@pytest.mark.parametrize("value", ["lots", "", "-1", "0", "1e9", "\u0663", "9" * 5000])
def test_invalid_environment_variable_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AEZOO_MAX_PARAMETERS", value)
    for use in (lambda: aezoo.build(small_spec()), lambda: aezoo.load("fc-64")):
        with pytest.raises(aezoo.SettingError) as caught:
            use()
        assert str(caught.value).startswith(
            "AEZOO_MAX_PARAMETERS: expected a whole number of at least 1, found"
        )
        assert len(str(caught.value)) < 200


# -- sizes that do not fit ----------------------------------------------------------------------------


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
            "encoder.0: upsample gives 3,600,000,000 values for one sample, more than 2,147,483,648",
        ),
        (
            small(target={"shape": [3, 6, 6]}),
            "decoder.1: gives (1, 6, 6), which is not the target's shape (3, 6, 6)",
        ),
        (
            small(encoder=[{"kind": "conv", "out_channels": 2, "kernel_size": 1, "stride": 2, "padding": "same"}]),
            "encoder.0.padding: 'same' requires stride 1",
        ),
        (
            small(encoder=["flatten", {"kind": "topk", "k": 36, "repeat": 3}, {"kind": "topk", "k": 37}]),
            "encoder.2.k: 37 is more than the 36 features that encoder.1 gives",
        ),
    ],
)  # fmt: skip
def test_size_that_does_not_fit_is_named_with_both_sizes(data: dict[str, Any], message: str) -> None:
    with pytest.raises(aezoo.SpecError) as caught:
        aezoo.build(aezoo.VariantSpec.model_validate(data))
    assert str(caught.value) == message


# -- known shapes -------------------------------------------------------------------------------------


def test_known_shapes_must_follow_from_the_spec() -> None:
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
